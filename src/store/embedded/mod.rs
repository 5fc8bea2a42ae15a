//! The embedded store: a directory of its own, no server.
//!
//! ```text
//! mark ──▶ log-N (appended, CRC-framed) ──▶ dirty tiles in memory ──checkpoint──▶ bitmaps.redb
//! read ──▶ dirty ▷ frozen (being written) ▷ tile cache ▷ bitmaps.redb
//! ```
//!
//! Every batch is one frame of the log and counts as recorded once the operating system has it: `kill -9` loses
//! nothing acknowledged. A thread forces the log to disk once a second and, when enough has changed, begins a
//! checkpoint: the dirty tiles are frozen, a new log file begins, the frozen tiles go to redb in one transaction, and
//! the old log file is deleted. At start, what the logs hold beyond the last checkpoint is replayed.
//!
//! Readers hold the lock of the layers while they answer, so a plan sees one moment; a batch appears whole.

mod backup;
mod base;
mod checkpoint;
mod layers;
mod log;
mod opening;
mod record;
mod rolls;
mod runs;
mod space;
mod vitals;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use crate::bitmap;
use crate::clock::Clock;
use crate::sets::{Key, Plan, Prefix, Set, UserId};
use crate::store::{
    Cancel, Durability, Health, LeftOut, Mark, Options, OtherPrefixes, Result, Saved, Store, StoreError, StoreInfo,
    Strays, TextIds,
};
pub use backup::{ask_owner, restore};
use base::{Base, Reader};
use layers::{Layers, Leaves, Lifetimes};
use log::{Change, Frame, Log};
use opening::{cannot_open, open};
pub use space::{Keyspace, Look, Snapshot, Space};
use vitals::Vitals;

const DATABASE: &str = "bitmaps.redb";
const OWNER: &str = "owner";
const LOG: &str = "log-";

/// Looking for a user in fewer bitmaps than twice as many is not worth a second thread.
const WORTH_A_THREAD: usize = 2000;

/// A log at least this long is worth a checkpoint when the store is closed; a shorter one is replayed in no time.
const WORTH_A_CHECKPOINT: u64 = 1 << 20;

/// How many keys are looked at to find other prefixes.
const SOME_KEYS: usize = 20_000;

/// The store that needs no server: a directory, or memory.
#[derive(Clone)]
pub struct EmbeddedStore {
    engine: Arc<Engine>,
    prefix: Prefix,
    left_out: Arc<LeftOut>,
    // Dropped with the last handle: stops the thread and leaves the files in order.
    _keeper: Option<Arc<Keeper>>,
}

struct Engine {
    layers: RwLock<Layers>,
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
    base: Base,
    durability: Durability,
    checkpoint_bytes: usize,
    /// The checkpoint that was begun and is not in the file yet.
    pending: Mutex<Option<Pending>>,
    /// The sequence up to which the log was forced to disk.
    synced: Mutex<u64>,
    signal: Mutex<Signal>,
    changed: Condvar,
    vitals: Vitals,
}

#[derive(Default)]
struct Signal {
    stop: bool,
    checkpoint: bool,
    /// How often a checkpoint ended, well or not, and how the last one failed.
    ended: u64,
    failure: Option<String>,
}

struct Pending {
    sequence: u64,
    /// The files that are of no use once it is done.
    logs: Vec<PathBuf>,
    file: Option<Arc<File>>,
    lifetimes: Lifetimes,
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
    /// When another process has it open, the directory holds something else, or its files cannot be read or written.
    pub fn open(directory: &Path, options: &Options) -> Result<Self> {
        let (engine, old_logs) = open(directory, options)?;
        let engine = Arc::new(engine);
        if let Some(disk) = &engine.disk
            && old_logs
        {
            disk.request_checkpoint();
        }
        let thread = std::thread::Builder::new().name("cohortist-store".into()).spawn({
            let engine = Arc::clone(&engine);
            move || engine.keep()
        });
        let thread = thread.map_err(|e| cannot_open(directory, &e))?;
        let keeper = Keeper { engine: Arc::clone(&engine), thread: Some(thread) };
        let (prefix, left_out) = (options.prefix.clone(), Arc::default());
        Ok(EmbeddedStore { engine, prefix, left_out, _keeper: Some(Arc::new(keeper)) })
    }

    /// The same store under another prefix: another set of events in the same files.
    pub fn under(&self, prefix: Prefix) -> Self {
        EmbeddedStore { prefix, left_out: Arc::default(), ..self.clone() }
    }

    /// Writes everything there is at this moment to a new file, from which [`restore`] makes a store; says how many bitmaps
    /// there are. Marks go on meanwhile.
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
}

impl Engine {
    fn read(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> Result<Option<Reader<'_>>> {
        self.disk.as_ref().map(|disk| disk.base.reader()).transpose()
    }

    /// Sets and clears bits, as one frame; `before` is told what each was. `guarded` is whoever may know nothing of text
    /// ids.
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
        let reader = self.reader()?;
        // Everything that can fail comes before the log, and the log before memory.
        let prepared = layers.prepare(&keys, &bits, reader.as_ref(), before)?;
        let changed = if self.is_heard() { keys.clone() } else { Vec::new() };
        self.append(&mut layers, Change::Bits { keys, bits })?;
        layers.apply(prepared);
        self.tell(changed.iter().map(String::as_str));
        self.written(layers)
    }

    /// Carries out several changes as one frame: all of them or none, with nobody's between them.
    fn change<T>(&self, guarded: bool, work: impl FnOnce(&mut Space<'_>) -> Result<T>) -> Result<T> {
        let mut layers = self.lock_with_room()?;
        let reader = self.reader()?;
        let mut space = Space::new(&mut layers, reader.as_ref(), guarded.then_some(self));
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
        !self.listeners.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Tells of bitmaps that changed. Called while the layers are locked: nobody has seen it yet.
    fn tell<'k>(&self, keys: impl IntoIterator<Item = &'k str>) {
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        if !listeners.is_empty() {
            keys.into_iter().for_each(|key| listeners.iter().for_each(|told| told(key)));
        }
    }

    fn lock_with_room(&self) -> Result<RwLockWriteGuard<'_, Layers>> {
        if let Some(disk) = &self.disk
            && let Err(error) = self.wait_for_room(disk)
        {
            return disk.vitals.wrote(Err(error));
        }
        self.let_go();
        Ok(self.lock())
    }

    /// Puts the next frame into the log.
    fn append(&self, layers: &mut Layers, change: Change) -> Result<()> {
        match &self.disk {
            Some(disk) => disk.vitals.wrote(disk.append(layers, change)),
            None => {
                layers.sequence += 1;
                Ok(())
            }
        }
    }

    /// What is to be done when a frame is in the log and its changes are in memory.
    fn written(&self, layers: RwLockWriteGuard<'_, Layers>) -> Result<()> {
        self.next_end.store(layers.lifetimes.next().unwrap_or(u64::MAX), Ordering::Release);
        let Some(disk) = &self.disk else { return Ok(()) };
        let log_bytes = layers.log.as_ref().map_or(0, Log::len);
        if layers.dirty_bytes > disk.checkpoint_bytes || log_bytes > disk.log_bytes() {
            disk.request_checkpoint();
        }
        let file = layers.log.as_ref().map(Log::file);
        let sequence = layers.sequence;
        drop(layers);
        if disk.durability == Durability::Always
            && let Some(file) = file
        {
            self.sync(disk, &file, sequence)?;
        }
        Ok(())
    }

    /// Deletes the keys whose time has come. Everybody who asks or changes something does this first, so that no answer
    /// holds a key that should be gone.
    fn let_go(&self) {
        let now = now();
        if now < self.next_end.load(Ordering::Acquire) {
            return;
        }
        let mut layers = self.lock();
        let outcome = self.reader().and_then(|reader| {
            let keys = layers.lifetimes.over(now);
            let existing = layers.existing(&keys, reader.as_ref())?;
            if keys.is_empty() {
                return Ok(());
            }
            self.append(&mut layers, Change::Delete { keys: keys.clone() })?;
            layers.delete(existing);
            keys.iter().for_each(|text| layers.lifetimes.set(text, None));
            self.tell(keys.iter().map(String::as_str));
            Ok(())
        });
        // What cannot be deleted for want of a disk is tried again in a while, and is still seen until then.
        let next = match &outcome {
            Ok(()) => layers.lifetimes.next().unwrap_or(u64::MAX),
            Err(_) => now + 1000,
        };
        self.next_end.store(next, Ordering::Release);
        drop(layers);
        if let Err(error) = outcome {
            tracing::error!("keys whose time has come cannot be deleted: {error}");
        }
    }

    /// The layers as they are to be shown now.
    fn shown(&self) -> RwLockReadGuard<'_, Layers> {
        self.let_go();
        self.read()
    }

    /// Forces the log to disk at least up to `sequence`. Writers that wait here together share one sync.
    fn sync(&self, disk: &Disk, file: &File, sequence: u64) -> Result<()> {
        let mut synced = disk.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if *synced >= sequence {
            return Ok(());
        }
        let latest = self.read().sequence;
        match file.sync_data() {
            Ok(()) => {
                // A checkpoint may have begun a new file meanwhile; then `latest` is not all in this one.
                let same = self.read().log.as_ref().is_some_and(|log| std::ptr::eq(&*log.file(), file));
                *synced = if same { latest.max(sequence) } else { sequence };
                Ok(())
            }
            Err(error) => {
                // What the system failed to write once it may have thrown away: nothing more is safe in this file.
                let reason = format!("the disk failed ({error}); restart the process once it is well");
                if let Some(log) = &mut self.lock().log {
                    log.break_off(reason.clone());
                }
                Err(StoreError::Unsynced { path: disk.directory.display().to_string(), reason })
            }
        }
    }
}

impl Disk {
    /// Appends the next frame to the log, whole or not at all.
    fn append(&self, layers: &mut Layers, change: Change) -> Result<()> {
        let sequence = layers.sequence + 1;
        let encoded = log::encode(&Frame { sequence, change }).map_err(|e| write_error(&self.directory, &e))?;
        if let Some(log) = &mut layers.log {
            log.append(&encoded).map_err(|e| {
                self.vitals.refused(encoded.len());
                write_error(log.path(), &e)
            })?;
        }
        layers.sequence = sequence;
        Ok(())
    }

    /// How long a log may be before a checkpoint: it is read through at start, which must not take long.
    fn log_bytes(&self) -> u64 {
        self.checkpoint_bytes as u64 / 4
    }

    fn lock_signal(&self) -> std::sync::MutexGuard<'_, Signal> {
        self.signal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request_checkpoint(&self) {
        let mut signal = self.lock_signal();
        if !signal.checkpoint {
            signal.checkpoint = true;
            self.changed.notify_all();
        }
    }
}

struct Keeper {
    engine: Arc<Engine>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(disk) = &self.engine.disk {
            disk.lock_signal().stop = true;
            disk.changed.notify_all();
        }
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the thread itself.
            let _ = thread.join();
        }
        if let Some(disk) = &self.engine.disk {
            let _ = fs::remove_file(disk.directory.join(OWNER));
        }
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    u64::try_from(Clock::System.now().timestamp_millis()).unwrap_or(0)
}

fn write_error(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Write { path: path.display().to_string(), reason: error.to_string() }
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

    fn count(&self, plan: &Plan) -> Result<Vec<u64>> {
        let layers = self.engine.shown();
        let reader = self.engine.reader()?;
        bitmap::count(plan, &Leaves::new(plan, &self.prefix, &layers, reader.as_ref())?)
    }

    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        let mut found = Vec::new();
        let Some(from) = after.map_or(Some(0), |after| after.checked_add(1)) else { return Ok(found) };
        if limit == 0 {
            return Ok(found);
        }
        let mut plan = Plan::new();
        let root = plan.add(set);
        let layers = self.engine.shown();
        let reader = self.engine.reader()?;
        let leaves = Leaves::new(&plan, &self.prefix, &layers, reader.as_ref())?;
        let (first, place) = bitmap::split(from);
        bitmap::collect(&plan, root, &leaves, first..=u16::MAX, |number, tile| {
            tile.visit(if number == first { place } else { 0 }, |place| {
                found.push(bitmap::user(number, place));
                found.len() < limit
            });
            found.len() < limit
        })?;
        Ok(found)
    }

    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>> {
        let layers = self.engine.shown();
        let reader = self.engine.reader()?;
        let reader = reader.as_ref();
        let cancel = Cancel::current();
        let look = |keys: &[Key]| -> Result<Vec<bool>> {
            let found = keys.iter().map(|key| {
                cancel.check()?;
                let view = layers.view(&key.text(&self.prefix), reader)?;
                layers::contains(&view, user, reader)
            });
            found.collect()
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(keys.len() / WORTH_A_THREAD);
        if threads < 2 {
            return look(keys);
        }
        std::thread::scope(|scope| {
            let look = &look;
            let parts = keys.chunks(keys.len().div_ceil(threads)).map(|part| scope.spawn(move || look(part)));
            let parts: Vec<_> = parts.collect();
            let mut found = Vec::with_capacity(keys.len());
            for part in parts {
                found.extend(part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(found)
        })
    }

    fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
        let layers = self.engine.shown();
        let reader = self.engine.reader()?;
        let texts = layers.keys(&format!("{}{starting_with}", self.prefix), reader.as_ref())?;
        Ok(self.left_out.parse(&self.prefix, starting_with, &texts))
    }

    fn strays(&self) -> Strays {
        self.left_out.get()
    }

    fn other_prefixes(&self) -> Result<OtherPrefixes> {
        let layers = self.engine.shown();
        let texts = layers.keys("", self.engine.reader()?.as_ref())?;
        Ok(OtherPrefixes::of(&self.prefix, texts.iter().take(SOME_KEYS), texts.len() <= SOME_KEYS))
    }

    fn keys_version(&self) -> Option<u64> {
        Some(self.engine.shown().keys_version)
    }

    fn on_change(&self, told: Box<dyn Fn(&str) + Send + Sync>) -> bool {
        let prefix = self.prefix.clone();
        let told: Listener = Box::new(move |text| {
            if let Some(key) = text.strip_prefix(prefix.as_str()) {
                told(key);
            }
        });
        self.engine.listeners.write().unwrap_or_else(PoisonError::into_inner).push(told);
        true
    }

    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        let layers = self.engine.shown();
        let reader = self.engine.reader()?;
        keys.iter().map(|key| Ok(layers.view(&key.text(&self.prefix), reader.as_ref())?.stored())).collect()
    }

    fn delete(&self, keys: &[Key]) -> Result<u64> {
        let keys: Vec<String> = keys.iter().map(|key| key.text(&self.prefix)).collect();
        self.engine.change(false, |space| space.delete(&keys))
    }

    /// The set is evaluated while marks wait, and is of that moment; it is written as one frame of the log.
    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        let text = key.text(&self.prefix);
        let mut plan = Plan::new();
        let root = plan.add(set);
        let (mut tiles, mut people, mut len) = (Vec::new(), 0, 0);
        {
            let layers = self.engine.shown();
            let reader = self.engine.reader()?;
            if layers.view(&text, reader.as_ref())?.exists {
                return Ok(Saved::Taken);
            }
            let leaves = Leaves::new(&plan, &self.prefix, &layers, reader.as_ref())?;
            bitmap::collect(&plan, root, &leaves, bitmap::EVERYWHERE, |number, tile| {
                if let Some(last) = tile.last() {
                    people += tile.len();
                    len = u64::from(bitmap::user(number, last)) / 8 + 1;
                    tiles.push((number, Arc::new(tile.compact())));
                }
                true
            })?;
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

    fn text_ids(&self) -> &dyn TextIds {
        self
    }

    fn keyspace(&self) -> Option<Keyspace> {
        Some(Keyspace::of(self))
    }

    fn sweep(&self) -> Result<u64> {
        // Plans are evaluated in memory: there are no temporary keys to leave behind.
        Ok(0)
    }

    fn health(&self) -> Health {
        self.engine.disk.as_ref().map_or_else(Health::default, Disk::health)
    }

    fn describe(&self) -> Result<StoreInfo> {
        let location = match &self.engine.disk {
            Some(disk) => {
                let directory = std::path::absolute(&disk.directory).unwrap_or_else(|_| disk.directory.clone());
                directory.display().to_string()
            }
            None => "memory:".to_owned(),
        };
        // Answering means being able to read.
        self.engine.reader()?;
        let text_ids = self.engine.read().enrolled.contains(self.prefix.as_str());
        let kind = if self.engine.disk.is_some() { "Embedded" } else { "In memory" };
        let refusal = self.engine.disk.as_ref().and_then(|disk| disk.vitals.failure());
        let created = self.engine.disk.as_ref().is_none_or(|disk| disk.created);
        let (kind, prefix, notes) = (kind.to_owned(), self.prefix.clone(), self.engine.notes.clone());
        Ok(StoreInfo { kind, location, prefix, created, notes, text_ids, refusal })
    }
}
