//! Texts in the place of numbers: who is called what.

use crate::sets::UserId;
use crate::store::Result;

/// The texts that users of a store are called by, under its prefix: each has a number, from 0 on,
/// first come first served, for good. A store whose users are numbers has none.
///
/// Nothing here looks at a text twice; what may be one, [`user_text`](crate::sets::user_text) says.
pub trait IdMap: Send + Sync {
    /// The number the next new text gets; `None` as long as there was none.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn next(&self) -> Result<Option<u64>>;

    /// For each text its number, if it has one; nothing at all as long as there was no text.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn numbers(&self, texts: &[&str]) -> Result<Option<Vec<Option<UserId>>>>;

    /// Settles that users are numbers: while this process marks, no text can be the first. Whether
    /// that is so; not where there are texts already. Settling and [`begin`](Self::begin) are one
    /// step each, so that of two programs that begin to fill a store one is refused.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn settle_numbers(&self) -> Result<bool>;

    /// Lets texts begin, before the first of them gets a number. Whether they may: not where
    /// numbers are settled. A store that other programs mark with numbers may refuse them only when
    /// its bitmaps are listed afterwards.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn begin(&self) -> Result<bool>;

    /// Takes back [`begin`](Self::begin) if no text has a number yet.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn withdraw(&self) -> Result<()>;

    /// For each text its number, a new one where it has none yet: when this returns they are as
    /// durable as marks are, and whoever else asks for the same text gets the same number.
    ///
    /// # Errors
    /// When some have no number; others may have got one, which does no harm.
    fn assign(&self, texts: &[&str]) -> Result<Vec<UserId>>;

    /// For each number its text; `None` for one that was given to nobody, and nothing at all as
    /// long as there was no text.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn texts(&self, users: &[UserId]) -> Result<Option<Vec<Option<String>>>>;

    /// Forgets all texts; says how many numbers had been given. Whoever goes on marking with old
    /// numbers marks somebody else: this is for stores that are emptied.
    ///
    /// # Errors
    /// When some may still be there.
    fn forget(&self) -> Result<u64>;
}
