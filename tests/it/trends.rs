//! The trends report: expected numbers on every store, and random marks beside a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;
use cohortist::calendar::{Grain, Period, WeekStart, Zone, parse_moment};
use cohortist::reports::coverage::State;
use cohortist::reports::frequency::Frequency;
use cohortist::reports::range::Range;
use cohortist::reports::trends::{Lines, Rolling, Trends};
use cohortist::reports::{Exports, plan_at};
use cohortist::sets::{EventName, Plan};
use cohortist::store::Options;
use cohortist::store::embedded::EmbeddedStore;
use cohortist::{Run, Tracker};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::features::{feature, heartbeat, live_toy, toy_now, users};
use crate::support::stores::each_store;

fn question(segments: &[&str], grain: Grain, from: &str, rows: u32) -> Trends {
    Trends {
        segments: segments.iter().map(|text| text.parse().unwrap()).collect(),
        range: Range {
            grain,
            from: Some(from.parse().unwrap()),
            rows: Some(rows),
            zone: Zone::UTC,
        },
        breakdown: None,
        rolling: None,
    }
}

fn lines(tracker: &Tracker, question: &Trends) -> Lines {
    tracker.run(question, &Run::at(toy_now())).unwrap().answer
}

#[test]
fn rolling_windows_and_stickiness_are_as_expected_on_every_store() {
    each_store(|name, store| {
        let tracker = live_toy(store);
        let expected = feature("rolling");
        let days = expected["days"].as_array().unwrap();
        let rows = u32::try_from(days.len()).unwrap();
        let plain = question(&["active"], Grain::Day, "2026-09-14", rows);
        let by_day = lines(&tracker, &plain);
        for (point, day) in by_day.series[0].points.iter().zip(days) {
            assert_eq!(point.period.to_string(), day["day"].as_str().unwrap());
            assert_eq!(
                point.people,
                day["dau"].as_u64(),
                "{name}: {}",
                point.period
            );
        }
        for (rolling, field) in Rolling::ALL.into_iter().zip(["wau", "mau28", "mau30"]) {
            let asked = Trends {
                rolling: Some(rolling),
                ..plain.clone()
            };
            let lines = lines(&tracker, &asked);
            assert_eq!(lines.series[0].points.len(), days.len());
            for (point, day) in lines.series[0].points.iter().zip(days) {
                let what = format!("{name}: {field} {}", point.period);
                assert_eq!(point.people, day[field]["count"].as_u64(), "{what}");
                assert_eq!(point.state.as_str(), day[field]["state"], "{what}");
                if rolling != Rolling::FourWeeks {
                    assert_eq!(point.stickiness, None, "{what}");
                    continue;
                }
                let sticky: Option<f64> =
                    serde_json::from_value(day["mean_dau_28_over_mau_28"].clone()).unwrap();
                assert_eq!(point.stickiness.is_some(), sticky.is_some(), "{what}");
                let apart = point
                    .stickiness
                    .zip(sticky)
                    .map_or(0.0, |(a, b)| (a - b).abs());
                assert!(apart < 1e-9, "{what}");
            }
            let last = lines.series[0].points.last().unwrap();
            let people = users(
                &tracker,
                &lines.members(&lines.series[0], last.period).unwrap(),
            );
            assert_eq!(Some(people.len() as u64), last.people, "{name}");
        }
    });
}

/// 28 × stickiness is the mean number of days of the frequency report.
#[test]
fn stickiness_agrees_with_the_frequency_of_the_same_days() {
    let tracker = live_toy(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let asked = Trends {
        rolling: Some(Rolling::FourWeeks),
        ..question(&["active"], Grain::Day, "2026-11-01", 19)
    };
    for point in &lines(&tracker, &asked).series[0].points {
        let frequency = Frequency {
            segment: "active".parse().unwrap(),
            window: "28d".parse().unwrap(),
            to: Some(point.period.start().date_naive()),
            weeks: 0,
            week: WeekStart::Monday,
            zone: Zone::UTC,
        };
        let habits = tracker.run(&frequency, &Run::at(toy_now())).unwrap().answer;
        let mean = habits.curve.mean().unwrap();
        assert!((point.stickiness.unwrap() * 28.0 - mean).abs() < 1e-9);
        assert_eq!(point.people, habits.curve.people(1));
    }
}

#[test]
fn files_have_a_row_for_each_segment_and_period() {
    let tracker = live_toy(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let asked = question(&["active", "plan:pro"], Grain::WEEK, "2026-09-07", 3);
    let answer = lines(&tracker, &asked);
    let tidy = cohortist::render::csv::frame(&answer.tidy());
    let rows: Vec<&str> = tidy.lines().collect();
    assert_eq!(rows[0], "period_start,period_end,state,series,people");
    assert_eq!(rows[1], "2026-09-07,2026-09-14,not_recorded,active,");
    assert_eq!(rows[2], "2026-09-14,2026-09-21,complete,active,8");
    assert_eq!(rows.len(), 7);
    // An event's own name is a column; no spreadsheet evaluates it.
    let asked = question(&["active", "\"=1+1\""], Grain::WEEK, "2026-09-14", 1);
    let wide = cohortist::render::csv::frame(&lines(&tracker, &asked).wide());
    assert!(wide.starts_with("week,active,"), "{wide}");
    assert!(!wide.contains(",=1+1"), "{wide}");
    // JSON has the stickiness.
    let asked = Trends {
        rolling: Some(Rolling::FourWeeks),
        ..question(&["active"], Grain::Day, "2026-11-19", 2)
    };
    let json: Value = serde_json::from_str(&lines(&tracker, &asked).json()).unwrap();
    let sticky = &json["series"][0]["stickiness"];
    assert!(
        sticky[0].as_f64().is_some() && sticky[1].is_null(),
        "{json}"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let now = toy_now();
    let refused = |trends: &Trends| plan_at(trends, now).unwrap_err().field();
    let plain = question(&["a"], Grain::WEEK, "2026-11-01", 3);
    let rolling = Trends {
        rolling: Some(Rolling::Week),
        ..plain
    };
    assert_eq!(refused(&rolling), Some("rolling"));
    let several = Trends {
        breakdown: Some("plan:*".parse().unwrap()),
        ..question(&["a", "b"], Grain::Day, "2026-11-01", 3)
    };
    assert_eq!(refused(&several), Some("breakdown"));
    for segments in [
        &["pro@ever"][..],
        &["a", "a"],
        &[],
        &["a", "b", "c", "d", "e", "f", "g"],
    ] {
        let asked = question(segments, Grain::Day, "2026-11-01", 3);
        assert_eq!(refused(&asked), Some("event"), "{segments:?}");
    }
}

/// A rolling trend takes at most three unions for each day it reads.
#[test]
fn rolling_windows_take_few_unions() {
    let operations = |plan: &Plan| -> usize {
        let steps = |operands: usize| operands.saturating_sub(1);
        let nodes = plan.nodes().iter();
        nodes.map(|node| steps(node.operands().len())).sum()
    };
    for rolling in Rolling::ALL {
        let asked = Trends {
            rolling: Some(rolling),
            ..question(&["a | x@ever"], Grain::Day, "2026-08-01", 90)
        };
        let (plan, _) = plan_at(&asked, toy_now()).unwrap();
        let days = 90 + rolling.days() as usize - 1;
        // One more for the segment of each day.
        assert!(operations(&plan) <= 4 * days, "{}", operations(&plan));
    }
}

fn broken_down(by: &str, grain: Grain, from: &str, rows: u32) -> Trends {
    Trends {
        breakdown: Some(by.parse().unwrap()),
        ..question(&["active"], grain, from, rows)
    }
}

/// The people of each group in a week are those of the segments that are written out.
#[test]
fn a_breakdown_has_a_series_for_each_value_on_every_store() {
    each_store(|name, store| {
        let tracker = live_toy(store);
        for (by, rolling) in [
            ("plan:*", None),
            ("country:*@ever", None),
            ("plan:*", Some(Rolling::Week)),
        ] {
            let grain = rolling.map_or(Grain::WEEK, |_| Grain::Day);
            let asked = Trends {
                rolling,
                ..broken_down(by, grain, "2026-09-14", 10)
            };
            let answer = lines(&tracker, &asked);
            let groups: Vec<String> = answer.series.iter().map(|of| of.kind.name()).collect();
            assert!(groups.contains(&"(none)".to_owned()), "{groups:?}");
            for series in &answer.series {
                let text = series.segment.as_ref().unwrap().to_string();
                let alone = Trends {
                    rolling,
                    ..question(&[&text], grain, "2026-09-14", 10)
                };
                let alone = lines(&tracker, &alone);
                for (point, own) in series.points.iter().zip(&alone.series[0].points) {
                    let what = format!("{name}: {text} in {}", point.period);
                    assert_eq!(point.people.unwrap_or(0), own.people.unwrap_or(0), "{what}");
                    let set = answer.members(series, point.period).unwrap();
                    let people = users(&tracker, &set).len() as u64;
                    assert_eq!(point.people.unwrap_or(0), people, "{what}");
                }
            }
        }
    });
}

#[test]
fn files_of_a_breakdown_name_its_groups() {
    let tracker = live_toy(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let asked = broken_down("plan:*", Grain::WEEK, "2026-09-21", 2);
    let answer = lines(&tracker, &asked);
    let groups: Vec<String> = answer.series.iter().map(|of| of.kind.name()).collect();
    let tidy = cohortist::render::csv::frame(&answer.tidy());
    let mut named: Vec<&str> = tidy
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(3).unwrap())
        .collect();
    named.dedup();
    assert_eq!(named, groups);
    let wide = cohortist::render::csv::frame(&answer.wide());
    let head = wide.lines().next().unwrap();
    assert_eq!(head, format!("week,{}", groups.join(",")));
    let json: Value = serde_json::from_str(&answer.json()).unwrap();
    assert_eq!(json["breakdown"]["values"], "plan:*");
    assert_eq!(json["breakdown"]["grouped"], "known_by_period");
    assert_eq!(json["series"][0]["series"], *groups[0]);
    let people = |field: &str| json["breakdown"][field].as_u64().unwrap();
    assert!(people("people") > 0 && people("people") <= people("people_of_groups"));
    let chart = cohortist::render::charts::file(answer.chart().unwrap());
    assert_eq!(chart.matches(" pale\"").count(), groups.len());
}

/// A long union in each of 28 days is too long for the text of a set: its number has no link.
#[test]
fn groups_whose_people_cannot_be_listed_have_no_text() {
    let tracker = Tracker::new(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let now = toy_now();
    let mut batch = tracker.batch();
    for value in 0..40_u32 {
        let name = EventName::new(&format!("v:{value}")).unwrap();
        for day in 0..90 {
            batch
                .mark(&name, value, now - TimeDelta::days(day))
                .unwrap();
        }
        batch
            .mark(
                &EventName::new("active").unwrap(),
                value,
                parse_moment("2026-11-11").unwrap(),
            )
            .unwrap();
    }
    batch.commit().unwrap();
    let asked = Trends {
        rolling: Some(Rolling::FourWeeks),
        ..broken_down("v:*", Grain::Day, "2026-11-10", 3)
    };
    let answer = lines(&tracker, &asked);
    let other = answer.series.last().unwrap();
    assert_eq!(other.kind.name(), "(other)");
    assert_eq!(answer.members(other, other.points[0].period), None);
    for series in &answer.series[..8] {
        assert!(answer.members(series, series.points[0].period).is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_breakdowns_agree_with_brute_force(
        marks in prop::collection::vec((0..20_u32, 0..60_i64), 1..100),
        values in prop::collection::vec((0..12_u32, 0..20_u32, 0..60_i64), 1..60),
        is_today in any::<bool>(),
        grain in prop::sample::select(vec![Grain::Day, Grain::WEEK, Grain::Month]),
        rolling in prop::option::of(prop::sample::select(Rolling::ALL.to_vec())),
    ) {
        let grain = if rolling.is_some() { Grain::Day } else { grain };
        agree_by_value(&marks, &values, is_today, grain, rolling);
    }
}

/// Whether a user is in a group in a period.
type Rule<'a> = Box<dyn Fn(u32, Period) -> bool + 'a>;

fn agree_by_value(
    marks: &[(u32, i64)],
    values: &[(u32, u32, i64)],
    is_today: bool,
    grain: Grain,
    rolling: Option<Rolling>,
) {
    type Users = BTreeSet<u32>;
    let tracker = Tracker::new(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let start = parse_moment("2026-11-20").unwrap();
    let now = start + TimeDelta::days(65);
    let mut active: BTreeMap<Period, Users> = BTreeMap::new();
    let mut batch = tracker.batch();
    for (user, day) in marks {
        let at = start + TimeDelta::days(*day);
        batch
            .mark(&EventName::new("active").unwrap(), *user, at)
            .unwrap();
        let period = Period::containing(grain, at).unwrap();
        active.entry(period).or_default().insert(*user);
    }
    // Since when each value is known of each user.
    let mut known: BTreeMap<String, BTreeMap<u32, Period>> = BTreeMap::new();
    let first = Period::containing(grain, start - TimeDelta::days(90)).unwrap();
    for (value, user, day) in values {
        let name = EventName::new(&format!("v:{value:02}")).unwrap();
        let at = start + TimeDelta::days(*day);
        let since = match is_today {
            true => {
                batch.mark_ever(&name, *user);
                first
            }
            false => {
                batch.mark(&name, *user, at).unwrap();
                Period::containing(grain, at).unwrap()
            }
        };
        let users = known.entry(name.to_string()).or_default();
        let earlier = users.entry(*user).or_insert(since);
        *earlier = (*earlier).min(since);
    }
    batch.commit().unwrap();
    heartbeat(&tracker, now);
    let asked = Trends {
        segments: vec!["active".parse().unwrap()],
        breakdown: Some("v:*".parse().unwrap()),
        range: Range {
            grain,
            from: Some(start.date_naive()),
            rows: Some(70),
            zone: Zone::UTC,
        },
        rolling,
    };
    let answer = tracker.run(&asked, &Run::at(now)).unwrap().answer;
    let in_group = |is_in: &dyn Fn(u32, Period) -> bool, period: Period| -> Users {
        let users = active.get(&period).cloned().unwrap_or_default();
        users
            .into_iter()
            .filter(|user| is_in(*user, period))
            .collect()
    };
    let has = |value: &str, user: u32, period: Period| {
        let since = known.get(value).and_then(|users| users.get(&user));
        since.is_some_and(|since| *since <= period)
    };
    let everyone = |is_in: &dyn Fn(u32, Period) -> bool| -> Users {
        active
            .keys()
            .flat_map(|period| in_group(is_in, *period))
            .collect()
    };
    let mut ranked: Vec<(usize, &str)> = known
        .keys()
        .map(|name| (everyone(&|user, at| has(name, user, at)).len(), &**name))
        .filter(|(people, _)| *people > 0)
        .collect();
    ranked.sort_by_key(|(people, name)| (std::cmp::Reverse(*people), *name));
    let names: Vec<&str> = ranked.iter().map(|(_, name)| *name).collect();
    let (shown, others) = names.split_at(names.len().min(8));
    let is_none = |user: u32, at: Period| !names.iter().any(|name| has(name, user, at));
    let is_other = |user: u32, at: Period| others.iter().any(|name| has(name, user, at));
    let mut groups: Vec<(&str, Rule<'_>)> = Vec::new();
    for name in shown {
        groups.push((*name, Box::new(|user, at| has(name, user, at))));
    }
    if shown.is_empty() || !everyone(&is_none).is_empty() {
        groups.push(("(none)", Box::new(is_none)));
    }
    if !others.is_empty() {
        groups.push(("(other)", Box::new(is_other)));
    }
    let found: Vec<String> = answer.series.iter().map(|of| of.kind.name()).collect();
    let wanted: Vec<&str> = groups.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, wanted);
    let breakdown = answer.breakdown.as_ref().unwrap();
    let sizes = groups.iter().map(|(_, is_in)| everyone(is_in).len() as u64);
    assert_eq!(breakdown.people_of_groups, sizes.sum::<u64>());
    assert_eq!(breakdown.people, everyone(&|_, _| true).len() as u64);
    assert_eq!(breakdown.empty_values, known.len() - names.len());
    let length = rolling.map_or(1, |rolling| i64::from(rolling.days()));
    for (series, (name, is_in)) in answer.series.iter().zip(&groups) {
        for point in &series.points {
            let what = format!("{name} in {}", point.period);
            let window = (0..length).map(|by| point.period.shift(-by).unwrap());
            let people: Users = window.flat_map(|period| in_group(is_in, period)).collect();
            // Before the first mark nothing is recorded.
            let begins = active.keys().next().unwrap();
            let expected = (point.period >= *begins).then_some(people.len() as u64);
            assert_eq!(point.people, expected, "{what}");
            if let Some(set) = answer.members(series, point.period) {
                let found: Users = users(&tracker, &set).into_iter().collect();
                assert_eq!(found, people, "{what}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_marks_agree_with_brute_force(
        marks in prop::collection::vec((any::<bool>(), 0..20_u32, 0..80_i64), 1..200),
        grain in prop::sample::select(vec![Grain::Day, Grain::WEEK, Grain::Month]),
        rolling in prop::option::of(prop::sample::select(Rolling::ALL.to_vec())),
        // The year 2026 has 53 ISO weeks; 2028 is a leap year.
        start in prop::sample::select(vec!["2026-11-20", "2028-01-20"]),
        is_live in any::<bool>(),
    ) {
        let grain = if rolling.is_some() { Grain::Day } else { grain };
        agree(&marks, grain, rolling, start, is_live);
    }
}

fn agree(
    marks: &[(bool, u32, i64)],
    grain: Grain,
    rolling: Option<Rolling>,
    start: &str,
    is_live: bool,
) {
    let tracker = Tracker::new(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let start = parse_moment(start).unwrap();
    let now = start + TimeDelta::days(85);
    let mut marked: BTreeMap<(bool, Period), BTreeSet<u32>> = BTreeMap::new();
    let mut batch = tracker.batch();
    for (is_a, user, day) in marks {
        let at = start + TimeDelta::days(*day);
        let name = EventName::new(if *is_a { "a" } else { "b" }).unwrap();
        batch.mark(&name, *user, at).unwrap();
        let period = Period::containing(grain, at).unwrap();
        marked.entry((*is_a, period)).or_default().insert(*user);
    }
    batch.commit().unwrap();
    if is_live {
        heartbeat(&tracker, now);
    }
    let from = (start - TimeDelta::days(10)).date_naive();
    let asked = Trends {
        segments: ["a", "a | b", "a & b"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        range: Range {
            grain,
            from: Some(from),
            rows: Some(110),
            zone: Zone::UTC,
        },
        breakdown: None,
        rolling,
    };
    let lines = tracker.run(&asked, &Run::at(now)).unwrap().answer;
    let coverage = tracker.coverage(now, true).unwrap();
    let event = |is_a: bool, period| marked.get(&(is_a, period)).cloned().unwrap_or_default();
    let length = rolling.map_or(1, |rolling| i64::from(rolling.days()));
    for (at, series) in lines.series.iter().enumerate() {
        let set = |period| match at {
            0 => event(true, period),
            1 => &event(true, period) | &event(false, period),
            _ => &event(true, period) & &event(false, period),
        };
        let first = |is_a| {
            let periods = marked.keys().filter(|(of, _)| *of == is_a);
            periods.map(|(_, period)| *period).min()
        };
        let begins = match at {
            0 => first(true),
            1 => first(true).into_iter().chain(first(false)).min(),
            _ => first(true).zip(first(false)).map(|(a, b)| a.max(b)),
        };
        for point in &series.points {
            let what = format!("{} in {}", series.kind.name(), point.period);
            let window: Vec<Period> = (0..length)
                .map(|by| point.period.shift(-by).unwrap())
                .collect();
            let is_recorded = |period: &&Period| {
                begins.is_some_and(|begins| begins <= **period) && coverage.is_recorded(**period)
            };
            let recorded = window.iter().filter(is_recorded).count();
            let state = match () {
                () if recorded == 0 => State::NotRecorded,
                () if recorded < window.len() => State::PartlyRecorded,
                () if point.period >= coverage.last(grain).unwrap() => State::InProgress,
                () => State::Complete,
            };
            assert_eq!(point.state, state, "{what}");
            let people: BTreeSet<u32> = window.iter().flat_map(|period| set(*period)).collect();
            let expected = (state != State::NotRecorded).then_some(people.len() as u64);
            assert_eq!(point.people, expected, "{what}");
            if let Some(stickiness) = point.stickiness {
                let total: usize = window.iter().map(|period| set(*period).len()).sum();
                let sticky = total as f64 / (28 * people.len()) as f64;
                assert!((stickiness - sticky).abs() < 1e-9, "{what}");
            }
        }
        let last = series.points.last().unwrap().period;
        let people: BTreeSet<u32> = (0..length)
            .flat_map(|by| set(last.shift(-by).unwrap()))
            .collect();
        let found: BTreeSet<u32> = users(&tracker, &lines.members(series, last).unwrap())
            .into_iter()
            .collect();
        assert_eq!(found, people, "{}", series.kind.name());
    }
}
