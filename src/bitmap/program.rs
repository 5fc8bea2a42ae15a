//! Compiles a plan to steps that count its roots, in an order that keeps few tiles in memory.
//!
//! A plan is compiled once, and the steps are executed for each tile number. A step stores its
//! result in a *slot*. The compiler assigns the slots like registers, by the last use of each
//! result. Therefore the number of slots limits the number of tiles in memory, whatever the bitmaps
//! contain:
//!
//! * An operand is computed when it is first needed and dropped after its last use.
//! * A union is accumulated in the slot of an operand that is not needed afterwards. An
//!   intersection of two operands is added to it without being stored. For example, a row of *on or
//!   after* cells is one running union.
//! * A result that only one large union still needs is added to that union at once. For example,
//!   the people of all cohorts are collected cohort by cohort.
//! * Intersections of two operands that are only counted are deferred until they fill a [`Batch`],
//!   which is counted in one pass. A batch uses the tiles of at most [`BATCH`] operands.
//! * So are *running* intersections and differences, of which each is counted and then only reduced
//!   further. For example, each cell of an *on or after* row is what is left of the cohort without
//!   the users of one more period.
//!
//! The number of steps is at most the number of nodes that the roots need plus the number of their
//! operands.

use smallvec::{SmallVec, smallvec};

use crate::bitmap::kernel::Keep;
use crate::sets::{Node, NodeId, Plan};

/// The operation of a step. "The slot" is the slot of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// Stores an empty result.
    Empty,
    /// Stores the key of the step's node, without reading it.
    Leaf,
    /// Stores the intersection of the operands.
    And,
    /// Counts the intersection of three or more operands without storing it.
    AndCount,
    /// Counts the pairs of a batch. The step's `node` is the number of the batch.
    Batch,
    /// Stores the operand.
    Set,
    /// Adds the operand to the slot.
    Or,
    /// Adds the intersection of two operands to the slot.
    OrAnd,
    /// Replaces the slot by its symmetric difference with the operand.
    Xor,
    /// Stores the first operand without the second.
    Diff,
    /// Stores the complement of the operand, up to the length of the step's node.
    Not,
    /// Only counts the slot.
    Count,
}

/// A slot that a step reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operand {
    pub slot: u32,
    /// Whether no later step reads the slot.
    pub last: bool,
}

/// One step of a program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub op: Op,
    /// The slot of the result.
    pub out: u32,
    pub node: u32,
    /// The index of the root that the result counts for, or [`NONE`].
    pub root: u32,
    /// Whether a later step may read the result.
    pub is_read: bool,
    /// The range of the step's operands in the program.
    operands: (u32, u32),
}

/// Stands for no slot, no root or no number.
pub(super) const NONE: u32 = u32::MAX;

/// The maximum number of operands of a batch, so that a set of them fits into one word.
pub(super) const BATCH: usize = 64;

/// Intersections and differences that are only counted. The operands are numbered by their position
/// in the step of the batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub rows: Vec<Row>,
    /// For each operand, the set of operands with lower numbers that it is paired with.
    pub before: Vec<u64>,
}

/// Combinations of one operand with others.
#[derive(Debug)]
pub(super) struct Row {
    pub operand: u32,
    /// `None` if each of the others is intersected with the operand by itself. Otherwise each
    /// reduces what the previous one left of it.
    pub running: Option<Keep>,
    /// The set of the other operands.
    pub columns: u64,
    /// Each of the other operands, and the index of the root that the result counts for.
    pub pairs: Vec<(u32, u32)>,
}

impl Batch {
    /// Adds a pair, to the last row if that shares one of its operands.
    fn push(&mut self, pair: [u32; 2], root: u32) {
        let [a, b] = pair;
        self.before[a.max(b) as usize] |= 1 << a.min(b);
        let column = match self.rows.last_mut() {
            Some(row) if row.running.is_none() && row.operand == a => b,
            Some(row) if row.running.is_none() && row.operand == b => a,
            // The second pair of a row determines which operand the pairs share.
            Some(Row {
                operand,
                running: None,
                pairs,
                columns,
            }) if pairs.len() == 1 && (pairs[0].0 == a || pairs[0].0 == b) => {
                let shared = std::mem::replace(&mut pairs[0].0, *operand);
                *columns = 1 << *operand;
                *operand = shared;
                if shared == a { b } else { a }
            }
            _ => {
                self.rows.push(Row {
                    operand: a,
                    running: None,
                    columns: 0,
                    pairs: Vec::new(),
                });
                b
            }
        };
        let row = self.rows.last_mut().expect("there is a row for the pair");
        row.columns |= 1 << column;
        row.pairs.push((column, root));
    }
}

/// A compiled plan.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub steps: Vec<Step>,
    pub batches: Vec<Batch>,
    operands: Vec<Operand>,
    /// The number of slots.
    pub slots: u32,
    /// The slot of the result of [`compute`](Self::compute).
    pub result: u32,
}

impl Program {
    /// Compiles a program that counts the roots, which must be different nodes.
    pub fn count(plan: &Plan, roots: &[NodeId]) -> Self {
        Compiler::new(plan, roots, None).compile(roots)
    }

    /// Compiles a program that computes a node and stores it in the slot [`result`](Self::result).
    pub fn compute(plan: &Plan, node: NodeId) -> Self {
        Compiler::new(plan, &[], Some(node)).compile(&[node])
    }

    /// Returns the number of operations per tile number.
    pub fn operations(&self) -> usize {
        let pairs = self
            .batches
            .iter()
            .flat_map(|batch| &batch.rows)
            .map(|row| row.pairs.len());
        self.steps.len() + pairs.sum::<usize>()
    }

    /// Returns the slots that a step reads.
    pub fn operands(&self, step: &Step) -> &[Operand] {
        &self.operands[step.operands.0 as usize..step.operands.1 as usize]
    }
}

/// The minimum number of operands of a union that results are added to one by one.
const LARGE_UNION: usize = 3;

struct Compiler<'a> {
    plan: &'a [Node],
    nodes: Vec<State>,
    /// The slots that are not in use.
    free: Vec<u32>,
    /// The slots that are no longer in use after the next step.
    freed: Vec<u32>,
    /// What the next batch counts.
    pending: Vec<Deferred>,
    /// The number of different operands of `pending`.
    pending_operands: usize,
    program: Program,
}

/// An intersection of two operands, a difference, or several of them of which each is the first
/// operand of the next one. All are only counted.
struct Deferred {
    keep: Keep,
    nodes: SmallVec<[usize; 1]>,
    /// The operand that is reduced, and the other operand of each node.
    operands: SmallVec<[usize; 2]>,
}

/// The state of a node during compilation.
#[derive(Clone, Copy)]
struct State {
    /// The number of remaining reads.
    uses: u32,
    /// The sum of the indexes of the nodes that still read it. If only one is left, this is its
    /// index.
    readers: usize,
    /// The index of the node among the roots, or [`NONE`].
    root: u32,
    /// The slot of the result, or, for a union that is not complete, the slot in which it is
    /// accumulated.
    slot: u32,
    done: bool,
    /// The number of the node among the operands of the next batch, or [`NONE`].
    pending: u32,
}

/// Converts a number or an index of nodes, operands or roots to a smaller type.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a plan has fewer than 4 billion nodes and operands")
}

impl<'a> Compiler<'a> {
    fn new(plan: &'a Plan, roots: &[NodeId], result: Option<NodeId>) -> Self {
        let plan = plan.nodes();
        let unknown = State {
            uses: 0,
            readers: 0,
            root: NONE,
            slot: NONE,
            done: false,
            pending: NONE,
        };
        let mut nodes = vec![unknown; plan.len()];
        for (index, root) in roots.iter().enumerate() {
            nodes[root.index()].root = number(index);
        }
        // The caller reads the result.
        if let Some(result) = result {
            nodes[result.index()].uses = 1;
        }
        for (index, node) in plan.iter().enumerate().rev() {
            if nodes[index].uses > 0 || nodes[index].root != NONE {
                for id in node.operands() {
                    nodes[id.index()].uses += 1;
                    nodes[id.index()].readers += index;
                }
            }
        }
        Compiler {
            plan,
            nodes,
            free: Vec::new(),
            freed: Vec::new(),
            pending: Vec::new(),
            pending_operands: 0,
            program: Program::default(),
        }
    }

    fn compile(mut self, wanted: &[NodeId]) -> Program {
        // A stack of the nodes being compiled, each with the number of operands that are done. Each
        // node is an operand of the one below it.
        let mut open: Vec<(usize, usize)> = Vec::new();
        for id in wanted {
            open.push((id.index(), 0));
            while let Some((node, at)) = open.last_mut() {
                match self.advance(*node, at) {
                    Some(first) => open.push((first, 0)),
                    None => drop(open.pop()),
                }
            }
        }
        self.flush_batch();
        self.program.result = wanted.last().map_or(NONE, |id| self.nodes[id.index()].slot);
        self.program
    }

    /// Continues with a node, from the operand `at` on. Returns an operand that must be compiled
    /// first, or `None` if the node is done.
    fn advance(&mut self, index: usize, at: &mut usize) -> Option<usize> {
        if self.nodes[index].done {
            return None;
        }
        let node = &self.plan[index];
        let ids = node.operands();
        let op = match node {
            Node::Or(_) | Node::Xor(_) => return self.advance_union(index, at),
            Node::Empty => Op::Empty,
            Node::Key(_) => Op::Leaf,
            Node::And(_) if self.nodes[index].uses == 0 => Op::AndCount,
            Node::And(_) => Op::And,
            Node::Diff(_) => Op::Diff,
            Node::Not(_) => Op::Not,
        };
        if let Some(deferred) = self.deferrable(index) {
            let mut operands = deferred.operands.iter().copied();
            let missing = operands.find(|operand| !self.nodes[*operand].done);
            if missing.is_none() {
                self.defer(deferred);
            }
            return missing;
        }
        while let Some(operand) = ids.get(*at).map(|id| id.index()) {
            if !self.nodes[operand].done {
                return Some(operand);
            }
            *at += 1;
        }
        let from = self.read(index, ids.iter().map(|id| id.index()));
        if op != Op::AndCount {
            self.nodes[index].slot = self.slot();
        }
        self.push(op, index, from);
        self.done(index);
        None
    }

    /// Like [`advance`](Self::advance), for a union or a symmetric difference. Operands that are
    /// stored come first, then the intersections that are not.
    fn advance_union(&mut self, index: usize, at: &mut usize) -> Option<usize> {
        let node = &self.plan[index];
        let ids = node.operands();
        while *at < 2 * ids.len() {
            let operand = ids[*at % ids.len()].index();
            let inlined = if matches!(node, Node::Or(_)) {
                self.inlined(operand)
            } else {
                None
            };
            match inlined {
                Some(both) if *at >= ids.len() => {
                    if let Some(first) = both
                        .iter()
                        .map(|id| id.index())
                        .find(|both| !self.nodes[*both].done)
                    {
                        return Some(first);
                    }
                    self.add_intersection(index, operand, both);
                }
                None if *at < ids.len() => {
                    if !self.nodes[operand].done {
                        return Some(operand);
                    }
                    // It may have been added already.
                    if self.nodes[operand].uses > 0 {
                        self.add_operand(index, operand);
                    }
                }
                _ => {}
            }
            *at += 1;
        }
        self.done(index);
        None
    }

    /// Returns what a node can be deferred with: the nodes that reduce it further, up to one that is
    /// only counted, and those that it reduces further, if there are few enough for a batch.
    fn deferrable(&self, index: usize) -> Option<Deferred> {
        let mut last = index;
        for _ in 0..BATCH {
            let State { uses, readers, .. } = self.nodes[last];
            match uses {
                0 => break,
                1 if self.reduced_by(readers) == Some(last) => last = readers,
                _ => return None,
            }
        }
        let (keep, [mut own, other]) = self.reduction(last)?;
        let mut nodes = smallvec![last];
        let mut operands = smallvec![other];
        while let Some(earlier) = self.reduced_by(nodes[nodes.len() - 1])
            && operands.len() + 2 <= BATCH
            && let Some((_, [first, other])) = self.reduction(earlier)
        {
            nodes.push(earlier);
            operands.push(other);
            own = first;
        }
        operands.push(own);
        nodes.reverse();
        operands.reverse();
        let is_included = nodes.contains(&index);
        is_included.then_some(Deferred {
            keep,
            nodes,
            operands,
        })
    }

    /// Returns the node that another one reduces further, if both are counted by the same operation
    /// and the first one is needed for nothing else.
    fn reduced_by(&self, index: usize) -> Option<usize> {
        let (keep, [own, _]) = self.reduction(index)?;
        let (earlier, _) = self.reduction(own)?;
        (earlier == keep && self.nodes[own].uses == 1).then_some(own)
    }

    /// Returns the operation and the operands of a difference, or of an intersection of two
    /// operands, that is counted and not done. An operand that can be reduced further comes first.
    fn reduction(&self, index: usize) -> Option<(Keep, [usize; 2])> {
        let is_counted = |index: usize| {
            let State { root, done, .. } = self.nodes[index];
            root != NONE && !done
        };
        if !is_counted(index) {
            return None;
        }
        match &self.plan[index] {
            Node::Diff([a, b]) => Some((Keep::Outside, [a.index(), b.index()])),
            Node::And(ids) => {
                let [a, b] = <[NodeId; 2]>::try_from(&ids[..]).ok()?.map(NodeId::index);
                let can_be_reduced = |index: usize| {
                    let is_pair = matches!(&self.plan[index], Node::And(ids) if ids.len() == 2);
                    is_pair && is_counted(index) && self.nodes[index].uses == 1
                };
                let swapped = !can_be_reduced(a) && can_be_reduced(b);
                Some((Keep::Inside, if swapped { [b, a] } else { [a, b] }))
            }
            _ => None,
        }
    }

    /// Defers nodes to the next batch. Their operands must be done.
    fn defer(&mut self, deferred: Deferred) {
        let mut new: SmallVec<[usize; BATCH]> = SmallVec::from_slice(&deferred.operands);
        new.sort_unstable();
        new.dedup();
        new.retain(|operand| self.nodes[*operand].pending == NONE);
        if self.pending_operands + new.len() > BATCH {
            self.flush_batch();
        }
        for operand in &deferred.operands {
            let state = &mut self.nodes[*operand];
            if state.pending == NONE {
                state.pending = number(self.pending_operands);
                self.pending_operands += 1;
            }
        }
        for node in &deferred.nodes {
            self.nodes[*node].done = true;
        }
        self.pending.push(deferred);
    }

    /// Adds the step that counts the deferred nodes.
    fn flush_batch(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return;
        }
        let mut batch = Batch {
            rows: Vec::new(),
            before: vec![0; self.pending_operands],
        };
        let mut operands = vec![0; self.pending_operands];
        for deferred in &pending {
            let [own, others @ ..] = &deferred.operands[..] else {
                unreachable!("a reduction has operands");
            };
            self.nodes[*own].uses -= 1;
            self.nodes[*own].readers -= deferred.nodes[0];
            let own_number = self.nodes[*own].pending;
            operands[own_number as usize] = *own;
            let mut columns = 0;
            let mut pairs = Vec::with_capacity(others.len());
            for (node, operand) in deferred.nodes.iter().zip(others) {
                let state = &mut self.nodes[*operand];
                state.uses -= 1;
                state.readers -= node;
                let column = state.pending;
                operands[column as usize] = *operand;
                columns |= 1 << column;
                pairs.push((column, self.nodes[*node].root));
            }
            match (deferred.keep, &pairs[..]) {
                (Keep::Inside, [(column, root)]) => batch.push([own_number, *column], *root),
                (keep, _) => batch.rows.push(Row {
                    operand: own_number,
                    running: Some(keep),
                    columns,
                    pairs,
                }),
            }
        }
        let from = number(self.program.operands.len());
        for operand in operands {
            let state = &mut self.nodes[operand];
            state.pending = NONE;
            let operand = Operand {
                slot: state.slot,
                last: state.uses == 0,
            };
            if operand.last {
                self.freed.push(operand.slot);
            }
            self.program.operands.push(operand);
        }
        self.pending_operands = 0;
        let operands = (from, number(self.program.operands.len()));
        let node = number(self.program.batches.len());
        self.program.batches.push(batch);
        self.program.steps.push(Step {
            op: Op::Batch,
            out: NONE,
            node,
            root: NONE,
            is_read: false,
            operands,
        });
        self.free.append(&mut self.freed);
        for deferred in pending {
            for index in deferred.nodes {
                self.nodes[index].uses = 0;
                self.absorb(index);
            }
        }
    }

    /// Takes a slot that is not in use.
    fn slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.program.slots += 1;
            self.program.slots - 1
        })
    }

    /// Returns the operands of an intersection of two operands that only one union needs. It is
    /// added to the union without being stored.
    fn inlined(&self, index: usize) -> Option<&'a [NodeId; 2]> {
        let State {
            uses, root, done, ..
        } = self.nodes[index];
        match &self.plan[index] {
            Node::And(ids) if uses == 1 && root == NONE && !done => ids[..].try_into().ok(),
            _ => None,
        }
    }

    /// Adds operands that a node reads to the program. Returns the index of the first one.
    fn read(&mut self, reader: usize, operands: impl IntoIterator<Item = usize>) -> u32 {
        let from = number(self.program.operands.len());
        for operand in operands {
            let state = &mut self.nodes[operand];
            state.uses -= 1;
            state.readers -= reader;
            let operand = Operand {
                slot: state.slot,
                last: state.uses == 0,
            };
            if operand.last {
                self.freed.push(operand.slot);
            }
            self.program.operands.push(operand);
        }
        from
    }

    /// Adds a step for a node. Its operands are those in the program from the index `from` on.
    fn push(&mut self, op: Op, index: usize, from: u32) {
        let State { slot, root, .. } = self.nodes[index];
        let root = if matches!(op, Op::AndCount | Op::Count) {
            root
        } else {
            NONE
        };
        let operands = (from, number(self.program.operands.len()));
        self.program.steps.push(Step {
            op,
            out: slot,
            node: number(index),
            root,
            is_read: self.nodes[index].uses > 0,
            operands,
        });
        self.free.append(&mut self.freed);
    }

    /// Adds an operand to a union or a symmetric difference.
    fn add_operand(&mut self, index: usize, operand: usize) {
        let State { uses, slot, .. } = self.nodes[operand];
        if self.nodes[index].slot != NONE {
            let op = if matches!(self.plan[index], Node::Xor(_)) {
                Op::Xor
            } else {
                Op::Or
            };
            let from = self.read(index, [operand]);
            self.push(op, index, from);
        } else if uses == 1 && !matches!(self.plan[operand], Node::Key(_)) {
            // No other node needs the operand, so its slot becomes the slot of the union.
            self.nodes[operand].uses = 0;
            self.nodes[index].slot = slot;
        } else {
            let from = self.read(index, [operand]);
            self.nodes[index].slot = self.slot();
            self.push(Op::Set, index, from);
        }
    }

    /// Adds an intersection that is not stored to a union.
    fn add_intersection(&mut self, index: usize, and: usize, both: &[NodeId; 2]) {
        let from = self.read(and, both.iter().map(|id| id.index()));
        let op = if self.nodes[index].slot == NONE {
            Op::And
        } else {
            Op::OrAnd
        };
        if op == Op::And {
            self.nodes[index].slot = self.slot();
        }
        self.push(op, index, from);
        self.nodes[and].uses = 0;
        self.nodes[and].done = true;
        self.absorb(and);
    }

    /// Records that a node is computed.
    fn done(&mut self, index: usize) {
        let State {
            root, slot, uses, ..
        } = self.nodes[index];
        self.nodes[index].done = true;
        if root != NONE && slot != NONE {
            match self.program.steps.last_mut() {
                // A leaf is not read until it is needed, so its step cannot count it.
                Some(step) if step.out == slot && step.root == NONE && step.op != Op::Leaf => {
                    step.root = root
                }
                _ => self.push(Op::Count, index, number(self.program.operands.len())),
            }
        }
        if uses == 0 && slot != NONE {
            self.free.push(slot);
        }
        self.absorb(index);
    }

    /// Adds those operands of a node that only one large union still needs to that union.
    fn absorb(&mut self, index: usize) {
        for operand in self.plan[index].operands().iter().map(|id| id.index()) {
            let State {
                uses,
                readers: reader,
                done,
                ..
            } = self.nodes[operand];
            if uses == 1
                && done
                && matches!(&self.plan[reader], Node::Or(ids) if ids.len() >= LARGE_UNION)
            {
                self.add_operand(reader, operand);
            }
        }
    }
}
