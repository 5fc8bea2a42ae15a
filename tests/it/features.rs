//! The library without Cargo features stays small.

use std::path::Path;
use std::process::Command;

/// A library must not pull in what only the program needs.
const BANNED: &[&str] = &[
    "actix-web",
    "clap",
    "indicatif",
    "plotters",
    "prometheus",
    "tikv-jemallocator",
];

/// There must be fewer crates than this, the library included.
const MOST_CRATES: usize = 110;

/// The names of all crates that a build of the library without features needs.
fn crates_without_features() -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal"])
        .args(["--no-default-features", "--prefix", "none", "--no-dedupe"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "cargo tree: {errors}");
    let mut lines: Vec<&str> = std::str::from_utf8(&tree.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    lines.dedup();
    let name = |line: &str| line.split(' ').next().unwrap().to_owned();
    lines.into_iter().map(name).collect()
}

#[test]
fn the_library_without_features_pulls_in_no_web_terminal_or_chart_crate() {
    let crates = crates_without_features();
    assert!(crates.contains(&"cohortist".to_owned()), "{crates:?}");
    for banned in BANNED {
        assert!(!crates.contains(&(*banned).to_owned()), "{banned}");
    }
    assert!(
        crates.len() < MOST_CRATES,
        "{} crates: {crates:?}",
        crates.len()
    );
}
