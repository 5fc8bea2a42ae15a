//! `/users/{id}`: what one user did, in a page or as JSON; and `/users?id=…`, which leads there.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, LOCATION};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde_json::json;
use url::form_urlencoded;

use crate::calendar::Period;
use crate::render::{many, strip, words};
use crate::reports::user::{History, Seen};
use crate::sets::{Segment, UserId};
use crate::web::error::{WebError, answer};
use crate::web::pages::{Shell, people};
use crate::web::query::{Field, Problem};
use crate::web::{State, block};

/// An event's name, and where the people like this user are.
struct Chip {
    name: String,
    href: String,
}

/// Whether the user was there at all in a period, and to what.
struct Answer {
    /// `Today`
    label: &'static str,
    /// `Mon 23 Nov 2026`
    period: String,
    chips: Vec<Chip>,
}

/// The calendar of one event.
struct Year {
    name: String,
    facts: Vec<String>,
    strip: String,
    /// The same days in words.
    months: Vec<(String, String)>,
}

/// What a page says of a user.
struct Report {
    facts: Vec<String>,
    answers: Vec<Answer>,
    years: Vec<Year>,
    json: String,
    empty: bool,
}

#[derive(Template)]
#[template(path = "user.html")]
struct Page {
    shell: Shell,
    /// The user, or what was typed instead.
    id: String,
    wrong: Option<String>,
    report: Option<Report>,
}

/// `/users?id=123`: on to that user's page; without an id, a field to type one in.
pub async fn find(request: HttpRequest, state: Data<State>) -> HttpResponse {
    let query = form_urlencoded::parse(request.query_string().as_bytes());
    let typed = query.filter(|(name, _)| name == "id").last().map_or_else(String::new, |(_, id)| id.trim().to_owned());
    if let Ok(id) = read(&typed) {
        return HttpResponse::Found().insert_header((LOCATION, format!("/users/{id}"))).finish();
    }
    shown(request, state, typed).await
}

/// `/users/{id}`
pub async fn page(request: HttpRequest, state: Data<State>, id: Path<String>) -> HttpResponse {
    shown(request, state, id.into_inner()).await
}

async fn shown(request: HttpRequest, state: Data<State>, typed: String) -> HttpResponse {
    let written = block(&state, move |state| {
        let (events, store) = (state.tracker.events("")?, state.tracker.describe()?);
        let shell = Shell::new(&store, &events);
        let page = match read(&typed) {
            Ok(user) => {
                let history = state.tracker.history(user, state.clock.now())?;
                Page { shell, id: user.to_string(), wrong: None, report: Some(report(&history)) }
            }
            Err(message) => {
                let wrong = (!typed.is_empty()).then_some(message);
                Page { shell, id: typed, wrong, report: None }
            }
        };
        let status = if page.wrong.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        Ok((status, page.render()?))
    });
    let html = |(status, html): (StatusCode, String)| {
        HttpResponse::build(status).insert_header((CONTENT_TYPE, "text/html; charset=utf-8")).body(html)
    };
    answer(&request, written.await.map(html))
}

/// `/users/{id}.json`
pub async fn json(request: HttpRequest, state: Data<State>, id: Path<String>) -> HttpResponse {
    let written = block(&state, move |state| {
        let user = read(&id).map_err(|message| WebError::Query(vec![Problem::new(Field::User, message)]))?;
        Ok(as_json(&state.tracker.history(user, state.clock.now())?))
    });
    answer(&request, written.await.map(|value| HttpResponse::Ok().json(value)))
}

/// A user id, or what one is.
fn read(text: &str) -> Result<UserId, String> {
    text.parse().map_err(|_| {
        let shown = words::shortened(text, 40);
        format!("“{shown}” is no user id: ask for a whole number from 0 to {}", UserId::MAX)
    })
}

/// The address of everybody who did an event in a period, or ever.
fn chip(seen: &Seen, when: impl ToString) -> Chip {
    let set = format!("{}@{}", Segment::event(&seen.event), when.to_string());
    Chip { name: seen.event.to_string(), href: people::link(&set) }
}

fn report(history: &History) -> Report {
    let (span, events) = (history.span, &history.events);
    let running = |label, period: Period, is: fn(&Seen) -> bool| Answer {
        label,
        period: period.label(),
        chips: events.iter().filter(|seen| is(seen)).map(|seen| chip(seen, period)).collect(),
    };
    let mut answers = vec![
        running("Today", span.today, |seen| seen.today),
        running("This week", span.week, |seen| seen.week),
        running("This month", span.month, |seen| seen.month),
    ];
    let ever: Vec<Chip> = events.iter().filter(|seen| seen.ever).map(|seen| chip(seen, "ever")).collect();
    if !ever.is_empty() {
        answers.push(Answer { label: "Ever", period: "marks without a date".to_owned(), chips: ever });
    }
    let day = |period: Period| if period == span.today { "today".to_owned() } else { words::when(period) };
    let mut facts = Vec::new();
    let firsts = events.iter().filter_map(|seen| seen.first);
    let lasts = events.iter().filter_map(|seen| seen.last);
    facts.extend(firsts.min_by_key(|p| p.start()).map(|period| format!("First seen {}", day(period))));
    facts.extend(lasts.max_by_key(|p| p.start()).map(|period| format!("last seen {}", day(period))));
    let known = u64::try_from(history.known).unwrap_or(u64::MAX);
    facts.push(format!("did {} of {}", events.len(), many(known, "event")));
    let years = events.iter().filter(|seen| seen.first.is_some()).map(|seen| {
        let count = u64::try_from(seen.days.len()).unwrap_or(u64::MAX);
        let days = format!("{} in the last 53 weeks", many(count, "day"));
        let (since, until) = (span.since.start().date_naive(), span.today.start().date_naive());
        Year {
            name: seen.event.to_string(),
            strip: strip::svg(since, until, &seen.days, &format!("{days}; which ones is listed below it")),
            facts: match (seen.first, seen.last) {
                (Some(first), Some(last)) if first == last => vec![days, format!("only {}", day(first))],
                (Some(first), Some(last)) => vec![days, format!("first {}", day(first)), format!("last {}", day(last))],
                _ => vec![days],
            },
            months: strip::words(&seen.days).into_iter().rev().collect(),
        }
    });
    let years = years.collect();
    Report { facts, answers, years, json: format!("/users/{}.json", history.user), empty: events.is_empty() }
}

fn as_json(history: &History) -> serde_json::Value {
    let text = |period: Option<Period>| period.map(|period| period.to_string());
    let span = history.span;
    json!({
        "user": history.user,
        "today": span.today.to_string(),
        "week": span.week.to_string(),
        "month": span.month.to_string(),
        "days_since": span.since.to_string(),
        "zone": "UTC",
        "events": history.events.iter().map(|seen| json!({
            "event": seen.event.as_str(),
            "today": seen.today,
            "this_week": seen.week,
            "this_month": seen.month,
            "ever": seen.ever,
            "first": text(seen.first),
            "last": text(seen.last),
            "days": seen.days.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}
