//! What only a browser can tell of the table: its sentences, the ranges above it, the clipboard,
//! and its shades.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use cohortist::render::words;
use cohortist::server::query::RawQuery;
use cohortist::{Extent, Tracker};
use thirtyfour::prelude::*;

use crate::support::browser::Browser;
use crate::support::web::{empty, name, now, product, serve};

async fn served(make: impl FnOnce() -> Tracker + Send + 'static) -> (Tracker, String) {
    let made = tokio::task::spawn_blocking(|| {
        let tracker = make();
        (tracker.clone(), format!("http://{}", serve(tracker)))
    });
    made.await.unwrap()
}

/// The accessible name of every number, by its cohort.
const NAMES: &str = "return Object.fromEntries([...document.querySelectorAll('.cohorts tr[data-at]')].map((row) =>
    [row.dataset.at, [...row.querySelectorAll('td.size ~ td > a')].map((link) => link.getAttribute('aria-label'))]))";

/// What stands in the box over the number that has the focus.
const TIP: &str = "const link = document.querySelectorAll('.cohorts td.size ~ td > a')[4];
    link.focus({ focusVisible: true });
    return [getComputedStyle(link, '::after').content, JSON.stringify(link.getAttribute('aria-label'))]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_number_says_its_whole_sentence() {
    let (tracker, host) = served(|| {
        let tracker = product(40, 120);
        // A cohort of one, and one of none.
        tracker
            .mark(&name("rare"), 1, now() - TimeDelta::days(4))
            .unwrap();
        let (mut batch, hourly) = (
            tracker.batch(),
            Extent {
                hourly: true,
                ever: false,
            },
        );
        batch
            .mark_to(&name("rare"), 2, now() - TimeDelta::hours(2), hourly)
            .unwrap();
        batch.commit().unwrap();
        tracker
    })
    .await;
    let browser = Browser::start().await;
    for query in [
        "cohort=signup&returning=active&by=day&rows=31&cols=13",
        "cohort=active&returning=web&by=day&rows=20&cols=20&measure=on_or_after&as=count&order=oldest",
        "cohort=signup&returning=active&by=week&rows=6&cols=6&measure=on_or_after&from=2026-10-20",
        "cohort=active&returning=active&by=month&rows=2&cols=2",
        "cohort=active&returning=active&by=year&rows=1&cols=1&as=count",
        "cohort=rare&returning=active&by=day&rows=7&cols=5",
        "cohort=rare&returning=active&by=hour&rows=5&cols=5",
    ] {
        let asked = RawQuery::read(query).check().unwrap();
        let table = tracker.retention(&asked.query(), now()).unwrap();
        let wanted: BTreeMap<String, Vec<String>> = table
            .rows
            .iter()
            .map(|row| {
                (
                    row.period.to_string(),
                    row.cells
                        .iter()
                        .enumerate()
                        .filter_map(|(k, cell)| Some((k, cell.number()?)))
                        .map(|(k, number)| words::cell(&table, row.period, k, &number))
                        .collect(),
                )
            })
            .filter(|(_, numbers): &(String, Vec<String>)| !numbers.is_empty())
            .collect();
        assert!(!wanted.is_empty(), "{query}");
        browser
            .driver
            .goto(format!("{host}/retention?{query}"))
            .await
            .unwrap();
        let mut said: BTreeMap<String, Vec<String>> =
            serde_json::from_value(browser.js(NAMES).await).unwrap();
        // Cohorts without numbers may be folded into one row.
        said.retain(|_, numbers| !numbers.is_empty());
        assert_eq!(said, wanted, "{query}");
        if query.contains("rows=31") {
            let tip = browser.js(TIP).await;
            assert!(
                tip[0] == tip[1] && tip[0].as_str().unwrap().contains(" of "),
                "{tip}"
            );
        }
    }
    browser.is_quiet().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_is_copied() {
    let (_, host) = served(|| product(20, 40)).await;
    let browser = Browser::start().await;
    let driver = &browser.driver;
    let granted = serde_json::json!({ "origin": host, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    browser.cdp("Browser.grantPermissions", granted).await;
    driver
        .goto(format!(
            "{host}/retention?select1=signup&select2=active&time_group=weeks"
        ))
        .await
        .unwrap();
    let button = driver.find(By::Css("button[data-copy]")).await.unwrap();
    assert_eq!(button.text().await.unwrap(), "Copy link");
    button.click().await.unwrap();
    driver
        .query(By::XPath("//button[. = 'Copied']"))
        .first()
        .await
        .unwrap();
    // Pages may write to the clipboard and not read it, so the text is pasted as a person would.
    browser.edit().await;
    let field = driver.find(By::Css("input[name=cohort]")).await.unwrap();
    field.send_keys(Key::Control + "a").await.unwrap();
    field.send_keys(Key::Control + "v").await.unwrap();
    let copied = field.prop("value").await.unwrap();
    // The whole address, in its own words.
    assert_eq!(
        copied,
        Some(format!(
            "{host}/retention?cohort=signup&returning=active&by=week"
        ))
    );
    driver
        .query(By::XPath("//button[. = 'Copy link']"))
        .first()
        .await
        .unwrap();
    // Where it is not allowed the button says so.
    browser
        .js("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
        .await;
    button.click().await.unwrap();
    driver
        .query(By::XPath("//button[. = 'Not allowed']"))
        .first()
        .await
        .unwrap();
    browser.is_quiet().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_range_is_one_click() {
    let (_, host) = served(|| product(40, 60)).await;
    let browser = Browser::start().await;
    let driver = &browser.driver;
    driver
        .goto(format!(
            "{host}/retention?cohort=signup&returning=active&returning_and=web&by=hour"
        ))
        .await
        .unwrap();
    for (label, query, cohorts) in [
        ("7 days", "by=day&rows=7&cols=7", 7),
        ("14 days", "by=day", 14),
        ("30 days", "by=day&rows=30&cols=30", 30),
        ("90 days", "by=day&rows=90&cols=30", 90),
        ("12 weeks", "by=week", 12),
        ("12 months", "by=month", 12),
        ("year to date", "by=month&from=2026-01-01", 11),
    ] {
        browser.edit().await;
        let button = format!("//span[@class='ranges']/button[. = '{label}']");
        driver
            .find(By::XPath(&button))
            .await
            .unwrap()
            .click()
            .await
            .unwrap();
        driver
            .query(By::XPath(format!("{button}[@aria-pressed='true']")))
            .first()
            .await
            .unwrap();
        let url = driver.current_url().await.unwrap();
        assert_eq!(
            url.query(),
            Some(&*format!(
                "cohort=signup&returning=active&returning_and=web&{query}"
            )),
            "{label}"
        );
        // Some cohorts are folded into one row.
        let lines = "return [...document.querySelectorAll('.cohorts tr:is([data-at], .folded)')]
            .reduce((sum, row) => sum + Number(row.dataset.rows ?? 1), 0)";
        let lines = browser.js(lines).await;
        assert_eq!(
            (
                lines.as_u64().unwrap(),
                driver
                    .find_all(By::Css("[aria-pressed=true]"))
                    .await
                    .unwrap()
                    .len()
            ),
            (cohorts, 1),
            "{label}"
        );
    }
    browser.is_quiet().await;
    browser.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_one_rate_has_one_shade_on_either_scale() {
    let (_, host) = served(|| {
        let tracker = empty();
        let (signup, active) = (name("signup"), name("active"));
        let mut batch = tracker.batch();
        for day in 0..20_u32 {
            for user in [2 * day, 2 * day + 1] {
                batch
                    .mark(&signup, user, now() - TimeDelta::days(day.into()))
                    .unwrap();
            }
            // One of the two comes every day.
            for later in 0..=day {
                batch
                    .mark(&active, 2 * day, now() - TimeDelta::days(later.into()))
                    .unwrap();
            }
        }
        batch.commit().unwrap();
        tracker
    })
    .await;
    let browser = Browser::start().await;
    let shades = "return [...new Set([...document.querySelectorAll('.cohorts tbody td[class^=h]')].map((cell) =>
        cell.className.replace(/ (run|few)/g, '')))].join()";
    for (scale, ends) in [("fitted", ["50%", "50%"]), ("absolute", ["0%", "100%"])] {
        let path = format!("/retention?cohort=signup&returning=active&rows=8&cols=6&scale={scale}");
        browser.driver.goto(format!("{host}{path}")).await.unwrap();
        assert_eq!(browser.js(shades).await, "h50", "{scale}");
        let legend = browser.text(".legend .item").await;
        let words: Vec<&str> = legend.split_whitespace().collect();
        assert_eq!([words[0], words[1]], ends, "{legend}");
    }
    browser.is_quiet().await;
    browser.end().await;
}
