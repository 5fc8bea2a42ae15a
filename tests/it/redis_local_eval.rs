//! Redis that is only read: bitmaps are fetched and counted here, with the same numbers as where
//! the server computes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cohortist::sets::{Plan, Set, UserId};
use cohortist::store::{Mark, Options, RedisEval, Saved, Store, StoreError, open};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redis::cmd;

use crate::store_contract::{Opened, contract};
use crate::support::model::{key, marks_of, set, sets};
use crate::support::program::{Serving, Shop};
use crate::support::redis::RedisServer;
use crate::support::stores::{counted_while_killed, free_port};

fn store_of(url: &str, redis_eval: RedisEval) -> Arc<dyn Store> {
    open(
        url,
        &Options {
            redis_eval,
            ..Options::default()
        },
    )
    .unwrap()
}

fn fetching(server: &RedisServer) -> Arc<dyn Store> {
    store_of(&server.url(), RedisEval::Fetch)
}

fn computing(server: &RedisServer) -> Arc<dyn Store> {
    store_of(&server.url(), RedisEval::Server)
}

fn on(redis_eval: RedisEval) -> Opened {
    let server = RedisServer::start();
    let options = Options {
        timeout: Duration::from_secs(30),
        redis_eval,
        ..Options::default()
    };
    (open(&server.url(), &options).unwrap(), Box::new(server))
}

contract!(fetched, || crate::redis_local_eval::on(
    crate::redis_local_eval::RedisEval::Fetch
));
contract!(small chosen, || super::on(super::RedisEval::Auto));

fn count(store: &dyn Store, set: &Set) -> cohortist::store::Result<u64> {
    let mut plan = Plan::new();
    plan.count_set(set).unwrap();
    Ok(store.count(&plan)?[0])
}

fn written(server: &RedisServer) -> u64 {
    [
        "bitop", "setbit", "set", "rename", "renamenx", "pexpire", "expire", "del", "unlink",
    ]
    .map(|command| server.calls(command))
    .iter()
    .sum()
}

/// What a server has sent so far, in bytes.
fn sent(server: &RedisServer) -> u64 {
    let info: String = cmd("INFO")
        .arg("stats")
        .query(&mut server.connection())
        .unwrap();
    info.lines()
        .find_map(|line| line.strip_prefix("total_net_output_bytes:"))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// Makes a bitmap of random bytes from a byte on: half of its users are there.
fn random_bitmap(server: &RedisServer, text: &str, from: usize, bytes: usize, seed: u64) {
    let mut state = seed | 1;
    let noise: Vec<u8> = (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    cmd("SETRANGE")
        .arg(format!("trackist_{text}"))
        .arg(from)
        .arg(noise)
        .exec(&mut server.connection())
        .unwrap();
}

/// Users near to each other, at the borders of tiles, and in windows far apart.
fn far_users() -> impl Strategy<Value = UserId> {
    prop_oneof![
        4 => 0_u32..200,
        3 => 65_500_u32..65_600,
        2 => (63_u32 << 16) + 65_500..(64 << 16) + 200,
        2 => 5_000_000_u32..5_000_050,
        1 => 45_000_000_u32..45_000_050,
    ]
}

#[test]
fn both_ways_come_to_the_same() {
    let texts = [
        "active_2026-11-1",
        "active_2026-11-2",
        "active_W2026-45",
        "song:played_2026-11-1",
        "premium_u",
        "x_y_u",
    ];
    let mark = (0..texts.len(), far_users(), prop::bool::weighted(0.9)).prop_map(
        move |(at, user, value)| Mark {
            key: key(texts[at]),
            user,
            value,
        },
    );
    let input = (
        prop::collection::vec(mark, 0..60),
        prop::collection::vec(sets(), 1..10),
        far_users(),
    );
    let server = RedisServer::start();
    let (here, there) = (fetching(&server), computing(&server));
    let mut runner = TestRunner::new(Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    });
    let run = runner.run(&input, |(marks, sets, after)| {
        cmd("FLUSHALL").exec(&mut server.connection()).unwrap();
        there.apply(&marks).unwrap();
        let mut plan = Plan::new();
        sets.iter().for_each(|set| {
            plan.count_set(set).unwrap();
        });
        // Keys too, which are counted beside what is made from them.
        texts.iter().for_each(|text| {
            plan.count_set(&set(text)).unwrap();
        });
        prop_assert_eq!(here.count(&plan).unwrap(), there.count(&plan).unwrap());
        for set in &sets {
            let limit = 300;
            prop_assert_eq!(
                here.members(set, None, limit).unwrap(),
                there.members(set, None, limit).unwrap()
            );
            let after = Some(after);
            prop_assert_eq!(
                here.members(set, after, limit).unwrap(),
                there.members(set, after, limit).unwrap()
            );
        }
        Ok(())
    });
    run.unwrap();
}

#[test]
fn large_bitmaps_come_in_pieces_and_nothing_is_written() {
    let server = RedisServer::start();
    let mut plan = Plan::new();
    for day in 1..=20 {
        random_bitmap(
            &server,
            &format!("a_2026-11-{day}"),
            0,
            1_500_000 + day * 1000,
            day as u64,
        );
    }
    let days: Vec<_> = (1..=20)
        .map(|day| plan.add(&set(&format!("a_2026-11-{day}"))).unwrap())
        .collect();
    for (at, day) in days.iter().enumerate() {
        plan.count(*day);
        for other in &days[at + 1..] {
            let both = plan.and([*day, *other]);
            plan.count(both);
        }
    }
    let nobody = plan.not(days[3]);
    plan.count(nobody);
    let expected = computing(&server).count(&plan).unwrap();
    let here = fetching(&server);
    here.keys("").unwrap();
    server.reset_statistics();
    assert_eq!(here.count(&plan).unwrap(), expected);
    assert_eq!(
        (written(&server), server.calls("bitcount")),
        (0, 0),
        "all of each was fetched, so all is counted here"
    );
    // 30 MB, 4 MiB at most at a time.
    assert!(
        (8..=14).contains(&server.calls("exec")),
        "{}",
        server.calls("exec")
    );
    let most: i64 = 31_000_000;
    let moved = sent(&server) as i64;
    assert!((30_000_000..most).contains(&moved), "{moved}");
}

#[test]
fn what_cannot_count_is_not_moved() {
    let server = RedisServer::start();
    // Cohorts of new users at the end of long bitmaps, met with days on which many were there.
    let mut plan = Plan::new();
    for day in 1..=10 {
        random_bitmap(
            &server,
            &format!("signup_2026-11-{day}"),
            1_200_000 + day * 1250,
            1250,
            day as u64,
        );
        random_bitmap(
            &server,
            &format!("active_2026-11-{day}"),
            0,
            1_300_000,
            100 + day as u64,
        );
    }
    for day in 1..=10 {
        plan.count_set(&set(&format!("signup_2026-11-{day}")))
            .unwrap();
        for later in day..=10 {
            plan.count_set(
                &(set(&format!("signup_2026-11-{day}")) & set(&format!("active_2026-11-{later}"))),
            )
            .unwrap();
        }
    }
    plan.count_set(&set("active_2026-11-1")).unwrap();
    let expected = computing(&server).count(&plan).unwrap();
    for (redis_eval, at_most) in [(RedisEval::Fetch, 1_000_000), (RedisEval::Auto, 1_000_000)] {
        let store = store_of(&server.url(), redis_eval);
        store.keys("").unwrap();
        server.reset_statistics();
        assert_eq!(store.count(&plan).unwrap(), expected);
        let moved = sent(&server);
        assert!(
            moved < at_most,
            "{redis_eval:?} moved {moved} bytes of 26 MB"
        );
        assert_eq!(
            (written(&server), server.calls("bitcount")),
            (0, 1),
            "{redis_eval:?}"
        );
    }
}

#[test]
fn a_few_users_far_apart_cost_little() {
    let server = RedisServer::start();
    let users = [3, 70_000, 900_000_000, 900_000_001, 1_800_000_000];
    computing(&server)
        .apply(&[marks_of("a_u", users), marks_of("b_u", users)].concat())
        .unwrap();
    let both = set("a_u") & set("b_u");
    let here = fetching(&server);
    server.reset_statistics();
    assert_eq!(count(&*here, &both).unwrap(), 5);
    assert_eq!(
        here.members(&both, Some(3), 3).unwrap(),
        [70_000, 900_000_000, 900_000_001]
    );
    let moved = sent(&server);
    assert!(
        moved < 8_000_000,
        "{moved} bytes of two bitmaps of 225 MB each"
    );
}

#[test]
fn a_page_of_people_takes_the_beginning_of_a_bitmap() {
    let server = RedisServer::start();
    for (seed, text) in [(1, "a_u"), (2, "b_u")] {
        random_bitmap(&server, text, 0, 6_000_000, seed);
    }
    let both = set("a_u") - set("b_u");
    let expected = computing(&server)
        .members(&both, Some(24_000_000), 100)
        .unwrap();
    let auto = store_of(&server.url(), RedisEval::Auto);
    auto.keys("").unwrap();
    server.reset_statistics();
    assert_eq!(
        auto.members(&both, Some(24_000_000), 100).unwrap(),
        expected
    );
    assert!(sent(&server) < 300_000, "{}", sent(&server));
    assert_eq!(written(&server), 0);
}

#[test]
fn who_returned_was_in_the_cohort_whatever_is_marked_meanwhile() {
    let server = RedisServer::start();
    let there = computing(&server);
    // Long enough for several pieces.
    random_bitmap(&server, "base_u", 0, 6_000_000, 5);
    there
        .apply(
            &[
                marks_of("a_u", [0, 40_000_000]),
                marks_of("b_u", [0, 40_000_000]),
            ]
            .concat(),
        )
        .unwrap();
    let here = fetching(&server);
    let mut plan = Plan::new();
    let (a, b, base) = (
        plan.add(&set("a_u")).unwrap(),
        plan.add(&set("b_u")).unwrap(),
        plan.add(&set("base_u")).unwrap(),
    );
    let (both, unlike) = (plan.and([a, b]), plan.xor([a, b]));
    let large = plan.or([a, base]);
    [both, unlike, large].into_iter().for_each(|node| {
        plan.count(node);
    });
    let expected = there.count(&plan).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut user = 0_u32;
            while !done.load(Ordering::Relaxed) {
                // Into tiles of both that were empty, and out of them again.
                user = (user + 9_999_991) % 40_000_000;
                for value in [true, false] {
                    there
                        .apply(&["a_u", "b_u"].map(|text| Mark {
                            key: key(text),
                            user,
                            value,
                        }))
                        .unwrap();
                }
            }
        });
        for _ in 0..60 {
            let found = here.count(&plan).unwrap();
            assert_eq!(found[1], 0, "a batch is seen whole");
            assert!(found[0] >= expected[0], "{found:?}, {expected:?}");
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn errors_and_silence_are_no_smaller_numbers() {
    let server = RedisServer::start();
    for (seed, text) in [(1, "a_u"), (2, "b_u"), (3, "c_u")] {
        random_bitmap(&server, text, 0, 20_000_000, seed);
    }
    let here = fetching(&server);
    let mut plan = Plan::new();
    plan.count_set(&((set("a_u") & set("b_u")) | set("c_u")))
        .unwrap();
    let expected = computing(&server).count(&plan).unwrap();
    counted_while_killed(&server, &*here, &plan, 12, Duration::from_millis(12));
    // It hangs in the middle.
    std::thread::scope(|scope| {
        let request = scope.spawn(|| (0..200).find_map(|_| here.count(&plan).err()));
        std::thread::sleep(Duration::from_millis(60));
        server.pause();
        let paused = Instant::now();
        let error = request.join().unwrap().unwrap();
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        assert!(paused.elapsed() < Duration::from_secs(30), "{error}");
    });
    server.resume();
    assert_eq!(here.count(&plan).unwrap(), expected);
    cmd("LPUSH")
        .arg("trackist_list_u")
        .arg("x")
        .exec(&mut server.connection())
        .unwrap();
    let error = count(&*here, &(set("a_u") & set("list_u"))).unwrap_err();
    assert!(
        error.to_string().contains("`trackist_list_u`: WRONGTYPE"),
        "{error}"
    );
}

/// A primary with some marks, and a replica that has them.
fn primary_and_replica() -> (RedisServer, RedisServer) {
    let port = free_port().to_string();
    let primary = RedisServer::start_with(&[
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--repl-diskless-sync-delay",
        "0",
    ]);
    computing(&primary)
        .apply(&[marks_of("a_u", 0..1000), marks_of("b_u", 500..70_000)].concat())
        .unwrap();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
    let end = Instant::now() + Duration::from_secs(20);
    while !(info(&replica, "replication").contains("master_link_status:up")
        && replica.keys().len() == 2)
    {
        assert!(Instant::now() < end, "{}", info(&replica, "replication"));
        std::thread::sleep(Duration::from_millis(20));
    }
    (primary, replica)
}

fn info(server: &RedisServer, section: &str) -> String {
    cmd("INFO")
        .arg(section)
        .query(&mut server.connection())
        .unwrap()
}

#[test]
fn a_replica_answers_everything_and_says_that_it_is_only_read() {
    let (_primary, replica) = primary_and_replica();
    let store = store_of(&replica.url(), RedisEval::Auto);
    let (a, b) = (set("a_u"), set("b_u"));
    let mut plan = Plan::new();
    [
        a.clone() & b.clone(),
        a.clone() | b.clone(),
        !a.clone(),
        b.clone() - a.clone(),
        a.clone(),
    ]
    .iter()
    .for_each(|set| {
        plan.count_set(set).unwrap();
    });
    assert_eq!(store.count(&plan).unwrap(), [500, 70_000, 0, 69_000, 1000]);
    assert_eq!(
        store
            .members(&(a.clone() & b.clone()), Some(700), 3)
            .unwrap(),
        [701, 702, 703]
    );
    assert_eq!(store.members(&b, None, 2).unwrap(), [500, 501]);
    assert_eq!(
        store.contains(&[key("a_u"), key("b_u")], 2).unwrap(),
        [true, false]
    );
    assert_eq!(
        store.sizes(&[key("a_u"), key("gone_u")]).unwrap(),
        [Some(125), Some(0)]
    );
    assert_eq!(store.keys("").unwrap().len(), 2);
    assert_eq!(store.sweep().unwrap(), 0);
    let notes = store.describe().unwrap().notes;
    assert!(
        notes.len() == 1 && notes[0].contains("accepts no writes") && notes[0].contains("READONLY"),
        "{notes:?}"
    );
    assert_eq!(store.save(&a, &key("b_u")).unwrap(), Saved::Taken);
    for error in [
        store.apply(&marks_of("a_u", [7])).unwrap_err(),
        store
            .save(&(a.clone() & b.clone()), &key("new_u"))
            .map(|_| ())
            .unwrap_err(),
        store.delete(&[key("a_u")]).map(|_| ()).unwrap_err(),
        store.string_ids().assign(&["ann"]).map(|_| ()).unwrap_err(),
    ] {
        let words = error.to_string();
        assert!(
            words.contains("READONLY") && words.contains("this Redis is read-only"),
            "{words}"
        );
    }
    // Who insists on the server's computing learns what would do.
    let error = count(&*store_of(&replica.url(), RedisEval::Server), &(a & b))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("READONLY") && error.contains("--redis-eval auto"),
        "{error}"
    );
    assert_eq!(replica.keys().len(), 2);
}

#[test]
fn a_failover_changes_the_way_and_no_number() {
    let (primary, replica) = primary_and_replica();
    // A single tile, of which the server is to compute: worth too little to be fetched.
    let both = set("a_u") & set("b_u");
    let (first, second) = (
        store_of(&primary.url(), RedisEval::Auto),
        store_of(&replica.url(), RedisEval::Auto),
    );
    assert_eq!(
        (
            count(&*first, &both).unwrap(),
            count(&*second, &both).unwrap()
        ),
        (500, 500)
    );
    assert_eq!(
        (
            first.describe().unwrap().notes.len(),
            second.describe().unwrap().notes.len()
        ),
        (0, 1)
    );
    assert!(primary.calls("bitop") > 1 && replica.calls("bitop") <= 1);

    // The primary is made a replica; links that are there stay.
    cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(1)
        .exec(&mut primary.connection())
        .unwrap();
    cmd("REPLICAOF")
        .arg("NO")
        .arg("ONE")
        .exec(&mut replica.connection())
        .unwrap();
    assert_eq!(
        count(&*first, &both).unwrap(),
        500,
        "the first question that meets it is answered"
    );
    assert!(first.describe().unwrap().notes[0].contains("READONLY"));
    assert!(
        first
            .apply(&marks_of("a_u", [8]))
            .unwrap_err()
            .to_string()
            .contains("read-only")
    );

    // The replica that was: writing works at once, and so does saving, with the lifetime its
    // temporary keys need.
    assert_eq!(
        second.save(&both, &key("both_u")).unwrap(),
        Saved::People(500)
    );
    second.apply(&marks_of("a_u", [60_000])).unwrap();
    assert_eq!(count(&*second, &both).unwrap(), 501);
    assert_eq!(second.describe().unwrap().notes, Vec::<String>::new());
}

/// The commands that reading takes: the list of the documentation.
const READING: &str =
    "+ping +select +strlen +getrange +bitpos +bitcount +getbit +scan +ttl +hget +hmget";

#[test]
fn a_user_who_may_only_read_reads() {
    let server = RedisServer::start();
    computing(&server)
        .apply(&[marks_of("a_u", 0..1000), marks_of("b_u", 500..70_000)].concat())
        .unwrap();
    let mut conn = server.connection();
    let page = include_str!("../../docs/how-to/bitmapist.md");
    assert!(
        page.contains(READING),
        "the page says which commands are needed"
    );
    for (keys, commands) in [
        ("~*", "+@read +@connection"),
        ("~*", "+@read +@connection +@transaction"),
        ("%R~trackist_*", "+@all"),
        ("~trackist_*", READING),
        (
            "~trackist_*",
            &format!("{READING} +multi +exec +discard +info"),
        ),
    ] {
        cmd("ACL")
            .arg(&["SETUSER", "ann", "reset", "on", ">pw", keys])
            .arg(commands.split(' ').collect::<Vec<_>>())
            .exec(&mut conn)
            .unwrap();
        let ann = store_of(
            &format!("{}?db=0&user=ann&pass=pw", server.url()),
            RedisEval::Auto,
        );
        let (a, b) = (set("a_u"), set("b_u"));
        let mut plan = Plan::new();
        [
            a.clone() & b.clone(),
            a.clone(),
            b.clone() - a.clone(),
            !a.clone(),
        ]
        .iter()
        .for_each(|set| {
            plan.count_set(set).unwrap();
        });
        let what = format!("{keys} {commands}");
        assert_eq!(ann.count(&plan).unwrap(), [500, 1000, 69_000, 0], "{what}");
        assert_eq!(
            ann.members(&(a.clone() | b.clone()), Some(69_997), 9)
                .unwrap(),
            [69_998, 69_999],
            "{what}"
        );
        assert_eq!(ann.members(&a, Some(998), 9).unwrap(), [999], "{what}");
        assert_eq!(ann.keys("").unwrap().len(), 2, "{what}");
        assert_eq!(ann.contains(&[key("a_u")], 1).unwrap(), [true], "{what}");
        assert_eq!(ann.sizes(&[key("a_u")]).unwrap(), [Some(125)], "{what}");
        assert_eq!(ann.string_ids().next().unwrap(), None, "{what}");
        assert_eq!(ann.sweep().unwrap(), 0, "{what}");
        let notes = ann.describe().unwrap().notes;
        assert!(notes[0].contains("NOPERM"), "{what}: {notes:?}");
        for error in [
            ann.apply(&marks_of("a_u", [5000])).unwrap_err(),
            ann.save(&(a & b), &key("new_u")).map(|_| ()).unwrap_err(),
            ann.delete(&[key("a_u")]).map(|_| ()).unwrap_err(),
        ] {
            let words = error.to_string();
            assert!(
                words.contains("NOPERM") && words.contains("to mark, save and delete"),
                "{what}: {words}"
            );
        }
        assert_eq!(server.keys(), ["trackist_a_u", "trackist_b_u"], "{what}");
    }
    // One who may not even read is not told a number.
    cmd("ACL")
        .arg(&["SETUSER", "bob", "on", ">pw", "~other_*", "+@all"])
        .exec(&mut conn)
        .unwrap();
    let bob = store_of(
        &format!("{}?user=bob&pass=pw", server.url()),
        RedisEval::Auto,
    );
    let error = count(&*bob, &(set("a_u") & set("b_u")))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("NOPERM") && error.contains("+@read"),
        "{error}"
    );
}

#[test]
fn a_full_redis_still_answers() {
    let server = RedisServer::start();
    for (seed, text) in [(1, "a_u"), (2, "b_u")] {
        random_bitmap(&server, text, 0, 100_000, seed);
    }
    let store = store_of(&server.url(), RedisEval::Auto);
    let both = set("a_u") & set("b_u");
    let expected = count(&*computing(&server), &both).unwrap();
    assert_eq!(count(&*store, &both).unwrap(), expected);
    cmd("CONFIG")
        .arg(&["SET", "maxmemory", "100kb"])
        .exec(&mut server.connection())
        .unwrap();
    assert_eq!(count(&*store, &both).unwrap(), expected);
    assert!(store.describe().unwrap().notes[0].contains("OOM"));
    assert!(
        store
            .apply(&marks_of("a_u", [5]))
            .unwrap_err()
            .to_string()
            .contains("raise maxmemory")
    );
    // Known at once, and not only when the server is asked anew after some seconds.
    assert!(store.describe().unwrap().refusal.is_some());
    cmd("CONFIG")
        .arg(&["SET", "maxmemory", "0"])
        .exec(&mut server.connection())
        .unwrap();
    store.apply(&marks_of("a_u", [5])).unwrap();
    let info = store.describe().unwrap();
    assert_eq!((info.refusal, info.notes), (None, Vec::new()));
}

#[test]
fn a_server_that_cannot_hand_out_pieces_says_so() {
    let server = RedisServer::start_with(&["--rename-command", "GETRANGE", ""]);
    let auto = store_of(&server.url(), RedisEval::Auto);
    auto.apply(&[marks_of("a_u", [1, 2]), marks_of("b_u", [2])].concat())
        .unwrap();
    let both = set("a_u") & set("b_u");
    assert_eq!(
        (
            count(&*auto, &both).unwrap(),
            auto.members(&both, None, 9).unwrap()
        ),
        (1, vec![2])
    );
    let error = count(&*fetching(&server), &both).unwrap_err().to_string();
    assert!(error.contains("cannot be fetched"), "{error}");
    assert_eq!(count(&*fetching(&server), &set("a_u")).unwrap(), 2);
}

#[test]
fn the_dashboard_of_a_replica_says_so() {
    let (_primary, replica) = primary_and_replica();
    let shop = Shop::new();
    let serving = Serving::start(
        &shop,
        &[
            "--store",
            &replica.url(),
            "serve",
            "--listen",
            "127.0.0.1:0",
        ],
    );
    let ready = serving.get("/readyz");
    assert!(
        ready.contains("accepts no writes") && ready.contains("READONLY"),
        "{ready}"
    );
    assert!(
        serving
            .get("/api/v1/count?set=a%40ever+%26+b%40ever")
            .contains("500")
    );
    // In the log it stands once, however many requests a question takes.
    let mut people = shop.command(&["--store", &replica.url(), "people", "a@ever & b@ever"]);
    let ran = people.env("COHORTIST_LOG", "info").output().unwrap();
    let log = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(
        (log.matches("accepts no writes").count(), ran.stdout.len()),
        (1, 500 * 4),
        "{log}"
    );
}

#[test]
fn the_way_is_a_flag_and_a_variable() {
    let server = RedisServer::start();
    computing(&server)
        .apply(&[marks_of("a_u", [1, 2]), marks_of("b_u", [2])].concat())
        .unwrap();
    let (shop, url) = (Shop::new(), server.url());
    let asked = ["--store", &url, "count", "a@ever & b@ever"];
    for (way, computed) in [("server", 1), ("fetch", 0)] {
        server.reset_statistics();
        assert_eq!(
            shop.run(&[&["--redis-eval", way], &asked[..]].concat())
                .quietly(),
            "1\n"
        );
        // One more is the question whether it may.
        assert_eq!(server.calls("bitop"), 1 + computed, "{way}");
        server.reset_statistics();
        let ran = shop
            .command(&asked)
            .env("COHORTIST_REDIS_EVAL", way)
            .output()
            .unwrap();
        assert_eq!(
            (ran.status.code(), server.calls("bitop")),
            (Some(0), 1 + computed),
            "{way}"
        );
    }
    let error = shop
        .run(&[&["--redis-eval", "client"], &asked[..]].concat())
        .error(2);
    assert!(error.contains("auto") && error.contains("fetch"), "{error}");
}
