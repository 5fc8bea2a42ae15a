//! How many marks a second Redis clients get in: 50 connections, each with pipelines of 64 SETBITs,
//! into an embedded store on disk with its log on. The clients share the machine with the server.
//!
//! `cargo bench --bench marks` prints marks a second for ours and, where a redis-server is
//! installed, for Redis with the same clients (with its append-only file on, fsync each second, as
//! our log).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use cohortist::resp::{CONNECTIONS, Listener, Settings};
use cohortist::store::Options;
use cohortist::store::budget::Budget;
use cohortist::store::embedded::EmbeddedStore;

const CLIENTS: usize = 50;
const PIPELINE: usize = 64;
/// Pipelines a client sends in all.
const ROUNDS: usize = 1500;
const RUNS: usize = 3;

/// Number `n` of a client's pipelines: people in the order they come, in the three bitmaps of a
/// mark.
fn pipeline(client: usize, n: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PIPELINE * 64);
    for i in 0..PIPELINE {
        let key = [
            "trackist_active_2026-11-23",
            "trackist_active_W2026-48",
            "trackist_active_2026-11",
        ][i % 3];
        let user =
            ((n * PIPELINE + i) / 3 * CLIENTS + client).wrapping_mul(2_654_435_761) % 10_000_000;
        let user = user.to_string();
        write!(
            bytes,
            "*4\r\n$6\r\nSETBIT\r\n${}\r\n{key}\r\n${}\r\n{user}\r\n$1\r\n1\r\n",
            key.len(),
            user.len()
        )
        .unwrap();
    }
    bytes
}

fn client(address: &str, pipelines: &[Vec<u8>]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut replies = [0; PIPELINE * 4];
    for bytes in pipelines {
        stream.write_all(bytes).unwrap();
        // Each is `:0\r\n` or `:1\r\n`.
        stream.read_exact(&mut replies).unwrap();
        assert!(
            replies.chunks(4).all(|reply| reply[0] == b':'),
            "{}",
            String::from_utf8_lossy(&replies)
        );
    }
}

fn measure(name: &str, address: &str) {
    let all: Vec<Vec<Vec<u8>>> = (0..CLIENTS)
        .map(|c| (0..ROUNDS).map(|n| pipeline(c, n)).collect())
        .collect();
    for _ in 0..RUNS {
        let barrier = Barrier::new(CLIENTS + 1);
        let took = std::thread::scope(|scope| {
            let clients: Vec<_> = all
                .iter()
                .map(|pipelines| {
                    scope.spawn(|| {
                        barrier.wait();
                        client(address, pipelines);
                    })
                })
                .collect();
            barrier.wait();
            let began = Instant::now();
            clients
                .into_iter()
                .for_each(|client| client.join().unwrap());
            began.elapsed()
        });
        let marks = u32::try_from(CLIENTS * ROUNDS * PIPELINE).unwrap();
        println!(
            "{name}: {:>9.0} marks/s ({marks} in {:.2} s)",
            f64::from(marks) / took.as_secs_f64(),
            took.as_secs_f64()
        );
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&directory.path().join("store"), &Options::default()).unwrap();
    let settings = Settings {
        listen: "127.0.0.1:0".to_owned(),
        password: None,
        allow_flush: false,
        connections: CONNECTIONS,
        memory: Budget::new(192 << 20),
    };
    let listener = Listener::start(settings, store.keyspace()).unwrap();
    measure("cohortist", &listener.address().to_string());
    drop(listener);

    // A port that is free now is free a moment later, mostly.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let redis = Command::new("redis-server")
        .args([
            "--port",
            &port,
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--save",
            "",
            "--dir",
        ])
        .arg(directory.path())
        .stdout(Stdio::null())
        .spawn();
    let Ok(redis) = redis else {
        println!("no redis-server here to compare with");
        return;
    };
    let _redis = Killed(redis);
    let address = format!("127.0.0.1:{port}");
    while TcpStream::connect(&address).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    measure("redis-server", &address);
}
