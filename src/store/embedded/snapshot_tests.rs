//! Tests that a reader sees the snapshot it took, whatever is written and checkpointed later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;

use crate::bitmap::{self, Source, Tile};
use crate::sets::{EventName, Key, Plan, Set, UserId};
use crate::store::embedded::EmbeddedStore;
use crate::store::embedded::engine::PlanReader;
use crate::store::embedded::memtable::{Leaves, Memtables};
use crate::store::embedded::prefix_ids::IdMaps;
use crate::store::embedded::{WriteTxn, recovery, table, table_cache};
use crate::store::{Mark, Options, Result, Store, StoreError};

/// Two users in each of several tiles. The tiles belong to two groups of 64, which the evaluation
/// treats separately.
const USERS: [UserId; 8] = [0, 1, 65_536, 65_537, 200_000, 200_001, 4_600_000, 4_600_001];
const KEYS: usize = 3;

fn key(place: usize) -> Key {
    Key::ever(EventName::new(&format!("e{place}")).unwrap())
}

fn plan() -> Plan {
    let sets: Vec<Set> = (0..KEYS).map(|place| Set::Key(key(place))).collect();
    let mut plan = Plan::new();
    for a in &sets {
        plan.count_set(a).unwrap();
        // The same count, but from the tiles instead of the record.
        plan.count_set(&(a.clone() ^ Set::Key(key(99)))).unwrap();
        for b in &sets {
            plan.count_set(&(a.clone() & b.clone())).unwrap();
            plan.count_set(&(a.clone() | b.clone())).unwrap();
        }
    }
    plan
}

type Model = BTreeMap<usize, BTreeSet<UserId>>;

fn expected(model: &Model) -> Vec<u64> {
    let of = |place: usize| model.get(&place).cloned().unwrap_or_default();
    let mut counts = Vec::new();
    for a in 0..KEYS {
        counts.extend([of(a).len(); 2]);
        (0..KEYS).for_each(|b| counts.extend([(&of(a) & &of(b)).len(), (&of(a) | &of(b)).len()]));
    }
    counts.into_iter().map(|count| count as u64).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Mark(usize, usize, bool),
    /// Moves a user from one bitmap to another, as one batch.
    Move(usize, usize, usize),
    Delete(usize),
    /// The first part of a checkpoint.
    Freeze,
    /// The second part of a checkpoint. `true` refreshes the cache immediately.
    Write(bool),
    /// The third part of a checkpoint.
    Finish,
    /// Merges all segments (`true`), or those that are due.
    Merge(bool),
    /// Replays the log over the table, as after a crash, then marks a user.
    Replay(usize, usize, bool),
    /// Creates a reader.
    Begin,
    /// Lets a reader evaluate the plan.
    Answer(usize),
    /// Drops a reader.
    End(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..KEYS, 0..USERS.len(), prop::bool::weighted(0.7)).prop_map(|(key, user, value)| Step::Mark(key, user, value)),
        3 => (0..KEYS, 0..KEYS, 0..USERS.len()).prop_map(|(from, to, user)| Step::Move(from, to, user)),
        1 => (0..KEYS).prop_map(Step::Delete),
        3 => Just(Step::Freeze),
        3 => any::<bool>().prop_map(Step::Write),
        3 => Just(Step::Finish),
        2 => any::<bool>().prop_map(Step::Merge),
        3 => (0..KEYS, 0..USERS.len(), any::<bool>()).prop_map(|(key, user, value)| Step::Replay(key, user, value)),
        4 => Just(Step::Begin),
        6 => (0..8_usize).prop_map(Step::Answer),
        1 => (0..8_usize).prop_map(Step::End),
    ];
    prop::collection::vec(step, 1..60)
}

fn mark(key_place: usize, user: UserId, value: bool) -> Mark {
    Mark {
        key: key(key_place),
        user,
        value,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// This holds whatever is written, checkpointed, merged and cached in the meantime, by readers
    /// and writers that started before or after the reader.
    #[test]
    fn a_reader_sees_its_snapshot(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path(), &Options { cache_bytes: 1 << 20, ..Options::default() }).unwrap();
        let engine = &store.engine;
        let disk = engine.disk.as_ref().unwrap();
        let plan = plan();
        let mut model = Model::new();
        let mut readers = Vec::new();
        let keys = store.keys_of(&plan);
        let begin = || engine.begin_read(|memtables| memtables.subset(keys.iter().flatten().map(String::as_str)));
        let answer = |(read, model): &(PlanReader<'_>, Model)| {
            assert_eq!(bitmap::count(&plan, &read.leaves(&keys).unwrap()).unwrap(), expected(model));
        };
        let mut written = None;
        let mut refreshed = false;
        for step in steps {
            match step {
                Step::Mark(key, user, value) => {
                    store.apply(&[mark(key, USERS[user], value)]).unwrap();
                    let users = model.entry(key).or_default();
                    if value { users.insert(USERS[user]) } else { users.remove(&USERS[user]) };
                }
                Step::Move(from, to, user) => {
                    store.apply(&[mark(from, USERS[user], false), mark(to, USERS[user], true)]).unwrap();
                    model.entry(from).or_default().remove(&USERS[user]);
                    model.entry(to).or_default().insert(USERS[user]);
                }
                Step::Delete(place) => {
                    store.delete(&[key(place)]).unwrap();
                    model.remove(&place);
                }
                Step::Freeze if engine.read().immutable.is_none() => {
                    engine.freeze(disk, &mut disk.pending.lock().unwrap()).unwrap();
                }
                Step::Write(refresh) if written.is_none() => {
                    if let Some(immutable) = engine.read().immutable.clone() {
                        let pending = disk.pending.lock().unwrap();
                        let pending = pending.as_ref().unwrap();
                        let checkpoint = table_cache::Checkpoint {
                            memtable: &immutable,
                            id_maps: &IdMaps::new(),
                            expirations: &pending.expirations,
                        };
                        written = Some(disk.table_cache.write(checkpoint, pending.sequence, |_| {}).unwrap());
                        if refresh {
                            disk.table_cache.refresh(written.as_ref().unwrap());
                        }
                        refreshed = refresh;
                    }
                }
                Step::Finish if written.is_some() => {
                    if !refreshed {
                        disk.table_cache.refresh(written.as_ref().unwrap());
                    }
                    let mut memtables = engine.lock();
                    disk.table_cache.publish(written.take().unwrap());
                    memtables.immutable = None;
                    drop(memtables);
                    *disk.pending.lock().unwrap() = None;
                }
                Step::Merge(all) => {
                    let pace = table::Pace { hurries: true, goes_on: &|| true };
                    let table = disk.table_cache.table();
                    if all { table.compact_all(&pace) } else { table.compact_due(&pace) }.unwrap();
                }
                Step::Replay(place, user, value) if written.is_none() => {
                    let mut memtables =
                        recovery::replay(directory.path(), &disk.table_cache, &Options::default(), &mut Vec::new()).unwrap();
                    let reader = disk.table_cache.reader();
                    let counts = |memtables: &Memtables| {
                        let keys = keys.iter().map(Option::as_deref);
                        bitmap::count(&plan, &Leaves::of(keys, memtables, Some(&reader)).unwrap()).unwrap()
                    };
                    prop_assert_eq!(counts(&memtables), expected(&model));
                    // A failed transaction changes nothing.
                    let changed = key(place).text(&store.prefix);
                    let mut txn = WriteTxn::new(&mut memtables, Some(&reader), None);
                    txn.delete(std::slice::from_ref(&changed)).unwrap();
                    txn.set_bits(vec![changed], vec![(1, USERS[user])]).unwrap();
                    let (_, undo) = txn.end();
                    memtables.undo(undo);
                    prop_assert_eq!(counts(&memtables), expected(&model));
                    let mut marked = model.clone();
                    let users = marked.entry(place).or_default();
                    if value { users.insert(USERS[user]) } else { users.remove(&USERS[user]) };
                    let changed = [key(place).text(&store.prefix)];
                    let bits = [(u32::from(value), USERS[user])];
                    let prepared = memtables.prepare(&changed, &bits, Some(&reader), None).unwrap();
                    memtables.apply(prepared);
                    prop_assert_eq!(counts(&memtables), expected(&marked));
                    memtables.resolve_all(&reader).unwrap();
                    prop_assert_eq!(counts(&memtables), expected(&marked));
                }
                Step::Begin => readers.push((begin(), model.clone())),
                Step::Answer(place) if !readers.is_empty() => answer(&readers[place % readers.len()]),
                Step::End(place) if !readers.is_empty() => drop(readers.swap_remove(place % readers.len())),
                _ => {}
            }
            // This query also puts what it reads into the cache.
            prop_assert_eq!(store.count(&plan).unwrap(), expected(&model));
        }
        readers.iter().for_each(answer);
    }
}

/// A source that calls a function before each tile. The function can block the evaluation.
struct Paused<'a>(Leaves<'a>, Box<dyn Fn() + Sync + 'a>);

impl Source for Paused<'_> {
    type Error = StoreError;

    fn byte_len(&self, leaf: usize) -> u64 {
        self.0.byte_len(leaf)
    }

    fn users(&self, leaf: usize) -> Option<u64> {
        self.0.users(leaf)
    }

    fn tiles(&self, leaf: usize) -> &[u16] {
        self.0.tiles(leaf)
    }

    fn tile(&self, leaf: usize, number: u16) -> Result<Arc<Tile>> {
        self.0.tile(leaf, number)
    }

    fn go_on(&self) -> Result<()> {
        self.1();
        self.0.go_on()
    }
}

#[test]
fn a_running_query_blocks_neither_writes_nor_queries_nor_checkpoints() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path(), &Options::default()).unwrap();
    store
        .apply(&[mark(0, 7, true), mark(1, 7, true), mark(2, 70_000, true)])
        .unwrap();
    store.checkpoint().unwrap();
    store.apply(&[mark(0, 8, true), mark(1, 8, true)]).unwrap();
    let plan = plan();
    let before = Model::from([(0, [7, 8].into()), (1, [7, 8].into()), (2, [70_000].into())]);
    let keys = store.keys_of(&plan);
    std::thread::scope(|scope| {
        let (began, begins) = channel();
        let (go_on, goes_on) = channel::<()>();
        let (store, plan, keys) = (&store, &plan, &keys);
        let query = scope.spawn(move || {
            let channels = Mutex::new((began, goes_on));
            let read = store.engine.begin_read(|memtables| {
                memtables.subset(keys.iter().flatten().map(String::as_str))
            });
            let pause = move || {
                let (began, goes_on) = &*channels.lock().unwrap();
                began.send(()).unwrap();
                // The query continues when the other end is dropped.
                assert_eq!(
                    goes_on.recv_timeout(Duration::from_secs(60)),
                    Err(RecvTimeoutError::Disconnected)
                );
            };
            bitmap::count(plan, &Paused(read.leaves(keys).unwrap(), Box::new(pause))).unwrap()
        });
        begins.recv().unwrap();
        let others = scope.spawn(move || {
            for user in 0..50 {
                store
                    .apply(&[mark(0, 100_000 + user, true), mark(1, 100_000 + user, true)])
                    .unwrap();
                store.checkpoint().unwrap();
                let counts = store.count(plan).unwrap();
                assert_eq!(
                    (counts[0], counts[2]),
                    (3 + u64::from(user), 3 + u64::from(user))
                );
                assert!(
                    store
                        .keyspace()
                        .read_keys(["e0_u"], |look| look.bit("e0_u", 8))
                        .is_ok()
                );
            }
        });
        others.join().unwrap();
        assert!(!query.is_finished());
        drop(go_on);
        assert_eq!(query.join().unwrap(), expected(&before));
    });
}
