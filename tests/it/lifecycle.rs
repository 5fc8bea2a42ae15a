//! The lifecycle report: expected numbers on every store, and random marks beside a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{NaiveDate, TimeDelta};
use cohortist::calendar::{Grain, Period, Zone, parse_moment};
use cohortist::reports::coverage::State;
use cohortist::reports::lifecycle::{Class, Growth, Lifecycle};
use cohortist::reports::range::Range;
use cohortist::reports::{Context, answer_with, clamped_counts};
use cohortist::sets::{EventName, Labels, Plan, Segments, When};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Options, Store};
use cohortist::{Run, Tracker};
use proptest::prelude::*;

use crate::support::features::{feature, heartbeat, live_toy, mark_all, toy_now, users};
use crate::support::stores::each_store;

fn question(segment: &str, grain: Grain, from: &str, rows: u32) -> Lifecycle {
    Lifecycle {
        segment: segment.parse().unwrap(),
        range: Range {
            grain,
            from: Some(from.parse().unwrap()),
            rows: Some(rows),
            zone: Zone::UTC,
        },
    }
}

fn growth(tracker: &Tracker, question: &Lifecycle, now: &str) -> Growth {
    let now = parse_moment(now).unwrap();
    tracker.run(question, &Run::at(now)).unwrap().answer
}

#[test]
fn the_lifecycle_is_as_expected_on_every_store() {
    each_store(|name, store| {
        let tracker = live_toy(store);
        let expected = feature("lifecycle");
        for (field, grain) in [("by_week", Grain::WEEK), ("by_day", Grain::Day)] {
            let rows = expected[field].as_array().unwrap();
            let count = u32::try_from(rows.len()).unwrap();
            let asked = question("active", grain, "2026-09-14", count);
            let growth = tracker.run(&asked, &Run::at(toy_now())).unwrap().answer;
            assert_eq!(growth.stages.len(), rows.len());
            for (stage, row) in growth.stages.iter().zip(rows) {
                let what = format!("{name}: {}", stage.period);
                assert_eq!(stage.active, row["active"].as_u64(), "{what}");
                if row["state"] == "first_recorded" {
                    assert_eq!((stage.state, stage.classes), (State::PartlyRecorded, None));
                    continue;
                }
                assert_eq!(stage.state.as_str(), row["state"], "{what}");
                for class in Class::ALL {
                    assert_eq!(stage.count(class), row[class.as_str()].as_u64(), "{what}");
                    let people = users(&tracker, &growth.members(class, stage.period));
                    assert_eq!(
                        Some(people.len() as u64),
                        stage.count(class),
                        "{what} {class:?}"
                    );
                }
            }
            if grain == Grain::WEEK {
                let quick = growth.quick_ratio();
                let expected = &expected["quick_ratio_over_complete_weeks"];
                assert_eq!(quick.gained, expected["gained"]);
                assert_eq!(quick.lost, expected["lost"]);
                let ratio = expected["ratio"].as_f64().unwrap();
                assert!((quick.ratio().unwrap() - ratio).abs() < 1e-9);
            }
        }
    });
}

#[test]
fn cases_of_posthog_agree_on_every_store() {
    let cases = feature("ref_posthog_lifecycle");
    for case in cases["cases"].as_array().unwrap() {
        let query = &case["query"];
        each_store(|name, store| {
            let tracker = Tracker::new(store);
            mark_all(&tracker, &case["marks"]);
            let grain: Grain = query["by"].as_str().unwrap().parse().unwrap();
            let rows = u32::try_from(query["periods"].as_u64().unwrap()).unwrap();
            let zone: Zone = query["zone"].as_str().unwrap().parse().unwrap();
            let first = query["first"].as_str().unwrap();
            let mut asked = question("pageview", grain, first, rows);
            asked.range.zone = zone;
            let now = "2025-06-01T12:00:00Z";
            heartbeat(&tracker, parse_moment(now).unwrap());
            let growth = growth(&tracker, &asked, now);
            for (at, stage) in growth.stages.iter().enumerate() {
                // Our first recorded period shows only how many people there were.
                let Some(classes) = stage.classes else {
                    continue;
                };
                let ours = &case["ours"];
                let what = format!("{name}, {}: {}", case["name"], stage.period);
                assert_eq!(classes.new, ours["new"][at], "{what}");
                assert_eq!(classes.returning, ours["returning"][at], "{what}");
                assert_eq!(classes.resurrected, ours["resurrecting"][at], "{what}");
                let dormant = -i64::try_from(classes.dormant).unwrap();
                assert_eq!(dormant, ours["dormant"][at], "{what}");
            }
        });
    }
}

#[test]
fn files_have_a_row_for_each_period_and_no_number_where_nothing_is_recorded() {
    let tracker = live_toy(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let asked = question("active", Grain::WEEK, "2026-09-07", 3);
    let growth = growth(&tracker, &asked, "2026-11-20T15:00:00Z");
    let tidy = cohortist::render::csv::frame(&cohortist::reports::Exports::tidy(&growth));
    assert_eq!(
        tidy,
        "period_start,period_end,state,active,new,returning,resurrected,dormant\n\
         2026-09-07,2026-09-14,not_recorded,,,,,\n\
         2026-09-14,2026-09-21,partly_recorded,8,,,,\n\
         2026-09-21,2026-09-28,complete,10,6,4,0,4\n"
    );
    let json = cohortist::reports::Exports::json(&growth);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["quick_ratio"]["ratio"], 1.5);
    assert_eq!(json["first_recorded"], "2026-09-14");
}

#[test]
fn undated_segments_and_functions_are_refused() {
    let tracker = Tracker::new(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let now = parse_moment("2026-11-20").unwrap();
    for segment in ["pro@ever", "first(active)", "within(active, -1..-1) & a"] {
        let asked = Lifecycle {
            segment: segment.parse().unwrap(),
            range: Range::last(Grain::Day),
        };
        let error = tracker.run(&asked, &Run::at(now)).unwrap_err();
        assert!(
            error.to_string().contains(&format!("`{segment}`")),
            "{error}"
        );
    }
}

/// The users of the events `a` and `b` on each day.
type Days = BTreeMap<(bool, NaiveDate), BTreeSet<u32>>;

/// What is special about a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twist {
    None,
    /// Its data ends before now.
    Ended,
    /// The bitmaps of the first half's periods were deleted, for the grain of the report.
    Deleted,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_marks_agree_with_brute_force(
        marks in prop::collection::vec((any::<bool>(), 0..20_u32, 0..80_i64), 1..200),
        grain in prop::sample::select(vec![Grain::Day, Grain::WEEK, Grain::Month]),
        // The year 2026 has 53 ISO weeks; 2028 is a leap year.
        start in prop::sample::select(vec!["2026-11-20", "2028-01-20", "2027-05-01"]),
        segment in prop::sample::select(vec!["a", "a | b", "a & b"]),
        twist in prop::sample::select(vec![Twist::None, Twist::Ended, Twist::Deleted]),
    ) {
        agree(&marks, grain, start, segment, twist);
    }
}

fn agree(marks: &[(bool, u32, i64)], grain: Grain, start: &str, segment: &str, twist: Twist) {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
    let tracker = Tracker::new(store);
    let start = parse_moment(start).unwrap();
    let mut days = Days::new();
    let mut batch = tracker.batch();
    for (is_a, user, day) in marks {
        let at = start + TimeDelta::days(*day);
        let name = EventName::new(if *is_a { "a" } else { "b" }).unwrap();
        batch.mark(&name, *user, at).unwrap();
        days.entry((*is_a, at.date_naive()))
            .or_default()
            .insert(*user);
    }
    batch.commit().unwrap();
    let now = start + TimeDelta::days(85);
    if twist != Twist::Ended {
        heartbeat(&tracker, now);
    }
    let half = start + TimeDelta::days(40);
    if twist == Twist::Deleted {
        for key in tracker.catalogue().unwrap().keys() {
            if matches!(key.when(), When::In(period) if period.grain() == grain && period.end() <= half)
            {
                tracker.delete(key).unwrap();
            }
        }
    }
    let first = Period::containing(grain, start).unwrap().shift(-2).unwrap();
    let asked = Lifecycle {
        segment: segment.parse().unwrap(),
        range: Range {
            grain,
            from: Some(first.start().date_naive()),
            rows: Some(100),
            zone: Zone::UTC,
        },
    };
    let run = Run::at(now);
    let growth = tracker.run(&asked, &run).unwrap().answer;
    let coverage = tracker.coverage(now, true).unwrap();
    let event = |is_a: bool, period: Period| -> BTreeSet<u32> {
        let within = days.iter().filter(|((of, date), _)| {
            let at = date.and_hms_opt(0, 0, 0).unwrap().and_utc();
            *of == is_a && period.start() <= at && at < period.end()
        });
        within
            .flat_map(|(_, users)| users.iter().copied())
            .collect()
    };
    let set = |period: Period| match segment {
        "a" => event(true, period),
        "a | b" => &event(true, period) | &event(false, period),
        _ => &event(true, period) & &event(false, period),
    };
    let begins = |is_a: bool| {
        days.keys()
            .filter(|(of, _)| *of == is_a)
            .map(|(_, date)| *date)
            .min()
    };
    let begins = match segment {
        "a" => begins(true),
        "a | b" => begins(true).into_iter().chain(begins(false)).min(),
        _ => begins(true).zip(begins(false)).map(|(a, b)| a.max(b)),
    };
    let mut seen = BTreeSet::new();
    let mut previous: Option<BTreeSet<u32>> = None;
    for stage in &growth.stages {
        let here = set(stage.period);
        let begun =
            begins.is_some_and(|begins| Period::of_date(grain, begins).unwrap() <= stage.period);
        let is_recorded = coverage.is_recorded(stage.period) && begun;
        if !is_recorded {
            assert_eq!(
                (stage.state, stage.active),
                (State::NotRecorded, None),
                "{}",
                stage.period
            );
            assert_eq!(stage.classes, None);
            previous = None;
            seen.extend(here);
            continue;
        }
        assert_eq!(stage.active, Some(here.len() as u64), "{}", stage.period);
        let members = |class| -> BTreeSet<u32> {
            users(&tracker, &growth.members(class, stage.period))
                .into_iter()
                .collect()
        };
        assert_eq!(members(Class::Active), here);
        if let Some(classes) = stage.classes {
            assert_eq!(stage.state, coverage.state_of(stage.period));
            let before = previous.as_ref().expect("the period before is recorded");
            let expected = [
                (Class::New, &here - &seen),
                (Class::Returning, &here & before),
                (Class::Resurrected, &(&here & &seen) - before),
                (Class::Dormant, before - &here),
            ];
            for (class, expected) in expected {
                let what = format!("{class:?} in {}", stage.period);
                assert_eq!(stage.count(class), Some(expected.len() as u64), "{what}");
                if twist != Twist::Deleted {
                    assert_eq!(members(class), expected, "{what}");
                }
            }
            // The laws of growth accounting.
            assert_eq!(
                classes.new + classes.returning + classes.resurrected,
                here.len() as u64
            );
            let change = i64::try_from(here.len()).unwrap() - i64::try_from(before.len()).unwrap();
            assert_eq!(classes.net(), change);
        } else {
            assert_eq!(stage.state, State::PartlyRecorded, "{}", stage.period);
            // Only after a period that is not recorded, or while deleted history is not covered by
            // longer periods that are over.
            assert!(
                previous.is_none() || twist == Twist::Deleted,
                "{}",
                stage.period
            );
        }
        seen.extend(here.iter().copied());
        previous = Some(here);
    }
}

#[test]
fn counts_of_two_moments_are_reduced_to_what_is_possible() {
    let tracker = Tracker::new(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let active = EventName::new("active").unwrap();
    let now = parse_moment("2026-11-05").unwrap();
    for day in 0..4 {
        let at = now - TimeDelta::days(day);
        tracker.mark(&active, 1, at).unwrap();
    }
    let context = Context {
        coverage: &tracker.coverage(now, true).unwrap(),
        catalogue: &tracker.catalogue().unwrap(),
        segments: &Segments::default(),
        labels: &Labels::new(),
        hidden: &[],
    };
    let asked = question("active", Grain::Day, "2026-11-03", 3);
    // Each count is smaller than the one before it or greater, as if marks arrived in between.
    for counts in [[9, 1, 7, 8], [1, 9, 3, 7]] {
        let clamped = clamped_counts();
        let count = |plan: &Plan| {
            counts
                .into_iter()
                .cycle()
                .take(plan.roots().len())
                .collect()
        };
        let growth = answer_with(&asked, &context, count).unwrap();
        for stage in &growth.stages {
            let classes = stage.classes.unwrap();
            let sum = classes.new + classes.returning + classes.resurrected;
            assert_eq!(Some(sum), stage.active, "{}", stage.period);
        }
        assert!(clamped_counts() > clamped);
    }
}
