//! Cached counts: a store in front of a store.
//!
//! A table asks for the same hundreds of counts each time it is viewed, and hardly any of them has
//! changed. Each is computed once and cached under the **contents** of the bitmaps it was counted
//! over, so that a count is never used for other contents.
//!
//! # The invariant
//! Every number of one answer is counted over the same contents, one for each bitmap of the plan.
//! So |a & b| never exceeds |a|, and a batch that others commit atomically is in all numbers of an
//! answer or in none.
//!
//! [`CachedStore`] gets there in three steps. It fixes the contents of all bitmaps of the plan
//! together (the *base*). It takes what is cached for these contents and has the store count the
//! rest in one call. Afterwards it checks which bitmaps changed meanwhile. The answer stands in
//! either of two cases:
//!
//! * no bitmap under a number that was just counted changed while it was counted: everything is of
//!   the base;
//! * some did, but every number over them comes from the same call of [`Store::count`], which is of
//!   one moment, and no bitmap under the other numbers changed up to then: everything is of that
//!   moment.
//!
//! Otherwise it starts again, and after [`ATTEMPTS`] has the store count the whole plan in one
//! call. Only what was counted over contents that did not change is cached.
//!
//! # How contents are known
//! A store that reports each change ([`ChangeFeed::on_change`]: the embedded one) gives every bitmap
//! a **stamp**: a version, never given twice, that goes away with each change. Contents are the same
//! as long as the version is.
//!
//! Other stores (Redis, where bitmapist marks beside us) are asked: [`ChangeFeed::states`] tells how
//! many users a bitmap has, and a version that differs after each change where the server tracks
//! changes. The base is one look at all bitmaps of the plan, the check is another one. Whole answers
//! are cached for [`CacheOptions::check_after`], a minute, and dropped when a mark through this
//! process changes one of their bitmaps. A change that leaves the number of users as it was, one
//! marked and one unmarked by others, is invisible where the server does not track; there a count is
//! used for no longer than [`CacheOptions::keep`], a day, or a minute while one of its periods is
//! still running, which is bitmapist4's rule. Redis counts a large plan in several transactions;
//! when marks arrive in each of the attempts, the last one is of several moments there, with the
//! sizes of bitmaps last.
//!
//! Concurrent requests for the same counts wait for one computation. Errors are not cached.

mod flights;

use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::clock::Clock;
use crate::sets::{Counts, Key, Node, Plan, Set, UserId, When};
use crate::store::cost::{self, Cost};
use crate::store::{
    BitmapState, ChangeFeed, Health, IdMap, KeyListing, Maintenance, Mark, OtherPrefixes, Progress,
    Result, Saved, Store, StoreInfo, UnparsedKeys,
};
use flights::{Flights, Id, Want, lock};

/// How often an answer is begun before the whole plan is counted in one call.
const ATTEMPTS: usize = 3;

/// About how many bytes an entry takes.
const ENTRY: u64 = 112;

/// The size of the cache, and how long it keeps counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions {
    /// The most memory it may take, in bytes.
    pub bytes: u64,
    /// How long a count is kept if all of its periods have ended.
    pub keep: Duration,
    /// How long bitmaps are assumed to be unchanged by others before they are checked again, and
    /// how long a count is kept if one of its periods is still running.
    pub check_after: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        CacheOptions {
            bytes: 64 << 20,
            keep: Duration::from_secs(86_400),
            check_after: Duration::from_secs(60),
        }
    }
}

/// How old counts may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// Cached counts of bitmaps that were checked recently.
    #[default]
    Cached,
    /// Cached counts of bitmaps that are checked again now.
    Checked,
    /// Everything is counted again.
    Anew,
}

/// The counts of a plan, and how old they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// One for each root of the plan.
    pub counts: Counts,
    /// How long ago the first of the bitmaps was read. Marks that others made since then may be
    /// missing.
    pub age: Duration,
}

/// How often the cache had an answer, since it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Counts answered from the cache.
    pub remembered: u64,
    /// Counts that the store computed.
    pub computed: u64,
    /// Bitmaps whose state the store was asked for.
    pub checked: u64,
}

/// A bitmap as it is until it changes.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    /// Never given twice.
    version: u64,
    /// What it holds, and when that was asked. Only of stores that report changes.
    taken: Option<(BitmapState, Instant)>,
}

/// A bitmap of a plan.
struct Leaf<'p> {
    node: usize,
    id: Id,
    key: &'p Key,
    version: u64,
    taken: Option<(BitmapState, Instant)>,
}

/// For each node of a plan that is a bitmap the contents that an answer is of.
type Base = Vec<Option<(Id, u64, BitmapState)>>;

/// A whole answer, and when its bitmaps were read.
#[derive(Clone)]
struct Answer {
    counts: Arc<Counts>,
    at: Instant,
}

/// A count, and whether the bitmaps under it stayed the same while it was counted.
#[derive(Clone, Copy)]
struct Computed {
    count: u64,
    is_of_base: bool,
}

/// Where a number of an answer comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Cache,
    /// One of the calls that were made or waited for.
    Call(usize),
}

/// Caches what another store counts. [`counted`](Self::counted) says how fresh counts must be;
/// [`Store::count`] of the cache itself answers as [`Freshness::Cached`].
/// [`Tracker::with_cache`](crate::Tracker::with_cache) puts one in front of a tracker's store.
pub struct CachedStore {
    memory: Arc<Memory>,
    store: Arc<dyn Store>,
    clock: Clock,
    options: CacheOptions,
    /// The store reports each change, and counts each plan at one moment.
    reports: bool,
}

/// Everything that is cached.
struct Memory {
    hashers: [RandomState; 2],
    versions: AtomicU64,
    stamps: Cache<Id, Stamp>,
    /// Making, filling or dropping a stamp takes one of these locks, so that each is one step.
    locks: [Mutex<()>; 16],
    /// Counts, and until when they are used.
    counts: Cache<Id, (u64, Instant)>,
    /// Whole answers, of stores that do not report changes.
    answers: Cache<Id, Answer, Weights>,
    /// Answers and counts that are being computed, by the class of the thread that computes: a
    /// question never waits for a bigger one.
    questions: [Flights<Answer>; 3],
    flights: [Flights<Computed>; 3],
    stats: Counters,
}

/// [`CacheStats`] that many threads add to.
#[derive(Default)]
struct Counters {
    remembered: AtomicU64,
    computed: AtomicU64,
    checked: AtomicU64,
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

#[derive(Clone)]
struct Weights;

impl Weighter<Id, Answer> for Weights {
    fn weight(&self, _: &Id, answer: &Answer) -> u64 {
        ENTRY + 8 * answer.counts.as_slice().len() as u64
    }
}

impl Memory {
    fn new(options: CacheOptions) -> Self {
        let items = usize::try_from(options.bytes / ENTRY)
            .unwrap_or(usize::MAX)
            .max(16);
        Memory {
            hashers: [RandomState::new(), RandomState::new()],
            versions: AtomicU64::new(0),
            // Many counts are of few bitmaps.
            stamps: Cache::new(items / 4),
            locks: Default::default(),
            counts: Cache::new(items / 2),
            answers: Cache::with_weighter(items / 16, options.bytes / 4, Weights),
            questions: Default::default(),
            flights: Default::default(),
            stats: Counters::default(),
        }
    }

    fn id(&self, of: impl Hash) -> Id {
        let [a, b] = &self.hashers;
        u128::from(a.hash_one(&of)) << 64 | u128::from(b.hash_one(&of))
    }

    fn version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed)
    }

    fn lock_of(&self, id: Id) -> MutexGuard<'_, ()> {
        let place = id % self.locks.len() as Id;
        lock(&self.locks[usize::try_from(place).expect("less than the number of locks")])
    }

    /// The stamp of a bitmap; a new one if there is none. It is stored for
    /// [`changed`](Self::changed) to find before the caller knows it.
    fn stamp(&self, id: Id) -> Stamp {
        if let Some(stamp) = self.stamps.get(&id) {
            return stamp;
        }
        let _lock = self.lock_of(id);
        self.stamps.get(&id).unwrap_or_else(|| {
            let stamp = Stamp {
                version: self.version(),
                taken: None,
            };
            self.stamps.insert(id, stamp);
            stamp
        })
    }

    /// Stores what a bitmap holds, unless it has changed since it had this version. Comparing and
    /// storing is one step: no change comes between them.
    fn note(&self, id: Id, version: u64, state: BitmapState, at: Instant) {
        let _lock = self.lock_of(id);
        if self.is_unchanged(id, version) {
            self.stamps.insert(
                id,
                Stamp {
                    version,
                    taken: Some((state, at)),
                },
            );
        }
    }

    /// A bitmap has changed: its stamp goes, and the next one has another version.
    fn changed(&self, key: &str) {
        let id = self.id(("key", key));
        // A bitmap that was never asked for has no stamp. One that is made from now on is looked at
        // after this change.
        if self.stamps.peek(&id).is_some() {
            let _lock = self.lock_of(id);
            self.stamps.remove(&id);
        }
    }

    /// Whether a bitmap still has this version. `false` if its stamp was evicted: then its changes
    /// are unknown.
    fn is_unchanged(&self, id: Id, version: u64) -> bool {
        self.stamps
            .peek(&id)
            .is_some_and(|stamp| stamp.version == version)
    }
}

/// For each node of a plan whether it is made from one of these.
fn made_from(plan: &Plan, nodes: &[bool]) -> Vec<bool> {
    let mut made = nodes.to_vec();
    made.resize(plan.nodes().len(), false);
    for (place, node) in plan.nodes().iter().enumerate() {
        made[place] |= node.operands().iter().any(|id| made[id.index()]);
    }
    made
}

/// For each node of a plan whether one of these is made from it, or is it.
fn needed_for(plan: &Plan, nodes: &[usize]) -> Vec<bool> {
    let mut needed = vec![false; plan.nodes().len()];
    nodes.iter().for_each(|node| needed[*node] = true);
    for (place, node) in plan.nodes().iter().enumerate().rev() {
        if needed[place] {
            node.operands()
                .iter()
                .for_each(|id| needed[id.index()] = true);
        }
    }
    needed
}

impl fmt::Debug for CachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStore")
            .field("options", &self.options)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl CachedStore {
    /// Caches what `store` counts. `clock` tells which periods have ended.
    pub fn new(store: Arc<dyn Store>, options: CacheOptions, clock: Clock) -> Self {
        let memory = Arc::new(Memory::new(options));
        let listening = Arc::downgrade(&memory);
        let reports = store.on_change(Box::new(move |key| {
            if let Some(memory) = listening.upgrade() {
                memory.changed(key);
            }
        }));
        CachedStore {
            memory,
            store,
            clock,
            options,
            reports,
        }
    }

    /// The counts of a plan, and how old they are.
    ///
    /// # Errors
    /// If any of them could not be counted.
    pub fn counted(&self, plan: &Plan, freshness: Freshness) -> Result<Counted> {
        cost::check_nodes(plan)?;
        if freshness != Freshness::Cached {
            return Ok(self.aged(&self.work_out(plan, freshness)?));
        }
        let leaves = self.leaves(plan);
        if let Some(counted) = self.at_once(plan, &leaves) {
            add(
                &self.memory.stats.remembered,
                counted.counts.as_slice().len(),
            );
            return Ok(counted);
        }
        let question = Want {
            id: self.question(plan, &leaves),
            is_light: false,
        };
        let work = |_: &[usize]| Ok(vec![self.work_out(plan, freshness)?]);
        let mut answers =
            self.memory.questions[cost::class() as usize].once(&[question], true, work)?;
        let (answer, _) = answers.pop().expect("one question has one answer");
        Ok(self.aged(&answer))
    }

    /// How often the cache had an answer, since it was created.
    pub fn stats(&self) -> CacheStats {
        let stats = &self.memory.stats;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            remembered: read(&stats.remembered),
            computed: read(&stats.computed),
            checked: read(&stats.checked),
        }
    }

    /// The bitmaps of a plan, with their stamps.
    fn leaves<'p>(&self, plan: &'p Plan) -> Vec<Leaf<'p>> {
        let leaves = plan.nodes().iter().enumerate().filter_map(|(node, what)| {
            let Node::Key(key) = what else { return None };
            let id = self.memory.id(("key", &*key.to_string()));
            let Stamp { version, taken } = self.memory.stamp(id);
            Some(Leaf {
                node,
                id,
                key,
                version,
                taken,
            })
        });
        leaves.collect()
    }

    /// Identifies the answer to a plan over bitmaps of these versions.
    fn question(&self, plan: &Plan, leaves: &[Leaf<'_>]) -> Id {
        let versions: Vec<u64> = leaves.iter().map(|leaf| leaf.version).collect();
        self.memory
            .id(("answer", plan.nodes(), plan.roots(), versions))
    }

    /// Whether a stamp is used without looking again. Only looking shows that a key has expired.
    fn is_fresh(&self, at: Instant) -> bool {
        at.elapsed() < self.options.check_after
    }

    /// The contents of all bitmaps at one moment; `None` when some change while they are looked at.
    /// Where the store does not report changes, or `again`, all of them are looked at.
    fn base(&self, plan: &Plan, leaves: &[Leaf<'_>], again: bool) -> Result<Option<Base>> {
        let mut base: Base = vec![None; plan.nodes().len()];
        let mut wanted = Vec::new();
        for leaf in leaves {
            match leaf.taken {
                Some((state, at)) if self.reports && !again && self.is_fresh(at) => {
                    base[leaf.node] = Some((leaf.id, leaf.version, state));
                }
                _ => wanted.push(leaf),
            }
        }
        if !wanted.is_empty() {
            let at = Instant::now();
            for (leaf, state) in wanted.iter().zip(self.look(wanted.iter().copied())?) {
                base[leaf.node] = Some((leaf.id, leaf.version, state));
                if self.reports {
                    self.memory.note(leaf.id, leaf.version, state, at);
                }
            }
        }
        // The stamps were read one after the other.
        let is_one_moment = !self.reports
            || leaves
                .iter()
                .all(|leaf| self.memory.is_unchanged(leaf.id, leaf.version));
        Ok(is_one_moment.then_some(base))
    }

    fn look<'l>(&self, leaves: impl IntoIterator<Item = &'l Leaf<'l>>) -> Result<Vec<BitmapState>> {
        let keys: Vec<Key> = leaves.into_iter().map(|leaf| leaf.key.clone()).collect();
        add(&self.memory.stats.checked, keys.len());
        self.store.look(&keys)
    }

    /// For each node of a plan whether it is a bitmap, one of `among`, that is not what it was.
    fn changed(
        &self,
        plan: &Plan,
        leaves: &[Leaf<'_>],
        base: &Base,
        among: &[bool],
    ) -> Result<Vec<bool>> {
        let mut changed = vec![false; plan.nodes().len()];
        let among: Vec<&Leaf<'_>> = leaves.iter().filter(|leaf| among[leaf.node]).collect();
        for leaf in &among {
            changed[leaf.node] = !self.memory.is_unchanged(leaf.id, leaf.version);
        }
        if !self.reports {
            for (leaf, now) in among.iter().zip(self.look(among.iter().copied())?) {
                changed[leaf.node] |= base[leaf.node].is_none_or(|(.., before)| before != now);
            }
        }
        Ok(changed)
    }

    /// For each node of a plan the id of its count, and whether all of its periods have ended.
    fn ids(&self, plan: &Plan, base: &Base) -> Vec<(Id, bool)> {
        let memory = &*self.memory;
        let now = self.clock.now();
        let mut ids: Vec<(Id, bool)> = Vec::with_capacity(plan.nodes().len());
        for (place, node) in plan.nodes().iter().enumerate() {
            let operands = node.operands().iter().map(|id| ids[id.index()]);
            let ended = operands.clone().all(|(_, ended)| ended);
            let mut parts: Vec<Id> = operands.map(|(id, _)| id).collect();
            let (kind, ended) = match node {
                Node::Key(key) => {
                    let ended = matches!(key.when(), When::In(period) if period.end() <= now);
                    (memory.id(("bitmap", base[place])), ended)
                }
                Node::Empty => (memory.id("nobody"), ended),
                Node::And(_) => (memory.id("and"), ended),
                Node::Or(_) => (memory.id("or"), ended),
                Node::Xor(_) => (memory.id("xor"), ended),
                Node::Diff(_) => (memory.id("diff"), ended),
                // It also depends on the length of the bitmap, which no stamp has.
                Node::Not(_) => (memory.id("not"), false),
            };
            if !matches!(node, Node::Diff(_)) {
                // The order of operands does not matter.
                parts.sort_unstable();
            }
            ids.push((
                if parts.is_empty() {
                    kind
                } else {
                    memory.id((kind, parts))
                },
                ended,
            ));
        }
        ids
    }

    /// For each node what is cached of these contents, and the roots that nothing is cached of.
    fn cached(
        &self,
        plan: &Plan,
        base: &Base,
        ids: &[(Id, bool)],
        anew: bool,
    ) -> (Vec<Option<u64>>, Vec<usize>) {
        let now = Instant::now();
        let mut found = vec![None; plan.nodes().len()];
        let mut missing = Vec::new();
        let mut asked = vec![false; plan.nodes().len()];
        for root in plan.roots().iter().map(|root| root.index()) {
            if std::mem::replace(&mut asked[root], true) {
                continue;
            }
            let (id, _) = ids[root];
            found[root] = match base[root] {
                Some((.., state)) => Some(state.users),
                None if anew => None,
                None => self
                    .memory
                    .counts
                    .get(&id)
                    .filter(|(_, until)| now < *until)
                    .map(|(count, _)| count),
            };
            if found[root].is_none() {
                missing.push(root);
            }
        }
        (found, missing)
    }

    fn aged(&self, answer: &Answer) -> Counted {
        // If every change is reported, a cached answer is current.
        let age = if self.reports {
            Duration::ZERO
        } else {
            answer.at.elapsed()
        };
        Counted {
            counts: (*answer.counts).clone(),
            age,
        }
    }

    /// The answer, if the cache alone has it.
    fn at_once(&self, plan: &Plan, leaves: &[Leaf<'_>]) -> Option<Counted> {
        if !self.reports {
            let answer = self.memory.answers.get(&self.question(plan, leaves))?;
            return (answer.at.elapsed() < self.options.check_after.min(self.options.keep))
                .then(|| self.aged(&answer));
        }
        if leaves
            .iter()
            .any(|leaf| leaf.taken.is_none_or(|(_, at)| !self.is_fresh(at)))
        {
            return None;
        }
        let base = self.base(plan, leaves, false).ok()??;
        let (found, missing) = self.cached(plan, &base, &self.ids(plan, &base), false);
        let counts: Option<Vec<u64>> = plan
            .roots()
            .iter()
            .map(|root| found[root.index()])
            .collect();
        counts.filter(|_| missing.is_empty()).map(|counts| Counted {
            counts: Counts::new(plan, counts).expect("one count for each root"),
            age: Duration::ZERO,
        })
    }

    fn work_out(&self, plan: &Plan, freshness: Freshness) -> Result<Answer> {
        for attempt in 0..ATTEMPTS {
            let leaves = self.leaves(plan);
            let at = Instant::now();
            let Some(base) = self.base(plan, &leaves, freshness != Freshness::Cached)? else {
                continue;
            };
            if let Some(counts) =
                self.attempt(plan, &leaves, &base, freshness == Freshness::Anew, attempt)?
            {
                return Ok(self.answered(plan, &leaves, counts, at));
            }
        }
        let leaves = self.leaves(plan);
        let at = Instant::now();
        add(&self.memory.stats.computed, plan.roots().len());
        let counts = self.store.counts(plan)?;
        Ok(self.answered(plan, &leaves, counts, at))
    }

    fn answered(&self, plan: &Plan, leaves: &[Leaf<'_>], counts: Counts, at: Instant) -> Answer {
        let answer = Answer {
            counts: Arc::new(counts),
            at,
        };
        if !self.reports {
            self.memory
                .answers
                .insert(self.question(plan, leaves), answer.clone());
        }
        answer
    }

    /// The counts over the contents in `base`, or of one later moment; `None` when neither is
    /// certain.
    fn attempt(
        &self,
        plan: &Plan,
        leaves: &[Leaf<'_>],
        base: &Base,
        anew: bool,
        attempt: usize,
    ) -> Result<Option<Counts>> {
        let ids = self.ids(plan, base);
        let (mut found, missing) = self.cached(plan, base, &ids, anew);
        if !missing.is_empty() {
            cost::check(|| self.store.cost(&plan.part(&missing)))?;
        }
        let remembered = plan
            .roots()
            .iter()
            .filter(|root| found[root.index()].is_some());
        add(&self.memory.stats.remembered, remembered.count());
        let mut origins = vec![Origin::Cache; plan.nodes().len()];
        // At the first attempt, a store that does not report changes is likely not to change.
        let of_one_call = self.reports || attempt > 0;
        let mut nodes: Vec<(usize, bool)> = missing.iter().map(|node| (*node, false)).collect();
        if of_one_call {
            let beneath = needed_for(plan, &missing);
            let bitmaps = leaves
                .iter()
                .map(|leaf| leaf.node)
                .filter(|node| beneath[*node] && found[*node].is_some());
            nodes.extend(bitmaps.map(|node| (node, true)));
        }
        let wants: Vec<Want> = nodes
            .iter()
            .map(|(node, is_light)| Want {
                id: ids[*node].0,
                is_light: *is_light,
            })
            .collect();
        let shared = attempt == 0 && !anew;
        let all = vec![true; plan.nodes().len()];
        let seen = RefCell::new(None);
        let computed = self.memory.flights[cost::class() as usize].once(&wants, shared, |own| {
            let own: Vec<usize> = own.iter().map(|place| nodes[*place].0).collect();
            // Later attempts may rest on what did not change since the base.
            let among = if attempt > 0 {
                all.clone()
            } else {
                needed_for(plan, &own)
            };
            let (computed, changed) = self.compute(plan, leaves, base, &ids, &own, &among)?;
            seen.replace(Some(changed));
            Ok(computed)
        })?;
        let mut is_of_base = true;
        for ((node, _), (computed, call)) in nodes.iter().zip(&computed) {
            found[*node] = Some(computed.count);
            origins[*node] = Origin::Call(*call);
            is_of_base &= computed.is_of_base;
        }
        if !is_of_base {
            // Where changes are reported asking costs nothing; elsewhere a later attempt has looked
            // at all bitmaps.
            let changed = match seen.take() {
                Some(changed) if !self.reports => changed,
                _ => self.changed(plan, leaves, base, &all)?,
            };
            let over_changed = made_from(plan, &changed);
            let roots = plan.roots().iter().map(|root| root.index());
            let mut calls = roots
                .filter(|root| over_changed[*root])
                .map(|root| origins[root]);
            let first = calls.next();
            if !of_one_call || first == Some(Origin::Cache) || calls.any(|call| Some(call) != first)
            {
                return Ok(None);
            }
        }
        let counts = plan
            .roots()
            .iter()
            .map(|root| found[root.index()].expect("a root is cached or was computed"));
        Ok(Some(Counts::new(plan, counts.collect())?))
    }

    /// Has the store count nodes, and caches what did not change meanwhile.
    fn compute(
        &self,
        plan: &Plan,
        leaves: &[Leaf<'_>],
        base: &Base,
        ids: &[(Id, bool)],
        nodes: &[usize],
        among: &[bool],
    ) -> Result<(Vec<Computed>, Vec<bool>)> {
        let memory = &*self.memory;
        let bitmaps_left_out = nodes.iter().filter(|node| base[**node].is_none());
        add(&memory.stats.computed, bitmaps_left_out.count());
        let counts = self.store.counts(&plan.part(nodes))?;
        let changed = self.changed(plan, leaves, base, among)?;
        let over_changed = made_from(plan, &changed);
        let now = Instant::now();
        let computed = nodes.iter().zip(counts.as_slice()).map(|(node, count)| {
            let count = *count;
            let is_of_base = !over_changed[*node];
            if is_of_base && base[*node].is_none() {
                let (id, ended) = ids[*node];
                let until = now
                    + if ended {
                        self.options.keep
                    } else {
                        self.options.check_after.min(self.options.keep)
                    };
                memory.counts.insert(id, (count, until));
            }
            Computed { count, is_of_base }
        });
        Ok((computed.collect(), changed))
    }

    /// Drops what is cached of these bitmaps after a change through this process.
    fn changing<'k, T>(
        &self,
        keys: impl IntoIterator<Item = &'k Key>,
        result: Result<T>,
    ) -> Result<T> {
        // Also after an error: part of the change may have been made.
        for key in keys {
            self.memory.changed(&key.to_string());
        }
        result
    }
}

impl Store for CachedStore {
    fn apply(&self, marks: &[Mark]) -> Result<()> {
        let result = self.store.apply(marks);
        let mut keys: Vec<&Key> = marks.iter().map(|mark| &mark.key).collect();
        keys.dedup();
        self.changing(keys, result)
    }

    fn add(&self, runs: &[(&Key, &[UserId])]) -> Result<()> {
        let result = self.store.add(runs);
        self.changing(runs.iter().map(|(key, _)| *key), result)
    }

    fn count(&self, plan: &Plan) -> Result<Vec<u64>> {
        Ok(self.counted(plan, Freshness::Cached)?.counts.into())
    }

    fn cost(&self, plan: &Plan) -> Result<Cost> {
        self.store.cost(plan)
    }

    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        self.store.members(set, after, limit)
    }

    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>> {
        self.store.contains(keys, user)
    }

    fn delete(&self, keys: &[Key]) -> Result<u64> {
        let result = self.store.delete(keys);
        self.changing(keys, result)
    }

    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        let result = self.store.save(set, key);
        self.changing([key], result)
    }

    fn string_ids(&self) -> &dyn IdMap {
        self.store.string_ids()
    }

    fn describe(&self) -> Result<StoreInfo> {
        self.store.describe()
    }
}

impl KeyListing for CachedStore {
    fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
        self.store.keys(starting_with)
    }

    fn kept_in(&self) -> Result<Option<String>> {
        self.store.kept_in()
    }

    fn keep_in(&self, zone: &str) -> Result<String> {
        self.store.keep_in(zone)
    }

    fn forget_zone(&self) -> Result<()> {
        self.store.forget_zone()
    }

    fn lists(&self) -> Result<Vec<String>> {
        self.store.lists()
    }

    fn note_list(&self, name: &str, is_saved: bool) -> Result<()> {
        self.store.note_list(name, is_saved)
    }

    fn keys_version(&self) -> Option<u64> {
        self.store.keys_version()
    }

    fn unparsed_keys(&self) -> UnparsedKeys {
        self.store.unparsed_keys()
    }

    fn other_prefixes(&self) -> Result<OtherPrefixes> {
        self.store.other_prefixes()
    }

    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        self.store.sizes(keys)
    }
}

/// The cache uses the feed of its store and does not pass it on: there are no caches of caches.
impl ChangeFeed for CachedStore {}

impl Maintenance for CachedStore {
    fn is_local(&self) -> bool {
        self.store.is_local()
    }

    fn progress(&self) -> Progress {
        self.store.progress()
    }

    fn flush(&self) -> Result<()> {
        self.store.flush()
    }

    fn health(&self) -> Health {
        self.store.health()
    }

    fn sweep(&self) -> Result<u64> {
        self.store.sweep()
    }
}
