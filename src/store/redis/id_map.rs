//! String ids in Redis: two hashes beside the bitmaps, and a script that assigns numbers.
//!
//! `{prefix}ids` maps text to number. Its field for the empty text, which is not a valid id, holds
//! the next free number. `{prefix}ids:texts` maps number to text. Neither name can be that of an
//! event's bitmap.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ::redis::{Cmd, Value, cmd};

use crate::sets::UserId;
use crate::store::redis::connection::{
    Batch, RedisConnection, Reply, ServerFault, accept, natural, unexpected,
};
use crate::store::redis::id_keys::{asking, numbers_key, settled_key, texts_key};
use crate::store::redis::store::RedisStore;
use crate::store::{IdMap, Result};

/// The most texts in one HMGET, or in one run of the script that assigns numbers. Either takes
/// about a millisecond, during which Redis serves no other client.
const AT_ONCE: usize = 1000;

/// The most such commands in one trip.
const IN_A_TRIP: usize = 16;

/// Returns the number of each text and assigns new ones where needed. Redis runs a script
/// atomically.
const ENROLL: &str = "
local found = redis.call('HMGET', KEYS[1], unpack(ARGV))
local next = tonumber(redis.call('HGET', KEYS[1], '') or 0)
local numbers, texts, fresh = {}, {}, {}

for place, text in ipairs(ARGV) do
  local number = found[place] or fresh[text]
  if not number then
    if next > 4294967295 then return redis.error_reply('ERR there are no numbers left for string ids') end
    number = string.format('%d', next)
    fresh[text] = number
    next = next + 1
    numbers[#numbers + 1] = text
    numbers[#numbers + 1] = number
    texts[#texts + 1] = number
    texts[#texts + 1] = text
  end
  found[place] = number
end
if #numbers > 0 then
  redis.call('HSET', KEYS[1], '', string.format('%d', next), unpack(numbers))
  redis.call('HSET', KEYS[2], unpack(texts))
end
return found
";

/// Switches the prefix to string ids, unless numeric ids are being marked. Afterwards, marks of
/// numeric ids are refused.
const BEGIN: &str = "
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('HSETNX', KEYS[1], '', 0)
return 1
";

/// Undoes [`BEGIN`] as long as no text has a number.
const WITHDRAW: &str = "
if redis.call('HGET', KEYS[1], '') == '0' then return redis.call('DEL', KEYS[1]) end
return 0
";

/// How long a process that marks numeric ids keeps the prefix from switching to string ids. By then
/// its bitmaps exist, and they prevent the switch.
const SETTLED: Duration = Duration::from_secs(60);

/// A number as Redis stores it; `None` for a missing field.
fn number(reply: &Value) -> Reply<Option<u64>> {
    let number = match reply {
        Value::Nil => return Ok(None),
        Value::BulkString(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok()),
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    number.map(Some).ok_or_else(|| unexpected("HGET", reply))
}

/// The items of all replies, in order.
fn items(replies: impl IntoIterator<Item = Value>, about: &str) -> Reply<Vec<Value>> {
    let mut all = Vec::new();
    for reply in replies {
        match accept(reply, Some(about.to_owned()))? {
            Value::Array(items) => all.extend(items),
            other => return Err(unexpected("HMGET", &other)),
        }
    }
    Ok(all)
}

fn no_hashes() -> ServerFault {
    ServerFault::Refused(
        "string ids need hashes, which this server does not support. Use Redis or Valkey"
            .to_owned(),
    )
}

impl RedisStore {
    /// The values of many fields of a hash, in order; `None` if the prefix has no string ids. The
    /// first trip asks for both.
    fn looked_up<T>(
        &self,
        parts: impl Iterator<Item = Cmd> + Clone,
        about: &str,
        read: impl Fn(&Value) -> Reply<T>,
    ) -> Result<Option<Vec<T>>> {
        self.with(|conn, capabilities| {
            // Servers without hashes, such as bitmapist-server and our own listener, have no string
            // ids.
            if !capabilities.hashes {
                return Ok(None);
            }
            let mut parts = parts.clone();
            let mut batch = Batch::of([&asking(&self.prefix)]);
            parts
                .by_ref()
                .take(IN_A_TRIP)
                .for_each(|command| batch.push(&command));
            let mut replies = conn.trip(&batch)?.into_iter();
            let next = replies.next().expect("each command has a reply");
            if number(&accept(next, None)?)?.is_none() {
                return Ok(None);
            }
            let found = items(replies, about)?
                .iter()
                .map(&read)
                .collect::<Reply<Vec<T>>>()?;
            Ok(Some(
                [found, answers(conn, parts, about, false, &read)?]
                    .into_iter()
                    .flatten()
                    .collect(),
            ))
        })
    }
}

/// The items of the replies to many commands, in order.
fn answers<T>(
    conn: &mut RedisConnection,
    parts: impl Iterator<Item = Cmd>,
    about: &str,
    writes: bool,
    read: impl Fn(&Value) -> Reply<T>,
) -> Reply<Vec<T>> {
    let (mut answers, mut parts) = (Vec::new(), parts.peekable());
    while parts.peek().is_some() {
        let mut batch = Batch::default();
        batch.confirm = writes;
        parts
            .by_ref()
            .take(IN_A_TRIP)
            .for_each(|command| batch.push(&command));
        for item in items(conn.trip(&batch)?, about)? {
            answers.push(read(&item)?);
        }
    }
    Ok(answers)
}

fn user(reply: &Value) -> Reply<Option<UserId>> {
    number(reply)?
        .map(|number| UserId::try_from(number).map_err(|_| unexpected("HMGET", reply)))
        .transpose()
}

impl IdMap for RedisStore {
    fn next(&self) -> Result<Option<u64>> {
        self.with(|conn, capabilities| {
            if !capabilities.hashes {
                return Ok(None);
            }
            number(&conn.ask(&asking(&self.prefix))?)
        })
    }

    fn numbers(&self, texts: &[&str]) -> Result<Option<Vec<Option<UserId>>>> {
        let key = numbers_key(&self.prefix);
        let parts = texts.chunks(AT_ONCE).map(|texts| {
            let mut command = cmd("HMGET");
            command.arg(&key).arg(texts);
            command
        });
        self.looked_up(parts, &key, user)
    }

    fn settle_numbers(&self) -> Result<bool> {
        let key = settled_key(&self.prefix);
        self.with(|conn, capabilities| {
            // Without hashes there are no string ids to exclude.
            if !capabilities.hashes {
                return Ok(true);
            }
            let mut batch = Batch::default();
            batch.push(
                cmd("SET")
                    .arg(&key)
                    .arg(1)
                    .arg("PX")
                    .arg(SETTLED.as_millis().to_string()),
            );
            batch.push(&asking(&self.prefix));
            let limit = conn.timeout();
            let replies = conn.transaction(&batch, capabilities.transactions, limit, &|_| {
                Some(key.clone())
            })?;
            let has_texts = number(&replies[1])?.is_some();
            if has_texts {
                conn.ask(cmd(capabilities.delete()).arg(&key))?;
            }
            self.settled.store(!has_texts, Ordering::Relaxed);
            Ok(!has_texts)
        })
    }

    fn begin(&self) -> Result<bool> {
        let (numbers, settled) = (numbers_key(&self.prefix), settled_key(&self.prefix));
        self.with(|conn, capabilities| {
            if !capabilities.hashes {
                return Err(no_hashes());
            }
            Ok(natural(
                "EVAL",
                &conn.ask(cmd("EVAL").arg(BEGIN).arg(2).arg(&numbers).arg(&settled))?,
            )? == 1)
        })
    }

    fn withdraw(&self) -> Result<()> {
        let key = numbers_key(&self.prefix);
        self.with(|conn, _| {
            conn.ask(cmd("EVAL").arg(WITHDRAW).arg(1).arg(&key))
                .map(drop)
        })
    }

    fn assign(&self, texts: &[&str]) -> Result<Vec<UserId>> {
        let (numbers, names) = (numbers_key(&self.prefix), texts_key(&self.prefix));
        let parts = texts.chunks(AT_ONCE).map(|texts| {
            let mut command = cmd("EVAL");
            command
                .arg(ENROLL)
                .arg(2)
                .arg(&numbers)
                .arg(&names)
                .arg(texts);
            command
        });
        self.with(|conn, capabilities| {
            if !capabilities.hashes {
                return Err(no_hashes());
            }
            let given = |reply: &Value| user(reply)?.ok_or_else(|| unexpected("EVAL", reply));
            let users = answers(conn, parts.clone(), &numbers, true, given)?;
            // A number must not be assigned twice after a failover.
            self.route.confirm(conn)?;
            Ok(users)
        })
    }

    fn texts(&self, users: &[UserId]) -> Result<Option<Vec<Option<String>>>> {
        let key = texts_key(&self.prefix);
        let parts = users.chunks(AT_ONCE).map(|users| {
            let mut command = cmd("HMGET");
            command.arg(&key).arg(users);
            command
        });
        self.looked_up(parts, &key, |reply| match reply {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(String::from_utf8_lossy(bytes).into_owned())),
            other => Err(unexpected("HMGET", other)),
        })
    }

    fn forget(&self) -> Result<u64> {
        let given = self.next()?;
        let keys = [
            numbers_key(&self.prefix),
            texts_key(&self.prefix),
            settled_key(&self.prefix),
        ];
        self.with(|conn, capabilities| {
            let command = capabilities.delete();
            natural(command, &conn.ask(cmd(command).arg(&keys))?)
        })?;
        Ok(given.unwrap_or(0))
    }
}
