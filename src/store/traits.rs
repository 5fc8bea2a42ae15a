//! The traits that a store implements, and the values they exchange.
//!
//! [`Store`] reads and writes bitmaps. Its supertraits list keys ([`KeyListing`]), report changes
//! ([`ChangeFeed`]) and look after durability and health ([`Maintenance`]); all their methods except
//! [`KeyListing::keys`] have defaults. [`IdMap`] translates string ids into numbers.

use std::fmt;

use crate::sets::{Counts, Key, Plan, Prefix, Set, UserId, WrongCount};
use crate::store::cost::{Cost, UNKNOWN_TILES};
use crate::store::{Health, OtherPrefixes, Progress, Result, StoreError, UnparsedKeys};

/// One bit to set or clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The bitmap.
    pub key: Key,
    /// The bit.
    pub user: UserId,
    /// `true` sets the bit, `false` clears it.
    pub value: bool,
}

/// Bitmaps of users. Each method is one batch, and the implementation decides how many round trips
/// it takes. A store answers a whole [`Plan`] at once and knows nothing about reports.
///
/// ```
/// use std::collections::{BTreeMap, BTreeSet};
/// use std::sync::{Arc, Mutex};
/// use cohortist::calendar::parse_moment;
/// use cohortist::sets::{EventName, Key, Node, NodeId, Plan, Prefix, Set, UserId};
/// use cohortist::store::*;
/// use cohortist::Tracker;
///
/// /// A store in memory, without caches, expiry or string ids.
/// #[derive(Default)]
/// struct Sets(Mutex<BTreeMap<Key, BTreeSet<UserId>>>);
///
/// impl Sets {
///     /// The members of every node of a plan.
///     fn nodes(&self, plan: &Plan) -> Vec<BTreeSet<UserId>> {
///         let bitmaps = self.0.lock().unwrap();
///         let mut sets: Vec<BTreeSet<UserId>> = Vec::new();
///         for node in plan.nodes() {
///             let of = |id: &NodeId| &sets[id.index()];
///             let join = |ids: &[NodeId], join: fn(&BTreeSet<UserId>, &BTreeSet<UserId>) -> BTreeSet<UserId>| {
///                 ids[1..].iter().fold(of(&ids[0]).clone(), |all, id| join(&all, of(id)))
///             };
///             let set = match node {
///                 Node::Key(key) => bitmaps.get(key).cloned().unwrap_or_default(),
///                 Node::And(ids) => join(ids, |a, b| a & b),
///                 Node::Or(ids) => join(ids, |a, b| a | b),
///                 Node::Xor(ids) => join(ids, |a, b| a ^ b),
///                 Node::Diff(ids) => join(ids, |a, b| a - b),
///                 Node::Empty | Node::Not(_) => BTreeSet::new(),
///             };
///             sets.push(set);
///         }
///         sets
///     }
/// }
///
/// impl Store for Sets {
///     fn apply(&self, marks: &[Mark]) -> Result<()> {
///         let mut bitmaps = self.0.lock().unwrap();
///         for mark in marks {
///             let users = bitmaps.entry(mark.key.clone()).or_default();
///             if mark.value { users.insert(mark.user) } else { users.remove(&mark.user) };
///         }
///         Ok(())
///     }
///     fn count(&self, plan: &Plan) -> Result<Vec<u64>> {
///         let nodes = self.nodes(plan);
///         Ok(plan.roots().iter().map(|root| nodes[root.index()].len() as u64).collect())
///     }
///     fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
///         let mut plan = Plan::new();
///         let root = plan.add(set)?;
///         let users = &self.nodes(&plan)[root.index()];
///         Ok(users.iter().copied().filter(|user| Some(*user) > after).take(limit).collect())
///     }
///     fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>> {
///         let bitmaps = self.0.lock().unwrap();
///         Ok(keys.iter().map(|key| bitmaps.get(key).is_some_and(|users| users.contains(&user))).collect())
///     }
///     fn delete(&self, keys: &[Key]) -> Result<u64> {
///         let mut bitmaps = self.0.lock().unwrap();
///         Ok(keys.iter().filter(|key| bitmaps.remove(key).is_some()).count() as u64)
///     }
///     fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
///         let users: BTreeSet<UserId> = self.members(set, None, usize::MAX)?.into_iter().collect();
///         let mut bitmaps = self.0.lock().unwrap();
///         if users.is_empty() { return Ok(Saved::Nobody) }
///         if bitmaps.contains_key(key) { return Ok(Saved::Taken) }
///         let saved = Saved::People(users.len() as u64);
///         bitmaps.insert(key.clone(), users);
///         Ok(saved)
///     }
///     fn describe(&self) -> Result<StoreInfo> {
///         Ok(StoreInfo {
///             kind: "Sets".to_owned(),
///             location: "memory".to_owned(),
///             prefix: Prefix::default(),
///             created: true,
///             notes: Vec::new(),
///             string_ids: false,
///             refusal: None,
///         })
///     }
/// }
/// impl KeyListing for Sets {
///     fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
///         let bitmaps = self.0.lock().unwrap();
///         Ok(bitmaps.keys().filter(|key| key.event().as_str().starts_with(starting_with)).cloned().collect())
///     }
/// }
/// impl ChangeFeed for Sets {}
/// impl Maintenance for Sets {}
///
/// let tracker = Tracker::new(Arc::new(Sets::default()));
/// let active = EventName::new("active")?;
/// tracker.mark(&active, 7, parse_moment("2026-11-23")?)?;
/// assert_eq!(tracker.count(&Set::event_in(&active, "2026".parse()?))?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Store: KeyListing + ChangeFeed + Maintenance + Send + Sync {
    /// Sets and clears bits, in order, all of them or none. When it returns `Ok` they are as
    /// durable as the store promises. Clearing a bit of a missing bitmap creates the bitmap, as
    /// Redis' SETBIT does.
    ///
    /// # Errors
    /// If nothing was written. After [`StoreError::Unsynced`] the marks were written and a power
    /// cut may lose them.
    fn apply(&self, marks: &[Mark]) -> Result<()>;

    /// Adds users to bitmaps, all of them or none, as durably as [`apply`](Self::apply). Fastest if
    /// each bitmap is listed once, with its users ascending and without duplicates.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply).
    fn add(&self, runs: &[(&Key, &[UserId])]) -> Result<()> {
        self.apply(&marks(runs))
    }

    /// Returns one count for each root of the plan, in order. A missing key is the empty set.
    ///
    /// # Errors
    /// If any root could not be counted: there are no partial answers. Stores that cannot evaluate
    /// [`Node::Not`](crate::sets::Node::Not), such as a cluster, return
    /// [`StoreError::Unsupported`].
    fn count(&self, plan: &Plan) -> Result<Vec<u64>>;

    /// Estimates what it would cost to count a plan, for a small part of that cost. Stores check
    /// the estimate themselves before they start on a question, see [`cost`](crate::store::cost).
    ///
    /// # Errors
    /// If the store could not be asked.
    fn cost(&self, plan: &Plan) -> Result<Cost> {
        Ok(Cost::of(plan, |_| UNKNOWN_TILES))
    }

    /// Returns the members greater than `after` in ascending order, at most `limit`.
    ///
    /// # Errors
    /// If the set could not be read. As with [`count`](Self::count), some stores refuse
    /// complements.
    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>>;

    /// Returns for each key whether `user` is in its bitmap.
    ///
    /// # Errors
    /// If a bitmap could not be read.
    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>>;

    /// Deletes bitmaps; returns how many of them existed.
    ///
    /// # Errors
    /// If some may not have been deleted.
    fn delete(&self, keys: &[Key]) -> Result<u64>;

    /// Creates the bitmap `key` with exactly the members of `set`, completely or not at all. An
    /// existing bitmap is never overwritten, even if others save or mark at the same time. The
    /// length of the new bitmap beyond its greatest member is unspecified; only a complement could
    /// tell the difference.
    ///
    /// # Errors
    /// If it was not saved. If the answer of a server was lost, the bitmap may have been saved, and
    /// then it is complete. After [`StoreError::Unsynced`] it was saved and a power cut may lose it.
    fn save(&self, set: &Set, key: &Key) -> Result<Saved>;

    /// The string ids of the store's users. The default is that of a store with numeric ids only.
    fn string_ids(&self) -> &dyn IdMap {
        &NumericIds
    }

    /// Describes the store, and shows that it answers.
    ///
    /// # Errors
    /// If the store does not answer.
    fn describe(&self) -> Result<StoreInfo>;
}

impl dyn Store + '_ {
    /// Counts a plan, and checks that the store returned one count for each root.
    ///
    /// # Errors
    /// Those of [`Store::count`], or [`StoreError::WrongCount`].
    pub fn counts(&self, plan: &Plan) -> Result<Counts> {
        Ok(Counts::new(plan, self.count(plan)?)?)
    }

    /// Returns the state of each bitmap. A store without [`ChangeFeed::states`] is asked for counts
    /// instead, all with version 0.
    ///
    /// # Errors
    /// Those of [`Store::count`], or [`StoreError::WrongCount`].
    pub fn look(&self, keys: &[Key]) -> Result<Vec<BitmapState>> {
        let Some(states) = self.states(keys)? else {
            let counts = self.counts(&plan_of(keys))?;
            let states = counts.as_slice().iter().map(|users| BitmapState {
                users: *users,
                version: 0,
            });
            return Ok(states.collect());
        };
        if states.len() == keys.len() {
            Ok(states)
        } else {
            Err(StoreError::WrongCount(WrongCount {
                expected: keys.len(),
                returned: states.len(),
            }))
        }
    }
}

impl fmt::Debug for dyn Store + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// Lists the keys of a store.
pub trait KeyListing {
    /// Lists the keys of all events whose name begins with `starting_with`, in no particular order,
    /// without temporary keys and keys that do not belong to events.
    ///
    /// # Errors
    /// If the list would be incomplete.
    fn keys(&self, starting_with: &str) -> Result<Vec<Key>>;

    /// The name of the zone by whose clocks the store's periods are kept, if one is remembered.
    /// `None` means UTC.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn kept_in(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Remembers the zone in which the store is kept, unless one is remembered already; returns the
    /// one that is. The caller makes sure that no periods of another zone are marked.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn keep_in(&self, zone: &str) -> Result<String> {
        let _ = zone;
        Err(StoreError::Unsupported("periods of a time zone"))
    }

    /// Forgets that zone. This is only for stores without bitmaps.
    ///
    /// # Errors
    /// If it may still be remembered.
    fn forget_zone(&self) -> Result<()> {
        Ok(())
    }

    /// The names of the undated bitmaps that are remembered as saved lists of people, sorted. Some may
    /// have been deleted since.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn lists(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Remembers that an undated bitmap is a saved list of people, or no longer. A store that cannot
    /// remember it has no such lists.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn note_list(&self, name: &str, is_saved: bool) -> Result<()> {
        let _ = (name, is_saved);
        Ok(())
    }

    /// A number that changes after keys were created or deleted, so that a cached list can be
    /// validated. `None` if the store can only tell by listing its keys again.
    fn keys_version(&self) -> Option<u64> {
        None
    }

    /// The keys under the prefix that do not belong to an event, as found by the last listing of
    /// all [`keys`](Self::keys). The default is that there are none.
    fn unparsed_keys(&self) -> UnparsedKeys {
        UnparsedKeys::default()
    }

    /// Other prefixes that hold events, found by looking at a bounded number of keys: a hint for
    /// when this prefix is empty. The default is that there are none.
    ///
    /// # Errors
    /// If the keys could not be read.
    fn other_prefixes(&self) -> Result<OtherPrefixes> {
        Ok(OtherPrefixes::default())
    }

    /// Estimates for each key how many bytes its bitmap takes in the store; `None` if unknown.
    ///
    /// # Errors
    /// If the bitmaps could not be read.
    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        Ok(vec![None; keys.len()])
    }
}

/// Tells a cache which bitmaps have changed. A store that keeps both defaults is asked for counts.
pub trait ChangeFeed {
    /// Calls `listener` for each bitmap that any client changes, with the text of its key without
    /// the prefix. Returns whether the store does this; a store that cannot know about all
    /// changes drops `listener` and returns `false`.
    ///
    /// The call and the change are atomic for readers: no reader sees one without the other, and
    /// each call of [`Store::count`] and [`states`](Self::states) reads one moment. `listener` must
    /// not call the store.
    fn on_change(&self, listener: Box<dyn Fn(&str) + Send + Sync>) -> bool {
        drop(listener);
        false
    }

    /// Returns the current state of each bitmap, in order, without counting unchanged bitmaps
    /// again. `None` if the store cannot do that.
    ///
    /// # Errors
    /// If the bitmaps could not be read.
    fn states(&self, keys: &[Key]) -> Result<Option<Vec<BitmapState>>> {
        let _ = keys;
        Ok(None)
    }
}

/// Durability and health. The defaults are those of a store that runs on another server, about
/// which this process knows nothing.
pub trait Maintenance {
    /// Whether this process holds the bitmaps itself, so that a question takes its own processor
    /// time and a failure to write is its own fault.
    fn is_local(&self) -> bool {
        false
    }

    /// How much of what was written survives a power cut. A batch that was acknowledged counts as
    /// written.
    fn progress(&self) -> Progress {
        Progress::default()
    }

    /// Makes everything acknowledged so far survive a power cut, as far as this process can.
    ///
    /// # Errors
    /// If the disk could not be synced.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Whether the store can be written, and the state of its files.
    fn health(&self) -> Health {
        Health::default()
    }

    /// Deletes temporary keys that an interrupted request may have left; returns how many existed.
    ///
    /// # Errors
    /// If some may not have been deleted.
    fn sweep(&self) -> Result<u64> {
        Ok(0)
    }
}

/// The string ids under the prefix of a store. Each has a number, assigned from 0 on in order of
/// first appearance and never reused. A store with numeric ids has none.
///
/// The implementation does not validate texts; [`parse_string_id`](crate::sets::parse_string_id) does.
pub trait IdMap: Send + Sync {
    /// The number that the next new text gets; `None` if there never was a text.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn next(&self) -> Result<Option<u64>>;

    /// Returns for each text its number, or `None` if it has none. `None` for all if there never
    /// was a text.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn numbers(&self, texts: &[&str]) -> Result<Option<Vec<Option<UserId>>>>;

    /// Reserves the store for numeric ids: while this process marks, no text can be the first.
    /// Returns `false` if there are texts already. This and [`begin`](Self::begin) are atomic, so
    /// that of two programs that start to fill a store one is refused.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn settle_numbers(&self) -> Result<bool>;

    /// Reserves the store for string ids, before the first text gets a number. Returns `false` if
    /// it is reserved for numeric ids. If other programs may mark numbers in the store, the caller
    /// must list its bitmaps afterwards.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn begin(&self) -> Result<bool>;

    /// Reverts [`begin`](Self::begin) if no text has a number yet.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn withdraw(&self) -> Result<()>;

    /// Returns the number of each text, assigning new ones. When it returns they are as durable as
    /// marks, and concurrent callers get the same number for the same text.
    ///
    /// # Errors
    /// If some texts have no number. Others may have got one, which does no harm.
    fn assign(&self, texts: &[&str]) -> Result<Vec<UserId>>;

    /// Returns the text of each number; `None` for a number that was never assigned. `None` for all
    /// if there never was a text.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn texts(&self, users: &[UserId]) -> Result<Option<Vec<Option<String>>>>;

    /// Deletes texts; those without a number are ignored. Their numbers are never assigned again,
    /// and a deleted text gets a new number when it is assigned again.
    ///
    /// # Errors
    /// If some of the texts may still exist.
    fn remove(&self, texts: &[&str]) -> Result<()>;

    /// Deletes all texts; returns how many numbers had been assigned. New texts get the same
    /// numbers again, so this is only for stores without bitmaps.
    ///
    /// # Errors
    /// If some texts may still exist.
    fn clear(&self) -> Result<u64>;
}

/// The [`IdMap`] of a store that has numeric ids only.
#[derive(Debug, Clone, Copy, Default)]
pub struct NumericIds;

impl IdMap for NumericIds {
    fn next(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn numbers(&self, _: &[&str]) -> Result<Option<Vec<Option<UserId>>>> {
        Ok(None)
    }

    fn settle_numbers(&self) -> Result<bool> {
        Ok(true)
    }

    fn begin(&self) -> Result<bool> {
        Ok(false)
    }

    fn withdraw(&self) -> Result<()> {
        Ok(())
    }

    fn assign(&self, _: &[&str]) -> Result<Vec<UserId>> {
        Err(StoreError::Unsupported("string ids"))
    }

    fn texts(&self, _: &[UserId]) -> Result<Option<Vec<Option<String>>>> {
        Ok(None)
    }

    fn remove(&self, _: &[&str]) -> Result<()> {
        Ok(())
    }

    fn clear(&self) -> Result<u64> {
        Ok(0)
    }
}

/// The state of a bitmap when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BitmapState {
    /// How many users it has.
    pub users: u64,
    /// Changes with every change that the store knows of, even if the bitmap has as many users as
    /// before. 0 if the store does not know of changes.
    pub version: u64,
}

/// The result of [`Store::save`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "nothing may have been saved"]
pub enum Saved {
    /// The bitmap was created with this many users, at least one.
    People(u64),
    /// The set is empty and nothing was created: an empty event would appear in every list, occupy
    /// its name, and answer every question with 0.
    Nobody,
    /// The name is in use. The existing bitmap was not changed.
    Taken,
}

/// A store's description of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// Its kind, for display: `Redis 7.0.15`, `embedded`.
    pub kind: String,
    /// Where it is, without any password. Paths are absolute.
    pub location: String,
    /// The prefix of its keys.
    pub prefix: Prefix,
    /// Whether it was created when this process opened it.
    pub created: bool,
    /// What its operator should know, for example that the end of a log was dropped at start.
    pub notes: Vec<String>,
    /// Whether it has string ids.
    pub string_ids: bool,
    /// Why it refuses writes at present; `None` if it accepts them.
    pub refusal: Option<String>,
}

/// The plan that counts bitmaps, each as it is.
pub(crate) fn plan_of<'k>(keys: impl IntoIterator<Item = &'k Key>) -> Plan {
    let mut plan = Plan::new();
    for key in keys {
        plan.count_key(key);
    }
    plan
}

/// The marks that set the bits of these runs.
pub(crate) fn marks(runs: &[(&Key, &[UserId])]) -> Vec<Mark> {
    let marks = runs.iter().flat_map(|(key, users)| {
        users.iter().map(|user| Mark {
            key: (*key).clone(),
            user: *user,
            value: true,
        })
    });
    marks.collect()
}
