//! String ids: the mapping between string ids and numbers, for each prefix. Recent assignments are
//! in memory, and older ones are in the table.
//!
//! A number is assigned under the lock on the memtables and logged before it is returned.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::sets::{Interner, Key, Prefix, SCRATCH, UserId};
use crate::store::embedded::engine::Engine;
use crate::store::embedded::id_entries::key_of;
use crate::store::embedded::id_entries::{id_key, number_key, read_number};
use crate::store::embedded::memtable::Memtables;
use crate::store::embedded::prefix_ids::{IdFilter, PrefixIds, first_bytes, sort_by_string};
use crate::store::embedded::store::EmbeddedStore;
use crate::store::embedded::table::{ID, NEXT_NUMBER, Version, entry_key};
use crate::store::embedded::table_cache::Reader;
use crate::store::embedded::wal::Change;
use crate::store::{IdMap, Result, StoreError};

/// The number of different numbers.
const NUMBERS: u64 = 1 << 32;

/// The number of string ids that get numbers under one lock. Other writers wait for the lock.
const ASSIGNED_AT_ONCE: usize = 1 << 14;

/// The smallest batch of string ids for which a filter is built.
const MIN_FILTERED: usize = 1 << 12;

/// What the memtables contain about a string id.
enum InMemory {
    Number(UserId),
    /// The string id has no number, whatever the table contains.
    NoNumber,
    /// Nothing. The table may contain a number.
    Nothing,
}

impl Memtables {
    /// Iterates over the changes of the string ids of a prefix, newest first.
    fn id_changes(&self, prefix: &str) -> impl Iterator<Item = &PrefixIds> {
        let immutable = self
            .immutable_id_maps
            .as_ref()
            .and_then(|id_maps| id_maps.get(prefix));
        [self.id_maps.get(prefix), immutable].into_iter().flatten()
    }

    /// Returns the number of the next new string id, or `None` if the prefix has no string ids.
    pub fn next_number(&self, prefix: &str, table: Option<&Version>) -> Result<Option<u64>> {
        match (self.id_changes(prefix).next(), table) {
            (Some(changes), _) => Ok((changes.next > 0).then_some(changes.next)),
            (None, Some(table)) => table.get(&entry_key(NEXT_NUMBER, prefix), read_number),
            (None, None) => Ok(None),
        }
    }

    fn number_in_memory(&self, prefix: &str, id: &str) -> InMemory {
        for changes in self.id_changes(prefix) {
            if let Some(number) = changes.number(id) {
                return InMemory::Number(number);
            }
            if changes.hides_older || changes.removed.contains(id) {
                return InMemory::NoNumber;
            }
        }
        InMemory::Nothing
    }

    /// Returns the numbers of string ids, in the order given.
    fn numbers(
        &self,
        prefix: &str,
        ids: &[&str],
        table: Option<&Version>,
    ) -> Result<Vec<Option<UserId>>> {
        let mut numbers: Vec<Option<UserId>> = vec![None; ids.len()];
        let mut in_table = Vec::new();
        let filter = self.id_filters.get(prefix);
        for (index, id) in ids.iter().enumerate() {
            match self.number_in_memory(prefix, id) {
                InMemory::Number(number) => numbers[index] = Some(number),
                InMemory::NoNumber => {}
                InMemory::Nothing if filter.is_some_and(|filter| !filter.may_have(id)) => {}
                InMemory::Nothing => {
                    let index = u32::try_from(index).expect("a batch has fewer string ids");
                    in_table.push((first_bytes(id), index));
                }
            }
        }
        if let Some(table) = table {
            // Adjacent string ids are in the same block.
            sort_by_string(&mut in_table, |index| ids[index as usize]);
            let mut lookup = table.lookup();
            for (_, index) in in_table {
                let index = index as usize;
                numbers[index] = lookup.get(&id_key(prefix, ids[index]), |contents| {
                    UserId::try_from(read_number(contents)?).ok()
                })?;
            }
        }
        Ok(numbers)
    }

    /// Returns the string id of a number.
    fn id(&self, prefix: &str, user: UserId, table: Option<&Version>) -> Result<Option<String>> {
        for changes in self.id_changes(prefix) {
            if let Some(id) = changes.id(user) {
                return Ok(Some(id.to_string()));
            }
            if changes.hides_older || changes.removed_numbers.contains(&user) {
                return Ok(None);
            }
        }
        match table {
            Some(table) => table.get(&number_key(prefix, user), |contents| {
                String::from_utf8(contents.to_vec()).ok()
            }),
            None => Ok(None),
        }
    }

    /// Assigns consecutive numbers to string ids, from `first` on, in memory. Cannot fail.
    pub fn assign_ids<'i>(
        &mut self,
        prefix: &str,
        first: u64,
        ids: impl IntoIterator<Item = &'i str>,
    ) {
        self.string_id_prefixes.insert(prefix.into());
        let mut filter = self.id_filters.get_mut(prefix);
        let ids = ids.into_iter().inspect(|id| {
            if let Some(filter) = &mut filter {
                filter.add(id);
            }
        });
        self.active_bytes += self
            .id_maps
            .entry(prefix.into())
            .or_default()
            .assign(first, ids);
    }

    /// Deletes all string ids of a prefix, in memory. Cannot fail.
    pub fn delete_ids(&mut self, prefix: &str) {
        self.string_id_prefixes.remove(prefix);
        self.id_filters.remove(prefix);
        self.id_maps.insert(
            prefix.into(),
            PrefixIds {
                hides_older: true,
                ..PrefixIds::default()
            },
        );
    }

    /// Removes string ids, given with their numbers, in memory. `next` is the next number of the
    /// prefix. Cannot fail.
    pub fn remove_ids(&mut self, prefix: &str, next: u64, ids: Vec<(String, UserId)>) {
        self.id_maps
            .entry(prefix.into())
            .or_default()
            .remove(next, ids);
    }

    /// Ensures that the number of a user is not assigned to another string id. The user is in the
    /// bitmap `key`, but the record that assigned the number may have been lost.
    pub fn reserve_number(
        &mut self,
        key: &str,
        user: UserId,
        table: Option<&Version>,
    ) -> Result<()> {
        let prefixes: Vec<Box<str>> = self
            .string_id_prefixes
            .iter()
            .filter(|prefix| key.starts_with(&***prefix))
            .cloned()
            .collect();
        for prefix in prefixes {
            let after = u64::from(user) + 1;
            if self
                .next_number(&prefix, table)?
                .is_some_and(|next| next < after)
            {
                self.id_maps.entry(prefix).or_default().next = after;
            }
        }
        Ok(())
    }
}

impl Reader<'_> {
    /// Calls [`Memtables::reserve_number`] for each key and user.
    pub fn reserve_numbers<'k>(
        &self,
        memtables: &mut Memtables,
        users: impl IntoIterator<Item = (&'k String, UserId)>,
    ) -> Result<()> {
        users
            .into_iter()
            .try_for_each(|(key, user)| memtables.reserve_number(key, user, Some(self.version())))
    }
}

impl Engine {
    /// Returns the current version of the table, or `None` for a store in memory.
    pub(super) fn table(&self) -> Option<Arc<Version>> {
        self.disk
            .as_ref()
            .map(|disk| disk.table_cache.table().version())
    }

    fn refused(&self, reason: String) -> StoreError {
        let location = match &self.disk {
            Some(disk) => disk.directory.display().to_string(),
            None => "memory:".to_owned(),
        };
        StoreError::Refused { location, reason }
    }

    /// Locks the prefixes whose users are known to have numeric ids. The caller must not acquire
    /// the lock on the memtables while it holds this one.
    fn numeric_prefixes(&self) -> MutexGuard<'_, BTreeSet<Box<str>>> {
        self.numeric_prefixes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses writes of numeric ids to a bitmap whose users have string ids. The number could
    /// later be assigned to the string id of another user. Temporary keys are not refused, because
    /// they belong to no event.
    pub(super) fn refuse_numeric_ids(&self, memtables: &Memtables, key: &str) -> Result<()> {
        let rest = memtables
            .string_id_prefixes
            .iter()
            .find_map(|prefix| key.strip_prefix(&**prefix));
        if rest.is_none_or(|rest| rest.starts_with(SCRATCH)) {
            return Ok(());
        }
        Err(self.refused(format!(
            "`{key}` belongs to a store with string ids, so a numeric id could refer to the wrong user. Mark over HTTP, with `cohortist mark` or with `import`"
        )))
    }
}

impl EmbeddedStore {
    /// Looks something up in the current string ids. Returns `None` if users have numeric ids.
    fn find_ids<T>(
        &self,
        find: impl FnOnce(&Memtables, Option<&Version>) -> Result<T>,
    ) -> Result<Option<T>> {
        let memtables = self.engine.read();
        let table = self.engine.table();
        match memtables.next_number(self.prefix.as_str(), table.as_deref())? {
            None => Ok(None),
            Some(_) => find(&memtables, table.as_deref()).map(Some),
        }
    }
}

impl IdMap for EmbeddedStore {
    fn next(&self) -> Result<Option<u64>> {
        let memtables = self.engine.read();
        memtables.next_number(self.prefix.as_str(), self.engine.table().as_deref())
    }

    fn numbers(&self, texts: &[&str]) -> Result<Option<Vec<Option<UserId>>>> {
        self.find_ids(|memtables, table| memtables.numbers(self.prefix.as_str(), texts, table))
    }

    fn settle_numbers(&self) -> Result<bool> {
        let prefix = self.prefix.as_str();
        if self.engine.numeric_prefixes().contains(prefix) {
            return Ok(true);
        }
        // The first string id is assigned under the same lock.
        let memtables = self.engine.lock();
        let is_free = !memtables.string_id_prefixes.contains(prefix);
        if is_free {
            self.engine.numeric_prefixes().insert(prefix.into());
        }
        Ok(is_free)
    }

    fn begin(&self) -> Result<bool> {
        let prefix = self.prefix.as_str();
        let memtables = self.engine.lock();
        Ok(memtables.string_id_prefixes.contains(prefix)
            || self.engine.may_have_string_ids(&memtables, prefix)?)
    }

    fn withdraw(&self) -> Result<()> {
        // `begin` records nothing.
        Ok(())
    }

    fn assign(&self, texts: &[&str]) -> Result<Vec<UserId>> {
        let prefix = self.prefix.as_str();
        if texts.len() >= MIN_FILTERED {
            self.engine.build_id_filter(prefix)?;
        }
        // Most string ids have a number already. Looking them up blocks no writer.
        let table = self.engine.table();
        let known = self
            .numbers(texts)?
            .unwrap_or_else(|| vec![None; texts.len()]);
        let unknown: Vec<&str> = texts
            .iter()
            .zip(&known)
            .filter(|(_, number)| number.is_none())
            .map(|(id, _)| *id)
            .collect();
        let mut assigned = Vec::with_capacity(unknown.len());
        for few in unknown.chunks(ASSIGNED_AT_ONCE) {
            assigned.extend(self.engine.assign_ids(prefix, few, table.as_ref())?);
        }
        let mut assigned = assigned.into_iter();
        let mut next_assigned = || {
            assigned
                .next()
                .expect("each unknown string id got a number")
        };
        Ok(known
            .into_iter()
            .map(|number| number.unwrap_or_else(&mut next_assigned))
            .collect())
    }

    fn texts(&self, users: &[UserId]) -> Result<Option<Vec<Option<String>>>> {
        self.find_ids(|memtables, table| {
            users
                .iter()
                .map(|user| memtables.id(self.prefix.as_str(), *user, table))
                .collect()
        })
    }

    fn remove(&self, texts: &[&str]) -> Result<()> {
        let prefix = self.prefix.as_str();
        let mut memtables = self.engine.lock_with_room()?;
        let table = self.engine.table();
        let Some(next) = memtables.next_number(prefix, table.as_deref())? else {
            return Ok(());
        };
        let numbers = memtables.numbers(prefix, texts, table.as_deref())?;
        let known = texts.iter().zip(numbers);
        let ids: Vec<(String, UserId)> = known
            .filter_map(|(text, number)| Some(((*text).to_owned(), number?)))
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let change = Change::RemoveIds {
            prefix: prefix.to_owned(),
            ids: ids.clone(),
        };
        self.engine.append(&mut memtables, change)?;
        memtables.remove_ids(prefix, next, ids);
        self.engine.after_append(memtables)
    }

    fn clear(&self) -> Result<u64> {
        let prefix = self.prefix.as_str();
        let Some(assigned) = self.next()? else {
            self.engine.numeric_prefixes().remove(prefix);
            return Ok(0);
        };
        let mut memtables = self.engine.lock_with_room()?;
        let change = Change::DeleteIds {
            prefix: prefix.to_owned(),
        };
        self.engine.append(&mut memtables, change)?;
        memtables.delete_ids(prefix);
        self.engine.numeric_prefixes().remove(prefix);
        self.engine.after_append(memtables)?;
        Ok(assigned)
    }
}

impl Engine {
    /// Returns whether a prefix without string ids may get some: not if its users have numeric ids.
    fn may_have_string_ids(&self, memtables: &Memtables, prefix: &str) -> Result<bool> {
        if self.numeric_prefixes().contains(prefix) {
            return Ok(false);
        }
        let reader = self.reader();
        let parsed = Prefix::new(prefix);
        let mut has_no_bitmap = true;
        memtables.visit_keys(prefix, reader.as_ref(), |key| {
            has_no_bitmap = Key::parse(&parsed, key).is_none();
            has_no_bitmap
        })?;
        Ok(has_no_bitmap)
    }

    /// Builds the filter of the string ids that have numbers. Gives up if the table changes twice
    /// in the meantime: the filter only saves time.
    fn build_id_filter(&self, prefix: &str) -> Result<()> {
        for _ in 0..2 {
            let Some(table) = self
                .table()
                .filter(|_| !self.read().id_filters.contains_key(prefix))
            else {
                break;
            };
            let mut filter = IdFilter::default();
            table.visit(&key_of(ID, prefix, &[]), |id, _| {
                // A string id that is not UTF-8 is never looked up.
                if let Ok(id) = std::str::from_utf8(id) {
                    filter.add(id);
                }
                Ok(true)
            })?;
            let mut memtables = self.lock();
            // A checkpoint in the meantime would have moved string ids from the memtables to a new
            // version of the table.
            if self.table().is_some_and(|now| Arc::ptr_eq(&now, &table)) {
                memtables
                    .id_changes(prefix)
                    .flat_map(|changes| changes.ids.iter())
                    .for_each(|id| filter.add(id));
                memtables.id_filters.insert(prefix.into(), filter);
            }
        }
        Ok(())
    }

    /// Returns the numbers of string ids, and assigns new ones where necessary. The caller has
    /// found no numbers for them in `table`.
    fn assign_ids(
        &self,
        prefix: &str,
        ids: &[&str],
        table: Option<&Arc<Version>>,
    ) -> Result<Vec<UserId>> {
        let mut memtables = self.lock_with_room()?;
        if !memtables.string_id_prefixes.contains(prefix)
            && !self.may_have_string_ids(&memtables, prefix)?
        {
            return Err(self.refused(
                "its users are numbers already, and string ids cannot be mixed with them"
                    .to_owned(),
            ));
        }
        let current = self.table();
        let is_same = match (&current, table) {
            (Some(current), Some(table)) => Arc::ptr_eq(current, table),
            _ => false,
        };
        let first = memtables
            .next_number(prefix, current.as_deref())?
            .unwrap_or(0);
        // The table need not be searched again unless it has changed.
        let found = memtables.numbers(prefix, ids, current.as_deref().filter(|_| !is_same))?;
        let mut new = Interner::default();
        let numbers: Vec<u64> = ids
            .iter()
            .zip(found)
            .map(|(id, found)| found.map_or_else(|| first + u64::from(new.insert(id)), u64::from))
            .collect();
        if first + new.len() as u64 > NUMBERS {
            return Err(self.refused("it has no numbers left for string ids".to_owned()));
        }
        if !new.is_empty() {
            let change = Change::AssignIds {
                prefix: prefix.to_owned(),
                first,
                ids: new.iter().map(str::to_owned).collect(),
            };
            self.append(&mut memtables, change)?;
            memtables.assign_ids(prefix, first, new.iter());
            // If the assignment may be lost, the caller must not mark with these numbers. Therefore
            // a failed sync counts as a failed write here.
            self.after_append(memtables).map_err(|error| match error {
                StoreError::Unsynced {
                    path,
                    reason,
                    source,
                } => StoreError::Write {
                    path,
                    reason,
                    source,
                },
                error => error,
            })?;
        }
        Ok(numbers
            .into_iter()
            .map(|number| UserId::try_from(number).expect("checked above"))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::{Options, Store};

    #[test]
    fn the_filter_never_rules_out_a_string_id_with_a_number() {
        let mut filter = IdFilter::default();
        // More than the capacity of the first filter.
        let count = IdFilter::FIRST + 1000;
        (0..count).for_each(|n| filter.add(&format!("{n}@example.com")));
        assert_eq!(filter.filters.len(), 2);
        assert!((0..count).all(|n| filter.may_have(&format!("{n}@example.com"))));
        let false_positives = (0..100_000)
            .filter(|n| filter.may_have(&format!("{n}@example.org")))
            .count();
        assert!(false_positives < 100, "{false_positives}");
    }

    /// Large and small batches, known and new string ids, before and after checkpoints, deleted and
    /// assigned again.
    #[test]
    fn string_ids_keep_their_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::default();
        let mut store = EmbeddedStore::open(directory.path(), &options).unwrap();
        let mut model: BTreeMap<String, UserId> = BTreeMap::new();
        let assign = |store: &EmbeddedStore,
                      model: &mut BTreeMap<String, UserId>,
                      numbers: std::ops::Range<usize>| {
            let ids: Vec<String> = numbers
                .map(|n| format!("user-{}", n * 7919 % 100_003))
                .collect();
            let assigned = store
                .string_ids()
                .assign(&ids.iter().map(String::as_str).collect::<Vec<_>>())
                .unwrap();
            for (id, number) in ids.into_iter().zip(assigned) {
                let next = UserId::try_from(model.len()).unwrap();
                assert_eq!(*model.entry(id).or_insert(next), number);
            }
        };
        for round in 0..3 {
            assign(&store, &mut model, 0..10);
            assign(&store, &mut model, 5..MIN_FILTERED + 10);
            store.checkpoint().unwrap();
            assign(&store, &mut model, 0..20);
            assign(&store, &mut model, 100..2 * MIN_FILTERED);
            assign(&store, &mut model, 2 * MIN_FILTERED..2 * MIN_FILTERED + 3);
            store.checkpoint().unwrap();
            assign(&store, &mut model, 0..3 * MIN_FILTERED);
            assert!(
                store
                    .engine
                    .read()
                    .id_filters
                    .contains_key(store.prefix.as_str())
            );
            if round == 1 {
                assert_eq!(store.string_ids().clear().unwrap(), model.len() as u64);
                model.clear();
            }
            drop(store);
            store = EmbeddedStore::open(directory.path(), &options).unwrap();
        }
    }
}
