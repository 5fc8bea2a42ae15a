//! Stops work whose result is no longer needed.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::{Result, StoreError};

/// A token that stops the questions of one request. All clones are the same token.
///
/// The token belongs to a thread: every question to a [`Store`](crate::store::Store) inside
/// [`during`](Cancel::during) fails with [`StoreError::Cancelled`] soon after
/// [`cancel`](Cancel::cancel). Stores check it between steps that take a few milliseconds at most:
/// the embedded store after each 65 536 users, Redis between round trips. Writes do not check it,
/// so a change is made or not made as if there were no token.
///
/// ```
/// use cohortist::store::{self, Cancel, Store, StoreError};
/// use cohortist::sets::{EventName, Plan, Set};
/// let store = store::open("memory:", &store::Options::default())?;
/// let mut plan = Plan::new();
/// plan.count_set(&(Set::ever(&EventName::new("a")?) | Set::ever(&EventName::new("b")?)));
/// let cancel = Cancel::new();
/// assert_eq!(cancel.during(|| store.count(&plan))?, [0]);
/// cancel.cancel();
/// assert!(matches!(cancel.during(|| store.count(&plan)), Err(StoreError::Cancelled)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

thread_local! {
    static CURRENT: RefCell<Option<Cancel>> = const { RefCell::new(None) };
}

impl Cancel {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Cancel::default()
    }

    /// The token of the work of this thread; outside [`during`](Cancel::during) one that is never
    /// cancelled.
    pub fn current() -> Self {
        CURRENT.with_borrow(|current| current.clone().unwrap_or_default())
    }

    /// Cancels the work. This cannot be undone.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the work was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns an error once the work was cancelled.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`].
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(StoreError::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Runs `work` on this thread under this token. Threads that the work starts have tokens of
    /// their own: pass them [`current`](Cancel::current).
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Restores the previous token, also after a panic.
        struct Restore(Option<Cancel>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self.clone())));
        work()
    }

    /// Returns a guard that cancels the work when it is dropped. After the work has ended this has
    /// no effect.
    pub fn guard(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

/// Cancels its token when it is dropped, for example with a future that is no longer polled.
#[derive(Debug)]
#[must_use = "dropping the guard cancels the token"]
pub struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_under_the_innermost_token() {
        let (outer, inner) = (Cancel::new(), Cancel::new());
        outer.cancel();
        outer.during(|| {
            assert!(Cancel::current().is_cancelled());
            inner.during(|| assert!(!Cancel::current().is_cancelled()));
            let panicked = std::panic::catch_unwind(|| {
                inner.during(|| std::panic::resume_unwind(Box::new(())))
            });
            assert!(panicked.is_err() && Cancel::current().is_cancelled());
        });
        assert!(!Cancel::current().is_cancelled());
    }

    #[test]
    fn a_dropped_guard_cancels_every_clone() {
        let cancel = Cancel::new();
        let guard = cancel.clone().guard();
        assert!(cancel.check().is_ok());
        drop(guard);
        assert!(matches!(cancel.check(), Err(StoreError::Cancelled)));
    }
}
