//! Accepts connections, each in a thread, and ends them when it is dropped.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};

use crate::listen::Port;
use crate::peers::{AuthFailures, Endpoint, Peers};
use crate::resp::session;
use crate::resp::shared::{CLIENT, Open, Settings, Shared};
use crate::store::embedded::Keyspace;
use crate::telemetry::RESP;

/// How long a client may take to read what it asked for.
const WRITE_WITHIN: Duration = Duration::from_secs(60);

/// After how long a silent connection is asked whether there is still somebody, as in Redis.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// How long commands under way may take to end when the listener stops.
const GRACE: Duration = Duration::from_secs(5);

/// How often clients that were turned away are logged.
const LOGGED_EACH: Duration = Duration::from_secs(60);

/// How many clients there may be at once when nobody says otherwise.
pub const CONNECTIONS: usize = 1000;

/// A listener under way; it ends when dropped.
pub struct Listener {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

/// A socket that listens already: clients wait in line until [`Listener::start_on`] serves them.
#[derive(Debug)]
pub struct Listening(TcpListener);

impl Listening {
    /// Listens on the address, such as `127.0.0.1:6380`; port 0 takes a free one.
    ///
    /// # Errors
    /// When it cannot be listened on, with what to do.
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
    /// Listens on [`Settings::listen`] and serves the clients.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn start(settings: Settings, keyspace: Keyspace) -> io::Result<Self> {
        let listening = Listening::bind(&settings.listen)?;
        Listener::start_on(listening, settings, keyspace)
    }

    /// As [`start`](Self::start), on a socket that listens already.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start_on(
        Listening(listener): Listening,
        settings: Settings,
        keyspace: Keyspace,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            most: settings.fitting(),
            settings,
            stopping: AtomicBool::new(false),
            started: Instant::now(),
            numbered: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            open: Arc::default(),
            failures: AuthFailures::new(Endpoint::Resp),
            foreigners: Peers::default(),
            combining: Mutex::default(),
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
        // Nothing more is read; what was read is answered.
        open.values()
            .for_each(|stream| drop(stream.shutdown(std::net::Shutdown::Read)));
        drop(
            self.shared
                .open
                .closed
                .wait_timeout_while(open, GRACE, |open| !open.is_empty()),
        );
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, keyspace: &Keyspace) {
    let mut refusals = Refusals::default();
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => {
                if let Err(reason) = serve(stream, shared, keyspace) {
                    refusals.count(&reason);
                }
            }
            Err(error) => {
                // Out of file descriptors, mostly: clients that leave make room.
                refusals.count(&error.to_string());
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Clients that were turned away, logged once in a while.
#[derive(Default)]
struct Refusals {
    since: u64,
    logged: Option<Instant>,
}

impl Refusals {
    fn count(&mut self, reason: &str) {
        self.since += 1;
        if self.logged.is_none_or(|at| at.elapsed() >= LOGGED_EACH) {
            tracing::warn!(
                clients = self.since,
                "Redis clients were turned away: {reason}"
            );
            *self = Refusals {
                since: 0,
                logged: Some(Instant::now()),
            };
        }
    }
}

/// Gives a connection a thread of its own, or says why there is none for it.
fn serve(stream: TcpStream, shared: &Arc<Shared>, keyspace: &Keyspace) -> Result<(), String> {
    let number = shared.numbered.fetch_add(1, Ordering::Relaxed) + 1;
    let ready = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_write_timeout(Some(WRITE_WITHIN)));
    let ready = ready.and_then(|()| {
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
    });
    // One that has gone already is no news.
    if ready.is_err() {
        return Ok(());
    }
    let stream = Arc::new(stream);
    let memory = {
        let mut open = shared.open.lock();
        let most = shared.most;
        let memory = if open.len() < most {
            shared.settings.memory.reserve(CLIENT)
        } else {
            None
        };
        let Some(memory) = memory else {
            drop(open);
            // Redis' own words, by which clients know what it is.
            let _ = (&*stream).write_all(b"-ERR max number of clients reached\r\n");
            return Err(format!(
                "there are as many as there may be, {most} at most; --resp-connections, --memory-mb and the limit of open files (ulimit -n) say how many"
            ));
        };
        open.insert(number, Arc::clone(&stream));
        memory
    };
    let spawned = std::thread::Builder::new()
        .name(format!("resp-{number}"))
        .spawn({
            let (shared, keyspace) = (Arc::clone(shared), keyspace.clone());
            move || {
                // Goes last, however the session ends: whoever waits for it then has the store for
                // itself.
                let _leaving = Leaving {
                    open: Arc::clone(&shared.open),
                    number,
                };
                RESP.opened.add(1);
                let (shared, keyspace) = (shared, keyspace);
                // A client that went away is no news.
                let _ = session::Session::new(&shared, &keyspace, number, memory).run(&stream);
                drop(stream);
            }
        });
    spawned.map(drop).map_err(|error| {
        shared.open.lock().remove(&number);
        format!("there is no thread for another one: {error}")
    })
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
