//! PostHog's capture API: `/batch/`, `/capture/`, `/e/` and `/i/v0/e/`.

use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::event::{self, Bad, Event, Malformed, Parsed, Wanted};
use super::values;

/// Events that only tell something about a user, a group or the library itself. Nothing is recorded
/// but properties of the user.
const ABOUT: [&str; 9] = [
    "$identify",
    "$set",
    "$unset",
    "$create_alias",
    "$merge_dangerously",
    "$groupidentify",
    "$feature_flag_called",
    "$opt_in",
    "$snapshot",
];

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    api_key: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow)]
    batch: Option<Vec<&'a RawValue>>,
    /// A body without a batch is one event.
    #[serde(borrow)]
    event: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    distinct_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "$distinct_id")]
    also_distinct_id: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    /// How many milliseconds ago it was, for want of a trusted clock.
    #[serde(borrow)]
    offset: Option<&'a RawValue>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
    #[serde(borrow, rename = "$set")]
    set: Option<&'a RawValue>,
    #[serde(borrow, rename = "$set_once")]
    set_once: Option<&'a RawValue>,
    #[serde(borrow)]
    api_key: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
}

/// The properties that have a meaning.
#[derive(Default, Deserialize)]
struct Known<'a> {
    #[serde(borrow)]
    distinct_id: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow, rename = "$is_identified")]
    is_identified: Option<&'a RawValue>,
    #[serde(borrow, rename = "$process_person_profile")]
    has_profile: Option<&'a RawValue>,
    #[serde(borrow, rename = "$set")]
    set: Option<&'a RawValue>,
    #[serde(borrow, rename = "$set_once")]
    set_once: Option<&'a RawValue>,
}

impl Known<'_> {
    /// Whether the user is only known by a device.
    fn is_anonymous(&self) -> bool {
        let is_false = |raw: Option<&RawValue>| raw.is_some_and(|raw| raw.get() == "false");
        is_false(self.is_identified) || is_false(self.has_profile)
    }
}

/// Reads a body: a batch, a list of events, or one event.
pub fn parse<'a>(
    body: &'a [u8],
    most: usize,
    wanted: &Wanted<'_>,
) -> Result<Parsed<'a>, Malformed> {
    let json = |error: serde_json::Error| Malformed::json(&error);
    let mut parsed = Parsed::default();
    let list: Vec<&'a RawValue> = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body).map_err(json)?
    } else {
        let whole: Body<'a> = serde_json::from_slice(body).map_err(json)?;
        parsed.key(whole.api_key.or(whole.token).and_then(values::text));
        match (whole.batch, whole.event) {
            (Some(batch), _) => batch,
            (None, Some(_)) => vec![serde_json::from_slice(body).map_err(json)?],
            (None, None) => {
                return Err(Malformed::Body(
                    "the body has neither `batch` nor `event`".to_owned(),
                ));
            }
        }
    };
    parsed.each(list, most, "batch", |index, sent, parsed| {
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
    let known = match sent.properties {
        Some(properties) => serde_json::from_str::<Known<'a>>(properties.get())
            .map_err(|error| Bad::wrong(index, "properties", error))?,
        None => Known::default(),
    };
    let key = sent.api_key.or(sent.token).or(known.token);
    parsed.key(key.and_then(values::text));
    let name = event::name(index, "event", sent.event)?;
    let id = sent
        .distinct_id
        .or(sent.also_distinct_id)
        .or(known.distinct_id);
    let (identified, device) = if known.is_anonymous() {
        (None, id)
    } else {
        (id, None)
    };
    let user = event::user(
        index,
        wanted,
        ("distinct_id", identified),
        ("distinct_id", device),
    )?;
    let at = match (sent.timestamp, sent.offset) {
        (None, Some(offset)) => {
            let ago = offset.get().parse::<u32>().map_err(|_| {
                Bad::wrong(index, "offset", "must be a whole number of milliseconds")
            })?;
            Some(wanted.now - TimeDelta::milliseconds(ago.into()))
        }
        (at, _) => event::moment(index, "timestamp", at, wanted.now)?,
    };
    let Some(user) = user else { return Ok(None) };
    // Aliases and groups have properties, too, but not those of the user.
    let is_about_others = ["$create_alias", "$merge_dangerously", "$groupidentify"];
    if is_about_others.contains(&&*name) {
        return Ok(None);
    }
    let mut properties = Vec::new();
    let objects = [
        sent.properties,
        known.set_once,
        sent.set_once,
        known.set,
        sent.set,
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

/// The answer to a batch that was recorded, except for these events.
pub fn recorded(bad: &[Bad]) -> Json {
    let mut answer = json!({ "status": 1 });
    if !bad.is_empty() {
        let entry =
            |bad: &Bad| json!({ "index": bad.index, "attr": bad.field, "detail": bad.message });
        answer["errors"] = bad.iter().map(entry).collect();
    }
    answer
}

/// The answer to a request that was refused. Libraries show `detail`.
pub fn refused(status: u16, message: &str) -> Json {
    let (kind, code) = match status {
        401 => ("authentication_error", "invalid_api_key"),
        403 => ("authentication_error", "permission_denied"),
        413 => ("validation_error", "payload_too_large"),
        429 => ("throttled_error", "throttled"),
        500.. => ("server_error", "error"),
        _ => ("validation_error", "invalid_payload"),
    };
    json!({ "type": kind, "code": code, "detail": message, "attr": null })
}

/// The answer to questions for feature flags and remote configuration: there are none, and the
/// library need not ask for more.
pub fn no_flags() -> Json {
    json!({
        "flags": {},
        "featureFlags": {},
        "featureFlagPayloads": {},
        "errorsWhileComputingFlags": false,
        "config": { "enable_collect_everything": false },
        "supportedCompression": ["gzip", "gzip-js"],
        "hasFeatureFlags": false,
        "sessionRecording": false,
        "capturePerformance": false,
        "autocapture_opt_out": true,
        "surveys": false,
        "heatmaps": false,
        "toolbarParams": {},
        "isAuthenticated": false,
        "siteApps": [],
    })
}
