//! Mixpanel's ingestion API: `/track` and `/import`.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::event::{self, Bad, Event, Malformed, Parsed, Wanted};
use super::values;

/// Events that only tell something about the ids of a user.
const ABOUT: [&str; 3] = ["$identify", "$create_alias", "$merge"];

/// How ids of devices begin.
const DEVICE: &str = "$device:";

#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Known<'a> {
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow)]
    distinct_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "$user_id")]
    user_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "$device_id")]
    device_id: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
}

/// Reads a body: a list of events, one event, or one event per line.
pub fn parse<'a>(
    body: &'a [u8],
    most: usize,
    wanted: &Wanted<'_>,
) -> Result<Parsed<'a>, Malformed> {
    let json = |error: serde_json::Error| Malformed::json(&error);
    let list: Vec<&'a RawValue> = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body).map_err(json)?
    } else {
        let lines = serde_json::Deserializer::from_slice(body).into_iter();
        lines
            .take(most + 1)
            .collect::<Result<_, _>>()
            .map_err(json)?
    };
    let mut parsed = Parsed::default();
    parsed.each(list, most, "event", |index, sent, parsed| {
        read(index, sent, wanted, parsed)
    })?;
    Ok(parsed)
}

fn read<'a>(
    index: usize,
    sent: &Sent<'a>,
    wanted: &Wanted<'_>,
    parsed: &mut Parsed<'a>,
) -> Result<Option<Event<'a>>, Bad> {
    let properties = sent
        .properties
        .ok_or_else(|| Bad::missing(index, "properties"))?;
    let known = serde_json::from_str::<Known<'a>>(properties.get())
        .map_err(|error| Bad::wrong(index, "properties", error))?;
    parsed.key(known.token.and_then(values::text));
    let name = event::name(index, "event", sent.event)?;
    let is_device = known
        .distinct_id
        .and_then(values::text)
        .is_some_and(|id| id.starts_with(DEVICE));
    let (id, device) = if is_device {
        (None, known.distinct_id)
    } else {
        (known.distinct_id, known.device_id)
    };
    let user = event::user(
        index,
        wanted,
        ("properties.distinct_id", known.user_id.or(id)),
        ("properties.$device_id", device),
    )?;
    let at = event::moment(index, "properties.time", known.time, wanted.now)?;
    let Some(user) = user.filter(|_| !ABOUT.contains(&&*name)) else {
        return Ok(None);
    };
    let mut found = Vec::new();
    values::properties(Some(properties), wanted.properties, &mut found);
    Ok(Some(Event {
        index,
        name: Some(name),
        user,
        at,
        properties: found,
    }))
}

/// The answer of `/track` with `verbose=1`. A library takes any other status than 1 as a reason to
/// send everything again.
pub fn recorded(len: usize, bad: &[Bad]) -> Json {
    match bad.first() {
        None => json!({ "status": 1, "error": null }),
        Some(first) => {
            let error = format!(
                "{} of {len} events were not recorded; the first is {}: {}",
                bad.len(),
                first.index,
                first.message
            );
            json!({ "status": 1, "error": error })
        }
    }
}

/// The answer of `/track` with `verbose=1` to a request that was refused.
pub fn refused(message: &str) -> Json {
    json!({ "status": 0, "error": message })
}

/// The answer of `/import`.
pub fn imported(recorded: usize, bad: &[Bad], status: u16) -> Json {
    if bad.is_empty() {
        return json!({ "code": status, "num_records_imported": recorded, "status": "OK" });
    }
    let entry =
        |bad: &Bad| json!({ "index": bad.index, "field": bad.field, "message": bad.message });
    json!({
        "code": status,
        "error": "some data points in the request failed validation",
        "failed_records": bad.iter().map(entry).collect::<Vec<_>>(),
        "num_records_imported": recorded,
        "status": if status == 200 { "OK" } else { "Bad Request" },
    })
}

/// The answer of `/import` to a request that was refused.
pub fn not_imported(status: u16, reason: &str, message: &str) -> Json {
    json!({ "code": status, "error": message, "status": reason })
}
