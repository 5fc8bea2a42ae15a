//! Who is answered when. Cheap questions wait for nobody; the others take turns, in the order in
//! which they came.
//!
//! ```text
//! request ─▶ run within Light ──────────────────────────────────────────────▶ answer
//!                └─ Costly(cost) ─▶ wait for a turn, without a thread ─▶ run again within its class ─▶ answer
//!                                        └─ the queue is full ─▶ 503
//! ```
//!
//! What a question costs is only known once it is planned, its bitmaps are found and remembered
//! counts are taken off. So every request first runs within the smallest [`Class`]. A store that is
//! asked for more does nothing and says what it would cost ([`cost`]); the request then waits,
//! and begins again. What it did until then is small beside what made it wait.
//!
//! *Heavy* questions have a lane of their own, for all stores together, with as many places as
//! there are cores and a queue with a bound. *Ordinary* ones have a lane for each store, so that a
//! Redis that hangs holds up its own pages alone. A request whose client is gone leaves its queue,
//! as its future is dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::cost::Class;

/// How many heavy questions may wait for each that is being answered: at half a second to a few
/// seconds each, the last one waits for about half a minute.
const HEAVY_QUEUE: usize = 16;

/// How many ordinary questions may wait for each that is being answered: at 0.25 s at most, and
/// mostly some 10 ms.
const ORDINARY_QUEUE: usize = 1024;

/// How many ordinary questions at least are put to a store at once that answers from elsewhere:
/// waiting for it takes no core.
const ELSEWHERE: usize = 8;

/// Decides who is answered when. Clones share their lanes.
#[derive(Clone)]
pub struct Admission(Arc<Lanes>);

struct Lanes {
    at_once: usize,
    heavy: Arc<Lane>,
    /// By the store's place on the dashboard.
    ordinary: Mutex<BTreeMap<usize, Arc<Lane>>>,
    refused: AtomicU64,
}

pub(super) struct Lane {
    class: Class,
    places: usize,
    /// First come, first served.
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    room: usize,
}

/// How busy the lanes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Questions being answered that took a turn.
    pub running: usize,
    /// Questions waiting for theirs.
    pub waiting: usize,
    /// Questions refused so far, as too many waited.
    pub refused: u64,
}

impl Default for Admission {
    /// As many at once as there are cores.
    fn default() -> Self {
        Admission::new(std::thread::available_parallelism().map_or(1, usize::from))
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("load", &self.load())
            .finish()
    }
}

impl Admission {
    /// So many heavy questions at once, and as many ordinary ones of each store.
    pub fn new(at_once: usize) -> Self {
        let at_once = at_once.max(1);
        let heavy = Arc::new(Lane::new(Class::Heavy, at_once, at_once * HEAVY_QUEUE));
        Admission(Arc::new(Lanes {
            at_once,
            heavy,
            ordinary: Mutex::default(),
            refused: AtomicU64::new(0),
        }))
    }

    /// How busy all lanes are together.
    pub fn load(&self) -> Load {
        let ordinary = self
            .0
            .ordinary
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut load = Load {
            refused: self.0.refused.load(Ordering::Relaxed),
            ..Load::default()
        };
        for lane in ordinary.values().chain([&self.0.heavy]) {
            load.running += lane.places - lane.turns.available_permits();
            load.waiting += lane.waiting.load(Ordering::Relaxed);
        }
        load
    }

    /// Counts a question that was refused.
    pub(super) fn refused(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The lane of a class, for the store with this index.
    pub(super) fn lane(&self, store: usize, is_local: bool, class: Class) -> Arc<Lane> {
        if class == Class::Heavy {
            return Arc::clone(&self.0.heavy);
        }
        let mut ordinary = self
            .0
            .ordinary
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let lane = ordinary.entry(store).or_insert_with(|| {
            let places = if is_local {
                self.0.at_once
            } else {
                self.0.at_once.max(ELSEWHERE)
            };
            Arc::new(Lane::new(Class::Ordinary, places, places * ORDINARY_QUEUE))
        });
        Arc::clone(lane)
    }
}

impl Lane {
    pub(super) fn class(&self) -> Class {
        self.class
    }

    /// How many may wait for a turn.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    fn new(class: Class, places: usize, room: usize) -> Self {
        Lane {
            class,
            places,
            turns: Arc::new(Semaphore::new(places)),
            waiting: AtomicUsize::new(0),
            room,
        }
    }

    /// Waits for a turn; `None` when too many do already, unless `patience` makes it wait all the
    /// same.
    pub(super) async fn turn(&self, patience: Patience) -> Option<OwnedSemaphorePermit> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Some(turn);
        }
        let waiting = Waiting::of(&self.waiting);
        if waiting.before >= self.room && patience == Patience::Bounded {
            return None;
        }
        // The lanes are never closed.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }
}

/// Counted among those who wait, until it is dropped.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn of(all: &'a AtomicUsize) -> Self {
        Waiting {
            all,
            before: all.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a question may be refused when too many wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Yes: nothing has been sent yet.
    Bounded,
    /// No: it is a part of an answer that has begun, which could only be broken off.
    Endless,
}
