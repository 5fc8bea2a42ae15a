//! A plan, evaluated tile by tile: every node at most once for each tile, and none that no root needs.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::bitmap::cores::Share;
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

/// Below this many node-tiles a plan is not worth a second thread.
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
    let lens = byte_lens(plan, source);
    let presence = Presence::of(plan, source, &lens, &within);
    let tiles = presence.places(&roots);
    let share = Share::of_all(tiles.len().saturating_mul(roots.len()) / WORTH_A_THREAD + 1);
    let threads = share.threads();
    let part = |tiles: &[usize]| {
        let mut evaluator = Evaluator::new(plan, source, &lens, &presence);
        let mut counts = vec![0; roots.len()];
        for tile in tiles {
            source.go_on()?;
            evaluator.go_to(*tile);
            for (count, root) in counts.iter_mut().zip(&roots).filter(|(_, root)| presence.has(root.index(), *tile)) {
                *count += evaluator.count(*root)?;
            }
        }
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
    let lens = byte_lens(plan, source);
    let presence = Presence::of(plan, source, &lens, &within);
    let mut evaluator = Evaluator::new(plan, source, &lens, &presence);
    for place in presence.places(&[node]) {
        source.go_on()?;
        evaluator.go_to(place);
        let number = evaluator.number;
        if evaluator.ensure(node)?
            && let Some(tile) = evaluator.value(node)
            && !each(number, tile)
        {
            break;
        }
    }
    Ok(())
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

/// For each node the tiles in which it can hold anybody: where its operands can, joined as the node joins them. A bit
/// stands for a tile, and a word for 64 tiles of which any key has one, so that one far-away user costs one word and not all
/// between. A *place* is that of a bit among all of a node.
struct Presence {
    /// Which 64 tiles each word stands for: the number of the first, divided by 64. Ascending.
    groups: Vec<u16>,
    bits: Vec<u64>,
}

impl Presence {
    fn of<S: Source>(plan: &Plan, source: &S, lens: &[u64], within: &RangeInclusive<u16>) -> Self {
        // The last tile that a complement reaches.
        let end =
            |of: NodeId| u16::try_from(lens[of.index()].div_ceil(TILE_BYTES).saturating_sub(1)).unwrap_or(u16::MAX);
        let mut used = [false; GROUPS];
        for (i, node) in plan.nodes().iter().enumerate() {
            match node {
                Node::Key(_) => words(source.tiles(i), |group, _| used[usize::from(group)] = true),
                Node::Not(a) if lens[a.index()] > 0 => run(0..=end(*a), |group, _| used[usize::from(group)] = true),
                _ => {}
            }
        }
        // For each group the word that stands for it, and which of its tiles are within the range.
        let mut standing: [Option<(usize, u64)>; GROUPS] = [None; GROUPS];
        let mut groups = Vec::new();
        run(within.clone(), |group, wanted| {
            if used[usize::from(group)] {
                standing[usize::from(group)] = Some((groups.len(), wanted));
                groups.push(group);
            }
        });
        let width = groups.len();
        let mut bits = vec![0; width * lens.len()];
        for (i, node) in plan.nodes().iter().enumerate() {
            let (before, own) = bits.split_at_mut(i * width);
            let own = &mut own[..width];
            let operand = |id: &NodeId| &before[id.index() * width..][..width];
            let put = |group: u16, tiles: u64| {
                if let Some((word, wanted)) = standing[usize::from(group)] {
                    own[word] |= tiles & wanted;
                }
            };
            match node {
                Node::Empty => {}
                Node::Key(_) => words(source.tiles(i), put),
                Node::Not(a) if lens[a.index()] > 0 => run(0..=end(*a), put),
                Node::Not(_) => {}
                Node::And(ids) => {
                    if let Some((first, rest)) = ids.split_first() {
                        own.copy_from_slice(operand(first));
                        rest.iter()
                            .for_each(|id| own.iter_mut().zip(operand(id)).for_each(|(own, other)| *own &= other));
                    }
                }
                Node::Or(ids) | Node::Xor(ids) => {
                    ids.iter().for_each(|id| own.iter_mut().zip(operand(id)).for_each(|(own, other)| *own |= other));
                }
                Node::Diff([a, _]) => own.copy_from_slice(operand(a)),
            }
        }
        Presence { groups, bits }
    }

    fn node(&self, node: usize) -> &[u64] {
        &self.bits[node * self.groups.len()..][..self.groups.len()]
    }

    /// Whether a node can hold anybody in the tile at a place.
    fn has(&self, node: usize, place: usize) -> bool {
        self.bits[node * self.groups.len() + place / 64] & (1 << (place % 64)) != 0
    }

    /// The number of the tile at a place.
    fn number(&self, place: usize) -> u16 {
        // Below 64.
        self.groups[place / 64] * 64 + u16::try_from(place % 64).unwrap_or(0)
    }

    /// The places of the tiles in which any of the nodes can hold anybody, ascending.
    fn places(&self, nodes: &[NodeId]) -> Vec<usize> {
        let mut any = vec![0; self.groups.len()];
        for id in nodes {
            any.iter_mut().zip(self.node(id.index())).for_each(|(any, word)| *any |= word);
        }
        (0..any.len() * 64).filter(|place| any[place / 64] & (1 << (place % 64)) != 0).collect()
    }
}

/// How many times 64 tiles there are.
const GROUPS: usize = 1 << 10;

/// Numbers of tiles, ascending, as words of 64.
fn words(tiles: &[u16], mut each: impl FnMut(u16, u64)) {
    match tiles {
        [] => {}
        // Most keys have all tiles from their first to their last.
        [first, .., last] if usize::from(last - first) + 1 == tiles.len() => run(*first..=*last, each),
        _ => tiles.iter().for_each(|tile| each(tile / 64, 1 << (tile % 64))),
    }
}

/// The same of all numbers of a range.
fn run(range: RangeInclusive<u16>, mut each: impl FnMut(u16, u64)) {
    let (first, last) = range.into_inner();
    for group in first / 64..=last / 64 {
        let (from, to) = (first.max(group * 64) % 64, last.min(group * 64 + 63) % 64);
        each(group, u64::MAX << from & u64::MAX >> (63 - to));
    }
}

#[derive(Clone)]
enum Memo {
    Unknown,
    Empty,
    Tile(Arc<Tile>),
}

/// The state of evaluating one tile after the other, in ascending order.
struct Evaluator<'a, S> {
    plan: &'a Plan,
    source: &'a S,
    lens: &'a [u64],
    presence: &'a Presence,
    /// How often each node is an operand: a node that is only counted need not be built.
    uses: Vec<u32>,
    memo: Vec<Memo>,
    number: u16,
}

impl<'a, S: Source> Evaluator<'a, S> {
    fn new(plan: &'a Plan, source: &'a S, lens: &'a [u64], presence: &'a Presence) -> Self {
        let nodes = plan.nodes().len();
        let mut uses = vec![0; nodes];
        plan.nodes().iter().flat_map(Node::operands).for_each(|id| uses[id.index()] += 1);
        Evaluator { plan, source, lens, presence, uses, memo: vec![Memo::Unknown; nodes], number: 0 }
    }

    /// Moves on to the tile at a place of the presence's numbers.
    fn go_to(&mut self, place: usize) {
        self.number = self.presence.number(place);
        for (i, memo) in self.memo.iter_mut().enumerate() {
            *memo = if self.presence.has(i, place) { Memo::Unknown } else { Memo::Empty };
        }
    }

    fn value(&self, id: NodeId) -> Option<&Tile> {
        match &self.memo[id.index()] {
            Memo::Tile(tile) => Some(tile),
            Memo::Unknown | Memo::Empty => None,
        }
    }

    /// How many users of this tile are in a node.
    fn count(&mut self, id: NodeId) -> Result<u64, S::Error> {
        match self.plan.node(id) {
            // Counted and used nowhere else: the last intersection is never written down.
            Node::And(ids) if self.uses[id.index()] == 0 && matches!(self.memo[id.index()], Memo::Unknown) => {
                let Some((last, rest)) = self.all(ids)? else { return Ok(0) };
                let Some(last) = self.value(last) else { return Ok(0) };
                Ok(match rest {
                    Rest::Node(node) => self.value(node).map_or(0, |tile| tile.and_count(last)),
                    Rest::Tile(tile) => tile.and_count(last),
                })
            }
            _ => {
                self.ensure(id)?;
                Ok(self.value(id).map_or(0, Tile::len))
            }
        }
    }

    /// Evaluates the operands of an intersection, giving up at the first empty one, and intersects all but the last.
    fn all(&mut self, ids: &[NodeId]) -> Result<Option<(NodeId, Rest)>, S::Error> {
        // What is known to be empty costs nothing to ask.
        if ids.iter().any(|id| matches!(self.memo[id.index()], Memo::Empty)) {
            return Ok(None);
        }
        for id in ids {
            if !self.ensure(*id)? {
                return Ok(None);
            }
        }
        let [first, middle @ .., last] = ids else { return Ok(None) };
        let mut rest = Rest::Node(*first);
        for id in middle {
            let Some(next) = self.value(*id) else { return Ok(None) };
            let product = match &rest {
                Rest::Node(node) => self.value(*node).map(|tile| tile.and(next)).unwrap_or_default(),
                Rest::Tile(tile) => tile.and(next),
            };
            if product.is_empty() {
                return Ok(None);
            }
            rest = Rest::Tile(product);
        }
        Ok(Some((*last, rest)))
    }

    /// Evaluates a node; says whether anybody is in it.
    fn ensure(&mut self, id: NodeId) -> Result<bool, S::Error> {
        match &self.memo[id.index()] {
            Memo::Empty => return Ok(false),
            Memo::Tile(_) => return Ok(true),
            Memo::Unknown => {}
        }
        let plan = self.plan;
        let tile = match plan.node(id) {
            Node::Empty => None,
            Node::Key(_) => Some(self.source.tile(id.index(), self.number)?),
            Node::And(ids) => self.all(ids)?.and_then(|(last, rest)| {
                let last = self.value(last)?;
                Some(Arc::new(match rest {
                    Rest::Node(node) => self.value(node)?.and(last),
                    Rest::Tile(tile) => tile.and(last),
                }))
            }),
            Node::Or(ids) => self.fold(ids, Tile::take_in)?,
            Node::Xor(ids) => self.fold(ids, |tile, other| *tile = tile.xor(other))?,
            Node::Diff([a, b]) => {
                if self.ensure(*a)? && self.ensure(*b)? {
                    self.value(*a).zip(self.value(*b)).map(|(a, b)| Arc::new(a.diff(b)))
                } else {
                    self.shared(*a)
                }
            }
            Node::Not(a) => {
                self.ensure(*a)?;
                let bytes = self.lens[a.index()].saturating_sub(u64::from(self.number) * TILE_BYTES);
                let nobody = Tile::default();
                Some(Arc::new(self.value(*a).unwrap_or(&nobody).complement(bytes)))
            }
        };
        let memo = tile.filter(|tile| !tile.is_empty()).map_or(Memo::Empty, Memo::Tile);
        let any = matches!(memo, Memo::Tile(_));
        self.memo[id.index()] = memo;
        Ok(any)
    }

    fn shared(&self, id: NodeId) -> Option<Arc<Tile>> {
        match &self.memo[id.index()] {
            Memo::Tile(tile) => Some(Arc::clone(tile)),
            Memo::Unknown | Memo::Empty => None,
        }
    }

    fn fold(&mut self, ids: &[NodeId], join: fn(&mut Tile, &Tile)) -> Result<Option<Arc<Tile>>, S::Error> {
        let mut result: Option<Arc<Tile>> = None;
        for id in ids {
            if self.ensure(*id)? {
                match (&mut result, self.value(*id)) {
                    // The first one is another node's and is copied; from then on it is its own.
                    (Some(so_far), Some(tile)) => join(Arc::make_mut(so_far), tile),
                    (so_far, _) => *so_far = so_far.take().or_else(|| self.shared(*id)),
                }
            }
        }
        Ok(result)
    }
}

/// The intersection of all operands but the last: one of the nodes as it is, or a product.
enum Rest {
    Node(NodeId),
    Tile(Tile),
}
