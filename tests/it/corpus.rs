//! The inputs that are kept for the fuzzers, and all that ever failed, through the same properties:
//! on each test run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::properties;

/// The files of a target: what it begins with, and what once went wrong.
fn kept(target: &str) -> Vec<PathBuf> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut files = Vec::new();
    for directory in ["corpus", "regressions"] {
        let directory = fuzz.join(directory).join(target);
        let found = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        files.extend(found.map(|entry| entry.unwrap().path()));
    }
    files.sort();
    files
}

/// Says which file it was that failed.
fn replay(target: &str, check: fn(&[u8])) {
    let files = kept(target);
    assert!(
        files.len() >= 20,
        "only {} kept inputs of {target}",
        files.len()
    );
    let failed: Vec<&PathBuf> = files
        .iter()
        .filter(|file| {
            let bytes = fs::read(file).unwrap();
            std::panic::catch_unwind(|| check(&bytes)).is_err()
        })
        .collect();
    assert!(
        failed.is_empty(),
        "these inputs of {target} fail, each for the reason told above: {failed:#?}"
    );
}

#[test]
fn resp() {
    replay("resp", properties::resp::check);
}

#[test]
fn segments() {
    replay("segments", properties::segments::check);
}

#[test]
fn collect() {
    replay("collect", properties::collect::check);
}

#[test]
fn values() {
    replay("values", properties::values::check);
}

#[test]
fn import() {
    replay("import", properties::import::check);
}

#[test]
fn import_is_as_quick_as_the_file_is_long() {
    replay("import", properties::import::is_quick);
}

/// `fuzz` is a workspace of its own, which nothing here builds: what the crate comes to need has to
/// be in its lock too.
#[test]
fn the_lock_of_the_fuzzers_is_no_older_than_the_manifest() {
    let read = |path: &str| -> toml::Table {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
            .unwrap()
            .parse()
            .unwrap()
    };
    let (manifest, lock) = (read("Cargo.toml"), read("fuzz/Cargo.lock"));
    let package = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["name"].as_str() == Some("cohortist"))
        .unwrap();
    // A name stands alone, or with a version where there are several.
    let locked: Vec<&str> = package["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it.as_str()?.split(' ').next())
        .collect();
    // Those of some machines stand by themselves.
    let of_targets = manifest["target"]
        .as_table()
        .unwrap()
        .values()
        .map(|target| &target["dependencies"]);
    let wanted: Vec<&str> = [&manifest["dependencies"]]
        .into_iter()
        .chain(of_targets)
        .flat_map(|dependencies| dependencies.as_table().unwrap().keys().map(String::as_str))
        .collect();
    let missing: Vec<&&str> = wanted
        .iter()
        .filter(|name| !locked.contains(name))
        .collect();
    let gone: Vec<&&str> = locked
        .iter()
        .filter(|name| !wanted.contains(name))
        .collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "fuzz/Cargo.lock lacks {missing:?} and has {gone:?}: run `cargo update --workspace --manifest-path fuzz/Cargo.toml`"
    );
}
