//! Keys of other ports of bitmapist, padded with zeros; keys that are no event's; and events under
//! another prefix.

use cohortist::Tracker;
use cohortist::calendar::parse_moment;
use cohortist::reports::expiry::ExpiryPolicy;
use cohortist::sets::{Key, Prefix, Set, SetContext, parse_set};
use cohortist::store::{self, CacheOptions, Mark, Options, PaddedKeys, Saved};
use redis::Commands;

use crate::http::read;
use crate::support::model::key;
use crate::support::program::{Serving, Shop};
use crate::support::redis::RedisServer;
use crate::support::stores::each_store;
use crate::support::web::{name, now, serve};

fn set(text: &str) -> Set {
    parse_set(text, SetContext::empty()).unwrap()
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
        // Something newer stays, of several days: else the clock might be wrong.
        for days in 0..5 {
            let at = now() - chrono::TimeDelta::days(days);
            tracker.mark(&name("a"), 1, at).unwrap();
        }
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
    // A name that is not UTF-8 counts too.
    let _: u8 = other.setbit(b"trackist_\xff\xfe_u", 1, true).unwrap();
    let shop = Shop::new();
    let events = shop.run(&["--store", &server.url(), "events"]);
    assert_eq!(events.out, "a\n");
    let told = "4 keys begin with `trackist_` but are not bitmaps of events, and are not read, such as `trackist_a_2026-13`";
    assert_eq!(events.err, format!("note: {told}\n"));
    let tracker =
        Tracker::new(store::open(&server.url(), &crate::support::redis::patient()).unwrap());
    let page = read(&format!("http://{}/events", serve(tracker))).body;
    assert!(
        page.contains("4 keys begin with “trackist_” but are not bitmaps of events"),
        "{page}"
    );
    let (_serving, _) = Serving::saying(
        &shop,
        &["--store", &server.url(), "serve", "--listen", "127.0.0.1:0"],
        "store: ",
    );
    // Where there is nothing else, they are what a question that finds nothing is about.
    let server = RedisServer::start();
    let _: u8 = server
        .connection()
        .setbit(b"trackist_\xff\xfe_u", 1, true)
        .unwrap();
    for command in [
        &["events"][..],
        &["count", "a@2026-11-23"],
        &["people", "a@2026-11-23"],
        &["retention", "a", "b"],
        &["delete", "--all", "--yes"],
    ] {
        let ran = shop.run(&[&["--store", &server.url()], command].concat());
        let told = "note: 1 key begins with `trackist_` but is not a bitmap of an event, and is not read: `trackist_��_u`\n";
        assert!(ran.err.contains(told), "{command:?}: {}", ran.err);
    }
}

#[test]
fn a_key_of_another_type_spoils_no_other_answer() {
    let server = RedisServer::start();
    let mut other = server.connection();
    for text in [
        "trackist_active_2026-12-1",
        "trackist_active_2026-11-30",
        "trackist_active_2026-11",
    ] {
        let _: u8 = other.setbit(text, 5, true).unwrap();
    }
    let carts = ["trackist_cart_2026-10", "trackist_cart_2026-12-2"];
    for text in carts {
        let _: u8 = other.hset(text, "a", "b").unwrap();
    }
    let told = "2 keys begin with `trackist_` but are not bitmaps of events, and are not read, such as `trackist_cart_2026-10`";
    let url = server.url();
    let shop = Shop::new();
    // Saved segments that name it are in the way of no list.
    let segments =
        "[segments]\nbuyers = \"cart\"\nboth = \"active & cart\"\nregulars = \"active\"\n";
    shop.write("cohortist.toml", segments);
    let run = |args: &[&str]| {
        let options = ["--store", &url, "--now", "2026-12-02T05:00:00Z"];
        shop.run(&[&options[..], args].concat())
    };
    let table = run(&[
        "retention",
        "active",
        "active",
        "--rows",
        "2",
        "--cols",
        "1",
        "--as",
        "count",
        "--format",
        "csv",
    ]);
    assert!(
        table.done().contains("Tue 1 Dec 2026,1,1\n"),
        "the cart is not asked for"
    );
    let events = run(&["events"]);
    assert_eq!(events.out, "active\n");
    assert_eq!(events.err, format!("note: {told}\n"));
    // A question that asks for such a key itself says what is in the way.
    for args in [
        &["count", "cart@2026-12-02"][..],
        &["people", "cart@2026-10"],
        &["retention", "cart", "active", "--by", "month"],
    ] {
        let error = run(args).error(1);
        assert!(
            error.contains("WRONGTYPE") && error.contains("another program writes keys"),
            "{args:?}: {error}"
        );
    }
    let (serving, _) = Serving::saying(
        &shop,
        &[
            "--store",
            &url,
            "--now",
            "2026-12-02T05:00:00Z",
            "serve",
            "--listen",
            "127.0.0.1:0",
        ],
        "store: ",
    );
    for path in [
        "/events",
        "/",
        "/users/5",
        "/events.json",
        "/autocomplete.json",
        "/trends.json?event=active",
        "/api/v1/events",
        "/events/active?by=month",
        "/people",
    ] {
        let page = read(&format!("http://{}{path}", serving.address));
        assert!(page.status < 400, "{path}: {}", page.body);
        assert!(!page.body.contains(">cart<"), "{path}: {}", page.body);
    }
    let offered = serving.get("/autocomplete.json");
    let offered: serde_json::Value = serde_json::from_str(&offered).unwrap();
    let events = offered["events"].as_array().unwrap();
    let told = |name: &str| {
        let event = events.iter().find(|event| event["name"] == name).unwrap();
        let problem = event["problem"].as_str().unwrap_or_default();
        (event["today"].as_u64(), problem.contains("WRONGTYPE"))
    };
    assert_eq!(told("active"), (Some(0), false));
    assert_eq!(told("buyers"), (None, true));
    assert_eq!(told("both"), (None, true));
    assert_eq!(told("regulars"), (Some(0), false));
    // Only the question about that segment says what is in the way.
    let asked = "/retention.json?cohort=buyers&returning=active&by=month";
    let answer = read(&format!("http://{}{asked}", serving.address));
    assert!(
        answer.status == 503 && answer.body.contains("WRONGTYPE"),
        "{}",
        answer.body
    );
    serving.says("2 keys begin with `trackist_`");
    let page = serving.get("/events");
    assert!(
        page.contains("2 keys begin with “trackist_” but are not bitmaps of events"),
        "{page}"
    );
    // What copies and deletes events leaves them alone.
    let copied = run(&["copy", &url, "./copy.db"]).done();
    assert!(copied.contains("copied 3 bitmaps"), "{copied}");
    let over = run(&["expire", "--months", "1d"]).done();
    assert!(over.contains("months") && !over.contains("Oct"), "{over}");
    let event = run(&["delete", "cart"]).error(1);
    assert!(event.contains("nothing to delete"), "{event}");
    assert_eq!(run(&["delete", "--all", "--yes"]).code, 0);
    let left: Vec<String> = {
        let mut left: Vec<String> = other.keys("trackist_*").unwrap();
        left.sort();
        left
    };
    assert_eq!(left, carts);
    let explicit = run(&["delete", "cart", "--period", "2026-10"]).error(1);
    assert!(explicit.contains("WRONGTYPE"), "{explicit}");
}

/// Pages that somebody may have kept the address of.
const BOOKMARKS: [&str; 4] = [
    "/retention?cohort=active&returning=active",
    "/people?set=active@2026-11-23",
    "/users/1",
    "/events/active",
];

#[test]
fn a_forgotten_underscore_is_told() {
    let server = RedisServer::start();
    let shop = Shop::new();
    shop.run(&["--store", &server.url(), "mark", "active", "1", "2"])
        .done();
    let wrong = ["--store", &server.url(), "--prefix", "trackist"];
    let told = "note: the prefix is `trackist`, but events begin with `trackist_`: use --prefix trackist_\n";
    for command in [
        &["events"][..],
        &["count", "active@2026-11-23"],
        &["people", "active@2026-11-23"],
        &["retention", "active", "active"],
        &["delete", "active"],
        &["copy", &server.url(), "./copy.db"],
    ] {
        let ran = shop.run(&[&wrong[..], command].concat());
        assert_eq!(ran.err.matches(told).count(), 1, "{command:?}: {}", ran.err);
    }
    let (serving, _) = Serving::saying(
        &shop,
        &[&wrong[..], &["serve", "--listen", "127.0.0.1:0"]].concat(),
        "store: ",
    );
    serving.says("events begin with `trackist_`: use --prefix trackist_");
    for path in ["/events"].iter().chain(&BOOKMARKS) {
        let page = read(&format!("http://{}{path}", serving.address)).body;
        let told = "but events begin with “trackist_”: use --prefix trackist_.</p>";
        assert_eq!(page.matches(told).count(), 1, "{path}: {page}");
    }
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
        &["delete", "--all", "--yes"],
        &["delete", "--all", "--dry-run"],
        &["delete", "active"],
        &["delete", "active", "--period", "2026-11-23"],
        &["expire", "--days", "400d"],
        &["expire", "--days", "400d", "--yes"],
        &["copy", &server.url(), "./copy.db"],
    ] {
        let ran = shop.run(&[&wrong[..], command].concat());
        assert!(ran.err.contains(told), "{command:?}: {}", ran.err);
        assert_eq!(ran.err.matches("no keys begin").count(), 1, "{}", ran.err);
    }
    let (serving, _) = Serving::saying(
        &shop,
        &[&wrong[..], &["serve", "--listen", "127.0.0.1:0"]].concat(),
        "store: ",
    );
    serving.says("no keys begin with `bitmapist_`; 3 begin with `trackist_`");
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
    for path in BOOKMARKS {
        let page = read(&format!("{host}{path}")).body;
        let told = "no keys begin with “bitmapist_”; 3 begin with “trackist_”: use --prefix trackist_.</p>";
        assert_eq!(page.matches(told).count(), 1, "{path}: {page}");
    }
    // Where there is nothing at all, there is nothing to tell; and where keys begin so, no other is
    // looked for.
    let none = Tracker::new(store::open("memory:", &options).unwrap());
    assert_eq!(none.other_prefixes(&Prefix::default()).unwrap().found, []);
    server.reset_statistics();
    let past = ["--now", "2026-11-24", "count", "active@2026-11-23"];
    let ran = shop.run(&[&right[..], &past].concat());
    assert_eq!(ran.quietly(), "3\n");
    assert!(server.calls("scan") <= 1, "nothing is looked for");
}

#[test]
fn a_given_moment_within_a_day_is_said_to_hold_later_marks() {
    let shop = Shop::new();
    for day in ["2026-11-10", "2026-11-12 18:00", "2026-11-14", "2026-11-20"] {
        shop.run(&["mark", "active", "1", "--at", day]).done();
    }
    let later = |place: &str| format!("note: may include marks made later {place}\n");
    let day = later("on 12 Nov 2026");
    // Every format says so, and of the period of its numbers.
    for format in ["table", "csv", "tidy", "json", "svg"] {
        let table = ["retention", "active", "active", "--format", format];
        let table = shop.run(&[&["--now", "2026-11-12"], &table[..]].concat());
        assert!(table.code == 0 && table.err.contains(&day), "{}", table.err);
        assert_eq!(
            table.out.contains("\"may_include_later_marks\": true"),
            format == "json"
        );
    }
    for (args, place) in [
        (
            &["retention", "active", "active", "--by", "week"][..],
            Some("in the week of 12 Nov 2026"),
        ),
        (
            &["retention", "active", "active", "--by", "year"],
            Some("in the year of 12 Nov 2026"),
        ),
        (
            &[
                "retention",
                "active",
                "active",
                "--to",
                "2026-11-10",
                "--cols",
                "2",
            ],
            None,
        ),
        (&["count", "active@2026-11-12"], Some("on 12 Nov 2026")),
        (
            &["count", "active@2026-11-12", "active@2026-11"],
            Some("on 12 Nov 2026 and in that month"),
        ),
        (&["count", "active@2026-11-10"], None),
        (
            &["people", "active@2026-W46"],
            Some("in the week of 12 Nov 2026"),
        ),
        (
            &["events"],
            Some("on 12 Nov 2026, in that week and in that month"),
        ),
    ] {
        let ran = shop.run(&[&["--now", "2026-11-12"], args].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        match place {
            Some(place) => assert!(ran.err.contains(&later(place)), "{args:?}: {}", ran.err),
            None => assert!(!ran.err.contains("later"), "{args:?}: {}", ran.err),
        }
    }
    // After the last mark there are none, nor where the day is over.
    for now in ["2026-11-21", "2026-11-12T23:59:59Z"] {
        let ran = shop.run(&["--now", now, "retention", "active", "active"]);
        assert!(!ran.err.contains("later"), "{now}: {}", ran.err);
    }
    // Hours tell what their day holds.
    shop.run(&["mark", "web", "1", "--hourly", "--at", "2026-11-12 12:00"])
        .done();
    let noted = |now: &str| {
        let ran = shop.run(&["--now", now, "count", "web@2026-11-12"]);
        ran.err.contains(&day)
    };
    assert!(noted("2026-11-12T09:00:00Z") && !noted("2026-11-12T14:00:00Z"));
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
        let said = "as of Thu 12 Nov 2026, 00:00 UTC; may include marks made later on 12 Nov 2026, in that week and in that month";
        assert_eq!(page.matches(said).count(), 1, "{path}: {page}");
    }
    let said = "This list may include marks made later on 12 Nov 2026.";
    let cell = "/people?cohort=active&returning=active&by=day&at=2026-11-12";
    for (path, says) in [
        ("/people?set=active@2026-11-12", true),
        ("/people?set=active@2026-11-10", false),
        (cell, true),
        (&*format!("{cell}&k=0"), true),
        (
            "/people?cohort=active&returning=active&by=day&at=2026-11-11",
            false,
        ),
        (
            "/people?cohort=active&returning=active&by=day&at=2026-11-11&k=1",
            true,
        ),
    ] {
        let page = serving.get(path);
        assert_eq!(page.contains(said), says, "{path}: {page}");
    }
    let later = |path: &str, pointer: &str| {
        let json: serde_json::Value = serde_json::from_str(&serving.get(path)).unwrap();
        json.pointer(pointer).unwrap().as_bool().unwrap()
    };
    let table = "/retention.json?cohort=active&returning=active&by=day";
    let flag = "/may_include_later_marks";
    assert!(later(table, flag) && !later(&format!("{table}&to=2026-11-01&cols=3"), flag));
    assert!(later("/api/v1/events", flag));
    for report in ["trends?event=active&by=day", "user?id=1"] {
        assert!(later(&format!("/api/v1/{report}"), flag), "{report}");
    }
    assert!(later("/api/v1/people?set=active@2026-11", flag));
    let counts = "/api/v1/count?set=active@2026-11-12&set=active@2026-11-11";
    assert!(later(counts, "/counts/0/may_include_later_marks"));
    assert!(!later(counts, "/counts/1/may_include_later_marks"));
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
