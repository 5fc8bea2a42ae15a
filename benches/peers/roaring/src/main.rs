//! The 31 × 13 table by the `roaring` crate, on as many threads as there are processors.
//!
//! `roaring-peer DIRECTORY` reads the bitmaps that `marks.py` keeps there, and answers as
//! `benches/plan.rs` does: a line for each question from its standard input, and for each a line of
//! JSON with the milliseconds it took and the counts.

use std::fs;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use roaring::RoaringBitmap;

const ROWS: usize = 31;
const COLUMNS: usize = 13;

/// The bitmaps of an event, the oldest day first.
fn bitmaps(directory: &Path, event: &str) -> Vec<RoaringBitmap> {
    let day = |day: usize| {
        let bytes = fs::read(directory.join(format!("trackist_{event}_2026-10-{day}"))).expect("marks of that day");
        let users = (0_u32..).zip(&bytes).flat_map(|(at, byte)| {
            let bits = (0..8).filter(move |bit| byte & 0x80 >> bit != 0);
            bits.map(move |bit| 8 * at + bit)
        });
        let mut bitmap = RoaringBitmap::from_sorted_iter(users).expect("ascending users");
        bitmap.optimize();
        bitmap
    };
    (1..=ROWS).map(day).collect()
}

/// The size of a cohort, and how many of it came back in each column that has begun.
fn row(cohorts: &[RoaringBitmap], active: &[RoaringBitmap], at: usize) -> Vec<u64> {
    let cells = active[at..].iter().take(COLUMNS).map(|day| cohorts[at].intersection_len(day));
    std::iter::once(cohorts[at].len()).chain(cells).collect()
}

fn main() {
    let directory = std::env::args().nth(1).expect("usage: roaring-peer DIRECTORY");
    let [signup, active] = ["signup", "active"].map(|event| bitmaps(Path::new(&directory), event));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a question");
        let cohorts = if line.starts_with("signup") { &signup } else { &active };
        let began = Instant::now();
        let mut grid = vec![Vec::new(); ROWS];
        let active = &active;
        std::thread::scope(|scope| {
            // Every thread has rows of all lengths.
            let part = |first: usize| (first..ROWS).step_by(threads).map(move |at| (at, row(cohorts, active, at)));
            let workers: Vec<_> =
                (0..threads).map(|first| scope.spawn(move || part(first).collect::<Vec<_>>())).collect();
            for worker in workers {
                for (at, row) in worker.join().expect("a thread that does not panic") {
                    grid[at] = row;
                }
            }
        });
        let ms = began.elapsed().as_secs_f64() * 1000.0;
        let mut out = std::io::stdout();
        writeln!(out, "{{\"ms\": {ms}, \"grid\": {grid:?}}}").expect("somebody who reads it");
        out.flush().expect("somebody who reads it");
    }
}
