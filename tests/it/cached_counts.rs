//! Counts remembered: never another number than the store would give, and hardly ever the work
//! again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use cohortist::bitmap::Operation;
use cohortist::calendar::{Grain, parse_moment};
use cohortist::clock::Clock;
use cohortist::reports::plan_at;
use cohortist::reports::retention::{Query, Table};
use cohortist::server::Dashboard;
use cohortist::sets::{Key, Plan, Set};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{
    CacheOptions, CacheStats, CachedStore, Freshness, Mark, Options, RedisEval, Store, StoreError,
    open,
};
use cohortist::{Extent, Tracker};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::http::{agent, read};
use crate::store_contract::contract;
use crate::support::bent::Bent;
use crate::support::model::{key, marks, marks_of, set, sets};
use crate::support::redis::{RedisServer, patient};
use crate::support::web::{name, now, product_store, serve_dashboard};

const AN_HOUR: Duration = Duration::from_secs(3600);

fn how(bytes: u64) -> CacheOptions {
    CacheOptions {
        bytes,
        keep: AN_HOUR,
        check_after: AN_HOUR,
    }
}

fn remembered(store: &Arc<dyn Store>, how: CacheOptions) -> CachedStore {
    CachedStore::new(Arc::clone(store), how, Clock::Fixed(now()))
}

fn counts(store: &CachedStore, plan: &Plan, freshness: Freshness) -> Vec<u64> {
    store.counted(plan, freshness).unwrap().counts.into()
}

fn in_memory() -> EmbeddedStore {
    EmbeddedStore::in_memory(&Options::default())
}

contract!(embedded_remembered, || {
    let store: std::sync::Arc<dyn cohortist::store::Store> =
        std::sync::Arc::new(crate::cached_counts::in_memory());
    (
        std::sync::Arc::new(crate::cached_counts::remembered(
            &store,
            crate::cached_counts::how(1 << 20),
        )),
        Box::new(()),
    )
});

contract!(redis_remembered, || {
    let server = crate::support::redis::RedisServer::start();
    let store = cohortist::store::open(&server.url(), &crate::support::redis::patient()).unwrap();
    (
        std::sync::Arc::new(crate::cached_counts::remembered(
            &store,
            crate::cached_counts::how(1 << 20),
        )),
        Box::new(server),
    )
});

fn plan(sets: &[Set]) -> Plan {
    let mut plan = Plan::new();
    sets.iter().for_each(|set| {
        plan.count_set(set).unwrap();
    });
    plan
}

/// Marks through one of three doors, and what is asked then.
fn steps() -> impl Strategy<Value = Vec<(u8, Vec<Mark>, Vec<Set>)>> {
    prop::collection::vec(
        (0_u8..6, marks(), prop::collection::vec(sets(), 1..5)),
        1..12,
    )
}

/// Whoever changes the embedded store, by whatever door, the next count is of how it is then.
#[test]
fn every_change_of_an_embedded_store_is_seen_at_once() {
    // Room for everything, and for hardly anything.
    for bytes in [1 << 20, 4_000] {
        TestRunner::new(Config::with_cases(120))
            .run(&steps(), |steps| {
                let inner = in_memory();
                let store: Arc<dyn Store> = Arc::new(inner.clone());
                let remembered = remembered(&store, how(bytes));
                let keyspace = inner.keyspace();
                for (door, marks, sets) in steps {
                    let text = |mark: &Mark| format!("trackist_{}", mark.key);
                    match door {
                        0 | 1 => remembered.apply(&marks).unwrap(),
                        2 => store.apply(&marks).unwrap(),
                        3 => {
                            let keys: Vec<String> = marks.iter().map(text).collect();
                            let bits = (0..)
                                .zip(&marks)
                                .map(|(at, m)| (at * 2 + u32::from(m.value), m.user))
                                .collect();
                            keyspace.set_bits(keys, bits).unwrap();
                        }
                        4 if marks.len() > 1 => keyspace
                            .change(|space| {
                                space.combine(
                                    Operation::Or,
                                    &text(&marks[0]),
                                    &[text(&marks[1])],
                                )?;
                                space.rename(&text(&marks[1]), &text(&marks[marks.len() - 1]))
                            })
                            .map(drop)
                            .unwrap(),
                        _ => {
                            let keys: Vec<_> =
                                marks.iter().take(1).map(|mark| mark.key.clone()).collect();
                            if marks.len() % 2 == 0 {
                                store.delete(&keys)
                            } else {
                                remembered.delete(&keys)
                            }
                            .unwrap();
                        }
                    }
                    let plan = plan(&sets);
                    let expected = store.count(&plan).unwrap();
                    assert_eq!(remembered.count(&plan).unwrap(), expected, "door {door}");
                    assert_eq!(remembered.count(&plan).unwrap(), expected, "and again");
                }
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn what_goes_by_itself_is_gone_from_memory_too() {
    let inner = in_memory();
    let store: Arc<dyn Store> = Arc::new(inner.clone());
    let remembered = remembered(&store, how(1 << 20));
    remembered
        .apply(&[marks_of("a_u", [1, 2]), marks_of("b_u", [2])].concat())
        .unwrap();
    let plan = plan(&[set("a_u") & set("b_u")]);
    assert_eq!(remembered.count(&plan).unwrap(), [1]);
    inner
        .keyspace()
        .change(|space| {
            space.set_expires_at(
                "trackist_b_u",
                Some(u64::try_from(Clock::System.now().timestamp_millis()).unwrap() + 30),
            )
        })
        .unwrap();
    std::thread::sleep(Duration::from_millis(60));
    store.keys("").unwrap();
    assert_eq!(remembered.count(&plan).unwrap(), [0]);
}

/// bitmapist beside us on the same Redis: its marks are seen when the bitmaps are looked at again.
#[test]
fn marks_of_others_are_seen_after_a_look() {
    let server = RedisServer::start();
    let others = open(&server.url(), &crate::support::redis::patient()).unwrap();
    TestRunner::new(Config::with_cases(25))
        .run(&steps(), |steps| {
            server
                .connection()
                .send_packed_command(&redis::cmd("FLUSHALL").get_packed_command())
                .unwrap();
            let _: String = redis::cmd("FLUSHALL")
                .query(&mut server.connection())
                .unwrap();
            let store = open(&server.url(), &crate::support::redis::patient()).unwrap();
            let (kept, looking) = (
                remembered(&store, how(1 << 20)),
                remembered(
                    &store,
                    CacheOptions {
                        check_after: Duration::ZERO,
                        ..how(1 << 20)
                    },
                ),
            );
            for (door, mut marks, sets) in steps {
                // Only ever more, so that each change shows in the numbers; complements also depend
                // on lengths.
                marks.iter_mut().for_each(|mark| mark.value = true);
                if door % 2 == 0 {
                    others.apply(&marks)
                } else {
                    kept.apply(&marks)
                }
                .unwrap();
                let plan = plan(&sets);
                let (expected, old) = (others.count(&plan).unwrap(), kept.count(&plan).unwrap());
                let has_complement = plan
                    .nodes()
                    .iter()
                    .any(|node| matches!(node, cohortist::sets::Node::Not(_)));
                if !has_complement {
                    assert_eq!(looking.count(&plan).unwrap(), expected);
                    assert_eq!(counts(&kept, &plan, Freshness::Checked), expected);
                }
                assert_eq!(counts(&kept, &plan, Freshness::Anew), expected);
                assert_eq!(
                    kept.count(&plan).unwrap(),
                    expected,
                    "what was counted anew is what is remembered"
                );
                drop(old);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_nobody_can_see_is_kept_no_longer_than_was_said() {
    let server = RedisServer::start();
    let (store, others) = (
        open(&server.url(), &crate::support::redis::patient()).unwrap(),
        open(&server.url(), &crate::support::redis::patient()).unwrap(),
    );
    let keep = Duration::from_millis(300);
    // Of a day that is over, and of the day that is running.
    for (cohort, back, patience) in [
        ("a_2026-11-3", "b_2026-11-4", keep),
        ("a_2026-11-23", "b_2026-11-23", Duration::ZERO),
    ] {
        others
            .apply(&[marks_of(cohort, [1, 2]), marks_of(back, [1, 9])].concat())
            .unwrap();
        let kept = remembered(
            &store,
            CacheOptions {
                bytes: 1 << 20,
                keep,
                check_after: Duration::ZERO,
            },
        );
        let plan = plan(&[set(cohort) & set(back)]);
        assert_eq!(kept.count(&plan).unwrap(), [1]);
        // One less and one more: as many as before.
        others.apply(&marks_of(back, [2])).unwrap();
        others
            .apply(&[Mark {
                key: key(back),
                user: 9,
                value: false,
            }])
            .unwrap();
        if patience.is_zero() {
            assert_eq!(
                kept.count(&plan).unwrap(),
                [2],
                "a running day is counted each time it is looked at"
            );
        }
        std::thread::sleep(patience);
        assert_eq!(kept.count(&plan).unwrap(), [2]);
    }
}

/// Tomorrow's table needs its new diagonal and no more.
#[test]
fn tomorrow_only_what_is_new_is_counted() {
    let store = product_store(60, 40);
    let remembered = Arc::new(CachedStore::new(
        store,
        how(8 << 20),
        Clock::Fixed(now() + TimeDelta::days(1)),
    ));
    let query = |days| {
        let mut query = Query::new(
            "signup".parse().unwrap(),
            "active".parse().unwrap(),
            Grain::Day,
        );
        (query.rows, query.cols) = (Some(31), Some(13));
        let (plan, question) = plan_at(&query, now() + TimeDelta::days(days)).unwrap();
        let before = remembered.stats();
        let counted = remembered.counted(&plan, Freshness::Cached).unwrap();
        let after = remembered.stats();
        let did = CacheStats {
            remembered: after.remembered - before.remembered,
            computed: after.computed - before.computed,
            checked: after.checked - before.checked,
        };
        (question.table(&counted.counts), did)
    };
    let (first, did) = query(0);
    assert!(did.computed > 300 && did.checked <= 62, "{did:?}");
    let (again, did) = query(0);
    assert_eq!(
        (did.computed, did.checked),
        (0, 0),
        "a page seen before asks the store nothing"
    );
    assert_eq!(format!("{first:?}"), format!("{again:?}"));
    let (_, did) = query(1);
    // 13 cells, the people behind all cohorts and behind those with a complete cell.
    assert!((13..=15).contains(&did.computed), "{did:?}");
    assert!(did.checked <= 2, "two bitmaps are new: {did:?}");
}

#[test]
fn many_who_ask_at_once_are_answered_by_one_count() {
    let inner: Arc<dyn Store> = Arc::new(in_memory());
    inner
        .apply(&[marks_of("a_u", [1, 2, 3]), marks_of("b_u", [2, 3])].concat())
        .unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let failing = Arc::new(AtomicBool::new(false));
    let (count, fails) = (Arc::clone(&asked), Arc::clone(&failing));
    let gone = || StoreError::Unreachable {
        location: "there".into(),
        reason: "gone".into(),
    };
    let slow = Bent::of(&inner)
        .before_counting(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(300));
        })
        .counting(move |counts| {
            if fails.load(Ordering::SeqCst) {
                Err(gone())
            } else {
                counts
            }
        })
        .shared();
    let remembered = remembered(&slow, how(1 << 20));
    let plan = plan(&[set("a_u") & set("b_u")]);
    let together = |remembered: &CachedStore| -> Vec<Result<Vec<u64>, StoreError>> {
        let start = Barrier::new(24);
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..24)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        remembered.count(&plan)
                    })
                })
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        })
    };
    failing.store(true, Ordering::SeqCst);
    assert!(
        together(&remembered).iter().all(|answer| answer
            .as_ref()
            .unwrap_err()
            .to_string()
            .contains("gone"))
    );
    // An error is nobody's later.
    failing.store(false, Ordering::SeqCst);
    asked.store(0, Ordering::SeqCst);
    assert!(
        together(&remembered)
            .iter()
            .all(|answer| answer.as_ref().unwrap() == &[2])
    );
    assert_eq!(
        asked.load(Ordering::SeqCst),
        2,
        "the bitmaps once, the set once"
    );
}

#[test]
fn who_waits_for_somebody_who_fell_over_counts_alone() {
    let inner: Arc<dyn Store> = Arc::new(in_memory());
    inner.apply(&marks_of("a_u", [1, 2, 3])).unwrap();
    let first = Arc::new(Mutex::new(true));
    let falls = Bent::of(&inner)
        .before_counting(move |_| {
            let is_first = std::mem::replace(&mut *first.lock().unwrap(), false);
            std::thread::sleep(Duration::from_millis(200));
            assert!(!is_first, "it falls over");
        })
        .shared();
    let remembered = remembered(&falls, how(1 << 20));
    let plan = plan(&[set("a_u")]);
    let answers: Vec<Option<Vec<u64>>> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|place| {
                let (remembered, plan) = (&remembered, &plan);
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(place * 10));
                    remembered.count(plan).unwrap()
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().ok()).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.is_none()).count(), 1);
    assert!(answers.iter().flatten().all(|counts| counts == &[3]));
}

/// Marks and questions at once: an answer that was begun after a mark was acknowledged holds it.
#[test]
fn nothing_acknowledged_is_missing_from_a_later_answer() {
    let inner = in_memory();
    let store: Arc<dyn Store> = Arc::new(inner.clone());
    let remembered = Arc::new(remembered(&store, how(1 << 20)));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let marking = std::thread::spawn({
        let (store, remembered) = (Arc::clone(&store), Arc::clone(&remembered));
        let (acknowledged, stop) = (Arc::clone(&acknowledged), Arc::clone(&stop));
        move || {
            let mut user = 0;
            while !stop.load(Ordering::SeqCst) {
                let marks = [marks_of("a_u", [user]), marks_of("b_u", [user])].concat();
                // By both doors.
                if user % 2 == 0 {
                    store.apply(&marks)
                } else {
                    remembered.apply(&marks)
                }
                .unwrap();
                user += 1;
                acknowledged.store(user.into(), Ordering::SeqCst);
            }
        }
    });
    let plan = plan(&[set("a_u") & set("b_u"), set("a_u")]);
    for _ in 0..20_000 {
        let before = acknowledged.load(Ordering::SeqCst);
        let counts = remembered.count(&plan).unwrap();
        assert!(
            counts[0] >= before && counts[1] >= before,
            "{counts:?} after {before}"
        );
    }
    stop.store(true, Ordering::SeqCst);
    marking.join().unwrap();
}

#[test]
fn the_page_says_of_when_it_is_and_refreshes() {
    let server = RedisServer::start();
    let others = Tracker::new(open(&server.url(), &crate::support::redis::patient()).unwrap());
    let at = |text: &str| parse_moment(text).unwrap();
    others.mark(&name("signup"), 1, at("2026-11-20")).unwrap();
    others.mark(&name("active"), 1, at("2026-11-21")).unwrap();
    others.mark(&name("zz:heartbeat"), 0, now()).unwrap();
    let store = open(&server.url(), &crate::support::redis::patient()).unwrap();
    let tracker = Tracker::new(store).with_cache(how(1 << 20), Clock::Fixed(now()));
    let mut dashboard = Dashboard::new(tracker, Clock::Fixed(now()));
    dashboard.write_token = Some("a-token-for-tests".to_owned());
    let host = format!("http://{}", serve_dashboard(dashboard));
    let question =
        format!("{host}/retention?cohort=signup&returning=active&by=day&rows=5&cols=3&as=count");
    // How many signed up on the 20th, as the table says it.
    let size = || {
        let page = read(&question).body;
        let row = page
            .split("<tr data-at=\"2026-11-20\"")
            .nth(1)
            .unwrap()
            .split("class=\"size\">")
            .nth(1)
            .unwrap();
        row.split_once("</a>")
            .unwrap()
            .0
            .rsplit_once('>')
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(size(), "1");
    let page = read(&question).body;
    assert!(page.contains(">Refresh</a>"), "{page}");
    // Somebody else marks; an hour's memory does not know.
    others.mark(&name("signup"), 2, at("2026-11-20")).unwrap();
    others.mark(&name("active"), 2, at("2026-11-21")).unwrap();
    assert_eq!(size(), "1");
    // Files and lists are always of how it is.
    let csv = read(&question.replace("/retention?", "/retention.csv?")).body;
    assert!(csv.contains("Fri 20 Nov 2026,2,0,2,0"), "{csv}");
    others.mark(&name("signup"), 3, at("2026-11-20")).unwrap();
    let list = read(&format!("{host}/people?set=signup@2026-11-20")).body;
    assert!(list.contains("3 people who"), "{list}");
    // Refresh leads back to the address that may be sent.
    let to = page
        .split("href=\"")
        .map(|rest| rest.split('"').next().unwrap())
        .find(|to| to.contains("anew=1"))
        .unwrap();
    let got = read(&format!("{host}{}", to.replace("&#38;", "&")));
    assert_eq!(got.status, 302);
    assert!(!got.header("location").contains("anew"));
    assert_eq!(size(), "3");
    // What comes in by this process shows at once.
    let mark = json!([{"event": "signup", "user": 4, "at": "2026-11-20"}]);
    let request = agent()
        .post(format!("{host}/api/v1/marks"))
        .header("authorization", "Bearer a-token-for-tests");
    assert_eq!(request.send(mark.to_string()).unwrap().status(), 200);
    assert_eq!(size(), "4");
    let metrics = read(&format!("{host}/metrics")).body;
    assert!(
        metrics.contains("cohortist_counts_total{how=\"remembered\",store=\"store\"}"),
        "{metrics}"
    );
}

#[test]
fn hours_and_undated_bitmaps_are_as_new_as_others() {
    let inner: Arc<dyn Store> = Arc::new(in_memory());
    let tracker = Tracker::new(inner)
        .with_cache(how(1 << 20), Clock::Fixed(now()))
        .with_extent(Extent {
            hourly: true,
            ever: true,
        });
    let hour = Set::event_in(&name("a"), "2026-11-23T19".parse().unwrap());
    let both = hour.clone() & Set::ever(&name("a"));
    for user in 0..5 {
        assert_eq!(
            tracker.counts([&hour, &both]).unwrap(),
            [u64::from(user), u64::from(user)]
        );
        tracker.mark(&name("a"), user, now()).unwrap();
    }
}

/// A question about new users depends on every user before them.
#[test]
fn the_history_of_first_time_cohorts_is_read_once() {
    let event = name("active");
    let marks: Vec<Mark> = (0..730_u32)
        .flat_map(|back| {
            let moment = now() - TimeDelta::days(back.into());
            let keys = Key::of_mark(&event, moment, false).unwrap();
            // Some are new each day, and some were there a week before.
            let users = [back, back / 2, 3 * back, back + 7, 100_000 + back % 50];
            keys.flat_map(move |key| {
                users.map(|user| Mark {
                    key: key.clone(),
                    user,
                    value: true,
                })
            })
            .collect::<Vec<_>>()
        })
        .collect();
    let query = Query {
        rows: Some(31),
        cols: Some(13),
        ..Query::new(
            "first(active)".parse().unwrap(),
            "active".parse().unwrap(),
            Grain::Day,
        )
    };
    let embedded = in_memory();
    embedded.apply(&marks).unwrap();
    let expected = Tracker::new(Arc::new(embedded)).retention(&query, now());
    let expected = expected.unwrap();
    for redis_eval in [RedisEval::Server, RedisEval::Fetch, RedisEval::Auto] {
        let server = RedisServer::start();
        let options = Options {
            redis_eval,
            ..patient()
        };
        let store = open(&server.url(), &options).unwrap();
        store.apply(&marks).unwrap();
        let tracker = Tracker::new(store).with_cache(how(1 << 20), Clock::Fixed(now()));
        let ask = || {
            server.reset_statistics();
            let table = tracker.retention(&query, now()).unwrap();
            let cells = |table: &Table| table.rows.clone();
            assert_eq!(cells(&table), cells(&expected), "{redis_eval:?}");
            (server.calls("bitop"), server.calls("getrange"))
        };
        let (operations, pieces) = ask();
        // A union and a difference for each cohort, and an intersection for each cell, beside what
        // the history, the distinct people and the days without a month take.
        assert!(operations <= 325 + 3 * 31 + 70, "{operations}");
        assert!(operations + pieces > 0);
        assert_eq!(ask(), (0, 0), "{redis_eval:?}: everything is remembered");
    }
}
