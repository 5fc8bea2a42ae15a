//! Stores of older formats: converted at the first start, with the same answers.
//!
//! `tests/fixtures/stores/format-N` holds the packed files of one: a redb file of the last
//! checkpoint and a log beside it. That of format 4 was made by the last version that wrote it.
//! Those of 1 to 3 were made from it by leaving out what these formats did not have: string ids
//! (before 4), expiry times (before 3), and the number of users in each tile (before 2).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use cohortist::sets::{Plan, Prefix, SetContext, parse_set};
use cohortist::store::embedded::{EmbeddedStore, check, restore};
use cohortist::store::{Options, Store, StoreError};

use crate::support::program::Shop;

fn fixture(format: u64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/stores/format-{format}"))
}

/// Makes the store of a format in a new directory.
pub fn unpack(format: u64, directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    for entry in fs::read_dir(fixture(format)).unwrap().map(Result::unwrap) {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(fs::File::open(entry.path()).unwrap())
            .read_to_end(&mut bytes)
            .unwrap();
        let name = entry.file_name().into_string().unwrap();
        fs::write(directory.join(name.strip_suffix(".gz").unwrap()), bytes).unwrap();
    }
}

/// What these stores were asked before they were packed, and what they answered. The log holds the
/// mark of the 22nd, a user taken back on the 21st, and an event that was deleted.
const ANSWERS: [(&str, u64); 12] = [
    ("active@2026-11-20", 4),
    ("active@2026-11-21", 2),
    ("active@2026-11-22", 1),
    ("active@2026-11-21T00", 3),
    ("active@2026-11", 5),
    ("plan:pro@ever", 2),
    ("bulk@2026-11", 2501),
    ("bulk@2026-W47", 2501),
    ("brief@2026-11-20", 1),
    ("none@2026-11-20", 0),
    ("over@2026-11-20", 0),
    ("active@2026-11 & bulk@2026-11", 1),
];

/// Opens a store of a format, or one that was converted from it, and checks all answers.
pub fn answers(format: u64, directory: &Path, what: &str) {
    let options = Options {
        create: false,
        ..Options::default()
    };
    let store =
        EmbeddedStore::open(directory, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut plan = Plan::new();
    for (set, _) in ANSWERS {
        plan.count_set(&parse_set(set, SetContext::empty()).unwrap())
            .unwrap();
    }
    let counts: Vec<(&str, u64)> = ANSWERS
        .iter()
        .map(|(set, _)| *set)
        .zip(store.count(&plan).unwrap())
        .collect();
    assert_eq!(counts, ANSWERS, "{what}");
    let active = parse_set("active@2026-11", SetContext::empty()).unwrap();
    assert_eq!(
        store.members(&active, None, 9).unwrap(),
        [1, 2, 9, 70_000, 4_000_000_000],
        "{what}"
    );
    let keyspace = store.keyspace();
    let until = keyspace
        .read(|look| Ok(look.expires_at("trackist_brief_2026-11-20")))
        .unwrap();
    assert_eq!(until.is_some(), format >= 3, "{what}");
    // Empty bitmaps, and what is not of any event.
    assert!(
        keyspace
            .read(|look| look.exists("trackist_none_2026-11-20"))
            .unwrap(),
        "{what}"
    );
    assert!(
        keyspace.read(|look| look.bit("other_key", 5)).unwrap(),
        "{what}"
    );
    let texts = store.under(Prefix::new("texts_"));
    let found = texts
        .string_ids()
        .numbers(&["ann@example.com", "bob@example.com", "eve@example.com"])
        .unwrap();
    assert_eq!(
        found,
        (format >= 4).then(|| vec![Some(0), Some(1), Some(2)]),
        "{what}"
    );
    if format >= 4 {
        assert_eq!(texts.string_ids().next().unwrap(), Some(3), "{what}");
        assert_eq!(
            texts.string_ids().texts(&[2]).unwrap(),
            Some(vec![Some("eve@example.com".to_owned())]),
            "{what}"
        );
    }
    drop((texts, keyspace, store));
    let checked = check(directory).unwrap();
    assert_eq!(
        checked
            .damages()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        [""; 0],
        "{what}"
    );
}

#[rstest::rstest]
#[case(1)]
#[case(2)]
#[case(3)]
#[case(4)]
fn a_store_of_an_older_format_answers_the_same(#[case] format: u64) {
    let shop = Shop::new();
    let store = shop.path("cohortist.db");
    unpack(format, &store);
    let checked = shop.run(&["check"]).error(1);
    assert!(
        checked.contains("older format") && checked.contains("converts it"),
        "{checked}"
    );
    let first = shop.run(&["events"]);
    assert_eq!(
        (first.code, first.out.as_str()),
        (0, "active\nbrief\nbulk\nnone\nplan:pro\n"),
        "{}",
        first.err
    );
    assert!(
        first
            .err
            .contains(&format!("had format {format} and was converted")),
        "{}",
        first.err
    );
    assert!(!store.join("bitmaps.redb").exists());
    answers(format, &store, "converted");
    // It is said once.
    let again = shop.run(&["events"]);
    assert!(!again.err.contains("was converted"), "{}", again.err);
    // Marks go on where the old store ended.
    shop.run(&["mark", "active", "10", "--at", "2026-11-22"])
        .done();
    assert_eq!(shop.run(&["count", "active@2026-11-22"]).done(), "2\n");
}

#[rstest::rstest]
#[case(1)]
#[case(4)]
fn a_backup_of_an_older_version_is_restored(#[case] format: u64) {
    let directory = tempfile::tempdir().unwrap();
    unpack(format, &directory.path().join("old"));
    // An old backup is a redb file: here without what the log beside it held.
    let restored = directory.path().join("restored");
    restore(&directory.path().join("old/bitmaps.redb"), &restored).unwrap();
    let store = EmbeddedStore::open(&restored, &Options::default()).unwrap();
    let mut plan = Plan::new();
    for set in [
        "active@2026-11-20",
        "active@2026-11-21",
        "active@2026-11-22",
        "over@2026-11-20",
    ] {
        plan.count_set(&parse_set(set, SetContext::empty()).unwrap())
            .unwrap();
    }
    assert_eq!(store.count(&plan).unwrap(), [4, 3, 0, 1]);
}

/// The old files are read as strictly as the new ones: what is damaged is not converted, and stays
/// as it is.
#[test]
fn a_damaged_store_of_an_older_format_is_not_converted() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    unpack(4, &whole);
    let mut dice = crate::damage::Dice(11);
    let mut refused = 0;
    for number in 0..60 {
        let damaged = directory.path().join(format!("damaged-{number}"));
        crate::damage::copy_files(&whole, &damaged);
        let name = if number % 4 == 0 {
            "log-1"
        } else {
            "bitmaps.redb"
        };
        let mut bytes = fs::read(damaged.join(name)).unwrap();
        let (at, most) = (dice.below(bytes.len()), 1 << dice.below(10));
        let end = (at + most).min(bytes.len());
        match number % 3 {
            0 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x41),
            1 => bytes[at..end].fill(0),
            _ => bytes[at] ^= 4,
        }
        fs::write(damaged.join(name), &bytes).unwrap();
        let outcome = EmbeddedStore::open(
            &damaged,
            &Options {
                create: false,
                ..Options::default()
            },
        );
        match outcome {
            // The last record of a log may be torn, and parts of the other file are not in use.
            Ok(store) => {
                let notes = store.describe().unwrap().notes;
                drop(store);
                if notes.len() == 1 && name != "log-1" {
                    answers(4, &damaged, &format!("{name}, byte {at}"));
                }
            }
            Err(error) => {
                refused += 1;
                assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
                assert_eq!(
                    fs::read(damaged.join("log-1")).unwrap().len(),
                    fs::read(whole.join("log-1")).unwrap().len()
                );
                assert!(
                    damaged.join("bitmaps.redb").exists() && !damaged.join("manifest").exists()
                );
            }
        }
        fs::remove_dir_all(&damaged).unwrap();
    }
    assert!(refused >= 10, "{refused}");
}
