//! 10 M users, 31 daily cohorts × 13 columns (325 live cells), on both stores: `cargo bench`.
//!
//! `active`: 570 000 random users each day. `signup`: 10 000 users each day, ids in order of sign-up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use cohortist::Tracker;
use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::reports::retention::Query;
use cohortist::sets::{EventName, Key, Prefix, Segment};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{self, Mark, Options, Store};
use criterion::{Criterion, criterion_group, criterion_main};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

#[path = "../tests/it/support/redis.rs"]
#[allow(dead_code)]
mod redis_server;

const USERS: u32 = 10_000_000;
const DAYS: i64 = 31;
const ACTIVE: u32 = 570_000;
const SIGNUPS: u32 = 10_000;

fn now() -> DateTime<Utc> {
    parse_moment("2026-10-31T18:00:00Z").unwrap()
}

/// The users of each bitmap.
fn bitmaps() -> impl Iterator<Item = (Key, Vec<u32>)> {
    let today = Period::containing(Grain::Day, now()).unwrap();
    let [active, signup] = ["active", "signup"].map(|name| EventName::new(name).unwrap());
    (0..DAYS).flat_map(move |back| {
        let day = today.shift(-back).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(back.unsigned_abs());
        let mut users: Vec<u32> = (0..ACTIVE).map(|_| random.next_u32() % USERS).collect();
        users.sort_unstable();
        users.dedup();
        let newest = USERS - u32::try_from(back).unwrap() * SIGNUPS;
        [
            (Key::new(active.clone(), day).unwrap(), users),
            (Key::new(signup.clone(), day).unwrap(), (newest - SIGNUPS..newest).collect()),
        ]
    })
}

fn query(cohort: &str) -> Query {
    let segment = |name: &str| name.parse::<Segment>().unwrap();
    Query { rows: Some(31), cols: Some(13), ..Query::new(segment(cohort), segment("active"), Grain::Day) }
}

fn measure(c: &mut Criterion, name: &str, store: Arc<dyn Store>) -> Vec<u64> {
    let tracker = Tracker::new(store);
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    let mut seen = Vec::new();
    for cohort in ["signup", "active"] {
        let query = query(cohort);
        let table = tracker.retention(&query, now()).unwrap();
        let cells = table.rows.iter().flat_map(|r| r.cells.iter().flatten().map(|c| c.retained));
        let before = seen.len();
        seen.extend(cells);
        assert_eq!(seen.len() - before, 325);
        group.bench_function(format!("{cohort} → active"), |b| b.iter(|| tracker.retention(&query, now()).unwrap()));
    }
    group.finish();
    seen
}

fn retention(c: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let embedded = EmbeddedStore::open(directory.path(), &Options::default()).unwrap();
    for (key, users) in bitmaps() {
        let marks: Vec<Mark> = users.iter().map(|user| Mark { key: key.clone(), user: *user, value: true }).collect();
        embedded.apply(&marks).unwrap();
    }
    embedded.checkpoint().unwrap();
    let ours = measure(c, "embedded, warm", Arc::new(embedded.clone()));
    drop(embedded);
    {
        let mut group = c.benchmark_group("embedded, cold");
        group.sample_size(10).measurement_time(Duration::from_secs(5));
        group.bench_function("open + active → active", |b| {
            b.iter(|| {
                let store = EmbeddedStore::open(directory.path(), &Options::default()).unwrap();
                Tracker::new(Arc::new(store)).retention(&query("active"), now()).unwrap()
            });
        });
    }

    let server = redis_server::RedisServer::start();
    let mut connection = server.connection();
    for (key, users) in bitmaps() {
        let mut bytes = vec![0_u8; (users.last().unwrap() / 8 + 1) as usize];
        users.iter().for_each(|user| bytes[(user / 8) as usize] |= 0x80 >> (user % 8));
        let text = key.text(&Prefix::default());
        redis::cmd("SET").arg(text).arg(bytes).exec(&mut connection).unwrap();
    }
    let redis = store::open(&server.url(), &Options::default()).unwrap();
    let theirs = measure(c, "Redis", redis);
    assert_eq!(ours, theirs, "both stores count the same");
}

criterion_group!(benches, retention);
criterion_main!(benches);
