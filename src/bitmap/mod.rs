//! Bitmaps in memory: tiles of 65,536 users, operations on tiles, and the evaluation of plans. This
//! module is pure.

mod combine;
mod cores;
mod evaluate;
#[doc(hidden)] // For measurements.
pub mod kernel;
mod pairs;
mod program;
mod strips;
mod tile;

pub use combine::{Combined, Operation, combine, combine_tiles, combined_len};
pub use evaluate::{EVERYWHERE, Source, collect, count, count_within, tiles_held};
pub use tile::{TILE_BYTES, Tile, split, user};
