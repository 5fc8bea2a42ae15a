//! Rehearses a change on a snapshot, to compute its operations before the store is locked.

use std::collections::VecDeque;

use crate::store::Result;
use crate::store::embedded::engine::Engine;
use crate::store::embedded::precomputed::{OlderVersions, Precomputed};
use crate::store::embedded::write_txn::WriteTxn;

/// How often a change is rehearsed at most, because checkpoints come in between.
const REHEARSALS: usize = 3;

impl Engine {
    /// Rehearses a change of `keys`. The change itself must do the same first, and may then do more.
    pub(super) fn precompute(
        &self,
        keys: &[&str],
        mut work: impl FnMut(&mut WriteTxn<'_>),
    ) -> Result<Precomputed> {
        let mut rehearsals = 0;
        loop {
            let read = self.begin_read(|memtables| memtables.subset(keys.iter().copied()));
            let (mut memtables, reader) = (read.memtables, read.reader);
            let recording = Precomputed {
                older: OlderVersions::of(&memtables, reader.as_ref()),
                combinations: VecDeque::new(),
                recording: true,
            };
            let mut space = WriteTxn::new(&mut memtables, reader.as_ref(), None).using(recording);
            work(&mut space);
            let done = Precomputed {
                recording: false,
                ..space.precomputed()
            };
            rehearsals += 1;
            if rehearsals == REHEARSALS || done.older.is_of(&self.read(), self.reader().as_ref()) {
                return Ok(done);
            }
        }
    }
}
