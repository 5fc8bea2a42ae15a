//! Divides the processor's cores among concurrent evaluations.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static CORES: Cores = Cores {
    running: AtomicUsize::new(0),
    all: OnceLock::new(),
};

struct Cores {
    /// The number of running evaluations that use several threads if they can.
    running: AtomicUsize,
    /// The number of cores.
    all: OnceLock<usize>,
}

/// The right of an evaluation to use a number of threads. It ends when the value is dropped.
pub(super) struct Share {
    cores: &'static Cores,
    threads: usize,
    counted: bool,
}

impl Share {
    /// Returns an equal share of the cores, but at least one and at most `max_threads` threads. A
    /// single evaluation gets all cores. If there are more evaluations than cores, each gets one
    /// thread.
    pub fn of_all(max_threads: usize) -> Self {
        CORES.share(max_threads)
    }

    /// Returns the number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

impl Cores {
    fn share(&'static self, max_threads: usize) -> Share {
        if max_threads <= 1 {
            return Share {
                cores: self,
                threads: 1,
                counted: false,
            };
        }
        // Determined once, because it takes a while.
        let all = *self
            .all
            .get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from));
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        Share {
            cores: self,
            threads: max_threads.min((all / running).max(1)),
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
    fn concurrent_evaluations_share_the_cores() {
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
        assert_eq!(many.last().map(Share::threads), Some(1), "at least one");
    }
}
