//! A client: who it is, and every command it may send, carried out on what it is given of the
//! store.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use crate::resp::call::{Answer, Data, Fail};
use crate::resp::command::{self, Kind, Outcome, Spec};
use crate::resp::reply::{Protocol, Reply};
use crate::resp::request;
use crate::resp::shared::Shared;
use crate::store::StoreError;
use crate::store::embedded::ReadTxn;

/// A client. It has no way to the store but the [`Data`] of each command.
pub(super) struct Client<'a> {
    shared: &'a Shared,
    number: u64,
    pub protocol: Protocol,
    /// Has given the password, or needs none.
    pub known: bool,
    name: Vec<u8>,
    pub peer: Option<IpAddr>,
    /// How long the next reply waits: it says that a password was wrong.
    pub penalty: Duration,
}

/// How much of the store a command needs; of several commands, the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Needs {
    Nothing,
    /// To read the keys it names.
    Keys,
    /// To read any key.
    ReadTxn,
    WriteTxn,
}

impl<'a> Client<'a> {
    pub fn new(shared: &'a Shared, number: u64) -> Self {
        let known = shared.settings.password.is_none();
        Client {
            shared,
            number,
            protocol: Protocol::Two,
            known,
            name: Vec::new(),
            peer: None,
            penalty: Duration::ZERO,
        }
    }

    /// What [`carry_out`](Self::carry_out) needs for a command.
    pub fn needs(&self, spec: &Spec) -> Needs {
        match spec.kind {
            Kind::Mark | Kind::Change => Needs::WriteTxn,
            Kind::Flush if self.shared.settings.allow_flush => Needs::WriteTxn,
            Kind::ReadTxn if spec.names_keys() => Needs::Keys,
            Kind::ReadTxn | Kind::Info => Needs::ReadTxn,
            _ => Needs::Nothing,
        }
    }

    /// Carries out any command but those of transactions and QUIT. A mistake of the client is a
    /// reply like others.
    ///
    /// # Errors
    /// When the store fails.
    pub fn carry_out(
        &mut self,
        spec: &Spec,
        arguments: &[&[u8]],
        data: &mut Data<'_, '_>,
    ) -> Result<Reply, StoreError> {
        let answer = match spec.kind {
            Kind::Auth => Ok(self.auth(arguments)),
            Kind::Hello => Ok(self.hello(arguments)),
            Kind::Client => self.client(arguments).map_err(Fail::from),
            Kind::Info => data.look().and_then(|look| self.info(arguments, look)),
            Kind::Flush if !self.shared.settings.allow_flush => Ok(Reply::error(
                "FLUSHDB is off: start `cohortist serve` with --allow-flush if everything may be deleted",
            )),
            _ => (spec.run)(arguments, data),
        };
        match answer {
            Ok(reply) | Err(Fail::Answer(reply)) => Ok(reply),
            Err(Fail::Store(error)) => Err(error),
        }
    }

    fn client(&mut self, arguments: &[&[u8]]) -> Result<Reply, Reply> {
        Ok(match command::client(arguments)? {
            Outcome::Id => Reply::count(self.number),
            Outcome::Named(name) => {
                self.name = name;
                Reply::OK
            }
            Outcome::Name if self.name.is_empty() => Reply::Nothing,
            Outcome::Name => Reply::bulk(self.name.clone()),
            Outcome::Nothing => Reply::OK,
        })
    }

    fn is_password(&self, user: &[u8], given: &[u8]) -> bool {
        match &self.shared.settings.password {
            Some(password) => user == b"default" && bool::from(password.as_bytes().ct_eq(given)),
            None => user == b"default",
        }
    }

    /// Notes that a password was wrong. The session delays the reply, after it has released all
    /// locks.
    fn wrong_password(&mut self) -> Reply {
        self.penalty += self.shared.failures.failed(self.peer, Instant::now());
        Reply::Error("WRONGPASS invalid username-password pair or user is disabled.".to_owned())
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
            return self.wrong_password();
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
                        return self.wrong_password();
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
            (
                "proto",
                Reply::Number(if protocol == Protocol::Three { 3 } else { 2 }),
            ),
            ("id", Reply::count(self.number)),
            ("mode", Reply::bulk("standalone")),
            ("role", Reply::bulk("master")),
            ("modules", Reply::Array(Vec::new())),
        ])
    }

    fn info(&self, arguments: &[&[u8]], look: ReadTxn<'_>) -> Answer {
        let keys = (look.keys()?.len(), look.expiring());
        let sections: [(&str, String); 4] = [
            (
                "Server",
                format!(
                    "redis_version:{}\r\nserver_name:cohortist\r\ncohortist_version:{}\r\nredis_mode:standalone\r\nprocess_id:{}\r\ntcp_port:{}\r\nuptime_in_seconds:{}\r\n",
                    command::VERSION,
                    env!("CARGO_PKG_VERSION"),
                    std::process::id(),
                    self.shared
                        .settings
                        .listen
                        .rsplit_once(':')
                        .map_or("0", |(_, port)| port),
                    self.shared.started.elapsed().as_secs(),
                ),
            ),
            (
                "Clients",
                format!(
                    "connected_clients:{}\r\nmaxclients:{}\r\n",
                    self.shared.open.lock().len(),
                    self.shared.most
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
                    (keys, expiring) => format!("db0:keys={keys},expires={expiring},avg_ttl=0\r\n"),
                },
            ),
        ];
        let asked = arguments.get(1..).unwrap_or_default();
        let wanted = |name: &str| {
            let general = |asked: &&[u8]| {
                [&b"all"[..], b"default", b"everything"]
                    .contains(&asked.to_ascii_lowercase().as_slice())
            };
            asked.is_empty()
                || asked
                    .iter()
                    .any(|asked| asked.eq_ignore_ascii_case(name.as_bytes()) || general(asked))
        };
        let chosen = sections.iter().filter(|(name, _)| wanted(name));
        let texts: Vec<String> = chosen
            .map(|(name, lines)| format!("# {name}\r\n{lines}"))
            .collect();
        Ok(Reply::Text(texts.join("\r\n")))
    }
}
