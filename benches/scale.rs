//! How cost grows: `cargo bench --bench scale [MILLIONS…]`, 1, 10 and 100 million users unless told
//! otherwise.
//!
//! A day of `active` is 5.7 % of all users at random, 31 days of it, and 0.1 % sign up a day with
//! the newest ids. For each size the embedded store is filled and written, opened anew, and asked
//! the 31 × 13 table twice over: cold and warm. Then the same table is asked of a store that holds
//! more events, of which it asks nothing. From what was measured a model is printed for a thousand
//! million users and 500 events; `docs/performance.md` says what it means.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cohortist::Tracker;
use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::reports::retention::Query;
use cohortist::sets::{EventName, Key};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Options, Store};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const DAYS: i64 = 31;
const TILE: f64 = 65_536.0;
/// The memory the store may take for its cache: what a table of that size needs, and half as much
/// again.
const CACHE: u64 = 1 << 30;

fn now() -> DateTime<Utc> {
    parse_moment("2026-10-31T18:00:00Z").unwrap()
}

fn key(event: &str, back: i64) -> Key {
    let day = Period::containing(Grain::Day, now())
        .unwrap()
        .shift(-back)
        .unwrap();
    Key::new(EventName::new(event).unwrap(), day).unwrap()
}

/// Each user with this chance, ascending: the gaps between those who are there are drawn instead of
/// all users.
fn some(seed: u64, users: u64, chance: f64) -> Vec<u32> {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let (mut found, mut at) = (
        Vec::with_capacity((users as f64 * chance * 1.01) as usize),
        -1.0_f64,
    );
    loop {
        let uniform = (f64::from(dice.next_u32()) + 1.0) / 4_294_967_297.0;
        at += 1.0 + (uniform.ln() / (1.0 - chance).ln()).floor();
        if at >= users as f64 {
            return found;
        }
        found.push(at as u32);
    }
}

fn fill(store: &EmbeddedStore, users: u64, other_events: u32) {
    for back in 0..DAYS {
        let active = some(back.unsigned_abs(), users, 0.057);
        let newest = users - back.unsigned_abs() * (users / 1000);
        let signup: Vec<u32> = (newest - users / 1000..newest)
            .map(|user| user as u32)
            .collect();
        store
            .add(&[
                (&key("active", back), &active),
                (&key("signup", back), &signup),
            ])
            .unwrap();
        for event in 0..other_events {
            let users = some(u64::from(event) << 8 | back.unsigned_abs(), users, 0.002);
            store
                .add(&[(&key(&format!("other-{event}"), back), &users)])
                .unwrap();
        }
    }
    store.checkpoint().unwrap();
}

fn bytes_of(directory: &Path) -> u64 {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

/// What the process takes now, in bytes.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn ask(tracker: &Tracker, cohort: &str) -> Duration {
    let query = Query {
        rows: Some(31),
        cols: Some(13),
        ..Query::new(
            cohort.parse().unwrap(),
            "active".parse().unwrap(),
            Grain::Day,
        )
    };
    let began = Instant::now();
    let table = tracker.retention(&query, now()).unwrap();
    assert_eq!(table.rows.iter().flat_map(|row| row.numbers()).count(), 325);
    began.elapsed()
}

struct Measured {
    users: f64,
    bytes: f64,
    fill: f64,
    cold: f64,
    warm: f64,
    signup: f64,
    resident: f64,
}

fn measure(millions: u64, other_events: u32) -> Measured {
    let users = millions * 1_000_000;
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        cache_bytes: CACHE,
        ..Options::default()
    };
    let began = Instant::now();
    let store = EmbeddedStore::open(directory.path(), &options).unwrap();
    fill(&store, users, other_events);
    drop(store);
    let fill = began.elapsed().as_secs_f64();
    let before = resident();
    let began = Instant::now();
    let tracker = Tracker::new(Arc::new(
        EmbeddedStore::open(directory.path(), &options).unwrap(),
    ));
    ask(&tracker, "active");
    let cold = began.elapsed().as_secs_f64() * 1000.0;
    ask(&tracker, "active");
    let warm = median((0..9).map(|_| ask(&tracker, "active")).collect());
    ask(&tracker, "signup");
    let signup = median((0..9).map(|_| ask(&tracker, "signup")).collect());
    let resident = (resident() - before).max(0.0);
    Measured {
        users: users as f64,
        bytes: bytes_of(directory.path()) as f64,
        fill,
        cold,
        warm,
        signup,
        resident,
    }
}

fn main() {
    let asked: Vec<u64> = std::env::args()
        .skip(1)
        .filter_map(|text| text.parse().ok())
        .collect();
    let sizes = if asked.is_empty() {
        vec![1, 10, 100]
    } else {
        asked
    };
    println!(
        "     users | store on disk |  filled | cold, from open | active → active | sign-up → active | memory beyond an empty process"
    );
    let mut all = Vec::new();
    for millions in sizes {
        let m = measure(millions, 0);
        println!(
            "{millions:>7} M  | {:>10.0} MB | {:>5.1} s | {:>12.0} ms | {:>12.2} ms | {:>13.2} ms | {:>8.0} MB",
            m.bytes / 1e6,
            m.fill,
            m.cold,
            m.warm,
            m.signup,
            m.resident / 1e6
        );
        all.push(m);
    }
    let alone = measure(1, 0);
    let crowded = measure(1, 100);
    println!(
        "\n1 M users, 100 other events of 31 days beside it: {:.0} MB instead of {:.0}, active → active {:.2} ms instead of {:.2}",
        crowded.bytes / 1e6,
        alone.bytes / 1e6,
        crowded.warm,
        alone.warm
    );
    let Some(last) = all.last() else { return };
    // A tile of 65 536 users with 5.7 % of them in it is dense: 8 KiB, whoever is in it.
    let tiles = (last.users / TILE).ceil();
    let per_tile = last.warm / tiles / 325.0 * 1e6;
    println!(
        "\nA model, from the last line: {per_tile:.0} ns for each cell and tile of 65 536 users, all cores together"
    );
    for (users, events) in [(1e8, 50.0), (1e9, 500.0)] {
        let tiles = (users / TILE).ceil();
        // A year of days, 53 weeks and 12 months of each event; one event in ten is as common as
        // `active`.
        let periods = 365.0 + 53.0 + 12.0;
        let (common, rare) = (events / 10.0, events * 9.0 / 10.0);
        // A rare one has a fiftieth of the users, as lists of two bytes each, until a tile has 512
        // of them.
        let rare_tile = (0.057_f64 / 50.0 * TILE * 2.0).min(8192.0);
        let bytes = periods * tiles * (common * 8192.0 + rare * rare_tile);
        let page = tiles * 325.0 * per_tile / 1e6;
        let hot = 62.0 * tiles * 8192.0;
        println!(
            "{:>6.0} M users, {events:>3.0} events: {:>7.2} TB a year; a 31 × 13 table reads {:>5.2} GB and takes {:>6.0} ms here, {:>4.0} ms on 8 such machines of a cluster",
            users / 1e6,
            bytes / 1e12,
            hot / 1e9,
            page,
            page / 8.0
        );
    }
}
