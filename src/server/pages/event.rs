//! `/events/{name}`: one event over time, as a page and as CSV.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use crate::calendar::{Calendar, Grain, Period};
use crate::render::charts::Drawing;
use crate::render::{self, FileName, chart, frequency, lifecycle, thousands, trend, words};
use crate::reports::coverage::State as Progress;
use crate::reports::event::{Event, EventDetail, LIFECYCLE_WEEKS};
use crate::reports::events::{Entry, Overview, Recent};
use crate::reports::frequency::Habits;
use crate::reports::lifecycle::Growth;
use crate::reports::spans::Running;
use crate::reports::trend::{Activity, Point, Trend};
use crate::server::error::WebError;
use crate::server::files::{File, Format};
use crate::server::pages::links::{self, EVENTS};
use crate::server::query::PageQuery;
use crate::server::respond::{answer, disposition, html, plain};
use crate::server::view::state_and_path;
use crate::server::work::block;
use crate::server::{Layout, View};
use crate::sets::{EventName, Segment};
use crate::store::{Freshness, StoreInfo};

/// The extension of an event's file.
const CSV: &str = ".csv";

/// Formats when something was last seen: `today`, `yesterday`, `12 Nov 2026`, or the label of a
/// week or month without days.
pub(super) fn seen(period: Period, today: Period) -> String {
    match (period.grain(), today.since(period)) {
        (_, Some(0)) => "today".to_owned(),
        (_, Some(1)) => "yesterday".to_owned(),
        (Grain::Day, _) => period.local_start().format("%-d %b %Y").to_string(),
        _ => period.label(),
    }
}

/// Returns the requested event, and whether its file is requested. `None` if the path cannot be an
/// event's name.
fn wanted(path: &str, query: &str) -> (Option<EventName>, bool) {
    // A path with escaped letters may match the route without this prefix; it names no event.
    let rest = path.strip_prefix(EVENTS).unwrap_or_default();
    let (rest, is_file) = rest
        .strip_suffix(CSV)
        .map_or((rest, false), |rest| (rest, true));
    let given = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "name");
    let name = match given {
        Some((_, name)) if rest.is_empty() => EventName::new(&name).ok(),
        _ => percent_decode_str(rest)
            .decode_utf8()
            .ok()
            .and_then(|name| EventName::new(&name).ok()),
    };
    (name, is_file)
}

/// The time ranges that a page offers.
const STRETCHES: [(Grain, u32, &str); 4] = [
    (Grain::Day, 30, "30 days"),
    (Grain::Day, 90, "90 days"),
    (Grain::WEEK, 26, "26 weeks"),
    (Grain::Month, 12, "12 months"),
];

/// A time range: its grain, and the number of periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    grain: Grain,
    count: u32,
    calendar: Calendar,
}

impl Stretch {
    const fn default_count(grain: Grain) -> u32 {
        match grain {
            Grain::Week(_) => 26,
            Grain::Month => 12,
            Grain::Hour | Grain::Day | Grain::Year => 30,
        }
    }

    fn read(query: &str, calendar: Calendar) -> Result<Self, WebError> {
        let mut grain = Grain::Day;
        let mut count = None;
        for (name, value) in
            form_urlencoded::parse(query.as_bytes()).filter(|(_, value)| !value.is_empty())
        {
            let wrong =
                |what: &str| WebError::Address(format!("`{name}={value}` is not valid: {what}"));
            match &*name {
                "by" => {
                    grain = match value.parse() {
                        Ok(grain @ (Grain::Day | Grain::Week(_) | Grain::Month)) => grain,
                        _ => return Err(wrong("use by=day, by=week or by=month")),
                    }
                }
                "last" => {
                    let number = value
                        .parse()
                        .map_err(|_| wrong("ask for a whole number from 1 to 400"))?;
                    count = Some(number);
                }
                _ => {}
            }
        }
        Ok(Stretch {
            grain: grain.with_weeks(calendar.week),
            count: count.unwrap_or(Self::default_count(grain)),
            calendar,
        })
    }

    fn address(self, name: &EventName, ending: &str, more: &[(&str, &str)]) -> String {
        let count = self.count.to_string();
        let by = (self.grain != Grain::Day).then_some(("by", self.grain.as_str()));
        let last = (self.count != Self::default_count(self.grain)).then_some(("last", &*count));
        links::event(
            name,
            ending,
            &by.into_iter()
                .chain(last)
                .chain(more.iter().copied())
                .collect::<Vec<_>>(),
        )
    }
}

/// A link, and whether it is the current page.
struct Choice {
    label: &'static str,
    href: String,
    taken: bool,
}

/// One figure above the charts.
struct Figure {
    value: Option<String>,
    label: String,
    notes: Vec<String>,
}

/// One period of the table.
struct Line {
    /// What the charts call it.
    at: Period,
    /// The address of its people, if there are any.
    href: Option<String>,
    /// Before the year, the year, and after it: narrow layouts hide the year.
    label: [String; 3],
    people: String,
    change: String,
    mean: String,
    stickiness: String,
    running: bool,
}

/// The report on an event with dates.
struct Report {
    grain: Grain,
    stretches: Vec<Choice>,
    figures: Vec<Figure>,
    chart: String,
    /// The chart for a narrow page.
    small_chart: String,
    sticky_grain: Grain,
    sticky: String,
    sticky_data_table: chart::DataTable,
    lines: Vec<Line>,
    /// Whether any number is not recorded.
    gaps: bool,
    /// Words for a number in progress, and for its pale colour.
    in_progress: &'static str,
    while_in_progress: &'static str,
    /// Whether the periods consist of days.
    daily: bool,
    /// Lifecycle and frequency, each with the address of its report.
    more: Vec<(Drawing, String)>,
    /// The period that a change is compared with.
    against: &'static str,
    /// The first recorded period, if it shortens the list.
    since: Option<String>,
}

#[derive(Template)]
#[template(path = "event.html")]
struct Page {
    layout: Layout,
    name: String,
    /// Its label, if it differs from the name.
    label: Option<String>,
    facts: Vec<String>,
    csv: String,
    retention: String,
    /// Its segment text, for an event without dates.
    undated: String,
    /// The address of the people of an event without dates.
    people: String,
    /// What it means, as the configuration describes it.
    about: Option<String>,
    /// Whether it is a list of people that a page saved.
    is_list: bool,
    /// What a saved segment means: in a sentence, and as an expression.
    means: Option<(String, String)>,
    report: Option<Report>,
}

#[derive(Template)]
#[template(path = "no_event.html")]
struct Missing {
    layout: Layout,
    name: String,
    similar: Vec<(String, String)>,
}

/// The result of a request.
enum Found {
    Html(StatusCode, String),
    Text(StatusCode, String),
    Csv { name: FileName, body: Vec<u8> },
    Moved(String),
}

/// `/events/{name}` and `/events/{name}.csv`
pub async fn page(request: HttpRequest) -> HttpResponse {
    let (_, path) = state_and_path(&request);
    let (name, is_file) = wanted(path, request.query_string());
    let query = request.query_string().to_owned();
    let text = path.strip_prefix(EVENTS).unwrap_or_default();
    let text = percent_decode_str(text).decode_utf8_lossy().into_owned();
    let found = block(&request, move |view| {
        let keys = match &name {
            Some(name) => view.tracker.keys_of(name)?,
            None => Vec::new(),
        };
        if let Some(event) = name.as_ref().filter(|_| keys.is_empty())
            && let Some(event) = view.event_labelled(event)
        {
            let ending = if is_file { CSV } else { "" };
            let address = links::event(&event, ending, &[]);
            let query = match query.is_empty() {
                true => String::new(),
                false => format!("?{query}"),
            };
            return Ok(Found::Moved(view.to(&format!("{address}{query}"))));
        }
        match &name {
            Some(name) if !keys.is_empty() || view.tracker.segments().get(name).is_some() => {
                let stretch = Stretch::read(&query, view.calendar(&query)?)?;
                if is_file {
                    file(view, name, stretch)
                } else {
                    render(view, name, stretch)
                }
            }
            _ if text.ends_with(".json") => Err(WebError::NotFound),
            name => missing(view, name.as_ref(), text.clone(), is_file),
        }
    });
    let respond = |found| match found {
        Found::Html(status, page) => html((status, page)),
        Found::Text(status, text) => plain(status, text),
        Found::Csv { name, body } => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "text/csv; charset=utf-8; header=present"))
            .insert_header((CONTENT_DISPOSITION, disposition("attachment", &name)))
            .body(body),
        Found::Moved(to) => HttpResponse::Found().insert_header((LOCATION, to)).finish(),
    };
    answer(&request, found.await.map(respond))
}

fn missing(
    view: &View,
    name: Option<&EventName>,
    text: String,
    is_file: bool,
) -> Result<Found, WebError> {
    let (events, store): (_, StoreInfo) = (view.events()?, view.tracker.describe()?);
    let similar = name.map(|name| name.similar(&events)).unwrap_or_default();
    let called = words::shortened(name.map_or(&text, |name| name.as_str()), 200);
    if is_file {
        let similar: Vec<&str> = similar.iter().map(|name| name.as_str()).collect();
        let mean = if similar.is_empty() {
            String::new()
        } else {
            format!("; did you mean {}?", similar.join(" or "))
        };
        return Ok(Found::Text(
            StatusCode::NOT_FOUND,
            format!("there is no event “{called}”{mean}\n"),
        ));
    }
    let page = Missing {
        layout: Layout::new(view, &store, Some(&events)),
        name: called,
        similar: similar
            .into_iter()
            .map(|name| (name.to_string(), view.to(&links::event(name, "", &[]))))
            .collect(),
    };
    Ok(Found::Html(StatusCode::NOT_FOUND, page.render()?))
}

fn file(view: &View, name: &EventName, stretch: Stretch) -> Result<Found, WebError> {
    let report = Trend {
        segment: Segment::event(name),
        grain: stretch.grain,
        count: stretch.count,
        zone: stretch.calendar.zone,
    };
    let activity = view
        .tracker
        .run(&report, &view.run(Freshness::Checked))?
        .answer;
    let file = File::of(&activity, Format::Tidy).ok_or(WebError::NotFound)?;
    Ok(Found::Csv {
        name: render::file_name(&activity).ending("csv"),
        body: file.body,
    })
}

fn render(view: &View, name: &EventName, stretch: Stretch) -> Result<Found, WebError> {
    let events = view.events()?;
    let store = view.tracker.describe()?;
    let question = Event {
        name: name.clone(),
        grain: stretch.grain,
        count: stretch.count,
        calendar: stretch.calendar,
    };
    let answered = view.tracker.run(&question, &view.run(Freshness::Cached))?;
    let coverage = answered.coverage;
    let age = answered.age;
    let EventDetail {
        overview,
        trend: activity,
        weeks,
        months,
        lifecycle,
        frequency,
    } = answered.answer;
    let segment = Segment::event(name);
    let entry = overview.entries.first();

    let activity_is_undated = activity.span.is_none();
    let mut facts = Vec::new();
    if let Some(span) = activity.span {
        let first = seen(span.first, overview.today);
        let last = seen(span.last, overview.today);
        facts.extend([format!("first seen {first}"), format!("last seen {last}")]);
    }
    if let Some(ever) = entry.and_then(|entry| entry.ever) {
        facts.push(format!("{} marked ever", words::people(ever)));
    }
    facts.extend(overview.data_ends.map(words::ends));
    facts.push(view.as_of(coverage.now(), age, coverage.zone()));
    let saved = view.tracker.segments().get(name);
    let figures = match (entry, saved) {
        (_, Some(_)) => figures_of_segment(&weeks, &months),
        (Some(entry), None) => figures(&overview, entry, &weeks, &months),
        (None, None) => Vec::new(),
    };
    let report = activity.span.map(|_| {
        let more = in_small(view, name, stretch.calendar, &lifecycle, &frequency);
        Report {
            figures,
            ..report(view, name, stretch, &activity, [&weeks, &months], more)
        }
    });
    let labels = &view.dashboard.glossary.labels;
    let means = saved.map(|segment| {
        let grain = stretch.grain;
        (
            format!("People who {}", segment.did(labels, grain)),
            segment.to_string(),
        )
    });
    let pairs = view.calendar_pairs(stretch.calendar);
    let mut table = PageQuery::new(segment.clone(), segment);
    table.bare.zone = stretch.calendar.zone.asked();
    table.calendar = view.usual_calendar();
    let page = Page {
        layout: Layout::new(view, &store, Some(&events)).counted_by(stretch.calendar),
        name: name.to_string(),
        label: view.dashboard.glossary.label(name).map(str::to_owned),
        facts,
        csv: view.to(&stretch.address(name, CSV, &pairs)),
        retention: view.to(&format!("/retention?{}", table.canonical())),
        undated: Segment::Ever(name.clone()).to_string(),
        people: links::people(
            view,
            &Segment::Ever(name.clone()).to_string(),
            view.own_zone(),
        ),
        about: view.dashboard.glossary.about(name).map(str::to_owned),
        is_list: saved.is_none()
            && activity_is_undated
            && view.tracker.saved_lists()?.contains(name),
        means,
        report,
    };
    Ok(Found::Html(StatusCode::OK, page.render()?))
}

fn report(
    view: &View,
    name: &EventName,
    stretch: Stretch,
    activity: &Activity,
    [weeks, months]: [&Activity; 2],
    more: Vec<(Drawing, String)>,
) -> Report {
    let sticky = if matches!(stretch.grain, Grain::Week(_)) {
        weeks
    } else {
        months
    };
    let recorded = activity.recorded();
    let cut = recorded.len() < activity.points.len();
    Report {
        grain: stretch.grain,
        stretches: STRETCHES
            .iter()
            .map(|(grain, count, label)| {
                let this = Stretch {
                    grain: grain.with_weeks(stretch.calendar.week),
                    count: *count,
                    calendar: stretch.calendar,
                };
                let pairs = view.calendar_pairs(stretch.calendar);
                Choice {
                    label,
                    href: view.to(&this.address(name, "", &pairs)),
                    taken: this == stretch,
                }
            })
            .collect(),
        figures: Vec::new(),
        chart: trend::people(activity),
        small_chart: trend::people_small(activity),
        sticky_grain: sticky.grain,
        sticky: trend::stickiness(sticky),
        sticky_data_table: trend::stickiness_data_table(sticky),
        gaps: recorded
            .iter()
            .any(|point| point.state == Progress::NotRecorded),
        in_progress: words::in_progress(activity.data_ends),
        while_in_progress: words::while_in_progress(activity.data_ends),
        lines: recorded
            .iter()
            .rev()
            .map(|point| {
                let set = activity.segment.in_period(point.period);
                let people = Some(set).filter(|_| point.people > 0);
                let zone = stretch.calendar.zone;
                Line {
                    href: people.map(|set| links::people(view, &set, zone)),
                    ..Line::new(point)
                }
            })
            .collect(),
        daily: stretch.grain != Grain::Day,
        more,
        against: match stretch.grain {
            Grain::Day => "same weekday a week before",
            Grain::Week(_) => "week before",
            _ => "month before",
        },
        since: activity
            .span
            .filter(|_| cut)
            .map(|span| words::when(span.first)),
    }
}

/// Returns the main charts of the lifecycle and of the frequency, each with the address of its
/// report.
fn in_small(
    view: &View,
    name: &EventName,
    calendar: Calendar,
    growth: &Growth,
    habits: &Habits,
) -> Vec<(Drawing, String)> {
    let segment = Segment::event(name).to_string();
    let address = |report: &str, fields: &[(&str, &str)]| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("event", &segment).extend_pairs(fields);
        query.extend_pairs(view.calendar_pairs(calendar));
        view.to(&format!("/{report}?{}", query.finish()))
    };
    let weeks = LIFECYCLE_WEEKS.to_string();
    vec![
        (
            lifecycle::beside_others(growth),
            address("lifecycle", &[("by", "week"), ("rows", &weeks)]),
        ),
        (frequency::beside_others(habits), address("frequency", &[])),
    ]
}

/// Returns figures of complete periods, with current ones beside them. A current period is never
/// compared with a complete one.
fn figures(overview: &Overview, entry: &Entry, weeks: &Activity, months: &Activity) -> Vec<Figure> {
    let Running { day, week, month } = overview.running;
    let previous = |period: Period| period.previous().unwrap_or(period);
    let weekday = format!("the {} before", previous(day).local_start().format("%A"));
    let is_now = overview.data_ends.is_none();
    let of = |recent: Recent, running: Period, [last, this, before]: [&str; 3]| {
        let change = recent
            .change()
            .map(|change| format!("{} on {before}", words::change(change)));
        let so_far = recent.current.map(thousands).map(|current| match is_now {
            true => format!("{current} {this} so far"),
            false => format!("{current} so far {}", words::when(running)),
        });
        Figure {
            value: recent.last.map(thousands),
            label: match is_now {
                true => format!("people {last}"),
                false => format!("people {}", words::when(previous(running))),
            },
            notes: change.into_iter().chain(so_far).collect(),
        }
    };
    let sticky = |activity: &Activity| {
        activity
            .last_complete()
            .and_then(Point::stickiness)
            .map(words::percent)
    };
    let whole_month = months
        .last_complete()
        .filter(|month| month.stickiness().is_some());
    let note = match whole_month {
        Some(month) => {
            format!(
                "{} people a day, in {}",
                month.daily.map(words::mean).unwrap_or_default(),
                month.period.label()
            )
        }
        None => "needs a fully recorded month".to_owned(),
    };
    let last_week = if is_now {
        "last week".to_owned()
    } else {
        words::when(previous(week))
    };
    let sticky_week = sticky(weeks).map(|share| format!("day ÷ week {share}, {last_week}"));
    vec![
        of(entry.day, day, ["yesterday", "today", &weekday]),
        of(
            entry.week,
            week,
            ["last week", "this week", "the week before"],
        ),
        of(
            entry.month,
            month,
            ["last month", "this month", "the month before"],
        ),
        Figure {
            value: sticky(months),
            label: "stickiness, day ÷ month".to_owned(),
            notes: [note].into_iter().chain(sticky_week).collect(),
        },
    ]
}

/// Returns figures of a saved segment: its last complete week and month, and the running ones.
fn figures_of_segment(weeks: &Activity, months: &Activity) -> Vec<Figure> {
    let of = |activity: &Activity| {
        let last = activity.last_complete();
        let change = last.and_then(|point| point.change);
        let running = activity.points.last();
        let running = running.filter(|point| point.state == Progress::InProgress);
        let grain = activity.grain;
        Figure {
            value: last.map(|point| thousands(point.people)),
            label: match last {
                Some(point) => format!("people {}", words::when(point.period)),
                None => words::none_complete(grain.as_str(), activity.data_ends),
            },
            notes: change
                .map(|change| format!("{} on the {grain} before", words::change(change)))
                .into_iter()
                .chain(running.map(|point| {
                    format!(
                        "{} so far {}",
                        thousands(point.people),
                        words::when(point.period)
                    )
                }))
                .collect(),
        }
    };
    vec![of(weeks), of(months)]
}

impl Line {
    fn new(point: &Point) -> Self {
        Line {
            at: point.period,
            href: None,
            label: words::without_year(point.period),
            people: match point.state {
                Progress::NotRecorded => words::NOT_RECORDED.to_owned(),
                _ => thousands(point.people),
            },
            change: point.change.map(words::change).unwrap_or_default(),
            mean: point.daily.map(words::mean).unwrap_or_default(),
            stickiness: point.stickiness().map(words::percent).unwrap_or_default(),
            running: point.state == Progress::InProgress,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_an_address_that_leads_back() {
        let long = "🎉".repeat(50);
        let names = [
            "active",
            "song:played",
            "a|b",
            "<script>",
            "a/b",
            "/",
            "..",
            ".",
            "../x",
            "%",
            "%2F",
            "🎉",
            "x.csv",
            ".csv",
            "x.json",
            "a b",
            "a?b#c",
            "+",
            "\"q\"",
            "'",
            &long,
        ];
        for name in names.map(|name| EventName::new(name).unwrap()) {
            for (ending, is_file) in [("", false), (CSV, true)] {
                let address = links::event(&name, ending, &[("by", "week")]);
                let url = url::Url::parse(&format!("http://localhost{address}")).unwrap();
                assert_eq!(
                    wanted(url.path(), url.query().unwrap()),
                    (Some(name.clone()), is_file),
                    "{address}"
                );
                assert_eq!(
                    Stretch::read(url.query().unwrap(), Calendar::default())
                        .unwrap()
                        .grain,
                    Grain::WEEK
                );
                assert!(
                    !url.path().ends_with(".json"),
                    "an error there would be JSON"
                );
            }
        }
        assert_eq!(wanted("/events/", ""), (None, false));
        assert_eq!(wanted("/events/%FF", ""), (None, false));
    }

    #[test]
    fn a_stretch_is_read_and_said_shortly() {
        let name = EventName::new("a").unwrap();
        let canonical = |query: &str| {
            Stretch::read(query, Calendar::default())
                .map(|s| s.address(&name, "", &[]))
                .map_err(|e| e.to_string())
        };
        assert_eq!(canonical("").unwrap(), "/events/a");
        assert_eq!(canonical("by=day&last=90&q=").unwrap(), "/events/a?last=90");
        assert_eq!(canonical("last=12&by=month").unwrap(), "/events/a?by=month");
        assert!(
            canonical("by=hour")
                .unwrap_err()
                .contains("by=day, by=week or by=month")
        );
        assert!(canonical("last=-1").unwrap_err().contains("from 1 to 400"));
    }
}
