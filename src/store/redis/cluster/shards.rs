//! Which shards there are, asked with few commands.
//!
//! There may be 4096 shards, and asking for each whether it is there takes milliseconds. So it is
//! remembered in which slots of a primary there were keys, and mostly only those are asked about,
//! together with how many keys there are in all (DBSIZE), in one transaction: where the slots'
//! numbers add up to that, there is no key elsewhere. Where they do not, every slot that a shard
//! may be in is asked about, so what is remembered can be wrong and costs no more than time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::redis::{Value, cmd};

use super::layout::{self, SHARDS, Shard};
use super::route::at_node;
use super::topology::{Primary, Topology};
use super::{Asked, ClusterStore};
use crate::store::Result;
use crate::store::redis::capabilities::Capabilities;
use crate::store::redis::connection::{
    Batch, RedisConnection, Reply, ServerFault, accept, natural,
};

/// How many requests ask about every slot, at most, until it is tried again with those that are
/// remembered.
const MOST_SKIPPED: u32 = 63;

/// In which slots of each primary there were keys, by the primary's address.
#[derive(Default)]
pub(super) struct Seen(Mutex<BTreeMap<String, Keys>>);

#[derive(Default)]
struct Keys {
    /// Nothing until it was looked.
    slots: Option<BTreeSet<u16>>,
    /// How often in a row there were keys elsewhere.
    failures: u32,
    /// How many requests need not try.
    skip: u32,
}

impl Seen {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Keys>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slots that are worth a try.
    fn to_try(&self, address: &str) -> Option<BTreeSet<u16>> {
        let mut all = self.locked();
        let keys = all.get_mut(address)?;
        if keys.skip > 0 {
            keys.skip -= 1;
            return None;
        }
        keys.slots.clone()
    }

    fn succeeded(&self, address: &str) {
        if let Some(keys) = self.locked().get_mut(address) {
            keys.failures = 0;
        }
    }

    /// Takes note of the slots that hold keys. `tried` says that those remembered were not enough:
    /// where that goes on, as beside a program that makes keys in ever new slots, it is tried less
    /// and less often. Where the slots are not fewer than `all` that would be asked about
    /// otherwise, a try would be the dearer way.
    fn learn(&self, address: &str, slots: BTreeSet<u16>, tried: bool, all: usize) {
        let mut known = self.locked();
        let keys = known.entry(address.to_owned()).or_default();
        if tried {
            keys.failures = keys.failures.saturating_add(1);
            keys.skip = 1_u32
                .checked_shl(keys.failures - 1)
                .map_or(MOST_SKIPPED, |skip| (skip - 1).min(MOST_SKIPPED));
        }
        if slots.len() >= all {
            (keys.slots, keys.skip) = (None, MOST_SKIPPED);
        } else if tried || keys.skip == 0 {
            keys.slots = Some(slots);
        } else if let Some(known) = &mut keys.slots {
            // Not all slots were looked at, so that others are not known to be empty.
            known.extend(slots);
        }
    }

    fn retain(&self, topology: &Topology) {
        self.locked().retain(|address, _| {
            topology
                .primaries
                .iter()
                .any(|primary| primary.address == *address)
        });
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_that_fail_become_rare_and_one_that_succeeds_makes_them_usual() {
        let seen = Seen::default();
        let slots = |slots: &[u16]| slots.iter().copied().collect::<BTreeSet<u16>>();
        assert_eq!(seen.to_try("a"), None);
        seen.learn("a", slots(&[7]), false, 100);
        assert_eq!(
            (seen.to_try("a"), seen.to_try("b")),
            (Some(slots(&[7])), None)
        );
        let mut asked = 0;
        let mut tries = 0;
        for n in 0..1000_u16 {
            let tried = seen.to_try("a").is_some();
            (asked, tries) = (asked + 1, tries + u32::from(tried));
            seen.learn("a", slots(&[n % 50]), tried, 100);
        }
        assert!(asked == 1000 && (15..30).contains(&tries), "{tries} tries");
        while seen.to_try("a").is_none() {}
        seen.succeeded("a");
        seen.learn("a", slots(&[1, 2]), true, 100);
        assert_eq!(
            seen.to_try("a"),
            Some(slots(&[1, 2])),
            "one failure after a success costs none"
        );
        // More slots than there would be to ask about anyway.
        seen.learn("a", slots(&[1, 2, 3]), true, 3);
        let skipped = (0..100).take_while(|_| seen.to_try("a").is_none()).count();
        assert_eq!(skipped, 100, "nothing is remembered");
        seen.learn("a", slots(&[4]), false, 3);
        assert_eq!(seen.to_try("a"), Some(slots(&[4])));
    }
}
