//! Data that ends before now, history that was deleted, and stores that go on: what is not recorded
//! is never a number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::clock::Clock;
use cohortist::render::csv;
use cohortist::reports::Exports;
use cohortist::reports::QueryError;
use cohortist::reports::coverage::State;
use cohortist::reports::plan_at;
use cohortist::reports::retention::Show;
use cohortist::reports::retention::figures::Figures;
use cohortist::reports::retention::{Benchmarks, Shown};
use cohortist::reports::retention::{Cell, Measure, Query, Table};
use cohortist::server::Dashboard;
use cohortist::sets::{Counts, Key, Segment, When};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{self, Options, Store};
use cohortist::{Extent, Run, Tracker};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::http::read;
use crate::support::program::{Serving, Shop};
use crate::support::redis::RedisServer;
use crate::support::web::{empty, name, serve_dashboard};

// ---- A plain model: which bitmaps are kept, and what that says of a period.

const EVENTS: [&str; 2] = ["signup", "active"];

/// What happened to a store, and when it is looked at.
#[derive(Debug, Clone)]
struct History {
    now: DateTime<Utc>,
    now_given: bool,
    marks: Vec<(usize, u32, DateTime<Utc>)>,
    /// Days and hours before it were deleted.
    deleted_before: Option<DateTime<Utc>>,
    /// The days and hours of this month were deleted.
    deleted_month: Option<Period>,
}

fn histories() -> impl Strategy<Value = History> {
    // Around the turn of an ISO year with a week 53.
    let now = 1_606_800_000_i64..1_612_000_000;
    let back = prop_oneof![3 => 0_i64..40, 4 => 0_i64..24 * 21, 3 => 0_i64..24 * 150];
    let marks = prop::collection::vec((0..EVENTS.len(), 0_u32..40, back), 1..250);
    let silent = prop_oneof![2 => Just(0_i64), 1 => 20_i64..60, 3 => 24_i64..24 * 45];
    let later = prop::option::weighted(0.3, 1_i64..24 * 9);
    let deleted = (
        prop::option::weighted(0.3, 0_i64..60),
        prop::option::weighted(0.3, 0_i64..4),
    );
    (now, any::<bool>(), marks, silent, later, deleted).prop_map(
        |(now, now_given, marks, silent, later, deleted)| {
            let now = DateTime::from_timestamp(now, 0).unwrap();
            let at = |hours: i64| now - TimeDelta::hours(hours);
            let mut marks: Vec<_> = marks
                .into_iter()
                .map(|(e, u, back)| (e, u, at(back + silent)))
                .collect();
            marks.extend(later.map(|ahead| (1, 7, at(-ahead))));
            History {
                now,
                now_given,
                marks,
                deleted_before: deleted.0.map(|days| at(days * 24)),
                deleted_month: deleted.1.map(|back| {
                    Period::containing(Grain::Month, now)
                        .unwrap()
                        .shift(-back)
                        .unwrap()
                }),
            }
        },
    )
}

impl History {
    fn is_deleted(&self, period: Period) -> bool {
        matches!(period.grain(), Grain::Hour | Grain::Day)
            && (self
                .deleted_before
                .is_some_and(|before| period.end() <= before)
                || self
                    .deleted_month
                    .is_some_and(|month| period.within(Grain::Month) == month))
    }

    /// Writes it into an empty store.
    fn fill(&self, tracker: &Tracker) {
        let mut batch = tracker.batch();
        for (event, user, at) in &self.marks {
            batch
                .mark_to(
                    &name(EVENTS[*event]),
                    *user,
                    *at,
                    Extent {
                        hourly: true,
                        ever: false,
                    },
                )
                .unwrap();
        }
        batch.commit().unwrap();
        let mut gone: Vec<Key> = tracker.keys("").unwrap();
        gone.retain(|key| matches!(key.when(), When::In(period) if self.is_deleted(period)));
        tracker.delete_keys(&gone).unwrap();
    }

    fn who(&self, event: usize, period: Period) -> BTreeSet<u32> {
        let inside = |at: DateTime<Utc>| {
            period.start() <= at && at < period.end() && !self.is_deleted(period)
        };
        self.marks
            .iter()
            .filter(|(e, _, at)| *e == event && inside(*at))
            .map(|(_, user, _)| *user)
            .collect()
    }

    /// The periods of a grain that have a bitmap.
    fn kept(&self, grain: Grain) -> BTreeSet<Period> {
        let all = self
            .marks
            .iter()
            .map(|(_, _, at)| Period::containing(grain, *at).unwrap());
        all.filter(|period| !self.is_deleted(*period)).collect()
    }

    fn covered(&self, grain: Grain) -> Covered {
        let current = Period::containing(grain, self.now).unwrap();
        let kept = self.kept(grain);
        let of = |grains: &[Grain]| {
            grains
                .iter()
                .flat_map(|grain| self.kept(*grain))
                .collect::<Vec<Period>>()
        };
        let seen = if grain == Grain::Hour {
            of(&[Grain::Hour])
        } else {
            of(&[Grain::Day, Grain::WEEK, Grain::Month])
        };
        // A month that is not over may hold a mark of a day to come, and no other.
        let later = |month: &Period| {
            let inside = |day: &&Period| {
                day.grain() < month.grain() && day.start() > self.now && day.start() < month.end()
            };
            month.end() > self.now && seen.iter().any(|day| inside(&day))
        };
        let mut begun: Vec<Period> = seen
            .iter()
            .copied()
            .filter(|period| period.start() <= self.now && !later(period))
            .collect();
        begun.sort_by_key(|period| (period.start(), -(period.end() - period.start())));
        let newest = begun.last().copied();
        let yesterday = self
            .now
            .date_naive()
            .pred_opt()
            .unwrap()
            .and_hms_opt(0, 0, 0)
            .unwrap()
            .and_utc();
        let later = self.now_given && seen.iter().any(|period| period.start() > self.now);
        let is_live = newest.is_some_and(|newest| newest.end() > yesterday) || later;
        let last = newest.map(|newest| {
            let end = (newest.end() - TimeDelta::seconds(1)).min(self.now);
            if is_live {
                current
            } else {
                Period::containing(grain, end).unwrap()
            }
        });
        let extent = kept
            .first()
            .copied()
            .zip(last)
            .filter(|(first, last)| first <= last);
        let coarser = [Grain::Day, Grain::WEEK, Grain::Month]
            .into_iter()
            .filter(|other| *other > grain);
        let overlap = |a: Period, b: Period| a.start() < b.end() && b.start() < a.end();
        let gaps: Vec<Period> = coarser
            .filter(|_| grain != Grain::Year)
            .flat_map(|other| self.kept(other))
            .filter(|span| {
                kept.first()
                    .is_some_and(|first| first.end() <= span.start())
            })
            .filter(|span| kept.iter().all(|period| !overlap(*period, *span)))
            .collect();
        Covered {
            current,
            extent,
            gaps,
            data_ends: newest.filter(|_| !is_live),
        }
    }
}

struct Covered {
    current: Period,
    extent: Option<(Period, Period)>,
    gaps: Vec<Period>,
    data_ends: Option<Period>,
}

impl Covered {
    fn is_recorded(&self, period: Period) -> bool {
        let gone = self
            .gaps
            .iter()
            .any(|gap| gap.start() < period.end() && period.start() < gap.end());
        self.extent
            .is_some_and(|(first, last)| first <= period && period <= last)
            && !gone
    }

    fn state(&self, span: &[Period]) -> State {
        let begun: Vec<&Period> = span
            .iter()
            .filter(|period| **period <= self.current)
            .collect();
        let recorded = begun
            .iter()
            .filter(|period| self.is_recorded(***period))
            .count();
        let goes_on = |last: Period| span.iter().any(|period| *period >= last);
        match (begun.len(), recorded) {
            (0, _) => State::Future,
            (_, 0) => State::NotRecorded,
            (begun, recorded) if recorded < begun => State::PartlyRecorded,
            _ if self.extent.is_some_and(|(_, last)| goes_on(last)) => State::InProgress,
            _ => State::Complete,
        }
    }
}

#[derive(Debug, Clone)]
struct PageQuery {
    grain: Grain,
    rows: u32,
    cols: u32,
    from: Option<i64>,
    to: Option<i64>,
    later: bool,
    same: bool,
}

fn questions() -> impl Strategy<Value = PageQuery> {
    let grain = prop_oneof![
        2 => Just(Grain::Hour), 4 => Just(Grain::Day), 3 => Just(Grain::WEEK), 2 => Just(Grain::Month), 1 => Just(Grain::Year)
    ];
    let date = || prop::option::weighted(0.4, 0_i64..50);
    (
        grain,
        1_u32..9,
        1_u32..9,
        date(),
        date(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(grain, rows, cols, from, to, later, same)| PageQuery {
            grain,
            rows,
            cols,
            from,
            to,
            later,
            same,
        })
}

static SEEN: [AtomicUsize; 5] = [const { AtomicUsize::new(0) }; 5];

fn check(tracker: &Tracker, history: &History, asked: &PageQuery) -> Result<(), TestCaseError> {
    history.fill(tracker);
    let returning = usize::from(!asked.same);
    let date = |back: i64| (history.now - TimeDelta::days(back)).date_naive();
    let query = Query {
        rows: Some(asked.rows),
        cols: Some(asked.cols),
        from: asked.from.map(date),
        to: asked.to.map(date),
        measure: if asked.later {
            Measure::OnOrAfter
        } else {
            Measure::On
        },
        ..Query::new(
            Segment::event(&name(EVENTS[0])),
            Segment::event(&name(EVENTS[returning])),
            asked.grain,
        )
    };
    let run = Run {
        now_given: history.now_given,
        ..Run::at(history.now)
    };
    let answer = match tracker.run(&query, &run) {
        Ok(answer) => answer,
        Err(cohortist::Error::Query(QueryError::Order { .. } | QueryError::Between { .. })) => {
            return Ok(());
        }
        Err(error) => return Err(TestCaseError::fail(error.to_string())),
    };
    let (table, covered) = (answer.answer, history.covered(asked.grain));
    prop_assert_eq!(table.data_ends, covered.data_ends);
    prop_assert_eq!(table.current, covered.current);
    let last = table.rows.last().unwrap().period;
    if asked.from.is_none() && asked.to.is_none() {
        let newest = covered.extent.map_or(covered.current, |(_, last)| last);
        let whole = newest.shift(-i64::from(asked.cols)).unwrap();
        let begins = covered
            .extent
            .map(|(first, _)| first.shift(i64::from(asked.rows) - 1).unwrap().min(newest));
        let wanted = if asked.later {
            begins.map_or(whole, |begins| whole.max(begins))
        } else {
            newest
        };
        prop_assert_eq!(last, wanted);
        prop_assert_eq!(table.rows.len(), asked.rows as usize);
    }
    let mut tidy: Vec<Vec<String>> = Vec::new();
    let mut people: BTreeMap<u32, u64> = BTreeMap::new();
    for row in &table.rows {
        let cohort = history.who(0, row.period);
        let known = covered.is_recorded(row.period);
        prop_assert_eq!(row.size, known.then_some(cohort.len() as u64));
        prop_assert_eq!(row.state, covered.state(&[row.period]));
        cohort
            .iter()
            .filter(|_| known)
            .for_each(|user| *people.entry(*user).or_default() += 1);
        let all: Vec<Period> = row.period.range(asked.cols).collect();
        for (k, cell) in row.cells.iter().enumerate() {
            let span = if asked.later { &all[k..] } else { &all[k..=k] };
            let state = match covered.state(span) {
                State::Future => State::Future,
                _ if !known => State::NotRecorded,
                state => state,
            };
            if known && cohort.is_empty() {
                prop_assert_eq!(*cell, Cell::Blank);
                continue;
            }
            SEEN[state as usize].fetch_add(1, Ordering::Relaxed);
            let back: BTreeSet<u32> = span
                .iter()
                .filter(|period| covered.is_recorded(**period))
                .flat_map(|period| history.who(returning, *period))
                .collect();
            let retained = cohort.intersection(&back).count() as u64;
            let size = row.size.map(|size| size.to_string()).unwrap_or_default();
            let bounds = |p: Period| {
                let form = if asked.grain == Grain::Hour {
                    "%Y-%m-%dT%H:%M:%SZ"
                } else {
                    "%Y-%m-%d"
                };
                [
                    p.start().format(form).to_string(),
                    p.end().format(form).to_string(),
                ]
            };
            let line = |numbers: [String; 2]| {
                let cohort = [
                    bounds(row.period).to_vec(),
                    vec![size.clone(), k.to_string()],
                ]
                .concat();
                [
                    cohort,
                    bounds(all[k]).to_vec(),
                    numbers.to_vec(),
                    [state.as_str(), row.state.as_str(), ""]
                        .map(str::to_owned)
                        .to_vec(),
                ]
                .concat()
            };
            match (state, cell) {
                (State::Future, Cell::Blank) => {}
                (State::NotRecorded, Cell::NotRecorded(period)) => {
                    prop_assert_eq!(*period, all[k]);
                    tidy.push(line(Default::default()));
                }
                (
                    State::Complete | State::InProgress | State::PartlyRecorded,
                    Cell::Number(number),
                ) => {
                    prop_assert_eq!((number.period, number.state), (all[k], state));
                    prop_assert_eq!((number.retained, Some(number.size)), (retained, row.size));
                    prop_assert_eq!(number.interval().is_some(), state != State::PartlyRecorded);
                    tidy.push(line([
                        retained.to_string(),
                        (retained as f64 / cohort.len() as f64).to_string(),
                    ]));
                }
                _ => prop_assert!(false, "{state:?} {cell:?} in {row:?}"),
            }
        }
    }
    prop_assert_eq!(
        (table.entries, table.people),
        (people.values().sum::<u64>(), people.len() as u64)
    );
    for (k, average) in table.averages.iter().enumerate() {
        let complete: Vec<_> = table
            .rows
            .iter()
            .filter_map(|row| row.cells[k].complete())
            .collect();
        let sums = complete
            .iter()
            .fold((0, 0), |(r, s), cell| (r + cell.retained, s + cell.size));
        prop_assert_eq!(
            average.map(|a| (a.retained, a.size)),
            (!complete.is_empty()).then_some(sums)
        );
    }
    check_files(&table, &tidy)
}

fn check_files(table: &Table, tidy: &[Vec<String>]) -> Result<(), TestCaseError> {
    let records = |text: &str| -> Vec<Vec<String>> {
        let mut reader = ::csv::ReaderBuilder::new().from_reader(text.as_bytes());
        reader
            .records()
            .map(|record| record.unwrap().iter().map(str::to_owned).collect())
            .collect()
    };
    let shown = Shown {
        table: table.clone(),
        show: Show::Count,
        benchmarks: Benchmarks::default(),
    };
    prop_assert_eq!(&records(&csv::frame(&shown.tidy()))[..], tidy);
    for (row, wide) in table.rows.iter().zip(records(&csv::frame(&shown.wide()))) {
        let number = |cell: &Cell| {
            cell.number()
                .map(|number| number.retained.to_string())
                .unwrap_or_default()
        };
        let wanted: Vec<String> = row.cells.iter().map(number).collect();
        prop_assert_eq!(
            (&wide[1], &wide[2..]),
            (
                &row.size.map(|s| s.to_string()).unwrap_or_default(),
                &wanted[..]
            )
        );
    }
    let json: serde_json::Value = serde_json::from_str(&shown.json()).unwrap();
    let cells = json["rows"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row["cells"].as_array().unwrap());
    let cells: Vec<[String; 3]> = cells
        .map(|cell| {
            let blank = |value: &serde_json::Value| {
                if value.is_null() {
                    String::new()
                } else {
                    value.to_string()
                }
            };
            [
                cell["index"].to_string(),
                blank(&cell["retained"]),
                cell["state"].as_str().unwrap().to_owned(),
            ]
        })
        .collect();
    let wanted: Vec<[String; 3]> = tidy
        .iter()
        .map(|line| [3, 6, 8].map(|field| line[field].clone()))
        .collect();
    prop_assert_eq!(cells, wanted);
    Ok(())
}

#[test]
fn a_table_is_what_a_plain_model_says_whatever_is_recorded() {
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(400)
    });
    let strategy = (histories(), questions());
    runner
        .run(&strategy, |(history, asked)| {
            let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
            check(&Tracker::new(store), &history, &asked)
        })
        .unwrap();
    let seen = SEEN.each_ref().map(|state| state.load(Ordering::Relaxed));
    assert!(
        seen.iter().all(|times| *times >= 20),
        "each state has to occur: {seen:?}"
    );
    let server = RedisServer::start();
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(40)
    });
    runner
        .run(&strategy, |(history, asked)| {
            ::redis::cmd("FLUSHALL")
                .exec(&mut server.connection())
                .unwrap();
            check(
                &Tracker::new(
                    store::open(&server.url(), &crate::support::redis::patient()).unwrap(),
                ),
                &history,
                &asked,
            )
        })
        .unwrap();
}

// ---- What people meet.

fn moment(text: &str) -> DateTime<Utc> {
    parse_moment(text).unwrap()
}

/// Twenty people sign up each day from 1 to 26 November, and come back for `days` days or until the
/// 26th.
fn exported_on_the_26th() -> Tracker {
    let tracker = empty();
    let mut batch = tracker.batch();
    let last = moment("2026-11-26T12:00:00Z");
    for day in 0..26_i64 {
        let joined = moment("2026-11-01T12:00:00Z") + TimeDelta::days(day);
        for user in 0..20_u32 {
            let id = u32::try_from(day).unwrap() * 20 + user;
            batch.mark(&name("signup"), id, joined).unwrap();
            for k in (0..30)
                .filter(|k| (i64::from(user) + k) % 4 == 0)
                .map(TimeDelta::days)
            {
                if joined + k <= last {
                    batch.mark(&name("active"), id, joined + k).unwrap();
                }
            }
        }
    }
    batch.commit().unwrap();
    tracker
}

#[test]
fn an_export_of_last_week_has_the_averages_of_its_recorded_days() {
    let now = moment("2026-12-01T09:00:00Z");
    let tracker = exported_on_the_26th();
    let query = Query {
        rows: Some(26),
        cols: Some(14),
        ..Query::new(
            "signup".parse().unwrap(),
            "active".parse().unwrap(),
            Grain::Day,
        )
    };
    let table = tracker.retention(&query, now).unwrap();
    assert_eq!(table.rows.last().unwrap().period.to_string(), "2026-11-26");
    // Each cohort of twenty has five back on any day. The 26th itself is not over.
    let day_7 = table.averages[7].unwrap();
    assert_eq!((day_7.cohorts, day_7.retained, day_7.size), (18, 90, 360));
    let figures = Figures::of(&table).returns;
    assert_eq!(
        figures
            .iter()
            .map(|shown| (shown.column, shown.average.unwrap().rate))
            .collect::<Vec<_>>(),
        [(1, 0.25), (7, 0.25)]
    );

    let host = format!(
        "http://{}",
        serve_dashboard(Dashboard::new(tracker, Clock::Fixed(now)))
    );
    let page = read(&format!("{host}/")).header("location").to_owned();
    assert!(page.contains("by=day") && !page.contains("to="), "{page}");
    let page = read(&format!("{host}{page}")).body;
    assert!(
        page.contains("<span>data ends 26 Nov 2026</span>")
            && page.contains("<span>13 – 26 Nov 2026</span>"),
        "{page}"
    );
    assert!(
        page.contains("<b>25.0%</b><span>came back on day 7</span>"),
        "{page}"
    );
    assert!(
        !page.contains("27 Nov 2026</a>") && !page.contains(">0.0%<"),
        "{page}"
    );
    // Days after the end, asked for by date, are shown as what they are.
    let after = read(&format!(
        "{host}/retention?cohort=signup&returning=active&by=day&from=2026-11-25&cols=4&measure=on_or_after"
    ))
    .body;
    assert!(
        after.contains("≥") && after.contains(": not recorded, ") && after.contains("no data"),
        "{after}"
    );
    let json: serde_json::Value = serde_json::from_str(
        &read(&format!(
            "{host}/retention.json?cohort=signup&returning=active&from=2026-11-26"
        ))
        .body,
    )
    .unwrap();
    assert_eq!(json["data_ends"], "2026-11-26");
    let states: Vec<&str> = json["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        states,
        [
            "in_progress",
            "not_recorded",
            "not_recorded",
            "not_recorded",
            "not_recorded",
            "not_recorded"
        ]
    );
}

#[test]
fn twelve_months_on_or_after_show_what_there_is() {
    let now = moment("2026-11-26T15:00:00Z");
    let (tracker, mut user) = (empty(), 0);
    let mut batch = tracker.batch();
    for month in 4..=11 {
        for _ in 0..10 {
            user += 1;
            for back in month..=11 {
                batch
                    .mark(
                        &name(if back == month { "signup" } else { "active" }),
                        user,
                        moment(&format!("2026-{back:02}-20")),
                    )
                    .unwrap();
            }
        }
    }
    batch.mark(&name("active"), 1, now).unwrap();
    batch.commit().unwrap();
    let host = format!(
        "http://{}",
        serve_dashboard(Dashboard::new(tracker, Clock::Fixed(now)))
    );
    let page = read(&format!(
        "{host}/retention?cohort=signup&returning=active&by=month&measure=on_or_after"
    ))
    .body;
    assert!(page.contains(">100%*<"), "{page}");
    let notice = page
        .split("<p class=\"notice\" role=\"status\">")
        .nth(1)
        .unwrap()
        .split("</p>")
        .next()
        .unwrap();
    let link = notice
        .split("href=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .replace("&#38;", "&");
    let page = read(&format!("{host}{link}")).body;
    assert!(
        page.contains("<tr class=\"mean\">")
            && !page.contains("class=\"notice\" role=\"status\">No cohort"),
        "{link}: {page}"
    );
}

#[test]
fn real_purchases_end_in_june_1998() {
    let shop = Shop::new();
    shop.write("cdnow.csv", include_str!("../fixtures/cdnow_sample.csv"));
    shop.run(&["import", "cdnow.csv"]).done();
    let later = |args: &[&str]| shop.run(&[&["--now", "2026-12-01"], args].concat());
    let table = later(&["retention", "purchase", "purchase", "--by", "month"]).quietly();
    assert!(
        table.contains("data ends 30 Jun 1998") && table.contains("Jun 1998"),
        "{table}"
    );
    assert!(
        !table.contains(" 0.0%") && !table.contains("1999"),
        "{table}"
    );
    // As of the last day it is the same, but for what is recorded later.
    let then = shop
        .run(&[
            "--now",
            "1998-06-30",
            "retention",
            "purchase",
            "purchase",
            "--by",
            "month",
            "--format",
            "csv",
        ])
        .done();
    assert_eq!(
        later(&[
            "retention",
            "purchase",
            "purchase",
            "--by",
            "month",
            "--format",
            "csv"
        ])
        .quietly(),
        then
    );
    let tidy = later(&[
        "retention",
        "purchase",
        "purchase",
        "--by",
        "month",
        "--from",
        "1998-05-01",
        "--to",
        "1998-07-31",
        "--cols",
        "3",
        "--format",
        "tidy",
    ]);
    let tidy = tidy.quietly();
    let states: Vec<&str> = tidy
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(8).unwrap())
        .collect();
    let none = "not_recorded";
    assert_eq!(
        states,
        [
            "complete",
            "in_progress",
            none,
            "in_progress",
            none,
            none,
            none,
            none,
            none
        ],
        "{tidy}"
    );
    assert!(
        tidy.lines()
            .last()
            .unwrap()
            .starts_with("1998-07-01,1998-08-01,,2,1998-09-01,1998-10-01,,,not_recorded"),
        "{tidy}"
    );
    // No note tells to pass a date alone.
    let years = later(&[
        "retention",
        "purchase",
        "purchase",
        "--from",
        "2020-01-01",
        "--to",
        "2020-01-05",
    ]);
    assert!(
        years.err.contains("1997-01-01")
            && years.err.contains("1998-06-30")
            && !years.err.contains("--to 1998"),
        "{}",
        years.err
    );

    let tracker = Tracker::new(
        store::open(
            shop.path("cohortist.db").to_str().unwrap(),
            &Options::default(),
        )
        .unwrap(),
    );
    let host = format!(
        "http://{}",
        serve_dashboard(Dashboard::new(
            tracker,
            Clock::Fixed(moment("2026-12-01T09:00:00Z"))
        ))
    );
    let to = read(&format!("{host}/")).header("location").to_owned();
    assert!(to.contains("by=month"), "{to}");
    let page = read(&format!("{host}{to}")).body;
    assert!(
        page.contains("<span>data ends 30 Jun 1998</span>") && page.contains("Jul 1997 – Jun 1998"),
        "{page}"
    );
    assert!(!page.contains(">0.0%<"), "{page}");
    // The year to date is the one in which the data ends.
    let year = "cohort=purchase&returning=purchase&by=month&rows=6&from=1998-01-01";
    let to = read(&format!(
        "{host}/retention?cohort=purchase&returning=purchase&range=ytd"
    ));
    assert_eq!(to.header("location"), format!("/retention?{year}"));
    let page = read(&format!("{host}/retention?{year}")).body;
    assert!(
        page.contains("value=\"ytd\" aria-pressed=\"true\"")
            && page.contains("Jan 1998 – Jun 1998"),
        "{page}"
    );
    // Also where the configuration asks for it.
    shop.write(
        "ytd.toml",
        "[question]\ncohort = \"purchase\"\nreturning = \"purchase\"\nrange = \"ytd\"\n",
    );
    let copy = shop.path("cohortist.db");
    let copied = shop.path("ytd.db");
    std::fs::create_dir(&copied).unwrap();
    for file in std::fs::read_dir(copy).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copied.join(file.file_name())).unwrap();
    }
    let (serving, _) = Serving::saying(
        &shop,
        &[
            "--config",
            "ytd.toml",
            "--store",
            "ytd.db",
            "serve",
            "--listen",
            "127.0.0.1:0",
        ],
        "store: ",
    );
    let to = read(&format!("http://{}/", serving.address));
    assert_eq!(to.header("location"), format!("/retention?{year}"));
}

#[test]
fn the_end_of_hours_has_a_year() {
    let shop = Shop::new();
    for at in ["2024-11-25 14:30", "2024-11-26 14:30"] {
        shop.run(&["mark", "active", "1", "--hourly", "--at", at])
            .done();
    }
    let end = "data ends 26 Nov 2024, 14:00";
    let table = shop.run(&["retention", "active", "active", "--by", "hour"]);
    assert!(table.out.contains(end), "{}", table.out);
    let count = shop.run(&["count", "active@2026-11-23T01"]);
    assert!(count.err.contains(end), "{}", count.err);
    let (serving, _) = Serving::saying(&shop, &["serve", "--listen", "127.0.0.1:0"], "store: ");
    let question = "cohort=active&returning=active&by=hour";
    for (path, said) in [
        (format!("/retention?{question}"), end),
        (
            format!("/retention?{question}&from=2026-11-20&rows=1&cols=1"),
            "no data in the hour from 20 Nov 2026, 00:00; it has data from 25 Nov 2024, 14:00 to 26 Nov 2024, 14:00",
        ),
        ("/people?set=active@2026-11-23T01".to_owned(), end),
        (
            "/people?set=active@2026-11-23T01".to_owned(),
            "23 Nov 2026, 01:00 is not recorded",
        ),
        (
            format!("/people?{question}&at=2024-11-26T14&k=0"),
            "<span>26 Nov 2024, 14:00</span>",
        ),
    ] {
        let page = read(&format!("http://{}{path}", serving.address)).body;
        assert!(page.contains(said), "{path}: {page}");
    }
}

/// Where the front page of these marks leads, and the page.
fn front_page(now: DateTime<Utc>, marks: &[(&str, u32, DateTime<Utc>)]) -> (String, String) {
    let tracker = empty();
    let mut batch = tracker.batch();
    for (event, user, at) in marks.iter().filter(|(_, _, at)| *at <= now) {
        batch.mark(&name(event), *user, *at).unwrap();
    }
    batch.commit().unwrap();
    let host = format!(
        "http://{}",
        serve_dashboard(Dashboard::new(tracker, Clock::Fixed(now)))
    );
    let to = read(&format!("{host}/")).header("location").to_owned();
    let page = read(&format!("{host}{to}")).body;
    (to, page)
}

/// The grain of the front page follows how soon people come back, and not what events are called.
#[test]
fn the_front_page_opens_by_the_rhythm_of_the_data() {
    let now = moment("2026-11-26T15:00:00Z");
    // A shop: a handful of sign-ups a day for 23 months. People buy after 15 to 25 days, and half of
    // them once more a month later.
    let shop = |purchase: &'static str| {
        let (mut marks, mut user) = (Vec::new(), 0);
        for day in 0..690_u32 {
            let joined = moment("2025-01-06T12:00:00Z") + TimeDelta::days(day.into());
            for _ in 0..1 + day * 7 % 6 {
                user += 1;
                let bought = joined + TimeDelta::days(i64::from(15 + user % 11));
                marks.extend([("signup", user, joined), (purchase, user, bought)]);
                marks.extend((user % 2 == 0).then_some((
                    purchase,
                    user,
                    bought + TimeDelta::days(30),
                )));
            }
        }
        marks
    };
    for purchase in ["purchase", "visit", "active"] {
        let (to, page) = front_page(now, &shop(purchase));
        assert!(to.contains("by=month"), "{purchase}: {to}");
        let back = page
            .split("<span>came back in month 1</span>")
            .next()
            .unwrap();
        assert!(!back.contains("<b>0.0%</b>"), "{purchase}: {page}");
    }
    // Renewals, once a year.
    let renewals = (0..300_u32).flat_map(|user| {
        let began = moment("2021-02-01T12:00:00Z") + TimeDelta::days((user % 300).into());
        (0..6).map(move |year| ("renew", user, began + TimeDelta::days(365 * year)))
    });
    let (to, page) = front_page(now, &renewals.collect::<Vec<_>>());
    assert!(to.contains("by=year"), "{to}");
    assert!(!page.contains(">0.0%<"), "{page}");
    // Whatever they are called: events of every day, and of every week.
    for (every, grain) in [(1, "by=day"), (7, "by=week")] {
        let pings = (0..30_u32).flat_map(|user| {
            let days = (0..120).step_by(every);
            days.map(move |back| ("ping", user, now - TimeDelta::days(back)))
        });
        let (to, _) = front_page(now, &pings.collect::<Vec<_>>());
        assert!(to.contains(grain), "{to}");
    }
}

/// Another client marks what a list of bitmaps does not know yet: the list is read again, and no
/// number hidden.
#[test]
fn a_number_that_is_news_to_the_list_is_shown() {
    let server = RedisServer::start();
    let open =
        || Tracker::new(store::open(&server.url(), &crate::support::redis::patient()).unwrap());
    let (reader, writer, now) = (open(), open(), moment("2026-11-26T15:00:00Z"));
    writer
        .mark(&name("signup"), 1, now - TimeDelta::days(9))
        .unwrap();
    let query = Query::new(
        "signup".parse().unwrap(),
        "signup".parse().unwrap(),
        Grain::Day,
    );
    assert_eq!(
        reader
            .retention(&query, now)
            .unwrap()
            .rows
            .last()
            .unwrap()
            .period
            .to_string(),
        "2026-11-17"
    );
    writer.mark(&name("signup"), 2, now).unwrap();
    let query = Query {
        from: Some(now.date_naive() - TimeDelta::days(9)),
        ..query
    };
    let table = reader.retention(&query, now).unwrap();
    assert_eq!(
        (table.rows.last().unwrap().size, table.data_ends),
        (Some(1), None)
    );
    assert_eq!(table.rows[1].size, Some(0), "the store went on");
}

#[test]
fn contradictions_are_counted() {
    let before = cohortist::reports::clamped_counts();
    let query = Query {
        rows: Some(1),
        cols: Some(1),
        ..Query::new("a".parse().unwrap(), "b".parse().unwrap(), Grain::Day)
    };
    let (plan, question) = plan_at(&query, moment("2026-11-26")).unwrap();
    // Of three people five came back: the counts are of two moments.
    let table = question.table(&Counts::new(&plan, vec![3, 5, 3, 3]).unwrap());
    assert_eq!(table.numbers().next().unwrap().retained, 3);
    assert!(cohortist::reports::clamped_counts() > before);
}
