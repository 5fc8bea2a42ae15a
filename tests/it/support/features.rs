//! Expected results of reports (`tests/fixtures/features`).

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use cohortist::calendar::parse_moment;
use cohortist::sets::{EventName, SetContext, parse_set};
use cohortist::store::Store;
use cohortist::{Extent, Tracker};
use serde_json::Value;

/// The same store; marks set hours too.
pub fn hourly(tracker: &Tracker) -> Tracker {
    tracker.clone().with_extent(Extent {
        hourly: true,
        ever: false,
    })
}

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
    let hourly = hourly(tracker);
    let mut batch = hourly.batch();
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

/// The `now` of `toy.json`.
pub fn toy_now() -> DateTime<Utc> {
    parse_moment(feature("toy")["now"].as_str().unwrap()).unwrap()
}

/// Creates a tracker with the marks of `toy.json`, whose store is live at their [`toy_now`].
pub fn live_toy(store: Arc<dyn Store>) -> Tracker {
    let tracker = Tracker::new(store);
    mark_toy(&tracker);
    heartbeat(&tracker, toy_now());
    tracker
}

/// Marks a user of another event, so that the store counts as live at this moment.
pub fn heartbeat(tracker: &Tracker, now: DateTime<Utc>) {
    let event = EventName::new("zz:heartbeat").unwrap();
    hourly(tracker).mark(&event, 0, now).unwrap();
}

/// Records marks of a case: lists of event, user and moment.
pub fn mark_all(tracker: &Tracker, marks: &Value) {
    let hourly = hourly(tracker);
    let mut batch = hourly.batch();
    for mark in marks.as_array().unwrap() {
        let event = EventName::new(mark[0].as_str().unwrap()).unwrap();
        let user = u32::try_from(mark[1].as_u64().unwrap()).unwrap();
        let at = parse_moment(mark[2].as_str().unwrap()).unwrap();
        batch.mark(&event, user, at).unwrap();
    }
    batch.commit().unwrap();
}

/// Returns the users of a set, given as text. Its count agrees with them.
pub fn users(tracker: &Tracker, text: &str) -> Vec<u32> {
    let catalogue = tracker.catalogue().unwrap();
    let context = SetContext {
        catalogue: &catalogue,
        ..SetContext::empty()
    };
    let set = parse_set(text, context).unwrap_or_else(|error| panic!("{text}: {error}"));
    let users = tracker.members(&set).collect::<cohortist::Result<Vec<_>>>();
    let users = users.unwrap();
    assert_eq!(tracker.count(&set).unwrap(), users.len() as u64, "{text}");
    users
}
