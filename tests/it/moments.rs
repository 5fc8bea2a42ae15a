//! Every number of one answer is of one moment, whatever is marked meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cohortist::clock::Clock;
use cohortist::resp::{CONNECTIONS, Listener, Settings};
use cohortist::sets::{Plan, Set};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{CacheOptions, CachedStore, Freshness, Options, Store, open};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::bent::Bent;
use crate::support::model::{marks_of, set};
use crate::support::redis::RedisServer;
use crate::support::web::now;

/// Bitmaps that all hold the same users: each mark goes to all of them at once.
const EQUAL: [&str; 4] = ["a_2026-11-1", "b_2026-11-2", "c_2026-11-23", "d_u"];

const AN_HOUR: Duration = Duration::from_secs(3600);

fn remembered(store: &Arc<dyn Store>, check_after: Duration) -> CachedStore {
    let how = CacheOptions {
        check_after,
        keep: AN_HOUR,
        bytes: 1 << 20,
    };
    CachedStore::new(Arc::clone(store), how, Clock::Fixed(now()))
}

fn plan(sets: &[Set]) -> Plan {
    let mut plan = Plan::new();
    sets.iter().for_each(|set| {
        plan.count_set(set).unwrap();
    });
    plan
}

/// Marks one more user in all of [`EQUAL`].
fn mark_next(store: &dyn Store, next: &AtomicU32) {
    let user = next.fetch_add(1, Ordering::SeqCst);
    store
        .apply(&EQUAL.map(|name| marks_of(name, [user])).concat())
        .unwrap();
}

/// Sets that hold as many users as each of [`EQUAL`].
fn equal_sets() -> impl Strategy<Value = Vec<Set>> {
    let at = || (0..EQUAL.len()).prop_map(|at| set(EQUAL[at]));
    let sets = prop_oneof![
        3 => at(),
        3 => (at(), at()).prop_map(|(a, b)| a & b),
        2 => (at(), at()).prop_map(|(a, b)| a | b),
        1 => (at(), at(), at()).prop_map(|(a, b, c)| (a & b) | c),
    ];
    prop::collection::vec(sets, 1..6)
}

/// Steps through every place between two calls of the store at which somebody else may mark: before
/// and after each look and each count.
#[test]
fn marks_between_any_two_steps_are_in_all_numbers_or_in_none() {
    for (reports_changes, check_after) in
        [(true, AN_HOUR), (false, AN_HOUR), (false, Duration::ZERO)]
    {
        let freshness = prop_oneof![
            4 => Just(Freshness::Cached),
            2 => Just(Freshness::Checked),
            1 => Just(Freshness::Anew)
        ];
        let questions = prop::collection::vec((equal_sets(), freshness), 1..6);
        // At which of the steps somebody marks.
        let steps = prop::collection::vec(prop::bool::weighted(0.4), 40);
        TestRunner::new(Config {
            cases: 300,
            failure_persistence: None,
            ..Config::default()
        })
        .run(&(questions, steps), |(questions, steps)| {
            let inner: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
            let next = Arc::new(AtomicU32::new(0));
            mark_next(&*inner, &next);
            let steps = Arc::new(Mutex::new(steps.into_iter()));
            let step = {
                let (inner, next) = (Arc::clone(&inner), Arc::clone(&next));
                move || {
                    if steps.lock().unwrap().next().unwrap_or(false) {
                        mark_next(&*inner, &next);
                    }
                }
            };
            let (before, after) = (step.clone(), step);
            let stepped = Bent::of(&inner)
                .reports_changes(reports_changes)
                .before_counting(move |_| before())
                .counting(move |counts| {
                    after();
                    counts
                })
                .shared();
            let remembered = remembered(&stepped, check_after);
            for (sets, freshness) in &questions {
                let acknowledged = u64::from(next.load(Ordering::SeqCst));
                let counted = remembered.counted(&plan(sets), *freshness).unwrap();
                let counts: Vec<u64> = counted.counts.into();
                let different: BTreeSet<u64> = counts.iter().copied().collect();
                prop_assert_eq!(different.len(), 1, "{:?} of {:?}", &counts, sets);
                // What others mark is seen when their bitmaps are looked at.
                if reports_changes || *freshness != Freshness::Cached || check_after.is_zero() {
                    prop_assert!(
                        counts[0] >= acknowledged,
                        "{:?} after {}",
                        &counts,
                        acknowledged
                    );
                }
            }
            Ok(())
        })
        .unwrap();
    }
}

/// Somebody marks before each count and after it, so that no two calls ever see the same.
#[test]
fn a_store_that_never_rests_is_counted_in_one_call() {
    for reports_changes in [true, false] {
        let inner: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(&Options::default()));
        let next = Arc::new(AtomicU32::new(0));
        let calls = Arc::new(AtomicU64::new(0));
        let (before, after) = (
            (Arc::clone(&inner), Arc::clone(&next)),
            (Arc::clone(&inner), Arc::clone(&next)),
        );
        let counted = Arc::clone(&calls);
        let restless = Bent::of(&inner)
            .reports_changes(reports_changes)
            .before_counting(move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
                mark_next(&*before.0, &before.1);
            })
            .counting(move |counts| {
                mark_next(&*after.0, &after.1);
                counts
            })
            .shared();
        let remembered = remembered(&restless, Duration::ZERO);
        let [a, b, c, d] = EQUAL.map(set);
        let whole = plan(&[
            a.clone(),
            b.clone(),
            a.clone() & b.clone(),
            c.clone() & d.clone(),
            a & b & c & d,
        ]);
        for _ in 0..50 {
            calls.store(0, Ordering::SeqCst);
            let counts = remembered.count(&whole).unwrap();
            assert!(
                counts.iter().all(|count| *count == counts[0]) && counts[0] > 0,
                "{counts:?}"
            );
            assert!(
                calls.load(Ordering::SeqCst) <= 10,
                "it does not go on for ever"
            );
        }
    }
}

/// A bitmap was looked at a minute ago for another page, and is met by one that is looked at now.
#[test]
fn halves_of_an_answer_are_not_a_minute_apart() {
    let server = RedisServer::start();
    let others = open(&server.url(), &crate::support::redis::patient()).unwrap();
    let store = open(&server.url(), &crate::support::redis::patient()).unwrap();
    let [signup, active] = ["signup_2026-11-20", "active_2026-11-21"];
    others
        .apply(&[marks_of(signup, 0..10), marks_of(active, 0..10)].concat())
        .unwrap();
    for check_after in [AN_HOUR, Duration::ZERO] {
        let remembered = remembered(&store, check_after);
        assert_eq!(remembered.count(&plan(&[set(signup)])).unwrap(), [10]);
        let table = plan(&[set(signup), set(signup) & set(active)]);
        if check_after.is_zero() {
            assert_eq!(remembered.count(&table).unwrap(), [10, 10]);
        }
        others
            .apply(&[marks_of(signup, 0..1000), marks_of(active, 0..494)].concat())
            .unwrap();
        // 49.4 %, and not 10 people of whom 100 % came back.
        let counted = remembered.counted(&table, Freshness::Cached).unwrap();
        assert_eq!(counted.counts.as_slice(), [1000, 494]);
        others
            .apply(&[marks_of(signup, 1000..2000), marks_of(active, 494..1500)].concat())
            .unwrap();
        let counted = remembered.counted(&table, Freshness::Cached).unwrap();
        match check_after.is_zero() {
            true => assert_eq!(counted.counts.as_slice(), [2000, 1500]),
            // As it was, in both halves, and it says how old it is.
            false => assert!(
                counted.counts.as_slice() == [1000, 494] && !counted.age.is_zero(),
                "{counted:?}"
            ),
        }
        assert_eq!(
            remembered
                .counted(&table, Freshness::Checked)
                .unwrap()
                .counts
                .as_slice(),
            [2000, 1500]
        );
        assert_eq!(
            remembered.count(&table).unwrap(),
            [2000, 1500],
            "what was checked is what is remembered"
        );
        others
            .delete(&[signup, active].map(crate::support::model::key))
            .unwrap();
        others
            .apply(&[marks_of(signup, 0..10), marks_of(active, 0..10)].concat())
            .unwrap();
    }
}

/// Another client marks two bitmaps in one MULTI, over and over, while they are counted through the
/// cache.
fn one_multi_is_whole(store: &Arc<dyn Store>, server: &redis::Client, check_after: Duration) {
    let stop = AtomicBool::new(false);
    let (a, b) = (set("a_2026-11-1"), set("b_2026-11-2"));
    let pairs = [
        plan(&[a.clone(), a.clone() & b.clone()]),
        plan(&[a.clone() & b.clone(), b.clone()]),
        plan(&[b.clone() - a.clone(), a.clone() - b.clone()]),
    ];
    let remembered = remembered(store, check_after);
    store
        .apply(
            &[
                marks_of("a_2026-11-1", [9_999_999]),
                marks_of("b_2026-11-2", [9_999_999]),
            ]
            .concat(),
        )
        .unwrap();
    let marked = std::thread::scope(|scope| {
        let marking = scope.spawn(|| {
            let mut conn = server.get_connection().unwrap();
            let mut user = 0_u32;
            while !stop.load(Ordering::SeqCst) {
                let mut both = redis::pipe();
                let both = both.atomic();
                for name in ["trackist_a_2026-11-1", "trackist_b_2026-11-2"] {
                    both.cmd("SETBIT").arg(name).arg(user).arg(1).ignore();
                }
                both.exec(&mut conn).unwrap();
                user += 1;
            }
            user
        });
        let asking = [(); 2].map(|()| {
            scope.spawn(|| {
                for round in 0..1_500 {
                    let counts = remembered.count(&pairs[round % 3]).unwrap();
                    let expected = if round % 3 == 2 { 0 } else { counts[1] };
                    assert_eq!(counts[0], expected, "{counts:?} in round {round}");
                }
            })
        });
        let all: Vec<bool> = asking.into_iter().map(|one| one.join().is_ok()).collect();
        stop.store(true, Ordering::SeqCst);
        let marked = marking.join().unwrap();
        assert_eq!(all, [true; 2]);
        marked
    });
    assert!(marked > 0);
    assert_eq!(
        remembered
            .counted(&pairs[0], Freshness::Checked)
            .unwrap()
            .counts
            .as_slice(),
        [u64::from(marked) + 1; 2]
    );
}

#[test]
fn one_multi_through_the_listener_is_in_all_numbers_or_in_none() {
    let inner = EmbeddedStore::in_memory(&Options::default());
    let settings = Settings {
        listen: "127.0.0.1:0".to_owned(),
        password: None,
        allow_flush: false,
        connections: CONNECTIONS,
        memory: cohortist::store::budget::Budget::new(192 << 20),
    };
    let listener = Listener::start(settings, inner.keyspace()).unwrap();
    let client = redis::Client::open(format!("redis://{}", listener.address())).unwrap();
    one_multi_is_whole(&(Arc::new(inner) as Arc<dyn Store>), &client, AN_HOUR);
}

#[test]
fn one_multi_of_others_on_redis_is_in_all_numbers_or_in_none() {
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).unwrap();
    let store = open(&server.url(), &crate::support::redis::patient()).unwrap();
    one_multi_is_whole(&store, &client, Duration::ZERO);
}

/// A change that comes just when a bitmap was looked at is never lost: what is remembered of it is
/// what it is.
#[test]
fn a_change_between_looking_and_remembering_is_not_lost() {
    let inner = EmbeddedStore::in_memory(&Options::default());
    let store: Arc<dyn Store> = Arc::new(inner);
    let remembered = remembered(&store, AN_HOUR);
    let single = plan(&[set("a_u")]);
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for user in 0..40_000_u32 {
                store.apply(&marks_of("a_u", [user])).unwrap();
                acknowledged.store(u64::from(user) + 1, Ordering::SeqCst);
            }
        });
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let before = acknowledged.load(Ordering::SeqCst);
                    let counted = remembered.count(&single).unwrap()[0];
                    assert!(counted >= before, "{counted} after {before}");
                    if before == 40_000 {
                        break;
                    }
                }
            });
        }
    });
    assert_eq!(remembered.count(&single).unwrap(), [40_000]);
}
