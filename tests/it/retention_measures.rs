//! Measures, brackets and averages of retention: expected values on every store, and random marks
//! beside a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use cohortist::calendar::{Grain, Period, WeekStart, Zone, parse_moment};
use cohortist::clock::Clock;
use cohortist::reports::coverage::Coverage;
use cohortist::reports::people::CellMembers;
use cohortist::reports::retention::{
    Averaging, Brackets, Cell, Column, Measure, Parts, Query, Row, State, Table,
};
use cohortist::reports::{Params, retention};
use cohortist::server::Dashboard;
use cohortist::sets::{EventName, Key, When};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Options, Store};
use cohortist::{Extent, Tracker};
use proptest::prelude::*;
use serde_json::Value;

use crate::http::read;
use crate::support::features::{feature, heartbeat, hourly, live_toy, toy_now};
use crate::support::stores::each_store;
use crate::support::web::serve_dashboard;

fn date(value: &Value) -> Option<NaiveDate> {
    Some(value.as_str().unwrap().parse().unwrap())
}

fn day(value: &Value) -> Period {
    value.as_str().unwrap().parse().unwrap()
}

fn toy_query(grain: Grain) -> Query {
    let side = |text: &str| text.parse().unwrap();
    Query::new(side("first(active)"), side("active"), grain)
}

fn row(table: &Table, cohort: Period) -> &Row {
    let found = table.rows.iter().find(|row| row.period == cohort);
    found.unwrap_or_else(|| panic!("no cohort {cohort}"))
}

#[test]
fn brackets_count_people_once_on_every_store() {
    let expected = feature("brackets");
    let ranges: Vec<[u32; 2]> = serde_json::from_value(expected["brackets"].clone()).unwrap();
    let text: Vec<String> = ranges
        .iter()
        .map(|[first, last]| {
            Column {
                first: *first,
                last: *last,
            }
            .to_string()
        })
        .collect();
    let rows = expected["rows"].as_array().unwrap();
    let query = Query {
        brackets: Some(text.join(",").parse().unwrap()),
        from: date(&rows[0]["cohort"]),
        to: date(&rows.last().unwrap()["cohort"]),
        ..toy_query(Grain::Day)
    };
    each_store(|name, store| {
        let (tracker, now) = (live_toy(store), toy_now());
        let table = tracker.retention(&query, now).unwrap();
        assert_eq!(table.averages.len(), ranges.len());
        for expected in rows {
            let row = row(&table, day(&expected["cohort"]));
            assert_eq!(row.people(), expected["size"], "{name}: {}", row.period);
            for (cell, expected) in row.cells.iter().zip(expected["cells"].as_array().unwrap()) {
                // A cohort without people has no cells.
                if row.people() == 0 || expected.is_null() {
                    assert_eq!(*cell, Cell::Blank, "{name}: {}", row.period);
                    continue;
                }
                let number = cell.number().unwrap();
                assert_eq!(number.retained, expected["retained"], "{name}");
                assert_eq!(number.state.as_str(), expected["state"], "{name}");
            }
        }
        for (average, expected) in table
            .averages
            .iter()
            .zip(expected["average"].as_array().unwrap())
        {
            let average = average.unwrap();
            assert_eq!(average.retained, expected["retained"], "{name}");
            assert_eq!(average.size, expected["size"], "{name}");
            assert_eq!(u64::from(average.cohorts), expected["cohorts"], "{name}");
        }
    });
}

#[test]
fn a_bracket_is_complete_when_its_last_period_is_over() {
    for case in feature("brackets")["border_cases"].as_array().unwrap() {
        let now = parse_moment(case["today"].as_str().unwrap()).unwrap() + TimeDelta::hours(15);
        let [first, last] = serde_json::from_value(case["bracket"].clone()).unwrap();
        let column = Column { first, last };
        let query = Query {
            brackets: Some(column.to_string().parse().unwrap()),
            ..toy_query(Grain::Day)
        };
        let windows = query.windows(day(&case["cohort"]), &Coverage::whole(now).unwrap());
        assert_eq!(windows[0].state.as_str(), case["state"], "{case}");
    }
}

#[test]
fn unbroken_returns_and_their_survival_on_every_store() {
    let expected = &feature("extras")["streak_retention"];
    let rows = expected["rows"].as_array().unwrap();
    let steps = expected["kaplan_meier"].as_array().unwrap();
    let query = Query {
        measure: Measure::Unbroken,
        averaging: Averaging::Survival,
        from: date(&rows[0]["cohort"]),
        to: "2026-11-09".parse().ok(),
        cols: Some(9),
        ..toy_query(Grain::WEEK)
    };
    each_store(|name, store| {
        let (tracker, now) = (live_toy(store), toy_now());
        let table = tracker.retention(&query, now).unwrap();
        for expected in rows {
            let monday = date(&expected["cohort"]).unwrap();
            let row = row(&table, Period::of_date(Grain::WEEK, monday).unwrap());
            let complete = row.cells.iter().filter_map(Cell::complete);
            let found: Vec<u64> = complete.map(|number| number.retained).collect();
            let wanted: Vec<u64> = serde_json::from_value(expected["unbroken"].clone()).unwrap();
            assert_eq!(found, wanted, "{name}: {}", row.period);
        }
        for step in steps {
            let k = usize::try_from(step["k"].as_u64().unwrap()).unwrap();
            let average = table.averages[k].unwrap();
            assert_eq!(average.size, step["at_risk"], "{name}");
            assert_eq!(average.size - average.retained, step["left"], "{name}");
            let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{name}: {a} {b}");
            let kept = step["kept"].as_f64().unwrap();
            close(average.rate, kept);
            // log(−log): both ends are as far from ln(−ln S).
            let error = step["greenwood_se"].as_f64().unwrap();
            let width = 1.959_963_984_540_054 * error / (kept * kept.ln().abs());
            let (low, high) = average.interval.unwrap();
            close(((-low.ln()) / (-kept.ln())).ln(), width);
            close(((-kept.ln()) / (-high.ln())).ln(), width);
            assert_eq!(table.is_drawn(&average), average.size >= 10);
        }
        // The weighted average of the same cohorts can rise.
        let weighted = Query {
            averaging: Averaging::Weighted,
            ..query.clone()
        };
        let weighted = tracker.retention(&weighted, now).unwrap();
        let wanted = expected["plain_average_row_for_contrast"]
            .as_array()
            .unwrap();
        for (average, wanted) in weighted.averages[1..].iter().zip(wanted) {
            assert!(
                (average.unwrap().rate - wanted.as_f64().unwrap()).abs() < 1e-9,
                "{name}"
            );
        }
    });
}

/// Records the marks of a case of another product's tests.
fn mark_case(store: Arc<dyn Store>, case: &Value) -> Tracker {
    let tracker = Tracker::new(store);
    let hourly = hourly(&tracker);
    let mut batch = hourly.batch();
    for mark in case["marks"].as_array().unwrap() {
        let event = EventName::new(mark[0].as_str().unwrap()).unwrap();
        let user = u32::try_from(mark[1].as_u64().unwrap()).unwrap();
        let at = parse_moment(mark[2].as_str().unwrap()).unwrap();
        batch.mark(&event, user, at).unwrap();
    }
    batch.commit().unwrap();
    tracker
}

/// The question of such a case, and the moment in its last period. `None` for one that counts one
/// group of people only.
fn question_of(case: &Value) -> Option<(Query, DateTime<Utc>)> {
    let asked = &case["query"];
    let text = |field: &str| asked[field].as_str();
    let week: Option<WeekStart> = text("week_starts").map(|day| day.parse().unwrap());
    let grain: Grain = text("by").unwrap().parse().unwrap();
    let grain = grain.with_weeks(week.unwrap_or_default());
    let zone: Zone = text("zone").unwrap_or("UTC").parse().unwrap();
    let name = case["name"].as_str()?;
    if ["breakdown", "countryUs", "cohortOn"]
        .iter()
        .any(|group| name.contains(group))
    {
        return None;
    }
    let brackets: Option<Vec<[u32; 2]>> = serde_json::from_value(asked["brackets"].clone()).ok();
    let from = ["first_cohort", "cohort_period"]
        .iter()
        .find_map(|field| asked[*field].as_str());
    let from: NaiveDate = from.unwrap().parse().unwrap();
    let first = zone.of_date(grain, from).unwrap();
    // Of a table of brackets there is one row, and it is whole.
    let rows = brackets
        .as_ref()
        .map_or_else(|| asked["rows"].as_u64().unwrap(), |_| 1);
    let rows = u32::try_from(rows).unwrap();
    let last = match brackets.iter().flatten().next_back() {
        Some([_, last]) => first.shift(i64::from(*last) + 1).unwrap(),
        None => first.shift(i64::from(rows) - 1).unwrap(),
    };
    let brackets = brackets.map(|brackets| {
        let texts = brackets
            .iter()
            .map(|[first, last]| format!("{first}-{last}"));
        texts.collect::<Vec<_>>().join(",").parse().unwrap()
    });
    let cohort = match asked["first_time"].as_bool() {
        Some(true) => format!("first({})", text("cohort").unwrap()),
        _ => text("cohort").unwrap().to_owned(),
    };
    let query = Query {
        from: Some(from),
        rows: Some(rows),
        cols: brackets.is_none().then_some(rows),
        brackets,
        zone,
        measure: text("measure").unwrap().parse().unwrap(),
        ..Query::new(
            cohort.parse().unwrap(),
            text("returning").unwrap().parse().unwrap(),
            grain,
        )
    };
    Some((query, last.start() + TimeDelta::hours(12)))
}

#[test]
fn tables_of_other_products_tests_on_every_store() {
    for file in ["ref_posthog_retention", "ref_openpanel_retention"] {
        let file = feature(file);
        let cases = file["cases"].as_array().unwrap();
        let asked = cases
            .iter()
            .filter_map(|case| Some((case, question_of(case)?)));
        let mut compared = 0;
        for (case, (query, now)) in asked {
            each_store(|name, store| {
                let tracker = mark_case(store, case);
                heartbeat(&tracker, now);
                let table = tracker.retention(&query, now).unwrap();
                let name = format!("{name}, {}", case["name"]);
                let ours = &case["ours"];
                let ours = ours
                    .as_array()
                    .map_or_else(|| vec![ours], |rows| rows.iter().collect());
                for (row, expected) in table.rows.iter().zip(ours) {
                    // Before the first mark of a case our store has no data; theirs has zeros.
                    if row.state == State::NotRecorded {
                        assert_eq!(expected["size"], 0, "{name}: {}", row.period);
                        continue;
                    }
                    assert_eq!(row.people(), expected["size"], "{name}: {}", row.period);
                    let wanted = expected["cells"].as_array().unwrap();
                    for (k, wanted) in wanted.iter().enumerate().filter(|_| row.people() > 0) {
                        let number = row.cells[k].number().unwrap();
                        assert_eq!(number.retained, *wanted, "{name}: {} {k}", row.period);
                    }
                }
            });
            compared += 1;
        }
        assert!(compared >= 2, "{compared}");
    }
}

#[test]
fn the_weighted_average_weighs_each_person_once() {
    let expected = feature("ref_mixpanel_average");
    let cohorts: Vec<[u32; 2]> = serde_json::from_value(expected["retained_of"].clone()).unwrap();
    each_store(|name, store| {
        let tracker = Tracker::new(store);
        let [a, b] = ["a", "b"].map(|name| EventName::new(name).unwrap());
        let first = parse_moment("2026-11-02").unwrap();
        let mut batch = tracker.batch();
        let mut next = 0;
        for (place, [retained, size]) in cohorts.iter().enumerate() {
            let at = first + TimeDelta::days(i64::try_from(place).unwrap());
            for user in next..next + size {
                batch.mark(&a, user, at).unwrap();
                if user < next + retained {
                    batch.mark(&b, user, at + TimeDelta::days(1)).unwrap();
                }
            }
            next += size;
        }
        batch.commit().unwrap();
        let query = Query {
            from: "2026-11-02".parse().ok(),
            rows: Some(2),
            cols: Some(2),
            ..Query::new("a".parse().unwrap(), "b".parse().unwrap(), Grain::Day)
        };
        let now = parse_moment("2026-11-05").unwrap();
        heartbeat(&tracker, now);
        let table = tracker.retention(&query, now).unwrap();
        let average = table.averages[1].unwrap();
        assert_eq!(
            average.rate,
            expected["true_weighted_average"].as_f64().unwrap(),
            "{name}"
        );
    });
}

#[test]
fn intervals_stay_while_few_entries_are_repeats() {
    let [a, b] = ["a", "b"].map(|name| EventName::new(name).unwrap());
    let table = |repeats: u32| {
        let store = EmbeddedStore::in_memory(&Options::default());
        let tracker = Tracker::new(Arc::new(store));
        let first = parse_moment("2026-11-02").unwrap();
        let now = first + TimeDelta::days(2);
        let mut batch = tracker.batch();
        for user in 0..100 {
            batch.mark(&a, user, first).unwrap();
            batch
                .mark(&a, user + 100 - repeats, first + TimeDelta::days(1))
                .unwrap();
            batch.mark(&b, user, first).unwrap();
        }
        batch.commit().unwrap();
        heartbeat(&tracker, now);
        let query = Query {
            from: "2026-11-02".parse().ok(),
            rows: Some(2),
            cols: Some(1),
            ..Query::new("a".parse().unwrap(), "b".parse().unwrap(), Grain::Day)
        };
        tracker.retention(&query, now).unwrap()
    };
    for (repeats, has_interval) in [(0, true), (2, true), (3, false)] {
        let table = table(repeats);
        assert_eq!(table.repeats(), u64::from(repeats));
        assert_eq!(
            table.averages[0].unwrap().interval.is_some(),
            has_interval,
            "{repeats}"
        );
    }
}

/// The fields that refuse a question.
fn refused(given: &[(&str, &str)]) -> Vec<&'static str> {
    let sides = [("cohort", "a"), ("returning", "b")];
    let params = Params::read(retention::FIELDS, sides.iter().chain(given).copied());
    match Parts::read(&params) {
        Err(problems) => problems.iter().map(|problem| problem.field).collect(),
        Ok(parts) => {
            let now = parse_moment("2026-11-20").unwrap();
            let error = parts.query().check(now).err();
            error.and_then(|error| error.field()).into_iter().collect()
        }
    }
}

#[test]
fn what_does_not_go_together_is_refused_at_its_field() {
    let none: [&str; 0] = [];
    assert_eq!(refused(&[("brackets", "1,2-7")]), none);
    assert_eq!(
        refused(&[("brackets", "1,2-7"), ("measure", "on_or_after")]),
        none
    );
    assert_eq!(
        refused(&[("brackets", "1,2-7"), ("measure", "on_or_before")]),
        ["brackets"]
    );
    assert_eq!(
        refused(&[("brackets", "1,2-7"), ("measure", "unbroken")]),
        ["brackets"]
    );
    assert_eq!(refused(&[("brackets", "1,2-7"), ("cols", "3")]), ["cols"]);
    for wrong in [
        "7-2", "1,1-7", "2-7,1", "1;2", "x", "1-", "1-400", ",", "-3", "1,,2",
    ] {
        assert_eq!(refused(&[("brackets", wrong)]), ["brackets"], "{wrong}");
    }
    assert_eq!(refused(&[("average", "survival")]), ["average"]);
    assert_eq!(
        refused(&[("average", "survival"), ("measure", "unbroken")]),
        none
    );
    assert_eq!(refused(&[("as", "previous")]), ["as"]);
    assert_eq!(
        refused(&[("as", "previous"), ("measure", "on_or_before")]),
        ["as"]
    );
    assert_eq!(
        refused(&[("as", "previous"), ("measure", "on_or_after")]),
        none
    );
    assert_eq!(
        refused(&[("as", "previous"), ("measure", "unbroken")]),
        none
    );
}

#[test]
fn unbroken_returns_have_survival_by_default() {
    let read = |measure: &str| {
        let given = [("cohort", "a"), ("returning", "b"), ("measure", measure)];
        Parts::read(&Params::read(retention::FIELDS, given))
            .unwrap()
            .bare
            .averaging
    };
    assert_eq!(read("unbroken"), Averaging::Survival);
    assert_eq!(read("on_or_before"), Averaging::Weighted);
}

/// A mark of the model: the event, the user, and the day from the first one.
type Marks = Vec<(u8, u8, u8)>;

const EVENTS: [&str; 2] = ["a", "b"];

/// The users of each event on each day, for the bitmaps that are left.
struct Model {
    days: BTreeMap<(u8, NaiveDate), BTreeSet<u8>>,
    ever: BTreeSet<u8>,
    coverage: Coverage,
}

impl Model {
    fn did(&self, event: u8, user: u8, period: Period) -> bool {
        let mut days = self.days.iter();
        days.any(|((of, date), users)| {
            let at = date.and_hms_opt(0, 0, 0).unwrap().and_utc();
            *of == event && period.start() <= at && at < period.end() && users.contains(&user)
        })
    }

    /// Whether a user came back in a period that is recorded.
    fn came_back(&self, user: u8, period: Period, or_ever: bool) -> bool {
        let is_recorded = !matches!(
            self.coverage.state_of(period),
            State::NotRecorded | State::Future
        );
        is_recorded && (self.did(1, user, period) || (or_ever && self.ever.contains(&user)))
    }

    /// The state of a span, from the states of its periods.
    fn state(&self, span: &[Period]) -> State {
        let states: Vec<State> = span.iter().map(|p| self.coverage.state_of(*p)).collect();
        let begun = || states.iter().filter(|state| **state != State::Future);
        if begun().next().is_none() {
            State::Future
        } else if begun().all(|state| *state == State::NotRecorded) {
            State::NotRecorded
        } else if states.contains(&State::NotRecorded) {
            State::PartlyRecorded
        } else if states.contains(&State::InProgress) || states.contains(&State::Future) {
            State::InProgress
        } else {
            State::Complete
        }
    }
}

/// The periods whose state a cell has, and whether a user counts, by the definitions.
fn cell_of(
    model: &Model,
    query: &Query,
    cohort: Period,
    column: Column,
    or_ever: bool,
) -> (Vec<Period>, impl Fn(u8) -> bool) {
    let at = |k: u32| cohort.shift(k.into()).unwrap();
    let last = match &query.brackets {
        Some(brackets) => brackets.columns().last().unwrap().last,
        None => query.cols.unwrap() - 1,
    };
    let span: Vec<Period> = match query.measure {
        Measure::On => (column.first..=column.last).map(at).collect(),
        Measure::OnOrAfter => (column.first..=last).map(at).collect(),
        Measure::OnOrBefore | Measure::Unbroken if column.first == 0 => vec![cohort],
        Measure::OnOrBefore | Measure::Unbroken => (1..=column.first).map(at).collect(),
    };
    let unbroken = query.measure == Measure::Unbroken;
    let is_cohort = unbroken && column.first == 0;
    let begun: Vec<Period> = span
        .iter()
        .copied()
        .filter(|period| model.coverage.state_of(*period) != State::Future)
        .collect();
    let counts: Vec<bool> = (0..=u8::MAX)
        .map(|user| {
            let mut back = begun.iter().map(|p| model.came_back(user, *p, or_ever));
            is_cohort
                || if unbroken {
                    back.all(|back| back)
                } else {
                    back.any(|back| back)
                }
        })
        .collect();
    (span, move |user| counts[usize::from(user)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_marks_agree_with_a_plain_model(
        marks in prop::collection::vec((0..2_u8, 0..20_u8, 0..70_u8), 1..140),
        grain in prop::sample::select(vec![Grain::Day, Grain::WEEK, Grain::Month]),
        measure in prop::sample::select(vec![
            Measure::On, Measure::OnOrAfter, Measure::OnOrBefore, Measure::Unbroken,
        ]),
        brackets in prop::sample::select(vec![
            None, None, Some("1,2-7,8-14"), Some("0,3-4"), Some("2-3,6-20"), Some("0-5"),
        ]),
        // The year 2026 has 53 ISO weeks; 2028 is a leap year.
        start in prop::sample::select(vec!["2026-11-20", "2028-01-20"]),
        // How many days after the first mark it is now, and which days are deleted.
        now in 20..90_i64,
        deleted in prop::option::of((5..40_i64, 1..20_i64)),
        or_ever in any::<bool>(),
    ) {
        let brackets = brackets.filter(|_| matches!(measure, Measure::On | Measure::OnOrAfter));
        let query = Query {
            rows: Some(12),
            cols: brackets.is_none().then_some(6),
            brackets: brackets.map(|text| text.parse::<Brackets>().unwrap()),
            measure,
            ..Query::new(
                "a".parse().unwrap(),
                if or_ever { "b | vip@ever" } else { "b" }.parse().unwrap(),
                grain,
            )
        };
        agree(&marks, query, start, now, deleted, or_ever);
    }
}

fn agree(
    marks: &Marks,
    query: Query,
    start: &str,
    now: i64,
    deleted: Option<(i64, i64)>,
    or_ever: bool,
) {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
    let tracker = Tracker::new(store).with_extent(Extent::default());
    let start = parse_moment(start).unwrap();
    let now = start + TimeDelta::days(now) + TimeDelta::hours(9);
    let mut days: BTreeMap<(u8, NaiveDate), BTreeSet<u8>> = BTreeMap::new();
    let ever: BTreeSet<u8> = [1, 4, 9, 16].into();
    let mut batch = tracker.batch();
    for (event, user, day) in marks {
        let at = start + TimeDelta::days(i64::from(*day));
        let name = EventName::new(EVENTS[usize::from(*event)]).unwrap();
        batch.mark(&name, u32::from(*user), at).unwrap();
        days.entry((*event, at.date_naive()))
            .or_default()
            .insert(*user);
    }
    for user in &ever {
        batch.mark_ever(&EventName::new("vip").unwrap(), u32::from(*user));
    }
    batch.commit().unwrap();
    // Days are deleted, and weeks and months stay.
    if let Some((from, count)) = deleted {
        let from = start + TimeDelta::days(from);
        let gone = from..from + TimeDelta::days(count);
        let is_gone = |key: &Key| {
            matches!(key.when(), When::In(period)
                if period.grain() == Grain::Day && gone.contains(&period.start()))
        };
        let catalogue = tracker.catalogue().unwrap();
        for key in catalogue.keys().iter().filter(|key| is_gone(key)) {
            tracker.delete(key).unwrap();
        }
        if query.grain == Grain::Day {
            days.retain(|(_, date), _| {
                !gone.contains(&date.and_hms_opt(0, 0, 0).unwrap().and_utc())
            });
        }
    }
    let first = Period::containing(query.grain, start).unwrap();
    let query = Query {
        from: Some(first.shift(-1).unwrap().start().date_naive()),
        ..query
    };
    let model = Model {
        days,
        ever,
        coverage: tracker.coverage(now, true).unwrap(),
    };
    let table = tracker.retention(&query, now).unwrap();
    let catalogue = tracker.catalogue().unwrap();
    for row in &table.rows {
        let users: Vec<u8> = (0..30)
            .filter(|user| model.did(0, *user, row.period))
            .collect();
        if model.coverage.state_of(row.period) == State::NotRecorded {
            assert_eq!(row.size, None);
        } else {
            assert_eq!(row.size, Some(users.len() as u64), "{}", row.period);
        }
        for (k, (column, cell)) in query.columns().zip(&row.cells).enumerate() {
            let (span, counts) = cell_of(&model, &query, row.period, column, or_ever);
            let column_begun = row.period.shift(column.first.into()).unwrap();
            let state = match () {
                () if model.coverage.state_of(column_begun) == State::Future => State::Future,
                () if row.size.is_none() => State::NotRecorded,
                () => model.state(&span),
            };
            let place = format!("{} column {column} of {query:?}", row.period);
            match cell {
                Cell::Blank => assert!(row.size == Some(0) || state == State::Future, "{place}"),
                Cell::NotRecorded(_) => assert_eq!(state, State::NotRecorded, "{place}"),
                Cell::Number(number) => {
                    let retained = users.iter().filter(|user| counts(**user)).count() as u64;
                    assert_eq!(
                        (number.state, number.retained),
                        (state, retained),
                        "{place}"
                    );
                    let column = u32::try_from(k).ok();
                    let members =
                        CellMembers::at(&query, row.period, column, &model.coverage, &catalogue);
                    let back = members.unwrap().back.unwrap();
                    assert_eq!(tracker.count(&back.returned).unwrap(), retained, "{place}");
                    let lost = users.len() as u64 - retained;
                    assert_eq!(tracker.count(&back.lost).unwrap(), lost, "{place}");
                }
            }
        }
        // Nested columns never rise, and those that collect never fall.
        let numbers: Vec<u64> = row.numbers().map(|number| number.retained).collect();
        let falls = |pair: &[u64]| pair[0] >= pair[1];
        if query.measure.is_nested() {
            assert!(numbers.windows(2).all(falls), "{numbers:?}");
        }
        if query.measure == Measure::OnOrBefore && !numbers.is_empty() {
            assert!(
                numbers[1..].windows(2).all(|pair| pair[0] <= pair[1]),
                "{numbers:?}"
            );
        }
    }
}

/// People who did `a` on two days, of whom fewer do `b` on each later day. `repeats` people are in
/// both cohorts.
fn leaving(repeats: u32) -> Tracker {
    let [a, b] = ["a", "b"].map(|name| EventName::new(name).unwrap());
    let tracker = Tracker::new(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let first = parse_moment("2026-11-02").unwrap();
    let on = |day: i64| first + TimeDelta::days(day);
    let mut batch = tracker.batch();
    for user in 1..=100 {
        batch.mark(&a, user, on(0)).unwrap();
        batch.mark(&a, user + 100 - repeats, on(1)).unwrap();
    }
    for (day, users) in [(0, 1..=100), (1, 1..=50), (2, 1..=25), (3, 26..=30)] {
        for user in users {
            batch.mark(&b, user, on(day)).unwrap();
        }
    }
    batch.commit().unwrap();
    heartbeat(&tracker, on(4));
    tracker
}

#[test]
fn the_page_shows_shares_of_the_previous_column() {
    let now = parse_moment("2026-11-06 12:00").unwrap();
    let host = serve_dashboard(Dashboard::new(leaving(0), Clock::Fixed(now)));
    let question = "cohort=a&returning=b&by=day&from=2026-11-02&rows=1&cols=4\
                    &measure=on_or_after&as=previous";
    let page = read(&format!("http://{host}/retention?{question}")).body;
    let table = page.split("<tbody").nth(1).unwrap();
    // 100 people, of whom 50, 30 and 5 came back on or after the following days.
    for share in ["50.0%", "60.0%", "16.7%"] {
        assert!(table.contains(&format!(">{share}<")), "{share}: {table}");
    }
    let wide = read(&format!("http://{host}/retention.csv?{question}")).body;
    let row = wide.lines().nth(1).unwrap();
    assert!(row.ends_with(",50.00,60.00,16.67"), "{row}");
}

#[test]
fn the_page_has_an_interval_while_few_entries_are_repeats() {
    let now = parse_moment("2026-11-06 12:00").unwrap();
    let question = "cohort=a&returning=b&by=day&from=2026-11-02&rows=2&cols=2";
    // Two of 200 entries are 1 %.
    for (repeats, has_interval) in [(2, true), (3, false)] {
        let host = serve_dashboard(Dashboard::new(leaving(repeats), Clock::Fixed(now)));
        let page = read(&format!("http://{host}/retention?{question}")).body;
        assert_eq!(page.contains('±'), has_interval, "{repeats}");
        let json = read(&format!("http://{host}/retention.json?{question}")).body;
        let json: Value = serde_json::from_str(&json).unwrap();
        let interval = &json["average"][1]["interval"];
        assert_eq!(!interval.is_null(), has_interval, "{repeats}: {json:#}");
    }
}
