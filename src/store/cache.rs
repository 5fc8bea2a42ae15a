//! Cached counts: a store in front of a store.
//!
//! A table asks for the same hundreds of counts each time it is viewed, and hardly any of them has
//! changed. Each is computed once and cached under the **contents** of the bitmaps it was counted
//! over, so that a count is never used for other contents.
//!
//! # The invariant
//! Every number of one answer is counted over the same contents, one for each bitmap of the plan.
//! So |a & b| never exceeds
//! |a|, and a batch that others commit at once is in all numbers of an answer or in none.
//!
//! [`CachedStore`] gets there in three steps. It fixes the contents of all bitmaps of the plan together (the *base*). It takes
//! what is cached for these contents and has the store count the rest in one call. Afterwards it
//! checks which bitmaps changed meanwhile. The answer stands in either of two cases:
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
//! A store that reports each change ([`Store::on_change`]: the embedded one) gives every bitmap a
//! **stamp**: a version, never given twice, that goes away with each change. Contents are the same
//! as long as the version is.
//!
//! Other stores (Redis, where bitmapist marks beside us) are asked: [`Store::look`] tells how many
//! users a bitmap has, and a state that differs after each change where the server tracks changes.
//! The base is one look at all bitmaps of the plan, the check is another one. Whole answers are
//! cached for [`CacheOptions::check_after`], a minute, and dropped when a mark through this process
//! changes one of their bitmaps. A change that leaves the number of users as it was, one marked and
//! one unmarked by others, is invisible where the server does not track; there a count is used for
//! no longer than
//! [`CacheOptions::keep`], a day, or a minute while one of its periods is still running, which is bitmapist4's rule. Redis
//! counts a large plan in several transactions; when marks arrive in each of the attempts, the last
//! one is of several moments there, with the sizes of bitmaps last.
//!
//! Concurrent requests for the same counts wait for one computation. Errors are not cached.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::clock::Clock;
use crate::sets::{Key, Node, Plan, Set, UserId, When};
use crate::store::cost::{self, Cost};
use crate::store::embedded::Keyspace;
use crate::store::{
    Cancel, Counted, Freshness, Health, IdMap, Mark, OtherPrefixes, Progress, Result, Saved, Seen,
    Store, StoreError, StoreInfo, UnparsedKeys,
};

/// How often an answer is begun before the whole plan is counted in one call.
const ATTEMPTS: usize = 3;

/// How much is remembered, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions {
    /// The most memory it may take, in bytes.
    pub bytes: u64,
    /// How long a count is kept whose periods have all ended.
    pub keep: Duration,
    /// How long it is believed that nobody else has changed a bitmap, and how long a count is kept
    /// of which a period is still running.
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

/// How well it remembers, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Counts answered from memory.
    pub remembered: u64,
    /// Counts that the store computed.
    pub computed: u64,
    /// Bitmaps whose number of users was asked for.
    pub checked: u64,
}

/// What a remembered count is known by: 128 bits of two keyed hashes, which nobody can make collide
/// on purpose, and which do so by chance once in 10²⁰ times with a billion of them.
type Id = u128;

/// How often a request that waits for another one's count looks whether it was cancelled.
const LOOK_UP: Duration = Duration::from_millis(50);

/// About what an entry takes, in bytes.
const ENTRY: u64 = 112;

/// A bitmap as it is until it changes.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    /// Never given twice.
    version: u64,
    /// What it holds, and when that was asked. Only of stores that report changes.
    taken: Option<(Seen, Instant)>,
}

/// A bitmap of a plan.
struct Leaf<'p> {
    node: usize,
    id: Id,
    key: &'p Key,
    version: u64,
    taken: Option<(Seen, Instant)>,
}

/// For each node of a plan that is a bitmap the contents that an answer is of.
type Base = Vec<Option<(Id, u64, Seen)>>;

/// A whole answer, and when its bitmaps were looked at.
#[derive(Clone)]
struct Answer {
    counts: Arc<[u64]>,
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

/// A store that remembers what another one counted.
pub struct CachedStore {
    memory: Arc<Memory>,
    store: Arc<dyn Store>,
    clock: Clock,
    how: CacheOptions,
    /// The store reports each change, and counts each plan at one moment.
    reports: bool,
}

/// What is remembered.
struct Memory {
    hashers: [RandomState; 2],
    versions: AtomicU64,
    stamps: Cache<Id, Stamp>,
    /// One of these is held by whoever makes, fills or drops a stamp, so that each of that is one
    /// step.
    alone: [Mutex<()>; 16],
    /// Counts, and until when they are used.
    counts: Cache<Id, (u64, Instant)>,
    /// Whole answers, of stores that do not report changes.
    answers: Cache<Id, Answer, Weights>,
    /// Answers and counts that are being computed, by the class of who computes: nobody waits for a
    /// bigger question than his own.
    questions: [Flights<Answer>; 3],
    flights: [Flights<Computed>; 3],
    recall: [AtomicU64; 3],
}

#[derive(Clone)]
struct Weights;

impl Weighter<Id, Answer> for Weights {
    fn weight(&self, _: &Id, answer: &Answer) -> u64 {
        ENTRY + 8 * answer.counts.len() as u64
    }
}

impl Memory {
    fn id(&self, of: impl Hash) -> Id {
        let [a, b] = &self.hashers;
        u128::from(a.hash_one(&of)) << 64 | u128::from(b.hash_one(&of))
    }

    fn version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed)
    }

    fn alone(&self, id: Id) -> Option<MutexGuard<'_, ()>> {
        let place = usize::try_from(id % self.alone.len() as Id).ok()?;
        self.alone.get(place).map(lock)
    }

    /// The stamp of a bitmap; a new one where there is none. It is there for
    /// [`changed`](Self::changed) to find before anybody knows of it.
    fn stamp(&self, id: Id) -> Stamp {
        if let Some(stamp) = self.stamps.get(&id) {
            return stamp;
        }
        let _alone = self.alone(id);
        self.stamps.get(&id).unwrap_or_else(|| {
            let stamp = Stamp {
                version: self.version(),
                taken: None,
            };
            self.stamps.insert(id, stamp);
            stamp
        })
    }

    /// What a bitmap holds, unless it has changed since it had this version. Comparing and setting
    /// is one step: no change comes between them.
    fn note(&self, id: Id, version: u64, seen: Seen, at: Instant) {
        let _alone = self.alone(id);
        if self.is_unchanged(id, version) {
            self.stamps.insert(
                id,
                Stamp {
                    version,
                    taken: Some((seen, at)),
                },
            );
        }
    }

    /// A bitmap has changed: its stamp goes, and the next one has another version.
    fn changed(&self, key: &str) {
        let id = self.id(("key", key));
        // What was never asked for has no stamp. One that is made from now on is looked at after
        // this change.
        if self.stamps.peek(&id).is_some() {
            let _alone = self.alone(id);
            self.stamps.remove(&id);
        }
    }

    /// Whether a bitmap still is what it was. Not when its stamp was evicted: nobody can tell then.
    fn is_unchanged(&self, id: Id, version: u64) -> bool {
        self.stamps
            .peek(&id)
            .is_some_and(|stamp| stamp.version == version)
    }

    fn recalled(&self, what: usize, count: usize) {
        if let Some(counter) = self.recall.get(what) {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        }
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

impl CachedStore {
    /// Remembers what `store` counts. `clock` says which periods have ended.
    pub fn new(store: Arc<dyn Store>, how: CacheOptions, clock: Clock) -> Self {
        let items = usize::try_from(how.bytes / ENTRY)
            .unwrap_or(usize::MAX)
            .max(16);
        let memory = Arc::new(Memory {
            hashers: [RandomState::new(), RandomState::new()],
            versions: AtomicU64::new(0),
            // Many counts are of few bitmaps.
            stamps: Cache::new(items / 4),
            alone: Default::default(),
            counts: Cache::new(items / 2),
            answers: Cache::with_weighter(items / 16, how.bytes / 4, Weights),
            questions: Default::default(),
            flights: Default::default(),
            recall: Default::default(),
        });
        let told = Arc::downgrade(&memory);
        let reports = store.on_change(Box::new(move |key| {
            if let Some(memory) = told.upgrade() {
                memory.changed(key);
            }
        }));
        CachedStore {
            memory,
            store,
            clock,
            how,
            reports,
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

    /// What the answer to a plan over bitmaps of these versions is remembered by.
    fn question(&self, plan: &Plan, leaves: &[Leaf<'_>]) -> Id {
        let versions: Vec<u64> = leaves.iter().map(|leaf| leaf.version).collect();
        self.memory
            .id(("answer", plan.nodes(), plan.roots(), versions))
    }

    /// Whether what a stamp says is believed without looking again. Keys that expire are found out
    /// by looking.
    fn is_fresh(&self, at: Instant) -> bool {
        at.elapsed() < self.how.check_after
    }

    /// The contents of all bitmaps at one moment; `None` when some change while they are looked at.
    /// Where the store does not report changes, or `again`, all of them are looked at.
    fn base(&self, plan: &Plan, leaves: &[Leaf<'_>], again: bool) -> Result<Option<Base>> {
        let mut base: Base = vec![None; plan.nodes().len()];
        let mut wanted = Vec::new();
        for leaf in leaves {
            match leaf.taken {
                Some((seen, at)) if self.reports && !again && self.is_fresh(at) => {
                    base[leaf.node] = Some((leaf.id, leaf.version, seen));
                }
                _ => wanted.push(leaf),
            }
        }
        if !wanted.is_empty() {
            let at = Instant::now();
            for (leaf, seen) in wanted.iter().zip(self.look(wanted.iter().copied())?) {
                base[leaf.node] = Some((leaf.id, leaf.version, seen));
                if self.reports {
                    self.memory.note(leaf.id, leaf.version, seen, at);
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

    fn look<'l>(&self, leaves: impl IntoIterator<Item = &'l Leaf<'l>>) -> Result<Vec<Seen>> {
        let keys: Vec<Key> = leaves.into_iter().map(|leaf| leaf.key.clone()).collect();
        self.memory.recalled(2, keys.len());
        complete(self.store.look(&keys)?, keys.len())
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
            for (leaf, seen) in among.iter().zip(self.look(among.iter().copied())?) {
                changed[leaf.node] |= base[leaf.node].is_none_or(|(.., before)| before != seen);
            }
        }
        Ok(changed)
    }

    /// For each node of a plan what its count is remembered by, and whether all of its periods have
    /// ended.
    fn ids(&self, plan: &Plan, base: &Base) -> Vec<(Id, bool)> {
        let (memory, now) = (&*self.memory, self.clock.now());
        let mut ids: Vec<(Id, bool)> = Vec::with_capacity(plan.nodes().len());
        for (place, node) in plan.nodes().iter().enumerate() {
            let of = |id: &crate::sets::NodeId| ids.get(id.index()).copied().unwrap_or_default();
            let ended = node.operands().iter().all(|id| of(id).1);
            let mut parts: Vec<Id> = node.operands().iter().map(|id| of(id).0).collect();
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
                // It also depends on the length of the bitmap, which no stamp tells.
                Node::Not(_) => (memory.id("not"), false),
            };
            if !matches!(node, Node::Diff(_)) {
                // The order in which a plan happens to name them says nothing.
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
        let (mut found, mut missing) = (vec![None; plan.nodes().len()], Vec::new());
        let mut asked = vec![false; plan.nodes().len()];
        for root in plan.roots().iter().map(|root| root.index()) {
            if std::mem::replace(&mut asked[root], true) {
                continue;
            }
            let (id, _) = ids[root];
            found[root] = match base[root] {
                Some((.., seen)) => Some(seen.users),
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

    fn remembered(&self, plan: &Plan, freshness: Freshness) -> Result<Counted> {
        cost::check_nodes(plan)?;
        if freshness == Freshness::Cached {
            let leaves = self.leaves(plan);
            if let Some(counted) = self.at_once(plan, &leaves) {
                self.memory.recalled(0, counted.counts.len());
                return Ok(counted);
            }
            let question = Want {
                id: self.question(plan, &leaves),
                is_light: false,
            };
            let work = |_: &[usize]| Ok(vec![self.work_out(plan, freshness)?]);
            let mut answers =
                self.memory.questions[cost::class() as usize].once(&[question], true, work)?;
            if let Some((answer, _)) = answers.pop() {
                return Ok(self.counted(&answer));
            }
        }
        Ok(self.counted(&self.work_out(plan, freshness)?))
    }

    fn counted(&self, answer: &Answer) -> Counted {
        // What is told of each change is as of now.
        let age = if self.reports {
            Duration::ZERO
        } else {
            answer.at.elapsed()
        };
        Counted {
            counts: answer.counts.to_vec(),
            age,
        }
    }

    /// The answer, if it takes nothing but the cache.
    fn at_once(&self, plan: &Plan, leaves: &[Leaf<'_>]) -> Option<Counted> {
        if !self.reports {
            let answer = self.memory.answers.get(&self.question(plan, leaves))?;
            return (answer.at.elapsed() < self.how.check_after.min(self.how.keep))
                .then(|| self.counted(&answer));
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
            counts,
            age: Duration::ZERO,
        })
    }

    fn work_out(&self, plan: &Plan, freshness: Freshness) -> Result<Answer> {
        for attempt in 0..ATTEMPTS {
            let (leaves, at) = (self.leaves(plan), Instant::now());
            let Some(base) = self.base(plan, &leaves, freshness != Freshness::Cached)? else {
                continue;
            };
            if let Some(counts) =
                self.attempt(plan, &leaves, &base, freshness == Freshness::Anew, attempt)?
            {
                return Ok(self.answered(plan, &leaves, counts, at));
            }
        }
        let (leaves, at) = (self.leaves(plan), Instant::now());
        self.memory.recalled(1, plan.roots().len());
        let counts = complete(self.store.count(plan)?, plan.roots().len())?;
        Ok(self.answered(plan, &leaves, counts, at))
    }

    fn answered(&self, plan: &Plan, leaves: &[Leaf<'_>], counts: Vec<u64>, at: Instant) -> Answer {
        let answer = Answer {
            counts: counts.into(),
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
    ) -> Result<Option<Vec<u64>>> {
        let ids = self.ids(plan, base);
        let (mut found, missing) = self.cached(plan, base, &ids, anew);
        if !missing.is_empty() {
            cost::check(|| self.store.cost(&plan.part(&missing)))?;
        }
        self.memory.recalled(
            0,
            plan.roots()
                .iter()
                .filter(|root| found[root.index()].is_some())
                .count(),
        );
        let mut origins = vec![Origin::Cache; plan.nodes().len()];
        // The first time, a store that does not report changes may well stay as it is.
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
        Ok(plan
            .roots()
            .iter()
            .map(|root| found[root.index()])
            .collect())
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
        memory.recalled(
            1,
            nodes.iter().filter(|node| base[**node].is_none()).count(),
        );
        let counts = complete(self.store.count(&plan.part(nodes))?, nodes.len())?;
        let changed = self.changed(plan, leaves, base, among)?;
        let (over_changed, now) = (made_from(plan, &changed), Instant::now());
        let computed = nodes.iter().zip(counts).map(|(node, count)| {
            let is_of_base = !over_changed[*node];
            if is_of_base && base[*node].is_none() {
                let (id, ended) = ids[*node];
                let until = now
                    + if ended {
                        self.how.keep
                    } else {
                        self.how.check_after.min(self.how.keep)
                    };
                memory.counts.insert(id, (count, until));
            }
            Computed { count, is_of_base }
        });
        Ok((computed.collect(), changed))
    }

    fn told<'k, T>(&self, keys: impl IntoIterator<Item = &'k Key>, result: Result<T>) -> Result<T> {
        // Also after an error, which may hide that some of it was done.
        keys.into_iter()
            .for_each(|key| self.memory.changed(&key.to_string()));
        result
    }
}

impl Store for CachedStore {
    fn apply(&self, marks: &[Mark]) -> Result<()> {
        let result = self.store.apply(marks);
        let mut keys: Vec<&Key> = marks.iter().map(|mark| &mark.key).collect();
        keys.dedup();
        self.told(keys, result)
    }

    fn add(&self, runs: &[(&Key, &[UserId])]) -> Result<()> {
        let result = self.store.add(runs);
        self.told(runs.iter().map(|(key, _)| *key), result)
    }

    fn count(&self, plan: &Plan) -> Result<Vec<u64>> {
        Ok(self.remembered(plan, Freshness::Cached)?.counts)
    }

    fn counted(&self, plan: &Plan, freshness: Freshness) -> Result<Counted> {
        self.remembered(plan, freshness)
    }

    fn cost(&self, plan: &Plan) -> Result<Cost> {
        self.store.cost(plan)
    }

    fn recall(&self) -> Option<CacheStats> {
        let [remembered, computed, checked] =
            [0, 1, 2].map(|what| self.memory.recall[what].load(Ordering::Relaxed));
        Some(CacheStats {
            remembered,
            computed,
            checked,
        })
    }

    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        self.store.members(set, after, limit)
    }

    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>> {
        self.store.contains(keys, user)
    }

    fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
        self.store.keys(starting_with)
    }

    fn keys_version(&self) -> Option<u64> {
        self.store.keys_version()
    }

    fn strays(&self) -> UnparsedKeys {
        self.store.strays()
    }

    fn other_prefixes(&self) -> Result<OtherPrefixes> {
        self.store.other_prefixes()
    }

    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        self.store.sizes(keys)
    }

    fn delete(&self, keys: &[Key]) -> Result<u64> {
        let result = self.store.delete(keys);
        self.told(keys, result)
    }

    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        let result = self.store.save(set, key);
        self.told([key], result)
    }

    fn string_ids(&self) -> &dyn IdMap {
        self.store.string_ids()
    }

    fn keyspace(&self) -> Option<Keyspace> {
        self.store.keyspace()
    }

    fn sweep(&self) -> Result<u64> {
        self.store.sweep()
    }

    fn progress(&self) -> Progress {
        self.store.progress()
    }

    fn flush(&self) -> Result<()> {
        self.store.flush()
    }

    fn describe(&self) -> Result<StoreInfo> {
        self.store.describe()
    }

    fn health(&self) -> Health {
        self.store.health()
    }
}

/// What is being computed, so that it is computed once for all that wait.
struct Flights<T>(Mutex<HashMap<Id, Arc<Flight<T>>>>);

/// What comes of it for each of those it was begun for.
type Outcome<T> = Option<Result<HashMap<Id, T>>>;

/// One computation of several things.
struct Flight<T> {
    outcome: Mutex<Outcome<T>>,
    landed: Condvar,
}

/// What is wanted of a flight.
#[derive(Clone, Copy)]
struct Want {
    id: Id,
    /// It costs next to nothing: computed along with whatever else is, so that it is of the same
    /// moment.
    is_light: bool,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Flights(Mutex::default())
    }
}

impl<T: Clone> Flight<T> {
    /// What was computed for an id; `None` when whoever computed it did not finish, so that
    /// somebody else has to.
    fn wait(&self, id: Id, cancel: &Cancel) -> Result<Option<T>> {
        let mut outcome = lock(&self.outcome);
        while outcome.is_none() {
            cancel.check()?;
            (outcome, _) = self
                .landed
                .wait_timeout(outcome, LOOK_UP)
                .unwrap_or_else(PoisonError::into_inner);
        }
        match &*outcome {
            Some(Ok(found)) => Ok(found.get(&id).cloned()),
            // The leader's client is gone; those that wait here are not.
            Some(Err(StoreError::Cancelled)) | None => Ok(None),
            Some(Err(error)) => Err(error.clone()),
        }
    }
}

/// Lands a flight whatever happens, so that nobody waits for ever.
struct Landing<'a, T> {
    flights: &'a Flights<T>,
    flight: Arc<Flight<T>>,
    own: Vec<Id>,
    outcome: Outcome<T>,
}

impl<T> Drop for Landing<'_, T> {
    fn drop(&mut self) {
        let mut flying = lock(&self.flights.0);
        for id in &self.own {
            if flying
                .get(id)
                .is_some_and(|flight| Arc::ptr_eq(flight, &self.flight))
            {
                flying.remove(id);
            }
        }
        drop(flying);
        // After a panic there is no outcome: one of those that wait takes over.
        *lock(&self.flight.outcome) =
            Some(self.outcome.take().unwrap_or_else(|| Ok(HashMap::new())));
        self.flight.landed.notify_all();
    }
}

impl<T: Clone> Flights<T> {
    /// Each thing that is wanted, with the number of the call it comes from. `compute` gets the
    /// places of those that are not being computed just now. What others are computing is waited
    /// for; when one of them is cancelled or panics, one of those that wait takes over.
    fn once(
        &self,
        wants: &[Want],
        shared: bool,
        compute: impl Fn(&[usize]) -> Result<Vec<T>>,
    ) -> Result<Vec<(T, usize)>> {
        let (mut found, mut calls) = (vec![None; wants.len()], Vec::new());
        let mut wanted: Vec<usize> = (0..wants.len()).collect();
        while !wanted.is_empty() {
            wanted = self.round(wants, &wanted, &mut found, &mut calls, shared, &compute)?;
        }
        complete(found.into_iter().flatten().collect(), wants.len())
    }

    /// Computes or waits for each wanted thing once; returns those that nobody finished.
    fn round(
        &self,
        wants: &[Want],
        wanted: &[usize],
        found: &mut [Option<(T, usize)>],
        calls: &mut Vec<Arc<Flight<T>>>,
        shared: bool,
        compute: &impl Fn(&[usize]) -> Result<Vec<T>>,
    ) -> Result<Vec<usize>> {
        let flight = Arc::new(Flight {
            outcome: Mutex::new(None),
            landed: Condvar::new(),
        });
        let (mut own, mut others) = (Vec::new(), Vec::new());
        {
            let mut flying = lock(&self.0);
            let joined: Vec<_> = wanted
                .iter()
                .map(|place| flying.get(&wants[*place].id).filter(|_| shared).cloned())
                .collect();
            let has_work = joined
                .iter()
                .zip(wanted)
                .any(|(other, place)| other.is_none() && !wants[*place].is_light);
            for (place, other) in wanted.iter().copied().zip(joined) {
                match other.filter(|_| !(has_work && wants[place].is_light)) {
                    Some(other) => others.push((place, other)),
                    None => {
                        flying.insert(wants[place].id, Arc::clone(&flight));
                        own.push(place);
                    }
                }
            }
        }
        if !own.is_empty() {
            let own_ids: Vec<Id> = own.iter().map(|place| wants[*place].id).collect();
            calls.push(Arc::clone(&flight));
            let mut landing = Landing {
                flights: self,
                flight,
                own: own_ids.clone(),
                outcome: None,
            };
            let computed = compute(&own);
            landing.outcome = Some(
                computed
                    .clone()
                    .map(|computed| own_ids.into_iter().zip(computed).collect()),
            );
            drop(landing);
            for (place, computed) in own.iter().zip(complete(computed?, own.len())?) {
                found[*place] = Some((computed, calls.len() - 1));
            }
        }
        // Own work first: so two cannot wait for each other.
        let (mut left, cancel) = (Vec::new(), Cancel::current());
        for (place, other) in others {
            match other.wait(wants[place].id, &cancel)? {
                Some(computed) => {
                    let call = calls
                        .iter()
                        .position(|call| Arc::ptr_eq(call, &other))
                        .unwrap_or_else(|| {
                            calls.push(other);
                            calls.len() - 1
                        });
                    found[place] = Some((computed, call));
                }
                None => left.push(place),
            }
        }
        Ok(left)
    }
}

/// What a store answered, if it answered everything.
fn complete<T>(answers: Vec<T>, asked: usize) -> Result<Vec<T>> {
    if answers.len() == asked {
        return Ok(answers);
    }
    Err(StoreError::Damaged {
        path: "cached counts".to_owned(),
        reason: format!(
            "the store gave {} answers to {asked} questions",
            answers.len()
        ),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
