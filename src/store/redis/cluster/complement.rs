//! Complements over shards. Pure.
//!
//! A complement goes up to the byte length of its operand, and a bitmap that goes on in a later
//! shard is to be taken as filled up to the end of every earlier one, as it would be on a single
//! server; but its keys there end with their last user, or are not there at all. So where a
//! complement is asked for, the lengths of bitmaps are found out over all shards first, and in a
//! shard that a bitmap goes beyond it is joined with a bitmap of zeros that is as long as the
//! shard. In shards where nobody has a bitmap every set holds everybody or nobody, which needs no
//! server.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::layout::{BYTES, Shard};
use crate::sets::{Key, Node, Plan};
use crate::store::redis::lower::{Op, Script, Source, Step, resolve};

/// For each node of a plan whether a complement is made of it.
fn beneath(plan: &Plan) -> Vec<bool> {
    let mut beneath = vec![false; plan.nodes().len()];
    for (place, node) in plan.nodes().iter().enumerate().rev() {
        if beneath[place] || matches!(node, Node::Not(_)) {
            node.operands()
                .iter()
                .for_each(|operand| beneath[operand.index()] = true);
        }
    }
    beneath
}

/// The bitmaps whose length over all shards matters.
pub(super) fn keys_beneath(plan: &Plan) -> BTreeSet<&Key> {
    let keys = plan
        .nodes()
        .iter()
        .zip(beneath(plan))
        .filter_map(|(node, beneath)| match node {
            Node::Key(key) if beneath => Some(key),
            _ => None,
        });
    keys.collect()
}

/// How long such bitmaps are over all shards, in bytes.
#[derive(Debug, Default)]
pub(super) struct Lengths(BTreeMap<Key, u64>);

impl Lengths {
    /// Takes note of a bitmap's length in one shard.
    pub fn note(&mut self, key: &Key, shard: Shard, bytes: u64) {
        if bytes > 0 {
            let whole = self.0.entry(key.clone()).or_default();
            *whole = (*whole).max(u64::from(shard) * BYTES + bytes);
        }
    }

    /// How many shards, from the first on, any of them reaches into.
    pub fn shards(&self) -> Shard {
        let most = self.0.values().copied().max().unwrap_or(0).div_ceil(BYTES);
        Shard::try_from(most).unwrap_or(Shard::MAX)
    }

    /// How much of a shard the bitmap covers, in bytes.
    fn within(&self, key: &Key, shard: Shard) -> u64 {
        let whole = self.0.get(key).copied().unwrap_or(0);
        whole.saturating_sub(u64::from(shard) * BYTES).min(BYTES)
    }

    /// How long the nodes of a plan are to be taken for, in a shard whose bitmaps have these
    /// lengths; and which of them are shorter than that.
    pub fn taken(
        &self,
        plan: &Plan,
        shard: Shard,
        actual: &[Option<u64>],
    ) -> (Vec<Option<u64>>, Vec<usize>) {
        let (mut lengths, mut short) = (actual.to_vec(), Vec::new());
        for (place, beneath) in beneath(plan).into_iter().enumerate() {
            let (Node::Key(key), true) = (&plan.nodes()[place], beneath) else {
                continue;
            };
            // A bitmap that ends in this shard has its own length; one that was made longer
            // meanwhile as well.
            if self.within(key, shard) == BYTES
                && lengths[place].is_some_and(|length| length < BYTES)
            {
                lengths[place] = Some(BYTES);
                short.push(place);
            }
        }
        (lengths, short)
    }

    /// Resolves a plan for a shard whose bitmaps have these lengths. Where it tells so, the script
    /// reads a bitmap of zeros, as long as a shard, at the number behind the plan's nodes.
    pub fn resolve(&self, plan: &Plan, shard: Shard, actual: &[Option<u64>]) -> (Script, bool) {
        let (lengths, short) = self.taken(plan, shard, actual);
        let mut script = resolve(plan, &lengths);
        let zeros = plan.nodes().len();
        let filled: HashMap<Source, usize> = short
            .iter()
            .enumerate()
            .map(|(n, place)| (Source::Key(*place), zeros + 1 + n))
            .collect();
        let mut uses: HashMap<usize, usize> = HashMap::new();
        for operand in script.steps.iter_mut().flat_map(|step| &mut step.operands) {
            if let Some(step) = filled.get(operand) {
                *operand = Source::Step(*step);
                *uses.entry(*step).or_default() += 1;
            }
        }
        let mut fills: Vec<Step> = filled
            .into_iter()
            .filter_map(|(source, node)| {
                let uses = *uses.get(&node)?;
                Some(Step {
                    node,
                    op: Op::Or,
                    operands: vec![source, Source::Key(zeros)],
                    uses,
                })
            })
            .collect();
        fills.sort_by_key(|step| step.node);
        let needed = !fills.is_empty();
        // First of all, so that the zeros are needed for a short time only.
        fills.append(&mut script.steps);
        script.steps = fills;
        script.lengths.resize(zeros + 1 + short.len(), Some(BYTES));
        (script, needed)
    }

    /// For each node of a plan whether everybody is in it, in a shard where there is no bitmap.
    /// Otherwise nobody is.
    pub fn everybody(&self, plan: &Plan, shard: Shard) -> Vec<bool> {
        let mut long: Vec<bool> = Vec::with_capacity(plan.nodes().len());
        let mut everybody: Vec<bool> = Vec::with_capacity(plan.nodes().len());
        for node in plan.nodes() {
            let operands = || node.operands().iter().map(|operand| operand.index());
            let of = |place: usize| everybody[place];
            let value = match node {
                Node::Empty | Node::Key(_) => false,
                Node::And(_) => operands().all(of),
                Node::Or(_) => operands().any(of),
                Node::Xor(_) => operands().filter(|place| of(*place)).count() % 2 == 1,
                Node::Diff([a, b]) => of(a.index()) && !of(b.index()),
                Node::Not(id) => long[id.index()] && !of(id.index()),
            };
            long.push(match node {
                Node::Key(key) => self.within(key, shard) > 0,
                _ => operands().any(|place| long[place]),
            });
            everybody.push(value);
        }
        everybody
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sets::{EventName, Set};

    fn key(name: &str) -> Key {
        Key::ever(EventName::new(name).unwrap())
    }

    #[test]
    fn what_goes_on_in_a_later_shard_is_filled_up() {
        let (a, b) = (Set::Key(key("a")), Set::Key(key("b")));
        let mut plan = Plan::new();
        plan.count_set(&!(a.clone() & b.clone())).unwrap();
        plan.count_set(&(a & b)).unwrap();
        let mut lengths = Lengths::default();
        lengths.note(&key("a"), 0, 10);
        lengths.note(&key("a"), 3, 7);
        lengths.note(&key("b"), 0, 20);
        assert_eq!(
            (
                lengths.shards(),
                lengths.within(&key("a"), 2),
                lengths.within(&key("a"), 3)
            ),
            (4, BYTES, 7)
        );
        let actual = |a, b| [Some(a), Some(b), Some(0), Some(0)];
        // In shard 0 the first bitmap ends after 10 bytes and is taken to go on, the second one is
        // as long as it is.
        let (script, zeros) = lengths.resolve(&plan, 0, &actual(10, 20));
        assert!(zeros);
        assert_eq!(
            script.steps[0],
            Step {
                node: 5,
                op: Op::Or,
                operands: vec![Source::Key(0), Source::Key(4)],
                uses: 1
            }
        );
        assert_eq!(
            (
                script.steps[1].operands[0],
                script.lengths[2],
                script.steps.len()
            ),
            (Source::Step(5), Some(BYTES), 3)
        );
        // In the last one nothing is.
        assert!(!lengths.resolve(&plan, 3, &actual(7, 0)).1);
        let roots = |shard| {
            plan.roots()
                .iter()
                .map(|root| lengths.everybody(&plan, shard)[root.index()])
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (roots(2), roots(4)),
            (vec![true, false], vec![false, false])
        );
    }
}
