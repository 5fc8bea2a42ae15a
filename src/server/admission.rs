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

use crate::render::{thousands, words};
use crate::server::arrival::unless_cut_off;
use crate::server::error::WebError;
use crate::server::{View, crossing};
use crate::store::Cost;
use crate::store::StoreError;
use crate::store::cost::{self, Class};

/// How many heavy questions may wait for each that is being answered: at half a second to a few
/// seconds each, the last one waits for about half a minute.
const HEAVY_QUEUE: usize = 16;

/// How many ordinary questions may wait for each that is being answered: at 0.25 s at most, and
/// mostly some 10 ms.
const ORDINARY_QUEUE: usize = 1024;

/// How many ordinary questions at least are put to a store at once that answers from elsewhere:
/// waiting for it takes no core.
const ELSEWHERE: usize = 8;

/// What it takes to write one value of an answer, in operations on tiles: about a microsecond.
const VALUE_WORK: u64 = 4;

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

struct Lane {
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

    fn lane(&self, view: &View, class: Class) -> Arc<Lane> {
        if class == Class::Heavy {
            return Arc::clone(&self.0.heavy);
        }
        let mut ordinary = self
            .0
            .ordinary
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let lane = ordinary.entry(view.index).or_insert_with(|| {
            let places = if view.tracker.is_local() {
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
    async fn turn(&self, patience: Patience) -> Option<OwnedSemaphorePermit> {
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
pub(crate) enum Patience {
    /// Yes: nothing has been sent yet.
    Bounded,
    /// No: it is a part of an answer that has begun, which could only be broken off.
    Endless,
}

/// Work for a request across the [`crossing`], in its turn. It may run more than once, and must
/// come to the same then. Ends with [`WebError::Stopping`] when a server that is stopping no longer
/// waits for it.
pub(crate) async fn admitted<T: Send + 'static>(
    view: &View,
    patience: Patience,
    work: impl FnMut() -> Result<T, WebError> + Send + 'static,
) -> Result<T, WebError> {
    unless_cut_off(view.live.as_ref(), in_turn(view, patience, work)).await
}

async fn in_turn<T: Send + 'static>(
    view: &View,
    patience: Patience,
    mut work: impl FnMut() -> Result<T, WebError> + Send + 'static,
) -> Result<T, WebError> {
    let admission = view.dashboard.admission.clone();
    let (mut class, mut turn) = (Class::Light, None);
    loop {
        // The turn goes along: whoever has gone away keeps it until the work has really ended.
        let run = move || {
            let outcome = cost::within(class, &mut work);
            Ok((outcome, work, turn))
        };
        let (outcome, again, before) = crossing(run).await?;
        let Err(WebError::Store(StoreError::Costly(cost))) = outcome else {
            return outcome;
        };
        drop(before);
        work = again;
        let lane = admission.lane(view, Class::of(cost.work).max(Class::Ordinary));
        class = lane.class;
        turn = lane.turn(patience).await;
        if turn.is_none() {
            admission.0.refused.fetch_add(1, Ordering::Relaxed);
            return Err(WebError::Busy(Busy {
                cost,
                table: None,
                waiting: lane.room,
            }));
        }
    }
}

/// Makes a large answer take a turn before it is written, even if all its counts are remembered:
/// writing takes time, and memory that is only known afterwards.
///
/// # Errors
/// [`StoreError::Costly`], where [`admitted`] then waits for a turn.
pub(crate) fn writing(values: usize) -> Result<(), WebError> {
    let cost = || {
        Ok(Cost {
            work: VALUE_WORK * values as u64,
            sets: values,
            ids: 0,
        })
    };
    Ok(cost::check(cost)?)
}

/// A question that was refused, as too many such wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    cost: Cost,
    /// Rows and columns, where it is a table.
    table: Option<(u32, u32)>,
    /// How many wait already.
    waiting: usize,
}

impl Busy {
    /// The same of a table of so many rows and columns.
    pub(crate) fn of_table(self, rows: u32, columns: u32) -> Self {
        Busy {
            table: Some((rows, columns)),
            ..self
        }
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = match self.cost.ids {
            0 => String::new(),
            ids => format!(" over {} user ids", words::about(ids)),
        };
        let waiting = thousands(self.waiting as u64);
        match self.table {
            Some((rows, columns)) => {
                let (rows, columns) = (thousands(rows.into()), thousands(columns.into()));
                write!(
                    f,
                    "{rows} cohorts × {columns} columns{over} take a while to count, and {waiting} such questions wait \
                     already. Ask for fewer rows or columns, or a coarser grain, or try again later"
                )
            }
            None => {
                let sets = crate::render::many(self.cost.sets as u64, "set");
                write!(
                    f,
                    "{sets}{over} take a while to count, and {waiting} such questions wait already. Ask for less at \
                     once, or try again later"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_makes_the_question_expensive() {
        let cost = Cost {
            work: 0,
            sets: 10_011,
            ids: 153 << 16,
        };
        let busy = Busy {
            cost,
            table: None,
            waiting: 32,
        };
        let table = busy.of_table(141, 141).to_string();
        assert!(
            table.starts_with("141 cohorts × 141 columns over 10 million user ids "),
            "{table}"
        );
        assert!(
            table.contains("fewer rows or columns, or a coarser grain"),
            "{table}"
        );
        assert!(
            busy.to_string()
                .starts_with("10,011 sets over 10 million user ids "),
            "{busy}"
        );
    }
}
