//! The numbers of string ids, in batches.

use crate::sets::UserId;

/// How many string ids are read at once.
const BATCH: u64 = 10_000;

/// Returns the numbers below `next`, which are those of all assigned string ids, in batches.
pub fn id_batches(next: u64) -> impl Iterator<Item = Vec<UserId>> {
    let number = |user| UserId::try_from(user).expect("there are at most 2³² string ids");
    let starts = (0..next).step_by(usize::try_from(BATCH).expect("a batch fits in memory"));
    starts.map(move |first| (first..next.min(first + BATCH)).map(number).collect())
}
