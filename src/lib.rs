//! Cohort retention from bitmaps of users: a library, a command line and a dashboard that read and
//! write bitmapist's own Redis data, or an embedded store that needs no server.
//!
//! [`Tracker`] is the front door: mark what users did, ask who did it, and get retention tables.
//!
//! ```
//! use cohortist::{Tracker, store, calendar::{Grain, parse_moment}, reports::retention::Query, sets::EventName};
//!
//! let tracker = Tracker::new(store::open("memory:", &store::Options::default())?);
//! let (signup, active) = (EventName::new("signup")?, EventName::new("active")?);
//! tracker.batch()
//!     .mark(&signup, 1, parse_moment("2026-11-21")?)?
//!     .mark(&signup, 2, parse_moment("2026-11-21")?)?
//!     .mark(&active, 2, parse_moment("2026-11-22")?)?
//!     .commit()?;
//!
//! let query = Query::new("signup".parse()?, "active".parse()?, Grain::Day);
//! let table = tracker.retention(&query, parse_moment("2026-11-23T09:00:00Z")?)?;
//! let saturday = table.rows.iter().find(|row| row.people() > 0).unwrap();
//! let next_day = saturday.cells[1].number().unwrap();
//! assert_eq!((saturday.period.label().as_str(), next_day.retained, next_day.rate()), ("Sat 21 Nov 2026", 1, 0.5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layout
//!
//! One idea carries the crate: *a report is a batch of counts over set algebra.*
//!
//! ```text
//!  address/flags → Query ──(reports)──▶ Plan ──(store)──▶ [u64] ──(reports)──▶ Table ─▶ page · CSV · JSON · SVG · terminal
//! ```
//!
//! | room | what it holds | sees |
//! |---|---|---|
//! | [`calendar`] | periods: parse, print, shift, bounds; pure | |
//! | [`sets`] | event names, keys, set expressions, segments, plans; pure | calendar |
//! | [`bitmap`] | tiles of bits and the evaluation of plans over them; pure | sets |
//! | [`ingest`] | lines of CSV and NDJSON → marks; pure | sets, calendar |
//! | [`store`] | `Store` and what implements it: embedded, Redis, Redis Cluster | sets, bitmap |
//! | [`reports`] | questions → plans, counts → tables; pure | sets, calendar |
//! | `tracker` | [`Tracker`], [`Batch`], [`Systems`] | store, reports |
//! | [`render`] | tables as CSV, JSON, text and charts; pure | reports |
//! | [`server`] | the dashboard | render, tracker |
//! | [`resp`] | a listener that speaks Redis' protocol over the embedded store | store |
//! | [`cli`] | the commands | everything |
//! | [`telemetry`] | counters and durations for `/metrics` | |
//! | [`clock`] | the one place that reads the clock | |
//!
//! A new report is a file in `reports` that makes a [`sets::Plan`] and reads its counts; it runs on
//! every store. A new store implements [`store::Store`] and runs every report;
//! `tests/it/store_contract.rs` tells whether it does so rightly.

pub mod bitmap;
pub mod calendar;
pub mod cli;
pub mod clock;
pub mod demo;
pub mod ingest;
mod listen;
mod peers;
pub mod render;
pub mod reports;
pub mod resp;
pub mod server;
pub mod sets;
pub mod store;
pub mod telemetry;
mod tracker;

pub use tracker::{
    Batch, Error, Extent, Ids, IdsError, Members, Result, Systems, Tracker, Written,
};

/// The examples of the README and the book, run as tests.
#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/accuracy.md")]
    struct Accuracy;

    #[doc = include_str!("../docs/reference/library.md")]
    struct Library;
}
