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
//! # Cargo features
//!
//! Without default features the crate is a library with the embedded store, in memory and on disk.
//!
//! ```toml
//! [dependencies]
//! cohortist = { version = "0.1", default-features = false }
//! ```
//!
//! | feature | adds | enables |
//! |---|---|---|
//! | `redis` | stores in Redis, Valkey and bitmapist-server | |
//! | `cluster` | stores in Redis Cluster | `redis` |
//! | `charts` | charts as SVG | |
//! | `resp` | the listener for Redis clients | |
//! | `server` | the dashboard and its HTTP API | `charts` |
//! | `cli` | the `cohortist` program | `redis`, `resp`, `server` |
//! | `parquet` | imports of Parquet files, in the program | |
//!
//! All of them are on by default. [`store::open`] returns [`store::StoreError::FeatureDisabled`]
//! for a store whose feature is off.
//!
//! Moments and dates are those of [`chrono`], re-exported as `cohortist::chrono`.
//!
//! # Layout
//!
//! One idea carries the crate: *a report is a batch of counts over set algebra.*
//!
//! ```text
//!  address/flags → Query ──(reports)──▶ Plan ──(store)──▶ [u64] ──(reports)──▶ Table ─▶ page · CSV · JSON · SVG · terminal
//! ```
//!
//! The public API is in the modules with a link. The others may change in any release; those that
//! tests and benchmarks use are public and hidden from this documentation.
//!
//! | module | contents | imports | feature |
//! |---|---|---|---|
//! | [`calendar`] | periods: parse, print, shift, bounds; pure | | |
//! | [`sets`] | event names, keys, set expressions, segments, plans; pure | calendar | |
//! | `bitmap` | tiles of bits and the evaluation of plans over them; pure | sets | |
//! | `values` | names, user ids and times as programs write them; pure | sets, calendar | |
//! | [`store`] | `Store` and its implementations: embedded, Redis, Redis Cluster | sets, bitmap | `redis`, `cluster` |
//! | [`stats`] | intervals, comparisons and survival of shares; pure | | |
//! | [`reports`] | questions → plans, counts → tables; pure | sets, stats, calendar | |
//! | `tracker` | [`Tracker`], [`Batch`], [`Systems`] | store, reports | |
//! | `render` | tables as CSV, JSON, text and charts; pure | reports | `charts` |
//! | `ingest` | lines of CSV and NDJSON, rows of Parquet → marks; pure | values, sets, calendar | `cli` |
//! | `server` | the dashboard | render, tracker | `server` |
//! | `resp` | a listener that speaks Redis' protocol over the embedded store | store | `resp` |
//! | `cli` | the commands | everything | `cli` |
//! | `demo` | the data of `cohortist demo` | tracker | `cli` |
//! | `telemetry` | counters and durations for `/metrics` | | |
//! | `clock` | the only place that reads the clock | | |
//!
//! A new report is a file in `reports` that makes a [`sets::Plan`] and reads its counts; it runs on
//! every store. A new store implements [`store::Store`] and runs every report;
//! `tests/it/store_contract.rs` checks it.

// Some internal functions have callers only in the code of one feature.
#![cfg_attr(
    not(all(feature = "cli", feature = "cluster")),
    allow(dead_code, unused_imports)
)]

#[doc(hidden)]
pub mod bitmap;
pub mod calendar;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod clock;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod demo;
pub mod endpoints;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod ingest;
#[cfg(any(feature = "server", feature = "resp"))]
mod listen;
mod panics;
#[cfg(any(feature = "server", feature = "resp"))]
mod peers;
#[cfg(any(feature = "server", feature = "resp"))]
mod process;
#[doc(hidden)]
pub mod render;
pub mod reports;
#[cfg(feature = "resp")]
#[doc(hidden)]
pub mod resp;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod server;
pub mod sets;
pub mod stats;
pub mod store;
#[doc(hidden)]
pub mod telemetry;
mod tracker;
#[doc(hidden)]
pub mod values;

pub use chrono;
pub use tracker::{
    Answered, Asked, Batch, Counted, Error, Extent, Forgotten, Ids, IdsError, Members, Result, Run,
    Systems, Tracker, Written, ZoneError,
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
