//! Who should work out what is in Redis: the server (BITOP into temporary keys), or this process,
//! of the bitmaps that it fetches? `cargo bench --bench redis_eval` prints, for each link and way,
//! how long a 31 × 13 table over 10 M users takes (the median), how many bytes the server sends for
//! it, and how long another client's GET waits meanwhile (its 99th percentile, over a connection of
//! its own that nothing slows down).
//!
//! The slow link is a relay in this process: 1 Gbit/s each way, and 0.5 ms more each way. It takes
//! a good part of a core for itself when it is full. What `auto` did is told from whether the
//! server carried out a BITOP.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cohortist::Tracker;
use cohortist::sets::Prefix;
use cohortist::store::{self, Options, RedisEval};

#[path = "../tests/it/support/redis.rs"]
#[allow(dead_code)]
mod redis_server;
#[path = "shared/ten_million.rs"]
mod ten_million;

use redis_server::RedisServer;
use ten_million::{bitmaps, bytes, now, query};

/// Tables of each kind.
const RUNS: usize = 15;

/// Bytes a second: 1 Gbit/s.
const BANDWIDTH: f64 = 125e6;

/// How long a byte is under way: half of 1 ms there and back.
const DELAY: Duration = Duration::from_micros(500);

/// Reads from one end and writes to the other, no faster and no sooner than the link would.
fn relay(mut from: TcpStream, mut to: TcpStream) {
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(256);
    std::thread::spawn(move || {
        let mut free = Instant::now();
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            free = free.max(Instant::now()) + Duration::from_secs_f64(read as f64 / BANDWIDTH);
            if sender
                .send((free + DELAY, buffer[..read].to_vec()))
                .is_err()
            {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, bytes) in receiver {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
    });
}

/// A port behind which the server is far away.
fn far_from(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming().map(Result::unwrap) {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            [&near, &server]
                .iter()
                .for_each(|end| end.set_nodelay(true).unwrap());
            relay(near.try_clone().unwrap(), server.try_clone().unwrap());
            relay(server, near);
        }
    });
    far
}

fn sent(server: &RedisServer) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("stats")
        .query(&mut server.connection())
        .unwrap();
    info.lines()
        .find_map(|line| line.strip_prefix("total_net_output_bytes:"))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// Runs `work` while another client GETs; answers how long its GETs took.
fn waits(server: &RedisServer, work: impl FnOnce()) -> Vec<Duration> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut connection = server.connection();
            let mut waits = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let asked = Instant::now();
                redis::cmd("GET")
                    .arg("small")
                    .query::<String>(&mut connection)
                    .unwrap();
                waits.push(asked.elapsed());
                std::thread::sleep(Duration::from_micros(300));
            }
            waits
        });
        work();
        done.store(true, Ordering::Relaxed);
        other.join().unwrap()
    })
}

fn at(mut times: Vec<Duration>, share: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
}

fn main() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = RedisServer::start_with(&["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    let mut connection = server.connection();
    for (key, users) in bitmaps() {
        redis::cmd("SET")
            .arg(key.text(&Prefix::default()))
            .arg(bytes(&users))
            .exec(&mut connection)
            .unwrap();
    }
    redis::cmd("SET")
        .arg("small")
        .arg("x")
        .exec(&mut connection)
        .unwrap();
    let idle = waits(&server, || std::thread::sleep(Duration::from_secs(2)));
    println!(
        "another client's GET, server idle: p99 {:.2} ms",
        at(idle, 0.99)
    );
    println!(
        "{:16} {:8} {:16} {:>9} {:>9} {:>9}  BITOPs",
        "link", "way", "question", "median ms", "MB sent", "GET p99"
    );
    // So written it is not taken for this machine.
    let links = [
        ("Unix socket", server.url()),
        ("TCP, loopback", format!("redis://127.0.0.1:{port}")),
        (
            "1 Gbit/s, 1 ms",
            format!("redis://127.1:{}", far_from(port)),
        ),
    ];
    for (link, url) in links {
        for redis_eval in [RedisEval::Server, RedisEval::Fetch, RedisEval::Auto] {
            let options = Options {
                redis_eval,
                timeout: Duration::from_secs(30),
                ..Options::default()
            };
            let tracker = Tracker::new(store::open(&url, &options).unwrap());
            for cohort in ["signup", "active"] {
                let query = query(cohort);
                tracker.retention(&query, now()).unwrap();
                server.reset_statistics();
                let mut times = Vec::new();
                let waits = waits(&server, || {
                    for _ in 0..RUNS {
                        let began = Instant::now();
                        tracker.retention(&query, now()).unwrap();
                        times.push(began.elapsed());
                    }
                });
                println!(
                    "{link:16} {:8} {:16} {:9.1} {:9.2} {:9.2}  {}",
                    format!("{redis_eval:?}"),
                    format!("{cohort} → active"),
                    at(times, 0.5),
                    sent(&server) as f64 / RUNS as f64 / 1e6,
                    at(waits, 0.99),
                    server.calls("bitop") / RUNS as u64,
                );
            }
        }
    }
}
