//! The page of a report without a page of its own: fields as a form, chart, table and files.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use crate::calendar::Calendar;
use crate::endpoints::{AnswerError, Endpoint};
use crate::render::charts::{self, Drawing, Figure};
use crate::render::{text, words};
use crate::reports::coverage::State;
use crate::reports::frame::{Column, Frame, Value};
use crate::reports::{Exports, Field, Kind, Params, Problem};
use crate::server::error::WebError;
use crate::server::export::params;
use crate::server::files::Format;
use crate::server::pages::links;
use crate::server::respond::{answer, html};
use crate::server::work::block;
use crate::server::{Layout, View};
use crate::store::Freshness;

/// The maximum number of rows on the page; the files have all.
const MAX_ROWS: usize = 1_000;

/// One field of the form.
struct Input {
    name: &'static str,
    /// Unique on the page.
    id: String,
    label: String,
    help: String,
    value: String,
    /// The words to choose from; empty for any text.
    words: Vec<Choice>,
    /// Whether event names are offered.
    is_segment: bool,
    is_required: bool,
    problem: Option<String>,
}

/// A word to choose.
struct Choice {
    word: &'static str,
    is_chosen: bool,
}

/// One cell of the table.
struct Cell {
    text: String,
    /// The address of the people behind it.
    people: Option<String>,
    is_number: bool,
    is_so_far: bool,
}

/// The answer.
struct Report {
    title: String,
    facts: Vec<String>,
    figures: Vec<Figure>,
    charts: Vec<Drawing>,
    notes: Vec<String>,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
    /// The number of rows that are not shown.
    more: usize,
    is_by_period: bool,
    files: Vec<(String, &'static str)>,
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    layout: Layout,
    name: &'static str,
    about: &'static str,
    inputs: Vec<Input>,
    report: Option<Report>,
}

/// `/NAME`
pub async fn page(request: HttpRequest, endpoint: &'static dyn Endpoint) -> HttpResponse {
    let page = block(&request, move |view| render(view, endpoint)).await;
    answer(&request, page.map(html))
}

fn render(view: &View, endpoint: &dyn Endpoint) -> Result<(StatusCode, String), WebError> {
    let store = view.tracker.describe()?;
    let events = view.events()?;
    let params = params(view, endpoint, view.query())?;
    let is_asked = view.query().contains('=');
    let answered = match is_asked {
        false => Ok(None),
        true => {
            let run = view.run(Freshness::Cached);
            match endpoint.answer(&params, &view.tracker, &run) {
                Ok(answer) => Ok(Some(answer)),
                Err(AnswerError::Problems { problems }) => Err(problems),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let (status, problems) = match &answered {
        Ok(_) => (StatusCode::OK, &[][..]),
        Err(problems) => (StatusCode::BAD_REQUEST, problems.as_slice()),
    };
    let calendar = match &answered {
        Ok(Some(answer)) => answer.export.calendar(),
        _ => Calendar::default(),
    };
    let page = Page {
        layout: Layout::new(view, &store, Some(&events)).counted_by(calendar),
        name: endpoint.name(),
        about: endpoint.description().about,
        inputs: inputs(view, endpoint, &params, problems),
        report: answered.ok().flatten().map(|answer| {
            let mut facts: Vec<String> = Vec::new();
            let data_ends = answer.coverage.data_ends(crate::calendar::Grain::Day);
            facts.extend(data_ends.map(words::ends));
            let zone = answer.coverage.zone();
            facts.push(view.as_of(answer.coverage.now(), answer.age, zone));
            report(view, endpoint, answer.export.as_ref(), facts)
        }),
    };
    Ok((status, page.render()?))
}

fn inputs(
    view: &View,
    endpoint: &dyn Endpoint,
    params: &Params,
    problems: &[Problem],
) -> Vec<Input> {
    let fields = endpoint.fields().iter();
    let all = fields.flat_map(|field| {
        let given = params.all(field.name);
        let count = if field.arity.is_list() {
            // Room for one more.
            given.len() + 1
        } else {
            1
        };
        (0..count).map(move |place| input(view, field, params, problems, place))
    });
    all.collect()
}

/// Returns the input for one of the values of a field.
fn input(view: &View, field: &Field, params: &Params, problems: &[Problem], place: usize) -> Input {
    let is_list = field.arity.is_list();
    let concerns = |problem: &&Problem| {
        problem.field == field.name && (!is_list || problem.index.unwrap_or(0) == place)
    };
    let problem = problems.iter().find(concerns);
    let value = match is_list {
        true => params.all(field.name).get(place).map_or("", String::as_str),
        false => params.text(field.name),
    };
    let choice = |(place, word): (usize, &&'static str)| Choice {
        word,
        // The first word is the default.
        is_chosen: match field.kind.words().contains(&value) {
            true => value == *word,
            false => place == 0,
        },
    };
    let again = if place > 0 {
        format!("_{}", place + 1)
    } else {
        String::new()
    };
    Input {
        name: field.name,
        id: format!("{}{again}", field.name),
        label: match place {
            0 => field.name.replace('_', " "),
            _ => format!("and {}", field.name.replace('_', " ")),
        },
        help: match place {
            0 => words::curly(field.help),
            _ => String::new(),
        },
        value: match (field.kind, problem) {
            (Kind::Segment | Kind::Set, None) => view.typed(value),
            _ => value.to_owned(),
        },
        words: match field.kind {
            Kind::Word(words) => words.iter().enumerate().map(choice).collect(),
            _ => Vec::new(),
        },
        is_segment: field.kind == Kind::Segment,
        is_required: field.arity.is_required() && place == 0,
        problem: problem.map(|problem| words::curly(&problem.message)),
    }
}

fn report(
    view: &View,
    endpoint: &dyn Endpoint,
    export: &dyn Exports,
    facts: Vec<String>,
) -> Report {
    let Frame { columns, mut rows } = export.wide();
    let is_by_period = export.is_by_period();
    if is_by_period {
        // The newest first.
        rows.reverse();
    }
    let more = rows.len().saturating_sub(MAX_ROWS);
    rows.truncate(MAX_ROWS);
    let zone = export.calendar().zone;
    let cell = |value: &Value| Cell {
        people: match value {
            Value::People(people) if people.count > 0 => {
                let set = people.set.as_deref();
                set.map(|set| links::people(view, set, zone))
            }
            _ => None,
        },
        is_so_far: matches!(value, Value::People(people) if people.state == State::InProgress),
        // Our own words, such as `in_progress`, are for programs.
        text: text::cell(value).replace(
            '_',
            match value {
                Value::Word(_) => " ",
                _ => "_",
            },
        ),
        is_number: !matches!(value, Value::Text(_) | Value::Word(_)),
    };
    let rows = rows.iter();
    let has_chart = export.chart().is_some();
    let formats = Format::ALL.into_iter();
    let formats = formats.filter(|format| *format != Format::Svg || has_chart);
    let query = view.query();
    let name = endpoint.name();
    Report {
        title: export.title(),
        facts,
        figures: export.chart().map(charts::figures).unwrap_or_default(),
        charts: export.chart().map(charts::drawings).unwrap_or_default(),
        notes: export.chart().map(charts::notes).unwrap_or_default(),
        columns: columns
            .iter()
            .map(|column| match column {
                Column::Word(word) => word.replace('_', " "),
                Column::Text(text) => text.clone(),
            })
            .collect(),
        rows: rows.map(|row| row.iter().map(cell).collect()).collect(),
        more,
        is_by_period,
        files: formats
            .map(|format| {
                let address = format!("/{name}.{}?{query}", format.ending());
                (view.to(&address), format.label())
            })
            .collect(),
    }
}
