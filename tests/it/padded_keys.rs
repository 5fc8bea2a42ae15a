//! Keys of other ports of bitmapist, padded with zeros; keys that are no event's; and events under
//! another prefix.

use cohortist::Tracker;
use cohortist::calendar::parse_moment;
use cohortist::reports::expiry::ExpiryPolicy;
use cohortist::sets::{Key, Prefix, Segments, Set, parse_set};
use cohortist::store::{self, CacheOptions, Mark, Options, PaddedKeys, Saved};
use redis::Commands;

use crate::http::read;
use crate::support::model::key;
use crate::support::program::{Serving, Shop};
use crate::support::redis::RedisServer;
use crate::support::stores::each_store;
use crate::support::web::{name, now, serve};

fn set(text: &str) -> Set {
    parse_set(text, &Segments::default()).unwrap()
}

fn mark(text: &str, user: u32) -> Mark {
    Mark {
        key: key(text),
        user,
        value: true,
    }
}

/// Users 1 and 2 by padded keys, 2 and 3 by plain ones, and 4 in a month that needs no padding.
fn both_ways(tracker: &Tracker) {
    let marks = [
        mark("a_2014-02-03", 1),
        mark("a_2014-02-03", 2),
        mark("a_2014-2-3", 2),
        mark("a_2014-2-3", 3),
        mark("a_W2014-06", 1),
        mark("a_2014-02-03-07", 1),
        mark("a_2014-02", 1),
        mark("a_2014-10", 4),
        mark("b_2014-02-03", 1),
    ];
    tracker.apply(&marks).unwrap();
}

#[test]
fn both_spellings_of_a_period_are_one_bitmap_in_every_store() {
    each_store(|kind, store| {
        let store: std::sync::Arc<dyn store::Store> = std::sync::Arc::new(PaddedKeys::new(store));
        let tracker = Tracker::new(std::sync::Arc::clone(&store));
        both_ways(&tracker);
        let count = |text: &str| tracker.count(&set(text)).unwrap();
        assert_eq!(count("a@2014-02-03"), 3, "{kind}");
        assert_eq!(
            [
                count("a@2014-W06"),
                count("a@2014-02-03T07"),
                count("a@2014"),
                count("b@2014-02-03")
            ],
            [1, 1, 2, 1],
            "{kind}"
        );
        assert_eq!(count("a@2014-02-03 & !b@2014-02-03"), 2, "{kind}");
        let members: Vec<u32> = tracker
            .members(&set("a@2014-02-03"))
            .map(Result::unwrap)
            .collect();
        assert_eq!(members, [1, 2, 3], "{kind}");
        let day = key("a_2014-2-3");
        assert_eq!(
            [1, 2, 3, 4].map(|user| tracker.contains(&Set::Key(day.clone()), user).unwrap()),
            [true, true, true, false]
        );

        // Each bitmap is listed once, by the key that bitmapist would write.
        let keys = tracker.keys("").unwrap();
        assert!(
            keys.len() == 6 && keys.iter().all(|key| !key.is_padded()),
            "{kind}: {keys:?}"
        );
        assert_eq!(tracker.unparsed_keys().count, 0, "{kind}");

        // Marks go to the plain key, and taking one back clears both.
        let at = parse_moment("2014-02-03").unwrap();
        tracker.mark(&name("a"), 9, at).unwrap();
        tracker.unmark(&name("a"), 2, at).unwrap();
        assert_eq!(
            tracker
                .members(&set("a@2014-02-03"))
                .map(Result::unwrap)
                .collect::<Vec<u32>>(),
            [1, 3, 9],
            "{kind}"
        );
        assert_eq!(
            store.look(std::slice::from_ref(&day)).unwrap()[0].users,
            3,
            "{kind}"
        );

        // What is saved holds the people of both.
        assert_eq!(
            tracker.save_ever(&set("a@2014-02-03"), &name("c")).unwrap(),
            Saved::People(3),
            "{kind}"
        );

        // Deleting deletes both.
        assert_eq!(
            tracker.delete_keys(std::slice::from_ref(&day)).unwrap(),
            2,
            "{kind}"
        );
        assert_eq!(count("a@2014-02-03"), 0, "{kind}");
        // Something newer stays: a store whose newest bitmap is over is left alone.
        tracker.mark(&name("a"), 1, now()).unwrap();
        let keeping = ExpiryPolicy {
            days: Some(chrono::TimeDelta::days(400)),
            ..ExpiryPolicy::default()
        };
        assert!(tracker.expire(&keeping, now()).unwrap() >= 1, "{kind}");
        assert_eq!(count("b@2014-02-03"), 0, "{kind}");
        assert!(
            tracker.delete_all().unwrap() > 0 && tracker.keys("").unwrap().is_empty(),
            "{kind}"
        );
    });
}

#[test]
fn remembered_counts_know_of_both_spellings() {
    let server = RedisServer::start();
    let mut other = server.connection();
    for (text, user) in [("trackist_a_2014-02-03", 1), ("trackist_a_2014-2-3", 2)] {
        let _: u8 = other.setbit(text, user, true).unwrap();
    }
    let tracker =
        Tracker::new(store::open(&server.url(), &crate::support::redis::patient()).unwrap());
    let how = CacheOptions {
        bytes: 1 << 20,
        ..CacheOptions::default()
    };
    let clock = cohortist::clock::Clock::System;
    let tracker = tracker.with_cache(how, clock);
    let count = || tracker.counts([&set("a@2014-02-03")]).unwrap()[0];
    assert_eq!((count(), count()), (2, 2));
    // Others mark by the padded key, and by the plain one.
    for (text, user, expected) in [
        ("trackist_a_2014-02-03", 7, 3),
        ("trackist_a_2014-2-3", 8, 4),
    ] {
        let _: u8 = other.setbit(text, user, true).unwrap();
        assert_eq!(count(), expected, "{text}");
    }
}

#[test]
fn weeks_of_a_ruby_port_are_read() {
    let server = RedisServer::start();
    let mut other = server.connection();
    let first = parse_moment("2014-02-10").unwrap();
    for user in 1..=42_usize {
        let day = first + chrono::TimeDelta::days(user as i64 - 1);
        let week_later = day + chrono::TimeDelta::days(7);
        let mut moments = vec![("signup", day), ("active", day)];
        moments.extend((user % 2 == 1).then_some(("active", week_later)));
        for (event, at) in moments {
            for stamp in [
                at.format("%Y-%-m"),
                at.format("W%Y-%V"),
                at.format("%Y-%-m-%-d"),
            ] {
                let _: u8 = other
                    .setbit(format!("bitanalytics_{event}_{stamp}"), user, true)
                    .unwrap();
            }
        }
    }
    let shop = Shop::new();
    let args = [
        "--store",
        &server.url(),
        "--prefix",
        "bitanalytics_",
        "retention",
        "signup",
        "active",
        "--by",
        "week",
        "--from",
        "2014-02-10",
        "--to",
        "2014-03-17",
        "--cols",
        "2",
        "--format",
        "csv",
        "--as",
        "count",
    ];
    let table = shop.run(&args).done();
    let sizes: Vec<&str> = table
        .lines()
        .skip(1)
        .map(|line| line.rsplit(',').nth(2).unwrap())
        .collect();
    assert_eq!(sizes, ["7", "7", "7", "7", "7", "7"], "{table}");
    // To another store they are copied as one bitmap each.
    let copied = shop.run(&[
        "--prefix",
        "bitanalytics_",
        "copy",
        &server.url(),
        "./copy.db",
    ]);
    assert_eq!(copied.code, 0, "{}", copied.err);
    let count = shop
        .run(&[
            "--store",
            "./copy.db",
            "--prefix",
            "bitanalytics_",
            "count",
            "signup@2014-W07",
        ])
        .done();
    assert_eq!(count, "7\n");
}

#[test]
fn keys_that_are_no_events_are_reported() {
    let server = RedisServer::start();
    let mut other = server.connection();
    for text in [
        "trackist_a_2026-11-23",
        "trackist_a_2026-11",
        "trackist_a_2026-2-03",
        "trackist_a_2026-13",
        "trackist_cache",
    ] {
        let _: u8 = other.setbit(text, 1, true).unwrap();
    }
    let shop = Shop::new();
    let events = shop.run(&["--store", &server.url(), "events"]);
    assert_eq!(events.out, "a\n");
    let told = "3 keys begin with `trackist_` but are not events', and are not read, such as `trackist_a_2026-13`";
    assert_eq!(events.err, format!("note: {told}\n"));
    let tracker =
        Tracker::new(store::open(&server.url(), &crate::support::redis::patient()).unwrap());
    let page = read(&format!("http://{}/events", serve(tracker))).body;
    assert!(
        page.contains("3 keys begin with “trackist_” but are not events"),
        "{page}"
    );
    let (_serving, _) = Serving::saying(
        &shop,
        &["--store", &server.url(), "serve", "--listen", "127.0.0.1:0"],
        "store: ",
    );
}

#[test]
fn a_wrong_prefix_is_told_the_right_one() {
    let server = RedisServer::start();
    let shop = Shop::new();
    let right = ["--store", &server.url(), "--prefix", "trackist_"];
    shop.run(&[&right[..], &["mark", "active", "1", "2", "3"]].concat())
        .done();
    let wrong = ["--store", &server.url(), "--prefix", "bitmapist_"];
    let told =
        "note: no keys begin with `bitmapist_`; 3 begin with `trackist_`: use --prefix trackist_\n";
    for command in [
        &["events"][..],
        &["count", "active@2026-11-23"],
        &["people", "active@2026-11-23"],
        &["retention", "active", "active"],
    ] {
        let ran = shop.run(&[&wrong[..], command].concat());
        assert!(
            ran.code == 0 && ran.err.contains(told),
            "{command:?}: {}",
            ran.err
        );
        assert_eq!(ran.err.matches("no keys begin").count(), 1, "{}", ran.err);
    }
    // An embedded store says the same.
    shop.run(&["--prefix", "trackist_", "mark", "active", "1", "2", "3"])
        .done();
    assert_eq!(shop.run(&["--prefix", "bitmapist_", "events"]).err, told);
    let options = Options {
        prefix: Prefix::new("bitmapist_"),
        ..Options::default()
    };
    let host = format!(
        "http://{}",
        serve(Tracker::new(store::open(&server.url(), &options).unwrap()))
    );
    for path in ["/events", "/retention"] {
        let page = read(&format!("{host}{path}")).body;
        assert!(
            page.contains(
                "no keys begin with “bitmapist_”; 3 begin with “trackist_”: use --prefix trackist_"
            ),
            "{page}"
        );
        assert!(
            page.contains("No events under “bitmapist_”")
                && page.contains(&format!("<pre>cohortist --store {}", server.url())),
            "{page}"
        );
    }
    // Where there is nothing at all, there is nothing to tell; and where keys begin so, no other is
    // looked for.
    let none = Tracker::new(store::open("memory:", &options).unwrap());
    assert_eq!(none.other_prefixes().unwrap().found, []);
    server.reset_statistics();
    let ran = shop.run(&[&right[..], &["count", "active@2026-11-23"]].concat());
    assert_eq!(ran.quietly(), "3\n");
    assert!(server.calls("scan") <= 1, "nothing is looked for");
}

#[test]
fn a_given_moment_within_a_day_is_said_to_hold_later_marks() {
    let shop = Shop::new();
    for day in ["2026-11-12 18:00", "2026-11-14", "2026-11-20"] {
        shop.run(&["mark", "active", "1", "--at", day]).done();
    }
    let note = "note: includes marks made later on 12 Nov 2026, in that week and in that month\n";
    let table = shop.run(&["--now", "2026-11-12", "retention", "active", "active"]);
    assert!(table.code == 0 && table.err.contains(note), "{}", table.err);
    // After the last mark there are none.
    assert!(
        !shop
            .run(&["--now", "2026-11-21", "retention", "active", "active"])
            .err
            .contains("later")
    );
    let (serving, _) = Serving::saying(
        &shop,
        &["--now", "2026-11-12", "serve", "--listen", "127.0.0.1:0"],
        "store: ",
    );
    for path in [
        "/events",
        "/events/active",
        "/users/1",
        "/retention?cohort=active&returning=active",
    ] {
        let page = serving.get(path);
        let said = "as of Thu 12 Nov 2026, 00:00 UTC; includes marks made later on 12 Nov 2026, in that week and in that month";
        assert_eq!(page.matches(said).count(), 1, "{path}: {page}");
    }
}

#[test]
fn a_padded_key_keeps_its_own_text() {
    let prefix = Prefix::new("x_");
    for text in [
        "x_a_2014-02-03",
        "x_a_W2014-07",
        "x_a_2014-02",
        "x_a_2014-10-03-00",
    ] {
        let key = Key::parse(&prefix, text).unwrap();
        assert!(
            key.is_padded() && key.text(&prefix) == text && key.plain() != key,
            "{text}"
        );
        assert_eq!(key.plain().padded(), Some(key));
    }
    for text in [
        "x_a_2014-2-03",
        "x_a_02014-02",
        "x_a_2014-002",
        "x_a_W2014-007",
        "x_a_2014-00-01",
        "x_a_2014",
    ] {
        assert_eq!(Key::parse(&prefix, text), None, "{text}");
    }
}
