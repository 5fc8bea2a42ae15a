//! The library's front door, on every store: what bitmapist's own test-suite asks of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::reports::user::User;
use cohortist::sets::{EventName, Key, Set};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Mark, Options, Saved, Store};
use cohortist::{Extent, Run, Systems, Tracker};

use crate::support::bent::Bent;
use crate::support::stores::each_store;

fn name(text: &str) -> EventName {
    EventName::new(text).unwrap()
}

fn ids(tracker: &Tracker, set: &Set) -> Vec<u32> {
    tracker
        .members(set)
        .collect::<cohortist::Result<_>>()
        .unwrap()
}

#[test]
fn marks_are_in_every_period_that_was_asked_for() {
    each_store(|store_name, store| {
        let (active, at) = (
            name("active"),
            parse_moment("2026-11-23T14:05:00Z").unwrap(),
        );
        let plain = Tracker::new(store);
        let full = plain.clone().with_extent(Extent {
            hourly: true,
            ever: true,
        });
        let sets: Vec<Set> = ["2026-11-23T14", "2026-11-23", "2026-W48", "2026-11", "2026"]
            .map(|period| Set::event_in(&active, period.parse().unwrap()))
            .into_iter()
            .chain([Set::ever(&active)])
            .collect();
        plain.mark(&active, 123, at).unwrap();
        assert_eq!(
            plain.counts(&sets).unwrap(),
            [0, 1, 1, 1, 1, 0],
            "{store_name}"
        );
        full.mark(&active, 124, at).unwrap();
        assert_eq!(
            plain.counts(&sets).unwrap(),
            [1, 2, 2, 2, 2, 1],
            "{store_name}"
        );
        plain.unmark(&active, 124, at).unwrap();
        assert_eq!(
            plain.counts(&sets).unwrap(),
            [1, 1, 1, 1, 1, 1],
            "{store_name}: the hour and ever were not named"
        );
        full.unmark(&active, 124, at).unwrap();
        assert_eq!(
            plain.counts(&sets).unwrap(),
            [0, 1, 1, 1, 1, 0],
            "{store_name}"
        );
        plain.mark_ever(&active, 9).unwrap();
        assert!(plain.contains(&sets[5], 9).unwrap() && !plain.contains(&sets[5], 8).unwrap());
        plain.unmark_ever(&active, 9).unwrap();
        assert!(plain.is_empty(&sets[5]).unwrap());
    });
}

#[test]
fn sets_are_asked_compared_and_walked() {
    each_store(|store_name, store| {
        let tracker = Tracker::new(store);
        let [active, web, ios] = ["active", "web", "ios"].map(name);
        let monday = parse_moment("2026-11-23").unwrap();
        let day = Period::containing(Grain::Day, monday).unwrap();
        let mut batch = tracker.batch();
        for user in (0..300_000).step_by(3) {
            batch.mark(&active, user, monday).unwrap();
            batch
                .mark(if user % 2 == 0 { &web } else { &ios }, user, monday)
                .unwrap();
        }
        assert_eq!(batch.len(), 600_000);
        batch.commit().unwrap();
        assert!(batch.is_empty());
        let set = |event: &EventName| Set::event_in(event, day);
        let (a, w, i) = (set(&active), set(&web), set(&ios));
        assert_eq!(
            ids(&tracker, &a),
            (0..300_000).step_by(3).collect::<Vec<_>>(),
            "{store_name}: over many pieces"
        );
        let from = tracker
            .members(&a)
            .after(299_990)
            .collect::<cohortist::Result<Vec<_>>>()
            .unwrap();
        assert_eq!(from, [299_991, 299_994, 299_997]);
        assert!(tracker.same(&a, &(w.clone() | i.clone())).unwrap());
        assert!(
            tracker
                .same(&(a.clone() - w.clone()), &(a.clone() & i.clone()))
                .unwrap()
        );
        assert!(!tracker.same(&a, &w).unwrap());
        assert!(tracker.is_empty(&(w.clone() & i.clone())).unwrap());
        let nested = (a.clone() & (w.clone() ^ i.clone()))
            - (i.clone() | Set::event_in(&ios, day.next().unwrap()));
        assert!(tracker.same(&nested, &w).unwrap());
        assert!(tracker.contains(&nested, 6).unwrap() && !tracker.contains(&nested, 3).unwrap());
        assert!(tracker.contains(&nested, 0).unwrap());
        assert_eq!(
            tracker
                .count(&Set::event_in(&active, day.previous().unwrap()))
                .unwrap(),
            0
        );
    });
}

#[test]
fn names_are_listed_and_deleting_stops_where_it_should() {
    each_store(|store_name, store| {
        let tracker = Tracker::new(store);
        let at = parse_moment("2026-11-23").unwrap();
        for event in ["song:played", "song", "song_u", "active"] {
            tracker.mark(&name(event), 1, at).unwrap();
        }
        tracker.mark_ever(&name("premium"), 1).unwrap();
        let names = |start: &str| -> Vec<String> {
            tracker
                .events(start)
                .unwrap()
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(
            names(""),
            ["active", "premium", "song", "song:played", "song_u"],
            "{store_name}"
        );
        assert_eq!(names("song:"), ["song:played"]);
        let day = Key::new(name("song"), "2026-11-23".parse().unwrap()).unwrap();
        assert!(tracker.delete(&day).unwrap());
        assert!(!tracker.delete(&day).unwrap());
        assert_eq!(
            tracker
                .count(&Set::event_in(&name("song"), "2026-11".parse().unwrap()))
                .unwrap(),
            1
        );
        assert_eq!(
            tracker.delete_event(&name("song")).unwrap(),
            2,
            "{store_name}: not those of song_u"
        );
        assert_eq!(
            names("song"),
            ["song:played", "song_u"],
            "{store_name}: the list is fresh after a deletion"
        );
        assert_eq!(
            tracker
                .never_recorded([&name("song"), &name("active")])
                .unwrap(),
            [&name("song")]
        );
        assert!(
            tracker.is_undated(&name("premium")).unwrap()
                && !tracker.is_undated(&name("active")).unwrap()
        );
        assert_eq!(
            tracker.last_recorded(&name("active")).unwrap(),
            Some(at.date_naive())
        );
        assert_eq!(tracker.delete_all().unwrap(), 3 + 3 + 3 + 1, "{store_name}");
        assert!(names("").is_empty());
        assert_eq!(tracker.sweep().unwrap(), 0, "{store_name}");
    });
}

#[test]
fn a_set_is_saved_under_a_name_that_nobody_has() {
    each_store(|store_name, store| {
        let tracker = Tracker::new(store);
        let at = parse_moment("2026-11-23").unwrap();
        let [a, b, dated, both] = ["a", "b", "dated", "both"].map(name);
        (1..=6).for_each(|user| tracker.mark_ever(&a, user).unwrap());
        (4..=9).for_each(|user| tracker.mark_ever(&b, user).unwrap());
        tracker.mark(&dated, 1, at).unwrap();
        let set = Set::ever(&a) & Set::ever(&b);
        assert_eq!(
            tracker.events("").unwrap().len(),
            3,
            "{store_name}: and now they are remembered"
        );
        assert_eq!(
            tracker.save_ever(&set, &dated).unwrap(),
            Saved::Taken,
            "{store_name}: it has no undated bitmap yet"
        );
        assert_eq!(
            tracker
                .save_ever(&(set.clone() - Set::ever(&a)), &both)
                .unwrap(),
            Saved::Nobody
        );
        assert_eq!(tracker.never_recorded([&both]).unwrap(), [&both]);
        assert_eq!(
            tracker.save_ever(&set, &both).unwrap(),
            Saved::People(3),
            "{store_name}"
        );
        assert_eq!(
            tracker.save_ever(&Set::ever(&a), &both).unwrap(),
            Saved::Taken
        );
        assert_eq!(ids(&tracker, &Set::ever(&both)), [4, 5, 6], "{store_name}");
        assert_eq!(
            tracker.events("bo").unwrap(),
            [both],
            "{store_name}: it is in the list at once"
        );
        // The name of one may begin as that of another.
        assert_eq!(
            tracker.save_ever(&set, &name("dat")).unwrap(),
            Saved::People(3)
        );
    });
}

#[test]
fn a_batch_that_is_dropped_never_was_and_systems_stand_side_by_side() {
    let open = || Tracker::new(Arc::new(EmbeddedStore::in_memory(&Options::default())));
    let mut systems = Systems::new();
    assert!(systems.insert("default", open()).is_none());
    systems.insert("beta", open());
    let (active, at) = (name("active"), parse_moment("2026-11-23").unwrap());
    let set = Set::event_in(&active, "2026-11".parse().unwrap());
    {
        let tracker = systems.get("default").unwrap();
        let mut batch = tracker.batch();
        batch.mark(&active, 1, at).unwrap();
        drop(batch);
        assert!(tracker.is_empty(&set).unwrap());
        tracker.mark(&active, 2, at).unwrap();
    }
    let counts: Vec<(&str, u64)> = systems
        .iter()
        .map(|(name, t)| (name, t.count(&set).unwrap()))
        .collect();
    assert_eq!(counts, [("beta", 0), ("default", 1)]);
    assert!(systems.get("gamma").is_none());
    let key = Key::new(active, "2026-11".parse().unwrap()).unwrap();
    let mark = Mark {
        key,
        user: 7,
        value: true,
    };
    systems.get("beta").unwrap().apply(&[mark]).unwrap();
    assert_eq!(systems.get("beta").unwrap().count(&set).unwrap(), 1);
}

#[test]
fn keys_are_listed_when_they_must_be_and_for_everybody() {
    let at = parse_moment("2026-11-23").unwrap();
    for says in [true, false] {
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
        let times = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&times);
        let listed = Bent::of(&store).says_version(says).keys(move |keys| {
            count.fetch_add(1, Ordering::Relaxed);
            keys
        });
        let tracker = Tracker::new(listed.shared());
        // Nothing is remembered of an empty store unless it is known to be empty still.
        assert!(tracker.catalogue().unwrap().is_empty() && tracker.events("").unwrap().is_empty());
        assert_eq!(times.load(Ordering::Relaxed), if says { 1 } else { 2 });
        tracker.mark(&name("active"), 1, at).unwrap();
        assert_eq!(
            tracker.events("").unwrap(),
            [name("active")],
            "the first mark shows at once"
        );
        let before = times.load(Ordering::Relaxed);
        for user in 2..50 {
            tracker.mark(&name("active"), user, at).unwrap();
            assert_eq!(tracker.keys_of(&name("active")).unwrap().len(), 3);
            assert_eq!(tracker.catalogue().unwrap().keys().len(), 3);
            assert_eq!(
                tracker
                    .run(&User { user }, &Run::at(at))
                    .unwrap()
                    .answer
                    .known,
                1
            );
        }
        assert_eq!(
            times.load(Ordering::Relaxed),
            before,
            "{says}: one list for all"
        );
        // Others write to the store as well.
        store
            .apply(&[Mark {
                key: Key::ever(name("premium")),
                user: 7,
                value: true,
            }])
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(
            tracker.keys_of(&name("premium")).unwrap(),
            [Key::ever(name("premium"))],
            "{says}"
        );
        assert!(
            tracker
                .never_recorded([&name("premium")])
                .unwrap()
                .is_empty()
        );
        assert_eq!(times.load(Ordering::Relaxed), before + 1, "{says}");
    }
}
