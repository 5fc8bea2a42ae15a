//! The state of a client, and the execution of its commands.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use super::access::{Access, CommandError};
use super::command::{ClientCommand, Kind, Spec};
use super::info;
use super::reply::{Protocol, Reply};
use super::request;
use super::shared::{Connection, Shared};
use crate::store::StoreError;

/// A client. It can access the store only through the [`Access`] of each command.
pub(super) struct Client<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    id: u64,
    pub protocol: Protocol,
    /// Whether it has authenticated, or needs no password.
    pub is_authenticated: bool,
    pub peer: Option<IpAddr>,
    /// How long to delay the next reply, after a wrong password.
    pub reply_delay: Duration,
}

/// How much of the store a command needs. Several commands need the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Needs {
    Nothing,
    /// To read the keys among its arguments.
    OwnKeys,
    /// To read any key.
    AllKeys,
    Write,
}

impl<'a> Client<'a> {
    pub fn new(shared: &'a Shared, connection: &'a Connection, id: u64) -> Self {
        Client {
            shared,
            connection,
            id,
            protocol: Protocol::Two,
            is_authenticated: shared.settings.password.is_none(),
            peer: None,
            reply_delay: Duration::ZERO,
        }
    }

    /// How much of the store [`execute`](Self::execute) needs for a command.
    pub fn needs(&self, spec: &Spec) -> Needs {
        match spec.kind {
            Kind::SetBit | Kind::Write => Needs::Write,
            Kind::Flush if self.shared.settings.allow_flush => Needs::Write,
            Kind::Read if spec.has_keys() => Needs::OwnKeys,
            Kind::Read | Kind::Info => Needs::AllKeys,
            _ => Needs::Nothing,
        }
    }

    /// Executes any command except QUIT and those of transactions. A mistake of the client is a
    /// reply, too.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub fn execute(
        &mut self,
        spec: &Spec,
        arguments: &[&[u8]],
        access: &mut Access<'_, '_>,
    ) -> Result<Reply, StoreError> {
        let result = match spec.kind {
            Kind::Auth => Ok(self.auth(arguments)),
            Kind::Hello => Ok(self.hello(arguments)),
            Kind::Client => self.client(arguments).map_err(CommandError::from),
            Kind::Config => Ok(info::settings(self.shared, &arguments[2..])),
            Kind::Info => access
                .read()
                .and_then(|txn| info::info(self.shared, &arguments[1..], txn)),
            Kind::Flush if !self.shared.settings.allow_flush => Ok(Reply::error(format!(
                "{} is disabled: start `cohortist serve` with --allow-flush to let clients delete everything",
                spec.name().to_uppercase()
            ))),
            _ => (spec.run)(arguments, access),
        };
        match result {
            Ok(reply) | Err(CommandError::Reply(reply)) => Ok(reply),
            Err(CommandError::Store(error)) => Err(error),
        }
    }

    fn client(&mut self, arguments: &[&[u8]]) -> Result<Reply, Reply> {
        Ok(match ClientCommand::parse(arguments)? {
            ClientCommand::Id => Reply::count(self.id),
            ClientCommand::GetName => match self.connection.activity().name.clone() {
                name if name.is_empty() => Reply::Null,
                name => Reply::bulk(name),
            },
            ClientCommand::SetName(name) => {
                self.connection.activity().name = name;
                Reply::OK
            }
            ClientCommand::SetInfo => Reply::OK,
            ClientCommand::Info => Reply::Text(info::client(self.id, self.connection)),
            ClientCommand::List(ids) => Reply::Text(info::clients(self.shared, ids.as_deref())),
        })
    }

    fn is_password(&self, user: &[u8], given: &[u8]) -> bool {
        match &self.shared.settings.password {
            Some(password) => user == b"default" && bool::from(password.as_bytes().ct_eq(given)),
            None => user == b"default",
        }
    }

    /// Records a wrong password. The session delays the reply when it holds no locks.
    fn wrong_password(&mut self) -> Reply {
        self.reply_delay += self
            .shared
            .wrong_passwords
            .failed(self.peer, Instant::now());
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
        self.is_authenticated = true;
        Reply::OK
    }

    fn hello(&mut self, arguments: &[&[u8]]) -> Reply {
        let mut rest = &arguments[1..];
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
        let mut is_authenticated = self.is_authenticated;
        while let [option, tail @ ..] = rest {
            rest = match tail {
                [user, given, tail @ ..] if option.eq_ignore_ascii_case(b"AUTH") => {
                    if !self.is_password(user, given) {
                        return self.wrong_password();
                    }
                    is_authenticated = true;
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
        if !is_authenticated {
            return Reply::Error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time".to_owned(),
            );
        }
        self.is_authenticated = is_authenticated;
        self.protocol = protocol;
        let mut activity = self.connection.activity();
        activity.protocol = protocol;
        if let Some(name) = name {
            activity.name = name;
        }
        drop(activity);
        Reply::Map(vec![
            ("server", Reply::bulk("cohortist")),
            ("version", Reply::bulk(env!("CARGO_PKG_VERSION"))),
            (
                "proto",
                Reply::Number(if protocol == Protocol::Three { 3 } else { 2 }),
            ),
            ("id", Reply::count(self.id)),
            ("mode", Reply::bulk("standalone")),
            ("role", Reply::bulk("master")),
            ("modules", Reply::Array(Vec::new())),
        ])
    }
}
