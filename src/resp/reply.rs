//! What clients are answered, in either version of the protocol.

use std::io::{self, Write};

use crate::store::Snapshot;

/// The version of the protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, which every client begins with.
    Two,
    /// RESP3, after HELLO 3.
    Three,
}

/// An answer.
#[derive(Debug, Clone)]
pub enum Reply {
    /// `+OK`, `+PONG`, `+QUEUED`
    Simple(&'static str),
    /// An error, with its code: `ERR …`. Line breaks become blanks.
    Error(String),
    /// A number.
    Number(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// A text for people.
    Text(String),
    /// The bytes of a bitmap from the first to the last given, both included, written without being
    /// held together.
    Bitmap(Snapshot, u64, u64),
    /// There is no such key.
    Nothing,
    /// Several.
    Array(Vec<Reply>),
    /// Names and what they are.
    Map(Vec<(&'static str, Reply)>),
}

impl Reply {
    /// `+OK`
    pub const OK: Reply = Reply::Simple("OK");

    /// An error of the usual kind.
    pub fn error(words: impl AsRef<str>) -> Reply {
        Reply::Error(format!("ERR {}", words.as_ref()))
    }

    /// A count.
    pub fn count(number: u64) -> Reply {
        Reply::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// A text without anything special about it.
    pub fn bulk(text: impl Into<Vec<u8>>) -> Reply {
        Reply::Bulk(text.into())
    }

    /// Writes it.
    ///
    /// # Errors
    /// When nobody reads it any more.
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
            Reply::Nothing if protocol == Protocol::Three => out.write_all(b"_\r\n"),
            Reply::Nothing => out.write_all(b"$-1\r\n"),
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
