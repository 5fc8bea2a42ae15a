//! `cohortist copy`: every bitmap, counted on both sides, with real stores at both ends.

use std::collections::BTreeMap;

use cohortist::sets::{Prefix, Set};
use cohortist::store::{self, Options};
use cohortist::{Extent, Tracker};

use crate::support::program::{Ran, Shop};
use crate::support::redis::RedisServer;
use crate::support::web::{name, now};

fn fill(tracker: &Tracker) {
    let mut batch = tracker.batch();
    for user in 0..3_000_u32 {
        let at = now() - chrono::TimeDelta::days(i64::from(user % 40));
        let extent = Extent {
            hourly: user % 3 == 0,
            ever: user % 5 == 0,
        };
        batch
            .mark_to(&name("active"), user * 7, at, extent)
            .unwrap();
        batch
            .mark_to(&name("odd \"name\" [x]*"), user, at, extent)
            .unwrap();
    }
    batch.mark(&name("far"), 40_000_000, now()).unwrap();
    batch.commit().unwrap();
}

/// Every bitmap and who is in it.
fn content(tracker: &Tracker) -> BTreeMap<String, Vec<u32>> {
    let keys = tracker.keys("").unwrap();
    let users = |key| {
        tracker
            .members(&Set::Key(key))
            .map(Result::unwrap)
            .collect()
    };
    keys.into_iter()
        .map(|key| (key.to_string(), users(key)))
        .collect()
}

fn redis(server: &RedisServer, prefix: &str) -> Tracker {
    let options = Options {
        prefix: Prefix::new(prefix),
        ..Options::default()
    };
    Tracker::new(store::open(&server.url(), &options).unwrap())
}

/// All keys of a Redis with what is in them, whoever made them.
fn dump(server: &RedisServer) -> BTreeMap<String, Vec<u8>> {
    let mut connection = server.connection();
    let mut value = |key: &String| ::redis::cmd("GET").arg(key).query(&mut connection).unwrap();
    server
        .keys()
        .iter()
        .map(|key| (key.clone(), value(key)))
        .collect()
}

#[test]
fn everything_arrives_from_redis_into_a_path_and_back_and_nothing_is_written_to_the_source() {
    let (old, new, shop) = (RedisServer::start(), RedisServer::start(), Shop::new());
    let source = redis(&old, "trackist_");
    fill(&source);
    ::redis::cmd("SET")
        .arg("session:1")
        .arg("x")
        .exec(&mut old.connection())
        .unwrap();
    let before = dump(&old);
    old.reset_statistics();
    let said = shop.run(&["copy", &old.url(), "./copy.db"]).done();
    assert!(
        said.starts_with("copied ") && said.contains("of 3 events count the same on both sides"),
        "{said}"
    );
    for command in ["setbit", "set", "rename", "renamenx"] {
        assert_eq!(old.calls(command), 0, "{command}");
    }
    // Of a key that is not there, to find out what the server knows and lets us do: events and
    // whole bitmaps are read in connections of their own.
    for command in ["bitop", "del", "unlink", "pexpire"] {
        assert!((1..=2).contains(&old.calls(command)), "{command}");
    }
    assert_eq!(dump(&old), before);

    // Back, into another Redis under another prefix.
    shop.run(&["copy", "./copy.db", &new.url(), "--to-prefix", "bitmapist_"])
        .done();
    let arrived = redis(&new, "bitmapist_");
    assert_eq!(content(&arrived), content(&source));
    assert_eq!(new.calls("setbit"), 0, "whole bitmaps are written");
    assert!(
        new.keys().iter().all(|key| key.starts_with("bitmapist_")),
        "only events are copied"
    );
    // And from Redis to Redis, where what is there already is not copied again.
    let said = shop
        .run(&["--prefix", "bitmapist_", "copy", &new.url(), &old.url()])
        .done();
    assert!(
        said.contains("copied ") && !said.contains("copied 0 "),
        "{said}"
    );
    old.reset_statistics();
    let again = shop.run(&["--prefix", "bitmapist_", "copy", &new.url(), &old.url()]);
    assert!(
        again.err.contains("there already")
            && again.out.starts_with("copied 0 bitmaps with 0 bits"),
        "{}",
        again.out
    );
    assert_eq!(old.calls("setbit"), 0);
    assert_eq!(content(&redis(&old, "bitmapist_")), content(&source));
}

#[test]
fn many_small_bitmaps_take_few_trips_and_add_to_what_is_there() {
    let (old, new, shop) = (RedisServer::start(), RedisServer::start(), Shop::new());
    let (source, target) = (redis(&old, "trackist_"), redis(&new, "trackist_"));
    let mut batch = source.batch();
    for number in 0..1500_u32 {
        let event = name(&format!("event{number}"));
        (0..5).for_each(|user| {
            batch.mark_ever(&event, number * 7 + user * 3);
        });
    }
    batch.commit().unwrap();
    // One has other users there, and one the same ones.
    target.mark_ever(&name("event3"), 21).unwrap();
    target.mark_ever(&name("event4"), 1).unwrap();
    source.mark_ever(&name("event4"), 1).unwrap();
    new.reset_statistics();
    shop.run(&["copy", &old.url(), &new.url()]).done();
    let trips = new.calls("ping");
    assert!((1..100).contains(&trips), "{trips}");
    assert_eq!(content(&target), content(&source));
    let to = ["./copy.db", "./copy2.db"];
    shop.run(&["copy", &new.url(), to[0]]).done();
    shop.run(&["copy", to[0], to[1]]).done();
    let copy = shop.path(to[1]);
    let copy = store::open(copy.to_str().unwrap(), &Options::default()).unwrap();
    assert_eq!(content(&Tracker::new(copy)), content(&source));
}

#[test]
fn an_interrupted_copy_goes_on_where_it_was() {
    let (server, shop) = (RedisServer::start(), Shop::new());
    fill(&redis(&server, "trackist_"));
    // Half of it is there, one bitmap of it but in part.
    {
        let source = redis(&server, "trackist_");
        let part = Tracker::new(
            store::open(shop.path("copy.db").to_str().unwrap(), &Options::default()).unwrap(),
        );
        let mut keys = source.keys("active").unwrap();
        keys.sort_by_key(ToString::to_string);
        for (i, key) in keys.iter().enumerate() {
            let users = source.members(&Set::Key(key.clone())).map(Result::unwrap);
            let some = users.take(if i == 3 { 1 } else { usize::MAX });
            let marks: Vec<_> = some
                .map(|user| store::Mark {
                    key: key.clone(),
                    user,
                    value: true,
                })
                .collect();
            part.apply(&marks).unwrap();
        }
    }
    let ran = shop.run(&["copy", &server.url(), "./copy.db"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("there already"), "{}", ran.err);
    let copy = Tracker::new(
        store::open(shop.path("copy.db").to_str().unwrap(), &Options::default()).unwrap(),
    );
    assert_eq!(content(&copy), content(&redis(&server, "trackist_")));
}

#[test]
fn a_copy_that_is_not_equal_is_said_to_be_none() {
    let (server, shop) = (RedisServer::start(), Shop::new());
    fill(&redis(&server, "trackist_"));
    shop.run(&[
        "--store",
        "./other.db",
        "mark",
        "active",
        "5",
        "6",
        "--at",
        "2026-11-23",
    ])
    .done();
    let Ran { code, err, out, .. } = shop.run(&["copy", &server.url(), "./other.db"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("contain users that are not in redis+unix://")
            && err.contains("active_2026-11-23 (77 of 75)"),
        "{err}"
    );

    for (args, said) in [
        (
            vec!["copy", "./none.db", "./x.db"],
            "there is no store at ./none.db",
        ),
        (vec!["copy", "./other.db", "./other.db"], "the same store"),
        (
            vec!["copy", "./other.db", "./././other.db"],
            "the same store",
        ),
        (vec!["copy", "http://x", "./x.db"], "is not a store"),
        (
            vec!["--prefix", "nothing_", "copy", "./other.db", "./x.db"],
            "no events under the prefix `nothing_`",
        ),
    ] {
        let ran = shop.run(&args);
        assert!(
            ran.code > 0 && ran.err.contains(said),
            "{args:?}: {}",
            ran.err
        );
    }
    assert!(
        !shop.path("x.db").exists() && !shop.path("none.db").exists(),
        "nothing is made for nothing"
    );
    let gone = format!("redis://127.0.0.1:{}", 1);
    assert_eq!(shop.run(&["copy", &gone, "./x.db"]).code, 1);
}
