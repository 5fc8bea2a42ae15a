//! A batch of counts over set algebra: the one thing a store has to answer.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use crate::sets::{Key, Set};

/// The place of a [`Node`] in its [`Plan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The index into [`Plan::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The place of a count among the [`Counts`] of a [`Plan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountId(u32);

impl CountId {
    /// The index into [`Plan::roots`] and [`Counts::as_slice`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a store counted: one number for each root of a plan.
///
/// ```
/// use cohortist::sets::{Counts, EventName, Plan, Set, WrongCount};
/// let mut plan = Plan::new();
/// let a = plan.count_set(&Set::ever(&EventName::new("a")?))?;
/// let counts = Counts::new(&plan, vec![7])?;
/// assert_eq!(counts[a], 7);
/// assert_eq!(Counts::new(&plan, vec![]), Err(WrongCount { expected: 1, returned: 0 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Counts(Box<[u64]>);

/// A store returned more or fewer values than it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store returned {returned} values where {expected} were asked for: this is a bug in the store"
)]
pub struct WrongCount {
    /// How many values were asked for.
    pub expected: usize,
    /// How many the store returned.
    pub returned: usize,
}

impl Counts {
    /// The counts of a plan, in the order of its roots.
    ///
    /// # Errors
    /// If there is not exactly one count for each root.
    pub fn new(plan: &Plan, counts: Vec<u64>) -> Result<Self, WrongCount> {
        let expected = plan.roots().len();
        if counts.len() == expected {
            Ok(Counts(counts.into_boxed_slice()))
        } else {
            Err(WrongCount {
                expected,
                returned: counts.len(),
            })
        }
    }

    /// Whether any of these counts is not 0.
    pub fn any(&self, ids: &[CountId]) -> bool {
        ids.iter().any(|id| self[*id] > 0)
    }

    /// The numbers, in the order of the plan's roots.
    pub fn as_slice(&self) -> &[u64] {
        &self.0
    }
}

impl From<Counts> for Vec<u64> {
    fn from(counts: Counts) -> Self {
        counts.0.into_vec()
    }
}

impl std::ops::Index<CountId> for Counts {
    type Output = u64;

    fn index(&self, id: CountId) -> &u64 {
        &self.0[id.index()]
    }
}

/// The nodes that a node is made from. Hardly any is made from more than a few.
pub type Operands = SmallVec<[NodeId; 4]>;

/// One step of a plan. Operands always come before the nodes that use them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// Nobody.
    Empty,
    /// A bitmap.
    Key(Key),
    /// Intersection of two or more nodes.
    And(Operands),
    /// Union of two or more nodes.
    Or(Operands),
    /// Symmetric difference of two or more nodes.
    Xor(Operands),
    /// The first without the second.
    Diff([NodeId; 2]),
    /// The complement up to the operand's byte length.
    Not(NodeId),
}

impl Node {
    /// The nodes this one is made from.
    pub fn operands(&self) -> &[NodeId] {
        match self {
            Node::Empty | Node::Key(_) => &[],
            Node::And(ids) | Node::Or(ids) | Node::Xor(ids) => ids,
            Node::Diff(ids) => ids,
            Node::Not(id) => std::slice::from_ref(id),
        }
    }
}

/// What a node of a plan costs beside its tiles, in operations on tiles: it is planned, looked for
/// among remembered counts and found in the store. An operation on a tile takes some 0.25 µs, all
/// of that some 5 µs.
pub const NODE_WORK: u64 = 20;

/// The most terms that the sets of a question may have together: event names and operators, each
/// counted in every period that it is looked up in. Planning a term takes about 1 µs, so planning
/// any question takes about 0.1 s at most.
pub const MAX_TERMS: usize = 100_000;

/// A question whose sets have more than [`MAX_TERMS`] terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this question is too large: its sets may have {} event names and operators in total, counted once per period, and \
     one set alone has {}. Shorten the expression, or ask for fewer periods or sets",
    grouped(MAX_TERMS),
    grouped(*.longest)
)]
pub struct TooLarge {
    /// How many terms the longest of its sets has, among those that were looked at.
    pub longest: usize,
}

/// A number with thousands separators.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join(",")
}

/// Counts the terms of a question while it is put together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terms {
    total: usize,
    longest: usize,
}

impl Terms {
    /// Counts the terms of one more set.
    ///
    /// # Errors
    /// [`TooLarge`] past [`MAX_TERMS`].
    pub(crate) fn count(&mut self, terms: usize) -> Result<(), TooLarge> {
        self.total = self.total.saturating_add(terms);
        self.longest = self.longest.max(terms);
        if self.total <= MAX_TERMS {
            Ok(())
        } else {
            Err(TooLarge {
                longest: self.longest,
            })
        }
    }
}

/// A graph of unions, intersections and differences over keys, in which equal sub-expressions are
/// one node, and the list of nodes to count.
///
/// ```
/// use cohortist::sets::{EventName, Plan, Set};
/// let (a, b) = (Set::ever(&EventName::new("a")?), Set::ever(&EventName::new("b")?));
/// let mut plan = Plan::new();
/// plan.count_set(&(a.clone() & b.clone()))?;
/// plan.count_set(&(b & a))?;
/// // `b & a` is the node that was there, so two counts need one intersection of two keys.
/// assert_eq!((plan.nodes().len(), plan.roots().len()), (3, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A plan takes sets of at most [`MAX_TERMS`] terms. What is added node by node is not counted: its
/// caller knows how much that can be.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    nodes: Vec<Node>,
    /// The nodes by what they are. Names in them come from outside: the hasher is keyed.
    ids: HashTable<NodeId>,
    hasher: DefaultHashBuilder,
    roots: Vec<NodeId>,
    terms: Terms,
}

impl Plan {
    /// A plan that counts nothing.
    pub fn new() -> Self {
        Plan::default()
    }

    /// A plan that counts nothing, with room for so many nodes.
    pub fn with_capacity(nodes: usize) -> Self {
        let mut plan = Plan::new();
        plan.reserve(nodes);
        plan
    }

    /// Makes room for this many more nodes and counts.
    pub fn reserve(&mut self, nodes: usize) {
        let Plan {
            nodes: all,
            ids,
            hasher,
            roots,
            ..
        } = self;
        ids.reserve(nodes, |id| hasher.hash_one(&all[id.index()]));
        all.reserve(nodes);
        roots.reserve(nodes);
    }

    /// The steps, operands before users.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes to count, in the order they were asked for; one node may stand here often.
    pub fn roots(&self) -> &[NodeId] {
        &self.roots
    }

    /// The step at `id`.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Asks for the count of a node; returns its place among the counts.
    pub fn count(&mut self, node: NodeId) -> CountId {
        let place = u32::try_from(self.roots.len()).expect("a plan has fewer than 2³² counts");
        self.roots.push(node);
        CountId(place)
    }

    /// Adds a set and asks for its count; returns its place among the counts.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn count_set(&mut self, set: &Set) -> Result<CountId, TooLarge> {
        let node = self.add(set)?;
        Ok(self.count(node))
    }

    /// Asks for the count of a bitmap; returns its place among the counts.
    pub fn count_key(&mut self, key: &Key) -> CountId {
        let node = self.key(key.clone());
        self.count(node)
    }

    /// Adds a set expression, sharing what is there already.
    ///
    /// ```
    /// use cohortist::sets::{EventName, MAX_TERMS, Plan, Set, TooLarge};
    /// let a = Set::ever(&EventName::new("a")?);
    /// let mut plan = Plan::new();
    /// assert!(plan.add(&Set::Or(vec![a.clone(); MAX_TERMS - 1])).is_ok());
    /// assert_eq!(plan.add(&a), Err(TooLarge { longest: MAX_TERMS }));
    /// # Ok::<(), cohortist::sets::EventNameError>(())
    /// ```
    ///
    /// # Errors
    /// When the sets of the plan have more than [`MAX_TERMS`] terms with this one. Then nothing of
    /// it was added.
    pub fn add(&mut self, set: &Set) -> Result<NodeId, TooLarge> {
        self.terms.count(set.terms())?;
        Ok(self.put(set))
    }

    /// A plan that counts these nodes of this one, in order; whatever they do not need is left out.
    ///
    /// ```
    /// use cohortist::sets::{EventName, Plan, Set};
    /// let [a, b, c] = ["a", "b", "c"].map(|name| Set::ever(&EventName::new(name).unwrap()));
    /// let mut plan = Plan::new();
    /// let (both, other) = (plan.add(&(a.clone() & b)).unwrap(), plan.add(&(a & c)).unwrap());
    /// let part = plan.part(&[other.index()]);
    /// assert_eq!((plan.nodes().len(), part.nodes().len(), part.roots().len()), (5, 3, 1));
    /// # let _ = both;
    /// ```
    pub fn part(&self, roots: &[usize]) -> Plan {
        let mut needed = vec![false; self.nodes.len()];
        roots.iter().for_each(|root| needed[*root] = true);
        for place in (0..self.nodes.len()).rev() {
            if needed[place] {
                self.nodes[place]
                    .operands()
                    .iter()
                    .for_each(|id| needed[id.index()] = true);
            }
        }
        let (mut part, mut ids) = (Plan::new(), vec![NodeId(0); self.nodes.len()]);
        for (place, node) in self
            .nodes
            .iter()
            .enumerate()
            .filter(|(place, _)| needed[*place])
        {
            let of = |old: &[NodeId]| old.iter().map(|id| ids[id.index()]).collect::<Operands>();
            ids[place] = part.intern(match node {
                Node::Empty | Node::Key(_) => node.clone(),
                Node::And(old) => Node::And(of(old)),
                Node::Or(old) => Node::Or(of(old)),
                Node::Xor(old) => Node::Xor(of(old)),
                Node::Diff([a, b]) => Node::Diff([ids[a.index()], ids[b.index()]]),
                Node::Not(old) => Node::Not(ids[old.index()]),
            });
        }
        part.roots = roots.iter().map(|root| ids[*root]).collect();
        part
    }

    /// About how much work it is to count the roots. `tiles` says how many tiles a key has.
    ///
    /// A node that joins others costs one operation on a tile for each tile and each operand beyond
    /// the first. An intersection has no more tiles than its smallest operand, a union as many as
    /// its greatest. Beside that every node costs [`NODE_WORK`], whatever the bitmaps hold.
    ///
    /// ```
    /// use cohortist::sets::{EventName, NODE_WORK, Plan, Set};
    /// let [few, many] = ["few", "many"].map(|name| Set::ever(&EventName::new(name).unwrap()));
    /// let tiles = |key: &cohortist::sets::Key| if key.event().as_str() == "few" { 2 } else { 100 };
    /// let work = |set: Set| {
    ///     let mut plan = Plan::new();
    ///     plan.count_set(&set).unwrap();
    ///     plan.work(tiles) - NODE_WORK * plan.nodes().len() as u64
    /// };
    /// assert_eq!(work(few.clone()), 0, "a bitmap that is only counted is not gone through");
    /// assert_eq!(work(few.clone() & many.clone()), 2);
    /// assert_eq!(work(few | many), 100);
    /// ```
    pub fn work(&self, mut tiles: impl FnMut(&Key) -> u64) -> u64 {
        let mut reach: Vec<u64> = Vec::with_capacity(self.nodes.len());
        let mut work = NODE_WORK.saturating_mul(self.nodes.len() as u64);
        for node in &self.nodes {
            let operands = node.operands().iter().map(|id| reach[id.index()]);
            let own = match node {
                Node::Empty => 0,
                Node::Key(key) => tiles(key),
                Node::And(_) => operands.min().unwrap_or(0),
                Node::Or(_) | Node::Xor(_) => operands.max().unwrap_or(0),
                Node::Diff([a, _]) | Node::Not(a) => reach[a.index()],
            };
            let steps = match node {
                Node::Not(_) => 1,
                _ => (node.operands().len() as u64).saturating_sub(1),
            };
            work = work.saturating_add(own.saturating_mul(steps));
            reach.push(own);
        }
        work
    }

    /// A bitmap.
    pub fn key(&mut self, key: Key) -> NodeId {
        self.intern(Node::Key(key))
    }

    /// Nobody.
    pub fn empty(&mut self) -> NodeId {
        self.intern(Node::Empty)
    }

    /// The intersection of `ids`; nobody when there are none.
    pub fn and(&mut self, ids: impl AsRef<[NodeId]>) -> NodeId {
        self.idempotent(ids.as_ref(), Node::And)
    }

    /// The union of `ids`. Those known to be nobody are left out.
    pub fn or(&mut self, ids: impl AsRef<[NodeId]>) -> NodeId {
        let mut ids = Operands::from_slice(ids.as_ref());
        ids.retain(|id| *self.node(*id) != Node::Empty);
        self.idempotent(&ids, Node::Or)
    }

    /// The users in an odd number of `ids`.
    pub fn xor(&mut self, ids: impl AsRef<[NodeId]>) -> NodeId {
        let mut ids = Operands::from_slice(ids.as_ref());
        ids.sort_unstable();
        self.join(ids, Node::Xor)
    }

    /// The users in `a` and not in `b`.
    pub fn diff(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.intern(Node::Diff([a, b]))
    }

    /// The complement of `a` up to its byte length.
    pub fn not(&mut self, a: NodeId) -> NodeId {
        self.intern(Node::Not(a))
    }

    fn idempotent(&mut self, ids: &[NodeId], make: fn(Operands) -> Node) -> NodeId {
        let mut ids = Operands::from_slice(ids);
        ids.sort_unstable();
        ids.dedup();
        self.join(ids, make)
    }

    fn join(&mut self, ids: Operands, make: fn(Operands) -> Node) -> NodeId {
        match ids[..] {
            [] => self.empty(),
            [only] => only,
            _ => self.intern(make(ids)),
        }
    }

    fn intern(&mut self, node: Node) -> NodeId {
        let next = u32::try_from(self.nodes.len()).expect("more nodes would not fit in memory");
        let next = NodeId(next);
        let Plan {
            nodes, ids, hasher, ..
        } = self;
        let hash = hasher.hash_one(&node);
        let equal = |known: &NodeId| nodes[known.index()] == node;
        match ids.entry(hash, equal, |known| hasher.hash_one(&nodes[known.index()])) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => {
                unknown.insert(next);
                nodes.push(node);
                next
            }
        }
    }
}
