//! A plan, evaluated tile by tile: every node at most once for each tile, and none that no root
//! needs. What is held at once is settled by the compiled [`Program`].

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;

use crate::bitmap::cores::Share;
use crate::bitmap::pairs::{Lists, Pairs, mixed};
use crate::bitmap::program::{BATCH, Batch, NONE, Op, Operand, Program, Row, Step};
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

/// Below this many operations on tiles in all a plan is not worth a second thread.
const WORTH_A_THREAD: usize = 10_000;

/// One count for each root of the plan.
///
/// # Errors
/// The first error of the source.
pub fn count<S: Source>(plan: &Plan, source: &S) -> Result<Vec<u64>, S::Error> {
    count_within(plan, source, EVERYWHERE)
}

/// For each root of the plan how many of its users are in some of the tiles. A key whose
/// [users](Source::users) are known is not looked into: its count is that number, whatever the
/// tiles.
///
/// # Errors
/// The first error of the source.
pub fn count_within<S: Source>(
    plan: &Plan,
    source: &S,
    within: RangeInclusive<u16>,
) -> Result<Vec<u64>, S::Error> {
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
    let answer = |counts: &[u64]| {
        plan.roots()
            .iter()
            .map(|root| counts[root.index()])
            .collect()
    };
    if roots.is_empty() {
        return Ok(answer(&counts));
    }
    let program = Program::count(plan, &roots);
    let lens = byte_lens(plan, source);
    let tiles = places(plan, source, &lens, &within, &roots);
    let share =
        Share::of_all(tiles.len().saturating_mul(program.operations()) / WORTH_A_THREAD + 1);
    let threads = share.threads();
    // Threads take the next few tiles when they are done with those before: one that starts late,
    // or is interrupted, has fewer of them.
    let piece = (tiles.len() / (8 * threads)).max(1);
    let next = AtomicUsize::new(0);
    let part = || {
        let mut machine = Machine::new(plan, source, &lens, &program);
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
    Ok(answer(&counts))
}

/// Gives the non-empty tiles of a node that lie within a range to `each`, ascending, until it
/// answers `false`.
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

/// The most tiles that one thread holds at once while it counts a plan, of whatever bitmaps: at
/// most 8 KiB each. At most one thread a processor does so.
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
    let (first, last) = (*within.start(), *within.end());
    for group in (first / 64..=last / 64).filter(|group| used[usize::from(*group)]) {
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

/// How many times 64 tiles there are.
const GROUPS: usize = 1 << 10;

/// The last tile of so many bytes, which are at least one.
fn end(len: u64) -> u16 {
    u16::try_from(len.div_ceil(TILE_BYTES).saturating_sub(1)).unwrap_or(u16::MAX)
}

/// For each node in which of 64 tiles it can hold anybody: where its operands can, joined as the
/// node joins them.
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
    lists: Lists,
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
            number: 0,
        }
    }

    /// Carries out all steps for a tile, and adds what is counted.
    fn run(&mut self, number: u16, counts: &mut [u64]) -> Result<(), S::Error> {
        self.source.go_on()?;
        self.number = number;
        self.presence
            .go_to(number / 64, self.plan, self.source, self.lens);
        let program = self.program;
        let mut steps = program.steps.iter();
        while let Some(step) = steps.next() {
            let operands = program.operands(step);
            match step.op {
                Op::Batch => self.batch(&program.batches[step.node as usize], operands, counts)?,
                Op::AndCount => counts[step.root as usize] += self.and_count(operands)?,
                Op::Or => {
                    // A union that nobody counts before it is complete is put together at once.
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
                    self.unite(step.out, &all)?;
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

    /// Adds how many users are in the result of a step, if that is a root.
    fn count(&self, step: &Step, counts: &mut [u64]) {
        if step.root != NONE {
            counts[step.root as usize] += self.tile(step.out).map_or(0, Tile::len);
        }
    }

    fn step(&mut self, step: &Step, operands: &[Operand]) -> Result<(), S::Error> {
        let out = step.out as usize;
        match (step.op, operands) {
            (Op::Leaf, _) => {
                let there = self.presence.words[step.node as usize] & 1 << (self.number % 64) != 0;
                self.slots[out] = if there {
                    Slot::Unread(step.node)
                } else {
                    Slot::Empty
                };
            }
            (Op::Set, [operand]) => {
                self.load(operand.slot)?;
                self.slots[out] = self.hand_over(*operand);
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
                        true => self
                            .tile(a.slot)
                            .zip(self.tile(b.slot))
                            .map_or(Slot::Empty, |(a, b)| filled(a.diff(b))),
                        false => self.hand_over(*a),
                    };
                }
            }
            (Op::Not, [a]) => {
                self.load(a.slot)?;
                let bytes = self.lens[step.node as usize]
                    .saturating_sub(u64::from(self.number) * TILE_BYTES);
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

    /// Reads what is in a slot, if it is a key's and was not read yet; says whether anybody is in
    /// it.
    fn load(&mut self, slot: u32) -> Result<bool, S::Error> {
        let slot = &mut self.slots[slot as usize];
        if let Slot::Unread(leaf) = *slot {
            let tile = self.source.tile(leaf as usize, self.number)?;
            *slot = if tile.is_empty() {
                Slot::Empty
            } else {
                Slot::Tile(tile)
            };
        }
        Ok(matches!(slot, Slot::Tile(_)))
    }

    /// Reads all of these, giving up at the first that is empty; says whether none is.
    fn all(&mut self, operands: &[Operand]) -> Result<bool, S::Error> {
        // What is known to be empty costs nothing to ask.
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

    /// What is in an operand, for a result to begin with: itself, where nobody reads it afterwards.
    fn hand_over(&mut self, operand: Operand) -> Slot {
        let slot = &mut self.slots[operand.slot as usize];
        if operand.last {
            std::mem::replace(slot, Slot::Empty)
        } else {
            slot.clone()
        }
    }

    /// Joins an operand with users into a slot.
    fn grow(&mut self, out: usize, operand: Operand, join: fn(&mut Tile, &Tile)) {
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
            _ => self.slots[out] = self.hand_over(operand),
        }
    }

    /// Puts operands into a slot.
    fn unite(&mut self, out: u32, operands: &[Operand]) -> Result<(), S::Error> {
        let mut there: SmallVec<[Operand; 8]> = SmallVec::new();
        for operand in operands {
            if self.load(operand.slot)? {
                there.push(*operand);
            }
        }
        let out = out as usize;
        if !matches!(self.slots[out], Slot::Tile(_))
            && let Some(first) = there.pop()
        {
            self.slots[out] = self.hand_over(first);
        }
        let Slot::Tile(mut tile) = std::mem::replace(&mut self.slots[out], Slot::Empty) else {
            return Ok(());
        };
        if !there.is_empty() {
            let others: SmallVec<[&Tile; 32]> = there
                .iter()
                .filter_map(|operand| self.tile(operand.slot))
                .collect();
            Arc::make_mut(&mut tile).take_in_all(&others);
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
        let mut there = set_of(&|at| !matches!(self.slots[slot_of(at)], Slot::Empty));
        // A tile is read when another one that it is counted with may have users.
        let mut unread = set_of(&|at| matches!(self.slots[slot_of(at)], Slot::Unread(_)));
        for row in &batch.rows {
            let own = 1 << row.operand;
            if there & own == 0 || there & row.columns == 0 {
                continue;
            }
            let mut wanted = unread & (own | row.columns & there);
            unread &= !wanted;
            while wanted != 0 {
                let at = wanted.trailing_zeros();
                wanted &= wanted - 1;
                if !self.load(operands[at as usize].slot)? {
                    there &= !(1 << at);
                }
            }
        }
        there &= !unread;
        let mut lists = std::mem::take(&mut self.lists);
        let tiles: SmallVec<[Option<&Tile>; BATCH]> = operands
            .iter()
            .map(|operand| self.tile(operand.slot))
            .collect();
        let dense = set_of(&|at| matches!(tiles[at], Some(Tile::Dense(_))));
        let mut pairs = Pairs::default();
        // Pairs of lists are left to the end.
        let with_words =
            |row: &&Row| dense & (1 << row.operand | row.columns) != 0 && row.columns & there != 0;
        for row in batch.rows.iter().filter(with_words) {
            let others = row
                .pairs
                .iter()
                .map(|(at, root)| (tiles[*at as usize], *root));
            match tiles[row.operand as usize] {
                Some(Tile::Dense(own)) => {
                    if row.columns & dense != row.columns & there {
                        for (other, root) in others.clone() {
                            if let Some(Tile::Sparse(other)) = other {
                                counts[root as usize] += mixed(other, own);
                            }
                        }
                    }
                    let others = others.filter_map(|(other, root)| Some((other?.dense()?, root)));
                    pairs.row(own, others, counts);
                }
                Some(Tile::Sparse(own)) if row.columns & dense != 0 => {
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
        if there & !dense != 0 {
            lists.count(&tiles, &batch.before);
            for row in &batch.rows {
                for (column, root) in &row.pairs {
                    counts[*root as usize] += lists.counted(row.operand, *column);
                }
            }
        }
        drop(tiles);
        self.lists = lists;
        Ok(())
    }

    /// The intersection of operands with users.
    fn product(&mut self, first: Operand, rest: &[Operand]) -> Slot {
        let mut product = self.hand_over(first);
        for operand in rest {
            let (Slot::Tile(tile), Some(other)) = (&product, self.tile(operand.slot)) else {
                return Slot::Empty;
            };
            product = filled(tile.and(other));
        }
        product
    }

    /// How many users are in all of the operands. The last intersection is never written down.
    fn and_count(&mut self, operands: &[Operand]) -> Result<u64, S::Error> {
        if !self.all(operands)? {
            return Ok(0);
        }
        let [first, middle @ .., last] = operands else {
            return Ok(0);
        };
        if middle.is_empty() {
            return Ok(self
                .tile(first.slot)
                .zip(self.tile(last.slot))
                .map_or(0, |(a, b)| a.and_count(b)));
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

    /// Bitmaps by the place of their key in a plan.
    struct Held {
        numbers: Vec<Vec<u16>>,
        tiles: Vec<Vec<Arc<Tile>>>,
    }

    impl Held {
        fn of(plan: &Plan, bitmaps: &[(Set, BTreeSet<UserId>)]) -> Self {
            let mut held = Held {
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

    impl Source for Held {
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

    /// Few users, many, or a row of them, in up to three tiles.
    fn bitmap() -> impl Strategy<Value = BTreeSet<UserId>> {
        let few = proptest::collection::btree_set(0..3_u32 << 16, 0..60);
        let many = (any::<u64>(), 2..60_u32).prop_map(|(seed, apart)| {
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
        });
        let row = (0..3_u32 << 16, 0..6000_u32)
            .prop_map(|(from, len)| (from..(from + len).min(3 << 16)).collect());
        prop_oneof![3 => few, 1 => many, 1 => row]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn plans_count_what_sets_hold(
            bitmaps in proptest::collection::vec(bitmap(), 1..12),
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
                let made = match op {
                    0 | 1 => (plan.and(&ids), users.fold(first, |all, next| &all & &next)),
                    2 | 3 => (plan.or(&ids), users.fold(first, |all, next| &all | &next)),
                    4 => (plan.xor(&ids), users.fold(first, |all, next| &all ^ &next)),
                    _ => (plan.diff(ids[0], ids[1]), &first - &users.next().unwrap()),
                };
                known.push(made);
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
            let held = Held::of(&plan, &bitmaps);
            let Ok(counts) = count(&plan, &held);
            prop_assert_eq!(counts, expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

        #[test]
        fn batches_count_more_operands_than_one_holds(
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
            let held = Held::of(&plan, &sets);
            let Ok(counts) = count(&plan, &held);
            prop_assert_eq!(counts, expected);
            prop_assert!(tiles_held(&plan) <= columns + BATCH + 4, "{}", tiles_held(&plan));
        }
    }
}
