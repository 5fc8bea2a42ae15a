//! Carrying out a script of set operations on the server, in chunks, with temporary keys that
//! cannot stay behind.

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

/// How much one chunk may do. Redis serves nobody else while it carries out a chunk; between chunks
/// everybody has his turn.
#[derive(Clone, Copy)]
struct Chunk {
    /// How many bytes of bitmaps it may touch.
    bytes: u64,
    /// How many commands it may have: each costs a microsecond or so however small its bitmaps.
    commands: usize,
}

/// Some 5 ms.
const CHUNK: Chunk = Chunk {
    bytes: 16 << 20,
    commands: 512,
};

/// Some 50 ms, for what is done now and then and is to be of one moment.
const LARGE_CHUNK: Chunk = Chunk {
    bytes: 160 << 20,
    commands: 5120,
};

/// What is wanted of a script.
struct Request {
    /// How many users are in its roots.
    count: bool,
    /// That the temporary keys of its roots stay.
    keep: bool,
    chunk: Chunk,
}

/// How many operands one BITOP takes. Beyond 16 Redis goes through them byte by byte instead of
/// word by word, which takes some ten times as long.
const FAST_OPERANDS: usize = 16;

/// What a bitmap of unknown length is taken for.
const UNKNOWN_BYTES: u64 = 256 << 10;

/// What a server does at least in a microsecond, in bytes: cautious by a factor of ten or more. The
/// time for work that is known to be much comes on top of the time-out, so that a server that works
/// is not taken for one that is away.
const BYTES_PER_MICROSECOND: u64 = 200;

/// How long the server may take for work on so many bytes.
pub(super) fn time_for(bytes: u64) -> Duration {
    Duration::from_micros(bytes / BYTES_PER_MICROSECOND)
}

/// How long a temporary key outlives the process that made it. Much longer than any trip may take.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// Temporary keys not touched for this long are given their lifetime anew.
const REFRESH: Duration = Duration::from_secs(15);

/// What behind the prefix and [`SCRATCH`] marks our own temporary keys.
pub(super) const OURS: &str = "cohortist:";

/// The temporary keys of one request: their names, and which of them may exist.
pub(super) struct Scratch {
    base: String,
    live: BTreeSet<usize>,
}

impl Scratch {
    pub fn new(prefix: &Prefix) -> Self {
        static REQUESTS: AtomicU64 = AtomicU64::new(0);
        // `RandomState` is keyed by the system's random numbers, which the counter makes different
        // each time.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(REQUESTS.fetch_add(1, Ordering::Relaxed));
        hasher.write_u32(std::process::id());
        Scratch {
            base: format!("{prefix}{SCRATCH}{OURS}{:016x}", hasher.finish()),
            live: BTreeSet::new(),
        }
    }

    /// The key for the result of a step that later steps take.
    pub fn key(&self, node: usize) -> String {
        format!("{}:{node}", self.base)
    }

    /// The key all other results share, one after the other. It never outlives its chunk.
    fn shared(&self) -> String {
        format!("{}:s", self.base)
    }

    /// A key that does not exist.
    pub fn nobody(&self) -> String {
        format!("{}:none", self.base)
    }

    /// The command that deletes the keys that may still exist; nothing when there are none.
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

/// The command that sets the lifetime of a temporary key, where there is one.
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

/// A temporary key went away while it was needed.
pub(super) fn vanished() -> ServerFault {
    ServerFault::Refused(
        "a temporary key was deleted while it was in use, so the count would be wrong: does another program delete keys, or Redis evict them (maxmemory)?"
            .to_owned(),
    )
}

/// What a reply has to be.
enum Expect {
    /// A key's lifetime was set anew, so the key is there: 1, unless it has no bytes.
    Alive(usize),
    /// The length of a result.
    Length { node: usize, at_least: u64 },
    /// A count.
    Count(Source),
    /// Anything but an error.
    Done,
}

/// A thing to do.
#[derive(Clone, Copy)]
enum Item<'a> {
    Step(&'a Step),
    Key(usize),
}

/// Carries out scripts.
pub(super) struct Executor<'a> {
    pub conn: &'a mut RedisConnection,
    pub capabilities: &'a Capabilities,
    pub scratch: &'a mut Scratch,
    /// The text of the key at each node of the plan.
    pub keys: &'a [String],
}

impl Executor<'_> {
    /// Counts the roots.
    ///
    /// Each chunk is one transaction: its counts are of one moment, but marks may come in between
    /// chunks.
    pub fn count(&mut self, script: &Script) -> Reply<HashMap<Source, u64>> {
        self.run(
            script,
            Request {
                count: true,
                keep: false,
                chunk: CHUNK,
            },
        )
    }

    /// Computes a single root into its temporary key, which stays alive and in the scratch's list.
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

    /// [`compute`](Self::compute), and how many users are in it. What touches no more than [`LARGE_CHUNK`] is of one
    /// moment.
    pub fn compute_and_count(&mut self, script: &Script) -> Reply<u64> {
        let counts = self.run(
            script,
            Request {
                count: true,
                keep: true,
                chunk: LARGE_CHUNK,
            },
        )?;
        Ok(script
            .roots
            .first()
            .and_then(|root| counts.get(root))
            .copied()
            .unwrap_or(0))
    }

    fn run(
        &mut self,
        script: &Script,
        Request {
            count,
            keep,
            chunk: most,
        }: Request,
    ) -> Reply<HashMap<Source, u64>> {
        let roots: BTreeSet<Source> = script.roots.iter().copied().collect();
        // Bitmaps are counted after what was made from them: marks that come in between then make
        // the size of a cohort greater, and never smaller than what is left of it.
        let mut items: Vec<Item<'_>> = script.steps.iter().map(Item::Step).collect();
        let mut uses: HashMap<usize, usize> =
            script.steps.iter().map(|s| (s.node, s.uses)).collect();
        for root in &roots {
            match root {
                Source::Key(node) if count => {
                    items.push(Item::Key(*node));
                }
                // A root that is kept is used by whoever reads it.
                Source::Step(node) if keep => *uses.entry(*node).or_default() += 1,
                _ => {}
            }
        }
        let mut run = Run {
            counted: if count { roots } else { BTreeSet::new() },
            lengths: &script.lengths,
            uses,
            made: HashMap::new(),
            counts: HashMap::new(),
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

        // First of all: are the keys from earlier chunks that this one reads still there? Within
        // the transaction they cannot go. Others that wait for their turn are kept alive.
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
                // On the list before it exists: a reply that gets lost must not hide it.
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

        // BITOP takes away the lifetime of the key it writes; whatever outlives this transaction
        // gets one.
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

        // Where lengths are not known, one bitmap may be as long as bitmaps get.
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
                    // Servers without STRLEN have their own idea of what BITOP answers.
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
                    run.counts.insert(*source, natural("BITCOUNT", reply)?);
                }
                Expect::Done => {}
            }
        }
        for node in &finished {
            self.scratch.live.remove(node);
        }
        // What was counted and is not read again needs no watching.
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
            // a without b is a ^ (a & b): `a AND NOT b` would lose all users beyond the end of b.
            Op::Diff => {
                let first = operands
                    .first()
                    .cloned()
                    .unwrap_or_else(|| self.scratch.nobody());
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
            Source::Key(node) => self
                .keys
                .get(node)
                .cloned()
                .unwrap_or_else(|| self.scratch.nobody()),
            Source::Step(node) => self.scratch.key(node),
        }
    }
}

/// A temporary key of an earlier chunk.
struct Made {
    length: u64,
    /// When its lifetime was last set.
    touched: Instant,
}

/// What is known halfway through a script.
struct Run<'a> {
    counted: BTreeSet<Source>,
    lengths: &'a [Option<u64>],
    /// How many steps are still to read the result of a step.
    uses: HashMap<usize, usize>,
    made: HashMap<usize, Made>,
    counts: HashMap<Source, u64>,
}

/// How many bytes of bitmaps the server goes through to carry out the steps of a script.
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

/// How many bytes and commands a thing to do takes.
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
            // Keys that stay have their lifetime set and are deleted.
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
