//! The write-ahead log: what was changed since the last checkpoint, in frames that prove they are whole.
//!
//! A file begins with [`MAGIC`]. A frame is [`MARKER`], a little-endian `u32` length, a CRC-32 of the payload, and the
//! payload: a [`Frame`] as `postcard` writes it. The marker is what a reader looks for behind a damaged place. A frame counts once it was handed to the operating system, so the end of the
//! process, however sudden, loses nothing that was acknowledged; forcing it to disk is for the case that the machine
//! loses power.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bitmap::{Operation, Tile};
use crate::store::embedded::runs::Run;
use crate::store::private;

const MAGIC: &[u8; 16] = b"cohortist log 1\n";
const MARKER: &[u8; 4] = b"\xc0hF\x01";
const HEAD: usize = 12;

/// One batch in the log: all of it is applied, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Counts up by one, over all files of the log.
    pub sequence: u64,
    /// What was changed.
    pub change: Change,
}

/// A change of bitmaps, by the text of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Bits set or cleared, in order.
    Bits {
        /// The keys, each once.
        keys: Vec<String>,
        /// For each bit: the place of its key times two, plus one when it is set; and the user.
        bits: Vec<(u32, u32)>,
    },
    /// Bitmaps deleted.
    Delete {
        /// Their keys.
        keys: Vec<String>,
    },
    /// A bitmap made, whole; what was there of that name is gone, and its lifetime too.
    Put {
        /// Its key.
        key: String,
        /// Its byte length, or [`EMPTY`](super::layers::EMPTY).
        len: u64,
        /// The numbers of its tiles, ascending, and the tiles; none of them empty.
        tiles: Vec<(u16, Packed)>,
    },
    /// A bitmap computed from others, as they are at this place of the log. Some bytes instead of the whole result.
    Combine {
        /// How.
        operation: Operation,
        /// Where the result goes.
        target: String,
        /// From what.
        sources: Vec<String>,
    },
    /// A bitmap that is to go by itself, or no longer.
    Lifetime {
        /// Its key.
        key: String,
        /// When, in milliseconds since 1970; never when `None`.
        until: Option<u64>,
    },
    /// Several changes, one after the other, all of them or none.
    All(Vec<Change>),
    /// Texts that got numbers.
    Enroll {
        /// Under which prefix.
        prefix: String,
        /// The number of the first; the others have those that follow.
        first: u64,
        /// The texts, each once.
        texts: Vec<String>,
    },
    /// The texts of a prefix are forgotten, and its numbers begin anew.
    Forget {
        /// Which.
        prefix: String,
    },
    /// Users put into bitmaps.
    Runs {
        /// Keys, and who is put into their bitmaps.
        runs: Vec<(String, Run)>,
    },
}

/// A tile as it stands in a frame: its bytes as in the file of the last checkpoint.
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
                let tile = Tile::from_bytes(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &self))?;
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
    /// Why nothing may be appended any more.
    broken: Option<String>,
}

/// A log file to be forced to disk.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    failed: AtomicBool,
}

impl LogFile {
    /// One that is only to be forced to disk.
    pub fn new(file: File) -> Self {
        LogFile { file, failed: AtomicBool::new(false) }
    }

    /// Forces to disk what was appended so far. After a failure it fails for good: the system may have thrown away what it
    /// could not write, and then calls the next attempt a success. A checkpoint writes all of it elsewhere.
    pub fn sync(&self) -> io::Result<()> {
        if self.failed() {
            return Err(io::Error::other("an earlier attempt to force the log to disk failed"));
        }
        self.file.sync_data().inspect_err(|_| self.fail())
    }

    /// Whether it could not be forced to disk once.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Lets it fail from now on.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

/// What was read from a log file.
#[derive(Debug)]
pub struct Replay {
    /// How many whole frames there were.
    pub frames: usize,
    /// What an operator should know: frames that were damaged, a tail that was torn.
    pub notes: Vec<String>,
    /// Where the whole frames end.
    len: u64,
}

impl Log {
    /// Creates a log file; what could not be created whole is removed.
    pub fn create(path: &Path) -> io::Result<Self> {
        Log::open(path, None).inspect_err(|_| drop(std::fs::remove_file(path)))
    }

    /// Creates a log file, or opens one after its [`read`], dropping a torn tail.
    pub fn open(path: &Path, replay: Option<&Replay>) -> io::Result<Self> {
        let mut file = private::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let len = match replay {
            Some(replay) if replay.len > 0 => replay.len,
            _ => {
                file.write_all(MAGIC)?;
                MAGIC.len() as u64
            }
        };
        file.set_len(len)?;
        Ok(Log { path: path.to_owned(), file: Arc::new(LogFile::new(file)), len, broken: None })
    }

    /// Its file, to force it to disk.
    pub fn file(&self) -> &Arc<LogFile> {
        &self.file
    }

    /// Whether there is no frame in it.
    pub fn is_empty(&self) -> bool {
        self.len <= MAGIC.len() as u64
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Appends an encoded frame whole, or leaves the log as it was.
    pub fn append(&mut self, encoded: &[u8]) -> io::Result<()> {
        if let Some(reason) = &self.broken {
            return Err(io::Error::other(reason.clone()));
        }
        if self.file.failed() {
            return Err(io::Error::other("the log could not be forced to disk; the next checkpoint begins a new one"));
        }
        let mut file = &self.file.file;
        let written = file.seek(SeekFrom::Start(self.len)).and_then(|_| file.write_all(encoded));
        match written {
            Ok(()) => {
                self.len += encoded.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A frame cut short would end the log for a later reader, and hide the frames behind it.
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

/// A frame as its bytes in the log.
pub fn encode(frame: &Frame) -> io::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(frame, vec![0; HEAD]).map_err(io::Error::other)?;
    let (head, payload) = bytes.split_at_mut(HEAD);
    let len = u32::try_from(payload.len()).map_err(|_| io::Error::other("a batch may take at most 4 GiB"))?;
    head[..4].copy_from_slice(MARKER);
    head[4..8].copy_from_slice(&len.to_le_bytes());
    head[8..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    Ok(bytes)
}

/// Reads the frame at the beginning of `bytes` and how long it is; `None` when it is not whole.
fn decode(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (marker, rest) = bytes.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let len = u32::from_le_bytes(*len) as usize;
    let payload = rest.get(..len).filter(|_| marker == MARKER)?;
    (crc32fast::hash(payload) == u32::from_le_bytes(*checksum)).then_some(())?;
    Some((postcard::from_bytes(payload).ok()?, HEAD + len))
}

/// Where behind `from` the next whole frame begins.
fn next_frame(bytes: &[u8], from: usize) -> Option<usize> {
    let candidates = bytes.get(from..)?.windows(MARKER.len()).enumerate().filter(|(_, window)| window == MARKER);
    candidates.map(|(at, _)| from + at).find(|at| decode(&bytes[*at..]).is_some())
}

/// Reads a log file, giving each whole frame to `each`, in order. What is whole is kept, also behind a damaged place;
/// a torn tail is kept aside in a file of its own. Either is noted.
pub fn read<E: From<io::Error>>(path: &Path, mut each: impl FnMut(Frame) -> Result<(), E>) -> Result<Replay, E> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let mut replay = Replay { frames: 0, notes: Vec::new(), len: 0 };
    if !bytes.starts_with(MAGIC) && next_frame(&bytes, 0).is_none() {
        // Cut short while its first bytes were written, or no log at all.
        if !bytes.is_empty() {
            set_aside(path, &bytes, 0, &mut replay)?;
        }
        return Ok(replay);
    }
    let mut at = MAGIC.len();
    while at < bytes.len() {
        if let Some((frame, len)) = decode(&bytes[at..]) {
            each(frame)?;
            replay.frames += 1;
            at += len;
        } else if let Some(next) = next_frame(&bytes, at + 1) {
            replay.notes.push(format!(
                "{} bytes at byte {at} of {} are damaged; the marks in them are lost, those before and behind are kept",
                next - at,
                path.display()
            ));
            at = next;
        } else {
            set_aside(path, &bytes[at..], at, &mut replay)?;
            break;
        }
    }
    replay.len = at as u64;
    Ok(replay)
}

fn set_aside(path: &Path, tail: &[u8], at: usize, replay: &mut Replay) -> io::Result<()> {
    let aside = path.with_extension(format!("torn-at-{at}"));
    private::write(&aside, tail)?;
    replay.notes.push(format!(
        "the last {} bytes of {} were torn, as a write cut short leaves them, and were dropped (kept aside in {})",
        tail.len(),
        path.display(),
        aside.display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u64) -> Frame {
        let bits = (0..u32::try_from(sequence % 7).unwrap()).map(|n| (1, n)).collect();
        Frame { sequence, change: Change::Bits { keys: vec![format!("trackist_active_2026-{sequence}")], bits } }
    }

    fn read(path: &Path) -> io::Result<(Replay, Vec<u64>)> {
        let mut sequences = Vec::new();
        let replay = super::read(path, |frame| -> io::Result<()> {
            sequences.push(frame.sequence);
            Ok(())
        })?;
        assert_eq!(replay.frames, sequences.len());
        Ok((replay, sequences))
    }

    fn written(count: u64) -> (tempfile::TempDir, PathBuf, Vec<u64>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log-1");
        let mut log = Log::open(&path, None).unwrap();
        let ends = (1..=count)
            .map(|n| {
                log.append(&encode(&frame(n)).unwrap()).unwrap();
                log.len()
            })
            .collect();
        (dir, path, ends)
    }

    #[test]
    fn a_log_cut_at_any_byte_keeps_every_whole_frame() {
        let (_dir, path, ends) = written(5);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (replay, frames) = read(&path).unwrap();
            let expected = ends.iter().filter(|end| **end <= cut as u64).count();
            assert_eq!(frames.len(), expected, "cut at {cut}");
            let clean = cut == 0 || cut == MAGIC.len() || ends.contains(&(cut as u64));
            assert_eq!(replay.notes.is_empty(), clean, "cut at {cut}: {:?}", replay.notes);
            // And it goes on from there.
            let mut log = Log::open(&path, Some(&replay)).unwrap();
            log.append(&encode(&frame(99)).unwrap()).unwrap();
            let (again, frames) = read(&path).unwrap();
            assert_eq!((frames.len(), again.notes.len()), (expected + 1, 0), "cut at {cut}");
        }
    }

    #[test]
    fn damage_costs_what_it_hit_and_no_other_frame() {
        let (_dir, path, ends) = written(9);
        let whole = std::fs::read(&path).unwrap();
        let end = |n: usize| usize::try_from(ends[n]).unwrap();
        // In a payload; in a length; over two frames and the head of a third.
        for (from, to, kept) in [
            (end(1) + HEAD + 2, end(1) + HEAD + 3, &[1, 2, 4, 5, 6, 7, 8, 9][..]),
            (end(1) + 5, end(1) + 7, &[1, 2, 4, 5, 6, 7, 8, 9]),
            (end(1) + 1, end(3) + 2, &[1, 2, 6, 7, 8, 9]),
            (3, 20, &[2, 3, 4, 5, 6, 7, 8, 9]),
        ] {
            let mut bytes = whole.clone();
            bytes[from..to].iter_mut().for_each(|b| *b ^= 0x5a);
            std::fs::write(&path, &bytes).unwrap();
            let (replay, frames) = read(&path).unwrap();
            assert_eq!((frames.as_slice(), replay.notes.len()), (kept, 1), "damaged from {from} to {to}");
            assert!(replay.notes[0].contains("are damaged"), "{:?}", replay.notes);
        }
    }

    #[test]
    fn zeros_and_noise_behind_the_last_frame_are_no_frames() {
        for tail in [vec![0; 4096], vec![0xff; 100], b"cohortist".to_vec()] {
            let (_dir, path, _) = written(3);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.extend(tail);
            std::fs::write(&path, &bytes).unwrap();
            let (replay, frames) = read(&path).unwrap();
            assert_eq!((frames.len(), replay.notes.len()), (3, 1));
        }
    }
}
