//! `/api/v1`: the same numbers for programs, and the door through which marks come in.
//!
//! What is here is described by `static/openapi.json`, served beside it; `tests/it/api.rs` holds
//! the two together.

pub mod marks;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use url::form_urlencoded;

use crate::calendar::Grain;
use crate::reports::activity::{Entry, OverviewQuestion, Recent};
use crate::reports::coverage::Coverage;
use crate::reports::people::state_of;
use crate::server::error::{WebError, answer};
use crate::server::query::{Field, Problem};
use crate::server::{State, View, block};
use crate::sets::{EventName, Plan, Set, UserId, parse_set, set_periods};
use crate::store::Freshness;
use crate::tracker::Ids;

/// The most sets a request may count, and the most characters of addresses would soon be the limit
/// anyway.
const MAX_SETS: usize = 200;

/// How many users a page of people holds, unless asked otherwise, and at most.
const USERS: usize = 1_000;
const MAX_USERS: usize = 100_000;

/// The description of all this, for people and for generators of clients.
const OPENAPI: &str = include_str!("../../../static/openapi.json");

/// `/api/v1/openapi.json`
pub async fn openapi() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(OPENAPI)
}

/// A moment as programs write it.
fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The values of a parameter.
fn given<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    form_urlencoded::parse(query.as_bytes())
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.trim().to_owned())
}

fn wrong(field: Field, message: impl ToString) -> WebError {
    WebError::Query(vec![Problem::new(field, message.to_string())])
}

/// A set, with its text.
fn set(state: &State, text: &str) -> Result<Set, WebError> {
    parse_set(text, state.tracker.segments()).map_err(|error| {
        let message = format!("`{text}`: {error}");
        WebError::Query(vec![Problem {
            field: Field::Set,
            message,
            column: Some(error.column),
        }])
    })
}

/// Names in the sets that nothing was ever recorded for: a 0 may be a slip.
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

/// Whether the count of a set is known, by its periods: the name of a state; `None` for a set
/// without dates.
fn state(text: &str, count: u64, coverage: &Coverage) -> Option<&'static str> {
    // What was read as a set has periods.
    state_of(count, &set_periods(text).unwrap_or_default(), coverage).map(|state| state.as_str())
}

/// The last day with data, where that is before now.
fn data_ends(coverage: &Coverage) -> Option<String> {
    coverage
        .data_ends(Grain::Day)
        .map(|period| period.to_string())
}

#[derive(Serialize)]
struct Counts {
    as_of: String,
    data_ends: Option<String>,
    counts: Vec<Count>,
    never_recorded: Vec<String>,
}

#[derive(Serialize)]
struct Count {
    set: String,
    count: u64,
    state: Option<&'static str>,
}

/// `/api/v1/count?set=…&set=…`
pub async fn count(request: HttpRequest) -> HttpResponse {
    let counted = block(&request, |view| {
        let texts: Vec<String> = given(view.query(), "set")
            .filter(|text| !text.is_empty())
            .collect();
        if !(1..=MAX_SETS).contains(&texts.len()) {
            return Err(wrong(
                Field::Set,
                format!("give 1 to {MAX_SETS} of them, such as `set=active@2026-11-23`"),
            ));
        }
        let sets: Vec<Set> = texts
            .iter()
            .map(|text| set(view, text))
            .collect::<Result<_, _>>()?;
        let (counts, coverage) = (view.tracker.counts(&sets)?, view.coverage()?);
        let count = |(set, count): (String, u64)| Count {
            state: state(&set, count, &coverage),
            set,
            count,
        };
        Ok(Counts {
            as_of: moment(coverage.now()),
            data_ends: data_ends(&coverage),
            counts: texts.into_iter().zip(counts).map(count).collect(),
            never_recorded: never_recorded(view, &sets.iter().collect::<Vec<_>>())?,
        })
    });
    answer(
        &request,
        counted.await.map(|counts| HttpResponse::Ok().json(counts)),
    )
}

#[derive(Serialize)]
struct People {
    set: String,
    /// How many there are in all.
    count: u64,
    state: Option<&'static str>,
    data_ends: Option<String>,
    /// In ascending order of their numbers: where they are called by texts, of when they were first
    /// met.
    users: Vec<Called>,
    /// What to give as `after` for those that follow; `null` at the end.
    next: Option<Called>,
    never_recorded: Vec<String>,
}

/// A user as the store calls its users.
#[derive(Clone, Serialize)]
#[serde(untagged)]
enum Called {
    Number(UserId),
    Text(String),
}

impl Called {
    fn all(state: &State, users: &[UserId]) -> Result<Vec<Self>, WebError> {
        Ok(match state.tracker.ids()? {
            Ids::Numbers => users.iter().copied().map(Called::Number).collect(),
            Ids::Strings => state
                .tracker
                .called(users)?
                .into_iter()
                .map(Called::Text)
                .collect(),
        })
    }
}

/// The user after whom a list goes on.
fn user(state: &State, text: &str) -> Result<UserId, WebError> {
    match state.tracker.user(text) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(wrong(
            Field::After,
            format!("nobody here is called `{text}`"),
        )),
        Err(crate::Error::Ids(_)) => Err(wrong(Field::After, format!("`{text}` is no user id"))),
        Err(error) => Err(error.into()),
    }
}

/// `/api/v1/people?set=…&after=…&limit=…`
pub async fn people(request: HttpRequest) -> HttpResponse {
    let found = block(&request, |view| {
        let one = |name: &'static str| {
            given(view.query(), name)
                .last()
                .filter(|text| !text.is_empty())
        };
        let text = one("set")
            .ok_or_else(|| wrong(Field::Set, "write a set, such as `set=active@2026-11-23`"))?;
        let set = set(view, &text)?;
        let after = match one("after") {
            None => None,
            Some(text) => Some(user(view, &text)?),
        };
        let limit = match one("limit") {
            None => USERS,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MAX_USERS).contains(limit))
                .ok_or_else(|| {
                    wrong(
                        Field::Limit,
                        format!("`{text}` does not fit: 1 to {MAX_USERS}"),
                    )
                })?,
        };
        let mut users = view.tracker.members_after(&set, after, limit + 1)?;
        let more = users.len() > limit;
        users.truncate(limit);
        let users = Called::all(view, &users)?;
        let (count, coverage) = (view.tracker.count(&set)?, view.coverage()?);
        Ok(People {
            count,
            state: state(&text, count, &coverage),
            data_ends: data_ends(&coverage),
            next: users.last().cloned().filter(|_| more),
            users,
            never_recorded: never_recorded(view, &[&set])?,
            set: text,
        })
    });
    answer(
        &request,
        found.await.map(|people| HttpResponse::Ok().json(people)),
    )
}

#[derive(Serialize)]
struct Events {
    as_of: String,
    data_ends: Option<String>,
    running: RunningPeriods,
    zone: &'static str,
    events: Vec<Event>,
    segments: Vec<Segment>,
}

#[derive(Serialize)]
struct Segment {
    name: String,
    /// What it stands for.
    means: String,
}

#[derive(Serialize)]
struct Event {
    name: String,
    label: Option<String>,
    group: Option<String>,
    /// `null` without dates, as all that follow but the last.
    day: Option<Numbers>,
    week: Option<Numbers>,
    month: Option<Numbers>,
    /// The first and the last day it was recorded on, or a week or month where no days are kept.
    first: Option<String>,
    last: Option<String>,
    /// People in the undated bitmap; `null` where there is none.
    ever: Option<u64>,
}

/// The periods that numbers count back from.
#[derive(Serialize)]
struct RunningPeriods {
    day: String,
    week: String,
    month: String,
}

/// People in the running period, in the last complete one, and in the one before; `null` where that
/// is not recorded.
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
    let glossary = &view.dashboard.glossary;
    let all = view.tracker.catalogue()?;
    let shown = all
        .events()
        .filter(|known| !glossary.hides(&known.event))
        .map(|known| all.of_known(known));
    let mut plan = Plan::new();
    let coverage = view.coverage()?;
    let question = OverviewQuestion::of(&mut plan, shown, &coverage);
    let counted = view.tracker.counted(&plan, Freshness::Checked)?;
    let overview = question.overview(&counted.counts);
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
        running: RunningPeriods {
            day: overview.running.day.to_string(),
            week: overview.running.week.to_string(),
            month: overview.running.month.to_string(),
        },
        zone: "UTC",
        events: overview.entries.iter().map(event).collect(),
        segments: saved
            .map(|(name, means)| Segment {
                name: name.to_string(),
                means: means.to_string(),
            })
            .collect(),
    })
}
