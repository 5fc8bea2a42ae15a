//! The immutable table: segments, of which newer ones take precedence over older ones, and the
//! manifest that names them.
//!
//! ```text
//! checkpoint ──▶ new segment ─┐
//!                             ├─▶ manifest ──▶ version, which readers hold
//! compaction ──▶ merged one ──┘
//! ```
//!
//! A reader holds a [`Version`]: segments do not change, and a deleted file stays readable for
//! readers that have it open. A segment holds the changes since the previous one. Compaction merges
//! adjacent segments until each segment is at least twice as big as all newer ones together.
//! Therefore there are few segments, and an entry is rewritten a logarithmic number of times (the
//! scheme of log-structured merge trees, O'Neil et al. 1996).
//!
//! Keys are bytes. The first byte is the kind of the entry:
//!
//! | key | value after the byte 1 |
//! |---|---|
//! | `e` text | when the bitmap expires, in milliseconds since 1970, as a varint |
//! | `i` prefix, string id | its number as a varint |
//! | `k` text | the [record](super::record) of a bitmap |
//! | `n` prefix, number (4 bytes, big endian) | the string id |
//! | `r` prefix | the number of the next new string id, as a varint |
//! | `t` number of the bitmap (4 bytes), number of the tile (2 bytes), both big endian | the tile as in [`packed`], without the byte 1 |
//!
//! In `i` and `n` keys, the length of the prefix precedes it as a varint. The value 0 marks a
//! removal: it removes what older segments hold for the key.

mod block;
mod check;
mod codec;
mod compaction;
mod entry;
mod manifest;
mod merge;
pub mod packed;
pub mod segment;
mod version;
mod versions;

pub use codec::{Input, put_varint};
pub use compaction::{Pace, copy};
pub use entry::{
    EXPIRY, Entry, ID, KEY, METADATA, NEXT_NUMBER, NUMBER, PRESENT, TILE, contents, entry_key,
    record_number, tile_key, tile_of,
};
pub use manifest::{
    FORMAT, MANIFEST, Manifest, UNFINISHED_MANIFEST, new_store, path as manifest_path,
    sync_directory,
};
pub use version::Version;
pub use versions::Table;
