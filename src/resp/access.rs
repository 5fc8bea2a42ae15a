//! What every command gets and returns, and how it reads its arguments.

use super::reply::Reply;
use super::request::number;
use crate::store::StoreError;
use crate::store::embedded::{ReadTxn, WriteTxn};

/// The longest name of a key, in bytes.
const LONGEST_NAME: usize = 64 << 10;

/// What a command can access of the store. It has no access to the store itself, because locking it
/// again, as between MULTI and EXEC, would be a deadlock.
pub(super) enum Access<'a, 'b> {
    None,
    Read(ReadTxn<'a>),
    Write(&'b mut WriteTxn<'a>),
}

/// Why a command was not executed.
pub(super) enum CommandError {
    /// The client made a mistake.
    Reply(Reply),
    /// The store failed.
    Store(StoreError),
}

pub(super) type CommandResult = Result<Reply, CommandError>;

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        CommandError::Store(error)
    }
}

impl From<Reply> for CommandError {
    fn from(reply: Reply) -> Self {
        CommandError::Reply(reply)
    }
}

impl<'a> Access<'a, '_> {
    pub fn read(&self) -> Result<ReadTxn<'_>, CommandError> {
        match self {
            // Prevented by the kind of the command.
            Access::None => Err(Reply::error("this command reads no bitmaps").into()),
            Access::Read(txn) => Ok(*txn),
            Access::Write(txn) => Ok(txn.read()),
        }
    }

    pub fn write(&mut self) -> Result<&mut WriteTxn<'a>, CommandError> {
        match self {
            Access::Write(txn) => Ok(txn),
            // Prevented by the kind of the command.
            Access::None | Access::Read(_) => {
                Err(Reply::error("this command writes no bitmaps").into())
            }
        }
    }
}

pub(super) fn syntax_error() -> CommandError {
    Reply::error("syntax error").into()
}

pub(super) fn integer(text: &[u8]) -> Result<i64, CommandError> {
    number(text).ok_or_else(|| Reply::error("value is not an integer or out of range").into())
}

pub(super) fn key(bytes: &[u8]) -> Result<&str, Reply> {
    if bytes.len() > LONGEST_NAME {
        return Err(Reply::error("the name of a key may be at most 64 KiB long"));
    }
    std::str::from_utf8(bytes).map_err(|_| Reply::error("the name of a key must be UTF-8"))
}

pub(super) fn keys(arguments: &[&[u8]]) -> Result<Vec<String>, Reply> {
    arguments
        .iter()
        .map(|bytes| key(bytes).map(str::to_owned))
        .collect()
}

/// A length or time as a signed number. A key that was copied may have an expiry beyond the maximum.
pub(super) fn saturating_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
