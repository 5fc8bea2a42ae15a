//! The embedded store on a disk that is full: a small `tmpfs` in a mount namespace of its own.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cohortist::sets::{EventName, Key, Set};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Health, Mark, Options, Store, StoreError};

const DISK: &str = "COHORTIST_TEST_FULL_DISK_AT";

/// Runs this test again in a process whose mount namespace has a disk of so many kilobytes, and `check` in that process.
pub fn on_a_disk_of(kilobytes: u32, check: impl FnOnce(&Path)) {
    if let Ok(disk) = std::env::var(DISK) {
        return check(Path::new(&disk));
    }
    let directory = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={kilobytes}k tmpfs \"${DISK}\" && exec \"$0\" \"$@\"");
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &mount])
        .arg(std::env::current_exe().unwrap())
        .args([std::thread::current().name().unwrap(), "--exact", "--nocapture"])
        .env(DISK, directory.path())
        .output()
        .expect("`unshare`, of util-linux, is needed");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Takes up all space but so many bytes; gives it back when dropped.
pub struct Filler(PathBuf);

impl Filler {
    pub fn all_but(disk: &Path, left: usize) -> Self {
        let path = disk.join("filler");
        let mut file = File::create(&path).unwrap();
        let error = (0..).find_map(|_| file.write_all(&[7; 4096]).err()).unwrap();
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
    users.into_iter().map(|user| Mark { key: key(), user, value: true }).collect()
}

fn people(store: &dyn Store) -> Vec<u32> {
    store.members(&Set::Key(key()), None, usize::MAX).unwrap()
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
        assert_eq!((store.health().writable, store.health().write_errors), (Ok(()), 0));
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
        assert_eq!((health.writable, health.write_errors), (Err(error.to_string()), 1));
        assert!(store.apply(&mark(user + 1..user + 400)).is_err());
        assert_eq!(store.health().write_errors, 2);
        drop(filler);
        assert_eq!(recovered(&store).write_errors, 2);
        assert_eq!(people(&store), (1..=user).collect::<Vec<_>>());
        store.apply(&mark([9_000_000])).unwrap();
        drop(store);
        // What was tried meanwhile changed nothing.
        let store = EmbeddedStore::open(&path, &Options::default()).unwrap();
        assert_eq!(people(&store), (1..=user).chain([9_000_000]).collect::<Vec<_>>());
        assert_eq!(store.describe().unwrap().notes, [""; 0]);
    });
}

#[test]
fn a_checkpoint_that_does_not_fit_is_reported_until_it_does() {
    on_a_disk_of(16_000, |disk| {
        let store = EmbeddedStore::open(&disk.join("store"), &Options::default()).unwrap();
        let far_apart: Vec<u32> = (0..2000).map(|n| n * 65_536).collect();
        store.apply(&mark(far_apart.iter().copied())).unwrap();
        let filler = Filler::all_but(disk, 40_000);
        let error = store.checkpoint().unwrap_err();
        assert!(matches!(error, StoreError::Write { .. }), "{error:?}");
        let files = store.health().files.unwrap();
        assert_eq!((store.health().writable, files.checkpoints), (Err(error.to_string()), 0));
        assert!(files.checkpoint_failures > 0);
        assert_eq!(people(&store), far_apart, "everything can still be read");
        drop(filler);
        let files = recovered(&store).files.unwrap();
        assert_eq!(files.checkpoints, 1);
        assert!(files.checkpoint_seconds.sum >= files.last_checkpoint.unwrap());
        assert_eq!(files.checkpoint_seconds.count, files.checkpoints + files.checkpoint_failures);
        let database = std::fs::metadata(disk.join("store/bitmaps.redb")).unwrap().len();
        assert_eq!(files.store_bytes, database);
        assert_eq!(people(&store), far_apart);
    });
}

/// The checkpoint fails, and its file cannot be opened again: everybody gets an error meanwhile, nobody hangs, and all is
/// there once both work again.
#[test]
fn a_file_that_cannot_be_opened_again_blocks_nobody() {
    on_a_disk_of(16_000, |disk| {
        let path = disk.join("store");
        let options = Options { cache_bytes: 0, ..Options::default() };
        let store = EmbeddedStore::open(&path, &options).unwrap();
        store.apply(&mark([1])).unwrap();
        store.checkpoint().unwrap();
        let far_apart: Vec<u32> = (1..2000).map(|n| n * 65_536).collect();
        store.apply(&mark(far_apart.iter().copied())).unwrap();
        let (file, aside) = (path.join("bitmaps.redb"), path.join("bitmaps.redb.aside"));
        std::fs::rename(&file, &aside).unwrap();
        std::fs::create_dir(&file).unwrap();
        let filler = Filler::all_but(disk, 40_000);
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
                        _ => drop(store.members(&Set::Key(key()), None, 3)),
                    }
                }
                ended.send(()).unwrap();
            });
        }
        for _ in 0..6 {
            all.recv_timeout(Duration::from_secs(60)).expect("a thread hangs or failed");
        }
        assert!(store.health().writable.is_err());
        drop(filler);
        std::fs::remove_dir(&file).unwrap();
        std::fs::rename(&aside, &file).unwrap();
        recovered(&store);
        let found = people(&*store);
        assert!(found.starts_with(&[1]) && found.ends_with(&far_apart), "{} of {}", found.len(), far_apart.len());
    });
}

#[test]
fn a_store_without_files_has_no_figures_of_them() {
    let store = EmbeddedStore::in_memory(&Options::default());
    store.apply(&mark([1])).unwrap();
    assert_eq!(store.health(), Health::default());
}
