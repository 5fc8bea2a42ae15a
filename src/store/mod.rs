//! Where bitmaps of users live. A [`Store`] answers a whole [`Plan`] at once, in its own best way,
//! and knows nothing of cohorts.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::sets::{Key, Plan, Prefix, Set, TooLarge, UserId};

pub mod budget;
mod cache;
mod cancel;
pub mod cost;
pub mod embedded;
mod health;
mod id_map;
mod padded_keys;
pub(crate) mod private;
pub mod redis;
mod unparsed_keys;

pub use cache::{CacheOptions, CacheStats, CachedStore};
pub use cancel::{Cancel, CancelOnDrop};
pub use cost::Cost;
pub use health::{FilesHealth, Health, Progress};
pub use id_map::IdMap;
pub use padded_keys::PaddedKeys;
pub use redis::redacted;
use unparsed_keys::{LeftOut, Listing};
pub use unparsed_keys::{OtherPrefixes, UnparsedKeys};

/// One bit to set or clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The bitmap.
    pub key: Key,
    /// The bit.
    pub user: UserId,
    /// Set it, or clear it.
    pub value: bool,
}

/// Bitmaps of users, somewhere. Every method is one batch: implementations decide how many trips it
/// takes.
pub trait Store: Send + Sync {
    /// Sets and clears bits, in order, all of them or none. When it returns `Ok` they are as
    /// durable as the store promises. Clearing a bit of a missing bitmap creates it, as Redis'
    /// SETBIT does.
    ///
    /// # Errors
    /// When nothing was written; with [`StoreError::Unsynced`] it was, and may be lost in a power
    /// cut.
    fn apply(&self, marks: &[Mark]) -> Result<()>;

    /// Puts users into bitmaps: all of them or none, and as durable, as with
    /// [`apply`](Self::apply). Quickest where each bitmap comes once, with its users in ascending
    /// order, each once.
    ///
    /// # Errors
    /// As of [`apply`](Self::apply).
    fn add(&self, runs: &[(&Key, &[UserId])]) -> Result<()> {
        self.apply(&marks(runs))
    }

    /// One count for each root of the plan, in order. A missing key is the empty set.
    ///
    /// # Errors
    /// When any of them could not be counted: never a smaller number instead.
    fn count(&self, plan: &Plan) -> Result<Vec<u64>>;

    /// As [`count`](Self::count), with how old the answer is. Stores that remember counts say how
    /// they take `freshness`.
    ///
    /// # Errors
    /// As there.
    fn counted(&self, plan: &Plan, freshness: Freshness) -> Result<Counted> {
        let _ = freshness;
        Ok(Counted {
            counts: self.count(plan)?,
            age: Duration::ZERO,
        })
    }

    /// What it would cost to count a plan, found out at a small part of that cost. Stores check it
    /// themselves before they take on a question, see [`cost`].
    ///
    /// # Errors
    /// When the store could not say.
    fn cost(&self, plan: &Plan) -> Result<Cost> {
        Ok(Cost::of(plan, |_| UNKNOWN_TILES))
    }

    /// Each bitmap as it is now. A store that is told of changes counts only what has changed.
    ///
    /// # Errors
    /// As of [`count`](Self::count).
    fn look(&self, keys: &[Key]) -> Result<Vec<Seen>> {
        Ok(seen(self.count(&bitmaps(keys))?))
    }

    /// How well counts are remembered; `None` where none are.
    fn recall(&self) -> Option<CacheStats> {
        None
    }

    /// Has `told` called for each bitmap that changes, through whichever handle, with the text of
    /// its key without prefix. The call and the change are one step to those that count: no count
    /// sees one without the other, and each call of
    /// [`count`](Self::count) and [`look`](Self::look) is of one moment. `told` must not call the store. Returns whether the
    /// store does this; one that cannot know of all changes drops `told`.
    fn on_change(&self, told: Box<dyn Fn(&str) + Send + Sync>) -> bool {
        drop(told);
        false
    }

    /// Members in ascending order, after `after`, at most `limit`.
    ///
    /// # Errors
    /// When the set could not be read.
    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>>;

    /// For each key whether `user` is in its bitmap.
    ///
    /// # Errors
    /// When a bitmap could not be read.
    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>>;

    /// The keys of all events whose name begins with `starting_with`, in no particular order.
    /// Temporary keys and keys that are nobody's events are left out.
    ///
    /// # Errors
    /// When they could not all be listed.
    fn keys(&self, starting_with: &str) -> Result<Vec<Key>>;

    /// A number that is another one after keys were made or deleted, so that a listing can be known
    /// to be as good as new. `None` where only listing them again would tell.
    fn keys_version(&self) -> Option<u64> {
        None
    }

    /// The keys under the prefix that are not bitmaps of events, as the last listing of all
    /// [`keys`](Self::keys) found them. None where a store cannot tell.
    fn strays(&self) -> UnparsedKeys {
        UnparsedKeys::default()
    }

    /// Under which other prefixes there are events, from a look at a bounded number of keys: for
    /// when there are none under this one. None where a store cannot tell.
    ///
    /// # Errors
    /// When no keys could be looked at.
    fn other_prefixes(&self) -> Result<OtherPrefixes> {
        Ok(OtherPrefixes::default())
    }

    /// For each key about how many bytes its bitmap takes where it is kept; `None` where nobody can
    /// tell.
    ///
    /// # Errors
    /// When the bitmaps could not be looked at.
    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        Ok(vec![None; keys.len()])
    }

    /// Deletes bitmaps; returns how many there were.
    ///
    /// # Errors
    /// When some may not have been deleted.
    fn delete(&self, keys: &[Key]) -> Result<u64>;

    /// Makes the bitmap `key`, which must not exist yet, hold exactly the members of `set`: all of
    /// them, or there is no such bitmap. Nothing is ever overwritten, whoever else saves or marks
    /// at the same time. How long the bitmap is beyond its greatest member, which only a complement
    /// could tell, is the store's affair.
    ///
    /// # Errors
    /// When it was not saved; when the answer of a server got lost on the way it may have been, and
    /// then whole. With
    /// [`StoreError::Unsynced`] it was saved, and may be lost in a power cut.
    fn save(&self, set: &Set, key: &Key) -> Result<Saved>;

    /// The texts that its users are called by, if they are.
    fn string_ids(&self) -> &dyn IdMap;

    /// The store as a space of named bitmaps, whatever their names mean; `None` where another
    /// server keeps them.
    fn keyspace(&self) -> Option<embedded::Keyspace> {
        None
    }

    /// Deletes temporary keys that an interrupted request may have left; returns how many there
    /// were.
    ///
    /// # Errors
    /// When some may not have been deleted.
    fn sweep(&self) -> Result<u64>;

    /// How much of what was written survives a power cut. What is written when a batch is
    /// acknowledged includes that batch. A store that another server keeps answers the default:
    /// nobody here can tell.
    fn progress(&self) -> Progress {
        Progress::default()
    }

    /// Makes everything acknowledged so far survive a power cut, as far as this process has it in
    /// hand.
    ///
    /// # Errors
    /// When the disk could not be made to keep it.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Whether the store can be written, and what its files cost. A store that another server keeps
    /// answers the default.
    fn health(&self) -> Health {
        Health::default()
    }

    /// What this store is, and that it answers.
    ///
    /// # Errors
    /// When it does not.
    fn describe(&self) -> Result<StoreInfo>;
}

/// How many tiles a bitmap is taken to have by a store that cannot tell: a million ids.
pub(crate) const UNKNOWN_TILES: u64 = 16;

/// How old counts may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// As remembered, of bitmaps that were looked at not long ago.
    #[default]
    Cached,
    /// As remembered, of bitmaps that are looked at again.
    Checked,
    /// All counted anew.
    Anew,
}

/// Counts, and how old they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// One for each root of the plan, in order.
    pub counts: Vec<u64>,
    /// How long ago the bitmaps were looked at that they are of, the first of them: what others
    /// marked since then may be missing.
    pub age: Duration,
}

/// A bitmap as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    /// How many users it has.
    pub users: u64,
    /// Another number after each change that the store was told of, also one that leaves as many
    /// users as before. Where nobody tells it is 0.
    pub state: u64,
}

/// What is seen by counting alone.
fn seen(counts: Vec<u64>) -> Vec<Seen> {
    counts
        .into_iter()
        .map(|users| Seen { users, state: 0 })
        .collect()
}

/// The plan that counts bitmaps, each as it is.
fn bitmaps(keys: &[Key]) -> Plan {
    let mut plan = Plan::new();
    keys.iter().for_each(|key| {
        plan.count_key(key);
    });
    plan
}

/// The marks that runs of users are.
fn marks(runs: &[(&Key, &[UserId])]) -> Vec<Mark> {
    let marks = runs.iter().flat_map(|(key, users)| {
        users.iter().map(|user| Mark {
            key: (*key).clone(),
            user: *user,
            value: true,
        })
    });
    marks.collect()
}

/// What came of [`Store::save`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "nothing may have been saved"]
pub enum Saved {
    /// The bitmap was made, and holds so many users: at least one.
    People(u64),
    /// Nobody is in the set, and nothing was made: an event that nobody did would stand in every
    /// list, take its name, and answer every question with 0.
    Nobody,
    /// There is something of that name already. It was left as it is.
    Taken,
}

/// What a store says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// What kind it is, for people: `Redis 7.0.15`, `embedded`.
    pub kind: String,
    /// Where it is, without any password; a path is absolute.
    pub location: String,
    /// What its keys begin with.
    pub prefix: Prefix,
    /// Whether it did not exist before this process opened it.
    pub created: bool,
    /// Things its operator should know, such as a log tail that was dropped at start.
    pub notes: Vec<String>,
    /// Whether its users are called by texts.
    pub string_ids: bool,
    /// Why it takes no writes at present; `None` when it does.
    pub refusal: Option<String>,
}

/// What went wrong in a store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The text of `--store` is none of the known forms.
    #[error(
        "`{0}` is not a store: give a path (./cohortist.db), memory:, redis://host:6379/0, rediss://… (TLS), redis+unix:///path/to/redis.sock or redis-cluster://host:6379,host:6379"
    )]
    Url(String),
    /// The store cannot be reached, or not in time. Trying again later may help.
    #[error("the store at {location} does not answer: {reason}")]
    Unreachable {
        /// Where, without any password.
        location: String,
        /// What was tried and what came back.
        reason: String,
    },
    /// The server answered with an error.
    #[error("the store at {location} refused: {reason}")]
    Refused {
        /// Where, without any password.
        location: String,
        /// The server's words, and what to do.
        reason: String,
    },
    /// A key is of another type than bitmaps. The next listing of the [`keys`](Store::keys) leaves
    /// out all such keys.
    #[error("the store at {location} refused: {reason}")]
    NotABitmap {
        /// Where, without any password.
        location: String,
        /// The key, the server's words, and what to do.
        reason: String,
    },
    /// A path that is no store, and must not be made one.
    #[error("{path} is not a cohortist store: {reason}")]
    NotAStore {
        /// The path.
        path: String,
        /// What is there instead.
        reason: String,
    },
    /// There is no store at the path, and none was to be made.
    #[error(
        "there is no store at {0}: fill one with `cohortist import`, `mark` or `demo`, or name yours with --store"
    )]
    Missing(String),
    /// Another process has the embedded store open.
    #[error("{0}")]
    Locked(String),
    /// The embedded store cannot be opened or made.
    #[error("cannot open a store at {path}: {reason}")]
    Open {
        /// The path.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// The disk is full or cannot be written; nothing of the batch was kept.
    #[error("cannot write to {path}: {reason}. Nothing of this batch was recorded")]
    Write {
        /// The file.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// The batch was recorded, but the disk could not be made to keep it (`sync=always`): a power
    /// cut may lose it.
    #[error("recorded, but not safe from a power cut: {path}: {reason}")]
    Unsynced {
        /// The directory.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// The question is bigger than what may be started on this thread, and was not started. See
    /// [`cost`].
    #[error("this question takes a turn of its own: it counts {} sets over {} user ids", .0.sets, .0.ids)]
    Costly(Cost),
    /// The sets of a question are too large to plan.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A backup could not be written, or is none.
    #[error("{path}: {reason}")]
    Backup {
        /// The backup.
        path: String,
        /// What is in the way.
        reason: String,
    },
    /// The request was given up, see [`Cancel`]. Nothing is wrong with the store.
    #[error("the request was cancelled before it was answered")]
    Cancelled,
    /// The embedded store's files cannot be read as such.
    #[error(
        "{path} is damaged: {reason}. Restore a backup with `cohortist restore`, or open what is left with --accept-loss"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What was found.
        reason: String,
    },
}

impl StoreError {
    /// What is wrong with a file of an embedded store.
    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        StoreError::Damaged {
            path: path.display().to_string(),
            reason: reason.to_string(),
        }
    }

    /// Why a file of an embedded store cannot be written.
    pub(crate) fn write(path: &Path, error: &io::Error) -> Self {
        StoreError::Write {
            path: path.display().to_string(),
            reason: error.to_string(),
        }
    }
}

/// A result of a store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// What every key begins with.
    pub prefix: Prefix,
    /// Whether an embedded store is made where there is none.
    pub create: bool,
    /// Whether an embedded store that is damaged is opened with what is left of it. What is lost is
    /// recorded in the store.
    pub accept_loss: bool,
    /// When the embedded store's log is forced to disk.
    pub durability: Durability,
    /// The embedded store writes a checkpoint when more than this has changed, in bytes of memory
    /// or of log.
    pub checkpoint_bytes: u64,
    /// The most memory the embedded store's cache of bitmaps may take, in bytes.
    pub cache_bytes: u64,
    /// How long Redis may take to accept a connection or to answer one pipeline.
    pub timeout: Duration,
    /// How many connections to Redis may be open at once, beside one that is told which bitmaps
    /// have changed.
    pub connections: u32,
    /// Who counts what is in Redis.
    pub redis_eval: RedisEval,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            prefix: Prefix::default(),
            create: true,
            accept_loss: false,
            durability: Durability::EverySecond,
            checkpoint_bytes: 64 << 20,
            cache_bytes: 1 << 30,
            timeout: Duration::from_millis(2500),
            connections: 8,
            redis_eval: RedisEval::Auto,
        }
    }
}

/// Who works out unions, intersections and so on of bitmaps in Redis. All ways come to the same
/// numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisEval {
    /// For each question whichever is cheaper; this process where the server takes no writes.
    Auto,
    /// The server, into temporary keys.
    Server,
    /// This process, of the parts of bitmaps that it needs and fetches; nothing is written for a
    /// question.
    Fetch,
}

/// When marks in the embedded store's log are forced to disk. Either way they survive the end of
/// the process, however sudden; this is about the machine losing power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once a second: a power cut may lose the last second.
    EverySecond,
    /// Before each batch is acknowledged.
    Always,
}

impl fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// Opens the store that `text` names: a path, `memory:`, `redis://…`, `rediss://…`,
/// `redis+unix:///…` or `redis-cluster://…`.
///
/// # Errors
/// When the text is none of these, or the embedded store cannot be opened. A Redis that is away is
/// no error here: each request tries anew.
pub fn open(text: &str, options: &Options) -> Result<Arc<dyn Store>> {
    let store: Arc<dyn Store> = match Place::parse(text)? {
        Place::Memory => Arc::new(embedded::EmbeddedStore::in_memory(options)),
        Place::Redis => Arc::new(redis::RedisStore::new(text, options)?),
        Place::Cluster => Arc::new(redis::ClusterStore::new(text, options)?),
        Place::Directory(path) => Arc::new(embedded::EmbeddedStore::open(path, options)?),
    };
    Ok(Arc::new(PaddedKeys::new(store)))
}

/// What kind of place the text of `--store` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// `memory:`
    Memory,
    /// The URL of a Redis.
    Redis,
    /// The URLs of nodes of a cluster.
    Cluster,
    /// Any other path.
    Directory(&'a Path),
}

impl<'a> Place<'a> {
    /// Tells the kind. Slips are refused: `redis:localhost`, `http://…`, `localhost:6379`,
    /// `memory`; a path of such a name is written `./memory`.
    ///
    /// # Errors
    /// [`StoreError::Url`], without any password, when the text names no store.
    pub fn parse(text: &'a str) -> Result<Self> {
        const SCHEMES: [&str; 6] = ["redis", "rediss", "redis+unix", "unix", "valkey", "valkeys"];
        const OF_CLUSTERS: [&str; 4] = [
            "redis-cluster",
            "rediss-cluster",
            "valkey-cluster",
            "valkeys-cluster",
        ];
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Place::Memory),
            Some((scheme, rest)) if SCHEMES.contains(&scheme) && rest.starts_with("//") => {
                Ok(Place::Redis)
            }
            Some((scheme, rest)) if OF_CLUSTERS.contains(&scheme) && rest.starts_with("//") => {
                Ok(Place::Cluster)
            }
            Some((scheme, rest))
                if rest.starts_with("//")
                    || scheme == "memory"
                    || [&SCHEMES[..], &OF_CLUSTERS].concat().contains(&scheme) =>
            {
                Err(StoreError::Url(redacted(text)))
            }
            _ if text.is_empty() || text == "memory" || is_host_and_port(text) => {
                Err(StoreError::Url(redacted(text)))
            }
            _ => Ok(Place::Directory(Path::new(text))),
        }
    }
}

fn is_host_and_port(text: &str) -> bool {
    let parts = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty() && !host.contains(['/', '\\']));
    parts.is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}
