//! Texts in the place of numbers: who is called what.

use crate::sets::UserId;
use crate::store::Result;

/// The texts that users of a store are called by, under its prefix: each has a number, from 0 on, first come first
/// served, for good. A store whose users are numbers has none.
///
/// Nothing here looks at a text twice; what may be one, [`user_text`](crate::sets::user_text) says.
pub trait TextIds: Send + Sync {
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

    /// For each text its number, a new one where it has none yet: when this returns they are as durable as marks are, and
    /// whoever else asks for the same text gets the same number.
    ///
    /// # Errors
    /// When some have no number; others may have got one, which does no harm.
    fn enroll(&self, texts: &[&str]) -> Result<Vec<UserId>>;

    /// For each number its text; `None` for one that was given to nobody, and nothing at all as long as there was no text.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn texts(&self, users: &[UserId]) -> Result<Option<Vec<Option<String>>>>;

    /// Forgets all texts; says how many numbers had been given. Whoever goes on marking with old numbers marks somebody
    /// else: this is for stores that are emptied.
    ///
    /// # Errors
    /// When some may still be there.
    fn forget(&self) -> Result<u64>;
}
