//! [`ClusterStore`]: a store on a Redis cluster.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ::redis::cmd;

use crate::sets::{Key, Node, Plan, Prefix, SCRATCH, Set, UserId};
use crate::store::cost::{self, Cost, UNKNOWN_TILES};
use crate::store::documents::document_key;
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
    ChangeFeed, Documents, IdMap, KeyListing, Maintenance, Mark, Options, OtherPrefixes, RedisEval,
    Result, Saved, Store, StoreError, StoreInfo, UnparsedKeys,
};

/// The most disputed slots (of ours) that are assumed to be migrating. A few are always disputed
/// while slots are moved one by one. If there are more, a replica has taken over, and it is quicker
/// to ask again.
pub(super) const MOST_DISPUTED: usize = 64;

/// How long to wait before asking primaries again that disagree about slots.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// Bitmaps in a Redis or Valkey Cluster, with users sharded by id range.
///
/// * A shard is 2²⁰ ids. Its bitmaps are keys `{prefix}{shard3z}active_2026-11-23`, as on a single
///   server except for the tag, and bit *n* is user *n* of the shard. All of them are in one slot,
///   and so on one node.
/// * Counts are never partial: an unreachable node and a slot without an owner are errors. If a
///   slot has moved or a replica has taken over, the request goes there. A shard that is migrating
///   to another node is counted locally, from bitmaps fetched from both nodes; each bitmap is read
///   once for everything that is asked within 65 536 users.
/// * The counts of a plan are of one moment within each shard, as with [`RedisStore`], but not
///   across shards.
/// * A batch of marks is atomic within each shard, but not across shards. After an error, some
///   shards may have their marks, and a migrating shard may have some of its marks. Marking the
///   same again is harmless.
/// * Complements (`!set`) are refused with [`StoreError::Unsupported`].
/// * Saving a set needs all bitmaps of a shard on one node, so it fails if a shard is migrating for
///   longer than the timeout.
/// * An acknowledged mark is on a primary and, if a replica is connected and answers within 0.2 s,
///   on that replica too. After a replica failed to answer several times in a row, marks of the
///   next second are acknowledged by the primary alone. A failover loses nothing that both had.
///   What only the primary had may be lost, because Redis replicates asynchronously.
pub struct ClusterStore {
    pub(super) nodes: Arc<Nodes>,
    pub(super) prefix: Prefix,
    /// Learned from the first node that is asked, and assumed for all.
    pub(super) capabilities: OnceLock<Capabilities>,
    pub(super) seen: Seen,
    /// String ids. They have their own tag, so that both hashes are in one slot.
    pub(super) ids: RedisStore,
    /// The total number of tiles of the shards that existed at the last request.
    pub(super) reached: AtomicU64,
    pub(super) left_out: Arc<LeftOut>,
}

/// The answers of all primaries and the slots that are migrating, or why the answers are not valid.
pub(super) type Settled<T> = std::result::Result<(Vec<T>, BTreeSet<u16>), Unsettled>;

/// Why the answers of the primaries are not valid for the cluster.
pub(super) enum Unsettled {
    /// Nodes disagree about slots. They may agree once all have heard of a change.
    Disputed(String),
    /// Some slots have no owner.
    Uncovered(String),
}

/// Not supported by a cluster: each shard has a part of a bitmap, and no shard knows the length of
/// the whole bitmap.
pub(super) const COMPLEMENTS: &str =
    "complements (`!set`): subtract a set from another one instead";

/// The number of tiles of a bitmap in a shard.
pub(super) const TILES_OF_SHARD: u64 = layout::USERS as u64 >> 16;

impl ClusterStore {
    /// A store at `redis-cluster://[user:password@]host[:6379][,host:port…]`, or
    /// `rediss-cluster://…` (TLS), with any nodes of the cluster. Does not connect yet.
    ///
    /// # Errors
    /// If the URL is invalid, or if the prefix contains a brace, which Redis would take as the
    /// beginning of a tag.
    pub fn new(url: &str, options: &Options) -> Result<Self> {
        let nodes = Arc::new(Nodes::new(url, options)?);
        let prefix = options.prefix.clone();
        if prefix.as_str().contains('{') {
            let reason = format!(
                "the prefix `{prefix}` contains `{{`, so the cluster would put all keys on one node. Choose a prefix without it"
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

    /// A store for one slot of the cluster.
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

    /// The store of the slot of a document.
    fn document_store(&self, name: &str) -> RedisStore {
        let slot = layout::slot(&document_key(&self.prefix, name));
        self.store(Slot::new(&self.nodes, slot), self.prefix.clone())
    }

    /// The keys whose type is not string.
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

    /// Runs a request on a shard.
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

    /// The store of a shard. With `hasty`, requests do not wait for a migration, because the caller
    /// can answer in another way.
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
        // A refusal of writes concerns only this node, which may have just been demoted.
        if let Some((known, _)) = &*store.learned.lock().unwrap_or_else(PoisonError::into_inner)
            && known.refusal.is_none()
        {
            self.capabilities.get_or_init(|| known.clone());
        }
    }

    /// Runs a request on shards, on different nodes in parallel.
    pub(super) fn ask_each<T: Send>(
        &self,
        shards: impl IntoIterator<Item = Shard>,
        run: impl Fn(Shard, &RedisStore) -> Result<T> + Sync,
    ) -> Result<BTreeMap<Shard, T>> {
        self.each(shards, |shard| self.ask(shard, |store| run(shard, store)))
    }

    /// Runs work for shards, in parallel for those on different nodes.
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

    /// Runs a request on every primary, and makes sure that they were all of them and that no slot
    /// changed owner meanwhile. Returns the slots that were migrating. With `lenient`, these
    /// include slots that changed owner.
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
            // Waiting helps only if the nodes are about to agree.
            let settled = *fresh == *topology && (fresh.uncovered().is_some() || !is_disputed);
            if settled || Instant::now() >= end {
                return Err(fault);
            }
            std::thread::sleep(PAUSE.min(end.saturating_duration_since(Instant::now())));
            topology = fresh;
        }
    }

    /// A single attempt of [`ask_primaries`](Self::ask_primaries).
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
                "{count} of the cluster's {} slots (the first is {first}) have no node, so their data is missing",
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
                    // Read after the request, not before: a slot that is empty because its keys
                    // have left is then migrating or no longer owned by this node.
                    let view = match view {
                        Some(view) => view,
                        None => conn.reply_to(&*cmd("CLUSTER").arg("NODES"))?,
                    };
                    Ok((
                        answer,
                        read_view(view, address)?
                            .into_iter()
                            .find(|node| node.myself),
                    ))
                };
                match pool.with(once) {
                    // For example, the node restarted between the PING and the request.
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
                    "its nodes disagree about who owns which slots".to_owned(),
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
            // The migration was started and then abandoned, or forgotten in a failover. The owner
            // treats keys that have already left as missing.
            let forgotten = coming.difference(&leaving).copied().collect();
            if let Some(slot) = self.first_filled(primary, &forgotten)? {
                return Ok(Err(Unsettled::Disputed(format!(
                    "its nodes disagree about whether slot {slot} is migrating to {}, which has keys of it that its owner does not know of. Repair it with redis-cli --cluster fix",
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
            // Finds keys that moved from a node not asked yet to one that had already been asked.
            names.extend(pass()?.0.into_iter().flatten());
        }
        Ok(names)
    }

    /// The pattern for keys of all shards that continue with `rest`, which is taken literally.
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
    /// Runs a request that needs several keys on one node, or `halfway` if the keys are on both
    /// nodes of a migration.
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
    /// One transaction for each shard.
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

    /// Assumes that every bitmap is in all shards that existed at the last request.
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

    /// Reads shard after shard until the limit is reached. The set is computed again for each page.
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
        // Fails on another program's key before anything is deleted.
        let sized: Vec<Key> = keys.iter().map(|key| (*key).clone()).collect();
        self.sizes(&sized)?;
        let mut gone = vec![false; keys.len()];
        let parts = self.ask_each(self.shards()?, |_, store| {
            let texts: Vec<String> = keys.iter().map(|key| key.text(&store.prefix)).collect();
            unlink(store, &texts)
        })?;
        // A bitmap counts once, in however many shards it was.
        parts.values().for_each(|part| {
            gone.iter_mut()
                .zip(part)
                .for_each(|(gone, part)| *gone |= part)
        });
        Ok(gone.into_iter().map(u64::from).sum())
    }

    /// Each shard computes its part into a temporary key, and then all parts are renamed. During
    /// the renames, a few milliseconds, a reader may see some parts and not others. The parts keep
    /// their expiry until all are renamed, so an interruption leaves nothing behind after a minute.
    /// Only between the first and the last PERSIST, one round trip, may the end of this process
    /// leave a part.
    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        let tiles = self.reached.load(Ordering::Relaxed);
        cost::check(|| Cost::of_set(set, |_| tiles))?;
        self.save_in_parts(set, key)
    }

    fn describe(&self) -> Result<StoreInfo> {
        // Every primary has to answer.
        self.ask_primaries(false, |_, _, _, _| Ok(Asked::of(())))?;
        // Asks again for the topology: replicas that come or go are not noticed otherwise, because
        // they change no answer.
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
            // Only the check for string ids uses the prefix, and its result is not used here.
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
                "{alone} of {} primaries have no replica for failover",
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
        // Without a start, list all keys under the prefix, also those outside of shards, to find
        // the ones that are not events.
        let names = match starting_with {
            "" => self.names(&format!("{}*", scan::escaped(self.prefix.as_str())))?,
            _ => self.names(&self.pattern(starting_with))?,
        };
        // The pattern may match a little more; see `scan::escaped`.
        let names = names.beginning_with(self.prefix.as_str());
        let plain = |text| layout::plain(&self.prefix, text);
        let keys = self
            .left_out
            .parse(&self.prefix, starting_with, &names, plain, |texts| {
                self.of_other_types(texts)
            })?;
        // A bitmap is listed once, in however many shards it is.
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
        // A key that is migrating may be on two nodes.
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

impl Documents for ClusterStore {
    fn document(&self, name: &str) -> Result<Option<String>> {
        self.document_store(name).document(name)
    }

    fn replace_document(
        &self,
        name: &str,
        expected: Option<&str>,
        new: Option<&str>,
    ) -> Result<bool> {
        self.document_store(name)
            .replace_document(name, expected, new)
    }
}

/// Client tracking is not used in a cluster.
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
            // The name may only look like one of ours, for example if another prefix continues with
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

/// Deletes keys of a shard. Returns for each whether it existed.
pub(super) fn unlink(store: &RedisStore, texts: &[String]) -> Result<Vec<bool>> {
    // Shared by both attempts: the second one no longer finds what the first one deleted.
    let gone = RefCell::new(vec![false; texts.len()]);
    store.with(|conn, capabilities| {
        for (place, chunk) in texts.chunks(SMALL_COMMANDS).enumerate() {
            let mut batch = Batch::default();
            // One by one: a command with many keys is refused while their slot is migrating.
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

/// The temporary keys that would stay forever: all except ours with an expiry.
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
