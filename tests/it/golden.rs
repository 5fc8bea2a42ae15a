//! bitmapist's own answers, on every store. The figures were recorded from bitmapist 3.119 on Redis
//! 7.0.15.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use cohortist::Tracker;
use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::reports::retention::{Cell, Query, Table};
use cohortist::sets::{EventName, Key, Prefix, Segment, Set, When};
use serde_json::Value;

use crate::support::stores::each_store;

const KEYS: &str = include_str!("../fixtures/bitmapist_keys.json");
const GRIDS: &str = include_str!("../fixtures/bitmapist_grids.json");
const CDNOW: &str = include_str!("../fixtures/cdnow_sample.json");
const PURCHASES: &str = include_str!("../fixtures/cdnow_sample.csv");

fn name(text: &str) -> EventName {
    EventName::new(text).unwrap()
}

#[test]
fn keys_shifts_and_bounds_are_bitmapists() {
    let golden: Value = serde_json::from_str(KEYS).unwrap();
    let prefix = Prefix::default();
    let event = name("song:played");
    let moments = golden["moments"].as_array().unwrap();
    assert_eq!(moments.len(), 49);
    for moment in moments {
        let text = moment["at"].as_str().unwrap();
        let at = parse_moment(text).unwrap();
        let written: BTreeSet<String> = Key::of_mark(&event, at, true)
            .unwrap()
            .map(|k| k.text(&prefix))
            .collect();
        let expected: BTreeSet<String> = ["hour", "day", "week", "month"]
            .map(|grain| moment["keys"][grain].as_str().unwrap().to_owned())
            .into();
        assert_eq!(written, expected, "{text}");
        assert_eq!(
            Key::ever(event.clone()).text(&prefix),
            moment["keys"]["unique"],
            "{text}"
        );
        for (word, grain) in [
            ("hour", Grain::Hour),
            ("day", Grain::Day),
            ("week", Grain::WEEK),
            ("month", Grain::Month),
        ] {
            let period = Period::containing(grain, at).unwrap();
            let key = Key::new(event.clone(), period).unwrap();
            assert_eq!(
                Key::parse(&prefix, &key.text(&prefix)),
                Some(key.clone()),
                "{text}"
            );
            assert_eq!(key.when(), When::In(period));
            assert_eq!(
                period.start(),
                parse_moment(moment["start"][word].as_str().unwrap()).unwrap(),
                "{text} {word}"
            );
            // bitmapist's end is the last microsecond, which is read as its second; ours is the first
            // moment after.
            let last = period.end() - TimeDelta::seconds(1);
            assert_eq!(
                last,
                parse_moment(moment["end"][word].as_str().unwrap()).unwrap(),
                "{text} {word}"
            );
            let deltas = moment["deltas"][word].as_object().unwrap();
            assert!(!deltas.is_empty());
            for (by, expected) in deltas {
                let shifted = period.shift(by.parse().unwrap()).unwrap();
                let key = Key::new(event.clone(), shifted).unwrap().text(&prefix);
                assert_eq!(&key, expected.as_str().unwrap(), "{text} {word} {by}");
                assert_eq!(shifted.since(period), by.parse().ok());
            }
        }
    }
}

#[test]
fn grids_and_key_counts_are_bitmapists_on_every_store() {
    let golden: Value = serde_json::from_str(GRIDS).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        each_store(|store_name, store| {
            let tracker = Tracker::new(store);
            let mut batch = tracker.batch();
            for mark in case["marks"].as_array().unwrap() {
                let user = u32::try_from(mark[1].as_u64().unwrap()).unwrap();
                let at = parse_moment(mark[2].as_str().unwrap()).unwrap();
                batch
                    .mark(&name(mark[0].as_str().unwrap()), user, at)
                    .unwrap();
            }
            batch.commit().unwrap();

            let counts: BTreeMap<String, u64> =
                serde_json::from_value(case["key_counts"].clone()).unwrap();
            assert!(counts.len() > 400);
            let prefix = Prefix::default();
            let keys: Vec<Key> = tracker.keys("").unwrap();
            let sets: Vec<Set> = keys.iter().cloned().map(Set::Key).collect();
            let ours: BTreeMap<String, u64> = keys
                .iter()
                .map(|k| k.text(&prefix))
                .zip(tracker.counts(&sets).unwrap())
                .collect();
            assert_eq!(ours, counts, "{store_name}");

            let now = parse_moment(case["now"].as_str().unwrap()).unwrap();
            beat(&tracker, now);
            let grids = case["grids"].as_array().unwrap();
            assert_eq!(grids.len(), 8);
            for grid in grids {
                let rows = grid["rows"].as_array().unwrap();
                let table = tracker
                    .retention(&query(&grid["query"], rows), now)
                    .unwrap();
                compare(&table, rows, &format!("{store_name}: {}", grid["query"]));
            }
        });
    }
}

/// The references know no end of data, so the store is to be a live one.
fn beat(tracker: &Tracker, now: DateTime<Utc>) {
    tracker.mark(&name("zz:heartbeat"), 0, now).unwrap();
}

fn query(query: &Value, rows: &[Value]) -> Query {
    let segment = |names: [&str; 2]| {
        let events = names
            .into_iter()
            .filter_map(|n| query[n].as_str())
            .map(|n| Segment::event(&name(n)));
        let mut events: Vec<Segment> = events.collect();
        events.remove(0).and_all(events)
    };
    let grain = match query["time_group"].as_str().unwrap() {
        "days" => Grain::Day,
        "weeks" => Grain::WEEK,
        "months" => Grain::Month,
        "years" => Grain::Year,
        other => panic!("{other}"),
    };
    let date = |row: Option<&Value>| -> Option<NaiveDate> { row?[0].as_str()?.parse().ok() };
    Query {
        cols: Some(u32::try_from(query["num_of_rows"].as_u64().unwrap()).unwrap() + 1),
        from: date(rows.first()),
        to: date(rows.last()),
        ..Query::new(
            segment(["select1", "select1b"]),
            segment(["select2", "select2b"]),
            grain,
        )
    }
}

fn compare(table: &Table, rows: &[Value], what: &str) {
    assert_eq!(table.rows.len(), rows.len(), "{what}");
    for (row, expected) in table.rows.iter().zip(rows) {
        let what = format!("{what}, row {}", expected[0]);
        let date: NaiveDate = expected[0].as_str().unwrap().parse().unwrap();
        assert_eq!(
            row.period,
            Period::of_date(table.query.grain, date).unwrap(),
            "{what}"
        );
        let Some(size) = row.size else {
            // bitmapist takes what lies before the first mark for zeros.
            assert!(
                row.period < table.begins.unwrap() && expected[1] == 0,
                "{what}"
            );
            continue;
        };
        assert_eq!(size, expected[1].as_u64().unwrap(), "{what}");
        let expected = expected[2].as_array().unwrap();
        assert_eq!(row.cells.len(), expected.len(), "{what}");
        for (k, (cell, expected)) in row.cells.iter().zip(expected).enumerate() {
            match (cell, expected.as_u64()) {
                (Cell::Number(cell), Some(expected)) => {
                    assert_eq!(cell.retained, expected, "{what}, column {k}")
                }
                // bitmapist blanks a true zero where nobody at all did B.
                (Cell::Number(cell), None) => assert_eq!(cell.retained, 0, "{what}, column {k}"),
                (Cell::Blank, None) => {}
                // An empty cohort: bitmapist counts 0 of 0, we show nothing.
                (Cell::Blank, Some(expected)) => {
                    assert_eq!((expected, size), (0, 0), "{what}, column {k}")
                }
                (Cell::NotRecorded(period), _) => {
                    panic!("{period} is recorded: {what}, column {k}")
                }
            }
        }
    }
}

#[test]
fn real_purchases_give_the_table_computed_from_the_raw_rows() {
    let golden: Value = serde_json::from_str(CDNOW).unwrap();
    each_store(|store_name, store| {
        let tracker = Tracker::new(store);
        let mut batch = tracker.batch();
        for line in PURCHASES.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            batch
                .mark(
                    &name(fields[1]),
                    fields[0].parse().unwrap(),
                    parse_moment(fields[2]).unwrap(),
                )
                .unwrap();
        }
        batch.commit().unwrap();
        beat(&tracker, parse_moment("1998-06-30").unwrap());
        for grain in [Grain::Month, Grain::WEEK] {
            let cohorts = golden[grain.as_str()]["recurring"].as_array().unwrap();
            let purchase = Segment::event(&name("purchase"));
            let count = u32::try_from(cohorts.len()).unwrap();
            let query = Query {
                rows: Some(count),
                cols: Some(count),
                ..Query::new(purchase.clone(), purchase, grain)
            };
            let table = tracker
                .retention(&query, parse_moment("1998-06-30").unwrap())
                .unwrap();
            assert_eq!(table.rows.len(), cohorts.len());
            for (row, expected) in table.rows.iter().zip(cohorts) {
                let what = format!("{store_name} {expected}");
                let retained: Vec<u64> = row.numbers().map(|number| number.retained).collect();
                assert!(
                    row.period
                        .start()
                        .date_naive()
                        .to_string()
                        .starts_with(expected["cohort"].as_str().unwrap())
                );
                assert_eq!(row.size, expected["size"].as_u64(), "{what}");
                assert_eq!(
                    retained,
                    serde_json::from_value::<Vec<u64>>(expected["retained"].clone()).unwrap(),
                    "{what}"
                );
            }
        }
    });
}
