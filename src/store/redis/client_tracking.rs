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

use super::capabilities::Capabilities;
use super::connection::{Batch, RedisConnection, Reply, ServerFault};
use super::lower::{Script, Source};
use super::server_eval::{Executor, Scratch};
use super::{RECHECK, RedisStore};
use crate::sets::Plan;
use crate::store::BitmapState;

/// How long a connection is listened to before everything is counted anew through a fresh one.
const LIFE: Duration = Duration::from_secs(600);

/// How long a server that cannot track is left alone.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a trip may take on a connection that was there before, or half the time-out where that
/// is less: then a fresh one is made in what is left. Longer than a server is busy with others.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// How often bitmaps are looked at that change meanwhile.
const ROUNDS: usize = 4;

/// The most bitmaps to be told of.
const MOST: usize = 100_000;

/// A server that fails as quickly as this may still answer on a connection there is: it may just
/// take no more of them.
const QUICK: Duration = Duration::from_millis(300);

/// The place of the connection that is told of changes.
#[derive(Default)]
pub(super) struct ClientTracking {
    place: Mutex<Place>,
    left: Condvar,
}

#[derive(Default)]
struct Place {
    taken: bool,
    watcher: Option<Watcher>,
    /// When it turned out that the server cannot do it.
    unable: Option<Instant>,
    /// What a connection knew that broke.
    before: HashMap<String, Known>,
}

/// A connection that is told of changes.
struct Watcher {
    conn: RedisConnection,
    since: Instant,
    known: HashMap<String, Known>,
}

/// A bitmap of which no change was told.
#[derive(Clone, Copy)]
struct Known {
    /// In bytes.
    length: u64,
    seen: BitmapState,
    /// It was counted through this connection.
    sure: bool,
}

/// Whoever has it is alone with the place, which is given back when this goes.
struct Turn<'a> {
    watch: &'a ClientTracking,
    watcher: Option<Watcher>,
    unable: Option<Instant>,
    before: HashMap<String, Known>,
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
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else has the place; `None` when that takes too long, or the server cannot
    /// track.
    fn turn(&self, limit: Duration) -> Option<Turn<'_>> {
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
    fn new(mut conn: RedisConnection, before: HashMap<String, Known>) -> Reply<Option<Self>> {
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
    fn hear(&mut self) -> Option<HashSet<String>> {
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
fn new_version() -> u64 {
    static STATES: AtomicU64 = AtomicU64::new(1);
    STATES.fetch_add(1, Ordering::Relaxed)
}

/// Whether CLIENT TRACKINGINFO says that tracking is on, and of every key that is read.
fn says_on(reply: &Value) -> bool {
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

impl RedisStore {
    /// The count of each root of a plan whose roots are bitmaps, by way of the connection that is
    /// told of changes; `None` when it has to be done without.
    pub(super) fn watched(&self, plan: &Plan) -> Reply<Option<Vec<BitmapState>>> {
        let Some(pool) = self.route.server() else {
            return Ok(None);
        };
        let Some(mut turn) = self.watch.turn(pool.connector().timeout()) else {
            return Ok(None);
        };
        let end = Instant::now() + pool.connector().timeout();
        let mut before = std::mem::take(&mut turn.before);
        if let Some(mut watcher) = turn.watcher.take() {
            if watcher.since.elapsed() < LIFE && watcher.known.len() < MOST {
                watcher
                    .conn
                    .set_timeout(SIGN_OF_LIFE.min(pool.connector().timeout() / 2));
                let result = self.looked(&mut watcher, plan);
                // The connection may have been closed, or cut off without a word: another one will
                // tell.
                if !matches!(result, Err(ServerFault::Dropped(_) | ServerFault::Away(_))) {
                    turn.watcher = Some(watcher);
                    return result.map(Some);
                }
            }
            before = watcher.known;
        }
        if before.len() >= MOST {
            before.clear();
        }
        let began = Instant::now();
        let connected = pool.connector().connect(end);
        let mut watcher = match connected.and_then(|conn| Watcher::new(conn, before)) {
            Ok(Some(watcher)) => watcher,
            Err(ServerFault::Away(_) | ServerFault::Dropped(_)) if began.elapsed() < QUICK => {
                return Ok(None);
            }
            Err(fault @ (ServerFault::Away(_) | ServerFault::Dropped(_))) => return Err(fault),
            Ok(None) | Err(_) => {
                tracing::debug!(
                    location = self.route.location(),
                    "this server does not tell of changes"
                );
                turn.unable = Some(Instant::now());
                return Ok(None);
            }
        };
        let result = self.looked(&mut watcher, plan);
        turn.watcher = Some(watcher);
        result.map(Some)
    }

    /// Looks until nothing changes meanwhile, so that what is seen is of one moment; under marks
    /// that never pause it gives up after [`ROUNDS`].
    fn looked(&self, watcher: &mut Watcher, plan: &Plan) -> Reply<Vec<BitmapState>> {
        let mut seen = Vec::new();
        for _ in 0..ROUNDS {
            let is_one_moment;
            (seen, is_one_moment) = self.look_once(watcher, plan)?;
            if is_one_moment {
                break;
            }
        }
        Ok(seen)
    }

    /// What a plan's roots are, and whether all of them were so at one moment: at the last answer.
    fn look_once(&self, watcher: &mut Watcher, plan: &Plan) -> Reply<(Vec<BitmapState>, bool)> {
        // Without transactions: what is told must not arrive in the middle of an answer, as old
        // servers do it in EXEC.
        let capabilities = Capabilities {
            transactions: false,
            ..self.capabilities(&mut watcher.conn, RECHECK)?
        };
        let (keys, lengths) = self.measure(&mut watcher.conn, &capabilities, plan)?;
        watcher.hear();
        let mut found = HashMap::new();
        let mut unknown = Vec::new();
        for node in plan.roots().iter().map(|root| root.index()) {
            match (lengths[node], watcher.known.get(&keys[node])) {
                (Some(0), _) => {}
                (Some(length), Some(known)) if known.sure && known.length == length => {
                    found.insert(node, known.seen);
                }
                _ => unknown.push(Source::Key(node)),
            }
        }
        let mut is_one_moment = true;
        if !unknown.is_empty() {
            let script = Script {
                steps: Vec::new(),
                roots: unknown,
                lengths,
            };
            let mut scratch = Scratch::new(&self.prefix);
            let mut executor = Executor {
                conn: &mut watcher.conn,
                capabilities: &capabilities,
                scratch: &mut scratch,
                keys: &keys,
            };
            let counted = executor.count(&script)?;
            let changed = watcher.hear();
            is_one_moment = match &changed {
                Some(changed) => {
                    changed.is_empty()
                        || !plan
                            .roots()
                            .iter()
                            .any(|r| changed.contains(&keys[r.index()]))
                }
                None => false,
            };
            for (source, users) in counted {
                let Source::Key(node) = source else { continue };
                let key = &keys[node];
                let before = watcher.known.get(key);
                let same = |known: &&Known| {
                    known.seen.users == users && Some(known.length) == script.lengths[node]
                };
                let version = before
                    .filter(same)
                    .map_or_else(new_version, |known| known.seen.version);
                let seen = BitmapState { users, version };
                found.insert(node, seen);
                // What changed while it was counted is not known any more.
                if let (Some(length), Some(changed)) = (script.lengths[node], &changed)
                    && !changed.contains(key)
                {
                    watcher.known.insert(
                        key.clone(),
                        Known {
                            length,
                            seen,
                            sure: true,
                        },
                    );
                }
            }
        }
        let nobody = BitmapState {
            users: 0,
            version: 0,
        };
        let seen = plan
            .roots()
            .iter()
            .map(|root| found.get(&root.index()).copied().unwrap_or(nobody));
        Ok((seen.collect(), is_one_moment))
    }
}
