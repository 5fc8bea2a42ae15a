//! The machine's cores, shared by the evaluations that run at the same time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static CORES: Cores = Cores {
    running: AtomicUsize::new(0),
    all: OnceLock::new(),
};

/// How many evaluations run that more than one thread is worth it for.
struct Cores {
    running: AtomicUsize,
    all: OnceLock<usize>,
}

/// How many threads an evaluation may use, until it is dropped.
pub(super) struct Share {
    cores: &'static Cores,
    threads: usize,
    counted: bool,
}

impl Share {
    /// As many threads as are worth it, of an equal part of the cores: one alone has all of them,
    /// and many at once a thread each, as more would only get in each other's way.
    pub fn of_all(worth: usize) -> Self {
        CORES.share(worth)
    }

    pub fn threads(&self) -> usize {
        self.threads
    }
}

impl Cores {
    fn share(&'static self, worth: usize) -> Share {
        if worth <= 1 {
            return Share {
                cores: self,
                threads: 1,
                counted: false,
            };
        }
        // Asked once: it takes the system a while.
        let all = *self
            .all
            .get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from));
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        Share {
            cores: self,
            threads: worth.min((all / running).max(1)),
            counted: true,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.counted {
            self.cores.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_at_the_same_time_share_the_cores() {
        let cores: &'static Cores = Box::leak(Box::new(Cores {
            running: AtomicUsize::new(0),
            all: OnceLock::from(8),
        }));
        let first = cores.share(100);
        let small = cores.share(1);
        let second = cores.share(100);
        let third = cores.share(2);
        assert_eq!(
            [first, small, second, third].map(|share| share.threads()),
            [8, 1, 4, 2]
        );
        assert_eq!(cores.running.load(Ordering::Relaxed), 0);
        let many: Vec<Share> = (0..20).map(|_| cores.share(100)).collect();
        assert_eq!(many.last().map(Share::threads), Some(1), "never none");
    }
}
