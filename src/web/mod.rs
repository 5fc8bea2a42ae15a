//! The dashboard: routes, headers, and the one way from a request to blocking work.
//!
//! A page is a file in [`pages`] with its handler and the struct of its template. Nothing here knows how bits are
//! stored or cohorts are counted.

pub mod assets;
pub mod error;
pub mod pages;
pub mod query;

use std::io;
use std::net::SocketAddr;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::{Compress, DefaultHeaders, Next, from_fn};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, HttpServer, Route, guard, rt};

use crate::clock::Clock;
use crate::tracker::Tracker;
use error::{WebError, answer};
use pages::retention::Dress;
use pages::{event, events, health, home, people, retention, user};

/// Nothing but our own files; no inline script or style anywhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'; connect-src 'self'";

/// How many threads answer requests. The work itself happens on a pool of blocking threads.
const WORKERS: usize = 2;

/// How long a request in progress may take to end when the server stops, in seconds.
const GRACE_SECONDS: u64 = 10;

/// What the dashboard needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen: `127.0.0.1:8080`; port 0 takes a free one.
    pub listen: String,
    /// Whose numbers it shows.
    pub tracker: Tracker,
    /// As of when.
    pub clock: Clock,
}

/// What every handler can see.
#[derive(Debug, Clone)]
pub struct State {
    tracker: Tracker,
    clock: Clock,
}

/// Serves the dashboard until SIGTERM or SIGINT arrives, then lets requests in progress end. Blocks. `ready` is told
/// the addresses as soon as connections are accepted.
///
/// # Errors
/// When the address cannot be listened on, with what to do.
pub fn run(settings: Settings, ready: impl FnOnce(&[SocketAddr]) + Send + 'static) -> io::Result<()> {
    rt::System::new().block_on(async move {
        let Settings { listen, tracker, clock } = settings;
        let stop = stop_signal()?;
        let server = HttpServer::new(move || actix_web::App::new().configure(app_config(tracker.clone(), clock)))
            .workers(WORKERS)
            .shutdown_timeout(GRACE_SECONDS)
            .shutdown_signal(stop)
            .bind(&listen)
            .map_err(|error| cannot_listen(&listen, &error))?;
        ready(&server.addrs());
        server.run().await
    })
}

fn cannot_listen(listen: &str, error: &io::Error) -> io::Error {
    let mend = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program uses that port. Stop it, or take another with --listen 127.0.0.1:8081 (port 0 is any free one)"
        }
        io::ErrorKind::PermissionDenied => {
            "not allowed. Ports below 1024 need privileges; take a higher one with --listen"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address. Give --listen 127.0.0.1:8080 for itself, 0.0.0.0:8080 for all of its addresses"
        }
        _ => return io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}; choose with --listen")),
    };
    io::Error::new(error.kind(), format!("cannot listen on {listen}: {mend}"))
}

/// Ends when the process is asked to.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use actix_web::rt::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(std::future::poll_fn(move |context| {
        if terminate.poll_recv(context).is_ready() || interrupt.poll_recv(context).is_ready() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    }))
}

/// Ends when the process is asked to.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        let _ = rt::signal::ctrl_c().await;
    })
}

/// The whole application: every route, its headers and its error pages. For [`run`], and for tests without a socket.
pub fn app_config(tracker: Tracker, clock: Clock) -> impl FnOnce(&mut ServiceConfig) + Clone {
    let state = Data::new(State { tracker, clock });
    move |config| {
        let headers = DefaultHeaders::new()
            .add((CONTENT_SECURITY_POLICY, POLICY))
            .add((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .add((REFERRER_POLICY, "same-origin"))
            .add((CACHE_CONTROL, "private, no-cache"));
        let everything = actix_web::web::scope("")
            .app_data(state)
            .wrap(Compress::default())
            .wrap(headers)
            .wrap(from_fn(logged))
            .configure(routes)
            .default_service(actix_web::web::to(nowhere));
        config.service(everything);
    }
}

/// Every route there is.
fn routes(config: &mut ServiceConfig) {
    let mut read = |path: &str, route: Route| {
        let resource = actix_web::web::resource(path).route(route).default_service(actix_web::web::to(unreadable));
        config.service(resource);
    };
    read("/", reading().to(home::get));
    read("/retention", reading().to(retention::page));
    for dress in Dress::ALL {
        let file = move |request: HttpRequest, state: Data<State>| retention::file(request, state, dress);
        read(dress.path(), reading().to(file));
    }
    read("/events", reading().to(events::page));
    // The name may hold slashes; the handler reads it from the path as it was sent.
    read("/events/{name:.*}", reading().to(event::page));
    read("/people", reading().to(people::page));
    read("/people.csv", reading().to(people::file));
    read("/users", reading().to(user::find));
    read("/users/{id}.json", reading().to(user::json));
    read("/users/{id}", reading().to(user::page));
    read("/healthz", reading().to(health::alive));
    read("/readyz", reading().to(health::ready));
    read("/static/{name}", reading().to(assets::by_name));
    read("/favicon.svg", reading().to(assets::icon));
    read("/favicon.ico", reading().to(assets::icon));
}

/// A route for GET and HEAD.
fn reading() -> Route {
    Route::new().guard(guard::Any(guard::Get()).or(guard::Head()))
}

async fn nowhere(request: HttpRequest) -> HttpResponse {
    answer(&request, Err(WebError::NotFound))
}

async fn unreadable(request: HttpRequest) -> HttpResponse {
    answer(&request, Err(WebError::Method))
}

async fn logged(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let (started, method, path) = (std::time::Instant::now(), request.method().clone(), request.path().to_owned());
    let response = next.call(request).await?;
    tracing::debug!(%method, path, status = response.status().as_u16(), ms = started.elapsed().as_millis(), "answered");
    Ok(response)
}

/// The one crossing from the server's threads to those that may block: whatever asks the store goes through here.
pub(crate) async fn block<T: Send + 'static>(
    state: &Data<State>,
    work: impl FnOnce(&State) -> Result<T, WebError> + Send + 'static,
) -> Result<T, WebError> {
    let state = Data::clone(state);
    actix_web::web::block(move || work(&state)).await.map_err(|_| WebError::BrokenOff)?
}
