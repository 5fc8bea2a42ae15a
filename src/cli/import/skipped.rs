//! Lines that an import skipped, by reason.

use std::collections::BTreeMap;

use crate::ingest::Fault;

/// The lines that were skipped.
#[derive(Debug, Default)]
pub struct Skipped {
    /// The number of lines with each mistake, and the first example.
    by_fault: BTreeMap<Fault, (u64, String)>,
}

impl Skipped {
    pub fn add(&mut self, fault: Fault, example: impl FnOnce() -> String) {
        self.by_fault
            .entry(fault)
            .or_insert_with(|| (0, example()))
            .0 += 1;
    }

    /// Returns the number of lines.
    pub fn total(&self) -> u64 {
        self.by_fault.values().map(|(lines, _)| lines).sum()
    }

    /// Returns the mistakes, the most frequent one first, with the number of lines and an example.
    pub fn reasons(&self) -> Vec<(Fault, u64, &str)> {
        let mut reasons: Vec<(Fault, u64, &str)> = self
            .by_fault
            .iter()
            .map(|(fault, (lines, example))| (*fault, *lines, example.as_str()))
            .collect();
        reasons.sort_by_key(|(_, lines, _)| std::cmp::Reverse(*lines));
        reasons
    }

    /// Returns the number of lines with a mistake.
    pub fn with(&self, fault: Fault) -> u64 {
        self.by_fault.get(&fault).map_or(0, |(lines, _)| *lines)
    }
}
