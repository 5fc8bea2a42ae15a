//! Questions that are too large to plan are refused before anything is planned, on the page, over
//! the API and on the command line.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cohortist::Tracker;
use cohortist::clock::Clock;
use cohortist::server::Dashboard;
use cohortist::sets::{MAX_TERMS, Plan, Segments, Set};
use cohortist::store::StoreError;
use serde_json::Value;

use crate::http::{Got, read};
use crate::support::bent::Bent;
use crate::support::program::Shop;
use crate::support::web::{name, now, product_store, serve_dashboard};

/// `a0|a1|…` of so many names.
fn union(names: usize) -> String {
    (0..names)
        .map(|n| format!("{n:x}"))
        .collect::<Vec<_>>()
        .join("|")
}

/// Fits into an expression of 10,000 characters.
const NAMES: usize = 2_000;

/// What every refusal says: the limit, and how long the longest set is.
fn is_told(text: &str, longest: &str) -> bool {
    text.contains("this question is too large")
        && text.contains("100,000 event names and operators in total")
        && text.contains(&format!("one set alone has {longest}"))
}

/// The most nodes of any plan that the store was asked to count.
fn host() -> (String, Arc<AtomicUsize>) {
    let inner = product_store(3, 10);
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let store = Bent::of(&inner).before_counting(move |plan: Plan| {
        seen.fetch_max(plan.nodes().len(), Ordering::Relaxed);
    });
    let saved = [("big", union(NAMES)), ("huge", ["big"; 5].join("|"))];
    let saved =
        Segments::new(saved.map(|(called, text)| (name(called), text.parse().unwrap()))).unwrap();
    let dashboard = Dashboard::new(
        Tracker::new(store.shared()).with_segments(saved),
        Clock::Fixed(now()),
    );
    (format!("http://{}", serve_dashboard(dashboard)), most)
}

fn encoded(text: &str) -> String {
    text.replace('|', "%7C")
}

#[test]
fn a_question_that_is_too_large_is_refused_before_it_is_planned() {
    let (host, most) = host();
    let long = encoded(&union(NAMES));
    let table = format!("cohort={long}&returning=active&by=day&rows=400&cols=50");
    let cell = format!(
        "cohort=active&returning={long}&rows=2&cols=400&measure=on_or_after&at=2026-11-22&k=0"
    );
    let written_out = format!("cohort={}&returning=active", ["huge"; 11].join("%7C"));
    let several = vec![format!("set=({long})@2026"); 4].join("&");
    for (path, query, longest) in [
        ("/retention", &*table, "2,00"),
        ("/retention.csv", &table, "2,00"),
        ("/retention.tidy.csv", &table, "2,00"),
        ("/retention.json", &table, "2,00"),
        ("/retention.svg", &table, "2,00"),
        ("/api/v1/retention", &table, "2,00"),
        ("/retention", &written_out, "110,000"),
        ("/api/v1/count", &several, "26,001"),
        ("/api/v1/count", "set=huge@2026", "130,006"),
        ("/api/v1/people", "set=(huge)@2026", "130,006"),
        ("/people", "set=(huge%7Cactive)@2026", "130,006"),
        ("/people.csv", "set=(huge%7Cactive)@2026", "130,006"),
        ("/people", &cell, "2,00"),
    ] {
        let Got { status, body, .. } = read(&format!("{host}{path}?{query}"));
        let shown: String = body.chars().take(4000).collect();
        assert_eq!(status, 400, "{path}: {shown}");
        assert!(is_told(&body, longest), "{path}: {shown}");
    }
    let planned = most.load(Ordering::Relaxed);
    assert!(planned < 1_000, "a plan of {planned} nodes was counted");

    // What is refused for its length is answered where fewer periods make it smaller.
    let table = format!("cohort={long}&returning=active&by=day&rows=4&cols=4");
    let answer = read(&format!("{host}/retention.json?{table}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(most.load(Ordering::Relaxed) > NAMES);
    // The largest table of plain events is far from the limit.
    let table = "cohort=signup&returning=active&by=day&rows=141&cols=141&measure=on_or_after&from=2026-01-01";
    let answer: Value =
        serde_json::from_str(&read(&format!("{host}/api/v1/retention?{table}")).body).unwrap();
    assert!(answer["rows"].is_array(), "{answer}");
}

#[test]
fn the_command_line_refuses_it_as_bad_usage() {
    let shop = Shop::new();
    shop.run(&["mark", "active", "1"]).done();
    let long = union(NAMES);
    let error = shop
        .run(&[
            "retention",
            &long,
            "active",
            "--rows",
            "400",
            "--cols",
            "50",
        ])
        .error(2);
    assert!(is_told(&error, "2,001"), "{error}");
    let set = format!("({long})@2026");
    let error = shop.run(&["count", &set, &set, &set, &set]).error(2);
    assert!(is_told(&error, "26,001"), "{error}");
    assert_eq!(
        shop.run(&["count", &format!("({long}|active)@2026-11-23")])
            .out,
        "1\n"
    );
}

#[test]
fn a_library_call_says_so_and_asks_the_store_for_nothing() {
    let store = product_store(1, 3);
    let tracker = Tracker::new(Arc::clone(&store));
    let set = Set::Or(vec![Set::ever(&name("active")); MAX_TERMS]);
    let is_refused = |result: Result<(), StoreError>| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, StoreError::TooLarge(too) if too.longest == MAX_TERMS + 1),
            "{error}"
        );
        assert!(is_told(&error.to_string(), "100,001"), "{error}");
    };
    is_refused(tracker.count(&set).map(drop).map_err(|error| match error {
        cohortist::Error::Store(error) => error,
        other => panic!("{other}"),
    }));
    is_refused(store.members(&set, None, 10).map(drop));
    is_refused(
        store
            .save(&set, &cohortist::sets::Key::ever(name("saved")))
            .map(drop),
    );
    assert!(!tracker.events("").unwrap().contains(&name("saved")));
}
