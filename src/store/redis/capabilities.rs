//! What a server knows, and what it lets us do. Old ones lack a command here and there,
//! bitmapist-server most of them; replicas take no writes, and some users may only read.

use ::redis::{ServerError, Value, cmd};

use super::connection::{Batch, RedisConnection, Reply, accept, refuses_writes};

/// The commands a server has, and what stands in for those it has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Why nothing can be computed into temporary keys, in the server's words: it is a replica,
    /// this user may not write, its memory is full, …
    pub refusal: Option<String>,
    /// Whether that is so for everything that writes: the whole server refuses, and not only this
    /// user or command.
    pub takes_nothing: bool,
    /// MULTI and EXEC; without, commands are sent together and hopefully carried out so.
    pub transactions: bool,
    /// The same, and they can be used now, by this user: without, what is only read is sent
    /// together.
    pub transactions_allowed: bool,
    /// STRLEN; without, TTL tells whether a key is there, and lengths are not known. (Not EXISTS:
    /// bitmapist-server answers it with 0 for every key.)
    pub lengths: bool,
    /// SCAN; without, KEYS.
    pub scan: bool,
    /// UNLINK; without, DEL.
    pub unlink: bool,
    /// How keys are given a time to live.
    pub expiry: Expiry,
    /// BITPOS and GETRANGE; without, GET of the whole bitmap.
    pub ranges: bool,
    /// Hashes; without, there are no text ids.
    pub hashes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    Milliseconds,
    Seconds,
    None,
}

impl Capabilities {
    /// Asks, in one trip and outside any transaction, which an unknown command would abort.
    pub fn probe(conn: &mut RedisConnection, nobodys_key: &str) -> Reply<Self> {
        let key = nobodys_key;
        let replies = conn.trip(&Batch::of([
            cmd("UNLINK").arg(key),
            cmd("STRLEN").arg(key),
            // bitmapist-server takes SCAN in this form alone.
            cmd("SCAN").arg(0).arg("MATCH").arg(key).arg("COUNT").arg(1),
            cmd("PEXPIRE").arg(key).arg(1000),
            cmd("EXPIRE").arg(key).arg(1),
            cmd("BITPOS").arg(key).arg(1),
            cmd("GETRANGE").arg(key).arg(0).arg(0),
            &cmd("MULTI"),
            &cmd("DISCARD"),
            cmd("HGET").arg(key).arg(""),
            // Of nothing, so that nothing is made; and should it be, it is deleted.
            cmd("BITOP").arg("OR").arg(key).arg(key),
            cmd("DEL").arg(key),
        ]))?;
        for reply in &replies {
            // A server that is not ready or wants a password says so of everything: nothing
            // learned.
            if let Value::ServerError(error) = reply
                && matches!(error.code(), "LOADING" | "BUSY" | "NOAUTH" | "MASTERDOWN")
            {
                accept(reply.clone(), None)?;
            }
        }
        let knows = |place: usize| replies.get(place).is_some_and(|reply| !is_unknown(reply));
        // Temporary keys have to be made and deleted, in whichever way.
        let refusal = refusal(replies.get(10))
            .or_else(|| refusal(replies.first()).and_then(|_| refusal(replies.get(11))));
        // A server without memory queues nothing, not even what is only read.
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
            // Doing without transactions because this user may not use them would break promises
            // behind his back.
            transactions_allowed: knows(7) && !is_full,
            transactions: !matches!(&replies.get(7), Some(Value::ServerError(e)) if says_unknown(e)),
        })
    }

    /// The same for a request that only reads, which may do without transactions where they are
    /// forbidden.
    pub fn to_read(&self) -> Self {
        Capabilities {
            transactions: self.transactions_allowed,
            ..self.clone()
        }
    }

    /// Whether bitmaps can be fetched piece by piece and counted here.
    pub fn can_fetch(&self) -> bool {
        self.ranges && self.lengths
    }

    /// The command that deletes keys.
    pub fn delete(&self) -> &'static str {
        if self.unlink { "UNLINK" } else { "DEL" }
    }
}

/// The error of a server that does not carry out a command that writes.
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

/// Whether a reply says that there is no such command, or none for this user.
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

/// Servers have no code of their own for this, so the words are the protocol.
fn says_unknown(error: &ServerError) -> bool {
    let words = words(error).to_ascii_lowercase();
    words.contains("unknown command") || words.contains("unsupported command")
}
