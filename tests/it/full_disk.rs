//! The embedded store on a disk that is full: a small `tmpfs` in a mount namespace of its own.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cohortist::sets::{EventName, Key, Set};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Health, Maintenance, Mark, Options, Store, StoreError};

const DISK: &str = "COHORTIST_TEST_FULL_DISK_AT";

/// Runs this test again in a process whose mount namespace has a disk of so many kilobytes, and
/// `check` in that process.
pub fn on_a_disk_of(kilobytes: u32, check: impl FnOnce(&Path)) {
    if let Ok(disk) = std::env::var(DISK) {
        return check(Path::new(&disk));
    }
    let directory = tempfile::tempdir().unwrap();
    let mount =
        format!("mount -t tmpfs -o size={kilobytes}k tmpfs \"${DISK}\" && exec \"$0\" \"$@\"");
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &mount])
        .arg(std::env::current_exe().unwrap())
        .args([
            std::thread::current().name().unwrap(),
            "--exact",
            "--nocapture",
        ])
        .env(DISK, directory.path())
        .output()
        .expect("`unshare`, of util-linux, is needed");
    let said = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .join("\n");
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

/// Takes up all space but so many bytes; gives it back when dropped.
pub struct Filler(PathBuf);

impl Filler {
    pub fn all_but(disk: &Path, left: usize) -> Self {
        let path = disk.join("filler");
        let mut file = File::create(&path).unwrap();
        let error = (0..)
            .find_map(|_| file.write_all(&[7; 4096]).err())
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let len = file.metadata().unwrap().len();
        file.set_len(len.saturating_sub(left as u64)).unwrap();
        Filler(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn key() -> Key {
    Key::ever(EventName::new("active").unwrap())
}

fn mark(users: impl IntoIterator<Item = u32>) -> Vec<Mark> {
    users
        .into_iter()
        .map(|user| Mark {
            key: key(),
            user,
            value: true,
        })
        .collect()
}

fn people(store: &dyn Store) -> Vec<u32> {
    store.members(&Set::Key(key()), None, usize::MAX).unwrap()
}

/// Why a store cannot be written after a write failed: the same without a word on that write.
fn unwritable(error: &StoreError) -> Result<(), String> {
    match error {
        StoreError::Write { path, reason, .. } => Err(format!("cannot write to {path}: {reason}")),
        other => panic!("{other}"),
    }
}

/// Waits until the store says that it can be written. Nothing is marked meanwhile.
fn recovered(store: &EmbeddedStore) -> Health {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let health = store.health();
        if health.writable.is_ok() {
            return health;
        }
        assert!(Instant::now() < until, "{health:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_log_that_cannot_grow_is_reported_until_it_can() {
    on_a_disk_of(16_000, |disk| {
        let path = disk.join("store");
        let store = EmbeddedStore::open(&path, &Options::default()).unwrap();
        store.apply(&mark([1])).unwrap();
        assert_eq!(
            (store.health().writable, store.health().write_errors),
            (Ok(()), 0)
        );
        let filler = Filler::all_but(disk, 0);
        // What is left of the log's last page still takes some.
        let mut user = 1;
        let error = loop {
            if let Err(error) = store.apply(&mark(user + 1..user + 400)) {
                break error;
            }
            user += 399;
        };
        assert!(matches!(error, StoreError::Write { .. }), "{error:?}");
        let health = store.health();
        assert_eq!(
            (health.writable, health.write_errors),
            (unwritable(&error), 1)
        );
        assert!(store.apply(&mark(user + 1..user + 400)).is_err());
        assert_eq!(store.health().write_errors, 2);
        drop(filler);
        assert_eq!(recovered(&store).write_errors, 2);
        assert_eq!(people(&store), (1..=user).collect::<Vec<_>>());
        store.apply(&mark([9_000_000])).unwrap();
        drop(store);
        // What was tried meanwhile changed nothing.
        let store = EmbeddedStore::open(&path, &Options::default()).unwrap();
        assert_eq!(
            people(&store),
            (1..=user).chain([9_000_000]).collect::<Vec<_>>()
        );
        assert_eq!(store.describe().unwrap().notes, [""; 0]);
    });
}

/// Before any write, also after a restart.
#[test]
fn a_full_disk_is_reported_although_nothing_is_written() {
    on_a_disk_of(16_000, |disk| {
        let path = disk.join("store");
        let store = EmbeddedStore::open(&path, &Options::default()).unwrap();
        store.apply(&mark([1])).unwrap();
        let filler = Filler::all_but(disk, 0);
        let until = Instant::now() + Duration::from_secs(60);
        while store.health().writable.is_ok() {
            assert!(Instant::now() < until, "the probe notices a full disk");
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(store);
        let store = EmbeddedStore::open(&path, &Options::default()).unwrap();
        let health = store.health();
        let reason = health.writable.unwrap_err();
        assert!(
            reason.contains("No space left") && !reason.contains("batch"),
            "{reason}"
        );
        assert_eq!(store.describe().unwrap().refusal, Some(reason));
        assert_eq!(health.write_errors, 0, "nothing was refused");
        drop(filler);
        recovered(&store);
        assert_eq!(people(&store), [1]);
        assert!(!path.join("probe").exists());
    });
}

#[test]
fn a_checkpoint_that_does_not_fit_is_reported_until_it_does() {
    on_a_disk_of(16_000, |disk| {
        let store = EmbeddedStore::open(&disk.join("store"), &Options::default()).unwrap();
        let far_apart: Vec<u32> = (0..2000).map(|n| n * 65_536).collect();
        store.apply(&mark(far_apart.iter().copied())).unwrap();
        // Enough for a new log and a manifest, and not for a segment.
        let filler = Filler::all_but(disk, 12_000);
        let error = store.checkpoint().unwrap_err();
        assert!(matches!(error, StoreError::Write { .. }), "{error:?}");
        let files = store.health().files.unwrap();
        assert_eq!(
            (store.health().writable, files.checkpoints),
            (unwritable(&error), 0)
        );
        assert!(files.checkpoint_failures > 0);
        assert_eq!(people(&store), far_apart, "everything can still be read");
        drop(filler);
        let files = recovered(&store).files.unwrap();
        assert_eq!(files.checkpoints, 1);
        assert!(files.checkpoint_seconds.sum >= files.last_checkpoint.unwrap());
        assert_eq!(
            files.checkpoint_seconds.count,
            files.checkpoints + files.checkpoint_failures
        );
        let table = std::fs::read_dir(disk.join("store"))
            .unwrap()
            .map(|entry| entry.unwrap());
        let table = table.filter(|entry| {
            let name = entry.file_name();
            name == "manifest" || name.to_string_lossy().starts_with("segment-")
        });
        assert_eq!(
            files.store_bytes,
            table
                .map(|entry| entry.metadata().unwrap().len())
                .sum::<u64>()
        );
        assert_eq!(people(&store), far_apart);
    });
}

/// Checkpoints, marks and questions at once on a full disk: nobody hangs, and all is there once
/// there is space.
#[test]
fn a_full_disk_blocks_nobody() {
    on_a_disk_of(16_000, |disk| {
        let path = disk.join("store");
        let options = Options {
            cache_bytes: 0,
            ..Options::default()
        };
        let store = EmbeddedStore::open(&path, &options).unwrap();
        store.apply(&mark([1])).unwrap();
        store.checkpoint().unwrap();
        let far_apart: Vec<u32> = (1..2000).map(|n| n * 65_536).collect();
        store.apply(&mark(far_apart.iter().copied())).unwrap();
        let filler = Filler::all_but(disk, 0);
        let store = std::sync::Arc::new(store);
        let (ended, all) = std::sync::mpsc::channel();
        for thread in 0..6 {
            let (store, ended) = (std::sync::Arc::clone(&store), ended.clone());
            // Not joined: a thread that hangs must not keep the test from failing.
            std::thread::spawn(move || {
                for _ in 0..300 {
                    match thread {
                        0 => assert!(store.checkpoint().is_err()),
                        1 => drop(store.apply(&mark([7]))),
                        _ => assert!(store.members(&Set::Key(key()), None, 3).is_ok()),
                    }
                }
                ended.send(()).unwrap();
            });
        }
        for _ in 0..6 {
            all.recv_timeout(Duration::from_secs(60))
                .expect("a thread hangs or failed");
        }
        assert!(store.health().writable.is_err());
        drop(filler);
        recovered(&store);
        let found = people(&*store);
        assert!(
            found.starts_with(&[1]) && found.ends_with(&far_apart),
            "{} of {}",
            found.len(),
            far_apart.len()
        );
    });
}

/// However much space is left: a checkpoint, a merge of segments and the manifests of both succeed
/// or leave everything as it was.
#[test]
fn a_disk_that_is_full_at_any_step_loses_nothing() {
    on_a_disk_of(16_000, |disk| {
        let (mut checkpointed, mut merged, mut failed) = (0, 0, 0);
        for pages in [0, 1, 2, 3, 4, 5, 6, 8, 10, 14, 20] {
            let path = disk.join(format!("store-{pages}"));
            let store = EmbeddedStore::open(&path, &Options::default()).unwrap();
            let first: Vec<u32> = (0..3000).map(|n| n * 65_536).collect();
            store.apply(&mark(first.iter().copied())).unwrap();
            store.checkpoint().unwrap();
            let second: Vec<u32> = (0..3000).map(|n| n * 65_536 + 7).collect();
            store.apply(&mark(second.iter().copied())).unwrap();
            let mut all = [first, second].concat();
            all.sort_unstable();
            let filler = Filler::all_but(disk, pages * 4096);
            let outcomes = [store.checkpoint(), store.keyspace().compact().map(drop)];
            checkpointed += u32::from(outcomes[0].is_ok());
            merged += u32::from(outcomes[1].is_ok());
            for error in outcomes.into_iter().filter_map(Result::err) {
                failed += 1;
                assert!(
                    matches!(error, StoreError::Write { .. }),
                    "{pages} pages: {error:?}"
                );
            }
            assert_eq!(people(&store), all, "{pages} pages");
            drop(filler);
            store.checkpoint().unwrap();
            assert_eq!(store.health().writable, Ok(()));
            store.keyspace().compact().unwrap();
            store.apply(&mark([9])).unwrap();
            all.push(9);
            all.sort_unstable();
            assert_eq!(people(&store), all, "{pages} pages");
            drop(store);
            let checked = cohortist::store::embedded::check(&path).unwrap();
            assert_eq!(
                checked
                    .damages()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>(),
                [""; 0],
                "{pages} pages"
            );
            assert_eq!(
                people(&EmbeddedStore::open(&path, &Options::default()).unwrap()),
                all,
                "{pages} pages"
            );
            std::fs::remove_dir_all(&path).unwrap();
        }
        assert!(
            checkpointed > 0 && merged > 0 && failed > 5,
            "{checkpointed}, {merged}, {failed}"
        );
    });
}

#[test]
fn a_store_without_files_has_no_figures_of_them() {
    let store = EmbeddedStore::in_memory(&Options::default());
    store.apply(&mark([1])).unwrap();
    assert_eq!(store.health(), Health::default());
}
