//! `/events`: overview of all events.

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

/// The maximum number of events on a page. Beyond it a search is faster.
const MAX_SHOWN: usize = 500;

/// The order of the list.
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

/// The query of the page.
struct Asked {
    search: String,
    sort: Sort,
    /// The zone and the weeks, if the address must name them.
    calendar: Vec<(&'static str, &'static str)>,
}

impl Asked {
    fn read(query: &str) -> Result<Self, WebError> {
        let mut asked = Asked {
            search: String::new(),
            sort: Sort::People,
            calendar: Vec::new(),
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
                                "`{value}` is not a sort order: use sort=people or sort=name"
                            ))
                        })?;
                }
                _ => {}
            }
        }
        Ok(asked)
    }

    /// Returns the address of this list in another order.
    fn sorted(&self, sort: Sort) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.search.is_empty() {
            query.append_pair("q", &self.search);
        }
        if sort != Sort::People {
            query.append_pair("sort", sort.as_str());
        }
        query.extend_pairs(&self.calendar);
        let query = query.finish();
        if query.is_empty() {
            "/events".to_owned()
        } else {
            format!("/events?{query}")
        }
    }

    /// Whether the name or the label contains every word of the search, ignoring case.
    fn matches(&self, glossary: &Glossary, name: &EventName) -> bool {
        let text = format!("{name} {}", glossary.label(name).unwrap_or_default()).to_lowercase();
        self.search
            .to_lowercase()
            .split_whitespace()
            .all(|word| text.contains(word))
    }
}

/// The numbers of the current and the last complete period, and the change from an earlier one.
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
    /// When it was last seen, if not today.
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

/// One event of a list.
struct Line<T> {
    /// The group that starts with this line, if the list has groups.
    group: Option<String>,
    /// The label or name of the event.
    label: String,
    /// Its name, if it differs from the label.
    name: Option<String>,
    href: String,
    numbers: T,
}

/// Returns the lines of a list, with groups in their configured order.
fn lines<'a, T>(
    view: &View,
    pairs: &[(&str, &str)],
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
            href: view.to(&links::event(&entry.event, "", pairs)),
            numbers,
        })
    };
    entries.filter_map(line).collect()
}

/// Returns the group of an event, and its position among the groups.
fn group<'a>(glossary: &'a Glossary, event: &EventName) -> (usize, &'a str) {
    glossary
        .group(event)
        .unwrap_or((glossary.groups.len(), "Other"))
}

/// The column headings of the list.
struct Heads {
    /// The last complete day, week and month.
    last: [String; 3],
    /// The current ones.
    running: [String; 3],
    /// The days of the sparklines.
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
        // Leaves out the year, which is that of the date on which the data ends.
        let short = |period: Period| words::without_year(period)[0].clone();
        Heads {
            last: [day, week, month].map(|period| period.previous().map(short).unwrap_or_default()),
            running: [day, week, month].map(short),
            days: format!("30 days to {}", short(day)),
        }
    }
}

/// Returns the name of the last day of the sparklines.
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

/// A link to an order.
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
    unparsed: Option<String>,
    heads: Heads,
    lines: Vec<Line<Dated>>,
    /// Whether any number is missing.
    gaps: bool,
    /// Whether any of the events is also marked without a date.
    ever: bool,
    /// Events that are only recorded without dates, and how many people each has.
    undated: Vec<Line<String>>,
    /// Hidden fields of the search: names and values.
    kept: Vec<(&'static str, &'static str)>,
    /// How many matching events are not shown.
    more: String,
    /// Similar names if none matched, with their pages.
    similar: Vec<(String, String)>,
}

/// `/events`
pub async fn page(request: HttpRequest) -> HttpResponse {
    let query = request.query_string().to_owned();
    let page = block(&request, move |view| {
        let mut asked = Asked::read(&query)?;
        asked.calendar = view.calendar_pairs(view.calendar(&query)?);
        render(view, &asked)
    });
    let page = page.await;
    answer(&request, page.map(|page| html((StatusCode::OK, page))))
}

fn render(view: &View, asked: &Asked) -> Result<String, WebError> {
    let store = view.tracker.describe()?;
    let glossary = &view.dashboard.glossary;
    let all = view.tracker.catalogue()?;
    let names: Vec<EventName> = all
        .events()
        .map(|known| &known.event)
        .filter(|name| !glossary.hides(name))
        .cloned()
        .collect();
    let calendar = view.calendar(view.query())?;
    let layout = Layout::new(view, &store, Some(&names)).counted_by(calendar);
    if names.is_empty() {
        return Ok(Welcome::new(view, layout, store, "events")?.render()?);
    }
    let matching = names.iter().filter(|name| asked.matches(glossary, name));
    let report = Events {
        names: Some(matching.cloned().collect()),
        calendar,
    };
    let answered = view.tracker.run(&report, &view.run(Freshness::Cached))?;
    let as_of = view.as_of(view.now(), answered.age, calendar.zone);
    let unparsed = view.tracker.unparsed_keys();
    let unparsed = (unparsed.count > 0).then(|| {
        words::curly(&words::unparsed_keys(
            store.prefix.as_str(),
            unparsed.count,
            &unparsed.example,
        ))
    });
    let page = page_of(view, asked, &names, answered.answer, layout, as_of);
    Ok(Page { unparsed, ..page }.render()?)
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
    let today = overview.today;
    let last_day = last_day(&overview);
    let data_ends = overview.data_ends;
    let mut entries = overview.entries;
    if asked.sort == Sort::People {
        // Stable: equal events stay in the order of their names. Events without dates come last.
        entries.sort_by_cached_key(|e| {
            std::cmp::Reverse((e.span.is_some(), e.month.current.max(e.month.last), e.ever))
        });
    }
    entries.sort_by_key(|entry| group(&view.dashboard.glossary, &entry.event).0);
    let shown = || entries.iter().take(MAX_SHOWN);
    let known = lines(view, &asked.calendar, shown(), |entry| {
        dated(entry, today, &last_day)
    });
    let undated = lines(view, &asked.calendar, shown(), |entry| match entry.span {
        None => Some(words::people(entry.ever.unwrap_or(0))),
        Some(_) => None,
    });
    let number = |count: usize| u64::try_from(count).expect("a count fits in 64 bits");
    let found = entries.len();
    let without = entries.iter().filter(|entry| entry.span.is_none()).count();
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
            "{} more match. Search for a part of the name to narrow the list.",
            many(number(more), "more event")
        ),
    };
    let similar = match EventName::new(&asked.search) {
        Ok(name) if found == 0 => name.similar(names),
        _ => Vec::new(),
    };
    Page {
        kept: asked.calendar.clone(),
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
        unparsed: None,
        heads,
        gaps: known.iter().any(|line| line.numbers.has_gap()),
        ever: known.iter().any(|line| !line.numbers.ever.is_empty()),
        lines: known,
        undated,
        more,
        similar: similar
            .into_iter()
            .map(|name| {
                (
                    name.to_string(),
                    view.to(&links::event(name, "", &asked.calendar)),
                )
            })
            .collect(),
    }
}
