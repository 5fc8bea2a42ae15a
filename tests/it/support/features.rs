//! Expected results of reports (`tests/fixtures/features`).

use std::path::Path;

use cohortist::calendar::parse_moment;
use cohortist::sets::EventName;
use cohortist::{Extent, Tracker};
use serde_json::Value;

/// Reads one of the files.
pub fn feature(name: &str) -> Value {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/features");
    let path = directory.join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Records the marks of `toy.json`.
pub fn mark_toy(tracker: &Tracker) {
    let toy = feature("toy");
    let full = tracker.clone().with_extent(Extent {
        hourly: true,
        ever: false,
    });
    let mut batch = full.batch();
    for mark in toy["marks"].as_array().unwrap() {
        let event = EventName::new(mark[0].as_str().unwrap()).unwrap();
        let user = u32::try_from(mark[1].as_u64().unwrap()).unwrap();
        batch
            .mark(
                &event,
                user,
                parse_moment(mark[2].as_str().unwrap()).unwrap(),
            )
            .unwrap();
    }
    for (event, users) in toy["ever"].as_object().unwrap() {
        let event = EventName::new(event).unwrap();
        for user in users.as_array().unwrap() {
            batch.mark_ever(&event, u32::try_from(user.as_u64().unwrap()).unwrap());
        }
    }
    batch.commit().unwrap();
}
