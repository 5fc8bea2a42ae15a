//! A plan as the steps that count its roots, in an order in which few tiles are held at once.
//!
//! A plan is compiled once and then carried out for each tile column. A step puts its result into a
//! *slot*. Which results share a slot is settled here, by when each is used for the last time, so
//! the number of slots bounds the tiles that are held at once, whatever the bitmaps hold:
//!
//! * operands are computed when they are first needed and dropped after their last use;
//! * a union grows in the slot of an operand that nobody needs afterwards, and takes in an
//!   intersection of two without that ever being written down: a row of *on or after* cells is one
//!   running union;
//! * what only one large union still needs goes into it at once: the people of all cohorts are
//!   gathered cohort by cohort;
//! * intersections of two that are only counted are put off until they make a [`Batch`], which is
//!   counted in one pass. A batch holds the tiles of at most [`BATCH`] operands.
//!
//! The steps are at most as many as the nodes that the roots need and their operands together.

use crate::sets::{Node, NodeId, Plan};

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// Nobody.
    Empty,
    /// The key at the step's node, not read yet.
    Leaf,
    /// The intersection of the operands.
    And,
    /// Counts the intersection of three operands or more, and keeps nothing.
    AndCount,
    /// Counts the pairs of the batch whose number is in place of the step's node.
    Batch,
    /// The operand as it is.
    Set,
    /// Puts the operand in.
    Or,
    /// Puts the intersection of two operands in.
    OrAnd,
    /// Puts in who is in the operand alone, and takes out who is in both.
    Xor,
    /// The first operand without the second.
    Diff,
    /// The complement of the operand, up to the length of the step's node.
    Not,
    /// Nothing but counting.
    Count,
}

/// A slot that a step reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operand {
    pub slot: u32,
    /// Nobody reads it afterwards.
    pub last: bool,
}

/// One step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub op: Op,
    /// The slot of the result.
    pub out: u32,
    pub node: u32,
    /// The place among the roots of the one that the result is; [`NONE`] when it is none.
    pub root: u32,
    operands: (u32, u32),
}

/// No slot, no root.
pub(super) const NONE: u32 = u32::MAX;

/// The most operands of a batch, so that a set of them is a word of bits.
pub(super) const BATCH: usize = 64;

/// Intersections of two operands, which are only counted. Operands are numbered by their place in
/// the batch's step.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub rows: Vec<Row>,
    /// For each operand those of lower numbers that it is paired with, as a set.
    pub before: Vec<u64>,
}

/// Intersections that share an operand.
#[derive(Debug)]
pub(super) struct Row {
    pub operand: u32,
    /// The other operands, as a set.
    pub columns: u64,
    /// Each of the others, with the place among the roots of its intersection.
    pub pairs: Vec<(u32, u32)>,
}

impl Batch {
    /// Adds a pair, to the last row if that has one of its operands.
    fn push(&mut self, pair: [u32; 2], root: u32) {
        let [a, b] = pair;
        self.before[a.max(b) as usize] |= 1 << a.min(b);
        let column = match self.rows.last_mut() {
            Some(row) if row.operand == a => b,
            Some(row) if row.operand == b => a,
            // Which operand the first two pairs share is known when the second comes.
            Some(Row {
                operand,
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
                    columns: 0,
                    pairs: Vec::new(),
                });
                b
            }
        };
        if let Some(row) = self.rows.last_mut() {
            row.columns |= 1 << column;
            row.pairs.push((column, root));
        }
    }
}

/// A compiled plan.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub steps: Vec<Step>,
    pub batches: Vec<Batch>,
    operands: Vec<Operand>,
    /// How many slots there are.
    pub slots: u32,
    /// The slot in which the result is that was to be kept.
    pub kept: u32,
}

impl Program {
    /// The steps that count the roots, each of which comes once.
    pub fn count(plan: &Plan, roots: &[NodeId]) -> Self {
        Compiler::new(plan, roots, None).compile(roots)
    }

    /// The steps that compute a node into [`kept`](Self::kept).
    pub fn keep(plan: &Plan, node: NodeId) -> Self {
        Compiler::new(plan, &[], Some(node)).compile(&[node])
    }

    /// How many operations there are for each tile number.
    pub fn operations(&self) -> usize {
        let pairs = self
            .batches
            .iter()
            .flat_map(|batch| &batch.rows)
            .map(|row| row.pairs.len());
        self.steps.len() + pairs.sum::<usize>()
    }

    /// The slots that a step reads.
    pub fn operands(&self, step: &Step) -> &[Operand] {
        &self.operands[step.operands.0 as usize..step.operands.1 as usize]
    }
}

/// The fewest operands of a union that is worth growing bit by bit.
const LARGE: usize = 3;

struct Compiler<'a> {
    plan: &'a [Node],
    nodes: Vec<State>,
    /// Slots that hold nothing of use.
    free: Vec<u32>,
    /// Those that are free after the next step.
    freed: Vec<u32>,
    /// Intersections of two that are counted with the next batch, and how many operands they have
    /// together.
    pending: Vec<usize>,
    pending_operands: usize,
    program: Program,
}

/// What is known of a node.
#[derive(Clone, Copy)]
struct State {
    /// How often it is still read.
    uses: u32,
    /// The sum of the places of those who read it: of the last one, which that is.
    readers: usize,
    /// Its place among the roots.
    root: u32,
    /// Where it is, or, for a union that is not done, where it grows.
    slot: u32,
    done: bool,
    /// Its number among the operands of the batch to come; [`NONE`] when it is none of them.
    pending: u32,
}

/// A number of nodes, operands or roots. A plan has fewer than 2³² of each.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(NONE)
}

impl<'a> Compiler<'a> {
    fn new(plan: &'a Plan, roots: &[NodeId], kept: Option<NodeId>) -> Self {
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
        for (place, root) in roots.iter().enumerate() {
            nodes[root.index()].root = number(place);
        }
        // Whoever asked for it reads it.
        kept.iter().for_each(|kept| nodes[kept.index()].uses = 1);
        for (place, node) in plan.iter().enumerate().rev() {
            if nodes[place].uses > 0 || nodes[place].root != NONE {
                for id in node.operands() {
                    nodes[id.index()].uses += 1;
                    nodes[id.index()].readers += place;
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
        // Nodes under way, each with the operand it is at, and needed by the one before it.
        let mut open: Vec<(usize, usize)> = Vec::new();
        for id in wanted {
            open.push((id.index(), 0));
            while let Some((node, at)) = open.last_mut() {
                match self.go_on(*node, at) {
                    Some(first) => open.push((first, 0)),
                    None => drop(open.pop()),
                }
            }
        }
        self.flush();
        self.program.kept = wanted.last().map_or(NONE, |id| self.nodes[id.index()].slot);
        self.program
    }

    /// Goes on with a node from an operand on; answers what has to be done before, if it is not
    /// done itself.
    fn go_on(&mut self, place: usize, at: &mut usize) -> Option<usize> {
        if self.nodes[place].done {
            return None;
        }
        let node = &self.plan[place];
        let ids = node.operands();
        let op = match node {
            Node::Or(_) | Node::Xor(_) => return self.grow(place, at),
            Node::Empty => Op::Empty,
            Node::Key(_) => Op::Leaf,
            Node::And(_) if self.nodes[place].uses == 0 => Op::AndCount,
            Node::And(_) => Op::And,
            Node::Diff(_) => Op::Diff,
            Node::Not(_) => Op::Not,
        };
        while let Some(operand) = ids.get(*at).map(|id| id.index()) {
            if !self.nodes[operand].done {
                return Some(operand);
            }
            *at += 1;
        }
        if let (Op::AndCount, Ok(pair)) = (op, <&[NodeId; 2]>::try_from(ids)) {
            self.put_off(place, pair);
            return None;
        }
        let from = self.read(place, ids.iter().map(|id| id.index()));
        if op != Op::AndCount {
            self.nodes[place].slot = self.slot();
        }
        self.push(op, place, from);
        self.done(place);
        None
    }

    /// The same for a union or a symmetric difference: first come the operands that are written
    /// down, then the others.
    fn grow(&mut self, place: usize, at: &mut usize) -> Option<usize> {
        let node = &self.plan[place];
        let ids = node.operands();
        while *at < 2 * ids.len() {
            let operand = ids[*at % ids.len()].index();
            let unwritten = if matches!(node, Node::Or(_)) {
                self.unwritten(operand)
            } else {
                None
            };
            match unwritten {
                Some(both) if *at >= ids.len() => {
                    if let Some(first) = both
                        .iter()
                        .map(|id| id.index())
                        .find(|both| !self.nodes[*both].done)
                    {
                        return Some(first);
                    }
                    self.put_in_both(place, operand, both);
                }
                None if *at < ids.len() => {
                    if !self.nodes[operand].done {
                        return Some(operand);
                    }
                    // It may have been gathered already.
                    if self.nodes[operand].uses > 0 {
                        self.put_in(place, operand);
                    }
                }
                _ => {}
            }
            *at += 1;
        }
        self.done(place);
        None
    }

    /// Leaves the intersection of two computed operands, which is only counted, to the next batch.
    fn put_off(&mut self, place: usize, pair: &[NodeId; 2]) {
        let new = |state: &Self| {
            pair.iter()
                .filter(|id| state.nodes[id.index()].pending == NONE)
                .count()
        };
        if self.pending_operands + new(self) > BATCH {
            self.flush();
        }
        for id in pair {
            let state = &mut self.nodes[id.index()];
            if state.pending == NONE {
                state.pending = number(self.pending_operands);
                self.pending_operands += 1;
            }
        }
        self.pending.push(place);
        self.nodes[place].done = true;
    }

    /// Counts what was put off.
    fn flush(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return;
        }
        let plan = self.plan;
        let mut batch = Batch {
            rows: Vec::new(),
            before: vec![0; self.pending_operands],
        };
        let mut operands = vec![0; self.pending_operands];
        for place in &pending {
            let mut pair = [0; 2];
            for (id, own) in plan[*place].operands().iter().zip(&mut pair) {
                let state = &mut self.nodes[id.index()];
                state.uses -= 1;
                state.readers -= place;
                *own = state.pending;
                operands[*own as usize] = id.index();
            }
            batch.push(pair, self.nodes[*place].root);
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
            operands,
        });
        self.free.append(&mut self.freed);
        for place in pending {
            self.gather(place);
        }
    }

    /// A slot that holds nothing of use.
    fn slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.program.slots += 1;
            self.program.slots - 1
        })
    }

    /// The operands of the intersection that an operand of a union is, when the union is all it is
    /// for.
    fn unwritten(&self, place: usize) -> Option<&'a [NodeId; 2]> {
        let State {
            uses, root, done, ..
        } = self.nodes[place];
        match &self.plan[place] {
            Node::And(ids) if uses == 1 && root == NONE && !done => ids[..].try_into().ok(),
            _ => None,
        }
    }

    /// Has a node read operands; answers where these begin in the program.
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

    /// Adds a step whose result is in the node's slot and whose operands begin there.
    fn push(&mut self, op: Op, place: usize, from: u32) {
        let State { slot, root, .. } = self.nodes[place];
        let root = if matches!(op, Op::AndCount | Op::Count) {
            root
        } else {
            NONE
        };
        let operands = (from, number(self.program.operands.len()));
        self.program.steps.push(Step {
            op,
            out: slot,
            node: number(place),
            root,
            operands,
        });
        self.free.append(&mut self.freed);
    }

    /// Puts an operand into a union or a symmetric difference.
    fn put_in(&mut self, place: usize, operand: usize) {
        let State { uses, slot, .. } = self.nodes[operand];
        if self.nodes[place].slot != NONE {
            let op = if matches!(self.plan[place], Node::Xor(_)) {
                Op::Xor
            } else {
                Op::Or
            };
            let from = self.read(place, [operand]);
            self.push(op, place, from);
        } else if uses == 1 && !matches!(self.plan[operand], Node::Key(_)) {
            // Nobody else needs it: it grows where it is.
            self.nodes[operand].uses = 0;
            self.nodes[place].slot = slot;
        } else {
            let from = self.read(place, [operand]);
            self.nodes[place].slot = self.slot();
            self.push(Op::Set, place, from);
        }
    }

    /// Puts an intersection that is not written down into a union.
    fn put_in_both(&mut self, place: usize, and: usize, both: &[NodeId; 2]) {
        let from = self.read(and, both.iter().map(|id| id.index()));
        let op = if self.nodes[place].slot == NONE {
            Op::And
        } else {
            Op::OrAnd
        };
        if op == Op::And {
            self.nodes[place].slot = self.slot();
        }
        self.push(op, place, from);
        self.nodes[and].uses = 0;
        self.nodes[and].done = true;
        self.gather(and);
    }

    /// A node is computed.
    fn done(&mut self, place: usize) {
        let State {
            root, slot, uses, ..
        } = self.nodes[place];
        self.nodes[place].done = true;
        if root != NONE && slot != NONE {
            match self.program.steps.last_mut() {
                // A leaf is not read before somebody needs it.
                Some(step) if step.out == slot && step.root == NONE && step.op != Op::Leaf => {
                    step.root = root
                }
                _ => self.push(Op::Count, place, number(self.program.operands.len())),
            }
        }
        if uses == 0 && slot != NONE {
            self.free.push(slot);
        }
        self.gather(place);
    }

    /// Of the operands of a node those that only one large union still needs go into it.
    fn gather(&mut self, place: usize) {
        for operand in self.plan[place].operands().iter().map(|id| id.index()) {
            let State {
                uses,
                readers: reader,
                done,
                ..
            } = self.nodes[operand];
            if uses == 1
                && done
                && matches!(&self.plan[reader], Node::Or(ids) if ids.len() >= LARGE)
            {
                self.put_in(reader, operand);
            }
        }
    }
}
