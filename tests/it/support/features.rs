//! Expected results of reports (`tests/fixtures/features`).

use std::path::Path;

use serde_json::Value;

/// Reads one of the files.
pub fn feature(name: &str) -> Value {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/features");
    let path = directory.join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}
