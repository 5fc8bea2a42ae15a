//! The store in Redis, against real servers that compute.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cohortist::sets::{Plan, Prefix, Set};
use cohortist::store::redis::RedisStore;
use cohortist::store::{KeyListing, Mark, Options, RedisEval, Saved, Store, StoreError, open};
use redis::cmd;

use crate::store_contract::{Opened, contract};
use crate::support::model::{key, marks_of, set};
use crate::support::program::{Ran, Shop};
use crate::support::proxy::Proxy;
use crate::support::redis::{RedisServer, signal};
use crate::support::stores::counted_while_killed;

fn computing() -> Options {
    Options {
        redis_eval: RedisEval::Server,
        ..Options::default()
    }
}

fn store(server: &RedisServer) -> Arc<dyn Store> {
    open(&server.url(), &computing()).unwrap()
}

/// With time to spare: the contract is about answers, and a busy machine takes long over half a
/// gigabyte.
fn on(server: RedisServer) -> Opened {
    let options = Options {
        timeout: Duration::from_secs(30),
        ..computing()
    };
    (open(&server.url(), &options).unwrap(), Box::new(server))
}

contract!(redis_server, || crate::redis_store::on(
    crate::redis_store::RedisServer::start()
));
// As little as a server may know: bitmapist-server has none of these.
contract!(small bare_server, || super::on(super::RedisServer::start_with(&super::BARE)));

const BARE: [&str; 24] = [
    "--rename-command",
    "UNLINK",
    "",
    "--rename-command",
    "STRLEN",
    "",
    "--rename-command",
    "SCAN",
    "",
    "--rename-command",
    "PEXPIRE",
    "",
    "--rename-command",
    "BITPOS",
    "",
    "--rename-command",
    "GETRANGE",
    "",
    "--rename-command",
    "INFO",
    "",
    "--rename-command",
    "EXISTS",
    "",
];

/// A plan whose unions grow, each met with each cohort: many steps that others need.
fn plan_of(days: u32) -> Plan {
    let mut plan = Plan::new();
    let keys: Vec<_> = (1..=days)
        .map(|day| plan.add(&set(&format!("a_{}-1-1", 2000 + day))).unwrap())
        .collect();
    for (from, cohort) in keys.iter().enumerate() {
        let mut later = plan.empty();
        for day in &keys[from..] {
            later = plan.or([later, *day]);
            let retained = plan.and([*cohort, later]);
            plan.count(retained);
        }
    }
    plan
}

fn fill(store: &dyn Store, days: u32, users: u32) {
    for day in 1..=days {
        // One far user makes the bitmap as long as that of many.
        store
            .apply(&marks_of(&format!("a_{}-1-1", 2000 + day), [day, users]))
            .unwrap();
    }
}

fn count(store: &dyn Store, set: &Set) -> cohortist::store::Result<u64> {
    let mut plan = Plan::new();
    plan.count_set(set).unwrap();
    Ok(store.count(&plan)?[0])
}

fn temporary(server: &RedisServer) -> Vec<String> {
    server
        .keys()
        .into_iter()
        .filter(|key| key.contains("bitop_"))
        .collect()
}

fn reason(error: &StoreError) -> &str {
    match error {
        StoreError::Unreachable { reason, .. }
        | StoreError::Refused { reason, .. }
        | StoreError::NotABitmap { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

fn unreachable<T: std::fmt::Debug>(result: cohortist::store::Result<T>) -> String {
    match result.unwrap_err() {
        error @ StoreError::Unreachable { .. } => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bits_are_bitmapists() {
    let server = RedisServer::start();
    store(&server)
        .apply(&marks_of("active_2026-1-9", [0, 9, 23]))
        .unwrap();
    let bytes: Vec<u8> = cmd("GET")
        .arg("trackist_active_2026-1-9")
        .query(&mut server.connection())
        .unwrap();
    assert_eq!(bytes, [0x80, 0x40, 0x01]);
    assert_eq!(server.keys(), ["trackist_active_2026-1-9"]);
}

#[test]
fn a_saved_set_stays_for_good_and_leaves_nothing_beside_it() {
    let server = RedisServer::start();
    let store = store(&server);
    store
        .apply(&[marks_of("a_u", [0, 9, 23, 70]), marks_of("b_u", [9, 23])].concat())
        .unwrap();
    assert_eq!(
        store
            .save(&(set("a_u") & set("b_u")), &key("both_u"))
            .unwrap(),
        Saved::People(2)
    );
    assert_eq!(
        store.save(&set("b_u"), &key("copy_u")).unwrap(),
        Saved::People(2)
    );
    // Somebody's text under our prefix is no less theirs for holding nothing.
    let mut conn = server.connection();
    cmd("SET")
        .arg("trackist_empty_u")
        .arg("")
        .exec(&mut conn)
        .unwrap();
    for taken in ["both_u", "copy_u", "empty_u"] {
        assert_eq!(
            store.save(&(set("a_u") | set("b_u")), &key(taken)).unwrap(),
            Saved::Taken
        );
    }
    let keys = ["a_u", "b_u", "both_u", "copy_u", "empty_u"].map(|text| format!("trackist_{text}"));
    assert_eq!(server.keys(), keys);
    for text in ["both_u", "copy_u"] {
        let lifetime: i64 = cmd("TTL")
            .arg(format!("trackist_{text}"))
            .query(&mut conn)
            .unwrap();
        assert_eq!(lifetime, -1, "{text} never expires");
        let bytes: Vec<u8> = cmd("GET")
            .arg(format!("trackist_{text}"))
            .query(&mut conn)
            .unwrap();
        assert_eq!(bytes[..3], [0, 0x40, 0x01], "{text}");
    }
    // A set that takes more than one chunk.
    fill(&*store, 60, 8_000_000);
    let all = Set::Or(
        (1..=60)
            .map(|day| set(&format!("a_{}-1-1", 2000 + day)))
            .collect(),
    );
    assert_eq!(
        store
            .save(&(all.clone() | (all & set("b_u"))), &key("year_u"))
            .unwrap(),
        Saved::People(61)
    );
    assert_eq!(temporary(&server), Vec::<String>::new());
}

#[test]
fn prefixes_keep_apart() {
    let server = RedisServer::start();
    let other = Options {
        prefix: Prefix::new("other*_"),
        ..Options::default()
    };
    let (ours, theirs) = (store(&server), open(&server.url(), &other).unwrap());
    ours.apply(&marks_of("a_u", [1])).unwrap();
    theirs.apply(&marks_of("a_u", [2, 3])).unwrap();
    let mut conn = server.connection();
    cmd("SET")
        .arg("otherwise_a_u")
        .arg("x")
        .exec(&mut conn)
        .unwrap();
    cmd("SET")
        .arg("other*_bitop_AND_x")
        .arg("x")
        .exec(&mut conn)
        .unwrap();
    cmd("SET")
        .arg(b"trackist_\xff_u")
        .arg("x")
        .exec(&mut conn)
        .unwrap();
    assert_eq!(
        (ours.keys("").unwrap().len(), theirs.keys("").unwrap().len()),
        (1, 1)
    );
    assert_eq!(theirs.members(&set("a_u"), None, 9).unwrap(), [2, 3]);
    assert_eq!(ours.sweep().unwrap(), 0);
    assert_eq!(theirs.sweep().unwrap(), 1);
    theirs.delete(&[key("a_u")]).unwrap();
    assert_eq!(count(&*ours, &set("a_u")).unwrap(), 1);
}

#[test]
fn a_database_of_its_own() {
    let server = RedisServer::start();
    let third = open(&format!("{}?db=3", server.url()), &Options::default()).unwrap();
    third.apply(&marks_of("a_u", [1])).unwrap();
    assert_eq!(store(&server).keys("").unwrap(), []);
    assert!(
        third
            .describe()
            .unwrap()
            .location
            .ends_with("redis.sock?db=3")
    );
    let none = open(&format!("{}?db=99", server.url()), &Options::default()).unwrap();
    assert!(
        none.keys("")
            .unwrap_err()
            .to_string()
            .contains("DB index is out of range")
    );
}

#[test]
fn a_table_takes_few_round_trips_and_leaves_nothing() {
    let server = RedisServer::start();
    let store = store(&server);
    for day in 1..=31 {
        store
            .apply(&marks_of(&format!("a_2026-10-{day}"), 0..200))
            .unwrap();
        store
            .apply(&marks_of(&format!("b_2026-10-{day}"), 0..day))
            .unwrap();
    }
    let mut plan = Plan::new();
    let mut expected = Vec::new();
    for day in 1..=31 {
        plan.count_set(&set(&format!("a_2026-10-{day}"))).unwrap();
        expected.push(200);
        for offset in 0..13 {
            let later = (day + offset).min(40);
            // Days beyond October are not there, so their pairs must cost nothing.
            plan.count_set(
                &(set(&format!("a_2026-10-{day}")) & set(&format!("b_{}", october(later)))),
            )
            .unwrap();
            expected.push(if later <= 31 { u64::from(later) } else { 0 });
        }
    }
    // Which keys are padded with zeros is known from one listing.
    store.keys("").unwrap();
    server.reset_statistics();
    assert_eq!(store.count(&plan).unwrap(), expected);
    let pairs = expected
        .iter()
        .filter(|count| !matches!(count, 0 | 200))
        .count() as u64;
    assert_eq!(server.calls("bitop"), pairs);
    // A trip is a PING, all the STRLENs, or a transaction: 31 + 2 × 325 commands are two chunks.
    assert_eq!((server.calls("ping"), server.calls("exec")), (1, 2));
    assert_eq!(temporary(&server), Vec::<String>::new());
}

fn october(day: u32) -> String {
    if day <= 31 {
        format!("2026-10-{day}")
    } else {
        format!("2026-11-{}", day - 31)
    }
}

#[test]
fn large_bitmaps_are_taken_in_chunks() {
    let server = RedisServer::start();
    let store = store(&server);
    // 12 bitmaps of 2 MB each; 11 intersections of two.
    fill(&*store, 12, 16_000_000);
    let mut plan = Plan::new();
    for day in 2..=12 {
        plan.count_set(&(set("a_2001-1-1") & set(&format!("a_{}-1-1", 2000 + day))))
            .unwrap();
    }
    server.reset_statistics();
    assert_eq!(store.count(&plan).unwrap(), [1; 11]);
    // Two operands and a result, 6 MB each time: two to a chunk of 16 MiB.
    assert_eq!(server.calls("exec"), 6);
}

#[test]
fn temporary_keys_have_a_lifetime_as_soon_as_others_can_see_them() {
    let server = RedisServer::start();
    let store = store(&server);
    fill(&*store, 12, 4_000_000);
    let plan = plan_of(12);
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut conn = server.connection();
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                let script = "local n = 0; for _, k in ipairs(redis.call('KEYS', '*bitop_*')) do \
                    if redis.call('PTTL', k) < 0 then return k end; n = n + 1 end; return n";
                let reply: redis::Value = cmd("EVAL").arg(script).arg(0).query(&mut conn).unwrap();
                let redis::Value::Int(keys) = reply else {
                    panic!("without a lifetime: {reply:?}")
                };
                seen += keys;
            }
            seen
        });
        for _ in 0..5 {
            assert_eq!(store.count(&plan).unwrap().len(), 78);
            let union = set("a_2001-1-1") | set("a_2002-1-1");
            assert_eq!(store.members(&union, None, 9).unwrap(), [1, 2, 4_000_000]);
        }
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert!(seen > 0, "the test has to see some");
    assert_eq!(temporary(&server), Vec::<String>::new());
}

#[test]
fn connections_killed_in_the_middle_leave_nothing() {
    let server = RedisServer::start();
    let store = store(&server);
    fill(&*store, 14, 4_000_000);
    let plan = plan_of(14);
    counted_while_killed(&server, &*store, &plan, 30, Duration::from_millis(9));
    // What a killed clean-up left goes by itself.
    let mut conn = server.connection();
    for left in temporary(&server) {
        let lifetime: i64 = cmd("PTTL").arg(&left).query(&mut conn).unwrap();
        assert!((1..=60_000).contains(&lifetime), "{left}: {lifetime}");
    }
}

#[test]
fn a_temporary_key_that_goes_is_an_error_and_no_smaller_number() {
    let server = RedisServer::start();
    let store = store(&server);
    fill(&*store, 14, 4_000_000);
    let plan = plan_of(14);
    let expected = store.count(&plan).unwrap();
    let done = AtomicBool::new(false);
    let mut failed = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut conn = server.connection();
            while !done.load(Ordering::Relaxed) {
                let script = "for _, k in ipairs(redis.call('KEYS', '*bitop_*')) do redis.call('DEL', k) end";
                cmd("EVAL").arg(script).arg(0).exec(&mut conn).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        for _ in 0..20 {
            match store.count(&plan) {
                Ok(counts) => assert_eq!(counts, expected),
                Err(error) => {
                    assert!(
                        reason(&error).contains("temporary key was deleted"),
                        "{error}"
                    );
                    failed += 1;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(failed > 0, "the test has to hit some");
    assert_eq!(temporary(&server), Vec::<String>::new());
}

#[test]
fn errors_leave_nothing_either() {
    let server = RedisServer::start();
    let store = store(&server);
    fill(&*store, 14, 4_000_000);
    // No memory for temporary keys halfway through.
    let mut conn = server.connection();
    let used: String = cmd("INFO").arg("memory").query(&mut conn).unwrap();
    let used: u64 = used
        .lines()
        .find_map(|l| l.strip_prefix("used_memory:"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg(used + 100_000)
        .exec(&mut conn)
        .unwrap();
    let error = store.count(&plan_of(14)).unwrap_err();
    assert!(
        matches!(error, StoreError::Refused { .. }) && reason(&error).contains("OOM"),
        "{error}"
    );
    assert!(reason(&error).contains("maxmemory"), "{error}");
    assert_eq!(temporary(&server), Vec::<String>::new());
}

#[test]
fn what_is_no_bitmap_is_named() {
    let server = RedisServer::start();
    let store = store(&server);
    store.apply(&marks_of("a_u", [1])).unwrap();
    cmd("LPUSH")
        .arg("trackist_list_u")
        .arg("x")
        .exec(&mut server.connection())
        .unwrap();
    let batch = [marks_of("a_u", [2]), marks_of("list_u", [2])].concat();
    for error in [
        count(&*store, &(set("a_u") & set("list_u"))).unwrap_err(),
        count(&*store, &set("list_u")).unwrap_err(),
        store.members(&set("list_u"), None, 9).unwrap_err(),
        store.contains(&[key("a_u"), key("list_u")], 1).unwrap_err(),
        store.apply(&batch).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::NotABitmap { .. }), "{error}");
        assert!(
            reason(&error).starts_with("`trackist_list_u`: WRONGTYPE"),
            "{error}"
        );
    }
    assert_eq!(
        store.members(&set("a_u"), None, 9).unwrap(),
        [1],
        "nothing of the batch was written"
    );
    assert_eq!(
        count(&*store, &set("a_u")).unwrap(),
        1,
        "the connection is still good"
    );
    assert_eq!(temporary(&server), Vec::<String>::new());
}

#[test]
fn sweeping_deletes_what_was_left_and_nothing_in_use() {
    let server = RedisServer::start();
    let store = store(&server);
    store.apply(&marks_of("a_u", [1])).unwrap();
    let mut conn = server.connection();
    for name in [
        "bitop_AND_trackist_a_2026-11-1",
        "bitop_cohortist:dead:1",
        "bitop_cohortist:live:1",
    ] {
        cmd("SET")
            .arg(format!("trackist_{name}"))
            .arg("x")
            .exec(&mut conn)
            .unwrap();
    }
    cmd("PEXPIRE")
        .arg("trackist_bitop_cohortist:live:1")
        .arg(60_000)
        .exec(&mut conn)
        .unwrap();
    assert_eq!(store.keys("").unwrap().len(), 1);
    assert_eq!(store.sweep().unwrap(), 2);
    assert_eq!(
        server.keys(),
        ["trackist_a_u", "trackist_bitop_cohortist:live:1"]
    );
}

#[test]
fn many_keys_are_listed_and_deleted_once() {
    let server = RedisServer::start();
    let store = store(&server);
    let mut expected = std::collections::BTreeSet::new();
    let mut batch = Vec::new();
    for i in 0..3000 {
        let key = key(&format!("e{i}_u"));
        expected.insert(key.clone());
        batch.push(Mark {
            key,
            user: i,
            value: true,
        });
    }
    store.apply(&batch).unwrap();
    let listed = store.keys("").unwrap();
    assert_eq!(
        (listed.len(), listed.iter().cloned().collect()),
        (3000, expected)
    );
    assert_eq!(
        store
            .contains(&listed, 5)
            .unwrap()
            .iter()
            .filter(|yes| **yes)
            .count(),
        1
    );
    assert_eq!(store.delete(&listed).unwrap(), 3000);
    assert_eq!(server.keys(), Vec::<String>::new());
    assert_eq!(server.calls("keys"), 1, "that was the test's own");
}

#[test]
fn what_a_server_does_not_know_is_done_without() {
    let server = RedisServer::start_with(&BARE[..18]);
    let store = store(&server);
    fill(&*store, 14, 4_000_000);
    assert_eq!(store.count(&plan_of(14)).unwrap().len(), 105);
    assert_eq!(
        store
            .members(&(set("a_2001-1-1") | set("a_2002-1-1")), None, 2)
            .unwrap(),
        [1, 2]
    );
    // The first count had them listed too, to know which are padded with zeros.
    assert_eq!(
        (store.keys("").unwrap().len(), server.calls("keys")),
        (14, 2)
    );
    assert!(server.calls("expire") > 0);
    assert_eq!(temporary(&server), Vec::<String>::new());
}

#[test]
fn a_server_without_transactions_still_serves() {
    let server = RedisServer::start_with(&[
        "--rename-command",
        "MULTI",
        "",
        "--rename-command",
        "PEXPIRE",
        "",
    ]);
    let store = store(&server);
    fill(&*store, 14, 4_000_000);
    assert_eq!(store.count(&plan_of(14)).unwrap().len(), 105);
    assert_eq!(
        store
            .members(&(set("a_2001-1-1") | set("a_2002-1-1")), None, 2)
            .unwrap(),
        [1, 2]
    );
    assert!(store.describe().unwrap().notes[0].contains("no transactions"));
    assert_eq!(temporary(&server), Vec::<String>::new());
}

#[test]
fn a_server_says_what_it_is() {
    let server = RedisServer::start();
    let store = store(&server);
    let info = store.describe().unwrap();
    assert!(
        info.kind.starts_with("Redis ") && info.kind.contains('.'),
        "{info:?}"
    );
    assert_eq!((info.location, info.notes.len()), (server.url(), 0));
    let mut conn = server.connection();
    cmd("CONFIG")
        .arg(&["SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru"])
        .exec(&mut conn)
        .unwrap();
    assert!(store.describe().unwrap().notes[0].contains("allkeys-lru"));
}

/// Runs a request that has to fail for want of a server, and soon.
fn fails_soon(store: &dyn Store) -> String {
    let start = Instant::now();
    let words = unreachable(count(store, &(set("a_u") & set("b_u"))));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}: {words}");
    words
}

#[test]
fn opening_needs_no_server_and_requests_find_it_when_it_comes() {
    let mut server = RedisServer::start();
    server.stop();
    let store = store(&server);
    let words = fails_soon(&*store);
    assert!(words.contains("Is redis-server running there?"), "{words}");
    for _ in 0..3 {
        fails_soon(&*store);
    }
    server.restart();
    store.apply(&marks_of("a_u", [1])).unwrap();
    assert_eq!(count(&*store, &set("a_u")).unwrap(), 1);
    // And again, with connections in the pool that have died.
    for _ in 0..2 {
        server.stop();
        fails_soon(&*store);
        server.restart();
        store.apply(&marks_of("a_u", [1, 2])).unwrap();
        server.restart();
        assert_eq!(count(&*store, &set("a_u")).unwrap(), 0);
    }
}

#[test]
fn nobody_at_a_port() {
    let store = open("redis://:secret@127.0.0.1:1/0", &Options::default()).unwrap();
    assert_eq!(
        fails_soon(&*store),
        "the store at redis://127.0.0.1:1/0 does not answer: connection refused. Is redis-server running there?"
    );
}

#[test]
fn a_server_that_hangs_is_given_up_in_time() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    let url = format!("{}?db=2&pass=secret", server.url());
    let (used, fresh) = (
        open(&url, &Options::default()).unwrap(),
        open(&url, &Options::default()).unwrap(),
    );
    used.apply(&marks_of("a_u", [1])).unwrap();
    server.pause();
    // More requests than connections, all at once.
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| fails_soon(&*used));
            scope.spawn(|| fails_soon(&*fresh));
        }
    });
    server.resume();
    assert_eq!(count(&*used, &set("a_u")).unwrap(), 1);
    assert_eq!(count(&*fresh, &set("a_u")).unwrap(), 1);
}

#[test]
fn a_server_that_hangs_between_chunks_is_given_up_in_time() {
    let server = RedisServer::start();
    fill(&*store(&server), 20, 8_000_000);
    let proxy = Proxy::before(&server.url());
    let store = RedisStore::new(&proxy.url(), &computing()).unwrap();
    let plan = plan_of(20);
    proxy.hold(b"EXEC\r\n");
    proxy.allow(3);
    let started = Instant::now();
    unreachable(store.count(&plan));
    assert!(started.elapsed() < Duration::from_secs(30));
    // Three chunks were carried out, and the fourth never came back.
    proxy.wait_for_held(1);
    proxy.cut();
    proxy.release();
    assert_eq!(store.count(&plan).unwrap().len(), 210);
}

#[test]
fn passwords_are_asked_for_and_not_told() {
    let server = RedisServer::start_with(&["--requirepass", "sesame"]);
    let with =
        |query: &str| open(&format!("{}{query}", server.url()), &Options::default()).unwrap();
    with("?pass=sesame").apply(&marks_of("a_u", [1])).unwrap();
    for (query, word) in [
        ("", "NOAUTH"),
        ("?pass=tomtom", "WRONGPASS"),
        ("?user=ann&pass=tomtom", "WRONGPASS"),
    ] {
        let error = with(query).keys("").unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        assert!(
            reason(&error).contains(word) && reason(&error).contains("password in the URL"),
            "{error}"
        );
        assert!(
            !format!("{error} {error:?}").contains("tomtom"),
            "{error:?}"
        );
    }
    // Redis repeats the arguments of a command it does not know.
    let server = RedisServer::start_with(&["--rename-command", "AUTH", ""]);
    let store = open(
        &format!("{}?pass=tomtom", server.url()),
        &Options::default(),
    )
    .unwrap();
    let error = store.keys("").unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("tomtom"),
        "{error:?}"
    );
    for url in [
        "redis://:tomtom@host:x/",
        "http://ann:tomtom@host/",
        "redis+unix://?pass=tomtom",
    ] {
        let error = open(url, &Options::default()).unwrap_err();
        assert!(
            matches!(error, StoreError::Url(_)) && !error.to_string().contains("tomtom"),
            "{error}"
        );
    }
}

#[test]
fn users_without_permission_learn_which_they_need() {
    let server = RedisServer::start();
    store(&server)
        .apply(&[marks_of("a_u", [1]), marks_of("b_u", [1])].concat())
        .unwrap();
    let mut conn = server.connection();
    cmd("ACL")
        .arg(&[
            "SETUSER",
            "ann",
            "on",
            ">pw",
            "~*",
            "+@read",
            "+@connection",
            "+@transaction",
        ])
        .exec(&mut conn)
        .unwrap();
    let ann = open(&format!("{}?user=ann&pass=pw", server.url()), &computing()).unwrap();
    assert_eq!(count(&*ann, &set("a_u")).unwrap(), 1, "reading is allowed");
    for error in [
        count(&*ann, &(set("a_u") & set("b_u"))).unwrap_err(),
        ann.apply(&marks_of("a_u", [2])).unwrap_err(),
    ] {
        assert!(
            reason(&error).contains("NOPERM")
                && reason(&error).contains("to mark, save and delete, also +@write"),
            "{error}"
        );
    }
    cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(1)
        .exec(&mut conn)
        .unwrap();
    let error = store(&server).apply(&marks_of("a_u", [2])).unwrap_err();
    assert!(reason(&error).contains("READONLY"), "{error}");
}

#[test]
fn a_server_busy_with_a_script_is_unreachable_for_now() {
    let server = RedisServer::start_with(&["--busy-reply-threshold", "20"]);
    let store = store(&server);
    store.apply(&marks_of("a_u", [1])).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut conn = server.connection();
            let _ = cmd("EVAL").arg("while true do end").arg(0).exec(&mut conn);
        });
        let mut asking = server.connection();
        let end = Instant::now() + Duration::from_secs(60);
        while cmd("PING").exec(&mut asking).is_ok() {
            assert!(Instant::now() < end, "the script does not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
        let words = fails_soon(&*store);
        assert!(words.contains("BUSY"), "{words}");
        cmd("SCRIPT")
            .arg("KILL")
            .exec(&mut server.connection())
            .unwrap();
    });
    assert_eq!(count(&*store, &set("a_u")).unwrap(), 1);
}

#[test]
fn what_does_not_speak_the_protocol_is_refused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 100]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let store = RedisStore::new(&format!("redis://127.0.0.1:{port}"), &Options::default()).unwrap();
    let error = store.keys("").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not speak the Redis protocol"),
        "{error}"
    );
}

/// Ctrl-Z and `fg` while a program waits for Redis: Linux then ends the read.
#[test]
fn a_program_that_is_stopped_and_goes_on_still_gets_its_answer() {
    let server = RedisServer::start();
    let (shop, url) = (Shop::new(), server.url());
    shop.run(&["--store", &url, "mark", "active", "7", "--at", "2026-11-23"])
        .done();
    server.pause();
    let child = shop.start(&[
        "--store",
        &url,
        "--redis-timeout",
        "60",
        "count",
        "active@2026-11-23",
    ]);
    std::thread::sleep(Duration::from_millis(700));
    signal(child.id(), "-STOP");
    std::thread::sleep(Duration::from_millis(100));
    signal(child.id(), "-CONT");
    server.resume();
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ran.quietly(), "1\n");
}
