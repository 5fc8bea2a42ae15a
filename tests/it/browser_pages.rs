//! The pages around the numbers in a real Chromium: their header, their forms and their lists.

use cohortist::clock::Clock;
use cohortist::server::{Dashboard, NamedStore};
use cohortist::sets::Segments;
use serde_json::json;

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
