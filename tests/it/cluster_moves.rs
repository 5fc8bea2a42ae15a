//! Slots of a cluster on their way from one node to another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cohortist::sets::{Key, Plan, Set, UserId};
use cohortist::store::{Mark, Options, Store, open};

use crate::cluster::{SHARD, StopAtEnd, count, in_memory, plan_and_answer, unreachable};
use crate::support::cluster::{Cluster, eventually};
use crate::support::model::{key, marks_of, set};

/// A slot that is moved by hand.
pub(crate) struct Move<'a> {
    cluster: &'a Cluster,
    key: String,
    slot: String,
    source: u16,
    target: u16,
    names: BTreeMap<u16, String>,
}

impl<'a> Move<'a> {
    /// To another primary, which is told first, as redis-cli does it.
    pub fn begin(cluster: &'a Cluster, key: &str) -> Self {
        let any = cluster.ports()[0];
        let names = cluster.primaries(any);
        let source = cluster.owner(key, any);
        let target = *names.keys().find(|port| **port != source).unwrap();
        let slot = cluster
            .ask::<u16>(any, &["CLUSTER", "KEYSLOT", key])
            .to_string();
        cluster.ask::<()>(
            target,
            &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &names[&source]],
        );
        cluster.ask::<()>(
            source,
            &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &names[&target]],
        );
        Move {
            cluster,
            key: key.to_owned(),
            slot,
            source,
            target,
            names,
        }
    }

    fn left(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.cluster.ask(
            self.source,
            &["CLUSTER", "GETKEYSINSLOT", &self.slot, "1000"],
        );
        keys.sort();
        keys
    }

    fn take(&self, keys: &[String]) {
        for key in keys {
            self.cluster.ask::<()>(
                self.source,
                &[
                    "MIGRATE",
                    "127.0.0.1",
                    &self.target.to_string(),
                    key,
                    "0",
                    "5000",
                ],
            );
        }
    }

    fn end(self) {
        for port in [self.target, self.source] {
            self.cluster.ask::<()>(
                port,
                &[
                    "CLUSTER",
                    "SETSLOT",
                    &self.slot,
                    "NODE",
                    &self.names[&self.target],
                ],
            );
        }
        // Others hear of it from each other; whoever is asked before would move it from where it is
        // not.
        let knows = |port: u16| self.cluster.owner(&self.key, port) == self.target;
        assert!(eventually(|| self.cluster.ports().into_iter().all(knows)));
    }
}

#[test]
fn a_shard_that_is_half_on_another_node_answers_and_takes_marks() {
    let cluster = Cluster::start();
    let options = Options {
        timeout: Duration::from_secs(2),
        ..Options::default()
    };
    // One that has known the cluster before, and one that first sees it so.
    let store = open(&cluster.url(), &options).unwrap();
    let model = in_memory();
    let (plan, _) = plan_and_answer(&*store, 5);
    plan_and_answer(&*model, 5);
    let both = |marks: &[Mark]| {
        store.apply(marks).unwrap();
        model.apply(marks).unwrap();
    };
    // Only in the shard that moves, and reaching beyond its first bytes; and one that goes on in
    // the next shard.
    both(&marks_of(
        "alone_u",
        [2 * SHARD, 2 * SHARD + 700_000, 3 * SHARD - 1],
    ));
    both(&marks_of("long_u", [2 * SHARD + 5, 3 * SHARD + 5]));
    let known: Vec<Key> = (0..12)
        .map(|n| key(&format!("e{n}_u")))
        .chain([key("alone_u"), key("long_u")])
        .collect();
    let sets = [
        set("e0_u") & set("e1_u"),
        set("e3_u"),
        set("alone_u") | set("e5_u"),
        (set("e1_u") | set("e2_u")) - set("e3_u"),
        set("e0_u") - set("long_u"),
        set("alone_u") & set("e4_u"),
        set("e7_u") - set("long_u"),
        set("gone_u") | set("e11_u") ^ set("alone_u"),
    ];
    let check = |store: &Arc<dyn Store>, when: &str| {
        assert_eq!(
            store.count(&plan).unwrap(),
            model.count(&plan).unwrap(),
            "{when}"
        );
        let mut all = Plan::new();
        for set in sets
            .iter()
            .cloned()
            .chain(known.iter().cloned().map(Set::Key))
        {
            all.count_set(&set).unwrap();
        }
        assert_eq!(
            store.count(&all).unwrap(),
            model.count(&all).unwrap(),
            "{when}"
        );
        for set in &sets {
            for after in [
                None,
                Some(2 * SHARD - 1),
                Some(2 * SHARD + 20),
                Some(2 * SHARD + 699_999),
            ] {
                for limit in [3, 150] {
                    let page = |store: &Arc<dyn Store>| store.members(set, after, limit).unwrap();
                    assert_eq!(page(store), page(&model), "{when}: {set:?} after {after:?}");
                }
            }
        }
        let listed = |store: &Arc<dyn Store>| {
            store
                .keys("")
                .unwrap()
                .into_iter()
                .collect::<BTreeSet<Key>>()
        };
        assert_eq!(listed(store), listed(&model), "{when}");
        for user in [2 * SHARD, 2 * SHARD + 40, 2 * SHARD + 700_000] {
            assert_eq!(
                store.contains(&known, user).unwrap(),
                model.contains(&known, user).unwrap(),
                "{when}"
            );
        }
        assert!(
            store
                .sizes(&known)
                .unwrap()
                .iter()
                .all(|size| size.is_some_and(|size| size > 0)),
            "{when}"
        );
    };
    check(&store, "before");
    let moving = Move::begin(&cluster, "{shard2z}");
    check(&store, "nothing has moved yet");
    let keys = moving.left();
    assert_eq!(keys.len(), 14);
    let half: Vec<String> = keys.iter().step_by(2).cloned().collect();
    moving.take(&half);
    for store in [&store, &open(&cluster.url(), &options).unwrap()] {
        check(store, "half of it has moved");
    }
    // Of bitmaps on either side, of one that is on neither, and the same user twice, last of all
    // off again.
    let mut marks: Vec<Mark> = known
        .iter()
        .flat_map(|key| marks_of(&key.to_string(), [2 * SHARD + 900]))
        .collect();
    marks.extend(marks_of("new_u", [SHARD + 1, 2 * SHARD + 1, 2 * SHARD + 2]));
    marks.push(Mark {
        value: false,
        ..marks_of("new_u", [2 * SHARD + 2])[0].clone()
    });
    marks.push(Mark {
        value: false,
        ..marks_of("e0_u", [2 * SHARD])[0].clone()
    });
    marks.push(Mark {
        value: false,
        ..marks_of("e1_u", [2 * SHARD])[0].clone()
    });
    both(&marks);
    assert_eq!(count(&*store, &set("new_u")).unwrap(), 2);
    check(&store, "marks were made meanwhile");
    // What needs all bitmaps on one node waits, and says for what.
    let quick = open(
        &cluster.url(),
        &Options {
            timeout: Duration::from_millis(300),
            ..Options::default()
        },
    )
    .unwrap();
    let error = unreachable(&quick.save(&sets[0], &key("saved_u")).unwrap_err());
    assert!(error.contains("migrating to another node"), "{error}");
    assert_eq!(count(&*store, &set("saved_u")).unwrap(), 0);
    assert_eq!(store.delete(&[key("new_u"), key("e10_u")]).unwrap(), 2);
    model.delete(&[key("new_u"), key("e10_u")]).unwrap();
    assert_eq!(store.keys("").unwrap().len(), 13);
    both(&marks_of("e10_u", [7, 2 * SHARD + 3]));
    moving.take(&moving.left());
    check(&store, "all of it has moved, but for the slot");
    both(&marks_of("e3_u", [2 * SHARD + 11_000]));
    check(&store, "it was marked there");
    moving.end();
    check(&store, "the slot has moved");
    assert_eq!(
        store.save(&sets[0], &key("saved_u")).unwrap(),
        model.save(&sets[0], &key("saved_u")).unwrap()
    );

    // The node that keys leave forgets that they do, as when its replica takes over: what has gone
    // is nowhere for it.
    let moving = Move::begin(&cluster, "{shard1z}");
    moving.take(&moving.left()[..3]);
    check(&store, "another has moved in part");
    let forgets = |how: &[&str]| {
        cluster.ask::<()>(
            moving.source,
            &[&["CLUSTER", "SETSLOT", &moving.slot], how].concat(),
        );
    };
    forgets(&["STABLE"]);
    for _ in 0..2 {
        let error = unreachable(&quick.count(&plan).unwrap_err());
        assert!(
            error.contains(&format!("whether slot {}", moving.slot))
                && error.contains("cluster fix"),
            "{error}"
        );
        unreachable(&quick.keys("").unwrap_err());
    }
    forgets(&["MIGRATING", &moving.names[&moving.target]]);
    check(&store, "it remembers");
    moving.take(&moving.left());
    moving.end();
    // One that was begun at the other end only, and nothing has moved.
    let moving = Move::begin(&cluster, "{shard3z}");
    cluster.ask::<()>(
        moving.source,
        &["CLUSTER", "SETSLOT", &moving.slot, "STABLE"],
    );
    check(&store, "a move that was given up");

    // Text ids, which are two hashes: the first asked for of nobody, and known then.
    let moving = Move::begin(&cluster, "{ids}");
    assert!(
        !store.describe().unwrap().string_ids,
        "there are none, here or there"
    );
    moving.end();
    assert_eq!(store.string_ids().assign(&["ann", "ben"]).unwrap(), [0, 1]);
    let moving = Move::begin(&cluster, "{ids}");
    for _ in 0..2 {
        moving.take(&moving.left()[..1]);
        assert!(store.describe().unwrap().string_ids);
        assert_eq!(
            store
                .string_ids()
                .numbers(&["ben", "eve"])
                .unwrap()
                .unwrap(),
            [Some(1), None]
        );
        assert_eq!(
            store.string_ids().texts(&[0]).unwrap().unwrap(),
            [Some("ann".to_owned())]
        );
    }
    assert_eq!(store.string_ids().assign(&["eve", "ann"]).unwrap(), [2, 0]);
    moving.end();
    assert_eq!(store.string_ids().next().unwrap(), Some(3));
}

#[test]
fn a_slot_that_moves_under_load_costs_neither_wrong_numbers_nor_marks_nor_errors() {
    let cluster = Cluster::start();
    let [store, other] = [(), ()].map(|()| open(&cluster.url(), &Options::default()).unwrap());
    let (plan, answer) = plan_and_answer(&*store, 8);
    let (stop, right, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (begun, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
    let there = std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for store in [&store, &other] {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match store.count(&plan) {
                        Ok(counts) => {
                            assert_eq!(counts, answer);
                            right.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            println!("{error}");
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    let least = acknowledged.load(Ordering::SeqCst);
                    match count(&**store, &(set("m_u") | set("n_u"))) {
                        Ok(counted) => {
                            let most = begun.load(Ordering::SeqCst);
                            assert!(
                                (least..=most).contains(&counted),
                                "{counted} of {least} to {most}"
                            );
                            right.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            println!("{error}");
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        let marking = scope.spawn(|| {
            let mut marked = BTreeSet::new();
            for n in 0..SHARD / 2 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let user = [2, 7][usize::try_from(n % 2).unwrap()] * SHARD + n;
                let marks = marks_of(if n % 3 == 0 { "m_u" } else { "n_u" }, [user]);
                begun.fetch_add(1, Ordering::SeqCst);
                match other.apply(&marks) {
                    Ok(()) => {
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                        marked.insert(user);
                    }
                    Err(error) => {
                        println!("{error}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            marked
        });
        for _ in 0..3 {
            assert!(eventually(|| right.load(Ordering::Relaxed) > 4));
            right.store(0, Ordering::Relaxed);
            let moving = Move::begin(&cluster, "{shard2z}");
            for key in moving.left() {
                moving.take(&[key]);
                std::thread::sleep(Duration::from_millis(20));
            }
            moving.take(&moving.left());
            moving.end();
        }
        // And as it is done: redis-cli moves the first 265 slots of a node, that of shard 7 last.
        right.store(0, Ordering::Relaxed);
        let any = cluster.ports()[0];
        let (names, from) = (cluster.primaries(any), cluster.owner("{shard7z}", any));
        let to = names.keys().find(|port| **port != from).unwrap();
        let ends = ["--cluster-from", &names[&from], "--cluster-to", &names[to]];
        let resharding = std::process::Command::new("redis-cli")
            .args([
                "--cluster",
                "reshard",
                &format!("127.0.0.1:{any}"),
                "--cluster-slots",
                "265",
                "--cluster-yes",
            ])
            .args(ends)
            .output()
            .unwrap();
        assert!(
            resharding.status.success(),
            "{}",
            String::from_utf8_lossy(&resharding.stdout)
        );
        assert_eq!(cluster.owner("{shard7z}", *to), *to);
        let seen = right.load(Ordering::Relaxed);
        assert!(eventually(|| right.load(Ordering::Relaxed) > seen + 4));
        stop.store(true, Ordering::Relaxed);
        marking.join().unwrap()
    });
    let found: BTreeSet<UserId> = other
        .members(&(set("m_u") | set("n_u")), None, usize::MAX)
        .unwrap()
        .into_iter()
        .collect();
    let (right, failed) = (right.into_inner(), failed.into_inner());
    println!(
        "{} marks acknowledged, {right} counts during redis-cli's, {failed} errors in four moves",
        there.len()
    );
    assert!(
        there.is_subset(&found) && there.len() > 20,
        "{:?}",
        there.difference(&found)
    );
    assert_eq!(failed, 0);
}
