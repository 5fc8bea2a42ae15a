//! Amplitude's HTTP V2 API (`/2/httpapi`) and its batch API (`/batch`).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::event::{self, Bad, Event, Malformed, Parsed, Wanted};
use super::values;

/// Events that only tell something about a user or a group. Nothing is recorded but properties of
/// the user.
const ABOUT: [&str; 2] = ["$identify", "$groupidentify"];

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    api_key: Option<&'a RawValue>,
    #[serde(borrow)]
    events: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    event_type: Option<&'a RawValue>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    device_id: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    event_properties: Option<&'a RawValue>,
    #[serde(borrow)]
    user_properties: Option<&'a RawValue>,
}

/// The operations on properties of a user that set a value.
#[derive(Default, Deserialize)]
struct Operations<'a> {
    #[serde(borrow, rename = "$set")]
    set: Option<&'a RawValue>,
    #[serde(borrow, rename = "$setOnce")]
    set_once: Option<&'a RawValue>,
}

/// Reads a body.
pub fn parse<'a>(
    body: &'a [u8],
    most: usize,
    wanted: &Wanted<'_>,
) -> Result<Parsed<'a>, Malformed> {
    let body: Body<'a> = serde_json::from_slice(body).map_err(|error| Malformed::json(&error))?;
    let Some(events) = body.events else {
        return Err(Malformed::Body("`events` is missing".to_owned()));
    };
    let mut parsed = Parsed::default();
    parsed.key(body.api_key.and_then(values::text));
    parsed.each(events, most, "events", |index, sent, _| {
        read(index, sent, wanted)
    })?;
    Ok(parsed)
}

fn read<'a>(index: usize, sent: &Sent<'a>, wanted: &Wanted<'_>) -> Result<Option<Event<'a>>, Bad> {
    let name = event::name(index, "event_type", sent.event_type)?;
    let user = event::user(
        index,
        wanted,
        ("user_id", sent.user_id),
        ("device_id", sent.device_id),
    )?;
    let at = event::moment(index, "time", sent.time, wanted.now)?;
    let Some(user) = user.filter(|_| name != "$groupidentify") else {
        return Ok(None);
    };
    let operations = sent
        .user_properties
        .and_then(|raw| serde_json::from_str::<Operations<'a>>(raw.get()).ok())
        .unwrap_or_default();
    let mut properties = Vec::new();
    let objects = [
        sent.event_properties,
        sent.user_properties,
        operations.set_once,
        operations.set,
    ];
    for object in objects {
        values::properties(object, wanted.properties, &mut properties);
    }
    Ok(Some(Event {
        index,
        name: Some(name).filter(|name| !ABOUT.contains(&&**name)),
        user,
        at,
        properties,
    }))
}

/// The answer to a batch that was recorded completely.
pub fn recorded(events: usize, bytes: usize, now: DateTime<Utc>) -> Json {
    json!({
        "code": 200,
        "events_ingested": events,
        "payload_size_bytes": bytes,
        "server_upload_time": now.timestamp_millis(),
    })
}

/// The answer to a batch with these mistakes. Libraries drop the events that it names, and send the
/// others again.
pub fn mistakes(bad: &[Bad]) -> Json {
    let mut invalid: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut missing: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for bad in bad {
        let fields = if bad.missing {
            &mut missing
        } else {
            &mut invalid
        };
        fields.entry(bad.field).or_default().push(bad.index);
    }
    let first = bad.first().map_or("", |bad| &bad.message);
    json!({
        "code": 400,
        "error": format!("some events are wrong; the first mistake: {first}"),
        "events_with_invalid_fields": invalid,
        "events_with_missing_fields": missing,
    })
}

/// The answer to a request that was refused. Libraries read the code from the body, and know a
/// wrong key by these words.
pub fn refused(status: u16, key: Option<&str>, message: &str) -> Json {
    match (status, key) {
        (401, Some(key)) => json!({ "code": 400, "error": format!("Invalid API key: {key}") }),
        (401, None) => json!({
            "code": 400,
            "error": "Request missing required field",
            "missing_field": "api_key",
        }),
        _ => json!({ "code": status, "error": message }),
    }
}
