//! Where a store remembers which undated bitmaps are lists of people that pages saved.

use crate::sets::Prefix;

/// Returns the key of the names. It is outside the prefix, where bitmapist looks for bitmaps, and no
/// event has such a key.
pub(in crate::store) fn saved_lists_key(prefix: &Prefix) -> String {
    format!("cohortist:{prefix}:lists")
}
