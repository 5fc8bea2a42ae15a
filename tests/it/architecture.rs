//! The tree keeps its promises: imports go one way, and the clock is read in one place.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room of `src`, and the rooms it may see.
const ROOMS: &[(&str, &[&str])] = &[
    ("calendar", &[]),
    ("clock", &[]),
    ("telemetry", &[]),
    ("sets", &["calendar"]),
    ("ingest", &["sets", "calendar"]),
    ("listen", &[]),
    ("peers", &["telemetry"]),
    ("bitmap", &["sets"]),
    ("store", &["sets", "bitmap", "clock", "telemetry"]),
    ("reports", &["sets", "calendar"]),
    ("tracker", &["store", "reports", "sets", "calendar"]),
    ("render", &["reports", "sets", "calendar"]),
    (
        "resp",
        &[
            "store",
            "bitmap",
            "sets",
            "clock",
            "telemetry",
            "peers",
            "listen",
        ],
    ),
    ("demo", &["tracker", "sets", "calendar"]),
    (
        "server",
        &[
            "render",
            "tracker",
            "store",
            "reports",
            "sets",
            "calendar",
            "clock",
            "telemetry",
            "peers",
            "listen",
        ],
    ),
    (
        "cli",
        &[
            "server", "resp", "demo", "ingest", "bitmap", "render", "tracker", "store", "reports",
            "sets", "calendar", "clock",
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

/// A method with a default that a store in front of another forgets would answer the default for
/// every store.
#[test]
fn stores_in_front_of_others_hand_every_method_on() {
    let read = |file: &str| fs::read_to_string(src().join("store").join(file)).unwrap();
    let trait_of_stores = read("mod.rs");
    let body = trait_of_stores
        .split("pub trait Store")
        .nth(1)
        .unwrap()
        .split("\n}\n")
        .next()
        .unwrap();
    let methods: Vec<&str> = body
        .split("\n    fn ")
        .skip(1)
        .map(|rest| rest.split(['(', '<']).next().unwrap())
        .collect();
    assert!(
        methods.contains(&"apply") && methods.contains(&"describe"),
        "{methods:?}"
    );
    // CachedStore is the one that looks and is told of changes itself.
    for (file, own) in [
        ("padded_keys.rs", &[][..]),
        ("cache.rs", &["look", "on_change"]),
    ] {
        let front = read(file);
        let handed_on = front
            .split("impl Store for")
            .nth(1)
            .unwrap()
            .split("\n}\n")
            .next()
            .unwrap();
        for method in methods.iter().filter(|method| !own.contains(*method)) {
            assert!(
                handed_on.contains(&format!("\n    fn {method}(")),
                "{file} does not hand on `{method}`"
            );
        }
    }
}
