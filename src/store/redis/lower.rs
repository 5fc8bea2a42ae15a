//! Turns a plan and the sizes of its bitmaps into steps for the server. Does no I/O.

use crate::sets::{Node, NodeId, Plan};

/// Where the bits of a node are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    /// No bitmap, or one of zero bytes.
    Missing,
    /// The event's bitmap at this node of the plan.
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

/// One intersection, union, … that the server computes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The node of the plan.
    pub node: usize,
    pub op: Op,
    pub operands: Vec<Source>,
    /// How many later steps read its result.
    pub uses: usize,
}

/// A plan without everything that must be empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// Operands come before the steps that use them.
    pub steps: Vec<Step>,
    /// What to count for each root.
    pub roots: Vec<Source>,
    /// For each node of the plan, its length in bytes if known.
    pub lengths: Vec<Option<u64>>,
}

impl Script {
    /// Replaces each root that is an event's bitmap by a step that copies it.
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

/// Resolves a plan. For each node that is a key, `lengths` holds its length in bytes: 0 if it is
/// missing, `None` if it exists and the server cannot report its length. The entries of other nodes
/// are ignored.
///
/// Bitmaps in Redis have a length, which a complement makes visible: `BITOP NOT` of three empty
/// bytes has 24 users, and an intersection is as long as its longest operand, even if another is
/// missing. So a bitmap can be empty in two ways: *blank* (no users) and *missing* (no bytes).
/// Blank operands are left out, except below a complement, where every length must be what Redis
/// would produce.
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

    // Operands come before the nodes that use them. Going backwards, everything that uses a node
    // has been visited before the node.
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
                // bitmapist-server ignores a missing operand in first position.
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

/// The greatest length; unknown if any length is unknown.
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

    /// Resolves with keys `a`, `b`, `c` of 10 bytes and all others missing.
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
            "existing bitmaps come first"
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
