//! Segment's HTTP Tracking API: `/v1/track` and its siblings, and `/v1/batch`.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::event::{self, Bad, Event, Malformed, Parsed, Wanted};
use super::values;

/// What a message tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Track,
    Identify,
    Page,
    Screen,
    /// About a group or another id of the user: nothing is recorded.
    Other,
}

impl Kind {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "track" => Kind::Track,
            "identify" => Kind::Identify,
            "page" => Kind::Page,
            "screen" => Kind::Screen,
            "group" | "alias" => Kind::Other,
            _ => return None,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    anonymous_id: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    original_timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    sent_at: Option<&'a RawValue>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
    #[serde(borrow)]
    traits: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    write_key: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Context<'a> {
    #[serde(borrow)]
    traits: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch<'a> {
    #[serde(borrow)]
    batch: Vec<&'a RawValue>,
    #[serde(borrow)]
    sent_at: Option<&'a RawValue>,
    #[serde(borrow)]
    write_key: Option<&'a RawValue>,
}

/// Reads the body of `/v1/batch`.
pub fn batch<'a>(
    body: &'a [u8],
    most: usize,
    wanted: &Wanted<'_>,
) -> Result<Parsed<'a>, Malformed> {
    let batch: Batch<'a> = serde_json::from_slice(body).map_err(|error| Malformed::json(&error))?;
    let mut parsed = Parsed::default();
    parsed.key(batch.write_key.and_then(values::text));
    let sent = batch.sent_at;
    parsed.each(
        batch.batch,
        most,
        "batch",
        |index, message: &Message<'a>, _| {
            let word = event::name(index, "type", message.kind)?;
            let kind = Kind::of(&word).ok_or_else(|| {
                let rule = "must be track, identify, page, screen, group or alias";
                Bad::wrong(index, "type", rule)
            })?;
            read(index, kind, message, sent, wanted)
        },
    )?;
    Ok(parsed)
}

/// Reads the body of `/v1/track` and the like: one message of the kind that the address names.
pub fn single<'a>(
    body: &'a [u8],
    kind: Kind,
    wanted: &Wanted<'_>,
) -> Result<Parsed<'a>, Malformed> {
    let message: Message<'a> =
        serde_json::from_slice(body).map_err(|error| Malformed::json(&error))?;
    let mut parsed = Parsed::default();
    parsed.key(message.write_key.and_then(values::text));
    parsed.add(read(0, kind, &message, None, wanted));
    Ok(parsed)
}

fn read<'a>(
    index: usize,
    kind: Kind,
    message: &Message<'a>,
    sent: Option<&'a RawValue>,
    wanted: &Wanted<'_>,
) -> Result<Option<Event<'a>>, Bad> {
    if kind == Kind::Other {
        return Ok(None);
    }
    let user = event::user(
        index,
        wanted,
        ("userId", message.user_id),
        ("anonymousId", message.anonymous_id),
    )?;
    let name = match kind {
        Kind::Track => Some(event::name(index, "event", message.event)?),
        Kind::Page => Some("page".into()),
        Kind::Screen => Some("screen".into()),
        Kind::Identify | Kind::Other => None,
    };
    let at = message.timestamp.or(message.original_timestamp);
    let sent = message.sent_at.or(sent);
    let at = event::corrected(index, "timestamp", at, sent, wanted.now)?;
    let Some(user) = user else { return Ok(None) };
    let mut properties = Vec::new();
    let of_user = message
        .context
        .and_then(|context| serde_json::from_str::<Context<'a>>(context.get()).ok())
        .and_then(|context| context.traits);
    for object in [message.properties, message.traits, of_user] {
        values::properties(object, wanted.properties, &mut properties);
    }
    Ok(Some(Event {
        index,
        name,
        user,
        at,
        properties,
    }))
}

/// The answer to a batch that was recorded, except for these events.
pub fn recorded(bad: &[Bad]) -> Json {
    let mut answer = json!({ "success": true });
    if !bad.is_empty() {
        let entry =
            |bad: &Bad| json!({ "index": bad.index, "field": bad.field, "message": bad.message });
        answer["errors"] = bad.iter().map(entry).collect();
    }
    answer
}

/// The answer to a request that was refused. Libraries read `code` and `message`.
pub fn refused(status: u16, message: &str) -> Json {
    let code = match status {
        401 => "invalid_write_key",
        403 => "forbidden",
        413 => "payload_too_large",
        429 => "rate_limited",
        500.. => "unavailable",
        _ => "invalid_request",
    };
    json!({ "success": false, "code": code, "message": message })
}
