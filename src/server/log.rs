//! The access log: one line per request, its request id, and a warning for each slow answer.
//!
//! The access log contains routes instead of addresses, because an address may name a person:
//! `/users/{id}`, and no query. Its target is `cohortist::access`;
//! `COHORTIST_LOG=info,cohortist::access=off` turns it off.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::HttpMessage;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, Uri};
use actix_web::middleware::Next;
use actix_web::web::Bytes;

use crate::server::client::client_address;
use crate::server::metrics;
use crate::server::request_id::{REQUEST_ID, RequestId};

/// The maximum length of a logged address, in bytes.
const MAX_ADDRESS: usize = 4096;

/// The status of a request whose answer never began because the client left or the server stopped,
/// as in nginx. It is logged and counted, and never sent.
const CUT_OFF: u16 = 499;

/// The outermost middleware. Gives each request its id, and logs it after the answer was sent. Logs
/// a warning for answers that take the server `slow` or longer, unless that is zero.
pub async fn requests(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
    slow: Duration,
) -> Result<ServiceResponse<Logged>, actix_web::Error> {
    let id = RequestId::of(&request);
    request.extensions_mut().insert(id.clone());
    let mut line = Line::begin(&request, id, slow);
    let mut response = next
        .call(request)
        .await
        .inspect_err(|error| line.status(error.as_response_error().status_code()))?;
    line.status(response.status());
    response.headers_mut().insert(REQUEST_ID, line.id.0.clone());
    Ok(response.map_body(|_, body| Logged {
        body: BoxBody::new(body),
        line,
        waiting: None,
    }))
}

/// The log line of a request. Dropping it writes the line, however the request ended.
struct Line {
    id: RequestId,
    method: Method,
    route: Option<String>,
    address: Uri,
    client: Option<std::net::IpAddr>,
    started: Instant,
    slow: Duration,
    status: Option<u16>,
    /// Time until the answer began, plus the time the client later waited for more of it.
    worked: Option<Duration>,
    bytes: u64,
    /// Whether the answer was sent completely.
    whole: bool,
}

impl Line {
    fn begin(request: &ServiceRequest, id: RequestId, slow: Duration) -> Self {
        Line {
            id,
            method: request.method().clone(),
            route: request.match_pattern(),
            address: request.uri().clone(),
            client: client_address(request.request()),
            started: Instant::now(),
            slow,
            status: None,
            worked: None,
            bytes: 0,
            whole: false,
        }
    }

    fn status(&mut self, status: actix_web::http::StatusCode) {
        self.status = Some(status.as_u16());
        self.worked = Some(self.started.elapsed());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let worked = self.worked.unwrap_or(took);
        let route = self.route.as_deref().unwrap_or("none");
        let status = self.status.unwrap_or(CUT_OFF);
        let method = self.method.as_str();
        let client = OrDash(self.client.as_ref());
        let id = &self.id;
        metrics::answered(route, method, status, worked);
        let duration_ms = millis(took);
        let bytes = self.bytes;
        let message = if self.whole { "answered" } else { "cut off" };
        tracing::info!(
            target: "cohortist::access",
            method, route, status, duration_ms, bytes, %client, request_id = %id, "{message}"
        );
        if !self.slow.is_zero() && worked >= self.slow {
            let address = address(route, &self.address);
            let duration_ms = millis(worked);
            tracing::warn!(target: "cohortist::slow", method, address, status, duration_ms, request_id = %id, "slow answer");
        }
    }
}

struct OrDash<'a>(Option<&'a std::net::IpAddr>);

impl fmt::Display for OrDash<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// Converts to milliseconds, rounded to microseconds.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// Returns the address of a question without user ids and keys.
fn address(route: &str, uri: &Uri) -> String {
    // A path with a user id is replaced by its route.
    let path = if route.contains("/users/") {
        route
    } else {
        uri.path()
    };
    let fields = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|field| !field.is_empty());
    let fields = fields.map(|field| match field.split_once('=') {
        Some((name @ ("id" | "after" | "user" | "data" | "api_key" | "token"), _)) => {
            format!("{name}=…")
        }
        _ => field.to_owned(),
    });
    let query: Vec<String> = fields.collect();
    let mut address = if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    };
    if address.len() > MAX_ADDRESS {
        address.truncate(address.floor_char_boundary(MAX_ADDRESS));
        address.push('…');
    }
    address
}

/// The body of an answer. Counts the bytes that are sent.
pub struct Logged {
    body: BoxBody,
    line: Line,
    /// When the client began to wait for more.
    waiting: Option<Instant>,
}

impl Logged {
    fn waited(&mut self) {
        if let (Some(since), Some(worked)) = (self.waiting.take(), &mut self.line.worked) {
            *worked += since.elapsed();
        }
    }
}

impl MessageBody for Logged {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let polled = self.body.as_pin_mut().poll_next(cx);
        match &polled {
            Poll::Pending => {
                self.waiting.get_or_insert_with(Instant::now);
            }
            Poll::Ready(part) => {
                self.waited();
                match part {
                    Some(Ok(bytes)) if self.line.method != Method::HEAD => {
                        self.line.bytes += bytes.len() as u64
                    }
                    Some(_) => {}
                    None => self.line.whole = true,
                }
            }
        }
        polled
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        self.waited();
        // The server does not poll an empty body.
        self.line.whole |= match self.body.size() {
            BodySize::None | BodySize::Sized(0) => true,
            BodySize::Sized(size) => self.line.bytes >= size,
            BodySize::Stream => false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_address_names_no_user() {
        for (route, given, logged) in [
            (
                "/retention",
                "/retention?cohort=a&returning=b%20%26%20c",
                "/retention?cohort=a&returning=b%20%26%20c",
            ),
            (
                "/users/{id}",
                "/users/ann@example.com?by=day",
                "/users/{id}?by=day",
            ),
            (
                "/in/x/users/{id}.json",
                "/in/x/users/7.json",
                "/in/x/users/{id}.json",
            ),
            ("/users", "/users?id=ann%40example.com", "/users?id=…"),
            (
                "/api/v1/people",
                "/api/v1/people?set=a@ever&after=7&limit=1",
                "/api/v1/people?set=a@ever&after=…&limit=1",
            ),
        ] {
            assert_eq!(address(route, &given.parse().unwrap()), logged);
        }
        let long = format!("/retention?cohort={}", "x".repeat(20_000));
        let logged = address("/retention", &long.parse().unwrap());
        assert!(
            logged.len() < MAX_ADDRESS + 10 && logged.ends_with("x…"),
            "{}",
            logged.len()
        );
    }
}
