//! The names of the lists of people that pages saved: a value of its own beside the bitmaps, one
//! name a line.

use std::collections::BTreeSet;

use crate::store::embedded::store::EmbeddedStore;
use crate::store::saved_lists::saved_lists_key;
use crate::store::{Result, Snapshot};

fn names(value: Option<&Snapshot>) -> BTreeSet<String> {
    let text = value.map(|value| String::from_utf8_lossy(&value.whole()).into_owned());
    let text = text.unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

impl EmbeddedStore {
    /// The names that are remembered, sorted.
    pub(super) fn remembered_lists(&self) -> Result<Vec<String>> {
        let key = saved_lists_key(&self.prefix);
        self.keyspace().read_keys([&*key], |txn| {
            let names = names(txn.snapshot(&key)?.as_ref());
            Ok(names.into_iter().collect())
        })
    }

    /// Remembers or forgets a name.
    pub(super) fn remember_list(&self, name: &str, is_saved: bool) -> Result<()> {
        let key = saved_lists_key(&self.prefix);
        // The value is no bitmap of users, so string ids do not matter.
        self.engine.change(false, |txn| {
            let mut names = names(txn.read().snapshot(&key)?.as_ref());
            let is_changed = match is_saved {
                true => names.insert(name.to_owned()),
                false => names.remove(name),
            };
            if !is_changed {
                return Ok(());
            }
            let lines: Vec<String> = names.into_iter().collect();
            let text = lines.join("\n");
            if text.is_empty() {
                return txn.delete(&[key.clone()]).map(drop);
            }
            let mut value = Snapshot::of_zeros(text.len() as u64);
            value.fill(0, text.as_bytes());
            txn.put_snapshot(&key, &value, None)
        })
    }
}
