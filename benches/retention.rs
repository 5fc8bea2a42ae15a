//! 10 M users, 31 daily cohorts × 13 columns (325 live cells), on both stores: `cargo bench`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use cohortist::Tracker;
use cohortist::sets::Prefix;
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{self, Mark, Options, RedisEval, Store};
use criterion::{Criterion, criterion_group, criterion_main};

#[path = "../tests/it/support/redis.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "shared/ten_million.rs"]
mod ten_million;

use ten_million::{bitmaps, bytes, now, query};

fn measure(c: &mut Criterion, name: &str, store: Arc<dyn Store>) -> Vec<u64> {
    let tracker = Tracker::new(store);
    let mut group = c.benchmark_group(name);
    group
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    let mut seen = Vec::new();
    for cohort in ["signup", "active"] {
        let query = query(cohort);
        let table = tracker.retention(&query, now()).unwrap();
        let cells = table
            .rows
            .iter()
            .flat_map(|r| r.numbers().map(|c| c.retained));
        let before = seen.len();
        seen.extend(cells);
        assert_eq!(seen.len() - before, 325);
        group.bench_function(format!("{cohort} → active"), |b| {
            b.iter(|| tracker.retention(&query, now()).unwrap())
        });
    }
    group.finish();
    seen
}

fn retention(c: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let embedded = EmbeddedStore::open(directory.path(), &Options::default()).unwrap();
    for (key, users) in bitmaps() {
        let marks: Vec<Mark> = users
            .iter()
            .map(|user| Mark {
                key: key.clone(),
                user: *user,
                value: true,
            })
            .collect();
        embedded.apply(&marks).unwrap();
    }
    embedded.checkpoint().unwrap();
    let ours = measure(c, "embedded, warm", Arc::new(embedded.clone()));
    drop(embedded);
    {
        let mut group = c.benchmark_group("embedded, cold");
        group
            .sample_size(10)
            .measurement_time(Duration::from_secs(5));
        group.bench_function("open + active → active", |b| {
            b.iter(|| {
                let store = EmbeddedStore::open(directory.path(), &Options::default()).unwrap();
                Tracker::new(Arc::new(store))
                    .retention(&query("active"), now())
                    .unwrap()
            });
        });
    }

    let server = redis_server::RedisServer::start();
    let mut connection = server.connection();
    for (key, users) in bitmaps() {
        redis::cmd("SET")
            .arg(key.text(&Prefix::default()))
            .arg(bytes(&users))
            .exec(&mut connection)
            .unwrap();
    }
    for (name, redis_eval) in [
        ("Redis", RedisEval::Auto),
        ("Redis, server computes", RedisEval::Server),
    ] {
        let redis = store::open(
            &server.url(),
            &Options {
                redis_eval,
                ..Options::default()
            },
        )
        .unwrap();
        assert_eq!(ours, measure(c, name, redis), "both stores count the same");
    }
}

criterion_group!(benches, retention);
criterion_main!(benches);
