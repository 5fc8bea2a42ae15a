//! The embedded store: a directory of its own, no server.
//!
//! ```text
//! mark ──▶ log-N (appended, CRC-framed) ──▶ dirty tiles in memory ──checkpoint──▶ segment-N
//! read ──▶ dirty ▷ frozen (being written) ▷ tile cache ▷ segments, the newer over the older
//! ```
//!
//! Every batch is one frame of the log and counts as recorded once the operating system has it:
//! `kill -9` loses nothing acknowledged. One thread forces the log to disk once a second. Another
//! begins a checkpoint when enough has changed or the log is long: the dirty tiles are frozen, a
//! new log file begins, what changed of the frozen tiles is written to a new segment, the manifest
//! names it, and the old log file is deleted. A third thread merges segments. At start, what the
//! logs hold beyond the last checkpoint is replayed.
//!
//! Locks are taken in this order: `pending`, the turn of `Durable`, `layers`, then those of `TableCache`,
//! `Signal` and `WriteHealth`, each of which is held for a moment and with no other lock inside.
//!
//! A reader takes under the lock of the layers what it needs of one moment: the changes of its
//! keys, which it shares, and a read transaction of the file. It answers without the lock, so a
//! question keeps no mark waiting; a batch appears whole.

mod backup;
mod checkpoint;
mod delta;
mod idmap;
mod inspect;
mod keyspace;
mod legacy;
mod memtable;
mod record;
mod recovery;
mod salvage;
mod signal;
#[cfg(test)]
mod signal_model;
#[cfg(test)]
mod snapshot_tests;
mod table;
mod table_cache;
mod wal;
mod write_health;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use crate::bitmap;
use crate::clock::Clock;
use crate::sets::{Key, Node, Plan, Prefix, Set, UserId};
use crate::store::cost::{self, Cost};
use crate::store::unparsed_keys::{LeftOut, Listing, prefix_of};
use crate::store::{
    Cancel, ChangeFeed, Durability, Health, IdMap, KeyListing, Maintenance, Mark, Options,
    OtherPrefixes, PaddedKeys, Progress, Result, Saved, Store, StoreError, StoreInfo, UnparsedKeys,
};
pub use backup::{ask_owner, restore};
pub use inspect::{Checked, CheckedFile, Usage, check};
pub use keyspace::{Keyspace, ReadTxn, Snapshot, WriteTxn};
use memtable::{Expirations, Leaves, Memtables};
use recovery::{cannot_open, open};
use signal::{Durable, Signal};
use table_cache::{Reader, TableCache};
use wal::{Change, Frame, Log};
use write_health::WriteHealth;

/// The primitives of [`signal`].
mod sync {
    pub use std::sync::atomic::{AtomicU64, Ordering};
    pub use std::sync::{Condvar, Mutex, MutexGuard};
}

const OWNER: &str = "owner";
const LOG: &str = "log-";

/// Looking for a user in fewer bitmaps than twice as many is not worth a second thread.
const WORTH_A_THREAD: usize = 2000;

/// A log at least this long is worth a checkpoint when the store is closed; a shorter one is
/// replayed in no time.
const WORTH_A_CHECKPOINT: u64 = 1 << 20;

/// Of how many keys the sizes are looked up together.
const SIZES_AT_ONCE: usize = 8192;

/// How many keys are looked at to find other prefixes.
const SOME_KEYS: usize = 20_000;

/// The store that needs no server: a directory, or memory.
#[derive(Clone)]
pub struct EmbeddedStore {
    engine: Arc<Engine>,
    prefix: Prefix,
    left_out: Arc<LeftOut>,
    // Dropped with the last handle: stops the threads and leaves the files in order.
    _keeper: Option<Arc<BackgroundThreads>>,
}

struct Engine {
    layers: RwLock<Memtables>,
    /// When the next key goes by itself; `u64::MAX` when none does.
    next_end: AtomicU64,
    disk: Option<Disk>,
    notes: Vec<String>,
    /// The prefixes whose users are settled to be numbers by this process. Locked after the layers.
    settled: Mutex<BTreeSet<Box<str>>>,
    /// Who wants to know of each bitmap that changes.
    listeners: RwLock<Vec<Listener>>,
}

type Listener = Box<dyn Fn(&str) + Send + Sync>;

/// What a store in memory does without.
struct Disk {
    directory: PathBuf,
    /// Whether there was no store before.
    created: bool,
    base: TableCache,
    durability: Durability,
    checkpoint_bytes: usize,
    /// The checkpoint that was begun and is not in the file yet.
    pending: Mutex<Option<Pending>>,
    durable: Durable,
    signal: Signal,
    vitals: WriteHealth,
    /// Kept open: it is locked as long as the store is open.
    _lock: File,
}

struct Pending {
    sequence: u64,
    /// The files that are of no use once it is done.
    logs: Vec<PathBuf>,
    /// The number of the log that follows them.
    next_log: u64,
    lifetimes: Expirations,
}

/// Some keys as they were at one moment.
struct PlanReader<'a> {
    layers: Memtables,
    reader: Option<Reader<'a>>,
}

impl PlanReader<'_> {
    /// What it would cost to count a plan. What cannot be read is reported by whoever counts it.
    fn cost(&self, plan: &Plan, prefix: &Prefix) -> Cost {
        let view = |key: &Key| self.layers.view(&key.text(prefix), self.reader.as_ref());
        Cost::of(plan, |key| {
            view(key).map_or(0, |view| view.tiles().len() as u64)
        })
    }

    /// The keys of a plan as the evaluator wants them, by their texts.
    fn leaves(&self, texts: &[Option<String>]) -> Result<Leaves<'_>> {
        Leaves::of(
            texts.iter().map(Option::as_deref),
            &self.layers,
            self.reader.as_ref(),
        )
    }
}

impl EmbeddedStore {
    /// A store in memory, gone with its last handle.
    pub fn in_memory(options: &Options) -> Self {
        let next_end = AtomicU64::new(u64::MAX);
        let engine = Engine {
            layers: RwLock::default(),
            next_end,
            disk: None,
            notes: Vec::new(),
            settled: Mutex::default(),
            listeners: RwLock::default(),
        };
        EmbeddedStore {
            engine: Arc::new(engine),
            prefix: options.prefix.clone(),
            left_out: Arc::default(),
            _keeper: None,
        }
    }

    /// Opens the store in a directory, making it if there is none.
    ///
    /// # Errors
    /// When another process has it open, the directory holds something else, or its files cannot be
    /// read or written.
    pub fn open(directory: &Path, options: &Options) -> Result<Self> {
        let (engine, old_logs) = open(directory, options)?;
        let engine = Arc::new(engine);
        match &engine.disk {
            // Later starts must not meet the damaged log again.
            Some(_) if old_logs && options.accept_loss => engine.checkpoint()?,
            Some(disk) if old_logs => disk.signal.request(),
            _ => {}
        }
        let mut keeper = BackgroundThreads {
            engine: Arc::clone(&engine),
            threads: Vec::new(),
        };
        keeper
            .spawn("cohortist-store", Engine::keep)
            .map_err(|e| cannot_open(directory, &e))?;
        keeper
            .spawn("cohortist-sync", |engine| engine.keep_durable())
            .map_err(|e| cannot_open(directory, &e))?;
        keeper
            .spawn("cohortist-compact", |engine| engine.compact_when_due())
            .map_err(|e| cannot_open(directory, &e))?;
        let (prefix, left_out) = (options.prefix.clone(), Arc::default());
        Ok(EmbeddedStore {
            engine,
            prefix,
            left_out,
            _keeper: Some(Arc::new(keeper)),
        })
    }

    /// The same store under another prefix: another set of events in the same files.
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

    /// The store as a keyspace of named bitmaps, under every prefix.
    pub fn keyspace(&self) -> Keyspace {
        Keyspace::of(self)
    }

    /// The texts of a plan's keys, by their nodes.
    fn texts(&self, plan: &Plan) -> Vec<Option<String>> {
        let text = |node: &Node| {
            if let Node::Key(key) = node {
                Some(key.text(&self.prefix))
            } else {
                None
            }
        };
        plan.nodes().iter().map(text).collect()
    }

    /// Writes everything there is at this moment to a new file, from which [`restore`] makes a
    /// store; says how many bitmaps there are. Marks go on meanwhile.
    ///
    /// # Errors
    /// When there is such a file already, or it cannot be written, or the store is damaged.
    pub fn back_up(&self, file: &Path) -> Result<u64> {
        self.engine.back_up(file)
    }

    /// Writes everything to the file of the last checkpoint now, and begins a new log.
    ///
    /// # Errors
    /// When it could not be written; nothing is lost, the log still has it.
    pub fn checkpoint(&self) -> Result<()> {
        self.engine.checkpoint()
    }

    /// Keeps checkpoints from beginning and ending while the result lives. Marks go on until the
    /// log is full.
    pub fn hold_checkpoints(&self) -> Held<'_> {
        Held(
            self.engine
                .disk
                .as_ref()
                .map(|disk| disk.pending.lock().unwrap_or_else(PoisonError::into_inner)),
        )
    }
}

/// No checkpoint of a store begins or ends while this lives.
#[must_use = "checkpoints go on when it is dropped"]
pub struct Held<'a>(
    #[expect(dead_code, reason = "held until it is dropped")]
    Option<MutexGuard<'a, Option<Pending>>>,
);

impl Engine {
    fn read(&self) -> RwLockReadGuard<'_, Memtables> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Memtables> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> Option<Reader<'_>> {
        self.disk.as_ref().map(|disk| disk.base.reader())
    }

    /// Sets and clears bits, as one frame; `before` is told what each was. `guarded` is whoever may
    /// know nothing of text ids.
    fn write_bits(
        &self,
        keys: Vec<String>,
        bits: Vec<(u32, u32)>,
        before: Option<&mut [bool]>,
        guarded: bool,
    ) -> Result<()> {
        let mut layers = self.lock_with_room()?;
        if guarded {
            keys.iter().try_for_each(|key| self.guard(&layers, key))?;
        }
        let reader = self.reader();
        // Everything that can fail comes before the log, and the log before memory.
        let prepared = layers.prepare(&keys, &bits, reader.as_ref(), before)?;
        let changed = if self.is_heard() {
            keys.clone()
        } else {
            Vec::new()
        };
        self.append(&mut layers, Change::Bits { keys, bits })?;
        layers.apply(prepared);
        self.tell(changed.iter().map(String::as_str));
        self.written(layers)
    }

    /// Carries out several changes as one frame: all of them or none, with nobody's between them.
    fn change<T>(
        &self,
        guarded: bool,
        work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut layers = self.lock_with_room()?;
        let reader = self.reader();
        let mut space = WriteTxn::new(&mut layers, reader.as_ref(), guarded.then_some(self));
        let result = work(&mut space);
        let (mut changes, undo) = space.end();
        if result.is_err() {
            layers.undo(undo);
            return result;
        }
        let change = match changes.len() {
            0 => return result,
            1 => changes.remove(0),
            _ => Change::All(changes),
        };
        if let Err(error) = self.append(&mut layers, change) {
            layers.undo(undo);
            return Err(error);
        }
        self.tell(undo.keys());
        self.written(layers)?;
        result
    }

    fn is_heard(&self) -> bool {
        !self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Tells of bitmaps that changed. Called while the layers are locked: nobody has seen it yet.
    fn tell<'k>(&self, keys: impl IntoIterator<Item = &'k str>) {
        let listeners = self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if !listeners.is_empty() {
            keys.into_iter()
                .for_each(|key| listeners.iter().for_each(|told| told(key)));
        }
    }

    fn lock_with_room(&self) -> Result<RwLockWriteGuard<'_, Memtables>> {
        if let Some(disk) = &self.disk
            && let Err(error) = self.wait_for_room(disk)
        {
            return disk.vitals.wrote(Err(error));
        }
        self.expire_due();
        Ok(self.lock())
    }

    /// Puts the next frame into the log.
    fn append(&self, layers: &mut Memtables, change: Change) -> Result<()> {
        match &self.disk {
            Some(disk) => disk.vitals.wrote(disk.append(layers, change)),
            None => {
                layers.sequence += 1;
                Ok(())
            }
        }
    }

    /// What is to be done when a frame is in the log and its changes are in memory.
    fn written(&self, layers: RwLockWriteGuard<'_, Memtables>) -> Result<()> {
        self.next_end.store(
            layers.lifetimes.next().unwrap_or(u64::MAX),
            Ordering::Release,
        );
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let log_bytes = layers.log.as_ref().map_or(0, Log::len);
        if layers.dirty_bytes > disk.checkpoint_bytes || log_bytes > disk.log_bytes() {
            disk.signal.request();
        }
        let sequence = layers.sequence;
        drop(layers);
        match disk.durability {
            Durability::Always => self.sync(disk, sequence),
            Durability::EverySecond => Ok(()),
        }
    }

    /// Deletes the keys whose time has come. Everybody who asks or changes something does this
    /// first, so that no answer holds a key that should be gone.
    fn expire_due(&self) {
        let now = now();
        if now < self.next_end.load(Ordering::Acquire) {
            return;
        }
        let mut layers = self.lock();
        let reader = self.reader();
        let delete = |layers: &mut Memtables| -> Result<()> {
            let keys = layers.lifetimes.over(now);
            let existing = layers.existing(&keys, reader.as_ref())?;
            if keys.is_empty() {
                return Ok(());
            }
            self.append(layers, Change::Delete { keys: keys.clone() })?;
            layers.delete(existing);
            keys.iter()
                .for_each(|text| layers.lifetimes.set(text, None));
            self.tell(keys.iter().map(String::as_str));
            Ok(())
        };
        let outcome = delete(&mut layers);
        // What cannot be deleted for want of a disk is tried again in a while, and is still seen
        // until then.
        let next = match &outcome {
            Ok(()) => layers.lifetimes.next().unwrap_or(u64::MAX),
            Err(_) => now + 1000,
        };
        self.next_end.store(next, Ordering::Release);
        drop(layers);
        if let Err(error) = outcome {
            tracing::error!("cannot delete expired keys: {error}");
        }
    }

    /// Begins to read what `part` takes of the layers, as of one moment. What is read afterwards
    /// holds no lock: writers go on, and copy what this still holds. `part` must be quick.
    fn begin_read(&self, part: impl FnOnce(&Memtables) -> Memtables) -> Result<PlanReader<'_>> {
        let layers = self.shown();
        // Under the same lock, so that no checkpoint ends in between: its tiles would be in neither
        // or not as of then.
        let reader = self.reader();
        Ok(PlanReader {
            layers: part(&layers),
            reader,
        })
    }

    /// The layers as they are to be shown now.
    fn shown(&self) -> RwLockReadGuard<'_, Memtables> {
        self.expire_due();
        self.read()
    }

    /// Makes every change up to this one survive a power cut.
    fn sync(&self, disk: &Disk, sequence: u64) -> Result<()> {
        let forced = disk.durable.reach(sequence, || {
            let (closed, file, latest) = {
                let layers = self.read();
                (
                    layers.closed.clone(),
                    layers.log.as_ref().map(|log| Arc::clone(log.file())),
                    layers.sequence,
                )
            };
            // The older first: what is durable has no gaps.
            closed
                .iter()
                .chain(&file)
                .try_for_each(|file| file.sync())
                .map(|()| latest)
        });
        disk.vitals.synced(forced.map_err(|error| {
            // The next checkpoint writes what the log may have lost.
            disk.signal.request();
            let reason =
                format!("the log could not be forced to disk ({error}); the next checkpoint tries it another way");
            StoreError::Unsynced { path: disk.directory.display().to_string(), reason }
        }))
    }
}

impl Disk {
    /// Appends the next frame to the log, whole or not at all.
    fn append(&self, layers: &mut Memtables, change: Change) -> Result<()> {
        let sequence = layers.sequence + 1;
        if let Some(log) = &mut layers.log {
            log.append(Frame { sequence, change })
                .map_err(|(error, bytes)| {
                    self.vitals.refused(bytes);
                    StoreError::write(log.path(), &error)
                })?;
        }
        layers.sequence = sequence;
        Ok(())
    }

    /// How long a log may be before a checkpoint: it is read through at start, which must not take
    /// long.
    fn log_bytes(&self) -> u64 {
        self.checkpoint_bytes as u64 / 4
    }
}

struct BackgroundThreads {
    engine: Arc<Engine>,
    threads: Vec<JoinHandle<()>>,
}

impl BackgroundThreads {
    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(&Arc<Engine>) + Send + 'static,
    ) -> io::Result<()> {
        let engine = Arc::clone(&self.engine);
        self.threads.push(
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&engine))?,
        );
        Ok(())
    }
}

impl Drop for BackgroundThreads {
    fn drop(&mut self) {
        let Some(disk) = &self.engine.disk else {
            return;
        };
        disk.signal.stop();
        for thread in self.threads.drain(..) {
            // A panic there was reported by the thread itself.
            let _ = thread.join();
        }
        self.engine.close();
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    u64::try_from(Clock::System.now().timestamp_millis()).unwrap_or(0)
}

impl Store for EmbeddedStore {
    fn apply(&self, marks: &[Mark]) -> Result<()> {
        let mut places: HashMap<&Key, u32> = HashMap::new();
        let mut keys = Vec::new();
        let mut bits = Vec::with_capacity(marks.len());
        for mark in marks {
            let place = *places.entry(&mark.key).or_insert_with(|| {
                keys.push(mark.key.text(&self.prefix));
                // As many keys as marks at most, and a batch is a slice in memory.
                u32::try_from(keys.len() - 1).unwrap_or(u32::MAX / 2)
            });
            bits.push((place * 2 + u32::from(mark.value), mark.user));
        }
        if bits.is_empty() {
            return Ok(());
        }
        self.engine.write_bits(keys, bits, None, false)
    }

    fn add(&self, runs: &[(&Key, &[UserId])]) -> Result<()> {
        self.add_runs(runs)
    }

    fn cost(&self, plan: &Plan) -> Result<Cost> {
        let texts = self.texts(plan);
        let read = self
            .engine
            .begin_read(|layers| layers.part(texts.iter().flatten().map(String::as_str)))?;
        Ok(read.cost(plan, &self.prefix))
    }

    fn count(&self, plan: &Plan) -> Result<Vec<u64>> {
        // Bitmaps without users have no tile between which it would be checked.
        Cancel::current().check()?;
        let texts = self.texts(plan);
        let read = self
            .engine
            .begin_read(|layers| layers.part(texts.iter().flatten().map(String::as_str)))?;
        cost::check(|| Ok(read.cost(plan, &self.prefix)))?;
        bitmap::count(plan, &read.leaves(&texts)?)
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
        let texts = self.texts(&plan);
        let read = self
            .engine
            .begin_read(|layers| layers.part(texts.iter().flatten().map(String::as_str)))?;
        cost::check(|| Ok(read.cost(&plan, &self.prefix)))?;
        let (first, place) = bitmap::split(from);
        bitmap::collect(
            &plan,
            root,
            &read.leaves(&texts)?,
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
            .begin_read(|layers| layers.part(texts.iter().map(String::as_str)))?;
        let (layers, reader) = (&read.layers, read.reader.as_ref());
        let cancel = Cancel::current();
        let look = |texts: &[String]| -> Result<Vec<bool>> {
            let found = texts.iter().map(|text| {
                cancel.check()?;
                memtable::contains(&layers.view(text, reader)?, user, reader)
            });
            found.collect()
        };
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(keys.len() / WORTH_A_THREAD);
        if threads < 2 {
            return look(&texts);
        }
        std::thread::scope(|scope| {
            let look = &look;
            let parts = texts
                .chunks(texts.len().div_ceil(threads))
                .map(|part| scope.spawn(move || look(part)));
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
        self.engine.change(false, |space| space.delete(&keys))
    }

    /// The set is of the moment the evaluation began; it is written as one frame of the log.
    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        let text = key.text(&self.prefix);
        let mut plan = Plan::new();
        let root = plan.add(set)?;
        let (mut tiles, mut people, mut len) = (Vec::new(), 0, 0);
        {
            let texts = self.texts(&plan);
            let keys = texts.iter().flatten().chain([&text]).map(String::as_str);
            let read = self.engine.begin_read(|layers| layers.part(keys))?;
            if read.layers.view(&text, read.reader.as_ref())?.exists {
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
        // Looked for once more, now that nobody else can make it.
        self.engine.change(false, |space| {
            if space.look().exists(&text)? {
                return Ok(Saved::Taken);
            }
            space.put(&text, len, tiles)?;
            Ok(Saved::People(people))
        })
    }

    fn string_ids(&self) -> &dyn IdMap {
        self
    }

    fn describe(&self) -> Result<StoreInfo> {
        let location = match &self.engine.disk {
            Some(disk) => {
                let directory = std::fs::canonicalize(&disk.directory)
                    .or_else(|_| std::path::absolute(&disk.directory));
                let directory = directory.as_ref().unwrap_or(&disk.directory);
                directory.display().to_string()
            }
            None => "memory:".to_owned(),
        };
        let string_ids = self.engine.read().enrolled.contains(self.prefix.as_str());
        let kind = if self.engine.disk.is_some() {
            "Embedded"
        } else {
            "In memory"
        };
        let refusal = self
            .engine
            .disk
            .as_ref()
            .and_then(|disk| disk.vitals.failure());
        let created = self.engine.disk.as_ref().is_none_or(|disk| disk.created);
        let (kind, prefix, notes) = (
            kind.to_owned(),
            self.prefix.clone(),
            self.engine.notes.clone(),
        );
        Ok(StoreInfo {
            kind,
            location,
            prefix,
            created,
            notes,
            string_ids,
            refusal,
        })
    }
}

impl KeyListing for EmbeddedStore {
    fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
        let beginning = format!("{}{starting_with}", self.prefix);
        let read = self
            .engine
            .begin_read(|layers| layers.part_beginning(&beginning))?;
        let mut listing = Listing::new(&self.prefix, starting_with);
        read.layers
            .visit_keys(&beginning, read.reader.as_ref(), |text| {
                listing.take(text, Some(text));
                true
            })?;
        Ok(self.left_out.keep(listing))
    }

    fn keys_version(&self) -> Option<u64> {
        Some(self.engine.shown().keys_version)
    }

    fn unparsed_keys(&self) -> UnparsedKeys {
        self.left_out.get()
    }

    fn other_prefixes(&self) -> Result<OtherPrefixes> {
        let read = self.engine.begin_read(|layers| layers.part_beginning(""))?;
        let mut texts = Vec::new();
        read.layers.visit_keys("", read.reader.as_ref(), |text| {
            texts.push(text.to_owned());
            texts.len() <= SOME_KEYS
        })?;
        Ok(OtherPrefixes::of(
            &self.prefix,
            texts.iter().take(SOME_KEYS),
            texts.len() <= SOME_KEYS,
            prefix_of,
        ))
    }

    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        let mut sizes = Vec::with_capacity(keys.len());
        // Not of one moment: it is an estimate.
        for keys in keys.chunks(SIZES_AT_ONCE) {
            let texts: Vec<String> = keys.iter().map(|key| key.text(&self.prefix)).collect();
            let read = self
                .engine
                .begin_read(|layers| layers.part(texts.iter().map(String::as_str)))?;
            let reader = read.reader.as_ref();
            for text in &texts {
                sizes.push(Some(read.layers.view(text, reader)?.stored(text, reader)?));
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
        // What is in memory alone is as durable as it ever will be.
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
