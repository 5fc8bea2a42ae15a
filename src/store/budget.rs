//! One budget of memory for the whole process: how it is divided, and how the parts whose size only
//! clients know keep to theirs.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// The budget when none is given, in MiB.
pub const DEFAULT_MB: u64 = 1024;

/// The smallest budget, in MiB.
pub const SMALLEST_MB: u64 = 16;

/// The most memory that counting one plan takes.
pub const PLAN: u64 = 20 * MIB;

/// What each part of the process may take of the budget, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// The embedded stores' caches of bitmaps.
    pub cache: u64,
    /// Marks that are not in a store's file yet: those that are gathered, and those that a
    /// checkpoint is writing.
    pub marks: u64,
    /// Questions being answered.
    pub questions: u64,
    /// What clients have sent and is not carried out yet: requests of Redis clients and bodies over
    /// HTTP.
    pub clients: u64,
    /// Answers over HTTP that clients have not read yet.
    pub answers: u64,
    /// CachedStore counts.
    pub counts: u64,
    /// Pages kept as they were sent.
    pub pages: u64,
}

impl Shares {
    /// Divides a budget, in bytes. `counts` is what remembered counts are to take, a sixteenth when
    /// `None`.
    ///
    /// | share | part | of 1024 MiB |
    /// |---|---|---|
    /// | marks | 1/4, at most 128 MiB | 128 |
    /// | questions | 1/8 | 128 |
    /// | clients | 3/16 | 192 |
    /// | answers | 1/16 | 64 |
    /// | counts | 1/16 | 64 |
    /// | pages | an eighth of what counts have | 8 |
    /// | the program itself | 1/32 | 32 |
    /// | cache | the rest, at least 1/16 | 408 |
    ///
    /// ```
    /// use cohortist::store::budget::Shares;
    /// let shares = Shares::of(1024 << 20, None);
    /// assert_eq!((shares.cache >> 20, shares.clients >> 20), (408, 192));
    /// // Who keeps no counts has more of the bitmaps in memory.
    /// assert_eq!(Shares::of(1024 << 20, Some(0)).cache >> 20, 480);
    /// ```
    pub fn of(budget: u64, counts: Option<u64>) -> Self {
        let marks = (budget / 4).min(128 * MIB);
        let (questions, clients, own) = (budget / 8, budget / 16 * 3, budget / 32);
        let answers = Shares::answers_of(clients);
        let counts = counts
            .unwrap_or(budget / 16)
            .min(Shares::most_counts(budget));
        let pages = counts / 8;
        let cache = budget
            .saturating_sub(marks + questions + clients + answers + own + counts + pages)
            .max(budget / 16);
        Shares {
            cache,
            marks,
            questions,
            clients,
            answers,
            counts,
            pages,
        }
    }

    /// The share of answers, given that of clients.
    pub const fn answers_of(clients: u64) -> u64 {
        clients / 3
    }

    /// The most that remembered counts may have of a budget.
    pub const fn most_counts(budget: u64) -> u64 {
        budget / 4
    }

    /// After how many bytes of marks a checkpoint begins, of each of so many embedded stores: as
    /// much again may come in while it is written.
    pub fn checkpoint(&self, stores: u64) -> u64 {
        self.marks / 2 / stores.max(1)
    }

    /// The cache of each of so many embedded stores.
    pub fn cache_of(&self, stores: u64) -> u64 {
        self.cache / stores.max(1)
    }

    /// How many questions may be answered at once.
    pub fn at_once(&self, cores: usize) -> usize {
        usize::try_from(self.questions / PLAN)
            .unwrap_or(usize::MAX)
            .clamp(1, cores.max(1))
    }
}

/// Memory that several take out of one pool before they use it. Clones share the pool.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    size: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Budget {
    /// A pool of so many bytes.
    pub fn new(size: u64) -> Self {
        Budget(Arc::new(Pool {
            size,
            used: Mutex::new(0),
            freed: Condvar::new(),
        }))
    }

    /// How many bytes there are in all.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// How many bytes are taken, which may be more than there are: see [`overdraw`](Self::overdraw).
    pub fn used(&self) -> u64 {
        *self.0.lock()
    }

    /// Takes so many bytes, if they are there.
    pub fn reserve(&self, bytes: u64) -> Option<Reservation> {
        let mut reservation = Reservation {
            budget: self.clone(),
            bytes: 0,
        };
        reservation
            .grow(bytes, Duration::ZERO)
            .then_some(reservation)
    }

    /// Takes so many bytes even if they are not there, for memory that is in use already. Nothing
    /// else can be reserved until enough has come back.
    pub fn overdraw(&self, bytes: u64) -> Reservation {
        *self.0.lock() += bytes;
        Reservation {
            budget: self.clone(),
            bytes,
        }
    }
}

/// Bytes taken out of a [`Budget`]; they go back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: u64,
}

impl Reservation {
    /// How many bytes it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it hold at least so many bytes, waiting for others to give some back for no longer
    /// than `patience`. Says whether it does; otherwise it is as before. Nobody waits for more than
    /// there is in all.
    #[must_use]
    pub fn grow(&mut self, bytes: u64, patience: Duration) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let pool = &*self.budget.0;
        let fits = |used: u64| used.saturating_add(more) <= pool.size;
        if more > pool.size.saturating_sub(self.bytes) {
            return false;
        }
        let until = Instant::now() + patience;
        let mut used = pool.lock();
        while !fits(*used) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            used = pool
                .freed
                .wait_timeout(used, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *used += more;
        self.bytes += more;
        true
    }

    /// Gives back what is beyond so many bytes.
    pub fn shrink(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        if less > 0 {
            self.bytes -= less;
            *self.budget.0.lock() -= less;
            self.budget.0.freed.notify_all();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_fit_into_the_budget(mb in SMALLEST_MB..=1 << 24, counts in proptest::option::of(0_u64..=1 << 24)) {
            let shares = Shares::of(mb << 20, counts.map(|mb| mb << 20));
            let Shares { cache, marks, questions, clients, answers, counts, pages } = shares;
            prop_assert!(cache + marks + questions + clients + answers + counts + pages <= mb << 20);
            prop_assert!([cache, marks, questions, clients, answers].iter().all(|share| *share >= MIB), "{shares:?}");
            prop_assert!((1..=8).contains(&shares.at_once(8)));
            prop_assert!(shares.checkpoint(1) * 2 <= marks && shares.cache_of(3) * 3 <= cache);
        }
    }

    #[test]
    fn what_is_reserved_comes_back() {
        let budget = Budget::new(100);
        let mut first = budget.reserve(60).unwrap();
        assert!(budget.reserve(41).is_none() && budget.reserve(101).is_none());
        let second = budget.reserve(40).unwrap();
        assert_eq!(budget.used(), 100);
        assert!(
            !first.grow(61, Duration::ZERO),
            "what does not fit changes nothing"
        );
        assert_eq!((first.bytes(), budget.used()), (60, 100));
        drop(second);
        assert!(first.grow(61, Duration::ZERO) && first.grow(10, Duration::ZERO));
        assert_eq!((first.bytes(), budget.used()), (61, 61));
        first.shrink(5);
        assert_eq!(budget.used(), 5);
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn whoever_waits_goes_on_when_there_is_room() {
        let budget = Budget::new(100);
        let first = budget.reserve(100).unwrap();
        let waiting = std::thread::spawn({
            let budget = budget.clone();
            move || {
                let mut own = budget.reserve(0).unwrap();
                assert!(
                    !own.grow(101, Duration::from_secs(600)),
                    "more than there is in all is not waited for"
                );
                own.grow(80, Duration::from_secs(600))
            }
        });
        drop(first);
        assert!(waiting.join().unwrap());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn questions_are_bounded_by_memory_and_by_cores() {
        let at_once = |mb: u64, cores| Shares::of(mb << 20, None).at_once(cores);
        assert_eq!(
            [
                at_once(1024, 2),
                at_once(1024, 64),
                at_once(64, 8),
                at_once(16, 8)
            ],
            [2, 6, 1, 1]
        );
    }
}
