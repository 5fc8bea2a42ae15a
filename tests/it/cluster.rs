//! The store in a Redis Cluster, against real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use cohortist::calendar::Grain;
use cohortist::reports::retention::Query;
use cohortist::sets::{Key, Plan, Prefix, Set, UserId};
use cohortist::store::{Mark, Options, RedisEval, Saved, Store, StoreError, open};
use cohortist::{Extent, Tracker};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::cluster_moves::Move;
use crate::http::read;
use crate::store_contract::{Opened, contract};
use crate::support::cluster::{Cluster, eventually, own_prefix};
use crate::support::model::{key, marks_of, set};
use crate::support::program::Shop;
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::web::{name, now, serve};

/// Users of a shard.
pub(crate) const SHARD: u32 = 1 << 20;

fn on_shared() -> Opened {
    counted_by(RedisEval::Auto)
}

fn counted_by(redis_eval: RedisEval) -> Opened {
    (
        open(
            &Cluster::shared().url(),
            &Options {
                redis_eval,
                ..own_prefix()
            },
        )
        .unwrap(),
        Box::new(()),
    )
}

contract!(redis_cluster, || crate::cluster::on_shared());
contract!(fetched_from_redis_cluster, || crate::cluster::counted_by(
    crate::cluster::RedisEval::Fetch
));
contract!(computed_by_redis_cluster, || crate::cluster::counted_by(
    crate::cluster::RedisEval::Server
));

pub(crate) fn in_memory() -> Arc<dyn Store> {
    open("memory:", &Options::default()).unwrap()
}

pub(crate) fn count(store: &dyn Store, set: &Set) -> Result<u64, StoreError> {
    let mut plan = Plan::new();
    plan.count_set(set).unwrap();
    store.count(&plan).map(|counts| counts[0])
}

pub(crate) fn unreachable(error: &StoreError) -> String {
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    error.to_string()
}

/// Ids in some shards and at their borders.
fn ids(shards: &'static [u32]) -> impl Strategy<Value = UserId> {
    let number = prop_oneof![4 => 0_u32..40, 2 => SHARD - 20..SHARD, 1 => 0..SHARD];
    (prop::sample::select(shards), number).prop_map(|(shard, number)| shard * SHARD + number)
}

fn marks(shards: &'static [u32]) -> impl Strategy<Value = Vec<Mark>> {
    let keys = prop::sample::select(vec!["a_u", "b_u", "c_2026-11-3"]);
    let mark = (keys, ids(shards), prop::bool::weighted(0.85));
    let mark = mark.prop_map(|(text, user, value)| Mark {
        key: key(text),
        user,
        value,
    });
    prop::collection::vec(mark, 0..40)
}

fn sets() -> impl Strategy<Value = Set> {
    let leaf = prop::sample::select(vec![
        set("a_u"),
        set("b_u"),
        set("c_2026-11-3"),
        set("gone_u"),
        Set::Empty,
    ]);
    leaf.prop_recursive(4, 16, 3, |inner| {
        let some = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            some.clone().prop_map(Set::And),
            some.clone().prop_map(Set::Or),
            some.prop_map(Set::Xor),
            (inner.clone(), inner).prop_map(|(a, b)| a - b),
        ]
    })
}

/// Everything a store answers about sets is as the embedded store has it, which the contract
/// compares with the model.
#[test]
fn sets_over_many_shards_are_as_in_the_embedded_store() {
    let shards: &'static [u32] = &[0, 1, 2, 7, 900, 4095];
    let sets = prop::collection::vec(sets(), 1..8);
    let mut runner = TestRunner::new(Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    });
    let check = |(marks, sets, pages): (Vec<Mark>, Vec<Set>, Vec<UserId>)| {
        let options = own_prefix();
        let counted_by = |redis_eval| {
            open(
                &Cluster::shared().url(),
                &Options {
                    redis_eval,
                    ..options.clone()
                },
            )
            .unwrap()
        };
        let (cluster, model) = (counted_by(RedisEval::Auto), in_memory());
        let others = [RedisEval::Fetch, RedisEval::Server].map(counted_by);
        for store in [&cluster, &model] {
            store.apply(&marks).unwrap();
        }
        let mut plan = Plan::new();
        sets.iter().for_each(|set| {
            plan.count_set(set).unwrap();
        });
        for cluster in others.iter().chain([&cluster]) {
            prop_assert_eq!(cluster.count(&plan).unwrap(), model.count(&plan).unwrap());
        }
        for (n, set) in sets.iter().enumerate() {
            for after in
                pages
                    .iter()
                    .map(|page| Some(*page))
                    .chain([None, Some(SHARD - 1), Some(SHARD)])
            {
                let page = |store: &Arc<dyn Store>| store.members(set, after, 25).unwrap();
                for cluster in others.iter().chain([&cluster]) {
                    prop_assert_eq!(page(cluster), page(&model), "{:?} after {:?}", set, after);
                }
            }
            let target = key(&format!("saved{n}_u"));
            let saved = cluster.save(set, &target).unwrap();
            prop_assert_eq!(saved, model.save(set, &target).unwrap(), "{:?}", set);
            let of_target = Set::Key(target.clone());
            prop_assert_eq!(
                count(&*cluster, &of_target).unwrap(),
                count(&*model, &of_target).unwrap()
            );
            prop_assert_eq!(
                cluster.members(&of_target, None, 25).unwrap(),
                model.members(set, None, 25).unwrap()
            );
        }
        let listed = |store: &Arc<dyn Store>| {
            store
                .keys("")
                .unwrap()
                .into_iter()
                .collect::<BTreeSet<Key>>()
        };
        prop_assert_eq!(listed(&cluster), listed(&model));
        let keys: Vec<Key> = listed(&model).into_iter().collect();
        for user in marks.iter().map(|mark| mark.user).take(5) {
            prop_assert_eq!(
                cluster.contains(&keys, user).unwrap(),
                model.contains(&keys, user).unwrap()
            );
        }
        prop_assert_eq!(cluster.sweep().unwrap(), 0);
        prop_assert_eq!(cluster.delete(&keys).unwrap(), keys.len() as u64);
        prop_assert_eq!(cluster.keys("").unwrap(), vec![]);
        Ok(())
    };
    runner
        .run(
            &(
                marks(shards),
                sets,
                prop::collection::vec(ids(shards), 0..3),
            ),
            check,
        )
        .unwrap();
}

/// Ten million users, of whom some come back.
fn fill(tracker: &Tracker) {
    let mut batch = tracker.batch();
    for n in 0..6000_u32 {
        let (user, day) = (n * 1747, now() - TimeDelta::days(i64::from(n % 14)));
        batch.mark(&name("signup"), user, day).unwrap();
        for back in (0..n % 14).filter(|back| (n / 14 + back) % 3 == 0) {
            batch
                .mark_to(
                    &name("active"),
                    user,
                    day + TimeDelta::days(i64::from(back)),
                    Extent::default(),
                )
                .unwrap();
        }
    }
    batch.commit().unwrap();
}

#[test]
fn a_grid_is_as_in_the_embedded_store_and_its_work_is_shared_by_the_nodes() {
    // Its own, as the commands of others would be counted with its.
    let (cluster, server) = (Cluster::start(), RedisServer::start());
    let trackers = [cluster.url(), "memory:".to_owned(), server.url()].map(|url| {
        Tracker::new(
            open(
                &url,
                &Options {
                    redis_eval: RedisEval::Server,
                    ..Options::default()
                },
            )
            .unwrap(),
        )
    });
    trackers.iter().for_each(fill);
    let query = Query::new(
        "signup".parse().unwrap(),
        "active".parse().unwrap(),
        Grain::Day,
    );
    let work = ["bitop", "bitcount"];
    let before = cluster.calls(&work);
    let tables = trackers
        .each_ref()
        .map(|tracker| format!("{:?}", tracker.retention(&query, now()).unwrap().rows));
    assert_eq!(tables[0], tables[1]);
    assert!(tables[0].contains("retained"));
    let calls: Vec<u64> = cluster
        .calls(&work)
        .iter()
        .map(|(port, calls)| calls - before[port])
        .collect();
    let of_one = server.calls("bitop") + server.calls("bitcount");
    println!(
        "BITOP and BITCOUNT of a 14 × 14 table, 10 M users: {calls:?} on the primaries, {of_one} on one server"
    );
    // Of bitmaps a tenth as long each: ten shards lie on three primaries as 3, 4 and 3.
    assert!(
        calls.iter().all(|calls| *calls > 0 && *calls <= of_one * 4),
        "{calls:?} of {of_one}"
    );
    assert!(
        calls.iter().max().unwrap() * 10 <= calls.iter().sum::<u64>() * 5,
        "no node has half of the work: {calls:?}"
    );
    let active = Set::event_in(&name("active"), "2026-11-22".parse().unwrap());
    let users = trackers[1].count(&active).unwrap();
    let timed = |_| {
        let started = Instant::now();
        assert_eq!(trackers[0].count(&active).unwrap(), users);
        started.elapsed().as_secs_f64() * 1000.0
    };
    let mut took: Vec<f64> = (0..200).map(timed).collect();
    took.sort_by(f64::total_cmp);
    println!(
        "one bitmap counted in {:.1} ms, the quickest tenth in {:.1} ms, looking for shards included",
        took[100], took[20]
    );
    let asked = || {
        cluster
            .calls(&["cluster|countkeysinslot"])
            .values()
            .sum::<u64>()
    };
    let before = asked();
    trackers[0].count(&active).unwrap();
    assert_eq!(
        asked() - before,
        10,
        "one for each shard there is, once they are known"
    );
    let temporary = |port: u16| cluster.ask::<Vec<String>>(port, &["KEYS", "*bitop_*"]);
    assert!(
        cluster
            .ports()
            .into_iter()
            .all(|port| eventually(|| temporary(port).is_empty()))
    );
    let keys: Vec<String> = cluster.ask(
        cluster.owner("{shard3z}", cluster.ports()[0]),
        &["KEYS", "*{shard3z}active_2026-11*"],
    );
    assert!(
        keys.contains(&"trackist_{shard3z}active_2026-11-22".to_owned()),
        "{keys:?}"
    );
}

#[test]
fn shards_that_others_make_are_seen_at_once_whatever_else_is_there() {
    let cluster = Cluster::start();
    let [store, other] = [(), ()].map(|()| open(&cluster.url(), &Options::default()).unwrap());
    let foreign = |n: u32| {
        let text = format!("foreign{n}");
        cluster.ask::<()>(
            cluster.owner(&text, cluster.ports()[0]),
            &["SET", &text, "x"],
        );
    };
    let asked = || {
        cluster
            .calls(&["cluster|countkeysinslot"])
            .values()
            .sum::<u64>()
    };
    let asked_by = |run: &dyn Fn()| {
        let before = asked();
        run();
        asked() - before
    };
    let mut users = 0;
    for shard in [0, 1, 2, 5, 17, 40, 41, 42, 900, 4095] {
        other.apply(&marks_of("a_u", [shard * SHARD + 3])).unwrap();
        users += 1;
        for _ in 0..2 {
            assert_eq!(
                count(&*store, &set("a_u")).unwrap(),
                users,
                "with shard {shard}"
            );
        }
        match shard {
            // Other programs' keys, in slots that no shard is in.
            5 => (0..30).for_each(foreign),
            42 => assert_eq!(other.string_ids().assign(&["ann"]).unwrap(), [0]),
            _ => {}
        }
    }
    let right = || assert_eq!(count(&*store, &set("a_u")).unwrap(), users);
    // However often what was remembered was not enough.
    (0..200).for_each(|_| right());
    assert!(
        asked_by(&right) <= 41,
        "keys that are not ours cost a command each, and no more"
    );
    // A program that makes keys in ever new slots.
    (30..90).for_each(|n| {
        foreign(n);
        right();
    });
    // Keys that go by themselves, and a slot whose last key has gone.
    let text = "trackist_{shard77z}b_u".to_owned();
    cluster.ask::<()>(
        cluster.owner(&text, cluster.ports()[0]),
        &["SET", &text, "@", "PX", "1500"],
    );
    assert_eq!(count(&*store, &set("b_u")).unwrap(), 1);
    assert!(eventually(|| count(&*store, &set("b_u")).unwrap() == 0));
    assert_eq!(other.delete(&[key("a_u")]).unwrap(), 1);
    assert_eq!(count(&*store, &set("a_u")).unwrap(), 0);
}

#[test]
fn commands_work_and_everything_is_copied_between_all_kinds_of_stores() {
    let (shop, server, url) = (Shop::new(), RedisServer::start(), Cluster::shared().url());
    let prefix = own_prefix().prefix.to_string();
    let on = |args: &[&str]| {
        shop.run(&[&["--store", &url, "--prefix", &prefix], args].concat())
            .done()
    };
    on(&[
        "mark",
        "active",
        "7",
        "2000000",
        "4294967295",
        "--at",
        "2026-11-23",
    ]);
    on(&["mark", "signup", "2000000", "--at", "2026-11-23"]);
    assert_eq!(on(&["count", "active@2026-11-23 & signup@2026-11"]), "1\n");
    assert_eq!(
        on(&["people", "active@2026-W48"]),
        "7\n2000000\n4294967295\n"
    );
    assert_eq!(on(&["events"]), "active\nsignup\n");
    let line = |said: String| assert!(said.contains("6 of 2 events count the same"), "{said}");
    line(
        shop.run(&["--prefix", &prefix, "copy", &url, "./copy.db"])
            .done(),
    );
    line(
        shop.run(&[
            "--prefix",
            &prefix,
            "copy",
            &url,
            &server.url(),
            "--allow-sparse",
        ])
        .done(),
    );
    for from in ["./copy.db", &server.url()] {
        let target = own_prefix().prefix.to_string();
        line(
            shop.run(&[
                "--prefix",
                &prefix,
                "copy",
                from,
                &url,
                "--to-prefix",
                &target,
            ])
            .done(),
        );
        let people = shop
            .run(&[
                "--store",
                &url,
                "--prefix",
                &target,
                "people",
                "active@2026-11",
            ])
            .done();
        assert_eq!(people, "7\n2000000\n4294967295\n");
    }
    let error = shop
        .run(&["copy", &url, "./other.db", "--all-keys"])
        .error(2);
    assert!(
        error.contains("cannot be used with a Redis Cluster"),
        "{error}"
    );
    on(&["delete", "active"]);
    assert_eq!(on(&["events"]), "signup\n");
}

#[test]
fn texts_get_the_same_numbers_whoever_asks() {
    let options = own_prefix();
    let opened = || open(&Cluster::shared().url(), &options).unwrap();
    let texts: Vec<String> = (0..3000).map(|n| format!("user{n}@example.com")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let numbers: Vec<Vec<UserId>> = std::thread::scope(|scope| {
        let assign = |_| scope.spawn(|| opened().string_ids().assign(&texts).unwrap());
        let enrolling: Vec<_> = (0..4).map(assign).collect();
        enrolling
            .into_iter()
            .map(|one| one.join().unwrap())
            .collect()
    });
    assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(numbers[0].iter().collect::<BTreeSet<_>>().len(), 3000);
    let store = opened();
    assert_eq!(store.string_ids().next().unwrap(), Some(3000));
    assert_eq!(
        store
            .string_ids()
            .texts(&[numbers[0][17]])
            .unwrap()
            .unwrap(),
        [Some("user17@example.com".to_owned())]
    );
    assert!(store.describe().unwrap().string_ids && store.keys("").unwrap().is_empty());
    let text = Shop::new().run(&[
        "--store",
        &Cluster::shared().url(),
        "--prefix",
        options.prefix.as_str(),
        "mark",
        "a",
        "user17@example.com",
    ]);
    text.done();
    assert_eq!(
        store.members(&set("a_2026-11-23"), None, 9).unwrap(),
        [numbers[0][17]]
    );
    assert_eq!(
        (
            store.string_ids().clear().unwrap(),
            store.string_ids().next().unwrap()
        ),
        (3000, None)
    );
}

#[test]
fn sweeping_leaves_what_is_in_use() {
    let options = own_prefix();
    let (cluster, store) = (
        Cluster::shared(),
        open(&Cluster::shared().url(), &options).unwrap(),
    );
    store
        .apply(&[marks_of("bitop_u", [1]), marks_of("a_u", [SHARD])].concat())
        .unwrap();
    let put = |key: &str, lifetime: &[&str]| {
        let key = format!("{}{key}", options.prefix);
        let port = cluster.owner(&key, cluster.ports()[0]);
        cluster.ask::<()>(port, &[&["SET", &key, "x"], lifetime].concat());
    };
    put("{shard0z}bitop_cohortist:1:2", &["EX", "50"]);
    put("{shard1z}bitop_cohortist:1:3", &[]);
    put("{shard1z}bitop_and_x", &["EX", "50"]);
    put("{shard9999z}bitop_x", &[]);
    assert_eq!(store.sweep().unwrap(), 2);
    assert_eq!(store.keys("").unwrap().len(), 2);
}

#[test]
fn what_is_no_cluster_or_cannot_be_one_says_so() {
    let server = RedisServer::start_with(&["--port", "0"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    // A single server at a port of loopback.
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("port")
        .arg(port)
        .exec(&mut server.connection())
        .unwrap();
    let store = open(
        &format!("redis-cluster://127.0.0.1:{port}"),
        &Options::default(),
    )
    .unwrap();
    let error = store.keys("").unwrap_err().to_string();
    assert!(
        error.contains("single server, not a cluster: use redis://"),
        "{error}"
    );
    // A node of a cluster taken for a single server.
    let cluster = Cluster::shared();
    let node = open(
        &format!("redis://127.0.0.1:{}", cluster.ports()[0]),
        &Options::default(),
    )
    .unwrap();
    let errors: Vec<String> = (0..9)
        .filter_map(|n| node.apply(&marks_of(&format!("x{n}_u"), [1])).err())
        .map(|error| error.to_string())
        .collect();
    assert!(
        !errors.is_empty()
            && errors
                .iter()
                .all(|error| error.contains("use redis-cluster://")),
        "{errors:?}"
    );
    // Nodes of two clusters.
    let another = Cluster::start();
    let (one, other) = (cluster.ports()[0], another.ports()[5]);
    let url = format!("redis-cluster://127.0.0.1:{one},127.0.0.1:{other}");
    let store = open(&url, &own_prefix()).unwrap();
    for _ in 0..2 {
        let error = store
            .apply(&marks_of("spread_u", (0..9).map(|shard| shard * SHARD)))
            .unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        let error = error.to_string();
        assert!(
            error.contains(&one.to_string()) && error.contains(&other.to_string()),
            "{error}"
        );
        assert!(error.contains("are nodes of different clusters"), "{error}");
    }
    let keys =
        |cluster: &Cluster, port: u16| cluster.ask::<Vec<String>>(port, &["KEYS", "*spread*"]);
    assert!(
        cluster
            .ports()
            .iter()
            .all(|port| keys(cluster, *port).is_empty())
    );
    assert!(
        another
            .ports()
            .iter()
            .all(|port| keys(&another, *port).is_empty())
    );
    // Nobody there, and a password that stays secret.
    let store = open(
        "redis-cluster://ann:tomtom@127.0.0.1:1,127.0.0.1:2",
        &Options::default(),
    )
    .unwrap();
    let error = unreachable(&store.describe().unwrap_err());
    assert!(
        error.starts_with("the store at redis-cluster://127.0.0.1:1,127.0.0.1:2 does not answer")
            && error.contains("refused"),
        "{error}"
    );
    let braces = Options {
        prefix: Prefix::new("{x}_"),
        ..Options::default()
    };
    let error = open(&cluster.url(), &braces).unwrap_err().to_string();
    assert!(error.contains("prefix `{x}_` contains `{`"), "{error}");
    for text in [
        "redis-cluster:",
        "redis-cluster:x",
        "redis-cluster://",
        "redis-cluster://:tomtom@h:x",
        "redis-cluster://h:1,",
        "redis-cluster://h/3",
        "redis-cluster://h:1,h:2?x=tomtom",
    ] {
        let error = open(text, &Options::default())
            .err()
            .unwrap_or_else(|| panic!("{text}"))
            .to_string();
        assert!(
            error.contains("redis-cluster://host:6379,host:6379") && !error.contains("tomtom"),
            "{error}"
        );
    }
}

#[test]
fn a_password_is_taken_for_every_node() {
    let cluster = Cluster::start();
    for port in cluster.ports() {
        cluster.ask::<()>(
            port,
            &["ACL", "SETUSER", "ann", "on", ">pw,@x", "~*", "+@all"],
        );
    }
    let url = |password: &str| cluster.url().replace("://", &format!("://ann:{password}@"));
    let store = open(&url("pw%2C%40x"), &Options::default()).unwrap();
    store
        .apply(&marks_of("a_u", [1, SHARD, 2 * SHARD, 3 * SHARD]))
        .unwrap();
    assert_eq!(count(&*store, &set("a_u")).unwrap(), 4);
    assert!(!store.describe().unwrap().location.contains("ann"));
    // Whoever may not ask for what makes it quick is answered as well.
    for port in cluster.ports() {
        cluster.ask::<()>(port, &["ACL", "SETUSER", "ann", "-dbsize", "-role"]);
    }
    store.apply(&marks_of("a_u", [4 * SHARD])).unwrap();
    (0..4).for_each(|_| assert_eq!(count(&*store, &set("a_u")).unwrap(), 5));
    let error = open(&url("wrong"), &Options::default())
        .unwrap()
        .keys("")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("WRONGPASS") && !error.contains("wrong@"),
        "{error}"
    );
}

#[test]
fn tls_protects_the_way_to_every_node() {
    let (cluster, shop) = (Cluster::start_with_tls(), Shop::new());
    let fixture = |name: &str| format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    for port in cluster.ports() {
        cluster.ask::<()>(
            port,
            &["ACL", "SETUSER", "ann", "on", ">s3cret", "~*", "+@all"],
        );
    }
    let url = |password: &str| {
        cluster
            .tls_url()
            .replace("://", &format!("://ann:{password}@"))
    };
    let run = |url: &str, trusted: &str, args: &[&str]| {
        let mut command = shop.command(&[&["--store", url], args].concat());
        let output = command
            .env("SSL_CERT_FILE", fixture(trusted))
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    // In shards of all primaries.
    let users = ["1", "1048577", "2097153", "3145729", "4194305", "5242881"];
    let (code, _, err) = run(
        &url("s3cret"),
        "ca.crt",
        &[&["mark", "active"][..], &users].concat(),
    );
    assert_eq!(code, Some(0), "{err}");
    let (code, out, err) = run(&url("s3cret"), "ca.crt", &["people", "active@2026-11"]);
    assert_eq!(
        (code, out.lines().collect::<Vec<_>>(), err.as_str()),
        (Some(0), users.to_vec(), "")
    );
    let primaries = cluster.primaries(cluster.ports()[0]);
    let keys = |port: &u16| {
        cluster
            .ask::<Vec<String>>(*port, &["KEYS", "*active*"])
            .len()
    };
    assert!(
        primaries.len() == 3 && primaries.keys().all(|port| keys(port) > 0),
        "{primaries:?}"
    );
    // While a slot moves commands go after their keys, with TLS as well.
    let moving = Move::begin(&cluster, "{shard2z}");
    let (code, _, err) = run(&url("s3cret"), "ca.crt", &["mark", "signup", "2097153"]);
    assert_eq!(code, Some(0), "{err}");
    let (code, out, err) = run(
        &url("s3cret"),
        "ca.crt",
        &["count", "active@2026-11 & signup@2026-11"],
    );
    assert_eq!((code, out.as_str()), (Some(0), "1\n"), "{err}");
    drop(moving);
    // A certificate nobody vouches for, and a wrong password: refused, and no secret repeated.
    for (url, trusted) in [(url("s3cret"), "server.key"), (url("wr0ng"), "ca.crt")] {
        let (code, out, err) = run(&url, trusted, &["count", "active@2026-11"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(
            err.starts_with("error: ") && !err.contains("s3cret") && !err.contains("wr0ng"),
            "{err}"
        );
        println!("{err}");
    }
}

/// A plan over bitmaps that has steps, and its only right answer.
pub(crate) fn plan_and_answer(store: &dyn Store, shards: u32) -> (Plan, Vec<u64>) {
    for n in 0..12_u32 {
        let users =
            (0..shards).flat_map(|shard| (0..40).map(move |user| shard * SHARD + user * (n + 1)));
        store.apply(&marks_of(&format!("e{n}_u"), users)).unwrap();
    }
    let mut plan = Plan::new();
    for n in 1..12 {
        plan.count_set(&(set("e0_u") & set(&format!("e{n}_u"))))
            .unwrap();
        plan.count_set(&(set("e0_u") | set(&format!("e{n}_u"))))
            .unwrap();
    }
    let answer = store.count(&plan).unwrap();
    (plan, answer)
}

#[test]
fn a_slot_that_nobody_has_is_an_error() {
    let cluster = Cluster::start();
    let options = Options {
        timeout: Duration::from_millis(700),
        ..Options::default()
    };
    let (plan, _) = plan_and_answer(&*open(&cluster.url(), &options).unwrap(), 5);
    // Even where the cluster itself goes on without.
    for port in cluster.ports() {
        cluster.ask::<()>(
            port,
            &["CONFIG", "SET", "cluster-require-full-coverage", "no"],
        );
        cluster.ask::<()>(port, &["CLUSTER", "DELSLOTS", "0"]);
    }
    let fresh = open(&cluster.url(), &options).unwrap();
    let error = unreachable(&fresh.count(&plan).unwrap_err());
    assert!(
        error.contains("1 of the cluster's 16384 slots (the first is 0) have no node"),
        "{error}"
    );
    unreachable(&fresh.keys("").unwrap_err());
}

#[test]
fn a_primary_that_dies_under_load_costs_errors_and_neither_wrong_numbers_nor_acknowledged_marks() {
    let cluster = Cluster::start();
    let store = open(&cluster.url(), &Options::default()).unwrap();
    const SHARDS: u32 = 9;
    let (stop, begun, acknowledged) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (failed, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let victim = cluster.owner("{shard0z}", cluster.ports()[0]);
    let recorded: Vec<UserId> = std::thread::scope(|scope| {
        let marking: Vec<_> = (0..2_u32)
            .map(|marker| {
                let (store, stop, begun, acknowledged, failed) =
                    (&store, &stop, &begun, &acknowledged, &failed);
                scope.spawn(move || {
                    let mut recorded = Vec::new();
                    for n in 0..SHARD / 2 {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let user = n % SHARDS * SHARD + n / SHARDS * 2 + marker;
                        begun.fetch_add(1, Ordering::SeqCst);
                        match store.apply(&marks_of("a_u", [user])) {
                            Ok(()) => {
                                recorded.push(user);
                                acknowledged.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(error) => {
                                unreachable(&error);
                                failed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    recorded
                })
            })
            .collect();
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let least = acknowledged.load(Ordering::SeqCst);
                match count(&*store, &set("a_u")) {
                    Ok(counted) => {
                        let most = begun.load(Ordering::SeqCst);
                        assert!(
                            (least..=most).contains(&counted),
                            "{counted} of {least} to {most}"
                        );
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => drop(unreachable(&error)),
                }
            }
        });
        let _stop = StopAtEnd(&stop);
        assert!(eventually(|| acknowledged.load(Ordering::SeqCst) > 500));
        cluster.kill(victim);
        let killed = Instant::now();
        assert!(
            eventually(|| failed.load(Ordering::Relaxed) > 0),
            "nobody noticed"
        );
        // The same store, with no restart: a shard of the victim's takes marks again, from its
        // replica.
        let takes_over = || store.apply(&marks_of("b_u", [5])).is_ok();
        assert!(eventually(takes_over), "no fail-over");
        println!(
            "marks are taken again {:.1} s after the kill",
            killed.elapsed().as_secs_f64()
        );
        let (marked, counted) = (
            acknowledged.load(Ordering::SeqCst),
            answered.load(Ordering::Relaxed),
        );
        let goes_on = || {
            acknowledged.load(Ordering::SeqCst) > marked + 200
                && answered.load(Ordering::Relaxed) > counted + 3
        };
        assert!(eventually(goes_on), "it goes on");
        stop.store(true, Ordering::Relaxed);
        marking
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    let there: BTreeSet<UserId> = store
        .members(&set("a_u"), None, usize::MAX)
        .unwrap()
        .into_iter()
        .collect();
    let lost: Vec<&UserId> = recorded
        .iter()
        .filter(|user| !there.contains(user))
        .collect();
    println!(
        "{} marks acknowledged, {} failed, {} counts, {} lost",
        recorded.len(),
        failed.into_inner(),
        answered.into_inner(),
        lost.len()
    );
    assert!(lost.is_empty(), "{lost:?}");
    assert!(
        store
            .describe()
            .unwrap()
            .notes
            .iter()
            .any(|note| note.contains("1 of 3 primaries have no replica"))
    );
    assert_eq!(
        store
            .save(&(set("a_u") | set("b_u")), &key("saved_u"))
            .unwrap(),
        Saved::People(count(&*store, &(set("a_u") | set("b_u"))).unwrap())
    );
}

/// How many marks in a row a replica may leave unconfirmed until it is taken for one that hangs.
const HANGS: u64 = 3;

#[test]
fn a_mark_is_on_a_replica_and_replicas_that_are_away_hold_nobody_up() {
    let cluster = Cluster::start();
    let store = open(&cluster.url(), &Options::default()).unwrap();
    let replicas = cluster.replicas();
    assert_eq!(replicas.len(), 3);
    const SHARDS: u32 = 9;
    let key_of = |shard: u32| format!("trackist_{{shard{shard}z}}a_u");
    let primary_of: Vec<u16> = (0..SHARDS)
        .map(|shard| cluster.owner(&key_of(shard), cluster.ports()[0]))
        .collect();
    let marked = AtomicU64::new(0);
    let mark = || {
        let n = u32::try_from(marked.fetch_add(1, Ordering::Relaxed)).unwrap();
        store
            .apply(&marks_of("a_u", [n % SHARDS * SHARD + n / SHARDS]))
            .unwrap();
        (n % SHARDS, n / SHARDS)
    };
    // Marks so often, and counts for each primary its marks and the WAITs that it carried out for
    // them.
    let marks_and_waits = |times: usize| {
        let before = cluster.calls(&["wait"]);
        let mut counts: BTreeMap<u16, (u64, u64)> =
            before.keys().map(|port| (*port, (0, 0))).collect();
        (0..times).for_each(|_| counts.get_mut(&primary_of[mark().0 as usize]).unwrap().0 += 1);
        for (port, waits) in cluster.calls(&["wait"]) {
            counts.get_mut(&port).unwrap().1 = waits - before[&port];
        }
        counts
    };
    // Whether the replica has a mark as soon as it is acknowledged.
    let is_there = |(shard, bit): (u32, u32)| {
        let mut replica = cluster.connection(replicas[&primary_of[shard as usize]]);
        redis::cmd("READONLY").exec(&mut replica).unwrap();
        redis::cmd("GETBIT")
            .arg(key_of(shard))
            .arg(bit)
            .query::<bool>(&mut replica)
            .unwrap()
    };
    let counted = || {
        assert_eq!(
            count(&*store, &set("a_u")).unwrap(),
            marked.load(Ordering::Relaxed)
        )
    };
    // On a busy machine a replica may hang for a moment, too. Then marks go on without it.
    let all_are_there = || (0..90).all(|_| is_there(mark()));
    assert!(
        eventually(all_are_there),
        "each is on a replica before it is acknowledged"
    );
    let each_waits_once = || {
        marks_and_waits(90)
            .values()
            .all(|(marks, waits)| waits == marks)
    };
    assert!(
        eventually(each_waits_once),
        "each mark waits for a replica once"
    );
    // One hangs, and then all of them: marks go on, and wait for it now and then: the first ones,
    // and one a second.
    let all: Vec<(u16, u16)> = replicas
        .iter()
        .map(|(primary, replica)| (*primary, *replica))
        .collect();
    for hanging in [&all[..1], &all[..]] {
        hanging
            .iter()
            .for_each(|(_, replica)| cluster.signal(*replica, "-STOP"));
        let started = Instant::now();
        let counts = marks_and_waits(270);
        let seconds = started.elapsed().as_secs() + 1;
        for (port, (marks, waits)) in counts {
            if hanging.iter().any(|(primary, _)| *primary == port) {
                assert!(
                    (1..=HANGS + seconds).contains(&waits),
                    "{port}: {waits} waits in {seconds} s for {marks} marks"
                );
            } else {
                assert!(waits <= marks, "{port}: {waits} waits for {marks} marks");
            }
        }
        counted();
    }
    let noted = |alone: &str| {
        store
            .describe()
            .unwrap()
            .notes
            .iter()
            .any(|note| note.contains(alone))
    };
    assert!(
        eventually(|| noted("3 of 3 primaries have no replica")),
        "it is said"
    );
    mark();
    counted();
    // They are back, and have what was marked meanwhile; new marks are on them when acknowledged.
    all.iter()
        .for_each(|(_, replica)| cluster.signal(*replica, "-CONT"));
    assert!(eventually(|| !noted("have no replica")));
    assert!(eventually(all_are_there));
    // Without any, a mark is its primary's alone, at once.
    all.iter().for_each(|(_, replica)| cluster.kill(*replica));
    assert!(eventually(|| noted("3 of 3 primaries have no replica")));
    for (port, (marks, waits)) in marks_and_waits(90) {
        assert!(marks > 0 && waits == 0, "{port}: nothing is waited for");
    }
    counted();
}

/// A primary that becomes a replica between a mark and the WAIT that confirms it answers WAIT with
/// an error. The mark then goes to the new primary.
#[test]
fn a_primary_that_becomes_a_replica_before_it_confirms_a_mark_costs_no_error() {
    let cluster = Cluster::start();
    let old = cluster.owner("trackist_{shard0z}a_u", cluster.ports()[0]);
    let new = cluster.replicas()[&old];
    let proxy = Proxy::before_port(old);
    cluster.ask::<()>(
        old,
        &[
            "CONFIG",
            "SET",
            "cluster-announce-port",
            &proxy.port().to_string(),
        ],
    );
    let is_known = || {
        let knows = |port: &u16| {
            cluster
                .ask::<String>(*port, &["CLUSTER", "NODES"])
                .contains(&format!(":{}@", proxy.port()))
        };
        cluster.ports().iter().all(knows)
    };
    assert!(eventually(is_known), "the nodes do not know the proxy");
    let options = Options {
        timeout: Duration::from_secs(30),
        ..Options::default()
    };
    let seed = cluster
        .ports()
        .into_iter()
        .find(|port| ![old, new].contains(port))
        .unwrap();
    let store = open(&format!("redis-cluster://127.0.0.1:{seed}"), &options).unwrap();
    store.apply(&marks_of("a_u", [1, 2])).unwrap();
    proxy.hold(b"WAIT");
    std::thread::scope(|scope| {
        let marking = scope.spawn(|| store.apply(&marks_of("a_u", [3])));
        proxy.wait_for_held(1);
        cluster.ask::<()>(new, &["CLUSTER", "FAILOVER", "TAKEOVER"]);
        let is_replica = || {
            cluster
                .ask::<String>(old, &["INFO", "replication"])
                .contains("role:slave")
        };
        assert!(eventually(is_replica), "no fail-over");
        proxy.release();
        marking.join().unwrap().unwrap();
    });
    // The old primary did answer WAIT, with an error: otherwise this test would show nothing.
    let stats: String = cluster.ask(old, &["INFO", "commandstats"]);
    let wait = stats
        .lines()
        .find(|line| line.starts_with("cmdstat_wait:"))
        .unwrap();
    assert!(wait.contains("failed_calls=1"), "{wait}");
    let members = || store.members(&set("a_u"), None, 10).ok();
    assert!(
        eventually(|| members() == Some(vec![1, 2, 3])),
        "{:?}",
        members()
    );
    let there: bool = redis::cmd("GETBIT")
        .arg("trackist_{shard0z}a_u")
        .arg(3)
        .query(&mut cluster.connection(new))
        .unwrap();
    assert!(there, "it is on the new primary");
}

#[test]
fn keys_that_are_not_events_and_other_prefixes_are_reported() {
    let cluster = Cluster::start();
    let store = open(&cluster.url(), &Options::default()).unwrap();
    let tracker = Tracker::new(Arc::clone(&store));
    assert_eq!(store.other_prefixes().unwrap().found, []);
    // In several shards, so on several nodes; string ids and temporary keys are the store's own.
    store
        .apply(&marks_of("a_u", (0..6).map(|shard| shard * SHARD)))
        .unwrap();
    let put = |key: &str| {
        let owner = cluster.owner(key, cluster.ports()[0]);
        redis::cmd("SET")
            .arg(key)
            .arg("x")
            .exec(&mut cluster.connection(owner))
            .unwrap();
    };
    for own in [
        "trackist_{shard1z}bitop_x:1",
        "trackist_bitop_x:saving:a",
        "trackist_{ids}bitop_x:1",
    ] {
        put(own);
    }
    assert_eq!(store.keys("").unwrap(), [key("a_u")]);
    assert_eq!(store.unparsed_keys().count, 0);
    let strays = [
        "trackist_{shard2z}cache",
        "trackist_active_2026-11-23",
        "trackist_queue:1",
        "trackist_{shard9999z}a_u",
    ];
    strays.iter().for_each(|stray| put(stray));
    // A listing of some events finds out nothing about other keys.
    assert_eq!(store.keys("a").unwrap(), [key("a_u")]);
    assert_eq!(store.unparsed_keys().count, 0);
    assert_eq!(store.keys("").unwrap(), [key("a_u")]);
    assert_eq!(
        (store.unparsed_keys().count, &*store.unparsed_keys().example),
        (4, "trackist_active_2026-11-23")
    );
    // A name that is not UTF-8 is one as well.
    let binary: &[u8] = b"trackist_{shard2z}\xff";
    let owner = cluster.owner("trackist_{shard2z}", cluster.ports()[0]);
    let mut connection = cluster.connection(owner);
    let _: u8 = redis::Commands::setbit(&mut connection, binary, 1, true).unwrap();
    assert_eq!(store.keys("").unwrap(), [key("a_u")]);
    assert_eq!(store.unparsed_keys().count, 5);
    let _: u8 = redis::Commands::del(&mut connection, binary).unwrap();
    // Another prefix: of six shards, so six keys; a key of a single server is none that a cluster
    // reads.
    let other = Options {
        prefix: Prefix::new("shop_"),
        ..Options::default()
    };
    let there = open(&cluster.url(), &other).unwrap();
    there
        .apply(&marks_of("b_u", (0..6).map(|shard| shard * SHARD)))
        .unwrap();
    put("bitmapist_a_2026-11-23");
    let none = Options {
        prefix: Prefix::new("none_"),
        ..Options::default()
    };
    let found = open(&cluster.url(), &none)
        .unwrap()
        .other_prefixes()
        .unwrap();
    assert!(found.complete);
    let mut told = found.found;
    told.sort();
    assert_eq!(told, [("shop_".to_owned(), 6), ("trackist_".to_owned(), 6)]);
    // The command line and the page say the same as of a single server.
    let shop = Shop::new();
    let listed = shop.run(&["--store", &cluster.url(), "events"]);
    let note = "4 keys begin with `trackist_` but are not bitmaps of events, and are not read, such as `trackist_active_2026-11-23`";
    assert!(listed.err.contains(note), "{}", listed.err);
    let listed = shop.run(&["--store", &cluster.url(), "--prefix", "none_", "events"]);
    assert!(
        listed
            .err
            .contains("no keys begin with `none_`; 6 begin with `"),
        "{}",
        listed.err
    );
    let listed = shop.run(&["--store", &cluster.url(), "--prefix", "trackist", "events"]);
    let told = "the prefix is `trackist`, but events begin with `trackist_`";
    assert!(listed.err.contains(told), "{}", listed.err);
    let page = read(&format!("http://{}/events", serve(tracker))).body;
    assert!(
        page.contains("4 keys begin with “trackist_” but are not bitmaps of events"),
        "{page}"
    );
    // A key of another type is left out too, and so is the rest of its bitmap in other shards.
    let cart = "trackist_{shard3z}cart_2026-11-22";
    redis::cmd("HSET")
        .arg(cart)
        .arg("a")
        .arg("b")
        .exec(&mut cluster.connection(cluster.owner(cart, cluster.ports()[0])))
        .unwrap();
    store
        .apply(&marks_of("cart_2026-11-22", [2 * SHARD]))
        .unwrap();
    store
        .apply(&marks_of("b_2026-11-23", [5, 5 * SHARD]))
        .unwrap();
    let run = |args: &[&str]| {
        let url = cluster.url();
        shop.run(&[&["--store", &url], args].concat())
    };
    let table = run(&[
        "retention",
        "b",
        "b",
        "--rows",
        "1",
        "--cols",
        "1",
        "--as",
        "count",
        "--format",
        "csv",
    ]);
    assert!(table.done().contains("Mon 23 Nov 2026,2,2\n"));
    let listed = run(&["events"]);
    assert_eq!(listed.out, "a\nb\n");
    assert!(listed.err.contains("5 keys begin with"), "{}", listed.err);
    let error = run(&["count", "cart@2026-11-22"]).error(1);
    assert!(
        error.contains(cart) && error.contains("WRONGTYPE"),
        "{error}"
    );
    assert_eq!(run(&["delete", "--all", "--yes"]).code, 0);
    let left = cluster.ask::<Vec<String>>(cluster.owner(cart, cluster.ports()[0]), &["KEYS", cart]);
    assert_eq!(left, [cart]);
}

/// Ends the threads of a test also when it fails.
pub(crate) struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
