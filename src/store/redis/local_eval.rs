//! Fetches bitmaps piece by piece and counts locally what the server cannot or need not compute.
//!
//! The plan is evaluated one range of users after the other. For each range, [`needs`] finds what
//! is required: where one operand of an intersection is empty the others are not fetched, and
//! BITPOS finds empty parts without transferring them. So a cohort of new users, whose bitmap is a
//! megabyte of zeros before a few bytes, costs only those bytes, and as many of each bitmap it is
//! intersected with.
//!
//! # Consistency
//! Everything that is fetched for a range comes in one transaction, which also checks again the
//! parts that were taken as empty. If users have appeared in one of them, the range is fetched
//! again with it. So a batch of marks is visible either whole or not at all within 65 536 users,
//! and no user is counted as returning who is not in the cohort: all counts of a range are computed
//! from the same bytes. Marks that arrive meanwhile may be in later ranges and not in earlier ones.
//! (If this user may not use transactions, or one tile of all bitmaps exceeds [`MOST`], the
//! commands are only sent together.)
//!
//! # Cost
//! A piece is at most [`MOST`] bytes in all, or one tile of 8 KiB of each bitmap if that is more.
//! Each request uses about twice as much memory. Redis serves other clients between pieces. Pieces
//! start small and grow while they arrive quickly, so that a slow link does not run into the
//! timeout.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{Cmd, Value, cmd};

use super::capabilities::Capabilities;
use super::connection::{
    Batch, RedisConnection, Reply, ServerFault, accept, go_on, integer, unexpected,
};
use super::needs::{Needs, WIDTH, below, between, needs, runs, tiles_of, width};
use super::server_eval::time_for;
use crate::bitmap::{self, TILE_BYTES, Tile, split};
use crate::sets::{Node, Plan, UserId};

/// The largest piece, in bytes.
pub(super) const MOST: u64 = 4 << 20;

/// The first piece if a whole plan is counted, in bytes.
pub(super) const FIRST: u64 = 1 << 20;

/// The first piece if users are listed, in bytes. Often only the first few users are wanted.
pub(super) const FIRST_OF_LIST: u64 = 128 << 10;

/// A piece that arrives faster than this doubles the size of the next one. One that takes ten times
/// as long halves it.
const QUICK: Duration = Duration::from_millis(50);

/// How far one BITPOS searches, in tiles: 16 MiB.
const LOOK: u32 = 2048;

/// How far a BITPOS searches that is sent along with a piece, in tiles: 256 KiB.
const LOOK_ALONG: u32 = 32;

/// How many bytes the BITPOS commands of one trip may search: about 4 ms.
const LOOKED_AT_ONCE: u64 = 32 << 20;

/// [`TILE_BYTES`] as a size.
const TILE_SIZE: usize = 8192;

/// The most commands in one trip.
const COMMANDS: usize = 2048;

/// What is known about a key's users from some tile on.
#[derive(Clone, Copy, Default)]
struct Known {
    /// There are no users before this tile.
    next: u32,
    /// Whether this tile is known to have users.
    sure: bool,
}

impl Known {
    /// Whether another BITPOS could say more about a window.
    fn is_vague(self, start: u32) -> bool {
        self.next < start || (!self.sure && self.next < start + WIDTH)
    }
}

/// The meaning of a reply.
enum Expect {
    /// Tiles of a key, from `first` on.
    Tiles { node: usize, first: u32 },
    /// Whether a part that was taken as empty has users now.
    Nobody { node: usize },
    /// The first user after the piece.
    Next { node: usize, from: u32 },
}

/// Fetches what a plan needs, from the first user to the last.
pub(super) struct Fetcher<'a> {
    conn: &'a mut RedisConnection,
    atomic: bool,
    plan: &'a Plan,
    keys: &'a [String],
    /// The length of each node, in bytes.
    lengths: Arc<[u64]>,
    /// The number of tiles of each node.
    tiles: Vec<u32>,
    known: Vec<Known>,
    /// The end of the longest root, in tiles.
    end: u32,
    /// The maximum size of the next piece, in bytes.
    piece: u64,
    /// The users counted so far in each root that is a key; `None` if a part of it was not fetched.
    counted: BTreeMap<usize, Option<u64>>,
}

impl<'a> Fetcher<'a> {
    /// `keys` holds the text of the key at each node, and `lengths` the length of each node in
    /// bytes.
    pub fn new(
        conn: &'a mut RedisConnection,
        capabilities: &Capabilities,
        plan: &'a Plan,
        keys: &'a [String],
        lengths: &[Option<u64>],
        first: u64,
    ) -> Reply<Self> {
        // If the server has STRLEN, every length is known.
        let lengths: Option<Arc<[u64]>> = lengths.iter().copied().collect();
        let Some(lengths) = lengths.filter(|_| capabilities.can_fetch()) else {
            return Err(ServerFault::Refused(
                "the server does not offer STRLEN, GETRANGE or BITPOS to this user, so bitmaps cannot be fetched piece by piece"
                    .to_owned(),
            ));
        };
        let tiles: Vec<u32> = lengths.iter().map(|length| tiles_of(*length)).collect();
        let is_key = |root: &usize| matches!(plan.nodes()[*root], Node::Key(_));
        let (counted, computed): (Vec<usize>, Vec<usize>) =
            plan.roots().iter().map(|id| id.index()).partition(is_key);
        let end = computed.iter().map(|root| tiles[*root]).max().unwrap_or(0);
        // A key that extends beyond the last piece is not fetched whole.
        let counted = counted
            .into_iter()
            .map(|node| (node, (tiles[node] <= end).then_some(0)))
            .collect();
        Ok(Fetcher {
            conn,
            atomic: capabilities.transactions_allowed,
            plan,
            keys,
            lengths,
            known: vec![Known::default(); tiles.len()],
            tiles,
            end,
            piece: first,
            counted,
        })
    }

    /// How many bytes it would fetch, as far as known.
    fn expected(&self) -> u64 {
        let windows = (0..self.end).step_by(WIDTH as usize);
        windows
            .map(|start| self.bytes(&self.needs(start).words, below(WIDTH)))
            .fold(0, u64::saturating_add)
    }

    /// Whether it would fetch at most `bytes` bytes. Searches the bitmaps if their lengths alone do
    /// not decide.
    pub fn is_within(&mut self, bytes: u64) -> Reply<bool> {
        if self.expected() <= bytes {
            return Ok(true);
        }
        let all: Vec<usize> = (0..self.end)
            .step_by(WIDTH as usize)
            .map(|start| self.needs(start).words)
            .reduce(|a, b| a.iter().zip(b).map(|(a, b)| a | b).collect())
            .map(|words| self.leaves(&words).map(|(node, _)| node).collect())
            .unwrap_or_default();
        self.look(0, &all)?;
        Ok(self.expected() <= bytes)
    }

    /// Counts the roots. `None` means that a key was not fetched whole, so the server has to count
    /// it.
    pub fn count(mut self) -> Reply<Vec<Option<u64>>> {
        let mut counts = vec![0; self.plan.roots().len()];
        let mut start = 0;
        while let Some(piece) = self.next(start)? {
            start = piece.end;
            let Ok(more) = bitmap::count_within(self.plan, &piece, piece.range());
            counts
                .iter_mut()
                .zip(more)
                .for_each(|(count, more)| *count += more);
        }
        let roots = self.plan.roots().iter().map(|id| id.index());
        Ok(roots
            .zip(counts)
            .map(|(root, count)| self.counted.get(&root).copied().unwrap_or(Some(count)))
            .collect())
    }

    /// Users of the only root, which must not be a key: in ascending order, after `after`, at most
    /// `limit`.
    pub fn members(mut self, after: Option<UserId>, limit: usize) -> Reply<Vec<UserId>> {
        let mut found = Vec::new();
        let from = after.map_or(Some(0), |after| after.checked_add(1));
        let (Some(from), Some(root)) = (from.filter(|_| limit > 0), self.plan.roots().first())
        else {
            return Ok(found);
        };
        let (first, place) = split(from);
        let mut start = u32::from(first);
        while let Some(piece) = self.next(start)?.filter(|_| found.len() < limit) {
            start = piece.end;
            let Ok(()) =
                bitmap::collect(self.plan, *root, &piece, piece.range(), |number, tile| {
                    tile.visit(if number == first { place } else { 0 }, |place| {
                        found.push(bitmap::user(number, place));
                        found.len() < limit
                    });
                    found.len() < limit
                });
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// The next piece, from a tile on, in which any root can have users.
    fn next(&mut self, mut start: u32) -> Reply<Option<Piece>> {
        while start < self.end {
            go_on()?;
            let mut needed = self.needs(start);
            let vague: Vec<usize> = self
                .leaves(&needed.words)
                .map(|(node, _)| node)
                .filter(|n| self.known[*n].is_vague(start))
                .collect();
            if !vague.is_empty() {
                self.look(start, &vague)?;
                needed = self.needs(start);
            }
            if needed.roots == 0 {
                self.skip(start, WIDTH, &needed);
                start += WIDTH;
                continue;
            }
            let words = self.leaves(&needed.words).map(|(_, word)| word);
            let width = width(words, self.piece / TILE_BYTES).min(self.end - start);
            return self.fetch(start, width).map(Some);
        }
        Ok(None)
    }

    fn needs(&self, start: u32) -> Needs {
        needs(self.plan, &self.tiles, start, |node| {
            self.present(node, start)
        })
    }

    /// The tiles of a window in which a key may have users.
    fn present(&self, node: usize, start: u32) -> u64 {
        between(start, self.known[node].next, self.tiles[node])
    }

    /// The keys of which any tile is needed.
    fn leaves<'w>(&self, words: &'w [u64]) -> impl Iterator<Item = (usize, u64)> + use<'a, 'w> {
        let nodes = self.plan.nodes().iter().zip(words).enumerate();
        nodes
            .filter(|(_, (node, word))| **word != 0 && matches!(node, Node::Key(_)))
            .map(|(i, (_, word))| (i, *word))
    }

    fn bytes(&self, words: &[u64], mask: u64) -> u64 {
        self.leaves(words)
            .map(|(_, word)| u64::from((word & mask).count_ones()) * TILE_BYTES)
            .sum()
    }

    /// Marks the keys that are not fetched whole.
    fn skip(&mut self, start: u32, width: u32, needed: &Needs) {
        let (known, tiles) = (&self.known, &self.tiles);
        for (node, users) in &mut self.counted {
            if between(start, known[*node].next, tiles[*node]) & below(width) & !needed.words[*node]
                != 0
            {
                *users = None;
            }
        }
    }

    /// Finds the first user of each key, from a tile on.
    fn look(&mut self, start: u32, nodes: &[usize]) -> Reply<()> {
        let mut nodes = nodes.iter().copied().peekable();
        while nodes.peek().is_some() {
            let (mut batch, mut asked, mut bytes) = (Batch::default(), Vec::new(), 0);
            while let Some(node) = nodes.peek().copied() {
                let from = start.max(self.known[node].next);
                let more = u64::from(self.tiles[node].saturating_sub(from).min(LOOK)) * TILE_BYTES;
                if !asked.is_empty() && (bytes + more > LOOKED_AT_ONCE || asked.len() == COMMANDS) {
                    break;
                }
                batch.push(&self.bitpos(node, from, from + LOOK));
                asked.push((node, from));
                bytes += more;
                nodes.next();
            }
            go_on()?;
            let replies = self
                .conn
                .trip_within(&batch, self.conn.timeout() + time_for(bytes))?;
            for ((node, from), reply) in asked.into_iter().zip(replies) {
                let reply = accept(reply, Some(self.keys[node].clone()))?;
                self.known[node] = next_of(&reply, from, LOOK)?;
            }
        }
        Ok(())
    }

    /// The command that finds the first user of a key in the tiles `from..to`.
    fn bitpos(&self, node: usize, from: u32, to: u32) -> Cmd {
        let mut command = cmd("BITPOS");
        command.arg(&self.keys[node]).arg(1);
        command
            .arg(u64::from(from) * TILE_BYTES)
            .arg(u64::from(to) * TILE_BYTES - 1);
        command
    }

    /// Fetches the needed tiles among the first `width` tiles of a window.
    fn fetch(&mut self, start: u32, width: u32) -> Reply<Piece> {
        let end = start + width;
        loop {
            let needed = self.needs(start);
            let mut piece = Piece::new(start..end, &self.lengths, false);
            let (mut stale, mut learned) = (Vec::new(), Vec::new());
            let mut requests = self.requests(start, width, &needed).into_iter().peekable();
            while requests.peek().is_some() {
                let (mut batch, mut expected, mut bytes) = (Batch::default(), Vec::new(), 0);
                while let Some((command, expect, more)) = requests.next_if(|(_, _, more)| {
                    expected.is_empty() || bytes + more <= MOST && expected.len() < COMMANDS
                }) {
                    batch.push(&command);
                    expected.push(expect);
                    bytes += more;
                }
                let began = Instant::now();
                let limit = self.conn.timeout() + time_for(bytes);
                let about = |place: usize| {
                    expected
                        .get(place)
                        .map(|expect| self.keys[expect.node()].clone())
                };
                let replies = self.conn.transaction(&batch, self.atomic, limit, &about)?;
                self.pace(began.elapsed());
                for (expect, reply) in expected.iter().zip(replies) {
                    match expect {
                        Expect::Tiles { node, first } => piece.add(*node, *first, reply)?,
                        Expect::Nobody { node } => stale.extend(found(&reply)?.map(|_| *node)),
                        Expect::Next { node, from } => {
                            learned.push((*node, next_of(&reply, *from, LOOK_ALONG)?))
                        }
                    }
                }
            }
            // Each round adds at least one key that is fetched from `start` on, so the loop ends.
            if stale.is_empty() {
                self.skip(start, width, &needed);
                for (node, users) in &mut self.counted {
                    let more: u64 = piece.tiles[*node].1.iter().map(|tile| tile.len()).sum();
                    *users = users.map(|users| users + more);
                }
                learned
                    .into_iter()
                    .for_each(|(node, known)| self.known[node] = known);
                return Ok(piece);
            }
            stale.into_iter().for_each(|node| {
                self.known[node] = Known {
                    next: start,
                    sure: true,
                }
            });
        }
    }

    /// The commands that fetch what is needed, and how many bytes each transfers.
    fn requests(&self, start: u32, width: u32, needed: &Needs) -> Vec<(Cmd, Expect, u64)> {
        let mut requests = Vec::new();
        // First check the parts that are taken as empty and would matter if they were not.
        let longest = needs(self.plan, &self.tiles, start, |node| {
            between(start, 0, self.tiles[node])
        });
        for (node, word) in self.leaves(&longest.words) {
            let next = self.known[node].next.min(start + width);
            if next > start && word & below(next - start) != 0 {
                requests.push((self.bitpos(node, start, next), Expect::Nobody { node }, 0));
            }
        }
        for (node, word) in self.leaves(&needed.words) {
            for (first, end) in runs(word & below(width)) {
                let (first, end) = (start + first, start + end);
                let from = u64::from(first) * TILE_BYTES;
                // Not beyond the length that was read before, which complements depend on.
                let to = (u64::from(end) * TILE_BYTES).min(self.lengths[node]);
                let mut command = cmd("GETRANGE");
                command
                    .arg(&self.keys[node])
                    .arg(from)
                    .arg(to.saturating_sub(1));
                requests.push((
                    command,
                    Expect::Tiles { node, first },
                    to.saturating_sub(from),
                ));
            }
            let from = start + width;
            if from < self.tiles[node] {
                requests.push((
                    self.bitpos(node, from, from + LOOK_ALONG),
                    Expect::Next { node, from },
                    0,
                ));
            }
        }
        requests
    }

    fn pace(&mut self, took: Duration) {
        if took < QUICK {
            self.piece = (self.piece * 2).min(MOST);
        } else if took > QUICK * 10 {
            self.piece = (self.piece / 2).max(TILE_BYTES);
        }
    }
}

impl Expect {
    fn node(&self) -> usize {
        match self {
            Expect::Tiles { node, .. } | Expect::Nobody { node } | Expect::Next { node, .. } => {
                *node
            }
        }
    }
}

/// The tile of the bit that BITPOS found.
fn found(reply: &Value) -> Reply<Option<u32>> {
    Ok(u32::try_from(integer("BITPOS", reply)? >> 16).ok())
}

/// The result of a BITPOS that searched `looked` tiles.
fn next_of(reply: &Value, from: u32, looked: u32) -> Reply<Known> {
    Ok(match found(reply)? {
        Some(tile) => Known {
            next: tile,
            sure: true,
        },
        None => Known {
            next: from.saturating_add(looked),
            sure: false,
        },
    })
}

/// The bitmaps fetched for a range of users.
pub(super) struct Piece {
    start: u32,
    end: u32,
    lengths: Arc<[u64]>,
    /// Whether every bitmap was fetched whole in this range.
    whole: bool,
    /// For each node, the numbers of its non-empty tiles, and the tiles.
    tiles: Vec<(Vec<u16>, Vec<Arc<Tile>>)>,
}

impl Piece {
    /// An empty piece for a range of tiles. `lengths` are those of the plan's nodes, in bytes.
    pub fn new(tiles: Range<u32>, lengths: &Arc<[u64]>, whole: bool) -> Self {
        let nothing = vec![Default::default(); lengths.len()];
        Piece {
            start: tiles.start,
            end: tiles.end,
            lengths: Arc::clone(lengths),
            whole,
            tiles: nothing,
        }
    }

    pub fn range(&self) -> RangeInclusive<u16> {
        let tile = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        tile(self.start)..=tile(self.end.saturating_sub(1))
    }

    /// Adds the reply of GETRANGE for a key, from tile `first` on.
    pub fn add(&mut self, node: usize, first: u32, reply: Value) -> Reply<()> {
        let bytes = match reply {
            Value::BulkString(bytes) => bytes,
            Value::Nil => return Ok(()),
            other => return Err(unexpected("GETRANGE", &other)),
        };
        let (numbers, tiles) = &mut self.tiles[node];
        let first = u16::try_from(first).unwrap_or(u16::MAX);
        for (number, bytes) in (first..=u16::MAX).zip(bytes.chunks(TILE_SIZE)) {
            let tile = Tile::of_bytes(bytes);
            if !tile.is_empty() {
                numbers.push(number);
                tiles.push(Arc::new(tile));
            }
        }
        Ok(())
    }
}

impl bitmap::Source for Piece {
    type Error = Infallible;

    fn byte_len(&self, leaf: usize) -> u64 {
        self.lengths[leaf]
    }

    /// If a key may not have been fetched whole, the evaluation does not count it.
    fn users(&self, _: usize) -> Option<u64> {
        (!self.whole).then_some(0)
    }

    fn tiles(&self, leaf: usize) -> &[u16] {
        &self.tiles[leaf].0
    }

    fn tile(&self, leaf: usize, number: u16) -> Result<Arc<Tile>, Infallible> {
        let (numbers, tiles) = &self.tiles[leaf];
        let place = numbers.binary_search(&number).ok();
        Ok(place
            .and_then(|place| tiles.get(place))
            .map(Arc::clone)
            .unwrap_or_default())
    }
}
