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
#[allow(dead_code, reason = "the models use what waits")]
mod signal;

use signal::{Durable, Signal, Waited};
use sync::{AtomicU64, Mutex, Ordering};

/// How many interleavings are tried for each model.
const ORDERS: usize = 3000;

fn explore(model: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(model.clone(), ORDERS);
    // Interleavings in which a thread is delayed for long are rare among those.
    shuttle::check_pct(model, ORDERS, 3);
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Starts a checkpoint thread that empties the log, or fails to.
fn keeper(signal: &Arc<Signal>, log: &Arc<Mutex<u32>>, fails: bool) -> thread::JoinHandle<()> {
    let (signal, log) = (Arc::clone(signal), Arc::clone(log));
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

/// Writes frames to a log that has room for one, waiting for a checkpoint each time it is full.
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
            assert_eq!(signal.wait_for_room(far()), Waited::Room);
        }
    }
}

#[test]
fn every_writer_gets_room_and_every_thread_ends() {
    explore(|| {
        let (signal, log) = (Arc::new(Signal::default()), Arc::new(Mutex::new(1)));
        let keeper = keeper(&signal, &log, false);
        let syncer = thread::spawn({
            let signal = Arc::clone(&signal);
            move || assert!(signal.wait_for_stop(far()))
        });
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let (signal, log) = (Arc::clone(&signal), Arc::clone(&log));
                thread::spawn(move || write(&signal, &log, 2))
            })
            .collect();
        signal.request();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        signal.stop();
        keeper.join().unwrap();
        syncer.join().unwrap();
    });
}

#[test]
fn a_checkpoint_that_fails_is_told_to_every_writer() {
    explore(|| {
        let (signal, log) = (Arc::new(Signal::default()), Arc::new(Mutex::new(1)));
        let keeper = keeper(&signal, &log, true);
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let signal = Arc::clone(&signal);
                thread::spawn(move || {
                    assert_eq!(
                        signal.wait_for_room(far()),
                        Waited::Failed("full".to_owned())
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
                    Waited::Failed(_) | Waited::Stopped
                ))
            }
        });
        signal.stop();
        waiting.join().unwrap();
        keeper.join().unwrap();
    });
}

#[test]
fn what_is_called_durable_was_forced_to_disk() {
    explore(|| {
        let durable = Arc::new(Durable::new(0));
        let (written, disk) = (Arc::new(Mutex::new(0)), Arc::new(AtomicU64::new(0)));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (durable, written, disk) = (
                    Arc::clone(&durable),
                    Arc::clone(&written),
                    Arc::clone(&disk),
                );
                thread::spawn(move || {
                    let sequence = {
                        let mut written = written.lock().unwrap();
                        *written += 1;
                        *written
                    };
                    let forced: Result<(), ()> = durable.reach(sequence, || {
                        let latest = *written.lock().unwrap();
                        disk.fetch_max(latest, Ordering::AcqRel);
                        Ok(latest)
                    });
                    forced.unwrap();
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
fn what_could_not_be_forced_to_disk_is_not_called_durable() {
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
