//! Asking in a real Chromium: names completed while they are typed, filters that come and go, rows
//! that light their line.

use thirtyfour::prelude::*;

use crate::support::browser::Browser;
use crate::support::web::{empty, name, now, product, serve};

const QUESTION: &str = "/retention?cohort=signup&returning=active&by=day";

/// What the list shows: its options' accessible names, the one that is chosen, and the words below
/// them.
const LIST: &str = "const box = document.querySelector('.offers');
    if (box.hidden) return 'closed';
    const said = [...box.querySelectorAll('li')].map((li) => (li.ariaSelected === 'true' ? '> ' : '') + li.textContent);
    return [...said, box.querySelector('p').textContent].filter(Boolean).join('\\n')";

/// A product with `more` other events, in the browser.
async fn opened(more: u32, path: &str) -> Browser {
    let address = tokio::task::spawn_blocking(move || {
        let tracker = product(20, 60);
        tracker.mark(&name("Added to \"cart\""), 7, now()).unwrap();
        let mut batch = tracker.batch();
        for event in 0..more {
            batch
                .mark(
                    &name(&format!("shop:event-{event:03}")),
                    1,
                    now() - chrono::TimeDelta::days(3),
                )
                .unwrap();
        }
        batch.commit().unwrap();
        serve(tracker)
    });
    let address = address.await.unwrap();
    let browser = Browser::start().await;
    browser
        .driver
        .goto(format!("http://{address}{path}"))
        .await
        .unwrap();
    browser
}

/// The same, with the form unfolded.
async fn asking(more: u32, path: &'static str) -> Browser {
    let browser = opened(more, path).await;
    browser.edit().await;
    browser
}

impl Browser {
    /// Types into what has the focus.
    async fn types(&self, keys: impl Into<TypingData>) {
        self.driver
            .active_element()
            .await
            .unwrap()
            .send_keys(keys)
            .await
            .unwrap();
    }

    async fn press(&self, key: Key) {
        self.types(key).await;
    }

    async fn focus(&self, css: &str) {
        self.js(&format!("document.querySelector('{css}').focus()"))
            .await;
    }

    async fn string(&self, script: &str) -> String {
        self.js(script).await.as_str().unwrap().to_owned()
    }

    async fn value(&self, css: &str) -> String {
        self.string(&format!("return document.querySelector('{css}').value"))
            .await
    }

    /// The list, once the events are there.
    async fn list(&self) -> String {
        for _ in 0..100 {
            let list = self.string(LIST).await;
            if list != "Loading events…" {
                return list;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the events never came");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_completed_while_they_are_typed() {
    let browser = asking(120, QUESTION).await;
    let driver = &browser.driver;
    let today = |list: &str, name: &str| -> u64 {
        let line = list
            .lines()
            .find(|line| line.starts_with(&format!("{name}, ")))
            .unwrap();
        line.split([' ', ','])
            .find_map(|word| word.parse().ok())
            .unwrap()
    };
    // A click shows all events, most people first, though a name stands in the field.
    driver
        .find(By::Id("returning"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    let list = browser.list().await;
    assert!(
        list.starts_with("active, ") && list.contains("\nAdded to \"cart\", 1 person today\n"),
        "{list}"
    );
    assert!(
        list.ends_with("\n… 75 more: type on") && list.lines().count() == 55,
        "{list}"
    );
    assert!(
        today(&list, "active") >= today(&list, "web") && today(&list, "web") > 0,
        "{list}"
    );
    browser.picture("offers.png").await;
    let roles = "const f = document.activeElement; return [f.role, f.ariaExpanded, f.list === null,
        document.getElementById(f.getAttribute('aria-controls')).role].join()";
    assert_eq!(browser.string(roles).await, "combobox,true,true,listbox");
    browser.press(Key::Escape).await;
    assert_eq!(browser.string(LIST).await, "closed");

    browser.press(Key::End).await;
    // In an expression it is the name at the caret that is completed, and quoted where it has to
    // be.
    browser.types(" & (w").await;
    assert_eq!(
        browser
            .list()
            .await
            .lines()
            .next()
            .unwrap()
            .split(',')
            .next(),
        Some("web")
    );
    browser.press(Key::Down).await;
    let selected = browser.string(LIST).await;
    assert!(selected.starts_with("> web, "), "{selected}");
    let pointed = "const f = document.activeElement;
        return document.getElementById(f.getAttribute('aria-activedescendant')).firstChild.textContent";
    assert_eq!(browser.string(pointed).await, "web");
    browser.press(Key::Enter).await;
    assert_eq!(
        (
            browser.value("#returning").await,
            browser.string(LIST).await
        ),
        ("active & (web".into(), "closed".into())
    );
    browser.types(" | CART").await;
    assert!(
        browser
            .list()
            .await
            .starts_with("Added to \"cart\", 1 person")
    );
    browser.press(Key::Down).await;
    browser.press(Key::Tab).await;
    assert_eq!(
        browser.value("#returning").await,
        "active & (web | \"Added to \\\"cart\\\"\""
    );
    assert_ne!(
        browser.string("return document.activeElement.id").await,
        "returning",
        "Tab moves on"
    );

    // Between operators, in the middle, and where no name may stand.
    browser.js("const f = document.querySelector('#returning'); f.focus(); f.value = 'web &  & signup'; f.setSelectionRange(6, 6)").await;
    browser.types("pro").await;
    assert_eq!(
        browser.list().await,
        "plan:pro, ever: recorded without dates"
    );
    browser.press(Key::Up).await;
    browser.press(Key::Enter).await;
    assert_eq!(
        browser.value("#returning").await,
        "web & plan:pro@ever & signup"
    );
    browser.press(Key::End).await;
    browser.types("@").await;
    assert_eq!(
        browser.string(LIST).await,
        "closed",
        "after @ stands no event"
    );
    browser.types(Key::Control + "a").await;
    browser.types("zzz").await;
    assert_eq!(browser.list().await, "No event has this in its name");

    // The mouse, and Enter with nothing chosen: the form is sent as it stands.
    browser.types(Key::Control + "a").await;
    browser.types("event-11").await;
    assert!(
        browser
            .list()
            .await
            .starts_with("shop:event-110, 0 people today\n")
    );
    driver
        .find(By::XPath("//li[contains(., 'event-117')]"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    assert_eq!(browser.value("#returning").await, "shop:event-117");
    assert_eq!(
        browser.string("return document.activeElement.id").await,
        "returning"
    );
    browser.types(Key::Control + "a").await;
    browser.types("web").await;
    assert!(browser.list().await.starts_with("web, "));
    browser.press(Key::Enter).await;
    driver
        .query(By::XPath("//h1[contains(., 'web')]"))
        .first()
        .await
        .unwrap();
    browser.is_quiet().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_events_are_found_by_typing() {
    let browser = asking(520, QUESTION).await;
    // Without the script the field offers a few dozen names and functions; with it all of them are asked for when the
    // field is used.
    let few = browser
        .js("return document.querySelectorAll('#events option').length")
        .await
        .as_u64()
        .unwrap();
    assert!((20..=80).contains(&few), "{few}");
    browser
        .driver
        .find(By::Id("returning"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    let list = browser.list().await;
    assert!(
        list.starts_with("active, ") && list.ends_with("\n… 475 more: type on"),
        "{list}"
    );
    // After the events come the four functions.
    assert_eq!(list.lines().count(), 55);
    browser.types(Key::Control + "a").await;
    browser.types("fir").await;
    let functions = browser.list().await;
    assert!(
        functions.starts_with("first(…) ") && functions.lines().count() == 1,
        "{functions}"
    );
    browser.press(Key::Down).await;
    browser.press(Key::Enter).await;
    // The event goes between the parentheses.
    browser.types("signu").await;
    browser.press(Key::Down).await;
    browser.press(Key::Enter).await;
    assert_eq!(browser.value("#returning").await, "first(signup)");
    browser.types(Key::Control + "a").await;
    browser.types("event 519").await;
    assert_eq!(browser.list().await, "shop:event-519, 0 people today");
    browser.press(Key::Down).await;
    browser.press(Key::Enter).await;
    assert_eq!(browser.value("#returning").await, "shop:event-519");
    browser.press(Key::Enter).await;
    browser
        .driver
        .query(By::XPath("//h1[contains(., 'shop:event-519')]"))
        .first()
        .await
        .unwrap();
    browser.is_quiet().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_fits_narrow_windows_and_dark_rooms() {
    let browser = asking(3, QUESTION).await;
    browser.size(400, 900).await;
    browser.dark().await;
    browser
        .driver
        .find(By::Id("returning"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    assert!(browser.list().await.starts_with("active, "));
    browser.press(Key::Down).await;
    browser.picture("offers-narrow-dark.png").await;
    let fits = "const r = document.querySelector('.offers').getBoundingClientRect();
        return r.left >= 0 && r.right <= innerWidth && document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(browser.js(fits).await, true);
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_does_not_come_stops_nobody() {
    let browser = asking(0, QUESTION).await;
    // Before the first focus the answer is made to fail.
    let fails = "window.fetch = () => Promise.reject(new Error('away'))";
    browser.js(fails).await;
    browser
        .driver
        .find(By::Id("cohort"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    assert_eq!(browser.list().await, "Could not load: type the name");
    browser.types(Key::Control + "a").await;
    browser.types("web").await;
    browser.press(Key::Enter).await;
    browser
        .driver
        .query(By::XPath("//h1[starts-with(., 'People who did web')]"))
        .first()
        .await
        .unwrap();
    browser.end().await;
}

const FILTERS: &str = "return [...document.querySelectorAll('.ask .event:not([name=compare])')].map((f) => f.id + '=' + f.value).join(' ')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_come_and_go_without_loading() {
    let browser = asking(
        0,
        "/retention?cohort=signup&returning=active&returning_and=web&by=day",
    )
    .await;
    let driver = &browser.driver;
    browser.js("window.here = true").await;
    browser.focus("#returning_and-1").await;
    browser.types("sign").await;
    assert!(browser.list().await.starts_with("signup, "));
    browser.press(Key::Down).await;
    browser.press(Key::Enter).await;
    browser.focus("#returning_and-2").await;
    browser.types("plan:pro@ever").await;
    browser.press(Key::Escape).await;
    assert_eq!(
        browser.string(FILTERS).await,
        "cohort=signup cohort_and-0= returning=active returning_and-0=web returning_and-1=signup \
         returning_and-2=plan:pro@ever returning_and-3="
    );
    browser.picture("filters.png").await;
    // One that the page came with, one that was added; the focus goes on to the next.
    driver
        .find(By::Css("a.remove"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    assert_eq!(
        browser.string("return document.activeElement.id").await,
        "returning_and-1"
    );
    let added = driver.find(By::Css("button.remove")).await.unwrap();
    assert_eq!(
        added.attr("aria-label").await.unwrap().as_deref(),
        Some("Remove this filter")
    );
    added.click().await.unwrap();
    assert_eq!(
        browser.string("return document.activeElement.id").await,
        "returning_and-2"
    );
    assert_eq!(
        browser.js("return window.here").await,
        true,
        "nothing was loaded"
    );
    browser.types(Key::Control + "a").await;
    browser.types("web").await;
    browser.press(Key::Enter).await;
    driver
        .query(By::Css("#returning_and-0[value=web]"))
        .first()
        .await
        .unwrap();
    let url = driver.current_url().await.unwrap();
    assert!(
        url.query()
            .unwrap()
            .starts_with("cohort=signup&returning=active&returning_and=web&by=day"),
        "{url}"
    );
    browser.is_quiet().await;
    browser.end().await;
}

/// Which marks are lit: those of the lines and of the bars, by their cohort, and how many dots.
const LIT: &str =
    "const lit = (mark) => [...document.querySelectorAll(`.lit ${mark}`)].map((m) => m.dataset.at).join();
    return `${lit('polyline')}|${lit('rect')}|${document.querySelectorAll('.curve .lit > circle').length}`";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_lights_its_cohort_in_the_charts() {
    let browser = opened(0, QUESTION).await;
    let driver = &browser.driver;
    let row = driver
        .find(By::XPath(
            "//table[@class='cohorts']//tr[th[starts-with(., 'Mon 16 Nov')]]/td[3]",
        ))
        .await
        .unwrap();
    // High enough for charts and rows.
    browser.size(1320, 1700).await;
    driver
        .action_chain()
        .move_to_element_center(&row)
        .perform()
        .await
        .unwrap();
    // Its seven complete days; the eighth is running and has no part in the line.
    let monday = "2026-11-16|2026-11-16|7";
    assert_eq!(browser.string(LIT).await, monday);
    let style = "const s = getComputedStyle(document.querySelector('.lit polyline'));
        return [s.strokeWidth, s.strokeOpacity, document.querySelector('.curve').lastElementChild.classList[0]].join()";
    assert_eq!(browser.string(style).await, "6px,1,lit");
    browser.picture("lit.png").await;
    browser.dark().await;
    browser.picture("lit-dark.png").await;
    let head = driver
        .find(By::Css(".cohorts tbody tr.mean th"))
        .await
        .unwrap();
    driver
        .action_chain()
        .move_to_element_center(&head)
        .perform()
        .await
        .unwrap();
    assert_eq!(browser.string(LIT).await, "||0", "the average is no cohort");

    // The keyboard does the same, and what has the focus stays lit when the pointer leaves.
    browser.focus(".cohorts tr[data-at=\"2026-11-20\"] a").await;
    assert!(
        browser
            .string(LIT)
            .await
            .starts_with("2026-11-20|2026-11-20|")
    );
    browser.press(Key::Down).await;
    assert!(browser.string(LIT).await.contains("|2026-11-19|"));
    driver
        .action_chain()
        .move_to_element_center(&row)
        .perform()
        .await
        .unwrap();
    assert_eq!(browser.string(LIT).await, monday);
    let heading = driver.find(By::Css("h1")).await.unwrap();
    driver
        .action_chain()
        .move_to_element_center(&heading)
        .perform()
        .await
        .unwrap();
    assert!(browser.string(LIT).await.contains("|2026-11-19|"));
    browser.js("document.activeElement.blur()").await;
    assert_eq!(browser.string(LIT).await, "||0");
    browser.is_quiet().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_store_asks_nothing() {
    let address = tokio::task::spawn_blocking(|| serve(empty()))
        .await
        .unwrap();
    let browser = Browser::start().await;
    browser
        .driver
        .goto(format!("http://{address}/retention"))
        .await
        .unwrap();
    assert_eq!(
        browser.js("return document.querySelector('.offers')").await,
        serde_json::Value::Null
    );
    browser.is_quiet().await;
    browser.end().await;
}
