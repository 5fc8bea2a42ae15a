//! One connection: who it is, what it has queued, and pipelines.

use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use subtle::ConstantTimeEq;

use super::command::{self, Data, Fail, Kind, Outcome, Spec};
use super::reply::{Protocol, Reply};
use super::request::{self, Argument, Found, KNOWN, UNKNOWN};
use super::{Shared, bits};
use crate::store::StoreError;

/// How much is read at once, at the least.
const CHUNK: usize = 64 << 10;

/// What a connection may hold back between MULTI and EXEC, in bytes.
const QUEUE: usize = 128 << 20;

/// A connection.
pub(super) struct Session<'a> {
    shared: &'a Shared,
    number: u64,
    protocol: Protocol,
    /// Has given the password, or needs none.
    known: bool,
    name: Vec<u8>,
    queue: Option<Queue>,
    leaving: bool,
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
    pub fn new(shared: &'a Shared, number: u64) -> Self {
        let known = shared.settings.password.is_none();
        Session { shared, number, protocol: Protocol::Two, known, name: Vec::new(), queue: None, leaving: false }
    }

    /// Answers requests until the client goes, or has to.
    pub fn run(mut self, mut stream: TcpStream) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(CHUNK, stream.try_clone()?);
        let mut buffer: Vec<u8> = Vec::new();
        // How much has to be there before it is worth looking.
        let mut needed = 1;
        loop {
            let before = buffer.len();
            // Twice as much each time: a request of many arguments is not looked through over and over.
            buffer.resize(before + CHUNK.max(before).min(request::KNOWN.argument), 0);
            let read = stream.read(&mut buffer[before..]);
            buffer.truncate(before + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
                Ok(_) => {}
            }
            if buffer.len() < needed {
                continue;
            }
            let (used, more) = self.pipeline(&buffer, &mut out)?;
            buffer.drain(..used);
            needed = more;
            out.flush()?;
            if self.leaving {
                return Ok(());
            }
            if buffer.is_empty() && buffer.capacity() > 16 * CHUNK {
                buffer = Vec::new();
            }
        }
    }

    /// Answers the requests in a buffer; says how much of it they took and how much the next one needs.
    fn pipeline(&mut self, buffer: &[u8], out: &mut impl Write) -> io::Result<(usize, usize)> {
        let mut at = 0;
        let mut marks = Marks::default();
        let mut needed = 1;
        while !self.leaving {
            let rest = &buffer[at..];
            match request::read(rest, if self.known { KNOWN } else { UNKNOWN }) {
                Found::Incomplete(more) => {
                    needed = more;
                    break;
                }
                Found::Malformed(words) => {
                    self.commit(&mut marks, out)?;
                    self.leaving = true;
                    Reply::error(format!("Protocol error: {words}")).write(self.protocol, out)?;
                }
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
        let lasting: Option<Vec<&'b [u8]>> = arguments.iter().map(|argument| argument.lasting(bytes)).collect();
        let typed: Vec<&[u8]>;
        let given: &[&[u8]] = match &lasting {
            Some(lasting) => lasting,
            None => {
                typed = arguments.iter().map(|argument| argument.of(bytes)).collect();
                &typed
            }
        };
        let spec = command::find(given);
        if let (Ok(Spec { kind: Kind::Mark, .. }), Some(lasting)) = (&spec, &lasting)
            && self.known
            && self.queue.is_none()
            && marks.take(lasting).is_ok()
        {
            return Ok(());
        }
        self.commit(marks, out)?;
        let reply = match spec {
            Err(reply) => {
                if let Some(queue) = &mut self.queue {
                    queue.spoilt = true;
                }
                reply
            }
            Ok(spec) => self.answer(spec, given),
        };
        reply.write(self.protocol, out)
    }

    /// Carries out the marks that were put together.
    fn commit(&self, marks: &mut Marks<'_>, out: &mut impl Write) -> io::Result<()> {
        if marks.is_empty() {
            return Ok(());
        }
        let Marks { keys, bits, .. } = std::mem::take(marks);
        let count = bits.len();
        match self.shared.keyspace.set_bits(keys, bits) {
            Ok(before) => before.iter().try_for_each(|bit| out.write_all(if *bit { b":1\r\n" } else { b":0\r\n" })),
            Err(error) => {
                let reply = failed(&error);
                (0..count).try_for_each(|_| reply.write(self.protocol, out))
            }
        }
    }

    fn answer(&mut self, spec: &'static Spec, arguments: &[&[u8]]) -> Reply {
        if !self.known && !spec.before_password {
            return Reply::Error("NOAUTH Authentication required.".to_owned());
        }
        match spec.kind {
            Kind::Multi if self.queue.is_some() => return Reply::error("MULTI calls can not be nested"),
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
            queue.bytes += arguments.iter().map(|argument| argument.len() + 32).sum::<usize>();
            if queue.bytes > QUEUE {
                // Kept open, so that what follows is not carried out one by one.
                (queue.commands, queue.spoilt) = (Vec::new(), true);
                return Reply::error("the transaction is too large");
            }
            queue.commands.push((spec, arguments.iter().map(|argument| argument.to_vec()).collect()));
            return Reply::Simple("QUEUED");
        }
        if let Some(reply) = self.own(spec, arguments) {
            return reply;
        }
        let keyspace = &self.shared.keyspace;
        let outcome = match spec.kind {
            Kind::Look => keyspace.look(|look| self.carry_out(spec, arguments, &mut Data::Look(look))),
            _ => keyspace.change(|space| self.carry_out(spec, arguments, &mut Data::Space(space))),
        };
        outcome.unwrap_or_else(|error| failed(&error))
    }

    /// A command on the bitmaps. What is wrong with its arguments is an answer like others.
    fn carry_out(&self, spec: &Spec, arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Result<Reply, StoreError> {
        match (spec.run)(arguments, data) {
            Ok(reply) => Ok(reply),
            Err(Fail::Answer(reply)) => Ok(reply),
            Err(Fail::Store(error)) => Err(error),
        }
    }

    fn exec(&mut self) -> Reply {
        let Some(queue) = self.queue.take() else { return Reply::error("EXEC without MULTI") };
        if queue.spoilt {
            return Reply::Error("EXECABORT Transaction discarded because of previous errors.".to_owned());
        }
        let commands: Vec<(&Spec, Vec<&[u8]>)> =
            queue.commands.iter().map(|(spec, owned)| (*spec, owned.iter().map(Vec::as_slice).collect())).collect();
        // Marks alone, as bitmapist sends them.
        let mut marks = Marks::default();
        if commands.iter().all(|(spec, arguments)| matches!(spec.kind, Kind::Mark) && marks.take(arguments).is_ok()) {
            let before = self.shared.keyspace.set_bits(marks.keys, marks.bits);
            return match before {
                Ok(before) => Reply::Array(before.into_iter().map(|bit| Reply::Number(i64::from(bit))).collect()),
                Err(error) => failed(&error),
            };
        }
        let shared = self.shared;
        let run = |session: &mut Self, data: &mut Data<'_, '_>| -> Result<Reply, StoreError> {
            let replies = commands.iter().map(|(spec, arguments)| match session.own(spec, arguments) {
                Some(reply) => Ok(reply),
                None => session.carry_out(spec, arguments, data),
            });
            Ok(Reply::Array(replies.collect::<Result<_, _>>()?))
        };
        let only_looks = commands.iter().all(|(spec, _)| !matches!(spec.kind, Kind::Mark | Kind::Change));
        let outcome = match only_looks {
            true => shared.keyspace.look(|look| run(self, &mut Data::Look(look))),
            false => shared.keyspace.change(|space| run(self, &mut Data::Space(space))),
        };
        outcome.unwrap_or_else(|error| failed(&error))
    }

    /// Commands about the connection or the server; `None` for those about bitmaps.
    fn own(&mut self, spec: &Spec, arguments: &[&[u8]]) -> Option<Reply> {
        Some(match spec.kind {
            Kind::Auth => self.auth(arguments),
            Kind::Hello => self.hello(arguments),
            Kind::Client => match command::client(arguments) {
                Ok(Outcome::Id) => Reply::count(self.number),
                Ok(Outcome::Named(name)) => {
                    self.name = name;
                    Reply::OK
                }
                Ok(Outcome::Name) if self.name.is_empty() => Reply::Nothing,
                Ok(Outcome::Name) => Reply::bulk(self.name.clone()),
                Ok(Outcome::Nothing) => Reply::OK,
                Err(reply) => reply,
            },
            Kind::Info => self.info(arguments),
            Kind::Flush if !self.shared.settings.allow_flush => {
                Reply::error("FLUSHDB is off: start `cohortist serve` with --allow-flush if everything may be deleted")
            }
            _ => return None,
        })
    }

    fn is_password(&self, user: &[u8], given: &[u8]) -> bool {
        match &self.shared.settings.password {
            Some(password) => user == b"default" && bool::from(password.as_bytes().ct_eq(given)),
            None => user == b"default",
        }
    }

    fn auth(&mut self, arguments: &[&[u8]]) -> Reply {
        let (user, given) = match arguments {
            [_, _] if self.shared.settings.password.is_none() => {
                return Reply::error(
                    "AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
                );
            }
            [_, given] => (&b"default"[..], *given),
            [_, user, given] => (*user, *given),
            _ => return Reply::error("syntax error"),
        };
        if !self.is_password(user, given) {
            return wrong_password();
        }
        self.known = true;
        Reply::OK
    }

    fn hello(&mut self, arguments: &[&[u8]]) -> Reply {
        let mut rest = arguments.get(1..).unwrap_or_default();
        let mut protocol = self.protocol;
        if let [version, tail @ ..] = rest {
            protocol = match request::number(version) {
                Some(2) => Protocol::Two,
                Some(3) => Protocol::Three,
                Some(_) => return Reply::Error("NOPROTO unsupported protocol version".to_owned()),
                None => return Reply::error("Protocol version is not an integer or out of range"),
            };
            rest = tail;
        }
        let mut name = None;
        let mut known = self.known;
        while let [option, tail @ ..] = rest {
            rest = match tail {
                [user, given, tail @ ..] if option.eq_ignore_ascii_case(b"AUTH") => {
                    if !self.is_password(user, given) {
                        return wrong_password();
                    }
                    known = true;
                    tail
                }
                [given, tail @ ..] if option.eq_ignore_ascii_case(b"SETNAME") => {
                    name = Some(given.to_vec());
                    tail
                }
                _ => {
                    let option = String::from_utf8_lossy(option);
                    return Reply::error(format!("Syntax error in HELLO option '{option}'"));
                }
            };
        }
        if !known {
            return Reply::Error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time".to_owned(),
            );
        }
        (self.known, self.protocol) = (known, protocol);
        if let Some(name) = name {
            self.name = name;
        }
        Reply::Map(vec![
            ("server", Reply::bulk("cohortist")),
            ("version", Reply::bulk(env!("CARGO_PKG_VERSION"))),
            ("proto", Reply::Number(if protocol == Protocol::Three { 3 } else { 2 })),
            ("id", Reply::count(self.number)),
            ("mode", Reply::bulk("standalone")),
            ("role", Reply::bulk("master")),
            ("modules", Reply::Array(Vec::new())),
        ])
    }

    fn info(&self, arguments: &[&[u8]]) -> Reply {
        let keys = match self.shared.keyspace.look(|look| Ok((look.keys()?.len(), look.mortal()))) {
            Ok(counts) => counts,
            Err(error) => return failed(&error),
        };
        let sections: [(&str, String); 4] = [
            (
                "Server",
                format!(
                    "redis_version:{}\r\nserver_name:cohortist\r\ncohortist_version:{}\r\nredis_mode:standalone\r\nprocess_id:{}\r\ntcp_port:{}\r\nuptime_in_seconds:{}\r\n",
                    command::VERSION,
                    env!("CARGO_PKG_VERSION"),
                    std::process::id(),
                    self.shared.settings.listen.rsplit_once(':').map_or("0", |(_, port)| port),
                    self.shared.started.elapsed().as_secs(),
                ),
            ),
            (
                "Clients",
                format!(
                    "connected_clients:{}\r\nmaxclients:{}\r\n",
                    self.shared.open.lock().len(),
                    self.shared.settings.connections
                ),
            ),
            (
                "Stats",
                format!(
                    "total_connections_received:{}\r\ntotal_commands_processed:{}\r\n",
                    self.shared.numbered.load(Ordering::Relaxed),
                    self.shared.commands.load(Ordering::Relaxed)
                ),
            ),
            (
                "Keyspace",
                match keys {
                    (0, _) => String::new(),
                    (keys, mortal) => format!("db0:keys={keys},expires={mortal},avg_ttl=0\r\n"),
                },
            ),
        ];
        let asked = arguments.get(1..).unwrap_or_default();
        let wanted = |name: &str| {
            let general = |asked: &&[u8]| {
                [&b"all"[..], b"default", b"everything"].contains(&asked.to_ascii_lowercase().as_slice())
            };
            asked.is_empty() || asked.iter().any(|asked| asked.eq_ignore_ascii_case(name.as_bytes()) || general(asked))
        };
        let chosen = sections.iter().filter(|(name, _)| wanted(name));
        let texts: Vec<String> = chosen.map(|(name, lines)| format!("# {name}\r\n{lines}")).collect();
        Reply::Text(texts.join("\r\n"))
    }
}

fn wrong_password() -> Reply {
    Reply::Error("WRONGPASS invalid username-password pair or user is disabled.".to_owned())
}

/// What a client hears when the store fails.
fn failed(error: &StoreError) -> Reply {
    match error {
        // The marks are there: only the promise is broken.
        StoreError::Write { .. } | StoreError::Unsynced { .. } => Reply::Error(format!("MISCONF {error}")),
        _ => Reply::error(error.to_string()),
    }
}
