//! A listener that speaks Redis' protocol over an embedded store, so that bitmapist's clients, unchanged, use it where
//! they used Redis or bitmapist-server.
//!
//! ```text
//! socket ─▶ request (bytes → arguments) ─▶ session (pipelines, MULTI) ─▶ client (password, INFO) ─▶ command (arguments → Look or Space) ─▶ reply
//! ```
//!
//! Each connection has a thread; the store is synchronous. SETBITs that arrive together, as in a pipeline or between MULTI
//! and EXEC, are one frame of the log and one visit to each bitmap. Replies hold pieces of bitmaps and not their bytes:
//! GET of a key whose only bit is the last of 2³² writes 512 MB and holds one tile.

mod bits;
mod client;
mod command;
pub mod glob;
mod reply;
pub mod request;
mod session;

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use crate::peers::{Door, Failures, Peers};
use crate::store::embedded::Keyspace;
use crate::telemetry::RESP;

/// How long a client may take to read what it asked for.
const WRITE_WITHIN: Duration = Duration::from_secs(60);

/// After how long a silent connection is asked whether there is still somebody, as in Redis.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// How long commands under way may take to end when the listener stops.
const GRACE: Duration = Duration::from_secs(5);

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
}

/// How many clients there may be at once when nobody says otherwise.
pub const CONNECTIONS: usize = 1000;

/// What all connections share, but for the store: commands must not reach it past what they are given.
struct Shared {
    settings: Settings,
    stopping: AtomicBool,
    started: Instant,
    /// How many there have ever been: the last one's number.
    numbered: AtomicU64,
    commands: AtomicU64,
    open: Arc<Open>,
    /// Wrong passwords.
    failures: Failures,
    /// Who sent what is not of Redis' protocol.
    foreigners: Peers,
}

impl Shared {
    /// Logs that a client of another protocol was turned away: once for each peer.
    fn turned_away(&self, peer: Option<IpAddr>) {
        let Some(peer) = peer.filter(|peer| self.foreigners.count(*peer, Instant::now()) == 1) else { return };
        tracing::warn!(
            client = %peer,
            "closed a connection that sent HTTP or TLS to the port for Redis clients: perhaps a web page that tries to write"
        );
    }
}

/// The connections there are, by number.
#[derive(Default)]
struct Open {
    streams: Mutex<HashMap<u64, TcpStream>>,
    closed: Condvar,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener under way; it ends when dropped.
pub struct Listener {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn start(settings: Settings, keyspace: Keyspace) -> io::Result<Self> {
        let listener = TcpListener::bind(&settings.listen)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            settings,
            stopping: AtomicBool::new(false),
            started: Instant::now(),
            numbered: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            open: Arc::default(),
            failures: Failures::at(Door::Resp),
            foreigners: Peers::default(),
        });
        let thread = std::thread::Builder::new().name("resp".into()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared, &keyspace)
        })?;
        Ok(Listener { shared, address, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    /// Commands under way end, then their connections close.
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes the thread that waits for the next connection.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { [0; 16].into() });
        }
        let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let open = self.shared.open.lock();
        // Nothing more is read; what was read is answered.
        open.values().for_each(|stream| drop(stream.shutdown(std::net::Shutdown::Read)));
        drop(self.shared.open.closed.wait_timeout_while(open, GRACE, |open| !open.is_empty()));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, keyspace: &Keyspace) {
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => serve(stream, shared, keyspace),
            Err(error) => {
                // Out of file descriptors, mostly: clients that leave make room.
                tracing::warn!("a Redis client could not be let in: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Gives a connection a thread of its own.
fn serve(mut stream: TcpStream, shared: &Arc<Shared>, keyspace: &Keyspace) {
    let number = shared.numbered.fetch_add(1, Ordering::Relaxed) + 1;
    let ready = stream.set_nodelay(true).and_then(|()| stream.set_write_timeout(Some(WRITE_WITHIN)));
    let ready =
        ready.and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE)));
    let Ok(copy) = ready.and_then(|()| stream.try_clone()) else { return };
    {
        let mut open = shared.open.lock();
        if open.len() >= shared.settings.connections {
            drop(open);
            let _ = stream.write_all(b"-ERR max number of clients reached\r\n");
            return;
        }
        open.insert(number, copy);
    }
    let spawned = std::thread::Builder::new().name(format!("resp-{number}")).spawn({
        let (shared, keyspace) = (Arc::clone(shared), keyspace.clone());
        move || {
            // Goes last, however the session ends: whoever waits for it then has the store for itself.
            let _leaving = Leaving { open: Arc::clone(&shared.open), number };
            RESP.opened.add(1);
            let (shared, keyspace) = (shared, keyspace);
            // A client that went away is no news.
            let _ = session::Session::new(&shared, &keyspace, number).run(stream);
        }
    });
    if let Err(error) = spawned {
        tracing::warn!("no thread for a Redis client: {error}");
        shared.open.lock().remove(&number);
    }
}

struct Leaving {
    open: Arc<Open>,
    number: u64,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        RESP.closed.add(1);
        self.open.lock().remove(&self.number);
        self.open.closed.notify_all();
    }
}
