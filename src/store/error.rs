//! What can go wrong in a store.

use std::io;
use std::path::Path;

use crate::sets::{TooLarge, WrongCount};
use crate::store::cost::Cost;

/// What went wrong in a store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The text of `--store` is none of the known forms.
    #[error(
        "`{0}` is not a store: give a path (./cohortist.db), memory:, redis://host:6379/0, rediss://… (TLS), redis+unix:///path/to/redis.sock or redis-cluster://host:6379,host:6379"
    )]
    Url(String),
    /// The crate was built without the Cargo feature for this kind of store.
    #[error(
        "cannot open {location}: this build does not support it. Enable the feature `{feature}` of the crate cohortist"
    )]
    FeatureDisabled {
        /// Where, without any password.
        location: String,
        /// The feature to enable.
        feature: &'static str,
    },
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
    /// A key is of another type than bitmaps. The next listing of the
    /// [`keys`](crate::store::KeyListing::keys) leaves out all such keys.
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
    /// [`cost`](crate::store::cost).
    #[error("this question takes a turn of its own: it counts {} sets over {} user ids", .0.sets, .0.ids)]
    Costly(Cost),
    /// The sets of a question are too large to plan.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The store does not support this kind of question or change.
    #[error("this store does not support {0}")]
    Unsupported(&'static str),
    /// The store returned more or fewer values than it was asked for: a bug in the store.
    #[error(transparent)]
    WrongCount(#[from] WrongCount),
    /// A backup could not be written, or is none.
    #[error("{path}: {reason}")]
    Backup {
        /// The backup.
        path: String,
        /// What is in the way.
        reason: String,
    },
    /// The request was given up, see [`Cancel`](crate::store::Cancel). Nothing is wrong with the store.
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
