//! A request, from its arrival to the answer.

use std::time::Instant;

use actix_web::http::header::{
    ALLOW, AUTHORIZATION, CONTENT_LENGTH, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::http::{Method, StatusCode};
use actix_web::rt::time::sleep;
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::call::{Call, Outcome};
use super::cors::{Sender, preflight};
use super::event::{Malformed, Wanted};
use super::settings::Collect;
use super::unpack::{Form, Style, Unreadable, announced, basic, uncompressed};
use super::writer::{self, Target};
use crate::server::arrival::body;
use crate::server::client::{client_address, is_own_page};
use crate::server::error::{RETRY_SECONDS, WebError};
use crate::server::request_id::RequestId;
use crate::server::respond::{answer, log_failure};
use crate::server::work::block;
use crate::server::{Live, View};
use crate::store::budget::Reservation;

/// The assumed length of a body without Content-Length, in bytes.
const UNANNOUNCED: usize = 1 << 20;

/// How much memory a body and what is read from it take, per byte of the body.
const PER_BYTE: u64 = 4;

/// Why a request was refused.
enum Refusal {
    Web(WebError),
    Malformed(String),
    TooLarge(String),
    /// It names no key that is valid. This is the first one.
    Key(Option<String>),
}

impl From<WebError> for Refusal {
    fn from(error: WebError) -> Self {
        Refusal::Web(error)
    }
}

impl From<Unreadable> for Refusal {
    fn from(error: Unreadable) -> Self {
        match error {
            Unreadable::TooLarge => Refusal::TooLarge("the body is too long".to_owned()),
            Unreadable::Broken(message) => Refusal::Malformed(message),
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(error: Malformed) -> Self {
        match error {
            Malformed::Body(message) => Refusal::Malformed(message),
            Malformed::TooMany(most) => {
                Refusal::TooLarge(format!("a batch holds at most {most} events"))
            }
        }
    }
}

/// What the thread that writes made of a body.
type Done = Result<(Call, Style, Outcome), (Call, Style, Refusal)>;

/// Answers a request for one of the [addresses](super::ROUTES).
pub async fn handle(request: HttpRequest, payload: Payload, call: Call) -> HttpResponse {
    let collect = match View::of(&request) {
        Ok(view) => view.dashboard.collect.clone(),
        Err(error) => return answer(&request, Err(error)),
    };
    let Some(collect) = collect else {
        return answer(&request, Err(WebError::NotFound));
    };
    let sender = Sender::of(&request, &collect, is_own_page(&request));
    let mut response = if request.method() == Method::OPTIONS && !matches!(sender, Sender::Stranger)
    {
        preflight(&sender, request.headers())
    } else {
        let query = Form::read(request.query_string().as_bytes());
        let style = query.as_ref().map_or(Style::default(), |form| form.style);
        match answered(&request, payload, call, &collect, &sender, query).await {
            Ok(response) => response,
            Err((call, told, refusal)) => {
                let style = Style {
                    verbose: style.verbose || told.verbose,
                    lenient: style.lenient || told.lenient,
                };
                refused(&request, call, style, refusal).await
            }
        }
    };
    sender.allow(&mut response);
    response
}

async fn answered(
    request: &HttpRequest,
    payload: Payload,
    call: Call,
    collect: &Collect,
    sender: &Sender,
    query: Result<Form, Unreadable>,
) -> Result<HttpResponse, (Call, Style, Refusal)> {
    let early = |refusal: Refusal| (call, Style::default(), refusal);
    if matches!(sender, Sender::Stranger) {
        let message = "pages of this site may not send events: name it in `origins` of [collect]";
        return Err(early(WebError::Forbidden(message.to_owned()).into()));
    }
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    if request.method() != Method::POST && !(is_get && call.is_readable()) {
        return Err(early(WebError::Method.into()));
    }
    let query = query.map_err(|error| early(error.into()))?;
    if call.max_bytes() == 0 {
        // The style is in the body, which need not be read to its end.
        let style = match body(request, payload, UNANNOUNCED).await {
            Ok(body) if Form::is(&body) => Form::read(&body).unwrap_or_default().style,
            _ => Style::default(),
        };
        let style = Style {
            verbose: style.verbose || query.style.verbose,
            ..style
        };
        if let Some(response) = call.ignored(style) {
            return Ok(response);
        }
        return Err(early(WebError::NotFound.into()));
    }
    let view = View::of(request).map_err(|error| early(error.into()))?;
    if view.read_only {
        let message = "this dashboard is read-only".to_owned();
        return Err(early(WebError::Forbidden(message).into()));
    }
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .map(basic)
        .unwrap_or_default();
    if call.has_key_in_header()
        && let Some(first) = header.first()
        && !header.iter().any(|key| collect.has_key(key))
    {
        return Err(early(Refusal::Key(Some(first.clone()))));
    }
    let announced_length = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .unwrap_or(UNANNOUNCED as u64);
    let most = call.max_bytes() as u64;
    if request.headers().contains_key(CONTENT_LENGTH) && announced_length > most {
        return Err(early(Unreadable::TooLarge.into()));
    }
    let first = reserve(&view, announced_length).map_err(|error| early(error.into()))?;
    let bytes = body(request, payload, call.max_bytes())
        .await
        .map_err(|error| {
            early(match error {
                WebError::TooLarge(_) => Unreadable::TooLarge.into(),
                error => error.into(),
            })
        })?;
    // The first reservation is given back, so that a body alone cannot wait for itself.
    drop(first);
    let length = announced(&bytes);
    if length > most {
        return Err(early(Unreadable::TooLarge.into()));
    }
    let _memory =
        reserve(&view, length.max(bytes.len() as u64)).map_err(|error| early(error.into()))?;
    let collect = collect.clone();
    let done = block(request, move |view| {
        recorded(view, call, &collect, &bytes, &query, &header)
    });
    let (call, style, outcome) = done.await.map_err(|error| early(error.into()))??;
    if let Some(mistakes) = outcome.mistakes() {
        tracing::warn!(
            route = request.match_pattern().unwrap_or_default(),
            request_id = %RequestId::known(request),
            "{mistakes}"
        );
    }
    Ok(call.recorded(&outcome, style))
}

/// Reserves memory for a body and what is read from it. A single body is always accepted.
fn reserve(view: &View, bytes: u64) -> Result<Reservation, WebError> {
    let memory = &view.dashboard.memory;
    memory
        .reserve((bytes * PER_BYTE).min(memory.size() / 2))
        .ok_or(WebError::Crowded(memory.size()))
}

/// Reads a body, checks the key and writes the events. The outer error is one of the store, after
/// which the work may be repeated.
fn recorded(
    view: &View,
    call: Call,
    collect: &Collect,
    bytes: &Bytes,
    query: &Form,
    header: &[String],
) -> Result<Done, WebError> {
    let plain = match uncompressed(bytes, call.max_bytes()) {
        Ok(plain) => plain,
        Err(error) => return Ok(Err((call, Style::default(), error.into()))),
    };
    let form = if Form::is(&plain) {
        match Form::read(&plain) {
            Ok(form) => form,
            Err(error) => return Ok(Err((call, Style::default(), error.into()))),
        }
    } else {
        Form::default()
    };
    let style = Style {
        verbose: form.style.verbose || query.style.verbose,
        lenient: form.style.lenient || query.style.lenient,
    };
    let json: &[u8] = match (&form.data, &query.data) {
        (Some(data), _) => data,
        (None, Some(data)) if plain.is_empty() => data,
        _ => &plain,
    };
    let call = call.told_by(json);
    let now = view.now();
    let wanted = Wanted {
        properties: &collect.properties,
        anonymous: collect.anonymous,
        now,
    };
    let mut parsed = match call.parse(json, &wanted) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Err((call, style, error.into()))),
    };
    let outside = header.iter().chain(&form.key).chain(&query.key);
    let is_known = outside.clone().any(|key| collect.has_key(key))
        || (!parsed.keys.is_empty() && parsed.keys.iter().all(|key| collect.has_key(key)));
    if !is_known {
        let first = parsed.keys.first().map(|key| key.clone().into_owned());
        let first = first.or(outside.clone().next().cloned());
        return Ok(Err((call, style, Refusal::Key(first))));
    }
    let target = Target {
        tracker: &view.tracker,
        store: view.index,
        recent: &view.dashboard.collected,
    };
    let written = writer::write(target, collect, &parsed.events, now)?;
    if written.left_out > 0 {
        tracing::warn!(
            "{} values of collected properties were left out: a property has at most 1,000 values, of up to 200 bytes with its name",
            written.left_out
        );
    }
    parsed.bad.extend(written.bad);
    parsed.bad.sort_by_key(|bad| bad.index);
    Ok(Ok((
        call,
        style,
        Outcome {
            len: parsed.len,
            taken: parsed.len - parsed.bad.len(),
            bad: parsed.bad,
            bytes: json.len(),
            now,
        },
    )))
}

/// Builds the answer to a request that was refused. A wrong key is logged and answered late.
async fn refused(
    request: &HttpRequest,
    call: Call,
    style: Style,
    refusal: Refusal,
) -> HttpResponse {
    let (status, key, message) = match refusal {
        Refusal::Malformed(message) => (StatusCode::BAD_REQUEST, None, message),
        Refusal::TooLarge(message) => (StatusCode::PAYLOAD_TOO_LARGE, None, message),
        Refusal::Key(key) => {
            if key.is_some()
                && let Some(live) = request.app_data::<Live>()
            {
                let wait = live
                    .failures()
                    .failed(client_address(request), Instant::now());
                sleep(wait).await;
            }
            let message = match key {
                Some(_) => "the write key is wrong",
                None => "the write key is missing",
            };
            (StatusCode::UNAUTHORIZED, key, message.to_owned())
        }
        Refusal::Web(error) => {
            let status = match error {
                WebError::Crowded(_) | WebError::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
                _ => log_failure(request, &error),
            };
            (status, None, error.to_string())
        }
    };
    let mut response = call.refused(status, key.as_deref(), &message, style);
    let headers = response.headers_mut();
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = if call.is_readable() {
                "GET, HEAD, POST, OPTIONS"
            } else {
                "POST, OPTIONS"
            };
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Key"));
        }
        _ => {}
    }
    response
}
