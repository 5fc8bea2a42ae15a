//! `/api/v1`: the same numbers for programs, recording marks, and erasing people.
//!
//! `static/openapi.json` describes this API and is served with it; `tests/it/api.rs` checks that
//! both agree.

pub mod marks;
pub mod users;

use std::sync::LazyLock;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value as Json, json};
use url::form_urlencoded;

use crate::calendar::{Grain, Zone};
use crate::endpoints::{self, Endpoint};
use crate::reports::coverage::{Coverage, State as Progress};
use crate::reports::events::{Entry, Events as EventsReport, Recent};
use crate::reports::people::state_of;
use crate::reports::{self, Arity, Kind};
use crate::server::collect;
use crate::server::error::WebError;
use crate::server::query::{Field, Problem};
use crate::server::respond::answer;
use crate::server::work::block;
use crate::server::{State, View};
use crate::sets::{EventName, Set, SetContext, parse_set, set_periods};
use crate::store::Freshness;

/// The maximum number of sets in a request. The length of an address is a similar limit.
const MAX_SETS: usize = 200;

/// The OpenAPI description, for people and client generators.
const OPENAPI: &str = include_str!("../../../static/openapi.json");

/// The description with an entry for every report. A report's parameters are its fields.
static DESCRIPTION: LazyLock<String> = LazyLock::new(|| format!("{:#}", description()));

/// The same with the addresses of analytics libraries.
static WITH_COLLECT: LazyLock<String> = LazyLock::new(|| {
    let mut description = description();
    for (path, entry) in collect::paths() {
        description["paths"][path] = entry;
    }
    format!("{description:#}")
});

fn description() -> Json {
    let mut description: Json = serde_json::from_str(OPENAPI).expect("static/openapi.json is JSON");
    for endpoint in endpoints::ALL {
        let path = format!("/api/v1/{}", endpoint.name());
        let entry = &mut description["paths"][&path];
        let own = described(*endpoint);
        if entry.is_null() {
            *entry = own;
        } else {
            entry["get"]["parameters"] = own["get"]["parameters"].clone();
        }
    }
    description
}

/// Describes a report that has no entry in the file.
fn described(endpoint: &dyn Endpoint) -> Json {
    let parameter = |field: &reports::Field| {
        let schema = match field.kind {
            Kind::Number(least, most) => {
                json!({ "type": "integer", "minimum": least, "maximum": most })
            }
            Kind::Word(words) => {
                let blank = (!field.arity.is_required()).then_some("");
                let words: Vec<&str> = words.iter().copied().chain(blank).collect();
                json!({ "type": "string", "enum": words, "default": words[0] })
            }
            Kind::Date => json!({ "type": "string", "format": "date" }),
            Kind::Segment | Kind::Set | Kind::Text if field.arity.is_required() => {
                json!({ "type": "string", "minLength": 1 })
            }
            Kind::Segment | Kind::Set | Kind::Text => json!({ "type": "string" }),
        };
        // Forms send fields that are left blank.
        let may_be_blank =
            field.arity == Arity::Optional && matches!(field.kind, Kind::Date | Kind::Number(..));
        let schema = match field.arity {
            _ if may_be_blank => json!({ "anyOf": [schema, { "type": "string", "maxLength": 0 }] }),
            Arity::Several | Arity::Repeated => json!({ "type": "array", "items": schema }),
            Arity::Required | Arity::Optional => schema,
        };
        json!({
            "name": field.name,
            "in": "query",
            "description": field.help,
            "required": field.arity.is_required(),
            "schema": schema,
        })
    };
    let error = json!({
        "description": "What is wrong, field by field.",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
    });
    json!({
        "get": {
            "operationId": endpoint.name(),
            "summary": endpoint.description().about,
            "parameters": endpoint.fields().iter().map(parameter).collect::<Vec<_>>(),
            "responses": {
                "200": {
                    "description": "The answer.",
                    "content": { "application/json": { "schema": { "type": "object" } } },
                },
                "400": error.clone(),
                "404": error.clone(),
                "408": { "$ref": "#/components/responses/Stalled" },
                "421": { "$ref": "#/components/responses/Misdirected" },
                "503": error,
            },
        },
    })
}

/// `/api/v1/openapi.json`
pub async fn openapi(request: HttpRequest) -> HttpResponse {
    let collects = View::of(&request).is_ok_and(|view| view.dashboard.collect.is_some());
    let description = if collects {
        &WITH_COLLECT
    } else {
        &DESCRIPTION
    };
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(description.as_str())
}

/// Formats a moment for programs.
fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Returns the values of a parameter.
fn given<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    form_urlencoded::parse(query.as_bytes())
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.trim().to_owned())
}

fn wrong(field: Field, message: impl ToString) -> WebError {
    WebError::Query(vec![Problem::new(field, message.to_string())])
}

/// Parses a set with periods of a zone.
fn set(state: &State, text: &str, zone: Zone) -> Result<Set, WebError> {
    let catalogue = state.tracker.catalogue()?;
    let context = SetContext {
        zone,
        ..state.sets(&catalogue)
    };
    parse_set(text, context).map_err(|error| {
        let message = format!("`{text}`: {error}");
        WebError::Query(vec![Problem {
            field: Field::Set,
            message,
            column: Some(error.column),
        }])
    })
}

/// Returns names in the sets that were never recorded: a 0 may be caused by a typo.
fn never_recorded(state: &State, sets: &[&Set]) -> Result<Vec<String>, WebError> {
    let names = sets
        .iter()
        .flat_map(|set| set.keys())
        .map(|key| key.event());
    Ok(state
        .tracker
        .never_recorded(names)?
        .into_iter()
        .map(EventName::to_string)
        .collect())
}

/// Returns the count of a set if it is recorded, and the name of its state. `None` for the state of
/// an undated set.
fn known(text: &str, count: u64, coverage: &Coverage) -> (Option<u64>, Option<&'static str>) {
    let periods = set_periods(text, coverage.zone()).expect("the text was parsed as a set");
    let state = state_of(count, &periods, coverage);
    let count = (state != Some(Progress::NotRecorded)).then_some(count);
    (count, state.map(Progress::as_str))
}

/// Whether a set may include marks made after a chosen *now*.
fn may_include_later(state: &State, text: &str, set: &Set, zone: Zone) -> Result<bool, WebError> {
    let periods = set_periods(text, zone).expect("the text was parsed as a set");
    Ok(!state.later_in(set, &periods)?.is_empty())
}

/// Returns the last day with data, if the data ends before now.
fn data_ends(coverage: &Coverage) -> Option<String> {
    coverage
        .data_ends(Grain::Day)
        .map(|period| period.to_string())
}

#[derive(Serialize)]
struct Counts {
    as_of: String,
    data_ends: Option<String>,
    zone: &'static str,
    counts: Vec<Count>,
    never_recorded: Vec<String>,
}

#[derive(Serialize)]
struct Count {
    set: String,
    /// `null` where it is not recorded.
    count: Option<u64>,
    state: Option<&'static str>,
    may_include_later_marks: bool,
}

/// `/api/v1/count?set=…&set=…`
pub async fn count(request: HttpRequest) -> HttpResponse {
    let counted = block(&request, |view| {
        view.known_parameters_only()?;
        let texts: Vec<String> = given(view.query(), "set")
            .filter(|text| !text.is_empty())
            .map(|text| view.resolved(&text))
            .collect::<Result<_, _>>()
            .map_err(|problem| WebError::Query(vec![problem]))?;
        if !(1..=MAX_SETS).contains(&texts.len()) {
            return Err(wrong(
                Field::Set,
                format!("give 1 to {MAX_SETS} of them, such as `set=active@2026-11-23`"),
            ));
        }
        let zone = view.calendar(view.query())?.zone;
        let sets: Vec<Set> = texts
            .iter()
            .map(|text| set(view, text, zone))
            .collect::<Result<_, _>>()?;
        let counts = view.tracker.counts(&sets)?;
        let coverage = view.coverage_in(zone)?;
        let count = |((text, set), count): ((String, &Set), u64)| {
            let (count, state) = known(&text, count, &view.coverage_of_set(set, zone)?);
            Ok(Count {
                state,
                may_include_later_marks: may_include_later(view, &text, set, zone)?,
                set: text,
                count,
            })
        };
        let counted = texts.into_iter().zip(&sets).zip(counts).map(count);
        Ok(Counts {
            as_of: moment(coverage.now()),
            data_ends: data_ends(&coverage),
            zone: zone.name(),
            counts: counted.collect::<Result<_, WebError>>()?,
            never_recorded: never_recorded(view, &sets.iter().collect::<Vec<_>>())?,
        })
    });
    answer(
        &request,
        counted.await.map(|counts| HttpResponse::Ok().json(counts)),
    )
}

#[derive(Serialize)]
struct Events {
    as_of: String,
    data_ends: Option<String>,
    may_include_later_marks: bool,
    running: RunningPeriods,
    zone: &'static str,
    events: Vec<Event>,
    segments: Vec<Segment>,
}

#[derive(Serialize)]
struct Segment {
    name: String,
    /// The segment that it stands for.
    means: String,
}

#[derive(Serialize)]
struct Event {
    name: String,
    label: Option<String>,
    group: Option<String>,
    /// `null` for an event without dates, like the following fields except the last.
    day: Option<Numbers>,
    week: Option<Numbers>,
    month: Option<Numbers>,
    /// The first and the last day it was recorded on, or a week or month without daily bitmaps.
    first: Option<String>,
    last: Option<String>,
    /// People in the undated bitmap; `null` if it does not exist.
    ever: Option<u64>,
}

/// The current periods that numbers count back from.
#[derive(Serialize)]
struct RunningPeriods {
    day: String,
    week: String,
    month: String,
}

/// People in the current period, in the last complete one, and in the one before; `null` if it is
/// not recorded.
#[derive(Serialize)]
struct Numbers {
    so_far: Option<u64>,
    last: Option<u64>,
    before: Option<u64>,
}

impl From<Recent> for Numbers {
    fn from(recent: Recent) -> Self {
        Numbers {
            so_far: recent.current,
            last: recent.last,
            before: recent.before,
        }
    }
}

/// `/api/v1/events`
pub async fn events(request: HttpRequest) -> HttpResponse {
    let listed = block(&request, listed);
    answer(
        &request,
        listed.await.map(|events| HttpResponse::Ok().json(events)),
    )
}

fn listed(view: &View) -> Result<Events, WebError> {
    view.known_parameters_only()?;
    let glossary = &view.dashboard.glossary;
    let report = EventsReport {
        names: Some(view.events()?),
        calendar: view.calendar(view.query())?,
    };
    let answered = view.tracker.run(&report, &view.run(Freshness::Checked))?;
    let overview = answered.answer;
    let coverage = answered.coverage;
    let event = |entry: &Entry| {
        let dated = |recent: Recent| entry.span.map(|_| Numbers::from(recent));
        Event {
            name: entry.event.to_string(),
            label: glossary.label(&entry.event).map(str::to_owned),
            group: glossary
                .group(&entry.event)
                .map(|(_, group)| group.to_owned()),
            day: dated(entry.day),
            week: dated(entry.week),
            month: dated(entry.month),
            first: entry.span.map(|span| span.first.to_string()),
            last: entry.span.map(|span| span.last.to_string()),
            ever: entry.ever,
        }
    };
    let saved = view.tracker.segments().iter();
    Ok(Events {
        as_of: moment(overview.now),
        data_ends: data_ends(&coverage),
        may_include_later_marks: overview.may_include_later_marks,
        running: RunningPeriods {
            day: overview.running.day.to_string(),
            week: overview.running.week.to_string(),
            month: overview.running.month.to_string(),
        },
        zone: coverage.zone().name(),
        events: overview.entries.iter().map(event).collect(),
        segments: saved
            .map(|(name, means)| Segment {
                name: name.to_string(),
                means: means.to_string(),
            })
            .collect(),
    })
}
