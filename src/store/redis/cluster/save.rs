//! Saves a set in many shards under one name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::redis::{Value, cmd};

use crate::sets::{Key, Plan, Prefix, SCRATCH, Set};
use crate::store::redis::cluster::layout::{self, Shard};
use crate::store::redis::cluster::route::Slot;
use crate::store::redis::cluster::store::{ClusterStore, unlink};
use crate::store::redis::connection::{Batch, Reply, last, natural};
use crate::store::redis::lower::{Script, Source};
use crate::store::redis::server_eval::{Executor, LIFETIME, OURS, Scratch, expiry, vanished};
use crate::store::redis::store::RedisStore;
use crate::store::{KeyListing, Result, Saved, StoreError};

/// How long to wait before trying again to claim a name.
const PAUSE: Duration = Duration::from_millis(20);

/// Deletes or renews a claim, if it still has our token.
const RELEASE: &str =
    "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0";
const RENEW: &str =
    "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0";

/// Deletes a part that still has its expiry. A bitmap that another client created under the name
/// meanwhile has none.
const WITHDRAW: &str =
    "return redis.call('PTTL', KEYS[1]) >= 0 and redis.call('DEL', KEYS[1]) or 0";

/// The number of users in each shard's part. Shards without users are left out.
type Parts = BTreeMap<Shard, u64>;

impl ClusterStore {
    /// Serializes saves under the same name with a claim, because a shard alone cannot tell which
    /// save came first.
    pub(super) fn save_in_parts(&self, set: &Set, key: &Key) -> Result<Saved> {
        // As random as the name of a temporary key, and one when prefixed with any shard's prefix.
        let token = Scratch::new(&Prefix::new("")).nobody();
        let claim = format!("{}{SCRATCH}{OURS}saving:{key}", self.prefix);
        let slot = Slot::new(&self.nodes, layout::slot(&claim));
        let claims = self.store(slot, self.prefix.clone());
        let lifetime = LIFETIME.as_millis().to_string();
        let mut set_new = cmd("SET");
        set_new
            .arg(&claim)
            .arg(&token)
            .arg("NX")
            .arg("PX")
            .arg(&lifetime);
        let end = Instant::now() + self.nodes.options.timeout;
        while claims.with(|conn, _| conn.ask(&set_new))? == Value::Nil {
            if Instant::now() >= end {
                let reason = format!(
                    "another process is saving under the name `{key}`. Try again in a minute"
                );
                return Err(StoreError::Unreachable {
                    location: self.nodes.location.clone(),
                    reason,
                });
            }
            std::thread::sleep(PAUSE);
        }
        let renew = || {
            let mut command = cmd("EVAL");
            command
                .arg(RENEW)
                .arg(1)
                .arg(&claim)
                .arg(&token)
                .arg(&lifetime);
            claims.with(|conn, _| {
                if natural("EVAL", &conn.ask(&command)?)? == 1 {
                    Ok(())
                } else {
                    Err(vanished())
                }
            })
        };
        let result = self.save_claimed(set, key, &token, &renew);
        // Best effort: what is not deleted expires.
        let _ = claims
            .with(|conn, _| conn.ask(cmd("EVAL").arg(RELEASE).arg(1).arg(&claim).arg(&token)));
        result
    }

    fn save_claimed(
        &self,
        set: &Set,
        key: &Key,
        token: &str,
        renew: &dyn Fn() -> Result<()>,
    ) -> Result<Saved> {
        let mut plan = Plan::new();
        plan.count_set(set)?;
        let shards = self.shards_of(&plan)?;
        let sizes = self.ask_each(shards.iter().copied(), |_, store| {
            store.sizes(std::slice::from_ref(key))
        })?;
        if sizes.values().flatten().any(|size| *size != Some(0)) {
            return Ok(Saved::Taken);
        }
        let parts = self.ask_each(shards.iter().copied(), |_, store| part(store, &plan, token));
        let saved = parts.and_then(|mut parts| {
            parts.retain(|_, users| *users > 0);
            if parts.is_empty() {
                return Ok(Saved::Nobody);
            }
            renew()?;
            self.name_parts(&parts, key, token)
        });
        if !matches!(saved, Ok(Saved::People(_) | Saved::Nobody)) {
            let temporary = |store: &RedisStore| vec![format!("{}{token}", store.prefix)];
            // Best effort: what is not deleted expires.
            let _ = self.ask_each(shards, |_, store| unlink(store, &temporary(store)));
        }
        saved
    }

    /// Renames all parts and then makes them permanent, or does neither.
    fn name_parts(&self, parts: &Parts, key: &Key, token: &str) -> Result<Saved> {
        let named = self.ask_each(parts.keys().copied(), |_, store| rename(store, key, token));
        if matches!(&named, Ok(named) if named.values().all(|named| *named)) {
            let stayed = Mutex::new(BTreeSet::new());
            let stays = self.ask_each(parts.keys().copied(), |shard, store| {
                stay(store, key)?;
                stayed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(shard);
                Ok(())
            });
            let Err(error) = stays else {
                return Ok(Saved::People(parts.values().sum()));
            };
            let stayed = stayed.into_inner().unwrap_or_else(PoisonError::into_inner);
            let gone = self.ask_each(stayed, |_, store| unlink(store, &[key.text(&store.prefix)]));
            self.withdraw(parts, key);
            return Err(match gone {
                Ok(_) => error,
                Err(_) => StoreError::Unreachable {
                    location: self.nodes.location.clone(),
                    reason: format!(
                        "only a part of `{key}` was saved. Delete it and save it again ({error})"
                    ),
                },
            });
        }
        self.withdraw(parts, key);
        named.map(|_| Saved::Taken)
    }

    /// Deletes parts that were renamed and not made permanent.
    fn withdraw(&self, parts: &Parts, key: &Key) {
        for shard in parts.keys() {
            let gone = self.ask(*shard, |store| {
                store.with(|conn, _| {
                    conn.ask(
                        cmd("EVAL")
                            .arg(WITHDRAW)
                            .arg(1)
                            .arg(key.text(&store.prefix)),
                    )
                })
            });
            if let Err(error) = gone {
                tracing::debug!(%error, shard, "a part of an unsaved set could not be deleted; it expires within a minute");
            }
        }
    }
}

/// Computes a shard's part into a temporary key, which expires within a minute. Returns the number
/// of its users.
fn part(store: &RedisStore, plan: &Plan, token: &str) -> Result<u64> {
    let temporary = format!("{}{token}", store.prefix);
    let compute = |executor: &mut Executor<'_>, mut script: Script| -> Reply<u64> {
        script.copy_keys();
        let Some(Source::Step(node)) = script.roots.first().copied() else {
            return Ok(0);
        };
        let users = executor.compute_and_count(&script)?;
        if users > 0 {
            // Under a name that is not deleted at the end of the request.
            let mut batch = Batch::of([&*cmd("RENAME")
                .arg(executor.scratch.key(node))
                .arg(&temporary)]);
            expiry(&temporary, executor.capabilities)
                .iter()
                .for_each(|command| batch.push(command));
            let limit = executor.conn.timeout();
            executor.conn.transaction(
                &batch,
                executor.capabilities.transactions,
                limit,
                &|_| None,
            )?;
        }
        Ok(users)
    };
    store.with(|conn, capabilities| {
        store.cleaned(conn, capabilities, |conn, capabilities, scratch| {
            let (script, keys) = store.prepare(conn, capabilities, plan)?;
            let mut executor = Executor {
                conn,
                capabilities,
                scratch,
                keys: &keys,
            };
            compute(&mut executor, script)
        })
    })
}

/// Renames a shard's part to its final name, if that is free. The expiry is kept.
fn rename(store: &RedisStore, key: &Key, token: &str) -> Result<bool> {
    let (temporary, name) = (format!("{}{token}", store.prefix), key.text(&store.prefix));
    // Must not be repeated after a lost reply: a second attempt would find the name taken by the
    // first one.
    store.once_to_write(|conn, capabilities| {
        let lifetime = expiry(&temporary, capabilities);
        let mut batch = Batch::of(&lifetime);
        batch.push(cmd("RENAMENX").arg(&temporary).arg(&name));
        let limit = conn.timeout();
        let mut replies = conn.transaction(&batch, capabilities.transactions, limit, &|_| {
            Some(name.clone())
        })?;
        Ok(natural("RENAMENX", &last(&mut replies))? != 0)
    })
}

/// Makes a part permanent.
fn stay(store: &RedisStore, key: &Key) -> Result<()> {
    let name = key.text(&store.prefix);
    store.with(|conn, capabilities| {
        // When repeated, PERSIST has nothing to do. What matters is that the part exists.
        let batch = Batch::of([&*cmd("PERSIST").arg(&name), cmd("STRLEN").arg(&name)]);
        let limit = conn.timeout();
        let mut replies = conn.transaction(&batch, capabilities.transactions, limit, &|_| {
            Some(name.clone())
        })?;
        if natural("STRLEN", &last(&mut replies))? == 0 {
            return Err(vanished());
        }
        store.route.confirm(conn)
    })
}
