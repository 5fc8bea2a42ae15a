//! The pages of a dashboard on an embedded store on disk, through a socket: `cargo bench --bench
//! pages`.
//!
//! *10 M users*: 200 events over 60 days. `active` has 570 000 random people a day, 20 events have
//! 50 000, `signup` has 10 000 with ids in order of sign-up, the others have 5 000. *Three years*:
//! 300 events on every day of three years, by few people, one of whom did nearly everything: many
//! bitmaps, all small.
//!
//! "First" is the first answer after the store was opened, with nothing in its caches; opening is
//! not counted in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::cell::LazyCell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, rt};
use chrono::{DateTime, Utc};
use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::clock::Clock;
use cohortist::sets::{EventName, Key, Set, UserId};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Durability, Mark, Options, Saved, Store, StoreError};
use cohortist::{Tracker, server};
use criterion::{Criterion, criterion_group, criterion_main};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tempfile::TempDir;

const USERS: u32 = 10_000_000;

/// Somebody who did nearly everything.
const BUSY: UserId = 150_007;

fn now() -> DateTime<Utc> {
    parse_moment("2026-10-31T18:00:00Z").unwrap()
}

/// A dashboard on the store in a directory, opened anew.
struct Dashboard {
    address: String,
    handle: ServerHandle,
    thread: std::thread::JoinHandle<()>,
    agent: ureq::Agent,
}

impl Dashboard {
    fn open(directory: &Path) -> Self {
        let store = loop {
            match EmbeddedStore::open(directory, &Options::default()) {
                // The threads of the dashboard before are on their way out.
                Err(StoreError::Locked(_)) => std::thread::sleep(Duration::from_millis(5)),
                opened => break opened.unwrap(),
            }
        };
        let tracker = Tracker::new(Arc::new(store));
        let (tell, told) = std::sync::mpsc::channel();
        let shown = server::Live::from(server::Dashboard::new(tracker, Clock::Fixed(now())));
        let thread = std::thread::spawn(move || {
            rt::System::new().block_on(async move {
                let app = move || App::new().configure(server::app_config(&shown));
                let server = HttpServer::new(app)
                    .workers(1)
                    .tcp_nodelay(true)
                    .bind("127.0.0.1:0")
                    .unwrap();
                let address = server.addrs()[0];
                let server = server.run();
                tell.send((address, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (address, handle) = told.recv().unwrap();
        let agent = ureq::Agent::new_with_defaults();
        let dashboard = Dashboard {
            address: format!("http://{address}"),
            handle,
            thread,
            agent,
        };
        // The connection is there; the store was not asked for anything.
        dashboard.get("/healthz");
        dashboard
    }

    fn get(&self, path: &str) -> usize {
        let mut response = self
            .agent
            .get(format!("{}{path}", self.address))
            .call()
            .unwrap();
        response.body_mut().read_to_string().unwrap().len()
    }

    fn close(self) {
        drop(self.agent);
        drop(self.handle.stop(false));
        self.thread.join().unwrap();
    }
}

fn key(event: &EventName, period: Period) -> Key {
    Key::new(event.clone(), period).unwrap()
}

/// Marks the days of an event, and unites them in weeks and months.
fn fill(
    store: &EmbeddedStore,
    event: &EventName,
    days: &[Period],
    users: impl Fn(&Period) -> Vec<UserId>,
) {
    for day in days {
        let key = key(event, *day);
        let mark = |user| Mark {
            key: key.clone(),
            user,
            value: true,
        };
        store
            .apply(&users(day).into_iter().map(mark).collect::<Vec<_>>())
            .unwrap();
    }
    for grain in [Grain::WEEK, Grain::Month] {
        let mut by_period: Vec<(Period, Vec<Set>)> = Vec::new();
        for day in days {
            let period = Period::containing(grain, day.start()).unwrap();
            if by_period.last().is_none_or(|(last, _)| *last != period) {
                by_period.push((period, Vec::new()));
            }
            by_period
                .last_mut()
                .unwrap()
                .1
                .push(Set::Key(key(event, *day)));
        }
        for (period, days) in by_period {
            assert!(matches!(
                store.save(&Set::Or(days), &key(event, period)).unwrap(),
                Saved::People(_)
            ));
        }
    }
}

/// The last days up to now, the oldest first.
fn last(days: u32) -> Vec<Period> {
    let today = Period::containing(Grain::Day, now()).unwrap();
    today
        .shift(1 - i64::from(days))
        .unwrap()
        .range(days)
        .collect()
}

fn making() -> Options {
    Options {
        checkpoint_bytes: 512 << 20,
        durability: Durability::EverySecond,
        ..Options::default()
    }
}

fn ten_million_users(directory: &Path) {
    let store = EmbeddedStore::open(directory, &making()).unwrap();
    let days = last(60);
    for n in 0..200_u32 {
        let (name, daily) = match n {
            0 => ("active".to_owned(), 570_000),
            1 => ("signup".to_owned(), 10_000),
            2..22 => (format!("often:{n}"), 50_000),
            _ => (format!("event:{n}"), 5_000),
        };
        let event = EventName::new(&name).unwrap();
        fill(&store, &event, &days, |day| {
            let back = u32::try_from(days.last().unwrap().since(*day).unwrap()).unwrap();
            if name == "signup" {
                let newest = USERS - back * daily;
                return (newest - daily..newest).collect();
            }
            let mut random = ChaCha8Rng::seed_from_u64(u64::from(n * 1000 + back));
            (0..daily).map(|_| random.next_u32() % USERS).collect()
        });
    }
    store.checkpoint().unwrap();
}

fn three_years(directory: &Path) {
    let store = EmbeddedStore::open(directory, &making()).unwrap();
    let days = last(3 * 365);
    for n in 0..300_u32 {
        let event = EventName::new(&format!("event:{n}")).unwrap();
        fill(&store, &event, &days, |day| {
            let mut random = ChaCha8Rng::seed_from_u64(
                u64::from(n) << 40 | day.start().timestamp().unsigned_abs(),
            );
            let others = (0..20).map(|_| random.next_u32() % 400_000);
            others
                .collect::<Vec<_>>()
                .into_iter()
                .chain([BUSY])
                .filter(|u| *u != BUSY || n % 10 != 9)
                .collect()
        });
    }
    store.checkpoint().unwrap();
}

/// Makes a store in a directory.
type Fill = fn(&Path);

/// Names and addresses.
type Pages = &'static [(&'static str, &'static str)];

fn pages(c: &mut Criterion) {
    let all: [(&str, Fill, Pages); 2] = [
        (
            "10 M users",
            ten_million_users,
            &[
                (
                    "retention active → active",
                    "/retention?cohort=active&returning=active&by=day&rows=31&cols=13",
                ),
                (
                    "retention signup → active",
                    "/retention?cohort=signup&returning=active&by=day&rows=31&cols=13",
                ),
                ("events", "/events"),
                ("one event", "/events/active"),
                ("a user", "/users/7654321"),
            ],
        ),
        (
            "three years",
            three_years,
            &[
                ("events", "/events"),
                ("a user of few days", "/users/4242"),
                ("a user of all days", "/users/150007"),
            ],
        ),
    ];
    for (name, make, paths) in all {
        // Made when it is first asked for: not at all when the command line picks others.
        let made: LazyCell<TempDir, _> = LazyCell::new(|| {
            let (directory, began) = (tempfile::tempdir().unwrap(), Instant::now());
            make(directory.path());
            let files = std::fs::read_dir(directory.path()).unwrap();
            let bytes: u64 = files.map(|f| f.unwrap().metadata().unwrap().len()).sum();
            eprintln!(
                "{name}: {} MB, made in {:.0} s",
                bytes >> 20,
                began.elapsed().as_secs_f64()
            );
            directory
        });
        let mut group = c.benchmark_group(name);
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(3));
        for (page, path) in paths {
            group.bench_function(format!("{page}, first"), |b| {
                b.iter_custom(|rounds| {
                    let mut taken = Duration::ZERO;
                    for _ in 0..rounds {
                        let dashboard = Dashboard::open(made.path());
                        let began = Instant::now();
                        dashboard.get(path);
                        taken += began.elapsed();
                        dashboard.close();
                    }
                    taken
                });
            });
            group.bench_function(format!("{page}, again"), |b| {
                let dashboard = Dashboard::open(made.path());
                dashboard.get(path);
                b.iter(|| dashboard.get(path));
                dashboard.close();
            });
        }
        group.finish();
    }
}

criterion_group!(benches, pages);
criterion_main!(benches);
