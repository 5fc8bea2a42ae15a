//! Text ids on their way into another store: each must have the same number there, or every bitmap
//! would be of others.

use anyhow::bail;

use crate::sets::UserId;
use crate::tracker::{Ids, Tracker};

/// How many are copied in one go.
const AT_ONCE: u64 = 10_000;

/// Copies what FROM calls its users, if they are called by texts; says how many there are.
pub fn copy(from: &Tracker, to: &Tracker, shown: &str) -> anyhow::Result<u64> {
    let there = to.store().string_ids();
    let Some(next) = from.assigned()? else {
        if to.ids()? == Ids::Strings {
            bail!(
                "users are numbers in FROM and called by text ids in {shown}, and the two cannot be mixed"
            );
        }
        to.settle(Ids::Numbers)?;
        return Ok(0);
    };
    to.settle(Ids::Strings)
        .map_err(|error| anyhow::Error::from(error).context(shown.to_owned()))?;
    let mut first = 0;
    while first < next {
        let last = next.min(first + AT_ONCE);
        let users: Vec<UserId> = (first..last)
            .filter_map(|user| UserId::try_from(user).ok())
            .collect();
        // A number whose text was lost keeps its place.
        let texts = from.called(&users)?;
        if there.assign(&texts.iter().map(String::as_str).collect::<Vec<_>>())? != users {
            bail!(
                "{shown} has text ids of its own, with other numbers than in FROM: bitmaps would be of other people. Copy into a new store, or under another prefix with --to-prefix"
            );
        }
        first = last;
    }
    Ok(next)
}
