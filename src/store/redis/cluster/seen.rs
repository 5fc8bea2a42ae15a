//! Remembers which slots of each node held keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::redis::cluster::topology::Topology;

/// The most requests that ask about every slot before the remembered ones are tried again.
pub(super) const MOST_SKIPPED: u32 = 63;

/// The slots of each primary that held keys, by the primary's address.
#[derive(Default)]
pub(super) struct Seen(Mutex<BTreeMap<String, Keys>>);

#[derive(Default)]
pub(super) struct Keys {
    /// `None` until they are known.
    pub(super) slots: Option<BTreeSet<u16>>,
    /// How often in a row there were keys in other slots.
    pub(super) failures: u32,
    /// How many more requests skip the attempt.
    pub(super) skip: u32,
}

impl Seen {
    pub(super) fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Keys>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slots to try first, if an attempt is worthwhile.
    pub(super) fn to_try(&self, address: &str) -> Option<BTreeSet<u16>> {
        let mut all = self.locked();
        let keys = all.get_mut(address)?;
        if keys.skip > 0 {
            keys.skip -= 1;
            return None;
        }
        keys.slots.clone()
    }

    pub(super) fn succeeded(&self, address: &str) {
        if let Some(keys) = self.locked().get_mut(address) {
            keys.failures = 0;
        }
    }

    /// Remembers the slots that hold keys. `tried` means that the remembered slots were not enough.
    /// If that happens repeatedly, for example because another program creates keys in ever new
    /// slots, attempts become rarer. If there are at least `all` slots, the number that would be
    /// asked about otherwise, an attempt would cost more than it saves.
    pub(super) fn learn(&self, address: &str, slots: BTreeSet<u16>, tried: bool, all: usize) {
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
            // Not all slots were checked, so others may hold keys too.
            known.extend(slots);
        }
    }

    pub(super) fn retain(&self, topology: &Topology) {
        self.locked().retain(|address, _| {
            topology
                .primaries
                .iter()
                .any(|primary| primary.address == *address)
        });
    }
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
            "one failure after a success skips no attempt"
        );
        // As many slots as would be asked about anyway.
        seen.learn("a", slots(&[1, 2, 3]), true, 3);
        let skipped = (0..100).take_while(|_| seen.to_try("a").is_none()).count();
        assert_eq!(skipped, 100, "nothing is remembered");
        seen.learn("a", slots(&[4]), false, 3);
        assert_eq!(seen.to_try("a"), Some(slots(&[4])));
    }
}
