//! The kinds of user ids: numbers, or strings that are mapped to numbers. A store has one kind only.

use crate::sets::UserIdError;

/// The kind of user ids of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// Whole numbers, which are the positions of the bits, as in bitmapist.
    Numbers,
    /// Strings. Each is mapped to a number, in order of first appearance.
    Strings,
}

/// Why a user id does not fit a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdsError {
    /// Numeric ids were requested for a store with string ids.
    #[error(
        "the users of this store are called by text ids, and numbers cannot be mixed with them: leave --ids away"
    )]
    HasStrings,
    /// String ids were requested for a store with numeric ids.
    #[error(
        "the users of this store are numbers already, and text ids cannot be mixed with them: take a new store, or other keys in this one with --prefix"
    )]
    HasNumbers,
    /// The text is not a valid id.
    #[error(transparent)]
    Malformed(#[from] UserIdError),
}
