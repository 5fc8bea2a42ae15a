//! What can go wrong between a question and its answer.

use chrono::{DateTime, Utc};

use crate::calendar::{CalendarError, Period};
use crate::reports::QueryError;
use crate::sets::UserIdError;
use crate::store::StoreError;
use crate::tracker::ids::IdsError;
use crate::tracker::zone_error::ZoneError;

/// What can go wrong between a question and its answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A date is outside the supported years.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// A retention query cannot be answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The store is kept in another zone than was asked for.
    #[error(transparent)]
    Zone(#[from] ZoneError),
    /// A user id does not fit the store.
    #[error(transparent)]
    Ids(#[from] IdsError),
    /// Even the newest bitmap has expired, or all but the newest, after a long gap. So the clock may
    /// be wrong, or may have been.
    #[error(
        "nothing was deleted: {}. Is the clock right? It says {}",
        doubt(*newest, *gap_since),
        now.format("%Y-%m-%d %H:%M UTC")
    )]
    NewestIsOver {
        /// The period of the newest bitmap; of the first one after the gap if there is one.
        newest: Period,
        /// The last period before the gap.
        gap_since: Option<Period>,
        /// The time that was used as now.
        now: DateTime<Utc>,
    },
}

fn doubt(newest: Period, gap_since: Option<Period>) -> String {
    match gap_since {
        None => format!("even the newest bitmap, of {newest}, is old enough to go"),
        Some(before) => format!(
            "everything before {newest} is old enough to go, and nothing was marked between {before} and {newest}, so a wrong clock may have marked {newest}"
        ),
    }
}

/// A result of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<UserIdError> for Error {
    fn from(error: UserIdError) -> Self {
        Error::Ids(error.into())
    }
}
