//! Numbers and sizes of deleted bitmaps in words.

use indicatif::HumanBytes;

use crate::calendar::Grain;
use crate::render::many;
use crate::sets::Key;
use crate::tracker::Tracker;

/// The estimated size of bitmaps in words.
pub fn estimated_size(bytes: Option<u64>) -> String {
    bytes.map_or("of unknown size".to_owned(), |bytes| {
        format!("about {}", HumanBytes(bytes))
    })
}

/// The space that bitmaps take, in bytes. Returns `None` if the store cannot tell.
pub fn total_size(tracker: &Tracker, keys: &[Key]) -> crate::Result<Option<u64>> {
    Ok(tracker.sizes(keys)?.into_iter().sum())
}

/// The number of deleted bitmaps in words. `None` if the store could not tell, because the disk
/// failed after they were deleted.
pub fn bitmaps(deleted: Option<u64>) -> String {
    deleted.map_or_else(|| "bitmaps".to_owned(), |deleted| many(deleted, "bitmap"))
}

pub fn plural(grain: Grain) -> &'static str {
    match grain {
        Grain::Hour => "hours",
        Grain::Day => "days",
        Grain::Week(_) => "weeks",
        Grain::Month => "months",
        Grain::Year => "years",
    }
}
