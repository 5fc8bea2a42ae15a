//! Operations on whole bitmaps, computed before the store is locked for a change.
//!
//! BITOP over hundreds of bitmaps takes a few hundred milliseconds, and while the memtables are
//! locked nothing can be marked or read. So a change is first rehearsed on a snapshot, which keeps
//! the result of each operation with the overlays it was computed from. The change itself then
//! computes only the tiles again that were changed in the meantime: overlays and tiles that are
//! shared with the snapshot are the same.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::bitmap::{self, Combined, Operation};
use crate::store::Result;
use crate::store::embedded::memtable::{Leaves, Memtables};
use crate::store::embedded::overlay::{Memtable, Older, Overlay, TileChange};
use crate::store::embedded::table_cache::Reader;

/// The results of a rehearsal, in the order in which they are needed.
#[derive(Default)]
pub struct Precomputed {
    pub(super) older: OlderVersions,
    pub(super) combinations: VecDeque<Combination>,
    /// Whether this is the rehearsal.
    pub(super) recording: bool,
}

/// The older versions that the active changes of a snapshot apply to. A snapshot shares them with
/// the store until a checkpoint moves changes into them.
#[derive(Default)]
pub(super) struct OlderVersions {
    pub(super) immutable: Option<Arc<Memtable>>,
    pub(super) epoch: Option<u64>,
}

/// An operation, the changes of its sources at that moment, and its result.
pub(super) struct Combination {
    pub(super) operation: Operation,
    pub(super) sources: Vec<(String, Option<Arc<Overlay>>)>,
    pub(super) result: Combined,
}

impl Precomputed {
    /// The memory of the results, in bytes.
    pub(super) fn memory(&self) -> usize {
        let tiles = self.combinations.iter().flat_map(|known| &known.result.1);
        tiles.map(|(_, tile)| tile.memory()).sum()
    }

    /// Returns what the operation on `sources` comes to.
    pub(super) fn combine(
        &mut self,
        operation: Operation,
        sources: &[String],
        memtables: &Memtables,
        reader: Option<&Reader<'_>>,
    ) -> Result<Combined> {
        if self.recording {
            let result = memtables.combine(operation, sources, reader)?;
            let overlay = |text: &String| (text.clone(), memtables.active.get(&**text).cloned());
            self.combinations.push_back(Combination {
                operation,
                sources: sources.iter().map(overlay).collect(),
                result: result.clone(),
            });
            return Ok(result);
        }
        match self.combinations.pop_front() {
            Some(known)
                if known.is_of(operation, sources) && self.older.is_of(memtables, reader) =>
            {
                known.now(memtables, reader)
            }
            _ => memtables.combine(operation, sources, reader),
        }
    }
}

impl OlderVersions {
    pub(super) fn of(memtables: &Memtables, reader: Option<&Reader<'_>>) -> Self {
        OlderVersions {
            immutable: memtables.immutable.clone(),
            epoch: reader.map(Reader::epoch),
        }
    }

    /// Returns whether the changes of these memtables apply to the same older versions.
    pub(super) fn is_of(&self, memtables: &Memtables, reader: Option<&Reader<'_>>) -> bool {
        let same_immutable = match (&self.immutable, &memtables.immutable) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (own, other) => own.is_none() && other.is_none(),
        };
        same_immutable && self.epoch == reader.map(Reader::epoch)
    }
}

impl Combination {
    pub(super) fn is_of(&self, operation: Operation, sources: &[String]) -> bool {
        let own = self.sources.iter().map(|(text, _)| text);
        self.operation == operation && own.eq(sources)
    }

    /// Returns the current result. The memtables must have the same older versions.
    pub(super) fn now(
        self,
        memtables: &Memtables,
        reader: Option<&Reader<'_>>,
    ) -> Result<Combined> {
        let keys = self.sources.iter().map(|(key, _)| Some(key.as_str()));
        let leaves = Leaves::of(keys, memtables, reader)?;
        let count = self.sources.len();
        let mut changed = BTreeSet::new();
        for (text, then) in &self.sources {
            let now = memtables.active.get(&**text);
            if !differ(then.as_deref(), now.map(|now| &**now), &mut changed) {
                return bitmap::combine(self.operation, count, &leaves);
            }
        }
        let (len, mut tiles) = self.result;
        let new_len = bitmap::combined_len(count, &leaves);
        if self.operation == Operation::Not && new_len != len {
            return bitmap::combine(self.operation, count, &leaves);
        }
        tiles.retain(|(number, _)| !changed.contains(number));
        tiles.extend(bitmap::combine_tiles(
            self.operation,
            count,
            &leaves,
            changed.into_iter().collect(),
        )?);
        tiles.sort_unstable_by_key(|(number, _)| *number);
        Ok((new_len, tiles))
    }
}

/// Adds the tiles in which two states of a key differ. Returns `false` if the overlays alone do not
/// show them.
pub(super) fn differ(
    then: Option<&Overlay>,
    now: Option<&Overlay>,
    changed: &mut BTreeSet<u16>,
) -> bool {
    if then.map(std::ptr::from_ref) == now.map(std::ptr::from_ref) {
        return true;
    }
    let unchanged = Overlay::default();
    let (then, now) = (then.unwrap_or(&unchanged), now.unwrap_or(&unchanged));
    let hides = |overlay: &Overlay| overlay.older == Older::Hidden;
    if hides(then) != hides(now) {
        return false;
    }
    for (one, other) in [(then, now), (now, then)] {
        let none = TileChange::default();
        let differing = one
            .tiles
            .iter()
            .filter(|(number, change)| !change.is_same(other.tiles.get(*number).unwrap_or(&none)));
        changed.extend(differing.map(|(number, _)| number));
        changed.extend(one.unresolved.iter().map(|(number, _)| number));
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use proptest::prelude::*;

    use super::*;
    use crate::store::Options;
    use crate::store::embedded::{EmbeddedStore, Keyspace, WriteTxn};

    const KEYS: [&str; 5] = ["a", "b", "c", "t", "u"];
    const USERS: [u32; 6] = [0, 7, 65_536, 65_600, 200_000, 4_600_000];

    #[derive(Debug, Clone)]
    enum Step {
        Bit(usize, usize, bool),
        Delete(usize),
        Combine(Operation, usize, Vec<usize>),
        Rename(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = || 0..KEYS.len();
        let operation = prop::sample::select(Operation::ALL.to_vec());
        let sources = prop::collection::vec(key(), 2..5);
        prop_oneof![
            6 => (key(), 0..USERS.len(), any::<bool>()).prop_map(|(key, user, value)| Step::Bit(key, user, value)),
            1 => key().prop_map(Step::Delete),
            4 => (operation, key(), sources).prop_map(|(operation, target, mut sources)| {
                if operation == Operation::Not {
                    sources.truncate(1);
                }
                Step::Combine(operation, target, sources)
            }),
            1 => (key(), key()).prop_map(|(from, to)| Step::Rename(from, to)),
        ]
    }

    fn carry_out(steps: &[Step], space: &mut WriteTxn<'_>) {
        let name = |key: &usize| KEYS[*key].to_owned();
        for step in steps {
            match step {
                Step::Bit(key, user, value) => {
                    let bit = (u32::from(*value), USERS[*user]);
                    space.set_bits(vec![name(key)], vec![bit]).map(drop)
                }
                Step::Delete(key) => space.delete(&[name(key)]).map(drop),
                Step::Combine(operation, target, sources) => {
                    let sources: Vec<String> = sources.iter().map(name).collect();
                    space.combine(*operation, &name(target), &sources).map(drop)
                }
                Step::Rename(from, to) => space.rename(&name(from), &name(to)).map(drop),
            }
            .unwrap();
        }
    }

    fn change(keyspace: &Keyspace, steps: &[Step]) {
        keyspace
            .change(|space| {
                carry_out(steps, space);
                Ok(())
            })
            .unwrap();
    }

    fn bytes(keyspace: &Keyspace) -> Vec<Option<Vec<u8>>> {
        let read = |key: &&str| {
            let found = keyspace.read_keys([*key], |look| look.snapshot(key));
            found.unwrap().map(|bitmap| bitmap.whole())
        };
        KEYS.iter().map(read).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever comes between the rehearsal and the change, the change is as if there had been
        /// no rehearsal; also after a start from the log.
        #[test]
        fn what_was_computed_before_changes_no_result(
            before in prop::collection::vec(step(), 0..12),
            done in prop::collection::vec(step(), 1..8),
            between in prop::collection::vec(step(), 0..4),
            checkpoints in any::<[bool; 2]>(),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let options = Options::default();
            let store = EmbeddedStore::open(directory.path(), &options).unwrap();
            let plain = EmbeddedStore::in_memory(&options).keyspace();
            let keyspace = store.keyspace();
            for steps in [&before, &between] {
                change(&plain, steps);
            }
            change(&plain, &done);
            change(&keyspace, &before);
            if checkpoints[0] {
                store.checkpoint().unwrap();
            }
            let precomputed = keyspace.precompute(&KEYS, |space| carry_out(&done, space)).unwrap();
            change(&keyspace, &between);
            if checkpoints[1] {
                store.checkpoint().unwrap();
            }
            keyspace
                .change_with(precomputed, 0, |space| {
                    carry_out(&done, space);
                    Ok(())
                })
                .unwrap();
            let expected = bytes(&plain);
            prop_assert_eq!(&bytes(&keyspace), &expected);
            drop((store, keyspace));
            let again = EmbeddedStore::open(directory.path(), &options).unwrap();
            prop_assert_eq!(&bytes(&again.keyspace()), &expected);
        }
    }

    #[test]
    fn others_write_and_read_while_bitmaps_are_combined() {
        let store = EmbeddedStore::in_memory(&Options::default());
        let keyspace = store.keyspace();
        let bits = |key: &str, users: &[u32]| {
            let bits = users.iter().map(|user| (1, *user)).collect();
            keyspace.set_bits(vec![key.to_owned()], bits).unwrap()
        };
        bits("a", &[1, 70_000]);
        bits("b", &[2, 70_001]);
        let sources = ["a".to_owned(), "b".to_owned()];
        let combine = |space: &mut WriteTxn<'_>| space.combine(Operation::Or, "t", &sources);
        let (began, begins) = channel();
        let (go_on, goes_on) = channel::<()>();
        let mut precomputed = std::thread::scope(|scope| {
            let (keyspace, combine) = (&keyspace, &combine);
            let computing = scope.spawn(move || {
                let work = |space: &mut WriteTxn<'_>| {
                    combine(space).unwrap();
                    began.send(()).unwrap();
                    // It goes on when the other end is gone.
                    let _ = goes_on.recv();
                };
                keyspace.precompute(&["t", "a", "b"], work).unwrap()
            });
            begins.recv().unwrap();
            // In the middle of it: a source is changed, and all can be read.
            assert_eq!(bits("a", &[3]), [false]);
            assert!(keyspace.read(|look| look.bit("a", 3)).unwrap());
            assert!(!computing.is_finished());
            drop(go_on);
            computing.join().unwrap()
        });
        // What was not changed is not computed again: it would be found to be wrong.
        let (_, tiles) = &mut precomputed.combinations[0].result;
        tiles.retain(|(number, _)| *number == 0);
        keyspace
            .change_with(precomputed, 0, |space| combine(space))
            .unwrap();
        let users = |look: crate::store::embedded::ReadTxn<'_>| {
            [1, 2, 3, 70_000, 70_001].map(|user| look.bit("t", user).unwrap())
        };
        let found = keyspace.read(|look| Ok(users(look))).unwrap();
        assert_eq!(found, [true, true, true, false, false]);
    }
}
