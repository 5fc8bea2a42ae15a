//! What the connections of a listener share.

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::reply::Protocol;
use crate::peers::{AuthFailures, Peers};
use crate::store::budget::Budget;

/// The memory of a client without large requests, in bytes: a buffer for requests, and one for
/// replies.
pub(super) const CLIENT_BYTES: u64 = 64 << 10;

/// The settings of a listener.
#[derive(Clone)]
pub struct Settings {
    /// The address to listen on, such as `127.0.0.1:6380`. Port 0 picks a free one.
    pub listen: String,
    /// The password of clients, if they need one.
    pub password: Option<String>,
    /// Whether FLUSHDB is allowed.
    pub allow_flush: bool,
    /// The maximum number of clients.
    pub connections: usize,
    /// The memory for requests of all clients that are not executed yet. Half of it is reserved for
    /// requests of more than a few kilobytes, so that idle clients cannot use all of it.
    pub memory: Budget,
}

impl Settings {
    /// The maximum number of clients, given the memory of each.
    pub(super) fn max_clients(&self) -> usize {
        let fitting = usize::try_from(self.memory.size() / 2 / CLIENT_BYTES).unwrap_or(usize::MAX);
        self.connections.min(fitting.max(1))
    }
}

/// What all connections share, except the store. Commands may access that only through what they
/// are given.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) port: u16,
    pub(super) is_stopping: AtomicBool,
    pub(super) started: Instant,
    /// The number of connections so far, which is the id of the latest one.
    pub(super) connections: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) open: Arc<OpenConnections>,
    pub(super) wrong_passwords: AuthFailures,
    /// Peers that sent another protocol.
    pub(super) other_protocols: Peers,
    /// Held by the client whose bitmaps are being combined, because the results take memory.
    pub(super) combining: Mutex<()>,
    pub(super) max_clients: usize,
    /// Why the store cannot be written at the moment. Locks nothing that a command may hold.
    pub(super) write_failure: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

impl Shared {
    /// Logs a client that sent another protocol, once per peer.
    pub(super) fn log_other_protocol(&self, peer: Option<IpAddr>) {
        let Some(peer) = peer else { return };
        if self.other_protocols.count(peer, Instant::now()) == 1 {
            tracing::warn!(
                client = %peer,
                "closed a connection that sent HTTP or TLS to the port for Redis clients: perhaps a web page that tries to write"
            );
        }
    }
}

/// The open connections by their ids.
#[derive(Default)]
pub(super) struct OpenConnections {
    connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    pub(super) closed: Condvar,
}

impl OpenConnections {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open connection. Its session shares the stream and does not clone it, so that each client
/// needs only one file descriptor.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) opened: Instant,
    activity: Mutex<Activity>,
}

/// What the client of a connection did last.
#[derive(Clone)]
pub(super) struct Activity {
    /// The name that the client gave itself.
    pub(super) name: Vec<u8>,
    pub(super) protocol: Protocol,
    /// The last command, or `NULL`.
    pub(super) command: &'static str,
    pub(super) at: Instant,
    /// The number of commands since MULTI.
    pub(super) queued: Option<usize>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        let now = Instant::now();
        Connection {
            stream,
            opened: now,
            activity: Mutex::new(Activity {
                name: Vec::new(),
                protocol: Protocol::Two,
                command: "NULL",
                at: now,
                queued: None,
            }),
        }
    }

    /// Records that the client sent a command.
    pub(super) fn used_now(&self, command: &'static str) {
        let mut activity = self.activity();
        activity.command = command;
        activity.at = Instant::now();
    }

    pub(super) fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
