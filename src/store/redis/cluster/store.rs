//! [`ClusterStore`]: a store on a Redis cluster.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ::redis::cmd;

use crate::sets::{Key, Node, Plan, Prefix, SCRATCH, Set, UserId};
use crate::store::cost::{self, Cost, UNKNOWN_TILES};
use crate::store::redis::capabilities::Capabilities;
use crate::store::redis::cluster::asked::Asked;
use crate::store::redis::cluster::fan_out;
use crate::store::redis::cluster::layout::{self, AROUND, SHARDS, Shard};
use crate::store::redis::cluster::migrating;
use crate::store::redis::cluster::route::Slot;
use crate::store::redis::cluster::route::{Nodes, at_node, read_view};
use crate::store::redis::cluster::seen::Seen;
use crate::store::redis::cluster::topology::{Primary, Topology};
use crate::store::redis::connection::{
    Batch, RedisConnection, Reply, ServerFault, accept, integer, natural,
};
use crate::store::redis::route::Route;
use crate::store::redis::scan;
use crate::store::redis::server_eval::{OURS, Scratch};
use crate::store::redis::store::{RedisStore, SMALL_COMMANDS, of_other_types};
use crate::store::unparsed_keys::{LeftOut, Names};
use crate::store::{
    ChangeFeed, IdMap, KeyListing, Maintenance, Mark, Options, OtherPrefixes, RedisEval, Result,
    Saved, Store, StoreError, StoreInfo, UnparsedKeys,
};

/// How many slots of ours that nodes do not agree about are taken for being on their way. Some
/// always are while slot after slot is moved; where they are more a replica has taken over, and it
/// is quicker to ask anew.
pub(super) const MOST_DISPUTED: usize = 64;

/// How long until primaries that do not agree about slots are asked again.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// Bitmaps in a Redis or Valkey Cluster, users sharded by id range.
///
/// * A shard is 2²⁰ ids; its bitmaps are keys `{prefix}{shard3z}active_2026-11-23`, as on a single
///   server but for the tag, and bit *n* is user *n* of the shard. All of them are in one slot, so
///   on one node.
/// * Numbers are right or there are none: a node that does not answer and a slot that nobody has
///   are errors. Where a slot has moved or a replica has taken over, a request goes there. A shard
///   that is on its way to another node is counted here, of bitmaps fetched from either side; each
///   is looked at once for all that is asked within 65 536 users.
/// * The counts of a plan are of one moment shard by shard, as with [`RedisStore`], and not over
///   all shards.
/// * A batch of marks is all or nothing in each shard, and not over all: after an error some shards
///   may have theirs, and of a shard that is on its way some marks may be there. Marking the same
///   again does no harm.
/// * Complements (`!set`) are refused with [`StoreError::Unsupported`].
/// * What can only be done where all bitmaps are on one node, saving a set, fails while a shard is
///   on its way for longer than the time-out.
/// * An acknowledged mark is on a primary and, where a replica is in sight and answers within 0.2
///   s, on that as well; after one that does not, those of the next second are on the primary
///   alone. A fail-over loses nothing that both had; what only the primary had may be lost, as
///   Redis replicates asynchronously.
pub struct ClusterStore {
    pub(super) nodes: Arc<Nodes>,
    pub(super) prefix: Prefix,
    /// Learned of whichever node is asked first, and taken for all.
    pub(super) capabilities: OnceLock<Capabilities>,
    pub(super) seen: Seen,
    /// Under a tag of their own, so that both hashes are in one slot.
    pub(super) ids: RedisStore,
    /// How many tiles the shards had together that were there last.
    pub(super) reached: AtomicU64,
    pub(super) left_out: Arc<LeftOut>,
}

/// What all primaries answered, and which slots are on their way; or why that does not hold.
pub(super) type Settled<T> = std::result::Result<(Vec<T>, BTreeSet<u16>), Unsettled>;

/// Why answers of all primaries are not the answer of the cluster.
pub(super) enum Unsettled {
    /// Nodes do not agree about slots. They may when they have heard of a change.
    Disputed(String),
    /// Slots are on no node.
    Uncovered(String),
}

/// What a cluster does not support: each shard has a part of a bitmap, and no shard knows how long
/// the whole bitmap is.
pub(super) const COMPLEMENTS: &str =
    "complements (`!set`): subtract a set from another one instead";

/// How many tiles a bitmap has in a shard.
pub(super) const TILES_OF_SHARD: u64 = layout::USERS as u64 >> 16;

impl ClusterStore {
    /// A store at `redis-cluster://[user:password@]host[:6379][,host:port…]`, any nodes of the
    /// cluster, or `rediss-cluster://…` (TLS). Connects to nothing yet.
    ///
    /// # Errors
    /// When the text is no such URL, and when the prefix has a brace in it, which Redis would take
    /// for the beginning of a tag.
    pub fn new(url: &str, options: &Options) -> Result<Self> {
        let nodes = Arc::new(Nodes::new(url, options)?);
        let prefix = options.prefix.clone();
        if prefix.as_str().contains('{') {
            let reason = format!(
                "the prefix `{prefix}` has a `{{` in it, by which a cluster would put all keys on one node: choose one without"
            );
            return Err(StoreError::Refused {
                location: nodes.location.clone(),
                reason,
            });
        }
        let of_ids = Prefix::new(&format!("{prefix}{}", layout::IDS));
        let slot = Slot::new(&nodes, layout::slot(of_ids.as_str()));
        let ids = RedisStore::at(Route::Slot(slot), of_ids, RedisEval::Server, None);
        let reached = AtomicU64::new(UNKNOWN_TILES);
        let (capabilities, seen, left_out) = Default::default();
        Ok(ClusterStore {
            nodes,
            prefix,
            capabilities,
            seen,
            ids,
            reached,
            left_out,
        })
    }

    pub(super) fn away(&self, reason: String) -> StoreError {
        self.nodes.error(ServerFault::Away(reason))
    }

    pub(super) fn topology(&self) -> Result<Arc<Topology>> {
        self.nodes
            .topology()
            .map_err(|fault| self.nodes.error(fault))
    }

    /// A store somewhere in the cluster. It is the nodes that compute.
    pub(super) fn store(&self, slot: Slot, prefix: Prefix) -> RedisStore {
        let store = RedisStore::at(
            Route::Slot(slot),
            prefix,
            self.nodes.options.redis_eval,
            self.capabilities.get().cloned(),
        );
        RedisStore {
            left_out: Arc::clone(&self.left_out),
            ..store
        }
    }

    /// The keys that are of another type than bitmaps.
    pub(super) fn of_other_types(&self, keys: &[&String]) -> Result<BTreeSet<String>> {
        let mut parts: BTreeMap<Shard, Vec<&String>> = BTreeMap::new();
        for text in keys {
            if let Some((shard, _)) = layout::parse(&self.prefix, text) {
                parts.entry(shard).or_default().push(text);
            }
        }
        let found = self.ask_each(parts.keys().copied(), |shard, store| {
            store.with(|conn, capabilities| of_other_types(conn, capabilities, &parts[&shard]))
        })?;
        Ok(found.into_values().flatten().collect())
    }

    /// Asks a shard something.
    pub(super) fn ask<T>(
        &self,
        shard: Shard,
        run: impl FnOnce(&RedisStore) -> Result<T>,
    ) -> Result<T> {
        let store = self.shard(shard, false);
        let result = run(&store);
        self.learn(&store);
        result
    }

    /// A shard; `hasty` when there is another way to ask it while it is on its way.
    pub(super) fn shard(&self, shard: Shard, hasty: bool) -> RedisStore {
        let number = layout::slot_of(shard);
        let slot = if hasty {
            Slot::hasty(&self.nodes, number)
        } else {
            Slot::new(&self.nodes, number)
        };
        self.store(slot, layout::prefix(&self.prefix, shard))
    }

    pub(super) fn learn(&self, store: &RedisStore) {
        // A refusal to write is only about this node, which may have just been demoted.
        if let Some((known, _)) = &*store.learned.lock().unwrap_or_else(PoisonError::into_inner)
            && known.refusal.is_none()
        {
            self.capabilities.get_or_init(|| known.clone());
        }
    }

    /// Asks shards something, those on different nodes side by side.
    pub(super) fn ask_each<T: Send>(
        &self,
        shards: impl IntoIterator<Item = Shard>,
        run: impl Fn(Shard, &RedisStore) -> Result<T> + Sync,
    ) -> Result<BTreeMap<Shard, T>> {
        self.each(shards, |shard| self.ask(shard, |store| run(shard, store)))
    }

    /// Does something for shards, for those on different nodes side by side.
    pub(super) fn each<T: Send>(
        &self,
        shards: impl IntoIterator<Item = Shard>,
        run: impl Fn(Shard) -> Result<T> + Sync,
    ) -> Result<BTreeMap<Shard, T>> {
        let topology = self.topology()?;
        let mut lanes: BTreeMap<Option<&str>, Vec<Shard>> = BTreeMap::new();
        for shard in shards {
            let owner = topology
                .owner(layout::slot_of(shard))
                .map(|owner| owner.address.as_str());
            lanes.entry(owner).or_default().push(shard);
        }
        let lanes: Vec<Vec<Shard>> = lanes.into_values().collect();
        let answers =
            fan_out::side_by_side(&lanes, &self.nodes.location, &|shard: &Shard| run(*shard))?;
        Ok(lanes
            .into_iter()
            .flatten()
            .zip(answers.into_iter().flatten())
            .collect())
    }

    /// Asks every primary something, and makes sure that they were all and that no slot changed
    /// hands meanwhile. Tells which slots were on their way; when `lenient`, those that did change
    /// hands are among them.
    pub(super) fn ask_primaries<T: Send>(
        &self,
        lenient: bool,
        run: impl Fn(&mut RedisConnection, &Capabilities, &Topology, &Primary) -> Reply<Asked<T>> + Sync,
    ) -> Result<(Vec<T>, BTreeSet<u16>)> {
        let end = Instant::now() + self.nodes.options.timeout;
        let mut topology = self.topology()?;
        loop {
            let (fault, is_disputed) = match self.ask_these(lenient, &topology, &run) {
                Ok(Ok(answers)) => return Ok(answers),
                Ok(Err(Unsettled::Disputed(reason))) => (self.away(reason), true),
                Ok(Err(Unsettled::Uncovered(reason))) => (self.away(reason), false),
                Err(error @ StoreError::Unreachable { .. }) => (error, false),
                Err(error) => return Err(error),
            };
            let fresh = self
                .nodes
                .refresh(Some(&topology))
                .map_err(|fault| self.nodes.error(fault))?;
            // Nothing that waiting would mend, unless nodes are about to hear of something.
            let settled = *fresh == *topology && (fresh.uncovered().is_some() || !is_disputed);
            if settled || Instant::now() >= end {
                return Err(fault);
            }
            std::thread::sleep(PAUSE.min(end.saturating_duration_since(Instant::now())));
            topology = fresh;
        }
    }

    /// The same once; or why it is not known that these were all.
    pub(super) fn ask_these<T: Send>(
        &self,
        lenient: bool,
        topology: &Topology,
        run: &(
             impl Fn(&mut RedisConnection, &Capabilities, &Topology, &Primary) -> Reply<Asked<T>> + Sync
         ),
    ) -> Result<Settled<T>> {
        if let Some((first, count)) = topology.uncovered() {
            return Ok(Err(Unsettled::Uncovered(format!(
                "{count} of the cluster's {} slots, {first} the first, are on no node that it knows of, so what is in them is missing",
                layout::SLOTS
            ))));
        }
        let ask = |primary: &&Primary| {
            let address = &primary.address;
            let asked = self.nodes.pool(address).and_then(|pool| {
                let once = |conn: &mut RedisConnection| {
                    let nobody = || Scratch::new(&self.prefix).nobody();
                    let capabilities = match self.capabilities.get() {
                        Some(known) => known.clone(),
                        None => {
                            let known = Capabilities::probe(conn, &nobody())?;
                            if known.refusal.is_some() {
                                known
                            } else {
                                self.capabilities.get_or_init(|| known).clone()
                            }
                        }
                    };
                    let Asked { answer, view } = run(conn, &capabilities, topology, primary)?;
                    // Not before: a slot that is empty because its keys have gone is not his any
                    // more, or on its way.
                    let view = match view {
                        Some(view) => view,
                        None => conn
                            .trip(&Batch::of([&*cmd("CLUSTER").arg("NODES")]))?
                            .pop()
                            .unwrap_or_default(),
                    };
                    Ok((
                        answer,
                        read_view(view, address)?
                            .into_iter()
                            .find(|node| node.myself),
                    ))
                };
                match pool.with(once) {
                    // As after a restart of the node between the PING and the request.
                    Err(ServerFault::Dropped(_)) => pool.with(once),
                    result => result,
                }
            });
            asked.map_err(|fault| self.nodes.error(at_node(address, fault)))
        };
        let lanes: Vec<Vec<&Primary>> = topology
            .primaries
            .iter()
            .map(|primary| vec![primary])
            .collect();
        let asked: Vec<_> = fan_out::side_by_side(&lanes, &self.nodes.location, &ask)?
            .into_iter()
            .flatten()
            .collect();
        let mut moving = BTreeSet::new();
        for ((_, own), primary) in asked.iter().zip(&topology.primaries) {
            let own = own.as_ref();
            if own.is_some_and(|own| topology.agrees(primary, own)) {
                continue;
            }
            let disputed = self
                .slots()
                .filter(|slot| own.is_none_or(|own| topology.is_disputed(primary, own, *slot)));
            moving.extend(disputed);
            if !lenient || own.is_none() || moving.len() > MOST_DISPUTED {
                return Ok(Err(Unsettled::Disputed(
                    "its nodes do not agree which slots are whose".to_owned(),
                )));
            }
        }
        let leaving: BTreeSet<u16> = asked
            .iter()
            .filter_map(|(_, own)| own.as_ref())
            .flat_map(|own| &own.leaving)
            .copied()
            .collect();
        let mut answers = Vec::new();
        moving.extend(&leaving);
        for ((answer, own), primary) in asked.into_iter().zip(&topology.primaries) {
            let coming = own.map(|own| own.coming).unwrap_or_default();
            // Begun, and given up or forgotten in a fail-over: the owner takes for nowhere what has
            // gone already.
            let forgotten = coming.difference(&leaving).copied().collect();
            if let Some(slot) = self.first_filled(primary, &forgotten)? {
                return Ok(Err(Unsettled::Disputed(format!(
                    "its nodes do not agree whether slot {slot} is on its way to {}, which has keys of it that its owner does not know of: redis-cli --cluster fix mends that",
                    primary.address
                ))));
            }
            answers.push(answer);
            moving.extend(coming);
        }
        Ok(Ok((answers, moving)))
    }

    /// The names of all keys that match a pattern, each once.
    pub(super) fn names(&self, pattern: &str) -> Result<Names> {
        let pass = || {
            self.ask_primaries(false, |conn, capabilities, _, _| {
                let mut found = Vec::new();
                scan::each(conn, capabilities, pattern, &mut |name| found.push(name))?;
                Ok(Asked::of(found))
            })
        };
        let (found, moving) = pass()?;
        let mut names = Names::default();
        names.extend(found.into_iter().flatten());
        if !moving.is_empty() {
            // A key that went from a node not yet asked to one that had been asked is there now.
            names.extend(pass()?.0.into_iter().flatten());
        }
        Ok(names)
    }

    /// The pattern for keys of all shards that go on with `rest`, in which wildcards stand for
    /// themselves.
    pub(super) fn pattern(&self, rest: &str) -> String {
        format!(
            "{}{}*{}{}*",
            scan::escaped(self.prefix.as_str()),
            AROUND.0,
            AROUND.1,
            scan::escaped(rest)
        )
    }

    /// The shards to ask for a plan.
    pub(super) fn shards_of(&self, plan: &Plan) -> Result<BTreeSet<Shard>> {
        if plan.nodes().iter().any(|node| matches!(node, Node::Not(_))) {
            return Err(StoreError::Unsupported(COMPLEMENTS));
        }
        let shards = self.shards()?;
        self.reached
            .store(TILES_OF_SHARD * shards.len() as u64, Ordering::Relaxed);
        Ok(shards)
    }
}

impl ClusterStore {
    /// Asks a shard something that needs several keys on one node, or in the other way when they
    /// are on either side.
    pub(super) fn ask_or<T>(
        &self,
        shard: Shard,
        run: impl FnOnce(&RedisStore) -> Result<T>,
        halfway: impl FnOnce(&RedisStore) -> Result<T>,
    ) -> Result<T> {
        let store = self.shard(shard, true);
        let result = run(&store);
        self.learn(&store);
        let was_between = matches!(&store.route, Route::Slot(slot) if slot.was_between());
        if result.is_err() && was_between {
            self.ask(shard, halfway)
        } else {
            result
        }
    }
}

impl Store for ClusterStore {
    /// A transaction for each shard.
    fn apply(&self, marks: &[Mark]) -> Result<()> {
        let mut parts: BTreeMap<Shard, Vec<Mark>> = BTreeMap::new();
        for mark in marks {
            let (shard, user) = layout::place(mark.user);
            parts.entry(shard).or_default().push(Mark {
                user,
                ..mark.clone()
            });
        }
        let apply = |shard: Shard| {
            let part = &parts[&shard];
            self.ask_or(
                shard,
                |store| store.apply(part),
                |store| migrating::apply(store, part),
            )
        };
        self.each(parts.keys().copied(), apply).map(drop)
    }

    /// As if every bitmap were in all shards there were last.
    fn cost(&self, plan: &Plan) -> Result<Cost> {
        let tiles = self.reached.load(Ordering::Relaxed);
        Ok(Cost::of(plan, |_| tiles))
    }

    fn count(&self, plan: &Plan) -> Result<Vec<u64>> {
        let mut counts = vec![0; plan.roots().len()];
        if counts.is_empty() {
            return Ok(counts);
        }
        let shards = self.shards_of(plan)?;
        cost::check(|| self.cost(plan))?;
        let parts = self.each(shards, |shard| {
            self.ask_or(
                shard,
                |store| store.count(plan),
                |store| migrating::count(store, plan),
            )
        })?;
        for part in parts.values() {
            for (count, part) in counts.iter_mut().zip(part) {
                *count += part;
            }
        }
        Ok(counts)
    }

    /// Shard after shard, as long as there is room. The set is computed anew for each page.
    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        let mut users = Vec::new();
        let Some(first) = after
            .map_or(Some(0), |after| after.checked_add(1))
            .filter(|_| limit > 0)
        else {
            return Ok(users);
        };
        let mut plan = Plan::new();
        plan.count_set(set)?;
        let shards = self.shards_of(&plan)?;
        cost::check(|| self.cost(&plan))?;
        let (first_shard, first_number) = layout::place(first);
        for shard in shards.range(first_shard..) {
            let room = limit - users.len();
            if room == 0 {
                break;
            }
            let after = if *shard == first_shard {
                first_number.checked_sub(1)
            } else {
                None
            };
            let some = self.ask_or(
                *shard,
                |store| store.members(set, after, room),
                |store| migrating::members(store, &plan, after, room),
            )?;
            users.extend(some.into_iter().map(|number| layout::user(*shard, number)));
        }
        Ok(users)
    }

    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>> {
        let (shard, number) = layout::place(user);
        self.ask(shard, |store| store.contains(keys, number))
    }

    fn string_ids(&self) -> &dyn IdMap {
        &self.ids
    }

    fn delete(&self, keys: &[Key]) -> Result<u64> {
        let keys: Vec<&Key> = keys.iter().collect::<BTreeSet<_>>().into_iter().collect();
        if keys.is_empty() {
            return Ok(0);
        }
        // Another program's key is an error before anything is deleted.
        let sized: Vec<Key> = keys.iter().map(|key| (*key).clone()).collect();
        self.sizes(&sized)?;
        let mut gone = vec![false; keys.len()];
        let parts = self.ask_each(self.shards()?, |_, store| {
            let texts: Vec<String> = keys.iter().map(|key| key.text(&store.prefix)).collect();
            unlink(store, &texts)
        })?;
        // A bitmap is one, in however many shards it was.
        parts.values().for_each(|part| {
            gone.iter_mut()
                .zip(part)
                .for_each(|(gone, part)| *gone |= part)
        });
        Ok(gone.into_iter().map(u64::from).sum())
    }

    /// Each shard computes its part into a temporary key; then all parts are given their name.
    /// While that goes on, for a few milliseconds, a reader may see some parts and not the others.
    /// They stay temporary until all have their name, so that an interruption leaves none of them a
    /// minute later; only between the first and the last that is told to stay for good, one round
    /// trip, may the end of this process leave a part.
    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        let tiles = self.reached.load(Ordering::Relaxed);
        cost::check(|| Cost::of_set(set, |_| tiles))?;
        self.save_in_parts(set, key)
    }

    fn describe(&self) -> Result<StoreInfo> {
        // Every primary has to answer.
        self.ask_primaries(false, |_, _, _, _| Ok(Asked::of(())))?;
        // That replicas have come or gone changes no answer, and is not noticed otherwise.
        let known = self.topology()?;
        let topology = self
            .nodes
            .refresh(Some(&known))
            .map_err(|fault| self.nodes.error(fault))?;
        let (mut kinds, mut notes) = (BTreeSet::new(), BTreeSet::new());
        let mut refusal = None;
        for primary in &topology.primaries {
            let number = (0..16_384)
                .find(|slot| topology.owner(*slot).is_some_and(|owner| owner == primary));
            let slot = Slot::new(&self.nodes, number.unwrap_or_default());
            // Any prefix whose keys are in that slot would do; what is asked is no matter of keys
            // but for text ids.
            let store = self.store(slot, self.prefix.clone());
            let info = store.describe()?;
            kinds.insert(info.kind);
            notes.extend(info.notes);
            refusal = refusal.or(info.refusal);
        }
        let alone = topology
            .primaries
            .iter()
            .filter(|primary| primary.replicas == 0)
            .count();
        if alone > 0 {
            notes.insert(format!(
                "{alone} of {} primaries have no replica that could take over",
                topology.primaries.len()
            ));
        }
        Ok(StoreInfo {
            kind: format!(
                "{} as a cluster of {} primaries",
                kinds.into_iter().collect::<Vec<_>>().join(" and "),
                topology.primaries.len()
            ),
            location: self.nodes.location.clone(),
            prefix: self.prefix.clone(),
            created: false,
            notes: notes.into_iter().collect(),
            string_ids: self.ids.next()?.is_some(),
            refusal,
        })
    }
}

impl KeyListing for ClusterStore {
    fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
        // All keys under the prefix, also those in no shard, where it is to be found out which are
        // no event's.
        let names = match starting_with {
            "" => self.names(&format!("{}*", scan::escaped(self.prefix.as_str())))?,
            _ => self.names(&self.pattern(starting_with))?,
        };
        // The pattern may let in a little more; see `scan::escaped`.
        let names = names.beginning_with(self.prefix.as_str());
        let plain = |text| layout::plain(&self.prefix, text);
        let keys = self
            .left_out
            .parse(&self.prefix, starting_with, &names, plain, |texts| {
                self.of_other_types(texts)
            })?;
        // A bitmap is one, in however many shards it is.
        Ok(keys
            .into_iter()
            .collect::<BTreeSet<Key>>()
            .into_iter()
            .collect())
    }

    fn unparsed_keys(&self) -> UnparsedKeys {
        self.left_out.get()
    }

    fn other_prefixes(&self) -> Result<OtherPrefixes> {
        let (looked, _) = self.ask_primaries(true, |conn, capabilities, _, _| {
            scan::some(conn, capabilities).map(Asked::of)
        })?;
        let complete = looked.iter().all(|(_, complete)| *complete);
        // A key that is on its way may be on two nodes.
        let names: BTreeSet<String> = looked.into_iter().flat_map(|(names, _)| names).collect();
        Ok(OtherPrefixes::of(
            &self.prefix,
            &names,
            complete,
            layout::prefix_of,
        ))
    }

    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        let mut sizes = vec![Some(0); keys.len()];
        for part in self
            .ask_each(self.shards()?, |_, store| store.sizes(keys))?
            .values()
        {
            sizes
                .iter_mut()
                .zip(part)
                .for_each(|(size, part)| *size = size.zip(*part).map(|(a, b)| a + b));
        }
        Ok(sizes)
    }
}

/// The nodes of a cluster are not asked to track changes.
impl ChangeFeed for ClusterStore {}

impl Maintenance for ClusterStore {
    fn sweep(&self) -> Result<u64> {
        let names = self.names(&self.pattern(SCRATCH))?.texts;
        let mut parts: BTreeMap<Shard, Vec<String>> = BTreeMap::new();
        for name in names
            .into_iter()
            .filter(|name| layout::parse(&self.prefix, name).is_none())
        {
            let behind = name
                .strip_prefix(self.prefix.as_str())
                .and_then(|rest| rest.strip_prefix(AROUND.0));
            let shard = behind.and_then(|rest| rest.split_once(AROUND.1)?.0.parse::<Shard>().ok());
            // A name that only looks like one of ours, as of another prefix that goes on with
            // braces.
            let Some(shard) = shard.filter(|shard| *shard < SHARDS) else {
                continue;
            };
            if name.starts_with(&format!("{}{SCRATCH}", layout::prefix(&self.prefix, shard))) {
                parts.entry(shard).or_default().push(name);
            }
        }
        let swept = self.ask_each(parts.keys().copied(), |shard, store| {
            let left = store.with(|conn, _| {
                without_lifetime(
                    conn,
                    &parts[&shard],
                    &format!("{}{SCRATCH}{OURS}", store.prefix),
                )
            })?;
            Ok(unlink(store, &left)?
                .into_iter()
                .map(u64::from)
                .sum::<u64>())
        })?;
        Ok(swept.values().sum())
    }
}

/// Deletes keys of a shard; says of each whether it was there.
pub(super) fn unlink(store: &RedisStore, texts: &[String]) -> Result<Vec<bool>> {
    // Kept over another attempt, which finds gone what the first one deleted.
    let gone = RefCell::new(vec![false; texts.len()]);
    store.with(|conn, capabilities| {
        for (place, chunk) in texts.chunks(SMALL_COMMANDS).enumerate() {
            let mut batch = Batch::default();
            // One by one: a command with many keys is refused while their slot is on its way.
            chunk
                .iter()
                .for_each(|text| batch.push(cmd(capabilities.delete()).arg(text)));
            for (n, reply) in conn.trip(&batch)?.into_iter().enumerate() {
                let deleted = natural(
                    capabilities.delete(),
                    &accept(reply, chunk.get(n).cloned())?,
                )? > 0;
                gone.borrow_mut()[place * SMALL_COMMANDS + n] |= deleted;
            }
        }
        Ok(())
    })?;
    Ok(gone.into_inner())
}

/// The temporary keys that nobody will delete: all but those of ours that have a time to live.
pub(super) fn without_lifetime(
    conn: &mut RedisConnection,
    names: &[String],
    ours: &str,
) -> Reply<Vec<String>> {
    let mut left = Vec::new();
    for chunk in names.chunks(SMALL_COMMANDS) {
        let mut batch = Batch::default();
        chunk
            .iter()
            .for_each(|name| batch.push(cmd("TTL").arg(name)));
        for (name, reply) in chunk.iter().zip(conn.trip(&batch)?) {
            let lifetime = integer("TTL", &accept(reply, Some(name.clone()))?)?;
            if lifetime == -1 || !name.starts_with(ours) {
                left.push(name.clone());
            }
        }
    }
    Ok(left)
}
