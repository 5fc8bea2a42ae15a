//! What commands share: what they can reach of the store, how they fail, and how they read their
//! arguments.

use crate::resp::reply::Reply;
use crate::resp::request::number;
use crate::store::StoreError;
use crate::store::embedded::{ReadTxn, WriteTxn};

/// The longest name of a key, in bytes.
const KEY: usize = 64 << 10;

/// All that a command can reach of the store. It has no access to the store itself: asking it again
/// while its lock is held, as between MULTI and EXEC, would wait for ever.
pub(super) enum Data<'a, 'b> {
    Nothing,
    ReadTxn(ReadTxn<'a>),
    WriteTxn(&'b mut WriteTxn<'a>),
}

/// Why a command was not carried out.
pub(super) enum Fail {
    /// The client made a mistake.
    Answer(Reply),
    /// The store failed.
    Store(StoreError),
}

pub(super) type Answer = Result<Reply, Fail>;

impl From<StoreError> for Fail {
    fn from(error: StoreError) -> Self {
        Fail::Store(error)
    }
}

impl From<Reply> for Fail {
    fn from(reply: Reply) -> Self {
        Fail::Answer(reply)
    }
}

impl<'a> Data<'a, '_> {
    pub fn look(&self) -> Result<ReadTxn<'_>, Fail> {
        match self {
            // Every command that reads bitmaps is of a kind that gets them.
            Data::Nothing => Err(Reply::error("this command reads no bitmaps").into()),
            Data::ReadTxn(look) => Ok(*look),
            Data::WriteTxn(space) => Ok(space.read()),
        }
    }

    pub fn space(&mut self) -> Result<&mut WriteTxn<'a>, Fail> {
        match self {
            Data::WriteTxn(space) => Ok(space),
            // Every command that changes something is of a kind that gets a space.
            Data::Nothing | Data::ReadTxn(_) => {
                Err(Reply::error("this command changes no bitmaps").into())
            }
        }
    }
}

pub(super) fn syntax() -> Fail {
    Reply::error("syntax error").into()
}

pub(super) fn integer(text: &[u8]) -> Result<i64, Fail> {
    number(text).ok_or_else(|| Reply::error("value is not an integer or out of range").into())
}

pub(super) fn key(bytes: &[u8]) -> Result<&str, Reply> {
    if bytes.len() > KEY {
        return Err(Reply::error("the name of a key may be at most 64 KiB long"));
    }
    std::str::from_utf8(bytes).map_err(|_| Reply::error("the name of a key must be UTF-8"))
}

pub(super) fn keys_of(arguments: &[&[u8]]) -> Result<Vec<String>, Reply> {
    arguments
        .iter()
        .map(|bytes| key(bytes).map(str::to_owned))
        .collect()
}

pub(super) fn signed(len: u64) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}
