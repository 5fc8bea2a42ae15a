//! The socket, its threads, and the end of a listener.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use super::session::Session;
use super::shared::{CLIENT_BYTES, Connection, OpenConnections, Settings, Shared};
use crate::listen::Port;
use crate::peers::{AuthFailures, Endpoint, Peers};
use crate::store::budget::Reservation;
use crate::store::embedded::Keyspace;
use crate::telemetry::RESP;

/// How long a client may take to read a reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The idle time after which TCP checks that a client still exists, as in Redis.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// How long running commands may take to finish when the listener stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The minimum time between two log lines about refused clients.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The default of [`Settings::connections`].
pub const CONNECTIONS: usize = 1000;

/// A running listener. It stops when it is dropped.
pub struct Listener {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

/// A bound socket. Clients wait until [`Listener::start_on`] serves them.
#[derive(Debug)]
pub struct Listening(TcpListener);

impl Listening {
    /// Binds an address, such as `127.0.0.1:6380`. Port 0 picks a free one.
    ///
    /// # Errors
    /// Returns an error that says what to do if the address cannot be bound.
    pub fn bind(listen: &str) -> io::Result<Self> {
        let listeners = Port::Resp.bind(listen)?;
        listeners
            .into_iter()
            .next()
            .map(Listening)
            .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

impl Listener {
    /// Binds [`Settings::listen`] and serves clients.
    ///
    /// # Errors
    /// Returns an error if the address cannot be bound.
    pub fn start(settings: Settings, keyspace: Keyspace) -> io::Result<Self> {
        let listening = Listening::bind(&settings.listen)?;
        Listener::start_on(listening, settings, keyspace)
    }

    /// Like [`start`](Self::start), on a socket that is already bound.
    ///
    /// # Errors
    /// Returns an error if the thread cannot be started.
    pub fn start_on(
        Listening(listener): Listening,
        settings: Settings,
        keyspace: Keyspace,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let write_failure = keyspace.write_failure();
        let shared = Arc::new(Shared {
            max_clients: settings.max_clients(),
            settings,
            port: address.port(),
            is_stopping: AtomicBool::new(false),
            started: Instant::now(),
            connections: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            open: Arc::default(),
            wrong_passwords: AuthFailures::new(Endpoint::Resp),
            other_protocols: Peers::default(),
            combining: Mutex::default(),
            write_failure: Box::new(write_failure),
        });
        let thread = std::thread::Builder::new().name("resp".into()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared, &keyspace)
        })?;
        Ok(Listener {
            shared,
            address,
            thread: Some(thread),
        })
    }

    /// The address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    /// Waits until running commands are finished, then closes the connections.
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        // Wakes the thread that accepts connections.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                [0; 16].into()
            });
        }
        let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let open = self.shared.open.lock();
        // No more requests are read. Those that were read are answered.
        for connection in open.values() {
            let _ = connection.stream.shutdown(Shutdown::Read);
        }
        let _ = self
            .shared
            .open
            .closed
            .wait_timeout_while(open, STOP_TIMEOUT, |open| !open.is_empty());
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, keyspace: &Keyspace) {
    let mut refusals = Refusals::default();
    loop {
        let accepted = listener.accept();
        if shared.is_stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => {
                if let Err(reason) = serve(stream, shared, keyspace) {
                    refusals.count(&reason);
                }
            }
            Err(error) => {
                // Most likely the process has no file descriptors left until a client leaves.
                refusals.count(&error.to_string());
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// The clients refused since the last log line about them.
#[derive(Default)]
struct Refusals {
    count: u64,
    logged_at: Option<Instant>,
}

impl Refusals {
    fn count(&mut self, reason: &str) {
        self.count += 1;
        if self
            .logged_at
            .is_none_or(|at| at.elapsed() >= REFUSAL_LOG_INTERVAL)
        {
            tracing::warn!(clients = self.count, "Redis clients were refused: {reason}");
            *self = Refusals {
                count: 0,
                logged_at: Some(Instant::now()),
            };
        }
    }
}

/// Starts the thread of a connection, or returns why it was refused.
fn serve(stream: TcpStream, shared: &Arc<Shared>, keyspace: &Keyspace) -> Result<(), String> {
    let id = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
    // This fails if the client has disconnected already.
    if configure(&stream).is_err() {
        return Ok(());
    }
    let connection = Arc::new(Connection::new(stream));
    let Some(memory) = register(&connection, id, shared) else {
        // Clients recognize this message of Redis.
        let _ = (&connection.stream).write_all(b"-ERR max number of clients reached\r\n");
        return Err(format!(
            "the maximum of {} clients is reached; it depends on --resp-connections, --memory-mb and the limit of open files (ulimit -n)",
            shared.max_clients
        ));
    };
    let thread = {
        let shared = Arc::clone(shared);
        let keyspace = keyspace.clone();
        move || {
            // Declared first and dropped last: when the connection is removed, its thread has
            // released the store.
            let _registration = Registration {
                open: Arc::clone(&shared.open),
                id,
            };
            RESP.opened.add(1);
            let shared = shared;
            let keyspace = keyspace;
            // This fails if the client disconnects.
            let _ = Session::new(&shared, &keyspace, &connection, id, memory).run();
            drop(connection);
        }
    };
    std::thread::Builder::new()
        .name(format!("resp-{id}"))
        .spawn(thread)
        .map(drop)
        .map_err(|error| {
            shared.open.lock().remove(&id);
            format!("no thread could be started: {error}")
        })
}

fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// Adds a connection to the open ones and reserves its memory. Returns `None` if there are too many.
fn register(connection: &Arc<Connection>, id: u64, shared: &Shared) -> Option<Reservation> {
    let mut open = shared.open.lock();
    if open.len() >= shared.max_clients {
        return None;
    }
    let memory = shared.settings.memory.reserve(CLIENT_BYTES)?;
    open.insert(id, Arc::clone(connection));
    Some(memory)
}

/// Removes a connection from the open ones when it is dropped.
struct Registration {
    open: Arc<OpenConnections>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        RESP.closed.add(1);
        self.open.lock().remove(&self.id);
        self.open.closed.notify_all();
    }
}
