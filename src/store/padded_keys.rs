//! Bitmaps whose keys other ports of bitmapist pad with zeros: `active_2014-02-03` and
//! `active_W2014-07` beside `active_2014-2-3` and `active_W2014-7`.
//!
//! Both spellings of a period are one bitmap here: listed once, by the key without zeros, and read
//! as the union. Marks go to the key without zeros; taking one back clears both, and deleting
//! deletes both. Which padded keys there are is known from the last listing of all keys. Stores
//! without any pay one look at an empty set for each request.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sets::{Key, Node, NodeId, Plan, Prefix, Set, UserId};
use crate::store::embedded::Keyspace;
use crate::store::{
    CacheStats, Cost, Counted, Freshness, Health, IdMap, Mark, OtherPrefixes, Progress, Result,
    Saved, Seen, Store, StoreError, StoreInfo, UnparsedKeys, bitmaps,
};

/// A store that reads both spellings of another one's keys.
#[derive(Debug)]
pub struct PaddedKeys {
    store: Arc<dyn Store>,
    /// The padded keys there are; `None` until they were looked for.
    padded: Mutex<Option<Arc<HashSet<Key>>>>,
}

impl PaddedKeys {
    /// In front of another store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        PaddedKeys {
            store,
            padded: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<HashSet<Key>>>> {
        self.padded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The padded keys there are, as far as any of these keys may have one.
    fn padded<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) -> Result<Arc<HashSet<Key>>> {
        if let Some(known) = &*self.known() {
            return Ok(Arc::clone(known));
        }
        if keys.into_iter().all(|key| key.padded().is_none()) {
            return Ok(Arc::default());
        }
        match self.keys("") {
            // A user who may not list keys reads the plain spelling alone.
            Err(StoreError::Refused { .. }) => *self.known() = Some(Arc::default()),
            listed => drop(listed?),
        }
        Ok(self.known().clone().unwrap_or_default())
    }

    /// Each key, followed by its padded spelling where there is one.
    fn both(&self, keys: &[Key]) -> Result<Option<Vec<Key>>> {
        let padded = self.padded(keys)?;
        if padded.is_empty() {
            return Ok(None);
        }
        let both = |key: &Key| {
            [key.clone()]
                .into_iter()
                .chain(key.padded().filter(|other| padded.contains(other)))
        };
        Ok(Some(keys.iter().flat_map(both).collect()))
    }

    /// The plan over both spellings, with the same roots; `None` where it is the same plan.
    fn plan(&self, plan: &Plan) -> Result<Option<Plan>> {
        let keys = plan.nodes().iter().filter_map(|node| {
            if let Node::Key(key) = node {
                Some(key)
            } else {
                None
            }
        });
        let padded = self.padded(keys)?;
        if padded.is_empty() {
            return Ok(None);
        }
        let (mut other, mut ids) = (
            Plan::with_capacity(plan.nodes().len()),
            Vec::<NodeId>::new(),
        );
        for node in plan.nodes() {
            let of = |operands: &[NodeId]| {
                operands
                    .iter()
                    .map(|id| ids[id.index()])
                    .collect::<Vec<_>>()
            };
            let id = match node {
                Node::Empty => other.empty(),
                Node::Key(key) => {
                    let own = other.key(key.clone());
                    match twin(key, &padded) {
                        Some(twin) => {
                            let twin = other.key(twin);
                            other.or([own, twin])
                        }
                        None => own,
                    }
                }
                Node::And(operands) => other.and(of(operands)),
                Node::Or(operands) => other.or(of(operands)),
                Node::Xor(operands) => other.xor(of(operands)),
                Node::Diff([a, b]) => other.diff(ids[a.index()], ids[b.index()]),
                Node::Not(a) => other.not(ids[a.index()]),
            };
            ids.push(id);
        }
        plan.roots().iter().for_each(|root| {
            other.count(ids[root.index()]);
        });
        Ok(Some(other))
    }

    /// The set over both spellings; `None` where it is the same set.
    fn set(&self, set: &Set) -> Result<Option<Set>> {
        let padded = self.padded(set.keys())?;
        Ok((!padded.is_empty()).then(|| respelled(set, &padded)))
    }
}

/// The other spelling of a key, where there is a bitmap of that name.
fn twin(key: &Key, padded: &HashSet<Key>) -> Option<Key> {
    key.padded().filter(|other| padded.contains(other))
}

/// A bitmap, or the union of its two spellings.
fn spelled(key: &Key, padded: &HashSet<Key>) -> Set {
    match twin(key, padded) {
        Some(other) => Set::Or(vec![Set::Key(key.clone()), Set::Key(other)]),
        None => Set::Key(key.clone()),
    }
}

fn respelled(set: &Set, padded: &HashSet<Key>) -> Set {
    let all = |sets: &[Set]| sets.iter().map(|set| respelled(set, padded)).collect();
    match set {
        Set::Empty => Set::Empty,
        Set::Key(key) => spelled(key, padded),
        Set::And(sets) => Set::And(all(sets)),
        Set::Or(sets) => Set::Or(all(sets)),
        Set::Xor(sets) => Set::Xor(all(sets)),
        Set::Diff(a, b) => Set::Diff(
            Box::new(respelled(a, padded)),
            Box::new(respelled(b, padded)),
        ),
        Set::Not(set) => Set::Not(Box::new(respelled(set, padded))),
    }
}

impl Store for PaddedKeys {
    fn apply(&self, marks: &[Mark]) -> Result<()> {
        let cleared = marks
            .iter()
            .filter(|mark| !mark.value)
            .map(|mark| &mark.key);
        let padded = self.padded(cleared)?;
        if marks.iter().any(|mark| mark.key.is_padded()) {
            // Whoever writes such a key by its own spelling makes it known.
            *self.known() = None;
        }
        if padded.is_empty() || marks.iter().all(|mark| mark.value) {
            return self.store.apply(marks);
        }
        let mut both = Vec::with_capacity(marks.len());
        for mark in marks {
            both.push(mark.clone());
            let other = mark
                .key
                .padded()
                .filter(|other| !mark.value && padded.contains(other));
            both.extend(other.map(|key| Mark {
                key,
                ..mark.clone()
            }));
        }
        self.store.apply(&both)
    }

    fn add(&self, runs: &[(&Key, &[UserId])]) -> Result<()> {
        self.store.add(runs)
    }

    fn count(&self, plan: &Plan) -> Result<Vec<u64>> {
        let other = self.plan(plan)?;
        self.store.count(other.as_ref().unwrap_or(plan))
    }

    fn counted(&self, plan: &Plan, freshness: Freshness) -> Result<Counted> {
        let other = self.plan(plan)?;
        self.store
            .counted(other.as_ref().unwrap_or(plan), freshness)
    }

    fn cost(&self, plan: &Plan) -> Result<Cost> {
        let other = self.plan(plan)?;
        self.store.cost(other.as_ref().unwrap_or(plan))
    }

    fn look(&self, keys: &[Key]) -> Result<Vec<Seen>> {
        let Some(both) = self.both(keys)? else {
            return self.store.look(keys);
        };
        // Versions first: what changes meanwhile is looked at again later.
        let mut seen = both.iter().zip(self.store.look(&both)?).peekable();
        let users = self.count(&bitmaps(keys))?;
        let mut merged = Vec::with_capacity(keys.len());
        for users in users {
            let Some((_, plain)) = seen.next() else { break };
            let other = seen
                .next_if(|(key, _)| key.is_padded())
                .map_or(0, |(_, other)| other.state);
            merged.push(Seen {
                users,
                state: plain.state.wrapping_mul(31).wrapping_add(other),
            });
        }
        Ok(merged)
    }

    fn recall(&self) -> Option<CacheStats> {
        self.store.recall()
    }

    fn on_change(&self, told: Box<dyn Fn(&str) + Send + Sync>) -> bool {
        let bare = Prefix::new("");
        self.store.on_change(Box::new(move |text| {
            match Key::parse(&bare, text).filter(Key::is_padded) {
                Some(key) => told(&key.plain().to_string()),
                None => told(text),
            }
        }))
    }

    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        let other = self.set(set)?;
        self.store
            .members(other.as_ref().unwrap_or(set), after, limit)
    }

    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>> {
        let Some(both) = self.both(keys)? else {
            return self.store.contains(keys, user);
        };
        let mut merged: Vec<bool> = Vec::with_capacity(keys.len());
        for (key, holds) in both.iter().zip(self.store.contains(&both, user)?) {
            match merged.last_mut().filter(|_| key.is_padded()) {
                Some(plain) => *plain |= holds,
                None => merged.push(holds),
            }
        }
        Ok(merged)
    }

    fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
        let keys = self.store.keys(starting_with)?;
        let padded: HashSet<Key> = keys.iter().filter(|key| key.is_padded()).cloned().collect();
        let is_plain = padded.is_empty();
        if starting_with.is_empty() {
            *self.known() = Some(Arc::new(padded));
        }
        if is_plain {
            return Ok(keys);
        }
        Ok(keys
            .iter()
            .map(Key::plain)
            .collect::<BTreeSet<Key>>()
            .into_iter()
            .collect())
    }

    fn keys_version(&self) -> Option<u64> {
        self.store.keys_version()
    }

    fn strays(&self) -> UnparsedKeys {
        self.store.strays()
    }

    fn other_prefixes(&self) -> Result<OtherPrefixes> {
        self.store.other_prefixes()
    }

    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        let Some(both) = self.both(keys)? else {
            return self.store.sizes(keys);
        };
        let mut merged: Vec<Option<u64>> = Vec::with_capacity(keys.len());
        for (key, size) in both.iter().zip(self.store.sizes(&both)?) {
            match merged.last_mut().filter(|_| key.is_padded()) {
                Some(plain) => *plain = plain.zip(size).map(|(a, b)| a + b),
                None => merged.push(size),
            }
        }
        Ok(merged)
    }

    fn delete(&self, keys: &[Key]) -> Result<u64> {
        let both = self.both(keys)?;
        self.store.delete(both.as_deref().unwrap_or(keys))
    }

    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        let other = self.set(set)?;
        self.store.save(other.as_ref().unwrap_or(set), key)
    }

    fn string_ids(&self) -> &dyn IdMap {
        self.store.string_ids()
    }

    fn keyspace(&self) -> Option<Keyspace> {
        self.store.keyspace()
    }

    fn sweep(&self) -> Result<u64> {
        self.store.sweep()
    }

    fn progress(&self) -> Progress {
        self.store.progress()
    }

    fn flush(&self) -> Result<()> {
        self.store.flush()
    }

    fn health(&self) -> Health {
        self.store.health()
    }

    fn describe(&self) -> Result<StoreInfo> {
        self.store.describe()
    }
}
