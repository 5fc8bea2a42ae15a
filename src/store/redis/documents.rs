//! Documents, as strings outside the prefix of the bitmaps.

use ::redis::{Value, cmd};

use crate::store::documents::document_key;
use crate::store::redis::connection::{Batch, RedisConnection, Reply, accept, last, unexpected};
use crate::store::redis::store::RedisStore;
use crate::store::{Documents, Result};

/// The text in a reply to GET.
fn text(reply: &Value) -> Reply<Option<String>> {
    match reply {
        Value::Nil => Ok(None),
        Value::BulkString(text) => Ok(Some(String::from_utf8_lossy(text).into_owned())),
        other => Err(unexpected("GET", other)),
    }
}

/// Replaces a value if it is `expected`. Returns whether it was.
fn replace(
    conn: &mut RedisConnection,
    key: &str,
    expected: Option<&str>,
    new: Option<&str>,
) -> Reply<bool> {
    let known = text(&accept(
        conn.reply_to(cmd("GET").arg(key))?,
        Some(key.to_owned()),
    )?)?;
    if known.as_deref() != expected {
        // A request that is repeated because its reply was lost finds what it wrote.
        return Ok(known.as_deref() == new);
    }
    let write = match new {
        Some(text) => cmd("SET").arg(key).arg(text).take(),
        None => cmd("DEL").arg(key).take(),
    };
    let mut replies = conn.trip(&Batch::of([&cmd("MULTI"), &write, &cmd("EXEC")]))?;
    let executed = last(&mut replies);
    for reply in replies {
        accept(reply, None)?;
    }
    match accept(executed, None)? {
        // The key was changed after it was read.
        Value::Nil => Ok(false),
        Value::Array(replies) => {
            for reply in replies {
                accept(reply, None)?;
            }
            Ok(true)
        }
        other => Err(unexpected("EXEC", &other)),
    }
}

impl Documents for RedisStore {
    /// A user who may not read the key sees no documents: the key is outside the prefix to which
    /// such users are limited.
    fn document(&self, name: &str) -> Result<Option<String>> {
        let key = document_key(&self.prefix, name);
        self.with(|conn, _| {
            let reply = conn.reply_to(cmd("GET").arg(&key))?;
            match &reply {
                Value::ServerError(error) if error.code() == "NOPERM" => Ok(None),
                _ => text(&accept(reply, Some(key.clone()))?),
            }
        })
    }

    fn replace_document(
        &self,
        name: &str,
        expected: Option<&str>,
        new: Option<&str>,
    ) -> Result<bool> {
        let key = document_key(&self.prefix, name);
        self.with_to_write(|conn, _| {
            conn.ask(cmd("WATCH").arg(&key))?;
            let replaced = replace(conn, &key, expected, new);
            if !matches!(replaced, Ok(true)) && !conn.is_broken() {
                conn.ask(&cmd("UNWATCH"))?;
            }
            if replaced.as_ref().is_ok_and(|replaced| *replaced) {
                // After a failover, it must not be as before.
                self.route.confirm(conn)?;
            }
            replaced
        })
    }
}
