//! The manifest: which files make up the store. It is replaced as a whole, and what it does not name does not count.
//!
//! Stored as the text `cohortist store\n`, the format as a little-endian `u32`, a `postcard` of [`Manifest`], and a CRC-32 of all that.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::embedded::table::segment::SegmentInfo;
use crate::store::{Result, StoreError, private};

const MAGIC: &[u8; 16] = b"cohortist store\n";

/// The version of the layout of all files. Formats 1 to 4 were a redb file.
pub const FORMAT: u32 = 5;

/// Its name in the directory of the store.
pub const MANIFEST: &str = "manifest";

/// Its name while it is written.
pub const UNFINISHED_MANIFEST: &str = "manifest.new";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Manifest {
    /// A random number that is in each of the store's files.
    pub store: u64,
    /// The sequence of the last log frame whose changes are in the segments.
    pub sequence: u64,
    /// The number the next new key gets. Numbers are never used twice.
    pub next_key: u64,
    /// The number the next new segment gets.
    pub next_segment: u64,
    /// The segments, from the oldest to the newest.
    pub segments: Vec<SegmentInfo>,
    /// The numbers of the logs, ascending. The last one is being written.
    pub logs: Vec<u64>,
    /// The length of the last log, when the store was closed in order.
    pub closed_at: Option<u64>,
    /// When the last checkpoint ended, in milliseconds since 1970.
    pub checkpoint_at: Option<u64>,
    /// What was given up with `--accept-loss`.
    pub losses: Vec<String>,
}

/// Makes new, renamed and deleted names in a directory survive a power cut. Not every file system can; none loses by it.
pub fn sync_directory(directory: &Path) {
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
}

/// A random number for the files of a new store.
pub fn new_store() -> u64 {
    // Seeded by the system, once for each process at least.
    RandomState::new().hash_one(std::process::id())
}

pub fn path(directory: &Path) -> PathBuf {
    directory.join(MANIFEST)
}

impl Manifest {
    /// Reads the manifest of a directory; `None` when there is none.
    pub fn read(directory: &Path) -> Result<Option<Manifest>> {
        let path = path(directory);
        let damaged = |reason: String| StoreError::damaged(&path, reason);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(damaged(format!("it cannot be read: {error}"))),
        };
        let not_whole = || damaged("it is not whole".to_owned());
        let (checked, checksum) = bytes.split_last_chunk().ok_or_else(not_whole)?;
        let rest = checked.strip_prefix(MAGIC).ok_or_else(not_whole)?;
        if crc32fast::hash(checked) != u32::from_le_bytes(*checksum) {
            return Err(not_whole());
        }
        let (format, rest) = rest.split_first_chunk().ok_or_else(not_whole)?;
        let format = u32::from_le_bytes(*format);
        if format != FORMAT {
            return Err(damaged(format!(
                "it has format {format}, and this version of cohortist reads formats up to {FORMAT}: use a newer version"
            )));
        }
        postcard::from_bytes(rest).map(Some).map_err(|_| not_whole())
    }

    /// Puts this in place of the manifest of a directory, durably. When it fails the old one holds.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        let mut bytes = postcard::to_extend(self, bytes).map_err(io::Error::other)?;
        let checksum = crc32fast::hash(&bytes);
        bytes.extend(checksum.to_le_bytes());
        let new = directory.join(UNFINISHED_MANIFEST);
        let write = || {
            let mut file = private::options().write(true).create(true).truncate(true).open(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, path(directory))
        };
        write().inspect_err(|_| drop(fs::remove_file(&new)))?;
        sync_directory(directory);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_no_flipped_bit_goes_unnoticed() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(directory.path()).unwrap(), None);
        let info = SegmentInfo { number: 3, sequence: 8, bytes: 99, entries: 4, removed: 1, checksum: 5 };
        let manifest = Manifest {
            store: u64::MAX,
            sequence: 9,
            segments: vec![info],
            logs: vec![4, 5],
            closed_at: Some(32),
            ..Manifest::default()
        };
        manifest.write(directory.path()).unwrap();
        assert_eq!(Manifest::read(directory.path()).unwrap(), Some(manifest));
        let path = path(directory.path());
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            assert!(matches!(Manifest::read(directory.path()), Err(StoreError::Damaged { .. })), "bit {bit}");
        }
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(Manifest::read(directory.path()), Err(StoreError::Damaged { .. })), "cut at {cut}");
        }
    }
}
