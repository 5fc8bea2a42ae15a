//! Counts of one answer that contradict each other.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many counts contradicted another count of the same answer, in this process.
static CLAMPED: AtomicU64 = AtomicU64::new(0);

/// Returns how many counts contradicted another count of the same answer since the process started:
/// more people came back than the cohort has, or there were more people than entries. Each was
/// reduced to the possible maximum and logged.
pub fn clamped_counts() -> u64 {
    CLAMPED.load(Ordering::Relaxed)
}

/// The contradictions of one answer.
#[derive(Debug, Default)]
pub(in crate::reports) struct Clamps {
    counts: u64,
}

impl Clamps {
    /// Limits the count of a part to that of the whole.
    pub fn at_most(&mut self, part: u64, whole: u64) -> u64 {
        self.counts += u64::from(part > whole);
        part.min(whole)
    }

    /// Logs the contradictions in the answer to a question, if there are any.
    pub fn report(self, question: &dyn Display) {
        if self.counts > 0 {
            CLAMPED.fetch_add(self.counts, Ordering::Relaxed);
            tracing::warn!(
                counts = self.counts,
                question = %question,
                "an answer contradicts itself: it mixes two moments of the store, and was reduced to what is possible"
            );
        }
    }
}
