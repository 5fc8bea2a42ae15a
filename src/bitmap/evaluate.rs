//! Evaluates plans tile by tile. For each tile number, every node is computed at most once, and
//! only if a root needs it. The compiled [`Program`] determines how many tiles are in memory.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;

use crate::bitmap::cores::Share;
use crate::bitmap::kernel::Keep;
use crate::bitmap::pairs::{Lists, Pairs, mixed};
use crate::bitmap::program::{BATCH, Batch, NONE, Op, Operand, Program, Row, Step};
use crate::bitmap::strips::{Code, Strips, suits};
use crate::bitmap::tile::{TILE_BYTES, Tile};
use crate::sets::{Node, NodeId, Plan};

/// The source of the bitmaps of a plan's keys. A leaf is identified by its [`NodeId::index`].
pub trait Source: Sync {
    /// The error of a failed read.
    type Error: Send;

    /// Returns the length of a bitmap in bytes, as in Redis.
    fn byte_len(&self, leaf: usize) -> u64;

    /// Returns the number of users in a bitmap, if it is known without reading tiles.
    fn users(&self, leaf: usize) -> Option<u64>;

    /// Returns the numbers of the tiles that may contain users, in ascending order.
    fn tiles(&self, leaf: usize) -> &[u16];

    /// Returns one of these tiles.
    ///
    /// # Errors
    /// Returns an error if the tile cannot be read.
    fn tile(&self, leaf: usize, number: u16) -> Result<Arc<Tile>, Self::Error>;

    /// Called before each tile number, that is, every few milliseconds.
    ///
    /// # Errors
    /// Returns an error to cancel the evaluation.
    fn go_on(&self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// The range of all tile numbers.
pub const EVERYWHERE: RangeInclusive<u16> = 0..=u16::MAX;

/// The number of operations on tiles per thread that makes another thread worthwhile.
const OPERATIONS_PER_THREAD: usize = 10_000;

/// Returns the number of users in each root of the plan.
///
/// # Errors
/// Returns the first error of the source.
pub fn count<S: Source>(plan: &Plan, source: &S) -> Result<Vec<u64>, S::Error> {
    count_within(plan, source, EVERYWHERE)
}

/// Returns the number of users in each root of the plan, for the tiles in a range only. A root that
/// is a key whose [number of users](Source::users) is known has that count, whatever the range.
///
/// # Errors
/// Returns the first error of the source.
pub fn count_within<S: Source>(
    plan: &Plan,
    source: &S,
    within: RangeInclusive<u16>,
) -> Result<Vec<u64>, S::Error> {
    let mut counts = vec![0; plan.nodes().len()];
    let mut seen = vec![false; plan.nodes().len()];
    let mut roots = plan.roots().to_vec();
    roots.retain(|root| {
        let index = root.index();
        if std::mem::replace(&mut seen[index], true) {
            return false;
        }
        // Known numbers are not counted. An overview of many events needs no others.
        let users = match plan.node(*root) {
            Node::Key(_) => source.users(index),
            _ => None,
        };
        counts[index] = users.unwrap_or(0);
        users.is_none()
    });
    if !roots.is_empty() {
        count_roots(plan, source, within, &roots, &mut counts)?;
    }
    let counted = plan.roots().iter().map(|root| counts[root.index()]);
    Ok(counted.collect())
}

/// Adds the number of users in each of `roots`, which must be different nodes, to the count of its
/// node.
fn count_roots<S: Source>(
    plan: &Plan,
    source: &S,
    within: RangeInclusive<u16>,
    roots: &[NodeId],
    counts: &mut [u64],
) -> Result<(), S::Error> {
    let program = Program::count(plan, roots);
    let code = Code::of(&program);
    let lens = byte_lens(plan, source);
    let tiles = tile_numbers(plan, source, &lens, &within, roots);
    let share =
        Share::of_all(tiles.len().saturating_mul(program.operations()) / OPERATIONS_PER_THREAD + 1);
    let threads = share.threads();
    // Each thread takes a few tile numbers at a time, so that a thread that starts late or is
    // interrupted takes fewer of them.
    let piece = (tiles.len() / (8 * threads)).max(1);
    let next = AtomicUsize::new(0);
    let part = || {
        let mut machine = Machine::new(plan, source, &lens, &program);
        machine.strips = code
            .as_ref()
            .map(|code| (code, Strips::new(&program, code)));
        let mut counts = vec![0; roots.len()];
        while let Some(tiles) = tiles
            .chunks(piece)
            .nth(next.fetch_add(1, Ordering::Relaxed))
        {
            tiles
                .iter()
                .try_for_each(|tile| machine.run(*tile, &mut counts))?;
        }
        Ok(counts)
    };
    let parts: Vec<Result<Vec<u64>, S::Error>> = if threads == 1 {
        vec![part()]
    } else {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(part)).collect();
            let own = part();
            let others = workers.into_iter().map(|w| {
                w.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            std::iter::once(own).chain(others).collect()
        })
    };
    for part in parts {
        for (root, count) in roots.iter().zip(part?) {
            counts[root.index()] += count;
        }
    }
    Ok(())
}

/// Passes the tiles of a node within a range to `each`, in ascending order, until `each` returns
/// `false`. Skips empty tiles.
///
/// # Errors
/// Returns the first error of the source.
pub fn collect<S: Source>(
    plan: &Plan,
    node: NodeId,
    source: &S,
    within: RangeInclusive<u16>,
    mut each: impl FnMut(u16, &Tile) -> bool,
) -> Result<(), S::Error> {
    let program = Program::compute(plan, node);
    let lens = byte_lens(plan, source);
    let mut machine = Machine::new(plan, source, &lens, &program);
    for number in tile_numbers(plan, source, &lens, &within, &[node]) {
        machine.run(number, &mut [])?;
        if machine.load(program.result)?
            && let Some(tile) = machine.tile(program.result)
            && !each(number, tile)
        {
            break;
        }
    }
    Ok(())
}

/// Returns the maximum number of tiles that one thread has in memory while it counts a plan,
/// whatever the bitmaps contain. A tile takes at most 8 KiB, and there is at most one thread per
/// processor.
///
/// ```
/// use cohortist::bitmap::tiles_held;
/// use cohortist::sets::{EventName, Plan, Set};
/// let mut plan = Plan::new();
/// let events: Vec<Set> = (0..100).map(|n| Set::ever(&EventName::new(&format!("e{n}")).unwrap())).collect();
/// plan.count_set(&Set::Or(events));
/// // The union so far, and the next event.
/// assert_eq!(tiles_held(&plan), 2);
/// ```
pub fn tiles_held(plan: &Plan) -> usize {
    let mut seen = vec![false; plan.nodes().len()];
    let mut roots = plan.roots().to_vec();
    roots.retain(|root| !std::mem::replace(&mut seen[root.index()], true));
    let program = Program::count(plan, &roots);
    let leaves = Code::of(&program).map_or(0, |code| code.leaves().len());
    leaves.max(program.slots as usize)
}

/// Returns the length of every node in bytes. As in Redis, the result of an operation is as long as
/// the longest operand.
fn byte_lens<S: Source>(plan: &Plan, source: &S) -> Vec<u64> {
    let mut lens: Vec<u64> = Vec::with_capacity(plan.nodes().len());
    for (i, node) in plan.nodes().iter().enumerate() {
        let len = match node {
            Node::Key(_) => source.byte_len(i),
            _ => node
                .operands()
                .iter()
                .map(|id| lens[id.index()])
                .max()
                .unwrap_or(0),
        };
        lens.push(len);
    }
    lens
}

/// Returns the numbers of the tiles in which any of the roots may have users, in ascending order.
fn tile_numbers<S: Source>(
    plan: &Plan,
    source: &S,
    lens: &[u64],
    within: &RangeInclusive<u16>,
    roots: &[NodeId],
) -> Vec<u16> {
    let mut used = [false; GROUPS];
    for (i, node) in plan.nodes().iter().enumerate() {
        match node {
            // Most keys have all tiles from the first to the last one.
            Node::Key(_) => match source.tiles(i) {
                [] => {}
                tiles @ [first, .., last] if usize::from(last - first) + 1 == tiles.len() => {
                    used[usize::from(first / 64)..=usize::from(last / 64)].fill(true);
                }
                tiles => tiles
                    .iter()
                    .for_each(|tile| used[usize::from(tile / 64)] = true),
            },
            Node::Not(a) if lens[a.index()] > 0 => {
                used[..=usize::from(end(lens[a.index()]) / 64)].fill(true)
            }
            _ => {}
        }
    }
    let mut presence = Presence::new(plan);
    let mut found = Vec::new();
    let groups = within.start() / 64..=within.end() / 64;
    for group in groups.filter(|group| used[usize::from(*group)]) {
        presence.go_to(group, plan, source, lens);
        let any = roots
            .iter()
            .fold(0, |any, root| any | presence.words[root.index()]);
        let numbers = (0..64)
            .filter(|bit| any & (1 << bit) != 0)
            .map(|bit| group * 64 + bit);
        found.extend(numbers.filter(|number| within.contains(number)));
    }
    found
}

/// The number of groups of 64 tiles.
const GROUPS: usize = 1 << 10;

/// Returns the number of the last tile of a bitmap of `len` bytes, which must be at least one. Bits
/// beyond the greatest user id do not count.
fn end(len: u64) -> u16 {
    u16::try_from(len.div_ceil(TILE_BYTES) - 1).unwrap_or(u16::MAX)
}

/// For each node, the set of tiles in which it may have users, for one group of 64 tiles. It is
/// computed by applying the operation of the node to the sets of its operands.
struct Presence {
    group: Option<u16>,
    words: Vec<u64>,
}

impl Presence {
    fn new(plan: &Plan) -> Self {
        Presence {
            group: None,
            words: vec![0; plan.nodes().len()],
        }
    }

    /// Changes to a group, which consists of the 64 tiles from 64 × `group` on.
    fn go_to<S: Source>(&mut self, group: u16, plan: &Plan, source: &S, lens: &[u64]) {
        if self.group.replace(group) == Some(group) {
            return;
        }
        for (i, node) in plan.nodes().iter().enumerate() {
            let mut words = node.operands().iter().map(|id| self.words[id.index()]);
            self.words[i] = match node {
                Node::Empty => 0,
                Node::Key(_) => within(source.tiles(i), group),
                Node::Not(a) if lens[a.index()] > 0 => run(0, end(lens[a.index()]), group),
                Node::Not(_) => 0,
                Node::And(_) => words
                    .reduce(|a, b| a & b)
                    .expect("an intersection has operands"),
                Node::Or(_) | Node::Xor(_) => words.fold(0, |a, b| a | b),
                Node::Diff(_) => words.next().expect("a difference has two operands"),
            };
        }
    }
}

/// Returns the set of those tiles, given in ascending order, that belong to a group.
fn within(tiles: &[u16], group: u16) -> u64 {
    match tiles {
        [] => 0,
        [first, .., last] if usize::from(last - first) + 1 == tiles.len() => {
            run(*first, *last, group)
        }
        _ => {
            let start = tiles.partition_point(|tile| tile / 64 < group);
            let own = tiles[start..]
                .iter()
                .take_while(|tile| **tile / 64 == group);
            own.fold(0, |word, tile| word | 1 << (tile % 64))
        }
    }
}

/// Returns the set of those tiles from `first` to `last`, both included, that belong to a group.
fn run(first: u16, last: u16, group: u16) -> u64 {
    if last / 64 < group || first / 64 > group {
        return 0;
    }
    let from = first.max(group * 64) % 64;
    let to = last.min(group * 64 + 63) % 64;
    u64::MAX << from & u64::MAX >> (63 - to)
}

/// The contents of a slot.
#[derive(Clone)]
enum Slot {
    /// No users.
    Empty,
    /// The tile of the key at a node, which is not read yet.
    Unread(u32),
    /// A tile with users.
    Tile(Arc<Tile>),
}

/// Executes a program for one tile number after the other.
struct Machine<'a, S> {
    plan: &'a Plan,
    source: &'a S,
    lens: &'a [u64],
    program: &'a Program,
    presence: Presence,
    slots: Vec<Slot>,
    lists: Lists,
    /// For tile numbers in which most bitmaps are dense.
    strips: Option<(&'a Code, Strips<'a>)>,
    /// For each node that is a key, its tile if it was read in advance.
    read: Vec<Option<Arc<Tile>>>,
    number: u16,
}

impl<'a, S: Source> Machine<'a, S> {
    fn new(plan: &'a Plan, source: &'a S, lens: &'a [u64], program: &'a Program) -> Self {
        let slots = vec![Slot::Empty; program.slots as usize];
        Machine {
            plan,
            source,
            lens,
            program,
            presence: Presence::new(plan),
            slots,
            lists: Lists::default(),
            strips: None,
            read: vec![None; plan.nodes().len()],
            number: 0,
        }
    }

    /// Executes all steps for a tile number, and adds the results to `counts`.
    fn run(&mut self, number: u16, counts: &mut [u64]) -> Result<(), S::Error> {
        self.source.go_on()?;
        self.number = number;
        self.presence
            .go_to(number / 64, self.plan, self.source, self.lens);
        if self.run_strips(counts)? {
            return Ok(());
        }
        let program = self.program;
        let mut steps = program.steps.iter();
        while let Some(step) = steps.next() {
            let operands = program.operands(step);
            match step.op {
                Op::Batch => self.batch(&program.batches[step.node as usize], operands, counts)?,
                Op::AndCount => counts[step.root as usize] += self.and_count(operands)?,
                Op::Or => {
                    // Steps that add to the same union are combined, unless a step is counted.
                    let mut last = step;
                    let mut all: SmallVec<[Operand; 8]> = operands.into();
                    while last.root == NONE
                        && let Some(next) = steps.as_slice().first()
                        && (next.op, next.out) == (Op::Or, step.out)
                    {
                        all.extend_from_slice(program.operands(next));
                        last = next;
                        steps.next();
                    }
                    self.or_all(step.out, &all)?;
                    self.count(last, counts);
                }
                _ => {
                    self.step(step, operands)?;
                    self.count(step, counts);
                }
            }
        }
        Ok(())
    }

    /// Executes the program strip by strip, if most of its bitmaps are dense. Returns whether it was
    /// executed.
    fn run_strips(&mut self, counts: &mut [u64]) -> Result<bool, S::Error> {
        let Some((code, strips)) = &mut self.strips else {
            return Ok(false);
        };
        let leaves = code.leaves();
        let keys = |leaf: &&u32| matches!(self.plan.nodes()[**leaf as usize], Node::Key(_));
        let keys = leaves.iter().filter(keys).count();
        let is_present =
            |leaf: u32| self.presence.words[leaf as usize] & 1 << (self.number % 64) != 0;
        leaves
            .iter()
            .for_each(|leaf| self.read[*leaf as usize] = None);
        let present = leaves.iter().filter(|leaf| is_present(**leaf));
        if !suits(present.clone().count(), keys) {
            return Ok(false);
        }
        let mut dense = 0;
        for leaf in present.map(|leaf| *leaf as usize) {
            let tile = self.source.tile(leaf, self.number)?;
            dense += usize::from(tile.dense().is_some());
            self.read[leaf] = Some(tile);
        }
        if !suits(dense, keys) {
            return Ok(false);
        }
        for leaf in leaves {
            let read = &mut self.read[*leaf as usize];
            if let Some(list) = read.as_deref().filter(|tile| tile.dense().is_none()) {
                *read = Some(Arc::new(list.to_dense()));
            }
        }
        let tile = |leaf: &u32| self.read[*leaf as usize].as_deref()?.dense();
        let tiles: Vec<_> = leaves.iter().map(tile).collect();
        strips.run(&tiles, counts);
        Ok(true)
    }

    /// Adds the number of users in the result of a step to its root, if it has one.
    fn count(&self, step: &Step, counts: &mut [u64]) {
        if step.root != NONE {
            counts[step.root as usize] += self.tile(step.out).map_or(0, Tile::len);
        }
    }

    /// Executes a step that stores a result.
    fn step(&mut self, step: &Step, operands: &[Operand]) -> Result<(), S::Error> {
        let out = step.out as usize;
        match (step.op, operands) {
            (Op::Leaf, _) => {
                let present =
                    self.presence.words[step.node as usize] & 1 << (self.number % 64) != 0;
                self.slots[out] = if present {
                    Slot::Unread(step.node)
                } else {
                    Slot::Empty
                };
            }
            (Op::Set, [operand]) => {
                self.load(operand.slot)?;
                self.slots[out] = self.take_operand(*operand);
            }
            (Op::Xor, [operand]) => {
                if self.load(operand.slot)? {
                    self.combine_with(out, *operand, |tile, other| *tile = tile.xor(other));
                }
            }
            (Op::OrAnd, [a, b]) => {
                if self.load_all(operands)? {
                    let mut grown = std::mem::replace(&mut self.slots[out], Slot::Empty);
                    if let (Some(a), Some(b)) = (self.tile(a.slot), self.tile(b.slot)) {
                        match &mut grown {
                            // The tile is copied only if the union started as the tile of a key.
                            Slot::Tile(tile) => Arc::make_mut(tile).or_assign_and(a, b),
                            _ => grown = to_slot(a.and(b)),
                        }
                    }
                    self.slots[out] = grown;
                }
            }
            (Op::And, [first, rest @ ..]) => {
                self.slots[out] = Slot::Empty;
                if self.load_all(operands)? {
                    let product = self.product(*first, rest);
                    self.slots[out] = product;
                }
            }
            (Op::Diff, [a, b]) => {
                self.slots[out] = Slot::Empty;
                if self.load(a.slot)? {
                    self.load(b.slot)?;
                    let mut left = self.take_operand(*a);
                    if let (Slot::Tile(tile), Some(other)) = (&mut left, self.tile(b.slot)) {
                        // The tile is copied if it is needed later.
                        let tile = Arc::make_mut(tile);
                        tile.keep(other, Keep::Outside);
                        if tile.is_empty() {
                            left = Slot::Empty;
                        }
                    }
                    self.slots[out] = left;
                }
            }
            (Op::Not, [a]) => {
                self.load(a.slot)?;
                let bytes = self.lens[step.node as usize]
                    .saturating_sub(u64::from(self.number) * TILE_BYTES);
                let empty = Tile::default();
                self.slots[out] = match bytes {
                    0 => Slot::Empty,
                    _ => to_slot(self.tile(a.slot).unwrap_or(&empty).complement(bytes)),
                };
            }
            (Op::Count, _) => drop(self.load(step.out)?),
            (Op::Empty, _) => self.slots[out] = Slot::Empty,
            _ => unreachable!("the compiler creates no such step: {step:?}"),
        }
        Ok(())
    }

    /// Reads the tile in a slot, if it was not read yet. Returns whether the slot has users.
    fn load(&mut self, slot: u32) -> Result<bool, S::Error> {
        let slot = &mut self.slots[slot as usize];
        if let Slot::Unread(leaf) = *slot {
            let tile = match self.read[leaf as usize].take() {
                Some(tile) => tile,
                None => self.source.tile(leaf as usize, self.number)?,
            };
            *slot = if tile.is_empty() {
                Slot::Empty
            } else {
                Slot::Tile(tile)
            };
        }
        Ok(matches!(slot, Slot::Tile(_)))
    }

    /// Reads the tiles of operands until one is empty. Returns whether all have users.
    fn load_all(&mut self, operands: &[Operand]) -> Result<bool, S::Error> {
        // If an operand is known to be empty, nothing need be read.
        if operands
            .iter()
            .any(|operand| matches!(self.slots[operand.slot as usize], Slot::Empty))
        {
            return Ok(false);
        }
        for operand in operands {
            if !self.load(operand.slot)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn tile(&self, slot: u32) -> Option<&Tile> {
        match &self.slots[slot as usize] {
            Slot::Tile(tile) => Some(tile),
            Slot::Empty | Slot::Unread(_) => None,
        }
    }

    /// Returns the contents of an operand, as the start of a result. Moves them out of the slot if
    /// no later step reads it.
    fn take_operand(&mut self, operand: Operand) -> Slot {
        let slot = &mut self.slots[operand.slot as usize];
        if operand.last {
            std::mem::replace(slot, Slot::Empty)
        } else {
            slot.clone()
        }
    }

    /// Combines a slot with an operand that has users. An empty slot becomes the operand.
    fn combine_with(&mut self, out: usize, operand: Operand, join: fn(&mut Tile, &Tile)) {
        match std::mem::replace(&mut self.slots[out], Slot::Empty) {
            Slot::Tile(mut tile) => {
                if let Some(other) = self.tile(operand.slot) {
                    join(Arc::make_mut(&mut tile), other);
                }
                self.slots[out] = if tile.is_empty() {
                    Slot::Empty
                } else {
                    Slot::Tile(tile)
                };
            }
            _ => self.slots[out] = self.take_operand(operand),
        }
    }

    /// Adds operands to a slot.
    fn or_all(&mut self, out: u32, operands: &[Operand]) -> Result<(), S::Error> {
        let mut present: SmallVec<[Operand; 8]> = SmallVec::new();
        for operand in operands {
            if self.load(operand.slot)? {
                present.push(*operand);
            }
        }
        let out = out as usize;
        if !matches!(self.slots[out], Slot::Tile(_))
            && let Some(first) = present.pop()
        {
            self.slots[out] = self.take_operand(first);
        }
        let Slot::Tile(mut tile) = std::mem::replace(&mut self.slots[out], Slot::Empty) else {
            return Ok(());
        };
        if !present.is_empty() {
            let others: SmallVec<[&Tile; 32]> = present
                .iter()
                .filter_map(|operand| self.tile(operand.slot))
                .collect();
            Arc::make_mut(&mut tile).or_assign_all(&others);
        }
        self.slots[out] = Slot::Tile(tile);
        Ok(())
    }

    /// Counts the pairs of a batch.
    fn batch(
        &mut self,
        batch: &Batch,
        operands: &[Operand],
        counts: &mut [u64],
    ) -> Result<(), S::Error> {
        let slot_of = |at: usize| operands[at].slot as usize;
        let set_of = |holds: &dyn Fn(usize) -> bool| {
            (0..operands.len()).fold(0, |set, at| set | u64::from(holds(at)) << at)
        };
        let mut present = set_of(&|at| !matches!(self.slots[slot_of(at)], Slot::Empty));
        // A tile is read only if another tile that it is paired with may have users.
        let mut unread = set_of(&|at| matches!(self.slots[slot_of(at)], Slot::Unread(_)));
        for row in &batch.rows {
            let own = 1 << row.operand;
            let is_empty = present & row.columns == 0 && row.running != Some(Keep::Outside);
            if present & own == 0 || is_empty {
                continue;
            }
            let mut wanted = unread & (own | row.columns & present);
            unread &= !wanted;
            while wanted != 0 {
                let at = wanted.trailing_zeros();
                wanted &= wanted - 1;
                if !self.load(operands[at as usize].slot)? {
                    present &= !(1 << at);
                }
            }
        }
        present &= !unread;
        let mut lists = std::mem::take(&mut self.lists);
        let tiles: SmallVec<[Option<&Tile>; BATCH]> = operands
            .iter()
            .map(|operand| self.tile(operand.slot))
            .collect();
        let dense = set_of(&|at| matches!(tiles[at], Some(Tile::Dense(_))));
        let mut pairs = Pairs::default();
        // Pairs of lists are counted at the end.
        let with_words = |row: &&Row| {
            let has_words = dense & (1 << row.operand | row.columns) != 0;
            row.running.is_some() || has_words && row.columns & present != 0
        };
        for row in batch.rows.iter().filter(with_words) {
            let others = row
                .pairs
                .iter()
                .map(|(at, root)| (tiles[*at as usize], *root));
            match (tiles[row.operand as usize], row.running) {
                (Some(own), Some(keep)) => pairs.running(own, keep, others, counts),
                (Some(Tile::Dense(own)), None) => {
                    if row.columns & dense != row.columns & present {
                        for (other, root) in others.clone() {
                            if let Some(Tile::Sparse(other)) = other {
                                counts[root as usize] += mixed(other, own);
                            }
                        }
                    }
                    let others = others.filter_map(|(other, root)| Some((other?.dense()?, root)));
                    pairs.row(own, others, counts);
                }
                (Some(Tile::Sparse(own)), None) if row.columns & dense != 0 => {
                    for (other, root) in others {
                        if let Some(Tile::Dense(other)) = other {
                            counts[root as usize] += mixed(own, other);
                        }
                    }
                }
                _ => {}
            }
        }
        pairs.count(dense.count_ones() as usize, counts);
        if present & !dense != 0 {
            lists.count(&tiles, &batch.before);
            for row in batch.rows.iter().filter(|row| row.running.is_none()) {
                for (column, root) in &row.pairs {
                    counts[*root as usize] += lists.counted(row.operand, *column);
                }
            }
        }
        drop(tiles);
        self.lists = lists;
        Ok(())
    }

    /// Returns the intersection of operands that have users.
    fn product(&mut self, first: Operand, rest: &[Operand]) -> Slot {
        let mut product = self.take_operand(first);
        for operand in rest {
            let (Slot::Tile(tile), Some(other)) = (&product, self.tile(operand.slot)) else {
                return Slot::Empty;
            };
            product = to_slot(tile.and(other));
        }
        product
    }

    /// Returns the number of users in the intersection of three or more operands. The last
    /// intersection is not stored.
    fn and_count(&mut self, operands: &[Operand]) -> Result<u64, S::Error> {
        if !self.load_all(operands)? {
            return Ok(0);
        }
        let [first, middle @ .., last] = operands else {
            unreachable!("the compiler creates such steps for three or more operands");
        };
        let product = self.product(*first, middle);
        Ok(match (&product, self.tile(last.slot)) {
            (Slot::Tile(tile), Some(last)) => tile.and_count(last),
            _ => 0,
        })
    }
}

/// Returns a slot with a new tile.
fn to_slot(tile: Tile) -> Slot {
    if tile.is_empty() {
        Slot::Empty
    } else {
        Slot::Tile(Arc::new(tile))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::bitmap::tile::{split, user};
    use crate::sets::{EventName, Set, UserId};

    /// Bitmaps in memory, by the index of their key in a plan.
    struct Bitmaps {
        numbers: Vec<Vec<u16>>,
        tiles: Vec<Vec<Arc<Tile>>>,
    }

    impl Bitmaps {
        fn of(plan: &Plan, bitmaps: &[(Set, BTreeSet<UserId>)]) -> Self {
            let mut held = Bitmaps {
                numbers: Vec::new(),
                tiles: Vec::new(),
            };
            for node in plan.nodes() {
                let users: Vec<UserId> = match node {
                    Node::Key(key) => {
                        let own = bitmaps
                            .iter()
                            .find(|(set, _)| *set == Set::Key(key.clone()));
                        own.map(|(_, users)| users.iter().copied().collect())
                            .unwrap_or_default()
                    }
                    _ => Vec::new(),
                };
                let tiles = users.chunk_by(|a, b| split(*a).0 == split(*b).0);
                held.numbers
                    .push(tiles.clone().map(|users| split(users[0]).0).collect());
                held.tiles.push(
                    tiles
                        .map(|users| Arc::new(users.iter().map(|user| split(*user).1).collect()))
                        .collect(),
                );
            }
            held
        }
    }

    impl Source for Bitmaps {
        type Error = Infallible;

        fn byte_len(&self, leaf: usize) -> u64 {
            let last = self.numbers[leaf].last().zip(self.tiles[leaf].last());
            last.and_then(|(number, tile)| Some(u64::from(user(*number, tile.last()?)) / 8 + 1))
                .unwrap_or(0)
        }

        fn users(&self, _: usize) -> Option<u64> {
            None
        }

        fn tiles(&self, leaf: usize) -> &[u16] {
            &self.numbers[leaf]
        }

        fn tile(&self, leaf: usize, number: u16) -> Result<Arc<Tile>, Infallible> {
            Ok(self.numbers[leaf]
                .binary_search(&number)
                .map_or_else(|_| Arc::default(), |at| self.tiles[leaf][at].clone()))
        }
    }

    /// Generates bitmaps with many users, in up to three tiles.
    fn many() -> impl Strategy<Value = BTreeSet<UserId>> {
        (any::<u64>(), 2..60_u32).prop_map(|(seed, apart)| {
            let mut state = seed;
            let mut next = move || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                u32::try_from(state >> 33).unwrap_or(0)
            };
            let mut at = 0;
            std::iter::from_fn(move || {
                at += 1 + next() % apart;
                (at < 3 << 16).then_some(at)
            })
            .collect()
        })
    }

    /// Generates bitmaps with few users, with many users, or with consecutive users, in up to three
    /// tiles.
    fn bitmap() -> impl Strategy<Value = BTreeSet<UserId>> {
        let few = proptest::collection::btree_set(0..3_u32 << 16, 0..60);
        let row = (0..3_u32 << 16, 0..6000_u32)
            .prop_map(|(from, len)| (from..(from + len).min(3 << 16)).collect());
        prop_oneof![3 => few, 1 => many(), 1 => row]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn plans_count_like_sets(
            bitmaps in prop_oneof![
                proptest::collection::vec(bitmap(), 1..12),
                proptest::collection::vec(prop_oneof![9 => many(), 1 => bitmap()], 4..12),
            ],
            ops in proptest::collection::vec((0..6_u8, proptest::collection::vec(any::<Index>(), 2..5)), 0..60),
            pairs in proptest::collection::vec((any::<Index>(), any::<Index>()), 0..200),
        ) {
            let key = |number: usize| Set::ever(&EventName::new(&format!("e{number}")).unwrap());
            let bitmaps: Vec<(Set, BTreeSet<UserId>)> =
                bitmaps.into_iter().enumerate().map(|(number, users)| (key(number), users)).collect();
            let mut plan = Plan::new();
            let mut known: Vec<(NodeId, BTreeSet<UserId>)> =
                bitmaps.iter().map(|(set, users)| (plan.add(set).unwrap(), users.clone())).collect();
            for (op, operands) in &ops {
                let picked: Vec<&(NodeId, BTreeSet<UserId>)> = operands.iter().map(|pick| pick.get(&known)).collect();
                let ids: Vec<NodeId> = picked.iter().map(|(id, _)| *id).collect();
                let mut users = picked.iter().map(|(_, users)| users.clone());
                let first = users.next().unwrap();
                let result = match op {
                    0 | 1 => (plan.and(&ids), users.fold(first, |all, next| &all & &next)),
                    2 | 3 => (plan.or(&ids), users.fold(first, |all, next| &all | &next)),
                    4 => (plan.xor(&ids), users.fold(first, |all, next| &all ^ &next)),
                    _ => (plan.diff(ids[0], ids[1]), &first - &users.next().unwrap()),
                };
                known.push(result);
            }
            let mut expected = Vec::new();
            for (a, b) in &pairs {
                let ((a, ours), (b, theirs)) = (a.get(&known), b.get(&known));
                let both = plan.and([*a, *b]);
                plan.count(both);
                expected.push((ours & theirs).len() as u64);
            }
            for (id, users) in &known {
                plan.count(*id);
                expected.push(users.len() as u64);
            }
            let held = Bitmaps::of(&plan, &bitmaps);
            let Ok(counts) = count(&plan, &held);
            prop_assert_eq!(counts, expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

        #[test]
        fn many_intersections_are_split_into_batches(
            bitmaps in proptest::collection::vec(proptest::collection::btree_set(0..2000_u32, 0..1000), 70..150),
            columns in 2..80_usize,
        ) {
            let sets: Vec<(Set, BTreeSet<UserId>)> = bitmaps
                .into_iter()
                .enumerate()
                .map(|(number, users)| (Set::ever(&EventName::new(&format!("e{number}")).unwrap()), users))
                .collect();
            let mut plan = Plan::new();
            let mut expected = Vec::new();
            for (own, (set, users)) in sets.iter().enumerate() {
                for (other, theirs) in sets[own..].iter().take(columns) {
                    plan.count_set(&(set.clone() & other.clone())).unwrap();
                    expected.push((users & theirs).len() as u64);
                }
            }
            plan.count_set(&Set::Or(sets.iter().map(|(set, _)| set.clone()).collect())).unwrap();
            expected.push(sets.iter().flat_map(|(_, users)| users).collect::<BTreeSet<_>>().len() as u64);
            let held = Bitmaps::of(&plan, &sets);
            let Ok(counts) = count(&plan, &held);
            prop_assert_eq!(counts, expected);
            prop_assert!(tiles_held(&plan) <= columns + BATCH + 4, "{}", tiles_held(&plan));
        }
    }
}
