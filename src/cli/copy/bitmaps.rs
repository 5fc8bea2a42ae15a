//! Copies the bitmaps of events, many at a time. Whole bitmaps are read and written as bytes where
//! the stores allow it.

use indicatif::ProgressBar;

use crate::cli::copy::by_size::by_size;
use crate::cli::copy::mismatch::Mismatch;
use crate::cli::output::warn_if_unsynced;
use crate::cli::store::StoreConfig;
use crate::sets::{Key, Prefix, Set, UserId};
use crate::store::embedded::Keyspace;
use crate::store::redis::{Made, Server};
use crate::store::{self, Snapshot};
use crate::tracker::Tracker;

/// The number of bits written in one batch.
const BATCH_BITS: usize = 65_536;

/// The number of bitmaps read in one batch.
const BATCH_BITMAPS: usize = 1_000;

/// The maximum number of bytes read in one batch, unless a single bitmap is larger.
const BATCH_BYTES: u64 = 16 << 20;

/// Reads whole bitmaps by their keys' names.
enum Bytes {
    Server(Server),
    Embedded(Keyspace),
}

/// One store of a copy.
pub struct Side {
    pub tracker: Tracker,
    prefix: Prefix,
    /// `None` for a cluster, which splits bitmaps over several keys.
    bytes: Option<Bytes>,
}

impl Side {
    pub fn open_to_read(store: &StoreConfig) -> anyhow::Result<Self> {
        if store.is_redis() {
            return Side::on_server(store, store.open_to_read()?);
        }
        let (tracker, embedded) = store.open_embedded_to_read()?;
        Ok(Side::of(
            store,
            tracker,
            Some(Bytes::Embedded(embedded.keyspace())),
        ))
    }

    pub fn open(store: &StoreConfig) -> anyhow::Result<Self> {
        if store.is_redis() {
            return Side::on_server(store, store.open()?);
        }
        // Users are added to an embedded store, which is as fast and keeps what is there.
        Ok(Side::of(store, store.open()?, None))
    }

    fn on_server(store: &StoreConfig, tracker: Tracker) -> anyhow::Result<Self> {
        let server = (!store.is_cluster()).then(|| store.open_server());
        Ok(Side::of(
            store,
            tracker,
            server.transpose()?.map(Bytes::Server),
        ))
    }

    fn of(store: &StoreConfig, tracker: Tracker, bytes: Option<Bytes>) -> Self {
        Side {
            tracker,
            prefix: Prefix::new(store.prefix()),
            bytes,
        }
    }

    fn names(&self, bitmaps: &[&Mismatch]) -> Vec<String> {
        let keys = bitmaps.iter().map(|bitmap| &bitmap.key);
        keys.map(|key| key.text(&self.prefix)).collect()
    }
}

impl Bytes {
    /// The lengths of bitmaps in bytes; 0 if one does not exist.
    fn lengths(&self, names: &[String]) -> store::Result<Vec<u64>> {
        match self {
            Bytes::Server(server) => server.lengths(names),
            Bytes::Embedded(keyspace) => {
                keyspace.read(|txn| names.iter().map(|name| txn.len(name)).collect())
            }
        }
    }

    /// Bitmaps, given with their lengths; `None` for one that does not exist.
    fn read(&self, named: &[(&String, u64)]) -> store::Result<Vec<Option<Snapshot>>> {
        match self {
            Bytes::Server(server) => {
                let named: Vec<(&[u8], u64)> = named
                    .iter()
                    .map(|(name, len)| (name.as_bytes(), *len))
                    .collect();
                server.bitmaps(&named)
            }
            Bytes::Embedded(keyspace) => {
                keyspace.read(|txn| named.iter().map(|(name, _)| txn.snapshot(name)).collect())
            }
        }
    }
}

/// Copies bitmaps from one side to the other.
pub struct Copier<'a> {
    pub from: &'a Side,
    pub to: &'a Side,
    pub bar: ProgressBar,
}

impl Copier<'_> {
    /// Copies bitmaps as bytes where possible. Bitmaps that exist on the other side get the users
    /// that they lack. Returns the number of users copied.
    pub fn copy(&self, bitmaps: &[&Mismatch]) -> anyhow::Result<u64> {
        let Some(bytes) = &self.from.bytes else {
            return self.copy_users(bitmaps);
        };
        let mut users = 0;
        for bitmaps in bitmaps.chunks(BATCH_BITMAPS) {
            let (names, lengths) = self.stored(bytes, bitmaps)?;
            let named: Vec<(&String, u64)> = names.iter().zip(lengths).collect();
            let mut bitmaps = bitmaps;
            for group in by_size(&named, BATCH_BYTES, |(_, len)| *len) {
                let (these, others) = bitmaps.split_at(group.len());
                users += self.write(these, bytes.read(group)?)?;
                bitmaps = others;
            }
        }
        Ok(users)
    }

    /// The names under which bitmaps are stored, and their lengths in bytes. Some programs write
    /// keys with zeros, such as `2026-11-03`.
    fn stored(
        &self,
        bytes: &Bytes,
        bitmaps: &[&Mismatch],
    ) -> store::Result<(Vec<String>, Vec<u64>)> {
        let mut names = self.from.names(bitmaps);
        let mut lengths = bytes.lengths(&names)?;
        let missing = (0..names.len()).filter(|at| lengths[*at] == 0);
        let padded: Vec<(usize, String)> = missing
            .filter_map(|at| Some((at, bitmaps[at].key.padded()?.text(&self.from.prefix))))
            .collect();
        if !padded.is_empty() {
            let texts: Vec<String> = padded.iter().map(|(_, name)| name.clone()).collect();
            for ((at, name), length) in padded.into_iter().zip(bytes.lengths(&texts)?) {
                names[at] = name;
                lengths[at] = length;
            }
        }
        Ok((names, lengths))
    }

    /// Writes whole bitmaps. Returns the number of users.
    fn write(&self, bitmaps: &[&Mismatch], read: Vec<Option<Snapshot>>) -> anyhow::Result<u64> {
        let names = self.to.names(bitmaps);
        let (mut created, mut added) = (Vec::new(), Vec::new());
        for ((bitmap, name), read) in bitmaps.iter().zip(&names).zip(read) {
            match (read, &self.to.bytes) {
                // It was deleted since it was counted.
                (None, _) => {}
                (Some(whole), Some(_)) if bitmap.copy == 0 => {
                    created.push((*bitmap, (name.as_bytes(), whole, None)));
                }
                (Some(whole), _) => added.push((*bitmap, whole)),
            }
        }
        let mut users = 0;
        if let Some(Bytes::Server(server)) = &self.to.bytes
            && !created.is_empty()
        {
            let (created, bits): (Vec<&Mismatch>, Vec<_>) = created.into_iter().unzip();
            let made = server.put(&bits, false)?;
            for ((bitmap, (_, whole, _)), made) in created.into_iter().zip(bits).zip(made) {
                match made {
                    Made::New => {
                        users += bitmap.original;
                        self.bar.inc(bitmap.original);
                    }
                    // Someone else created it since it was counted.
                    Made::Taken | Made::Unreadable(_) => added.push((bitmap, whole)),
                }
            }
        }
        let mut batch = Batch::of(self);
        for (bitmap, whole) in added {
            whole
                .users()
                .try_for_each(|user| batch.add(&bitmap.key, user))?;
        }
        Ok(users + batch.finish()?)
    }

    /// Copies bitmaps user by user. Returns the number of users.
    pub fn copy_users(&self, bitmaps: &[&Mismatch]) -> anyhow::Result<u64> {
        let mut batch = Batch::of(self);
        for bitmap in bitmaps {
            for user in self.from.tracker.members(&Set::Key(bitmap.key.clone())) {
                batch.add(&bitmap.key, user?)?;
            }
        }
        batch.finish()
    }
}

/// Users to add to bitmaps.
struct Batch<'a> {
    copier: &'a Copier<'a>,
    runs: Vec<(Key, Vec<UserId>)>,
    bits: usize,
    written: u64,
}

impl<'a> Batch<'a> {
    fn of(copier: &'a Copier<'_>) -> Self {
        Batch {
            copier,
            runs: Vec::new(),
            bits: 0,
            written: 0,
        }
    }

    /// Adds a user to a bitmap. The users of a bitmap come together and in ascending order.
    fn add(&mut self, key: &Key, user: UserId) -> anyhow::Result<()> {
        match self.runs.last_mut() {
            Some((last, users)) if last == key => users.push(user),
            _ => self.runs.push((key.clone(), vec![user])),
        }
        self.bits += 1;
        if self.bits == BATCH_BITS {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> anyhow::Result<()> {
        if self.bits > 0 {
            let runs: Vec<(&Key, &[UserId])> = self
                .runs
                .iter()
                .map(|(key, users)| (key, users.as_slice()))
                .collect();
            warn_if_unsynced(self.copier.to.tracker.add(&runs))?;
        }
        self.copier.bar.inc(self.bits as u64);
        self.written += self.bits as u64;
        self.runs.clear();
        self.bits = 0;
        Ok(())
    }

    /// Writes the rest. Returns the number of users written.
    fn finish(mut self) -> anyhow::Result<u64> {
        self.write()?;
        Ok(self.written)
    }
}
