//! Runs the server: sockets, startup and shutdown.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use actix_http::HttpService;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, Server};
use actix_web::rt::net::TcpStream;
use actix_web::{App, rt};

use crate::listen::Port;
use crate::server::connection::Connection;
use crate::server::{Live, PATIENCE, app_config};

/// The number of threads that handle connections. Blocking work runs on a separate pool.
const WORKERS: usize = 2;

/// How long a client may continue to send a body that is not read, after the answer.
const LINGER: Duration = Duration::from_secs(1);

/// How long requests in progress may take when the server stops, unless [`Settings`] change it.
pub const GRACE: Duration = Duration::from_secs(10);

/// The fraction of the grace period in which remaining requests get an error, and by which clients
/// may exceed it to read that.
const LAST_WORDS: u32 = 10;

const READING: Duration = Duration::from_secs(5);

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address to listen on: `127.0.0.1:8080`; port 0 picks a free port.
    pub listen: String,
    /// The dashboard to serve.
    pub dashboard: Live,
    /// How long a client may pause within a request.
    pub patience: Duration,
    /// How long requests in progress may take when the server stops.
    pub grace: Duration,
}

impl Settings {
    /// Returns settings with [`PATIENCE`] and [`GRACE`].
    pub fn new(listen: impl Into<String>, dashboard: impl Into<Live>) -> Self {
        Settings {
            listen: listen.into(),
            dashboard: dashboard.into(),
            patience: PATIENCE,
            grace: GRACE,
        }
    }
}

/// Listening sockets. Connections queue until [`run_on`] serves them.
#[derive(Debug)]
pub struct Listening(Vec<TcpListener>);

impl Listening {
    /// Listens on every address that the text resolves to, such as `127.0.0.1:8080`; port 0 takes a
    /// free one.
    ///
    /// # Errors
    /// When none of them can be listened on, with what to do.
    pub fn bind(listen: &str) -> io::Result<Self> {
        Port::Http.bind(listen).map(Listening)
    }
}

/// Serves the dashboard until SIGTERM or SIGINT arrives, then lets requests in progress end.
/// Blocks. `ready` gets the addresses as soon as connections are accepted.
///
/// # Errors
/// When the address cannot be listened on, with what to do.
pub fn run(
    settings: Settings,
    ready: impl FnOnce(&[SocketAddr]) + Send + 'static,
) -> io::Result<()> {
    let listening = Listening::bind(&settings.listen)?;
    rt::System::new()
        .block_on(async move { serve(listening, settings, stop_signal()?, ready).await })
}

/// As [`run`], on sockets that listen already.
///
/// # Errors
/// When the server cannot start.
pub fn run_on(
    listening: Listening,
    dashboard: impl Into<Live>,
    ready: impl FnOnce(&[SocketAddr]) + Send + 'static,
) -> io::Result<()> {
    let settings = Settings::new("", dashboard);
    rt::System::new()
        .block_on(async move { serve(listening, settings, stop_signal()?, ready).await })
}

/// Like [`run`], until `stop` completes.
///
/// # Errors
/// If the address cannot be listened on, with what to do.
pub fn run_until(
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
    ready: impl FnOnce(&[SocketAddr]) + Send + 'static,
) -> io::Result<()> {
    let listening = Listening::bind(&settings.listen)?;
    rt::System::new().block_on(serve(listening, settings, stop, ready))
}

async fn serve(
    listening: Listening,
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
    ready: impl FnOnce(&[SocketAddr]) + Send + 'static,
) -> io::Result<()> {
    let Settings {
        dashboard,
        patience,
        grace,
        ..
    } = settings;
    dashboard.set_patience(patience);
    let stopping = dashboard.clone();
    let stop = async move {
        stop.await;
        // Requests that are still running when the grace period is nearly over get a 503 instead of
        // no answer.
        std::thread::spawn(move || {
            std::thread::sleep(grace - grace / LAST_WORDS);
            stopping.cut_off_all();
        });
    };
    let addresses: Vec<SocketAddr> = listening
        .0
        .iter()
        .map(TcpListener::local_addr)
        .collect::<io::Result<_>>()?;
    let server = server(listening.0, &dashboard, grace + READING, stop)?;
    ready(&addresses);
    server.await
}

/// Waits for SIGTERM or SIGINT.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use actix_web::rt::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(std::future::poll_fn(move |context| {
        if terminate.poll_recv(context).is_ready() || interrupt.poll_recv(context).is_ready() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    }))
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        // If the signal cannot be waited for, stop at once rather than ignore Ctrl-C.
        let _ = rt::signal::ctrl_c().await;
    })
}

/// The server that answers on these sockets, not yet started.
///
/// Works like actix-web's `HttpServer`, on a [`Connection`] instead of a bare stream.
///
/// # Errors
/// When a socket cannot be used.
fn server(
    sockets: Vec<TcpListener>,
    live: &Live,
    shutdown_timeout: Duration,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<Server> {
    let most = live.dashboard().connections;
    let mut server = Server::build()
        .workers(WORKERS)
        .max_concurrent_connections((most / WORKERS).max(1))
        .shutdown_timeout(shutdown_timeout.as_secs())
        .shutdown_signal(stop);
    let stopping = server.graceful_shutdown_signal();
    for socket in sockets {
        let live = live.clone();
        let stopping = stopping.clone();
        let address = socket.local_addr()?;
        server = server.listen(address.to_string(), socket, move || {
            let patience = live.patience();
            let app = App::new().configure(app_config(&live));
            let app = app
                .into_factory()
                .map_err(|error: actix_web::Error| error.error_response());
            let stopping = stopping.clone();
            let http = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .client_request_timeout(patience)
                .client_disconnect_timeout(LINGER)
                // A client that closed its side is gone, so its question is cancelled.
                .h1_allow_half_closed(false)
                .local_addr(address)
                .on_connect_ext(|connection: &Connection, data| {
                    data.insert(Rc::clone(&connection.requests));
                })
                .h1(map_config(app, |()| AppConfig::default()));
            fn_service(move |stream: TcpStream| async move {
                // Without this a page of several packets waits for the client's delayed ACK, 40 ms
                // on a reused connection. If it fails the connection is only slower.
                let _ = stream.set_nodelay(true);
                let peer = stream.peer_addr().ok();
                Ok::<_, actix_http::error::DispatchError>((Connection::new(stream, patience), peer))
            })
            .and_then(http)
        })?;
    }
    Ok(server.run())
}
