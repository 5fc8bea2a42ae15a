//! Which shards there are, asked with few commands.
//!
//! There may be 4096 shards, and asking for each whether it is there takes milliseconds. So it is
//! remembered in which slots of a primary there were keys, and mostly only those are asked about,
//! together with how many keys there are in all (DBSIZE), in one transaction: where the slots'
//! numbers add up to that, there is no key elsewhere. Where they do not, every slot that a shard
//! may be in is asked about, so what is remembered can be wrong and costs no more than time.

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
    Batch, RedisConnection, Reply, ServerFault, accept, natural,
};

impl ClusterStore {
    /// The shards there are; some may be empty.
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

    /// The first of some slots that holds keys on a node, if it is one that we have keys in.
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

    /// The slots that our keys may be in. Text ids lie beside shards.
    pub(super) fn slots(&self) -> impl Iterator<Item = u16> {
        (0..SHARDS)
            .map(layout::slot_of)
            .chain([layout::slot(self.ids.prefix.as_str())])
    }

    /// The slots of a primary that hold keys, among them all that hold shards.
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
            // This user may not ask, so there will be no good tries.
            Err(ServerFault::Refused(_) | ServerFault::Unwritable(_)) => 0,
            Err(fault) => return Err(fault),
        };
        // There are others' keys: it is worth to know where, for the next time.
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

/// Which of some slots hold keys, and how many keys those are.
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

/// Which of some slots hold keys, when there are none elsewhere on a node, and how it sees the
/// cluster at that moment.
fn these_are_all(conn: &mut RedisConnection, slots: &[u16]) -> Reply<Option<Asked<BTreeSet<u16>>>> {
    let mut batch = counting(slots.iter().copied());
    batch.push(&cmd("DBSIZE"));
    batch.push(cmd("CLUSTER").arg("NODES"));
    let limit = conn.timeout();
    let mut replies = match conn.transaction(&batch, true, limit, &|_| None) {
        Ok(replies) => replies,
        // As for a user who may not ask for DBSIZE.
        Err(ServerFault::Refused(_) | ServerFault::Unwritable(_)) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let view = replies.pop();
    let all = natural("DBSIZE", &replies.pop().unwrap_or_default())?;
    let (answer, keys) = read(slots, &replies)?;
    Ok((keys == all).then_some(Asked { answer, view }))
}
