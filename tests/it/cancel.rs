//! When nobody waits for an answer any more, the work on it stops.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cohortist::Tracker;
use cohortist::clock::Clock;
use cohortist::server::Dashboard;
use cohortist::sets::{Plan, Set};
use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{
    CacheOptions, CachedStore, Cancel, Options, RedisEval, Store, StoreError, open,
};

use crate::support::bent::Bent;
use crate::support::model::{marks_of, set};
use crate::support::redis::RedisServer;
use crate::support::web::{now, serve_dashboard};

/// Far longer than anything here takes, however busy the machine.
const FAR_TOO_LONG: Duration = Duration::from_secs(60);

fn in_memory() -> Arc<dyn Store> {
    Arc::new(EmbeddedStore::in_memory(&Options::default()))
}

/// Waits until the token of the work on this thread is cancelled; says whether it was.
fn wait_for_cancel() -> bool {
    let end = Instant::now() + FAR_TOO_LONG;
    while Instant::now() < end {
        if Cancel::current().is_cancelled() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// A store of which each count is held until its token is cancelled. Tells when a count began, and
/// whether it was cancelled.
fn held(inner: &Arc<dyn Store>) -> (Arc<dyn Store>, Receiver<&'static str>) {
    let (tell, told) = channel();
    let store = Bent::of(inner).before_counting(move |_| {
        tell.send("began").unwrap();
        tell.send(if wait_for_cancel() {
            "cancelled"
        } else {
            "still asked"
        })
        .unwrap();
    });
    (store.shared(), told)
}

#[test]
fn a_client_that_goes_stops_its_question() {
    let inner = in_memory();
    inner.apply(&marks_of("a_2026-11-23", 0..100)).unwrap();
    let (store, told) = held(&inner);
    let address = serve_dashboard(Dashboard::new(Tracker::new(store), Clock::Fixed(now())));
    // It closes the connection, or only its own side.
    for how in [Shutdown::Both, Shutdown::Write] {
        let mut client = TcpStream::connect(address).unwrap();
        client
            .write_all(b"GET /api/v1/count?set=a@2026-11-23 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        assert_eq!(told.recv_timeout(FAR_TOO_LONG), Ok("began"));
        client.shutdown(how).unwrap();
        assert_eq!(told.recv_timeout(FAR_TOO_LONG), Ok("cancelled"), "{how:?}");
    }
}

#[test]
fn an_embedded_store_stops() {
    let store = in_memory();
    store.apply(&marks_of("a_u", [1, 70_000])).unwrap();
    let (mut plan, both) = (Plan::new(), set("a_u") | set("b_u"));
    plan.count_set(&both).unwrap();
    let cancel = Cancel::new();
    cancel.during(|| {
        assert_eq!(store.count(&plan).unwrap(), [2]);
        cancel.cancel();
        assert!(matches!(store.count(&plan), Err(StoreError::Cancelled)));
        assert!(matches!(
            store.members(&both, None, 9),
            Err(StoreError::Cancelled)
        ));
        let Set::Or(keys) = &both else {
            panic!("a union")
        };
        let keys: Vec<_> = keys
            .iter()
            .filter_map(|set| {
                if let Set::Key(key) = set {
                    Some(key.clone())
                } else {
                    None
                }
            })
            .collect();
        assert!(matches!(
            store.contains(&keys, 1),
            Err(StoreError::Cancelled)
        ));
        // What is written is written.
        store.apply(&marks_of("a_u", [2])).unwrap();
        assert!(matches!(store.delete(&keys), Ok(1)));
    });
}

/// The first trip of each is held until it was cancelled.
#[test]
fn redis_is_asked_nothing_more_and_keeps_no_temporary_keys() {
    let server = RedisServer::start();
    for redis_eval in [RedisEval::Server, RedisEval::Fetch] {
        let options = Options {
            redis_eval,
            timeout: FAR_TOO_LONG,
            ..Options::default()
        };
        let store = open(&server.url(), &options).unwrap();
        let mut plan = Plan::new();
        for n in 0..600 {
            let names = [format!("a{}_u", n / 2), format!("b{n}_u")];
            names
                .iter()
                .for_each(|name| store.apply(&marks_of(name, [n, 9])).unwrap());
            let [a, b] = names.map(|name| set(&name));
            // Some results are kept for a later step.
            plan.count_set(&((a.clone() & b.clone()) | set(&format!("b{}_u", n / 2))))
                .unwrap();
            plan.count_set(&(a & b)).unwrap();
        }
        let expected = store.count(&plan).unwrap();
        let keys = server.keys();
        server.reset_statistics();
        let cancel = Cancel::new();
        server.pause();
        let outcome = std::thread::scope(|scope| {
            let asking = scope.spawn(|| cancel.during(|| store.count(&plan)));
            cancel.cancel();
            server.resume();
            asking.join().unwrap()
        });
        assert!(
            matches!(outcome, Err(StoreError::Cancelled)),
            "{redis_eval:?}: {outcome:?}"
        );
        assert_eq!(
            (server.calls("bitop"), server.calls("getrange")),
            (0, 0),
            "{redis_eval:?}"
        );
        assert_eq!(server.keys(), keys);
        assert_eq!(
            store.count(&plan).unwrap(),
            expected,
            "its connection is as good as before"
        );
    }
}

#[test]
fn whoever_waits_for_a_cancelled_count_gets_its_number_all_the_same() {
    let inner = in_memory();
    inner.apply(&marks_of("a_u", [1, 2, 3])).unwrap();
    inner.apply(&marks_of("b_u", [2, 3, 4])).unwrap();
    let (tell, told) = channel();
    let counted = Arc::new(AtomicUsize::new(0));
    let intersections = Arc::clone(&counted);
    // The first to compute the intersection is held until it is cancelled.
    let store = Bent::of(&inner).before_counting(move |plan| {
        if plan.nodes().len() > 2 && intersections.fetch_add(1, Ordering::SeqCst) == 0 {
            tell.send(()).unwrap();
            assert!(wait_for_cancel());
        }
    });
    let remembered = CachedStore::new(store.shared(), CacheOptions::default(), Clock::Fixed(now()));
    let mut plan = Plan::new();
    plan.count_set(&(set("a_u") & set("b_u"))).unwrap();
    let (first, second) = (Cancel::new(), Cancel::new());
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| first.during(|| remembered.count(&plan)));
        told.recv_timeout(FAR_TOO_LONG).unwrap();
        let waiters: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| remembered.count(&plan).unwrap()))
            .collect();
        // One who waits can be cancelled too, whatever the others do.
        let impatient = scope.spawn(|| second.during(|| remembered.count(&plan)));
        second.cancel();
        assert!(matches!(
            impatient.join().unwrap(),
            Err(StoreError::Cancelled)
        ));
        assert_eq!(counted.load(Ordering::SeqCst), 1, "the others wait");
        first.cancel();
        assert!(matches!(leader.join().unwrap(), Err(StoreError::Cancelled)));
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), [2]);
        }
    });
    assert!(
        counted.load(Ordering::SeqCst) > 1,
        "one of those who waited took over"
    );
}

/// Several in a row are cancelled, each while another waits.
#[test]
fn a_count_is_handed_on_until_somebody_is_left_to_take_it() {
    let inner = in_memory();
    inner.apply(&marks_of("a_u", [1, 2, 3])).unwrap();
    let (tell, told) = channel();
    let last = Arc::new(AtomicBool::new(false));
    let go_on = Arc::clone(&last);
    let store = Bent::of(&inner).before_counting(move |plan| {
        if plan.nodes().len() > 2 {
            tell.send(Cancel::current()).unwrap();
            while !Cancel::current().is_cancelled() && !go_on.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let remembered = CachedStore::new(store.shared(), CacheOptions::default(), Clock::Fixed(now()));
    let mut plan = Plan::new();
    plan.count_set(&(set("a_u") | set("b_u"))).unwrap();
    let outcomes: Mutex<VecDeque<Result<Vec<u64>, StoreError>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let outcome = Cancel::new().during(|| remembered.count(&plan));
                outcomes.lock().unwrap().push_back(outcome);
            });
        }
        for _ in 0..3 {
            told.recv_timeout(FAR_TOO_LONG).unwrap().cancel();
        }
        last.store(true, Ordering::SeqCst);
    });
    let outcomes = outcomes.into_inner().unwrap();
    let answers: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().ok())
        .collect();
    assert_eq!(answers, [&vec![3]], "{outcomes:?}");
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(StoreError::Cancelled)))
            .count(),
        3
    );
}
