//! Adds batches of users to bitmaps, as one frame of the log.

use crate::bitmap::split;
use crate::sets::{Key, UserId};
use crate::store::embedded::delta::DeltaBatch;
use crate::store::embedded::memtable::Memtables;
use crate::store::embedded::store::EmbeddedStore;
use crate::store::embedded::table_cache::Reader;
use crate::store::embedded::wal::Change;
use crate::store::traits::marks;
use crate::store::{Result, Store};

/// The effect of batches on the memtables. It is prepared before anything is written, so that a
/// failed read leaves everything unchanged.
pub struct PreparedBatches<'a> {
    batches: Vec<PreparedBatch<'a>>,
}

struct PreparedBatch<'a> {
    key: &'a str,
    /// Whether the bitmap does not exist yet.
    is_new: bool,
    /// The length of the bitmap in bytes after the change.
    len: u64,
    /// The new users in each tile.
    tiles: Vec<(u16, Vec<UserId>)>,
}

impl EmbeddedStore {
    /// Like [`Store::add`], in one frame.
    pub(super) fn add_batches(&self, batches: &[(&Key, &[UserId])]) -> Result<()> {
        if !batches
            .iter()
            .all(|(_, users)| users.is_sorted_by(|a, b| a < b))
        {
            return self.apply(&marks(batches));
        }
        let batches: Vec<(String, &[UserId])> = batches
            .iter()
            .filter(|(_, users)| !users.is_empty())
            .map(|(key, users)| (key.text(&self.prefix), *users))
            .collect();
        if batches.is_empty() {
            return Ok(());
        }
        let encoded = batches
            .iter()
            .map(|(key, users)| (key.clone(), DeltaBatch::encode(users)))
            .collect();
        let engine = &self.engine;
        let mut memtables = engine.lock_with_room()?;
        let reader = engine.reader();
        // Everything that can fail comes before the write to the log, and the log comes before
        // memory.
        let prepared = memtables.prepare_batches(
            batches.iter().map(|(key, users)| (key.as_str(), *users)),
            reader.as_ref(),
        )?;
        engine.append(&mut memtables, Change::Add { batches: encoded })?;
        memtables.apply_batches(prepared);
        engine.notify_listeners(batches.iter().map(|(key, _)| key.as_str()));
        engine.after_append(memtables)
    }
}

impl Memtables {
    /// Prepares batches for [`apply_batches`](Self::apply_batches). Each batch is a key and the
    /// users to add to its bitmap, in ascending order.
    pub fn prepare_batches<'a>(
        &mut self,
        batches: impl Iterator<Item = (&'a str, &'a [UserId])>,
        reader: Option<&Reader<'_>>,
    ) -> Result<PreparedBatches<'a>> {
        let batches = batches.filter_map(|(key, users)| Some((key, users, users.last()?)));
        let batches = batches.map(|(key, users, last)| {
            self.resolve(key, reader)?;
            let view = self.view(key, reader)?;
            let mut tiles = Vec::new();
            for users in users.chunk_by(|a, b| split(*a).0 == split(*b).0) {
                let (number, _) = split(users[0]);
                let new = view.missing(number, users, reader)?;
                if !new.is_empty() {
                    tiles.push((number, new));
                }
            }
            Ok(PreparedBatch {
                key,
                is_new: !view.exists,
                len: view.len.max(u64::from(last / 8) + 1),
                tiles,
            })
        });
        Ok(PreparedBatches {
            batches: batches.collect::<Result<_>>()?,
        })
    }

    /// Adds the users in memory. Cannot fail.
    pub fn apply_batches(&mut self, prepared: PreparedBatches<'_>) {
        for batch in prepared.batches {
            if batch.is_new {
                self.key_created(batch.key);
            }
            self.change_tiles(
                batch.key,
                batch.is_new,
                batch.len,
                batch.tiles.into_iter(),
                |tile, users| tile.add(&users),
            );
        }
    }
}
