//! The application: every route, its headers and its middleware.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ACCEPT_ENCODING, AcceptEncoding, CACHE_CONTROL, CONTENT_SECURITY_POLICY, ContentEncoding,
    Encoding, HeaderValue, LOCATION, Preference, Quality, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::{Compress, DefaultHeaders, Next, from_fn};
use actix_web::web::{Payload, ServiceConfig, delete, post, resource, scope, to};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, Route, guard};

use crate::endpoints;
use crate::server::error::WebError;
use crate::server::files::Format;
use crate::server::live::StoreIndex;
use crate::server::pages::{
    autocomplete, event, events, health, home, metrics, people, report, retention, segments,
    static_files, user,
};
use crate::server::respond::answer;
use crate::server::{Live, api, client, collect, connection, export, live, log};

/// Allows only our own files; no inline script or style anywhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; \
                      base-uri 'self'; frame-ancestors 'none'; connect-src 'self'";

/// Denies browser features that no page uses. Only the button that copies a link writes to the
/// clipboard.
const PERMISSIONS: &str = "accelerometer=(), autoplay=(), browsing-topics=(), camera=(), clipboard-read=(), \
                           clipboard-write=(self), display-capture=(), encrypted-media=(), fullscreen=(), gamepad=(), \
                           geolocation=(), gyroscope=(), hid=(), idle-detection=(), keyboard-map=(), local-fonts=(), \
                           magnetometer=(), microphone=(), midi=(), payment=(), picture-in-picture=(), \
                           publickey-credentials-create=(), publickey-credentials-get=(), screen-wake-lock=(), serial=(), \
                           storage-access=(), usb=(), window-management=(), xr-spatial-tracking=()";

/// Configures the whole application: every route, its headers and its error pages. The server uses
/// it, and tests use it without a socket.
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
        // Outermost, so that every response is logged.
        let slow = dashboard.slow;
        let logged = from_fn(move |request, next| log::requests(request, next, slow));
        let everything = scope("")
            .app_data(live)
            .wrap(from_fn(bounded))
            .wrap(Compress::default())
            .wrap(from_fn(prefer_gzip));
        let everything = everything
            .wrap(from_fn(client::admitted))
            .wrap(headers)
            .wrap(logged)
            .wrap(from_fn(connection::occupied));
        let mut everything = everything.default_service(to(not_found));
        // The first store's pages have the shortest addresses. They are registered last because
        // their scope matches everything.
        for store in (0..dashboard.stores.len()).rev() {
            let pages = scope(&dashboard.base(store))
                .app_data(StoreIndex(store))
                .configure(routes);
            everything = everything.service(pages.default_service(to(not_found)));
        }
        config.service(everything);
    }
}

/// Registers every route of one store.
fn routes(config: &mut ServiceConfig) {
    let marks = resource("/api/v1/marks").route(post().to(api::marks::post));
    config.service(marks.default_service(to(method_not_allowed)));
    let user = resource("/api/v1/users/{id}").route(delete().to(api::users::delete));
    config.service(
        user.default_service(to(method_not_allowed))
            .wrap(no_store()),
    );
    // All other addresses are read-only, except that people can be saved as a list, and lists renamed and deleted.
    let people = resource("/people")
        .route(reading().to(people::page))
        .route(post().to(people::save));
    config.service(
        people
            .default_service(to(method_not_allowed))
            .wrap(no_store()),
    );
    let segments = resource("/segments")
        .route(reading().to(segments::page))
        .route(post().to(segments::change));
    config.service(segments.default_service(to(method_not_allowed)));
    // Browsers and proxies must not store responses that contain user ids.
    let mut name = |path: &str, route: Route| {
        config.service(
            resource(path)
                .route(route)
                .default_service(to(method_not_allowed))
                .wrap(no_store()),
        );
    };
    name("/people.csv", reading().to(people::file));
    name(
        "/people/{question}/{first}/{cell}",
        reading().to(people::cell),
    );
    name("/users", reading().to(user::find));
    // An id may end like a file name or contain slashes, so the handler reads it from the raw path.
    name("/user", reading().to(user::moved));
    name("/users/{id}.json", reading().to(user::page));
    name("/users/{id}", reading().to(user::page));
    let mut read = |path: &str, route: Route| {
        config.service(
            resource(path)
                .route(route)
                .default_service(to(method_not_allowed)),
        );
    };
    read("/", reading().to(home::get));
    read("/retention", reading().to(retention::page));
    read("/events", reading().to(events::page));
    read("/autocomplete.json", reading().to(autocomplete::json));
    // A name may contain slashes, so the handler reads it from the raw path.
    read("/events/{name:.*}", reading().to(event::page));
    read("/api/v1/count", reading().to(api::count));
    read("/api/v1/events", reading().to(api::events));
    read("/api/v1/openapi.json", reading().to(api::openapi));
    read("/metrics", reading().to(metrics::page));
    read("/healthz", reading().to(health::alive));
    read("/readyz", reading().to(health::ready));
    read("/static/{name}", reading().to(static_files::by_name));
    read("/favicon.svg", reading().to(static_files::icon));
    read("/favicon.ico", reading().to(static_files::icon));
    reports(config);
    for (path, call) in collect::ROUTES.iter().copied() {
        let collected =
            move |request: HttpRequest, payload: Payload| collect::handle(request, payload, call);
        config.service(resource(path).default_service(to(collected)));
    }
}

/// Reports with their own page; all others share one.
const OWN_PAGES: [&str; 4] = ["retention", "events", "people", "user"];

/// Reports whose answers contain user ids.
const NAMES_PEOPLE: [&str; 2] = ["people", "user"];

/// Registers the page, the files and the API of every report. Reports with their own handler were
/// registered before, and take precedence.
fn reports(config: &mut ServiceConfig) {
    for endpoint in endpoints::ALL.iter().copied() {
        let name = endpoint.name();
        let mut read = |path: &str, route: Route| {
            let service = resource(path)
                .route(route)
                .default_service(to(method_not_allowed));
            if NAMES_PEOPLE.contains(&name) {
                config.service(service.wrap(no_store()));
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

/// Returns the header of responses that contain user ids.
fn no_store() -> DefaultHeaders {
    DefaultHeaders::new().add((CACHE_CONTROL, "no-store"))
}

/// Returns the short address for a page of the first store that was requested with the store's
/// name.
fn short_address(request: &HttpRequest) -> Option<String> {
    let state = live::state(request)?;
    let name = &state.dashboard.stores.first()?.name;
    let rest = request
        .path()
        .strip_prefix("/in/")?
        .strip_prefix(name.as_str())?;
    // A path that starts with two slashes would be the name of another host.
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

/// Returns a route for GET and HEAD.
fn reading() -> Route {
    Route::new().guard(guard::Any(guard::Get()).or(guard::Head()))
}

async fn not_found(request: HttpRequest) -> HttpResponse {
    if let Some(to) = short_address(&request) {
        return HttpResponse::PermanentRedirect()
            .insert_header((LOCATION, to))
            .finish();
    }
    answer(&request, Err(WebError::NotFound))
}

async fn method_not_allowed(request: HttpRequest) -> HttpResponse {
    answer(&request, Err(WebError::Method))
}

/// Prefers gzip if the client accepts it at least as much as brotli and deflate, as all browsers
/// do. Brotli makes a page a quarter smaller, but takes longer than rendering the page.
async fn prefer_gzip(
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

/// Bounds the memory of [answers that clients have not read yet](crate::server::outgoing).
async fn bounded(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, actix_web::Error> {
    let (request, response) = next.call(request).await?.into_parts();
    let Some(live) = request.app_data::<Live>() else {
        return Ok(ServiceResponse::new(
            request,
            response.map_into_boxed_body(),
        ));
    };
    let (head, body) = response.into_parts();
    let response = match live.unread().outgoing(body.boxed()) {
        Ok(body) => head.set_body(body),
        Err(error) => answer(&request, Err(error)),
    };
    Ok(ServiceResponse::new(request, response))
}
