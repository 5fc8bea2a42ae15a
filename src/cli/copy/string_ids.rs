//! Copies string ids. Each must have the same number in both stores, because bitmaps refer to the
//! numbers.

use anyhow::{Context as _, bail};

use crate::cli::id_batches::id_batches;
use crate::tracker::{Ids, Tracker};

/// Copies the string ids of a store and returns their number, or `None` if its user ids are
/// numbers. `shown` is the name of the store to copy to.
pub fn copy(from: &Tracker, to: &Tracker, shown: &str) -> anyhow::Result<Option<u64>> {
    let Some(next) = from.assigned()? else {
        if to.ids()? == Ids::Strings {
            bail!(
                "user ids are numbers in FROM and strings in {shown}. Copy to a store with numeric ids"
            );
        }
        to.settle(Ids::Numbers)?;
        return Ok(None);
    };
    to.settle(Ids::Strings).with_context(|| shown.to_owned())?;
    for users in id_batches(next) {
        // A lost string id comes as a placeholder, so that the next ones keep their numbers.
        let ids = from.called(&users)?;
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        if to.store().string_ids().assign(&ids)? != users {
            bail!(
                "{shown} has other string ids with the same numbers. Copy to a new store, or to another prefix with --to-prefix"
            );
        }
    }
    Ok(Some(next))
}
