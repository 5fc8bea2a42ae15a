//! How many users bitmaps have, without counting those again that nobody has changed.
//!
//! Redis (6.2 and newer, and Valkey) can tell a connection which of the keys that were read through it somebody has changed
//! since: CLIENT TRACKING. One connection of a store is used so. What was counted through it is remembered with it, and
//! looking again is a trip with a STRLEN for each bitmap: all that Redis had to tell arrives before the last answer, so what
//! it told nothing of is as it was. Whatever it does tell of is counted again.
//!
//! Nothing is believed of a connection that broke, or for longer than [`LIFE`]; a bitmap whose length is another one was
//! changed whatever was told, as by SWAPDB, of which Redis tells nothing. A server that has no such tracking, or not for
//! this user, counts each time; so do the nodes of a cluster.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::redis::{Value, cmd};

use super::capabilities::Capabilities;
use super::cluster::Route;
use super::execute::{Executor, Scratch};
use super::resolve::{Script, Source};
use super::wire::{Batch, Conn, Fault, Reply};
use super::{RECHECK, RedisStore};
use crate::sets::Plan;

/// How long a connection is listened to before everything is counted anew through a fresh one.
const LIFE: Duration = Duration::from_secs(600);

/// How long a server that cannot track is left alone.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most bitmaps to be told of.
const MOST: usize = 100_000;

/// A server that fails as quickly as this may still answer on a connection there is: it may just take no more of them.
const QUICK: Duration = Duration::from_millis(300);

/// The place of the connection that is told of changes.
#[derive(Default)]
pub(super) struct Watch {
    place: Mutex<Place>,
    left: Condvar,
}

#[derive(Default)]
struct Place {
    taken: bool,
    watcher: Option<Watcher>,
    /// When it turned out that the server cannot do it.
    unable: Option<Instant>,
}

/// A connection that is told of changes.
struct Watcher {
    conn: Conn,
    since: Instant,
    /// Of keys of which no change was told: the length in bytes, and how many users.
    known: HashMap<String, (u64, u64)>,
}

/// Whoever has it is alone with the place, which is given back when this goes.
struct Turn<'a> {
    watch: &'a Watch,
    watcher: Option<Watcher>,
    unable: Option<Instant>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let watcher = self.watcher.take().filter(|watcher| !watcher.conn.is_broken());
        *self.watch.place() = Place { taken: false, watcher, unable: self.unable };
        self.watch.left.notify_one();
    }
}

impl Watch {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else has the place; `None` when that takes too long, or the server cannot track.
    fn turn(&self, limit: Duration) -> Option<Turn<'_>> {
        let is_taken = |place: &mut Place| place.taken;
        let waited = self.left.wait_timeout_while(self.place(), limit, is_taken);
        let (mut place, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if place.taken || place.unable.is_some_and(|since| since.elapsed() < PATIENCE) {
            return None;
        }
        place.taken = true;
        Some(Turn { watch: self, watcher: place.watcher.take(), unable: None })
    }
}

impl Watcher {
    /// Has a fresh connection told of changes; `None` when the server cannot.
    fn new(mut conn: Conn) -> Reply<Option<Self>> {
        let replies = conn.trip(&Batch::of([
            &*cmd("HELLO").arg(3),
            cmd("CLIENT").arg("TRACKING").arg("ON"),
            // A proxy may well say OK to anything.
            cmd("CLIENT").arg("TRACKINGINFO"),
        ]))?;
        let tracks = replies.get(1) == Some(&Value::Okay) && replies.get(2).is_some_and(says_on);
        conn.listen();
        Ok(tracks.then(|| Watcher { conn, since: Instant::now(), known: HashMap::new() }))
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
                let Value::BulkString(key) = key else { continue };
                let key = String::from_utf8_lossy(&key).into_owned();
                self.known.remove(&key);
                changed.insert(key);
            }
        }
        Some(changed)
    }
}

/// Whether CLIENT TRACKINGINFO says that tracking is on, and of every key that is read.
fn says_on(reply: &Value) -> bool {
    let Value::Map(fields) = reply else { return false };
    let is = |value: &Value, text: &str| match value {
        Value::BulkString(bytes) => bytes == text.as_bytes(),
        Value::SimpleString(said) => said == text,
        _ => false,
    };
    fields.iter().any(|(name, flags)| match flags {
        Value::Array(flags) | Value::Set(flags) => is(name, "flags") && flags.len() == 1 && is(&flags[0], "on"),
        _ => false,
    })
}

impl RedisStore {
    /// The count of each root of a plan whose roots are bitmaps, by way of the connection that is told of changes; `None`
    /// when it has to be done without.
    pub(super) fn watched(&self, plan: &Plan) -> Reply<Option<Vec<u64>>> {
        let Route::Server(pool) = &self.route else { return Ok(None) };
        let Some(mut turn) = self.watch.turn(pool.connector().timeout()) else { return Ok(None) };
        let is_old = |watcher: &Watcher| watcher.since.elapsed() > LIFE || watcher.known.len() > MOST;
        if let Some(mut watcher) = turn.watcher.take().filter(|watcher| !is_old(watcher)) {
            let result = self.look(&mut watcher, plan);
            turn.watcher = Some(watcher);
            // A connection nobody used for long may have been closed.
            if !matches!(result, Err(Fault::Dropped(_))) {
                return result.map(Some);
            }
        }
        let began = Instant::now();
        let mut watcher = match pool.connector().connect(began + pool.connector().timeout()).and_then(Watcher::new) {
            Ok(Some(watcher)) => watcher,
            Err(Fault::Away(_) | Fault::Dropped(_)) if began.elapsed() < QUICK => return Ok(None),
            Err(fault @ (Fault::Away(_) | Fault::Dropped(_))) => return Err(fault),
            Ok(None) | Err(_) => {
                tracing::debug!(location = self.route.location(), "this server does not tell of changes");
                turn.unable = Some(Instant::now());
                return Ok(None);
            }
        };
        let result = self.look(&mut watcher, plan);
        turn.watcher = Some(watcher);
        result.map(Some)
    }

    fn look(&self, watcher: &mut Watcher, plan: &Plan) -> Reply<Vec<u64>> {
        // Without transactions: what is told must not arrive in the middle of an answer, as old servers do it in EXEC.
        let capabilities = Capabilities { transactions: false, ..self.capabilities(&mut watcher.conn, RECHECK)? };
        let (keys, lengths) = self.measure(&mut watcher.conn, &capabilities, plan)?;
        watcher.hear();
        let mut counts = HashMap::new();
        let mut unknown = Vec::new();
        for node in plan.roots().iter().map(|root| root.index()) {
            match (lengths[node], watcher.known.get(&keys[node])) {
                (Some(0), _) => {}
                (Some(length), Some((known, users))) if *known == length => {
                    counts.insert(node, *users);
                }
                _ => unknown.push(Source::Key(node)),
            }
        }
        if !unknown.is_empty() {
            let script = Script { steps: Vec::new(), roots: unknown, lengths };
            let mut scratch = Scratch::new(&self.prefix);
            let mut executor =
                Executor { conn: &mut watcher.conn, capabilities: &capabilities, scratch: &mut scratch, keys: &keys };
            let counted = executor.count(&script)?;
            // What changed while it was counted is not known any more.
            let changed = watcher.hear();
            for (source, users) in counted {
                let Source::Key(node) = source else { continue };
                counts.insert(node, users);
                if let (Some(length), Some(changed)) = (script.lengths[node], &changed)
                    && !changed.contains(&keys[node])
                {
                    watcher.known.insert(keys[node].clone(), (length, users));
                }
            }
        }
        Ok(plan.roots().iter().map(|root| counts.get(&root.index()).copied().unwrap_or(0)).collect())
    }
}
