//! Tests `signal.rs` under a scheduler that tries many interleavings of its threads. The scheduler
//! has no notion of time: a wait that only a timeout would end is a deadlock, and fails.

use std::time::{Duration, Instant};

use shuttle::sync::Arc;
use shuttle::thread;

mod sync {
    pub use shuttle::sync::atomic::{AtomicU64, Ordering};
    pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
}

#[path = "signal.rs"]
#[allow(
    clippy::duplicate_mod,
    reason = "the same code with other primitives is the point"
)]
#[allow(dead_code, reason = "the models use only the functions that wait")]
mod signal;

use signal::{Durable, Signal, WaitOutcome};
use sync::{AtomicU64, Mutex, Ordering};

/// The number of interleavings that are tried for each model.
const INTERLEAVINGS: usize = 3000;

fn explore(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), INTERLEAVINGS);
    // Random interleavings seldom delay a thread for a long time.
    shuttle::check_pct(model, INTERLEAVINGS, 3);
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Starts a checkpoint thread that empties the log, or fails to.
fn checkpoint_thread(
    signal: &Arc<Signal>,
    log: &Arc<Mutex<u32>>,
    fails: bool,
) -> thread::JoinHandle<()> {
    let signal = Arc::clone(signal);
    let log = Arc::clone(log);
    thread::spawn(move || {
        loop {
            let work = signal.wait_for_work(far());
            if work.checkpoint {
                signal.begin();
                if !fails {
                    *log.lock().unwrap() = 0;
                    signal.took_over();
                }
                signal.end(fails.then(|| "full".to_owned()));
            }
            if work.stop {
                return;
            }
        }
    })
}

/// Writes frames to a log that has room for one. Waits for a checkpoint each time it is full.
fn write(signal: &Signal, log: &Mutex<u32>, frames: u32) {
    for _ in 0..frames {
        loop {
            {
                let mut log = log.lock().unwrap();
                if *log == 0 {
                    *log = 1;
                    break;
                }
            }
            assert_eq!(signal.wait_for_room(far()), WaitOutcome::Room);
        }
    }
}

#[test]
fn every_writer_gets_room_and_every_thread_ends() {
    explore(|| {
        let signal = Arc::new(Signal::default());
        let log = Arc::new(Mutex::new(1));
        let checkpoints = checkpoint_thread(&signal, &log, false);
        let syncer = thread::spawn({
            let signal = Arc::clone(&signal);
            move || assert!(signal.wait_for_stop(far()))
        });
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let signal = Arc::clone(&signal);
                let log = Arc::clone(&log);
                thread::spawn(move || write(&signal, &log, 2))
            })
            .collect();
        signal.request();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        signal.stop();
        checkpoints.join().unwrap();
        syncer.join().unwrap();
    });
}

#[test]
fn every_waiting_writer_learns_that_a_checkpoint_failed() {
    explore(|| {
        let signal = Arc::new(Signal::default());
        let log = Arc::new(Mutex::new(1));
        let checkpoints = checkpoint_thread(&signal, &log, true);
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let signal = Arc::clone(&signal);
                thread::spawn(move || {
                    assert_eq!(
                        signal.wait_for_room(far()),
                        WaitOutcome::Failed("full".to_owned())
                    )
                })
            })
            .collect();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        let waiting = thread::spawn({
            let signal = Arc::clone(&signal);
            move || {
                assert!(matches!(
                    signal.wait_for_room(far()),
                    WaitOutcome::Failed(_) | WaitOutcome::Stopped
                ))
            }
        });
        signal.stop();
        waiting.join().unwrap();
        checkpoints.join().unwrap();
    });
}

#[test]
fn durable_changes_were_synced() {
    explore(|| {
        let durable = Arc::new(Durable::new(0));
        let written = Arc::new(Mutex::new(0));
        let disk = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let durable = Arc::clone(&durable);
                let written = Arc::clone(&written);
                let disk = Arc::clone(&disk);
                thread::spawn(move || {
                    let sequence = {
                        let mut written = written.lock().unwrap();
                        *written += 1;
                        *written
                    };
                    let reached: Result<(), ()> = durable.reach(sequence, || {
                        let latest = *written.lock().unwrap();
                        disk.fetch_max(latest, Ordering::AcqRel);
                        Ok(latest)
                    });
                    reached.unwrap();
                    let durable = durable.get();
                    assert!(durable >= sequence);
                    assert!(disk.load(Ordering::Acquire) >= durable);
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(durable.get(), 3);
    });
}

#[test]
fn changes_are_not_durable_after_a_failed_sync() {
    explore(|| {
        let durable = Arc::new(Durable::new(7));
        let failing = thread::spawn({
            let durable = Arc::clone(&durable);
            move || {
                assert_eq!(
                    durable.reach(9, || Err("the disk failed")),
                    Err("the disk failed")
                )
            }
        });
        assert_eq!(durable.reach(8, || Ok::<u64, ()>(8)), Ok(()));
        failing.join().unwrap();
        assert_eq!(durable.get(), 8);
        // A checkpoint wrote the changes in another way.
        durable.advance(9);
        assert_eq!(durable.reach(9, || Err(())), Ok(()));
    });
}
