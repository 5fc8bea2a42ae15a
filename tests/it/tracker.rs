//! The library's front door, on every store: what bitmapist's own test-suite asks of it.

use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::sets::{EventName, Key, Set};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Mark, Options};
use cohortist::{Extent, Systems, Tracker};

use crate::support::stores::each_store;

fn name(text: &str) -> EventName {
    EventName::new(text).unwrap()
}

fn ids(tracker: &Tracker, set: &Set) -> Vec<u32> {
    tracker.members(set).collect::<cohortist::Result<_>>().unwrap()
}

#[test]
fn marks_are_in_every_period_that_was_asked_for() {
    each_store(|store_name, store| {
        let (active, at) = (name("active"), parse_moment("2026-11-23T14:05:00Z").unwrap());
        let plain = Tracker::new(store);
        let full = plain.clone().with_extent(Extent { hourly: true, ever: true });
        let sets: Vec<Set> = ["2026-11-23T14", "2026-11-23", "2026-W48", "2026-11", "2026"]
            .map(|period| Set::event_in(&active, period.parse().unwrap()))
            .into_iter()
            .chain([Set::ever(&active)])
            .collect();
        plain.mark(&active, 123, at).unwrap();
        assert_eq!(plain.counts(&sets).unwrap(), [0, 1, 1, 1, 1, 0], "{store_name}");
        full.mark(&active, 124, at).unwrap();
        assert_eq!(plain.counts(&sets).unwrap(), [1, 2, 2, 2, 2, 1], "{store_name}");
        plain.unmark(&active, 124, at).unwrap();
        assert_eq!(plain.counts(&sets).unwrap(), [1, 1, 1, 1, 1, 1], "{store_name}: the hour and ever were not named");
        full.unmark(&active, 124, at).unwrap();
        assert_eq!(plain.counts(&sets).unwrap(), [0, 1, 1, 1, 1, 0], "{store_name}");
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
            batch.mark(if user % 2 == 0 { &web } else { &ios }, user, monday).unwrap();
        }
        assert_eq!(batch.len(), 600_000);
        batch.commit().unwrap();
        assert!(batch.is_empty());
        let set = |event: &EventName| Set::event_in(event, day);
        let (a, w, i) = (set(&active), set(&web), set(&ios));
        assert_eq!(ids(&tracker, &a), (0..300_000).step_by(3).collect::<Vec<_>>(), "{store_name}: over many pieces");
        let from = tracker.members(&a).after(299_990).collect::<cohortist::Result<Vec<_>>>().unwrap();
        assert_eq!(from, [299_991, 299_994, 299_997]);
        assert!(tracker.same(&a, &(w.clone() | i.clone())).unwrap());
        assert!(tracker.same(&(a.clone() - w.clone()), &(a.clone() & i.clone())).unwrap());
        assert!(!tracker.same(&a, &w).unwrap());
        assert!(tracker.is_empty(&(w.clone() & i.clone())).unwrap());
        let nested = (a.clone() & (w.clone() ^ i.clone())) - (i.clone() | Set::event_in(&ios, day.next().unwrap()));
        assert!(tracker.same(&nested, &w).unwrap());
        assert!(tracker.contains(&nested, 6).unwrap() && !tracker.contains(&nested, 3).unwrap());
        assert!(tracker.contains(&nested, 0).unwrap());
        assert_eq!(tracker.count(&Set::event_in(&active, day.previous().unwrap())).unwrap(), 0);
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
        let names =
            |start: &str| -> Vec<String> { tracker.events(start).unwrap().iter().map(ToString::to_string).collect() };
        assert_eq!(names(""), ["active", "premium", "song", "song:played", "song_u"], "{store_name}");
        assert_eq!(names("song:"), ["song:played"]);
        let day = Key::new(name("song"), "2026-11-23".parse().unwrap()).unwrap();
        assert!(tracker.delete(&day).unwrap());
        assert!(!tracker.delete(&day).unwrap());
        assert_eq!(tracker.count(&Set::event_in(&name("song"), "2026-11".parse().unwrap())).unwrap(), 1);
        assert_eq!(tracker.delete_event(&name("song")).unwrap(), 2, "{store_name}: not those of song_u");
        assert_eq!(names("song"), ["song:played", "song_u"], "{store_name}: the list is fresh after a deletion");
        assert_eq!(tracker.never_recorded([&name("song"), &name("active")]).unwrap(), [&name("song")]);
        assert!(tracker.is_undated(&name("premium")).unwrap() && !tracker.is_undated(&name("active")).unwrap());
        assert_eq!(tracker.last_recorded(&name("active")).unwrap(), Some(at.date_naive()));
        assert_eq!(tracker.delete_all().unwrap(), 3 + 3 + 3 + 1, "{store_name}");
        assert!(names("").is_empty());
        assert_eq!(tracker.sweep().unwrap(), 0, "{store_name}");
    });
}

#[test]
fn a_batch_that_is_dropped_never_was_and_systems_stand_side_by_side() {
    let open = || Tracker::new(std::sync::Arc::new(EmbeddedStore::in_memory(&Options::default())));
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
    let counts: Vec<(&str, u64)> = systems.iter().map(|(name, t)| (name, t.count(&set).unwrap())).collect();
    assert_eq!(counts, [("beta", 0), ("default", 1)]);
    assert!(systems.get("gamma").is_none());
    let key = Key::new(active, "2026-11".parse().unwrap()).unwrap();
    let mark = Mark { key, user: 7, value: true };
    systems.get("beta").unwrap().store().apply(&[mark]).unwrap();
    assert_eq!(systems.get("beta").unwrap().count(&set).unwrap(), 1);
}
