//! `/events`: every event at a glance.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use url::form_urlencoded;

use crate::calendar::Period;
use crate::render::{many, thousands, trend, words};
use crate::reports::events::{Entry, Events, Overview, Recent};
use crate::reports::spans::Running;
use crate::server::error::WebError;
use crate::server::pages::welcome::Welcome;
use crate::server::pages::{event, links};
use crate::server::respond::{answer, html};
use crate::server::work::block;
use crate::server::{Glossary, Layout, View};
use crate::sets::EventName;
use crate::store::Freshness;

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
        let mut asked = Asked {
            search: String::new(),
            sort: Sort::People,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "q" => asked.search = value.trim().to_owned(),
                "sort" if !value.is_empty() => {
                    asked.sort = Sort::ALL
                        .into_iter()
                        .find(|sort| sort.as_str() == value)
                        .ok_or_else(|| {
                            WebError::Address(format!(
                                "`{value}` is no way to sort: write sort=people or sort=name"
                            ))
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
        if query.is_empty() {
            "/events".to_owned()
        } else {
            format!("/events?{query}")
        }
    }

    /// Every word of the search stands somewhere in the name or the label, in either case.
    fn matches(&self, glossary: &Glossary, name: &EventName) -> bool {
        let text = format!("{name} {}", glossary.label(name).unwrap_or_default()).to_lowercase();
        self.search
            .to_lowercase()
            .split_whitespace()
            .all(|word| text.contains(word))
    }
}

/// The running period, the last complete one, and how that compares with an earlier one.
struct Pair {
    current: String,
    last: String,
    change: String,
}

impl Pair {
    fn new(recent: Recent) -> Self {
        let change = recent.change().map(words::change).unwrap_or_default();
        Pair {
            current: words::count_or_dash(recent.current),
            last: words::count_or_dash(recent.last),
            change,
        }
    }
}

/// The dated part of a line.
struct Dated {
    day: Pair,
    week: Pair,
    month: Pair,
    spark: String,
    first: String,
    /// When it was last seen, where that is not today.
    last: Option<String>,
    ever: String,
}

impl Dated {
    fn has_gap(&self) -> bool {
        let pairs = [&self.day, &self.week, &self.month];
        pairs.iter().any(|pair| {
            [&pair.current, &pair.last]
                .into_iter()
                .any(|number| number == words::NOT_RECORDED)
        })
    }
}

/// One event, with what is known of it.
struct Line<T> {
    /// The group that begins with this line, in a list that has groups.
    group: Option<String>,
    /// What the event is called.
    label: String,
    /// Its name, where that is something else.
    name: Option<String>,
    href: String,
    numbers: T,
}

/// The lines of a list, its groups in the order of the glossary.
fn lines<'a, T>(
    view: &View,
    entries: impl Iterator<Item = &'a Entry>,
    numbers: impl Fn(&Entry) -> Option<T>,
) -> Vec<Line<T>> {
    let glossary = &view.dashboard.glossary;
    let mut last = None;
    let line = |entry: &'a Entry| {
        let numbers = numbers(entry)?;
        let group = Some(group(glossary, &entry.event).1).filter(|_| !glossary.groups.is_empty());
        let begins = group.filter(|_| last != group).map(str::to_owned);
        last = group;
        let label = glossary.label(&entry.event);
        Some(Line {
            group: begins,
            label: label.map_or_else(|| entry.event.to_string(), str::to_owned),
            name: label.map(|_| entry.event.to_string()),
            href: view.to(&links::event(&entry.event, "", &[])),
            numbers,
        })
    };
    entries.filter_map(line).collect()
}

/// The group of an event, and its place among the groups.
fn group<'a>(glossary: &'a Glossary, event: &EventName) -> (usize, &'a str) {
    glossary
        .group(event)
        .unwrap_or((glossary.groups.len(), "Other"))
}

/// What the columns of the list are about.
struct Heads {
    /// The last complete day, week and month.
    last: [String; 3],
    /// The running ones.
    running: [String; 3],
    /// The days of the little bars.
    days: String,
}

impl Heads {
    fn new(overview: &Overview) -> Self {
        if overview.data_ends.is_none() {
            return Heads {
                last: ["Yesterday", "Last week", "Last month"].map(str::to_owned),
                running: ["Today", "This week", "This month"].map(str::to_owned),
                days: "Last 30 days".to_owned(),
            };
        }
        let Running { day, week, month } = overview.running;
        // The year is that of the date on which the data ends.
        let short = |period: Period| words::without_year(period)[0].clone();
        Heads {
            last: [day, week, month].map(|period| period.previous().map(short).unwrap_or_default()),
            running: [day, week, month].map(short),
            days: format!("30 days to {}", short(day)),
        }
    }
}

/// What the last day of the little bars is called.
fn last_day(overview: &Overview) -> String {
    if overview.running.day == overview.today {
        "today".to_owned()
    } else {
        words::date(overview.running.day)
    }
}

fn dated(entry: &Entry, today: Period, last_day: &str) -> Option<Dated> {
    let span = entry.span?;
    Some(Dated {
        day: Pair::new(entry.day),
        week: Pair::new(entry.week),
        month: Pair::new(entry.month),
        spark: trend::spark(&entry.days, last_day),
        first: event::seen(span.first, today),
        last: (span.last != today).then(|| event::seen(span.last, today)),
        ever: entry.ever.map(thousands).unwrap_or_default(),
    })
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
    layout: Layout,
    search: String,
    sort: &'static str,
    ways: Vec<Way>,
    facts: Vec<String>,
    /// Keys under the prefix that are not read.
    strays: Option<String>,
    heads: Heads,
    lines: Vec<Line<Dated>>,
    /// Whether any number is missing.
    gaps: bool,
    /// Whether any of them is also marked without a date.
    ever: bool,
    /// Those that are only recorded without dates, and how many people each has.
    undated: Vec<Line<String>>,
    /// How many matching events are not shown.
    more: String,
    /// Names that may have been meant when none matched, and their pages.
    similar: Vec<(String, String)>,
}

/// `/events`
pub async fn page(request: HttpRequest) -> HttpResponse {
    let query = request.query_string().to_owned();
    let written = block(&request, move |view| written(view, &Asked::read(&query)?)).await;
    answer(&request, written.map(|page| html((StatusCode::OK, page))))
}

fn written(view: &View, asked: &Asked) -> Result<String, WebError> {
    let (store, glossary) = (view.tracker.describe()?, &view.dashboard.glossary);
    let all = view.tracker.catalogue()?;
    let names: Vec<EventName> = all
        .events()
        .map(|known| &known.event)
        .filter(|name| !glossary.hides(name))
        .cloned()
        .collect();
    let layout = Layout::new(view, &store, Some(&names));
    if names.is_empty() {
        return Ok(Welcome::new(view, layout, store, "events")?.render()?);
    }
    let matching = names.iter().filter(|name| asked.matches(glossary, name));
    let report = Events {
        names: Some(matching.cloned().collect()),
    };
    let answered = view.tracker.run(&report, &view.run(Freshness::Cached))?;
    let as_of = view.as_of(view.now(), answered.age);
    let strays = view.tracker.unparsed_keys();
    let strays = (strays.count > 0).then(|| {
        words::curly(&words::strays(
            store.prefix.as_str(),
            strays.count,
            &strays.example,
        ))
    });
    let page = page_of(view, asked, &names, answered.answer, layout, as_of);
    Ok(Page { strays, ..page }.render()?)
}

fn page_of(
    view: &View,
    asked: &Asked,
    names: &[EventName],
    overview: Overview,
    layout: Layout,
    as_of: String,
) -> Page {
    let heads = Heads::new(&overview);
    let (today, last_day, data_ends) = (overview.today, last_day(&overview), overview.data_ends);
    let mut entries = overview.entries;
    if asked.sort == Sort::People {
        // Names keep their order among equals, and those without dates come last.
        entries.sort_by_cached_key(|e| {
            std::cmp::Reverse((e.span.is_some(), e.month.current.max(e.month.last), e.ever))
        });
    }
    entries.sort_by_key(|entry| group(&view.dashboard.glossary, &entry.event).0);
    let shown = || entries.iter().take(MAX_SHOWN);
    let known = lines(view, shown(), |entry| dated(entry, today, &last_day));
    let undated = lines(view, shown(), |entry| match entry.span {
        None => Some(words::people(entry.ever.unwrap_or(0))),
        Some(_) => None,
    });
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let (found, without) = (
        entries.len(),
        entries.iter().filter(|entry| entry.span.is_none()).count(),
    );
    let mut facts = vec![if found < names.len() {
        format!(
            "{} of {}",
            thousands(number(found)),
            many(number(names.len()), "event")
        )
    } else {
        many(number(found), "event")
    }];
    if without > 0 && without < found {
        facts.push(format!(
            "{} of them without dates",
            thousands(number(without))
        ));
    }
    facts.extend(data_ends.map(words::ends));
    facts.push(as_of);
    let more = match found.saturating_sub(MAX_SHOWN) {
        0 => String::new(),
        more => format!(
            "{} match and are not shown: search for a part of the name.",
            many(number(more), "more event")
        ),
    };
    let similar = match EventName::new(&asked.search) {
        Ok(name) if found == 0 => name.similar(names),
        _ => Vec::new(),
    };
    Page {
        layout,
        search: asked.search.clone(),
        sort: if asked.sort == Sort::People {
            ""
        } else {
            asked.sort.as_str()
        },
        ways: Sort::ALL
            .map(|sort| Way {
                label: sort.label(),
                href: view.to(&asked.sorted(sort)),
                taken: sort == asked.sort,
            })
            .into(),
        facts,
        strays: None,
        heads,
        gaps: known.iter().any(|line| line.numbers.has_gap()),
        ever: known.iter().any(|line| !line.numbers.ever.is_empty()),
        lines: known,
        undated,
        more,
        similar: similar
            .into_iter()
            .map(|name| (name.to_string(), view.to(&links::event(name, "", &[]))))
            .collect(),
    }
}
