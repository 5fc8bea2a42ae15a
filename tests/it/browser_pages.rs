//! The pages around the numbers in a real Chromium: their header, their forms and their lists.

use cohortist::clock::Clock;
use cohortist::server::{Dashboard, NamedStore};
use cohortist::sets::Segments;
use serde_json::json;
use thirtyfour::prelude::*;

use crate::support::browser::Browser;
use crate::support::web::{empty, name, now, product, serve_dashboard};

/// A dashboard whose first store is a small product, with `more` empty stores beside it.
fn product_beside(more: usize) -> Dashboard {
    let saved = [(name("regulars"), "active & web".parse().unwrap())];
    let tracker = product(20, 40).with_segments(Segments::new(saved).unwrap());
    let mut dashboard = Dashboard::new(tracker, Clock::Fixed(now()));
    "production-of-the-european-platform-2026".clone_into(&mut dashboard.stores[0].name);
    dashboard.stores.extend((0..more).map(|number| NamedStore {
        name: format!("staging-of-the-european-platform-{number:07}"),
        tracker: empty(),
        read_only: true,
    }));
    dashboard
}

/// Serves a dashboard; returns the beginning of its addresses.
async fn served(make: impl FnOnce() -> Dashboard + Send + 'static) -> String {
    let address = tokio::task::spawn_blocking(move || serve_dashboard(make()));
    format!("http://{}", address.await.unwrap())
}

/// One address of every page.
const PAGES: [&str; 13] = [
    "/retention?cohort=signup&returning=active&by=day&rows=6&cols=5",
    "/retention?cohort=(&by=fortnight",
    "/lifecycle?event=active&by=week",
    "/frequency?event=active",
    "/trends?event=active&event=signup",
    "/events",
    "/events/active",
    "/events/none",
    "/people",
    "/people?set=active@2026-11",
    "/users",
    "/users/7",
    "/nowhere",
];

const WIDTHS: [u32; 11] = [320, 360, 400, 480, 570, 640, 740, 900, 1000, 1280, 1600];

/// How far the page can be moved sideways, and what reaches out of it.
const SIDEWAYS: &str = "const wide = document.documentElement.clientWidth;
    return document.documentElement.scrollWidth <= wide ? '' : [...document.querySelectorAll('body *')]
        .filter((e) => e.getBoundingClientRect().right > wide + 1).slice(0, 3).map((e) => e.outerHTML.slice(0, 90)).join(' | ')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_scrolls_sideways_with_any_number_of_stores() {
    let browser = Browser::start().await;
    for more in [0, 1, 4] {
        let host = served(move || {
            let mut dashboard = product_beside(more);
            if more > 0 {
                dashboard.title = "The dashboard of a company with a rather long name, Inc.".into();
            }
            dashboard
        })
        .await;
        for page in PAGES {
            browser.driver.goto(format!("{host}{page}")).await.unwrap();
            for width in WIDTHS {
                browser.size(width, 900).await;
                let out = browser.js(SIDEWAYS).await;
                assert_eq!(out, "", "{page} at {width} px with {more} more stores");
            }
            // A window of 1,280 pixels, zoomed to 200 %.
            let zoomed =
                json!({ "width": 640, "height": 400, "deviceScaleFactor": 2, "mobile": false });
            browser
                .cdp("Emulation.setDeviceMetricsOverride", zoomed)
                .await;
            assert_eq!(browser.js(SIDEWAYS).await, "", "{page}, zoomed");
        }
    }
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_stores_are_a_menu_without_a_script() {
    let host = served(|| product_beside(4)).await;
    let browser = Browser::start().await;
    let off = json!({ "value": true });
    browser
        .cdp("Emulation.setScriptExecutionDisabled", off)
        .await;
    browser.driver.goto(format!("{host}/events")).await.unwrap();
    let menu = "[...document.querySelectorAll('.stores a')].map((a) => a.checkVisibility() + a.innerText).join()";
    let hidden = browser.js(&format!("return {menu}")).await;
    assert!(!hidden.as_str().unwrap().contains("true"), "{hidden}");
    browser.click(".stores summary").await;
    let shown = browser.js(&format!("return {menu}")).await;
    assert_eq!(
        shown.as_str().unwrap().matches("true").count(),
        5,
        "{shown}"
    );
    for width in [320, 640, 1280] {
        browser.size(width, 700).await;
        assert_eq!(browser.js(SIDEWAYS).await, "", "open, at {width} px");
    }
    browser.click(".stores a:nth-child(3)").await;
    assert_eq!(
        browser.driver.current_url().await.unwrap().path(),
        "/in/staging-of-the-european-platform-0000001/events"
    );
    browser.end().await;
}

/// The style that a mark has with forced colours.
fn styled(css: &str, property: &str) -> String {
    format!("return getComputedStyle(document.querySelector('{css}')).{property}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forced_colours_keep_the_button_and_the_current_page() {
    let host = served(|| product_beside(0)).await;
    let browser = Browser::start().await;
    let forced = json!({ "features": [{ "name": "forced-colors", "value": "active" }] });
    browser.cdp("Emulation.setEmulatedMedia", forced).await;
    browser
        .driver
        .goto(format!("{host}{}", PAGES[0]))
        .await
        .unwrap();
    let current = browser
        .js(&styled(".top nav [aria-current]", "borderBottomColor"))
        .await;
    let other = browser
        .js(&styled(
            ".top nav a:not([aria-current])",
            "borderBottomColor",
        ))
        .await;
    assert_ne!(current, other, "the current page");
    let button = browser.js(&styled(".go", "borderTopColor")).await;
    let ground = browser.js(&styled(".go", "backgroundColor")).await;
    assert_ne!(button, ground, "the main button has an edge");
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cells_description_is_dismissed_hovered_and_stays() {
    let host = served(|| product_beside(0)).await;
    let browser = Browser::start().await;
    browser
        .driver
        .goto(format!("{host}{}", PAGES[0]))
        .await
        .unwrap();
    let shown = "const a = document.querySelector('tbody tr:nth-child(4) td:nth-child(5) > a'); const s = getComputedStyle(a, '::after');
        return s.display !== 'none' && s.content.includes('came back')";
    let cell = browser
        .driver
        .find(By::Css("tbody tr:nth-child(4) td:nth-child(5) > a"))
        .await
        .unwrap();
    let chain = browser.driver.action_chain().move_to_element_center(&cell);
    chain.perform().await.unwrap();
    assert_eq!(browser.js(shown).await, true, "it appears");
    // Onto the description, over the corner that both share.
    let corner = "const r = document.querySelector('tbody tr:nth-child(4) td:nth-child(5)').getBoundingClientRect();
        const s = getComputedStyle(document.querySelector('tbody tr:nth-child(4) td:nth-child(5) > a'), '::after');
        return [Math.round(r.right + 20), Math.round(r.top - 8)]";
    let at = browser.js(corner).await;
    let [x, y] = [0, 1].map(|i| at[i].as_i64().unwrap());
    browser
        .driver
        .action_chain()
        .move_to(x, y)
        .perform()
        .await
        .unwrap();
    assert_eq!(
        browser.js(shown).await,
        true,
        "the pointer can move onto it"
    );
    let over =
        "return document.querySelector('tbody tr:nth-child(4) td:nth-child(5)').matches(':hover')";
    assert_eq!(browser.js(over).await, true, "it belongs to its cell");
    let escape = browser
        .driver
        .action_chain()
        .send_keys(Key::Escape.value().to_string());
    escape.perform().await.unwrap();
    assert_eq!(browser.js(shown).await, false, "Escape closes it");
    browser
        .driver
        .action_chain()
        .move_to(3, 3)
        .perform()
        .await
        .unwrap();
    let chain = browser.driver.action_chain().move_to_element_center(&cell);
    chain.perform().await.unwrap();
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_click_leaves_no_ring_around_the_table() {
    let host = served(|| product_beside(0)).await;
    let browser = Browser::start().await;
    browser
        .driver
        .goto(format!("{host}{}", PAGES[0]))
        .await
        .unwrap();
    browser.click(".views a:not([aria-current])").await;
    assert!(browser.driver.current_url().await.unwrap().fragment() == Some("table"));
    let ring = "return document.querySelector('.gridwrap').matches(':focus-visible')";
    assert_eq!(browser.js(ring).await, false);
    browser
        .js("document.querySelector('.gridwrap').focus()")
        .await;
    assert_eq!(browser.js(ring).await, true, "the keyboard has one");
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_shows_the_question_of_the_address() {
    let host = served(|| product_beside(0)).await;
    let browser = Browser::start().await;
    browser
        .driver
        .goto(format!("{host}{}", PAGES[0]))
        .await
        .unwrap();
    browser.edit().await;
    let field = browser.driver.find(By::Id("cohort")).await.unwrap();
    field.clear().await.unwrap();
    field.send_keys("active").await.unwrap();
    browser.driver.goto(format!("{host}/events")).await.unwrap();
    browser.driver.back().await.unwrap();
    let value = "return document.getElementById('cohort').value";
    assert_eq!(browser.js(value).await, "signup");
    browser.end().await;
}
