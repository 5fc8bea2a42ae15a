//! One memory budget for the whole process: how it is divided, and how parts whose size depends on
//! clients stay within their share.

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
    /// Marks that are not in a store's files yet: those in memory, and those that a checkpoint is
    /// writing.
    pub marks: u64,
    /// Questions being answered.
    pub questions: u64,
    /// Requests of Redis clients and HTTP bodies that have arrived and are not processed yet.
    pub clients: u64,
    /// Answers over HTTP that clients have not read yet.
    pub answers: u64,
    /// Cached counts.
    pub counts: u64,
    /// Cached pages.
    pub pages: u64,
}

impl Shares {
    /// Divides a budget, in bytes. `counts` is the share of cached counts; a sixteenth if `None`.
    ///
    /// | share | part | of 1024 MiB |
    /// |---|---|---|
    /// | marks | 1/4, at most 128 MiB | 128 |
    /// | questions | 1/8 | 128 |
    /// | clients | 3/16 | 192 |
    /// | answers | 1/16 | 64 |
    /// | counts | 1/16 | 64 |
    /// | pages | an eighth of what counts have | 8 |
    /// | the program itself | 1/16 | 64 |
    /// | cache | the rest, at least 1/16 | 376 |
    ///
    /// ```
    /// use cohortist::store::budget::Shares;
    /// let shares = Shares::of(1024 << 20, None);
    /// assert_eq!((shares.cache >> 20, shares.clients >> 20), (376, 192));
    /// // Without cached counts there is more room for bitmaps.
    /// assert_eq!(Shares::of(1024 << 20, Some(0)).cache >> 20, 448);
    /// ```
    pub fn of(budget: u64, counts: Option<u64>) -> Self {
        let marks = (budget / 4).min(128 * MIB);
        let (questions, clients, own) = (budget / 8, budget / 16 * 3, budget / 16);
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

    /// The largest share of a budget for cached counts.
    pub const fn most_counts(budget: u64) -> u64 {
        budget / 4
    }

    /// The number of bytes of marks after which each of `stores` embedded stores begins a
    /// checkpoint. The same amount may arrive while it is written.
    pub fn checkpoint(&self, stores: u64) -> u64 {
        self.marks / 2 / stores.max(1)
    }

    /// The cache of each of `stores` embedded stores.
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

/// A pool of memory from which parts of the process reserve bytes before they use them. Clones
/// share the pool.
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
    /// Creates a pool of `size` bytes.
    pub fn new(size: u64) -> Self {
        Budget(Arc::new(Pool {
            size,
            used: Mutex::new(0),
            freed: Condvar::new(),
        }))
    }

    /// The size of the pool in bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// How many bytes are reserved; after an [`overdraw`](Self::overdraw) possibly more than the size.
    pub fn used(&self) -> u64 {
        *self.0.lock()
    }

    /// Reserves bytes if they are available.
    pub fn reserve(&self, bytes: u64) -> Option<Reservation> {
        let mut reservation = Reservation {
            budget: self.clone(),
            bytes: 0,
        };
        reservation
            .grow(bytes, Duration::ZERO)
            .then_some(reservation)
    }

    /// Reserves bytes even if they are not available, for memory that is in use already. Nothing
    /// else can be reserved until enough is given back.
    pub fn overdraw(&self, bytes: u64) -> Reservation {
        *self.0.lock() += bytes;
        Reservation {
            budget: self.clone(),
            bytes,
        }
    }
}

/// Bytes reserved from a [`Budget`], returned when this is dropped.
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

    /// Grows the reservation to at least `bytes`, waiting up to `patience` for others to return
    /// some. Returns whether it succeeded; otherwise the reservation is unchanged. Does not wait
    /// for more than the size of the pool.
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

    /// Returns everything beyond `bytes` to the pool.
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
