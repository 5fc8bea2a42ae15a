//! Counts of users in bitmaps, without recounting bitmaps that have not changed.
//!
//! Redis 6.2 and newer and Valkey can notify a connection of changes to the keys that were read
//! through it (CLIENT TRACKING). A store uses one connection for this and remembers what was
//! counted through it. Checking again is one trip with a STRLEN for each bitmap. Redis sends its
//! notifications before the last reply, so a bitmap that was not reported is unchanged. A reported
//! bitmap is counted again and gets a new version, even if it has as many users as before.
//!
//! A connection that was cut off silently, for example by a NAT that dropped its state, is given
//! only a part of the timeout and is then replaced. What a broken connection knew is not trusted,
//! and neither is anything older than [`LIFE`]: everything is counted again, and a bitmap with the
//! same number of users and bytes is taken as unchanged. A bitmap whose length differs has changed
//! even if it was not reported: Redis sends no notification for SWAPDB. If the server has no such
//! tracking, or does not allow it for this user, every check counts. So do the nodes of a cluster.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::redis::{Value, cmd};

use crate::store::BitmapState;
use crate::store::redis::connection::{Batch, RedisConnection, Reply};

/// How long a connection is used before everything is counted again through a new one.
pub(super) const LIFE: Duration = Duration::from_secs(600);

/// How long until a server that could not track is asked again.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The timeout of a trip on an existing connection, or half of the configured timeout if that is
/// less. The rest is left to open a new one. Must be longer than the server is busy with other
/// clients.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// How many attempts there are to read all bitmaps at one moment while they change.
pub(super) const ROUNDS: usize = 4;

/// The most bitmaps to track.
pub(super) const MOST: usize = 100_000;

/// If connecting fails faster than this, the server may still answer on an existing connection: it
/// may just accept no more connections.
pub(super) const QUICK: Duration = Duration::from_millis(300);

/// The tracking connection, which one thread uses at a time.
#[derive(Default)]
pub(super) struct ClientTracking {
    pub(super) place: Mutex<Place>,
    pub(super) left: Condvar,
}

#[derive(Default)]
pub(super) struct Place {
    pub(super) taken: bool,
    pub(super) watcher: Option<Watcher>,
    /// When the server last turned out to be unable to track.
    pub(super) unable: Option<Instant>,
    /// What a connection that broke had known.
    pub(super) before: HashMap<String, Known>,
}

/// A connection that is notified of changes.
pub(super) struct Watcher {
    pub(super) conn: RedisConnection,
    pub(super) since: Instant,
    pub(super) known: HashMap<String, Known>,
}

/// A bitmap with no reported change.
#[derive(Clone, Copy)]
pub(super) struct Known {
    /// In bytes.
    pub(super) length: u64,
    pub(super) seen: BitmapState,
    /// Whether it was counted through this connection.
    pub(super) sure: bool,
}

/// Exclusive use of the place, released on drop.
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
        // Threads that find the server unable to track leave without taking a turn. Waking only one
        // would leave the others asleep.
        self.watch.left.notify_all();
    }
}

impl ClientTracking {
    pub(super) fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for exclusive use of the place; `None` if that takes too long or the server cannot
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
    /// Turns tracking on for a new connection; `None` if the server cannot track.
    pub(super) fn new(
        mut conn: RedisConnection,
        before: HashMap<String, Known>,
    ) -> Reply<Option<Self>> {
        let replies = conn.trip(&Batch::of([
            &*cmd("HELLO").arg(3),
            cmd("CLIENT").arg("TRACKING").arg("ON"),
            // A proxy may answer OK to anything.
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

    /// Drops what Redis has reported as changed, and returns those keys. `None` means all of them.
    pub(super) fn hear(&mut self) -> Option<HashSet<String>> {
        let mut changed = HashSet::new();
        for keys in self.conn.told() {
            let Some(Value::Array(keys)) = keys.into_iter().next() else {
                // Sent for FLUSHALL and FLUSHDB.
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

/// A version that no bitmap had before.
pub(super) fn new_version() -> u64 {
    static STATES: AtomicU64 = AtomicU64::new(1);
    STATES.fetch_add(1, Ordering::Relaxed)
}

/// Whether CLIENT TRACKINGINFO reports that tracking is on for every key that is read.
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
