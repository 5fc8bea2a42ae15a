//! Counts whose bitmaps Redis reports changes of.

use std::collections::HashMap;
use std::time::Instant;

use crate::sets::Plan;
use crate::store::BitmapState;
use crate::store::redis::capabilities::Capabilities;
use crate::store::redis::client_tracking::{Known, LIFE, MOST, QUICK, SIGN_OF_LIFE, Watcher};
use crate::store::redis::client_tracking::{ROUNDS, new_version};
use crate::store::redis::connection::{Reply, ServerFault};
use crate::store::redis::lower::{Script, Source};
use crate::store::redis::server_eval::{Executor, Scratch};
use crate::store::redis::store::{RECHECK, RedisStore};

impl RedisStore {
    /// The state of each root of a plan whose roots are bitmaps, using the tracking connection;
    /// `None` if tracking is not available.
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
                // The connection may have been closed or cut off silently. A new one will show.
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
                    "this server does not report changes"
                );
                turn.unable = Some(Instant::now());
                return Ok(None);
            }
        };
        let result = self.looked(&mut watcher, plan);
        turn.watcher = Some(watcher);
        result.map(Some)
    }

    /// Looks until nothing changes during a look, so that all states are of one moment. Gives up
    /// after [`ROUNDS`] if marks keep arriving.
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

    /// The states of a plan's roots, and whether they all hold at one moment: that of the last
    /// reply.
    fn look_once(&self, watcher: &mut Watcher, plan: &Plan) -> Reply<(Vec<BitmapState>, bool)> {
        // No transactions: old servers send notifications inside the reply of EXEC.
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
                _ => unknown.push(node),
            }
        }
        let mut is_one_moment = true;
        if !unknown.is_empty() {
            let script = Script {
                steps: Vec::new(),
                roots: unknown.iter().copied().map(Source::Key).collect(),
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
            for node in unknown {
                let users = counted.of(Source::Key(node));
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
                // A bitmap that changed while it was counted is unknown again.
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
