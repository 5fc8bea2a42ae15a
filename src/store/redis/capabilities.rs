//! Which commands a server has and which ones it allows. Old servers lack a few commands and
//! bitmapist-server lacks most. Replicas refuse writes, and some users may only read.

use ::redis::{ServerError, Value, cmd};

use super::connection::{Batch, RedisConnection, Reply, accept, refuses_writes};

/// The commands a server has, and the substitutes for those it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Why the server cannot compute into temporary keys, as it reports: it is a replica, this user
    /// may not write, its memory is full, …
    pub refusal: Option<String>,
    /// Whether every write is refused, not only those of this user or this command.
    pub takes_nothing: bool,
    /// MULTI and EXEC. Without them, commands are sent in one trip, which is not atomic.
    pub transactions: bool,
    /// Whether this user can use transactions now. Without them, reads are sent in one trip.
    pub transactions_allowed: bool,
    /// STRLEN. Without it, TTL shows whether a key exists, and lengths are unknown. (EXISTS would
    /// not do: bitmapist-server answers it with 0 for every key.)
    pub lengths: bool,
    /// SCAN. Without it, KEYS.
    pub scan: bool,
    /// UNLINK. Without it, DEL.
    pub unlink: bool,
    /// How keys are given an expiry.
    pub expiry: Expiry,
    /// BITPOS and GETRANGE. Without them, GET of the whole bitmap.
    pub ranges: bool,
    /// Hashes. Without them, there are no string ids.
    pub hashes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    Milliseconds,
    Seconds,
    None,
}

impl Capabilities {
    /// Tries the commands in one trip. Not in a transaction, which an unknown command would abort.
    pub fn probe(conn: &mut RedisConnection, nobodys_key: &str) -> Reply<Self> {
        let key = nobodys_key;
        let replies = conn.trip(&Batch::of([
            cmd("UNLINK").arg(key),
            cmd("STRLEN").arg(key),
            // bitmapist-server accepts SCAN only in this form.
            cmd("SCAN").arg(0).arg("MATCH").arg(key).arg("COUNT").arg(1),
            cmd("PEXPIRE").arg(key).arg(1000),
            cmd("EXPIRE").arg(key).arg(1),
            cmd("BITPOS").arg(key).arg(1),
            cmd("GETRANGE").arg(key).arg(0).arg(0),
            &cmd("MULTI"),
            &cmd("DISCARD"),
            cmd("HGET").arg(key).arg(""),
            // The source is missing, so no key is created. If one is, the DEL below removes it.
            cmd("BITOP").arg("OR").arg(key).arg(key),
            cmd("DEL").arg(key),
        ]))?;
        for reply in &replies {
            // A server that is not ready or needs a password answers everything like this, so its
            // replies reveal nothing.
            if let Value::ServerError(error) = reply
                && matches!(error.code(), "LOADING" | "BUSY" | "NOAUTH" | "MASTERDOWN")
            {
                accept(reply.clone(), None)?;
            }
        }
        let knows = |place: usize| replies.get(place).is_some_and(|reply| !is_unknown(reply));
        // Temporary keys must be created, and deleted by UNLINK or DEL.
        let refusal = refusal(replies.get(10))
            .or_else(|| refusal(replies.first()).and_then(|_| refusal(replies.get(11))));
        // A server that is out of memory queues nothing, not even reads.
        let is_full = refusal.is_some_and(|error| error.code() == "OOM");
        let whole = |reply: &Value| match reply {
            Value::ServerError(error) => {
                ["READONLY", "OOM", "MISCONF", "NOREPLICAS"].contains(&error.code())
            }
            _ => false,
        };
        let takes_nothing = [10, 0, 11]
            .into_iter()
            .filter_map(|place| replies.get(place))
            .any(whole);
        Ok(Capabilities {
            refusal: refusal.map(words),
            takes_nothing,
            unlink: knows(0),
            lengths: knows(1),
            scan: knows(2),
            expiry: match (knows(3), knows(4)) {
                (true, _) => Expiry::Milliseconds,
                (false, true) => Expiry::Seconds,
                (false, false) => Expiry::None,
            },
            ranges: knows(5) && knows(6),
            hashes: knows(9),
            // Stays `true` if only this user may not use transactions: silently writing without
            // them would break the promised atomicity.
            transactions_allowed: knows(7) && !is_full,
            transactions: !matches!(&replies.get(7), Some(Value::ServerError(e)) if says_unknown(e)),
        })
    }

    /// The same for a read-only request, which can do without transactions where they are
    /// forbidden.
    pub fn to_read(&self) -> Self {
        Capabilities {
            transactions: self.transactions_allowed,
            ..self.clone()
        }
    }

    /// Whether bitmaps can be fetched piece by piece and counted locally.
    pub fn can_fetch(&self) -> bool {
        self.ranges && self.lengths
    }

    /// The command that deletes keys.
    pub fn delete(&self) -> &'static str {
        if self.unlink { "UNLINK" } else { "DEL" }
    }
}

/// The error, if the server refuses the command or does not have it.
fn refusal(reply: Option<&Value>) -> Option<&ServerError> {
    match reply {
        Some(Value::ServerError(error)) if refuses_writes(error) || says_unknown(error) => {
            Some(error)
        }
        _ => None,
    }
}

fn words(error: &ServerError) -> String {
    let words = format!("{} {}", error.code(), error.details().unwrap_or_default());
    words.trim().to_owned()
}

/// Whether a reply reports that the command does not exist or is forbidden to this user.
pub(super) fn is_unknown(reply: &Value) -> bool {
    match reply {
        Value::ServerError(error) => {
            let forbidden =
                error.code() == "NOPERM" && error.details().is_some_and(|d| d.contains("command"));
            says_unknown(error) || forbidden
        }
        _ => false,
    }
}

/// There is no error code for this, so the message text is the protocol.
fn says_unknown(error: &ServerError) -> bool {
    let words = words(error).to_ascii_lowercase();
    words.contains("unknown command") || words.contains("unsupported command")
}
