//! Where a store remembers the zone in which it is kept.

use crate::sets::Prefix;

/// Returns the key whose value is the name of the zone. It is outside the prefix, where bitmapist
/// looks for bitmaps, and no event has such a key.
pub(in crate::store) fn zone_key(prefix: &Prefix) -> String {
    format!("cohortist:{prefix}:zone")
}
