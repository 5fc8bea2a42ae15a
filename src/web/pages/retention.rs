//! `/retention`: form, figures, curve and table; and the same question as a file.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use chrono::NaiveDate;

use crate::calendar::Grain;
use crate::render::{self, Show, chart, words};
use crate::reports::retention::{Measure, Table};
use crate::sets::{EventName, Segment};
use crate::store::StoreInfo;
use crate::web::error::{WebError, answer};
use crate::web::pages::form::Form;
use crate::web::pages::grid::{Grid, Tile, tiles};
use crate::web::pages::{Shell, home};
use crate::web::query::{Asked, Problem, Typed};
use crate::web::{State, block};

/// The ways a table leaves the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dress {
    /// What the page shows.
    Csv,
    /// A line per cell.
    Tidy,
    /// One object.
    Json,
    /// The curve alone.
    Svg,
}

impl Dress {
    /// All of them, in the order of their links.
    pub const ALL: [Dress; 4] = [Dress::Csv, Dress::Tidy, Dress::Json, Dress::Svg];

    /// Its address.
    pub const fn path(self) -> &'static str {
        match self {
            Dress::Csv => "/retention.csv",
            Dress::Tidy => "/retention.tidy.csv",
            Dress::Json => "/retention.json",
            Dress::Svg => "/retention.svg",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Dress::Csv => "CSV",
            Dress::Tidy => "Tidy CSV",
            Dress::Json => "JSON",
            Dress::Svg => "SVG",
        }
    }

    /// Content type, and whether a browser should save rather than show it.
    const fn content(self) -> (&'static str, &'static str) {
        match self {
            Dress::Csv | Dress::Tidy => ("text/csv; charset=utf-8; header=present", "attachment"),
            Dress::Json => ("application/json", "inline"),
            Dress::Svg => ("image/svg+xml", "inline"),
        }
    }

    fn file_name(self, table: &Table) -> String {
        let ending = match self {
            Dress::Csv => "csv",
            Dress::Tidy => "tidy.csv",
            Dress::Json => "json",
            Dress::Svg => "svg",
        };
        format!("{}.{ending}", render::file_stem(table))
    }

    fn body(self, table: &Table, show: Show) -> String {
        match self {
            Dress::Csv => render::csv::wide(table, show),
            Dress::Tidy => render::csv::tidy(table),
            Dress::Json => format!("{:#}\n", render::json::table(table)),
            Dress::Svg => chart::svg(table),
        }
    }
}

/// A link to a file with the same question.
struct Export {
    href: String,
    label: &'static str,
}

/// Something to know before reading the table.
struct Notice {
    text: String,
    /// Words and address of questions that may have been meant.
    instead: Vec<(String, String)>,
}

/// The answer to a question.
struct Report {
    cohort: String,
    cohort_and: Vec<String>,
    returning: String,
    returning_and: Vec<String>,
    facts: Vec<String>,
    /// The canonical address of this page.
    link: String,
    exports: Vec<Export>,
    tiles: Vec<Tile>,
    curve: String,
    curve_caption: String,
    sizes: String,
    grain: Grain,
    grid: Grid,
}

#[derive(Template)]
#[template(path = "retention.html")]
struct Page {
    shell: Shell,
    title: String,
    form: Form,
    notices: Vec<Notice>,
    report: Option<Report>,
}

#[derive(Template)]
#[template(path = "welcome.html")]
pub(super) struct Welcome {
    shell: Shell,
    store: StoreInfo,
    /// The page it stands for: `retention`, `events`.
    here: &'static str,
    /// How commands name this store: ` --store PATH`; nothing where none can reach it.
    option: String,
}

impl Welcome {
    /// For an empty store, in place of the page `here`.
    pub(super) fn new(shell: Shell, store: StoreInfo, here: &'static str) -> Self {
        let reachable = store.location != "memory:";
        let option = if reachable { format!(" --store {}", store.location) } else { String::new() };
        Welcome { shell, store, here, option }
    }
}

/// `/retention`
pub async fn page(request: HttpRequest, state: Data<State>) -> HttpResponse {
    let typed = Typed::read(request.query_string());
    if typed.export_csv {
        let asked = block(&state, move |state| asked(&typed, || Ok(state.tracker.events("")?))).await;
        let to_file = |asked: Asked| {
            let to = format!("{}?{}", Dress::Csv.path(), asked.canonical());
            HttpResponse::Found().insert_header((LOCATION, to)).finish()
        };
        return answer(&request, asked.map(to_file));
    }
    let written = block(&state, move |state| written(state, typed)).await;
    let html = |(status, html): (StatusCode, String)| {
        HttpResponse::build(status).insert_header((CONTENT_TYPE, "text/html; charset=utf-8")).body(html)
    };
    answer(&request, written.map(html))
}

/// `/retention.csv` and its siblings.
pub async fn file(request: HttpRequest, state: Data<State>, dress: Dress) -> HttpResponse {
    let typed = Typed::read(request.query_string());
    let written = block(&state, move |state| {
        let asked = asked(&typed, || Ok(state.tracker.events("")?))?;
        let table = state.tracker.retention(&asked.query(), state.clock.now())?;
        Ok((dress.file_name(&table), dress.body(&table, asked.show)))
    });
    let (content_type, disposition) = dress.content();
    let respond = |(name, body): (String, String)| {
        HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, content_type))
            .insert_header((CONTENT_DISPOSITION, format!("{disposition}; filename=\"{name}\"")))
            .body(body)
    };
    answer(&request, written.await.map(respond))
}

/// The question that was typed, or the default one when no event was named.
fn asked(typed: &Typed, events: impl FnOnce() -> Result<Vec<EventName>, WebError>) -> Result<Asked, WebError> {
    let mut typed = typed.clone();
    if typed.asks_nothing()
        && let Some(default) = home::default_question(&events()?)
    {
        typed.cohort = default.cohort.to_string();
        typed.returning = default.returning.to_string();
    }
    typed.check().map_err(WebError::Query)
}

fn written(state: &State, mut typed: Typed) -> Result<(StatusCode, String), WebError> {
    let (events, store) = (state.tracker.events("")?, state.tracker.describe()?);
    let shell = Shell::new(&store, &events);
    if typed.asks_nothing() {
        match home::default_question(&events) {
            Some(default) => {
                typed.cohort = default.cohort.to_string();
                typed.returning = default.returning.to_string();
            }
            None => return Ok((StatusCode::OK, Welcome::new(shell, store, "retention").render()?)),
        }
    }
    let answered = typed.check().and_then(|asked| {
        let question = asked.query().at(state.clock.now()).map_err(|e| vec![Problem::of_query(&e)])?;
        Ok((asked, question))
    });
    let (asked, question) = match answered {
        Ok(answered) => answered,
        Err(problems) => {
            let form = Form::new(&typed, None, &problems, &events);
            let title = "Retention".to_owned();
            let page = Page { shell, title, form, notices: Vec::new(), report: None };
            return Ok((StatusCode::BAD_REQUEST, page.render()?));
        }
    };
    let counts = state.tracker.store().count(question.plan())?;
    let table = question.table(&counts);
    let page = Page {
        shell,
        title: render::title(&table),
        form: Form::new(&typed, Some(&asked), &[], &events),
        notices: notices(state, &asked, &table, &events)?,
        report: Some(report(&asked, &table)),
    };
    Ok((StatusCode::OK, page.render()?))
}

fn report(asked: &Asked, table: &Table) -> Report {
    let canonical = asked.canonical();
    let texts = |list: &[Segment]| list.iter().map(ToString::to_string).collect();
    let entries = if table.people < table.entries {
        format!("{} by {}", words::entries(table.entries), words::people(table.people))
    } else {
        words::people(table.entries)
    };
    let range = words::range(table);
    let facts = range
        .map(|range| format!("{range}, {} cohorts", asked.grain.adjective()))
        .into_iter()
        .chain([entries, format!("as of {} UTC", table.now.format("%a %-d %b %Y, %H:%M"))]);
    Report {
        cohort: asked.cohort.to_string(),
        cohort_and: texts(&asked.cohort_and),
        returning: asked.returning.to_string(),
        returning_and: texts(&asked.returning_and),
        facts: facts.collect(),
        link: format!("/retention?{canonical}"),
        exports: Dress::ALL
            .map(|dress| Export { href: format!("{}?{canonical}", dress.path()), label: dress.label() })
            .into(),
        tiles: tiles(table),
        curve: chart::curve(table),
        curve_caption: chart::curve_caption(table),
        sizes: chart::sizes(table),
        grain: asked.grain,
        grid: Grid::new(table, asked.show, &asked.short()),
    }
}

fn notices(state: &State, asked: &Asked, table: &Table, events: &[EventName]) -> Result<Vec<Notice>, WebError> {
    let mut notices = Vec::new();
    let mut names: Vec<&EventName> = Vec::new();
    let mut dated: Vec<&EventName> = Vec::new();
    for segment in asked.segments() {
        segment.visit(&mut |name, ever| {
            names.push(name);
            if !ever && !dated.contains(&name) {
                dated.push(name);
            }
        });
    }
    let retained: u64 = table.rows.iter().flat_map(|row| row.cells.iter().flatten()).map(|cell| cell.retained).sum();
    let link = |asked: &Asked| format!("/retention?{}", asked.canonical());
    // Whoever was counted was recorded, whatever a list of names that is a second old may say.
    let mut counted: Vec<&EventName> = Vec::new();
    for (segment, users) in [(&table.query.cohort, table.entries), (&table.query.returning, retained)] {
        if let (Segment::Event(name), true) = (segment, users > 0) {
            counted.push(name);
        }
    }
    for name in state.tracker.never_recorded(names.into_iter().filter(|name| !counted.contains(name)))? {
        let instead = name.similar(events).into_iter();
        notices.push(Notice {
            text: format!("Nothing was ever recorded for “{name}”."),
            instead: instead.map(|n| (n.to_string(), link(&asked.renamed(name, n)))).collect(),
        });
    }
    if !notices.is_empty() {
        return Ok(notices);
    }
    if retained == 0 {
        // `plan:pro` for `plan:pro@ever` is easily written, and gives a table full of zeros.
        for name in dated {
            if state.tracker.is_undated(name)? {
                notices.push(Notice {
                    text: format!("“{name}” is only recorded without dates."),
                    instead: vec![(Segment::Ever(name.clone()).to_string(), link(&asked.ever(name)))],
                });
            }
        }
    }
    let one = |text: String| Notice { text, instead: Vec::new() };
    if table.query.measure == Measure::OnOrAfter && asked.from.is_none() && asked.to.is_none() && !table.is_empty() {
        let (rows, cols, grain) = (table.rows.len(), table.query.cols(), table.query.grain);
        notices.push(one(format!(
            "Shown are the last {rows} cohorts whose {cols} {grain}s are over; for younger ones ask for fewer periods, or set “from”."
        )));
    }
    if table.rows.is_empty() {
        notices.push(one("These dates hold no cohort.".to_owned()));
    } else if table.is_empty() && notices.is_empty() {
        let hint = match (table.query.grain, table.query.measure) {
            (Grain::Hour, _) => " Hours are only kept for marks made with --hourly.",
            (_, Measure::OnOrAfter) if asked.from.is_none() && asked.to.is_none() => {
                " “On or after” takes cohorts whose whole window is over: ask for fewer periods, or set “from” to see \
                 younger ones."
            }
            _ => "",
        };
        let range = words::range(table).unwrap_or_default();
        let last = match &table.query.cohort {
            Segment::Event(name) => state.tracker.last_recorded(name)?,
            _ => None,
        };
        let before = |date: &NaiveDate| table.rows.first().is_some_and(|row| *date < row.period.start().date_naive());
        notices.push(match last.filter(before) {
            Some(date) => Notice {
                text: format!("Nobody did “{}” in {range}; it was last recorded on {date}.", table.query.cohort),
                instead: vec![(
                    format!("the cohorts up to {date}"),
                    link(&Asked { from: None, to: Some(date), ..asked.clone() }),
                )],
            },
            None => one(format!("Nobody did “{}” in {range}.{hint}", table.query.cohort)),
        });
    }
    Ok(notices)
}
