//! Finds the existing shards with few commands.
//!
//! There may be 4096 shards, and asking about each takes milliseconds. So the store remembers which
//! slots of a primary held keys. Usually it asks only about those, together with the total number
//! of keys (DBSIZE), in one transaction: if the counts add up to the total, there are no keys
//! elsewhere. If they do not, it asks about every slot that a shard may be in. What is remembered
//! can therefore be wrong and costs no more than time.

use std::collections::BTreeSet;

use ::redis::{Value, cmd};

use crate::store::Result;
use crate::store::redis::capabilities::Capabilities;
use crate::store::redis::cluster::asked::Asked;
use crate::store::redis::cluster::layout::{self, SHARDS, Shard};
use crate::store::redis::cluster::route::at_node;
use crate::store::redis::cluster::store::ClusterStore;
use crate::store::redis::cluster::topology::{Primary, Topology};
use crate::store::redis::connection::{
    Batch, RedisConnection, Reply, ServerFault, accept, last, natural,
};

impl ClusterStore {
    /// The existing shards; some may be empty.
    pub(super) fn shards(&self) -> Result<BTreeSet<Shard>> {
        let (filled, moving) =
            self.ask_primaries(true, |conn, capabilities, topology, primary| {
                self.filled(conn, capabilities, topology, primary)
            })?;
        self.seen.retain(&*self.topology()?);
        let filled: BTreeSet<u16> = filled.into_iter().flatten().chain(moving).collect();
        Ok((0..SHARDS)
            .filter(|shard| filled.contains(&layout::slot_of(*shard)))
            .collect())
    }

    /// The first of `slots` that may hold keys of ours and holds keys on a node.
    pub(super) fn first_filled(
        &self,
        primary: &Primary,
        slots: &BTreeSet<u16>,
    ) -> Result<Option<u16>> {
        let ours: BTreeSet<u16> = self.slots().filter(|slot| slots.contains(slot)).collect();
        if ours.is_empty() {
            return Ok(None);
        }
        let counted = self
            .nodes
            .pool(&primary.address)
            .and_then(|pool| pool.with(|conn| count(conn, &ours)));
        let (filled, _) =
            counted.map_err(|fault| self.nodes.error(at_node(&primary.address, fault)))?;
        Ok(filled.first().copied())
    }

    /// The slots that our keys may be in: those of the shards and that of the string ids.
    pub(super) fn slots(&self) -> impl Iterator<Item = u16> {
        (0..SHARDS)
            .map(layout::slot_of)
            .chain([layout::slot(self.ids.prefix.as_str())])
    }

    /// The slots of a primary that hold keys, including all that hold shards.
    fn filled(
        &self,
        conn: &mut RedisConnection,
        capabilities: &Capabilities,
        topology: &Topology,
        primary: &Primary,
    ) -> Reply<Asked<BTreeSet<u16>>> {
        let own = |slot: &u16| topology.owner(*slot).is_some_and(|owner| owner == primary);
        let address = &primary.address;
        let tried = self
            .seen
            .to_try(address)
            .filter(|_| capabilities.transactions_allowed);
        let is_try = tried.is_some();
        if let Some(slots) = tried {
            let slots: Vec<u16> = slots.into_iter().filter(own).collect();
            if let Some(asked) = these_are_all(conn, &slots)? {
                self.seen.succeeded(address);
                return Ok(asked);
            }
        }
        let ours: BTreeSet<u16> = self.slots().filter(own).collect();
        let (filled, keys) = count(conn, &ours)?;
        let mut known = filled.clone();
        let asked = if is_try {
            conn.ask(&cmd("DBSIZE"))
        } else {
            Ok(Value::Int(0))
        };
        let all = match asked {
            Ok(all) => natural("DBSIZE", &all)?,
            // This user may not use DBSIZE, so the quick way never works.
            Err(ServerFault::Refused(_) | ServerFault::Unwritable(_)) => 0,
            Err(fault) => return Err(fault),
        };
        // Other programs have keys here. Find their slots, for the next request.
        if keys < all {
            let others: BTreeSet<u16> = (0..16_384)
                .filter(own)
                .filter(|slot| !ours.contains(slot))
                .collect();
            known.extend(count(conn, &others)?.0);
        }
        self.seen.learn(address, known, is_try, ours.len());
        Ok(Asked::of(filled))
    }
}

fn counting(slots: impl IntoIterator<Item = u16>) -> Batch {
    let mut batch = Batch::default();
    slots
        .into_iter()
        .for_each(|slot| batch.push(cmd("CLUSTER").arg("COUNTKEYSINSLOT").arg(slot)));
    batch
}

/// The slots that hold keys, and the total number of their keys.
fn read<'a>(
    slots: impl IntoIterator<Item = &'a u16>,
    replies: &[Value],
) -> Reply<(BTreeSet<u16>, u64)> {
    let (mut filled, mut all) = (BTreeSet::new(), 0);
    for (slot, reply) in slots.into_iter().zip(replies) {
        let keys = natural("CLUSTER COUNTKEYSINSLOT", &accept(reply.clone(), None)?)?;
        if keys > 0 {
            filled.insert(*slot);
            all += keys;
        }
    }
    Ok((filled, all))
}

fn count(conn: &mut RedisConnection, slots: &BTreeSet<u16>) -> Reply<(BTreeSet<u16>, u64)> {
    let replies = conn.trip(&counting(slots.iter().copied()))?;
    read(slots, &replies)
}

/// The slots that hold keys, with the node's view of the cluster at that moment; `None` if the node
/// has keys in other slots.
fn these_are_all(conn: &mut RedisConnection, slots: &[u16]) -> Reply<Option<Asked<BTreeSet<u16>>>> {
    let mut batch = counting(slots.iter().copied());
    batch.push(&cmd("DBSIZE"));
    batch.push(cmd("CLUSTER").arg("NODES"));
    let limit = conn.timeout();
    let mut replies = match conn.transaction(&batch, true, limit, &|_| None) {
        Ok(replies) => replies,
        // For example, this user may not use DBSIZE.
        Err(ServerFault::Refused(_) | ServerFault::Unwritable(_)) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let view = Some(last(&mut replies));
    let all = natural("DBSIZE", &last(&mut replies))?;
    let (answer, keys) = read(slots, &replies)?;
    Ok((keys == all).then_some(Asked { answer, view }))
}
