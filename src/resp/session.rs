//! One connection: pipelines, and what it has queued.

use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::resp::bits;
use crate::resp::call::Data;
use crate::resp::client::{Client, Needs};
use crate::resp::command::{self, Kind, Spec};
use crate::resp::reply::Reply;
use crate::resp::request::{self, Argument, Found, KNOWN, UNKNOWN};
use crate::resp::shared::{CLIENT, Shared};
use crate::store::StoreError;
use crate::store::budget::Reservation;
use crate::store::embedded::{Keyspace, Precomputed};
use crate::telemetry::RESP;

/// How much is read at once, at the least.
const CHUNK: usize = 32 << 10;

/// How much of a large request is read at once, at the most.
const LARGE_CHUNK: usize = 256 << 10;

/// How much of the replies is written at once.
const REPLIES: usize = 16 << 10;

/// How much may be queued between MULTI and EXEC before it is taken out of the memory for requests.
const SMALL_QUEUE: usize = 16 << 10;

/// How long a large request waits for memory that others use: its client is not read from
/// meanwhile, which costs it nothing. Not for ever, as two that each wait for the other could be.
const MEMORY_WITHIN: Duration = Duration::from_secs(10);

/// How long a client may pause in the middle of a large request, which holds memory that others
/// wait for.
const REST_WITHIN: Duration = Duration::from_secs(10);

/// What a connection may hold back between MULTI and EXEC, in bytes.
const QUEUE: usize = 128 << 20;

/// A connection.
pub(super) struct Session<'a> {
    shared: &'a Shared,
    keyspace: &'a Keyspace,
    client: Client<'a>,
    queue: Option<Queue>,
    leaving: bool,
    /// What it may hold of what the client has sent.
    memory: Reservation,
}

/// What is to be carried out at EXEC.
#[derive(Default)]
struct Queue {
    commands: Vec<(&'static Spec, Vec<Vec<u8>>)>,
    bytes: usize,
    /// One of them could not even be queued.
    spoilt: bool,
}

/// SETBITs that came together and were not carried out yet.
#[derive(Default)]
struct Marks<'b> {
    places: HashMap<&'b str, u32>,
    keys: Vec<String>,
    bits: Vec<(u32, u32)>,
}

impl<'b> Marks<'b> {
    /// Takes a SETBIT that is in order.
    fn take(&mut self, arguments: &[&'b [u8]]) -> Result<(), Reply> {
        let (key, user, value) = bits::mark(arguments)?;
        let place = *self.places.entry(key).or_insert_with(|| {
            self.keys.push(key.to_owned());
            // As many keys as marks at most, which fit into a buffer.
            u32::try_from(self.keys.len() - 1).unwrap_or(u32::MAX / 2)
        });
        self.bits.push((place * 2 + u32::from(value), user));
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
        number: u64,
        memory: Reservation,
    ) -> Self {
        Session {
            shared,
            keyspace,
            client: Client::new(shared, number),
            queue: None,
            leaving: false,
            memory,
        }
    }

    /// Answers requests until the client goes, or has to.
    pub fn run(mut self, stream: &TcpStream) -> io::Result<()> {
        self.client.peer = stream.peer_addr().ok().map(|peer| peer.ip());
        let mut out = BufWriter::with_capacity(REPLIES, stream);
        let mut input = stream;
        let mut buffer: Vec<u8> = Vec::new();
        // How much has to be there before it is worth looking.
        let mut needed = 1;
        loop {
            if needed > CHUNK && !self.memory.grow(self.held(needed), MEMORY_WITHIN) {
                let words = self.too_large(needed);
                Reply::error(words).write(self.client.protocol, &mut out)?;
                out.flush()?;
                return discard(stream);
            }
            let before = buffer.len();
            let missing = needed.saturating_sub(before);
            let more = missing.clamp(CHUNK, LARGE_CHUNK);
            if needed > CHUNK {
                // How long one argument is, is known at once. Of many the rest is found piece by
                // piece, and copied seldom.
                if missing > before {
                    buffer.reserve_exact(missing)
                } else {
                    buffer.reserve(missing)
                }
                stream.set_read_timeout(Some(REST_WITHIN))?;
            }
            buffer.resize(before + more, 0);
            let read = input.read(&mut buffer[before..]);
            buffer.truncate(before + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    let words = format!(
                        "nothing more of a request of {needed} bytes came for {} seconds, and it holds memory",
                        REST_WITHIN.as_secs()
                    );
                    Reply::error(words).write(self.client.protocol, &mut out)?;
                    return out.flush();
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
            if buffer.len() < needed {
                continue;
            }
            let large = needed > CHUNK;
            let (used, more) = self.pipeline(&buffer, &mut out)?;
            buffer.drain(..used);
            needed = more;
            out.flush()?;
            if self.leaving {
                return Ok(());
            }
            if large && needed <= CHUNK {
                stream.set_read_timeout(None)?;
            }
            if buffer.len() <= CHUNK && buffer.capacity() > 4 * CHUNK {
                buffer.shrink_to(CHUNK);
            }
            self.memory.shrink(self.held(buffer.len()));
        }
    }

    /// How much memory the connection takes with so much of a request, and what is queued.
    fn held(&self, request: usize) -> u64 {
        let large = |bytes: usize, small: usize| {
            if bytes > small {
                bytes.next_multiple_of(CHUNK) as u64
            } else {
                0
            }
        };
        let queued = self.queue.as_ref().map_or(0, |queue| queue.bytes);
        CLIENT + large(request, CHUNK) + large(queued, SMALL_QUEUE)
    }

    fn too_large(&self, bytes: usize) -> String {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        format!(
            "no memory for a request of {} MiB: what all clients send may take {} MiB together. Send less at once, try again later, or start `cohortist serve` with a larger --memory-mb",
            mib(bytes as u64),
            mib(self.shared.settings.memory.size())
        )
    }

    /// Answers the requests in a buffer; says how much of it they took and how much the next one
    /// needs.
    fn pipeline(&mut self, buffer: &[u8], out: &mut impl Write) -> io::Result<(usize, usize)> {
        let mut at = 0;
        let mut marks = Marks::default();
        let mut needed = 1;
        while !self.leaving {
            let rest = &buffer[at..];
            match request::read(rest, if self.client.known { KNOWN } else { UNKNOWN }) {
                Found::Incomplete(more) => {
                    needed = more;
                    break;
                }
                Found::Malformed(words) => {
                    self.commit(&mut marks, out)?;
                    self.leaving = true;
                    Reply::error(format!("Protocol error: {words}"))
                        .write(self.client.protocol, out)?;
                }
                Found::Foreign => self.turn_away(),
                Found::Request { arguments, len } => {
                    at += len;
                    if !arguments.is_empty() {
                        self.request(&arguments, rest, &mut marks, out)?;
                    }
                }
            }
        }
        self.commit(&mut marks, out)?;
        Ok((at, needed))
    }

    fn request<'b>(
        &mut self,
        arguments: &[Argument],
        bytes: &'b [u8],
        marks: &mut Marks<'b>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        self.shared.commands.fetch_add(1, Ordering::Relaxed);
        // Marks wait for others as long as the buffer lives; what was typed does not.
        let lasting: Option<Vec<&'b [u8]>> = arguments
            .iter()
            .map(|argument| argument.lasting(bytes))
            .collect();
        let typed: Vec<&[u8]>;
        let given: &[&[u8]] = match &lasting {
            Some(lasting) => lasting,
            None => {
                typed = arguments
                    .iter()
                    .map(|argument| argument.of(bytes))
                    .collect();
                &typed
            }
        };
        let spec = command::find(given);
        if let (
            Ok(Spec {
                kind: Kind::Mark, ..
            }),
            Some(lasting),
        ) = (&spec, &lasting)
            && self.client.known
            && self.queue.is_none()
            && marks.take(lasting).is_ok()
        {
            return Ok(());
        }
        self.commit(marks, out)?;
        let started = Instant::now();
        let reply = match spec {
            Err(_)
                if given
                    .first()
                    .is_some_and(|command| request::is_of_http(command)) =>
            {
                self.turn_away();
                return Ok(());
            }
            Err(reply) => {
                if let Some(queue) = &mut self.queue {
                    queue.spoilt = true;
                }
                // What is typed and no command may be the first line of any protocol, and others
                // may have chosen the next ones.
                self.leaving |= matches!(arguments.first(), Some(Argument::Typed(_)))
                    && command::named(given[0]).is_none();
                reply
            }
            Ok(spec) => self.answer(spec, given),
        };
        RESP.commands.observe(started.elapsed());
        // Here no lock is held, and the thread is the connection's own.
        std::thread::sleep(std::mem::take(&mut self.client.penalty));
        reply.write(self.client.protocol, out)
    }

    /// Closes the connection of a client of another protocol, before anything more of what it sent
    /// is read.
    fn turn_away(&mut self) {
        self.leaving = true;
        self.shared.turned_away(self.client.peer);
    }

    /// Carries out the marks that were put together.
    fn commit(&self, marks: &mut Marks<'_>, out: &mut impl Write) -> io::Result<()> {
        if marks.is_empty() {
            return Ok(());
        }
        let Marks { places, keys, bits } = std::mem::take(marks);
        let started = Instant::now();
        let replies: Vec<Result<bool, StoreError>> =
            match self.keyspace.set_bits(keys, bits.clone()) {
                Ok(before) => before.into_iter().map(Ok).collect(),
                // The disk refused all of them, or took all of them.
                Err(error @ (StoreError::Write { .. } | StoreError::Unsynced { .. })) => {
                    vec![Err(error); bits.len()]
                }
                Err(_) => {
                    let mut names = vec![""; places.len()];
                    places
                        .into_iter()
                        .for_each(|(name, place)| names[place as usize] = name);
                    let marks = bits
                        .iter()
                        .map(|(place, user)| (names[*place as usize / 2], *user, place % 2 == 1));
                    self.keyspace.set_each(marks)
                }
            };
        RESP.commands
            .observe_each(started.elapsed(), replies.len() as u64);
        replies.iter().try_for_each(|reply| match reply {
            Ok(before) => out.write_all(if *before { b":1\r\n" } else { b":0\r\n" }),
            Err(error) => failed(error).write(self.client.protocol, out),
        })
    }

    fn answer(&mut self, spec: &'static Spec, arguments: &[&[u8]]) -> Reply {
        if !self.client.known && !spec.before_password {
            return Reply::Error("NOAUTH Authentication required.".to_owned());
        }
        match spec.kind {
            Kind::Multi if self.queue.is_some() => {
                return Reply::error("MULTI calls can not be nested");
            }
            Kind::Multi => {
                self.queue = Some(Queue::default());
                return Reply::OK;
            }
            Kind::Exec => return self.exec(),
            Kind::Discard if self.queue.take().is_some() => return Reply::OK,
            Kind::Discard => return Reply::error("DISCARD without MULTI"),
            Kind::Quit => {
                self.leaving = true;
                return Reply::OK;
            }
            _ => {}
        }
        if let Some(queue) = &mut self.queue {
            let before = queue.bytes;
            queue.bytes += arguments
                .iter()
                .map(|argument| argument.len() + 32)
                .sum::<usize>();
            let queued = queue.bytes;
            // What is held for the request that is being read stays; nobody waits with a
            // transaction half sent.
            let more = if queued > SMALL_QUEUE {
                (queued - before).next_multiple_of(64) as u64
            } else {
                0
            };
            if queued > QUEUE || !self.memory.grow(self.memory.bytes() + more, Duration::ZERO) {
                let words = if queued > QUEUE {
                    "the transaction is too large".to_owned()
                } else {
                    self.too_large(queued)
                };
                // Kept open, so that what follows is not carried out one by one.
                self.queue = Some(Queue {
                    spoilt: true,
                    ..Queue::default()
                });
                return Reply::error(words);
            }
            queue.commands.push((
                spec,
                arguments.iter().map(|argument| argument.to_vec()).collect(),
            ));
            return Reply::Simple("QUEUED");
        }
        let replies = self.carry_out(&[(spec, arguments)]);
        replies.map_or_else(
            |error| failed(&error),
            |mut replies| replies.pop().unwrap_or(Reply::Nothing),
        )
    }

    /// Carries out commands with nobody's between them. They get what they need of the store, and
    /// nothing else can be asked of it meanwhile.
    fn carry_out<'c>(
        &mut self,
        commands: &[(&Spec, impl AsRef<[&'c [u8]]>)],
    ) -> Result<Vec<Reply>, StoreError> {
        let needs = commands.iter().map(|(spec, _)| self.client.needs(spec));
        let needs = needs.max().unwrap_or(Needs::Nothing);
        let combines = commands.iter().any(|(spec, _)| spec.combines());
        let (shared, keyspace) = (self.shared, self.keyspace);
        // As few results in memory at once as when they were computed while the store was locked.
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
        let mut run = |data: &mut Data<'_, '_>| -> Result<Vec<Reply>, StoreError> {
            commands
                .iter()
                .map(|(spec, arguments)| client.carry_out(spec, arguments.as_ref(), data))
                .collect()
        };
        match needs {
            Needs::Nothing => run(&mut Data::Nothing),
            Needs::Keys => {
                let keys = commands
                    .iter()
                    .flat_map(|(spec, arguments)| spec.keys(arguments.as_ref()));
                keyspace.read_keys(keys, |look| run(&mut Data::ReadTxn(look)))
            }
            Needs::ReadTxn => keyspace.read(|look| run(&mut Data::ReadTxn(look))),
            Needs::WriteTxn => {
                keyspace.change_with(precomputed, |space| run(&mut Data::WriteTxn(space)))
            }
        }
    }

    /// Computes what the commands combine of whole bitmaps, while others go on.
    fn precompute<'c>(
        &self,
        commands: &[(&Spec, impl AsRef<[&'c [u8]]>)],
    ) -> Result<Precomputed, StoreError> {
        let changes: Vec<(&Spec, &[&[u8]])> = commands
            .iter()
            .filter(|(spec, _)| matches!(spec.kind, Kind::Mark | Kind::Change))
            .map(|(spec, arguments)| (*spec, arguments.as_ref()))
            .collect();
        let keys: Vec<&str> = changes
            .iter()
            .flat_map(|(spec, arguments)| spec.keys(arguments))
            .collect();
        self.keyspace.precompute(&keys, |space| {
            for (spec, arguments) in &changes {
                // What fails here fails again, and then is answered.
                let _ = (spec.run)(arguments, &mut Data::WriteTxn(space));
            }
        })
    }

    fn exec(&mut self) -> Reply {
        let Some(queue) = self.queue.take() else {
            return Reply::error("EXEC without MULTI");
        };
        if queue.spoilt {
            return Reply::Error(
                "EXECABORT Transaction discarded because of previous errors.".to_owned(),
            );
        }
        let commands: Vec<(&Spec, Vec<&[u8]>)> = queue
            .commands
            .iter()
            .map(|(spec, owned)| (*spec, owned.iter().map(Vec::as_slice).collect()))
            .collect();
        // Marks alone, as bitmapist sends them.
        let mut marks = Marks::default();
        if commands.iter().all(|(spec, arguments)| {
            matches!(spec.kind, Kind::Mark) && marks.take(arguments).is_ok()
        }) {
            let before = self.keyspace.set_bits(marks.keys, marks.bits);
            return match before {
                Ok(before) => Reply::Array(
                    before
                        .into_iter()
                        .map(|bit| Reply::Number(i64::from(bit)))
                        .collect(),
                ),
                Err(error) => failed(&error),
            };
        }
        self.carry_out(&commands)
            .map_or_else(|error| failed(&error), Reply::Array)
    }
}

/// Reads what a client still sends, so that it gets to read why it is turned away; not for ever.
fn discard(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(REST_WITHIN))?;
    let mut left = request::KNOWN.argument * 2;
    let mut nowhere = vec![0; CHUNK];
    while left > 0 {
        match stream.read(&mut nowhere)? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// What a client hears when the store fails.
fn failed(error: &StoreError) -> Reply {
    match error {
        StoreError::Write { .. } => Reply::Error(format!("MISCONF {error}")),
        // The change is there: only the promise that it survives a power cut is broken.
        StoreError::Unsynced { .. } => Reply::Error(format!("UNSYNCED {error}")),
        _ => Reply::error(error.to_string()),
    }
}
