//! Bitmaps whose keys other ports of bitmapist pad with zeros: `active_2014-02-03` and
//! `active_W2014-07` beside `active_2014-2-3` and `active_W2014-7`.
//!
//! Both spellings of a period are one bitmap here: listed once, by the key without zeros, and read
//! as the union. Marks go to the key without zeros; unmarking clears both, and deleting deletes
//! both. The last listing of all keys tells which padded keys exist. Stores without any look at an
//! empty set for each request.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sets::{Key, Node, NodeId, Plan, Prefix, Set, UserId};
use crate::store::traits::plan_of;
use crate::store::{
    BitmapState, ChangeFeed, Cost, Health, IdMap, KeyListing, Maintenance, Mark, OtherPrefixes,
    Progress, Result, Saved, Store, StoreError, StoreInfo, UnparsedKeys,
};

/// Reads both spellings of another store's keys.
#[derive(Debug)]
pub struct PaddedKeys {
    store: Arc<dyn Store>,
    /// The padded keys that exist; `None` until they were listed.
    padded: Mutex<Option<Arc<HashSet<Key>>>>,
}

impl PaddedKeys {
    /// Wraps a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        PaddedKeys {
            store,
            padded: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<HashSet<Key>>>> {
        self.padded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The padded keys that exist, or an empty set if none of these keys can have one.
    fn padded<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) -> Result<Arc<HashSet<Key>>> {
        if let Some(known) = &*self.known() {
            return Ok(Arc::clone(known));
        }
        if keys.into_iter().all(|key| key.padded().is_none()) {
            return Ok(Arc::default());
        }
        match self.keys("") {
            // A user who may not list keys reads the plain spelling only.
            Err(StoreError::Refused { .. }) => *self.known() = Some(Arc::default()),
            listed => drop(listed?),
        }
        Ok(self.known().clone().unwrap_or_default())
    }

    /// Each key, followed by its padded spelling if that exists. `None` if no padded key exists.
    fn both(&self, keys: &[Key]) -> Result<Option<Vec<Key>>> {
        let padded = self.padded(keys)?;
        if padded.is_empty() {
            return Ok(None);
        }
        let mut both = Vec::with_capacity(keys.len());
        for key in keys {
            both.push(key.clone());
            both.extend(twin(key, &padded));
        }
        Ok(Some(both))
    }

    /// Asks the store about both spellings of keys. `join` adds the answer for a padded key to that
    /// of the plain one before it.
    fn of_both<T>(
        &self,
        keys: &[Key],
        ask: impl Fn(&[Key]) -> Result<Vec<T>>,
        join: impl Fn(&mut T, T),
    ) -> Result<Vec<T>> {
        let Some(both) = self.both(keys)? else {
            return ask(keys);
        };
        let mut joined: Vec<T> = Vec::with_capacity(keys.len());
        for (key, answer) in both.iter().zip(ask(&both)?) {
            match joined.last_mut().filter(|_| key.is_padded()) {
                Some(plain) => join(plain, answer),
                None => joined.push(answer),
            }
        }
        Ok(joined)
    }

    /// The plan over both spellings, with the same roots; `None` if it is the same plan.
    fn plan(&self, plan: &Plan) -> Result<Option<Plan>> {
        let keys = plan.nodes().iter().filter_map(|node| match node {
            Node::Key(key) => Some(key),
            _ => None,
        });
        let padded = self.padded(keys)?;
        Ok((!padded.is_empty()).then(|| respelled_plan(plan, &padded)))
    }

    /// The set over both spellings; `None` if it is the same set.
    fn set(&self, set: &Set) -> Result<Option<Set>> {
        let padded = self.padded(set.keys())?;
        Ok((!padded.is_empty()).then(|| respelled(set, &padded)))
    }
}

/// The other spelling of a key, if a bitmap of that name exists.
fn twin(key: &Key, padded: &HashSet<Key>) -> Option<Key> {
    // Keys are listed by their text alone.
    let other = key.padded()?.as_read();
    padded.contains(&other).then_some(other)
}

fn respelled_plan(plan: &Plan, padded: &HashSet<Key>) -> Plan {
    let mut other = Plan::with_capacity(plan.nodes().len());
    let mut ids: Vec<NodeId> = Vec::with_capacity(plan.nodes().len());
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
                match twin(key, padded) {
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
    for root in plan.roots() {
        other.count(ids[root.index()]);
    }
    other
}

fn respelled(set: &Set, padded: &HashSet<Key>) -> Set {
    let all = |sets: &[Set]| sets.iter().map(|set| respelled(set, padded)).collect();
    match set {
        Set::Empty => Set::Empty,
        Set::Key(key) => match twin(key, padded) {
            Some(other) => Set::Or(vec![Set::Key(key.clone()), Set::Key(other)]),
            None => Set::Key(key.clone()),
        },
        Set::And(sets) => Set::And(all(sets)),
        Set::Or(sets) => Set::Or(all(sets)),
        Set::Xor(sets) => Set::Xor(all(sets)),
        Set::AtLeast(least, sets) => Set::AtLeast(*least, all(sets)),
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
            // A new padded key: the list of those that exist is out of date.
            *self.known() = None;
        }
        if padded.is_empty() || marks.iter().all(|mark| mark.value) {
            return self.store.apply(marks);
        }
        let mut both = Vec::with_capacity(marks.len());
        for mark in marks {
            both.push(mark.clone());
            let other = twin(&mark.key, &padded).filter(|_| !mark.value);
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

    fn cost(&self, plan: &Plan) -> Result<Cost> {
        let other = self.plan(plan)?;
        self.store.cost(other.as_ref().unwrap_or(plan))
    }

    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        let other = self.set(set)?;
        self.store
            .members(other.as_ref().unwrap_or(set), after, limit)
    }

    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>> {
        self.of_both(
            keys,
            |keys| self.store.contains(keys, user),
            |plain, other| *plain |= other,
        )
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

    fn describe(&self) -> Result<StoreInfo> {
        self.store.describe()
    }
}

impl KeyListing for PaddedKeys {
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
        let plain: BTreeSet<Key> = keys.iter().map(Key::plain).collect();
        Ok(plain.into_iter().collect())
    }

    fn kept_in(&self) -> Result<Option<String>> {
        self.store.kept_in()
    }

    fn keep_in(&self, zone: &str) -> Result<String> {
        self.store.keep_in(zone)
    }

    fn forget_zone(&self) -> Result<()> {
        self.store.forget_zone()
    }

    fn lists(&self) -> Result<Vec<String>> {
        self.store.lists()
    }

    fn note_list(&self, name: &str, is_saved: bool) -> Result<()> {
        self.store.note_list(name, is_saved)
    }

    fn keys_version(&self) -> Option<u64> {
        self.store.keys_version()
    }

    fn unparsed_keys(&self) -> UnparsedKeys {
        self.store.unparsed_keys()
    }

    fn other_prefixes(&self) -> Result<OtherPrefixes> {
        self.store.other_prefixes()
    }

    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        self.of_both(
            keys,
            |keys| self.store.sizes(keys),
            |plain, other| *plain = plain.zip(other).map(|(a, b)| a + b),
        )
    }
}

impl ChangeFeed for PaddedKeys {
    fn on_change(&self, listener: Box<dyn Fn(&str) + Send + Sync>) -> bool {
        let no_prefix = Prefix::new("");
        self.store.on_change(Box::new(move |text| {
            match Key::parse(&no_prefix, text).filter(Key::is_padded) {
                Some(key) => listener(&key.plain().to_string()),
                None => listener(text),
            }
        }))
    }

    fn states(&self, keys: &[Key]) -> Result<Option<Vec<BitmapState>>> {
        let Some(both) = self.both(keys)? else {
            return self.store.states(keys);
        };
        // Versions are read before counts: a change in between is found by the next look.
        let Some(states) = self.store.states(&both)? else {
            return Ok(None);
        };
        let mut versions: Vec<u64> = Vec::with_capacity(keys.len());
        for (key, state) in both.iter().zip(states) {
            match versions.last_mut().filter(|_| key.is_padded()) {
                Some(plain) => *plain = plain.wrapping_add(state.version),
                None => versions.push(state.version.wrapping_mul(31)),
            }
        }
        let counts = self.count(&plan_of(keys))?;
        let joined = counts.into_iter().zip(versions);
        Ok(Some(
            joined
                .map(|(users, version)| BitmapState { users, version })
                .collect(),
        ))
    }
}

impl Maintenance for PaddedKeys {
    fn is_local(&self) -> bool {
        self.store.is_local()
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

    fn sweep(&self) -> Result<u64> {
        self.store.sweep()
    }
}
