//! Replies to clients, in both versions of the protocol.

use std::io::{self, Write};

use crate::store::Snapshot;

/// The version of the protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, with which every connection starts.
    Two,
    /// RESP3, after HELLO 3.
    Three,
}

/// A reply.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A short text without line breaks, such as `+OK`, `+PONG` or `+QUEUED`.
    Simple(&'static str),
    /// An error that starts with its code: `ERR …`. Line breaks become spaces.
    Error(String),
    /// An integer.
    Number(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// A text for people.
    Text(String),
    /// The bytes of a bitmap from the first to the last index, both included. They are written
    /// piece by piece and are never all in memory.
    Bitmap(Snapshot, u64, u64),
    /// Null: there is no such key.
    Null,
    /// A list of replies.
    Array(Vec<Reply>),
    /// Names with values.
    Map(Vec<(&'static str, Reply)>),
}

impl Reply {
    /// `+OK`
    pub const OK: Reply = Reply::Simple("OK");

    /// An error with the code `ERR`.
    pub fn error(message: impl AsRef<str>) -> Reply {
        Reply::Error(format!("ERR {}", message.as_ref()))
    }

    /// A count.
    pub fn count(number: u64) -> Reply {
        Reply::Number(i64::try_from(number).expect("counts are far below 2⁶³"))
    }

    /// A string of bytes.
    pub fn bulk(text: impl Into<Vec<u8>>) -> Reply {
        Reply::Bulk(text.into())
    }

    /// Writes the reply to a client.
    ///
    /// # Errors
    /// Returns an error if the connection is closed.
    pub fn write(&self, protocol: Protocol, out: &mut impl Write) -> io::Result<()> {
        match self {
            Reply::Simple(text) => write!(out, "+{text}\r\n"),
            Reply::Error(text) => write!(out, "-{}\r\n", text.replace(['\r', '\n'], " ")),
            Reply::Number(number) => write!(out, ":{number}\r\n"),
            Reply::Bulk(bytes) => {
                write!(out, "${}\r\n", bytes.len())?;
                out.write_all(bytes)?;
                out.write_all(b"\r\n")
            }
            Reply::Text(text) if protocol == Protocol::Three => {
                write!(out, "={}\r\ntxt:{text}\r\n", text.len() + 4)
            }
            Reply::Text(text) => write!(out, "${}\r\n{text}\r\n", text.len()),
            Reply::Bitmap(bitmap, first, last) => {
                write!(out, "${}\r\n", (last + 1).saturating_sub(*first))?;
                bitmap.bytes(*first, *last, |piece| out.write_all(piece))?;
                out.write_all(b"\r\n")
            }
            Reply::Null if protocol == Protocol::Three => out.write_all(b"_\r\n"),
            Reply::Null => out.write_all(b"$-1\r\n"),
            Reply::Array(replies) => {
                write!(out, "*{}\r\n", replies.len())?;
                replies
                    .iter()
                    .try_for_each(|reply| reply.write(protocol, out))
            }
            Reply::Map(pairs) => {
                let (sign, len) = if protocol == Protocol::Three {
                    ('%', pairs.len())
                } else {
                    ('*', pairs.len() * 2)
                };
                write!(out, "{sign}{len}\r\n")?;
                pairs.iter().try_for_each(|(name, reply)| {
                    write!(out, "${}\r\n{name}\r\n", name.len())?;
                    reply.write(protocol, out)
                })
            }
        }
    }
}

/// A bit, as 0 or 1.
impl From<bool> for Reply {
    fn from(bit: bool) -> Self {
        Reply::Number(i64::from(bit))
    }
}
