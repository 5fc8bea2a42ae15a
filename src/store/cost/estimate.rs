//! What a question costs, before it is answered.

use crate::sets::{Key, Plan};

/// User ids in a tile.
const TILE_IDS: u64 = 1 << 16;

/// How many tiles a store that cannot tell assumes a bitmap to have: a million ids.
pub(crate) const UNKNOWN_TILES: u64 = 16;

/// What a question costs, before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Operations on tiles, see [`Plan::work`].
    pub work: u64,
    /// How many sets are counted or listed.
    pub sets: usize,
    /// The number of user ids that its longest bitmap spans, rounded up to a tile.
    pub ids: u64,
}

impl Cost {
    /// The cost of counting a plan, given how many tiles a key has.
    pub fn of(plan: &Plan, tiles: impl Fn(&Key) -> u64) -> Self {
        let mut longest = 0;
        let work = plan.work(|key| {
            let tiles = tiles(key);
            longest = longest.max(tiles);
            tiles
        });
        Cost {
            work,
            sets: plan.roots().len(),
            ids: longest.saturating_mul(TILE_IDS),
        }
    }
}
