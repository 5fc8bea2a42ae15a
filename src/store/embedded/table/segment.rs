//! A segment: an immutable file of entries in ascending key order.
//!
//! ```text
//! head (32 bytes) │ block │ block │ … │ index block │ foot (64 bytes)
//! ```
//!
//! The index is also a block: the first key of each block, with its offset and length as varints.
//! `docs/format.md` describes every byte.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use crate::store::embedded::table::block::{BLOCK_BYTES, Block, Builder, Location};
use crate::store::embedded::table::codec::{Input, put_varint};
use crate::store::{Result, StoreError, private};

const MAGIC: &[u8; 16] = b"cohortist seg 1\n";
const HEAD_BYTES: usize = 32;
const FOOT_BYTES: usize = 64;

/// The number of bytes written before a sync. Syncing little at a time keeps each wait short.
const SYNC_BYTES: u64 = 4 << 20;

/// The first byte of a value that marks a removal.
pub const REMOVED: u8 = 0;

/// The identity of a segment, and the properties that its file must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentInfo {
    pub number: u64,
    /// The sequence number of the last change in the segment.
    pub sequence: u64,
    /// The length of the file, in bytes.
    pub bytes: u64,
    pub entries: u64,
    /// How many of the entries are removals.
    pub removed: u64,
    /// The checksum in the foot of the segment.
    pub checksum: u32,
}

/// Returns the name of a segment's file.
pub fn file_name(number: u64) -> String {
    format!("segment-{number}")
}

/// Returns the number of a segment, given the name of its file.
pub fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix("segment-")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// A segment being written.
pub struct Writer {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    location: Location,
    block: Builder,
    /// The first key of the current block, and the last key so far.
    first: Vec<u8>,
    last: Vec<u8>,
    index: Builder,
    synced: u64,
    entries: u64,
    removed: u64,
    finished: bool,
}

impl Writer {
    pub fn create(path: &Path, store: u64, number: u64) -> io::Result<Self> {
        let file = private::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        let mut buffer = MAGIC.to_vec();
        buffer.extend(store.to_le_bytes());
        buffer.extend(number.to_le_bytes());
        Ok(Writer {
            path: path.to_owned(),
            file,
            buffer,
            location: Location {
                store,
                segment: number,
                offset: HEAD_BYTES as u64,
            },
            block: Builder::default(),
            first: Vec::new(),
            last: Vec::new(),
            index: Builder::default(),
            synced: 0,
            entries: 0,
            removed: 0,
            finished: false,
        })
    }

    /// Adds an entry. Its key must be greater than all previous keys.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert!(
            self.entries == 0 || self.last[..] < *key,
            "the keys of a segment ascend"
        );
        self.last.clear();
        self.last.extend_from_slice(key);
        if self.block.is_empty() {
            self.first.clear();
            self.first.extend_from_slice(key);
        }
        self.block.add(key, value);
        self.entries += 1;
        self.removed += u64::from(value.first() == Some(&REMOVED));
        if self.block.bytes() >= BLOCK_BYTES {
            self.end_block()
        } else {
            Ok(())
        }
    }

    /// Returns the size of the segment so far, in bytes.
    pub fn bytes(&self) -> u64 {
        self.location.offset
    }

    fn end_block(&mut self) -> io::Result<()> {
        let stored = self.block.finish(self.location);
        let mut at = Vec::new();
        put_varint(&mut at, self.location.offset);
        put_varint(&mut at, stored.len() as u64);
        self.index.add(&self.first, &at);
        self.put(&stored)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        self.location.offset += bytes.len() as u64;
        if self.buffer.len() >= 1 << 20 {
            self.flush()?;
        }
        if self.location.offset - self.synced > SYNC_BYTES {
            self.flush()?;
            self.file.sync_data()?;
            self.synced = self.location.offset;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Finishes the file and syncs it. The segment holds the changes up to `sequence`.
    pub fn finish(mut self, sequence: u64) -> io::Result<SegmentInfo> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let index_at = self.location.offset;
        let index = self.index.finish(self.location);
        self.put(&index)?;
        let mut foot = Vec::with_capacity(FOOT_BYTES);
        let len = index.len() as u64;
        for number in [
            self.location.store,
            self.location.segment,
            index_at,
            len,
            self.entries,
            self.removed,
            sequence,
        ] {
            foot.extend(number.to_le_bytes());
        }
        // The checksum covers the location of the foot, which would differ in a shorter file.
        let checksum = self.location.checksum(&foot);
        foot.extend(checksum.to_le_bytes());
        foot.extend(b"seg\n");
        self.put(&foot)?;
        self.flush()?;
        self.file.sync_all()?;
        self.finished = true;
        Ok(SegmentInfo {
            number: self.location.segment,
            sequence,
            bytes: self.location.offset,
            entries: self.entries,
            removed: self.removed,
            checksum,
        })
    }
}

impl Drop for Writer {
    /// Removes an unfinished file, which is of no use.
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A cache of blocks, by segment number and block number.
pub struct Blocks(Cache<(u64, u32), Arc<Block>, Weights>);

#[derive(Debug, Clone)]
struct Weights;

impl Weighter<(u64, u32), Arc<Block>> for Weights {
    fn weight(&self, _: &(u64, u32), block: &Arc<Block>) -> u64 {
        block.memory() as u64
    }
}

impl Blocks {
    /// Creates a cache of at most `bytes` bytes.
    pub fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / BLOCK_BYTES as u64).unwrap_or(usize::MAX);
        Blocks(Cache::with_weighter(items.max(1), bytes, Weights))
    }
}

/// The block of the last lookup and its number, if there was a lookup.
pub type LastBlock = Option<(usize, Arc<Block>)>;

/// A segment that is open for reading. Its file may be deleted in the meantime.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    file: File,
    location: Location,
    index: Block,
    info: SegmentInfo,
}

fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    #[cfg(unix)]
    std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, offset)?;
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < len {
            match std::os::windows::fs::FileExt::seek_read(
                file,
                &mut bytes[done..],
                offset + done as u64,
            )? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
    }
    Ok(bytes)
}

/// The location of a segment's index, and the contents of its foot.
struct Foot {
    location: Location,
    index_at: u64,
    index_bytes: usize,
    info: SegmentInfo,
}

impl Foot {
    /// Reads the head and the foot of a file. An error describes what is wrong.
    fn read(file: &File) -> Result<Foot, String> {
        let bytes = file.metadata().map_err(|e| e.to_string())?.len();
        let foot_at = bytes
            .checked_sub(FOOT_BYTES as u64)
            .filter(|at| *at >= HEAD_BYTES as u64);
        let foot_at =
            foot_at.ok_or_else(|| format!("it has {bytes} bytes, too few for a segment"))?;
        let head = read_at(file, 0, HEAD_BYTES).map_err(|e| e.to_string())?;
        let foot = read_at(file, foot_at, FOOT_BYTES).map_err(|e| e.to_string())?;
        let read = || {
            let mut head = Input(&head);
            (head.take(MAGIC.len())? == MAGIC).then_some(())?;
            let location = Location {
                store: head.u64()?,
                segment: head.u64()?,
                offset: foot_at,
            };
            let (checked, rest) = foot.split_at(FOOT_BYTES - 8);
            let mut rest = Input(rest);
            let checksum = rest.u32()?;
            (location.checksum(checked) == checksum && rest.0 == b"seg\n").then_some(())?;
            let mut foot = Input(checked);
            ((foot.u64()?, foot.u64()?) == (location.store, location.segment)).then_some(())?;
            let index_at = foot.u64()?;
            let index_bytes = usize::try_from(foot.u64()?).ok()?;
            let entries = foot.u64()?;
            let removed = foot.u64()?;
            let sequence = foot.u64()?;
            let info = SegmentInfo {
                number: location.segment,
                sequence,
                bytes,
                entries,
                removed,
                checksum,
            };
            (index_at.checked_add(index_bytes as u64) == Some(foot_at)).then_some(())?;
            Some(Foot {
                location,
                index_at,
                index_bytes,
                info,
            })
        };
        read().ok_or_else(|| "its head or foot is damaged".to_owned())
    }
}

impl Segment {
    /// Opens a file, which must be the segment that `store` and `expected` describe.
    pub fn open(path: &Path, store: u64, expected: &SegmentInfo) -> Result<Self> {
        let segment = Segment::open_any(path)?;
        if segment.info != *expected || segment.location.store != store {
            return Err(StoreError::damaged(
                path,
                "it is another segment than the one the manifest names",
            ));
        }
        Ok(segment)
    }

    /// Opens the segment in a file, regardless of which one it is.
    pub fn open_any(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::damaged(path, "the file is missing"),
            _ => StoreError::unreadable(path, error),
        })?;
        let foot = Foot::read(&file).map_err(|reason| StoreError::damaged(path, reason))?;
        let stored = read_at(&file, foot.index_at, foot.index_bytes)
            .map_err(|e| StoreError::damaged(path, e))?;
        let index = Block::read(
            &stored,
            Location {
                offset: foot.index_at,
                ..foot.location
            },
        )
        .ok_or_else(|| StoreError::damaged(path, "its index is damaged"))?;
        Ok(Segment {
            path: path.to_owned(),
            file,
            location: foot.location,
            index,
            info: foot.info,
        })
    }

    pub fn info(&self) -> &SegmentInfo {
        &self.info
    }

    /// Returns the number of the store that the segment belongs to.
    pub fn store(&self) -> u64 {
        self.location.store
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn blocks(&self) -> usize {
        self.index.len()
    }

    /// Reads a block, which must exist.
    pub fn read(&self, number: usize) -> Result<Block> {
        let mut location = Input(self.index.value(number));
        let (offset, len) = location
            .varint()
            .zip(location.len())
            .filter(|_| location.is_empty())
            .ok_or_else(|| StoreError::damaged(&self.path, "its index is damaged"))?;
        let damaged = |reason: &str| {
            StoreError::damaged(&self.path, format!("the block at byte {offset} {reason}"))
        };
        if offset
            .checked_add(len as u64)
            .is_none_or(|end| end > self.info.bytes)
        {
            return Err(damaged("lies beyond its end"));
        }
        let stored = read_at(&self.file, offset, len)
            .map_err(|error| damaged(&format!("cannot be read: {error}")))?;
        let block = Block::read(
            &stored,
            Location {
                offset,
                ..self.location
            },
        )
        .ok_or_else(|| damaged("is damaged"))?;
        if block.len() == 0 || block.key(0) != self.index.key(number) {
            return Err(damaged("is not the one the index names"));
        }
        Ok(block)
    }

    fn cached(&self, number: usize, blocks: &Blocks) -> Result<Arc<Block>> {
        let cache_key = (
            self.info.number,
            u32::try_from(number).expect("a segment has fewer than 4 billion blocks"),
        );
        if let Some(block) = blocks.0.get(&cache_key) {
            return Ok(block);
        }
        let block = Arc::new(self.read(number)?);
        blocks.0.insert(cache_key, Arc::clone(&block));
        Ok(block)
    }

    /// Returns the number of the block that has a key, if the segment has the key.
    fn block_of(&self, key: &[u8]) -> Option<usize> {
        let at = self.index.lower_bound(key);
        if at < self.index.len() && self.index.key(at) == key {
            Some(at)
        } else {
            at.checked_sub(1)
        }
    }

    /// Looks up a key, and passes its value to `found`.
    pub fn get<T>(
        &self,
        key: &[u8],
        blocks: &Blocks,
        found: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>> {
        self.get_from(&mut None, key, blocks, found)
    }

    /// Looks up a key, first in the block of the last lookup, whether or not that found its key.
    pub fn get_from<T>(
        &self,
        last: &mut LastBlock,
        key: &[u8],
        blocks: &Blocks,
        found: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>> {
        let is_within = |number: usize, block: &Block| {
            block.key(0) <= key && (number + 1 == self.blocks() || key < self.index.key(number + 1))
        };
        let block = match last {
            Some((number, block)) if is_within(*number, block) => block,
            _ => {
                let Some(number) = self.block_of(key) else {
                    return Ok(None);
                };
                &last.insert((number, self.cached(number, blocks)?)).1
            }
        };
        Ok(block.get(key).map(found))
    }

    /// Returns approximately how many bytes of the file a key takes: the share of its block that
    /// its entry has.
    pub fn stored(&self, key: &[u8], blocks: &Blocks) -> Result<u64> {
        let Some(number) = self.block_of(key) else {
            return Ok(0);
        };
        let block = self.cached(number, blocks)?;
        let Some(value) = block.get(key) else {
            return Ok(0);
        };
        let mut location = Input(self.index.value(number));
        let len = location
            .varint()
            .and_then(|_| location.varint())
            .expect("the block was read from this location");
        // Each of the two lengths takes one or two bytes.
        let entry = (key.len() + value.len() + 2) as u64;
        Ok(len * entry / block.bytes().max(1) as u64)
    }
}

/// Iterates over the entries of a segment.
pub struct Cursor {
    segment: Arc<Segment>,
    block: Option<Block>,
    next_block: usize,
    at: usize,
}

impl Cursor {
    /// Starts at the first key that is not less than `key`.
    pub fn at(segment: &Arc<Segment>, key: &[u8]) -> Result<Self> {
        // A key before all others is searched for in the first block.
        let next_block = segment.block_of(key).unwrap_or(0);
        let mut cursor = Cursor {
            segment: Arc::clone(segment),
            block: None,
            next_block,
            at: 0,
        };
        cursor.next_block()?;
        while let Some(block) = &cursor.block {
            cursor.at = block.lower_bound(key);
            if cursor.at < block.len() {
                break;
            }
            cursor.next_block()?;
        }
        Ok(cursor)
    }

    fn next_block(&mut self) -> Result<()> {
        self.at = 0;
        self.block = if self.next_block < self.segment.blocks() {
            let block = self.segment.read(self.next_block)?;
            self.next_block += 1;
            Some(block)
        } else {
            None
        };
        Ok(())
    }

    /// Returns the current key, or `None` after the last entry.
    pub fn key(&self) -> Option<&[u8]> {
        self.block.as_ref().map(|block| block.key(self.at))
    }

    /// Returns the current value.
    pub fn value(&self) -> Option<&[u8]> {
        self.block.as_ref().map(|block| block.value(self.at))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        self.segment.path()
    }

    pub fn advance(&mut self) -> Result<()> {
        self.at += 1;
        if self
            .block
            .as_ref()
            .is_some_and(|block| self.at >= block.len())
        {
            self.next_block()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(entries: u32) -> (tempfile::TempDir, PathBuf, SegmentInfo) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(file_name(5));
        let mut writer = Writer::create(&path, 77, 5).unwrap();
        for number in 0..entries {
            // Only every second number, so that there are absent keys in between.
            let value = if number % 10 == 0 {
                vec![REMOVED]
            } else {
                [&[7], &number.to_le_bytes().repeat(9)[1..]].concat()
            };
            writer.add(&(2 * number).to_be_bytes(), &value).unwrap();
        }
        let info = writer.finish(9).unwrap();
        (directory, path, info)
    }

    #[test]
    fn exactly_the_written_entries_are_found() {
        for entries in [0, 1, 7000] {
            let (_directory, path, info) = written(entries);
            assert_eq!(
                (info.entries, info.removed),
                (entries.into(), entries.div_ceil(10).into())
            );
            assert_eq!(info.bytes, std::fs::metadata(&path).unwrap().len());
            let segment = Arc::new(Segment::open(&path, 77, &info).unwrap());
            let blocks = Blocks::new(1 << 20);
            for number in 0..2 * entries + 2 {
                let found = segment
                    .get(&number.to_be_bytes(), &blocks, |value| value.len())
                    .unwrap();
                let is_there = number % 2 == 0 && number / 2 < entries;
                let expected = is_there.then_some(if number % 20 == 0 { 1 } else { 36 });
                assert_eq!(found, expected, "{number}");
            }
            for from in [0, 1, entries, 2 * entries] {
                let mut cursor = Cursor::at(&segment, &from.to_be_bytes()).unwrap();
                let mut seen = Vec::new();
                while let Some(key) = cursor.key() {
                    seen.push(u32::from_be_bytes(key.try_into().unwrap()));
                    cursor.advance().unwrap();
                }
                let expected: Vec<u32> =
                    (0..entries).map(|n| 2 * n).filter(|n| *n >= from).collect();
                assert_eq!(seen, expected);
            }
        }
    }

    #[test]
    fn flipped_bits_and_missing_bytes_are_damage() {
        let (_directory, path, info) = written(2000);
        let whole = std::fs::read(&path).unwrap();
        let read_all = || -> Result<u64> {
            let segment = Arc::new(Segment::open(&path, 77, &info)?);
            let mut cursor = Cursor::at(&segment, &[])?;
            let mut entries = 0;
            while cursor.key().is_some() {
                entries += 1;
                cursor.advance()?;
            }
            Ok(entries)
        };
        assert_eq!(read_all().unwrap(), 2000);
        for byte in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1 << (byte % 8);
            std::fs::write(&path, &flipped).unwrap();
            assert!(
                matches!(read_all(), Err(StoreError::Damaged { .. })),
                "byte {byte} of {}",
                whole.len()
            );
        }
        for cut in [0, 31, 100, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(
                matches!(read_all(), Err(StoreError::Damaged { .. })),
                "cut at {cut}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read_all(), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn an_unfinished_file_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("segment-1");
        drop(Writer::create(&path, 1, 1).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn file_names_have_one_spelling() {
        assert_eq!(number_of("segment-12"), Some(12));
        assert_eq!(number_of("segment-012"), None);
        assert_eq!(number_of("segment-x"), None);
    }
}
