//! Round trips: sends commands, reads replies and explains failures.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{Cmd, PushKind, RedisError, ServerError, Value};

use crate::store::Cancel;

/// Why a request failed. Must not contain a password.
#[derive(Debug)]
pub(super) enum ServerFault {
    /// The connection broke while in use. A new one may work.
    Dropped(String),
    /// The server is unreachable or does not answer in time.
    Away(String),
    /// A cluster node reported that the key is on another node, or that it is no longer a primary.
    Moved(String),
    /// A cluster node reported that the keys are migrating to another node and are not all on the
    /// same side.
    Between(String),
    /// The server refused the request.
    Refused(String),
    /// A key has another type, so it belongs to another program.
    NotABitmap(String),
    /// The server refused because it accepts no writes, or none from this user.
    Unwritable(String),
    /// The request was cancelled.
    Cancelled,
}

impl ServerFault {
    /// The same fault with another message.
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

/// Fails if the request was cancelled. Call it only between round trips, with no reply pending.
pub(super) fn go_on() -> Reply<()> {
    Cancel::current()
        .check()
        .map_err(|_| ServerFault::Cancelled)
}

/// How long an idle connection may take to show that it still works. Must be longer than the server
/// is busy with one chunk.
const PROBE: Duration = Duration::from_millis(500);

/// Commands that are sent in one trip.
#[derive(Default)]
pub(super) struct Batch {
    packed: Vec<u8>,
    count: usize,
    /// The end of each command in `packed`.
    ends: Vec<usize>,
    /// Whether a replica must confirm what is written by way of [`Follow`].
    pub confirm: bool,
}

impl Batch {
    pub fn push(&mut self, command: &Cmd) {
        self.push_packed(&command.get_packed_command());
    }

    /// Adds a command in the encoding that [`commands`](Self::commands) returns.
    pub fn push_packed(&mut self, command: &[u8]) {
        self.packed.extend_from_slice(command);
        self.count += 1;
        self.ends.push(self.packed.len());
    }

    /// The commands, each as it is encoded on the wire.
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

/// Runs commands on another node of a cluster, in one trip. The node is given as `ASK` names it.
/// Errors from the server are among the replies.
pub(super) type Follow = Box<dyn Fn(&str, &Batch) -> Reply<Vec<Value>> + Send + Sync>;

/// A connection that is logged in.
///
/// The `redis` crate's pipelines are not used: after a timeout they wait just as long for each
/// remaining reply, which adds up to many minutes if the server hangs.
pub(super) struct RedisConnection {
    raw: ::redis::Connection,
    timeout: Duration,
    broken: bool,
    /// Pushed invalidation messages, if they are collected.
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

    /// Whether replies may be missing or pending. Then the connection must not be used again.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Starts to collect the invalidation messages that the server pushes once CLIENT TRACKING is
    /// on.
    pub fn listen(&mut self) {
        self.told = Some(Vec::new());
    }

    /// Takes the messages since the last call. Includes every change before the last reply.
    pub fn told(&mut self) -> Vec<Vec<Value>> {
        self.told.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Sets how commands reach keys that have migrated.
    pub fn follow_by(&mut self, follow: Option<Follow>) {
        self.follow = follow;
    }

    /// Makes one round trip. Errors from the server are among the replies.
    ///
    /// In a cluster, commands whose keys have already migrated are run on the target node, each on
    /// its own and after the others. A key is always whole on one side: while it moves, the source
    /// node serves no other client. The source is asked first, so a key that neither side has does
    /// not exist.
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

    /// Makes one round trip with the timeout `limit`.
    pub fn trip_within(&mut self, batch: &Batch, limit: Duration) -> Reply<Vec<Value>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        // Until the exchange succeeds, replies may be pending.
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
            // The socket's timeout applies to each read. A server that sends slowly must not extend
            // the total.
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

    /// Whether the server answers a PING within a part of `limit`, so that the rest is enough for
    /// another connection. A connection that was cut off silently, for example by a NAT that
    /// dropped its state, looks like a server that hangs.
    pub fn is_alive(&mut self, limit: Duration) -> bool {
        let answer = self.trip_within(&Batch::of([&::redis::cmd("PING")]), PROBE.min(limit / 4));
        answer.is_ok_and(|replies| {
            !replies
                .iter()
                .any(|reply| matches!(reply, Value::ServerError(_)))
        })
    }

    /// Sends one command. An error from the server is returned as an error.
    pub fn ask(&mut self, command: &Cmd) -> Reply<Value> {
        accept(self.reply_to(command)?, None)
    }

    /// Sends one command. Returns its reply, which may be an error from the server.
    pub fn reply_to(&mut self, command: &Cmd) -> Reply<Value> {
        Ok(last(&mut self.trip(&Batch::of([command]))?))
    }

    /// Runs commands atomically (MULTI … EXEC) in one round trip. Every reply is checked. On
    /// servers without transactions the commands are only sent together.
    ///
    /// `name` returns the key that the command at an index concerns.
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
            let executed = last(&mut replies);
            // If a command could not be queued, its reply has the reason. EXEC only reports that it
            // aborted.
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

    /// Sets the timeout of a trip.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// The timeout of a trip.
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

/// The node that `ASK 93 host:port` points to.
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

/// Turns an error reply into an error. `about` is the key that it concerns.
pub(super) fn accept(reply: Value, about: Option<String>) -> Reply<Value> {
    match reply {
        Value::ServerError(error) => Err(server_fault(&error, about)),
        reply => Ok(reply),
    }
}

/// A reply that must be a number. bitmapist-server answers some commands with booleans.
pub(super) fn integer(command: &str, reply: &Value) -> Reply<i64> {
    match reply {
        Value::Int(number) => Ok(*number),
        Value::Boolean(truth) => Ok(i64::from(*truth)),
        other => Err(unexpected(command, other)),
    }
}

/// Takes the last of the replies of a round trip, which has one for each command.
pub(super) fn last(replies: &mut Vec<Value>) -> Value {
    replies.pop().expect("each command has a reply")
}

/// A reply that must be a non-negative number.
pub(super) fn natural(command: &str, reply: &Value) -> Reply<u64> {
    u64::try_from(integer(command, reply)?).map_err(|_| unexpected(command, reply))
}

pub(super) fn unexpected(command: &str, reply: &Value) -> ServerFault {
    let kind = match reply {
        Value::Nil => "nothing",
        Value::Int(_) => "a number out of range",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
        Value::Array(_) => "a list",
        _ => "something else",
    };
    ServerFault::Refused(format!(
        "{command} was answered with {kind}. Check that this is Redis, without a proxy in front of it"
    ))
}

/// The system rejects a timeout of zero.
fn positive(limit: Duration) -> Duration {
    limit.max(Duration::from_millis(1))
}

/// Explains an error that the server did not send.
pub(super) fn io_fault(error: &RedisError, limit: Duration) -> ServerFault {
    if error.is_timeout() {
        ServerFault::Away(format!("no answer within {:.1} s", limit.as_secs_f64()))
    } else if error.is_connection_dropped() {
        ServerFault::Dropped(format!("the connection was closed ({error})"))
    } else if io_kind(error) == Some(std::io::ErrorKind::Interrupted) {
        // Linux interrupts a read with a timeout when the process is stopped and continued, for
        // example with Ctrl-Z and `fg`. A partly read reply cannot be resumed.
        ServerFault::Dropped("waiting for the answer was interrupted".to_owned())
    } else if error.is_io_error() {
        ServerFault::Away(error.to_string())
    } else {
        ServerFault::Refused(format!(
            "the server at this address does not speak the Redis protocol ({})",
            error.category()
        ))
    }
}

/// The kind of the underlying I/O error, if there is one. The `redis` crate wraps it.
pub(super) fn io_kind(error: &RedisError) -> Option<std::io::ErrorKind> {
    let wrapped = error
        .source()
        .and_then(|cause| cause.downcast_ref::<Arc<dyn Error + Send + Sync>>())?;
    wrapped
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind)
}

/// Whether an error means that the server accepts no writes, or none from this user. A transaction
/// that is aborted because of it has the reason in its details.
pub(super) fn refuses_writes(error: &ServerError) -> bool {
    const CODES: [&str; 5] = ["READONLY", "NOPERM", "OOM", "MISCONF", "NOREPLICAS"];
    let details = error.details().unwrap_or_default();
    CODES.contains(&error.code())
        || error.code() == "EXECABORT" && CODES.iter().any(|code| details.contains(code))
}

/// How Redis and Valkey answer WAIT on a replica. The reply has no error code, so this text is the
/// protocol.
const WAIT_ON_A_REPLICA: &str = "WAIT cannot be used with replica instances";

/// Whether an error means that the primary became a replica, before WAIT ran or while it waited.
fn changed_role(error: &ServerError) -> bool {
    error.code() == "UNBLOCKED"
        || error
            .details()
            .is_some_and(|details| details.starts_with(WAIT_ON_A_REPLICA))
}

/// Explains an error from the server and what to do about it.
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
                "{words}. The slot is migrating to another node: try again when the migration is done"
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
                    "to read, this user needs +@read and +@connection for keys under the prefix; to mark, save and delete, also +@write and +@transaction"
                }
                "OOM" => "Redis has no memory left for temporary keys: raise maxmemory",
                "MISCONF" => "Redis cannot save to disk and accepts no writes",
                _ => {
                    "this Redis is read-only: it is a replica, or it has too few replicas. Marking, saving and deleting need a primary that accepts writes"
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
