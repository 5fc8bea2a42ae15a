//! A share that only rounds to none or all is never printed as none or all.

use chrono::TimeDelta;
use cohortist::Tracker;
use cohortist::calendar::Grain;
use cohortist::render::{csv, text};
use cohortist::reports::Exports;
use cohortist::reports::retention::{Benchmarks, Show, Shown};
use cohortist::reports::retention::{Query, Table};

use crate::http::read;
use crate::support::web::{empty, name, now, serve};

const PEOPLE: u32 = 40_000;

/// All of a cohort but one came back after a day, one of them after two days, and nobody after
/// three.
fn nearly_all() -> Tracker {
    let tracker = empty();
    let start = now() - TimeDelta::days(5);
    let mut batch = tracker.batch();
    for user in 0..PEOPLE {
        batch.mark(&name("s"), user, start).unwrap();
        if user < PEOPLE - 1 {
            batch
                .mark(&name("r"), user, start + TimeDelta::days(1))
                .unwrap();
        }
    }
    batch
        .mark(&name("r"), 0, start + TimeDelta::days(2))
        .unwrap();
    // The store goes on, so that the third day is a true zero.
    batch.mark(&name("zz:heartbeat"), 0, now()).unwrap();
    batch.commit().unwrap();
    tracker
}

fn table(tracker: &Tracker) -> Table {
    let day = (now() - TimeDelta::days(5)).date_naive();
    let bounds = (Some(day), Some(day));
    let query = Query::new("s".parse().unwrap(), "r".parse().unwrap(), Grain::Day);
    let query = Query {
        from: bounds.0,
        to: bounds.1,
        cols: Some(4),
        ..query
    };
    tracker.retention(&query, now()).unwrap()
}

#[test]
fn nearly_all_is_not_all_and_hardly_any_is_not_none() {
    let tracker = nearly_all();
    let table = table(&tracker);
    let printed = text::table(&table, Show::Percent, None, false);
    for line in ["18 Nov 2026", "Weighted average"] {
        let line = printed.lines().find(|l| l.contains(line)).unwrap();
        let shares: Vec<&str> = line
            .split_whitespace()
            .filter(|word| word.ends_with('%'))
            .collect();
        assert_eq!(shares, ["0.0%", ">99.9%", "<0.1%", "0.0%"], "{printed}");
    }
    let shown = Shown {
        table,
        show: Show::Percent,
        benchmarks: Benchmarks::default(),
    };
    let wide = csv::frame(&shown.wide());
    assert!(wide.ends_with(",40000,0.00,>99.99,<0.01,0.00\n"), "{wide}");

    let page = read(&format!(
        "http://{}/retention?cohort=s&returning=r&from=2026-11-18&to=2026-11-18&cols=4",
        serve(tracker)
    ));
    let grid = page
        .body
        .split("<tr data-at")
        .nth(1)
        .unwrap_or_else(|| panic!("no grid in {}", page.body));
    let cells = grid
        .split("<td")
        .filter_map(|cell| cell.split("</a>").next()?.rsplit('>').next());
    let html: Vec<&str> = cells.filter(|cell| cell.ends_with('%')).collect();
    assert_eq!(
        html,
        ["0.0%", "&#62;99.9%", "&#60;0.1%", "0.0%"],
        "{}",
        page.body
    );
    for wrong in ["100.0% ", "100.0%<", "100.0% came"] {
        assert!(!page.body.contains(wrong), "{wrong} in {}", page.body);
    }
}
