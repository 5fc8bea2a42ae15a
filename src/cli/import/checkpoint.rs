//! The checkpoint of an import: how far it got, in a small file next to the imported one.
//!
//! A checkpoint never claims more than the store has acknowledged. It is trusted only for the same
//! bytes (size, modification time and a checksum of the beginning), read in the same way, into the
//! same store, and only if that store still holds what was written last. In any other case the
//! import starts over. This costs time and nothing else, because marks are bits.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::ingest::Position;
use crate::sets::{Key, Prefix, Set, UserId};
use crate::store::private;
use crate::tracker::Tracker;

/// How far an import got in one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    version: u32,
    /// What is imported, how, and into which store.
    pub origin: Origin,
    /// Everything before this many uncompressed bytes and lines is in the store.
    pub byte: u64,
    pub line: u64,
    /// The part of the file that these count in: several files may be in an archive.
    #[serde(default)]
    pub part: usize,
    /// The number of good lines among them, and the number of bad lines.
    pub records: u64,
    pub skipped: u64,
    /// Whether the whole file is in the store.
    pub done: bool,
    /// The values of properties that became events.
    pub values: Vec<(String, Vec<String>)>,
    /// Some of the bits written last, to check that the store still has them.
    #[serde(rename = "witnesses")]
    pub samples: Vec<Sample>,
}

/// A bit that was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub key: String,
    pub user: UserId,
    /// The id of the user as clients see it. The numbers of string ids start again when a store is
    /// emptied.
    #[serde(rename = "called")]
    pub id: String,
}

/// What a checkpoint refers to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    size: u64,
    modified: u128,
    beginning: u32,
    reading: u32,
    store: String,
    prefix: String,
}

impl Origin {
    /// Returns the origin of a file. `reading` is a string that describes how its lines are read.
    pub fn of(file: &str, reading: &str, store: String, prefix: &str) -> io::Result<Self> {
        let mut beginning = Vec::new();
        let opened = File::open(file)?;
        let meta = opened.metadata()?;
        opened.take(1 << 16).read_to_end(&mut beginning)?;
        Ok(Origin {
            size: meta.len(),
            modified: meta
                .modified()?
                .duration_since(UNIX_EPOCH)
                // A file from before 1970 is recognized by its other properties.
                .unwrap_or_default()
                .as_nanos(),
            beginning: crc32fast::hash(&beginning),
            reading: crc32fast::hash(reading.as_bytes()),
            store,
            prefix: prefix.to_owned(),
        })
    }

    /// Returns the checkpoint of an import that has not done anything yet.
    pub fn start(self) -> Checkpoint {
        Checkpoint {
            version: 2,
            origin: self,
            byte: 0,
            line: 0,
            part: 0,
            records: 0,
            skipped: 0,
            done: false,
            values: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// Describes what differs from another origin, for people.
    fn differs(&self, then: &Origin) -> Option<&'static str> {
        let bytes = |o: &Origin| (o.size, o.modified, o.beginning);
        if bytes(self) != bytes(then) {
            Some("the file has changed")
        } else if (&self.store, &self.prefix) != (&then.store, &then.prefix) {
            Some("it is of another store")
        } else if self.reading != then.reading {
            Some("it is of other columns or options")
        } else {
            None
        }
    }
}

/// The result of looking for a checkpoint to resume from.
#[derive(Debug)]
pub enum Found {
    Nothing,
    Valid(Checkpoint),
    /// A checkpoint that cannot be used, and why.
    Stale(String),
}

impl Sample {
    /// Whether the store has the bit, and its user has the same id.
    fn is_in(&self, tracker: &Tracker, prefix: &Prefix) -> anyhow::Result<bool> {
        let Some(key) = Key::parse(prefix, &self.key) else {
            return Ok(false);
        };
        Ok(
            tracker.contains(&Set::Key(key.kept_in(tracker.kept_in()?)), self.user)?
                && tracker.called(&[self.user])? == [self.id.as_str()],
        )
    }
}

impl Checkpoint {
    pub fn position(&self) -> Position {
        Position {
            byte: self.byte,
            line: self.line,
        }
    }

    /// Returns the path of the checkpoint of a file.
    pub fn path(file: &str) -> PathBuf {
        PathBuf::from(format!("{file}.cohortist-import"))
    }

    /// Looks for the checkpoint of a file, and checks whether it can be trusted.
    pub fn find(file: &str, origin: &Origin, tracker: &Tracker) -> anyhow::Result<Found> {
        let text = match fs::read(Checkpoint::path(file)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Ok(Found::Stale(format!("it cannot be read: {error}"))),
        };
        let Some(found) = serde_json::from_slice(&text)
            .ok()
            .filter(|found: &Checkpoint| found.version == 2)
        else {
            return Ok(Found::Stale("it is damaged".to_owned()));
        };
        if let Some(reason) = origin.differs(&found.origin) {
            return Ok(Found::Stale(reason.to_owned()));
        }
        let prefix = Prefix::new(&origin.prefix);
        for sample in &found.samples {
            if !sample.is_in(tracker, &prefix)? {
                return Ok(Found::Stale(
                    "the store does not have what was imported".to_owned(),
                ));
            }
        }
        Ok(Found::Valid(found))
    }

    /// Writes the checkpoint completely, or leaves the previous one.
    pub fn save(&self, file: &str) -> io::Result<()> {
        let path = Checkpoint::path(file);
        let mut next = path.clone().into_os_string();
        next.push(".new");
        let next = Path::new(&next);
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        private::write(next, text)
            .and_then(|()| fs::rename(next, &path))
            .inspect_err(|_| drop(fs::remove_file(next)))
    }

    /// Removes a checkpoint that is no longer needed.
    pub fn remove(file: &str) {
        // If it remains, it is used only for the same file, which is already imported.
        let _ = fs::remove_file(Checkpoint::path(file));
    }
}
