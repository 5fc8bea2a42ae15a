//! Round trips: commands out, replies in, and what went wrong on the way.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{Cmd, PushKind, RedisError, ServerError, Value};

use crate::store::Cancel;

/// Why a request failed. Nothing in it may hold a password.
#[derive(Debug)]
pub(super) enum ServerFault {
    /// The connection broke while in use; a fresh one may well do.
    Dropped(String),
    /// There is nobody, or nobody who answers in time.
    Away(String),
    /// A node of a cluster said that the key is elsewhere, or that it is not a primary any more.
    Moved(String),
    /// A node of a cluster said that the keys are on their way to another one, and not all on the
    /// same side.
    Between(String),
    /// The server said no.
    Refused(String),
    /// A key is of another type: another program's.
    NotABitmap(String),
    /// The server said no because it takes no writes, or none of this user's.
    Unwritable(String),
    /// The request was given up.
    Cancelled,
}

impl ServerFault {
    /// The same, told in other words.
    pub fn map(self, words: impl FnOnce(String) -> String) -> Self {
        match self {
            ServerFault::Dropped(reason) => ServerFault::Dropped(words(reason)),
            ServerFault::Away(reason) => ServerFault::Away(words(reason)),
            ServerFault::Moved(reason) => ServerFault::Moved(words(reason)),
            ServerFault::Between(reason) => ServerFault::Between(words(reason)),
            ServerFault::Refused(reason) => ServerFault::Refused(words(reason)),
            ServerFault::NotABitmap(reason) => ServerFault::NotABitmap(words(reason)),
            ServerFault::Unwritable(reason) => ServerFault::Unwritable(words(reason)),
            ServerFault::Cancelled => ServerFault::Cancelled,
        }
    }
}

pub(super) type Reply<T> = Result<T, ServerFault>;

/// Fails once the request was given up. For use between round trips; nothing may be in flight.
pub(super) fn go_on() -> Reply<()> {
    Cancel::current()
        .check()
        .map_err(|_| ServerFault::Cancelled)
}

/// How long a connection that was idle may take to show that it still works. Longer than a server
/// is busy with one chunk.
const PROBE: Duration = Duration::from_millis(500);

/// Commands that travel together.
#[derive(Default)]
pub(super) struct Batch {
    packed: Vec<u8>,
    count: usize,
    /// Where each command that was pushed ends.
    ends: Vec<usize>,
    /// Whether a replica is to have what is written on the way to another node; see [`Follow`].
    pub confirm: bool,
}

impl Batch {
    pub fn push(&mut self, command: &Cmd) {
        self.push_packed(&command.get_packed_command());
    }

    /// Adds a command as [`commands`](Self::commands) gives it.
    pub fn push_packed(&mut self, command: &[u8]) {
        self.packed.extend_from_slice(command);
        self.count += 1;
        self.ends.push(self.packed.len());
    }

    /// The commands, each as it is sent.
    pub fn commands(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .filter_map(|(start, end)| self.packed.get(start..*end))
    }

    pub fn of<'a>(commands: impl IntoIterator<Item = &'a Cmd>) -> Self {
        let mut batch = Batch::default();
        commands.into_iter().for_each(|command| batch.push(command));
        batch
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Carries out commands on another node of a cluster, in one trip: the node is given as `ASK` names
/// it. Errors that it answers with are among the replies.
pub(super) type Follow = Box<dyn Fn(&str, &Batch) -> Reply<Vec<Value>> + Send + Sync>;

/// A connection that is logged in.
///
/// The `redis` crate's pipelines are not used: after a time-out they go on to wait as long for each
/// of the other replies, which for a hanging server adds up to many minutes.
pub(super) struct RedisConnection {
    raw: ::redis::Connection,
    timeout: Duration,
    broken: bool,
    /// What it was told of its own accord, where that is listened to.
    told: Option<Vec<Vec<Value>>>,
    follow: Option<Follow>,
}

impl RedisConnection {
    pub fn new(raw: ::redis::Connection, timeout: Duration) -> Self {
        RedisConnection {
            raw,
            timeout,
            broken: false,
            told: None,
            follow: None,
        }
    }

    /// Whether replies may be missing or still to come, so that it must not be used again.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// From now on remembers which keys the server says were changed, as it does unasked once
    /// CLIENT TRACKING is on.
    pub fn listen(&mut self) {
        self.told = Some(Vec::new());
    }

    /// What it was told since it was last asked. All that happened before the last answer is in it.
    pub fn told(&mut self) -> Vec<Vec<Value>> {
        self.told.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How commands get to where keys have gone, from now on.
    pub fn follow_by(&mut self, follow: Option<Follow>) {
        self.follow = follow;
    }

    /// One round trip. Errors the server answers with are among the replies.
    ///
    /// In a cluster, commands whose keys have gone ahead to the node their slot is moving to are
    /// carried out there, each by itself and after the others. A key is whole on one side at any
    /// time: while it moves, the node it leaves answers nobody, and that one is asked first. So
    /// what is on neither side is nowhere.
    pub fn trip(&mut self, batch: &Batch) -> Reply<Vec<Value>> {
        let mut replies = self.trip_within(batch, self.timeout)?;
        let Some(follow) = &self.follow else {
            return Ok(replies);
        };
        let mut gone: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, reply) in replies.iter().enumerate() {
            if let Some(to) = asked_to(reply) {
                gone.entry(to).or_default().push(place);
            }
        }
        for (to, places) in gone {
            let mut part = Batch {
                confirm: batch.confirm,
                ..Batch::default()
            };
            let mut wanted = places.iter().peekable();
            for (place, command) in batch.commands().enumerate() {
                if wanted.next_if(|wanted| **wanted == place).is_some() {
                    part.push_packed(command);
                }
            }
            for (place, reply) in places.into_iter().zip(follow(&to, &part)?) {
                replies[place] = reply;
            }
        }
        Ok(replies)
    }

    /// One round trip that is given up after `limit`.
    pub fn trip_within(&mut self, batch: &Batch, limit: Duration) -> Reply<Vec<Value>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        // Anything that ends early leaves replies behind.
        self.broken = true;
        let result = self.exchange(batch, limit);
        self.broken = result.is_err();
        result.map_err(|error| io_fault(&error, limit))
    }

    fn exchange(&mut self, batch: &Batch, limit: Duration) -> Result<Vec<Value>, RedisError> {
        let end = Instant::now() + limit;
        self.raw.set_write_timeout(Some(positive(limit)))?;
        self.raw.set_read_timeout(Some(positive(limit)))?;
        self.raw.send_packed_command(&batch.packed)?;
        let mut replies = Vec::with_capacity(batch.count);
        let mut checked = Instant::now();
        while replies.len() < batch.count {
            // The socket's time-out is for one read; a server that trickles must not stretch the
            // whole.
            let now = Instant::now();
            if now.duration_since(checked) > Duration::from_millis(50) {
                checked = now;
                self.raw
                    .set_read_timeout(Some(positive(end.saturating_duration_since(now))))?;
            }
            match self.raw.recv_response()? {
                Value::Push {
                    kind: PushKind::Invalidate,
                    data,
                } => {
                    if let Some(told) = &mut self.told {
                        told.push(data);
                    }
                }
                Value::Push { .. } => {}
                reply => replies.push(reply),
            }
        }
        Ok(replies)
    }

    /// Whether the other side answers a PING within a part of `limit`, so that the rest is enough
    /// for another connection. A connection that was cut off without a word, as by a NAT that
    /// forgot it, looks like a server that hangs.
    pub fn is_alive(&mut self, limit: Duration) -> bool {
        let answer = self.trip_within(&Batch::of([&::redis::cmd("PING")]), PROBE.min(limit / 4));
        answer.is_ok_and(|replies| {
            !replies
                .iter()
                .any(|reply| matches!(reply, Value::ServerError(_)))
        })
    }

    /// One command; an error the server answers with is an error.
    pub fn ask(&mut self, command: &Cmd) -> Reply<Value> {
        let mut replies = self.trip(&Batch::of([command]))?;
        accept(replies.pop().unwrap_or_default(), None)
    }

    /// One round trip of commands that are carried out together, with nobody else's between them:
    /// MULTI … EXEC. Every reply is checked. On servers without transactions the commands are
    /// merely sent together.
    ///
    /// `name` names what the command at a place is about.
    pub fn transaction(
        &mut self,
        batch: &Batch,
        atomic: bool,
        limit: Duration,
        name: &dyn Fn(usize) -> Option<String>,
    ) -> Reply<Vec<Value>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let replies = if atomic {
            let mut wrapped = Batch::of([&::redis::cmd("MULTI")]);
            batch
                .commands()
                .for_each(|command| wrapped.push_packed(command));
            wrapped.push(&::redis::cmd("EXEC"));
            let mut replies = self.trip_within(&wrapped, limit)?;
            let executed = replies.pop().unwrap_or_default();
            // A command that could not even be queued says why; EXEC then only says that it gave
            // up.
            for (place, reply) in replies.into_iter().enumerate() {
                accept(reply, place.checked_sub(1).and_then(name))?;
            }
            match accept(executed, None)? {
                Value::Array(replies) if replies.len() == batch.count => replies,
                other => return Err(unexpected("EXEC", &other)),
            }
        } else {
            self.trip_within(batch, limit)?
        };
        replies
            .into_iter()
            .enumerate()
            .map(|(place, reply)| accept_at(reply, place, name))
            .collect()
    }

    /// From now on a trip may take so long.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// What a trip may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

fn accept_at(reply: Value, place: usize, name: &dyn Fn(usize) -> Option<String>) -> Reply<Value> {
    match reply {
        Value::ServerError(error) => Err(server_fault(&error, name(place))),
        reply => Ok(reply),
    }
}

/// The node that `ASK 93 host:port` tells to ask.
fn asked_to(reply: &Value) -> Option<String> {
    let Value::ServerError(error) = reply else {
        return None;
    };
    let to = error
        .details()
        .filter(|_| error.code() == "ASK")?
        .split_ascii_whitespace()
        .nth(1)?;
    Some(to.to_owned())
}

/// Turns a reply that is an error into one. `about` is the key it concerns.
pub(super) fn accept(reply: Value, about: Option<String>) -> Reply<Value> {
    match reply {
        Value::ServerError(error) => Err(server_fault(&error, about)),
        reply => Ok(reply),
    }
}

/// A reply that must be a number. bitmapist-server answers some with booleans.
pub(super) fn integer(command: &str, reply: &Value) -> Reply<i64> {
    match reply {
        Value::Int(number) => Ok(*number),
        Value::Boolean(truth) => Ok(i64::from(*truth)),
        other => Err(unexpected(command, other)),
    }
}

/// A reply that must be a number from 0 on.
pub(super) fn natural(command: &str, reply: &Value) -> Reply<u64> {
    u64::try_from(integer(command, reply)?).map_err(|_| unexpected(command, reply))
}

pub(super) fn unexpected(command: &str, reply: &Value) -> ServerFault {
    let kind = match reply {
        Value::Nil => "nothing",
        Value::Int(_) => "a number out of range",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a text",
        Value::Array(_) => "a list",
        _ => "something else",
    };
    ServerFault::Refused(format!(
        "{command} was answered with {kind}; is this Redis, and no proxy in front of it?"
    ))
}

/// A time-out of zero is an error to the system.
fn positive(limit: Duration) -> Duration {
    limit.max(Duration::from_millis(1))
}

/// What to tell of an error that is not the server's own.
pub(super) fn io_fault(error: &RedisError, limit: Duration) -> ServerFault {
    if error.is_timeout() {
        ServerFault::Away(format!("no answer within {:.1} s", limit.as_secs_f64()))
    } else if error.is_connection_dropped() {
        ServerFault::Dropped(format!("the connection was closed ({error})"))
    } else if io_kind(error) == Some(std::io::ErrorKind::Interrupted) {
        // Linux ends a read that has a time limit when the process is stopped and goes on, as by
        // Ctrl-Z and `fg`. What was read of a reply cannot be taken up again.
        ServerFault::Dropped("waiting for the answer was interrupted".to_owned())
    } else if error.is_io_error() {
        ServerFault::Away(error.to_string())
    } else {
        ServerFault::Refused(format!(
            "what answers there does not speak Redis' protocol ({})",
            error.category()
        ))
    }
}

/// What kind of error of the system a client met, if it met one. The `redis` crate wraps it.
pub(super) fn io_kind(error: &RedisError) -> Option<std::io::ErrorKind> {
    let wrapped = error
        .source()
        .and_then(|cause| cause.downcast_ref::<Arc<dyn Error + Send + Sync>>())?;
    wrapped
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind)
}

/// Whether an error says that a server takes no writes, or none of this user's. A transaction that
/// is given up because of it has the reason behind its own code.
pub(super) fn refuses_writes(error: &ServerError) -> bool {
    const CODES: [&str; 5] = ["READONLY", "NOPERM", "OOM", "MISCONF", "NOREPLICAS"];
    let details = error.details().unwrap_or_default();
    CODES.contains(&error.code())
        || error.code() == "EXECABORT" && CODES.iter().any(|code| details.contains(code))
}

/// What Redis and Valkey answer to WAIT on a replica. The reply has no code of its own, so these
/// words are the protocol.
const WAIT_ON_A_REPLICA: &str = "WAIT cannot be used with replica instances";

/// Whether an error says that the primary that was spoken to became a replica: before it carried
/// out WAIT, or while WAIT waited.
fn changed_role(error: &ServerError) -> bool {
    error.code() == "UNBLOCKED"
        || error
            .details()
            .is_some_and(|details| details.starts_with(WAIT_ON_A_REPLICA))
}

/// What to tell of an error of the server's, and what to do about it.
pub(super) fn server_fault(error: &ServerError, about: Option<String>) -> ServerFault {
    let details = error.details().unwrap_or_default();
    let words = format!("{} {details}", error.code()).trim().to_owned();
    let about = about.map(|key| format!("`{key}`: ")).unwrap_or_default();
    let hint = match error.code() {
        "LOADING" => return ServerFault::Away(format!("it is still loading its data ({words})")),
        "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" => return ServerFault::Away(words),
        "MOVED" => return ServerFault::Moved(words),
        _ if changed_role(error) => return ServerFault::Moved(words),
        "ASK" | "TRYAGAIN" => {
            return ServerFault::Between(format!(
                "{words} — its slot is on the way to another node: try again when it is there"
            ));
        }
        _ if details.contains("max number of clients") => return ServerFault::Away(words),
        "NOAUTH" | "WRONGPASS" => {
            "give the password in the URL, as in redis://:password@host or redis://user:password@host"
        }
        _ if details.starts_with("invalid password") => {
            "give the right password in the URL, as in redis://:password@host"
        }
        _ if refuses_writes(error) => {
            let hint = match error.code() {
                "NOPERM" => {
                    "to read, this user needs +@read and +@connection for keys under the prefix; to mark, save and delete also +@write +@transaction"
                }
                "OOM" => "Redis has no memory left for temporary keys: raise maxmemory",
                "MISCONF" => "Redis cannot save to its disk and takes no writes",
                _ => {
                    "this Redis is only read: it is a replica, or lacks replicas of its own; marking, saving and deleting need a primary that takes writes"
                }
            };
            return ServerFault::Unwritable(format!("{about}{words} — {hint}"));
        }
        "WRONGTYPE" => {
            return ServerFault::NotABitmap(format!(
                "{about}{words} — the key is not a bitmap: another program writes keys under this prefix"
            ));
        }
        _ => return ServerFault::Refused(format!("{about}{words}")),
    };
    ServerFault::Refused(format!("{about}{words} — {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_that_became_a_replica_is_an_owner_that_moved() {
        for (line, moved) in [
            (
                "-ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 …\r\n",
                true,
            ),
            (
                "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n",
                true,
            ),
            ("-MOVED 3999 127.0.0.1:6381\r\n", true),
            (
                "-ERR wrong number of arguments for 'wait' command\r\n",
                false,
            ),
        ] {
            let Ok(Value::ServerError(error)) = ::redis::parse_redis_value(line.as_bytes()) else {
                panic!("{line}")
            };
            assert_eq!(
                matches!(server_fault(&error, None), ServerFault::Moved(_)),
                moved,
                "{line}"
            );
        }
    }
}
