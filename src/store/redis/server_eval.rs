//! Runs a script of set operations on the server, in chunks, with temporary keys that cannot stay
//! behind.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::redis::{Cmd, cmd};

use super::capabilities::{Capabilities, Expiry};
use super::connection::{Batch, RedisConnection, Reply, ServerFault, go_on, natural};
use super::lower::{Op, Script, Source, Step};
use crate::sets::{Prefix, SCRATCH};

/// The limit of one chunk. Redis serves no other client while it runs a chunk.
#[derive(Clone, Copy)]
struct Chunk {
    /// The most bytes of bitmaps it may read or write.
    bytes: u64,
    /// The most commands it may have: each costs about a microsecond, however small its bitmaps.
    commands: usize,
}

/// About 5 ms.
const CHUNK: Chunk = Chunk {
    bytes: 16 << 20,
    commands: 512,
};

/// About 50 ms, for rare requests that should be of one moment.
const LARGE_CHUNK: Chunk = Chunk {
    bytes: 160 << 20,
    commands: 5120,
};

/// What to do with a script.
struct Request {
    /// Whether to count the users in its roots.
    count: bool,
    /// Whether to keep the temporary keys of its roots.
    keep: bool,
    chunk: Chunk,
}

/// The most operands of one BITOP. Beyond 16, Redis works byte by byte instead of word by word,
/// which takes about ten times as long.
const FAST_OPERANDS: usize = 16;

/// The assumed size of a bitmap of unknown length.
const UNKNOWN_BYTES: u64 = 256 << 10;

/// The bytes that a server processes in a microsecond, underestimated by a factor of ten or more.
/// The time for large work is added to the timeout, so that a busy server is not taken as
/// unreachable.
const BYTES_PER_MICROSECOND: u64 = 200;

/// How long the server may take to process `bytes` bytes.
pub(super) fn time_for(bytes: u64) -> Duration {
    Duration::from_micros(bytes / BYTES_PER_MICROSECOND)
}

/// How long a temporary key outlives the process that created it. Must be much longer than any
/// trip.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// Temporary keys that were not touched for this long have their expiry renewed.
const REFRESH: Duration = Duration::from_secs(15);

/// Marks our own temporary keys, after the prefix and [`SCRATCH`].
pub(super) const OURS: &str = "cohortist:";

/// The temporary keys of one request: their names, and which of them may exist.
pub(super) struct Scratch {
    base: String,
    live: BTreeSet<usize>,
}

impl Scratch {
    pub fn new(prefix: &Prefix) -> Self {
        static REQUESTS: AtomicU64 = AtomicU64::new(0);
        // `RandomState` is keyed with random numbers from the system. The counter makes each hash
        // different.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(REQUESTS.fetch_add(1, Ordering::Relaxed));
        hasher.write_u32(std::process::id());
        Scratch {
            base: format!("{prefix}{SCRATCH}{OURS}{:016x}", hasher.finish()),
            live: BTreeSet::new(),
        }
    }

    /// The key for the result of a step that later steps read.
    pub fn key(&self, node: usize) -> String {
        format!("{}:{node}", self.base)
    }

    /// The key that all other results share, one after the other. It never outlives its chunk.
    fn shared(&self) -> String {
        format!("{}:s", self.base)
    }

    /// A key that does not exist.
    pub fn nobody(&self) -> String {
        format!("{}:none", self.base)
    }

    /// The command that deletes the keys that may still exist; `None` if there are none.
    pub fn deletion(&self, capabilities: &Capabilities) -> Option<Cmd> {
        let mut command = cmd(capabilities.delete());
        self.live.iter().for_each(|node| {
            command.arg(self.key(*node));
        });
        (!self.live.is_empty()).then_some(command)
    }

    pub fn forget(&mut self) {
        self.live.clear();
    }
}

/// The command that sets the expiry of a temporary key, if the server supports one.
pub(super) fn expiry(key: &str, capabilities: &Capabilities) -> Option<Cmd> {
    let mut command = match capabilities.expiry {
        Expiry::Milliseconds => cmd("PEXPIRE"),
        Expiry::Seconds => cmd("EXPIRE"),
        Expiry::None => return None,
    };
    command.arg(key);
    match capabilities.expiry {
        Expiry::Milliseconds => command.arg(LIFETIME.as_millis().to_string()),
        _ => command.arg(LIFETIME.as_secs()),
    };
    Some(command)
}

/// The fault of a temporary key that disappeared while it was needed.
pub(super) fn vanished() -> ServerFault {
    ServerFault::Refused(
        "a temporary key was deleted while it was in use, so the count would be wrong. Check whether another program deletes keys or Redis evicts them (maxmemory)"
            .to_owned(),
    )
}

/// The expected reply.
enum Expect {
    /// The expiry of a key was renewed, so the key exists: 1, unless the key has no bytes.
    Alive(usize),
    /// The length of a result.
    Length { node: usize, at_least: u64 },
    /// A count.
    Count(Source),
    /// Anything but an error.
    Done,
}

/// A unit of work.
#[derive(Clone, Copy)]
enum Item<'a> {
    Step(&'a Step),
    Key(usize),
}

/// Runs scripts.
pub(super) struct Executor<'a> {
    pub conn: &'a mut RedisConnection,
    pub capabilities: &'a Capabilities,
    pub scratch: &'a mut Scratch,
    /// The text of the key at each node of the plan.
    pub keys: &'a [String],
}

/// The counts of the roots of a script.
#[derive(Debug, Default)]
pub(super) struct RootCounts(HashMap<Source, u64>);

impl RootCounts {
    /// Returns the count of a root.
    ///
    /// # Panics
    /// If it is not a root of the script.
    pub fn of(&self, root: Source) -> u64 {
        match root {
            Source::Missing => 0,
            Source::Key(_) | Source::Step(_) => self.0[&root],
        }
    }
}

impl Executor<'_> {
    /// Counts the roots.
    ///
    /// Each chunk is one transaction: its counts are of one moment, but marks may arrive between
    /// chunks.
    pub fn count(&mut self, script: &Script) -> Reply<RootCounts> {
        self.run(
            script,
            Request {
                count: true,
                keep: false,
                chunk: CHUNK,
            },
        )
    }

    /// Computes a single root into its temporary key, which is kept and stays listed in the
    /// scratch.
    pub fn compute(&mut self, script: &Script) -> Reply<()> {
        self.run(
            script,
            Request {
                count: false,
                keep: true,
                chunk: CHUNK,
            },
        )
        .map(drop)
    }

    /// Like [`compute`](Self::compute), and counts the users. A script that needs no more than
    /// [`LARGE_CHUNK`] is of one moment.
    pub fn compute_and_count(&mut self, script: &Script) -> Reply<u64> {
        let counts = self.run(
            script,
            Request {
                count: true,
                keep: true,
                chunk: LARGE_CHUNK,
            },
        )?;
        Ok(counts.of(*script.roots.first().expect("the script has one root")))
    }

    fn run(
        &mut self,
        script: &Script,
        Request {
            count,
            keep,
            chunk: most,
        }: Request,
    ) -> Reply<RootCounts> {
        let roots: BTreeSet<Source> = script.roots.iter().copied().collect();
        // Bitmaps are counted after the results computed from them: marks that arrive in between
        // then make the size of a cohort greater, and never smaller than what is left of it.
        let mut items: Vec<Item<'_>> = script.steps.iter().map(Item::Step).collect();
        let mut uses: HashMap<usize, usize> =
            script.steps.iter().map(|s| (s.node, s.uses)).collect();
        for root in &roots {
            match root {
                Source::Key(node) if count => {
                    items.push(Item::Key(*node));
                }
                // A root that is kept counts as used, so that it is not deleted.
                Source::Step(node) if keep => *uses.entry(*node).or_default() += 1,
                _ => {}
            }
        }
        let mut run = Run {
            counted: if count { roots } else { BTreeSet::new() },
            lengths: &script.lengths,
            uses,
            made: HashMap::new(),
            counts: RootCounts::default(),
        };
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            go_on()?;
            let mut chunk = Vec::new();
            let (mut bytes, mut commands) = (0_u64, 0);
            while let Some(item) = items.peek() {
                let (more_bytes, more_commands) = cost(item, run.lengths);
                bytes = bytes.saturating_add(more_bytes);
                commands += more_commands;
                if !chunk.is_empty() && (bytes > most.bytes || commands > most.commands) {
                    break;
                }
                chunk.extend(items.next());
            }
            self.chunk(&chunk, bytes, &mut run)?;
        }
        Ok(run.counts)
    }

    fn chunk(&mut self, items: &[Item<'_>], bytes: u64, run: &mut Run<'_>) -> Reply<()> {
        let mut batch = Batch::default();
        let mut expected = Vec::new();
        let mut push = |command: &Cmd, expect: Expect| {
            batch.push(command);
            expected.push(expect);
        };

        // First check that the keys from earlier chunks that this one reads still exist. They
        // cannot expire within the transaction. The expiry of keys that are needed later is
        // renewed.
        let read: BTreeSet<usize> = items.iter().flat_map(Item::steps_read).collect();
        for (&node, made) in &mut run.made {
            if made.length > 0 && (read.contains(&node) || made.touched.elapsed() > REFRESH) {
                made.touched = Instant::now();
                if let Some(command) = expiry(&self.scratch.key(node), self.capabilities) {
                    push(&command, Expect::Alive(node));
                }
            }
        }

        let (mut finished, mut made_here) = (Vec::new(), Vec::new());
        let mut shared_used = false;
        for item in items {
            let step = match item {
                Item::Step(step) => step,
                Item::Key(node) => {
                    push(
                        cmd("BITCOUNT").arg(self.name(Source::Key(*node))),
                        Expect::Count(Source::Key(*node)),
                    );
                    continue;
                }
            };
            let stays = run.uses.get(&step.node).is_some_and(|uses| *uses > 0);
            let target = if stays {
                // Listed before it exists, so that it is deleted even if the reply is lost.
                self.scratch.live.insert(step.node);
                made_here.push(step.node);
                self.scratch.key(step.node)
            } else {
                shared_used = true;
                self.scratch.shared()
            };
            let at_least = step
                .operands
                .iter()
                .filter_map(|source| run.made_length(*source))
                .max()
                .unwrap_or(0);
            let commands = self.bitops(step, &target);
            for (place, command) in commands.iter().enumerate() {
                let whole = place + 1 == commands.len();
                push(
                    command,
                    if whole {
                        Expect::Length {
                            node: step.node,
                            at_least,
                        }
                    } else {
                        Expect::Done
                    },
                );
            }
            if run.counted.contains(&Source::Step(step.node)) {
                push(
                    cmd("BITCOUNT").arg(&target),
                    Expect::Count(Source::Step(step.node)),
                );
            }
            for source in &step.operands {
                if let Source::Step(node) = source
                    && let Some(uses) = run.uses.get_mut(node)
                {
                    *uses -= 1;
                    if *uses == 0 {
                        finished.push(*node);
                    }
                }
            }
        }

        // BITOP removes the expiry of the key that it writes. Every key that outlives this
        // transaction needs one.
        for node in made_here.iter().filter(|node| !finished.contains(node)) {
            if let Some(command) = expiry(&self.scratch.key(*node), self.capabilities) {
                push(&command, Expect::Alive(*node));
            }
        }
        if shared_used || !finished.is_empty() {
            let mut command = cmd(self.capabilities.delete());
            finished.iter().for_each(|node| {
                command.arg(self.scratch.key(*node));
            });
            if shared_used {
                command.arg(self.scratch.shared());
            }
            push(&command, Expect::Done);
        }

        // If lengths are unknown, one bitmap may have the maximum length.
        let unknown = if self.capabilities.lengths {
            0
        } else {
            1 << 29
        };
        let limit = self.conn.timeout() + time_for(bytes + unknown);
        let replies =
            self.conn
                .transaction(&batch, self.capabilities.transactions, limit, &|_| None)?;
        for (expect, reply) in expected.iter().zip(&replies) {
            match expect {
                Expect::Length { node, at_least } => {
                    let length = natural("BITOP", reply)?;
                    // Servers without STRLEN may answer BITOP with something other than a length.
                    if self.capabilities.lengths && length < *at_least {
                        return Err(vanished());
                    }
                    run.made.insert(
                        *node,
                        Made {
                            length,
                            touched: Instant::now(),
                        },
                    );
                }
                Expect::Alive(node) => {
                    let is_empty = run.made.get(node).is_some_and(|made| made.length == 0);
                    if natural("PEXPIRE", reply)? == 0 && !is_empty {
                        return Err(vanished());
                    }
                }
                Expect::Count(source) => {
                    run.counts.0.insert(*source, natural("BITCOUNT", reply)?);
                }
                Expect::Done => {}
            }
        }
        for node in &finished {
            self.scratch.live.remove(node);
        }
        // Results that are not read again need no renewal.
        let scratch = &*self.scratch;
        run.made.retain(|node, _| scratch.live.contains(node));
        Ok(())
    }

    /// The commands of a step.
    fn bitops(&self, step: &Step, target: &str) -> Vec<Cmd> {
        let bitop = |name: &str, sources: &[String]| {
            let mut command = cmd("BITOP");
            command.arg(name).arg(target).arg(sources);
            command
        };
        let operands: Vec<String> = step
            .operands
            .iter()
            .map(|source| self.name(*source))
            .collect();
        let in_groups = |name: &str| {
            let (first, mut rest) = operands.split_at(operands.len().min(FAST_OPERANDS));
            let mut commands = vec![bitop(name, first)];
            while !rest.is_empty() {
                let (more, left) = rest.split_at(rest.len().min(FAST_OPERANDS - 1));
                commands.push(bitop(name, &[&[target.to_owned()], more].concat()));
                rest = left;
            }
            commands
        };
        match step.op {
            Op::And => in_groups("AND"),
            Op::Or => in_groups("OR"),
            Op::Xor => in_groups("XOR"),
            Op::Not => vec![bitop("NOT", &operands)],
            // a without b is a ^ (a & b), because `a AND NOT b` would lose all users beyond the end
            // of b.
            Op::Diff => {
                let first = operands[0].clone();
                vec![
                    bitop("AND", &operands),
                    bitop("XOR", &[first, target.to_owned()]),
                ]
            }
        }
    }

    fn name(&self, source: Source) -> String {
        match source {
            Source::Missing => self.scratch.nobody(),
            Source::Key(node) => self.keys[node].clone(),
            Source::Step(node) => self.scratch.key(node),
        }
    }
}

/// A temporary key of an earlier chunk.
struct Made {
    length: u64,
    /// When its expiry was last set.
    touched: Instant,
}

/// The state of a running script.
struct Run<'a> {
    counted: BTreeSet<Source>,
    lengths: &'a [Option<u64>],
    /// How many later steps still read the result of each step.
    uses: HashMap<usize, usize>,
    made: HashMap<usize, Made>,
    counts: RootCounts,
}

/// How many bytes of bitmaps the server processes to run the steps of a script.
pub(super) fn work(script: &Script) -> u64 {
    script
        .steps
        .iter()
        .map(|step| cost(&Item::Step(step), &script.lengths).0)
        .fold(0, u64::saturating_add)
}

impl Run<'_> {
    /// The length of an operand from an earlier chunk.
    fn made_length(&self, source: Source) -> Option<u64> {
        match source {
            Source::Step(node) => self.made.get(&node).map(|made| made.length),
            _ => None,
        }
    }
}

/// How many bytes and commands a unit of work takes.
fn cost(item: &Item<'_>, lengths: &[Option<u64>]) -> (u64, usize) {
    let length = |node: usize| {
        lengths
            .get(node)
            .copied()
            .flatten()
            .unwrap_or(UNKNOWN_BYTES)
    };
    let source = |source: &Source| match source {
        Source::Missing => 0,
        Source::Key(node) | Source::Step(node) => length(*node),
    };
    match item {
        Item::Key(node) => (length(*node), 1),
        Item::Step(step) => {
            let (times, commands) = if step.op == Op::Diff {
                (2, 3)
            } else {
                (1, 2 + step.operands.len() / FAST_OPERANDS)
            };
            let read: u64 = step.operands.iter().map(source).sum();
            // A kept key takes two more commands: one to set its expiry and one to delete it.
            (
                read * times + length(step.node),
                commands + usize::from(step.uses > 0) * 2,
            )
        }
    }
}

impl Item<'_> {
    fn steps_read(&self) -> Vec<usize> {
        let Item::Step(step) = self else {
            return Vec::new();
        };
        let node = |source: &Source| {
            if let Source::Step(node) = source {
                Some(*node)
            } else {
                None
            }
        };
        step.operands.iter().filter_map(node).collect()
    }
}
