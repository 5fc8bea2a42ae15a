//! `/retention`: form, figures, curve and table; and the same question as a file.

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
use crate::render::{Order, Scale, chart, words};
use crate::reports::Params;
use crate::reports::retention::{Question, Table};
use crate::server::admission::Patience;
use crate::server::error::WebError;
use crate::server::files::Format;
use crate::server::page_cache::{CachedPage, PageEncoding, Validator};
use crate::server::pages::form::Form;
use crate::server::pages::grid::{Grid, Place, Tile, tiles};
use crate::server::pages::notices::{Notice, notices};
use crate::server::pages::welcome::Welcome;
use crate::server::pages::{home, links};
use crate::server::query::{PageQuery, Problem, RawQuery};
use crate::server::respond::{self, answer, cached, html};
use crate::server::work::{admitted, block, writing};
use crate::server::{Layout, State, View};
use crate::sets::{EventName, Segment};
use crate::store::{Freshness, StoreInfo};
use crate::tracker::Asked;

/// The name of the report, as in its addresses.
pub const NAME: &str = "retention";

/// A link to a file with the same question.
struct Export {
    href: String,
    label: &'static str,
}

/// A choice between two ways to see the same numbers.
struct Switch {
    legend: &'static str,
    /// Words, address, and whether it is the one taken.
    ways: [(&'static str, String, bool); 2],
}

/// The rate of one column over the cohorts.
struct Trend {
    /// `on day 7`
    when: String,
    chart: String,
    /// The same for a page with little room.
    small_chart: String,
    caption: String,
    data_table: chart::DataTable,
    /// The page without it.
    close: String,
}

/// One side of the question as the heading says it.
struct Side {
    text: String,
    filters: Vec<String>,
}

/// The answer to a question.
struct Report {
    cohort: Side,
    returning: Side,
    facts: Vec<String>,
    /// Saved segments in the question, and what they stand for.
    meanings: Vec<(String, String)>,
    /// The canonical address of this page.
    link: String,
    /// Where it is counted anew, when counts are remembered.
    refresh: Option<String>,
    exports: Vec<Export>,
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
    /// What the addresses of the cells are relative to.
    cells: Option<String>,
    form: Form,
    /// Events to offer, as segment text.
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

    /// What the page says as soon as the question is known.
    fn of(
        view: &View,
        store: &StoreInfo,
        raw: &RawQuery,
        asked: &PageQuery,
        question: &Question,
    ) -> Self {
        Page {
            title: title(view, asked),
            cells: question
                .first()
                .map(|first| view.to(&links::cells(asked, first))),
            ..Page::new(view, store, Form::new(view, raw, Some(asked), &[]))
        }
    }
}

/// The most event names offered while typing without a script, and how many bytes of them: with
/// five hundred events the list would outweigh the page. The script asks for all of them when a
/// field is used.
const MAX_OFFERED: (usize, usize) = (60, 1_000);

/// The parameter that has everything counted anew. It leads on to the address without it, which may
/// be sent to others.
const ANEW: &str = "anew";

/// `/retention`
pub async fn page(request: HttpRequest) -> HttpResponse {
    let raw = RawQuery::read(request.query_string());
    let anew =
        form_urlencoded::parse(request.query_string().as_bytes()).any(|(name, _)| name == ANEW);
    if raw.is_command() || raw.export_csv || anew {
        let to = block(&request, move |view| {
            let path = if raw.export_csv {
                "/retention.csv"
            } else {
                "/retention"
            };
            let raw = raw.clone().carried_out(view.now(), || view.ends());
            // What cannot be asked is shown with what is wrong in it, at the address it then has.
            Ok(match asked(view, &raw) {
                Ok(asked) if anew => match recounted(view, &asked) {
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
            other => {
                let other = other.map_err(|error| sized(error, &request));
                let found = |to: Option<String>| {
                    HttpResponse::Found()
                        .insert_header((LOCATION, to.unwrap_or_default()))
                        .finish()
                };
                return answer(&request, other.map(found));
            }
        }
    }
    let written = shown(&request).await;
    answer(&request, written.map_err(|error| sized(error, &request)))
}

/// An error that says how large the table is where that is what is wrong.
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

/// Counts everything anew, for the next to ask.
fn recounted(view: &View, asked: &PageQuery) -> Result<(), WebError> {
    view.tracker
        .run(&asked.query(), &view.run(Freshness::Anew))?;
    Ok(())
}

/// How long an answer may take before the page begins without it.
const FRAME_AFTER: Duration = Duration::from_millis(600);

/// The page when it is ready soon; otherwise its frame at once, and the rest as soon as there is
/// one.
async fn shown(request: &HttpRequest) -> Result<HttpResponse, WebError> {
    // A store that is away is said with the status it deserves, so nothing is sent before it has
    // answered once.
    let begun = block(request, |view| {
        let raw = RawQuery::read(view.query()).carried_out(view.now(), || view.ends());
        match view.tracker.describe() {
            Ok(store) => Ok(Ok((View::clone(view), store, raw))),
            // A slip of the pen is told without a store.
            Err(error) => Ok(Err(slip(view, &raw)?.ok_or(error)?)),
        }
    });
    let (view, store, raw) = match begun.await? {
        Ok(begun) => begun,
        Err(page) => return Ok(html(page)),
    };
    let (frame_of, frame_store, frame_typed) = (view.clone(), store.clone(), raw.clone());
    let packing = PageEncoding::of(request);
    // Known as soon as the bitmaps are listed, before anything is counted.
    let found = Arc::new(OnceLock::new());
    let planned = Arc::clone(&found);
    let own = view.clone();
    let work = move || written(&own, store.clone(), raw.clone(), packing, &planned);
    let mut work = Box::pin(async move { admitted(&view, Patience::Bounded, work).await });
    // Who asks for the head alone wants the status, which is only known at the end.
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
            Ok(sheet) => after_frame(sheet.text()),
            Err(error) => after_frame(respond::page(&request, &sized(error, &request)).1),
        };
        Ok::<_, WebError>(Bytes::from(rest))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        // Compressed, the frame would wait in the compressor for the rest.
        .insert_header((CONTENT_ENCODING, "identity"))
        .streaming(stream::once(async { Ok(Bytes::from(frame)) }).chain(rest)))
}

/// The form with what is wrong in it, without a word from the store; `None` when nothing is.
fn slip(view: &View, raw: &RawQuery) -> Result<Option<(StatusCode, String)>, WebError> {
    if raw.asks_nothing() {
        return Ok(None);
    }
    let asked = raw.check().and_then(|asked| {
        // Where the data ends makes no query right or wrong.
        let checked = asked.query().check(view.now());
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

/// Where a page that comes in two parts is cut: every template that can be the second part has it.
const CUT: &str = "<!--answer-->";

fn after_frame(html: String) -> String {
    html.split_once(CUT)
        .map_or(html.clone(), |(_, rest)| rest.to_owned())
}

/// The page up to its answer; `None` when the question has none to wait for.
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
    let words = "Counting … The table appears here by itself; loading this page again would only begin anew.";
    Ok(html.split_once(CUT).map(|(frame, _)| {
        format!("{frame}<p class=\"notice waiting\" role=\"status\">{words}</p>\n")
    }))
}

/// The fields of the question that a file of the report asks, with both sides of the default
/// question if neither was given.
pub fn params(state: &State, query: &str) -> Result<Params, WebError> {
    let raw = RawQuery::read(query).carried_out(state.now(), || state.ends());
    Ok(completed(state, &raw)?.params)
}

/// What was typed, with both sides of the default question when neither was.
fn completed(state: &State, raw: &RawQuery) -> Result<RawQuery, WebError> {
    let default = if raw.asks_nothing() {
        home::default_question(state)?
    } else {
        None
    };
    Ok(default.map_or_else(|| raw.clone(), |default| raw.or(&default)))
}

/// The question that was typed, or the default one when no event was named.
fn asked(state: &State, raw: &RawQuery) -> Result<PageQuery, WebError> {
    completed(state, raw)?.check().map_err(WebError::Query)
}

/// The page; one that was kept where `packing` says how it is wanted. The question is `planned`
/// before it is counted.
fn written(
    view: &View,
    store: StoreInfo,
    raw: RawQuery,
    packing: Option<PageEncoding>,
    planned: &OnceLock<Question>,
) -> Result<CachedPage, WebError> {
    // Before anything else that changes by itself is looked at.
    let run = view.run(Freshness::Cached);
    let now = run.now;
    let (raw, events) = (completed(view, &raw)?, view.events()?);
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
        let query = asked.query();
        let answer = view.tracker.ask(&query, &run, |question| {
            planned.get_or_init(|| question.clone());
        });
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
    let layout = Layout::new(view, &store, Some(&events));
    let Asked {
        catalogue: keys,
        coverage,
        planned: question,
        results,
        age,
    } = answer;
    let ground = Validator {
        now,
        as_of: view.as_of(now, age),
        layout,
        keys,
        coverage,
        counts: results.counts,
    };
    let place = packing.map(|packing| (view.index, view.here.clone(), packing));
    if let Some(found) = place
        .as_ref()
        .and_then(|place| view.dashboard.page_cache.find(place, &ground))
    {
        return Ok(found);
    }
    let table = question.table(&ground.counts);
    writing(table.rows.len() * table.averages.len())?;
    let lost: Vec<Notice> = raw
        .lost_trend(&asked)
        .map(Notice::new)
        .into_iter()
        .collect();
    let page = Page {
        layout: ground.layout.clone(),
        offered: offered(Some(&asked))?,
        notices: [
            lost,
            notices(view, &asked, &table, &ground.coverage, &events)?,
        ]
        .concat(),
        report: Some(report(view, &asked, &table, age)),
        ..Page::of(view, &store, &raw, &asked, &question)
    };
    let sheet = (StatusCode::OK, page.render()?).into();
    // A notice may stand on more: whether another range has somebody, or a name that is a second
    // old.
    let place = place.filter(|_| page.notices.is_empty());
    Ok(match place {
        Some(place) => view.dashboard.page_cache.insert(place, ground, sheet),
        None => sheet,
    })
}

/// What the fields offer without a script, as segment text: the names of the question, saved
/// segments, and the events that were recorded in the most periods, as far as there is room.
fn offered(
    state: &State,
    events: &[EventName],
    asked: Option<&PageQuery>,
) -> Result<Vec<String>, WebError> {
    let (saved, catalogue) = (state.tracker.segments(), state.tracker.catalogue()?);
    let mut used: Vec<&EventName> = asked
        .into_iter()
        .flat_map(PageQuery::segments)
        .flat_map(Segment::names)
        .collect();
    used.retain(|name| events.contains(name) || saved.get(name).is_some());
    let mut biggest: Vec<&EventName> = events.iter().collect();
    // How many people there were would cost a count for each of them; names are sorted already, and
    // the sort is stable.
    biggest.sort_by_key(|name| std::cmp::Reverse(catalogue.of(name).len()));
    let (mut offered, mut bytes) = (Vec::new(), 0);
    let names = saved.iter().map(|(name, _)| name).chain(biggest);
    for (name, always) in used
        .into_iter()
        .map(|name| (name, true))
        .chain(names.map(|name| (name, false)))
    {
        let undated = saved.get(name).is_none() && state.tracker.is_undated(name)?;
        let text = if undated {
            Segment::Ever(name.clone())
        } else {
            Segment::event(name)
        }
        .to_string();
        let room = offered.len() < MAX_OFFERED.0 && bytes + text.len() <= MAX_OFFERED.1;
        if (always || room) && !offered.contains(&text) {
            bytes += text.len();
            offered.push(text);
        }
    }
    Ok(offered)
}

/// A segment as people know it: its events by their labels.
fn called(state: &State, segment: &Segment) -> String {
    segment.with_labels(&state.dashboard.glossary.labels)
}

fn title(state: &State, asked: &PageQuery) -> String {
    let side = |main: &Segment, filters: &[Segment]| {
        let all: Vec<String> = [main]
            .into_iter()
            .chain(filters)
            .map(|segment| called(state, segment))
            .collect();
        all.join(" and ")
    };
    let (cohort, returning) = (
        side(&asked.bare.cohort, &asked.cohort_and),
        side(&asked.bare.returning, &asked.returning_and),
    );
    asked.query().title(cohort, returning)
}

fn report(state: &State, asked: &PageQuery, table: &Table, age: Duration) -> Report {
    let address = |asked: &PageQuery| state.to(&format!("/retention?{}", asked.canonical()));
    let side = |main: &Segment, filters: &[Segment]| Side {
        text: called(state, main),
        filters: filters
            .iter()
            .map(|segment| called(state, segment))
            .collect(),
    };
    let entries = if table.people < table.entries {
        format!(
            "{} by {}",
            words::entries(table.entries),
            words::people(table.people)
        )
    } else {
        words::people(table.entries)
    };
    let range = words::range(table);
    let facts = range
        .map(|range| format!("{range}, {} cohorts", asked.bare.grain.adjective()))
        .into_iter()
        .chain([entries])
        .chain(words::data_ends(table))
        .chain([state.as_of(table.now, age)]);
    let saved = state.tracker.segments();
    let mut names: Vec<&EventName> = asked.segments().flat_map(Segment::names).collect();
    names.sort_unstable();
    names.dedup();
    let order = |order: Order| {
        (
            address(&PageQuery {
                order,
                ..asked.clone()
            }),
            asked.order == order,
        )
    };
    let scale = |scale: Scale| {
        (
            address(&PageQuery {
                scale,
                ..asked.clone()
            }),
            asked.scale == scale,
        )
    };
    let way = |label, (href, taken)| (label, href, taken);
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
        link: address(asked),
        refresh: state
            .tracker
            .cache_stats()
            .map(|_| format!("{}&{ANEW}=1", address(asked))),
        exports: Format::ALL
            .map(|format| Export {
                href: state.to(&format!("/{NAME}.{}?{query}", format.ending())),
                label: format.label(),
            })
            .into(),
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
                close: address(&PageQuery {
                    trend: None,
                    ..asked.clone()
                }),
            }),
        grain: asked.bare.grain,
        grid: Grid::new(table, asked),
        switches: [
            Switch {
                legend: "On top",
                ways: [
                    way("Newest", order(Order::Newest)),
                    way("Oldest", order(Order::Oldest)),
                ],
            },
            Switch {
                legend: "Shades",
                ways: [
                    way("0–100%", scale(Scale::Absolute)),
                    way("Fitted", scale(Scale::Fitted)),
                ],
            },
        ],
    }
}
