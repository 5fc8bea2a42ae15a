//! Why a store is not kept in a zone.

use crate::calendar::Zone;

/// Why a store is not kept in a zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// The store is kept in another zone.
    #[error(
        "this store is kept in {kept}, and periods in {asked} cannot be mixed with them: set kept_in = \"{kept}\" or leave it away, or take a new store, or another prefix"
    )]
    Other {
        /// The zone of the store.
        kept: Zone,
        /// The zone that was asked for.
        asked: Zone,
    },
    /// The store has marks in UTC.
    #[error(
        "this store has marks in UTC, and periods in {asked} cannot be mixed with them: leave kept_in away, or take a new store, or another prefix"
    )]
    HasMarks {
        /// The zone that was asked for.
        asked: Zone,
    },
    /// The store is kept in a zone that is unknown here.
    #[error("this store is kept in `{0}`, a time zone that this version does not know: update it")]
    Unknown(String),
}
