//! [`EmbeddedStore`]: a handle to an embedded store, with a prefix.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::bitmap;
use crate::sets::{Key, Node, Plan, Prefix, Set, UserId};
use crate::store::cost::{self, Cost};
use crate::store::embedded::directory::cannot_open;
use crate::store::embedded::engine::{Disk, Engine, Listener, Pending};
use crate::store::embedded::recovery::open;
use crate::store::embedded::threads::BackgroundThreads;
use crate::store::unparsed_keys::{LeftOut, Listing, prefix_of};
use crate::store::{
    Cancel, ChangeFeed, Health, IdMap, KeyListing, Maintenance, Mark, Options, OtherPrefixes,
    PaddedKeys, Progress, Result, Saved, Store, StoreInfo, UnparsedKeys,
};

/// The number of bitmaps per thread that makes a second thread worthwhile when a user is looked up.
const LOOKUPS_PER_THREAD: usize = 2000;

/// The number of keys whose sizes are looked up in one snapshot.
const SIZES_AT_ONCE: usize = 8192;

/// The maximum number of keys that are examined to find other prefixes.
const MAX_EXAMINED_KEYS: usize = 20_000;

/// A store that needs no server: in a directory, or in memory.
#[derive(Clone)]
pub struct EmbeddedStore {
    pub(super) engine: Arc<Engine>,
    pub(super) prefix: Prefix,
    pub(super) left_out: Arc<LeftOut>,
    // Dropped with the last handle, which stops the threads and closes the files.
    pub(super) _threads: Option<Arc<BackgroundThreads>>,
}

impl EmbeddedStore {
    /// Creates a store in memory. It is discarded with its last handle.
    pub fn in_memory(options: &Options) -> Self {
        let engine = Engine {
            memtables: RwLock::default(),
            next_expiry: AtomicU64::new(u64::MAX),
            disk: None,
            notes: Vec::new(),
            numeric_prefixes: Mutex::default(),
            listeners: RwLock::default(),
        };
        EmbeddedStore {
            engine: Arc::new(engine),
            prefix: options.prefix.clone(),
            left_out: Arc::default(),
            _threads: None,
        }
    }

    /// Opens the store in a directory, or creates it if [`Options::create`] is set.
    ///
    /// # Errors
    /// Returns an error if another process has the store open, the directory contains other files,
    /// or the files cannot be read or written.
    pub fn open(directory: &Path, options: &Options) -> Result<Self> {
        let (engine, has_older_logs) = open(directory, options)?;
        let engine = Arc::new(engine);
        match &engine.disk {
            // The damaged log must be gone when the store is opened again.
            Some(_) if has_older_logs && options.accept_loss => engine.checkpoint()?,
            Some(disk) if has_older_logs => disk.signal.request(),
            _ => {}
        }
        let mut threads = BackgroundThreads {
            engine: Arc::clone(&engine),
            threads: Vec::new(),
        };
        threads
            .spawn("cohortist-store", Engine::checkpoint_when_due)
            .map_err(|e| cannot_open(directory, &e))?;
        threads
            .spawn("cohortist-sync", |engine| engine.sync_when_due())
            .map_err(|e| cannot_open(directory, &e))?;
        threads
            .spawn("cohortist-compact", |engine| engine.compact_when_due())
            .map_err(|e| cannot_open(directory, &e))?;
        Ok(EmbeddedStore {
            engine,
            prefix: options.prefix.clone(),
            left_out: Arc::default(),
            _threads: Some(Arc::new(threads)),
        })
    }

    /// Returns a handle to the same store with another prefix: another set of events in the same
    /// files.
    pub fn under(&self, prefix: Prefix) -> Self {
        EmbeddedStore {
            prefix,
            left_out: Arc::default(),
            ..self.clone()
        }
    }

    /// The store as [`open`](crate::store::open) returns it: with both spellings of padded keys.
    pub fn shared(self) -> Arc<dyn Store> {
        Arc::new(PaddedKeys::new(Arc::new(self)))
    }

    /// Returns the key of each node of a plan, or `None` for nodes that are not keys.
    pub(super) fn keys_of(&self, plan: &Plan) -> Vec<Option<String>> {
        let key_of = |node: &Node| match node {
            Node::Key(key) => Some(key.text(&self.prefix)),
            _ => None,
        };
        plan.nodes().iter().map(key_of).collect()
    }

    /// Writes the whole store, as of this moment, to a new file that [`restore`](super::restore) reads. Returns the
    /// number of bitmaps. Reads and writes continue meanwhile.
    ///
    /// # Errors
    /// Returns an error if the file exists or cannot be written, or if the store is damaged.
    pub fn back_up(&self, file: &Path) -> Result<u64> {
        self.engine.back_up(file)
    }

    /// Writes all changes since the last checkpoint to the table, and starts a new log.
    ///
    /// # Errors
    /// Returns an error if the changes cannot be written. They are still in the log in this case.
    pub fn checkpoint(&self) -> Result<()> {
        self.engine.checkpoint()
    }

    /// Prevents checkpoints from starting and ending until the result is dropped. Writes continue
    /// until the log is full.
    pub fn hold_checkpoints(&self) -> Held<'_> {
        Held(
            self.engine
                .disk
                .as_ref()
                .map(|disk| disk.pending.lock().unwrap_or_else(PoisonError::into_inner)),
        )
    }
}

/// Prevents checkpoints of a store from starting and ending until it is dropped.
#[must_use = "checkpoints continue when it is dropped"]
pub struct Held<'a>(
    #[expect(dead_code, reason = "held until it is dropped")]
    Option<MutexGuard<'a, Option<Pending>>>,
);

impl Store for EmbeddedStore {
    fn apply(&self, marks: &[Mark]) -> Result<()> {
        let mut indexes: HashMap<&Key, u32> = HashMap::new();
        let mut keys = Vec::new();
        let mut bits = Vec::with_capacity(marks.len());
        for mark in marks {
            let index = *indexes.entry(&mark.key).or_insert_with(|| {
                keys.push(mark.key.text(&self.prefix));
                u32::try_from(keys.len() - 1).expect("a batch has fewer than 2 billion keys")
            });
            bits.push((index * 2 + u32::from(mark.value), mark.user));
        }
        if bits.is_empty() {
            return Ok(());
        }
        self.engine.write_bits(keys, bits, None, false)
    }

    fn add(&self, runs: &[(&Key, &[UserId])]) -> Result<()> {
        self.add_batches(runs)
    }

    fn cost(&self, plan: &Plan) -> Result<Cost> {
        let keys = self.keys_of(plan);
        let read = self
            .engine
            .begin_read(|memtables| memtables.subset(keys.iter().flatten().map(String::as_str)));
        Ok(read.cost(plan, &self.prefix))
    }

    fn count(&self, plan: &Plan) -> Result<Vec<u64>> {
        // The evaluation checks between tiles, and a plan of empty bitmaps has none.
        Cancel::current().check()?;
        let keys = self.keys_of(plan);
        let read = self
            .engine
            .begin_read(|memtables| memtables.subset(keys.iter().flatten().map(String::as_str)));
        cost::check(|| Ok(read.cost(plan, &self.prefix)))?;
        bitmap::count(plan, &read.leaves(&keys)?)
    }

    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        let mut found = Vec::new();
        let Some(from) = after.map_or(Some(0), |after| after.checked_add(1)) else {
            return Ok(found);
        };
        if limit == 0 {
            return Ok(found);
        }
        let mut plan = Plan::new();
        let root = plan.add(set)?;
        let keys = self.keys_of(&plan);
        let read = self
            .engine
            .begin_read(|memtables| memtables.subset(keys.iter().flatten().map(String::as_str)));
        cost::check(|| Ok(read.cost(&plan, &self.prefix)))?;
        let (first, place) = bitmap::split(from);
        bitmap::collect(
            &plan,
            root,
            &read.leaves(&keys)?,
            first..=u16::MAX,
            |number, tile| {
                tile.visit(if number == first { place } else { 0 }, |place| {
                    found.push(bitmap::user(number, place));
                    found.len() < limit
                });
                found.len() < limit
            },
        )?;
        Ok(found)
    }

    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>> {
        let texts: Vec<String> = keys.iter().map(|key| key.text(&self.prefix)).collect();
        let read = self
            .engine
            .begin_read(|memtables| memtables.subset(texts.iter().map(String::as_str)));
        let memtables = &read.memtables;
        let reader = read.reader.as_ref();
        let cancel = Cancel::current();
        let look_up = |texts: &[String]| -> Result<Vec<bool>> {
            let found = texts.iter().map(|text| {
                cancel.check()?;
                memtables.view(text, reader)?.contains(user, reader)
            });
            found.collect()
        };
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(keys.len() / LOOKUPS_PER_THREAD);
        if threads < 2 {
            return look_up(&texts);
        }
        std::thread::scope(|scope| {
            let look_up = &look_up;
            let parts = texts
                .chunks(texts.len().div_ceil(threads))
                .map(|part| scope.spawn(move || look_up(part)));
            let parts: Vec<_> = parts.collect();
            let mut found = Vec::with_capacity(keys.len());
            for part in parts {
                found.extend(
                    part.join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
                );
            }
            Ok(found)
        })
    }

    fn delete(&self, keys: &[Key]) -> Result<u64> {
        let keys: Vec<String> = keys.iter().map(|key| key.text(&self.prefix)).collect();
        self.engine.change(false, |txn| txn.delete(&keys))
    }

    /// Saves the set as of the moment the evaluation began, as one frame of the log.
    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        let text = key.text(&self.prefix);
        let mut plan = Plan::new();
        let root = plan.add(set)?;
        let mut tiles = Vec::new();
        let mut people = 0;
        let mut len = 0;
        {
            let texts = self.keys_of(&plan);
            let keys = texts.iter().flatten().chain([&text]).map(String::as_str);
            let read = self.engine.begin_read(|memtables| memtables.subset(keys));
            if read.memtables.view(&text, read.reader.as_ref())?.exists {
                return Ok(Saved::Taken);
            }
            cost::check(|| Ok(read.cost(&plan, &self.prefix)))?;
            bitmap::collect(
                &plan,
                root,
                &read.leaves(&texts)?,
                bitmap::EVERYWHERE,
                |number, tile| {
                    if let Some(last) = tile.last() {
                        people += tile.len();
                        len = u64::from(bitmap::user(number, last)) / 8 + 1;
                        tiles.push((number, Arc::new(tile.compact())));
                    }
                    true
                },
            )?;
        }
        if people == 0 {
            return Ok(Saved::Nobody);
        }
        // Another writer may have created the bitmap since the first check.
        self.engine.change(false, |txn| {
            if txn.read().exists(&text)? {
                return Ok(Saved::Taken);
            }
            txn.put(&text, len, tiles)?;
            Ok(Saved::People(people))
        })
    }

    fn string_ids(&self) -> &dyn IdMap {
        self
    }

    fn describe(&self) -> Result<StoreInfo> {
        let disk = self.engine.disk.as_ref();
        let location = match disk {
            Some(disk) => {
                let directory = std::fs::canonicalize(&disk.directory)
                    .or_else(|_| std::path::absolute(&disk.directory));
                let directory = directory.as_ref().unwrap_or(&disk.directory);
                directory.display().to_string()
            }
            None => "memory:".to_owned(),
        };
        let string_ids = self
            .engine
            .read()
            .string_id_prefixes
            .contains(self.prefix.as_str());
        let kind = match disk {
            Some(_) => "Embedded",
            None => "In memory",
        };
        Ok(StoreInfo {
            kind: kind.to_owned(),
            location,
            prefix: self.prefix.clone(),
            created: disk.is_none_or(|disk| disk.created),
            notes: self.engine.notes.clone(),
            string_ids,
            refusal: disk.and_then(|disk| disk.write_health.failure()),
        })
    }
}

impl KeyListing for EmbeddedStore {
    fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
        let start = format!("{}{starting_with}", self.prefix);
        let read = self
            .engine
            .begin_read(|memtables| memtables.subset_starting_with(&start));
        let mut listing = Listing::new(&self.prefix, starting_with);
        read.memtables
            .visit_keys(&start, read.reader.as_ref(), |text| {
                listing.take(text, Some(text));
                true
            })?;
        Ok(self.left_out.keep(listing))
    }

    fn kept_in(&self) -> Result<Option<String>> {
        self.zone()
    }

    fn keep_in(&self, zone: &str) -> Result<String> {
        self.remember_zone(zone)
    }

    fn forget_zone(&self) -> Result<()> {
        self.delete_zone()
    }

    fn lists(&self) -> Result<Vec<String>> {
        self.remembered_lists()
    }

    fn note_list(&self, name: &str, is_saved: bool) -> Result<()> {
        self.remember_list(name, is_saved)
    }

    fn keys_version(&self) -> Option<u64> {
        Some(self.engine.read_unexpired().keys_version)
    }

    fn unparsed_keys(&self) -> UnparsedKeys {
        self.left_out.get()
    }

    fn other_prefixes(&self) -> Result<OtherPrefixes> {
        let read = self
            .engine
            .begin_read(|memtables| memtables.subset_starting_with(""));
        let mut texts = Vec::new();
        read.memtables
            .visit_keys("", read.reader.as_ref(), |text| {
                texts.push(text.to_owned());
                texts.len() <= MAX_EXAMINED_KEYS
            })?;
        Ok(OtherPrefixes::of(
            &self.prefix,
            texts.iter().take(MAX_EXAMINED_KEYS),
            texts.len() <= MAX_EXAMINED_KEYS,
            prefix_of,
        ))
    }

    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        let mut sizes = Vec::with_capacity(keys.len());
        // Sizes are estimates, so they need not be of one moment.
        for keys in keys.chunks(SIZES_AT_ONCE) {
            let texts: Vec<String> = keys.iter().map(|key| key.text(&self.prefix)).collect();
            let read = self
                .engine
                .begin_read(|memtables| memtables.subset(texts.iter().map(String::as_str)));
            let reader = read.reader.as_ref();
            for text in &texts {
                sizes.push(Some(
                    read.memtables.view(text, reader)?.stored(text, reader)?,
                ));
            }
        }
        Ok(sizes)
    }
}

impl ChangeFeed for EmbeddedStore {
    fn on_change(&self, listener: Box<dyn Fn(&str) + Send + Sync>) -> bool {
        let prefix = self.prefix.clone();
        let of_this_prefix: Listener = Box::new(move |text| {
            if let Some(key) = text.strip_prefix(prefix.as_str()) {
                listener(key);
            }
        });
        self.engine
            .listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(of_this_prefix);
        true
    }
}

impl Maintenance for EmbeddedStore {
    fn is_local(&self) -> bool {
        true
    }

    fn progress(&self) -> Progress {
        let written = self.engine.read().sequence;
        // A store in memory has nothing to make durable.
        let durable = self
            .engine
            .disk
            .as_ref()
            .map_or(written, |disk| disk.durable.get());
        Progress { written, durable }
    }

    fn flush(&self) -> Result<()> {
        let written = self.engine.read().sequence;
        self.engine
            .disk
            .as_ref()
            .map_or(Ok(()), |disk| self.engine.sync(disk, written))
    }

    fn health(&self) -> Health {
        self.engine
            .disk
            .as_ref()
            .map_or_else(Health::default, Disk::health)
    }
}
