//! What a tracker remembers between questions: the keys of the store, and the periods it covers.

use std::sync::Arc;
use std::time::Instant;

use crate::calendar::{Period, Zone};
use crate::reports::coverage::Coverage;
use crate::sets::{Catalogue, Key};
use crate::store::StoreError;
use crate::tracker::Result;

/// A list of the keys, or why there is none, and when it was read.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) began: Instant,
    pub(super) ended: Instant,
    /// The store's [`keys_version`](crate::store::KeyListing::keys_version) before it began.
    pub(super) version: Option<u64>,
    pub(super) keys: Result<Arc<Catalogue>, StoreError>,
}

/// The zone in which the store is kept, and since when it is known; and when it was last asked in
/// vain.
#[derive(Debug, Default)]
pub(super) struct KeptIn {
    pub(super) known: Option<(Instant, Zone)>,
    pub(super) failed: Option<(Instant, StoreError)>,
}

/// A coverage, and what it stands on.
#[derive(Debug)]
pub(super) struct Covered {
    pub(super) keys: Arc<Catalogue>,
    /// The hour that held *now*, and whether that was given.
    pub(super) at: (Period, bool),
    /// The bitmaps in which it found somebody: while they hold anybody, and no bitmap comes or
    /// goes, nothing changes.
    pub(super) witnesses: Vec<Key>,
    pub(super) coverage: Coverage,
}
