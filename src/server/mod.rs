//! The dashboard: routes, headers, and the one way from a request to blocking work.
//!
//! A page is a file in [`pages`] with its handler and the struct of its template. Nothing here
//! knows how bits are stored or cohorts are counted.

mod admission;
pub mod api;
mod arrival;
pub mod assets;
mod connection;
mod dashboard;
pub mod error;
pub mod export;
mod exposition;
mod host;
mod live;
mod log;
mod metrics;
mod outgoing;
mod page_cache;
pub mod pages;
mod process;
pub mod query;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_ENCODING, AcceptEncoding, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    ContentEncoding, Encoding, HeaderValue, LOCATION, Preference, Quality, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::{Compress, DefaultHeaders, Next, from_fn};
use actix_web::web::{ServiceConfig, post, resource, scope, to};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, Route, guard, rt};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::calendar::{Grain, Period};
use crate::clock::Clock;
use crate::endpoints;
use crate::listen::Port;
use crate::render::{FileName, words};
use crate::reports::coverage::Coverage;
use crate::reports::retention::{Query, Table};
use crate::sets::{EventName, Set};
use crate::store::{Cancel, Freshness};
use crate::tracker::{Run, Tracker, Written};
pub use admission::{Admission, Busy, Load};
pub(crate) use admission::{Patience, admitted, writing};
pub use dashboard::{Dashboard, Glossary, NamedStore, Pattern, SLOW, TITLE};
use error::{WebError, answer};
use export::Format;
pub use host::{HostName, Hosts, Network, Proxies};
pub(crate) use host::{client_address, is_own_page};
use live::Place;
pub use live::{Live, PATIENCE};
pub use metrics::{expired, expiry_failed, expiry_refused};
pub use page_cache::PageCache;
use page_cache::{CachedPage, PageEncoding};
use pages::{autocomplete, event, events, health, home, people, report, retention, user};

/// Nothing but our own files; no inline script or style anywhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; \
                      base-uri 'self'; frame-ancestors 'none'; connect-src 'self'";

/// What no page may use, of what browsers let pages use. Only the button that copies a link writes
/// to the clipboard.
const PERMISSIONS: &str = "accelerometer=(), autoplay=(), browsing-topics=(), camera=(), clipboard-read=(), \
                           clipboard-write=(self), display-capture=(), encrypted-media=(), fullscreen=(), gamepad=(), \
                           geolocation=(), gyroscope=(), hid=(), idle-detection=(), keyboard-map=(), local-fonts=(), \
                           magnetometer=(), microphone=(), midi=(), payment=(), picture-in-picture=(), \
                           publickey-credentials-create=(), publickey-credentials-get=(), screen-wake-lock=(), serial=(), \
                           storage-access=(), usb=(), window-management=(), xr-spatial-tracking=()";

/// How long requests under way may take to end when the server stops, unless [`Settings`] say
/// otherwise.
pub const GRACE: Duration = Duration::from_secs(10);

/// What part of it is left for the answers that say so, and how much longer clients may take to
/// read them.
const LAST_WORDS: u32 = 10;
const READING: Duration = Duration::from_secs(5);

/// What the server needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen: `127.0.0.1:8080`; port 0 takes a free one.
    pub listen: String,
    /// What it shows.
    pub dashboard: Live,
    /// How long a client may send nothing in the middle of a request.
    pub patience: Duration,
    /// How long requests under way may take to end when the server stops.
    pub grace: Duration,
}

impl Settings {
    /// With [`PATIENCE`] and [`GRACE`].
    pub fn new(listen: impl Into<String>, dashboard: impl Into<Live>) -> Self {
        Settings {
            listen: listen.into(),
            dashboard: dashboard.into(),
            patience: PATIENCE,
            grace: GRACE,
        }
    }
}

/// How many connections there may be at once when descriptors are no matter.
pub const CONNECTIONS: usize = 50_000;

/// What every handler of one store's pages can see.
#[derive(Debug, Clone)]
pub struct State {
    dashboard: Arc<Dashboard>,
    /// Which of the dashboard's stores.
    index: usize,
    /// What the addresses of its pages begin with.
    base: String,
    tracker: Tracker,
    read_only: bool,
}

impl State {
    fn of(dashboard: &Arc<Dashboard>, index: usize, store: &NamedStore) -> Self {
        State {
            dashboard: Arc::clone(dashboard),
            index,
            base: dashboard.base(index),
            tracker: store.tracker.clone(),
            read_only: store.read_only,
        }
    }

    /// As of when.
    fn now(&self) -> DateTime<Utc> {
        self.dashboard.clock.now()
    }

    /// As of when, and whether that was given.
    fn as_asked(&self) -> (DateTime<Utc>, bool) {
        (self.now(), self.dashboard.clock.is_given())
    }

    /// What the store covers.
    fn coverage(&self) -> Result<Coverage, WebError> {
        let (now, now_given) = self.as_asked();
        Ok(self.tracker.coverage(now, now_given)?)
    }

    /// The last month with data, where that is before now: its first day.
    fn ends(&self) -> Option<NaiveDate> {
        // A store that is away is reported elsewhere.
        let last = self.coverage().ok()?.ends(Grain::Month)?;
        Some(last.start().date_naive())
    }

    /// The grains of those periods in which a set of these periods may include marks made after a
    /// given *now*.
    fn later_in(&self, set: &Set, periods: &[Period]) -> Result<Vec<Grain>, WebError> {
        match self.as_asked() {
            (now, true) => Ok(self.tracker.later_in(set, periods, now)?),
            (_, false) => Ok(Vec::new()),
        }
    }

    /// Of when counts are that were so old when they came: the pages' word for it.
    fn as_of(&self, now: DateTime<Utc>, age: Duration) -> String {
        let at = match self.dashboard.clock {
            Clock::System => now - TimeDelta::from_std(age).unwrap_or_default(),
            // Whoever looks back looks at one moment.
            Clock::Fixed(moment) => moment,
        };
        let later = self
            .dashboard
            .clock
            .is_given()
            .then(|| self.tracker.catalogue().ok())
            .flatten();
        let later = later.and_then(|all| words::includes_later(&all.holding_later(at), at));
        let later = later.map_or_else(String::new, |later| format!("; {later}"));
        format!("as of {} UTC{later}", at.format("%a %-d %b %Y, %H:%M"))
    }

    /// How a page's report is run.
    fn run(&self, freshness: Freshness) -> Run<'_> {
        Run {
            now: self.now(),
            now_given: self.dashboard.clock.is_given(),
            freshness,
            labels: &self.dashboard.glossary.labels,
            hidden: &self.dashboard.glossary.hidden,
        }
    }

    /// The table of another query that a page may suggest; `None` if it cannot be asked.
    fn retention(&self, query: &Query) -> Result<Option<Table>, WebError> {
        match self.tracker.run(query, &self.run(Freshness::Cached)) {
            Ok(answered) => Ok(Some(answered.answer)),
            Err(crate::Error::Query(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The events that lists offer.
    fn events(&self) -> Result<Vec<EventName>, WebError> {
        let mut events = self.tracker.events("")?;
        events.retain(|name| !self.dashboard.glossary.hides(name));
        Ok(events)
    }

    /// The address of a page of this store.
    fn to(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// What one request can see: the state, and where it is itself.
#[derive(Debug, Clone)]
pub struct View {
    state: Arc<State>,
    /// Path and query as they were sent, without the store's beginning.
    pub(crate) here: String,
    /// What all requests share, outside of tests that ask without a server.
    live: Option<Live>,
}

/// Path and query of a request as they were sent, without the store's beginning.
pub(crate) fn here(request: &HttpRequest) -> String {
    let path = without_store(place(request).1);
    // Browsers take what two slashes begin for the name of another host.
    let path = if path.starts_with("//") { "/" } else { path };
    let query = request
        .uri()
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    format!("{path}{query}")
}

/// A path without the beginning of a store there is none of: what stands behind it is the same for
/// every store.
pub(crate) fn without_store(path: &str) -> &str {
    match path
        .strip_prefix("/in/")
        .map(|rest| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"))
    {
        Some(rest) => without_store(rest),
        None => path,
    }
}

impl View {
    fn of(request: &HttpRequest) -> Result<Self, WebError> {
        let (state, _) = place(request);
        Ok(View {
            state: state.ok_or(WebError::NotFound)?,
            here: here(request),
            live: request.app_data::<Live>().cloned(),
        })
    }

    /// The query string as it was sent.
    fn query(&self) -> &str {
        self.here.split_once('?').map_or("", |(_, query)| query)
    }
}

impl std::ops::Deref for View {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

/// The state of a request, and its path without the store's beginning.
pub(crate) fn place(request: &HttpRequest) -> (Option<Arc<State>>, &str) {
    let state = live::state(request);
    let path = request.path();
    let rest = state
        .as_ref()
        .and_then(|state| path.strip_prefix(state.base.as_str()))
        .unwrap_or(path);
    (state, rest)
}

/// Sockets that listen already: connections wait in line until [`run_on`] answers them.
#[derive(Debug)]
pub struct Listening(Vec<TcpListener>);

impl Listening {
    /// Listens on every address that the text stands for, such as `127.0.0.1:8080`; port 0 takes a
    /// free one.
    ///
    /// # Errors
    /// When none of them can be listened on, with what to do.
    pub fn bind(listen: &str) -> io::Result<Self> {
        Port::Http.bind(listen).map(Listening)
    }
}

/// Serves the dashboard until SIGTERM or SIGINT arrives, then lets requests in progress end.
/// Blocks. `ready` is told the addresses as soon as connections are accepted.
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

/// As [`run`], until `stop` ends.
///
/// # Errors
/// As there.
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
    let server = connection::server(listening.0, &dashboard, grace + READING, stop)?;
    ready(&addresses);
    server.await
}

/// Ends when the process is asked to.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use actix_web::rt::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
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

/// The whole application: every route, its headers and its error pages. For [`run`], and for tests
/// without a socket.
pub fn app_config(live: &Live) -> impl FnOnce(&mut ServiceConfig) + Clone + use<> {
    let live = live.clone();
    move |config| {
        let dashboard = live.dashboard();
        let headers = DefaultHeaders::new()
            .add((CONTENT_SECURITY_POLICY, POLICY))
            .add((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .add((REFERRER_POLICY, "same-origin"))
            .add(("cross-origin-opener-policy", "same-origin"))
            .add(("cross-origin-resource-policy", "same-origin"))
            .add(("permissions-policy", PERMISSIONS))
            .add((CACHE_CONTROL, "private, no-cache"));
        // Outside of those that answer, so that every answer has its line.
        let slow = dashboard.slow;
        let logged = from_fn(move |request, next| log::requests(request, next, slow));
        let everything = scope("")
            .app_data(live)
            .wrap(from_fn(outgoing::bounded))
            .wrap(Compress::default())
            .wrap(from_fn(packed));
        let everything = everything
            .wrap(from_fn(host::admitted))
            .wrap(headers)
            .wrap(logged)
            .wrap(from_fn(connection::occupied));
        let mut everything = everything.default_service(to(nowhere));
        // The first store's pages have the shortest addresses; they come last, as their scope takes
        // whatever is left.
        for store in (0..dashboard.stores.len()).rev() {
            let pages = scope(&dashboard.base(store))
                .app_data(Place(store))
                .configure(routes);
            everything = everything.service(pages.default_service(to(nowhere)));
        }
        config.service(everything);
    }
}

/// Every route there is.
fn routes(config: &mut ServiceConfig) {
    let marks = resource("/api/v1/marks").route(post().to(api::marks::post));
    config.service(marks.default_service(to(unreadable)));
    // Everything else is only read, but for the lists of people that can be saved.
    let people = resource("/people")
        .route(reading().to(people::page))
        .route(post().to(people::save));
    config.service(people.default_service(to(unreadable)).wrap(unkept()));
    // Who people are is kept by no browser and no proxy.
    let mut name = |path: &str, route: Route| {
        config.service(
            resource(path)
                .route(route)
                .default_service(to(unreadable))
                .wrap(unkept()),
        );
    };
    name("/people.csv", reading().to(people::file));
    name(
        "/people/{question}/{first}/{cell}",
        reading().to(people::cell),
    );
    name("/users", reading().to(user::find));
    // An id may end like a file, or hold slashes; the handler reads it from the path as it was
    // sent.
    name("/user", reading().to(user::moved));
    name("/users/{id}.json", reading().to(user::page));
    name("/users/{id}", reading().to(user::page));
    let mut read = |path: &str, route: Route| {
        config.service(resource(path).route(route).default_service(to(unreadable)));
    };
    read("/", reading().to(home::get));
    read("/retention", reading().to(retention::page));
    read("/events", reading().to(events::page));
    read("/autocomplete.json", reading().to(autocomplete::json));
    // The name may hold slashes; the handler reads it from the path as it was sent.
    read("/events/{name:.*}", reading().to(event::page));
    read("/api/v1/count", reading().to(api::count));
    read("/api/v1/events", reading().to(api::events));
    read("/api/v1/openapi.json", reading().to(api::openapi));
    read("/metrics", reading().to(metrics::page));
    read("/healthz", reading().to(health::alive));
    read("/readyz", reading().to(health::ready));
    read("/static/{name}", reading().to(assets::by_name));
    read("/favicon.svg", reading().to(assets::icon));
    read("/favicon.ico", reading().to(assets::icon));
    reports(config);
}

/// The reports that have a page of their own; all others share one.
const OWN_PAGES: [&str; 4] = ["retention", "events", "people", "user"];

/// The reports whose answers name people.
const NAMES_PEOPLE: [&str; 2] = ["people", "user"];

/// The page, the files and the API of every report. What has a handler of its own was registered
/// before, and comes first.
fn reports(config: &mut ServiceConfig) {
    for endpoint in endpoints::ALL.iter().copied() {
        let name = endpoint.name();
        let mut read = |path: &str, route: Route| {
            let service = resource(path).route(route).default_service(to(unreadable));
            if NAMES_PEOPLE.contains(&name) {
                config.service(service.wrap(unkept()));
            } else {
                config.service(service);
            }
        };
        if !OWN_PAGES.contains(&name) {
            let page = move |request: HttpRequest| report::page(request, endpoint);
            read(&format!("/{name}"), reading().to(page));
        }
        for format in Format::ALL {
            let file = move |request: HttpRequest| export::file(request, endpoint, format);
            read(&format!("/{name}.{}", format.ending()), reading().to(file));
        }
        let json = move |request: HttpRequest| export::file(request, endpoint, Format::Json);
        read(&format!("/api/v1/{name}"), reading().to(json));
    }
}

/// The header of answers that name people.
fn unkept() -> DefaultHeaders {
    DefaultHeaders::new().add((CACHE_CONTROL, "no-store"))
}

/// Where a page of the first store is that was asked for behind the store's name, as the pages of
/// the others are.
fn short_address(request: &HttpRequest) -> Option<String> {
    let state = live::state(request)?;
    let name = &state.dashboard.stores.first()?.name;
    let rest = request
        .path()
        .strip_prefix("/in/")?
        .strip_prefix(name.as_str())?;
    // What two slashes begin would be the name of another host.
    let path = if rest.is_empty() { "/" } else { rest };
    if !path.starts_with('/') || path.starts_with("//") {
        return None;
    }
    let query = request
        .uri()
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    Some(format!("{path}{query}"))
}

/// A page.
pub(crate) fn html(page: impl Into<CachedPage>) -> HttpResponse {
    let CachedPage {
        status,
        packing,
        body,
    } = page.into();
    let mut response = HttpResponse::build(status);
    response.insert_header((CONTENT_TYPE, "text/html; charset=utf-8"));
    if packing == PageEncoding::Gzip {
        response
            .insert_header(ContentEncoding::Gzip)
            .insert_header((VARY, "accept-encoding"));
    }
    response.body(body)
}

/// A text.
pub(crate) fn plain(status: StatusCode, text: String) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
        .body(text)
}

/// `Content-Disposition`: the name of a file for every client, and beside it in all its letters
/// (RFC 6266) where it has others.
pub(crate) fn disposition(kind: &str, name: &FileName) -> String {
    let full = if name.full == name.ascii {
        String::new()
    } else {
        format!(
            "; filename*=UTF-8''{}",
            utf8_percent_encode(&name.full, IN_HEADER)
        )
    };
    format!("{kind}; filename=\"{}\"{full}", name.ascii)
}

/// What stands in the name of a file as it is (RFC 8187, `attr-char`).
const IN_HEADER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// A route for GET and HEAD.
fn reading() -> Route {
    Route::new().guard(guard::Any(guard::Get()).or(guard::Head()))
}

async fn nowhere(request: HttpRequest) -> HttpResponse {
    if let Some(to) = short_address(&request) {
        return HttpResponse::PermanentRedirect()
            .insert_header((LOCATION, to))
            .finish();
    }
    answer(&request, Err(WebError::NotFound))
}

async fn unreadable(request: HttpRequest) -> HttpResponse {
    answer(&request, Err(WebError::Method))
}

/// Who takes gzip no less than brotli and deflate gets gzip, as all browsers do: brotli makes a
/// page a quarter smaller and takes more time than the page itself.
async fn packed(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if let Some(AcceptEncoding(accepted)) = request.get_header() {
        let quality = |encoding: ContentEncoding| {
            let wanted = Preference::Specific(Encoding::Known(encoding));
            accepted
                .iter()
                .find(|each| each.item == wanted)
                .map(|each| each.quality)
        };
        let [gzip, brotli, deflate] = [
            ContentEncoding::Gzip,
            ContentEncoding::Brotli,
            ContentEncoding::Deflate,
        ]
        .map(quality);
        if gzip > Some(Quality::ZERO) && gzip >= brotli && gzip >= deflate {
            request
                .headers_mut()
                .insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    next.call(request).await
}

/// The one crossing from the server's threads to those that may block: whatever asks the store goes
/// through here. When the client is gone, what `work` asks of the store stops. Questions take turns
/// there, see [`admitted`].
pub(crate) async fn crossing<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WebError> + Send + 'static,
) -> Result<T, WebError> {
    let cancel = Cancel::new();
    // Dropped with this future: after its end, or when the client is gone and nobody polls it any
    // more.
    let _gone = cancel.guard();
    actix_web::web::block(move || cancel.during(work))
        .await
        .map_err(|_| WebError::BrokenOff)?
}

/// Work for a request, [in its turn](admitted). It may run more than once, and must come to the
/// same then.
pub(crate) async fn block<T: Send + 'static>(
    request: &HttpRequest,
    mut work: impl FnMut(&View) -> Result<T, WebError> + Send + 'static,
) -> Result<T, WebError> {
    let view = View::of(request)?;
    let own = view.clone();
    admitted(&view, Patience::Bounded, move || work(&own)).await
}

/// What came of a change for a request. What a power cut may lose is logged.
pub(crate) fn changed<T>(result: crate::Result<T>) -> Result<Written<T>, WebError> {
    let written = Written::of(result)?;
    if let Some(warning) = &written.warning {
        tracing::error!("a change was made, and a power cut may lose it: {warning}");
    }
    Ok(written)
}
