//! The operations of Redis' BITOP, tile by tile.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bitmap::{Source, TILE_BYTES, Tile};

/// How BITOP makes one bitmap of others. The last four came with Redis 8.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// In all of them.
    And,
    /// In any of them.
    Or,
    /// In an odd number of them.
    Xor,
    /// Not in the only one, up to its byte length.
    Not,
    /// In the first and in none of the others.
    Diff,
    /// In any of the others and not in the first.
    Diff1,
    /// In the first and in any of the others.
    AndOr,
    /// In exactly one of them.
    One,
}

impl Operation {
    /// All there are.
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

    /// How it is written: `DIFF1`.
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

    /// The fewest bitmaps it makes sense of.
    pub fn fewest(self) -> usize {
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

    /// In any case, as Redis takes it.
    fn from_str(text: &str) -> Result<Self, ()> {
        Operation::ALL
            .into_iter()
            .find(|operation| operation.name().eq_ignore_ascii_case(text))
            .ok_or(())
    }
}

/// A bitmap's byte length and its tiles, by number; none of them empty.
pub type Combined = (u64, Vec<(u16, Arc<Tile>)>);

/// The result of an operation on the leaves 0 … `leaves` − 1 of `source`, as long as the longest of
/// them.
///
/// # Errors
/// When a tile cannot be read.
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
        // Nobody is in the result who is not in the first.
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

/// How many bytes the result of an operation has.
pub fn combined_len<S: Source>(leaves: usize, source: &S) -> u64 {
    let lengths = (0..leaves).map(|leaf| source.byte_len(leaf));
    lengths.max().unwrap_or(0)
}

/// Some tiles of what [`combine`] comes to, by their numbers; none of them empty.
///
/// # Errors
/// When a tile cannot be read.
pub fn combine_tiles<S: Source>(
    operation: Operation,
    leaves: usize,
    source: &S,
    numbers: Vec<u16>,
) -> Result<Vec<(u16, Arc<Tile>)>, S::Error> {
    let len = combined_len(leaves, source);
    // Most of a sparse bitmap's complement is the same full tile.
    let full = Arc::new(Tile::default().complement(TILE_BYTES));
    let there = |leaf: usize, number: u16| source.tiles(leaf).binary_search(&number).is_ok();
    let mut tiles = Vec::new();
    for number in numbers {
        if operation == Operation::And && (0..leaves).any(|leaf| !there(leaf, number)) {
            continue;
        }
        let tile = |leaf: usize| match there(leaf, number) {
            true => source.tile(leaf, number),
            false => Ok(Arc::default()),
        };
        let result = if operation == Operation::Not {
            let bytes = len.saturating_sub(u64::from(number) * TILE_BYTES);
            match there(0, number) {
                false if bytes >= TILE_BYTES => Arc::clone(&full),
                _ => Arc::new(tile(0)?.complement(bytes).compact()),
            }
        } else {
            of_tile(operation, leaves, tile)?
        };
        if !result.is_empty() {
            tiles.push((number, result));
        }
    }
    Ok(tiles)
}

fn of_tile<E>(
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
        // Not of tiles one by one: the complement ends with the bitmap.
        Operation::Xor | Operation::Not => fold(0, Tile::xor)?,
        Operation::Diff => Arc::new(first.diff(&*fold(1, Tile::or)?)),
        Operation::Diff1 => Arc::new(fold(1, Tile::or)?.diff(&first)),
        Operation::AndOr => Arc::new(first.and(&*fold(1, Tile::or)?)),
        Operation::One => {
            let (mut any, mut several) = ((*first).clone(), Tile::default());
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
