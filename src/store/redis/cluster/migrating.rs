//! Answers requests for a shard whose slot is migrating, with some keys on each of two nodes.
//!
//! During a migration, Redis refuses everything that needs several keys (TRYAGAIN, ASK):
//! intersections and transactions. Commands for one key work, and are sent to the node that has the
//! key ([`RedisConnection::trip`]). So bitmaps are fetched and counted here, each read once for
//! everything that is asked, and marks are recorded one by one. If a bitmap disappears while it is
//! read, the request starts again.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::redis::{Value, cmd};

use crate::bitmap::{self, TILE_BYTES};
use crate::sets::{Key, Plan, UserId};
use crate::store::redis::capabilities::Capabilities;
use crate::store::redis::connection::{Batch, RedisConnection, Reply, ServerFault, accept, go_on};
use crate::store::redis::local_eval::{MOST, Piece};
use crate::store::redis::needs::tiles_of;
use crate::store::redis::store::{RedisStore, SMALL_COMMANDS, lengths_of};
use crate::store::{Mark, Result};

/// Records marks one by one. After an error, some may have been recorded.
pub(super) fn apply(store: &RedisStore, marks: &[Mark]) -> Result<()> {
    // Only the last mark of each user: commands that are sent to the other node run after all
    // others, so order is not kept.
    let last: BTreeMap<(&Key, UserId), bool> = marks
        .iter()
        .map(|mark| ((&mark.key, mark.user), mark.value))
        .collect();
    let texts: BTreeMap<&Key, String> = last
        .keys()
        .map(|(key, _)| (*key, key.text(&store.prefix)))
        .collect();
    let marks: Vec<(&String, UserId, bool)> = last
        .iter()
        .filter_map(|((key, user), value)| Some((texts.get(key)?, *user, *value)))
        .collect();
    store.with(|conn, capabilities| {
        // Fails if a key is not a bitmap, before anything is written.
        lengths_of(conn, capabilities, &texts.values().collect::<Vec<_>>())?;
        for chunk in marks.chunks(SMALL_COMMANDS) {
            let mut batch = Batch::default();
            batch.confirm = true;
            for (text, user, value) in chunk {
                batch.push(cmd("SETBIT").arg(text).arg(*user).arg(u8::from(*value)));
            }
            for ((text, ..), reply) in chunk.iter().zip(conn.trip(&batch)?) {
                accept(reply, Some((*text).clone()))?;
            }
        }
        store.route.confirm(conn)
    })
}

/// Counts the roots of a plan in a shard.
pub(super) fn count(store: &RedisStore, plan: &Plan) -> Result<Vec<u64>> {
    store.with(|conn, capabilities| {
        let bitmaps = Bitmaps::measure(store, conn, capabilities, plan)?;
        let mut counts = vec![0; plan.roots().len()];
        let mut start = 0;
        while let Some(piece) = bitmaps.piece(conn, start)? {
            let Ok(more) = bitmap::count_within(plan, &piece, piece.range());
            counts
                .iter_mut()
                .zip(more)
                .for_each(|(count, more)| *count += more);
            start += bitmaps.at_once;
        }
        Ok(counts)
    })
}

/// The users of a plan's only root in a shard, in ascending order, after `after`, at most `limit`.
pub(super) fn members(
    store: &RedisStore,
    plan: &Plan,
    after: Option<UserId>,
    limit: usize,
) -> Result<Vec<UserId>> {
    store.with(|conn, capabilities| {
        let mut found = Vec::new();
        let from = after.map_or(Some(0), |after| after.checked_add(1));
        let (Some(from), Some(root)) = (from.filter(|_| limit > 0), plan.roots().first()) else {
            return Ok(found);
        };
        let (first, place) = bitmap::split(from);
        let bitmaps = Bitmaps::measure(store, conn, capabilities, plan)?;
        let mut start = u32::from(first);
        while let Some(piece) = bitmaps.piece(conn, start)?.filter(|_| found.len() < limit) {
            let Ok(()) = bitmap::collect(plan, *root, &piece, piece.range(), |number, tile| {
                tile.visit(if number == first { place } else { 0 }, |place| {
                    found.push(bitmap::user(number, place));
                    found.len() < limit
                });
                found.len() < limit
            });
            start += bitmaps.at_once;
        }
        Ok(found)
    })
}

/// The bitmaps of a plan in a shard.
struct Bitmaps {
    texts: Vec<String>,
    /// The length of each node in bytes. Only those of keys are used.
    lengths: Arc<[u64]>,
    /// The nodes whose keys exist, with their lengths in bytes.
    there: Vec<(usize, u64)>,
    /// How many tiles of every bitmap are fetched in one trip.
    at_once: u32,
    /// The number of tiles of the longest bitmap.
    end: u32,
}

impl Bitmaps {
    fn measure(
        store: &RedisStore,
        conn: &mut RedisConnection,
        capabilities: &Capabilities,
        plan: &Plan,
    ) -> Reply<Self> {
        let (texts, lengths) = store.measure(conn, capabilities, plan)?;
        let unknown = || {
            ServerFault::Refused(
                "the server does not offer STRLEN to this user, which is needed to fetch bitmaps"
                    .to_owned(),
            )
        };
        let lengths: Arc<[u64]> = lengths
            .into_iter()
            .collect::<Option<Arc<[u64]>>>()
            .ok_or_else(unknown)?;
        let there: Vec<(usize, u64)> = lengths
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, bytes)| *bytes > 0)
            .collect();
        let each = u64::try_from(there.len())
            .unwrap_or(u64::MAX)
            .saturating_mul(TILE_BYTES)
            .max(1);
        let at_once = u32::try_from(MOST / each).unwrap_or(1).max(1);
        let end = tiles_of(lengths.iter().copied().max().unwrap_or(0));
        Ok(Bitmaps {
            texts,
            lengths,
            there,
            at_once,
            end,
        })
    }

    /// The tiles of all bitmaps from `start` on; `None` after the last.
    fn piece(&self, conn: &mut RedisConnection, start: u32) -> Reply<Option<Piece>> {
        if start >= self.end {
            return Ok(None);
        }
        go_on()?;
        let end = start.saturating_add(self.at_once).min(self.end);
        let mut piece = Piece::new(start..end, &self.lengths, true);
        let (from, to) = (
            u64::from(start) * TILE_BYTES,
            u64::from(end) * TILE_BYTES - 1,
        );
        let reach: Vec<usize> = self
            .there
            .iter()
            .filter(|(_, bytes)| *bytes > from)
            .map(|(node, _)| *node)
            .collect();
        for nodes in reach.chunks(SMALL_COMMANDS) {
            let mut batch = Batch::default();
            nodes.iter().for_each(|node| {
                batch.push(cmd("GETRANGE").arg(&self.texts[*node]).arg(from).arg(to))
            });
            for (node, reply) in nodes.iter().zip(conn.trip(&batch)?) {
                let reply = accept(reply, Some(self.texts[*node].clone()))?;
                if matches!(&reply, Value::BulkString(bytes) if bytes.is_empty())
                    || reply == Value::Nil
                {
                    // The key was deleted or has moved on. The next attempt reads its length again.
                    return Err(ServerFault::Between(format!(
                        "`{}` moved or was deleted while it was being read",
                        self.texts[*node]
                    )));
                }
                piece.add(*node, start, reply)?;
            }
        }
        Ok(Some(piece))
    }
}
