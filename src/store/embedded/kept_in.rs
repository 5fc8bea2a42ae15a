//! The zone in which a store is kept, as a value of its own beside the bitmaps.

use crate::store::embedded::store::EmbeddedStore;
use crate::store::kept_in::zone_key;
use crate::store::{Result, Snapshot};

impl EmbeddedStore {
    /// The name of the zone, if one is remembered.
    pub(super) fn zone(&self) -> Result<Option<String>> {
        let key = zone_key(&self.prefix);
        self.keyspace().read_keys([&*key], |txn| {
            let value = txn.snapshot(&key)?;
            Ok(value.map(|value| String::from_utf8_lossy(&value.whole()).into_owned()))
        })
    }

    /// Remembers a zone unless one is remembered. Returns the one that is.
    pub(super) fn remember_zone(&self, zone: &str) -> Result<String> {
        let key = zone_key(&self.prefix);
        // The value is no bitmap of users, so string ids do not matter.
        self.engine.change(false, |txn| {
            if let Some(known) = txn.read().snapshot(&key)? {
                return Ok(String::from_utf8_lossy(&known.whole()).into_owned());
            }
            let mut value = Snapshot::of_zeros(zone.len() as u64);
            value.fill(0, zone.as_bytes());
            txn.put_snapshot(&key, &value, None)?;
            Ok(zone.to_owned())
        })
    }

    /// Forgets the zone.
    pub(super) fn delete_zone(&self) -> Result<()> {
        let key = zone_key(&self.prefix);
        self.engine
            .change(false, |txn| txn.delete(&[key]).map(drop))
    }
}
