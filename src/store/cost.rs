//! How much work one question may be on this thread.
//!
//! A server must know what a question costs before it starts, and only the store can tell: it knows
//! how long its bitmaps are, and which counts are cached. So a server runs requests [`within`] a
//! limit, and a store that is asked for more returns [`StoreError::Costly`] instead of an answer,
//! without having done anything. The request then waits for its turn without a thread, and runs
//! again within a higher limit. Threads without a limit, such as those of commands, are never
//! refused.

use std::cell::Cell;

use crate::sets::{Key, NODE_WORK, Plan, Set};
use crate::store::{Result, StoreError};

/// User ids in a tile.
const TILE_IDS: u64 = 1 << 16;

/// How many tiles a store that cannot tell assumes a bitmap to have: a million ids.
pub(crate) const UNKNOWN_TILES: u64 = 16;

/// How expensive a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A few milliseconds at most: it does not wait.
    Light,
    /// A few hundred milliseconds at most: answered in order of arrival.
    Ordinary,
    /// Everything else: only a few are answered at a time.
    Heavy,
}

impl Class {
    /// The most operations on tiles, at about 0.25 µs each on one core if the bitmaps are in memory.
    ///
    /// [`Light`](Class::Light) ends at 2.5 ms, where a second thread begins to pay off: below that,
    /// waiting for a turn would cost more than it saves. [`Ordinary`](Class::Ordinary) ends at
    /// 0.25 s: the 31 × 13 table of 10 million users takes 13 ms, of 100 million 130 ms, and one of
    /// 141 × 141 cohorts of 10 million 0.75 s. The first read from disk takes about ten times as
    /// long.
    pub const fn limit(self) -> u64 {
        match self {
            Class::Light => 10_000,
            Class::Ordinary => 1_000_000,
            Class::Heavy => u64::MAX,
        }
    }

    /// The smallest class that allows this much work.
    pub fn of(work: u64) -> Self {
        let classes = [Class::Light, Class::Ordinary];
        classes
            .into_iter()
            .find(|class| work <= class.limit())
            .unwrap_or(Class::Heavy)
    }
}

thread_local! {
    static CLASS: Cell<Class> = const { Cell::new(Class::Heavy) };
}

/// What a question costs, before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Operations on tiles, see [`Plan::work`].
    pub work: u64,
    /// How many sets are counted or listed.
    pub sets: usize,
    /// The number of user ids that its longest bitmap spans, rounded up to a tile.
    pub ids: u64,
}

impl Cost {
    /// The cost of counting a plan, given how many tiles a key has.
    pub fn of(plan: &Plan, tiles: impl Fn(&Key) -> u64) -> Self {
        let mut longest = 0;
        let work = plan.work(|key| {
            let tiles = tiles(key);
            longest = longest.max(tiles);
            tiles
        });
        Cost {
            work,
            sets: plan.roots().len(),
            ids: longest.saturating_mul(TILE_IDS),
        }
    }

    /// The cost of listing one set.
    ///
    /// # Errors
    /// If the set is [too large](StoreError::TooLarge).
    pub fn of_set(set: &Set, tiles: impl Fn(&Key) -> u64) -> Result<Self> {
        let mut plan = Plan::new();
        plan.count_set(set)?;
        Ok(Cost::of(&plan, tiles))
    }
}

/// Runs `work` on this thread, where no question may exceed `class`.
pub fn within<T>(class: Class, work: impl FnOnce() -> T) -> T {
    let _before = Before(CLASS.replace(class));
    work()
}

struct Before(Class);

impl Drop for Before {
    fn drop(&mut self) {
        CLASS.set(self.0);
    }
}

/// The limit of questions on this thread. Questions of different classes must not wait for each
/// other's results.
pub fn class() -> Class {
    CLASS.get()
}

/// Refuses a question that exceeds the limit of this thread. Without a limit nothing is estimated.
///
/// # Errors
/// [`StoreError::Costly`], or the error of the estimate.
pub fn check(cost: impl FnOnce() -> Result<Cost>) -> Result<()> {
    if class() == Class::Heavy {
        return Ok(());
    }
    let cost = cost()?;
    if cost.work > class().limit() {
        Err(StoreError::Costly(cost))
    } else {
        Ok(())
    }
}

/// Refuses a plan that has so many nodes that it is heavy whatever the bitmaps hold. To be called
/// before anything is done for each node.
///
/// # Errors
/// [`StoreError::Costly`].
pub fn check_nodes(plan: &Plan) -> Result<()> {
    let work = NODE_WORK.saturating_mul(plan.nodes().len() as u64);
    if work <= Class::Ordinary.limit() {
        return Ok(());
    }
    check(|| {
        Ok(Cost {
            work,
            sets: plan.roots().len(),
            ids: 0,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_for_its_work_alone() {
        let cost = |work| {
            move || {
                Ok(Cost {
                    work,
                    sets: 1,
                    ids: 0,
                })
            }
        };
        let (light, ordinary) = (Class::Light.limit(), Class::Ordinary.limit());
        assert!(
            check(cost(u64::MAX)).is_ok(),
            "without a limit nothing is refused"
        );
        within(Class::Light, || {
            assert!(check(cost(light)).is_ok());
            assert!(
                matches!(check(cost(light + 1)), Err(StoreError::Costly(cost)) if cost.work == light + 1)
            );
            within(Class::Ordinary, || assert!(check(cost(ordinary)).is_ok()));
            assert!(check(cost(light + 1)).is_err());
        });
        assert_eq!(class(), Class::Heavy);
        let _ = std::panic::catch_unwind(|| {
            within(Class::Light, || std::panic::resume_unwind(Box::new(())))
        });
        assert_eq!(class(), Class::Heavy, "a panic leaves no limit behind");
        assert_eq!(
            [0, light, light + 1, ordinary, ordinary + 1].map(Class::of),
            [
                Class::Light,
                Class::Light,
                Class::Ordinary,
                Class::Ordinary,
                Class::Heavy
            ]
        );
    }
}
