//! From a plan and the sizes of its bitmaps to the steps that must be taken on the server. Pure.

use crate::sets::{Node, NodeId, Plan};

/// Where the bits of a node are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    /// Nowhere: no bitmap, or one of no bytes.
    Missing,
    /// The user's bitmap at this node of the plan.
    Key(usize),
    /// The result of the step for this node of the plan.
    Step(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    And,
    Or,
    Xor,
    /// Of exactly two operands.
    Diff,
    /// Of exactly one.
    Not,
}

/// One intersection, union, … to be computed by the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The node of the plan.
    pub node: usize,
    pub op: Op,
    pub operands: Vec<Source>,
    /// How many later steps take its result.
    pub uses: usize,
}

/// What is left of a plan when everything that must be empty is taken out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// In an order in which operands come first.
    pub steps: Vec<Step>,
    /// What to count for each root.
    pub roots: Vec<Source>,
    /// For each node of the plan its length in bytes, where it is known.
    pub lengths: Vec<Option<u64>>,
}

impl Script {
    /// Makes of each root that is a user's bitmap a step that copies it.
    pub fn copy_keys(&mut self) {
        for root in &mut self.roots {
            if let Source::Key(node) = *root {
                if !self.steps.iter().any(|step| step.node == node) {
                    self.steps.push(Step {
                        node,
                        op: Op::Or,
                        operands: vec![*root],
                        uses: 0,
                    });
                }
                *root = Source::Step(node);
            }
        }
    }
}

/// Resolves a plan. `lengths` has for each node that is a key its length in bytes: 0 when it is
/// missing, `None` when it exists and the server cannot tell its length. Other nodes' entries are
/// not read.
///
/// Redis' bitmaps have a length, which a complement makes visible: `BITOP NOT` of three empty bytes
/// has 24 users, and an intersection is as long as its longest operand, also with one that is
/// missing. So there are two ways to be empty: *blank*, no user in it, and *missing*, no bytes.
/// Blank operands are left out, except beneath a complement, where every length has to come out as
/// Redis would have it.
pub(super) fn resolve(plan: &Plan, lengths: &[Option<u64>]) -> Script {
    let nodes = plan.nodes();
    let mut lengths = lengths.to_vec();
    lengths.resize(nodes.len(), Some(0));
    let mut blank = vec![false; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        match node {
            Node::Empty => lengths[i] = Some(0),
            Node::Key(_) => {}
            _ => lengths[i] = longest(node.operands(), &lengths),
        }
        blank[i] = lengths[i] == Some(0)
            || match node {
                Node::Empty => true,
                Node::Key(_) | Node::Not(_) => false,
                Node::And(ids) => ids.iter().any(|id| blank[id.index()]),
                Node::Or(ids) | Node::Xor(ids) => ids.iter().all(|id| blank[id.index()]),
                Node::Diff([a, _]) => blank[a.index()],
            };
    }

    // Users of a node come after it, so going backwards all that is asked of a node is known when
    // its turn comes.
    let mut needed = vec![false; nodes.len()];
    let mut exact = vec![false; nodes.len()];
    for root in plan.roots() {
        needed[root.index()] |= !blank[root.index()];
    }
    for (i, node) in nodes.iter().enumerate().rev() {
        if !needed[i] {
            continue;
        }
        let exactly = exact[i] || matches!(node, Node::Not(_));
        for operand in node.operands().iter().map(|id| id.index()) {
            if is_left_out(exactly, blank[operand], lengths[operand]) {
                continue;
            }
            needed[operand] = true;
            exact[operand] |= exactly;
        }
    }

    let mut place = vec![Source::Missing; nodes.len()];
    let mut steps: Vec<Step> = Vec::new();
    for (i, node) in nodes.iter().enumerate().filter(|(i, _)| needed[*i]) {
        let exactly = exact[i] || matches!(node, Node::Not(_));
        let mut operands: Vec<Source> = node
            .operands()
            .iter()
            .map(|id| id.index())
            .map(|o| {
                if is_left_out(exactly, blank[o], lengths[o]) {
                    Source::Missing
                } else {
                    place[o]
                }
            })
            .collect();
        let op = match node {
            Node::Empty => continue,
            Node::Key(_) => {
                place[i] = Source::Key(i);
                continue;
            }
            Node::And(_) => {
                // bitmapist-server takes no notice of a missing operand that stands first.
                operands.sort_by_key(|source| *source == Source::Missing);
                Op::And
            }
            Node::Or(_) | Node::Xor(_) => {
                operands.retain(|source| *source != Source::Missing);
                if matches!(node, Node::Or(_)) {
                    Op::Or
                } else {
                    Op::Xor
                }
            }
            Node::Diff(_) => {
                if operands.get(1) == Some(&Source::Missing) {
                    operands.truncate(1);
                }
                Op::Diff
            }
            Node::Not(_) => Op::Not,
        };
        if let ([only], true) = (&operands[..], op != Op::Not) {
            place[i] = *only;
            continue;
        }
        place[i] = Source::Step(i);
        steps.push(Step {
            node: i,
            op,
            operands,
            uses: 0,
        });
    }

    let mut uses = vec![0; nodes.len()];
    for source in steps.iter().flat_map(|step| &step.operands) {
        if let Source::Step(node) = source {
            uses[*node] += 1;
        }
    }
    for step in &mut steps {
        step.uses = uses[step.node];
    }
    let root = |id: &NodeId| {
        if blank[id.index()] {
            Source::Missing
        } else {
            place[id.index()]
        }
    };
    Script {
        steps,
        roots: plan.roots().iter().map(root).collect(),
        lengths,
    }
}

fn is_left_out(exactly: bool, blank: bool, length: Option<u64>) -> bool {
    if exactly { length == Some(0) } else { blank }
}

/// The greatest length; unknown when one is, unless all are known to be 0.
fn longest(ids: &[NodeId], lengths: &[Option<u64>]) -> Option<u64> {
    ids.iter()
        .map(|id| lengths[id.index()])
        .try_fold(0, |most, length| Some(most.max(length?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sets::{EventName, Set};

    fn key(name: &str) -> Set {
        Set::ever(&EventName::new(name).unwrap())
    }

    /// Resolves with keys `a`, `b`, `c` of 10 bytes, and every other missing.
    fn script(set: &Set) -> Script {
        let mut plan = Plan::new();
        plan.count_set(set).unwrap();
        let lengths: Vec<_> = plan
            .nodes()
            .iter()
            .map(|node| match node {
                Node::Key(key) if "abc".contains(key.event().as_str()) => Some(10),
                _ => Some(0),
            })
            .collect();
        resolve(&plan, &lengths)
    }

    fn ops(set: &Set) -> Vec<(Op, usize)> {
        script(set)
            .steps
            .iter()
            .map(|step| (step.op, step.operands.len()))
            .collect()
    }

    #[test]
    fn pairs_that_cannot_meet_cost_nothing() {
        for empty in [
            key("a") & key("gone"),
            key("gone") - key("a"),
            key("gone") | key("lost"),
            key("gone") ^ key("lost"),
            !key("gone"),
            key("a") & (key("gone") | (key("b") & key("lost"))),
            Set::Empty,
        ] {
            let script = script(&empty);
            assert_eq!(
                (script.steps.len(), &script.roots[..]),
                (0, &[Source::Missing][..]),
                "{empty:?}"
            );
        }
    }

    #[test]
    fn operands_that_add_nothing_are_left_out() {
        assert_eq!(ops(&(key("a") | key("gone"))), []);
        assert_eq!(ops(&(key("a") - key("gone"))), []);
        assert_eq!(ops(&(key("a") ^ key("gone") ^ key("b"))), [(Op::Xor, 2)]);
        assert_eq!(
            ops(&((key("a") | (key("b") & key("gone"))) & key("c"))),
            [(Op::And, 2)]
        );
    }

    #[test]
    fn beneath_a_complement_lengths_stay() {
        // Ten empty bytes, complemented: 80 users.
        assert_eq!(
            ops(&!(key("a") & key("gone"))),
            [(Op::And, 2), (Op::Not, 1)]
        );
        assert_eq!(
            ops(&!(key("a") | (key("b") & key("gone")))),
            [(Op::And, 2), (Op::Or, 2), (Op::Not, 1)]
        );
        assert_eq!(
            ops(&!(key("gone") - key("a"))),
            [(Op::Diff, 2), (Op::Not, 1)]
        );
        assert_eq!(ops(&!(key("a") - key("gone"))), [(Op::Not, 1)]);
        let and = &script(&!(Set::And(vec![key("gone"), key("a")]))).steps[0];
        assert!(
            matches!(and.operands[..], [Source::Key(_), Source::Missing]),
            "what is there comes first"
        );
    }

    #[test]
    fn unknown_lengths_leave_nothing_out() {
        let mut plan = Plan::new();
        plan.count_set(&!(key("a") & key("b"))).unwrap();
        let script = resolve(&plan, &[None, None, None, None]);
        assert_eq!(script.steps.len(), 2);
        assert_eq!(script.lengths[2], None);
    }
}
