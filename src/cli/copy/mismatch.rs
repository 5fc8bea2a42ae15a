//! What differs between two stores.

use std::fmt;

use crate::sets::Key;

/// A bitmap with different counts in the two stores.
#[derive(Debug)]
pub struct Mismatch {
    pub key: Key,
    pub original: u64,
    pub copy: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} of {})", self.key, self.copy, self.original)
    }
}
