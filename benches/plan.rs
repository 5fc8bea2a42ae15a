//! Times the library's answers on a store that somebody filled; `benches/peers/run` does so beside
//! other programs.
//!
//! `cargo bench --bench plan -- STORE` reads a line for each question from its standard input, the
//! cohort's event and whether the store is opened anew for it (`active warm`, `signup cold`), and
//! answers each with a line of JSON: how many milliseconds it took from the question to the table,
//! and the table's sizes and counts. A line may also be a report with its fields
//! (`lifecycle?event=active&by=day&rows=90`). Its answer has the rows of the tidy CSV.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{BufRead, Write};
use std::time::Instant;

use cohortist::calendar::{Grain, parse_moment};
use cohortist::reports::Params;
use cohortist::reports::retention::Query;
use cohortist::store::{self, Options};
use cohortist::{Run, Tracker, endpoints};

fn main() {
    // cargo adds a flag of its own.
    let Some(location) = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"))
    else {
        println!(
            "usage: cargo bench --bench plan -- STORE < QUESTIONS; see the head of benches/plan.rs"
        );
        return;
    };
    let now = parse_moment("2026-10-31T18:00:00Z").unwrap();
    let open = || Tracker::new(store::open(&location, &Options::default()).unwrap());
    let mut tracker = open();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        if let Some((name, fields)) = line.split_once('?') {
            let endpoint = endpoints::by_name(name).unwrap();
            let fields = fields
                .split('&')
                .map(|field| field.split_once('=').unwrap());
            let params = Params::read(endpoint.fields(), fields);
            let began = Instant::now();
            let answer = endpoint.answer(&params, &tracker, &Run::at(now)).unwrap();
            let ms = began.elapsed().as_secs_f64() * 1000.0;
            let rows = answer.export.tidy().to_json();
            say(&serde_json::json!({ "ms": ms, "rows": rows }));
            continue;
        }
        let (cohort, how) = line.split_once(' ').unwrap();
        let (cohort, active) = (cohort.parse().unwrap(), "active".parse().unwrap());
        let query = Query {
            rows: Some(31),
            cols: Some(13),
            ..Query::new(cohort, active, Grain::Day)
        };
        if how == "cold" {
            // It lets go of the directory before it is opened again.
            drop(std::mem::replace(
                &mut tracker,
                Tracker::new(store::open("memory:", &Options::default()).unwrap()),
            ));
        }
        let began = Instant::now();
        if how == "cold" {
            tracker = open();
        }
        let table = tracker.retention(&query, now).unwrap();
        let ms = began.elapsed().as_secs_f64() * 1000.0;
        let row = |row: &cohortist::reports::retention::Row| -> Vec<u64> {
            std::iter::once(row.people())
                .chain(row.numbers().map(|cell| cell.retained))
                .collect()
        };
        let grid: Vec<Vec<u64>> = table.rows.iter().map(row).collect();
        say(&serde_json::json!({ "ms": ms, "grid": grid }));
    }
}

fn say(answer: &serde_json::Value) {
    let mut out = std::io::stdout();
    writeln!(out, "{answer}").unwrap();
    out.flush().unwrap();
}
