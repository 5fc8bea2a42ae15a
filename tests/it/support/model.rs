//! What every store must come to, in a few lines of plain sets; and random input for it.

use std::collections::{BTreeMap, BTreeSet};

use cohortist::sets::{Key, Node, Plan, Prefix, Set, UserId};
use cohortist::store::Mark;
use proptest::prelude::*;

/// A bitmap: its users, and its length in bytes, which a complement makes visible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits {
    pub users: BTreeSet<UserId>,
    pub bytes: u64,
}

/// All bitmaps, by the text of their keys without prefix.
#[derive(Debug, Clone, Default)]
pub struct Model(BTreeMap<String, Bits>);

impl Model {
    pub fn apply(&mut self, marks: &[Mark]) {
        for mark in marks {
            let bits = self.0.entry(mark.key.to_string()).or_default();
            bits.bytes = bits.bytes.max(u64::from(mark.user) / 8 + 1);
            if mark.value {
                bits.users.insert(mark.user);
            } else {
                bits.users.remove(&mark.user);
            }
        }
    }

    /// As Redis has it: a result is as long as its longest operand, and a complement as its
    /// operand.
    pub fn evaluate(&self, set: &Set) -> Bits {
        let all =
            |sets: &[Set]| -> Vec<Bits> { sets.iter().map(|set| self.evaluate(set)).collect() };
        match set {
            Set::Empty => Bits::default(),
            Set::Key(key) => self.0.get(&key.to_string()).cloned().unwrap_or_default(),
            Set::And(sets) => join(&all(sets), |a, b| a & b),
            Set::Or(sets) => join(&all(sets), |a, b| a | b),
            Set::Xor(sets) => join(&all(sets), |a, b| a ^ b),
            Set::AtLeast(least, sets) => at_least(*least, &all(sets)),
            Set::Diff(a, b) => join(&[self.evaluate(a), self.evaluate(b)], |a, b| a - b),
            Set::Not(set) => complement(&self.evaluate(set)),
        }
    }

    /// The counts of a plan's roots.
    pub fn count(&self, plan: &Plan) -> Vec<u64> {
        let mut nodes: Vec<Bits> = Vec::new();
        for node in plan.nodes() {
            let operands: Vec<Bits> = node
                .operands()
                .iter()
                .map(|id| nodes[id.index()].clone())
                .collect();
            nodes.push(match node {
                Node::Empty => Bits::default(),
                Node::Key(key) => self.evaluate(&Set::Key(key.clone())),
                Node::And(_) => join(&operands, |a, b| a & b),
                Node::Or(_) => join(&operands, |a, b| a | b),
                Node::Xor(_) => join(&operands, |a, b| a ^ b),
                Node::Diff(_) => join(&operands, |a, b| a - b),
                Node::Not(_) => complement(&operands[0]),
            });
        }
        plan.roots()
            .iter()
            .map(|id| nodes[id.index()].users.len() as u64)
            .collect()
    }

    /// The keys there are, cleared ones included.
    pub fn keys(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }
}

/// Counts the sets of each user.
fn at_least(least: u32, sets: &[Bits]) -> Bits {
    let mut numbers = BTreeMap::<u32, u32>::new();
    for user in sets.iter().flat_map(|bits| &bits.users) {
        *numbers.entry(*user).or_default() += 1;
    }
    let enough = numbers.into_iter().filter(|(_, number)| *number >= least);
    Bits {
        users: enough.map(|(user, _)| user).collect(),
        bytes: sets.iter().map(|bits| bits.bytes).max().unwrap_or(0),
    }
}

fn join(
    operands: &[Bits],
    with: impl Fn(&BTreeSet<UserId>, &BTreeSet<UserId>) -> BTreeSet<UserId>,
) -> Bits {
    let Some((first, rest)) = operands.split_first() else {
        return Bits::default();
    };
    rest.iter().fold(first.clone(), |a, b| Bits {
        users: with(&a.users, &b.users),
        bytes: a.bytes.max(b.bytes),
    })
}

fn complement(bits: &Bits) -> Bits {
    let users = (0..bits.bytes * 8)
        .map(|user| user as UserId)
        .filter(|user| !bits.users.contains(user))
        .collect();
    Bits {
        users,
        bytes: bits.bytes,
    }
}

/// The key of a text such as `active_2026-11-3` or `active_u`.
pub fn key(text: &str) -> Key {
    let prefix = Prefix::new("");
    Key::parse(&prefix, text).unwrap_or_else(|| panic!("`{text}` is no key"))
}

/// The set of a key.
pub fn set(text: &str) -> Set {
    Set::Key(key(text))
}

/// Sets the bit of each of `users`.
pub fn marks_of(key_text: &str, users: impl IntoIterator<Item = UserId>) -> Vec<Mark> {
    users
        .into_iter()
        .map(|user| Mark {
            key: key(key_text),
            user,
            value: true,
        })
        .collect()
}

/// The bitmaps random marks go into; random sets name one more that nobody ever marks.
const KEYS: [&str; 7] = [
    "active_2026-11-1",
    "active_2026-11-2",
    "active_W2026-45",
    "song:played_2026-11-1",
    "premium_u",
    "x_y_u",
    "gone_u",
];

/// Few enough beyond the first thousands for complements in plain sets to stay quick.
fn ids() -> impl Strategy<Value = UserId> {
    prop_oneof![
        6 => 0_u32..64,
        4 => 1000_u32..1100,
        // Around the border of the embedded stores' tiles.
        3 => 65_500_u32..65_600,
        1 => 0_u32..300_000,
    ]
}

/// Marks of a few users of a few events; one in six clears.
pub fn marks() -> impl Strategy<Value = Vec<Mark>> {
    let mark =
        (0..KEYS.len() - 1, ids(), prop::bool::weighted(0.84)).prop_map(|(at, user, value)| Mark {
            key: key(KEYS[at]),
            user,
            value,
        });
    prop::collection::vec(mark, 0..120)
}

/// Sets of at most four operators' depth, all operators among them.
pub fn sets() -> impl Strategy<Value = Set> {
    let leaf = prop_oneof![
        12 => (0..KEYS.len()).prop_map(|at| set(KEYS[at])),
        1 => Just(Set::Empty),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let some = prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            some.clone().prop_map(Set::And),
            some.clone().prop_map(Set::Or),
            some.prop_map(Set::Xor),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a - b),
            inner.prop_map(|a| !a),
        ]
    })
}
