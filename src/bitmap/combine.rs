//! The operations of Redis' BITOP, applied tile by tile.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bitmap::{Source, TILE_BYTES, Tile};

/// An operation of BITOP. The last four exist since Redis 8.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Users in all operands.
    And,
    /// Users in any operand.
    Or,
    /// Users in an odd number of operands.
    Xor,
    /// Users not in the only operand, up to its length in bytes.
    Not,
    /// Users in the first operand and in none of the others.
    Diff,
    /// Users in any of the other operands but not in the first.
    Diff1,
    /// Users in the first operand and in any of the others.
    AndOr,
    /// Users in exactly one operand.
    One,
}

impl Operation {
    /// All operations.
    pub const ALL: [Operation; 8] = [
        Operation::And,
        Operation::Or,
        Operation::Xor,
        Operation::Not,
        Operation::Diff,
        Operation::Diff1,
        Operation::AndOr,
        Operation::One,
    ];

    /// Returns the name of the operation in Redis, such as `DIFF1`.
    pub fn name(self) -> &'static str {
        match self {
            Operation::And => "AND",
            Operation::Or => "OR",
            Operation::Xor => "XOR",
            Operation::Not => "NOT",
            Operation::Diff => "DIFF",
            Operation::Diff1 => "DIFF1",
            Operation::AndOr => "ANDOR",
            Operation::One => "ONE",
        }
    }

    /// Returns the minimum number of operands.
    pub fn min_operands(self) -> usize {
        match self {
            Operation::Diff | Operation::Diff1 | Operation::AndOr => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Operation {
    type Err = ();

    /// Parses a name, in upper or lower case, as Redis does.
    fn from_str(text: &str) -> Result<Self, ()> {
        Operation::ALL
            .into_iter()
            .find(|operation| operation.name().eq_ignore_ascii_case(text))
            .ok_or(())
    }
}

/// The length of a bitmap in bytes, and its tiles with their numbers. No tile is empty.
pub type Combined = (u64, Vec<(u16, Arc<Tile>)>);

/// Returns the result of an operation on the leaves 0 to `leaves` − 1 of `source`. It is as long as
/// the longest operand.
///
/// # Errors
/// Returns an error if a tile cannot be read.
pub fn combine<S: Source>(
    operation: Operation,
    leaves: usize,
    source: &S,
) -> Result<Combined, S::Error> {
    let len = combined_len(leaves, source);
    let mut numbers: Vec<u16> = match operation {
        Operation::Not => (0..=u16::MAX)
            .take_while(|number| u64::from(*number) * TILE_BYTES < len)
            .collect(),
        // The result is a subset of the first operand.
        Operation::And | Operation::Diff | Operation::AndOr => source.tiles(0).to_vec(),
        _ => (0..leaves)
            .flat_map(|leaf| source.tiles(leaf))
            .copied()
            .collect(),
    };
    numbers.sort_unstable();
    numbers.dedup();
    Ok((len, combine_tiles(operation, leaves, source, numbers)?))
}

/// Returns the length of an operation's result, in bytes; 0 without operands.
pub fn combined_len<S: Source>(leaves: usize, source: &S) -> u64 {
    let lengths = (0..leaves).map(|leaf| source.byte_len(leaf));
    lengths.max().unwrap_or(0)
}

/// Returns those tiles of [`combine`]'s result that have one of `numbers` and are not empty.
///
/// # Errors
/// Returns the error of a tile that cannot be read.
pub fn combine_tiles<S: Source>(
    operation: Operation,
    leaves: usize,
    source: &S,
    numbers: Vec<u16>,
) -> Result<Vec<(u16, Arc<Tile>)>, S::Error> {
    let len = combined_len(leaves, source);
    // Most tiles of the complement of a sparse bitmap are full.
    let full = Arc::new(Tile::default().complement(TILE_BYTES));
    let has = |leaf: usize, number: u16| source.tiles(leaf).binary_search(&number).is_ok();
    let mut tiles = Vec::new();
    for number in numbers {
        if operation == Operation::And && (0..leaves).any(|leaf| !has(leaf, number)) {
            continue;
        }
        let tile = |leaf: usize| match has(leaf, number) {
            true => source.tile(leaf, number),
            false => Ok(Arc::default()),
        };
        let result = if operation == Operation::Not {
            let bytes = len.saturating_sub(u64::from(number) * TILE_BYTES);
            match has(0, number) {
                false if bytes >= TILE_BYTES => Arc::clone(&full),
                _ => Arc::new(tile(0)?.complement(bytes).compact()),
            }
        } else {
            combine_tile(operation, leaves, tile)?
        };
        if !result.is_empty() {
            tiles.push((number, result));
        }
    }
    Ok(tiles)
}

/// Returns the result of an operation on the tiles with one number. `tile` returns the tile of an
/// operand.
fn combine_tile<E>(
    operation: Operation,
    leaves: usize,
    tile: impl Fn(usize) -> Result<Arc<Tile>, E>,
) -> Result<Arc<Tile>, E> {
    let first = tile(0)?;
    if leaves == 1 {
        return Ok(first);
    }
    let fold = |from: usize, combine: fn(&Tile, &Tile) -> Tile| {
        let mut result = tile(from)?;
        for leaf in from + 1..leaves {
            result = Arc::new(combine(&result, &*tile(leaf)?));
        }
        Ok(result)
    };
    let result = match operation {
        Operation::And => fold(0, Tile::and)?,
        Operation::Or => fold(0, Tile::or)?,
        Operation::Xor => fold(0, Tile::xor)?,
        Operation::Not => unreachable!("a complement has one operand"),
        Operation::Diff => Arc::new(first.diff(&*fold(1, Tile::or)?)),
        Operation::Diff1 => Arc::new(fold(1, Tile::or)?.diff(&first)),
        Operation::AndOr => Arc::new(first.and(&*fold(1, Tile::or)?)),
        Operation::One => {
            let mut any = (*first).clone();
            let mut several = Tile::default();
            for leaf in 1..leaves {
                let next = tile(leaf)?;
                several = several.or(&any.and(&next));
                any = any.or(&next);
            }
            Arc::new(any.diff(&several))
        }
    };
    Ok(Arc::new(result.compact()))
}
