//! A plan, evaluated tile by tile: every node at most once for each tile, and none that no root needs. What is held at once
//! is settled by the compiled [`Program`].

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::bitmap::cores::Share;
use crate::bitmap::program::{NONE, Op, Operand, Program, Step};
use crate::bitmap::tile::{TILE_BYTES, Tile};
use crate::sets::{Node, NodeId, Plan};

/// Where the tiles of a plan's keys come from. Leaves are numbered by their [`NodeId::index`].
pub trait Source: Sync {
    /// What can go wrong.
    type Error: Send;

    /// The byte length of the key's bitmap: that of the Redis string it stands for.
    fn byte_len(&self, leaf: usize) -> u64;

    /// How many users the key has, where that is known without its tiles.
    fn users(&self, leaf: usize) -> Option<u64>;

    /// The numbers of the key's tiles that may hold users, ascending.
    fn tiles(&self, leaf: usize) -> &[u16];

    /// One of these tiles.
    ///
    /// # Errors
    /// When it cannot be read.
    fn tile(&self, leaf: usize, number: u16) -> Result<Arc<Tile>, Self::Error>;

    /// Asked before each tile column, which takes a few milliseconds at most.
    ///
    /// # Errors
    /// When the evaluation is to stop.
    fn go_on(&self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// All tiles there are.
pub const EVERYWHERE: RangeInclusive<u16> = 0..=u16::MAX;

/// Below this many steps in all a plan is not worth a second thread.
const WORTH_A_THREAD: usize = 10_000;

/// One count for each root of the plan.
///
/// # Errors
/// The first error of the source.
pub fn count<S: Source>(plan: &Plan, source: &S) -> Result<Vec<u64>, S::Error> {
    count_within(plan, source, EVERYWHERE)
}

/// For each root of the plan how many of its users are in some of the tiles. A key whose [users](Source::users) are known
/// is not looked into: its count is that number, whatever the tiles.
///
/// # Errors
/// The first error of the source.
pub fn count_within<S: Source>(plan: &Plan, source: &S, within: RangeInclusive<u16>) -> Result<Vec<u64>, S::Error> {
    let mut counts = vec![0; plan.nodes().len()];
    let mut asked = vec![false; plan.nodes().len()];
    let mut roots = plan.roots().to_vec();
    roots.retain(|root| {
        let known = std::mem::replace(&mut asked[root.index()], true)
            // What is known need not be counted: an overview of many events asks for nothing else.
            || match plan.node(*root) {
                Node::Key(_) => source.users(root.index()).map(|users| counts[root.index()] = users).is_some(),
                _ => false,
            };
        !known
    });
    let answer = |counts: &[u64]| plan.roots().iter().map(|root| counts[root.index()]).collect();
    if roots.is_empty() {
        return Ok(answer(&counts));
    }
    let program = Program::count(plan, &roots);
    let lens = byte_lens(plan, source);
    let tiles = places(plan, source, &lens, &within, &roots);
    let share = Share::of_all(tiles.len().saturating_mul(program.steps.len()) / WORTH_A_THREAD + 1);
    let threads = share.threads();
    let part = |tiles: &[u16]| {
        let mut machine = Machine::new(plan, source, &lens, &program);
        let mut counts = vec![0; roots.len()];
        tiles.iter().try_for_each(|tile| machine.run(*tile, &mut counts))?;
        Ok(counts)
    };
    let parts: Vec<Result<Vec<u64>, S::Error>> = if threads == 1 {
        vec![part(&tiles)]
    } else {
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                tiles.chunks(tiles.len().div_ceil(threads)).map(|chunk| scope.spawn(move || part(chunk))).collect();
            workers.into_iter().map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    };
    for part in parts {
        for (root, count) in roots.iter().zip(part?) {
            counts[root.index()] += count;
        }
    }
    Ok(answer(&counts))
}

/// Gives the non-empty tiles of a node that lie within a range to `each`, ascending, until it answers `false`.
///
/// # Errors
/// The first error of the source.
pub fn collect<S: Source>(
    plan: &Plan,
    node: NodeId,
    source: &S,
    within: RangeInclusive<u16>,
    mut each: impl FnMut(u16, &Tile) -> bool,
) -> Result<(), S::Error> {
    let program = Program::keep(plan, node);
    let lens = byte_lens(plan, source);
    let mut machine = Machine::new(plan, source, &lens, &program);
    for number in places(plan, source, &lens, &within, &[node]) {
        machine.run(number, &mut [])?;
        if machine.load(program.kept)?
            && let Some(tile) = machine.tile(program.kept)
            && !each(number, tile)
        {
            break;
        }
    }
    Ok(())
}

/// The most tiles that one thread holds at once while it counts a plan, of whatever bitmaps: at most 8 KiB each. At most one
/// thread a processor does so.
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
    Program::count(plan, &roots).slots as usize
}

/// The byte length of every node, by Redis' rules: BITOP pads to its longest operand.
fn byte_lens<S: Source>(plan: &Plan, source: &S) -> Vec<u64> {
    let mut lens: Vec<u64> = Vec::with_capacity(plan.nodes().len());
    for (i, node) in plan.nodes().iter().enumerate() {
        let len = match node {
            Node::Key(_) => source.byte_len(i),
            _ => node.operands().iter().map(|id| lens[id.index()]).max().unwrap_or(0),
        };
        lens.push(len);
    }
    lens
}

/// The numbers of the tiles in which any of the roots can hold anybody, ascending.
fn places<S: Source>(
    plan: &Plan,
    source: &S,
    lens: &[u64],
    within: &RangeInclusive<u16>,
    roots: &[NodeId],
) -> Vec<u16> {
    let mut used = [false; GROUPS];
    for (i, node) in plan.nodes().iter().enumerate() {
        match node {
            // Most keys have all tiles from their first to their last.
            Node::Key(_) => match source.tiles(i) {
                [] => {}
                tiles @ [first, .., last] if usize::from(last - first) + 1 == tiles.len() => {
                    used[usize::from(first / 64)..=usize::from(last / 64)].fill(true);
                }
                tiles => tiles.iter().for_each(|tile| used[usize::from(tile / 64)] = true),
            },
            Node::Not(a) if lens[a.index()] > 0 => used[..=usize::from(end(lens[a.index()]) / 64)].fill(true),
            _ => {}
        }
    }
    let mut presence = Presence::new(plan);
    let mut found = Vec::new();
    let (first, last) = (*within.start(), *within.end());
    for group in (first / 64..=last / 64).filter(|group| used[usize::from(*group)]) {
        presence.go_to(group, plan, source, lens);
        let any = roots.iter().fold(0, |any, root| any | presence.words[root.index()]);
        let numbers = (0..64).filter(|bit| any & (1 << bit) != 0).map(|bit| group * 64 + bit);
        found.extend(numbers.filter(|number| within.contains(number)));
    }
    found
}

/// How many times 64 tiles there are.
const GROUPS: usize = 1 << 10;

/// The last tile of so many bytes, which are at least one.
fn end(len: u64) -> u16 {
    u16::try_from(len.div_ceil(TILE_BYTES).saturating_sub(1)).unwrap_or(u16::MAX)
}

/// For each node in which of 64 tiles it can hold anybody: where its operands can, joined as the node joins them.
struct Presence {
    group: Option<u16>,
    words: Vec<u64>,
}

impl Presence {
    fn new(plan: &Plan) -> Self {
        Presence { group: None, words: vec![0; plan.nodes().len()] }
    }

    /// Goes on to the 64 tiles from 64 × `group` on.
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
                Node::And(_) => words.reduce(|a, b| a & b).unwrap_or(0),
                Node::Or(_) | Node::Xor(_) => words.fold(0, |a, b| a | b),
                Node::Diff(_) => words.next().unwrap_or(0),
            };
        }
    }
}

/// Which of the 64 tiles of a group are among some, given ascending.
fn within(tiles: &[u16], group: u16) -> u64 {
    match tiles {
        [] => 0,
        [first, .., last] if usize::from(last - first) + 1 == tiles.len() => run(*first, *last, group),
        _ => {
            let start = tiles.partition_point(|tile| tile / 64 < group);
            let own = tiles[start..].iter().take_while(|tile| **tile / 64 == group);
            own.fold(0, |word, tile| word | 1 << (tile % 64))
        }
    }
}

/// Which of the 64 tiles of a group are from `first` to `last`, both included.
fn run(first: u16, last: u16, group: u16) -> u64 {
    if last / 64 < group || first / 64 > group {
        return 0;
    }
    let (from, to) = (first.max(group * 64) % 64, last.min(group * 64 + 63) % 64);
    u64::MAX << from & u64::MAX >> (63 - to)
}

/// What is in a slot.
#[derive(Clone)]
enum Slot {
    /// Nobody.
    Empty,
    /// The tile of the key at this node, which is not read yet.
    Unread(u32),
    Tile(Arc<Tile>),
}

/// Carries out a program for one tile after the other.
struct Machine<'a, S> {
    plan: &'a Plan,
    source: &'a S,
    lens: &'a [u64],
    program: &'a Program,
    presence: Presence,
    slots: Vec<Slot>,
    number: u16,
}

impl<'a, S: Source> Machine<'a, S> {
    fn new(plan: &'a Plan, source: &'a S, lens: &'a [u64], program: &'a Program) -> Self {
        let slots = vec![Slot::Empty; program.slots as usize];
        Machine { plan, source, lens, program, presence: Presence::new(plan), slots, number: 0 }
    }

    /// Carries out all steps for a tile, and adds what is counted.
    fn run(&mut self, number: u16, counts: &mut [u64]) -> Result<(), S::Error> {
        self.source.go_on()?;
        self.number = number;
        self.presence.go_to(number / 64, self.plan, self.source, self.lens);
        let program = self.program;
        for step in &program.steps {
            let operands = program.operands(step);
            let count = match step.op {
                Op::AndCount => self.and_count(operands)?,
                _ => {
                    self.step(step, operands)?;
                    if step.root == NONE {
                        continue;
                    }
                    self.tile(step.out).map_or(0, Tile::len)
                }
            };
            counts[step.root as usize] += count;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, operands: &[Operand]) -> Result<(), S::Error> {
        let out = step.out as usize;
        match (step.op, operands) {
            (Op::Leaf, _) => {
                let there = self.presence.words[step.node as usize] & 1 << (self.number % 64) != 0;
                self.slots[out] = if there { Slot::Unread(step.node) } else { Slot::Empty };
            }
            (Op::Set, [operand]) => {
                self.load(operand.slot)?;
                self.slots[out] = self.hand_over(*operand);
            }
            (Op::Or, [operand]) => {
                if self.load(operand.slot)? {
                    self.grow(out, *operand, Tile::take_in);
                }
            }
            (Op::Xor, [operand]) => {
                if self.load(operand.slot)? {
                    self.grow(out, *operand, |tile, other| *tile = tile.xor(other));
                }
            }
            (Op::OrAnd, [a, b]) => {
                if self.all(operands)? {
                    let mut grown = std::mem::replace(&mut self.slots[out], Slot::Empty);
                    if let (Some(a), Some(b)) = (self.tile(a.slot), self.tile(b.slot)) {
                        match &mut grown {
                            // Nobody else holds it, but where it began as a bitmap of its own.
                            Slot::Tile(tile) => Arc::make_mut(tile).take_in_both(a, b),
                            _ => grown = filled(a.and(b)),
                        }
                    }
                    self.slots[out] = grown;
                }
            }
            (Op::And, [first, rest @ ..]) => {
                self.slots[out] = Slot::Empty;
                if self.all(operands)? {
                    let product = self.product(*first, rest);
                    self.slots[out] = product;
                }
            }
            (Op::Diff, [a, b]) => {
                self.slots[out] = Slot::Empty;
                if self.load(a.slot)? {
                    self.slots[out] = match self.load(b.slot)? {
                        true => {
                            self.tile(a.slot).zip(self.tile(b.slot)).map_or(Slot::Empty, |(a, b)| filled(a.diff(b)))
                        }
                        false => self.hand_over(*a),
                    };
                }
            }
            (Op::Not, [a]) => {
                self.load(a.slot)?;
                let bytes = self.lens[step.node as usize].saturating_sub(u64::from(self.number) * TILE_BYTES);
                let nobody = Tile::default();
                self.slots[out] = match bytes {
                    0 => Slot::Empty,
                    _ => filled(self.tile(a.slot).unwrap_or(&nobody).complement(bytes)),
                };
            }
            (Op::Count, _) => drop(self.load(step.out)?),
            _ => self.slots[out] = Slot::Empty,
        }
        Ok(())
    }

    /// Reads what is in a slot, if it is a key's and was not read yet; says whether anybody is in it.
    fn load(&mut self, slot: u32) -> Result<bool, S::Error> {
        let slot = &mut self.slots[slot as usize];
        if let Slot::Unread(leaf) = *slot {
            let tile = self.source.tile(leaf as usize, self.number)?;
            *slot = if tile.is_empty() { Slot::Empty } else { Slot::Tile(tile) };
        }
        Ok(matches!(slot, Slot::Tile(_)))
    }

    /// Reads all of these, giving up at the first that is empty; says whether none is.
    fn all(&mut self, operands: &[Operand]) -> Result<bool, S::Error> {
        // What is known to be empty costs nothing to ask.
        if operands.iter().any(|operand| matches!(self.slots[operand.slot as usize], Slot::Empty)) {
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

    /// What is in an operand, for a result to begin with: itself, where nobody reads it afterwards.
    fn hand_over(&mut self, operand: Operand) -> Slot {
        let slot = &mut self.slots[operand.slot as usize];
        if operand.last { std::mem::replace(slot, Slot::Empty) } else { slot.clone() }
    }

    /// Joins an operand with users into a slot.
    fn grow(&mut self, out: usize, operand: Operand, join: fn(&mut Tile, &Tile)) {
        match std::mem::replace(&mut self.slots[out], Slot::Empty) {
            Slot::Tile(mut tile) => {
                if let Some(other) = self.tile(operand.slot) {
                    join(Arc::make_mut(&mut tile), other);
                }
                self.slots[out] = if tile.is_empty() { Slot::Empty } else { Slot::Tile(tile) };
            }
            _ => self.slots[out] = self.hand_over(operand),
        }
    }

    /// The intersection of operands with users.
    fn product(&mut self, first: Operand, rest: &[Operand]) -> Slot {
        let mut product = self.hand_over(first);
        for operand in rest {
            let (Slot::Tile(tile), Some(other)) = (&product, self.tile(operand.slot)) else { return Slot::Empty };
            product = filled(tile.and(other));
        }
        product
    }

    /// How many users are in all of the operands. The last intersection is never written down.
    fn and_count(&mut self, operands: &[Operand]) -> Result<u64, S::Error> {
        if !self.all(operands)? {
            return Ok(0);
        }
        let [first, middle @ .., last] = operands else { return Ok(0) };
        if middle.is_empty() {
            return Ok(self.tile(first.slot).zip(self.tile(last.slot)).map_or(0, |(a, b)| a.and_count(b)));
        }
        let product = self.product(*first, middle);
        Ok(match (&product, self.tile(last.slot)) {
            (Slot::Tile(tile), Some(last)) => tile.and_count(last),
            _ => 0,
        })
    }
}

/// A tile that was made, if anybody is in it.
fn filled(tile: Tile) -> Slot {
    if tile.is_empty() { Slot::Empty } else { Slot::Tile(Arc::new(tile)) }
}
