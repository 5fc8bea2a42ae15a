//! The zone in which a store is kept: a string outside the prefix of the bitmaps.

use ::redis::{Value, cmd};

use crate::store::Result;
use crate::store::kept_in::zone_key;
use crate::store::redis::connection::{Reply, accept, unexpected};
use crate::store::redis::store::RedisStore;

/// The name of the zone in a reply to GET.
fn name(reply: &Value) -> Reply<Option<String>> {
    match reply {
        Value::Nil => Ok(None),
        Value::BulkString(name) => Ok(Some(String::from_utf8_lossy(name).into_owned())),
        other => Err(unexpected("GET", other)),
    }
}

impl RedisStore {
    /// The name of the zone, if one is remembered. A user who may not read the key is one of a store
    /// in UTC: the key is outside the prefix to which such users are limited.
    pub(super) fn zone(&self) -> Result<Option<String>> {
        let key = zone_key(&self.prefix);
        self.with(|conn, _| {
            let reply = conn.reply_to(&*cmd("GET").arg(&key))?;
            match &reply {
                Value::ServerError(error) if error.code() == "NOPERM" => Ok(None),
                _ => name(&accept(reply, Some(key.clone()))?),
            }
        })
    }

    /// Remembers a zone unless one is remembered. Returns the one that is.
    pub(super) fn remember_zone(&self, zone: &str) -> Result<String> {
        let key = zone_key(&self.prefix);
        self.with_to_write(|conn, _| {
            conn.ask(cmd("SET").arg(&key).arg(zone).arg("NX"))?;
            let known = name(&conn.ask(cmd("GET").arg(&key))?)?;
            // After a failover, marks of this zone must not be taken for those of another.
            self.route.confirm(conn)?;
            Ok(known.unwrap_or_else(|| zone.to_owned()))
        })
    }

    /// Forgets the zone.
    pub(super) fn delete_zone(&self) -> Result<()> {
        let key = zone_key(&self.prefix);
        self.with_to_write(|conn, capabilities| {
            conn.ask(cmd(capabilities.delete()).arg(&key)).map(drop)
        })
    }
}
