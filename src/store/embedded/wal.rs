//! The write-ahead log: the changes since the last checkpoint, in frames whose checksums show that
//! they are complete.
//!
//! A file starts with [`MAGIC`], the number of its store and its own number, both little-endian
//! `u64`s. A frame is [`MARKER`], a little-endian `u32` length, a CRC-32 of the payload, and the
//! payload. The payload is the sequence number, the keys that this log names for the first time,
//! and a [`Change`] that refers to keys by their index among the keys of the log, all in `postcard`
//! encoding. A reader that finds damage searches for the next marker.
//!
//! A frame is acknowledged once the operating system has it, so a crash of the process loses
//! nothing that was acknowledged. Syncing protects against a power failure.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bitmap::{Operation, Tile};
use crate::sets::UserId;
use crate::store::embedded::delta::DeltaBatch;
use crate::store::embedded::log_files::log_path;
use crate::store::embedded::table::Manifest;
use crate::store::{Result, StoreError, private};

const MAGIC: &[u8; 16] = b"cohortist log 2\n";
/// The start of logs of formats 1 to 4. No numbers follow it, and each frame contains its keys as
/// text.
const LEGACY_MAGIC: &[u8; 16] = b"cohortist log 1\n";
const BEGINNING: usize = 32;
const MARKER: &[u8; 4] = b"\xc0hF\x01";
const HEAD: usize = 12;

/// One batch in the log. It is applied completely or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame<K = String> {
    /// The sequence number. It increases by one per frame, across all files of the log.
    pub sequence: u64,
    /// What was changed.
    pub change: Change<K>,
}

/// A change of bitmaps. `K` is a key as text, or the index of a key in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change<K = String> {
    /// Bits set or cleared, in order.
    Bits {
        /// The keys, each once.
        keys: Vec<K>,
        /// For each bit: the index of its key times two, plus one if the bit is set; and the user.
        bits: Vec<(u32, u32)>,
    },
    /// Bitmaps deleted.
    Delete {
        /// Their keys.
        keys: Vec<K>,
    },
    /// A whole bitmap created. It replaces any bitmap of that name and removes its expiry time.
    Put {
        /// Its key.
        key: K,
        /// Its byte length, or [`EMPTY`](super::overlay::EMPTY).
        len: u64,
        /// The numbers of its tiles, ascending, and the tiles. None of them is empty.
        tiles: Vec<(u16, Packed)>,
    },
    /// A bitmap computed from others, as they are at this point in the log. This takes a few bytes
    /// instead of the whole result.
    Combine {
        /// The operation.
        operation: Operation,
        /// The key of the result.
        target: K,
        /// The keys of the operands.
        sources: Vec<K>,
    },
    /// A change of the expiry time of a bitmap.
    Expire {
        /// Its key.
        key: K,
        /// When the bitmap expires, in milliseconds since 1970, or `None` if it never expires.
        expires_at: Option<u64>,
    },
    /// Several changes in order, all of them or none.
    All(Vec<Change<K>>),
    /// Numbers assigned to string ids.
    AssignIds {
        /// Their prefix.
        prefix: String,
        /// The number of the first string id. The others have the numbers that follow.
        first: u64,
        /// The string ids, each once.
        ids: Vec<String>,
    },
    /// All string ids of a prefix deleted. The numbers start at 0 again.
    DeleteIds {
        /// The prefix.
        prefix: String,
    },
    /// Users added to bitmaps.
    Add {
        /// The keys of the bitmaps, and the users.
        batches: Vec<(K, DeltaBatch)>,
    },
    /// Single string ids deleted. Their numbers are never assigned again.
    RemoveIds {
        /// Their prefix.
        prefix: String,
        /// The string ids, each with its number.
        ids: Vec<(String, UserId)>,
    },
}

impl<K> Change<K> {
    /// Returns the same change with other names for its keys, or `None` if a key has no other name.
    pub fn renamed<L>(self, name: &mut impl FnMut(K) -> Option<L>) -> Option<Change<L>> {
        Some(match self {
            Change::Bits { keys, bits } => Change::Bits {
                keys: keys.into_iter().map(name).collect::<Option<_>>()?,
                bits,
            },
            Change::Delete { keys } => Change::Delete {
                keys: keys.into_iter().map(name).collect::<Option<_>>()?,
            },
            Change::Put { key, len, tiles } => Change::Put {
                key: name(key)?,
                len,
                tiles,
            },
            Change::Combine {
                operation,
                target,
                sources,
            } => Change::Combine {
                operation,
                target: name(target)?,
                sources: sources.into_iter().map(name).collect::<Option<_>>()?,
            },
            Change::Expire { key, expires_at } => Change::Expire {
                key: name(key)?,
                expires_at,
            },
            Change::All(changes) => Change::All(
                changes
                    .into_iter()
                    .map(|change| change.renamed(name))
                    .collect::<Option<_>>()?,
            ),
            Change::AssignIds { prefix, first, ids } => Change::AssignIds { prefix, first, ids },
            Change::DeleteIds { prefix } => Change::DeleteIds { prefix },
            Change::RemoveIds { prefix, ids } => Change::RemoveIds { prefix, ids },
            Change::Add { batches } => {
                let batches = batches
                    .into_iter()
                    .map(|(key, batch)| Some((name(key)?, batch)));
                Change::Add {
                    batches: batches.collect::<Option<_>>()?,
                }
            }
        })
    }
}

/// The payload of a frame. `S` is the type of a key as text.
#[derive(Serialize, Deserialize)]
struct Payload<S> {
    sequence: u64,
    /// The keys that this log names for the first time.
    names: Vec<S>,
    change: Change<u32>,
}

/// A tile as encoded in a frame: the bytes of [`Tile::to_bytes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed(pub Arc<Tile>);

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_bytes())
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Packed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a tile")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Packed, E> {
                let tile =
                    Tile::from_bytes(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &self))?;
                Ok(Packed(Arc::new(tile)))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// A log file open for appending.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: Arc<LogFile>,
    len: u64,
    /// The indexes of the keys that it names.
    names: HashMap<Arc<str>, u32>,
    /// Why nothing more may be appended.
    broken: Option<String>,
}

/// A log file that can be synced.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    failed: AtomicBool,
}

impl LogFile {
    /// Wraps a file that only needs to be synced.
    pub fn new(file: File) -> Self {
        LogFile {
            file,
            failed: AtomicBool::new(false),
        }
    }

    /// Syncs what was appended so far. After a failure, every later call fails too: the system may
    /// have discarded what it could not write, and then reports the next attempt as a success. A
    /// checkpoint writes all of it elsewhere.
    pub fn sync(&self) -> io::Result<()> {
        if self.failed() {
            return Err(io::Error::other(
                "an earlier attempt to force the log to disk failed",
            ));
        }
        self.file.sync_data().inspect_err(|_| self.fail())
    }

    /// Returns whether a sync has failed.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Makes every later sync fail.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

/// The result of reading a log file.
#[derive(Debug, Default)]
pub struct ReadOutcome {
    /// Messages for the operator: about an incomplete last record and, with
    /// [`Expected::accepts_loss`], about damage.
    pub notes: Vec<String>,
    /// The keys that the log names, by index. `None` for keys whose records were lost.
    names: Vec<Option<Arc<str>>>,
    /// Where the complete frames end.
    len: u64,
}

/// What is known about a log before it is read.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    pub store: u64,
    pub number: u64,
    /// Its length, if the store was closed cleanly.
    pub len: Option<u64>,
    /// Whether a crash may have left an incomplete record at its end.
    pub is_last: bool,
    /// Whether damage is only recorded in the notes.
    pub accepts_loss: bool,
}

impl Expected {
    /// Returns what a manifest says about the log with a number.
    pub fn of(directory: &Path, manifest: &Manifest, number: u64, accepts_loss: bool) -> Self {
        // A power cut may truncate a log after a checkpoint has named its successor but before
        // anything is written to that.
        let is_empty = |later: &u64| {
            let metadata = std::fs::metadata(log_path(directory, *later));
            metadata.is_ok_and(|metadata| metadata.len() <= BEGINNING as u64)
        };
        let is_last = manifest
            .logs
            .iter()
            .filter(|later| **later > number)
            .all(is_empty);
        let len = manifest
            .closed_at
            .filter(|_| manifest.logs.last() == Some(&number));
        Expected {
            store: manifest.store,
            number,
            len,
            is_last,
            accepts_loss,
        }
    }
}

impl ReadOutcome {
    /// Removes an incomplete last record from a file that was read.
    pub fn truncate(&self, file: &File) -> io::Result<()> {
        file.set_len(self.len)
    }
}

impl Log {
    /// Creates a log file and syncs it. A file that could not be created completely is removed.
    pub fn create(path: &Path, store: u64, number: u64) -> io::Result<Self> {
        let create = || {
            let mut file = private::options()
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)?;
            let beginning = [&MAGIC[..], &store.to_le_bytes(), &number.to_le_bytes()].concat();
            file.write_all(&beginning)?;
            file.sync_all()?;
            Ok::<_, io::Error>(file)
        };
        let file = create().inspect_err(|_| drop(std::fs::remove_file(path)))?;
        Ok(Log::of(path, file, BEGINNING as u64, HashMap::new()))
    }

    /// Opens a file after [`read`] has read it, and removes an incomplete last record.
    pub fn open(path: &Path, outcome: ReadOutcome) -> io::Result<Self> {
        let file = private::options().write(true).open(path)?;
        file.set_len(outcome.len)?;
        let names = (0..)
            .zip(outcome.names)
            .filter_map(|(index, name)| Some((name?, index)))
            .collect();
        Ok(Log::of(path, file, outcome.len, names))
    }

    fn of(path: &Path, file: File, len: u64, names: HashMap<Arc<str>, u32>) -> Self {
        Log {
            path: path.to_owned(),
            file: Arc::new(LogFile::new(file)),
            len,
            names,
            broken: None,
        }
    }

    /// Returns the file, so that it can be synced.
    pub fn file(&self) -> &Arc<LogFile> {
        &self.file
    }

    /// Returns whether the log contains no frame.
    pub fn is_empty(&self) -> bool {
        self.len <= BEGINNING as u64
    }

    /// Returns the path of the log.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the length of the log, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether the file contains everything that was appended, and nothing else.
    pub fn is_whole(&self) -> bool {
        self.broken.is_none() && !self.file.failed()
    }

    /// Appends a complete frame, or leaves the log unchanged. An error comes with the length of the
    /// frame.
    pub fn append(&mut self, frame: Frame) -> Result<(), (io::Error, usize)> {
        let mut names: Vec<Arc<str>> = Vec::new();
        let encoded = self.encode(frame, &mut names).map_err(|error| (error, 0));
        let appended = encoded
            .and_then(|encoded| self.write(&encoded).map_err(|error| (error, encoded.len())));
        appended.inspect_err(|_| names.iter().for_each(|name| _ = self.names.remove(name)))
    }

    /// Encodes a frame as its bytes in the log. Adds the keys that it names for the first time to
    /// `new`.
    fn encode(&mut self, frame: Frame, new: &mut Vec<Arc<str>>) -> io::Result<Vec<u8>> {
        let Frame { sequence, change } = frame;
        let too_many = || io::Error::other("a log names at most 4 billion keys");
        let mut index_of = |key: String| {
            if let Some(index) = self.names.get(key.as_str()) {
                return Some(*index);
            }
            let index = u32::try_from(self.names.len()).ok()?;
            let key: Arc<str> = key.into();
            self.names.insert(Arc::clone(&key), index);
            new.push(key);
            Some(index)
        };
        let change = change.renamed(&mut index_of).ok_or_else(too_many)?;
        let names = new.iter().map(|name| &**name).collect();
        seal(&Payload::<&str> {
            sequence,
            names,
            change,
        })
    }

    fn write(&mut self, encoded: &[u8]) -> io::Result<()> {
        if let Some(reason) = &self.broken {
            return Err(io::Error::other(reason.clone()));
        }
        if self.file.failed() {
            return Err(io::Error::other(
                "the log could not be forced to disk; the next checkpoint begins a new one",
            ));
        }
        let mut file = &self.file.file;
        let written = file
            .seek(SeekFrom::Start(self.len))
            .and_then(|_| file.write_all(encoded));
        match written {
            Ok(()) => {
                self.len += encoded.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A truncated frame would end the log for a later reader, and hide the frames after
                // it.
                if let Err(second) = file.set_len(self.len) {
                    self.broken = Some(format!(
                        "an earlier write failed ({error}) and could not be undone ({second}); the next checkpoint begins a new log"
                    ));
                }
                Err(error)
            }
        }
    }
}

/// Encodes a payload as a frame.
fn seal(payload: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(payload, vec![0; HEAD]).map_err(io::Error::other)?;
    let (head, payload) = bytes.split_at_mut(HEAD);
    let len = u32::try_from(payload.len())
        .map_err(|_| io::Error::other("a batch may take at most 4 GiB"))?;
    head[..4].copy_from_slice(MARKER);
    head[4..8].copy_from_slice(&len.to_le_bytes());
    head[8..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    Ok(bytes)
}

/// Returns the payload of the frame at the start of `bytes` and the length of the frame, or `None`
/// if the frame is incomplete or damaged.
fn unseal(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (marker, rest) = bytes.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let len = u32::from_le_bytes(*len) as usize;
    let payload = rest.get(..len).filter(|_| marker == MARKER)?;
    (crc32fast::hash(payload) == u32::from_le_bytes(*checksum)).then_some((payload, HEAD + len))
}

/// Returns the start of the next complete frame, from `from` on.
fn next_frame(bytes: &[u8], from: usize) -> Option<usize> {
    let candidates = bytes
        .get(from..)?
        .windows(MARKER.len())
        .enumerate()
        .filter(|(_, window)| window == MARKER);
    candidates
        .map(|(at, _)| from + at)
        .find(|at| unseal(&bytes[*at..]).is_some())
}

/// Reads a log file, and passes each complete frame to `each` in order, together with the keys that
/// it refers to.
///
/// # Errors
/// Returns an error if the file is missing, is not the expected log, or is damaged. An incomplete
/// record at the end of the last log, as left by a crash, is only recorded in the notes.
pub fn read(
    path: &Path,
    expected: Expected,
    mut each: impl FnMut(Frame<u32>, &[Option<Arc<str>>]) -> Result<()>,
) -> Result<ReadOutcome> {
    let damaged = |reason: String| StoreError::damaged(path, reason);
    let mut outcome = ReadOutcome {
        len: BEGINNING as u64,
        ..ReadOutcome::default()
    };
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => damaged("the file is missing".to_owned()),
        _ => StoreError::unreadable(path, error),
    })?;
    let beginning = [
        &MAGIC[..],
        &expected.store.to_le_bytes(),
        &expected.number.to_le_bytes(),
    ]
    .concat();
    let mut lose = |at: usize, end: usize, what: &str| {
        let reason = format!("{what} (bytes {at} to {end})");
        if expected.accepts_loss {
            outcome.notes.push(format!("{}: {reason}", path.display()));
            Ok(())
        } else {
            Err(damaged(reason))
        }
    };
    if !bytes.starts_with(&beginning) {
        lose(
            0,
            BEGINNING.min(bytes.len()),
            "its head does not match the store and log number in the manifest",
        )?;
    }
    if let Some(len) = expected.len.filter(|len| *len != bytes.len() as u64) {
        lose(
            bytes.len(),
            usize::try_from(len).unwrap_or(usize::MAX),
            "its length differs from when the store was closed",
        )?;
    }
    let mut at = BEGINNING.min(bytes.len());
    let mut names: Vec<Option<Arc<str>>> = Vec::new();
    let mut incomplete = None;
    while at < bytes.len() {
        let frame = unseal(&bytes[at..]).and_then(|(payload, len)| {
            let payload: Payload<String> = postcard::from_bytes(payload).ok()?;
            Some((payload, len))
        });
        if let Some((payload, len)) = frame {
            let Payload {
                sequence,
                names: new,
                change,
            } = payload;
            let (change, first) = first_new(change, new.len());
            match first {
                Some(first) if first > names.len() => {
                    lose(
                        at,
                        at + len,
                        "records that name keys are missing before this record",
                    )?;
                    names.resize(first, None);
                }
                Some(first) if first < names.len() => {
                    lose(at, at + len, "a record names keys again")?
                }
                _ => {}
            }
            names.extend(new.into_iter().map(|name| Some(Arc::from(name))));
            each(Frame { sequence, change }, &names)?;
            at += len;
            continue;
        }
        let next = next_frame(&bytes, at + 1);
        if next.is_none() && expected.is_last && expected.len.is_none() {
            incomplete = Some(bytes.len() - at);
            break;
        }
        lose(at, next.unwrap_or(bytes.len()), "a record is damaged")?;
        let Some(next) = next else { break };
        at = next;
    }
    if let Some(incomplete) = incomplete {
        outcome.notes.push(format!(
            "the last {incomplete} bytes of {} were an incomplete record, as a crash leaves one, and were dropped",
            path.display()
        ));
    }
    outcome.len = at.max(BEGINNING) as u64;
    outcome.names = names;
    Ok(outcome)
}

/// Returns the change, and the index of the first key that it names for the first time, or `None`
/// if there is none. A record uses all names that it introduces, and their indexes are its highest.
fn first_new(change: Change<u32>, new: usize) -> (Change<u32>, Option<usize>) {
    if new == 0 {
        return (change, None);
    }
    let mut end = 0;
    let same = change.renamed(&mut |index: u32| {
        end = end.max(index as usize + 1);
        Some(index)
    });
    (same.expect("each key keeps its name"), end.checked_sub(new))
}

/// Returns whether a log contains more than its head.
pub fn holds_something(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > BEGINNING as u64)
}

/// Returns the number of the store that a log belongs to.
pub fn store_of(path: &Path) -> Option<u64> {
    let mut beginning = [0; BEGINNING];
    File::open(path)
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut beginning))
        .ok()?;
    let (store, _) = beginning.strip_prefix(MAGIC)?.split_first_chunk()?;
    Some(u64::from_le_bytes(*store))
}

/// Reads a log of formats 1 to 4. Skips damage that complete frames follow, and reports the first
/// occurrence.
pub fn read_legacy(
    path: &Path,
    mut each: impl FnMut(Frame) -> Result<()>,
) -> Result<Option<String>> {
    let mut damage = None;
    let bytes = std::fs::read(path).map_err(|error| StoreError::unreadable(path, error))?;
    let mut at = if bytes.starts_with(LEGACY_MAGIC) {
        Some(LEGACY_MAGIC.len())
    } else {
        next_frame(&bytes, 0)
    };
    if let Some(at) = at.filter(|at| *at > 0 && !bytes.starts_with(LEGACY_MAGIC)) {
        damage = Some(format!("its first {at} bytes are damaged"));
    }
    while let Some(from) = at.filter(|at| *at < bytes.len()) {
        let frame = unseal(&bytes[from..])
            .and_then(|(payload, len)| Some((postcard::from_bytes(payload).ok()?, len)));
        at = match frame {
            Some((frame, len)) => {
                each(frame)?;
                Some(from + len)
            }
            None => {
                let next = next_frame(&bytes, from + 1);
                if let Some(next) = next {
                    damage.get_or_insert_with(|| {
                        format!("a record is damaged (bytes {from} to {next})")
                    });
                }
                next
            }
        };
    }
    Ok(damage)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: u64 = 99;
    const EXPECTED: Expected = Expected {
        store: STORE,
        number: 1,
        len: None,
        is_last: true,
        accepts_loss: false,
    };

    fn frame(sequence: u64) -> Frame {
        let bits = (0..u32::try_from(sequence % 7).unwrap())
            .map(|n| (1, n))
            .collect();
        // Some keys occur again.
        Frame {
            sequence,
            change: Change::Bits {
                keys: vec![format!("trackist_active_2026-{}", sequence % 3)],
                bits,
            },
        }
    }

    fn read(path: &Path, expected: Expected) -> Result<(ReadOutcome, Vec<u64>)> {
        let mut sequences = Vec::new();
        let outcome = super::read(path, expected, |found, names| {
            let named = found.change.renamed(&mut |index: u32| {
                names.get(index as usize)?.as_ref().map(ToString::to_string)
            });
            assert_eq!(named, Some(frame(found.sequence).change));
            sequences.push(found.sequence);
            Ok(())
        })?;
        Ok((outcome, sequences))
    }

    fn written(count: u64) -> (tempfile::TempDir, PathBuf, Vec<u64>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log-1");
        let mut log = Log::create(&path, STORE, 1).unwrap();
        let ends = (1..=count)
            .map(|n| {
                log.append(frame(n)).unwrap();
                log.len()
            })
            .collect();
        (dir, path, ends)
    }

    #[test]
    fn a_truncated_log_keeps_every_complete_frame() {
        let (_dir, path, ends) = written(5);
        let whole = std::fs::read(&path).unwrap();
        for cut in BEGINNING..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (outcome, frames) = read(&path, EXPECTED).unwrap();
            let expected = ends.iter().filter(|end| **end <= cut as u64).count();
            assert_eq!(frames.len(), expected, "cut at {cut}");
            let clean = cut == BEGINNING || ends.contains(&(cut as u64));
            assert_eq!(
                outcome.notes.is_empty(),
                clean,
                "cut at {cut}: {:?}",
                outcome.notes
            );
            // Appending continues from there.
            let mut log = Log::open(&path, outcome).unwrap();
            log.append(frame(99)).unwrap();
            let (again, frames) = read(&path, EXPECTED).unwrap();
            assert_eq!(
                (frames.len(), again.notes.len()),
                (expected + 1, 0),
                "cut at {cut}"
            );
        }
    }

    /// A lost record may have named keys. The later records must not refer to other keys because
    /// of that.
    #[test]
    fn later_records_keep_their_keys_when_a_record_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log-1");
        let mut log = Log::create(&path, STORE, 1).unwrap();
        let keys: [&[&str]; 5] = [
            &["a"],
            &["b", "a", "b2"],
            &["c"],
            &["b"],
            &["d", "c", "e", "a"],
        ];
        let mut damaged_at = 0;
        for (sequence, keys) in (1..).zip(keys) {
            if sequence == 2 {
                damaged_at = usize::try_from(log.len()).unwrap() + HEAD;
            }
            let keys = keys.iter().map(ToString::to_string).collect();
            log.append(Frame {
                sequence,
                change: Change::Delete { keys },
            })
            .unwrap();
        }
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[damaged_at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let mut found = Vec::new();
        super::read(
            &path,
            Expected {
                accepts_loss: true,
                ..EXPECTED
            },
            |frame, names| {
                let Change::Delete { keys } = frame.change else {
                    panic!("{frame:?}")
                };
                let name = |index: u32| {
                    names
                        .get(index as usize)
                        .cloned()
                        .flatten()
                        .map(|name| name.to_string())
                };
                found.push((
                    frame.sequence,
                    keys.into_iter().map(name).collect::<Vec<_>>(),
                ));
                Ok(())
            },
        )
        .unwrap();
        let some = |names: &[&str]| {
            names
                .iter()
                .map(|name| Some(name.to_string()))
                .collect::<Vec<_>>()
        };
        let expected = [
            (1, some(&["a"])),
            (3, some(&["c"])),
            (4, vec![None]),
            (5, some(&["d", "c", "e", "a"])),
        ];
        assert_eq!(found, expected);
        let strict = super::read(&path, EXPECTED, |_, _| Ok(()));
        assert!(matches!(strict, Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_cleanly_closed_log_must_have_its_recorded_length() {
        let (_dir, path, ends) = written(5);
        let whole = std::fs::read(&path).unwrap();
        let closed = Expected {
            len: ends.last().copied(),
            ..EXPECTED
        };
        assert_eq!(read(&path, closed).unwrap().1.len(), 5);
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(
                matches!(read(&path, closed), Err(StoreError::Damaged { .. })),
                "cut at {cut}"
            );
        }
        std::fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
        assert!(matches!(
            read(&path, closed),
            Err(StoreError::Damaged { .. })
        ));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            read(&path, EXPECTED),
            Err(StoreError::Damaged { .. })
        ));
    }

    #[test]
    fn a_log_of_another_store_or_number_is_damage() {
        let (_dir, path, _) = written(2);
        for other in [
            Expected {
                store: 7,
                ..EXPECTED
            },
            Expected {
                number: 2,
                ..EXPECTED
            },
        ] {
            assert!(matches!(
                read(&path, other),
                Err(StoreError::Damaged { .. })
            ));
        }
    }

    #[test]
    fn damage_is_an_error_or_if_accepted_loses_only_the_damaged_frames() {
        let (_dir, path, ends) = written(9);
        let whole = std::fs::read(&path).unwrap();
        let end = |n: usize| usize::try_from(ends[n]).unwrap();
        // Damage in a payload; in a length; across two frames and the head of a third. All keys are
        // named before the damage.
        for (from, to, kept) in [
            (
                end(3) + HEAD + 1,
                end(3) + HEAD + 2,
                &[1, 2, 3, 4, 6, 7, 8, 9][..],
            ),
            (end(3) + 5, end(3) + 7, &[1, 2, 3, 4, 6, 7, 8, 9]),
            (end(3) + 1, end(5) + 2, &[1, 2, 3, 4, 8, 9]),
            (3, 20, &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ] {
            let mut bytes = whole.clone();
            bytes[from..to].iter_mut().for_each(|b| *b ^= 0x5a);
            std::fs::write(&path, &bytes).unwrap();
            assert!(
                matches!(read(&path, EXPECTED), Err(StoreError::Damaged { .. })),
                "damaged from {from} to {to}"
            );
            let (outcome, frames) = read(
                &path,
                Expected {
                    accepts_loss: true,
                    ..EXPECTED
                },
            )
            .unwrap();
            assert_eq!(
                (frames.as_slice(), outcome.notes.len()),
                (kept, 1),
                "damaged from {from} to {to}"
            );
        }
        // A damaged last record counts as incomplete only if the length of the log is unknown.
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path, EXPECTED).unwrap().1.len(), 8);
        for strict in [
            Expected {
                len: ends.last().copied(),
                ..EXPECTED
            },
            Expected {
                is_last: false,
                ..EXPECTED
            },
        ] {
            assert!(matches!(
                read(&path, strict),
                Err(StoreError::Damaged { .. })
            ));
        }
    }

    #[test]
    fn a_frame_that_was_not_appended_adds_no_names() {
        let (_dir, path, _) = written(1);
        let mut log = Log::create(&path, STORE, 1).unwrap();
        log.file.fail();
        assert!(log.append(frame(1)).is_err());
        assert!(log.names.is_empty());
    }

    #[test]
    fn zeros_and_noise_after_the_last_frame_are_not_frames() {
        for tail in [vec![0; 4096], vec![0xff; 100], b"cohortist".to_vec()] {
            let (_dir, path, _) = written(3);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.extend(tail);
            std::fs::write(&path, &bytes).unwrap();
            let (outcome, frames) = read(&path, EXPECTED).unwrap();
            assert_eq!((frames.len(), outcome.notes.len()), (3, 1));
        }
    }
}
