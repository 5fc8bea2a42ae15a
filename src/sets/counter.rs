//! Counting in how many sets each user is, with set operations alone.
//!
//! A bit-sliced counter holds, for each user, the number of sets that contain the user: plane *i*
//! is the set of users whose number has bit *i*. Carry-save adders combine three sets of one weight
//! into one of the same weight and one of double weight.

use crate::sets::{NodeId, Plan};

/// The bit planes of a counter, the lowest bit first.
#[derive(Debug, Clone)]
pub struct BitPlanes(Vec<NodeId>);

impl BitPlanes {
    /// Counts in how many of `sets` each user is.
    pub fn new(plan: &mut Plan, sets: impl IntoIterator<Item = NodeId>) -> Self {
        let mut planes = Vec::new();
        let mut weight: Vec<NodeId> = sets.into_iter().collect();
        while !weight.is_empty() {
            let mut carries = Vec::new();
            while weight.len() > 1 {
                let a = weight.remove(0);
                let b = weight.remove(0);
                let half = plan.xor([a, b]);
                let both = plan.and([a, b]);
                if weight.is_empty() {
                    weight.push(half);
                    carries.push(both);
                    break;
                }
                let c = weight.remove(0);
                let rest = plan.and([half, c]);
                weight.push(plan.xor([half, c]));
                carries.push(plan.or([both, rest]));
            }
            planes.extend(weight);
            weight = carries;
        }
        BitPlanes(planes)
    }

    /// Returns the users in at least `least` of the sets; `least` is at least 1.
    pub fn at_least(&self, plan: &mut Plan, least: u32) -> NodeId {
        assert!(least > 0, "everybody is in at least none of the sets");
        if u64::from(least) >> self.0.len() > 0 {
            return plan.empty();
        }
        // From the lowest bit on: the users whose bits so far are at least those of `least`. `None`
        // stands for everybody.
        let mut greater_or_equal: Option<NodeId> = None;
        for (bit, plane) in self.0.iter().enumerate() {
            let is_set = least >> bit & 1 == 1;
            greater_or_equal = match (is_set, greater_or_equal) {
                (true, None) => Some(*plane),
                (true, Some(lower)) => Some(plan.and([*plane, lower])),
                (false, None) => None,
                (false, Some(lower)) => Some(plan.or([*plane, lower])),
            };
        }
        greater_or_equal.expect("one of the bits of a positive number is set")
    }

    /// Returns the users in exactly 1, 2, … `most` of the sets.
    pub fn exactly(&self, plan: &mut Plan, most: u32) -> Vec<NodeId> {
        let anybody = plan.or(&self.0);
        // By the higher bits: the users who have these, the highest bit first.
        let mut by_bits = vec![anybody];
        for plane in self.0.iter().rev() {
            let split = by_bits
                .into_iter()
                .flat_map(|users| [plan.diff(users, *plane), plan.and([users, *plane])]);
            by_bits = split.collect();
        }
        let numbers = by_bits.into_iter().skip(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut exactly: Vec<NodeId> = numbers.take(most).collect();
        exactly.resize_with(most, || plan.empty());
        exactly
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::{EventName, Key, Node};

    /// Evaluates a node for one user, given the sets that contain the user.
    fn holds(plan: &Plan, node: NodeId, sets: &[bool]) -> bool {
        let holds = |id: &NodeId| holds(plan, *id, sets);
        match plan.node(node) {
            Node::Empty => false,
            Node::Key(key) => sets[key.event().as_str().parse::<usize>().unwrap()],
            Node::And(ids) => ids.iter().all(holds),
            Node::Or(ids) => ids.iter().any(holds),
            Node::Xor(ids) => ids.iter().filter(|id| holds(id)).count() % 2 == 1,
            Node::Diff([a, b]) => holds(a) && !holds(b),
            Node::Not(_) => panic!("a counter makes no complement"),
        }
    }

    fn keys(plan: &mut Plan, count: usize) -> Vec<NodeId> {
        let key = |at: usize| Key::ever(EventName::new(&at.to_string()).unwrap());
        (0..count).map(|at| plan.key(key(at))).collect()
    }

    #[test]
    fn users_are_counted_as_by_hand() {
        for count in 1..=7 {
            let mut plan = Plan::new();
            let sets = keys(&mut plan, count);
            let planes = BitPlanes::new(&mut plan, sets);
            let most = u32::try_from(count).unwrap();
            let exactly = planes.exactly(&mut plan, most);
            let at_least: Vec<NodeId> = (1..=most + 1)
                .map(|least| planes.at_least(&mut plan, least))
                .collect();
            for bits in 0..1_u32 << count {
                let sets: Vec<bool> = (0..count).map(|set| bits >> set & 1 == 1).collect();
                for (k, node) in (1..).zip(&exactly) {
                    assert_eq!(holds(&plan, *node, &sets), bits.count_ones() == k);
                }
                for (least, node) in (1..).zip(&at_least) {
                    assert_eq!(holds(&plan, *node, &sets), bits.count_ones() >= least);
                }
            }
        }
    }

    /// A window of 28 days is the usual one: its numbers of two-operand operations have a limit.
    #[test]
    fn a_window_of_28_days_takes_few_operations() {
        let operations = |plan: &Plan| -> usize {
            let steps = |node: &Node| node.operands().len().saturating_sub(1);
            plan.nodes().iter().map(steps).sum()
        };
        let mut plan = Plan::new();
        let sets = keys(&mut plan, 28);
        let planes = BitPlanes::new(&mut plan, sets);
        assert!(operations(&plan) <= 120, "{}", operations(&plan));
        planes.exactly(&mut plan, 28);
        assert!(operations(&plan) <= 220, "{}", operations(&plan));
    }
}
