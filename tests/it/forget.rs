//! Erasing people: from every bitmap of every store, with their string ids, and from the files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use cohortist::clock::Clock;
use cohortist::server::Dashboard;
use cohortist::sets::{EventName, Key, Set, UserId};
use cohortist::store::embedded::{EmbeddedStore, restore};
use cohortist::store::{Options, Store};
use cohortist::{Extent, Ids, Tracker};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::http::{agent, read};
use crate::support::program::Shop;
use crate::support::stores::each_store;
use crate::support::web::{name, now, serve_dashboard};

const EXTENT: Extent = Extent {
    hourly: true,
    ever: true,
};

/// The people of every bitmap, by their ids.
fn everybody(tracker: &Tracker) -> BTreeMap<Key, BTreeSet<String>> {
    let members = |key: Key| {
        let set = Set::Key(key.clone());
        let users: Vec<UserId> = tracker.members(&set).collect::<Result<_, _>>().unwrap();
        let called: BTreeSet<String> = tracker.called(&users).unwrap().into_iter().collect();
        assert_eq!(tracker.count(&set).unwrap(), called.len() as u64);
        (key, called)
    };
    tracker.keys("").unwrap().into_iter().map(members).collect()
}

/// Marks users of random bitmaps and forgets some of them; everybody else stays where they were.
fn forget_some(kind: &str, tracker: &Tracker, ids: &[String]) {
    let events: Vec<EventName> = ["active", "song:played", "plan:pro"].map(name).into();
    let users = tracker
        .assign(&ids.iter().map(String::as_str).collect::<Vec<_>>())
        .unwrap();
    let mut batch = tracker.batch();
    for (place, user) in users.iter().enumerate() {
        for (number, event) in events.iter().enumerate() {
            if (place * 7 + number * 5) % 3 > 0 {
                let days = i64::try_from(place * (number + 1) % 40).unwrap();
                let at = now() - chrono::Duration::days(days);
                batch.mark_to(event, *user, at, EXTENT).unwrap();
            }
        }
    }
    batch.commit().unwrap();
    let mut expected = everybody(tracker);
    for id in ids.iter().step_by(4) {
        let number = tracker.user(id).unwrap().unwrap();
        let with: Vec<Key> = expected
            .iter()
            .filter(|(_, users)| users.contains(id))
            .map(|(key, _)| key.clone())
            .collect();
        let forgotten = tracker.forget(id).unwrap().unwrap();
        let names: BTreeSet<EventName> = with.iter().map(|key| key.event().clone()).collect();
        assert_eq!(
            (forgotten.bitmaps, &forgotten.events),
            (with.len(), &names),
            "{kind}: {id}"
        );
        expected.values_mut().for_each(|users| {
            users.remove(id);
        });
        assert!(tracker.bitmaps_of(number).unwrap().is_empty());
        if forgotten.string_id {
            assert_eq!(tracker.user(id).unwrap(), None, "{kind}: {id}");
            assert_eq!(tracker.forget(id).unwrap(), None);
            assert_eq!(tracker.called(&[number]).unwrap(), [format!("#{number}")]);
        } else {
            assert_eq!(tracker.forget(id).unwrap().unwrap().bitmaps, 0);
        }
    }
    assert_eq!(everybody(tracker), expected, "{kind}");
}

#[test]
fn a_person_is_erased_from_every_bitmap_of_every_store() {
    each_store(|kind, store| {
        let tracker = Tracker::new(Arc::clone(&store));
        let ids: Vec<String> = (0..60).map(|user| (user * 31).to_string()).collect();
        forget_some(kind, &tracker, &ids);
        tracker.delete_all().unwrap();
        let tracker = Tracker::new(store).with_ids(Ids::Strings);
        let ids: Vec<String> = (0..60).map(|user| format!("u{user}@example.com")).collect();
        forget_some(kind, &tracker, &ids);
        // A person who comes back is a new one.
        let assigned = tracker.assigned().unwrap();
        assert_eq!(assigned, Some(60), "{kind}");
        let again = tracker.assign(&[&ids[4], &ids[1], "new", &ids[0]]).unwrap();
        assert_eq!(again, [60, 1, 61, 62], "{kind}");
        assert!(tracker.bitmaps_of(60).unwrap().is_empty());
        assert_eq!(
            tracker.called(&again).unwrap(),
            [&ids[4], &ids[1], "new", &ids[0]]
        );
    });
}

#[derive(Debug, Clone)]
enum Step {
    Assign(Vec<u8>),
    Remove(Vec<u8>),
    Checkpoint,
    Reopen,
    Restore,
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let few = || prop::collection::vec(0_u8..12, 1..5);
    let step = prop_oneof![
        6 => few().prop_map(Step::Assign),
        6 => few().prop_map(Step::Remove),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Reopen),
        1 => Just(Step::Restore),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 1..30)
}

#[test]
fn removed_string_ids_stay_removed_and_their_numbers_unused() {
    TestRunner::new(Config::with_cases(60))
        .run(&steps(), |steps| {
            let disk = tempfile::tempdir().unwrap();
            let mut at = disk.path().join("0");
            let open = |at: &Path| EmbeddedStore::open(at, &Options::default()).unwrap();
            let mut store = Some(open(&at));
            let mut next = 0;
            let mut model: HashMap<String, UserId> = HashMap::new();
            for (number, step) in steps.into_iter().enumerate() {
                let now = store.as_ref().unwrap();
                let texts = |numbers: Vec<u8>| -> Vec<String> {
                    numbers.into_iter().map(|n| format!("u{n}")).collect()
                };
                match step {
                    Step::Assign(numbers) => {
                        let texts = texts(numbers);
                        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                        let assigned = now.string_ids().assign(&texts).unwrap();
                        for (text, user) in texts.iter().zip(assigned) {
                            let wanted = *model.entry((*text).to_owned()).or_insert_with(|| {
                                next += 1;
                                next - 1
                            });
                            prop_assert_eq!(user, wanted);
                        }
                    }
                    Step::Remove(numbers) => {
                        let texts = texts(numbers);
                        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                        now.string_ids().remove(&texts).unwrap();
                        texts.iter().for_each(|text| {
                            model.remove(*text);
                        });
                    }
                    Step::Checkpoint => now.checkpoint().unwrap(),
                    Step::Reopen => {
                        drop(store.take());
                        store = Some(open(&at));
                    }
                    Step::Restore => {
                        let backup = disk.path().join(format!("backup-{number}"));
                        now.back_up(&backup).unwrap();
                        at = disk.path().join(format!("{}", number + 1));
                        restore(&backup, &at).unwrap();
                        store = Some(open(&at));
                    }
                    Step::Clear => {
                        now.string_ids().clear().unwrap();
                        model.clear();
                        next = 0;
                    }
                }
                let ids = store.as_ref().unwrap().string_ids();
                prop_assert_eq!(ids.next().unwrap(), (next > 0).then_some(u64::from(next)));
                let all: Vec<String> = (0..12).map(|n| format!("u{n}")).collect();
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                let wanted = all.iter().map(|text| model.get(*text).copied()).collect();
                prop_assert_eq!(ids.numbers(&all).unwrap(), (next > 0).then_some(wanted));
                let users: Vec<UserId> = (0..next + 2).collect();
                let called: HashMap<UserId, &str> = model
                    .iter()
                    .map(|(text, user)| (*user, text.as_str()))
                    .collect();
                let wanted = users
                    .iter()
                    .map(|user| called.get(user).map(ToString::to_string))
                    .collect();
                prop_assert_eq!(ids.texts(&users).unwrap(), (next > 0).then_some(wanted));
            }
            Ok(())
        })
        .unwrap();
}

fn files_with(directory: &Path, text: &str) -> Vec<String> {
    let files = std::fs::read_dir(directory).unwrap();
    let with = files.filter_map(|entry| {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let is_in = bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes());
        is_in.then(|| path.display().to_string())
    });
    with.collect()
}

#[test]
fn the_command_erases_people_and_compact_their_traces() {
    let shop = Shop::new();
    let secret = "someone.private@example.com";
    for user in [secret, "bob", "eve"] {
        shop.run(&["--ids", "map", "mark", "active", user, "--ever", "--hourly"])
            .done();
    }
    let store = shop.path("cohortist.db");
    shop.run(&["compact"]).done();
    assert!(!files_with(&store, "bob").is_empty());
    let said = |args: &[&str]| {
        let ran = shop.run(args);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.err
    };
    let dry = said(&["forget", secret, "--dry-run"]);
    assert!(dry.contains("5 bitmaps"), "{dry}");
    let said = said(&["forget", secret, "nobody"]);
    assert!(
        said.contains("5 bitmaps of active") && said.contains("no user nobody"),
        "{said}"
    );
    assert_eq!(shop.run(&["people", "active@ever"]).quietly(), "bob\neve\n");
    shop.run(&["compact"]).done();
    assert_eq!(files_with(&store, secret), Vec::<String>::new());
    assert!(!files_with(&store, "bob").is_empty());
    shop.run(&["check"]).done();
    assert_eq!(shop.run(&["forget", secret]).code, 1);
    let listed = shop.pipe(&["forget", "-"], b" bob \n\neve\n");
    assert_eq!(listed.code, 0);
    assert_eq!(shop.run(&["people", "active@ever"]).quietly(), "");
    assert_eq!(shop.pipe(&["forget", "-"], b"\n").code, 2);
}

#[test]
fn programs_erase_with_the_write_token_alone() {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
    let tracker = Tracker::new(store).with_ids(Ids::Strings);
    let id = "ann/o'neil@example.com";
    for user in tracker.assign(&[id, "bob"]).unwrap() {
        tracker.mark(&name("active"), user, now()).unwrap();
    }
    let mut dashboard = Dashboard::new(tracker.clone(), Clock::Fixed(now()));
    dashboard.write_token = Some("a token of the test".to_owned());
    let host = format!("http://{}", serve_dashboard(dashboard));
    let address = format!("{host}/api/v1/users/ann%2Fo'neil@example.com");
    let page = format!("{host}/users/ann%2Fo'neil@example.com");
    assert_eq!(read(&page).status, 200);
    let erase = |token: Option<&str>| {
        let mut request = agent().delete(&address);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = request.call().unwrap();
        let body = response.body_mut().read_to_string().unwrap();
        let stored = response.headers()["cache-control"].clone();
        assert_eq!(stored, "no-store");
        let body: Value = serde_json::from_str(&body).unwrap();
        (response.status().as_u16(), body)
    };
    assert_eq!(erase(None).0, 401);
    assert_eq!(erase(Some("another token")).0, 401);
    assert_eq!(read(&page).status, 200);
    let (status, body) = erase(Some("a token of the test"));
    assert_eq!(
        (status, body),
        (
            200,
            json!({ "user": id, "bitmaps": 3, "events": ["active"], "string_id": true })
        )
    );
    assert_eq!(erase(Some("a token of the test")).0, 404);
    assert_eq!(read(&page).status, 404);
    let day = Set::event_in(&name("active"), "2026-11-23".parse().unwrap());
    assert_eq!(tracker.count(&day).unwrap(), 1);
}
