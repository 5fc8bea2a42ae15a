//! Where a store keeps its documents.

use crate::sets::Prefix;

/// Returns the key of a document. It is outside the prefix, where bitmapist looks for bitmaps, and
/// no event has such a key.
pub(in crate::store) fn document_key(prefix: &Prefix, name: &str) -> String {
    format!("cohortist:{prefix}:{name}")
}
