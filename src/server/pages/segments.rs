//! `/segments`: the saved segments of the configuration, and the lists of people that pages saved,
//! which can be renamed and deleted here.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use url::form_urlencoded;

use crate::calendar::Grain;
use crate::render::{thousands, words};
use crate::server::arrival::body;
use crate::server::client::is_own_page;
use crate::server::error::WebError;
use crate::server::pages::autocomplete::{Offered, offered};
use crate::server::pages::{home, links};
use crate::server::query::PageQuery;
use crate::server::respond::{answer, html};
use crate::server::work::{block, changed};
use crate::server::{Layout, View};
use crate::sets::{EventName, Segment, Set};
use crate::store::Saved;
use crate::tracker::Written;

/// The maximum length of a form's body, in bytes.
const MAX_FORM: usize = 1 << 16;

/// A saved segment of the configuration.
struct Expression {
    name: String,
    href: String,
    /// `people who …`
    sentence: String,
    text: String,
    /// People on the current day so far, or why there is no number.
    people: String,
    retention: Option<String>,
}

/// A saved list of people.
struct List {
    /// Its name, which the forms send.
    event: String,
    /// Its label, or its name.
    label: String,
    href: String,
    people: String,
    /// The address of its people.
    members: String,
    /// The saved segments that name it. It cannot be renamed or deleted while there are any.
    used_by: Vec<String>,
    /// The name that was refused, and why.
    refused: Option<(String, String)>,
}

#[derive(Template)]
#[template(path = "segments.html")]
struct Page {
    layout: Layout,
    expressions: Vec<Expression>,
    /// The day of their numbers: `today`.
    when: String,
    lists: Vec<List>,
    can_change: bool,
    /// What was just done.
    done: Option<&'static str>,
}

/// `/segments`
pub async fn page(request: HttpRequest) -> HttpResponse {
    let page = block(&request, |view| render(view, None)).await;
    answer(&request, page.map(html))
}

/// A change that was asked for.
struct Change {
    event: String,
    /// The new name; deletes the list without one.
    to: Option<String>,
}

impl Change {
    fn read(body: &[u8]) -> Self {
        let mut change = Change {
            event: String::new(),
            to: None,
        };
        for (name, value) in form_urlencoded::parse(body) {
            match &*name {
                "event" => change.event = value.into_owned(),
                "to" => change.to = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        change
    }
}

/// `POST /segments` with `event=NAME`: deletes a saved list, or renames it with `to=NEW`.
pub async fn change(request: HttpRequest, payload: Payload) -> HttpResponse {
    let body = match body(&request, payload, MAX_FORM).await {
        Ok(body) => body,
        Err(error) => return answer(&request, Err(error)),
    };
    let asked = Change::read(&body);
    let own = is_own_page(&request);
    let outcome = block(&request, move |view| {
        if view.read_only {
            return Err(WebError::Forbidden(
                "this dashboard is read-only: its pages change nothing".to_owned(),
            ));
        }
        if !own {
            return Err(WebError::Forbidden(
                "the form was not sent by a page of this dashboard".to_owned(),
            ));
        }
        carried_out(view, &asked)
    });
    let respond = |outcome| match outcome {
        Ok(to) => HttpResponse::SeeOther()
            .insert_header((LOCATION, to))
            .finish(),
        Err(page) => html(page),
    };
    answer(&request, outcome.await.map(respond))
}

/// The address to go on at, or the page with what is wrong.
type Outcome = Result<String, (StatusCode, String)>;

fn carried_out(view: &View, asked: &Change) -> Result<Outcome, WebError> {
    let refused = |why: String| {
        let (status, page) = render(view, Some((asked, why)))?;
        Ok(Err((status, page)))
    };
    let unknown = || {
        let shown = words::shortened(&asked.event, 60);
        WebError::Unknown(format!("there is no saved list “{shown}”"))
    };
    let event = EventName::new(&asked.event).map_err(|_| unknown())?;
    if !view.tracker.saved_lists()?.contains(&event) {
        return Err(unknown());
    }
    if let [by, ..] = &used_by(view, &event)[..] {
        return refused(format!(
            "the segment “{by}” of the configuration names it: change that first"
        ));
    }
    let done = match &asked.to {
        None => {
            let Written { .. } = changed(view.tracker.delete_list(&event))?;
            tracing::info!(event = event.as_str(), "a saved list was deleted");
            "deleted"
        }
        Some(to) => {
            let to = match EventName::new(to) {
                Ok(to) => to,
                Err(error) => return refused(error.to_string()),
            };
            let is_taken = view.tracker.segments().get(&to).is_some();
            let saved = match is_taken {
                true => Some(Saved::Taken),
                false => changed(view.tracker.rename_list(&event, &to))?.answer,
            };
            match saved {
                Some(Saved::Taken) => {
                    return refused(format!("“{to}” already exists: choose another name"));
                }
                Some(Saved::Nobody) => return Err(unknown()),
                Some(Saved::People(_)) | None => {}
            }
            tracing::info!(
                event = event.as_str(),
                to = to.as_str(),
                "a saved list was renamed"
            );
            "renamed"
        }
    };
    Ok(Ok(view.to(&format!("/segments?changed={done}"))))
}

/// Returns the saved segments of the configuration that name an event.
fn used_by(view: &View, event: &EventName) -> Vec<String> {
    let segments = view.tracker.segments().iter();
    segments
        .filter(|(_, segment)| segment.names().contains(&event))
        .map(|(name, _)| name.to_string())
        .collect()
}

fn render(
    view: &View,
    refused: Option<(&Change, String)>,
) -> Result<(StatusCode, String), WebError> {
    let store = view.tracker.describe()?;
    let events = view.events()?;
    let glossary = &view.dashboard.glossary;
    let called = |name: &EventName| {
        let label = glossary.label(name);
        label.map_or_else(|| name.to_string(), str::to_owned)
    };
    let default = home::default_question(view)?;
    let mut counted: HashMap<String, Offered> = offered(view)?
        .into_iter()
        .map(|offered| (offered.name.clone(), offered))
        .collect();
    let expressions = view.tracker.segments().iter().map(|(name, segment)| {
        let counted = counted.remove(name.as_str());
        let people = match counted {
            Some(Offered {
                problem: Some(problem),
                ..
            }) => words::curly(&problem),
            Some(Offered {
                today: Some(people),
                ..
            }) => thousands(people),
            _ => words::NOT_RECORDED.to_owned(),
        };
        let retention = |asked: &PageQuery| {
            let asked = PageQuery {
                cohort_and: vec![Segment::event(name)],
                ..asked.clone()
            };
            links::retention(view, &asked)
        };
        Expression {
            name: called(name),
            href: view.to(&links::event(name, "", &[])),
            sentence: format!("people who {}", segment.did(&glossary.labels, Grain::Day)),
            text: segment.to_string(),
            people,
            retention: default.as_ref().map(retention),
        }
    });
    let expressions: Vec<Expression> = expressions.collect();
    let lists = view.tracker.saved_lists()?;
    let sets: Vec<Set> = lists.iter().map(Set::ever).collect();
    let counts = view.tracker.counts(&sets)?;
    let zone = view.own_zone();
    let list = |(name, count): (&EventName, u64)| List {
        event: name.to_string(),
        label: called(name),
        href: view.to(&links::event(name, "", &[])),
        people: words::people(count),
        members: links::people(view, &Segment::Ever(name.clone()).to_string(), zone),
        used_by: used_by(view, name),
        refused: refused
            .as_ref()
            .filter(|(change, _)| change.event == name.as_str())
            .map(|(change, why)| (change.to.clone().unwrap_or_default(), words::curly(why))),
    };
    let lists = lists.iter().zip(counts).map(list).collect();
    let status = match refused {
        Some(_) => StatusCode::BAD_REQUEST,
        None => StatusCode::OK,
    };
    let mut changed = form_urlencoded::parse(view.query().as_bytes());
    let done = changed
        .find(|(name, _)| name == "changed")
        .and_then(|(_, what)| match &*what {
            "renamed" => Some("The list was renamed."),
            "deleted" => Some("The list was deleted."),
            _ => None,
        });
    let page = Page {
        layout: Layout::new(view, &store, Some(&events)),
        expressions,
        when: view.day_of_numbers()?,
        lists,
        can_change: !view.read_only,
        done,
    };
    Ok((status, page.render()?))
}
