//! Copies string ids. Each must have the same number in both stores, because bitmaps refer to the
//! numbers.

use anyhow::{Context as _, bail};

use crate::sets::UserId;
use crate::tracker::{Ids, Tracker};

/// The number of string ids copied in one batch.
const BATCH_IDS: u64 = 10_000;

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
    let mut first = 0;
    while first < next {
        let end = next.min(first + BATCH_IDS);
        let users: Vec<UserId> = (first..end)
            .map(|user| UserId::try_from(user).expect("there are at most 2³² string ids"))
            .collect();
        // A lost string id comes as a placeholder, so that the next ones keep their numbers.
        let ids = from.called(&users)?;
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        if to.store().string_ids().assign(&ids)? != users {
            bail!(
                "{shown} has other string ids with the same numbers. Copy to a new store, or to another prefix with --to-prefix"
            );
        }
        first = end;
    }
    Ok(Some(next))
}
