//! The embedded store's own promises: what survives, what is refused, what is said.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cohortist::calendar::parse_moment;
use cohortist::sets::{EventName, Key, Set};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{self, KeyListing, Maintenance, Mark, Options, Store, StoreError};

use crate::store_contract::{Opened, contract};

contract!(in_memory, || {
    let store =
        cohortist::store::embedded::EmbeddedStore::in_memory(&cohortist::store::Options::default());
    (std::sync::Arc::new(store) as _, Box::new(()) as _)
});
contract!(on_disk, || crate::embedded::on_disk(20_000));
// A checkpoint is always under way.
contract!(on_disk_written_at_once, || crate::embedded::on_disk(1));

fn on_disk(checkpoint_bytes: u64) -> Opened {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        checkpoint_bytes,
        cache_bytes: 1 << 20,
        ..Options::default()
    };
    let store = EmbeddedStore::open(directory.path(), &options).unwrap();
    (Arc::new(store), Box::new(directory))
}

/// Checkpoints after every few batches, so that every test meets them.
pub fn hasty() -> Options {
    Options {
        checkpoint_bytes: 20_000,
        cache_bytes: 1 << 20,
        ..Options::default()
    }
}

fn key(event: u64, day: u64) -> Key {
    let at = parse_moment(&format!("2026-11-{:02}", day % 28 + 1)).unwrap();
    Key::of_mark(&EventName::new(&format!("e{event}")).unwrap(), at, false)
        .unwrap()
        .last()
        .unwrap()
}

/// A running history: operation `n` is always the same, so a store that holds the first `n` of them
/// can be told from one that holds any other number.
#[derive(Default, Clone, PartialEq, Debug)]
pub struct History(BTreeMap<Key, BTreeSet<u32>>);

pub enum Operation {
    Apply(Vec<Mark>),
    Add([Key; 2], Vec<u32>),
    Delete(Key),
    Save(Key, [Key; 3]),
}

fn saved(n: u64) -> Key {
    Key::ever(EventName::new(&format!("saved{}", n % 3)).unwrap())
}

/// Who is saved: those in the first two and not in the third.
fn saved_set(of: &[Key; 3]) -> Set {
    let [a, b, c] = of.clone().map(Set::Key);
    (a | b) - c
}

pub fn operation(n: u64) -> Operation {
    let mix = |salt: u64| {
        (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 17
    };
    if n % 97 == 96 {
        return Operation::Delete(if n.is_multiple_of(2) {
            saved(mix(1))
        } else {
            key(mix(1) % 4, mix(2) % 5)
        });
    }
    if n % 19 == 18 {
        let of = [3, 4, 5].map(|salt| key(mix(salt) % 4, mix(salt + 90) % 5));
        return Operation::Save(saved(mix(1)), of);
    }
    if n % 5 == 4 {
        let from = u32::try_from(mix(1) % 300_000).unwrap();
        let users = (from..)
            .step_by(usize::try_from(mix(2) % 3000 + 1).unwrap())
            .take(n as usize % 40 + 1);
        return Operation::Add(
            [key(mix(3) % 4, mix(4) % 5), key(mix(5) % 4, 6)],
            users.collect(),
        );
    }
    let marks = (0..n % 6 + 1).map(|i| Mark {
        key: key(mix(i) % 4, mix(i + 9) % 5),
        user: u32::try_from(mix(i + 77) % 300_000).unwrap(),
        value: mix(i + 5) % 9 != 0,
    });
    Operation::Apply(marks.collect())
}

impl History {
    pub fn perform(&mut self, operation: &Operation) {
        match operation {
            Operation::Apply(marks) => {
                for mark in marks {
                    let users = self.0.entry(mark.key.clone()).or_default();
                    if mark.value {
                        users.insert(mark.user)
                    } else {
                        users.remove(&mark.user)
                    };
                }
            }
            Operation::Add(keys, users) => {
                keys.iter()
                    .for_each(|key| self.0.entry(key.clone()).or_default().extend(users));
            }
            Operation::Delete(key) => {
                self.0.remove(key);
            }
            Operation::Save(key, of) => {
                let users = |key: &Key| self.0.get(key).cloned().unwrap_or_default();
                let who = &(&users(&of[0]) | &users(&of[1])) - &users(&of[2]);
                if !who.is_empty() {
                    self.0.entry(key.clone()).or_insert(who);
                }
            }
        }
    }

    pub fn read(store: &dyn Store) -> Self {
        let keys = store.keys("").unwrap();
        History(
            keys.into_iter()
                .map(|k| {
                    let set = Set::Key(k.clone());
                    let users = store.members(&set, None, usize::MAX).unwrap();
                    // The count of a key is kept beside it, and that of a union is made from its
                    // tiles.
                    let mut plan = cohortist::sets::Plan::new();
                    plan.count_set(&set).unwrap();
                    plan.count_set(&(set | Set::Key(key(99, 0)))).unwrap();
                    assert_eq!(store.count(&plan).unwrap(), [users.len() as u64; 2], "{k}");
                    (k, users.into_iter().collect())
                })
                .collect(),
        )
    }
}

fn perform(store: &dyn Store, n: u64) {
    match operation(n) {
        Operation::Apply(marks) => store.apply(&marks).unwrap(),
        Operation::Add(keys, users) => store
            .add(&keys.each_ref().map(|key| (key, &users[..])))
            .unwrap(),
        Operation::Delete(key) => {
            store.delete(&[key]).unwrap();
        }
        Operation::Save(key, of) => {
            let _ = store.save(&saved_set(&of), &key).unwrap();
        }
    }
}

const CHILD: &str = "COHORTIST_TEST_CRASH_CHILD";

/// Not a test of its own: what the crash test runs in another process, to kill it.
#[test]
fn crash_child() {
    let Ok(task) = std::env::var(CHILD) else {
        return;
    };
    let [from, mode, directory] = task.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        panic!("{task}")
    };
    let path = Path::new(directory);
    let store = EmbeddedStore::open(path, &hasty()).unwrap();
    let mut out = std::io::stdout().lock();
    for n in from.parse::<u64>().unwrap().. {
        perform(&store, n);
        // The acknowledgement. One write, so that it is whole or not there.
        out.write_all(format!("done {n}\n").as_bytes()).unwrap();
        out.flush().unwrap();
        crate::kills::also(mode, n, &store, path);
    }
}

/// A process that performs the history from `from` on until it is killed, and what
/// [`also`](crate::kills::also) does in that mode.
pub fn spawn_crash_child(from: u64, mode: &str, path: &Path, stdout: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "embedded::crash_child",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, format!("{from} {mode} {}", path.display()))
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn kill_9_at_any_moment_loses_nothing_acknowledged_and_adds_nothing() {
    // More rounds: COHORTIST_TEST_KILLS=1000 cargo test --test it kill_9
    let rounds: u64 = std::env::var("COHORTIST_TEST_KILLS").map_or(60, |n| n.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (mut done, mut history) = (0_u64, History::default());
    let mut at_work = 0;
    for round in 0..rounds {
        let mut child = spawn_crash_child(done, "plain", &path, Stdio::piped());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = None;
        let ends = (round * 7919) % 400 + 1;
        let patience = Instant::now() + Duration::from_secs(60);
        while last.is_none_or(|n| n < done + ends) {
            let line = lines.next().expect("the child ended by itself").unwrap();
            last = line
                .strip_prefix("done ")
                .map(|n| n.parse::<u64>().unwrap())
                .or(last);
            assert!(Instant::now() < patience);
        }
        // Somewhere inside the work that follows.
        std::thread::sleep(Duration::from_micros(round * 131 % 5000));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            last = line
                .strip_prefix("done ")
                .map(|n| n.parse::<u64>().unwrap())
                .or(last);
        }
        let acknowledged = last.unwrap() + 1;
        while done < acknowledged {
            history.perform(&operation(done));
            done += 1;
        }
        let store = EmbeddedStore::open(&path, &hasty()).unwrap();
        let found = History::read(&store);
        if found != history {
            // The one operation under way when the end came may be there, whole, and nothing else.
            history.perform(&operation(done));
            done += 1;
            at_work += 1;
        }
        assert_eq!(found, history, "round {round}, after {done} operations");
    }
    eprintln!(
        "{rounds} kills, {done} operations, {at_work} times the operation under way had been logged"
    );
}

#[test]
fn kill_9_while_a_store_is_made_leaves_a_path_that_can_be_opened() {
    for round in 0..60_u64 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let mut child = spawn_crash_child(0, "plain", &path, Stdio::null());
        let patience = Instant::now() + Duration::from_secs(60);
        while !path.exists() {
            assert!(Instant::now() < patience);
            std::thread::sleep(Duration::from_micros(50));
        }
        std::thread::sleep(Duration::from_micros(round * 173 % 6000));
        child.kill().unwrap();
        child.wait().unwrap();
        let store =
            EmbeddedStore::open(&path, &hasty()).unwrap_or_else(|e| panic!("round {round}: {e}"));
        // Whatever was done is the beginning of the history, whole.
        let found = History::read(&store);
        let mut history = History::default();
        let n = (0..).find(|n| {
            let same = found == history;
            history.perform(&operation(*n));
            same || *n > 100_000
        });
        assert!(n.is_some_and(|n| n <= 100_000), "round {round}");
        let leftover = |f: &str| f.contains(".new-");
        let names = std::fs::read_dir(&path)
            .unwrap()
            .map(|f| f.unwrap().file_name().to_string_lossy().into_owned());
        assert!(names.filter(|name| leftover(name)).count() <= 1);
    }
}

#[test]
fn a_long_log_is_read_through_in_no_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let options = Options {
        checkpoint_bytes: 1 << 30,
        ..Options::default()
    };
    let copy = directory.path().join("copy");
    {
        let store = EmbeddedStore::open(&path, &options).unwrap();
        let keys: Vec<Key> = (0..4)
            .flat_map(|event| (0..7).map(move |day| key(event, day)))
            .collect();
        for user in 0..40_000_u32 {
            let key = keys[user as usize % keys.len()].clone();
            store
                .apply(&[Mark {
                    key,
                    user: user * 11,
                    value: true,
                }])
                .unwrap();
        }
        // As after kill -9: the files as they are while the process runs.
        std::fs::create_dir(&copy).unwrap();
        for file in std::fs::read_dir(&path).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
    }
    let store = EmbeddedStore::open(&copy, &options).unwrap();
    let users: usize = History::read(&store).0.values().map(BTreeSet::len).sum();
    assert_eq!(users, 40_000);
}

#[test]
fn checkpoints_and_reopening_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut history = History::default();
    let mut store = Some(EmbeddedStore::open(directory.path(), &hasty()).unwrap());
    for n in 0..4000 {
        let open = store.as_ref().unwrap();
        perform(open, n);
        history.perform(&operation(n));
        if n % 500 == 250 {
            open.checkpoint().unwrap();
        }
        if n % 250 == 249 {
            assert_eq!(History::read(open), history, "after {n}");
        }
        if n % 800 == 799 {
            drop(store.take());
            store = Some(EmbeddedStore::open(directory.path(), &hasty()).unwrap());
            assert_eq!(
                History::read(store.as_ref().unwrap()),
                history,
                "reopened after {n}"
            );
        }
    }
    let logs = std::fs::read_dir(directory.path()).unwrap().filter(|f| {
        f.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("log-")
    });
    assert!(logs.count() <= 2, "old logs are deleted");
}

#[test]
fn readers_and_writers_at_once_see_whole_batches() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(directory.path(), &hasty()).unwrap());
    let (a, b) = (key(0, 0), key(1, 1));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for user in 0..3000_u32 {
                let marks = [&a, &b].map(|key| Mark {
                    key: key.clone(),
                    user: user * 37,
                    value: true,
                });
                store.apply(&marks).unwrap();
            }
        });
        let mut seen = 0;
        while !writer.is_finished() {
            let mut plan = cohortist::sets::Plan::new();
            plan.count_set(&Set::Key(a.clone())).unwrap();
            plan.count_set(&Set::Key(b.clone())).unwrap();
            plan.count_set(&(Set::Key(a.clone()) ^ Set::Key(b.clone())))
                .unwrap();
            plan.count_set(&(Set::Key(a.clone()) | Set::Key(key(99, 0))))
                .unwrap();
            let counts = store.count(&plan).unwrap();
            assert_eq!((counts[0], counts[2], counts[3]), (counts[1], 0, counts[0]));
            assert!(counts[0] >= seen);
            seen = counts[0];
        }
    });
    assert_eq!(
        store.members(&Set::Key(a), None, usize::MAX).unwrap().len(),
        3000
    );
}

#[test]
fn the_log_is_forced_to_disk_while_a_checkpoint_is_held() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        checkpoint_bytes: 1 << 20,
        ..hasty()
    };
    let store = EmbeddedStore::open(directory.path(), &options).unwrap();
    let held = store.hold_checkpoints();
    // More than is worth a checkpoint: from here on its thread waits.
    let log_bytes = || store.health().files.unwrap().log_bytes;
    let enough = (0..).step_by(50).find(|from| {
        (*from..from + 50).for_each(|n| perform(&store, n));
        log_bytes() > options.checkpoint_bytes / 4
    });
    let next = enough.unwrap() + 50;
    for n in next..next + 3 {
        perform(&store, n);
        let written = store.progress().written;
        let until = Instant::now() + Duration::from_secs(60);
        while store.progress().durable < written {
            assert!(Instant::now() < until, "{:?}", store.progress());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert_eq!(store.health().files.unwrap().checkpoints, 0);
    drop(held);
    store.checkpoint().unwrap();
    assert!(store.health().files.unwrap().checkpoints > 0);
    perform(&store, next + 3);
    store.flush().unwrap();
    let progress = store.progress();
    assert_eq!(progress.durable, progress.written);
}

#[test]
fn whatever_fills_the_log_makes_a_checkpoint_possible() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    // As long as names of keys may be: a few of them fill a log.
    let name = "k".repeat(60_000);
    let expire = |store: &EmbeddedStore, until: u64| {
        store
            .keyspace()
            .change(|space| space.set_expires_at(&name, Some(until)))
            .unwrap()
    };
    let far = 4_000_000_000_000;
    {
        let store = EmbeddedStore::open(&path, &hasty()).unwrap();
        store
            .keyspace()
            .set_bits(vec![name.clone()], vec![(1, 7)])
            .unwrap();
        store.checkpoint().unwrap();
        // From here on there is nothing to write but lifetimes: ten times what a log may hold.
        (0..200).for_each(|n| assert!(expire(&store, far + n)));
        let health = store.health();
        assert_eq!((health.writable, health.write_errors), (Ok(()), 0));
        assert!(health.files.unwrap().log_bytes < 6 << 20);
    }
    // As a process leaves it that was killed with checkpoints held.
    let copy = directory.path().join("copy");
    {
        let store = EmbeddedStore::open(&path, &hasty()).unwrap();
        let _held = store.hold_checkpoints();
        (200..218).for_each(|n| assert!(expire(&store, far + n)));
        std::fs::create_dir(&copy).unwrap();
        for file in std::fs::read_dir(&path).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
    }
    let store = EmbeddedStore::open(&copy, &hasty()).unwrap();
    (300..340).for_each(|n| assert!(expire(&store, far + n)));
    let until = store
        .keyspace()
        .read(|look| Ok(look.expires_at(&name)))
        .unwrap();
    assert_eq!(until, Some(far + 339));
    assert_eq!(store.health().write_errors, 0);
}

#[test]
fn a_second_process_is_refused_and_told_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let _store = EmbeddedStore::open(directory.path(), &hasty()).unwrap();
    let error = store::open(directory.path().to_str().unwrap(), &hasty()).unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)));
    let text = error.to_string();
    assert!(
        text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
}

#[test]
fn a_directory_or_file_that_is_something_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("letter.txt");
    std::fs::write(&file, "dear").unwrap();
    for path in [directory.path(), &file] {
        let error = EmbeddedStore::open(path, &hasty()).err().unwrap();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "dear");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    let missing = directory.path().join("new");
    let error = EmbeddedStore::open(
        &missing,
        &Options {
            create: false,
            ..hasty()
        },
    )
    .err()
    .unwrap();
    assert!(matches!(error, StoreError::Missing(_)), "{error}");
    assert!(!missing.exists());
}

#[test]
fn a_torn_tail_is_dropped_and_said_and_the_rest_kept() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::default();
    let mut history = History::default();
    {
        let store = EmbeddedStore::open(directory.path(), &options).unwrap();
        for n in 0..50 {
            perform(&store, n);
            history.perform(&operation(n));
        }
        assert!(store.describe().unwrap().notes.is_empty());
    }
    // As after a crash: nobody recorded how long the log was.
    let crashed = tempfile::tempdir().unwrap();
    {
        let _store = EmbeddedStore::open(directory.path(), &options).unwrap();
        for name in ["manifest", "log-1"] {
            std::fs::copy(directory.path().join(name), crashed.path().join(name)).unwrap();
        }
    }
    let directory = crashed.path();
    let log = directory.join("log-1");
    let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    file.write_all(b"\x20\0\0\0half an entry").unwrap();
    let store = EmbeddedStore::open(directory, &options).unwrap();
    assert_eq!(History::read(&store), history);
    let notes = store.describe().unwrap().notes;
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("the last 17 bytes"), "{notes:?}");
    // It is said once: the log goes on whole.
    perform(&store, 50);
    history.perform(&operation(50));
    drop(store);
    let store = EmbeddedStore::open(directory, &options).unwrap();
    assert_eq!(
        (History::read(&store), store.describe().unwrap().notes.len()),
        (history, 0)
    );
}

#[test]
fn a_damaged_file_is_an_error_and_not_a_smaller_number() {
    let directory = tempfile::tempdir().unwrap();
    {
        let store = EmbeddedStore::open(directory.path(), &hasty()).unwrap();
        (0..500).for_each(|n| perform(&store, n));
        store.checkpoint().unwrap();
    }
    let segment = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("segment-")
            .then_some(path)
    };
    let file = std::fs::read_dir(directory.path())
        .unwrap()
        .find_map(segment)
        .unwrap();
    let whole = std::fs::read(&file).unwrap();
    let mut overwritten = whole.clone();
    overwritten[whole.len() / 8..whole.len() / 2].fill(0xa5);
    for damaged in [
        b"not a database at all".to_vec(),
        whole[..whole.len() / 2].to_vec(),
        overwritten,
    ] {
        std::fs::write(&file, damaged).unwrap();
        let outcome = EmbeddedStore::open(directory.path(), &hasty()).and_then(|store| {
            for key in store.keys("")? {
                store.members(&Set::Key(key), None, usize::MAX)?;
            }
            Ok(())
        });
        let error = outcome.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
}

/// Runs in a shell that allows no large files: to the log, a full disk. Other files on one are in
/// `full_disk.rs`.
#[test]
fn a_full_disk_is_said_and_what_was_acknowledged_stays() {
    const FULL: &str = "COHORTIST_TEST_FULL_DISK";
    if let Ok(directory) = std::env::var(FULL) {
        let options = Options {
            checkpoint_bytes: 1 << 30,
            ..Options::default()
        };
        let store = EmbeddedStore::open(Path::new(&directory), &options).unwrap();
        for n in 0..1_000_000 {
            // Far apart, so that many tiles and a large file come of it.
            let user = u32::try_from(n).unwrap() * 30_000;
            let marks: Vec<Mark> = (0..40)
                .map(|i| Mark {
                    key: key(i, n),
                    user,
                    value: true,
                })
                .collect();
            if let Err(error) = store.apply(&marks) {
                // And again: the log was left whole, so this fails in the same clear way, or fits.
                let again = store.apply(&marks);
                println!("stopped after {n}: {error}; {}", again.is_err());
                assert!(matches!(error, StoreError::Write { .. }), "{error:?}");
                let half = store.contains(&[0, 39].map(|i| key(i, n)), user).unwrap();
                assert_eq!(half, [false; 2], "no part of a refused batch shows");
                // The process ends here without any farewell.
                std::process::abort();
            }
        }
        panic!("the disk never filled");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    drop(EmbeddedStore::open(&path, &Options::default()).unwrap());
    let output = Command::new("bash")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -c 0; ulimit -f 800; exec \"$0\" \"$@\"",
        ])
        .arg(std::env::current_exe().unwrap())
        .args([
            std::thread::current().name().unwrap(),
            "--exact",
            "--nocapture",
        ])
        .env(FULL, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said
        .split("stopped after ")
        .nth(1)
        .unwrap_or_else(|| panic!("{output:?}"));
    let count: u32 = line.split(':').next().unwrap().parse().unwrap();
    assert!(
        line.contains("Nothing of this batch was recorded") && line.contains("true"),
        "{line}"
    );
    assert!(count > 100, "{count}");
    let store = EmbeddedStore::open(&path, &Options::default()).unwrap();
    for event in [0, 39] {
        let days = (0..28).map(|day| Set::Key(key(event, day)));
        let users = store
            .members(&Set::Or(days.collect()), None, usize::MAX)
            .unwrap();
        assert_eq!(users, (0..count).map(|n| n * 30_000).collect::<Vec<_>>());
    }
    assert!(
        store.describe().unwrap().notes.is_empty(),
        "the log was left whole"
    );
}

#[test]
fn several_sets_of_events_live_side_by_side() {
    let directory = tempfile::tempdir().unwrap();
    let ours = EmbeddedStore::open(directory.path(), &Options::default()).unwrap();
    let theirs = ours.under(cohortist::sets::Prefix::new("bitmapist_"));
    perform(&ours, 3);
    assert!(theirs.keys("").unwrap().is_empty());
    perform(&theirs, 4);
    theirs.delete(&theirs.keys("").unwrap()).unwrap();
    let mut history = History::default();
    history.perform(&operation(3));
    assert_eq!(History::read(&ours), history);
}

#[test]
fn the_last_user_costs_no_more_than_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path(), &Options::default()).unwrap();
    let key = key(1, 1);
    let set = Set::Key(key.clone());
    for user in [0, 65_535, 65_536, u32::MAX] {
        store
            .apply(&[Mark {
                key: key.clone(),
                user,
                value: true,
            }])
            .unwrap();
    }
    store.checkpoint().unwrap();
    assert_eq!(
        store.members(&set, None, 10).unwrap(),
        [0, 65_535, 65_536, u32::MAX]
    );
    assert_eq!(store.members(&set, Some(65_536), 10).unwrap(), [u32::MAX]);
    assert!(store.members(&set, Some(u32::MAX), 10).unwrap().is_empty());
    assert_eq!(store.contains(&[key], u32::MAX).unwrap(), [true]);
    let bytes: u64 = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|f| f.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 8 << 20, "{bytes}");
}
