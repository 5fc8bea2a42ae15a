//! Bitmaps that nobody has changed are not counted again, and whoever changes one, in whichever
//! way, is not missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cohortist::clock::Clock;
use cohortist::sets::{Key, Plan};
use cohortist::store::{CacheOptions, CachedStore, Freshness, Mark, Options, Store, open};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redis::cmd;

use crate::support::model::{key, marks_of, set};
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;

const NAMES: [&str; 4] = ["a_2026-11-1", "b_2026-11-2", "c_W2026-45", "d_u"];

fn store(server: &RedisServer) -> Arc<dyn Store> {
    open(&server.url(), &crate::support::redis::patient()).unwrap()
}

fn users(store: &dyn Store, keys: &[Key]) -> Vec<u64> {
    store
        .look(keys)
        .unwrap()
        .iter()
        .map(|seen| seen.users)
        .collect()
}

fn keys() -> Vec<Key> {
    NAMES.iter().map(|text| key(text)).collect()
}

/// What somebody else does to the bitmaps.
#[derive(Debug, Clone)]
enum Deed {
    Mark(usize, u32, bool),
    ByScript(usize, u32),
    Replace(usize, Vec<u8>),
    Delete(usize),
    Rename(usize, usize),
    Unite(usize, usize, usize),
    /// In a millisecond it is gone.
    Expire(usize),
    FlushDatabase,
    FlushAll,
    /// The other database has longer bitmaps.
    SwapDatabases,
    Disconnect,
    Look,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let (at, user) = (
        || 0..NAMES.len(),
        || prop_oneof![0_u32..40, 9_000_000_u32..9_000_009],
    );
    let deed = prop_oneof![
        6 => (at(), user(), any::<bool>()).prop_map(|(at, user, value)| Deed::Mark(at, user, value)),
        2 => (at(), user()).prop_map(|(at, user)| Deed::ByScript(at, user)),
        2 => (at(), prop::collection::vec(any::<u8>(), 0..6)).prop_map(|(at, bytes)| Deed::Replace(at, bytes)),
        2 => at().prop_map(Deed::Delete),
        2 => (at(), at()).prop_map(|(from, to)| Deed::Rename(from, to)),
        2 => (at(), at(), at()).prop_map(|(to, a, b)| Deed::Unite(to, a, b)),
        1 => at().prop_map(Deed::Expire),
        1 => Just(Deed::FlushDatabase),
        1 => Just(Deed::FlushAll),
        1 => Just(Deed::SwapDatabases),
        2 => Just(Deed::Disconnect),
        8 => Just(Deed::Look),
    ];
    prop::collection::vec(deed, 1..40)
}

fn does(server: &RedisServer, conn: &mut redis::Connection, deed: &Deed) {
    let name = |at: &usize| format!("trackist_{}", NAMES[*at]);
    let mut done = |command: &redis::Cmd| command.exec(conn);
    match deed {
        Deed::Mark(at, user, value) => {
            done(cmd("SETBIT").arg(name(at)).arg(user).arg(u8::from(*value))).unwrap()
        }
        Deed::ByScript(at, user) => {
            let script = "redis.call('SETBIT', KEYS[1], ARGV[1], 1)";
            done(cmd("EVAL").arg(script).arg(1).arg(name(at)).arg(user)).unwrap();
        }
        Deed::Replace(at, bytes) => done(cmd("SET").arg(name(at)).arg(bytes)).unwrap(),
        Deed::Delete(at) => done(cmd("DEL").arg(name(at))).unwrap(),
        // There may be nothing to rename.
        Deed::Rename(from, to) => drop(done(cmd("RENAME").arg(name(from)).arg(name(to)))),
        Deed::Unite(to, a, b) => done(
            cmd("BITOP")
                .arg("OR")
                .arg(name(to))
                .arg(name(a))
                .arg(name(b)),
        )
        .unwrap(),
        Deed::Expire(at) => {
            done(cmd("PEXPIRE").arg(name(at)).arg(1)).unwrap();
            std::thread::sleep(Duration::from_millis(3));
        }
        Deed::FlushDatabase => done(&cmd("FLUSHDB")).unwrap(),
        Deed::FlushAll => done(&cmd("FLUSHALL")).unwrap(),
        Deed::SwapDatabases => {
            done(cmd("SELECT").arg(1)).unwrap();
            for (at, text) in (0_u32..).zip(NAMES) {
                done(
                    cmd("SETBIT")
                        .arg(format!("trackist_{text}"))
                        .arg(20_000_000 + at)
                        .arg(1),
                )
                .unwrap();
            }
            done(cmd("SELECT").arg(0)).unwrap();
            done(cmd("SWAPDB").arg(0).arg(1)).unwrap();
            done(cmd("SELECT").arg(1)).unwrap();
            done(&cmd("FLUSHDB")).unwrap();
            done(cmd("SELECT").arg(0)).unwrap();
        }
        Deed::Disconnect => server.disconnect(conn),
        Deed::Look => {}
    }
}

#[test]
fn whatever_others_do_is_seen_by_the_next_look() {
    let server = RedisServer::start();
    let store = store(&server);
    TestRunner::new(Config {
        cases: 120,
        failure_persistence: None,
        ..Config::default()
    })
    .run(&deeds(), |deeds| {
        let mut conn = server.connection();
        let expected = |conn: &mut redis::Connection| -> Vec<u64> {
            let count = |text| {
                cmd("BITCOUNT")
                    .arg(format!("trackist_{text}"))
                    .query(conn)
                    .unwrap()
            };
            NAMES.map(count).to_vec()
        };
        for deed in &deeds {
            does(&server, &mut conn, deed);
            if matches!(deed, Deed::Look) {
                prop_assert_eq!(
                    users(&*store, &keys()),
                    expected(&mut conn),
                    "after {:?}",
                    &deeds
                );
            }
        }
        prop_assert_eq!(
            users(&*store, &keys()),
            expected(&mut conn),
            "after {:?}",
            &deeds
        );
        Ok(())
    })
    .unwrap();
}

/// One marked and another unmarked leave as many users as before, and still nothing old is
/// believed.
#[test]
fn remembered_counts_are_of_the_bitmaps_as_they_are() {
    let server = RedisServer::start();
    let store = store(&server);
    let how = CacheOptions {
        check_after: Duration::from_secs(3600),
        ..CacheOptions::default()
    };
    let remembered = CachedStore::new(Arc::clone(&store), how, Clock::System);
    let mut plan = Plan::new();
    for (a, b) in [(0, 1), (1, 2), (2, 3)] {
        plan.count_set(&(set(NAMES[a]) & set(NAMES[b]))).unwrap();
        plan.count_set(&(set(NAMES[a]) - set(NAMES[b]))).unwrap();
    }
    // Of these nobody tells, so that one could be taken for another of as many users.
    let is_told = |deed: &Deed| !matches!(deed, Deed::Disconnect | Deed::SwapDatabases);
    TestRunner::new(Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    })
    .run(&deeds(), |deeds| {
        let mut conn = server.connection();
        for deed in deeds.iter().filter(|deed| is_told(deed)) {
            does(&server, &mut conn, deed);
            if matches!(deed, Deed::Look) {
                let counted = remembered.counted(&plan, Freshness::Checked).unwrap();
                prop_assert_eq!(
                    Vec::from(counted.counts),
                    store.count(&plan).unwrap(),
                    "after {:?}",
                    &deeds
                );
            }
        }
        Ok(())
    })
    .unwrap();
    assert!(remembered.stats().remembered > 100);
}

#[test]
fn a_connection_that_breaks_makes_no_other_bitmaps() {
    let server = RedisServer::start();
    let (store, others) = (store(&server), store(&server));
    others
        .apply(&[marks_of("a_2026-11-1", [1, 2]), marks_of("d_u", [7])].concat())
        .unwrap();
    let first = store.look(&keys()).unwrap();
    server.disconnect(&mut server.connection());
    assert_eq!(
        store.look(&keys()).unwrap(),
        first,
        "as many in as many bytes"
    );
    server.disconnect(&mut server.connection());
    others.apply(&marks_of("d_u", [3])).unwrap();
    let second = store.look(&keys()).unwrap();
    assert_eq!(second[..3], first[..3]);
    // As many again, which was told.
    others
        .apply(&[Mark {
            key: key("d_u"),
            user: 3,
            value: false,
        }])
        .unwrap();
    let third = store.look(&keys()).unwrap();
    assert_eq!((third[3].users, first[3].users), (1, 1));
    assert!(third[3].version != first[3].version && third[3].version != second[3].version);
}

#[test]
fn only_what_has_changed_is_counted_again() {
    let server = RedisServer::start();
    let (store, others) = (store(&server), store(&server));
    let names: Vec<String> = (1..=28).map(|day| format!("a_2026-11-{day}")).collect();
    let keys: Vec<Key> = names
        .iter()
        .map(|text| key(text))
        .chain([key("gone_u")])
        .collect();
    others
        .apply(
            &names
                .iter()
                .flat_map(|text| marks_of(text, [1, 2, 3]))
                .collect::<Vec<_>>(),
        )
        .unwrap();
    let look = || {
        server.reset_statistics();
        let users = users(&*store, &keys);
        (
            users.iter().sum::<u64>(),
            server.calls("bitcount"),
            server.calls("strlen"),
        )
    };
    assert_eq!(
        look(),
        (84, 28, 29 + 1),
        "one STRLEN more asks what the server knows"
    );
    assert_eq!(look(), (84, 0, 29));
    others
        .apply(&[marks_of(&names[3], [9]), marks_of("gone_u", [5])].concat())
        .unwrap();
    assert_eq!(look(), (86, 2, 29));
    // Who looks marks too, through another connection.
    store.apply(&marks_of(&names[0], [9])).unwrap();
    assert_eq!(look(), (87, 1, 29));
    others.delete(&[key(&names[5])]).unwrap();
    assert_eq!(look(), (84, 0, 29), "what is not there needs no count");
    server.disconnect(&mut server.connection());
    assert_eq!(
        look().1,
        28,
        "nothing is believed of a connection that broke"
    );
    assert_eq!(look(), (84, 0, 29));
}

/// An answer that was begun after a mark was acknowledged holds it.
#[test]
fn nothing_acknowledged_is_missing_from_a_later_look() {
    let server = RedisServer::start();
    let (store, others) = (store(&server), store(&server));
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for user in 0.. {
                others.apply(&marks_of("a_u", [user])).unwrap();
                acknowledged.store(u64::from(user) + 1, Ordering::SeqCst);
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        let looking = [(); 3].map(|()| {
            scope.spawn(|| {
                for _ in 0..1500 {
                    let before = acknowledged.load(Ordering::SeqCst);
                    let users = users(&*store, &[key("a_u"), key("b_u")]);
                    assert!(
                        users[0] >= before && users[1] == 0,
                        "{users:?} after {before}"
                    );
                }
            })
        });
        let all: Vec<bool> = looking.into_iter().map(|one| one.join().is_ok()).collect();
        stop.store(true, Ordering::SeqCst);
        assert_eq!(all, [true; 3]);
    });
}

#[test]
fn a_server_that_does_not_tell_counts_each_time() {
    let mute = RedisServer::start_with(&["--rename-command", "CLIENT", ""]);
    let reader = RedisServer::start();
    let may = [
        "SETUSER",
        "ann",
        "reset",
        "on",
        ">pw",
        "~trackist_*",
        "+ping",
        "+select",
        "+strlen",
        "+bitcount",
    ];
    cmd("ACL").arg(&may).exec(&mut reader.connection()).unwrap();
    for (server, login) in [(&mute, ""), (&reader, "?user=ann&pass=pw")] {
        let (others, ours) = (
            store(server),
            open(&format!("{}{login}", server.url()), &Options::default()).unwrap(),
        );
        others
            .apply(&[marks_of("a_2026-11-1", [1, 2]), marks_of("d_u", [7])].concat())
            .unwrap();
        for last in [3, 4] {
            assert_eq!(users(&*ours, &keys()), [last - 1, 0, 0, 1]);
            server.reset_statistics();
            others
                .apply(&marks_of("a_2026-11-1", [last as u32]))
                .unwrap();
            assert_eq!(users(&*ours, &keys()), [last, 0, 0, 1]);
            assert_eq!(server.calls("bitcount"), 2);
        }
    }
}

/// The first requests find out together that the server does not track for this user. None of them
/// waits for a wake-up that never comes: with a time-out of ten minutes this test would not end.
#[test]
fn first_requests_of_a_user_without_tracking_do_not_wait_for_each_other() {
    let server = RedisServer::start();
    let may = [
        "SETUSER",
        "ann",
        "reset",
        "on",
        ">pw",
        "~trackist_*",
        "+ping",
        "+select",
        "+strlen",
        "+bitcount",
    ];
    cmd("ACL").arg(&may).exec(&mut server.connection()).unwrap();
    store(&server)
        .apply(&marks_of("a_2026-11-1", [1, 2]))
        .unwrap();
    for _ in 0..20 {
        let options = Options {
            timeout: Duration::from_secs(600),
            connections: 16,
            ..Options::default()
        };
        let ours = open(&format!("{}?user=ann&pass=pw", server.url()), &options).unwrap();
        let (done, all) = std::sync::mpsc::channel();
        for _ in 0..8 {
            let (ours, done) = (Arc::clone(&ours), done.clone());
            std::thread::spawn(move || done.send(users(&*ours, &keys())).unwrap());
        }
        for _ in 0..8 {
            assert_eq!(
                all.recv_timeout(Duration::from_secs(60))
                    .expect("nobody sleeps on"),
                [2, 0, 0, 0]
            );
        }
    }
}

/// A NAT forgets connections that are idle, and says nothing to either side.
#[test]
fn the_first_look_after_connections_were_cut_without_a_word_is_answered() {
    let server = RedisServer::start();
    let proxy = Proxy::before(&server.url());
    let options = Options {
        timeout: Duration::from_secs(20),
        ..Options::default()
    };
    let ours = open(&proxy.url(), &options).unwrap();
    ours.apply(&marks_of("a_2026-11-1", [1, 2])).unwrap();
    assert_eq!(users(&*ours, &keys())[0], 2);
    let remembered = CachedStore::new(
        Arc::clone(&ours),
        CacheOptions {
            check_after: Duration::ZERO,
            ..CacheOptions::default()
        },
        Clock::System,
    );
    let mut plan = Plan::new();
    plan.count_set(&(set(NAMES[0]) & set(NAMES[0]))).unwrap();
    plan.count_set(&(set(NAMES[0]) | set(NAMES[1]))).unwrap();
    for user in 3..6 {
        // The connection that is told of changes, and the pooled ones.
        proxy.cut();
        let before = proxy.connections();
        store(&server)
            .apply(&marks_of("a_2026-11-1", [user]))
            .unwrap();
        assert_eq!(
            remembered.count(&plan).unwrap(),
            [u64::from(user); 2],
            "and what was marked meanwhile is in it"
        );
        assert!(proxy.connections() > before);
    }
}

#[test]
fn a_server_that_hangs_or_starts_anew_is_met_in_time() {
    let mut server = RedisServer::start();
    let timeout = Duration::from_millis(400);
    let store = open(
        &server.url(),
        &Options {
            timeout,
            ..Options::default()
        },
    )
    .unwrap();
    store.apply(&marks_of("a_2026-11-1", [1, 2])).unwrap();
    assert_eq!(users(&*store, &keys())[0], 2);
    server.pause();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let all = [(); 8].map(|()| scope.spawn(|| store.look(&keys()).unwrap_err().to_string()));
        for one in all {
            let error = one.join().unwrap();
            assert!(error.contains("no answer within"), "{error}");
        }
    });
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    server.resume();
    assert_eq!(users(&*store, &keys())[0], 2);
    server.stop();
    assert!(
        store
            .look(&keys())
            .unwrap_err()
            .to_string()
            .contains("Is redis-server running")
    );
    server.restart();
    assert_eq!(users(&*store, &keys()), [0, 0, 0, 0]);
}

#[test]
fn a_key_that_is_no_bitmap_is_named() {
    let server = RedisServer::start();
    let store = store(&server);
    assert_eq!(users(&*store, &keys()), [0, 0, 0, 0]);
    cmd("LPUSH")
        .arg("trackist_d_u")
        .arg("x")
        .exec(&mut server.connection())
        .unwrap();
    let error = store.look(&keys()).unwrap_err().to_string();
    assert!(
        error.contains("trackist_d_u") && error.contains("not a bitmap"),
        "{error}"
    );
    cmd("DEL")
        .arg("trackist_d_u")
        .exec(&mut server.connection())
        .unwrap();
    assert_eq!(users(&*store, &keys()), [0, 0, 0, 0]);
}
