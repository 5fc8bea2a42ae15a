//! What is worth a note, although the lines are valid.

use std::collections::BTreeMap;

use crate::ingest::field::excerpt;
use crate::values::Unit;

/// What was noticed while values were read.
#[derive(Debug, Default)]
pub struct Notes {
    /// The number of times that were numbers, by unit.
    units: BTreeMap<Unit, u64>,
    /// Numeric ids with zeros before them: `007` is the user 7.
    pub leading_zeros: Example,
    /// Ids with a fraction of zero: `7.0` is the user 7 in a store of numbers, and another user
    /// than `7` in one of string ids.
    pub floats: Example,
    /// String ids whose characters were composed.
    pub composed: Example,
    /// The names of events that were written in another way as well, and in how many ways.
    merged: BTreeMap<String, u64>,
}

/// The number of lines with something, and the first example.
#[derive(Debug, Default)]
pub struct Example {
    /// The number of lines.
    pub lines: u64,
    /// The value in the first of these lines.
    pub first: String,
}

impl Example {
    pub(super) fn add(&mut self, field: &[u8]) {
        if self.lines == 0 {
            self.first = excerpt(field.trim_ascii());
        }
        self.lines += 1;
    }
}

impl Notes {
    pub(super) fn unit(&mut self, unit: Unit) {
        *self.units.entry(unit).or_default() += 1;
    }

    pub(super) fn merged(&mut self, name: &str) {
        if let Some(ways) = self.merged.get_mut(name) {
            *ways += 1;
        } else {
            self.merged.insert(name.to_owned(), 1);
        }
    }

    /// Returns the number of times that were numbers of a unit.
    pub fn times_in(&self, unit: Unit) -> u64 {
        self.units.get(&unit).copied().unwrap_or(0)
    }

    /// Returns the names of events that were also written with white space around them or with
    /// other characters that look the same.
    pub fn merged_names(&self) -> impl Iterator<Item = &str> {
        self.merged.keys().map(String::as_str)
    }
}
