//! A block: a group of entries of a segment in ascending key order, compressed and checksummed as a
//! unit.
//!
//! Stored as: 0 or 1 for the codec (none, zstd), the uncompressed length of the entries as a
//! little-endian `u32`, the entries, and a CRC-32 of the location of the block and all preceding
//! bytes. The entries are stored as their number as a varint, the lengths of the key and the value
//! of each entry as varints, all keys, and all values.

use std::cell::RefCell;

use crate::store::embedded::table::codec::{Input, put_varint};

/// The approximate number of bytes of entries in a block. Larger blocks compress better, smaller
/// blocks are read faster.
pub const BLOCK_BYTES: usize = 32 << 10;

const NONE: u8 = 0;
const ZSTD: u8 = 1;

/// The fastest zstd level that entropy-codes literals. Places and bits have no repetitions to
/// search for.
const LEVEL: i32 = 1;

/// The length of a block's head in bytes. The entries follow it, then a checksum of four bytes.
const HEAD: usize = 5;

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        kept.as_mut()?.compress(bytes).ok()
    })
}

fn decompress(bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = zstd::bulk::Decompressor::new().ok();
        }
        kept.as_mut()?.decompress(bytes, len).ok()
    })
}

/// Collects the entries of a block.
#[derive(Debug, Default)]
pub struct Builder {
    count: u64,
    lengths: Vec<u8>,
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl Builder {
    /// Adds an entry. Its key must be greater than all previous keys.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.count += 1;
        put_varint(&mut self.lengths, key.len() as u64);
        put_varint(&mut self.lengths, value.len() as u64);
        self.keys.extend_from_slice(key);
        self.values.extend_from_slice(value);
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn bytes(&self) -> usize {
        self.lengths.len() + self.keys.len() + self.values.len()
    }

    /// Returns the block as stored at `location`, and empties the builder.
    pub fn finish(&mut self, location: Location) -> Vec<u8> {
        let mut entries = Vec::with_capacity(self.bytes() + 5);
        put_varint(&mut entries, self.count);
        for part in [&mut self.lengths, &mut self.keys, &mut self.values] {
            entries.append(part);
        }
        self.count = 0;
        let len = u32::try_from(entries.len()).expect("an entry is at most some megabytes");
        // Entries that hardly shrink are stored uncompressed, because that is faster to read.
        let packed =
            compress(&entries).filter(|packed| packed.len() < entries.len() - entries.len() / 16);
        let (codec, body) = packed.map_or((NONE, entries), |packed| (ZSTD, packed));
        let mut stored = Vec::with_capacity(HEAD + body.len() + 4);
        stored.push(codec);
        stored.extend(len.to_le_bytes());
        stored.extend(body);
        let sum = location.checksum(&stored);
        stored.extend(sum.to_le_bytes());
        stored
    }
}

/// The location of a block. It is part of the checksum, so a block at a wrong location counts as
/// damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    pub store: u64,
    pub segment: u64,
    pub offset: u64,
}

impl Location {
    /// Returns the CRC-32 of bytes at this location.
    pub fn checksum(self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for number in [self.store, self.segment, self.offset] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// A block in memory.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    /// The end offsets of the key and the value of each entry.
    ends: Vec<(u32, u32)>,
    keys_at: u32,
    values_at: u32,
}

impl Block {
    /// Reads a block. Returns `None` if it is incomplete, damaged, or does not belong at that
    /// location.
    pub fn read(stored: &[u8], location: Location) -> Option<Block> {
        let (checked, sum) = stored.split_last_chunk()?;
        if location.checksum(checked) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut input = Input(checked);
        let codec = input.byte()?;
        let len = usize::try_from(input.u32()?).ok()?;
        let bytes = match codec {
            NONE => input.0.to_vec(),
            ZSTD => decompress(input.0, len)?,
            _ => return None,
        };
        if bytes.len() != len {
            return None;
        }
        let mut input = Input(&bytes);
        let count = input.len()?;
        // Each entry takes at least two bytes for its lengths.
        let mut ends = Vec::with_capacity(count.min(len / 2));
        let mut keys = 0_u64;
        let mut values = 0_u64;
        for _ in 0..count {
            keys += input.varint().filter(|len| *len <= u64::from(u32::MAX))?;
            values += input.varint().filter(|len| *len <= u64::from(u32::MAX))?;
            ends.push((u32::try_from(keys).ok()?, u32::try_from(values).ok()?));
        }
        if keys + values != input.0.len() as u64 {
            return None;
        }
        let keys_at = u32::try_from(len - input.0.len()).ok()?;
        let values_at = keys_at.checked_add(u32::try_from(keys).ok()?)?;
        let block = Block {
            bytes,
            ends,
            keys_at,
            values_at,
        };
        let ascends = (1..block.len()).all(|at| block.key(at - 1) < block.key(at));
        ascends.then_some(block)
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the uncompressed size of the entries, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns approximately how many bytes of memory the block takes.
    pub fn memory(&self) -> usize {
        96 + self.bytes.len() + 8 * self.ends.len()
    }

    /// Returns the bytes between two offsets from `at`.
    fn part(&self, at: u32, from: u32, to: u32) -> &[u8] {
        &self.bytes[(at + from) as usize..(at + to) as usize]
    }

    /// Returns the key of an entry, which must exist.
    pub fn key(&self, at: usize) -> &[u8] {
        let from = at.checked_sub(1).map_or(0, |before| self.ends[before].0);
        self.part(self.keys_at, from, self.ends[at].0)
    }

    /// Returns the value of an entry, which must exist.
    pub fn value(&self, at: usize) -> &[u8] {
        let from = at.checked_sub(1).map_or(0, |before| self.ends[before].1);
        self.part(self.values_at, from, self.ends[at].1)
    }

    /// Returns the index of the first entry whose key is not less than `key`.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        let mut low = 0;
        let mut high = self.len();
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.key(middle) < key {
                low = middle + 1
            } else {
                high = middle
            }
        }
        low
    }

    /// Returns the value of a key, or `None` if the block does not have the key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let at = self.lower_bound(key);
        (at < self.len() && self.key(at) == key).then(|| self.value(at))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LOCATION: Location = Location {
        store: 7,
        segment: 3,
        offset: 96,
    };

    proptest! {
        #[test]
        fn entries_read_back(
            entries in prop::collection::btree_map(
                prop::collection::vec(any::<u8>(), 0..12), prop::collection::vec(any::<u8>(), 0..50), 0..60),
            other in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let mut builder = Builder::default();
            entries.iter().for_each(|(key, value)| builder.add(key, value));
            let stored = builder.finish(LOCATION);
            prop_assert!(builder.is_empty());
            let block = Block::read(&stored, LOCATION).unwrap();
            let read: BTreeMap<Vec<u8>, Vec<u8>> =
                (0..block.len()).map(|at| (block.key(at).to_vec(), block.value(at).to_vec())).collect();
            prop_assert_eq!(&read, &entries);
            prop_assert_eq!(block.get(&other), entries.get(&other).map(|value| &value[..]));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), codec in 0_u8..3) {
            // The checksum is valid, so that the contents are parsed.
            let mut stored = vec![codec];
            stored.extend(bytes);
            let sum = LOCATION.checksum(&stored);
            stored.extend(sum.to_le_bytes());
            let _ = Block::read(&stored, LOCATION);
        }
    }

    #[test]
    fn flipped_bits_and_wrong_locations_are_damage() {
        let mut builder = Builder::default();
        for number in 0_u32..300 {
            builder.add(&number.to_be_bytes(), b"some value that repeats");
        }
        let stored = builder.finish(LOCATION);
        assert!(stored.len() < 2000, "{}", stored.len());
        assert_eq!(Block::read(&stored, LOCATION).unwrap().len(), 300);
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::read(&flipped, LOCATION).is_none(), "bit {bit}");
        }
        (0..stored.len()).for_each(|end| {
            assert!(
                Block::read(&stored[..end], LOCATION).is_none(),
                "cut at {end}"
            )
        });
        for location in [
            Location {
                store: 8,
                ..LOCATION
            },
            Location {
                segment: 4,
                ..LOCATION
            },
            Location {
                offset: 0,
                ..LOCATION
            },
        ] {
            assert!(Block::read(&stored, location).is_none());
        }
    }
}
