//! Distances between periods.

use std::fmt;

/// Periods around another one: the range of their distances from it, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Offsets {
    from: i32,
    until: i32,
}

impl Offsets {
    /// The greatest distance.
    pub const MAX: i32 = 400;

    /// Creates the range `from..until`; `None` if it is empty or goes beyond [`MAX`](Self::MAX).
    pub fn new(from: i32, until: i32) -> Option<Self> {
        let fits = -Self::MAX <= from && from <= until && until <= Self::MAX;
        fits.then_some(Offsets { from, until })
    }

    /// Returns the range of `count` periods up to and including the period itself; `None` if `count`
    /// is 0 or goes beyond [`MAX`](Self::MAX).
    pub fn last(count: u32) -> Option<Self> {
        Self::new(1_i32.checked_sub_unsigned(count)?, 0)
    }

    /// Returns the first distance.
    pub fn from(&self) -> i32 {
        self.from
    }

    /// Returns the last distance.
    pub fn until(&self) -> i32 {
        self.until
    }

    /// Returns the number of periods. There is at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Iterates over the distances in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = i64> + use<> {
        i64::from(self.from)..=i64::from(self.until)
    }
}

impl fmt::Display for Offsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.until)
    }
}
