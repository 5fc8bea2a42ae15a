//! Every kind of store, fresh and empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cohortist::clock::Clock;
use cohortist::sets::Plan;
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{self, CacheOptions, CachedStore, Options, RedisEval, Store, StoreError};

use crate::support::cluster::{Cluster, own_prefix};
use crate::support::redis::RedisServer;

/// Runs a check on each kind of store.
pub fn each_store(check: impl Fn(&str, Arc<dyn Store>)) {
    check(
        "in memory",
        Arc::new(EmbeddedStore::in_memory(&Options::default())),
    );
    // Small enough that nearly everything passes through checkpoints and the cache.
    let options = Options {
        checkpoint_bytes: 20_000,
        cache_bytes: 1 << 20,
        ..Options::default()
    };
    let directory = tempfile::tempdir().unwrap();
    check(
        "on disk",
        Arc::new(EmbeddedStore::open(directory.path(), &options).unwrap()),
    );
    let server = RedisServer::start();
    for (name, redis_eval) in [
        ("Redis", RedisEval::Server),
        ("Redis, fetched", RedisEval::Fetch),
    ] {
        ::redis::cmd("FLUSHALL")
            .exec(&mut server.connection())
            .unwrap();
        check(
            name,
            store::open(
                &server.url(),
                &Options {
                    redis_eval,
                    ..Options::default()
                },
            )
            .unwrap(),
        );
    }
    check(
        "cluster",
        store::open(&Cluster::shared().url(), &own_prefix()).unwrap(),
    );
    // The same with counts remembered.
    let memory: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
    check(
        "remembered",
        Arc::new(CachedStore::new(
            memory,
            CacheOptions::default(),
            Clock::System,
        )),
    );
    let server = RedisServer::start();
    let redis = store::open(&server.url(), &Options::default()).unwrap();
    check(
        "Redis remembered",
        Arc::new(CachedStore::new(
            redis,
            CacheOptions::default(),
            Clock::System,
        )),
    );
}

/// Counts a plan so many times, while the server closes all connections every so often: each answer
/// is right, or an error that says the store was not reached, and some are.
pub fn counted_while_killed(
    server: &RedisServer,
    store: &dyn Store,
    plan: &Plan,
    times: u32,
    every: Duration,
) {
    let expected = store.count(plan).unwrap();
    let done = AtomicBool::new(false);
    let answers: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut asking = server.connection();
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(every);
                server.disconnect(&mut asking);
            }
        });
        let answers = (0..times).map(|_| store.count(plan)).collect();
        done.store(true, Ordering::Relaxed);
        answers
    });
    let mut failed = 0;
    for answer in answers {
        match answer {
            Ok(counts) => assert_eq!(counts, expected),
            Err(error) => {
                assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
                failed += 1;
            }
        }
    }
    assert!(
        failed > 0,
        "the test has to hit some requests twice; all {times} were right"
    );
    assert_eq!(store.count(plan).unwrap(), expected);
}

/// A port of this machine that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
