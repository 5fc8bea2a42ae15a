//! What the connections of a listener share, and its settings.

use std::collections::HashMap;
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::peers::{AuthFailures, Peers};
use crate::store::budget::Budget;

/// What a client takes of the memory while it sends nothing large: a piece of what it sent and one
/// of its replies.
pub(super) const CLIENT: u64 = 64 << 10;

/// What a listener is to do.
#[derive(Clone)]
pub struct Settings {
    /// Where: `127.0.0.1:6380`; port 0 takes a free one.
    pub listen: String,
    /// What clients have to say first.
    pub password: Option<String>,
    /// Whether FLUSHDB is carried out.
    pub allow_flush: bool,
    /// How many clients there may be at once.
    pub connections: usize,
    /// What all clients together may have sent that is not carried out yet. Half of it is for
    /// requests of more than a few kilobytes, so that no number of idle clients leaves them
    /// without.
    pub memory: Budget,
}

impl Settings {
    /// How many clients there may be, given what each takes.
    pub(super) fn fitting(&self) -> usize {
        let room = usize::try_from(self.memory.size() / 2 / CLIENT).unwrap_or(usize::MAX);
        self.connections.min(room.max(1))
    }
}

/// What all connections share, but for the store: commands must not reach it past what they are
/// given.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) stopping: AtomicBool,
    pub(super) started: Instant,
    /// How many there have ever been: the last one's number.
    pub(super) numbered: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) open: Arc<Open>,
    /// Wrong passwords.
    pub(super) failures: AuthFailures,
    /// Peers that sent something other than Redis' protocol.
    pub(super) foreigners: Peers,
    /// Held by the client whose bitmaps are being combined: the results take memory.
    pub(super) combining: Mutex<()>,
    /// How many clients there may be at once.
    pub(super) most: usize,
}

impl Shared {
    /// Logs that a client of another protocol was turned away: once for each peer.
    pub(super) fn turned_away(&self, peer: Option<IpAddr>) {
        let Some(peer) = peer.filter(|peer| self.foreigners.count(*peer, Instant::now()) == 1)
        else {
            return;
        };
        tracing::warn!(
            client = %peer,
            "closed a connection that sent HTTP or TLS to the port for Redis clients: perhaps a web page that tries to write"
        );
    }
}

/// The connections there are, by number. A stream is shared with its session and not cloned: each
/// client takes one descriptor.
#[derive(Default)]
pub(super) struct Open {
    pub(super) streams: Mutex<HashMap<u64, Arc<TcpStream>>>,
    pub(super) closed: Condvar,
}

impl Open {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<TcpStream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
