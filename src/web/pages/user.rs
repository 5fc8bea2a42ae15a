//! `/users/{id}`: what one user did, in a page or as JSON; and `/users?id=…`, which leads there.

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde_json::json;
use url::form_urlencoded;

use crate::calendar::{Grain, Period};
use crate::render::{many, strip, thousands, words};
use crate::reports::user::{History, Seen};
use crate::sets::{EventName, Segment, UserId};
use crate::web::error::{WebError, answer};
use crate::web::pages::{Shell, people};
use crate::web::query::{Field, Problem};
use crate::web::{State, block, html, place};

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
    yes: bool,
    /// Whether it speaks of no time, so that there is no yes or no.
    undated: bool,
    /// What was also said of a shorter period, where it is not said again: `today`.
    as_before: &'static str,
    /// The rest.
    chips: Vec<Chip>,
}

/// The days of one event.
struct Days {
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
    /// The months above the strips.
    axis: String,
    days: Vec<Days>,
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
pub async fn find(request: HttpRequest) -> HttpResponse {
    let query = form_urlencoded::parse(request.query_string().as_bytes());
    let typed = query.filter(|(name, _)| name == "id").last().map_or_else(String::new, |(_, id)| id.trim().to_owned());
    if let Ok(id) = read(&typed) {
        let base = place(&request).0.map_or("", |state| state.base.as_str());
        return HttpResponse::Found().insert_header((LOCATION, format!("{base}/users/{id}"))).finish();
    }
    shown(request, typed).await
}

/// `/users/{id}`
pub async fn page(request: HttpRequest, id: Path<String>) -> HttpResponse {
    shown(request, id.into_inner()).await
}

async fn shown(request: HttpRequest, typed: String) -> HttpResponse {
    let written = block(&request, move |view| {
        let (store, events) = (view.tracker.describe()?, view.events()?);
        let shell = Shell::new(view, &store, Some(&events));
        let page = match read(&typed) {
            Ok(user) => {
                let history = view.tracker.history(user, view.now())?;
                Page { shell, id: user.to_string(), wrong: None, report: Some(report(view, &history)) }
            }
            Err(message) => {
                let wrong = (!typed.is_empty()).then_some(message);
                Page { shell, id: typed, wrong, report: None }
            }
        };
        let status = if page.wrong.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        Ok((status, page.render()?))
    });
    answer(&request, written.await.map(html))
}

/// `/users/{id}.json`
pub async fn json(request: HttpRequest, id: Path<String>) -> HttpResponse {
    let written = block(&request, move |view| {
        let user = read(&id).map_err(|message| WebError::Query(vec![Problem::new(Field::User, message)]))?;
        Ok(as_json(&view.tracker.history(user, view.now())?))
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
fn chip(state: &State, seen: &Seen, when: impl ToString) -> Chip {
    let set = format!("{}@{}", Segment::event(&seen.event), when.to_string());
    Chip { name: called(state, &seen.event), href: people::link(state, &set) }
}

/// An event's label, or its name.
fn called(state: &State, event: &EventName) -> String {
    state.dashboard.glossary.label(event).unwrap_or(event.as_str()).to_owned()
}

fn report(state: &State, history: &History) -> Report {
    let (span, events) = (history.span, &history.events);
    let running = |label, period: Period, is: fn(&Seen) -> bool, shorter: (&'static str, fn(&Seen) -> bool)| {
        // Nothing is said twice, unless a week began in the month before and holds what the month does not.
        let (name, before) = shorter;
        let as_before = events.iter().any(before) && events.iter().all(|seen| is(seen) || !before(seen));
        let rest = events.iter().filter(|seen| is(seen) && !(as_before && before(seen)));
        Answer {
            label,
            period: period.label(),
            yes: events.iter().any(is),
            undated: false,
            as_before: if as_before { name } else { "" },
            chips: rest.map(|seen| chip(state, seen, period)).collect(),
        }
    };
    let mut answers = vec![
        running("Today", span.today, |seen| seen.today, ("", |_| false)),
        running("This week", span.week, |seen| seen.week, ("today", |seen| seen.today)),
        running("This month", span.month, |seen| seen.month, ("this week", |seen| seen.week)),
    ];
    let ever: Vec<Chip> = events.iter().filter(|seen| seen.ever).map(|seen| chip(state, seen, "ever")).collect();
    if !ever.is_empty() {
        let period = "marked ever".to_owned();
        answers.push(Answer { label: "Without a date", period, yes: true, undated: true, as_before: "", chips: ever });
    }
    let day = |period: Period| if period == span.today { "today".to_owned() } else { words::when(period) };
    let mut facts = Vec::new();
    let first = events.iter().filter_map(|seen| seen.first).min_by_key(|p| p.start());
    let last = events.iter().filter_map(|seen| seen.last).max_by_key(|p| p.start());
    facts.extend(first.map(|period| format!("First seen {}", day(period))));
    facts.extend(last.map(|period| format!("last seen {}", day(period))));
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let (properties, deeds): (Vec<&Seen>, Vec<&Seen>) = events.iter().partition(|seen| seen.property);
    let known = count(history.known.saturating_sub(history.properties));
    facts.push(format!("did {} of {}", deeds.len(), many(known, "event")));
    if history.properties > 0 {
        let noun = if history.properties == 1 { "property" } else { "properties" };
        facts.push(format!("{} of {} {noun}", properties.len(), thousands(count(history.properties))));
    }
    facts.push(format!("as of {} UTC", state.now().format("%a %-d %b %Y, %H:%M")));
    // From when on anybody could be missed: no sooner than this user was there at all.
    let begun = |period: Option<Period>| period.map_or(span.today, |period| period).start().date_naive();
    let dated = || events.iter().filter(|seen| seen.first.is_some());
    let recorded = dated().map(|seen| begun(seen.recorded)).min().unwrap_or_else(|| begun(None));
    let axis = strip::Axis::new(recorded.max(span.since.start().date_naive()), span.today.start().date_naive());
    let days = dated().map(|seen| {
        let name = called(state, &seen.event);
        let count = many(u64::try_from(seen.days.len()).unwrap_or(u64::MAX), "day");
        let label = format!("Calendar of {name}: {count} in the last 53 weeks; which ones is listed below");
        Days {
            strip: axis.strip(begun(seen.recorded).max(begun(first)), &seen.days, &label),
            facts: match (seen.first, seen.last) {
                (Some(first), Some(last)) if first == last => vec![format!("only {}", short(first, span.today))],
                (Some(first), Some(last)) => {
                    vec![count, format!("{} to {}", short(first, span.today), short(last, span.today))]
                }
                _ => vec![count],
            },
            name,
            months: strip::words(&seen.days).into_iter().rev().collect(),
        }
    });
    let (days, axis) = (days.collect(), axis.svg());
    let json = state.to(&format!("/users/{}.json", history.user));
    Report { facts, answers, axis, days, json, empty: events.is_empty() }
}

/// `today`, `10 Aug 2026`, or a month where no days are known.
fn short(period: Period, today: Period) -> String {
    match period.grain() {
        _ if period == today => "today".to_owned(),
        Grain::Day => period.start().format("%-d %b %Y").to_string(),
        _ => period.label(),
    }
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
