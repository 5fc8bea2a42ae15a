//! The tree keeps its promises: imports go one way, and the clock is read in one place.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room of `src`, and the rooms it may see.
const ROOMS: &[(&str, &[&str])] = &[
    ("calendar", &[]),
    ("clock", &[]),
    ("telemetry", &[]),
    ("panics", &[]),
    ("sets", &["calendar"]),
    ("values", &["sets", "calendar"]),
    ("ingest", &["values", "sets", "calendar", "panics"]),
    ("listen", &[]),
    ("process", &[]),
    ("peers", &["telemetry"]),
    ("bitmap", &["sets"]),
    ("store", &["sets", "bitmap", "clock", "telemetry", "panics"]),
    ("stats", &[]),
    ("reports", &["stats", "sets", "calendar"]),
    (
        "tracker",
        &["store", "reports", "values", "sets", "calendar", "clock"],
    ),
    ("render", &["reports", "stats", "sets", "calendar"]),
    (
        "endpoints",
        &["reports", "tracker", "store", "sets", "calendar"],
    ),
    (
        "resp",
        &[
            "store",
            "bitmap",
            "sets",
            "clock",
            "telemetry",
            "peers",
            "process",
            "listen",
        ],
    ),
    ("demo", &["tracker", "sets", "calendar"]),
    (
        "server",
        &[
            "endpoints",
            "render",
            "tracker",
            "store",
            "reports",
            "stats",
            "values",
            "sets",
            "calendar",
            "clock",
            "telemetry",
            "peers",
            "process",
            "listen",
        ],
    ),
    (
        "cli",
        &[
            "endpoints",
            "server",
            "resp",
            "demo",
            "ingest",
            "bitmap",
            "render",
            "tracker",
            "store",
            "reports",
            "values",
            "sets",
            "calendar",
            "clock",
        ],
    ),
    ("main", &["cli"]),
];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The names of modules behind each `crate::` or `cohortist::` of a line; `Tracker` and its kin
/// live in `tracker`.
fn seen(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or(line);
    let roots = ["crate::", "cohortist::"];
    let behind = roots.iter().flat_map(|root| {
        code.match_indices(root)
            .map(move |(at, _)| &code[at + root.len()..])
    });
    let name = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    behind
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => list
                .split([',', '}'])
                .map(|item| name(item.trim()))
                .collect(),
            None => vec![name(rest)],
        })
        .filter(|name| !name.is_empty())
        .map(|name| {
            if name.starts_with(char::is_uppercase) {
                "tracker".to_owned()
            } else {
                name
            }
        })
        .collect()
}

#[test]
fn imports_go_one_way() {
    let mut rooms = BTreeSet::new();
    for path in sources(&src()) {
        let inside = path.strip_prefix(src()).unwrap();
        let room = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        if room == "lib" {
            continue;
        }
        rooms.insert(room.to_owned());
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            panic!("src/{room} is new: say in {} what it may import", file!());
        };
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            for name in seen(line) {
                let known = ROOMS.iter().any(|(room, _)| *room == name);
                assert!(
                    !known || name == room || allowed.contains(&name.as_str()),
                    "{}:{}: {room} must not see {name}",
                    inside.display(),
                    number + 1
                );
            }
        }
    }
    let listed: BTreeSet<String> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms, listed, "rooms in src, rooms listed here");
}

/// The methods of a trait in `text`.
fn methods_of<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let after = text
        .split(&format!("pub trait {name}"))
        .nth(1)
        .unwrap_or_else(|| panic!("there is a trait {name}"));
    let body = after.split("\n}\n").next().unwrap();
    let methods: Vec<&str> = body
        .split("\n    fn ")
        .skip(1)
        .map(|rest| rest.split(['(', '<']).next().unwrap())
        .collect();
    assert!(!methods.is_empty(), "{name} has methods");
    methods
}

/// Most methods of a store have a default. A store that wraps another one and forgets to pass such
/// a method on would answer with the default for every store.
#[test]
fn stores_in_front_of_others_hand_every_method_on() {
    let read = |file: &str| fs::read_to_string(src().join("store").join(file)).unwrap();
    let traits = read("traits.rs");
    let supertraits = traits.split("pub trait Store: ").nth(1).unwrap();
    let supertraits: Vec<&str> = supertraits
        .split(" {")
        .next()
        .unwrap()
        .split(" + ")
        .filter(|name| !["Send", "Sync"].contains(name))
        .collect();
    assert_eq!(
        supertraits,
        ["KeyListing", "Documents", "ChangeFeed", "Maintenance"]
    );
    assert!(methods_of(&traits, "Store").len() <= 10);
    // CachedStore uses the feed of its store, and has none itself.
    for (file, own) in [
        ("padded_keys.rs", &[][..]),
        ("cache.rs", &["on_change", "states"]),
    ] {
        let wrapper = read(file);
        for name in ["Store"].iter().chain(&supertraits) {
            let implementation = wrapper.split(&format!("impl {name} for")).nth(1).unwrap();
            let implementation = implementation.split("\n}\n").next().unwrap();
            let methods = methods_of(&traits, name);
            for method in methods.iter().filter(|method| !own.contains(*method)) {
                assert!(
                    implementation.contains(&format!("\n    fn {method}(")),
                    "{file} does not pass on {name}::{method}"
                );
            }
        }
    }
}
