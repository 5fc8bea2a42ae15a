//! The contents of a whole bitmap, as they are copied between stores and sent to Redis clients.

use std::sync::Arc;

use crate::bitmap::{TILE_BYTES, Tile, user};
use crate::sets::UserId;

/// A tile with its number.
type NumberedTile = (u16, Arc<Tile>);

/// A bitmap of any store at one moment. Cloning it is cheap: tiles are shared.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The length of the bitmap in bytes.
    pub len: u64,
    /// Its tiles in ascending order. Some of them may have no users.
    pub(super) tiles: Vec<NumberedTile>,
}

/// The bytes of a tile without users.
const ZEROS: [u8; 8192] = [0; 8192];

impl Snapshot {
    /// Creates a bitmap of `len` bytes without users.
    pub fn of_zeros(len: u64) -> Self {
        Snapshot {
            len,
            tiles: Vec::new(),
        }
    }

    /// Adds bytes starting at `at`, which must be a whole number of tiles and lie after everything
    /// added before.
    pub fn fill(&mut self, at: u64, bytes: &[u8]) {
        for (number, bytes) in (at / TILE_BYTES..).zip(bytes.chunks(ZEROS.len())) {
            // Bits beyond the greatest user id cannot be stored. A server holds such bits only if
            // its maximum string length was raised above the default of 512 MB.
            let Ok(number) = u16::try_from(number) else {
                return;
            };
            let tile = Tile::of_bytes(bytes).compact();
            if !tile.is_empty() {
                self.tiles.push((number, Arc::new(tile)));
            }
        }
    }

    /// Returns the users, in ascending order.
    pub fn users(&self) -> impl Iterator<Item = UserId> {
        self.tiles.iter().flat_map(|(number, tile)| {
            let mut places = Vec::new();
            tile.visit(0, |place| {
                places.push(user(*number, place));
                true
            });
            places
        })
    }

    /// Returns whether both have the same length and hold the same users.
    pub fn same(&self, other: &Snapshot) -> bool {
        let own = self.nonempty_tiles();
        let others = other.nonempty_tiles();
        // The same users may be stored in different representations.
        let equal = |((a, own), (b, other)): (&NumberedTile, &NumberedTile)| {
            a == b && (Arc::ptr_eq(own, other) || own.xor(other).is_empty())
        };
        self.len == other.len && own.len() == others.len() && own.iter().zip(&others).all(equal)
    }

    fn nonempty_tiles(&self) -> Vec<NumberedTile> {
        self.tiles
            .iter()
            .filter(|(_, tile)| !tile.is_empty())
            .cloned()
            .collect()
    }

    /// Returns the bytes from `first` to `last`, both included, in one piece.
    pub fn piece(&self, first: u64, last: u64) -> Vec<u8> {
        let mut piece = Vec::new();
        let taken: Result<(), std::convert::Infallible> = self.bytes(first, last, |bytes| {
            piece.extend_from_slice(bytes);
            Ok(())
        });
        match taken {
            Ok(()) => piece,
            Err(never) => match never {},
        }
    }

    /// Returns all bytes of the bitmap.
    pub fn whole(&self) -> Vec<u8> {
        if self.len == 0 {
            Vec::new()
        } else {
            self.piece(0, self.len - 1)
        }
    }

    /// Passes the bytes from `first` to `last`, both included, to `each`, piece by piece, until it
    /// fails.
    ///
    /// # Errors
    /// Returns the errors of `each`.
    pub fn bytes<E>(
        &self,
        first: u64,
        last: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut tiles = self.tiles.iter().peekable();
        let mut at = first;
        while at <= last {
            let number = at / TILE_BYTES;
            while tiles
                .next_if(|(tile, _)| u64::from(*tile) < number)
                .is_some()
            {}
            let bytes = tiles
                .next_if(|(tile, _)| u64::from(*tile) == number)
                .map(|(_, tile)| tile.bytes());
            let end = last.min(number * TILE_BYTES + TILE_BYTES - 1);
            let in_tile = |byte: u64| {
                usize::try_from(byte % TILE_BYTES).expect("it is less than the length of a tile")
            };
            each(&bytes.as_deref().unwrap_or(&ZEROS)[in_tile(at)..=in_tile(end)])?;
            at = end + 1;
        }
        Ok(())
    }
}
