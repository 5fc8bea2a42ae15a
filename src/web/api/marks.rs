//! `POST /api/v1/marks`: what users did, from any program that can send JSON.

use actix_web::http::header::{AUTHORIZATION, CONTENT_ENCODING};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;

use crate::calendar::parse_moment;
use crate::sets::{EventName, UserId};
use crate::tracker::{Extent, Tracker};
use crate::web::error::{BadEntry, WebError, answer};
use crate::web::{View, block};

/// The longest body, in bytes: some hundred thousand marks.
const MAX_BODY: usize = 16 << 20;

/// How many bad entries an answer tells one by one.
const MAX_TOLD: usize = 100;

/// A mark as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent<'a> {
    #[serde(borrow)]
    event: std::borrow::Cow<'a, str>,
    user: UserId,
    at: Option<At<'a>>,
    #[serde(default)]
    hourly: bool,
    #[serde(default)]
    ever: bool,
    #[serde(default = "yes")]
    value: bool,
}

fn yes() -> bool {
    true
}

/// When it happened: Unix seconds, or text as on the command line.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum At<'a> {
    Seconds(i64),
    Text(#[serde(borrow)] std::borrow::Cow<'a, str>),
}

impl At<'_> {
    fn moment(&self) -> Result<DateTime<Utc>, String> {
        match self {
            // Through the same reader, so that the years that are supported are the same.
            At::Seconds(seconds) => {
                let moment = DateTime::from_timestamp(*seconds, 0).ok_or("`at` is outside the supported years")?;
                parse_moment(&moment.to_rfc3339()).map_err(|error| format!("`at`: {error}"))
            }
            At::Text(text) => parse_moment(text).map_err(|error| format!("`at`: {error}")),
        }
    }
}

#[derive(Serialize)]
struct Recorded {
    recorded: usize,
}

/// `POST /api/v1/marks`
pub async fn post(request: HttpRequest, payload: Payload) -> HttpResponse {
    let recorded = recorded(&request, payload).await;
    answer(&request, recorded.map(|recorded| HttpResponse::Ok().json(Recorded { recorded })))
}

async fn recorded(request: &HttpRequest, payload: Payload) -> Result<usize, WebError> {
    allowed(request)?;
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(WebError::Unsupported("send the body as it is: no Content-Encoding is understood here".to_owned()));
    }
    let body = match payload.to_bytes_limited(MAX_BODY).await {
        Err(_) => return Err(WebError::TooLarge(MAX_BODY)),
        Ok(Err(_)) => return Err(WebError::BrokenOff),
        Ok(Ok(body)) => body,
    };
    block(request, move |view| {
        let entries = entries(&body)?;
        put(&view.tracker, &entries, view)
    })
    .await
}

/// Whether the request carries the token, and the store takes marks at all.
fn allowed(request: &HttpRequest) -> Result<(), WebError> {
    let view = View::of(request)?;
    if view.read_only {
        return Err(WebError::Forbidden("this dashboard is read-only".to_owned()));
    }
    let Some(token) = &view.dashboard.write_token else {
        let mend = "marks over HTTP are off: start with --write-token, or COHORTIST_WRITE_TOKEN, and send that token";
        return Err(WebError::Forbidden(mend.to_owned()));
    };
    let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.and_then(|value| value.split_once(' ')).filter(|(way, _)| way.eq_ignore_ascii_case("bearer"));
    match sent {
        // In a time that tells nothing of how much of it was right.
        Some((_, sent)) if bool::from(sent.trim().as_bytes().ct_eq(token.as_bytes())) => Ok(()),
        Some(_) => Err(WebError::Unauthorised("the token is not the one this dashboard was started with")),
        None => Err(WebError::Unauthorised("send the header `Authorization: Bearer TOKEN`")),
    }
}

/// The entries of a JSON array, or of one object a line.
fn entries(body: &[u8]) -> Result<Vec<&RawValue>, WebError> {
    let bad = |index: usize, message: String| WebError::Entries(1, vec![BadEntry { index, message }]);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        return serde_json::from_slice(body).map_err(|error| bad(0, format!("the array is no JSON: {error}")));
    }
    let mut entries = Vec::new();
    for entry in serde_json::Deserializer::from_slice(body).into_iter() {
        let index = entries.len();
        entries.push(entry.map_err(|error| bad(index, format!("no JSON: {error}")))?);
    }
    Ok(entries)
}

/// Records all entries, or none.
fn put(tracker: &Tracker, entries: &[&RawValue], view: &View) -> Result<usize, WebError> {
    let now = view.now();
    let mut batch = tracker.batch();
    let (mut bad, mut wrong) = (Vec::new(), 0);
    for (index, entry) in entries.iter().enumerate() {
        let mut read = || -> Result<(), String> {
            let sent: Sent<'_> = serde_json::from_str(entry.get()).map_err(|error| {
                // Where in the entry it is; its line is always 1 or the sender's own affair.
                error.to_string()
            })?;
            let event = EventName::new(&sent.event).map_err(|error| format!("`event`: {error}"))?;
            let at = sent.at.as_ref().map_or(Ok(now), At::moment)?;
            let extent = Extent { hourly: sent.hourly, ever: sent.ever };
            let put = if sent.value {
                batch.mark_to(&event, sent.user, at, extent)
            } else {
                batch.unmark_to(&event, sent.user, at, extent)
            };
            put.map(|_| ()).map_err(|error| error.to_string())
        };
        if let Err(message) = read() {
            wrong += 1;
            if bad.len() < MAX_TOLD {
                bad.push(BadEntry { index, message });
            }
        }
    }
    if wrong > 0 {
        return Err(WebError::Entries(wrong, bad));
    }
    batch.commit()?;
    Ok(entries.len())
}
