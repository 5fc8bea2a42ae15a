//! A block: some entries of a segment, ascending by key, compressed and checked as a whole.
//!
//! Stored as: 0 or 1 for the codec (none, zstd), the length of the entries as a little-endian `u32`, the entries, and a CRC-32 of
//! all that and of where the block belongs. The entries are their number as a varint, the lengths of key and value of each as
//! varints, all keys, and all values.

use std::cell::RefCell;

use crate::store::embedded::table::codec::{Input, put_varint};

/// How many bytes of entries a block has about. More compress better, fewer are read sooner.
pub const BLOCK_BYTES: usize = 32 << 10;

const NONE: u8 = 0;
const ZSTD: u8 = 1;

/// The fastest level that codes literals by their frequency. Places and bits have no repetitions to look for.
const LEVEL: i32 = 1;

/// Entries before and behind the compression: five bytes of a head, four of a checksum.
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

/// Entries on their way into a block.
#[derive(Debug, Default)]
pub struct Builder {
    count: u64,
    lengths: Vec<u8>,
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl Builder {
    /// Adds an entry. Its key must be greater than those before.
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

    /// The block as stored at its `place`; the builder is empty then.
    pub fn finish(&mut self, place: Place) -> Vec<u8> {
        let mut entries = Vec::with_capacity(self.bytes() + 5);
        put_varint(&mut entries, self.count);
        for part in [&mut self.lengths, &mut self.keys, &mut self.values] {
            entries.append(part);
        }
        self.count = 0;
        let len = u32::try_from(entries.len()).expect("an entry is at most some megabytes");
        // What hardly shrinks is read sooner as it is.
        let packed = compress(&entries).filter(|packed| packed.len() < entries.len() - entries.len() / 16);
        let (codec, body) = packed.map_or((NONE, entries), |packed| (ZSTD, packed));
        let mut stored = Vec::with_capacity(HEAD + body.len() + 4);
        stored.push(codec);
        stored.extend(len.to_le_bytes());
        stored.extend(body);
        let sum = place.checksum(&stored);
        stored.extend(sum.to_le_bytes());
        stored
    }
}

/// Where a block belongs. It is part of the checksum, so that a block that was written to another place is no block here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub store: u64,
    pub segment: u64,
    pub offset: u64,
}

impl Place {
    /// The CRC-32 of bytes at this place.
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
    /// Where the key and the value of each entry end.
    ends: Vec<(u32, u32)>,
    keys_at: u32,
    values_at: u32,
}

impl Block {
    /// Reads a block; `None` when it is not whole or does not belong at that place.
    pub fn read(stored: &[u8], place: Place) -> Option<Block> {
        let (checked, sum) = stored.split_last_chunk()?;
        if place.checksum(checked) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut input = Input(checked);
        let (codec, len) = (input.byte()?, usize::try_from(input.u32()?).ok()?);
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
        // Two bytes of lengths at least for each.
        let mut ends = Vec::with_capacity(count.min(len / 2));
        let (mut keys, mut values) = (0_u64, 0_u64);
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
        let block = Block { bytes, ends, keys_at, values_at };
        let ascends = (1..block.len()).all(|at| block.key(at - 1) < block.key(at));
        ascends.then_some(block)
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many bytes its entries have when they are not compressed.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// About how much memory it takes.
    pub fn memory(&self) -> usize {
        96 + self.bytes.len() + 8 * self.ends.len()
    }

    fn part(&self, at: u32, from: u32, to: u32) -> &[u8] {
        &self.bytes[(at + from) as usize..(at + to) as usize]
    }

    /// The key of an entry there is.
    pub fn key(&self, at: usize) -> &[u8] {
        let from = at.checked_sub(1).map_or(0, |before| self.ends[before].0);
        self.part(self.keys_at, from, self.ends[at].0)
    }

    /// The value of an entry there is.
    pub fn value(&self, at: usize) -> &[u8] {
        let from = at.checked_sub(1).map_or(0, |before| self.ends[before].1);
        self.part(self.values_at, from, self.ends[at].1)
    }

    /// The first entry whose key is not less.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.key(middle) < key { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The value of a key.
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

    const PLACE: Place = Place { store: 7, segment: 3, offset: 96 };

    proptest! {
        #[test]
        fn entries_read_back(
            entries in prop::collection::btree_map(
                prop::collection::vec(any::<u8>(), 0..12), prop::collection::vec(any::<u8>(), 0..50), 0..60),
            other in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let mut builder = Builder::default();
            entries.iter().for_each(|(key, value)| builder.add(key, value));
            let stored = builder.finish(PLACE);
            prop_assert!(builder.is_empty());
            let block = Block::read(&stored, PLACE).unwrap();
            let read: BTreeMap<Vec<u8>, Vec<u8>> =
                (0..block.len()).map(|at| (block.key(at).to_vec(), block.value(at).to_vec())).collect();
            prop_assert_eq!(&read, &entries);
            prop_assert_eq!(block.get(&other), entries.get(&other).map(|value| &value[..]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), codec in 0_u8..3) {
            // With a checksum that holds, so that what is behind it is read.
            let mut stored = vec![codec];
            stored.extend(bytes);
            let sum = PLACE.checksum(&stored);
            stored.extend(sum.to_le_bytes());
            let _ = Block::read(&stored, PLACE);
        }
    }

    #[test]
    fn no_flipped_bit_and_no_other_place_goes_unnoticed() {
        let mut builder = Builder::default();
        for number in 0_u32..300 {
            builder.add(&number.to_be_bytes(), b"some value that repeats");
        }
        let stored = builder.finish(PLACE);
        assert!(stored.len() < 2000, "{}", stored.len());
        assert_eq!(Block::read(&stored, PLACE).unwrap().len(), 300);
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::read(&flipped, PLACE).is_none(), "bit {bit}");
        }
        (0..stored.len()).for_each(|end| assert!(Block::read(&stored[..end], PLACE).is_none(), "cut at {end}"));
        for place in [Place { store: 8, ..PLACE }, Place { segment: 4, ..PLACE }, Place { offset: 0, ..PLACE }] {
            assert!(Block::read(&stored, place).is_none());
        }
    }
}
