//! All keys of a Redis database, of any type and origin: what is needed to move a whole database.

use std::collections::BTreeSet;
use std::time::Duration;

use ::redis::{Cmd, Value, cmd};

use crate::bitmap::TILE_BYTES;
use crate::store::redis::capabilities::{Capabilities, is_unknown};
use crate::store::redis::connection::{
    Batch, RedisConnection, Reply, accept, integer, last, natural, unexpected,
};
use crate::store::redis::scan;
use crate::store::redis::server_eval::{Scratch, expiry, time_for};
use crate::store::redis::store::RedisStore;
use crate::store::{Options, Result, Snapshot};

/// How many bytes of a string are read or written at once: a whole number of tiles.
const PIECE: u64 = 128 * TILE_BYTES;

/// How many times longer a dump may take than counting the bits: it is packed, sent and unpacked.
const DUMP_EFFORT: u64 = 20;

/// One database of a Redis server.
pub struct Server(RedisStore);

/// What a key was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// `string`, `hash`, …; `none` if the key does not exist.
    pub name: String,
    /// About how many bytes its value takes; 0 if the server cannot report it.
    pub bytes: u64,
    /// In how many milliseconds it expires; never if `None`.
    pub lifetime: Option<u64>,
}

/// A key's value as Redis serializes it (DUMP).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dump {
    /// The serialized value, with a format version and a checksum.
    Payload(Vec<u8>),
    /// The key does not exist.
    Gone,
    /// The server does not support DUMP.
    Unknown,
}

/// The outcome of creating a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the key may not have been created"]
pub enum Made {
    /// The key was created with its whole value.
    New,
    /// A key of that name exists and was left unchanged.
    Taken,
    /// The server cannot read the serialized value; its error message.
    Unreadable(String),
}

/// A key to create from a serialized value: its name, the value, and in how many milliseconds it
/// expires.
pub type Written<'a> = (&'a [u8], &'a [u8], Option<u64>);

/// A bitmap to create: its name, its bits, and in how many milliseconds it expires.
pub type Bits<'a> = (&'a [u8], Snapshot, Option<u64>);

fn shown(name: &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(name).into_owned())
}

impl Server {
    /// The database at a URL. Does not connect yet.
    ///
    /// # Errors
    /// If the URL is invalid.
    pub fn new(url: &str, options: &Options) -> Result<Self> {
        Ok(Server(RedisStore::new(url, options)?))
    }

    /// The names of all keys, each once.
    ///
    /// # Errors
    /// If any of them could not be listed.
    pub fn names(&self) -> Result<BTreeSet<Vec<u8>>> {
        self.0.with(|conn, capabilities| {
            let mut found = BTreeSet::new();
            scan::each(conn, capabilities, "*", &mut |name| {
                found.insert(name);
            })?;
            Ok(found)
        })
    }

    /// The type, size and expiry of each key.
    ///
    /// # Errors
    /// If any key could not be read.
    pub fn kinds(&self, names: &[&[u8]]) -> Result<Vec<Kind>> {
        self.0.with(|conn, _| {
            let mut batch = Batch::default();
            for name in names {
                batch.push(cmd("TYPE").arg(name));
                batch.push(cmd("PTTL").arg(name));
                batch.push(cmd("STRLEN").arg(name));
                batch.push(cmd("MEMORY").arg("USAGE").arg(name));
            }
            let replies = conn.trip(&batch)?;
            let read = names
                .iter()
                .zip(replies.chunks_exact(4))
                .map(|(name, replies)| {
                    let kind = match accept(replies[0].clone(), shown(name))? {
                        Value::SimpleString(kind) => kind,
                        Value::BulkString(kind) => String::from_utf8_lossy(&kind).into_owned(),
                        other => return Err(unexpected("TYPE", &other)),
                    };
                    let left = integer("PTTL", &accept(replies[1].clone(), shown(name))?)?;
                    // Each of the two commands may fail, for another type or because it is unknown.
                    // Then the other one gives the size.
                    let size = |reply: &Value| {
                        if let Value::Int(bytes) = reply {
                            u64::try_from(*bytes).unwrap_or(0)
                        } else {
                            0
                        }
                    };
                    let bytes = if kind == "string" {
                        size(&replies[2])
                    } else {
                        size(&replies[3])
                    };
                    Ok(Kind {
                        name: kind,
                        bytes,
                        lifetime: u64::try_from(left).ok(),
                    })
                });
            read.collect()
        })
    }

    /// The serialized values of keys. `bytes` is about their total size.
    ///
    /// # Errors
    /// If any could not be read.
    pub fn dumps(&self, names: &[&[u8]], bytes: u64) -> Result<Vec<Dump>> {
        self.0.with(|conn, _| {
            let mut batch = Batch::default();
            names
                .iter()
                .for_each(|name| batch.push(cmd("DUMP").arg(name)));
            let replies = conn.trip_within(&batch, dump_time(conn, bytes))?;
            let read = names.iter().zip(replies).map(|(name, reply)| match reply {
                Value::BulkString(payload) => Ok(Dump::Payload(payload)),
                Value::Nil => Ok(Dump::Gone),
                reply if is_unknown(&reply) => Ok(Dump::Unknown),
                reply => Err(unexpected("DUMP", &accept(reply, shown(name))?)),
            });
            read.collect()
        })
    }

    /// Creates keys from serialized values; `replace` overwrites existing keys. `bytes` is about
    /// the total size of the values unpacked: a bitmap of half a gigabyte may travel as a few
    /// megabytes.
    ///
    /// # Errors
    /// If the server failed, for example because it is out of memory. Earlier keys may have been
    /// created.
    pub fn restore(&self, keys: &[Written<'_>], bytes: u64, replace: bool) -> Result<Vec<Made>> {
        self.0.with(|conn, _| {
            let mut batch = Batch::default();
            for (name, payload, lifetime) in keys {
                let mut command = cmd("RESTORE");
                // RESTORE takes 0 as no expiry.
                command
                    .arg(name)
                    .arg(lifetime.map_or(0, |left| left.max(1)))
                    .arg(payload);
                if replace {
                    command.arg("REPLACE");
                }
                batch.push(&command);
            }
            let replies = conn.trip_within(&batch, dump_time(conn, bytes))?;
            let made = keys
                .iter()
                .zip(replies)
                .map(|((name, ..), reply)| match reply {
                    Value::ServerError(error) if error.code() == "BUSYKEY" => Ok(Made::Taken),
                    Value::ServerError(error)
                        if error.details().is_some_and(|d| {
                            d.contains("DUMP payload") || d.contains("Bad data format")
                        }) =>
                    {
                        Ok(Made::Unreadable(
                            error.details().unwrap_or_default().to_owned(),
                        ))
                    }
                    reply if is_unknown(&reply) => Ok(Made::Unreadable(
                        "the server does not support RESTORE".to_owned(),
                    )),
                    reply => accept(reply, shown(name)).map(|_| Made::New),
                });
            made.collect()
        })
    }

    /// Whether a key has the same value on two servers, by reading all of it (of a stream only the
    /// entries, not its consumer groups); `None` for types that only the server itself can read.
    ///
    /// # Errors
    /// If either could not be read.
    pub fn same(&self, other: &Server, name: &[u8], kind: &Kind) -> Result<Option<bool>> {
        if kind.name == "string" {
            return Ok(Some(self.bitmap(name)?.same(&other.bitmap(name)?)));
        }
        let (command, arguments): (&str, &[&str]) = match kind.name.as_str() {
            "list" => ("LRANGE", &["0", "-1"]),
            "set" => ("SMEMBERS", &[]),
            "hash" => ("HGETALL", &[]),
            "zset" => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
            "stream" => ("XRANGE", &["-", "+"]),
            _ => return Ok(None),
        };
        let batch = Batch::of([&*cmd(command).arg(name).arg(arguments)]);
        let read = |server: &Server| {
            server.0.with(|conn, _| {
                let reply = last(&mut conn.trip_within(&batch, dump_time(conn, kind.bytes))?);
                Ok(in_order(&kind.name, accept(reply, shown(name))?))
            })
        };
        Ok(Some(read(self)? == read(other)?))
    }

    /// Reads strings as bitmaps, each given with about how many bytes it has; the short ones in one
    /// trip. `None` for a key that was deleted meanwhile. A string that changes meanwhile may be
    /// read partly in its old state.
    ///
    /// # Errors
    /// If any could not be read or is not a string.
    pub fn bitmaps(&self, names: &[(&[u8], u64)]) -> Result<Vec<Option<Snapshot>>> {
        let short = |bytes: u64| bytes <= PIECE;
        let read =
            self.0.with(|conn, _| {
                let mut batch = Batch::default();
                let asked: Vec<&[u8]> = names
                    .iter()
                    .filter(|(_, bytes)| short(*bytes))
                    .map(|(name, _)| *name)
                    .collect();
                asked
                    .iter()
                    .for_each(|name| batch.push(cmd("GET").arg(name)));
                let bytes = names
                    .iter()
                    .map(|(_, bytes)| *bytes)
                    .filter(|bytes| short(*bytes))
                    .sum();
                let replies = conn.trip_within(&batch, dump_time(conn, bytes))?;
                let read = asked.iter().zip(replies).map(|(name, reply)| {
                    match accept(reply, shown(name))? {
                        Value::Nil => Ok(None),
                        reply => Ok(Some(bitmap_of(&text(reply)?))),
                    }
                });
                read.collect::<Reply<Vec<_>>>()
            })?;
        let mut read = read.into_iter();
        let bitmaps =
            names.iter().map(
                |(name, bytes)| match short(*bytes).then(|| read.next()).flatten() {
                    Some(bitmap) => Ok(bitmap),
                    // A long one. If it has no bytes now, the key is gone.
                    None => self
                        .bitmap(name)
                        .map(|bitmap| Some(bitmap).filter(|bitmap| bitmap.len > 0)),
                },
            );
        bitmaps.collect()
    }

    /// Reads a string as a bitmap, piece by piece; an empty bitmap if the key does not exist.
    fn bitmap(&self, name: &[u8]) -> Result<Snapshot> {
        self.0.with(|conn, capabilities| {
            if !capabilities.ranges {
                return Ok(bitmap_of(&text(conn.ask(cmd("GET").arg(name))?)?));
            }
            let length = conn.reply_to(&*cmd("STRLEN").arg(name))?;
            let len = natural("STRLEN", &accept(length, shown(name))?)?;
            let mut bitmap = Snapshot::of_zeros(len);
            let mut at = 0;
            while at < len {
                let end = len.min(at + PIECE);
                let piece = text(conn.ask(cmd("GETRANGE").arg(name).arg(at).arg(end - 1))?)?;
                bitmap.fill(at, &piece);
                at = end;
            }
            Ok(bitmap)
        })
    }

    /// Creates bitmaps, each atomically; `replace` overwrites existing keys.
    ///
    /// # Errors
    /// If the server failed. Earlier keys may have been created.
    pub fn put(&self, keys: &[Bits<'_>], replace: bool) -> Result<Vec<Made>> {
        let short: Vec<Cmd> = keys
            .iter()
            .filter(|(_, bitmap, _)| bitmap.len <= PIECE)
            .map(|(name, bitmap, lifetime)| set(name, &bitmap.whole(), *lifetime, replace))
            .collect();
        let bytes = keys
            .iter()
            .map(|(_, bitmap, _)| bitmap.len.min(PIECE))
            .sum();
        let mut made = self
            .0
            .with(|conn, _| carry_out(conn, &short, bytes))?
            .into_iter();
        let outcomes = keys
            .iter()
            .map(|(name, bitmap, lifetime)| match bitmap.len {
                0..=PIECE => Ok(made.next().expect("one outcome for each short bitmap")),
                _ => self.put_long(name, bitmap, *lifetime, replace),
            });
        outcomes.collect()
    }

    fn put_long(
        &self,
        name: &[u8],
        bitmap: &Snapshot,
        lifetime: Option<u64>,
        replace: bool,
    ) -> Result<Made> {
        // Written under a temporary name, which expires if this process ends first.
        let scratch = Scratch::new(&self.0.prefix);
        let temporary = scratch.key(0);
        let written = self
            .0
            .with_to_write(|conn, capabilities| write(conn, capabilities, &temporary, bitmap))?;
        if !written {
            let whole = [set(name, &bitmap.whole(), lifetime, replace)];
            let made = self.0.with(|conn, _| carry_out(conn, &whole, bitmap.len))?;
            return Ok(made.into_iter().next().expect("one outcome for one bitmap"));
        }
        // Must not be repeated: a second attempt would find nothing under the temporary name.
        self.0.once_to_write(|conn, capabilities| {
            let mut batch = Batch::default();
            match lifetime {
                Some(left) => batch.push(cmd("PEXPIRE").arg(&temporary).arg(left.max(1))),
                None => batch.push(cmd("PERSIST").arg(&temporary)),
            }
            batch.push(
                cmd(if replace { "RENAME" } else { "RENAMENX" })
                    .arg(&temporary)
                    .arg(name),
            );
            let limit = conn.timeout();
            let replies =
                conn.transaction(&batch, capabilities.transactions, limit, &|_| shown(name))?;
            if matches!(replies.get(1), Some(Value::Int(0))) {
                conn.ask(cmd(capabilities.delete()).arg(&temporary))?;
                return Ok(Made::Taken);
            }
            Ok(Made::New)
        })
    }
}

fn bitmap_of(whole: &[u8]) -> Snapshot {
    let mut bitmap = Snapshot::of_zeros(whole.len() as u64);
    bitmap.fill(0, whole);
    bitmap
}

/// The command that creates a whole string.
fn set(name: &[u8], bytes: &[u8], lifetime: Option<u64>, replace: bool) -> Cmd {
    let mut command = cmd("SET");
    command.arg(name).arg(bytes);
    if let Some(left) = lifetime {
        command.arg("PX").arg(left.max(1));
    }
    if !replace {
        command.arg("NX");
    }
    command
}

/// Runs SET commands that together hold about `bytes` bytes.
fn carry_out(conn: &mut RedisConnection, sets: &[Cmd], bytes: u64) -> Reply<Vec<Made>> {
    let limit = dump_time(conn, bytes);
    let replies = conn.trip_within(&Batch::of(sets), limit)?.into_iter();
    let made = replies.map(|reply| {
        Ok(if accept(reply, None)? == Value::Nil {
            Made::Taken
        } else {
            Made::New
        })
    });
    made.collect()
}

/// Writes a bitmap under a temporary name; `false` if the server does not support SETRANGE.
fn write(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    temporary: &str,
    bitmap: &Snapshot,
) -> Reply<bool> {
    // The key has an expiry from the start, in case this process ends.
    conn.ask(cmd("SET").arg(temporary).arg("").arg("EX").arg(60))?;
    let mut at = 0;
    while at < bitmap.len {
        let end = bitmap.len.min(at + PIECE);
        let piece = bitmap.piece(at, end - 1);
        // Redis fills gaps with zeros. The last piece is always written, because it sets the
        // length.
        if end == bitmap.len || piece.iter().any(|byte| *byte != 0) {
            let mut batch = Batch::of([&*cmd("SETRANGE").arg(temporary).arg(at).arg(&piece)]);
            expiry(temporary, capabilities)
                .iter()
                .for_each(|command| batch.push(command));
            // Redis may have to fill up to half a gigabyte of zeros before it.
            let limit = conn.timeout() + time_for(end);
            for reply in conn.trip_within(&batch, limit)? {
                if is_unknown(&reply) {
                    conn.ask(cmd(capabilities.delete()).arg(temporary))?;
                    return Ok(false);
                }
                accept(reply, None)?;
            }
        }
        at = end;
    }
    Ok(true)
}

fn dump_time(conn: &RedisConnection, bytes: u64) -> Duration {
    conn.timeout() + time_for(bytes.saturating_mul(DUMP_EFFORT))
}

fn text(reply: Value) -> Reply<Vec<u8>> {
    match reply {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Nil => Ok(Vec::new()),
        other => Err(unexpected("GETRANGE", &other)),
    }
}

/// Sorts replies whose elements come in no particular order.
fn in_order(kind: &str, reply: Value) -> Value {
    let bytes = |value: &Value| {
        if let Value::BulkString(bytes) = value {
            bytes.clone()
        } else {
            Vec::new()
        }
    };
    match (kind, reply) {
        ("set", Value::Array(mut members)) => {
            members.sort_by_cached_key(bytes);
            Value::Array(members)
        }
        ("hash", Value::Array(flat)) => {
            let mut fields: Vec<Vec<Value>> = flat.chunks(2).map(<[Value]>::to_vec).collect();
            fields.sort_by_cached_key(|field| field.first().map(bytes));
            Value::Array(fields.into_iter().flatten().collect())
        }
        (_, reply) => reply,
    }
}
