//! The frequency report: expected numbers on every store, and random marks beside a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use cohortist::calendar::{Grain, Period, WeekStart, Zone, parse_moment};
use cohortist::reports::coverage::State;
use cohortist::reports::frequency::{Curve, Frequency, Habits};
use cohortist::reports::{Exports, plan_at};
use cohortist::sets::{EventName, Plan};
use cohortist::store::Options;
use cohortist::store::embedded::EmbeddedStore;
use cohortist::{Run, Tracker};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::features::{feature, heartbeat, live_toy, mark_all, toy_now, users};
use crate::support::stores::each_store;

fn question(segment: &str, window: &str, to: &str, weeks: u32) -> Frequency {
    Frequency {
        segment: segment.parse().unwrap(),
        window: window.parse().unwrap(),
        to: Some(to.parse().unwrap()),
        weeks,
        week: WeekStart::Monday,
        zone: Zone::UTC,
    }
}

fn habits(tracker: &Tracker, question: &Frequency, now: DateTime<Utc>) -> Habits {
    tracker.run(question, &Run::at(now)).unwrap().answer
}

fn check(curve: &Curve, expected: &Value, what: &str) {
    let counts =
        |field: &str| -> Vec<u64> { serde_json::from_value(expected[field].clone()).unwrap() };
    assert_eq!(curve.exactly, Some(counts("exactly")), "{what}");
    assert_eq!(curve.at_least(), counts("at_least"), "{what}");
    assert_eq!(curve.state.as_str(), expected["state"], "{what}");
    assert_eq!(curve.people(1), expected["people"].as_u64(), "{what}");
    assert_eq!(curve.total(), expected["person_days"].as_u64(), "{what}");
    let mean = expected["mean_days"].as_f64().unwrap();
    assert!((curve.mean().unwrap() - mean).abs() < 1e-9, "{what}");
}

#[test]
fn windows_are_as_expected_on_every_store() {
    each_store(|name, store| {
        let tracker = live_toy(store);
        let expected = feature("power_user");
        for field in ["L28", "L7", "running", "partly_recorded"] {
            let case = &expected[field];
            let window = format!("{}d", case["days"]);
            let asked = question("active", &window, case["end"].as_str().unwrap(), 0);
            let habits = habits(&tracker, &asked, toy_now());
            check(&habits.curve, case, &format!("{name}: {field}"));
        }
        // The last weeks before now, without a date.
        let asked = Frequency {
            to: None,
            ..question("active", "28d", "2026-11-19", 9)
        };
        let habits = habits(&tracker, &asked, toy_now());
        check(&habits.curve, &expected["L28"], name);
        let weeks = expected["L7_by_week"].as_array().unwrap();
        assert_eq!(habits.weeks.len(), weeks.len(), "{name}");
        for (week, expected) in habits.weeks.iter().zip(weeks) {
            assert_eq!(week.until.to_string(), expected["end"].as_str().unwrap());
            check(week, expected, name);
        }
        // The people behind a number.
        let asked = question("active", "7d", "2026-11-19", 0);
        let habits = self::habits(&tracker, &asked, toy_now());
        let five: Vec<u32> =
            serde_json::from_value(expected["at_least_5_of_7_as_a_set"].clone()).unwrap();
        assert_eq!(
            users(&tracker, &habits.members_of_at_least(5)),
            five,
            "{name}"
        );
        for k in 1..=7 {
            let people = users(&tracker, &habits.members_of_exactly(k)).len() as u64;
            assert_eq!(
                people,
                habits.curve.exactly.as_ref().unwrap()[k as usize - 1]
            );
        }
    });
}

#[test]
fn cases_of_posthog_agree_on_every_store() {
    let cases = feature("ref_posthog_stickiness");
    for case in cases["cases"].as_array().unwrap() {
        each_store(|name, store| {
            let tracker = Tracker::new(store);
            mark_all(&tracker, &case["marks"]);
            let query = &case["query"];
            let first: Period = query["first"].as_str().unwrap().parse().unwrap();
            let periods = query["periods"].as_u64().unwrap();
            let last = first.shift(i64::try_from(periods).unwrap() - 1).unwrap();
            let now = parse_moment("2020-06-01T12:00:00Z").unwrap();
            heartbeat(&tracker, now);
            let asked = question("pageview", &format!("{periods}d"), &last.to_string(), 0);
            let habits = habits(&tracker, &asked, now);
            let ours = &case["ours"];
            let counts =
                |field: &str| -> Vec<u64> { serde_json::from_value(ours[field].clone()).unwrap() };
            assert_eq!(habits.curve.exactly, Some(counts("exactly")), "{name}");
            assert_eq!(habits.curve.at_least(), counts("at_least"), "{name}");
        });
    }
}

#[test]
fn files_have_a_row_for_each_number_of_days() {
    let tracker = live_toy(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let tidy = |to: &str| {
        let habits = habits(&tracker, &question("active", "3d", to, 0), toy_now());
        cohortist::render::csv::frame(&habits.tidy())
    };
    assert_eq!(
        tidy("2026-09-16"),
        "window_start,window_end,state,days,exactly,at_least\n\
         2026-09-14,2026-09-17,complete,1,3,6\n\
         2026-09-14,2026-09-17,complete,2,3,3\n\
         2026-09-14,2026-09-17,complete,3,0,0\n"
    );
    let empty = "window_start,window_end,state,days,exactly,at_least\n\
         2026-09-01,2026-09-04,not_recorded,1,,\n\
         2026-09-01,2026-09-04,not_recorded,2,,\n\
         2026-09-01,2026-09-04,not_recorded,3,,\n";
    assert_eq!(tidy("2026-09-03"), empty);
    assert!(tidy("2026-12-24").contains("future"));
}

/// The limits of ANALYSES for the operations on bitmaps of a window of 28 days.
#[test]
fn a_window_of_28_days_takes_few_operations() {
    let operations = |plan: &Plan| -> usize {
        let steps = |operands: usize| operands.saturating_sub(1);
        plan.nodes()
            .iter()
            .map(|node| steps(node.operands().len()))
            .sum()
    };
    let asked = question("x@ever | a", "28d", "2026-11-19", 0);
    let now = parse_moment("2026-11-20T15:00:00Z").unwrap();
    let (plan, _) = plan_at(&asked, now).unwrap();
    // 28 of them make the segment.
    assert!(operations(&plan) <= 28 + 220, "{}", operations(&plan));
    assert_eq!(plan.roots().len(), 28, "every exactly(k) is counted");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_marks_agree_with_brute_force(
        marks in prop::collection::vec((any::<bool>(), 0..20_u32, 0..50_i64), 1..200),
        window in prop::sample::select(vec!["1d", "7d", "28d", "30d", "4w"]),
        // The year 2026 has 53 ISO weeks; 2028 is a leap year.
        start in prop::sample::select(vec!["2026-11-20", "2028-01-20"]),
        segment in prop::sample::select(vec!["a", "a | b", "a & b", "within(a, -1..0)"]),
        end in -3..60_i64,
        is_live in any::<bool>(),
    ) {
        agree(&marks, window, start, segment, end, is_live);
    }
}

fn agree(
    marks: &[(bool, u32, i64)],
    window: &str,
    start: &str,
    segment: &str,
    end: i64,
    is_live: bool,
) {
    let tracker = Tracker::new(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let start = parse_moment(start).unwrap();
    let now = start + TimeDelta::days(52);
    let mut days: BTreeMap<(bool, Period), BTreeSet<u32>> = BTreeMap::new();
    let mut batch = tracker.batch();
    let window: cohortist::reports::frequency::Window = window.parse().unwrap();
    for (is_a, user, day) in marks {
        let at = start + TimeDelta::days(*day);
        let name = EventName::new(if *is_a { "a" } else { "b" }).unwrap();
        batch.mark(&name, *user, at).unwrap();
        let period = Period::containing(window.grain(), at).unwrap();
        days.entry((*is_a, period)).or_default().insert(*user);
    }
    batch.commit().unwrap();
    if is_live {
        heartbeat(&tracker, now);
    }
    let to = (start + TimeDelta::days(end)).date_naive();
    let asked = Frequency {
        segment: segment.parse().unwrap(),
        window,
        to: Some(to),
        weeks: 3,
        week: WeekStart::Monday,
        zone: Zone::UTC,
    };
    let habits = habits(&tracker, &asked, now);
    let event = |is_a: bool, period: Period| days.get(&(is_a, period)).cloned().unwrap_or_default();
    let set = |period: Period| match segment {
        "a" => event(true, period),
        "a | b" => &event(true, period) | &event(false, period),
        "a & b" => &event(true, period) & &event(false, period),
        _ => &event(true, period) | &event(true, period.previous().unwrap()),
    };
    let coverage = tracker.coverage(now, true).unwrap();
    let until = Period::of_date(window.grain(), to).unwrap();
    let all: Vec<Period> = (0..i64::from(window.length()))
        .map(|by| until.shift(-by).unwrap())
        .collect();
    // The state of the window.
    let begins = |is_a: bool| {
        days.keys()
            .filter(|(of, _)| *of == is_a)
            .map(|(_, period)| *period)
            .min()
    };
    let begins = match segment {
        "a | b" => begins(true).into_iter().chain(begins(false)).min(),
        "a & b" => begins(true).zip(begins(false)).map(|(a, b)| a.max(b)),
        _ => begins(true),
    };
    let is_recorded = |period: &&Period| {
        begins.is_some_and(|begins| begins <= **period) && coverage.is_recorded(**period)
    };
    let begun: Vec<&Period> = all
        .iter()
        .filter(|period| **period <= coverage.current(window.grain()))
        .collect();
    let recorded = begun
        .iter()
        .copied()
        .filter(|period| is_recorded(period))
        .count();
    let state = match () {
        () if begun.is_empty() => State::Future,
        () if recorded == 0 => State::NotRecorded,
        () if recorded < begun.len() => State::PartlyRecorded,
        () if until >= coverage.last(window.grain()).unwrap() => State::InProgress,
        () => State::Complete,
    };
    assert_eq!(habits.curve.state, state);
    let Some(exactly) = habits.curve.exactly.clone() else {
        assert!(matches!(state, State::Future | State::NotRecorded));
        return;
    };
    let mut numbers: BTreeMap<u32, usize> = BTreeMap::new();
    for period in &all {
        set(*period)
            .into_iter()
            .for_each(|user| *numbers.entry(user).or_default() += 1);
    }
    for k in 1..=all.len() {
        let expected: Vec<u32> = numbers
            .iter()
            .filter(|(_, n)| **n == k)
            .map(|(user, _)| *user)
            .collect();
        assert_eq!(exactly[k - 1], expected.len() as u64, "exactly {k}");
        let at_least = numbers.values().filter(|n| **n >= k).count() as u64;
        assert_eq!(habits.curve.people(k), Some(at_least));
        if [1, 3, all.len()].contains(&k) {
            let set = habits.members_of_exactly(u32::try_from(k).unwrap());
            assert_eq!(users(&tracker, &set), expected, "{set}");
        }
    }
    // The laws: the people of each day add up, and the mean is their number ÷ that of all people.
    let total: usize = all.iter().map(|period| set(*period).len()).sum();
    assert_eq!(habits.curve.total(), Some(total as u64));
    if !numbers.is_empty() {
        let mean = total as f64 / numbers.len() as f64;
        assert!((habits.curve.mean().unwrap() - mean).abs() < 1e-9);
    }
    for week in &habits.weeks {
        assert_eq!(
            (week.state, week.from.within(Grain::WEEK).start()),
            (State::Complete, week.from.start())
        );
    }
}
