//! `POST /api/v1/marks`: records marks from any program that can send JSON.

use std::borrow::Cow;
use std::time::Instant;

use actix_web::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH};
use actix_web::rt::time::sleep;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;

use crate::render::many;
use crate::server::arrival::body;
use crate::server::client::client_address;
use crate::server::error::{BadEntry, WebError};
use crate::server::respond::answer;
use crate::server::work::{block, changed};
use crate::server::{Live, View};
use crate::sets::{EventName, UserIdError};
use crate::store::budget::Reservation;
use crate::tracker::{Extent, Ids, Tracker, Written};
use crate::values::{Time, TimeError, Times, Unit, event_name, numeric_id, string_id};

/// The maximum length of a body, in bytes: some hundred thousand marks.
const MAX_BODY: usize = 16 << 20;

/// The assumed length of a body without Content-Length, in bytes.
const UNANNOUNCED: u64 = 1 << 20;

/// The maximum number of invalid entries that an answer lists.
const MAX_LISTED: usize = 100;

/// A mark as sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    user: User<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    at: Option<At<'a>>,
    #[serde(default)]
    any_year: bool,
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

/// Reads a value that may be left out, and must not be `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The user: a number, or a string. In a store with string ids a number is read as a string.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "`user` is neither a whole number (0 or more) nor a string"
)]
enum User<'a> {
    Number(u64),
    Negative(i64),
    Fraction(f64),
    Text(#[serde(borrow)] Cow<'a, str>),
}

impl User<'_> {
    fn text(&self) -> Cow<'_, str> {
        match self {
            User::Number(number) => number.to_string().into(),
            User::Negative(number) => number.to_string().into(),
            // As JSON writes it: `7.0`.
            User::Fraction(number) => format!("{number:?}").into(),
            User::Text(text) => Cow::Borrowed(text),
        }
    }
}

/// The time: a number or a text, as in files.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "`at` is neither a number nor a string; without it, the time is now"
)]
enum At<'a> {
    Whole(i64),
    Fraction(f64),
    Text(#[serde(borrow)] Cow<'a, str>),
}

impl At<'_> {
    fn read(&self, times: &Times) -> Result<Time, TimeError> {
        match self {
            At::Whole(number) => times.number(*number),
            At::Fraction(number) => times.read(number.to_string().as_bytes()),
            At::Text(text) => times.read(text.as_bytes()),
        }
    }
}

#[derive(Serialize)]
struct Recorded {
    recorded: usize,
    /// A warning, although all marks are recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    /// How values were read that may have been meant in another way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// `POST /api/v1/marks`
pub async fn post(request: HttpRequest, payload: Payload) -> HttpResponse {
    let recorded = recorded(&request, payload).await;
    answer(
        &request,
        recorded.map(|recorded| HttpResponse::Ok().json(recorded)),
    )
}

async fn recorded(request: &HttpRequest, payload: Payload) -> Result<Recorded, WebError> {
    allowed(request).await?;
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(WebError::Unsupported(
            "Content-Encoding is not supported: send the body uncompressed".to_owned(),
        ));
    }
    let _memory = memory_for(request)?;
    let body = body(request, payload, MAX_BODY).await?;
    block(request, move |view| {
        let entries = entries(&body)?;
        put(&view.tracker, &entries, view.now())
    })
    .await
}

/// Reserves memory for a body and the data parsed from it, about four times its length, for as long
/// as it is processed. A single body is always accepted. If others already use the memory the
/// request is rejected at once: HTTP clients can retry.
fn memory_for(request: &HttpRequest) -> Result<Reservation, WebError> {
    let view = View::of(request)?;
    let memory = &view.dashboard.memory;
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let bytes = announced.unwrap_or(UNANNOUNCED).min(MAX_BODY as u64) * 4;
    memory
        .reserve(bytes.min(memory.size() / 2))
        .ok_or(WebError::Crowded(memory.size()))
}

/// Checks the token, and whether the store accepts marks at all.
pub(super) async fn allowed(request: &HttpRequest) -> Result<(), WebError> {
    let view = View::of(request)?;
    if view.read_only {
        return Err(WebError::Forbidden(
            "this dashboard is read-only".to_owned(),
        ));
    }
    let Some(token) = &view.dashboard.write_token else {
        let mend = "marks over HTTP are off: start with --write-token, or COHORTIST_WRITE_TOKEN, and send that token";
        return Err(WebError::Forbidden(mend.to_owned()));
    };
    let sent = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let sent = sent
        .and_then(|value| value.split_once(' '))
        .filter(|(way, _)| way.eq_ignore_ascii_case("bearer"));
    match sent {
        // Compares in constant time, which reveals nothing about how much of the token was right.
        Some((_, sent)) if bool::from(sent.trim().as_bytes().ct_eq(token.as_bytes())) => Ok(()),
        Some(_) => {
            if let Some(live) = request.app_data::<Live>() {
                sleep(
                    live.failures()
                        .failed(client_address(request), Instant::now()),
                )
                .await;
            }
            Err(WebError::Unauthorised(
                "wrong token: send the one that this server was started with",
            ))
        }
        None => Err(WebError::Unauthorised(
            "send the header `Authorization: Bearer TOKEN`",
        )),
    }
}

/// Returns the entries of a JSON array, or of newline-delimited objects.
fn entries(body: &[u8]) -> Result<Vec<&RawValue>, WebError> {
    let bad =
        |index: usize, message: String| WebError::Entries(1, vec![BadEntry { index, message }]);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        return serde_json::from_slice(body)
            .map_err(|error| bad(0, format!("the array is not valid JSON: {error}")));
    }
    let mut entries = Vec::new();
    for entry in serde_json::Deserializer::from_slice(body).into_iter() {
        let index = entries.len();
        entries.push(entry.map_err(|error| bad(index, format!("no JSON: {error}")))?);
    }
    Ok(entries)
}

/// A valid entry.
struct Entry {
    event: EventName,
    user: String,
    at: DateTime<Utc>,
    extent: Extent,
    value: bool,
    note: Option<String>,
}

/// How entries are read.
struct Reader {
    now: DateTime<Utc>,
    ids: Ids,
    plausible: Times,
    any_year: Times,
}

impl Reader {
    fn new(now: DateTime<Utc>, ids: Ids) -> Self {
        Reader {
            now,
            ids,
            plausible: Times::plausible(now),
            any_year: Times::default(),
        }
    }

    fn read(&self, text: &str) -> Result<Entry, String> {
        // The error includes the column; its line is always 1, so it is left out.
        let sent: Sent<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let event = match sent.value {
            true => event_name(&sent.event),
            // A name that another program wrote stays reachable.
            false => EventName::new(&sent.event),
        };
        let times = match sent.any_year {
            true => &self.any_year,
            false => &self.plausible,
        };
        let (at, note) = match &sent.at {
            None => (self.now, None),
            Some(at) => {
                let time = at.read(times).map_err(|error| mistaken_time(&error))?;
                let note = time.unit.filter(|unit| *unit != Unit::Seconds);
                let note = note.map(|unit| format!("`at` was read as {unit} since 1970"));
                let at = DateTime::from_timestamp(time.seconds, 0)
                    .expect("a time is in the supported years");
                (at, note)
            }
        };
        Ok(Entry {
            event: event.map_err(|error| format!("`event`: {error}"))?,
            user: self.user(&sent.user)?,
            at,
            extent: Extent {
                hourly: sent.hourly,
                ever: sent.ever,
            },
            value: sent.value,
            note,
        })
    }

    /// Returns the id of the user as it is stored.
    fn user(&self, user: &User<'_>) -> Result<String, String> {
        let text = user.text();
        let id = match self.ids {
            Ids::Numbers => numeric_id(text.as_bytes()).map(|user| user.id.to_string()),
            Ids::Strings => match user {
                User::Negative(_) => Err(UserIdError::NotANumber(text.into_owned())),
                User::Fraction(number) if number.fract() != 0.0 => {
                    Err(UserIdError::NotANumber(text.into_owned()))
                }
                _ => string_id(&text).map(Cow::into_owned),
            },
        };
        id.map_err(|error| format!("`user`: {error}"))
    }
}

fn mistaken_time(error: &TimeError) -> String {
    match error {
        TimeError::Implausible { .. } => {
            format!("`at`: {error}; \"any_year\": true records such times")
        }
        _ => format!("`at`: {error}"),
    }
}

/// Records all entries, or none.
fn put(tracker: &Tracker, entries: &[&RawValue], now: DateTime<Utc>) -> Result<Recorded, WebError> {
    let ids = tracker.ids().map_err(|error| match error {
        // This is not the client's fault.
        crate::Error::Ids(error) => WebError::Forbidden(error.to_string()),
        error => error.into(),
    })?;
    let mut good = Vec::with_capacity(entries.len());
    let mut bad = Vec::new();
    let mut wrong = 0;
    let reader = Reader::new(now, ids);
    for (index, entry) in entries.iter().enumerate() {
        match reader.read(entry.get()) {
            Ok(entry) => good.push(entry),
            Err(message) => {
                wrong += 1;
                if bad.len() < MAX_LISTED {
                    bad.push(BadEntry { index, message });
                }
            }
        }
    }
    if wrong > 0 {
        return Err(WebError::Entries(wrong, bad));
    }
    // Users who are only unmarked are not assigned an id.
    let (marked, unmarked): (Vec<&Entry>, Vec<&Entry>) = good.iter().partition(|entry| entry.value);
    let texts = |entries: &[&Entry]| -> Vec<String> {
        entries.iter().map(|entry| entry.user.clone()).collect()
    };
    let marked = texts(&marked);
    let unmarked = texts(&unmarked);
    let mut marked = tracker
        .assign(&marked.iter().map(String::as_str).collect::<Vec<_>>())?
        .into_iter();
    let mut unmarked = tracker
        .users(&unmarked.iter().map(String::as_str).collect::<Vec<_>>())?
        .into_iter();
    let mut batch = tracker.batch();
    for Entry {
        event,
        at,
        extent,
        value,
        ..
    } in &good
    {
        let put = if *value {
            let Some(user) = marked.next() else { break };
            batch.mark_to(event, user, *at, *extent)
        } else {
            let Some(Some(user)) = unmarked.next() else {
                continue;
            };
            batch.unmark_to(event, user, *at, *extent)
        };
        put?;
    }
    let Written { warning, .. } = changed(batch.commit())?;
    Ok(Recorded {
        recorded: entries.len(),
        warning,
        notes: notes(&good),
    })
}

/// Returns each note once, with the index of the first entry that it is about.
fn notes(entries: &[Entry]) -> Vec<String> {
    let mut notes: Vec<(&str, usize, usize)> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(note) = entry.note.as_deref() else {
            continue;
        };
        match notes.iter_mut().find(|(known, ..)| *known == note) {
            Some((.., count)) => *count += 1,
            None => notes.push((note, index, 1)),
        }
    }
    notes
        .iter()
        .map(|(note, first, count)| {
            format!(
                "{note} in {} (the first has index {first})",
                many(*count as u64, "entry")
            )
        })
        .collect()
}
