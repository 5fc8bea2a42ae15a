//! Damaged files of an embedded store: an error, never a wrong number, a panic or a hang; and what
//! `--accept-loss` makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cohortist::calendar::parse_moment;
use cohortist::sets::{EventName, Key, Prefix, Set};
use cohortist::store::embedded::{EmbeddedStore, check};
use cohortist::store::{KeyListing, Maintenance, Mark, Options, Result, Store, StoreError};

use crate::support::program::{Ran, Shop, program};

/// A generator of numbers that are the same in each run (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn options() -> Options {
    Options {
        create: false,
        cache_bytes: 1 << 20,
        ..Options::default()
    }
}

fn accepting() -> Options {
    Options {
        accept_loss: true,
        ..options()
    }
}

fn keys_of(event: &str, day: u32) -> Vec<Key> {
    let at = parse_moment(&format!("2026-11-{day:02}")).unwrap();
    Key::of_mark(&EventName::new(event).unwrap(), at, false)
        .unwrap()
        .collect()
}

fn marks(event: &str, day: u32, users: impl Iterator<Item = u32>, value: bool) -> Vec<Mark> {
    let keys = keys_of(event, day);
    users
        .flat_map(|user| {
            keys.iter().map(move |key| Mark {
                key: key.clone(),
                user,
                value,
            })
        })
        .collect()
}

/// What is in a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Contents {
    users: BTreeMap<Key, BTreeSet<u32>>,
    /// String ids under another prefix.
    texts: Vec<Option<String>>,
}

impl Contents {
    fn read(store: &EmbeddedStore) -> Result<Contents> {
        let mut users = BTreeMap::new();
        for key in store.keys("")? {
            let set = Set::Key(key.clone());
            let members: BTreeSet<u32> =
                store.members(&set, None, usize::MAX)?.into_iter().collect();
            let mut plan = cohortist::sets::Plan::new();
            plan.count_set(&set).unwrap();
            assert_eq!(store.count(&plan)?, [members.len() as u64], "{key}");
            users.insert(key, members);
        }
        let other = store.under(Prefix::new("texts_"));
        let numbers: Vec<u32> = (0..400).collect();
        let texts = other.string_ids().texts(&numbers)?.unwrap_or_default();
        // The other direction.
        for (number, text) in numbers.iter().zip(&texts) {
            let Some(text) = text else { continue };
            let found = other.string_ids().numbers(&[text])?;
            assert!(
                found == Some(vec![Some(*number)]) || found == Some(vec![None]),
                "{text}: {found:?}"
            );
        }
        Ok(Contents { users, texts })
    }
}

/// A store with all kinds of files, closed in order, and what is in it.
struct Sample {
    directory: tempfile::TempDir,
    contents: Contents,
    /// Everyone who ever was in a bitmap: with older files what was taken back may come back.
    ever: BTreeMap<Key, BTreeSet<u32>>,
    /// Its manifest before the last changes.
    older_manifest: Vec<u8>,
}

/// The events from which nobody was ever taken: what is left of these is never more than there was.
const ONLY_ADDED: [&str; 3] = ["active", "buy", "rare"];

impl Sample {
    fn new(seed: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let mut dice = Dice(seed);
        let mut ever: BTreeMap<Key, BTreeSet<u32>> = BTreeMap::new();
        let store = EmbeddedStore::open(
            &path,
            &Options {
                create: true,
                ..options()
            },
        )
        .unwrap();
        let mut apply = |marks: Vec<Mark>| {
            for mark in marks.iter().filter(|mark| mark.value) {
                ever.entry(mark.key.clone()).or_default().insert(mark.user);
            }
            store.apply(&marks).unwrap();
        };
        for day in 1..=20 {
            let from = dice.below(1000) as u32;
            apply(marks("active", day, (0..600).map(|n| from + n * 41), true));
            apply(marks(
                "buy",
                day,
                (0..40).map(|_| dice.below(30_000) as u32),
                true,
            ));
            apply(marks("undone", day, (0..30).map(|n| from + n), true));
        }
        apply(marks("gone", 3, 0..50, true));
        let texts: Vec<String> = (0..300)
            .map(|n| format!("user-{}@example.com", n * 7919 % 1000))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let other = store.under(Prefix::new("texts_"));
        other.string_ids().assign(&texts[..200]).unwrap();
        store.checkpoint().unwrap();
        apply(marks("active", 5, 900_000..900_050, true));
        apply(marks("rare", 21, [4_000_000_000].into_iter(), true));
        apply(marks("undone", 2, 0..2000, false));
        store.delete(&keys_of("gone", 3)).unwrap();
        other.string_ids().assign(&texts[200..250]).unwrap();
        let expires = keys_of("buy", 4)[0].text(&Prefix::default());
        store
            .keyspace()
            .change(|space| space.set_expires_at(&expires, Some(4_000_000_000_000)))
            .unwrap();
        store.checkpoint().unwrap();
        let older_manifest = fs::read(path.join("manifest")).unwrap();
        apply(marks("active", 6, 800_000..800_060, true));
        apply(marks("undone", 4, 0..2000, false));
        other.string_ids().assign(&texts[250..]).unwrap();
        let contents = Contents::read(&store).unwrap();
        drop((other, store));
        Sample {
            directory,
            contents,
            ever,
            older_manifest,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn copy(&self, to: &Path) {
        copy_files(&self.path(), to);
    }
}

pub fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The bytes of every file in a directory.
fn bytes_of(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|e| {
            (
                e.file_name().into_string().unwrap(),
                fs::read(e.path()).unwrap(),
            )
        })
        .collect()
}

/// Does something to one file of a store, and says what. `None` where it would change nothing.
fn mutate(directory: &Path, sample: &Sample, other: &Sample, dice: &mut Dice) -> Option<String> {
    let files = sample.files();
    let name = &files[dice.below(files.len())];
    let path = directory.join(name);
    let before = fs::read(&path).unwrap();
    let mut bytes = before.clone();
    let len = bytes.len();
    // Rather in the middle of things than in the padding of an empty file.
    let what = match dice.below(12) {
        0..=3 if len > 0 => {
            let bits: Vec<usize> = (0..=dice.below(3)).map(|_| dice.below(len * 8)).collect();
            bits.iter().for_each(|bit| bytes[bit / 8] ^= 1 << (bit % 8));
            format!("bits {bits:?} flipped")
        }
        4 | 5 if len > 0 => {
            let (from, most) = (dice.below(len), 1 << dice.below(13));
            let to = (from + most).min(len);
            bytes[from..to].fill(0);
            format!("bytes {from} to {to} zeroed")
        }
        6 | 7 if len > 0 => {
            bytes.truncate(dice.below(len));
            format!("cut to {} bytes", bytes.len())
        }
        8 => {
            let more = 1 + dice.below(100);
            let noise = dice.below(2) == 0;
            bytes.extend((0..more).map(|_| if noise { dice.next() as u8 } else { 0 }));
            format!("{more} bytes appended")
        }
        9 => {
            bytes.clear();
            "emptied".to_owned()
        }
        10 => {
            fs::remove_file(&path).unwrap();
            return (name != "lock").then(|| format!("{name} removed"));
        }
        _ => {
            // Another file in its place: of another store, or an older one.
            let theirs = other.files();
            let kind = |name: &str| name.split('-').next().unwrap_or_default().to_owned();
            bytes = match &theirs
                .iter()
                .find(|their| *their == name || kind(their) == kind(name))
            {
                Some(_) if name == "manifest" && dice.below(2) == 0 => {
                    sample.older_manifest.clone()
                }
                Some(their) => fs::read(other.path().join(their)).unwrap(),
                None => return None,
            };
            "replaced".to_owned()
        }
    };
    if bytes == before {
        return None;
    }
    fs::write(&path, bytes).unwrap();
    Some(format!("{name} ({len} bytes) {what}"))
}

/// Runs something that must neither panic nor take long.
fn bounded<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = mpsc::channel();
    std::thread::spawn(move || done.send(catch_unwind(AssertUnwindSafe(work))));
    let outcome = outcome
        .recv_timeout(Duration::from_secs(60))
        .unwrap_or_else(|_| panic!("{what}: hangs"));
    outcome.unwrap_or_else(|_| panic!("{what}: panics"))
}

/// The program on a store, ended when it takes too long.
fn run(what: &str, store: &Path, args: &[&str]) -> Ran {
    let mut command = program();
    command
        .arg("--store")
        .arg(store)
        .args(args)
        .env("COHORTIST_NOW", "2026-11-23T14:05:00Z");
    run_bounded(what, &mut command)
}

fn run_bounded(what: &str, command: &mut Command) -> Ran {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("{what}: the program hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let ran = Ran::from(child.wait_with_output().unwrap());
    for ugly in ["panicked", "RUST_BACKTRACE", "Error {", "Err("] {
        assert!(
            !ran.err.contains(ugly) && !ran.out.contains(ugly),
            "{what}: {}",
            ran.err
        );
    }
    ran
}

fn errors(ran: &Ran) -> Vec<&str> {
    ran.err
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect()
}

const QUESTIONS: [&str; 4] = [
    "active@2026-11",
    "active@2026-11-05",
    "undone@2026-11 & active@2026-11",
    "buy@2026-11-04",
];

fn seeded(from: usize, part: usize) {
    let all: usize = std::env::var("COHORTIST_TEST_MUTATIONS").map_or(300, |n| n.parse().unwrap());
    let (sample, other) = (Sample::new(1), Sample::new(2));
    let (mut mutations, mut harmless, mut refused, mut opened) = (0, 0, 0, 0);
    let count = [&["count"][..], &QUESTIONS].concat();
    let table = [
        "retention",
        "active",
        "buy",
        "--by",
        "day",
        "--format",
        "csv",
    ];
    let pristine = tempfile::tempdir().unwrap();
    sample.copy(pristine.path());
    let true_counts = run("as it was", pristine.path(), &count);
    let true_table = run("as it was", pristine.path(), &table);
    assert_eq!(
        (true_counts.code, true_table.code),
        (0, 0),
        "{}{}",
        true_counts.err,
        true_table.err
    );
    for number in (from..).step_by(part) {
        if mutations * part >= all {
            break;
        }
        let disk = tempfile::tempdir().unwrap();
        let at = |name: &str| disk.path().join(name);
        let mut dice = Dice(number as u64);
        sample.copy(&at("damaged"));
        let Some(what) = mutate(&at("damaged"), &sample, &other, &mut dice) else {
            continue;
        };
        let what = format!("mutation {number}: {what}");
        mutations += 1;
        for copy in ["check", "read", "count", "table", "accepted"] {
            copy_files(&at("damaged"), &at(copy));
        }

        // In this process.
        let path = at("read");
        let read = bounded(&what, move || {
            Contents::read(&EmbeddedStore::open(&path, &options())?)
        });
        if let Ok(read) = &read {
            assert_eq!(*read, sample.contents, "{what}");
        }
        // The program.
        for (name, args, expected) in [
            ("count", &count[..], &true_counts),
            ("table", &table[..], &true_table),
        ] {
            let ran = run(&what, &at(name), args);
            match ran.code {
                0 => assert_eq!(ran.out, expected.out, "{what}: {name}"),
                1 => {
                    let errors = errors(&ran);
                    assert_eq!(
                        (errors.len(), ran.out.as_str()),
                        (1, ""),
                        "{what}: {}",
                        ran.err
                    );
                    let [error] = errors[..] else { unreachable!() };
                    assert!(
                        error.contains("cohortist restore") && error.contains("--accept-loss"),
                        "{what}: {error}"
                    );
                }
                code => panic!("{what}: exit {code}: {}", ran.err),
            }
            if read.is_ok() {
                assert_eq!(ran.code, 0, "{what}: {}", ran.err);
            }
        }
        // Everything is checked, and nothing is written.
        let before = bytes_of(&at("check"));
        let ran = run(&what, &at("check"), &["check"]);
        assert_eq!(
            bytes_of(&at("check")),
            before,
            "{what}: `check` wrote something"
        );
        match ran.code {
            0 => {
                harmless += 1;
                assert!(
                    read.is_ok(),
                    "{what}: `check` finds nothing, and it cannot be read: {read:?}"
                );
            }
            code => assert!(code == 1 && !errors(&ran).is_empty(), "{what}: {}", ran.err),
        }
        // What is left of it.
        let path = at("accepted");
        let accepted = bounded(&what, move || {
            let store = EmbeddedStore::open(&path, &accepting())?;
            Ok::<_, StoreError>((Contents::read(&store)?, store.describe()?.notes))
        });
        let (left, notes) = match accepted {
            Ok(left) => left,
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty(), "{what}");
                continue;
            }
        };
        opened += 1;
        for (key, users) in &left.users {
            let ever = sample
                .ever
                .get(key)
                .unwrap_or_else(|| panic!("{what}: {key} was never made"));
            assert!(
                users.is_subset(ever),
                "{what}: {key} has users that were never in it"
            );
            if ONLY_ADDED.contains(&key.event().as_str()) {
                assert!(
                    users.is_subset(&sample.contents.users[key]),
                    "{what}: {key}"
                );
            }
        }
        for (number, text) in left
            .texts
            .iter()
            .enumerate()
            .filter(|(_, text)| text.is_some())
        {
            assert_eq!(*text, sample.contents.texts[number], "{what}");
        }
        if left != sample.contents {
            assert!(
                !notes.is_empty(),
                "{what}: something is lost, and nothing says so"
            );
        }
        // It is recorded, and needs no flag any more.
        let path = at("accepted");
        let again = bounded(&what, move || {
            let store = EmbeddedStore::open(&path, &options())?;
            Ok::<_, StoreError>((Contents::read(&store)?, store.describe()?.notes))
        });
        let (again, later) =
            again.unwrap_or_else(|error| panic!("{what}: it was accepted, and now: {error}"));
        assert_eq!(again, left, "{what}");
        assert_eq!(
            later.is_empty(),
            notes.is_empty(),
            "{what}: {notes:?}, later {later:?}"
        );
        let checked = check(&at("accepted")).unwrap();
        assert_eq!(
            checked
                .damages()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            [""; 0],
            "{what}"
        );
    }
    eprintln!(
        "{mutations} mutations: {harmless} change nothing that is read, {opened} open with --accept-loss, {refused} do not"
    );
    assert!(
        refused * 20 <= mutations,
        "{refused} of {mutations} stores cannot be opened at all"
    );
}

// More: COHORTIST_TEST_MUTATIONS=3000 cargo test --test it damage
#[rstest::rstest]
#[case(0)]
#[case(1)]
#[case(2)]
fn no_damage_becomes_a_wrong_number_a_panic_or_a_hang(#[case] part: usize) {
    seeded(part, 3);
}

/// A shop whose store has a segment and a log.
fn shop() -> Shop {
    let shop = Shop::new();
    let store = EmbeddedStore::open(&shop.path("cohortist.db"), &Options::default()).unwrap();
    store
        .apply(&marks("active", 3, (0..1000).map(|n| n * 7), true))
        .unwrap();
    store.apply(&marks("buy", 4, 0..10, true)).unwrap();
    store.checkpoint().unwrap();
    store.apply(&marks("buy", 5, 0..10, true)).unwrap();
    drop(store);
    shop
}

fn flip(path: &Path, at: impl FnOnce(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn named(shop: &Shop, beginning: &str) -> PathBuf {
    let entries = fs::read_dir(shop.path("cohortist.db"))
        .unwrap()
        .map(|e| e.unwrap().path());
    let mut found: Vec<PathBuf> = entries
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(beginning)
        })
        .collect();
    found.sort();
    found.remove(0)
}

#[test]
fn a_loss_is_accepted_on_the_command_line_alone_and_once() {
    let shop = shop();
    let question = [
        "count",
        "active@2026-11-03",
        "buy@2026-11-04",
        "buy@2026-11-05",
    ];
    let counts = "1000\tactive@2026-11-03\n10\tbuy@2026-11-04\n10\tbuy@2026-11-05\n";
    assert_eq!(shop.run(&question).done(), counts);
    let log = named(&shop, "log-");
    flip(&log, |len| len - 1);
    let damaged = |ran: Ran| {
        let error = ran.error(1);
        assert!(
            error.lines().count() == 1
                && error.contains(&*log.file_name().unwrap().to_string_lossy()),
            "{error}"
        );
        assert!(
            error.contains("cohortist restore") && error.contains("--accept-loss"),
            "{error}"
        );
    };
    damaged(shop.run(&question));
    // Not from the environment.
    for value in ["1", "true", ""] {
        damaged(
            shop.command(&question)
                .env("COHORTIST_ACCEPT_LOSS", value)
                .output()
                .unwrap()
                .into(),
        );
    }
    damaged(shop.run(&["info"]));
    let accepted = shop.run(&[&["--accept-loss"][..], &question].concat());
    assert_eq!(
        (accepted.code, accepted.out.as_str()),
        (
            0,
            &*counts.replace("10\tbuy@2026-11-05", "-\tbuy@2026-11-05")
        )
    );
    assert!(
        accepted.err.contains("lost and accepted") && accepted.err.contains("log-"),
        "{}",
        accepted.err
    );
    // Later starts need no flag, and still say it.
    let later = shop.run(&question);
    assert_eq!(
        (later.code, &later.out),
        (0, &accepted.out),
        "{}",
        later.err
    );
    assert!(later.err.contains("lost and accepted"), "{}", later.err);
    let info = shop.run(&["info"]);
    assert!(
        info.out.lines().any(|line| line.starts_with("lost ")),
        "{}",
        info.out
    );
    let json: serde_json::Value =
        serde_json::from_str(&shop.run(&["info", "--format", "json"]).out).unwrap();
    assert_eq!(json["losses"].as_array().unwrap().len(), 1, "{json}");
    let checked = shop.run(&["check"]);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert!(checked.err.contains("lost and accepted"), "{}", checked.err);
}

#[test]
fn check_reads_every_file_and_names_what_is_damaged() {
    let shop = shop();
    let whole = shop.run(&["check"]);
    let out = whole.quietly();
    for name in ["manifest", "segment-", "log-"] {
        let line = out
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{out}"));
        assert!(line.ends_with("  intact"), "{line}");
    }
    assert_eq!(out.lines().last(), Some("7 bitmaps"), "{out}");
    // Two files at once: a line for each.
    flip(&named(&shop, "segment-"), |_| 50);
    flip(&named(&shop, "log-"), |len| len - 1);
    let ran = shop.run(&["check"]);
    assert_eq!(ran.code, 1);
    let errors = errors(&ran);
    assert_eq!(errors.len(), 2, "{}", ran.err);
    assert!(
        errors[0].contains("segment-") && errors[0].contains("the block at byte 32"),
        "{}",
        errors[0]
    );
    assert!(
        errors[1].contains("log-") && errors[1].contains("--accept-loss"),
        "{}",
        errors[1]
    );
    assert_eq!(
        ran.out
            .lines()
            .filter(|line| line.ends_with("DAMAGED"))
            .count(),
        2,
        "{}",
        ran.out
    );
    // No store, another process, and other kinds of stores.
    assert!(
        shop.run(&["--store", "new.db", "check"])
            .error(1)
            .contains("there is no store at")
    );
    for command in ["check", "info", "compact"] {
        assert!(
            shop.run(&["--store", "redis://127.0.0.1:1", command])
                .error(2)
                .contains("cohortist copy")
        );
    }
}

#[test]
fn the_owner_of_a_store_is_named() {
    let shop = shop();
    let _store = EmbeddedStore::open(&shop.path("cohortist.db"), &Options::default()).unwrap();
    for command in ["check", "info", "compact"] {
        let error = shop.run(&[command]).error(1);
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{command}: {error}"
        );
    }
}

#[test]
fn compact_gives_back_what_was_deleted_and_info_says_how_much_that_is() {
    let shop = Shop::new();
    let store = EmbeddedStore::open(&shop.path("cohortist.db"), &Options::default()).unwrap();
    let mut dice = Dice(7);
    for day in 1..=10 {
        store
            .apply(&marks(
                "active",
                day,
                (0..4000).map(|_| dice.below(1 << 20) as u32),
                true,
            ))
            .unwrap();
        store
            .apply(&marks(
                "old:event",
                day,
                (0..400).map(|_| dice.below(1 << 20) as u32),
                true,
            ))
            .unwrap();
    }
    drop(store);
    shop.run(&["compact"]).done();
    let info = |shop: &Shop| -> serde_json::Value {
        serde_json::from_str(&shop.run(&["info", "--format", "json"]).done()).unwrap()
    };
    let full = info(&shop);
    let names: Vec<&str> = full["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["event"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["active", "old:event"]);
    assert_eq!(
        (&full["first_day"], &full["last_day"]),
        (&"2026-11-01".into(), &"2026-11-10".into()),
        "{full}"
    );
    assert_eq!(
        (
            &full["bitmaps"],
            &full["segments"],
            &full["estimated_free_bytes"]
        ),
        (&28.into(), &1.into(), &0.into())
    );
    let bytes = |value: &serde_json::Value| value.as_u64().unwrap();
    let by_event: u64 = full["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| bytes(&event["estimated_bytes"]))
        .sum();
    let table = bytes(&full["table_bytes"]);
    assert!(
        by_event > table / 2 && by_event <= table,
        "{by_event} of {table}"
    );
    // What a dry run says, and what comes of it.
    let dry = shop.run(&["delete", "active", "--dry-run"]);
    assert!(
        dry.code == 0 && dry.err.starts_with("14 bitmaps would be deleted, about "),
        "{}",
        dry.err
    );
    assert_eq!(
        shop.run(&["count", "active@2026-11-01"])
            .done()
            .trim()
            .len(),
        4
    );
    shop.run(&["delete", "active"]).done();
    let compacted = shop.run(&["compact"]);
    assert!(
        compacted.code == 0 && compacted.err.contains(" before, "),
        "{}",
        compacted.err
    );
    let now = info(&shop);
    assert!(bytes(&now["table_bytes"]) < table / 4, "{now} of {table}");
    assert_eq!(
        (&now["segments"], &now["estimated_free_bytes"]),
        (&1.into(), &0.into()),
        "{now}"
    );
    let text = shop.run(&["info"]).done();
    assert!(
        text.lines().any(|line| line.ends_with("  old:event")),
        "{text}"
    );
}

/// What a dry run promises is what comes back, within a factor of two: scattered, dense and
/// consecutive users, in one segment or several.
#[test]
fn sizes_are_what_deleting_gives_back() {
    let dense = |dice: &mut Dice| {
        (0..200_000)
            .filter(|_| dice.below(3) == 0)
            .collect::<Vec<u32>>()
    };
    let sparse = |dice: &mut Dice| {
        let users: BTreeSet<u32> = (0..3000).map(|_| dice.below(4_000_000) as u32).collect();
        users.into_iter().collect::<Vec<u32>>()
    };
    let consecutive = |_: &mut Dice| (1000..150_000).collect::<Vec<u32>>();
    type Kind<'a> = &'a dyn Fn(&mut Dice) -> Vec<u32>;
    let kinds: [Kind<'_>; 3] = [&dense, &sparse, &consecutive];
    for (kind, users) in kinds.iter().enumerate() {
        for checkpoints in [1, 3] {
            let directory = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(directory.path(), &Options::default()).unwrap();
            let mut dice = Dice(5);
            for round in 0..checkpoints {
                for day in 1..=if kind == 2 { 28 } else { 4 } {
                    for event in ["kept", "deleted"] {
                        let users = users(&mut dice);
                        // Not all of a bitmap at once.
                        let part = &users[users.len() * round / checkpoints
                            ..users.len() * (round + 1) / checkpoints];
                        let key = keys_of(event, day).pop().unwrap();
                        store.add(&[(&key, part)]).unwrap();
                    }
                }
                store.checkpoint().unwrap();
            }
            let bytes = || store.health().files.unwrap().store_bytes;
            let keys: Vec<Key> = store.keys("deleted").unwrap();
            let promised: u64 = store
                .sizes(&keys)
                .unwrap()
                .into_iter()
                .map(Option::unwrap)
                .sum();
            let before = bytes();
            store.delete(&keys).unwrap();
            store.keyspace().compact().unwrap();
            let given_back = before - bytes();
            // Merging gives back a part of what is kept, too.
            let most = if checkpoints == 1 { 2 } else { 3 };
            assert!(
                promised <= 2 * given_back && given_back <= most * promised,
                "kind {kind}, {checkpoints} checkpoints: {promised} promised, {given_back} given back of {before}"
            );
        }
    }
}

#[test]
fn leftovers_are_removed_at_the_next_start() {
    let shop = shop();
    let directory = shop.path("cohortist.db");
    let kept = bytes_of(&directory);
    let leftovers = [
        "backup-under-way-77",
        "backup-under-way-77.part-4711",
        "log-0",
        "log-1.torn-at-1234",
        "segment-999",
        "manifest.new",
        "bitmaps.redb",
        "bitmaps.redb.new-55",
    ];
    for name in leftovers {
        shop.write(
            &format!("cohortist.db/{name}"),
            "what a killed process left",
        );
    }
    assert_eq!(shop.run(&["count", "buy@2026-11-05"]).quietly(), "10\n");
    let left: Vec<String> = bytes_of(&directory).into_keys().collect();
    assert!(kept.keys().eq(&left), "{left:?}");
}

#[test]
fn a_store_whose_manifest_is_gone_is_damaged_and_not_new() {
    let shop = Shop::new();
    shop.run(&["mark", "active", "1", "2", "--at", "2026-11-23"])
        .done();
    // There is a log alone so far.
    let manifest = shop.path("cohortist.db/manifest");
    let whole = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    for args in [
        &["count", "active@2026-11-23"][..],
        &["mark", "active", "3"],
    ] {
        let error = shop.run(args).error(1);
        assert!(
            error.contains("manifest is damaged: the file is missing"),
            "{error}"
        );
    }
    fs::write(&manifest, whole).unwrap();
    assert_eq!(shop.run(&["count", "active@2026-11-23"]).done(), "2\n");
    fs::remove_file(&manifest).unwrap();
    let accepted = shop.run(&["--accept-loss", "count", "active@2026-11-23"]);
    assert_eq!(
        (accepted.code, accepted.out.as_str()),
        (0, "2\n"),
        "{}",
        accepted.err
    );
    assert_eq!(shop.run(&["count", "active@2026-11-23"]).done(), "2\n");
}

/// A user whose string id was lost would get a second one.
#[test]
fn an_import_into_a_store_that_lost_string_ids_must_be_asked_for() {
    let shop = Shop::new();
    let rows: String = (0..30)
        .map(|n| format!("user-{n},a,2026-11-23\n"))
        .collect();
    let file = shop.write("a.csv", format!("user,event,timestamp\n{rows}"));
    shop.run(&["--ids", "map", "import", &file]).done();
    shop.run(&["compact"]).done();
    shop.run(&["mark", "a", "late"]).done();
    flip(&named(&shop, "segment-"), |_| 50);
    shop.run(&["--accept-loss", "events"]).done();
    let error = shop.run(&["import", &file]).error(1);
    for part in ["30 string ids", "cohortist restore", "--ids-may-repeat"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let ran = shop
        .command(&["import", &file])
        .env("COHORTIST_IDS_MAY_REPEAT", "1")
        .output()
        .unwrap();
    assert!(!ran.status.success(), "not from the environment");
    shop.run(&["import", &file, "--ids-may-repeat"]).done();
    assert_eq!(shop.run(&["count", "a@2026-11-23"]).done(), "31\n");
}
