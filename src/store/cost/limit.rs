//! The limit that each thread has for the cost of a question.

use std::cell::Cell;

use crate::sets::{Key, NODE_WORK, Plan, Set};
use crate::store::Result;
use crate::store::cost::estimate::Cost;
use crate::store::error::StoreError;

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

impl Cost {
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
