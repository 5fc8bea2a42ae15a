//! `cohortist import` at work: `cargo bench --bench import [rows]`.
//!
//! A file of shuffled rows (500 000 users, 12 events, 90 days) is imported by the real program, as
//! CSV, NDJSON, gzip and zstd into an embedded store, and as CSV into a redis-server on a socket of
//! its own. Prints rows a second and the most memory the program took; the files are read once
//! before, so that they are warm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The rows of a file: user, event and time.
fn rows(count: u32) -> impl Iterator<Item = (u32, u32, u32)> {
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    (0..count).map(move |_| {
        let [user, event, time] = [(); 3].map(|()| dice.next_u32());
        // Few events are most of what happens.
        (
            user % 500_000,
            event.trailing_zeros().min(11),
            1_786_000_000 + time % (90 * 86_400),
        )
    })
}

/// Runs the program; returns seconds and the most memory it took, in MB.
fn run(arguments: &[&str]) -> (f64, u64) {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cohortist"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut most = 0;
    loop {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
        most = most.max(kib.unwrap_or(0) / 1000);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{arguments:?}: {status}");
            return (started.elapsed().as_secs_f64(), most);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn packed(tool: &str, file: &Path) {
    let done = Command::new(tool)
        .args(["-k", "-q", "-f"])
        .arg(file)
        .status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "this benchmark needs {tool}: apt-get install {tool}"
    );
}

fn main() {
    let count = std::env::args()
        .skip(1)
        .find_map(|text| text.parse().ok())
        .unwrap_or(3_000_000_u32);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (mut csv, mut json) = (String::from("user,event,timestamp\n"), String::new());
    for (user, event, time) in rows(count) {
        let time = chrono::DateTime::from_timestamp(time.into(), 0)
            .unwrap()
            .format("%Y-%m-%dT%H:%M:%SZ");
        writeln!(csv, "{user},event-{event},{time}").unwrap();
        writeln!(
            json,
            "{{\"user\":{user},\"event\":\"event-{event}\",\"timestamp\":\"{time}\"}}"
        )
        .unwrap();
    }
    std::fs::write(at("rows.csv"), csv).unwrap();
    std::fs::write(at("rows.ndjson"), json).unwrap();
    packed("gzip", &at("rows.csv"));
    packed("zstd", &at("rows.csv"));

    let told = |what: &str, (seconds, memory): (f64, u64)| {
        println!(
            "{what:<24} {:>10.0} rows/s   {seconds:>6.2} s   {memory:>5} MB",
            f64::from(count) / seconds
        );
    };
    for file in ["rows.csv", "rows.ndjson", "rows.csv.gz", "rows.csv.zst"] {
        for cache in ["1024", "64"] {
            let store = at("store.db");
            let arguments = [
                "--store",
                store.to_str().unwrap(),
                "--memory-mb",
                cache,
                "import",
            ];
            let path = at(file);
            let what = format!("{file}, --memory-mb {cache}");
            told(
                &what,
                run(&[&arguments[..], &[path.to_str().unwrap()]].concat()),
            );
            std::fs::remove_dir_all(store).unwrap();
        }
    }
    let socket = at("redis.sock");
    let mut server = Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
            "--unixsocket",
            socket.to_str().unwrap(),
        ])
        .stdout(Stdio::null())
        .spawn()
        .expect("this benchmark needs redis-server: apt-get install redis-server");
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (url, file) = (format!("redis+unix://{}", socket.display()), at("rows.csv"));
    told(
        "rows.csv into Redis",
        run(&["--store", &url, "import", file.to_str().unwrap()]),
    );
    server.kill().unwrap();
    server.wait().unwrap();
}
