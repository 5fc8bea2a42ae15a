//! `/events`: every event at a glance.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use url::form_urlencoded;

use crate::calendar::{Grain, Period};
use crate::render::{many, thousands, trend, words};
use crate::reports::activity::{Entry, Overview, OverviewQuestion, Recent};
use crate::sets::{EventName, Plan};
use crate::web::error::{WebError, answer};
use crate::web::pages::{Shell, event, retention};
use crate::web::{State, block};

/// The most events a page shows: beyond it a search is quicker than the eye.
const MAX_SHOWN: usize = 500;

/// What a list of events is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Name,
    People,
}

impl Sort {
    const ALL: [Sort; 2] = [Sort::People, Sort::Name];

    const fn as_str(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::People => "people",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Sort::Name => "Name",
            Sort::People => "Most people",
        }
    }
}

/// What was asked for.
struct Asked {
    search: String,
    sort: Sort,
}

impl Asked {
    fn read(query: &str) -> Result<Self, WebError> {
        let mut asked = Asked { search: String::new(), sort: Sort::People };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "q" => asked.search = value.trim().to_owned(),
                "sort" if !value.is_empty() => {
                    asked.sort = Sort::ALL.into_iter().find(|sort| sort.as_str() == value).ok_or_else(|| {
                        WebError::Address(format!("`{value}` is no way to sort: write sort=people or sort=name"))
                    })?;
                }
                _ => {}
            }
        }
        Ok(asked)
    }

    /// The address of this list sorted otherwise.
    fn sorted(&self, sort: Sort) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.search.is_empty() {
            query.append_pair("q", &self.search);
        }
        if sort != Sort::People {
            query.append_pair("sort", sort.as_str());
        }
        let query = query.finish();
        if query.is_empty() { "/events".to_owned() } else { format!("/events?{query}") }
    }

    /// Every word of the search stands somewhere in the name, in either case.
    fn matches(&self, name: &EventName) -> bool {
        let name = name.as_str().to_lowercase();
        self.search.to_lowercase().split_whitespace().all(|word| name.contains(word))
    }
}

/// The running period, the last complete one, and how that compares with the one before.
struct Pair {
    current: String,
    last: String,
    change: String,
}

impl Pair {
    fn new(recent: Recent) -> Self {
        let change = recent.change().map(words::change).unwrap_or_default();
        Pair { current: thousands(recent.current), last: thousands(recent.last), change }
    }
}

/// The dated part of a line.
struct Dated {
    spark: String,
    today: String,
    yesterday: String,
    week: Pair,
    month: Pair,
    first: String,
    last: String,
}

/// One event.
struct Line {
    name: String,
    href: String,
    dated: Option<Dated>,
    ever: String,
}

impl Line {
    fn new(entry: &Entry, today: Period) -> Self {
        let dated = entry.span.map(|span| Dated {
            spark: trend::spark(&entry.days),
            today: thousands(entry.day.current),
            yesterday: thousands(entry.day.last),
            week: Pair::new(entry.week),
            month: Pair::new(entry.month),
            first: seen(span.first, today),
            last: seen(span.last, today),
        });
        let ever = entry.ever.map(thousands).unwrap_or_default();
        Line { name: entry.event.to_string(), href: event::address(&entry.event, "", &[]), dated, ever }
    }
}

/// When something was seen: `today`, `yesterday`, `12 Nov 2026`, or a week or month where no days are kept.
pub(super) fn seen(period: Period, today: Period) -> String {
    match (period.grain(), today.since(period)) {
        (_, Some(0)) => "today".to_owned(),
        (_, Some(1)) => "yesterday".to_owned(),
        (Grain::Day, _) => period.start().format("%-d %b %Y").to_string(),
        _ => period.label(),
    }
}

/// One way to sort.
struct Way {
    label: &'static str,
    href: String,
    taken: bool,
}

#[derive(Template)]
#[template(path = "events.html")]
struct Page {
    shell: Shell,
    search: String,
    sort: &'static str,
    ways: Vec<Way>,
    facts: Vec<String>,
    lines: Vec<Line>,
    /// How many matching events are not shown.
    more: String,
    /// Names that may have been meant when none matched, and their pages.
    similar: Vec<(String, String)>,
}

/// `/events`
pub async fn page(request: HttpRequest, state: Data<State>) -> HttpResponse {
    let asked = Asked::read(request.query_string());
    let written = block(&state, move |state| written(state, &asked?)).await;
    let html = |html| HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/html; charset=utf-8")).body(html);
    answer(&request, written.map(html))
}

fn written(state: &State, asked: &Asked) -> Result<String, WebError> {
    let store = state.tracker.describe()?;
    let mut keys = state.tracker.store().keys("")?;
    let mut names: Vec<EventName> = keys.iter().map(|key| key.event().clone()).collect();
    names.sort_unstable();
    names.dedup();
    let shell = Shell::new(&store, &names);
    if names.is_empty() {
        return Ok(retention::Welcome::new(shell, store, "events").render()?);
    }
    if !asked.search.is_empty() {
        keys.retain(|key| asked.matches(key.event()));
    }
    let mut plan = Plan::new();
    let question = OverviewQuestion::new(&mut plan, &keys, state.clock.now()).map_err(crate::Error::from)?;
    let overview = question.overview(&state.tracker.store().count(&plan)?);
    Ok(page_of(asked, &names, overview, shell).render()?)
}

fn page_of(asked: &Asked, names: &[EventName], overview: Overview, shell: Shell) -> Page {
    let mut entries = overview.entries;
    if asked.sort == Sort::People {
        // Names keep their order among equals, and those without dates come last.
        entries
            .sort_by_cached_key(|e| std::cmp::Reverse((e.span.is_some(), e.month.current.max(e.month.last), e.ever)));
    }
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let (found, undated) = (entries.len(), entries.iter().filter(|entry| entry.span.is_none()).count());
    let mut facts = vec![if found < names.len() {
        format!("{} of {}", thousands(number(found)), many(number(names.len()), "event"))
    } else {
        many(number(found), "event")
    }];
    if undated > 0 && undated < found {
        facts.push(format!("{} of them without dates", thousands(number(undated))));
    }
    facts.push(format!("as of {} UTC", overview.now.format("%a %-d %b %Y, %H:%M")));
    let more = match found.saturating_sub(MAX_SHOWN) {
        0 => String::new(),
        more => format!("{} match and are not shown: search for a part of the name.", many(number(more), "more event")),
    };
    let similar = match EventName::new(&asked.search) {
        Ok(name) if found == 0 => name.similar(names),
        _ => Vec::new(),
    };
    Page {
        shell,
        search: asked.search.clone(),
        sort: if asked.sort == Sort::People { "" } else { asked.sort.as_str() },
        ways: Sort::ALL
            .map(|sort| Way { label: sort.label(), href: asked.sorted(sort), taken: sort == asked.sort })
            .into(),
        facts,
        lines: entries.iter().take(MAX_SHOWN).map(|entry| Line::new(entry, overview.today)).collect(),
        more,
        similar: similar.into_iter().map(|name| (name.to_string(), event::address(name, "", &[]))).collect(),
    }
}
