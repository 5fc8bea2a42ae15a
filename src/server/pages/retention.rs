//! `/retention`: form, figures, charts and table, and links to files of the same question.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use actix_web::http::{Method, StatusCode};
use actix_web::rt::time::timeout;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use futures_util::{StreamExt, stream};
use url::form_urlencoded;

use crate::calendar::Grain;
use crate::render::{chart, thousands, words};
use crate::reports::comparison::{Compared, ComparisonQuestion, Grouping};
use crate::reports::retention::{FIELDS, Question, Table};
use crate::reports::{Params, plan_at};
use crate::server::admission::Patience;
use crate::server::error::WebError;
use crate::server::files::Format;
use crate::server::page_cache::{CachedPage, PageEncoding, Validator};
use crate::server::pages::form::Form;
use crate::server::pages::grid::{Grid, GridCell, Tile, tiles};
use crate::server::pages::groups::Groups;
use crate::server::pages::notices::{Notice, notices};
use crate::server::pages::switches::{Switch, switches};
use crate::server::pages::welcome::Welcome;
use crate::server::pages::{groups, home, links};
use crate::server::query::{PageQuery, Problem, RawQuery};
use crate::server::respond::{self, answer, cached, html};
use crate::server::work::{admitted, block, writing};
use crate::server::{Layout, State, View};
use crate::sets::{EventName, Offsets, Segment};
use crate::store::{Freshness, StoreInfo};
use crate::tracker::Asked;

/// The name of the report, as in its addresses.
pub const NAME: &str = "retention";

/// A link to a file of the same question.
struct Export {
    href: String,
    label: &'static str,
}

/// The rates of one column over the cohorts.
struct Trend {
    /// `on day 7`
    when: String,
    chart: String,
    /// The chart for a narrow page.
    small_chart: String,
    caption: String,
    data_table: chart::DataTable,
    /// The address of the page without it.
    close: String,
}

/// One side of the question in the heading.
struct Side {
    text: String,
    filters: Vec<String>,
}

/// The answer to a question.
struct Report {
    cohort: Side,
    returning: Side,
    facts: Vec<String>,
    /// Saved segments in the question, and their expressions.
    meanings: Vec<(String, String)>,
    /// The canonical address of this page.
    link: String,
    /// The address that recounts, if counts are cached.
    refresh: Option<String>,
    exports: Vec<Export>,
    /// What the groups are.
    by: Option<String>,
    /// The answer without groups.
    plain: Option<Plain>,
    /// The groups, and words for the cohorts below them.
    groups: Option<(Groups, String)>,
}

/// The table of a question without groups.
struct Plain {
    tiles: Vec<Tile>,
    curve: String,
    curve_caption: String,
    curve_data_table: chart::DataTable,
    sizes: String,
    sizes_data_table: chart::DataTable,
    trend: Option<Trend>,
    grain: Grain,
    grid: Grid,
    switches: [Switch; 2],
}

#[derive(Template)]
#[template(path = "retention.html")]
struct Page {
    layout: Layout,
    title: String,
    /// The base address of the cells.
    cells: Option<String>,
    form: Form,
    /// Segment texts for autocompletion.
    offered: Vec<String>,
    notices: Vec<Notice>,
    report: Option<Report>,
}

impl Page {
    fn new(view: &View, store: &StoreInfo, form: Form) -> Self {
        Page {
            layout: Layout::new(view, store, None),
            title: "Retention".to_owned(),
            cells: None,
            form,
            offered: Vec::new(),
            notices: Vec::new(),
            report: None,
        }
    }

    /// Returns the parts that are known before anything is counted.
    fn of(
        view: &View,
        store: &StoreInfo,
        raw: &RawQuery,
        asked: &PageQuery,
        question: &Question,
    ) -> Self {
        Page {
            title: title(view, asked),
            layout: Layout::new(view, store, None).counted_by(asked.bare.calendar()),
            cells: question
                .first()
                .map(|first| view.to(&links::cells(asked, first))),
            ..Page::new(view, store, Form::new(view, raw, Some(asked), &[]))
        }
    }
}

/// The maximum number of names for autocompletion without a script, and their maximum length in
/// bytes. Five hundred names would be longer than the page. The script loads all of them when a
/// field is used.
const MAX_OFFERED: (usize, usize) = (60, 1_000);

/// The parameter that recounts everything. The response redirects to the address without it, which
/// is safe to share.
const RECOUNT: &str = "anew";

/// `/retention`
pub async fn page(request: HttpRequest) -> HttpResponse {
    let raw = RawQuery::read(request.query_string());
    let recount =
        form_urlencoded::parse(request.query_string().as_bytes()).any(|(name, _)| name == RECOUNT);
    if raw.is_command() || raw.export_csv || recount {
        let to = block(&request, move |view| {
            let path = if raw.export_csv {
                "/retention.csv"
            } else {
                "/retention"
            };
            let raw = view.raw_query(view.query());
            let raw = raw.carried_out(view.now(), || view.ends());
            // An invalid question is shown with its problems, at its new address.
            Ok(match asked(view, &raw) {
                Ok(asked) if recount => match recounted(view, &asked) {
                    Ok(()) => Some(view.to(&format!("{path}?{}", asked.canonical()))),
                    Err(WebError::Query(_)) => None,
                    Err(error) => return Err(error),
                },
                Ok(asked) => Some(view.to(&format!("{path}?{}", asked.canonical()))),
                Err(WebError::Query(_)) if path == "/retention" => None,
                Err(error) => return Err(error),
            })
        });
        match to.await {
            Ok(None) => {}
            Ok(Some(to)) => {
                return HttpResponse::Found().insert_header((LOCATION, to)).finish();
            }
            Err(error) => return answer(&request, Err(sized(error, &request))),
        }
    }
    let response = render_soon(&request).await;
    answer(&request, response.map_err(|error| sized(error, &request)))
}

/// Adds the size of the table to an error that depends on it.
pub fn sized(error: WebError, request: &HttpRequest) -> WebError {
    match error {
        WebError::Busy(busy) => {
            let size = RawQuery::read(request.query_string())
                .check()
                .ok()
                .and_then(|asked| asked.query().size());
            WebError::Busy(size.map_or(busy, |(rows, cols)| busy.of_table(rows, cols)))
        }
        error => error,
    }
}

/// Recounts everything and updates the cache.
fn recounted(view: &View, asked: &PageQuery) -> Result<(), WebError> {
    let run = view.run(Freshness::Anew);
    match asked.comparison() {
        Some(comparison) => drop(view.tracker.run(&comparison, &run)?),
        None => drop(view.tracker.run(&asked.query(), &run)?),
    }
    Ok(())
}

/// How long an answer may take before the first part of the page is sent without it.
const FRAME_AFTER: Duration = Duration::from_millis(600);

/// Returns the page if it is ready soon. Otherwise sends its first part at once, and the rest when
/// it is ready.
async fn render_soon(request: &HttpRequest) -> Result<HttpResponse, WebError> {
    // The store must answer once before anything is sent, so that an unreachable store gives an
    // error status.
    let begun = block(request, |view| {
        let raw = view
            .raw_query(view.query())
            .carried_out(view.now(), || view.ends());
        match view.tracker.describe() {
            Ok(store) => Ok(Ok((View::clone(view), store, raw))),
            // Invalid fields are reported without reading the store.
            Err(error) => Ok(Err(form_problems(view, &raw)?.ok_or(error)?)),
        }
    });
    let (view, store, raw) = match begun.await? {
        Ok(begun) => begun,
        Err(page) => return Ok(html(page)),
    };
    let frame_of = view.clone();
    let frame_store = store.clone();
    let frame_typed = raw.clone();
    let encoding = PageEncoding::of(request);
    // Known once the bitmaps are listed, before anything is counted.
    let found = Arc::new(OnceLock::new());
    let planned = Arc::clone(&found);
    let own = view.clone();
    let work = move || render(&own, store.clone(), raw.clone(), encoding, &planned);
    let mut work = Box::pin(async move { admitted(&view, Patience::Bounded, work).await });
    // A HEAD request needs the final status.
    if request.method() == Method::HEAD {
        return work.await.map(|page| cached(request, page));
    }
    if let Ok(done) = timeout(FRAME_AFTER, &mut work).await {
        return done.map(|page| cached(request, page));
    }
    let Some(planned) = found.get() else {
        return work.await.map(|page| cached(request, page));
    };
    let Some(frame) = frame(&frame_of, &frame_store, &frame_typed, planned)? else {
        return work.await.map(|page| cached(request, page));
    };
    let request = request.clone();
    let rest = stream::once(async move {
        let rest = match work.await {
            Ok(page_html) => after_frame(page_html.text()),
            Err(error) => after_frame(respond::page(&request, &sized(error, &request)).1),
        };
        Ok::<_, WebError>(Bytes::from(rest))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        // Compression would hold back the first part until the rest is ready.
        .insert_header((CONTENT_ENCODING, "identity"))
        .streaming(stream::once(async { Ok(Bytes::from(frame)) }).chain(rest)))
}

/// Returns the form with its problems, without reading the store. `None` if it is valid.
fn form_problems(view: &View, raw: &RawQuery) -> Result<Option<(StatusCode, String)>, WebError> {
    if raw.asks_nothing() {
        return Ok(None);
    }
    let asked = raw.check().and_then(|asked| {
        // Whether a query is valid does not depend on the end of the data.
        let checked = match asked.comparison() {
            Some(comparison) => plan_at(&comparison, view.now()).map(drop),
            None => asked.query().check(view.now()),
        };
        checked
            .map(drop)
            .map_err(|error| vec![Problem::of_query(&error)])
    });
    let Err(problems) = asked else {
        return Ok(None);
    };
    let page = Page {
        layout: Layout::bare(Some(view), &view.here),
        title: "Retention".to_owned(),
        cells: None,
        form: Form::new(view, raw, None, &problems),
        offered: Vec::new(),
        notices: Vec::new(),
        report: None,
    };
    Ok(Some((StatusCode::BAD_REQUEST, page.render()?)))
}

/// Separates the two parts of a page. Every template that can be the second part contains it.
const CUT: &str = "<!--answer-->";

fn after_frame(html: String) -> String {
    html.split_once(CUT)
        .map_or(html.clone(), |(_, rest)| rest.to_owned())
}

/// Returns the first part of a page. `None` if the question is invalid.
fn frame(
    view: &View,
    store: &StoreInfo,
    raw: &RawQuery,
    question: &Question,
) -> Result<Option<String>, WebError> {
    let Ok(asked) = raw.check() else {
        return Ok(None);
    };
    let html = Page::of(view, store, raw, &asked, question).render()?;
    let words = "Counting … The table will appear here. Reloading the page would start over.";
    Ok(html.split_once(CUT).map(|(frame, _)| {
        format!("{frame}<p class=\"notice waiting\" role=\"status\">{words}</p>\n")
    }))
}

/// Returns the fields of the question for a file, with both sides of the default question if
/// neither was given.
pub fn params(state: &State, query: &str) -> Result<Params, WebError> {
    let calendar = state.usual_calendar();
    let raw = state
        .raw_query(query)
        .carried_out(state.now(), || state.ends());
    let mut params = completed(state, &raw)?.params;
    params.default_calendar(FIELDS, calendar);
    Ok(params)
}

/// Returns the given fields, with both sides of the default question if neither was given.
fn completed(state: &State, raw: &RawQuery) -> Result<RawQuery, WebError> {
    let default = if raw.asks_nothing() {
        home::default_question(state)?
    } else {
        None
    };
    Ok(default.map_or_else(|| raw.clone(), |default| raw.or(&default)))
}

/// Returns the given question, or the default one without events.
fn asked(state: &State, raw: &RawQuery) -> Result<PageQuery, WebError> {
    completed(state, raw)?.check().map_err(WebError::Query)
}

/// Renders the page, or returns it from the cache in the given encoding. Sets `planned` before
/// counting starts.
fn render(
    view: &View,
    store: StoreInfo,
    raw: RawQuery,
    encoding: Option<PageEncoding>,
    planned: &OnceLock<Question>,
) -> Result<CachedPage, WebError> {
    // Before the pages' other inputs are read, which may change at any time.
    let run = view.run(Freshness::Cached);
    let now = run.now;
    let raw = completed(view, &raw)?;
    let events = view.events()?;
    if raw.asks_nothing() {
        let welcome = Welcome::new(
            view,
            Layout::new(view, &store, Some(&events)),
            store,
            "retention",
        )?;
        return Ok((StatusCode::OK, welcome.render()?).into());
    }
    let offered = |asked: Option<&PageQuery>| offered(view, &events, asked);
    let answered = raw.check().map(|asked| {
        let answer = match asked.comparison() {
            Some(comparison) => {
                let answer = view.tracker.ask(&comparison, &run, |_| ());
                answer.map(|answer| answer.map(Planned::Groups))
            }
            None => {
                let answer = view.tracker.ask(&asked.query(), &run, |question| {
                    planned.get_or_init(|| question.clone());
                });
                answer.map(|answer| answer.map(Planned::Plain))
            }
        };
        (asked, answer)
    });
    let answered = match answered {
        Ok((_, Err(crate::Error::Query(error)))) => Err(vec![Problem::of_query(&error)]),
        Ok((asked, answer)) => Ok((asked, answer?)),
        Err(problems) => Err(problems),
    };
    let (asked, answer) = match answered {
        Ok(answered) => answered,
        Err(problems) => {
            let form = Form::new(view, &raw, None, &problems);
            let layout = Layout::new(view, &store, Some(&events));
            let page = Page {
                layout,
                offered: offered(None)?,
                ..Page::new(view, &store, form)
            };
            return Ok((StatusCode::BAD_REQUEST, page.render()?).into());
        }
    };
    let calendar = asked.bare.calendar();
    let layout = Layout::new(view, &store, Some(&events)).counted_by(calendar);
    let Asked {
        catalogue: keys,
        coverage,
        planned: question,
        results,
        age,
    } = answer;
    let validator = Validator {
        now,
        as_of: view.as_of(now, age, calendar.zone),
        layout,
        keys,
        coverage,
        counts: results.counts,
        groups: match &question {
            Planned::Plain(_) => Vec::new(),
            Planned::Groups(question) => question.names(),
        },
    };
    let place = encoding.map(|encoding| (view.index, view.here.clone(), encoding));
    if let Some(found) = place
        .as_ref()
        .and_then(|place| view.dashboard.page_cache.find(place, &validator))
    {
        return Ok(found);
    }
    let lost = raw.lost_trend(&asked).map(Notice::new);
    let lost: Vec<Notice> = lost.into_iter().collect();
    let noted = |table: &Table| {
        let more = notices(view, &asked, table, &validator.coverage, &events)?;
        Ok::<_, WebError>([lost.clone(), more].concat())
    };
    let base = match &question {
        Planned::Plain(question) => {
            let table = question.table(&validator.counts);
            writing(table.rows.len() * table.averages.len())?;
            Page {
                notices: noted(&table)?,
                report: Some(report(view, &asked, &table, age)),
                ..Page::of(view, &store, &raw, &asked, question)
            }
        }
        Planned::Groups(question) => {
            let compared = question.compared(&validator.counts);
            let first = &compared.groups[0].table;
            writing(compared.groups.len() * first.averages.len() * 20)?;
            let notices = match compared.people {
                0 => noted(first)?,
                _ => lost,
            };
            Page {
                title: format!("{}, {}", title(view, &asked), compared.by()),
                cells: cells_of_group(view, &asked, &compared),
                notices,
                report: Some(report_of_groups(view, &asked, &compared, age)),
                ..Page::new(view, &store, Form::new(view, &raw, Some(&asked), &[]))
            }
        }
    };
    let page = Page {
        layout: validator.layout.clone(),
        offered: offered(Some(&asked))?,
        ..base
    };
    let page_html = (StatusCode::OK, page.render()?).into();
    // A page with notices is not cached: they may depend on other counts, or on a list of names
    // that is a second old.
    let place = place.filter(|_| page.notices.is_empty());
    Ok(match place {
        Some(place) => view
            .dashboard
            .page_cache
            .insert(place, validator, page_html),
        None => page_html,
    })
}

/// Returns segment texts for autocompletion without a script: the names of the question, saved
/// segments, and the events recorded in the most periods, as far as they fit.
fn offered(
    state: &State,
    events: &[EventName],
    asked: Option<&PageQuery>,
) -> Result<Vec<String>, WebError> {
    let saved = state.tracker.segments();
    let catalogue = state.tracker.catalogue()?;
    let mut used: Vec<&EventName> = asked
        .into_iter()
        .flat_map(PageQuery::segments)
        .flat_map(Segment::names)
        .collect();
    used.retain(|name| events.contains(name) || saved.get(name).is_some());
    let mut biggest: Vec<&EventName> = events.iter().collect();
    // Sorting by people would need a count for each event. Names are already sorted, and this sort
    // is stable.
    biggest.sort_by_key(|name| std::cmp::Reverse(catalogue.of(name).len()));
    let mut offered = Vec::new();
    let mut dated = Vec::new();
    let mut bytes = 0;
    let names = saved.iter().map(|(name, _)| name).chain(biggest);
    for (name, always) in used
        .into_iter()
        .map(|name| (name, true))
        .chain(names.map(|name| (name, false)))
    {
        let undated = saved.get(name).is_none() && state.tracker.is_undated(name)?;
        let segment = match undated {
            true => Segment::Ever(name.clone()),
            false => Segment::event(name),
        };
        let text = state.typed(&segment.to_string());
        let room = offered.len() < MAX_OFFERED.0 && bytes + text.len() <= MAX_OFFERED.1;
        if (always || room) && !offered.contains(&text) {
            bytes += text.len();
            offered.push(text);
            dated.extend(Some(segment).filter(|_| !undated && saved.get(name).is_none()));
        }
    }
    let functions = dated.iter().take(FUNCTIONS_OF).flat_map(with_functions);
    offered.extend(functions.map(|segment| state.typed(&segment.to_string())));
    Ok(offered)
}

/// The number of events that are offered with each function.
const FUNCTIONS_OF: usize = 2;

/// Returns each function of a segment, with the ranges that the script offers.
fn with_functions(of: &Segment) -> [Segment; 4] {
    let of = || Box::new(of.clone());
    let range = |from, until| Offsets::new(from, until).expect("it is a valid range");
    [
        Segment::First(of()),
        Segment::Before(of()),
        Segment::Within(of(), range(-4, -1)),
        Segment::AtLeast(3, of(), range(-6, 0)),
    ]
}

/// Formats a segment with the labels of its events.
fn called(state: &State, segment: &Segment) -> String {
    segment.with_labels(&state.dashboard.glossary.labels)
}

fn title(state: &State, asked: &PageQuery) -> String {
    let labels = &state.dashboard.glossary.labels;
    let grain = asked.bare.grain;
    let side = |main: &Segment, filters: &[Segment]| {
        let all: Vec<String> = [main]
            .into_iter()
            .chain(filters)
            .map(|segment| segment.phrase(labels, grain))
            .collect();
        all.join(" and ")
    };
    let cohort = side(&asked.bare.cohort, &asked.cohort_and);
    let returning = side(&asked.bare.returning, &asked.returning_and);
    asked.query().title(cohort, returning)
}

/// A planned question.
enum Planned {
    Plain(Question),
    Groups(ComparisonQuestion),
}

/// Returns the base address of the cells of the group whose cohorts are shown.
fn cells_of_group(view: &View, asked: &PageQuery, compared: &Compared) -> Option<String> {
    let group = &compared.groups[groups::open_group(compared, asked)];
    let asked = asked.of_group(group.cohort.as_ref()?);
    let first = group.table.rows.first()?.period;
    Some(view.to(&links::cells(&asked, first)))
}

fn report_of_groups(
    state: &State,
    asked: &PageQuery,
    compared: &Compared,
    age: Duration,
) -> Report {
    let mut table = compared.groups[0].table.clone();
    if let Grouping::Split(_) = compared.grouping {
        // The sides of a date have different cohorts.
        let others = compared.groups[1..].iter();
        table
            .rows
            .extend(others.flat_map(|group| group.table.rows.iter().cloned()));
    }
    let entries = match compared.is_overlapping() {
        true => format!(
            "{} in groups, {} distinct",
            thousands(compared.people_of_groups),
            words::people(compared.people)
        ),
        false => words::people(compared.people),
    };
    let open = groups::open_group(compared, asked);
    let words = groups::unfolded(compared, open);
    let switches = switches(state, asked);
    Report {
        by: Some(compared.by()),
        groups: Some((Groups::new(state, asked, compared, switches), words)),
        ..head(state, asked, &table, entries, age)
    }
}

fn report(state: &State, asked: &PageQuery, table: &Table, age: Duration) -> Report {
    let entries = if table.people < table.entries {
        format!(
            "{} by {}",
            words::entries(table.entries),
            words::people(table.people)
        )
    } else {
        words::people(table.entries)
    };
    Report {
        plain: Some(plain(state, asked, table)),
        ..head(state, asked, table, entries, age)
    }
}

/// Returns the heading of a report.
fn head(state: &State, asked: &PageQuery, table: &Table, entries: String, age: Duration) -> Report {
    let labels = &state.dashboard.glossary.labels;
    let phrase = |segment: &Segment| segment.phrase(labels, asked.bare.grain);
    let side = |main: &Segment, filters: &[Segment]| Side {
        text: phrase(main),
        filters: filters.iter().map(phrase).collect(),
    };
    let range = words::range(table);
    let facts = range
        .map(|range| format!("{range}, {} cohorts", asked.bare.grain.adjective()))
        .into_iter()
        .chain([entries])
        .chain(words::data_ends(table))
        .chain([state.as_of(table.now, age, table.query.zone)]);
    let saved = state.tracker.segments();
    let mut names: Vec<&EventName> = asked.segments().flat_map(Segment::names).collect();
    names.sort_unstable();
    names.dedup();
    let query = asked.numbers().canonical();
    Report {
        cohort: side(&asked.bare.cohort, &asked.cohort_and),
        returning: side(&asked.bare.returning, &asked.returning_and),
        facts: facts.collect(),
        meanings: names
            .iter()
            .filter_map(|name| {
                Some((
                    called(state, &Segment::event(name)),
                    called(state, saved.get(name)?),
                ))
            })
            .collect(),
        link: links::retention(state, asked),
        refresh: state
            .tracker
            .cache_stats()
            .map(|_| format!("{}&{RECOUNT}=1", links::retention(state, asked))),
        exports: Format::ALL
            .map(|format| Export {
                href: state.to(&format!("/{NAME}.{}?{query}", format.ending())),
                label: format.label(),
            })
            .into(),
        by: None,
        plain: None,
        groups: None,
    }
}

/// Returns what a page shows of a table without groups.
fn plain(state: &State, asked: &PageQuery, table: &Table) -> Plain {
    Plain {
        tiles: tiles(table),
        curve: chart::within_page(&chart::curve(table)),
        curve_caption: chart::curve_caption(table),
        curve_data_table: chart::curve_data_table(table),
        sizes: chart::within_page(&chart::sizes(table)),
        sizes_data_table: chart::sizes_data_table(table),
        trend: asked
            .trend
            .and_then(|column| usize::try_from(column).ok())
            .map(|column| Trend {
                when: words::column(table, column),
                chart: chart::within_page(&chart::trend(table, column)),
                small_chart: chart::within_page(&chart::trend_small(table, column)),
                caption: chart::trend_caption(table, column),
                data_table: chart::trend_data_table(table, column),
                close: links::retention(
                    state,
                    &PageQuery {
                        trend: None,
                        ..asked.clone()
                    },
                ),
            }),
        grain: asked.bare.grain,
        grid: Grid::new(state, table, asked),
        switches: switches(state, asked),
    }
}
