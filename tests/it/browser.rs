//! The dashboard in a real Chromium.

use thirtyfour::prelude::*;

use crate::support::browser::Browser;
use crate::support::web::{empty, name, now, product, serve};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_asked_and_answered_in_a_browser() {
    let address = tokio::task::spawn_blocking(|| serve(product(40, 120)))
        .await
        .unwrap();
    let browser = Browser::start().await;
    let driver = &browser.driver;
    driver.goto(format!("http://{address}/")).await.unwrap();
    assert!(browser.text("h1").await.contains("signup"));
    browser.is_quiet().await;

    // Another question, from the form.
    browser.edit().await;
    let filter = driver.find(By::Id("returning_and-0")).await.unwrap();
    filter.send_keys("web").await.unwrap();
    driver
        .find(By::Css("input[name=by][value=week]"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    driver
        .find(By::Id("rows"))
        .await
        .unwrap()
        .send_keys("4")
        .await
        .unwrap();
    driver
        .find(By::Css("button.go"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    driver
        .query(By::XPath("//h1/small[contains(., 'web')]"))
        .first()
        .await
        .unwrap();
    let url = driver.current_url().await.unwrap();
    assert_eq!(
        url.query(),
        Some(
            "cohort=signup&returning=active&returning_and=web&by=week&measure=on&rows=4&as=percent"
        )
    );
    assert_eq!(
        driver
            .find_all(By::Css(".cohorts tbody tr"))
            .await
            .unwrap()
            .len(),
        5
    );
    browser.is_quiet().await;

    // A cell, as the eye and as a screen reader have it.
    let cell = driver
        .find(By::Css(".cohorts tbody tr:nth-child(3) td > a[aria-label]"))
        .await
        .unwrap();
    let said = cell.attr("aria-label").await.unwrap().unwrap();
    let shown = cell.text().await.unwrap();
    assert!(
        said.contains(&shown) && said.ends_with("in the week 16 – 22 Nov 2026 (W47), complete"),
        "{said}"
    );

    driver
        .action_chain()
        .move_to_element_center(&cell)
        .perform()
        .await
        .unwrap();
    let tip =
        "return getComputedStyle(document.querySelector('.cohorts a:hover'), '::after').content";
    assert_eq!(browser.js(tip).await, format!("\"{said}\""));
    browser.picture("tooltip.png").await;

    // Remove the filter again, and ask anew.
    browser.edit().await;
    driver
        .find(By::Css("a.remove"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    browser.edit().await;
    driver
        .find(By::Css("button.go"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    driver
        .query(By::Css("#returning_and-0[value='']"))
        .first()
        .await
        .unwrap();
    assert_eq!(driver.find_all(By::Css("h1 small")).await.unwrap().len(), 0);
    driver.back().await.unwrap();
    driver
        .query(By::XPath("//h1/small[contains(., 'web')]"))
        .first()
        .await
        .unwrap();
    browser.is_quiet().await;

    let export = driver
        .find(By::Css(".acts a"))
        .await
        .unwrap()
        .attr("href")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        export,
        "/retention.csv?cohort=signup&returning=active&returning_and=web&by=week&rows=4"
    );
    browser.end().await;
}

const BACKGROUND: &str =
    "return getComputedStyle(document.querySelector('.gridcard')).backgroundColor";
/// How many pixels the page can be moved sideways.
const SIDEWAYS: &str = "return Math.max(0, document.documentElement.scrollWidth - document.documentElement.clientWidth)";
const GRID_SCROLLS: &str =
    "const g = document.querySelector('.gridwrap'); return g.scrollWidth > g.clientWidth";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_fits_narrow_windows_and_dark_rooms() {
    let address = tokio::task::spawn_blocking(|| {
        let tracker = product(40, 120);
        for event in [
            &"🎉".repeat(50),
            &"w".repeat(200),
            "<script>alert(1)</script>",
        ] {
            tracker.mark(&name(event), 1, now()).unwrap();
        }
        serve(tracker)
    });
    let address = address.await.unwrap();
    let browser = Browser::start().await;
    let driver = &browser.driver;
    let long = "w".repeat(200);
    let paths = [
        "/retention?cohort=signup&returning=active&by=day".to_owned(),
        "/retention?cohort=signup&returning=active&by=week&as=count&returning_and=web".to_owned(),
        format!("/retention?cohort={long}&cohort_and={long}&returning={long}&by=day"),
        "/retention?cohort=%22%3Cscript%3Ealert(1)%3C/script%3E%22&returning=active".to_owned(),
        "/retention?cohort=(&returning=&rows=x".to_owned(),
        "/nowhere".to_owned(),
        "/events".to_owned(),
        "/events/active?by=month".to_owned(),
        format!("/events/{long}"),
        "/events/%3Cscript%3Ealert(1)%3C%2Fscript%3E".to_owned(),
        "/events/actve".to_owned(),
        "/people?cohort=signup&returning=active&by=day&at=2026-11-20&k=2&who=lost".to_owned(),
        format!("/people?set={long}@2026-11%20|%20active@2026-11"),
        "/people".to_owned(),
        format!("/people?set=({long}"),
        "/users/1".to_owned(),
        "/users/x".to_owned(),
    ];
    for (i, path) in paths.iter().enumerate() {
        driver
            .goto(format!("http://{address}{path}"))
            .await
            .unwrap();
        for width in [400, 700, 1000, 1320] {
            browser.size(width, 900).await;
            assert_eq!(
                browser.js(SIDEWAYS).await,
                0,
                "{path} scrolls sideways at {width}"
            );
            browser.picture(&format!("page{i}-{width}.png")).await;
        }
        if std::env::var_os("COHORTIST_SHOTS").is_some() {
            browser.dark().await;
            browser.picture(&format!("page{i}-dark.png")).await;
            browser
                .cdp(
                    "Emulation.setEmulatedMedia",
                    serde_json::json!({ "features": [] }),
                )
                .await;
        }
        let said = browser.console(driver.handle.clone()).await;
        let said: Vec<_> = said
            .iter()
            .filter(|line| !line.contains("status of 40"))
            .collect();
        assert!(said.is_empty(), "{path}: the console says {said:?}");
    }
    browser.size(400, 1800).await;
    driver
        .goto(format!("http://{address}{}", paths[0]))
        .await
        .unwrap();
    assert_eq!(browser.js(GRID_SCROLLS).await, true);
    browser.picture("narrow.png").await;
    assert_eq!(browser.js(BACKGROUND).await, "rgb(255, 255, 255)");
    browser.dark().await;
    assert_eq!(browser.js(BACKGROUND).await, "rgb(19, 28, 37)");
    browser.picture("narrow-dark.png").await;
    browser.size(1320, 1500).await;
    browser.picture("dark.png").await;
    browser
        .cdp(
            "Emulation.setEmulatedMedia",
            serde_json::json!({ "media": "print", "features": [] }),
        )
        .await;
    browser.size(979, 741).await;
    assert_eq!(
        browser.js(SIDEWAYS).await,
        0,
        "a landscape page is wide enough"
    );
    assert_eq!(
        browser
            .js("return document.documentElement.scrollHeight <= 741")
            .await,
        true,
        "and high enough"
    );
    browser.picture("print.png").await;
    browser.end().await;
}

/// Of the marks of a selector, those whose text is wider than they are.
const CUT: &str = "const cut = (css) => [...document.querySelectorAll(css)]
    .filter((e) => e.offsetParent && e.scrollWidth > e.clientWidth).map((e) => e.value ?? e.textContent).join('; ');";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_and_numbers_have_room() {
    let address = tokio::task::spawn_blocking(|| serve(product(40, 120)))
        .await
        .unwrap();
    let browser = Browser::start().await;
    let go = async |width: u32, path: &str| {
        browser.size(width, 900).await;
        browser
            .driver
            .goto(format!("http://{address}{path}"))
            .await
            .unwrap();
    };
    let question = "/retention?cohort=signup&returning=active";

    // The label of a week ends before the number beside it, and leaves its year out.
    go(400, "/events/active?by=week").await;
    assert_eq!(
        browser
            .js(&format!("{CUT} return cut('.periods th, .periods td')"))
            .await,
        ""
    );
    let week = browser.text(".periods tbody tr:nth-child(2) th").await;
    assert_eq!(week, "16 – 22 Nov (W47)");
    assert_eq!(
        browser
            .js("return document.querySelector('.periods tr:nth-child(2) th').textContent")
            .await,
        "16 – 22 Nov 2026 (W47)"
    );

    // 24 columns need no scrolling on a usual screen; the decimals are in the hints.
    go(1320, &format!("{question}&by=day&rows=24&cols=24")).await;
    assert_eq!(browser.js(GRID_SCROLLS).await, false);
    let cell = browser
        .driver
        .find(By::Css(".dense tbody tr:nth-child(6) td:nth-child(4) a"))
        .await
        .unwrap();
    let (shown, said) = (
        cell.text().await.unwrap(),
        cell.attr("aria-label").await.unwrap().unwrap(),
    );
    assert!(
        !shown.contains('.') && said.split('%').next().unwrap().contains('.'),
        "{shown}: {said}"
    );
    assert!(browser.text(".legend").await.contains("whole percents"));

    // A date that is none is seen whole, and what is wrong with it stands below the question.
    for width in [400, 1320] {
        go(width, &format!("{question}&from=2026-99-99")).await;
        assert_eq!(
            browser.js(&format!("{CUT} return cut('.num input')")).await,
            ""
        );
        let before =
            "return document.querySelector('[role=alert]').previousElementSibling.className";
        assert_eq!(browser.js(before).await, "sentence");
    }

    // One trend is seen, as wide as its card, with its axis.
    for width in [400, 1320] {
        go(width, &format!("{question}&trend=1")).await;
        let seen = "const seen = [...document.querySelectorAll('.trend')].filter((svg) => svg.getClientRects().length);
            const [card, box] = [seen[0].parentElement, seen[0]].map((e) => e.getBoundingClientRect());
            return [seen.length, box.left >= card.left && box.right <= card.right, seen[0].matches('.snug')].join()";
        assert_eq!(browser.js(seen).await, format!("1,true,{}", width == 400));
        let close = "const [a, b] = ['.remove', ''].map((css) => document.querySelector(`#trend figcaption ${css}`).getBoundingClientRect());
            return b.right - a.right <= 1 && a.top - b.top < 4";
        assert_eq!(browser.js(close).await, true, "× is in the corner");
    }

    // The lesser chart is the smaller one, and both dates are in a line.
    go(820, question).await;
    let areas =
        "const [a, b] = ['curve', 'sizes'].map((c) => document.querySelector(`.chart.${c}`).getBoundingClientRect());
        return b.width * b.height <= a.width * a.height";
    assert_eq!(browser.js(areas).await, true);
    browser.edit().await;
    let tops = "const [a, b] = ['from', 'to'].map((id) => document.getElementById(id).getBoundingClientRect().top); return a === b";
    assert_eq!(browser.js(tops).await, true);
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keyboard_is_enough() {
    let address = tokio::task::spawn_blocking(|| serve(product(20, 40)))
        .await
        .unwrap();
    let browser = Browser::start().await;
    let driver = &browser.driver;
    driver
        .goto(format!("http://{address}/retention"))
        .await
        .unwrap();
    let body = driver.find(By::Css("body")).await.unwrap();
    // Skip link, brand, page links, search, then what unfolds the form, and the first field.
    body.send_keys(Key::Tab.value().to_string()).await.unwrap();
    assert_eq!(
        browser.js("return document.activeElement.className").await,
        "skip"
    );
    let mut first = driver.active_element().await.unwrap();
    for _ in 0..10 {
        if first.attr("id").await.unwrap().as_deref() == Some("cohort") {
            break;
        }
        if first.tag_name().await.unwrap() == "summary" {
            first
                .send_keys(Key::Enter.value().to_string())
                .await
                .unwrap();
        }
        first.send_keys(Key::Tab.value().to_string()).await.unwrap();
        first = driver.active_element().await.unwrap();
    }
    assert_eq!(first.attr("id").await.unwrap().as_deref(), Some("cohort"));
    let outline = browser
        .js("return getComputedStyle(document.activeElement).outlineStyle")
        .await;
    assert_eq!(outline, "solid");
    first.send_keys(Key::Control + "a").await.unwrap();
    first.send_keys("active").await.unwrap();
    first
        .send_keys(Key::Enter.value().to_string())
        .await
        .unwrap();
    driver
        .query(By::XPath("//h1[starts-with(., 'People who did active')]"))
        .first()
        .await
        .unwrap();
    browser.end().await;

    let address = tokio::task::spawn_blocking(|| serve(empty()))
        .await
        .unwrap();
    let browser = Browser::start().await;
    browser
        .driver
        .goto(format!("http://{address}/"))
        .await
        .unwrap();
    assert_eq!(browser.text("h1").await, "Nothing recorded yet");
    browser.is_quiet().await;
    browser.end().await;
}

const FOCUS: &str = "return document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_opens_its_people() {
    let address = tokio::task::spawn_blocking(|| serve(product(20, 160)))
        .await
        .unwrap();
    let browser = Browser::start().await;
    let driver = &browser.driver;
    driver
        .goto(format!(
            "http://{address}/retention?cohort=signup&returning=active&by=day&rows=5&cols=4"
        ))
        .await
        .unwrap();
    // One stop for Tab, and arrows from there.
    assert_eq!(
        browser
            .js("return document.querySelectorAll('.cohorts a[tabindex=\"0\"]').length")
            .await,
        1
    );
    let press = async |keys: &[Key]| {
        for key in keys {
            driver
                .active_element()
                .await
                .unwrap()
                .send_keys(key.value().to_string())
                .await
                .unwrap();
        }
        browser.js(FOCUS).await.as_str().unwrap().to_owned()
    };
    browser
        .js("document.querySelector('.cohorts tr[data-at] a').focus()")
        .await;
    assert!(
        press(&[Key::Right])
            .await
            .ends_with("came back on Mon 23 Nov 2026, still in progress")
    );
    assert!(
        press(&[Key::Down, Key::Down, Key::Right])
            .await
            .ends_with("came back on Sun 22 Nov 2026, complete")
    );
    assert!(
        press(&[Key::End])
            .await
            .ends_with("on Mon 23 Nov 2026, still in progress")
    );
    assert!(
        press(&[Key::Right, Key::Down])
            .await
            .ends_with("on Sun 22 Nov 2026, complete"),
        "stays at the border"
    );
    let size = press(&[Key::Home]).await;
    let said = press(&[Key::Right, Key::Right]).await;
    assert!(said.ends_with("on Sat 21 Nov 2026, complete"), "{said}");
    browser.picture("focus.png").await;

    // Enter follows the link; the people are as many as the cell said.
    driver
        .active_element()
        .await
        .unwrap()
        .send_keys(Key::Enter.value().to_string())
        .await
        .unwrap();
    driver.query(By::Id("who")).first().await.unwrap();
    let number = said.split(' ').next().unwrap();
    assert!(browser.text("#who").await.starts_with(&format!(
        "{number} of the {size} people who did signup on Fri 20 Nov"
    )));
    assert_eq!(
        driver
            .find_all(By::Css(".ids a"))
            .await
            .unwrap()
            .len()
            .to_string(),
        number
    );
    assert_eq!(browser.text(".tabs [aria-current] b").await, number);
    browser.is_quiet().await;

    // On to those who did not, to one of them, and by the search box to another.
    driver
        .find(By::XPath("//nav[@class='tabs']/a[2]"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    driver
        .query(By::XPath("//h1[contains(., 'did not come back')]"))
        .first()
        .await
        .unwrap();
    let id = browser.text(".ids a").await;
    driver
        .find(By::Css(".ids a"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    driver
        .query(By::XPath(format!("//h1[. = 'User {id}']")))
        .first()
        .await
        .unwrap();
    let search = driver.find(By::Css(".seek input")).await.unwrap();
    search.send_keys("1").await.unwrap();
    search
        .send_keys(Key::Enter.value().to_string())
        .await
        .unwrap();
    driver
        .query(By::XPath("//h1[. = 'User 1']"))
        .first()
        .await
        .unwrap();
    browser.is_quiet().await;
    browser.end().await;
}
