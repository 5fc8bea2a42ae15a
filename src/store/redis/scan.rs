//! Finds keys by prefix, and deletes keys.

use std::collections::BTreeSet;

use ::redis::{Value, cmd};

use super::capabilities::Capabilities;
use super::connection::{Batch, RedisConnection, Reply, accept, integer, natural, unexpected};
use super::server_eval::OURS;
use crate::sets::{Key, Prefix, SCRATCH};
use crate::store::unparsed_keys::Names;

/// How many keys one SCAN visits.
const SCAN_COUNT: u32 = 1000;

/// How many keys one command deletes.
const DELETE_COUNT: usize = 500;

/// The keys that begin with `start`.
pub(super) fn keys(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    start: &str,
) -> Reply<Names> {
    let mut found = Names::default();
    let pattern = format!("{}*", escaped(start));
    each(conn, capabilities, &pattern, &mut |name| {
        found.extend([name])
    })?;
    // The pattern may match a little more; see `escaped`.
    Ok(found.beginning_with(start))
}

/// The most rounds of [`some`], which visit about 20,000 keys.
const SOME: u32 = 20;

/// A sample of all keys, and whether it is complete.
pub(super) fn some(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
) -> Reply<(BTreeSet<String>, bool)> {
    let mut found = BTreeSet::new();
    let complete = rounds(conn, capabilities, "*", SOME, &mut |name| {
        found.extend(String::from_utf8(name).ok())
    })?;
    Ok((found, complete))
}

/// Passes the keys that match a pattern to `take`, some perhaps more than once.
pub(super) fn each(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    pattern: &str,
    take: &mut dyn FnMut(Vec<u8>),
) -> Reply<()> {
    rounds(conn, capabilities, pattern, u32::MAX, take)?;
    Ok(())
}

/// Like [`each`], in at most `most` rounds. Returns whether these were enough.
fn rounds(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    pattern: &str,
    most: u32,
    take: &mut dyn FnMut(Vec<u8>),
) -> Reply<bool> {
    let mut take = |keys: Value| match keys {
        Value::Array(keys) => {
            keys.into_iter().for_each(|key| match key {
                Value::BulkString(bytes) => take(bytes),
                Value::SimpleString(text) => take(text.into_bytes()),
                _ => {}
            });
            Ok(())
        }
        other => Err(unexpected("SCAN", &other)),
    };
    if !capabilities.scan {
        take(conn.ask(cmd("KEYS").arg(pattern))?)?;
        return Ok(true);
    }
    let mut cursor = "0".to_owned();
    for _ in 0..most {
        let reply = conn.ask(
            cmd("SCAN")
                .arg(&cursor)
                .arg("MATCH")
                .arg(pattern)
                .arg("COUNT")
                .arg(SCAN_COUNT),
        )?;
        let (next, keys) = match reply {
            Value::Array(parts) => match <[Value; 2]>::try_from(parts) {
                Ok([next, keys]) => (next, keys),
                Err(_) => return Err(unexpected("SCAN", &Value::Array(Vec::new()))),
            },
            other => return Err(unexpected("SCAN", &other)),
        };
        take(keys)?;
        cursor = match next {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Value::SimpleString(text) => text,
            Value::Int(number) => number.to_string(),
            other => return Err(unexpected("SCAN", &other)),
        };
        if cursor == "0" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A pattern that matches `text`. Wildcards are put in brackets, because bitmapist-server (SQLite's
/// GLOB) takes a backslash literally. A backslash becomes `?`, which matches any character.
pub(super) fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '*' | '?' | '[' => pattern.extend(['[', c, ']']),
            '\\' => pattern.push('?'),
            c => pattern.push(c),
        }
    }
    pattern
}

/// Deletes keys. Returns how many existed.
pub(super) fn delete(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    keys: &[String],
) -> Reply<u64> {
    let mut deleted = 0;
    for chunk in keys.chunks(DELETE_COUNT) {
        deleted += natural(
            capabilities.delete(),
            &conn.ask(cmd(capabilities.delete()).arg(chunk))?,
        )?;
    }
    Ok(deleted)
}

/// The temporary keys that would stay forever: bitmapist's, and ours without an expiry. Ours with
/// an expiry belong to requests that are running, perhaps in another process, or expire within a
/// minute.
pub(super) fn leftovers(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    prefix: &Prefix,
) -> Reply<Vec<String>> {
    let mut temporary = keys(conn, capabilities, &format!("{prefix}{SCRATCH}"))?.texts;
    // The keys of an event named `bitop` also begin like this.
    temporary.retain(|text| Key::parse(prefix, text).is_none());
    let (ours, mut theirs): (Vec<_>, Vec<_>) = temporary
        .into_iter()
        .partition(|key| key.starts_with(&format!("{prefix}{SCRATCH}{OURS}")));
    for chunk in ours.chunks(DELETE_COUNT) {
        let mut batch = Batch::default();
        chunk.iter().for_each(|key| batch.push(cmd("TTL").arg(key)));
        for (key, reply) in chunk.iter().zip(conn.trip(&batch)?) {
            if integer("TTL", &accept(reply, Some(key.clone()))?)? == -1 {
                theirs.push(key.clone());
            }
        }
    }
    Ok(theirs)
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn wildcards_stand_for_themselves() {
        assert_eq!(escaped("a*b?c[d]e\\f^g-h"), "a[*]b[?]c[[]d]e?f^g-h");
    }
}
