//! Changes that were made although a power cut may lose them.

use crate::store::StoreError;
use crate::tracker::error::{Error, Result};

/// What came of a change that was made.
///
/// A store that syncs each batch reports [`StoreError::Unsynced`] when the disk fails to: the
/// change is there, and a caller that treats it as a failure makes it twice. Everything that
/// reports a change to a user or a program goes through
/// [`Written::of`].
///
/// ```
/// use cohortist::Written;
/// use cohortist::store::StoreError;
/// let unsynced = StoreError::Unsynced { path: "/data".into(), reason: "the disk failed".into(), source: None };
/// let written = Written::of(Err::<u64, _>(unsynced)).unwrap();
/// assert!(written.answer.is_none() && written.warning.unwrap().contains("power cut"));
/// assert_eq!(Written::of(Ok::<_, StoreError>(3)).unwrap(), Written { answer: Some(3), warning: None });
/// assert!(Written::of(Err::<u64, _>(StoreError::Cancelled)).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a power cut may lose the change, and the user must be told"]
pub struct Written<T> {
    /// What the store answered. `None` when it could not sync the change.
    pub answer: Option<T>,
    /// What the user must know although the change was made.
    pub warning: Option<String>,
}

impl<T> Written<T> {
    /// Reads the result of a change.
    ///
    /// # Errors
    /// When the change was not made.
    pub fn of(result: Result<T, impl Into<Error>>) -> Result<Self> {
        match result.map_err(Into::into) {
            Ok(answer) => Ok(Written {
                answer: Some(answer),
                warning: None,
            }),
            Err(Error::Store(error @ StoreError::Unsynced { .. })) => Ok(Written {
                answer: None,
                warning: Some(error.to_string()),
            }),
            Err(error) => Err(error),
        }
    }
}
