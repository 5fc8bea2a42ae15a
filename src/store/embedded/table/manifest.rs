//! The manifest lists the files that make up the store. It is replaced as a whole. A file that it
//! does not name is not part of the store.
//!
//! Stored as the text `cohortist store\n`, the format as a little-endian `u32`, a [`Manifest`] in
//! `postcard` encoding, and a CRC-32 of everything before it.

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

/// The name of the manifest in the directory of the store.
pub const MANIFEST: &str = "manifest";

/// The name of the manifest while it is being written.
pub const UNFINISHED_MANIFEST: &str = "manifest.new";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Manifest {
    /// A random number that each file of the store contains.
    pub store: u64,
    /// The sequence number of the last log frame whose changes are in the segments.
    pub sequence: u64,
    /// The number of the next new key. Numbers are never reused.
    pub next_key: u64,
    /// The number of the next new segment.
    pub next_segment: u64,
    /// The segments, from the oldest to the newest.
    pub segments: Vec<SegmentInfo>,
    /// The numbers of the logs, ascending. The last one is being written.
    pub logs: Vec<u64>,
    /// The length of the last log, if the store was closed cleanly.
    pub closed_at: Option<u64>,
    /// When the last checkpoint ended, in milliseconds since 1970.
    pub checkpoint_at: Option<u64>,
    /// The losses accepted with `--accept-loss`.
    pub losses: Vec<String>,
}

/// Syncs a directory, so that created, renamed and deleted names survive a power cut. Not every
/// file system supports this, but it does no harm on any.
pub fn sync_directory(directory: &Path) {
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
}

/// Returns a random number for the files of a new store.
pub fn new_store() -> u64 {
    // The system provides the seed, at least once per process.
    RandomState::new().hash_one(std::process::id())
}

pub fn path(directory: &Path) -> PathBuf {
    directory.join(MANIFEST)
}

impl Manifest {
    /// Reads the manifest of a directory. Returns `None` if there is none.
    pub fn read(directory: &Path) -> Result<Option<Manifest>> {
        let path = path(directory);
        let damaged = |reason: String| StoreError::damaged(&path, reason);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::unreadable(&path, error)),
        };
        let invalid = || damaged("its contents are damaged".to_owned());
        let (checked, checksum) = bytes.split_last_chunk().ok_or_else(invalid)?;
        let rest = checked.strip_prefix(MAGIC).ok_or_else(invalid)?;
        if crc32fast::hash(checked) != u32::from_le_bytes(*checksum) {
            return Err(invalid());
        }
        let (format, rest) = rest.split_first_chunk().ok_or_else(invalid)?;
        let format = u32::from_le_bytes(*format);
        if format != FORMAT {
            return Err(damaged(format!(
                "it has format {format}, and this version of cohortist reads formats up to {FORMAT}: use a newer version"
            )));
        }
        postcard::from_bytes(rest).map(Some).map_err(|_| invalid())
    }

    /// Durably replaces the manifest of a directory with this one. If this fails, the old manifest
    /// remains valid.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        let mut bytes = postcard::to_extend(self, bytes).map_err(io::Error::other)?;
        let checksum = crc32fast::hash(&bytes);
        bytes.extend(checksum.to_le_bytes());
        let new = directory.join(UNFINISHED_MANIFEST);
        let write = || {
            let mut file = private::options()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&new)?;
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
    fn a_manifest_reads_back_and_any_change_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(directory.path()).unwrap(), None);
        let info = SegmentInfo {
            number: 3,
            sequence: 8,
            bytes: 99,
            entries: 4,
            removed: 1,
            checksum: 5,
        };
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
            assert!(
                matches!(
                    Manifest::read(directory.path()),
                    Err(StoreError::Damaged { .. })
                ),
                "bit {bit}"
            );
        }
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(
                matches!(
                    Manifest::read(directory.path()),
                    Err(StoreError::Damaged { .. })
                ),
                "cut at {cut}"
            );
        }
    }
}
