//! The embedded store as a keyspace of named bitmaps, for Redis clients. The names have no meaning
//! here.

use std::sync::Arc;

use crate::sets::UserId;
use crate::store::embedded::directory::OWNER;
use crate::store::embedded::engine::Engine;
use crate::store::embedded::precomputed::Precomputed;
use crate::store::embedded::read_txn::ReadTxn;
use crate::store::embedded::store::EmbeddedStore;
use crate::store::embedded::threads::BackgroundThreads;
use crate::store::embedded::write_txn::WriteTxn;
use crate::store::{Result, private};

/// All bitmaps of an embedded store, under every prefix.
#[derive(Clone)]
pub struct Keyspace {
    engine: Arc<Engine>,
    // The threads run while any handle to the store exists.
    _threads: Option<Arc<BackgroundThreads>>,
}

impl Keyspace {
    pub(super) fn of(store: &EmbeddedStore) -> Self {
        Keyspace {
            engine: Arc::clone(&store.engine),
            _threads: store._threads.clone(),
        }
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Publishes a Redis URL, so that other processes, which cannot open the store, know how to
    /// reach its bitmaps.
    pub fn publish_url(&self, url: &str) {
        if let Some(disk) = &self.engine.disk {
            // If this fails, other processes learn only the process id.
            let _ = private::write(
                &disk.directory.join(OWNER),
                format!("{}\n{url}", std::process::id()),
            );
        }
    }

    /// Returns a function that tells why the store cannot be written, if so. It waits for no
    /// transaction.
    pub fn write_failure(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let engine = Arc::downgrade(&self.engine);
        move || {
            let engine = engine.upgrade()?;
            let disk = engine.disk.as_ref()?;
            disk.write_health.lock().reason()
        }
    }

    /// Reads some bitmaps as of one moment. `work` sees no other bitmaps. Writes are not blocked in
    /// the meantime.
    ///
    /// # Errors
    /// Returns the errors of `work`.
    pub fn read_keys<'k, T>(
        &self,
        keys: impl IntoIterator<Item = &'k str>,
        work: impl FnOnce(ReadTxn<'_>) -> Result<T>,
    ) -> Result<T> {
        let read = self.engine.begin_read(|memtables| memtables.subset(keys));
        work(ReadTxn {
            memtables: &read.memtables,
            reader: read.reader.as_ref(),
        })
    }

    /// Reads all bitmaps as of one moment. Writes wait until `work` returns.
    ///
    /// # Errors
    /// Returns the errors of `work`.
    pub fn read<T>(&self, work: impl FnOnce(ReadTxn<'_>) -> Result<T>) -> Result<T> {
        let memtables = self.engine.read_unexpired();
        let reader = self.engine.reader();
        work(ReadTxn {
            memtables: &memtables,
            reader: reader.as_ref(),
        })
    }

    /// Applies several changes as one: there are no other changes between them, and if `work`
    /// fails, none is applied. They are as durable as marks.
    ///
    /// # Errors
    /// Returns an error if the changes cannot be written, and the errors of `work`. Nothing is
    /// changed in these cases.
    pub fn change<T>(&self, work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T>) -> Result<T> {
        self.engine.change(true, work)
    }

    /// Computes the bitmap operations of a change of these keys in advance, on a snapshot that
    /// blocks nobody. `work` must do what the change will do. It may run more than once.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn precompute(
        &self,
        keys: &[&str],
        work: impl FnMut(&mut WriteTxn<'_>),
    ) -> Result<Precomputed> {
        self.engine.precompute(keys, work)
    }

    /// Like [`change`](Self::change). Of the results computed in advance, only the parts that have
    /// changed since are computed again. A change waits until the memtables have room for these
    /// results and for another `bytes`.
    ///
    /// # Errors
    /// Like [`change`](Self::change).
    pub fn change_with<T>(
        &self,
        precomputed: Precomputed,
        bytes: usize,
        work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T>,
    ) -> Result<T> {
        self.engine.change_with(true, precomputed, bytes, work)
    }

    /// Sets and clears many bits, all of them or none. Each bit is given as the index of its key
    /// times two, plus its new value, and its user. The bits apply in order. Returns the previous
    /// value of each bit.
    ///
    /// # Errors
    /// Returns an error if the bits cannot be written. Nothing is changed in this case.
    pub fn set_bits(&self, keys: Vec<String>, bits: Vec<(u32, UserId)>) -> Result<Vec<bool>> {
        let mut before = vec![false; bits.len()];
        self.engine
            .write_bits(keys, bits, Some(&mut before), true)?;
        Ok(before)
    }

    /// Sets and clears bits independently of each other: every bit that can be changed is changed.
    /// Returns for each bit its previous value, or why it was refused.
    pub fn set_each<'m>(
        &self,
        marks: impl Iterator<Item = (&'m str, UserId, bool)> + Clone,
    ) -> Vec<Result<bool>> {
        let each = marks.clone();
        let changed = self.change(|txn| {
            let set = |(key, user, value): (&str, UserId, bool)| {
                let before = txn.set_bits(vec![key.to_owned()], vec![(u32::from(value), user)])?;
                Ok(before[0])
            };
            Ok(each.map(set).collect())
        });
        changed.unwrap_or_else(|error| marks.map(|_| Err(error.clone())).collect())
    }
}

impl EmbeddedStore {
    /// The store as a keyspace of named bitmaps, under every prefix.
    pub fn keyspace(&self) -> Keyspace {
        Keyspace::of(self)
    }
}
