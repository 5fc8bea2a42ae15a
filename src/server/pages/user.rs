//! `/users/{id}`: one user's activity, as a page or JSON; and `/users?id=…`, which redirects there.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, LOCATION};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use chrono::NaiveDate;
use url::form_urlencoded;

use crate::calendar::{Grain, Period};
use crate::render::{activity_calendar, many, thousands, words};
use crate::reports::Exports;
use crate::reports::user::{History, NamedHistory, Seen, User};
use crate::server::error::WebError;
use crate::server::pages::links;
use crate::server::query::{Field, Problem};
use crate::server::respond::{answer, html};
use crate::server::view::{decoded, last_part, state_and_path};
use crate::server::work::block;
use crate::server::{Layout, State, View};
use crate::sets::{EventName, Segment, UserId, UserIdError};
use crate::store::Freshness;
use crate::tracker::{Ids, IdsError};

/// The extension of a user's file.
const JSON: &str = ".json";

/// An event's name, and a link to all people who did it.
struct Chip {
    name: String,
    href: String,
}

/// Whether the user was active in a period, and in which events.
struct Answer {
    /// `Today`
    label: &'static str,
    /// `Mon 23 Nov 2026`
    period: String,
    yes: bool,
    /// Whether the store has data of the period, so that "no" is known.
    known: bool,
    /// Whether it is about undated events, so that there is no yes or no.
    undated: bool,
    /// The shorter period whose events are not repeated: `today`.
    as_before: &'static str,
    /// The other events.
    chips: Vec<Chip>,
}

/// The active days of one event.
struct Days {
    name: String,
    facts: Vec<String>,
    strip: String,
    /// The same days as text.
    months: Vec<(String, String)>,
}

/// The report on a user.
struct Report {
    facts: Vec<String>,
    answers: Vec<Answer>,
    /// The months above the bars.
    axis: String,
    days: Vec<Days>,
    json: String,
    empty: bool,
}

#[derive(Template)]
#[template(path = "user.html")]
struct Page {
    layout: Layout,
    /// The user's id, or the text that was given.
    id: String,
    wrong: Option<String>,
    report: Option<Report>,
}

/// A user in a list.
pub(super) struct Linked {
    pub name: String,
    pub href: String,
}

/// Returns users as a list shows them.
pub(super) fn linked(state: &State, users: &[UserId]) -> Result<Vec<Linked>, WebError> {
    let named = state.tracker.called(users)?.into_iter();
    Ok(named
        .map(|name| Linked {
            href: links::user(state, &name),
            name,
        })
        .collect())
}

/// The response to an address or form that names a user.
enum Outcome {
    Page((StatusCode, String)),
    Json(NamedHistory),
    Moved(String),
}

/// `/users?id=123`: redirects to that user's page; without an id, shows a search field.
pub async fn find(request: HttpRequest) -> HttpResponse {
    let query = form_urlencoded::parse(request.query_string().as_bytes());
    let raw = query
        .filter(|(name, _)| name == "id")
        .last()
        .map_or_else(String::new, |(_, id)| id.trim().to_owned());
    let found = block(&request, move |view| match view.tracker.user(&raw) {
        Ok(Some(user)) if !raw.is_empty() => {
            let name = view.tracker.called(&[user])?.concat();
            Ok(Outcome::Moved(links::user(view, &name)))
        }
        _ => render(view, raw.clone()),
    });
    respond(&request, found.await)
}

/// `/user?id=…`: redirects from the name of the report to the user's page.
pub async fn moved(request: HttpRequest) -> HttpResponse {
    let (state, _) = state_and_path(&request);
    let base = state.as_ref().map_or("", |state| state.base.as_str());
    let to = format!("{base}/users?{}", request.query_string());
    HttpResponse::Found().insert_header((LOCATION, to)).finish()
}

/// `/users/{id}` and `/users/{id}.json`
pub async fn page(request: HttpRequest) -> HttpResponse {
    let sent = last_part(&request);
    let (sent, as_json) = sent
        .strip_suffix(JSON)
        .map_or((sent, false), |id| (id, true));
    let raw = decoded(sent);
    let found = block(&request, move |view| {
        if as_json {
            json(view, &raw)
        } else {
            render(view, raw.clone())
        }
    });
    respond(&request, found.await)
}

fn respond(request: &HttpRequest, found: Result<Outcome, WebError>) -> HttpResponse {
    let response = found.map(|outcome| match outcome {
        Outcome::Page(page) => html(page),
        Outcome::Json(named) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "application/json"))
            .body(named.json()),
        Outcome::Moved(to) => HttpResponse::Found().insert_header((LOCATION, to)).finish(),
    });
    answer(request, response)
}

fn render(view: &View, raw: String) -> Result<Outcome, WebError> {
    let store = view.tracker.describe()?;
    let events = view.events()?;
    let layout = Layout::new(view, &store, Some(&events));
    let (status, page) = match read(view, &raw)? {
        Ok((user, name)) => {
            let history = view
                .tracker
                .run(&User { user }, &view.run(Freshness::Cached))?
                .answer;
            let report = report(view, &history, &name);
            (
                StatusCode::OK,
                Page {
                    layout,
                    id: name,
                    wrong: None,
                    report: Some(report),
                },
            )
        }
        Err(_) if raw.is_empty() => (
            StatusCode::OK,
            Page {
                layout,
                id: raw,
                wrong: None,
                report: None,
            },
        ),
        Err((status, message)) => (
            status,
            Page {
                layout,
                id: raw,
                wrong: Some(message),
                report: None,
            },
        ),
    };
    Ok(Outcome::Page((status, page.render()?)))
}

fn json(view: &View, raw: &str) -> Result<Outcome, WebError> {
    let (user, name) = read(view, raw)?.map_err(|(status, message)| match status {
        StatusCode::NOT_FOUND => WebError::NotFound,
        _ => WebError::Query(vec![Problem::new(Field::User, message)]),
    })?;
    let is_string = view.tracker.ids()? == Ids::Strings;
    let run = view.run(Freshness::Cached);
    let history = view.tracker.run(&User { user }, &run)?.answer;
    Ok(Outcome::Json(NamedHistory {
        history,
        id: name,
        is_string,
    }))
}

/// A user and the id to show, or what is wrong with the given text.
type Known = Result<(UserId, String), (StatusCode, String)>;

/// Finds the user of a text.
fn read(view: &View, raw: &str) -> Result<Known, WebError> {
    let shown = words::shortened(raw, 40);
    match view.tracker.user(raw) {
        Ok(Some(user)) => Ok(Ok((user, view.tracker.called(&[user])?.concat()))),
        Ok(None) => Ok(Err((
            StatusCode::NOT_FOUND,
            format!("“{shown}”: no user has this id"),
        ))),
        Err(crate::Error::Ids(IdsError::Malformed(
            UserIdError::NotANumber(_)
            | UserIdError::NotANumberButText(_)
            | UserIdError::TooLarge(_),
        ))) => {
            let message = format!(
                "“{shown}” is not a valid user id: use a whole number from 0 to {}",
                UserId::MAX
            );
            Ok(Err((StatusCode::BAD_REQUEST, message)))
        }
        Err(crate::Error::Ids(IdsError::Malformed(error))) => Ok(Err((
            StatusCode::BAD_REQUEST,
            words::curly(&error.to_string()),
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Links to all people who did an event in a period, or ever.
fn chip(state: &State, seen: &Seen, when: impl ToString) -> Chip {
    let set = format!("{}@{}", Segment::event(&seen.event), when.to_string());
    Chip {
        name: called(state, &seen.event),
        href: links::people(state, &set, state.own_zone()),
    }
}

/// Returns an event's label, or its name.
fn called(state: &State, event: &EventName) -> String {
    state
        .dashboard
        .glossary
        .label(event)
        .unwrap_or(event.as_str())
        .to_owned()
}

fn report(state: &State, history: &History, name: &str) -> Report {
    let span = history.span;
    let events = &history.events;
    let running = |label,
                   period: Period,
                   is: fn(&Seen) -> bool,
                   shorter: (&'static str, fn(&Seen) -> bool)| {
        // Events are not repeated, unless a week began in the previous month and contains events
        // that the month does not.
        let (name, before) = shorter;
        let as_before =
            events.iter().any(before) && events.iter().all(|seen| is(seen) || !before(seen));
        let rest = events
            .iter()
            .filter(|seen| is(seen) && !(as_before && before(seen)));
        Answer {
            label,
            period: period.label(),
            yes: events.iter().any(is),
            known: history.coverage.is_recorded(period),
            undated: false,
            as_before: if as_before { name } else { "" },
            chips: rest.map(|seen| chip(state, seen, period)).collect(),
        }
    };
    let data_ends = history.coverage.data_ends(Grain::Day);
    let [[today, _], [this_week, in_day], [this_month, in_week]] = match data_ends {
        None => [
            ["Today", ""],
            ["This week", "today"],
            ["This month", "this week"],
        ],
        Some(_) => [
            ["Last day with data", ""],
            ["Its week", "that day"],
            ["Its month", "that week"],
        ],
    };
    let mut answers = vec![
        running(today, span.today, |seen| seen.today, ("", |_| false)),
        running(
            this_week,
            span.week,
            |seen| seen.week,
            (in_day, |seen| seen.today),
        ),
        running(
            this_month,
            span.month,
            |seen| seen.month,
            (in_week, |seen| seen.week),
        ),
    ];
    let ever: Vec<Chip> = events
        .iter()
        .filter(|seen| seen.ever)
        .map(|seen| chip(state, seen, "ever"))
        .collect();
    if !ever.is_empty() {
        let period = "marked ever".to_owned();
        answers.push(Answer {
            label: "Without a date",
            period,
            yes: true,
            known: true,
            undated: true,
            as_before: "",
            chips: ever,
        });
    }
    let today = history.coverage.current(Grain::Day);
    let day = |period: Period| {
        if period == today {
            "today".to_owned()
        } else {
            words::when(period)
        }
    };
    let mut facts = Vec::new();
    let first = events
        .iter()
        .filter_map(|seen| seen.first)
        .min_by_key(|p| p.start());
    let last = events
        .iter()
        .filter_map(|seen| seen.last)
        .max_by_key(|p| p.start());
    facts.extend(first.map(|period| format!("First seen {}", day(period))));
    facts.extend(last.map(|period| format!("last seen {}", day(period))));
    let count = |number: usize| u64::try_from(number).expect("a count fits in 64 bits");
    let (properties, deeds): (Vec<&Seen>, Vec<&Seen>) =
        events.iter().partition(|seen| seen.property);
    let known = count(history.known.saturating_sub(history.properties));
    facts.push(format!("did {} of {}", deeds.len(), many(known, "event")));
    if history.properties > 0 {
        let noun = if history.properties == 1 {
            "property"
        } else {
            "properties"
        };
        facts.push(format!(
            "{} of {} {noun}",
            properties.len(),
            thousands(count(history.properties))
        ));
    }
    facts.extend(data_ends.map(words::ends));
    facts.push(state.as_of(state.now(), Duration::ZERO, state.own_zone()));
    // Absence is only shown from the first recorded day of the event and of this user.
    let begun = |period: Option<Period>| {
        period
            .map_or(span.today, |period| period)
            .local_start()
            .date()
    };
    let dated = || events.iter().filter(|seen| seen.first.is_some());
    let recorded = dated()
        .map(|seen| begun(seen.recorded))
        .min()
        .unwrap_or_else(|| begun(None));
    let axis = activity_calendar::Axis::new(
        recorded.max(span.since.local_start().date()),
        span.today.local_start().date(),
    );
    let unrecorded = unrecorded(history);
    let weeks = match data_ends {
        None => "in the last 53 weeks".to_owned(),
        Some(_) => format!("in the 53 weeks to {}", words::date(span.today)),
    };
    let days = dated().map(|seen| {
        let name = called(state, &seen.event);
        let count = many(
            u64::try_from(seen.days.len()).expect("a year has few days"),
            "day",
        );
        let label = format!("Calendar of {name}: {count} {weeks}; which ones is listed below");
        Days {
            strip: axis.strip(
                begun(seen.recorded).max(begun(first)),
                &unrecorded,
                &seen.days,
                &label,
            ),
            facts: match (seen.first, seen.last) {
                (Some(first), Some(last)) if first == last => {
                    vec![format!("only {}", short(first, today))]
                }
                (Some(first), Some(last)) => {
                    vec![
                        count,
                        format!("{} to {}", short(first, today), short(last, today)),
                    ]
                }
                _ => vec![count],
            },
            name,
            months: activity_calendar::words(&seen.days)
                .into_iter()
                .rev()
                .collect(),
        }
    });
    let days = days.collect();
    let axis = axis.svg();
    let json = format!("{}.json", links::user(state, name));
    Report {
        facts,
        answers,
        axis,
        days,
        json,
        empty: events.is_empty(),
    }
}

/// Returns the parts of the calendar without data, both ends included.
fn unrecorded(history: &History) -> Vec<(NaiveDate, NaiveDate)> {
    let span = history.span;
    let days = span
        .today
        .since(span.since)
        .and_then(|days| u32::try_from(days + 1).ok())
        .expect("the calendar begins before today");
    let without: Vec<Period> = span
        .since
        .range(days)
        .filter(|day| !history.coverage.is_recorded(*day))
        .collect();
    let stretches = without.chunk_by(|a, b| b.since(*a) == Some(1));
    stretches
        .filter_map(|run| {
            Some((
                run.first()?.local_start().date(),
                run.last()?.local_start().date(),
            ))
        })
        .collect()
}

/// Formats a day: `today`, `10 Aug 2026`, or a month without known days.
fn short(period: Period, today: Period) -> String {
    match period.grain() {
        _ if period == today => "today".to_owned(),
        Grain::Day => period.local_start().format("%-d %b %Y").to_string(),
        _ => period.label(),
    }
}
