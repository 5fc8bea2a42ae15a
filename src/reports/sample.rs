//! A small table for the tests of this module, computed with plain sets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::calendar::{Grain, parse_moment};
use crate::reports::coverage::Coverage;
use crate::reports::retention::{Query, Table};
use crate::reports::{Context, answer_with};
use crate::sets::{Catalogue, EventName, Key, Labels, Node, Plan, Segments};

/// Users 1–4 sign up on 20 November, 5–6 on the 21st, none on the 22nd, 7–9 on the 23rd, which is
/// running. Long before, on 28 October, users 1 and 2 did `early`. User 1 is there every day, 2 on
/// the first and third, 5 on the day of signing up, 7 on the 23rd.
pub fn table() -> Table {
    with(Query {
        rows: Some(4),
        cols: Some(4),
        ..Query::new(event("signup"), event("active"), Grain::Day)
    })
}

/// Returns the answer to another question about the same users, at 14:05 on 23 November 2026.
pub fn with(query: Query) -> Table {
    as_of(
        query,
        parse_moment("2026-11-23T14:05:00Z").unwrap(),
        &marks(),
    )
}

/// Returns the answer about the same users after their data has ended.
pub fn ended(query: Query, now: &str) -> Table {
    as_of(query, parse_moment(now).unwrap(), &marks())
}

fn marks() -> BTreeMap<Key, BTreeSet<u32>> {
    let signups = [
        ("2026-11-20", vec![1, 2, 3, 4]),
        ("2026-11-21", vec![5, 6]),
        ("2026-11-23", vec![7, 8, 9]),
    ];
    let actives = [
        ("2026-11-20", vec![1, 2]),
        ("2026-11-21", vec![1, 5]),
        ("2026-11-22", vec![1, 2]),
        ("2026-11-23", vec![1, 7]),
    ];
    let mut keys: BTreeMap<Key, BTreeSet<u32>> = BTreeMap::new();
    let early = [("2026-10-28", vec![1, 2])];
    for (name, days) in [
        ("signup", &signups[..]),
        ("active", &actives[..]),
        ("early", &early[..]),
    ] {
        for (day, users) in days {
            let moment = parse_moment(day).unwrap();
            for key in Key::of_mark(&EventName::new(name).unwrap(), moment, true).unwrap() {
                keys.entry(key).or_default().extend(users);
            }
        }
    }
    keys
}

fn as_of(query: Query, now: DateTime<Utc>, keys: &BTreeMap<Key, BTreeSet<u32>>) -> Table {
    let all = Arc::new(Catalogue::new(keys.keys().cloned().collect()));
    let context = Context {
        coverage: &Coverage::of(all.keys(), now, false).unwrap(),
        catalogue: &all,
        segments: &Segments::default(),
        labels: &Labels::new(),
        hidden: &[],
    };
    answer_with(&query, &context, |plan| count(plan, keys)).unwrap()
}

fn event(name: &str) -> crate::sets::Segment {
    name.parse().unwrap()
}

fn count(plan: &Plan, keys: &BTreeMap<Key, BTreeSet<u32>>) -> Vec<u64> {
    let mut sets: Vec<BTreeSet<u32>> = Vec::new();
    for node in plan.nodes() {
        let operands: Vec<&BTreeSet<u32>> =
            node.operands().iter().map(|id| &sets[id.index()]).collect();
        let set = match node {
            Node::Key(key) => keys.get(key).cloned().unwrap_or_default(),
            Node::And(_) => operands[1..]
                .iter()
                .fold(operands[0].clone(), |a, b| &a & b),
            Node::Or(_) => operands.iter().fold(BTreeSet::new(), |a, b| &a | b),
            Node::Diff(_) => operands[0] - operands[1],
            Node::Empty | Node::Xor(_) | Node::Not(_) => BTreeSet::new(),
        };
        sets.push(set);
    }
    plan.roots()
        .iter()
        .map(|id| sets[id.index()].len() as u64)
        .collect()
}
