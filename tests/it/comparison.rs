//! Retention by groups: expected values on every store, and random marks beside a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::clock::Clock;
use cohortist::reports::comparison::{
    Compared, Comparison, Difference, GroupKind, Grouping, Method, NoTest, ShownGroups, Verdict,
};
use cohortist::reports::coverage::{Coverage, State};
use cohortist::reports::retention::{self, Cell, Column, Measure, Parts, Query, Show};
use cohortist::reports::{Exports, Params};
use cohortist::server::Dashboard;
use cohortist::sets::{EventName, Key, When};
use cohortist::stats::{TwoByTwo, chi_squared, fisher, holm, mantel_haenszel, newcombe};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Options, Store};

use cohortist::{Extent, Run, Tracker};
use proptest::prelude::*;
use serde_json::Value;

use crate::http::read;
use crate::support::features::{feature, heartbeat, live_toy, mark_all, toy_now};
use crate::support::stores::each_store;
use crate::support::web::serve_dashboard;

fn parts(given: &[(&str, &str)]) -> Result<Parts, Vec<(&'static str, Option<usize>)>> {
    let params = Params::read(retention::FIELDS, given.iter().copied());
    Parts::read(&params).map_err(|problems| {
        let problems = problems.iter();
        problems
            .map(|problem| (problem.field, problem.index))
            .collect()
    })
}

fn asked(given: &[(&str, &str)]) -> Comparison {
    let parts = parts(given).unwrap();
    Comparison {
        query: parts.query(),
        grouping: parts.grouping.unwrap(),
    }
}

fn compared(tracker: &Tracker, comparison: &Comparison, now: DateTime<Utc>) -> Compared {
    tracker.run(comparison, &Run::at(now)).unwrap().answer
}

fn event(name: &str) -> EventName {
    EventName::new(name).unwrap()
}

fn close(a: f64, b: &Value, what: &str) {
    let b = b.as_f64().unwrap();
    assert!((a - b).abs() < 1e-6, "{what}: {a} {b}");
}

/// Marks people of two groups as `comparison.json` counts them: by week, each person in one cohort.
fn mark_counts(tracker: &Tracker, expected: &Value) -> DateTime<Utc> {
    let monday = parse_moment("2026-09-07T12:00:00Z").unwrap();
    let mut batch = tracker.batch();
    let mut next = 1;
    for (group, value) in [("a", "plan:pro"), ("b", "plan:free")] {
        let sizes: Vec<u32> = serde_json::from_value(expected[group]["size"].clone()).unwrap();
        for (week, size) in sizes.into_iter().enumerate() {
            let at = |k: usize| monday + TimeDelta::weeks(i64::try_from(week + k).unwrap());
            for user in next..next + size {
                batch.mark(&event("signup"), user, at(0)).unwrap();
                batch.mark_ever(&event(value), user);
                for k in 1..5 {
                    let back = expected[group][k.to_string()][week].as_u64().unwrap_or(0);
                    if u64::from(user - next) < back {
                        batch.mark(&event("active"), user, at(k)).unwrap();
                    }
                }
            }
            next += size;
        }
    }
    batch.commit().unwrap();
    let now = monday + TimeDelta::weeks(7);
    heartbeat(tracker, now);
    now
}

#[test]
fn differences_agree_with_the_reference_on_every_store() {
    let expected = feature("comparison");
    let sides = [
        ("cohort", "signup"),
        ("returning", "active"),
        ("by", "week"),
        ("from", "2026-09-07"),
        ("rows", "6"),
        ("cols", "5"),
    ];
    let by_segment = [("compare", "plan:pro@ever"), ("compare", "plan:free@ever")];
    let by_value = [("breakdown", "plan:*")];
    each_store(|name, store| {
        let tracker = Tracker::new(store);
        let now = mark_counts(&tracker, &expected);
        for groups in [&by_segment[..], &by_value[..]] {
            let comparison = asked(&[&sides, groups].concat());
            let found = compared(&tracker, &comparison, now);
            let wanted = expected["columns"].as_array().unwrap();
            let differences: Vec<&Difference> = found.differences_of(1).collect();
            assert_eq!(differences.len(), wanted.len(), "{name}");
            for (found, wanted) in differences.iter().zip(wanted) {
                assert_eq!(found.column, wanted["column"], "{name}");
                assert_eq!(found.cohorts, wanted["cohorts"], "{name}");
                let TwoByTwo {
                    part_a,
                    whole_a,
                    part_b,
                    whole_b,
                } = found.pooled;
                assert_eq!(
                    [part_a, whole_a],
                    [0, 1].map(|at| wanted["a"][at].as_u64().unwrap())
                );
                assert_eq!(
                    [part_b, whole_b],
                    [0, 1].map(|at| wanted["b"][at].as_u64().unwrap())
                );
                let estimate = found.estimate.unwrap();
                close(estimate.difference, &wanted["difference"], name);
                close(estimate.interval.0, &wanted["newcombe_95"][0], name);
                close(estimate.interval.1, &wanted["newcombe_95"][1], name);
                let test = found.test.unwrap();
                assert_eq!(test.method, Method::MantelHaenszel);
                close(test.p, &wanted["stratified"]["p"], name);
                assert_eq!(found.reason, None);
            }
            let corrected = holm(
                &differences
                    .iter()
                    .map(|of| of.test.unwrap().p)
                    .collect::<Vec<_>>(),
            );
            let verdicts = differences.iter().zip(corrected).map(|(of, corrected)| {
                assert!((of.test.unwrap().p_holm - corrected).abs() < 1e-12);
                of.verdict().unwrap()
            });
            let [unlikely, could] = [Verdict::Unlikely, Verdict::Could];
            assert_eq!(
                verdicts.collect::<Vec<_>>(),
                [unlikely, could, could, could]
            );
            if let Grouping::Breakdown(_) = comparison.grouping {
                let names: Vec<String> =
                    found.groups.iter().map(|group| group.kind.name()).collect();
                // Everybody has a plan, so nobody is left over.
                assert_eq!(names, ["plan:pro", "plan:free"]);
            }
        }
    });
}

#[test]
fn strata_and_small_tables_agree_with_the_reference() {
    let expected = feature("comparison");
    let table = |counts: [u64; 4]| TwoByTwo {
        part_a: counts[0],
        whole_a: counts[1],
        part_b: counts[2],
        whole_b: counts[3],
    };
    let mix = &expected["cohort_mix"];
    let strata: Vec<[u64; 4]> = serde_json::from_value(mix["strata"].clone()).unwrap();
    let strata: Vec<TwoByTwo> = strata.into_iter().map(table).collect();
    let found = Difference::new((0, 1), 1, &strata, true, None);
    close(
        found.estimate.unwrap().difference,
        &mix["pooled_difference"],
        "pooled",
    );
    close(found.test.unwrap().p, &mix["stratified"]["p"], "stratified");
    let small = &expected["small"];
    let [part_a, whole_a] = [0, 1].map(|at| small["a"][at].as_u64().unwrap());
    let [part_b, whole_b] = [0, 1].map(|at| small["b"][at].as_u64().unwrap());
    let found = Difference::new(
        (0, 1),
        1,
        &[table([part_a, whole_a, part_b, whole_b])],
        true,
        None,
    );
    let test = found.test.unwrap();
    assert_eq!(test.method, Method::Fisher);
    close(test.p, &small["fisher_two_sided_p"], "fisher");
    close(
        found.estimate.unwrap().interval.0,
        &small["newcombe_95"][0],
        "low",
    );
    close(
        found.estimate.unwrap().interval.1,
        &small["newcombe_95"][1],
        "high",
    );
    assert_eq!(
        (found.verdict(), found.reason),
        (None, Some(NoTest::FewPeople))
    );
}

#[test]
fn groups_of_the_toy_on_every_store() {
    let expected = feature("extras");
    let sizes = &expected["breakdown_sizes"];
    each_store(|name, store| {
        let (tracker, now) = (live_toy(store), toy_now());
        let question = [
            ("cohort", "first(active)"),
            ("returning", "active"),
            ("by", "week"),
            ("from", "2026-09-21"),
            ("rows", "6"),
        ];
        let countries = asked(&[&question[..], &[("breakdown", "country:*")]].concat());
        let found = compared(&tracker, &countries, now);
        let people: BTreeMap<String, u64> = found
            .groups
            .iter()
            .map(|group| (group.kind.name(), group.table.people))
            .collect();
        for (group, wanted) in [
            ("country:US", "country:US"),
            ("country:DE", "country:DE"),
            ("(none)", "none of them"),
        ] {
            assert_eq!(people[group], sizes[wanted], "{name}: {group}");
        }
        assert_eq!(found.people, sizes["all"], "{name}");
        // The same people, grouped by when the property was known.
        let rows = expected["immortal_time"]["rows"].as_array().unwrap();
        for (values, row) in [("plan:*@ever", &rows[0]), ("plan:*", &rows[2])] {
            let plans = asked(&[&question[..], &[("breakdown", values)]].concat());
            let found = compared(&tracker, &plans, now);
            let weeks: Vec<Period> = ["2026-W39", "2026-W40", "2026-W41"]
                .map(|week| week.parse().unwrap())
                .into();
            let counts = |none: bool| {
                let groups = found
                    .groups
                    .iter()
                    .filter(|group| (group.kind == GroupKind::None) == none);
                let rows = groups
                    .flat_map(|group| &group.table.rows)
                    .filter(|row| weeks.contains(&row.period));
                rows.filter_map(|row| row.cells[4].number())
                    .fold([0, 0], |sum, number| {
                        [sum[0] + number.retained, sum[1] + number.size]
                    })
            };
            let wanted = |side: &str| [0, 1].map(|at| row[side][at].as_u64().unwrap());
            assert_eq!(
                [counts(false), counts(true)],
                [wanted("with"), wanted("without")],
                "{name}: {values}"
            );
        }
    });
}

#[test]
fn groups_of_other_products_tests() {
    let file = feature("ref_posthog_retention");
    let cases = file["cases"].as_array().unwrap().iter();
    let mut checked = 0;
    for case in cases {
        let named = case["name"].as_str().unwrap();
        let users: Vec<&str> = match named {
            _ if named.ends_with("country:USA = person1, person2") => vec!["person1", "person2"],
            _ if named.ends_with("country:US") => vec!["person1", "person3"],
            _ if named.ends_with("country:Germany") => vec!["person4"],
            _ => continue,
        };
        each_store(|name, store| {
            let tracker = Tracker::new(store);
            let mut batch = tracker.batch();
            for user in &users {
                let id = u32::try_from(case["users"][user].as_u64().unwrap()).unwrap();
                batch.mark_ever(&event("country:X"), id);
            }
            batch.commit().unwrap();
            mark_all(&tracker, &case["marks"]);
            let query = &case["query"];
            let brackets = query["brackets"].as_array().map(|brackets| {
                let texts = brackets
                    .iter()
                    .map(|ends| format!("{}-{}", ends[0], ends[1]));
                texts.collect::<Vec<_>>().join(",")
            });
            let from = query["first_cohort"]
                .as_str()
                .or(query["cohort_period"].as_str())
                .unwrap();
            let mut given = vec![
                ("cohort", "pageview"),
                ("returning", "pageview"),
                ("from", from),
                ("breakdown", "country:*"),
            ];
            let columns = if brackets.is_some() {
                ("rows", "1")
            } else {
                ("rows", "6")
            };
            given.push(columns);
            match &brackets {
                Some(brackets) => given.push(("brackets", brackets)),
                None => given.push(("cols", "6")),
            }
            let first: Period = from.parse().unwrap();
            let now = first
                .shift(if brackets.is_some() { 12 } else { 5 })
                .unwrap()
                .start()
                + TimeDelta::hours(9);
            heartbeat(&tracker, now);
            let found = compared(&tracker, &asked(&given), now);
            let group = &found.groups[0];
            assert_eq!(group.kind.name(), "country:X");
            let ours = &case["ours"];
            let ours: Vec<&Value> = ours
                .as_array()
                .map_or_else(|| vec![ours], |rows| rows.iter().collect());
            for (row, wanted) in group.table.rows.iter().zip(ours) {
                assert_eq!(row.people(), wanted["size"], "{name}, {named}");
                let numbers: Vec<u64> = row.numbers().map(|number| number.retained).collect();
                let cells: Vec<u64> = serde_json::from_value(wanted["cells"].clone()).unwrap();
                if row.people() > 0 {
                    assert_eq!(numbers, cells, "{name}, {named}: {}", row.period);
                }
            }
        });
        checked += 1;
    }
    assert_eq!(checked, 3);
}

#[test]
fn groupings_that_do_not_go_together_are_refused_at_their_field() {
    let sides = [("cohort", "a"), ("returning", "b")];
    let refused =
        |given: &[(&'static str, &'static str)]| parts(&[&sides[..], given].concat()).unwrap_err();
    assert_eq!(
        refused(&[("breakdown", "x:*"), ("split", "2026-11-12")]),
        [("split", None)]
    );
    assert_eq!(
        refused(&[("breakdown", "x:*"), ("compare", "x"), ("compare", "y")]),
        [("compare", None)]
    );
    assert_eq!(refused(&[("compare", "x")]), [("compare", None)]);
    assert_eq!(
        refused(&[("compare", "x"), ("compare", "x")]),
        [("compare", Some(1))]
    );
    assert_eq!(
        refused(&[("compare", "x"), ("compare", "y &")]),
        [("compare", Some(1))]
    );
    let seven = ["1", "2", "3", "4", "5", "6", "7"].map(|name| ("compare", name));
    assert_eq!(refused(&seven), [("compare", None)]);
    assert_eq!(
        refused(&[("breakdown", "country:DE")]),
        [("breakdown", None)]
    );
    assert_eq!(refused(&[("split", "yesterday")]), [("split", None)]);
}

#[test]
fn breakdowns_have_limits_and_odd_names() {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
    let tracker = Tracker::new(store);
    let at = parse_moment("2026-11-02T10:00:00Z").unwrap();
    let now = at + TimeDelta::days(9);
    let mut batch = tracker.batch();
    for user in 0..1_001_u32 {
        batch.mark(&event("a"), user, at).unwrap();
        batch
            .mark(&event("b"), user, at + TimeDelta::days(1))
            .unwrap();
        batch.mark_ever(&event(&format!("id:{user}")), user);
        if user < 1_000 {
            batch
                .mark(
                    &event(&format!("dated:{user}")),
                    user,
                    at - TimeDelta::days(3),
                )
                .unwrap();
        }
        let odd =
            ["my plan:\"x\" & (y)", "my plan:*", "my plan:"][usize::try_from(user % 3).unwrap()];
        batch.mark_ever(&event(odd), user);
    }
    batch.commit().unwrap();
    heartbeat(&tracker, now);
    let ask = |values: &str| {
        let comparison = asked(&[("cohort", "a"), ("returning", "b"), ("breakdown", values)]);
        tracker
            .run(&comparison, &Run::at(now))
            .map(|answered| answered.answer)
    };
    let message = |values: &str| ask(values).unwrap_err().to_string();
    assert!(
        message("id:*").contains("1001 events"),
        "{}",
        message("id:*")
    );
    assert!(message("contry:*").contains("no event begins with `contry:`"));
    assert!(message("a*@ever").contains("undated"));
    let found = ask("dated:*").unwrap();
    assert_eq!(found.groups.len(), 10);
    assert_eq!(found.groups[9].kind, GroupKind::Other(992));
    assert_eq!(
        (found.groups[9].table.people, found.groups[8].table.people),
        (992, 1)
    );
    assert_eq!(found.people, 1_001);
    let odd = ask("my plan:*").unwrap();
    let names: Vec<String> = odd.groups.iter().map(|group| group.kind.name()).collect();
    assert_eq!(names, ["my plan:\"x\" & (y)", "my plan:*", "my plan:"]);
    for group in &odd.groups {
        let cohort = group.cohort.as_ref().unwrap();
        assert_eq!(cohort.to_string().parse().as_ref(), Ok(cohort));
        let plain = Query::new(cohort.clone(), "b".parse().unwrap(), Grain::Day);
        assert_eq!(
            tracker.retention(&plain, now).unwrap().people,
            group.table.people
        );
    }
}

#[test]
fn overlap_and_repeats_have_numbers_and_no_test() {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
    let tracker = Tracker::new(store);
    let at = parse_moment("2026-11-02T10:00:00Z").unwrap();
    let now = at + TimeDelta::days(6);
    let mut batch = tracker.batch();
    for user in 0..400_u32 {
        batch.mark(&event("a"), user, at).unwrap();
        batch
            .mark(
                &event("b"),
                user,
                at + TimeDelta::days(1 + i64::from(user % 2)),
            )
            .unwrap();
        batch.mark_ever(&event(if user < 200 { "x" } else { "y" }), user);
        batch.mark_ever(&event("z"), user - user % 4);
        if user % 40 == 0 {
            batch
                .mark(&event("again"), user, at + TimeDelta::days(1))
                .unwrap();
        }
    }
    batch.commit().unwrap();
    heartbeat(&tracker, now);
    let reasons = |cohort: &str, groups: [&str; 2]| {
        let groups = groups.map(|group| ("compare", group));
        let given = [
            &[("cohort", cohort), ("returning", "b"), ("cols", "3")],
            &groups[..],
        ]
        .concat();
        let found = compared(&tracker, &asked(&given), now);
        let reasons = found.differences.iter().map(|of| {
            assert!(of.estimate.is_some());
            assert_eq!(
                of.test.is_none(),
                matches!(of.reason, Some(NoTest::Overlap | NoTest::Repeats))
            );
            of.reason
        });
        (reasons.collect::<Vec<_>>(), found.is_overlapping())
    };
    assert_eq!(
        reasons("a", ["x@ever", "y@ever"]),
        (vec![None, None], false)
    );
    assert_eq!(
        reasons("a", ["x@ever", "z@ever"]),
        (vec![Some(NoTest::Overlap); 2], true)
    );
    assert_eq!(
        reasons("a | again", ["x@ever", "y@ever"]),
        (vec![Some(NoTest::Repeats); 2], false)
    );
}

#[test]
fn a_date_divides_cohorts_and_one_that_it_cuts_is_on_neither_side() {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
    let tracker = Tracker::new(store);
    let monday = parse_moment("2026-10-05T10:00:00Z").unwrap();
    let now = monday + TimeDelta::weeks(7);
    let mut batch = tracker.batch();
    for user in 0..700_u32 {
        let week = i64::from(user % 7);
        batch
            .mark(&event("a"), user, monday + TimeDelta::weeks(week))
            .unwrap();
        if user % if week < 3 { 5 } else { 2 } == 0 {
            batch
                .mark(&event("b"), user, monday + TimeDelta::weeks(week + 1))
                .unwrap();
        }
    }
    batch.commit().unwrap();
    heartbeat(&tracker, now);
    let ask = |date: &str| {
        let given = [
            ("cohort", "a"),
            ("returning", "b"),
            ("by", "week"),
            ("from", "2026-10-05"),
            ("rows", "7"),
            ("cols", "2"),
            ("split", date),
        ];
        compared(&tracker, &asked(&given), now)
    };
    let starts = ask("2026-10-26");
    let rows = |found: &Compared| [0, 1].map(|at| found.groups[at].table.rows.len());
    assert_eq!((rows(&starts), starts.left_out), ([3, 4], None));
    let within = ask("2026-10-29");
    assert_eq!(
        (rows(&within), within.left_out),
        ([3, 3], "2026-W44".parse().ok())
    );
    let [difference] = &starts.differences[..] else {
        panic!()
    };
    let table = difference.pooled;
    // The last cohort's next week is in progress.
    assert_eq!((table.whole_a, table.whole_b), (300, 300));
    assert!(table.part_a > table.part_b, "after minus before");
    let test = difference.test.unwrap();
    assert_eq!(test.method, Method::ChiSquared);
    assert_eq!(test.p, chi_squared(&table).unwrap());
    assert_eq!(difference.verdict(), Some(Verdict::Unlikely));
    let outside = ask("2027-01-01");
    assert_eq!(rows(&outside), [7, 0]);
    assert_eq!(outside.differences[0].reason, Some(NoTest::NothingComplete));
    assert_eq!(rows(&ask("2020-01-01")), [0, 7]);
    let tidy = ShownGroups {
        goal: None,
        compared: within,
        show: Show::Percent,
    }
    .tidy();
    let groups: BTreeSet<String> = tidy
        .rows
        .iter()
        .map(|row| format!("{:?}", row.last().unwrap()))
        .collect();
    assert_eq!(
        groups.into_iter().collect::<Vec<_>>(),
        ["Text(\"after\")", "Text(\"before\")"]
    );
}

#[test]
fn files_name_the_group_of_every_row() {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
    let tracker = Tracker::new(store);
    let now = mark_counts(&tracker, &feature("comparison"));
    let comparison = asked(&[
        ("cohort", "signup"),
        ("returning", "active"),
        ("by", "week"),
        ("from", "2026-09-07"),
        ("rows", "6"),
        ("cols", "5"),
        ("breakdown", "plan:*"),
    ]);
    let shown = ShownGroups {
        goal: None,
        compared: compared(&tracker, &comparison, now),
        show: Show::Percent,
    };
    let tidy = cohortist::render::csv::frame(&shown.tidy());
    assert!(tidy.lines().next().unwrap().ends_with("cohort_state,group"));
    assert!(tidy.lines().any(|line| line == "2026-09-07,2026-09-14,420,1,2026-09-14,2026-09-21,168,0.4,complete,complete,plan:pro"), "{tidy}");
    let wide = cohortist::render::csv::frame(&shown.wide());
    assert!(wide.starts_with("group,cohort,size,0,1,2,3,4\n"), "{wide}");
    let json: Value = serde_json::from_str(&shown.json()).unwrap();
    assert_eq!(json["breakdown"], "plan:*");
    assert_eq!(json["grouped"], "known_today");
    assert_eq!(json["groups"][1]["group"], "plan:free");
    let first = &json["comparisons"][0];
    assert_eq!(
        (&first["group"], &first["against"]),
        (&"plan:free".into(), &"plan:pro".into())
    );
    assert_eq!(first["a"]["size"], 2_505);
    assert_eq!(first["verdict"], "unlikely to be chance");
    assert_eq!(first["method"], "cochran_mantel_haenszel");
    assert_eq!(first["comparisons"], json["tests"]);
}

#[test]
fn the_page_shows_groups_and_links_to_their_people() {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
    let tracker = Tracker::new(store);
    let now = mark_counts(&tracker, &feature("comparison"));
    let dashboard = Dashboard::new(tracker.clone(), Clock::Fixed(now));
    let host = format!("http://{}", serve_dashboard(dashboard));
    let question = "cohort=signup&returning=active&by=week&from=2026-09-07&rows=6&cols=5";
    let page = |groups: &str| read(&format!("{host}/retention?{question}&{groups}"));
    let by_value = page("breakdown=plan%3A*&trend=1");
    assert_eq!(by_value.status, 200);
    for text in [
        "Grouped as known today",
        "pro over free in week 1",
        "+7.6\u{a0}pt",
        "unlikely to be chance",
        "class=\"sure\"",
        "name=\"breakdown\" value=\"plan:*\"",
        "group=plan%3Afree#table",
    ] {
        assert!(by_value.body.contains(text), "{text}");
    }
    // The cells of the group whose cohorts are shown lead to its people.
    let base = by_value.body.split("<base href=\"").nth(1).unwrap();
    let base = base.split('"').next().unwrap();
    let moved = read(&format!("{host}{base}0.1"));
    assert_eq!(moved.status, 302);
    let people = read(&format!("{host}{}", moved.header("location")));
    assert_eq!(people.status, 200);
    assert!(people.body.contains("168"), "{}", people.body);
    let other = page("breakdown=plan%3A*&group=plan%3Afree").body;
    assert!(other.contains("plan:free, by week of signup"));
    assert!(page("split=2026-10-01").body.contains("is on neither side"));
    assert!(
        page("compare=plan%3Apro%40ever&compare=signup")
            .body
            .contains("no test, because some people")
    );
    let wrong = page("compare=signup&split=2026-10-01");
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("exclude each other"));
    let unknown = page("breakdown=x%3A*");
    assert_eq!(unknown.status, 400);
    assert!(unknown.body.contains("wrong-breakdown"));
    // A page that is kept notices that another value has the most people now.
    let kept = page("breakdown=plan%3A*").body;
    assert!(kept.find("plan:pro\"").unwrap() < kept.find("plan:free\"").unwrap());
    let mut batch = tracker.batch();
    for user in 1..=2_000 {
        batch.mark_ever(&event("plan:free"), user);
    }
    batch.commit().unwrap();
    let after = page("breakdown=plan%3A*").body;
    assert!(after.find("plan:free\"").unwrap() < after.find("plan:pro\"").unwrap());
}

/// A mark of the model: the event, the user, and the day from the first one.
type Marks = Vec<(u8, u8, u8)>;

const EVENTS: [&str; 14] = [
    "a", "b", "x", "y", "v:0", "v:1", "v:2", "v:3", "v:4", "v:5", "v:6", "v:7", "v:8", "v:9",
];
const VALUES: std::ops::Range<u8> = 4..14;

struct Model {
    days: BTreeMap<(u8, NaiveDate), BTreeSet<u8>>,
    /// The users of the undated bitmap of each event.
    ever: BTreeMap<u8, BTreeSet<u8>>,
    coverage: Coverage,
}

impl Model {
    fn any_day(&self, of: u8, user: u8, fits: impl Fn(DateTime<Utc>) -> bool) -> bool {
        self.days.iter().any(|((event, date), users)| {
            *event == of
                && users.contains(&user)
                && fits(date.and_hms_opt(0, 0, 0).unwrap().and_utc())
        })
    }

    fn did(&self, of: u8, user: u8, period: Period) -> bool {
        self.any_day(of, user, |at| period.start() <= at && at < period.end())
    }

    fn is_known(&self, value: u8, user: u8, period: Period, dated: bool) -> bool {
        if dated {
            self.any_day(value, user, |at| at < period.end())
        } else {
            self.ever
                .get(&value)
                .is_some_and(|users| users.contains(&user))
        }
    }

    fn is_recorded(&self, period: Period) -> bool {
        !matches!(
            self.coverage.state_of(period),
            State::NotRecorded | State::Future
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Values { dated: bool },
    Segments,
    Split(i64),
}

#[derive(Debug, Clone, Copy)]
struct Case {
    grain: Grain,
    measure: Measure,
    brackets: Option<&'static str>,
    first: bool,
    by: By,
    /// How many days after the first mark it is now.
    now: i64,
    /// The first day whose bitmaps are deleted, counted from the first mark, and how many days are.
    deleted: Option<(i64, i64)>,
}

fn fields(case: &Case, start: DateTime<Utc>) -> Vec<(&'static str, String)> {
    let first = Period::containing(case.grain, start).unwrap();
    let from = first.shift(-1).unwrap().start().date_naive().to_string();
    let mut given = vec![
        (
            "cohort",
            if case.first { "first(a)" } else { "a" }.to_owned(),
        ),
        ("returning", "b".to_owned()),
        ("by", case.grain.as_str().to_owned()),
        ("rows", "12".to_owned()),
        ("measure", case.measure.as_str().to_owned()),
        ("from", from),
    ];
    match case.brackets {
        Some(brackets) => given.push(("brackets", brackets.to_owned())),
        None => given.push(("cols", "6".to_owned())),
    }
    match case.by {
        By::Values { .. } => given.push(("breakdown", "v:*".to_owned())),
        By::Segments => {
            given.extend(["x", "y & !x", "v:0@ever | x"].map(|text| ("compare", text.to_owned())))
        }
        By::Split(day) => given.push((
            "split",
            (start + TimeDelta::days(day)).date_naive().to_string(),
        )),
    }
    given
}

fn agree(marks: &Marks, case: Case, store: Arc<dyn Store>) {
    let tracker = Tracker::new(store).with_extent(Extent::default());
    let start = parse_moment("2026-11-20").unwrap();
    let now = start + TimeDelta::days(case.now) + TimeDelta::hours(9);
    let is_undated = case.by == By::Values { dated: false };
    let mut model = Model {
        days: BTreeMap::new(),
        ever: BTreeMap::new(),
        coverage: Coverage::whole(now).unwrap(),
    };
    let mut batch = tracker.batch();
    for (of, user, day) in marks {
        let at = start + TimeDelta::days(i64::from(*day));
        let name = event(EVENTS[usize::from(*of)]);
        let is_value = VALUES.contains(of);
        if is_value && (*of % 2 == 0 || is_undated) {
            batch.mark_ever(&name, u32::from(*user));
            model.ever.entry(*of).or_default().insert(*user);
        }
        if !(is_value && is_undated) {
            batch.mark(&name, u32::from(*user), at).unwrap();
            model
                .days
                .entry((*of, at.date_naive()))
                .or_default()
                .insert(*user);
        }
    }
    batch.commit().unwrap();
    // Days are deleted, and weeks and months stay.
    if let Some((from, count)) = case.deleted {
        let from = start + TimeDelta::days(from);
        let gone = from..from + TimeDelta::days(count);
        let is_gone = |key: &&Key| {
            matches!(key.when(), When::In(period)
                if period.grain() == Grain::Day && gone.contains(&period.start()))
        };
        let catalogue = tracker.catalogue().unwrap();
        for key in catalogue.keys().iter().filter(is_gone) {
            tracker.delete(key).unwrap();
        }
        if case.grain == Grain::Day {
            model.days.retain(|(_, date), _| {
                !gone.contains(&date.and_hms_opt(0, 0, 0).unwrap().and_utc())
            });
        }
    }
    model.coverage = tracker.coverage(now, true).unwrap();
    let has_values = marks.iter().any(|(of, ..)| VALUES.contains(of));
    if matches!(case.by, By::Values { .. }) && !has_values {
        return;
    }
    let given = fields(&case, start);
    let given: Vec<(&str, &str)> = given
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let comparison = asked(&given);
    let found = compared(&tracker, &comparison, now);
    let query = &comparison.query;
    let periods = query.cohorts(&model.coverage).unwrap();
    let in_cohort = |user: u8, period: Period| {
        let before = || model.any_day(0, user, |at| at < period.start());
        model.is_recorded(period) && model.did(0, user, period) && !(case.first && before())
    };
    let dated = case.by == By::Values { dated: true };
    let known = |value: u8, user: u8, period: Period| model.is_known(value, user, period, dated);
    // The people of each group in each period, by the definitions.
    let mut ranked: Vec<(usize, u8)> = VALUES
        .map(|value| {
            let is_in = |user: &u8| {
                periods
                    .iter()
                    .any(|period| in_cohort(*user, *period) && known(value, *user, *period))
            };
            ((0..30).filter(is_in).count(), value)
        })
        .filter(|(people, _)| *people > 0)
        .collect();
    ranked.sort_by_key(|(people, value)| (std::cmp::Reverse(*people), *value));
    let moment = |day: i64| {
        (start + TimeDelta::days(day))
            .date_naive()
            .and_hms_opt(0, 0, 0)
            .unwrap()
            .and_utc()
    };
    let is_in = |kind: &GroupKind, user: u8, period: Period| {
        in_cohort(user, period)
            && match (kind, case.by) {
                (GroupKind::Value(name), _) => {
                    let at = EVENTS
                        .iter()
                        .position(|event| *event == name.as_str())
                        .unwrap();
                    known(u8::try_from(at).unwrap(), user, period)
                }
                (GroupKind::None, _) => !VALUES.clone().any(|value| known(value, user, period)),
                (GroupKind::Other(_), _) => ranked[8..]
                    .iter()
                    .any(|(_, value)| known(*value, user, period)),
                (GroupKind::Segment(segment), _) => match segment.to_string().as_str() {
                    "x" => model.did(2, user, period),
                    "y & !x" => model.did(3, user, period) && !model.did(2, user, period),
                    _ => model.is_known(4, user, period, false) || model.did(2, user, period),
                },
                (GroupKind::Before, By::Split(day)) => period.end() <= moment(day),
                (GroupKind::After, By::Split(day)) => period.start() >= moment(day),
                other => panic!("{other:?}"),
            }
    };
    if let By::Values { .. } = case.by {
        let names: Vec<String> = found.groups.iter().map(|group| group.kind.name()).collect();
        let mut wanted: Vec<String> = ranked
            .iter()
            .take(8)
            .map(|(_, value)| EVENTS[usize::from(*value)].to_owned())
            .collect();
        let is_left = |user: &u8| {
            let cohorts = periods.iter().filter(|period| in_cohort(*user, **period));
            let mut cohorts = cohorts.copied();
            cohorts.any(|period| !VALUES.clone().any(|value| known(value, *user, period)))
        };
        let is_rest = wanted.is_empty() || (0..30).any(|user| is_left(&user));
        wanted.extend(is_rest.then(|| "(none)".to_owned()));
        wanted.extend((ranked.len() > 8).then(|| "(other)".to_owned()));
        assert_eq!(names, wanted);
    }
    let returned = |user: u8, cohort: Period, column: Column| {
        let counted = query.counted(column);
        let mut span = (counted.first..=counted.last)
            .map(|k| cohort.shift(k.into()).unwrap())
            .filter(|period| model.coverage.state_of(*period) != State::Future);
        let came = |period: Period| model.is_recorded(period) && model.did(1, user, period);
        match case.measure {
            Measure::Unbroken if column.last == 0 => true,
            Measure::Unbroken => span.all(came),
            _ => span.any(came),
        }
    };
    for group in &found.groups {
        let mut everybody = BTreeSet::new();
        for row in &group.table.rows {
            let users: Vec<u8> = (0..30)
                .filter(|user| is_in(&group.kind, *user, row.period))
                .collect();
            everybody.extend(users.iter().copied());
            assert_eq!(
                row.people(),
                users.len() as u64,
                "{} {}",
                group.kind.name(),
                row.period
            );
            for (column, cell) in query.columns().zip(&row.cells) {
                if let Cell::Number(number) = cell {
                    let back = users
                        .iter()
                        .filter(|user| returned(**user, row.period, column));
                    assert_eq!(
                        number.retained,
                        back.count() as u64,
                        "{} {} {column}",
                        group.kind.name(),
                        row.period
                    );
                }
            }
        }
        assert_eq!(group.table.people, everybody.len() as u64);
        // The same numbers as the plain table of the group's own segment.
        if let Some(cohort) = group
            .cohort
            .clone()
            .filter(|_| !matches!(case.by, By::Split(_)))
        {
            let plain = Query {
                cohort,
                ..query.clone()
            };
            let plain = tracker.retention(&plain, now).unwrap();
            let rows = |rows: &[retention::Row]| {
                rows.iter()
                    .map(|row| (row.period, row.state, row.size, row.cells.clone()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(rows(&plain.rows), rows(&group.table.rows));
            assert_eq!(plain.people, group.table.people);
            if !dated {
                assert_eq!(plain.averages, group.table.averages);
            }
        }
    }
    // Laws: the groups of a breakdown hold everybody.
    if let By::Values { .. } = case.by {
        assert_eq!(found.people, tracker.retention(query, now).unwrap().people);
    }
    check_differences(&found, &model, &is_in, &returned, case);
}

/// Checks the differences from the definitions.
fn check_differences(
    found: &Compared,
    model: &Model,
    is_in: &dyn Fn(&GroupKind, u8, Period) -> bool,
    returned: &dyn Fn(u8, Period, Column) -> bool,
    case: Case,
) {
    let query = &found.query;
    let side = |group: usize, period: Period, column: Column| {
        let users = (0..30).filter(|user| is_in(&found.groups[group].kind, *user, period));
        let users: Vec<u8> = users.collect();
        let back = users
            .iter()
            .filter(|user| returned(**user, period, column))
            .count();
        (back as u64, users.len() as u64)
    };
    // Nothing was recorded before the first mark of `a`, so everybody looks new in its period.
    let first = model
        .days
        .keys()
        .filter(|(of, _)| *of == 0)
        .map(|(_, date)| *date)
        .min();
    let is_first = |period: Period| {
        case.first
            && first.is_some_and(|first| Period::of_date(case.grain, first).unwrap() == period)
    };
    let is_complete = |period: Period, place: usize| {
        let windows = query.windows(period, &model.coverage);
        !is_first(period)
            && windows
                .get(place)
                .is_some_and(|window| window.state == State::Complete)
    };
    let is_split = matches!(case.by, By::Split(_));
    let mut p_values = Vec::new();
    for difference in &found.differences {
        let column = query.column(difference.column).unwrap();
        assert!(column.first >= 1);
        let group = difference.of.max(difference.minus);
        let periods = |of: usize| {
            found.groups[of]
                .table
                .rows
                .iter()
                .map(|row| row.period)
                .filter(|period| is_complete(*period, difference.column))
        };
        let cohorts: Vec<TwoByTwo> = if is_split {
            assert_eq!((difference.of, difference.minus), (1, 0));
            let table = |period, of: usize| {
                let (part, whole) = side(of, period, column);
                let (part_a, whole_a) = if of == 1 { (part, whole) } else { (0, 0) };
                let (part_b, whole_b) = if of == 0 { (part, whole) } else { (0, 0) };
                TwoByTwo {
                    part_a,
                    whole_a,
                    part_b,
                    whole_b,
                }
            };
            periods(0)
                .map(|period| table(period, 0))
                .chain(periods(1).map(|period| table(period, 1)))
                .collect()
        } else {
            assert_eq!(difference.of, 0);
            let table = |period| {
                let ((part_a, whole_a), (part_b, whole_b)) =
                    (side(0, period, column), side(group, period, column));
                TwoByTwo {
                    part_a,
                    whole_a,
                    part_b,
                    whole_b,
                }
            };
            periods(0).map(table).collect()
        };
        let pooled = TwoByTwo::pooled(cohorts.iter().copied());
        assert_eq!(difference.pooled, pooled);
        assert_eq!(difference.estimate, newcombe(&pooled));
        let overlaps = !is_split
            && found.groups[0].table.rows.iter().any(|row| {
                (0..30).any(|user| {
                    [0, group]
                        .iter()
                        .all(|of| is_in(&found.groups[*of].kind, user, row.period))
                })
            });
        assert_eq!(difference.reason == Some(NoTest::Overlap), overlaps);
        if let Some(test) = difference.test {
            let p = match pooled.least_expected().unwrap() < 5.0 {
                true => fisher(&pooled),
                false if is_split => chi_squared(&pooled).unwrap(),
                false => mantel_haenszel(&cohorts).unwrap(),
            };
            assert_eq!(test.p, p);
            p_values.push((p, test.p_holm));
        }
        assert!(
            difference.verdict().is_none(),
            "there are fewer than 30 people"
        );
    }
    assert_eq!(found.tests, p_values.len());
    let corrected = holm(&p_values.iter().map(|(p, _)| *p).collect::<Vec<_>>());
    assert_eq!(
        corrected,
        p_values.iter().map(|(_, holm)| *holm).collect::<Vec<_>>()
    );
}

fn cases() -> impl Strategy<Value = Case> {
    let measures = vec![
        Measure::On,
        Measure::OnOrAfter,
        Measure::OnOrBefore,
        Measure::Unbroken,
    ];
    let by = prop_oneof![
        Just(By::Values { dated: true }),
        Just(By::Values { dated: false }),
        Just(By::Segments),
        (-5..90_i64).prop_map(By::Split),
    ];
    (
        prop::sample::select(vec![Grain::Day, Grain::WEEK, Grain::Month]),
        prop::sample::select(measures),
        prop::sample::select(vec![
            None,
            None,
            Some("1,2-7,8-14"),
            Some("0,3-4"),
            Some("0-5"),
        ]),
        any::<bool>(),
        by,
        20..110_i64,
        prop::option::of((1..60_i64, 1..20_i64)),
    )
        .prop_map(|(grain, measure, brackets, first, by, now, deleted)| Case {
            grain,
            measure,
            brackets: brackets.filter(|_| matches!(measure, Measure::On | Measure::OnOrAfter)),
            first,
            by,
            now,
            // What happened before a period is read from the coarsest bitmaps that are there.
            deleted: deleted.filter(|_| !first && by != By::Values { dated: true }),
        })
}

fn marks() -> impl Strategy<Value = Marks> {
    let of = prop_oneof![4 => 0..2_u8, 2 => 2..4_u8, 4 => VALUES];
    prop::collection::vec((of, 0..25_u8, 0..70_u8), 1..220)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_marks_agree_with_a_plain_model(marks in marks(), case in cases()) {
        agree(&marks, case, Arc::new(EmbeddedStore::in_memory(&Options::default())));
    }
}

#[test]
fn every_store_agrees_with_a_plain_model() {
    let mut state = 7_u32;
    let mut random = |most: u8| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u8::try_from((state >> 16) % u32::from(most)).unwrap()
    };
    let marks: Marks = (0..260)
        .map(|_| (random(14), random(25), random(70)))
        .collect();
    for by in [
        By::Values { dated: true },
        By::Values { dated: false },
        By::Segments,
        By::Split(20),
    ] {
        let case = Case {
            grain: Grain::WEEK,
            measure: Measure::On,
            brackets: None,
            first: false,
            by,
            now: 64,
            deleted: None,
        };
        each_store(|_, store| agree(&marks, case, store));
    }
}
