//! Every kind of store, fresh and empty.

use std::sync::Arc;

use cohortist::clock::Clock;
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{self, Options, RedisEval, Remembered, Remembering, Store};

use crate::support::cluster::{Cluster, own_prefix};
use crate::support::redis::RedisServer;

/// Runs a check on each kind of store.
pub fn each_store(check: impl Fn(&str, Arc<dyn Store>)) {
    check("in memory", Arc::new(EmbeddedStore::in_memory(&Options::default())));
    // Small enough that nearly everything passes through checkpoints and the cache.
    let options = Options { checkpoint_bytes: 20_000, cache_bytes: 1 << 20, ..Options::default() };
    let directory = tempfile::tempdir().unwrap();
    check("on disk", Arc::new(EmbeddedStore::open(directory.path(), &options).unwrap()));
    let server = RedisServer::start();
    for (name, redis_eval) in [("Redis", RedisEval::Server), ("Redis, fetched", RedisEval::Fetch)] {
        ::redis::cmd("FLUSHALL").exec(&mut server.connection()).unwrap();
        check(name, store::open(&server.url(), &Options { redis_eval, ..Options::default() }).unwrap());
    }
    check("cluster", store::open(&Cluster::shared().url(), &own_prefix()).unwrap());
    // The same with counts remembered.
    let memory: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
    check("remembered", Arc::new(Remembered::new(memory, Remembering::default(), Clock::System)));
    let server = RedisServer::start();
    let redis = store::open(&server.url(), &Options::default()).unwrap();
    check("Redis remembered", Arc::new(Remembered::new(redis, Remembering::default(), Clock::System)));
}

/// A port of this machine that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
