//! Unions over windows of equal width that move period by period.

use std::collections::HashMap;

use crate::sets::{NodeId, Plan};

/// The unions of `width` consecutive sets, in at most three operations a window.
///
/// The sets are cut into blocks of `width`. A window is the end of one block and the beginning of
/// the next. The unions from each set to the end of its block, and from the beginning of the block
/// to each set, are built one from the other, and only those that a window needs.
#[derive(Debug)]
pub struct WindowUnions {
    width: usize,
    /// The union from a set to the end of its block.
    to_end: HashMap<usize, NodeId>,
    /// The union from the beginning of a set's block to the set.
    from_start: HashMap<usize, NodeId>,
}

impl WindowUnions {
    /// Windows of this width, which is not 0.
    pub fn new(width: usize) -> Self {
        assert!(width > 0, "a window has at least one set");
        WindowUnions {
            width,
            to_end: HashMap::new(),
            from_start: HashMap::new(),
        }
    }

    /// Adds the union of the `width` sets from `first` on to the plan. `set` adds a set by its
    /// place.
    ///
    /// # Errors
    /// The first error of `set`.
    pub fn union<E>(
        &mut self,
        plan: &mut Plan,
        first: usize,
        mut set: impl FnMut(&mut Plan, usize) -> Result<NodeId, E>,
    ) -> Result<NodeId, E> {
        let last = first + self.width - 1;
        let block = first - first % self.width;
        let end = block + self.width;
        // From the end of the block backwards, from the first place that is not known yet.
        let known = (first..end).find(|place| self.to_end.contains_key(place));
        for place in (first..known.unwrap_or(end)).rev() {
            let own = set(plan, place)?;
            let union = match self.to_end.get(&(place + 1)).filter(|_| place + 1 < end) {
                Some(rest) => plan.or([own, *rest]),
                None => own,
            };
            self.to_end.insert(place, union);
        }
        if last < end {
            return Ok(self.to_end[&first]);
        }
        let known = (end..=last)
            .rev()
            .find(|place| self.from_start.contains_key(place));
        for place in known.map_or(end, |known| known + 1)..=last {
            let own = set(plan, place)?;
            let union = match self.from_start.get(&(place - 1)).filter(|_| place > end) {
                Some(rest) => plan.or([*rest, own]),
                None => own,
            };
            self.from_start.insert(place, union);
        }
        Ok(plan.or([self.to_end[&first], self.from_start[&last]]))
    }
}

/// The unions of windows of several widths, which share their parts.
///
/// The union of 2, 4, 8, … consecutive sets is that of two halves, each built once. Any window is
/// the union of two of these, which may overlap.
#[derive(Debug, Default)]
pub struct WidthUnions {
    /// By the binary logarithm of the width, and the place of the first set.
    known: HashMap<(u32, usize), NodeId>,
}

impl WidthUnions {
    /// Adds the union of the `width` sets from `first` on to the plan; `width` is not 0. `set` adds
    /// a set by its place.
    ///
    /// # Errors
    /// The first error of `set`.
    pub fn union<E>(
        &mut self,
        plan: &mut Plan,
        first: usize,
        width: usize,
        set: &mut impl FnMut(&mut Plan, usize) -> Result<NodeId, E>,
    ) -> Result<NodeId, E> {
        let level = width.ilog2();
        let start = self.power(plan, first, level, set)?;
        let end = self.power(plan, first + width - (1 << level), level, set)?;
        Ok(plan.or([start, end]))
    }

    /// Adds the union of 2^`level` sets.
    fn power<E>(
        &mut self,
        plan: &mut Plan,
        first: usize,
        level: u32,
        set: &mut impl FnMut(&mut Plan, usize) -> Result<NodeId, E>,
    ) -> Result<NodeId, E> {
        if let Some(known) = self.known.get(&(level, first)) {
            return Ok(*known);
        }
        let node = match level.checked_sub(1) {
            None => set(plan, first)?,
            Some(half) => {
                let start = self.power(plan, first, half, set)?;
                let end = self.power(plan, first + (1 << half), half, set)?;
                plan.or([start, end])
            }
        };
        self.known.insert((level, first), node);
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use super::*;
    use crate::sets::{EventName, Node, Set};

    /// The names of the bitmaps below a node.
    fn leaves(plan: &Plan, node: NodeId) -> BTreeSet<String> {
        match plan.node(node) {
            Node::Key(key) => [key.event().to_string()].into(),
            other => {
                let operands = other.operands().iter();
                operands.flat_map(|id| leaves(plan, *id)).collect()
            }
        }
    }

    #[test]
    fn windows_of_several_widths_share_their_unions() {
        let mut plan = Plan::new();
        let mut unions = WidthUnions::default();
        let mut set = |plan: &mut Plan, place: usize| {
            let name = EventName::new(&format!("{place:03}")).unwrap();
            Ok::<_, Infallible>(plan.add(&Set::ever(&name)).unwrap())
        };
        for first in 0..40 {
            for width in 1..=16 {
                let union = unions.union(&mut plan, first, width, &mut set).unwrap();
                let wanted: BTreeSet<String> = (first..first + width)
                    .map(|place| format!("{place:03}"))
                    .collect();
                assert_eq!(leaves(&plan, union), wanted, "{first} {width}");
            }
        }
        let unions = plan
            .nodes()
            .iter()
            .filter(|node| matches!(node, Node::Or(_)));
        // One for each width and place, which may be as far behind as a window is wide.
        assert!(unions.count() <= 15 * (40 + 16));
    }

    #[test]
    fn every_window_is_its_sets_in_few_operations() {
        let windows = 40;
        for width in 1..20 {
            let mut plan = Plan::new();
            let mut rolling = WindowUnions::new(width);
            for first in 0..windows {
                let set = |plan: &mut Plan, place: usize| {
                    let name = EventName::new(&format!("{place:03}")).unwrap();
                    Ok::<_, Infallible>(plan.add(&Set::ever(&name)).unwrap())
                };
                let union = rolling.union(&mut plan, first, set).unwrap();
                let wanted: BTreeSet<String> = (first..first + width)
                    .map(|place| format!("{place:03}"))
                    .collect();
                assert_eq!(leaves(&plan, union), wanted, "{width}");
            }
            let unions = plan
                .nodes()
                .iter()
                .filter(|node| matches!(node, Node::Or(_)));
            assert!(unions.count() <= 3 * (windows + width), "{width}");
        }
    }
}
