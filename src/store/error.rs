//! What can go wrong in a store.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::sets::{TooLarge, UserId, WrongCount};
use crate::store::cost::Cost;

/// What went wrong in a store.
///
/// The message of an error includes that of its source. Errors of servers have no source: theirs
/// may contain a password.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The text of `--store` has none of the known forms.
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
    /// The store did not answer, or not in time. Trying again later may help.
    #[error("the store at {location} does not answer: {reason}")]
    Unreachable {
        /// Where it is, without any password.
        location: String,
        /// What was tried and what came back.
        reason: String,
    },
    /// The server answered with an error.
    #[error("the store at {location} refused: {reason}")]
    Refused {
        /// Where it is, without any password.
        location: String,
        /// The server's message, and what to do.
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
    /// A user is far beyond all others, so that each of its bitmaps in Redis would be large and
    /// almost empty. Nothing of the batch was recorded.
    #[error(
        "user {user} is far beyond the others, which reach {others}: each bitmap of this user would take {} MB in Redis. Create a store with --ids map, which gives users numbers without gaps, or pass --allow-sparse", user / 8 / 1_000_000
    )]
    Sparse {
        /// The user.
        user: UserId,
        /// The greatest other user, approximately.
        others: u64,
    },
    /// The path holds something else than a store.
    #[error("{path} is not a cohortist store: {reason}")]
    NotAStore {
        /// The path.
        path: String,
        /// What is there instead.
        reason: String,
    },
    /// There is no store at the path, and none was to be created.
    #[error(
        "there is no store at {0}: fill one with `cohortist import`, `mark` or `demo`, or name yours with --store"
    )]
    Missing(String),
    /// Another process has the embedded store open.
    #[error("{0}")]
    Locked(String),
    /// The embedded store could not be opened or created.
    #[error("cannot open a store at {path}: {reason}")]
    Open {
        /// The path.
        path: String,
        /// What failed, and what to do.
        reason: String,
        /// The error of the system, if there is one.
        source: Option<Arc<io::Error>>,
    },
    /// The disk is full or cannot be written. Nothing of the batch was recorded.
    #[error("cannot write to {path}: {reason}. Nothing of this batch was recorded")]
    Write {
        /// The file.
        path: String,
        /// What failed.
        reason: String,
        /// The error of the system, if there is one.
        source: Option<Arc<io::Error>>,
    },
    /// The batch was recorded, but could not be synced to disk (`sync=always`): a power cut may
    /// lose it.
    #[error("recorded, but not safe from a power cut: {path}: {reason}")]
    Unsynced {
        /// The directory.
        path: String,
        /// What failed.
        reason: String,
        /// The error of the system, if there is one.
        source: Option<Arc<io::Error>>,
    },
    /// The question costs more than the limit of this thread, and was not started. See
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
    /// A backup could not be written, or the file is not a backup.
    #[error("{path}: {reason}")]
    Backup {
        /// The backup.
        path: String,
        /// What failed.
        reason: String,
        /// The error of the system, if there is one.
        source: Option<Arc<io::Error>>,
    },
    /// The request was cancelled, see [`Cancel`](crate::store::Cancel). Nothing is wrong with the
    /// store.
    #[error("the request was cancelled before it was answered")]
    Cancelled,
    /// A file of an embedded store is damaged.
    #[error(
        "{path} is damaged: {reason}. Restore a backup with `cohortist restore`, or open what is left with --accept-loss"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What was found.
        reason: String,
        /// The error of the system, if there is one.
        source: Option<Arc<io::Error>>,
    },
}

impl StoreError {
    /// Reports what is wrong with a file of an embedded store.
    pub(crate) fn damaged(path: &Path, reason: impl ToString) -> Self {
        StoreError::Damaged {
            path: path.display().to_string(),
            reason: reason.to_string(),
            source: None,
        }
    }

    /// Reports a file of an embedded store that the system does not let us read.
    pub(crate) fn unreadable(path: &Path, error: io::Error) -> Self {
        StoreError::Damaged {
            path: path.display().to_string(),
            reason: format!("it cannot be read: {error}"),
            source: Some(Arc::new(error)),
        }
    }

    /// Reports that a file of an embedded store could not be written.
    pub(crate) fn write(path: &Path, error: &io::Error) -> Self {
        StoreError::Write {
            path: path.display().to_string(),
            reason: error.to_string(),
            source: Some(shared(error)),
        }
    }

    /// Reports a backup that could not be written or read.
    pub(crate) fn backup(path: &Path, error: io::Error) -> Self {
        StoreError::Backup {
            path: path.display().to_string(),
            reason: error.to_string(),
            source: Some(Arc::new(error)),
        }
    }
}

/// The same error once more. Unlike [`StoreError`], an error of the system cannot be cloned.
pub(crate) fn shared(error: &io::Error) -> Arc<io::Error> {
    Arc::new(match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    })
}

/// A result of a store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn an_error_of_the_system_is_the_source() {
        let full = io::Error::from_raw_os_error(28);
        let error = StoreError::write(Path::new("/data/log-1"), &full).clone();
        let source: &Arc<io::Error> = error.source().unwrap().downcast_ref().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains(&full.to_string()));
        let own = shared(&io::Error::new(io::ErrorKind::InvalidData, "not whole"));
        assert_eq!(
            (own.kind(), own.to_string().as_str()),
            (io::ErrorKind::InvalidData, "not whole")
        );
    }
}
