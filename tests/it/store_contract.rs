//! What every store promises. [`contract`] makes the tests for one kind of store, which get a new
//! and empty store from each call of the function they are given.

use std::collections::BTreeSet;
use std::sync::Arc;

use cohortist::sets::{EventName, Key, Node, Plan, Set, UserId};
use cohortist::store::{Mark, Saved, Store, StoreError};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::support::model::{Model, key, marks, marks_of, set, sets};

/// An opened store, with whatever must live as long as it: a server, a directory.
pub type Opened = (Arc<dyn Store>, Box<dyn std::any::Any>);

/// The tests for one kind of store: `contract!(redis, || open());` makes a module of them.
/// `contract!(small …)` leaves out those with bitmaps of half a gigabyte.
macro_rules! contract {
    (small $name:ident, $open:expr) => {
        mod $name {
            $crate::store_contract::contract!(@each $open;
                marks_are_found_again clearing_leaves_an_empty_bitmap an_unknown_bitmap_is_empty the_last_mark_wins
                empty_batches_are_fine counts_follow_the_algebra a_difference_keeps_users_beyond_the_end
                a_complement_ends_with_the_bitmap shared_nodes_are_counted_right members_come_in_pages
                members_of_expressions_come_in_pages keys_are_listed_by_the_beginning_of_names
                strange_names_are_names_like_others deleting_says_how_many sweeping_leaves_bitmaps_alone
                a_store_describes_itself batches_come_whole random_sets_are_as_in_the_model
                random_marks_are_as_in_the_model random_runs_are_as_in_the_model a_saved_set_is_a_bitmap_like_others saving_overwrites_nothing
                one_of_many_savers_wins saved_sets_are_as_in_the_model
                what_changes_a_listing_changes_its_version many_bitmaps_are_looked_into_at_once);
        }
    };
    ($name:ident, $open:expr) => {
        mod $name {
            $crate::store_contract::contract!(small small, $open);
            $crate::store_contract::contract!(@each $open; the_greatest_id_is_a_user);
        }
    };
    (@each $open:expr; $($test:ident)*) => {
        $(#[test] fn $test() { $crate::store_contract::$test(&$open); })*
    };
}
pub(crate) use contract;

type Open<'a> = &'a dyn Fn() -> Opened;

fn count(store: &dyn Store, set: &Set) -> u64 {
    let mut plan = Plan::new();
    plan.count_set(set).unwrap();
    store.count(&plan).unwrap()[0]
}

/// Whether a store evaluates complements; a cluster refuses them.
fn takes_complements(store: &dyn Store) -> bool {
    let mut plan = Plan::new();
    plan.count_set(&!Set::Empty).unwrap();
    !matches!(store.count(&plan), Err(StoreError::Unsupported(_)))
}

fn has_complement(set: &Set) -> bool {
    let mut plan = Plan::new();
    plan.count_set(set).unwrap();
    plan.nodes().iter().any(|node| matches!(node, Node::Not(_)))
}

/// Those of the sets that a store evaluates.
fn taken(store: &dyn Store, mut sets: Vec<Set>) -> Vec<Set> {
    if !takes_complements(store) {
        sets.retain(|set| !has_complement(set));
    }
    sets
}

fn all(store: &dyn Store, set: &Set) -> Vec<UserId> {
    store.members(set, None, usize::MAX).unwrap()
}

fn names(keys: &[Key]) -> BTreeSet<String> {
    assert_eq!(
        keys.iter().collect::<BTreeSet<_>>().len(),
        keys.len(),
        "no key twice"
    );
    keys.iter().map(Key::to_string).collect()
}

pub fn marks_are_found_again(open: Open) {
    let (store, _guard) = open();
    let (day, week) = (key("active_2026-11-3"), key("active_W2026-45"));
    store
        .apply(
            &[
                marks_of("active_2026-11-3", [7, 9]),
                marks_of("active_W2026-45", [7]),
            ]
            .concat(),
        )
        .unwrap();
    assert_eq!(
        store.contains(&[day.clone(), week.clone()], 7).unwrap(),
        [true, true]
    );
    assert_eq!(
        store.contains(&[week, day.clone(), day], 9).unwrap(),
        [false, true, true]
    );
    assert_eq!(all(&*store, &set("active_2026-11-3")), [7, 9]);
    assert_eq!(count(&*store, &set("active_2026-11-3")), 2);
}

pub fn clearing_leaves_an_empty_bitmap(open: Open) {
    let (store, _guard) = open();
    store.apply(&marks_of("a_u", [7])).unwrap();
    store
        .apply(&[Mark {
            key: key("a_u"),
            user: 7,
            value: false,
        }])
        .unwrap();
    store
        .apply(&[Mark {
            key: key("b_u"),
            user: 20,
            value: false,
        }])
        .unwrap();
    assert_eq!(store.contains(&[key("a_u")], 7).unwrap(), [false]);
    assert_eq!(count(&*store, &(set("a_u") | set("b_u"))), 0);
    assert_eq!(
        names(&store.keys("").unwrap()),
        ["a_u", "b_u"].map(String::from).into()
    );
    if takes_complements(&*store) {
        assert_eq!(count(&*store, &!set("b_u")), 24);
    }
}

pub fn an_unknown_bitmap_is_empty(open: Open) {
    let (store, _guard) = open();
    store.apply(&marks_of("a_u", [1, 2])).unwrap();
    let gone = set("gone_u");
    assert_eq!(store.contains(&[key("gone_u")], 1).unwrap(), [false]);
    assert!(all(&*store, &gone).is_empty());
    for (set, users) in [
        (gone.clone(), 0),
        (!gone.clone(), 0),
        (gone.clone() & set("a_u"), 0),
        (gone.clone() | set("a_u"), 2),
        (gone.clone() ^ set("a_u"), 2),
        (gone.clone() - set("a_u"), 0),
        (set("a_u") - gone, 2),
    ] {
        if takes_complements(&*store) || !has_complement(&set) {
            assert_eq!(count(&*store, &set), users, "{set:?}");
        }
    }
}

pub fn the_last_mark_wins(open: Open) {
    let (store, _guard) = open();
    let mark = |value| Mark {
        key: key("a_u"),
        user: 5,
        value,
    };
    store.apply(&[mark(true), mark(false), mark(true)]).unwrap();
    assert_eq!(all(&*store, &set("a_u")), [5]);
    store
        .apply(&[mark(false), mark(true), mark(false)])
        .unwrap();
    assert!(all(&*store, &set("a_u")).is_empty());
}

pub fn empty_batches_are_fine(open: Open) {
    let (store, _guard) = open();
    store.apply(&[]).unwrap();
    assert!(store.count(&Plan::new()).unwrap().is_empty());
    assert!(store.contains(&[], 1).unwrap().is_empty());
    assert_eq!(store.delete(&[]).unwrap(), 0);
    assert!(store.keys("").unwrap().is_empty());
    assert_eq!(store.sweep().unwrap(), 0);
    assert!(all(&*store, &Set::Empty).is_empty());
    let mut plan = Plan::new();
    let nobody = plan.empty();
    plan.count(nobody);
    plan.count_set(&Set::And(vec![])).unwrap();
    assert_eq!(store.count(&plan).unwrap(), [0, 0]);
}

pub fn the_greatest_id_is_a_user(open: Open) {
    let (store, _guard) = open();
    let top = UserId::MAX;
    // One such bitmap only: it takes half a gigabyte in Redis.
    store
        .apply(&marks_of("a_u", [0, 65_535, 65_536, top - 9, top - 1, top]))
        .unwrap();
    store.apply(&marks_of("b_u", [0, 9])).unwrap();
    assert_eq!(
        store.contains(&[key("a_u"), key("b_u")], top).unwrap(),
        [true, false]
    );
    assert_eq!(
        store.contains(&[key("a_u"), key("b_u")], top - 2).unwrap(),
        [false, false]
    );
    assert_eq!(
        store.members(&set("a_u"), Some(65_536), 10).unwrap(),
        [top - 9, top - 1, top]
    );
    assert_eq!(
        store.members(&set("a_u"), Some(top - 1), 10).unwrap(),
        [top]
    );
    assert!(
        store
            .members(&set("a_u"), Some(top), 10)
            .unwrap()
            .is_empty()
    );
    assert_eq!(count(&*store, &(set("a_u") ^ set("b_u"))), 6);
    assert_eq!(
        store
            .members(&(set("a_u") | set("b_u")), Some(9), 9)
            .unwrap(),
        [65_535, 65_536, top - 9, top - 1, top]
    );
}

pub fn counts_follow_the_algebra(open: Open) {
    let (store, _guard) = open();
    store.apply(&marks_of("a_2026-11", 0..1000)).unwrap();
    store.apply(&marks_of("b_2026-11", 500..1500)).unwrap();
    store.apply(&marks_of("c_u", (0..3000).step_by(2))).unwrap();
    let (a, b, c) = (set("a_2026-11"), set("b_2026-11"), set("c_u"));
    let mut plan = Plan::new();
    for expression in [
        a.clone() & b.clone(),
        a.clone() | b.clone(),
        a.clone() ^ b.clone(),
        a.clone() - b.clone(),
        b.clone() - a.clone(),
        a.clone() & b.clone() & c.clone(),
        (a.clone() | b.clone()) & c.clone(),
        (a.clone() | b.clone()) - c.clone(),
        a.clone() ^ b ^ c,
        a,
    ] {
        plan.count_set(&expression).unwrap();
    }
    assert_eq!(
        store.count(&plan).unwrap(),
        [500, 1500, 1000, 500, 500, 250, 750, 750, 1500, 1000]
    );
}

pub fn a_difference_keeps_users_beyond_the_end(open: Open) {
    let (store, _guard) = open();
    store.apply(&marks_of("long_u", [1, 100_000])).unwrap();
    store.apply(&marks_of("short_u", [1, 2])).unwrap();
    assert_eq!(all(&*store, &(set("long_u") - set("short_u"))), [100_000]);
    assert_eq!(all(&*store, &(set("short_u") - set("long_u"))), [2]);
    assert_eq!(count(&*store, &(set("long_u") - set("short_u"))), 1);
}

pub fn a_complement_ends_with_the_bitmap(open: Open) {
    let (store, _guard) = open();
    store.apply(&marks_of("a_u", [1, 9])).unwrap();
    store.apply(&marks_of("long_u", [799])).unwrap();
    if !takes_complements(&*store) {
        return complements_are_refused(&*store);
    }
    assert_eq!(count(&*store, &!set("a_u")), 14);
    assert_eq!(
        all(&*store, &!set("a_u")),
        [0, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15]
    );
    assert_eq!(all(&*store, &!!set("a_u")), [1, 9]);
    assert_eq!(count(&*store, &!(set("a_u") & set("long_u"))), 800);
    assert_eq!(count(&*store, &!(set("a_u") & set("gone_u"))), 16);
    assert_eq!(count(&*store, &!(set("gone_u") - set("a_u"))), 16);
}

/// A store that does not evaluate complements says so, and saves nothing.
fn complements_are_refused(store: &dyn Store) {
    for refused in [!set("a_u"), set("long_u") & !(set("a_u") | set("gone_u"))] {
        let mut plan = Plan::new();
        plan.count_set(&set("a_u")).unwrap();
        plan.count_set(&refused).unwrap();
        let errors = [
            store.count(&plan).unwrap_err(),
            store.members(&refused, None, 10).unwrap_err(),
            store.save(&refused, &key("new_u")).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, StoreError::Unsupported(_)), "{error}");
        }
    }
    assert_eq!(
        names(&store.keys("").unwrap()),
        ["a_u", "long_u"].map(String::from).into()
    );
}

pub fn shared_nodes_are_counted_right(open: Open) {
    let (store, _guard) = open();
    // As in a report of those who came "on or after": unions that grow, each met with every cohort.
    let mut model = Model::default();
    let days: Vec<String> = (1..=20).map(|day| format!("a_2026-11-{day}")).collect();
    for (day, text) in (1..).zip(&days) {
        let marks = marks_of(text, (0..2000).filter(|user| user % (day + 1) == 0));
        store.apply(&marks).unwrap();
        model.apply(&marks);
    }
    let mut plan = Plan::new();
    let keys: Vec<_> = days
        .iter()
        .map(|text| plan.add(&set(text)).unwrap())
        .collect();
    for cohort in &keys {
        let mut later = plan.empty();
        for day in keys.iter().rev() {
            later = plan.or([later, *day]);
            let retained = plan.and([*cohort, later]);
            plan.count(retained);
            plan.count(later);
            plan.count(*cohort);
        }
    }
    assert_eq!(store.count(&plan).unwrap(), model.count(&plan));
}

fn pages(store: &dyn Store, set: &Set, limit: usize) -> Vec<UserId> {
    let (mut users, mut after) = (Vec::new(), None);
    loop {
        let page = store.members(set, after, limit).unwrap();
        assert!(page.len() <= limit);
        let Some(last) = page.last() else {
            return users;
        };
        after = Some(*last);
        users.extend(page);
    }
}

pub fn members_come_in_pages(open: Open) {
    let (store, _guard) = open();
    let users: Vec<UserId> = (0..400).map(|i| i * i * 7).collect();
    store
        .apply(&marks_of("a_u", users.iter().copied()))
        .unwrap();
    let a = set("a_u");
    assert!(store.members(&a, None, 0).unwrap().is_empty());
    assert_eq!(all(&*store, &a), users);
    for limit in [1, 7, 399, 400, 401] {
        assert_eq!(pages(&*store, &a, limit), users, "pages of {limit}");
    }
    assert_eq!(store.members(&a, Some(7), 2).unwrap(), [28, 63]);
    assert_eq!(store.members(&a, Some(8), 1).unwrap(), [28]);
}

pub fn members_of_expressions_come_in_pages(open: Open) {
    let (store, _guard) = open();
    store.apply(&marks_of("dense_u", 70_000..90_000)).unwrap();
    store
        .apply(&marks_of("sparse_u", (0..200_000).step_by(333)))
        .unwrap();
    let expected: Vec<UserId> = (0..200_000)
        .step_by(333)
        .filter(|u| (70_000..90_000).contains(u))
        .collect();
    assert_eq!(
        pages(&*store, &(set("dense_u") & set("sparse_u")), 25),
        expected
    );
    assert_eq!(
        all(&*store, &(set("dense_u") - set("sparse_u"))).len(),
        20_000 - expected.len()
    );
    assert_eq!(
        pages(&*store, &(set("dense_u") | set("gone_u")), 7000).len(),
        20_000
    );
}

pub fn keys_are_listed_by_the_beginning_of_names(open: Open) {
    let (store, _guard) = open();
    for text in [
        "song:played_2026-11-3",
        "song:played_W2026-45",
        "song_u",
        "songs_2026-11",
        "so_2026-1-1-5",
        "other_u",
    ] {
        store.apply(&marks_of(text, [1])).unwrap();
    }
    let listed = |start: &str| names(&store.keys(start).unwrap());
    assert_eq!(listed("").len(), 6);
    assert_eq!(
        listed("song:"),
        ["song:played_2026-11-3", "song:played_W2026-45"]
            .map(String::from)
            .into()
    );
    assert_eq!(listed("song").len(), 4);
    assert_eq!(listed("so").len(), 5);
    assert_eq!(
        listed("song_u"),
        BTreeSet::new(),
        "the beginning of a name, not of a key"
    );
    assert_eq!(listed("x"), BTreeSet::new());
}

pub fn strange_names_are_names_like_others(open: Open) {
    let (store, _guard) = open();
    let strange = [
        "*",
        "?",
        "[a-z]",
        "a|b",
        "a\\b",
        "^",
        "🎵 played",
        "<script>alert(1)</script>",
        "x_2026-1",
        "x_2026-1-1",
        "u",
        "_",
        "a_u",
        "'; --",
        "{tag}",
        "naïve",
        "a b",
        "]",
        "[",
        "-",
        "bitop",
        "\\*",
    ];
    for (user, name) in (1..).zip(strange) {
        let event = EventName::new(name).unwrap();
        store
            .apply(&[Mark {
                key: Key::ever(event),
                user,
                value: true,
            }])
            .unwrap();
    }
    let listed = store.keys("").unwrap();
    assert_eq!(names(&listed).len(), strange.len());
    for (user, name) in (1..).zip(strange) {
        let key = Key::ever(EventName::new(name).unwrap());
        assert!(listed.contains(&key), "{name}");
        assert_eq!(all(&*store, &Set::Key(key.clone())), [user], "{name}");
        let expected: BTreeSet<String> = strange
            .iter()
            .filter(|other| other.starts_with(name))
            .map(|other| format!("{other}_u"))
            .collect();
        assert_eq!(
            names(&store.keys(name).unwrap()),
            expected,
            "names that begin with {name}"
        );
    }
    assert_eq!(
        store
            .delete(&[Key::ever(EventName::new("*").unwrap())])
            .unwrap(),
        1
    );
    assert_eq!(store.keys("").unwrap().len(), strange.len() - 1);
}

pub fn deleting_says_how_many(open: Open) {
    let (store, _guard) = open();
    store
        .apply(
            &[
                marks_of("a_u", [1]),
                marks_of("b_u", [2]),
                marks_of("c_u", [3]),
            ]
            .concat(),
        )
        .unwrap();
    assert_eq!(
        store
            .delete(&[key("a_u"), key("gone_u"), key("b_u"), key("a_u")])
            .unwrap(),
        2
    );
    assert_eq!(names(&store.keys("").unwrap()), ["c_u".to_owned()].into());
    assert_eq!(count(&*store, &(set("a_u") | set("c_u"))), 1);
    assert_eq!(store.delete(&[key("a_u")]).unwrap(), 0);
    store.apply(&marks_of("a_u", [8])).unwrap();
    assert_eq!(
        all(&*store, &set("a_u")),
        [8],
        "nothing of a deleted bitmap comes back"
    );
    if takes_complements(&*store) {
        assert_eq!(count(&*store, &!set("b_u")), 0);
    }
}

pub fn sweeping_leaves_bitmaps_alone(open: Open) {
    let (store, _guard) = open();
    // An event may be called `bitop`, and then its keys begin as temporary ones do.
    let texts = ["a_u", "x_bitop_u", "bitop_u", "bitop_2026-11-3"];
    texts
        .iter()
        .for_each(|text| store.apply(&marks_of(text, [4])).unwrap());
    assert_eq!(store.sweep().unwrap(), 0);
    assert_eq!(
        names(&store.keys("").unwrap()),
        texts.map(String::from).into()
    );
}

pub fn a_store_describes_itself(open: Open) {
    let (store, _guard) = open();
    let info = store.describe().unwrap();
    assert!(
        !info.kind.is_empty() && !info.location.is_empty(),
        "{info:?}"
    );
}

/// A reader never sees part of a batch.
pub fn batches_come_whole(open: Open) {
    let (store, _guard) = open();
    let both = |value| {
        ["a_u", "b_u"].map(|text| Mark {
            key: key(text),
            user: 77,
            value,
        })
    };
    store.apply(&both(true)).unwrap();
    let mut plan = Plan::new();
    plan.count_set(&(set("a_u") ^ set("b_u"))).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 0..300 {
                store.apply(&both(i % 2 == 0)).unwrap();
            }
        });
        while !writer.is_finished() {
            assert_eq!(store.count(&plan).unwrap(), [0]);
        }
    });
}

/// Few cases, as each opens a store, but with many sets each.
fn cases(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

pub fn random_sets_are_as_in_the_model(open: Open) {
    let sets = prop::collection::vec(sets(), 1..12);
    cases(24)
        .run(&(marks(), sets), |(marks, sets)| {
            let (store, _guard) = open();
            let sets = taken(&*store, sets);
            let mut model = Model::default();
            model.apply(&marks);
            store.apply(&marks).unwrap();
            let mut plan = Plan::new();
            sets.iter().for_each(|set| {
                plan.count_set(set).unwrap();
            });
            let expected: Vec<u64> = sets
                .iter()
                .map(|set| model.evaluate(set).users.len() as u64)
                .collect();
            prop_assert_eq!(&store.count(&plan).unwrap(), &expected);
            prop_assert_eq!(model.count(&plan), expected);
            for set in &sets {
                let users: Vec<UserId> = model.evaluate(set).users.into_iter().collect();
                prop_assert_eq!(all(&*store, set), &users[..]);
                if let Some(middle) = users.get(users.len() / 2) {
                    let page = store.members(set, Some(*middle), 3).unwrap();
                    prop_assert_eq!(
                        page,
                        users
                            .iter()
                            .copied()
                            .filter(|u| u > middle)
                            .take(3)
                            .collect::<Vec<_>>()
                    );
                }
            }
            Ok(())
        })
        .unwrap();
}

pub fn random_marks_are_as_in_the_model(open: Open) {
    cases(16)
        .run(&prop::collection::vec(marks(), 1..5), |batches| {
            let (store, _guard) = open();
            let mut model = Model::default();
            for batch in &batches {
                model.apply(batch);
                store.apply(batch).unwrap();
            }
            prop_assert_eq!(names(&store.keys("").unwrap()), model.keys());
            for text in model.keys() {
                let bits = model.evaluate(&set(&text));
                prop_assert_eq!(
                    all(&*store, &set(&text)),
                    bits.users.iter().copied().collect::<Vec<_>>()
                );
                prop_assert_eq!(count(&*store, &set(&text)), bits.users.len() as u64);
                for mark in batches.iter().flatten().take(20) {
                    let found = store.contains(&[key(&text)], mark.user).unwrap();
                    prop_assert_eq!(found, [bits.users.contains(&mark.user)]);
                }
            }
            Ok(())
        })
        .unwrap();
}

pub fn random_runs_are_as_in_the_model(open: Open) {
    let (store, _guard) = open();
    let has_complements = takes_complements(&*store);
    let mut model = Model::default();
    // Few and many in a tile, at its border, and some more where there are some; now and then in no
    // order, or nobody.
    let users = prop_oneof![
        4 => prop::collection::btree_set(65_000_u32..66_000, 0..40).prop_map(|users| users.into_iter().collect::<Vec<_>>()),
        2 => (0_u32..140_000, 1_u32..2000, 1_usize..90)
            .prop_map(|(from, count, step)| (from..from + count).step_by(step).collect()),
        1 => prop::collection::vec(0_u32..200_000, 0..20),
    ];
    let batches = prop::collection::vec(
        (
            prop::sample::select(vec!["a_u", "a_2026-11-3", "b_2026-11"]),
            users,
        ),
        0..5,
    );
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    for _ in 0..60 {
        let batch = batches.new_tree(&mut runner).unwrap().current();
        let keys: Vec<Key> = batch.iter().map(|(text, _)| key(text)).collect();
        let runs: Vec<(&Key, &[UserId])> = keys
            .iter()
            .zip(&batch)
            .map(|(key, (_, users))| (key, &users[..]))
            .collect();
        store.add(&runs).unwrap();
        batch
            .iter()
            .for_each(|(text, users)| model.apply(&marks_of(text, users.iter().copied())));
        // What was put in goes again like any other, one tile emptied.
        let gone = marks_of("a_u", 65_536..65_600)
            .into_iter()
            .map(|mark| Mark {
                value: false,
                ..mark
            });
        let gone: Vec<Mark> = gone.filter(|_| batch.len() == 4).collect();
        store.apply(&gone).unwrap();
        model.apply(&gone);
        assert_eq!(names(&store.keys("").unwrap()), model.keys());
        for text in model.keys() {
            let bits = model.evaluate(&set(&text));
            assert_eq!(
                count(&*store, &set(&text)),
                bits.users.len() as u64,
                "{text}"
            );
            if has_complements {
                assert_eq!(
                    count(&*store, &!set(&text)),
                    bits.bytes * 8 - bits.users.len() as u64,
                    "{text}"
                );
            }
            assert_eq!(
                all(&*store, &set(&text)),
                bits.users.into_iter().collect::<Vec<_>>(),
                "{text}"
            );
        }
    }
}

pub fn a_saved_set_is_a_bitmap_like_others(open: Open) {
    let (store, _guard) = open();
    store.apply(&marks_of("dense_u", 60_000..140_000)).unwrap();
    store
        .apply(&marks_of("sparse_u", (0..200_000).step_by(333)))
        .unwrap();
    let of = |set: &Set, text: &str| {
        let expected = all(&*store, set);
        assert_eq!(
            store.save(set, &key(text)).unwrap(),
            Saved::People(expected.len() as u64),
            "{text}"
        );
        expected
    };
    let both = of(&(set("dense_u") & set("sparse_u")), "both_u");
    let copy = of(&set("dense_u"), "copy_2026-11-3");
    let rest = of(&(set("dense_u") - set("both_u")), "rest_u");
    // What it was made from may change, and so may it.
    store
        .apply(&[Mark {
            key: key("dense_u"),
            user: 60_000,
            value: false,
        }])
        .unwrap();
    store
        .apply(&[marks_of("both_u", [7]), marks_of("rest_u", [3_000_000])].concat())
        .unwrap();
    assert_eq!(all(&*store, &set("both_u")), [&[7], &both[..]].concat());
    assert_eq!(all(&*store, &set("copy_2026-11-3")), copy);
    assert_eq!(
        all(&*store, &set("rest_u")),
        [&rest[..], &[3_000_000]].concat()
    );
    assert_eq!(
        store
            .contains(&[key("rest_u"), key("both_u")], rest[0])
            .unwrap(),
        [true, false]
    );
    let listed = names(&store.keys("").unwrap());
    assert_eq!(
        listed,
        ["dense_u", "sparse_u", "both_u", "copy_2026-11-3", "rest_u"]
            .map(String::from)
            .into()
    );
    assert_eq!(store.delete(&[key("rest_u")]).unwrap(), 1);
    assert_eq!(
        store.save(&set("sparse_u"), &key("rest_u")).unwrap(),
        Saved::People(601)
    );
    assert_eq!(
        all(&*store, &set("rest_u")),
        all(&*store, &set("sparse_u")),
        "nothing of the deleted one comes back"
    );
    assert_eq!(store.sweep().unwrap(), 0);
}

pub fn saving_overwrites_nothing(open: Open) {
    let (store, _guard) = open();
    store
        .apply(&[marks_of("a_u", [1, 2, 3]), marks_of("b_u", [9])].concat())
        .unwrap();
    store
        .apply(&[Mark {
            key: key("cleared_u"),
            user: 20,
            value: false,
        }])
        .unwrap();
    for taken in ["a_u", "b_u", "cleared_u"] {
        let before = all(&*store, &set(taken));
        for of in [
            set("a_u"),
            set("a_u") | set("b_u"),
            set("gone_u"),
            Set::Empty,
        ] {
            assert_eq!(
                store.save(&of, &key(taken)).unwrap(),
                Saved::Taken,
                "{taken}: {of:?}"
            );
        }
        assert_eq!(all(&*store, &set(taken)), before);
    }
    let nobody = [
        Set::Empty,
        set("gone_u"),
        set("cleared_u"),
        set("a_u") & set("b_u"),
        set("new_u"),
        !set("gone_u"),
    ];
    for nobody in taken(&*store, nobody.into()) {
        assert_eq!(
            store.save(&nobody, &key("new_u")).unwrap(),
            Saved::Nobody,
            "{nobody:?}"
        );
    }
    assert_eq!(
        names(&store.keys("").unwrap()),
        ["a_u", "b_u", "cleared_u"].map(String::from).into()
    );
    assert_eq!(
        store
            .save(&(set("new_u") | set("b_u")), &key("new_u"))
            .unwrap(),
        Saved::People(1),
        "of itself"
    );
}

pub fn one_of_many_savers_wins(open: Open) {
    let (store, _guard) = open();
    for n in 0..4_u32 {
        store
            .apply(&marks_of(
                &format!("s{n}_u"),
                (0..1000 * (n + 1)).step_by(n as usize + 1),
            ))
            .unwrap();
    }
    for round in 0..12 {
        let target = format!("t{round}_u");
        let outcomes: Vec<Saved> = std::thread::scope(|scope| {
            let save = |n: usize| {
                let (store, target) = (&store, &target);
                scope.spawn(move || {
                    store
                        .save(&(set(&format!("s{n}_u")) | set("gone_u")), &key(target))
                        .unwrap()
                })
            };
            let savers: Vec<_> = (0..4).map(save).collect();
            savers
                .into_iter()
                .map(|saver| saver.join().unwrap())
                .collect()
        });
        let winners: Vec<usize> = (0..4)
            .filter(|n| outcomes[*n] == Saved::People(1000))
            .collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert_eq!(
            outcomes.iter().filter(|o| **o == Saved::Taken).count(),
            3,
            "{outcomes:?}"
        );
        assert_eq!(
            all(&*store, &set(&target)),
            all(&*store, &set(&format!("s{}_u", winners[0])))
        );
    }
}

pub fn saved_sets_are_as_in_the_model(open: Open) {
    cases(16)
        .run(
            &(marks(), prop::collection::vec(sets(), 1..8), marks()),
            |(before, sets, after)| {
                let (store, _guard) = open();
                let sets = taken(&*store, sets);
                let mut model = Model::default();
                model.apply(&before);
                store.apply(&before).unwrap();
                let mut saved = Vec::new();
                for (n, of) in sets.iter().enumerate() {
                    let (target, users) = (format!("saved{n}_u"), model.evaluate(of).users);
                    let expected = if users.is_empty() {
                        Saved::Nobody
                    } else {
                        Saved::People(users.len() as u64)
                    };
                    prop_assert_eq!(store.save(of, &key(&target)).unwrap(), expected, "{:?}", of);
                    saved.push((target, users));
                }
                store.apply(&after).unwrap();
                model.apply(&after);
                let mut there = model.keys();
                there.extend(
                    saved
                        .iter()
                        .filter(|(_, users)| !users.is_empty())
                        .map(|(target, _)| target.clone()),
                );
                prop_assert_eq!(names(&store.keys("").unwrap()), there);
                for (target, users) in saved {
                    prop_assert_eq!(count(&*store, &set(&target)), users.len() as u64);
                    prop_assert_eq!(
                        all(&*store, &set(&target)),
                        users.into_iter().collect::<Vec<_>>()
                    );
                }
                Ok(())
            },
        )
        .unwrap();
}

pub fn what_changes_a_listing_changes_its_version(open: Open) {
    let (store, _guard) = open();
    let operations: [(&str, &dyn Fn(), bool); 9] = [
        (
            "a new bitmap",
            &|| store.apply(&marks_of("a_u", [1, 2])).unwrap(),
            true,
        ),
        (
            "one more user in it",
            &|| store.apply(&marks_of("a_u", [70_000])).unwrap(),
            false,
        ),
        (
            "one fewer",
            &|| {
                store
                    .apply(&[Mark {
                        key: key("a_u"),
                        user: 1,
                        value: false,
                    }])
                    .unwrap()
            },
            false,
        ),
        (
            "two more bitmaps",
            &|| {
                store
                    .apply(&[marks_of("b_u", [1]), marks_of("c_u", [1])].concat())
                    .unwrap()
            },
            true,
        ),
        (
            "a saved set",
            &|| {
                assert_eq!(
                    store.save(&set("a_u"), &key("d_u")).unwrap(),
                    Saved::People(2)
                )
            },
            true,
        ),
        (
            "a taken name",
            &|| assert_eq!(store.save(&set("b_u"), &key("d_u")).unwrap(), Saved::Taken),
            false,
        ),
        (
            "a deletion",
            &|| assert_eq!(store.delete(&[key("b_u")]).unwrap(), 1),
            true,
        ),
        (
            "of what is not there",
            &|| assert_eq!(store.delete(&[key("b_u")]).unwrap(), 0),
            false,
        ),
        (
            "made again",
            &|| store.apply(&marks_of("b_u", [1])).unwrap(),
            true,
        ),
    ];
    let mut seen = vec![store.keys_version()];
    for (what, perform, changes) in operations {
        perform();
        let version = store.keys_version();
        assert_eq!(version.is_some(), seen[0].is_some());
        if changes && version.is_some() {
            assert!(!seen.contains(&version), "{what}: {version:?} of {seen:?}");
        }
        seen.push(version);
    }
}

pub fn many_bitmaps_are_looked_into_at_once(open: Open) {
    let (store, _guard) = open();
    // More than one trip or one thread takes, every third of them missing.
    let texts: Vec<String> = (0..9000)
        .map(|n| {
            format!(
                "e{}_{}-{}-{}",
                n % 7,
                2000 + n / 300,
                n % 12 + 1,
                n % 28 + 1
            )
        })
        .collect();
    let keys: Vec<Key> = texts.iter().map(|text| key(text)).collect();
    let there: BTreeSet<&Key> = keys
        .iter()
        .enumerate()
        .filter(|(n, _)| n % 3 > 0)
        .map(|(_, key)| key)
        .collect();
    let marks: Vec<Mark> = there
        .iter()
        .enumerate()
        .map(|(n, key)| Mark {
            key: (*key).clone(),
            user: n as u32 % 2 * 70_000,
            value: true,
        })
        .collect();
    store.apply(&marks).unwrap();
    for user in [0, 70_000, 5] {
        let holding: BTreeSet<&Key> = marks
            .iter()
            .filter(|mark| mark.user == user)
            .map(|mark| &mark.key)
            .collect();
        let expected: Vec<bool> = keys.iter().map(|key| holding.contains(key)).collect();
        assert_eq!(store.contains(&keys, user).unwrap(), expected, "{user}");
    }
}
