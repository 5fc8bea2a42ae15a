//! How many users bitmaps have, without counting those again that nobody has changed.
//!
//! Redis (6.2 and newer, and Valkey) can tell a connection which of the keys that were read through
//! it somebody has changed since: CLIENT TRACKING. One connection of a store is used so. What was
//! counted through it is remembered with it, and looking again is a trip with a STRLEN for each
//! bitmap: all that Redis had to tell arrives before the last answer, so what it told nothing of is
//! as it was. Whatever it does tell of is counted again, and is in another state from then on even
//! if it has as many users as before.
//!
//! A connection that is cut off without a word, as by a NAT that forgot it, is waited for a part of
//! the time-out only, and replaced. Nothing is believed of a connection that broke, or for longer
//! than [`LIFE`]: all is counted again, and what then has as many users in as many bytes is taken
//! for what it was. A bitmap whose length is another one was changed whatever was told, as by
//! SWAPDB, of which Redis tells nothing. A server that has no such tracking, or not for this user,
//! counts each time; so do the nodes of a cluster.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::redis::{Value, cmd};

use crate::store::BitmapState;
use crate::store::redis::connection::{Batch, RedisConnection, Reply};

/// How long a connection is listened to before everything is counted anew through a fresh one.
pub(super) const LIFE: Duration = Duration::from_secs(600);

/// How long a server that cannot track is left alone.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a trip may take on a connection that was there before, or half the time-out where that
/// is less: then a fresh one is made in what is left. Longer than a server is busy with others.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// How often bitmaps are looked at that change meanwhile.
pub(super) const ROUNDS: usize = 4;

/// The most bitmaps to be told of.
pub(super) const MOST: usize = 100_000;

/// A server that fails as quickly as this may still answer on a connection there is: it may just
/// take no more of them.
pub(super) const QUICK: Duration = Duration::from_millis(300);

/// The place of the connection that is told of changes.
#[derive(Default)]
pub(super) struct ClientTracking {
    pub(super) place: Mutex<Place>,
    pub(super) left: Condvar,
}

#[derive(Default)]
pub(super) struct Place {
    pub(super) taken: bool,
    pub(super) watcher: Option<Watcher>,
    /// When it turned out that the server cannot do it.
    pub(super) unable: Option<Instant>,
    /// What a connection knew that broke.
    pub(super) before: HashMap<String, Known>,
}

/// A connection that is told of changes.
pub(super) struct Watcher {
    pub(super) conn: RedisConnection,
    pub(super) since: Instant,
    pub(super) known: HashMap<String, Known>,
}

/// A bitmap of which no change was told.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// In bytes.
    pub(super) length: u64,
    pub(super) seen: BitmapState,
    /// It was counted through this connection.
    pub(super) sure: bool,
}

/// Whoever has it is alone with the place, which is given back when this goes.
pub(super) struct Turn<'a> {
    pub(super) watch: &'a ClientTracking,
    pub(super) watcher: Option<Watcher>,
    pub(super) unable: Option<Instant>,
    pub(super) before: HashMap<String, Known>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let (mut watcher, mut before) = (self.watcher.take(), std::mem::take(&mut self.before));
        if let Some(broken) = watcher.take_if(|watcher| watcher.conn.is_broken()) {
            before = broken.known;
        }
        *self.watch.place() = Place {
            taken: false,
            watcher,
            unable: self.unable,
            before,
        };
        // Those that find the server unable go away without a turn, so waking one would leave the
        // others asleep.
        self.watch.left.notify_all();
    }
}

impl ClientTracking {
    pub(super) fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else has the place; `None` when that takes too long, or the server cannot
    /// track.
    pub(super) fn turn(&self, limit: Duration) -> Option<Turn<'_>> {
        let is_taken = |place: &mut Place| place.taken;
        let waited = self.left.wait_timeout_while(self.place(), limit, is_taken);
        let (mut place, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if place.taken || place.unable.is_some_and(|since| since.elapsed() < PATIENCE) {
            return None;
        }
        place.taken = true;
        let before = std::mem::take(&mut place.before);
        Some(Turn {
            watch: self,
            watcher: place.watcher.take(),
            unable: None,
            before,
        })
    }
}

impl Watcher {
    /// Has a fresh connection told of changes; `None` when the server cannot.
    pub(super) fn new(
        mut conn: RedisConnection,
        before: HashMap<String, Known>,
    ) -> Reply<Option<Self>> {
        let replies = conn.trip(&Batch::of([
            &*cmd("HELLO").arg(3),
            cmd("CLIENT").arg("TRACKING").arg("ON"),
            // A proxy may well say OK to anything.
            cmd("CLIENT").arg("TRACKINGINFO"),
        ]))?;
        let tracks = replies.get(1) == Some(&Value::Okay) && replies.get(2).is_some_and(says_on);
        conn.listen();
        let known = before
            .into_iter()
            .map(|(key, known)| {
                (
                    key,
                    Known {
                        sure: false,
                        ..known
                    },
                )
            })
            .collect();
        Ok(tracks.then(|| Watcher {
            conn,
            since: Instant::now(),
            known,
        }))
    }

    /// Forgets what Redis has told was changed; says what that was, everything where it is `None`.
    pub(super) fn hear(&mut self) -> Option<HashSet<String>> {
        let mut changed = HashSet::new();
        for keys in self.conn.told() {
            let Some(Value::Array(keys)) = keys.into_iter().next() else {
                // FLUSHALL and FLUSHDB.
                self.known.clear();
                return None;
            };
            for key in keys {
                let Value::BulkString(key) = key else {
                    continue;
                };
                let key = String::from_utf8_lossy(&key).into_owned();
                self.known.remove(&key);
                changed.insert(key);
            }
        }
        Some(changed)
    }
}

/// A number that no bitmap had before.
pub(super) fn new_version() -> u64 {
    static STATES: AtomicU64 = AtomicU64::new(1);
    STATES.fetch_add(1, Ordering::Relaxed)
}

/// Whether CLIENT TRACKINGINFO says that tracking is on, and of every key that is read.
pub(super) fn says_on(reply: &Value) -> bool {
    let Value::Map(fields) = reply else {
        return false;
    };
    let is = |value: &Value, text: &str| match value {
        Value::BulkString(bytes) => bytes == text.as_bytes(),
        Value::SimpleString(said) => said == text,
        _ => false,
    };
    fields.iter().any(|(name, flags)| match flags {
        Value::Array(flags) | Value::Set(flags) => {
            is(name, "flags") && flags.len() == 1 && is(&flags[0], "on")
        }
        _ => false,
    })
}
