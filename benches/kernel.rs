//! What each step of the engine is worth: `cargo bench --bench kernel`.
//!
//! First, for each instruction set of this processor, the table of active → active beside the *bare
//! L1-blocked loop*: the kernel over the words of all 325 cells, strips of all tiles in the L1
//! cache, on as many threads, with no plan and no store. It prints bytes per cycle, by the clock
//! rate that a chain of dependent instructions has meanwhile, and whether the processors share
//! cores. All are measured in turn, and the fastest of each counts: other programs only slow them
//! down.
//!
//! Then criterion's figures.
//!
//! 31 bitmaps of 570 000 random users among 10 M, as tiles in memory; the 325 intersections of a 31
//! × 13 table of active → active. *Bare* is the loop a processor cannot do without: AND and
//! population count over the dense words, one thread, nothing else. Beside it: the same loop
//! without the instruction set it was compiled for; tile by tile through
//! [`bitmap::count`] with a plan; and the plan through the embedded store. Then, per tile, where a sorted list of places
//! stops paying and words begin to: what decides the border between sparse and dense tiles.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_range_loop,
    missing_docs
)]
#![allow(clippy::cast_precision_loss)]

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cohortist::bitmap::kernel::{self, Instructions, Row, WORDS, Words};
use cohortist::bitmap::{self, Source, Tile};
use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::reports::plan_at;
use cohortist::reports::retention::Query;
use cohortist::sets::{EventName, Key, Node, Plan};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Options, Store};
use criterion::{Criterion, criterion_group, criterion_main};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const USERS: u32 = 10_000_000;
const TILES: usize = 153;
const DAYS: i64 = 31;
const COLUMNS: usize = 13;

fn now() -> DateTime<Utc> {
    parse_moment("2026-10-31T18:00:00Z").unwrap()
}

fn random(seed: u64, count: u32, below: u32) -> Vec<u32> {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut users: Vec<u32> = (0..count).map(|_| dice.next_u32() % below).collect();
    users.sort_unstable();
    users.dedup();
    users
}

/// The tiles of some users.
fn tiles(users: &[u32]) -> Vec<Arc<Tile>> {
    let mut tiles = vec![Tile::default(); TILES];
    for user in users {
        let (number, place) = bitmap::split(*user);
        tiles[usize::from(number)].set(place, true);
    }
    tiles.into_iter().map(Arc::new).collect()
}

/// Bitmaps in memory, by the place of their key in the plan.
struct InMemory {
    numbers: Vec<u16>,
    bitmaps: Vec<Option<Vec<Arc<Tile>>>>,
}

impl InMemory {
    fn of(plan: &Plan, days: &[(Key, Vec<u32>)], held: &[Vec<Arc<Tile>>]) -> Self {
        let bitmap = |node: &Node| match node {
            Node::Key(key) => days
                .iter()
                .position(|(day, _)| day == key)
                .map(|place| held[place].clone()),
            _ => None,
        };
        InMemory {
            numbers: (0..u16::try_from(TILES).unwrap()).collect(),
            bitmaps: plan.nodes().iter().map(bitmap).collect(),
        }
    }
}

impl Source for InMemory {
    type Error = Infallible;

    fn byte_len(&self, leaf: usize) -> u64 {
        self.bitmaps[leaf]
            .as_ref()
            .map_or(0, |_| u64::from(USERS / 8))
    }

    fn users(&self, _: usize) -> Option<u64> {
        None
    }

    fn tiles(&self, leaf: usize) -> &[u16] {
        if self.bitmaps[leaf].is_some() {
            &self.numbers
        } else {
            &[]
        }
    }

    fn tile(&self, leaf: usize, number: u16) -> Result<Arc<Tile>, Infallible> {
        Ok(Arc::clone(
            &self.bitmaps[leaf].as_ref().unwrap()[usize::from(number)],
        ))
    }
}

/// As plain as it can be written, and compiled for whatever the compiler is told: nothing, so for
/// the oldest machines.
fn plain(a: &[u64], b: &[u64]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a & b).count_ones()).sum()
}

/// What all measurements of the table need.
struct Table {
    query: Query,
    days: Vec<(Key, Vec<u32>)>,
    held: Vec<Vec<Arc<Tile>>>,
    /// The words of each day's tiles.
    words: Vec<Vec<Words>>,
    /// Each cell as two days.
    pairs: Vec<(usize, usize)>,
    store: EmbeddedStore,
}

fn prepared() -> Table {
    let today = Period::containing(Grain::Day, now()).unwrap();
    let active = EventName::new("active").unwrap();
    let days: Vec<(Key, Vec<u32>)> = (0..DAYS)
        .map(|back| {
            let key = Key::new(active.clone(), today.shift(-back).unwrap()).unwrap();
            (key, random(back.unsigned_abs(), 570_000, USERS))
        })
        .collect();
    let held: Vec<Vec<Arc<Tile>>> = days.iter().map(|(_, users)| tiles(users)).collect();
    let words_of = |tile: &Arc<Tile>| {
        let bytes = tile.bytes();
        let mut words = bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| u64::from_be_bytes(*bytes));
        Words(std::array::from_fn(|_| words.next().unwrap()))
    };
    let words: Vec<Vec<Words>> = held
        .iter()
        .map(|tiles| tiles.iter().map(words_of).collect())
        .collect();
    let pairs: Vec<(usize, usize)> = (0..days.len())
        .flat_map(|cohort| (0..COLUMNS.min(cohort + 1)).map(move |k| (cohort, cohort - k)))
        .collect();
    assert_eq!(pairs.len(), 325);
    let query = Query {
        rows: Some(31),
        cols: Some(13),
        ..Query::new(
            "active".parse().unwrap(),
            "active".parse().unwrap(),
            Grain::Day,
        )
    };
    let store = EmbeddedStore::in_memory(&Options::default());
    for (key, users) in &days {
        store.add(&[(key, users)]).unwrap();
    }
    Table {
        query,
        days,
        held,
        words,
        pairs,
        store,
    }
}

/// The counts of all cells, on some threads, without anything around them.
fn bare(table: &Table, threads: usize) -> Vec<u64> {
    let part = |first: usize| {
        let mut counts = vec![0; table.pairs.len()];
        for tile in (first..TILES).step_by(threads) {
            let rows: Vec<Row<'_>> = table
                .pairs
                .chunk_by(|a, b| a.0 == b.0)
                .map(|row| Row {
                    running: None,
                    words: &table.words[row[0].0][tile].0,
                    range: 0..WORDS,
                    columns: row.len(),
                })
                .collect();
            let columns: Vec<&[u64]> = table
                .pairs
                .iter()
                .map(|(_, back)| &table.words[*back][tile].0[..])
                .collect();
            kernel::and_counts(&rows, &columns, table.words.len(), &mut counts);
        }
        counts
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (1..threads)
            .map(|first| scope.spawn(move || part(first)))
            .collect();
        let mut counts = part(0);
        for worker in workers {
            counts
                .iter_mut()
                .zip(worker.join().unwrap())
                .for_each(|(count, more)| *count += more);
        }
        counts
    })
}

/// Cycles a second, from a chain in which each of six instructions a round waits for the one before
/// it.
fn clock_rate() -> f64 {
    const ROUNDS: u32 = 100_000;
    let mut state = black_box(88_172_645_463_325_252_u64);
    let began = Instant::now();
    for _ in 0..ROUNDS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    black_box(state);
    f64::from(6 * ROUNDS) / began.elapsed().as_secs_f64()
}

/// Which processors share a core, by Linux.
fn cores() -> String {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut siblings: Vec<String> = (0..threads)
        .filter_map(|cpu| {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
        })
        .collect();
    siblings.sort();
    siblings.dedup();
    match siblings.len() {
        0 => format!("{threads} processors; the system does not tell whether they share cores"),
        cores if cores < threads => format!(
            "{threads} processors that share {cores} cores ({})",
            siblings.join(" ")
        ),
        _ => format!("{threads} processors, each a core of its own by what the system tells"),
    }
}

/// The table beside the bare loop.
fn limits(table: &Table) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (plan, _) = plan_at(&table.query, now()).unwrap();
    let memory = InMemory::of(&plan, &table.days, &table.held);
    println!("{}", cores());
    println!(
        "| active → active, 31 × 13, {threads} threads | bare loop, ms | bytes per cycle and thread | plan in memory, ms | through the store, ms | ratio to the bare loop |"
    );
    println!("|---|---|---|---|---|---|");
    for instructions in Instructions::available() {
        instructions.choose();
        let mut best = [f64::MAX; 3];
        let mut rate = 0.0_f64;
        for _ in 0..60 {
            let ways: [&dyn Fn() -> Vec<u64>; 3] = [
                &|| bare(table, threads),
                &|| bitmap::count(&plan, &memory).unwrap(),
                &|| table.store.count(&plan).unwrap(),
            ];
            for (best, way) in best.iter_mut().zip(ways) {
                let began = Instant::now();
                black_box(way());
                *best = best.min(began.elapsed().as_secs_f64());
            }
            rate = rate.max(clock_rate());
        }
        // Two operands a cell.
        let bytes = (2 * 8 * WORDS * TILES * table.pairs.len()) as f64;
        let [bare, plan, store] = best.map(|seconds| seconds * 1000.0);
        println!(
            "| {} | {bare:.2} | {:.1} at {:.2} GHz | {plan:.2} | {store:.2} | {:.2} |",
            instructions.name(),
            bytes / (best[0] * rate * threads as f64),
            rate / 1e9,
            store / bare
        );
    }
}

fn table(c: &mut Criterion) {
    let table = prepared();
    limits(&table);
    let Table {
        query,
        days,
        held,
        words,
        pairs,
        store,
    } = table;
    let (plan, _) = plan_at(&query, now()).unwrap();
    let plan = &plan;
    let memory = InMemory::of(plan, &days, &held);
    assert_eq!(
        bitmap::count(plan, &memory).unwrap(),
        store.count(plan).unwrap()
    );
    let mut cells = Plan::new();
    for (cohort, back) in &pairs {
        let ids = [cohort, back].map(|place| cells.key(days[*place].0.clone()));
        let both = cells.and(ids);
        cells.count(both);
    }
    let in_cells = InMemory::of(&cells, &days, &held);

    let mut group = c.benchmark_group("31 × 13, active → active");
    group
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4));
    // Tile by tile, so that all stays in the nearest cache, as the engine does.
    group.bench_function("bare loop, one thread", |b| {
        b.iter(|| {
            let mut counts = vec![0_u64; pairs.len()];
            for tile in 0..TILES {
                for (count, (cohort, back)) in counts.iter_mut().zip(&pairs) {
                    *count += held[*cohort][tile].and_count(&held[*back][tile]);
                }
            }
            black_box(counts)
        });
    });
    group.bench_function("bare loop, compiled for any machine", |b| {
        b.iter(|| {
            let mut counts = vec![0_u64; pairs.len()];
            for tile in 0..TILES {
                for (count, (cohort, back)) in counts.iter_mut().zip(&pairs) {
                    *count += u64::from(plain(&words[*cohort][tile].0, &words[*back][tile].0));
                }
            }
            black_box(counts)
        });
    });
    group.bench_function("bare loop, bitmap after bitmap", |b| {
        b.iter(|| {
            let cell = |(cohort, back): &(usize, usize)| -> u64 {
                held[*cohort]
                    .iter()
                    .zip(&held[*back])
                    .map(|(a, b)| a.and_count(b))
                    .sum()
            };
            black_box(pairs.iter().map(cell).collect::<Vec<u64>>())
        });
    });
    group.bench_function("the cells as a plan", |b| {
        b.iter(|| bitmap::count(&cells, &in_cells).unwrap())
    });
    group.bench_function("the table's plan: sizes and distinct people too", |b| {
        b.iter(|| bitmap::count(plan, &memory).unwrap());
    });
    group.bench_function("the same through the store", |b| {
        b.iter(|| store.count(plan).unwrap())
    });
    group.bench_function("the question, before anything is counted", |b| {
        b.iter(|| plan_at(&query, now()).unwrap())
    });
    group.finish();
}

/// Two tiles of so many users, as lists and as words.
fn border(c: &mut Criterion) {
    let mut group = c.benchmark_group("AND and count of two tiles");
    group
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    for users in [64_u32, 128, 256, 512, 1024, 2048, 4096] {
        let places = |seed| random(seed, users, 65_536);
        let of = |users: &[u32]| -> Tile {
            let mut tile = Tile::default();
            users.iter().for_each(|user| {
                tile.set(bitmap::split(*user).1, true);
            });
            tile
        };
        let (a, b) = (places(1), places(2));
        let lists: Vec<Vec<u16>> = [&a, &b]
            .map(|users| users.iter().map(|user| bitmap::split(*user).1).collect())
            .into();
        group.bench_function(format!("{users} users, two sorted lists"), |bench| {
            bench.iter(|| {
                let (mut i, mut j, mut both) = (0, 0, 0_u32);
                while i < lists[0].len() && j < lists[1].len() {
                    let (x, y) = (lists[0][i], lists[1][j]);
                    both += u32::from(x == y);
                    i += usize::from(x <= y);
                    j += usize::from(y <= x);
                }
                black_box(both)
            });
        });
        let (tile_a, tile_b) = (of(&a), of(&b));
        group.bench_function(
            format!("{users} users, as the engine holds them"),
            |bench| {
                bench.iter(|| black_box(tile_a.and_count(&tile_b)));
            },
        );
    }
    group.finish();
}

criterion_group!(benches, table, border);
criterion_main!(benches);
