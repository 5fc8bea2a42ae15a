//! Finding keys by their beginning, and deleting them.

use std::collections::BTreeSet;

use ::redis::{Value, cmd};

use super::capabilities::Capabilities;
use super::connection::{Batch, RedisConnection, Reply, accept, integer, natural, unexpected};
use super::server_eval::OURS;
use crate::sets::{Key, Prefix, SCRATCH};
use crate::store::unparsed_keys::Names;

/// How many keys one SCAN looks at.
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
    // The pattern may let in a little more; see `escaped`.
    Ok(found.beginning_with(start))
}

/// How many times [`some`] asks for keys: it looks at about 20,000 of them.
const SOME: u32 = 20;

/// Some of all keys, and whether they are all there are.
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

/// Gives the keys that match a pattern to `take`, some perhaps more than once.
pub(super) fn each(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    pattern: &str,
    take: &mut dyn FnMut(Vec<u8>),
) -> Reply<()> {
    rounds(conn, capabilities, pattern, u32::MAX, take)?;
    Ok(())
}

/// The same in at most so many rounds; returns whether these were enough.
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

/// A pattern that matches `text`. Wildcards stand in brackets rather than behind backslashes, which
/// bitmapist-server (SQLite's GLOB) takes for themselves; for a backslash any character will do.
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

/// Deletes keys; returns how many there were.
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

/// The temporary keys that nobody will delete: bitmapist's, and those of ours without a lifetime.
/// Keys of ours that have one belong to requests under way, maybe another process's, or go by
/// themselves within a minute.
pub(super) fn leftovers(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    prefix: &Prefix,
) -> Reply<Vec<String>> {
    let mut temporary = keys(conn, capabilities, &format!("{prefix}{SCRATCH}"))?.texts;
    // An event called `bitop` has keys that begin so.
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
