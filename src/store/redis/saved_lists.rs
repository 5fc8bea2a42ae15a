//! The names of the lists of people that pages saved: a set outside the prefix of the bitmaps.

use ::redis::{Value, cmd};

use crate::store::Result;
use crate::store::redis::connection::{accept, unexpected};
use crate::store::redis::store::RedisStore;
use crate::store::saved_lists::saved_lists_key;

impl RedisStore {
    /// The names that are remembered, sorted. A user who may not read the key sees none: it is
    /// outside the prefix to which such users are limited.
    pub(super) fn remembered_lists(&self) -> Result<Vec<String>> {
        let key = saved_lists_key(&self.prefix);
        self.with(|conn, _| {
            let reply = conn.reply_to(&*cmd("SMEMBERS").arg(&key))?;
            let reply = match &reply {
                Value::ServerError(error) if error.code() == "NOPERM" => return Ok(Vec::new()),
                _ => accept(reply, Some(key.clone()))?,
            };
            let members = match &reply {
                Value::Array(members) | Value::Set(members) => members,
                other => return Err(unexpected("SMEMBERS", other)),
            };
            let mut names = Vec::with_capacity(members.len());
            for member in members {
                match member {
                    Value::BulkString(name) => {
                        names.push(String::from_utf8_lossy(name).into_owned());
                    }
                    other => return Err(unexpected("SMEMBERS", other)),
                }
            }
            names.sort_unstable();
            Ok(names)
        })
    }

    /// Remembers or forgets a name. A user who may not write the key has lists that no page renames or
    /// deletes.
    pub(super) fn remember_list(&self, name: &str, is_saved: bool) -> Result<()> {
        let key = saved_lists_key(&self.prefix);
        let command = if is_saved { "SADD" } else { "SREM" };
        self.with_to_write(|conn, _| {
            let reply = conn.reply_to(&*cmd(command).arg(&key).arg(name))?;
            match &reply {
                Value::ServerError(error) if error.code() == "NOPERM" => Ok(()),
                _ => accept(reply, Some(key.clone())).map(drop),
            }
        })
    }
}
