//! Counts remembered: a store in front of a store.
//!
//! A table asks the same hundreds of counts each time somebody looks at it, and hardly any of them has changed. Here each
//! is computed once and remembered *for the bitmaps as they were*: for every bitmap in a set its **stamp** is known, how
//! many users it has and a number that moves on with each mark made through this process, and the stamps are part of what
//! a count is remembered by. So a count is never used for other bitmaps than those it was counted over:
//!
//! * marks that go through this process change a stamp at once, and with it everything that was counted over the bitmap;
//! * marks of others, such as bitmapist beside us on one Redis, change the number of its users, which is asked again when a
//!   stamp is older than [`Remembering::check_after`], a minute: a BITCOUNT for each that has changed (a Redis that cannot
//!   tell which have is asked for all) instead of a BITOP a cell;
//! * what leaves the number of users as it was, one marked and one unmarked by others, is seen then too where Redis tells of
//!   changes ([`Seen::state`]); elsewhere when the count itself is older than [`Remembering::keep`], a day, or, while one of
//!   its periods is still running, than a minute. That is bitmapist4's rule, and the only case in which it still decides.
//!
//! Stamps are taken before what is counted under them, so that what changes in between makes a count look old and never
//! new. Requests that want the same at the same time wait for one of them. Errors are not remembered.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use crate::clock::Clock;
use crate::sets::{Key, Node, Plan, Set, UserId, When};
use crate::store::embedded::Keyspace;
use crate::store::{
    Cancel, Counted, Freshness, Health, Mark, Result, Saved, Seen, Store, StoreError, StoreInfo, TextIds,
};

/// How much is remembered, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembering {
    /// The most memory it may take, in bytes.
    pub bytes: u64,
    /// How long a count is kept whose periods have all ended.
    pub keep: Duration,
    /// How long it is believed that nobody else has changed a bitmap, and how long a count is kept of which a period is
    /// still running.
    pub check_after: Duration,
}

impl Default for Remembering {
    fn default() -> Self {
        Remembering { bytes: 64 << 20, keep: Duration::from_secs(86_400), check_after: Duration::from_secs(60) }
    }
}

/// How well it remembers, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recall {
    /// Counts answered from memory.
    pub remembered: u64,
    /// Counts that the store computed.
    pub computed: u64,
    /// Bitmaps whose number of users was asked for.
    pub checked: u64,
}

/// What a remembered count is known by: 128 bits of two keyed hashes, which nobody can make collide on purpose, and which
/// do so by chance once in 10²⁰ times with a billion of them.
type Id = u128;

/// How often somebody who waits for another's count looks whether he was cancelled.
const LOOK_UP: Duration = Duration::from_millis(50);

/// About what an entry takes, in bytes.
const ENTRY: u64 = 112;

/// A bitmap as it was.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    /// Never given twice.
    version: u64,
    /// How it was, and when that was asked.
    taken: Option<(Seen, Instant)>,
}

/// For nodes that are bitmaps which one it is, the version of its stamp and how it was.
type Stamps = HashMap<usize, (Id, u64, Seen)>;

/// A store that remembers what another one counted.
pub struct Remembered {
    memory: Arc<Memory>,
    store: Arc<dyn Store>,
    clock: Clock,
    how: Remembering,
}

/// What is remembered.
struct Memory {
    hashers: [RandomState; 2],
    versions: AtomicU64,
    stamps: Cache<Id, Stamp>,
    /// Counts, and until when they are used.
    counts: Cache<Id, (u64, Instant)>,
    /// Bitmaps that are being looked at, and sets that are being counted.
    looks: Flights<Seen>,
    flights: Flights<u64>,
    recall: [AtomicU64; 3],
}

impl Memory {
    fn id(&self, of: impl Hash) -> Id {
        let [a, b] = &self.hashers;
        u128::from(a.hash_one(&of)) << 64 | u128::from(b.hash_one(&of))
    }

    fn version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed)
    }

    /// A bitmap is not as it was. What nobody asked about has no stamp to change.
    fn changed(&self, key: &str) {
        let id = self.id(("key", key));
        if self.stamps.peek(&id).is_some() {
            self.stamps.insert(id, Stamp { version: self.version(), taken: None });
        }
    }

    fn recalled(&self, what: usize, count: usize) {
        if let Some(counter) = self.recall.get(what) {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

impl Remembered {
    /// Remembers what `store` counts. `clock` says which periods have ended.
    pub fn new(store: Arc<dyn Store>, how: Remembering, clock: Clock) -> Self {
        let items = usize::try_from(how.bytes / ENTRY).unwrap_or(usize::MAX).max(16);
        let memory = Arc::new(Memory {
            hashers: [RandomState::new(), RandomState::new()],
            versions: AtomicU64::new(0),
            // Many counts are of few bitmaps.
            stamps: Cache::new(items / 4),
            counts: Cache::new(items / 4 * 3),
            looks: Flights::default(),
            flights: Flights::default(),
            recall: Default::default(),
        });
        let told = Arc::downgrade(&memory);
        store.on_change(Box::new(move |key| {
            if let Some(memory) = told.upgrade() {
                memory.changed(key);
            }
        }));
        Remembered { memory, store, clock, how }
    }

    /// The stamps of a plan's bitmaps by their nodes, and how old the oldest is.
    fn stamps(&self, plan: &Plan, freshness: Freshness) -> Result<(Stamps, Duration)> {
        let memory = &*self.memory;
        let (now, mut oldest) = (Instant::now(), Duration::ZERO);
        let (mut found, mut wanted) = (HashMap::new(), Vec::new());
        for (place, node) in plan.nodes().iter().enumerate() {
            let Node::Key(key) = node else { continue };
            let id = memory.id(("key", &*key.to_string()));
            let stamp = memory.stamps.get(&id).unwrap_or_else(|| {
                let stamp = Stamp { version: memory.version(), taken: None };
                memory.stamps.insert(id, stamp);
                stamp
            });
            match stamp.taken {
                Some((seen, at))
                    if freshness == Freshness::Remembered && now.duration_since(at) < self.how.check_after =>
                {
                    oldest = oldest.max(now.duration_since(at));
                    found.insert(place, (id, stamp.version, seen));
                }
                _ => wanted.push((place, id, stamp.version, key)),
            }
        }
        if wanted.is_empty() {
            return Ok((found, oldest));
        }
        let ids: Vec<Id> = wanted.iter().map(|(_, id, version, _)| memory.id(("stamp", id, version))).collect();
        // Whoever wants to know how it is now does not wait for who asked before.
        let shared = freshness == Freshness::Remembered;
        let looked = memory.looks.once(&ids, shared, |own| {
            let asked: Vec<Key> =
                own.iter().filter_map(|place| wanted.get(*place)).map(|(.., key)| (*key).clone()).collect();
            memory.recalled(2, own.len());
            let looked = self.store.look(&asked)?;
            for ((_, id, version, _), seen) in own.iter().filter_map(|place| wanted.get(*place)).zip(&looked) {
                // Not when it was changed meanwhile: what was counted may be of before.
                if memory.stamps.peek(id).is_some_and(|stamp| stamp.version == *version) {
                    memory.stamps.insert(*id, Stamp { version: *version, taken: Some((*seen, now)) });
                }
            }
            Ok(looked)
        })?;
        for ((place, id, version, _), seen) in wanted.iter().zip(looked) {
            found.insert(*place, (*id, *version, seen));
        }
        Ok((found, oldest))
    }

    /// For each node of a plan what its count is remembered by, and whether all of its periods have ended.
    fn ids(&self, plan: &Plan, stamps: &Stamps) -> Vec<(Id, bool)> {
        let (memory, now) = (&*self.memory, self.clock.now());
        let mut ids: Vec<(Id, bool)> = Vec::with_capacity(plan.nodes().len());
        for (place, node) in plan.nodes().iter().enumerate() {
            let of = |id: &crate::sets::NodeId| ids.get(id.index()).copied().unwrap_or_default();
            let ended = node.operands().iter().all(|id| of(id).1);
            let mut parts: Vec<Id> = node.operands().iter().map(|id| of(id).0).collect();
            let (kind, ended) = match node {
                Node::Key(key) => {
                    let ended = matches!(key.when(), When::In(period) if period.end() <= now);
                    (memory.id(("bitmap", stamps.get(&place))), ended)
                }
                Node::Empty => (memory.id("nobody"), ended),
                Node::And(_) => (memory.id("and"), ended),
                Node::Or(_) => (memory.id("or"), ended),
                Node::Xor(_) => (memory.id("xor"), ended),
                Node::Diff(_) => (memory.id("diff"), ended),
                // It also depends on the length of the bitmap, which no stamp tells.
                Node::Not(_) => (memory.id("not"), false),
            };
            if !matches!(node, Node::Diff(_)) {
                // The order in which a plan happens to name them says nothing.
                parts.sort_unstable();
            }
            ids.push((if parts.is_empty() { kind } else { memory.id((kind, parts)) }, ended));
        }
        ids
    }

    fn remembered(&self, plan: &Plan, freshness: Freshness) -> Result<Counted> {
        let (stamps, age) = self.stamps(plan, freshness)?;
        let (memory, ids, now) = (&*self.memory, self.ids(plan, &stamps), Instant::now());
        let mut counts = vec![0; plan.roots().len()];
        let mut missing: Vec<(Id, usize)> = Vec::new();
        let mut places: HashMap<Id, Vec<usize>> = HashMap::new();
        for (place, root) in plan.roots().iter().enumerate() {
            let Some((id, _)) = ids.get(root.index()).copied() else { continue };
            let known = match stamps.get(&root.index()) {
                // Just one bitmap: its stamp says it.
                Some((.., seen)) => Some(seen.users),
                None if freshness == Freshness::Anew => None,
                None => memory.counts.get(&id).filter(|(_, until)| now < *until).map(|(count, _)| count),
            };
            match known {
                Some(count) => counts[place] = count,
                None => {
                    let wanted = places.entry(id).or_default();
                    if wanted.is_empty() {
                        missing.push((id, root.index()));
                    }
                    wanted.push(place);
                }
            }
        }
        memory.recalled(0, counts.len() - places.values().map(Vec::len).sum::<usize>());
        let wanted: Vec<Id> = missing.iter().map(|(id, _)| *id).collect();
        let computed = memory.flights.once(&wanted, freshness != Freshness::Anew, |own| {
            let nodes: Vec<usize> = own.iter().filter_map(|place| missing.get(*place)).map(|(_, node)| *node).collect();
            memory.recalled(1, nodes.len());
            let counts = self.store.count(&plan.part(&nodes))?;
            for ((place, node), count) in own.iter().zip(&nodes).zip(&counts) {
                let Some((id, ended)) = ids.get(*node).copied() else { continue };
                debug_assert_eq!(Some(&id), wanted.get(*place));
                let until = now + if ended { self.how.keep } else { self.how.check_after.min(self.how.keep) };
                memory.counts.insert(id, (*count, until));
            }
            Ok(counts)
        })?;
        for (id, count) in wanted.iter().zip(computed) {
            places.get(id).into_iter().flatten().for_each(|place| counts[*place] = count);
        }
        Ok(Counted { counts, age })
    }

    fn told<'k, T>(&self, keys: impl IntoIterator<Item = &'k Key>, result: Result<T>) -> Result<T> {
        // Also after an error, which may hide that some of it was done.
        keys.into_iter().for_each(|key| self.memory.changed(&key.to_string()));
        result
    }
}

impl Store for Remembered {
    fn apply(&self, marks: &[Mark]) -> Result<()> {
        let result = self.store.apply(marks);
        let mut keys: Vec<&Key> = marks.iter().map(|mark| &mark.key).collect();
        keys.dedup();
        self.told(keys, result)
    }

    fn add(&self, runs: &[(&Key, &[UserId])]) -> Result<()> {
        let result = self.store.add(runs);
        self.told(runs.iter().map(|(key, _)| *key), result)
    }

    fn count(&self, plan: &Plan) -> Result<Vec<u64>> {
        Ok(self.remembered(plan, Freshness::Remembered)?.counts)
    }

    fn counted(&self, plan: &Plan, freshness: Freshness) -> Result<Counted> {
        self.remembered(plan, freshness)
    }

    fn recall(&self) -> Option<Recall> {
        let [remembered, computed, checked] = [0, 1, 2].map(|what| self.memory.recall[what].load(Ordering::Relaxed));
        Some(Recall { remembered, computed, checked })
    }

    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        self.store.members(set, after, limit)
    }

    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>> {
        self.store.contains(keys, user)
    }

    fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
        self.store.keys(starting_with)
    }

    fn keys_version(&self) -> Option<u64> {
        self.store.keys_version()
    }

    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        self.store.sizes(keys)
    }

    fn delete(&self, keys: &[Key]) -> Result<u64> {
        let result = self.store.delete(keys);
        self.told(keys, result)
    }

    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        let result = self.store.save(set, key);
        self.told([key], result)
    }

    fn text_ids(&self) -> &dyn TextIds {
        self.store.text_ids()
    }

    fn keyspace(&self) -> Option<Keyspace> {
        self.store.keyspace()
    }

    fn sweep(&self) -> Result<u64> {
        self.store.sweep()
    }

    fn health(&self) -> Health {
        self.store.health()
    }

    fn describe(&self) -> Result<StoreInfo> {
        self.store.describe()
    }
}

/// What is being computed, so that it is computed once for everybody who waits.
struct Flights<T>(Mutex<HashMap<Id, Arc<Flight<T>>>>);

/// What comes of it for each of those it was begun for.
type Outcome<T> = Option<Result<HashMap<Id, T>>>;

/// One computation of several counts.
struct Flight<T> {
    outcome: Mutex<Outcome<T>>,
    landed: Condvar,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Flights(Mutex::default())
    }
}

impl<T: Copy> Flight<T> {
    /// The count of an id; `None` when whoever computed it did not finish, so that somebody else has to.
    fn wait(&self, id: Id, cancel: &Cancel) -> Result<Option<T>> {
        let mut outcome = lock(&self.outcome);
        while outcome.is_none() {
            cancel.check()?;
            (outcome, _) = self.landed.wait_timeout(outcome, LOOK_UP).unwrap_or_else(PoisonError::into_inner);
        }
        match &*outcome {
            Some(Ok(counts)) => Ok(counts.get(&id).copied()),
            // The leader's client is gone; those who wait here are not.
            Some(Err(StoreError::Cancelled)) | None => Ok(None),
            Some(Err(error)) => Err(error.clone()),
        }
    }
}

/// Lands a flight whatever happens, so that nobody waits for ever.
struct Landing<'a, T> {
    flights: &'a Flights<T>,
    flight: Arc<Flight<T>>,
    own: Vec<Id>,
    outcome: Outcome<T>,
}

impl<T> Drop for Landing<'_, T> {
    fn drop(&mut self) {
        let mut flying = lock(&self.flights.0);
        for id in &self.own {
            if flying.get(id).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
                flying.remove(id);
            }
        }
        drop(flying);
        // After a panic nobody has an outcome: one of those who wait computes it.
        *lock(&self.flight.outcome) = Some(self.outcome.take().unwrap_or_else(|| Ok(HashMap::new())));
        self.flight.landed.notify_all();
    }
}

impl<T: Copy> Flights<T> {
    /// The count of each id. `compute` gets the places of those that nobody else is computing just now. What others are
    /// computing is waited for; when one of them is cancelled or panics, one of those who wait takes over.
    fn once(&self, ids: &[Id], shared: bool, compute: impl Fn(&[usize]) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let mut counts: Vec<Option<T>> = vec![None; ids.len()];
        let mut wanted: Vec<usize> = (0..ids.len()).collect();
        while !wanted.is_empty() {
            wanted = self.round(ids, &wanted, &mut counts, shared, &compute)?;
        }
        let complete: Option<Vec<T>> = counts.into_iter().collect();
        complete.ok_or_else(|| StoreError::Damaged {
            path: "what was remembered".to_owned(),
            reason: "the store gave fewer counts than were asked for".to_owned(),
        })
    }

    /// Computes or waits for each wanted id once; returns those that nobody finished.
    fn round(
        &self,
        ids: &[Id],
        wanted: &[usize],
        counts: &mut [Option<T>],
        shared: bool,
        compute: &impl Fn(&[usize]) -> Result<Vec<T>>,
    ) -> Result<Vec<usize>> {
        let flight = Arc::new(Flight { outcome: Mutex::new(None), landed: Condvar::new() });
        let (mut own, mut others) = (Vec::new(), Vec::new());
        {
            let mut flying = lock(&self.0);
            for (place, id) in wanted.iter().copied().zip(wanted.iter().filter_map(|place| ids.get(*place))) {
                match flying.get(id).filter(|_| shared) {
                    Some(other) => others.push((place, Arc::clone(other))),
                    None => {
                        flying.insert(*id, Arc::clone(&flight));
                        own.push(place);
                    }
                }
            }
        }
        if !own.is_empty() {
            let own_ids: Vec<Id> = own.iter().filter_map(|place| ids.get(*place)).copied().collect();
            let mut landing = Landing { flights: self, flight, own: own_ids.clone(), outcome: None };
            let computed = compute(&own);
            landing.outcome = Some(computed.clone().map(|counts| own_ids.into_iter().zip(counts).collect()));
            drop(landing);
            for (place, count) in own.iter().zip(computed?) {
                counts[*place] = Some(count);
            }
        }
        // Own work first: so two who wait for each other cannot be.
        let (mut left, cancel) = (Vec::new(), Cancel::current());
        for (place, other) in others {
            counts[place] = other.wait(ids[place], &cancel)?;
            if counts[place].is_none() {
                left.push(place);
            }
        }
        Ok(left)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
