//! Segment functions and patterns: expected values on every store, and random marks beside a plain
//! model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::reports::retention::Query;
use cohortist::sets::{EventName, Segment, SetContext, When, parse_set};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Options, Store};
use cohortist::{Extent, Tracker};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::features::{feature, live_toy, mark_toy, toy_now, users};
use crate::support::stores::each_store;

fn listed(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn week_of(monday: &str) -> Period {
    Period::containing(Grain::WEEK, parse_moment(monday).unwrap()).unwrap()
}

#[test]
fn functions_give_the_expected_users_on_every_store() {
    each_store(|name, store| {
        let tracker = Tracker::new(store);
        mark_toy(&tracker);
        let extras = feature("extras");
        let lists = &extras["lists"];
        let week = week_of(lists["week"].as_str().unwrap());
        let running = week_of(lists["week 2 (in progress)"].as_str().unwrap());
        let cases = [
            (
                "within(active, -4..-1) & !active",
                week,
                "lapsed: active in any of the 4 weeks before, not in it",
            ),
            (
                "active & before(active) & !within(active, -4..-1)",
                week,
                "resurrected: active in it, seen before, in none of the 4 weeks before",
            ),
            (
                "atleast(4, active, -3..0)",
                week,
                "streak of 4 weeks up to it",
            ),
            (
                "active & before(active) & !within(active, -1..-1)",
                running,
                "resurrected: active in it, seen before, not in the week before",
            ),
            (
                "within(active, -1..-1) & !active",
                running,
                "going dormant so far: active the week before, not yet in it",
            ),
        ];
        for (segment, period, expected) in cases {
            let found = users(&tracker, &format!("({segment})@{period}"));
            assert_eq!(found, listed(&lists[expected]), "{name}: {segment}");
        }
        let first_time = feature("first_time");
        for row in first_time["rows"].as_array().unwrap() {
            let week = week_of(row["cohort"].as_str().unwrap());
            let found = users(&tracker, &format!("first(active)@{week}"));
            assert_eq!(found.len() as u64, row["size"], "{name}: {week}");
        }
        for (day, expected) in first_time["daily_first_counts"].as_object().unwrap() {
            let found = users(&tracker, &format!("first(active)@{day}"));
            assert_eq!(found.len() as u64, *expected, "{name}: {day}");
        }
        let frequency = feature("power_user");
        assert_eq!(
            users(&tracker, "atleast(5, active, -6..0)@2026-11-19"),
            listed(&frequency["at_least_5_of_7_as_a_set"]),
            "{name}"
        );
        let ever = feature("toy")["ever"].clone();
        let countries = ["country:US", "country:DE"].map(|event| listed(&ever[event]));
        let all: BTreeSet<u32> = countries.concat().into_iter().collect();
        let all: Vec<u32> = all.into_iter().collect();
        assert_eq!(users(&tracker, "country:*@ever"), all, "{name}");
    });
}

#[test]
fn first_time_cohorts_leave_the_first_recorded_one_out_of_averages() {
    each_store(|name, store| {
        let (tracker, now) = (live_toy(store), toy_now());
        let expected = feature("first_time");
        let asked = &expected["query"];
        let segment = |field: &str| asked[field].as_str().unwrap().parse().unwrap();
        let query = Query {
            from: Some(asked["first_cohort"].as_str().unwrap().parse().unwrap()),
            rows: Some(9),
            cols: Some(10),
            ..Query::new(segment("cohort"), segment("returning"), Grain::WEEK)
        };
        let table = tracker.retention(&query, now).unwrap();
        let rows = expected["rows"].as_array().unwrap();
        assert_eq!(table.rows.len(), rows.len(), "{name}");
        for (row, expected) in table.rows.iter().zip(rows) {
            assert_eq!(
                row.state_word(),
                expected["cohort_state"],
                "{name}: {}",
                row.period
            );
            assert_eq!(
                row.people(),
                expected["size"].as_u64().unwrap(),
                "{name}: {}",
                row.period
            );
            // A cohort without people has no cells.
            for (cell, expected) in row.cells.iter().zip(expected["cells"].as_array().unwrap()) {
                let Some(number) = cell.number() else {
                    assert!(
                        row.people() == 0 || expected.is_null(),
                        "{name}: {}",
                        row.period
                    );
                    continue;
                };
                assert_eq!(
                    number.retained,
                    expected["retained"].as_u64().unwrap(),
                    "{name}"
                );
                assert_eq!(number.state.as_str(), expected["state"], "{name}");
            }
        }
        let averages = expected["average_without_the_first_recorded_row"]
            .as_array()
            .unwrap();
        for (average, expected) in table.averages.iter().zip(averages) {
            let found =
                average.map(|average| [average.retained, average.size, average.cohorts.into()]);
            let fields = ["retained", "size", "cohorts"];
            let expected = (!expected.is_null())
                .then(|| fields.map(|field| expected[field].as_u64().unwrap()));
            assert_eq!(found, expected, "{name}");
        }
        assert!(
            table.is_disjoint(),
            "{name}: first-time cohorts share nobody"
        );
    });
}

#[test]
fn what_makes_no_sense_is_refused_at_its_column() {
    let column = |text: &str| text.parse::<Segment>().unwrap_err().column;
    assert_eq!(column("a & first(x@ever)"), 5);
    assert_eq!(column("first(first(a))"), 1);
    assert_eq!(column("first(a@2026-11-23)"), 8);
    assert_eq!(column("first(a, b)"), 8);
    assert_eq!(column("within(a, -1..-4)"), 11);
    assert_eq!(column("within(a, -401..0)"), 11);
    assert_eq!(column("within(a)"), 9);
    assert_eq!(column("atleast(0, a, -6..0)"), 9);
    assert_eq!(column("atleast(8, a, -6..0)"), 9);
    assert_eq!(column("first(a)@ever"), 9);
    let set = |text: &str| parse_set(text, SetContext::empty());
    assert!(set("first(a)@ever").is_err());
    assert!(set("first(a)").is_err());
    // A name needs no quotes where no parenthesis follows it.
    assert_eq!(
        "first & within".parse::<Segment>().unwrap().names().len(),
        2
    );
    // Names that would change their meaning are printed in quotes.
    for name in ["a,b", "a*"] {
        let segment = Segment::event(&EventName::new(name).unwrap());
        assert_eq!(segment.to_string(), format!("\"{name}\""));
        assert_eq!(segment.to_string().parse::<Segment>().unwrap(), segment);
    }
}

/// Marks of three events on days of about ten weeks, some of them with hours, and some deleted
/// bitmaps.
type Marks = Vec<(u8, u8, u8)>;

const EVENTS: [&str; 3] = ["a", "b", "plan:c"];

/// The users of each event on each day.
type Days = BTreeMap<(u8, chrono::NaiveDate), BTreeSet<u32>>;

/// Evaluates a text of this test's segments by brute force.
fn expected(days: &Days, text: &str, period: Period, first: Period) -> BTreeSet<u32> {
    let event = |event: u8, period: Period| -> BTreeSet<u32> {
        let dates = days.iter().filter(|((of, date), _)| {
            let moment = date.and_hms_opt(0, 0, 0).unwrap().and_utc();
            *of == event && period.start() <= moment && moment < period.end()
        });
        dates.flat_map(|(_, users)| users.iter().copied()).collect()
    };
    let a = |period| event(0, period);
    let both = |period| &event(0, period) & &event(1, period);
    let either = |period| &event(0, period) | &event(1, period);
    let earlier = |of: &dyn Fn(Period) -> BTreeSet<u32>| {
        let mut at = first;
        let mut found = BTreeSet::new();
        while at.is_before(period) {
            found.extend(of(at));
            at = at.shift(1).unwrap();
        }
        found
    };
    let around = |of: &dyn Fn(Period) -> BTreeSet<u32>, from: i64, until: i64| -> Vec<_> {
        (from..=until)
            .map(|by| of(period.shift(by).unwrap()))
            .collect()
    };
    match text {
        "first(a)" => &a(period) - &earlier(&a),
        "before(a)" => earlier(&a),
        "first(a & b)" => &both(period) - &earlier(&both),
        "first(a | b)" => &either(period) - &earlier(&either),
        "first(a) & b" => &(&a(period) - &earlier(&a)) & &event(1, period),
        "within(a & b, -2..1)" => around(&both, -2, 1).into_iter().flatten().collect(),
        "atleast(2, a | b, -3..0)" => {
            let sets = around(&either, -3, 0);
            let in_two = |user: &u32| sets.iter().filter(|set| set.contains(user)).count() >= 2;
            sets.iter().flatten().copied().filter(in_two).collect()
        }
        "plan:*" => event(2, period),
        "*" => &either(period) | &event(2, period),
        "atleast(2, first(a), -3..0)" => BTreeSet::new(),
        _ => unreachable!("{text}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_marks_agree_with_brute_force(
        marks in prop::collection::vec((0..3_u8, 0..24_u8, 0..75_u8), 1..160),
        grain in prop::sample::select(vec![Grain::Day, Grain::WEEK, Grain::Month]),
        // The year 2026 has 53 ISO weeks; 2028 is a leap year.
        start in prop::sample::select(vec!["2026-11-20", "2028-01-20", "2027-05-01"]),
        deleted in prop::sample::select(vec![None, Some(Grain::Month), Some(Grain::WEEK)]),
    ) {
        agree(&marks, grain, start, deleted);
    }
}

fn agree(marks: &Marks, grain: Grain, start: &str, deleted: Option<Grain>) {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
    let tracker = Tracker::new(Arc::clone(&store)).with_extent(Extent::default());
    let start = parse_moment(start).unwrap();
    let mut days = Days::new();
    let mut batch = tracker.batch();
    for (event, user, day) in marks {
        let at = start + chrono::TimeDelta::days(i64::from(*day));
        let name = EventName::new(EVENTS[usize::from(*event)]).unwrap();
        batch.mark(&name, u32::from(*user), at).unwrap();
        let of_day = days.entry((*event, at.date_naive())).or_default();
        of_day.insert(u32::from(*user));
    }
    batch.commit().unwrap();
    // Finer bitmaps stand for the missing ones.
    if let Some(deleted) = deleted.filter(|deleted| *deleted != grain) {
        for key in tracker.catalogue().unwrap().keys() {
            if matches!(key.when(), When::In(period) if period.grain() == deleted) {
                tracker.delete(key).unwrap();
            }
        }
    }
    let first = Period::containing(grain, start).unwrap();
    for by in [0, 1, 3, 9] {
        let period = first.shift(by).unwrap();
        for text in [
            "first(a)",
            "before(a)",
            "first(a & b)",
            "first(a | b)",
            "first(a) & b",
            "within(a & b, -2..1)",
            "atleast(2, a | b, -3..0)",
            "atleast(2, first(a), -3..0)",
            "plan:*",
            "*",
        ] {
            let found = users(&tracker, &format!("({text})@{period}"));
            let found: BTreeSet<u32> = found.into_iter().collect();
            assert_eq!(
                found,
                expected(&days, text, period, first),
                "{text} in {period}"
            );
        }
    }
}
