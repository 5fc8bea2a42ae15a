//! Tests of what a reader sees who began before others wrote, and before checkpoints that it knows
//! nothing of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::bitmap::{Source, Tile};
use crate::sets::EventName;

/// A few users of each of several tiles, in two groups of 64.
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
        // Counted from the tiles, and not from what is known of the key.
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
    /// The three parts of a checkpoint.
    Freeze,
    /// Whether the caches are made ready at once.
    Write(bool),
    Finish,
    /// Segments are merged: all of them, or those that are due.
    Merge(bool),
    /// What a start finds that comes now, after a crash: what the log says, over the table. Then
    /// that user of that bitmap is marked.
    Replay(usize, usize, bool),
    /// A reader begins.
    Begin,
    /// One that began long ago answers, and goes on.
    Answer(usize),
    /// One ends.
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

    /// Every reader sees one moment to its end, whatever is written, frozen, checkpointed and
    /// cached meanwhile by those who began before and after it.
    #[test]
    fn a_reader_sees_the_moment_it_began(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path(), &Options { cache_bytes: 1 << 20, ..Options::default() }).unwrap();
        let engine = &store.engine;
        let disk = engine.disk.as_ref().unwrap();
        let (plan, mut model, mut readers) = (plan(), Model::new(), Vec::new());
        let texts = store.texts(&plan);
        let begin = || engine.begin_read(|layers| layers.part(texts.iter().flatten().map(String::as_str))).unwrap();
        let answer = |(read, model): &(PlanReader<'_>, Model)| {
            assert_eq!(bitmap::count(&plan, &read.leaves(&texts).unwrap()).unwrap(), expected(model));
        };
        let (mut written, mut refreshed) = (None, false);
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
                Step::Freeze if engine.read().frozen.is_none() => {
                    engine.freeze(disk, &mut disk.pending.lock().unwrap()).unwrap();
                }
                Step::Write(refresh) if written.is_none() => {
                    if let Some(frozen) = engine.read().frozen.clone() {
                        let pending = disk.pending.lock().unwrap();
                        let pending = pending.as_ref().unwrap();
                        let lifetimes = &pending.lifetimes;
                        let rolls = idmap::IdMaps::new();
                        written = Some(disk.base.write(&frozen, &rolls, lifetimes, pending.sequence, |_| {}).unwrap());
                        if refresh {
                            disk.base.refresh(written.as_ref().unwrap());
                        }
                        refreshed = refresh;
                    }
                }
                Step::Finish if written.is_some() => {
                    if !refreshed {
                        disk.base.refresh(written.as_ref().unwrap());
                    }
                    let mut layers = engine.lock();
                    disk.base.publish(written.take().unwrap());
                    layers.frozen = None;
                    drop(layers);
                    *disk.pending.lock().unwrap() = None;
                }
                Step::Merge(all) => {
                    let pace = table::Pace { hurries: true, goes_on: &|| true };
                    let table = disk.base.table();
                    if all { table.compact_all(&pace) } else { table.compact_due(&pace) }.unwrap();
                }
                Step::Replay(place, user, value) if written.is_none() => {
                    let mut layers =
                        recovery::replay(directory.path(), &disk.base, &Options::default(), &mut Vec::new()).unwrap();
                    let reader = disk.base.reader();
                    let counts = |layers: &Memtables| {
                        let texts = texts.iter().map(Option::as_deref);
                        bitmap::count(&plan, &Leaves::of(texts, layers, Some(&reader)).unwrap()).unwrap()
                    };
                    prop_assert_eq!(counts(&layers), expected(&model));
                    // A transaction that fails leaves everything as it was.
                    let changed = key(place).text(&store.prefix);
                    let mut space = WriteTxn::new(&mut layers, Some(&reader), None);
                    space.delete(std::slice::from_ref(&changed)).unwrap();
                    space.set_bits(vec![changed], vec![(1, USERS[user])]).unwrap();
                    let (_, undo) = space.end();
                    layers.undo(undo);
                    prop_assert_eq!(counts(&layers), expected(&model));
                    let mut marked = model.clone();
                    let users = marked.entry(place).or_default();
                    if value { users.insert(USERS[user]) } else { users.remove(&USERS[user]) };
                    let (keys, bits) = ([key(place).text(&store.prefix)], [(u32::from(value), USERS[user])]);
                    let prepared = layers.prepare(&keys, &bits, Some(&reader), None).unwrap();
                    layers.apply(prepared);
                    prop_assert_eq!(counts(&layers), expected(&marked));
                    layers.resolve_all(&reader).unwrap();
                    prop_assert_eq!(counts(&layers), expected(&marked));
                }
                Step::Begin => readers.push((begin(), model.clone())),
                Step::Answer(place) if !readers.is_empty() => answer(&readers[place % readers.len()]),
                Step::End(place) if !readers.is_empty() => drop(readers.swap_remove(place % readers.len())),
                _ => {}
            }
            // Whoever asks now, as others do, puts into the caches what it finds.
            prop_assert_eq!(store.count(&plan).unwrap(), expected(&model));
        }
        readers.iter().for_each(answer);
    }
}

/// A source that stops before its first tile until it is told to go on.
struct Held<'a>(Leaves<'a>, Box<dyn Fn() + Sync + 'a>);

impl Source for Held<'_> {
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

/// Nobody waits for a question that takes its time: neither who marks, nor who asks, nor a
/// checkpoint.
#[test]
fn a_question_under_way_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path(), &Options::default()).unwrap();
    store
        .apply(&[mark(0, 7, true), mark(1, 7, true), mark(2, 70_000, true)])
        .unwrap();
    store.checkpoint().unwrap();
    store.apply(&[mark(0, 8, true), mark(1, 8, true)]).unwrap();
    let (plan, before) = (
        plan(),
        Model::from([(0, [7, 8].into()), (1, [7, 8].into()), (2, [70_000].into())]),
    );
    let texts = store.texts(&plan);
    std::thread::scope(|scope| {
        let (began, begins) = channel();
        let (go_on, goes_on) = channel::<()>();
        let (store, plan, texts) = (&store, &plan, &texts);
        let question = scope.spawn(move || {
            let channels = Mutex::new((began, goes_on));
            let read = store
                .engine
                .begin_read(|layers| layers.part(texts.iter().flatten().map(String::as_str)))
                .unwrap();
            let hold = move || {
                let (began, goes_on) = &*channels.lock().unwrap();
                began.send(()).unwrap();
                // It may go on when the other end is gone.
                assert_eq!(
                    goes_on.recv_timeout(Duration::from_secs(60)),
                    Err(RecvTimeoutError::Disconnected)
                );
            };
            bitmap::count(plan, &Held(read.leaves(texts).unwrap(), Box::new(hold))).unwrap()
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
                        .look_at(["e0_u"], |look| look.bit("e0_u", 8))
                        .is_ok()
                );
            }
        });
        others.join().unwrap();
        assert!(!question.is_finished());
        drop(go_on);
        assert_eq!(question.join().unwrap(), expected(&before));
    });
}
