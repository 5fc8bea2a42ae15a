//! One connection: pipelines and transactions.

use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::access::Access;
use super::bits;
use super::client::{Client, Needs};
use super::command::{self, Kind, Spec};
use super::reply::Reply;
use super::request::{self, AUTHENTICATED, Argument, Parsed, UNAUTHENTICATED};
use super::shared::{CLIENT_BYTES, Connection, Shared};
use crate::store::StoreError;
use crate::store::budget::Reservation;
use crate::store::embedded::{Keyspace, Precomputed};
use crate::telemetry::RESP;

/// The minimum number of bytes read in one call.
const READ_BYTES: usize = 32 << 10;

/// The maximum number of bytes of a large request read in one call.
const LARGE_READ_BYTES: usize = 256 << 10;

/// The size of the buffer for replies, in bytes.
const REPLY_BYTES: usize = 16 << 10;

/// The size up to which a transaction needs no reservation of its own, in bytes.
const SMALL_QUEUE_BYTES: usize = 16 << 10;

/// The maximum size of a transaction, in bytes.
const MAX_QUEUE_BYTES: usize = 128 << 20;

/// The approximate memory of an argument in a transaction beside its bytes.
const ARGUMENT_OVERHEAD: usize = 32;

/// How long a large request waits for memory, during which nothing is read from its client. It is
/// limited, because two requests may wait for each other.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may pause within a large request, which holds memory that others wait for.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection.
pub(super) struct Session<'a> {
    shared: &'a Shared,
    keyspace: &'a Keyspace,
    connection: &'a Connection,
    client: Client<'a>,
    /// The commands since MULTI.
    queue: Option<Queue>,
    is_closing: bool,
    /// The memory for requests that are not executed yet.
    memory: Reservation,
}

/// The commands of a transaction.
#[derive(Default)]
struct Queue {
    commands: Vec<(&'static Spec, Vec<Vec<u8>>)>,
    bytes: usize,
    /// Whether a command could not be queued, so that EXEC must fail.
    is_aborted: bool,
}

/// SETBITs that arrived together and are not executed yet.
#[derive(Default)]
struct SetBits<'b> {
    /// The index of each key.
    indexes: HashMap<&'b str, u32>,
    keys: Vec<String>,
    /// As of [`Keyspace::set_bits`].
    bits: Vec<(u32, u32)>,
}

impl<'b> SetBits<'b> {
    /// Adds a SETBIT if its arguments are valid.
    fn add(&mut self, arguments: &[&'b [u8]]) -> Result<(), Reply> {
        let (key, user, value) = bits::parse_set_bit(arguments)?;
        let index = *self.indexes.entry(key).or_insert_with(|| {
            self.keys.push(key.to_owned());
            u32::try_from(self.keys.len() - 1).expect("a buffer has far fewer keys")
        });
        self.bits.push((index * 2 + u32::from(value), user));
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }
}

impl<'a> Session<'a> {
    pub fn new(
        shared: &'a Shared,
        keyspace: &'a Keyspace,
        connection: &'a Connection,
        id: u64,
        memory: Reservation,
    ) -> Self {
        Session {
            shared,
            keyspace,
            connection,
            client: Client::new(shared, connection, id),
            queue: None,
            is_closing: false,
            memory,
        }
    }

    /// Answers requests until the connection is closed.
    pub fn run(mut self) -> io::Result<()> {
        let stream = &self.connection.stream;
        self.client.peer = stream.peer_addr().ok().map(|peer| peer.ip());
        let mut out = BufWriter::with_capacity(REPLY_BYTES, stream);
        let mut buffer: Vec<u8> = Vec::new();
        // The length at which the buffer may hold a complete request.
        let mut needed = 1;
        loop {
            let is_large = needed > READ_BYTES;
            if is_large && !self.memory.grow(self.memory_of(needed), MEMORY_TIMEOUT) {
                let message = self.out_of_memory(needed);
                self.write_error(&message, &mut out)?;
                return discard(stream);
            }
            if is_large {
                stream.set_read_timeout(Some(PAUSE_TIMEOUT))?;
            }
            match read_into(&mut buffer, needed, stream) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_timeout(&error) => {
                    let message = format!(
                        "a request of {needed} bytes, which holds memory, paused for {} seconds",
                        PAUSE_TIMEOUT.as_secs()
                    );
                    return self.write_error(&message, &mut out);
                }
                Err(error) => return Err(error),
            }
            if buffer.len() < needed {
                continue;
            }
            let (used, next) = self.pipeline(&buffer, &mut out)?;
            buffer.drain(..used);
            needed = next;
            out.flush()?;
            if self.is_closing {
                return Ok(());
            }
            if is_large && needed <= READ_BYTES {
                stream.set_read_timeout(None)?;
            }
            if buffer.len() <= READ_BYTES && buffer.capacity() > 4 * READ_BYTES {
                buffer.shrink_to(READ_BYTES);
            }
            self.memory.shrink(self.memory_of(buffer.len()));
        }
    }

    fn write_error(&self, message: &str, out: &mut impl Write) -> io::Result<()> {
        Reply::error(message).write(self.client.protocol, out)?;
        out.flush()
    }

    /// The memory of the connection with a request of so many bytes and the current transaction.
    fn memory_of(&self, request: usize) -> u64 {
        let beyond = |bytes: usize, limit: usize| {
            if bytes > limit {
                bytes.next_multiple_of(READ_BYTES) as u64
            } else {
                0
            }
        };
        let queued = self.queue.as_ref().map_or(0, |queue| queue.bytes);
        CLIENT_BYTES + beyond(request, READ_BYTES) + beyond(queued, SMALL_QUEUE_BYTES)
    }

    fn out_of_memory(&self, bytes: usize) -> String {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        format!(
            "no memory for a request of {} MiB: the requests of all clients may take {} MiB. Send less at once, try again later, or start `cohortist serve` with a larger --memory-mb",
            mib(bytes as u64),
            mib(self.shared.settings.memory.size())
        )
    }

    /// Answers the requests in a buffer. Returns how many of its bytes they took, and how many the
    /// next request needs.
    fn pipeline(&mut self, buffer: &[u8], out: &mut impl Write) -> io::Result<(usize, usize)> {
        let mut at = 0;
        let mut needed = 1;
        let mut set_bits = SetBits::default();
        while !self.is_closing {
            let rest = &buffer[at..];
            let limits = if self.client.is_authenticated {
                AUTHENTICATED
            } else {
                UNAUTHENTICATED
            };
            match request::parse(rest, limits) {
                Parsed::Incomplete(more) => {
                    needed = more;
                    break;
                }
                Parsed::Malformed(message) => {
                    self.commit(&mut set_bits, out)?;
                    self.is_closing = true;
                    Reply::error(format!("Protocol error: {message}"))
                        .write(self.client.protocol, out)?;
                }
                Parsed::OtherProtocol => self.reject(),
                Parsed::Request { arguments, len } => {
                    at += len;
                    if !arguments.is_empty() {
                        self.request(&arguments, rest, &mut set_bits, out)?;
                    }
                }
            }
        }
        self.commit(&mut set_bits, out)?;
        Ok((at, needed))
    }

    fn request<'b>(
        &mut self,
        arguments: &[Argument],
        bytes: &'b [u8],
        set_bits: &mut SetBits<'b>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        self.shared.commands.fetch_add(1, Ordering::Relaxed);
        // SETBITs may wait as long as the buffer exists, unless they were typed.
        let slices: Option<Vec<&'b [u8]>> = arguments
            .iter()
            .map(|argument| argument.slice(bytes))
            .collect();
        if let Some(slices) = &slices
            && let Ok(spec) = command::find(slices)
            && spec.kind == Kind::SetBit
            && self.client.is_authenticated
            && self.queue.is_none()
            && set_bits.add(slices).is_ok()
        {
            return Ok(());
        }
        self.commit(set_bits, out)?;
        let started = Instant::now();
        let given: Vec<&[u8]> = arguments
            .iter()
            .map(|argument| argument.bytes(bytes))
            .collect();
        let reply = match command::find(&given) {
            Ok(spec) => {
                self.connection.used_now(spec.name());
                let reply = self.answer(spec, &given);
                let queued = self.queue.as_ref().map(|queue| queue.commands.len());
                self.connection.activity().queued = queued;
                reply
            }
            Err(_) if request::is_http_word(given[0]) => {
                self.reject();
                return Ok(());
            }
            Err(reply) => {
                if let Some(queue) = &mut self.queue {
                    queue.is_aborted = true;
                }
                // A typed line that is not a command may be the first line of another protocol, and
                // an attacker may have chosen the next lines.
                let is_typed = matches!(arguments[0], Argument::Typed(_));
                self.is_closing |= is_typed && command::by_name(given[0]).is_none();
                reply
            }
        };
        RESP.commands.observe(started.elapsed());
        // No lock is held here, and the thread serves only this connection.
        std::thread::sleep(std::mem::take(&mut self.client.reply_delay));
        reply.write(self.client.protocol, out)
    }

    /// Closes the connection of a client of another protocol. Nothing else it sent is parsed.
    fn reject(&mut self) {
        self.is_closing = true;
        self.shared.log_other_protocol(self.client.peer);
    }

    /// Executes the SETBITs that were collected.
    fn commit(&self, set_bits: &mut SetBits<'_>, out: &mut impl Write) -> io::Result<()> {
        if set_bits.is_empty() {
            return Ok(());
        }
        let SetBits {
            indexes,
            keys,
            bits,
        } = std::mem::take(set_bits);
        self.connection.used_now("setbit");
        let started = Instant::now();
        let replies: Vec<Result<bool, StoreError>> =
            match self.keyspace.set_bits(keys, bits.clone()) {
                Ok(before) => before.into_iter().map(Ok).collect(),
                // All of them failed, or all of them were written but not synced.
                Err(error @ (StoreError::Write { .. } | StoreError::Unsynced { .. })) => {
                    vec![Err(error); bits.len()]
                }
                Err(_) => {
                    let mut names = vec![""; indexes.len()];
                    for (name, index) in indexes {
                        names[index as usize] = name;
                    }
                    let each = bits
                        .iter()
                        .map(|(index, user)| (names[*index as usize / 2], *user, index % 2 == 1));
                    self.keyspace.set_each(each)
                }
            };
        RESP.commands
            .observe_each(started.elapsed(), replies.len() as u64);
        replies.iter().try_for_each(|reply| match reply {
            Ok(before) => out.write_all(if *before { b":1\r\n" } else { b":0\r\n" }),
            Err(error) => store_error(error).write(self.client.protocol, out),
        })
    }

    fn answer(&mut self, spec: &'static Spec, arguments: &[&[u8]]) -> Reply {
        if !self.client.is_authenticated && !spec.before_auth {
            return Reply::Error("NOAUTH Authentication required.".to_owned());
        }
        match spec.kind {
            Kind::Multi if self.queue.is_some() => Reply::error("MULTI calls can not be nested"),
            Kind::Multi => {
                self.queue = Some(Queue::default());
                Reply::OK
            }
            Kind::Exec => self.exec(),
            Kind::Discard if self.queue.take().is_some() => Reply::OK,
            Kind::Discard => Reply::error("DISCARD without MULTI"),
            Kind::Quit => {
                self.is_closing = true;
                Reply::OK
            }
            _ if self.queue.is_some() => self.enqueue(spec, arguments),
            _ => match self.execute(&[(spec, arguments)]) {
                Ok(mut replies) => replies.pop().expect("each command has a reply"),
                Err(error) => store_error(&error),
            },
        }
    }

    /// Adds a command to the transaction.
    fn enqueue(&mut self, spec: &'static Spec, arguments: &[&[u8]]) -> Reply {
        let queue = self.queue.get_or_insert_default();
        let more: usize = arguments
            .iter()
            .map(|argument| argument.len() + ARGUMENT_OVERHEAD)
            .sum();
        queue.bytes += more;
        let queued = queue.bytes;
        // The request that is being read keeps its memory. Waiting for more in the middle of a
        // transaction could be a deadlock.
        let reserve = if queued > SMALL_QUEUE_BYTES {
            more.next_multiple_of(64) as u64
        } else {
            0
        };
        let is_too_large = queued > MAX_QUEUE_BYTES;
        let total = self.memory.bytes() + reserve;
        if is_too_large || !self.memory.grow(total, Duration::ZERO) {
            // The transaction remains open, so that the next commands are not executed one by one.
            self.queue = Some(Queue {
                is_aborted: true,
                ..Queue::default()
            });
            return Reply::error(if is_too_large {
                "the transaction is too large".to_owned()
            } else {
                self.out_of_memory(queued)
            });
        }
        let owned = arguments.iter().map(|argument| argument.to_vec()).collect();
        queue.commands.push((spec, owned));
        Reply::Simple("QUEUED")
    }

    /// Executes commands without commands of other clients in between.
    fn execute<'c>(
        &mut self,
        commands: &[(&Spec, impl AsRef<[&'c [u8]]>)],
    ) -> Result<Vec<Reply>, StoreError> {
        let needs = commands.iter().map(|(spec, _)| self.client.needs(spec));
        let needs = needs.max().unwrap_or(Needs::Nothing);
        let combines = commands.iter().any(|(spec, _)| spec.combines());
        let (shared, keyspace) = (self.shared, self.keyspace);
        // One client at a time, because the results take memory.
        let _turn = combines.then(|| {
            let combining = shared.combining.lock();
            combining.unwrap_or_else(PoisonError::into_inner)
        });
        let precomputed = if combines {
            self.precompute(commands)?
        } else {
            Precomputed::default()
        };
        let client = &mut self.client;
        let mut run = |access: &mut Access<'_, '_>| -> Result<Vec<Reply>, StoreError> {
            commands
                .iter()
                .map(|(spec, arguments)| client.execute(spec, arguments.as_ref(), access))
                .collect()
        };
        match needs {
            Needs::Nothing => run(&mut Access::None),
            Needs::OwnKeys => {
                let keys = commands
                    .iter()
                    .flat_map(|(spec, arguments)| spec.keys(arguments.as_ref()));
                keyspace.read_keys(keys, |txn| run(&mut Access::Read(txn)))
            }
            Needs::AllKeys => keyspace.read(|txn| run(&mut Access::Read(txn))),
            Needs::Write => {
                // A bitmap takes about as much memory as the argument that it is set to.
                let arguments = commands
                    .iter()
                    .flat_map(|(_, arguments)| arguments.as_ref());
                let bytes = arguments.map(|argument| argument.len()).sum();
                keyspace.change_with(precomputed, bytes, |txn| run(&mut Access::Write(txn)))
            }
        }
    }

    /// Computes the combined bitmaps of the commands before the store is locked, so that other clients
    /// are not delayed.
    fn precompute<'c>(
        &self,
        commands: &[(&Spec, impl AsRef<[&'c [u8]]>)],
    ) -> Result<Precomputed, StoreError> {
        let changes: Vec<(&Spec, &[&[u8]])> = commands
            .iter()
            .filter(|(spec, _)| matches!(spec.kind, Kind::SetBit | Kind::Write))
            .map(|(spec, arguments)| (*spec, arguments.as_ref()))
            .collect();
        let keys: Vec<&str> = changes
            .iter()
            .flat_map(|(spec, arguments)| spec.keys(arguments))
            .collect();
        self.keyspace.precompute(&keys, |txn| {
            for (spec, arguments) in &changes {
                // An error is returned when the command is executed.
                let _ = (spec.run)(arguments, &mut Access::Write(txn));
            }
        })
    }

    fn exec(&mut self) -> Reply {
        let Some(queue) = self.queue.take() else {
            return Reply::error("EXEC without MULTI");
        };
        if queue.is_aborted {
            return Reply::Error(
                "EXECABORT Transaction discarded because of previous errors.".to_owned(),
            );
        }
        let commands: Vec<(&Spec, Vec<&[u8]>)> = queue
            .commands
            .iter()
            .map(|(spec, owned)| (*spec, owned.iter().map(Vec::as_slice).collect()))
            .collect();
        // bitmapist sends transactions of SETBITs only.
        let mut set_bits = SetBits::default();
        let are_set_bits = commands
            .iter()
            .all(|(spec, arguments)| spec.kind == Kind::SetBit && set_bits.add(arguments).is_ok());
        let replies = if are_set_bits {
            self.keyspace
                .set_bits(set_bits.keys, set_bits.bits)
                .map(|before| before.into_iter().map(Reply::from).collect())
        } else {
            self.execute(&commands)
        };
        match replies {
            Ok(replies) => Reply::Array(replies),
            Err(error) => store_error(&error),
        }
    }
}

/// Reads more bytes into a buffer that needs `needed` bytes in all. Returns how many were read.
fn read_into(buffer: &mut Vec<u8>, needed: usize, mut stream: &TcpStream) -> io::Result<usize> {
    let before = buffer.len();
    let missing = needed.saturating_sub(before);
    if needed > READ_BYTES {
        // The length of one long argument is known at once. With many arguments, the length is
        // found step by step, and doubling the buffer avoids copies.
        if missing > before {
            buffer.reserve_exact(missing);
        } else {
            buffer.reserve(missing);
        }
    }
    buffer.resize(before + missing.clamp(READ_BYTES, LARGE_READ_BYTES), 0);
    let read = stream.read(&mut buffer[before..]);
    buffer.truncate(before + *read.as_ref().unwrap_or(&0));
    read
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Discards what a client still sends, within limits, so that it can read the error.
fn discard(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(PAUSE_TIMEOUT))?;
    let mut left = AUTHENTICATED.argument * 2;
    let mut buffer = vec![0; READ_BYTES];
    while left > 0 {
        match stream.read(&mut buffer)? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// The reply if the store fails.
fn store_error(error: &StoreError) -> Reply {
    match error {
        StoreError::Write { .. } => Reply::Error(format!("MISCONF {error}")),
        // The change was made, but a power cut may lose it.
        StoreError::Unsynced { .. } => Reply::Error(format!("UNSYNCED {error}")),
        _ => Reply::error(error.to_string()),
    }
}
