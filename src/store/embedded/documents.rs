//! Documents, as values of their own beside the bitmaps.

use crate::store::documents::document_key;
use crate::store::embedded::store::EmbeddedStore;
use crate::store::{Documents, Result, Snapshot};

fn text_of(value: &Snapshot) -> String {
    String::from_utf8_lossy(&value.whole()).into_owned()
}

impl Documents for EmbeddedStore {
    fn document(&self, name: &str) -> Result<Option<String>> {
        let key = document_key(&self.prefix, name);
        self.keyspace()
            .read_keys([&*key], |txn| Ok(txn.snapshot(&key)?.as_ref().map(text_of)))
    }

    fn replace_document(
        &self,
        name: &str,
        expected: Option<&str>,
        new: Option<&str>,
    ) -> Result<bool> {
        let key = document_key(&self.prefix, name);
        // The value is no bitmap of users, so string ids do not matter.
        self.engine.change(false, |txn| {
            let known = txn.read().snapshot(&key)?.as_ref().map(text_of);
            if known.as_deref() != expected {
                return Ok(false);
            }
            match new {
                Some(text) => {
                    let mut value = Snapshot::of_zeros(text.len() as u64);
                    value.fill(0, text.as_bytes());
                    txn.put_snapshot(&key, &value, None)?;
                }
                None => drop(txn.delete(&[key])?),
            }
            Ok(true)
        })
    }
}
