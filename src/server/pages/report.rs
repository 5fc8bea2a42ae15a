//! The page of a report without a page of its own: fields as a form, chart, table and files.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use crate::calendar::{Calendar, Period};
use crate::endpoints::{AnswerError, Endpoint};
use crate::render::charts::{self, Drawing, Figure};
use crate::render::{many, text, words};
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
use crate::sets::{EventName, Segment};
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

/// One row of the table.
struct Row {
    /// What the chart calls it; empty if no chart shows it.
    at: String,
    cells: Vec<Cell>,
    /// What stands instead of the cells of several periods without numbers.
    folded: Option<String>,
}

/// The answer.
struct Report {
    title: String,
    facts: Vec<String>,
    figures: Vec<Figure>,
    charts: Vec<Drawing>,
    notes: Vec<String>,
    columns: Vec<String>,
    rows: Vec<Row>,
    /// The number of rows that are not shown.
    more: usize,
    is_by_period: bool,
    files: Vec<(String, &'static str)>,
    /// The address of the chart as a picture, if there is a chart.
    picture: Option<String>,
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    layout: Layout,
    name: &'static str,
    about: &'static str,
    inputs: Vec<Input>,
    /// The choices in short, for the line that the form folds to.
    settings: Vec<String>,
    /// Events of the question that were never recorded, if there is no answer because of them.
    unknown: Vec<String>,
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
    let inputs = inputs(view, endpoint, &params, problems);
    let answer = answered.ok().flatten();
    let unknown = match &answer {
        Some(answer) if answer.export.is_empty() => unknown(view, answer.export.as_ref())?,
        _ => Vec::new(),
    };
    let page = Page {
        layout: Layout::new(view, &store, Some(&events)).counted_by(calendar),
        name: endpoint.name(),
        about: endpoint.description().about,
        settings: settings(&inputs, calendar),
        inputs,
        report: answer.filter(|_| unknown.is_empty()).map(|answer| {
            let mut facts: Vec<String> = Vec::new();
            let data_ends = answer.coverage.data_ends(crate::calendar::Grain::Day);
            facts.extend(data_ends.map(words::ends));
            let zone = answer.coverage.zone();
            facts.push(view.as_of(answer.coverage.now(), answer.age, zone));
            report(view, endpoint, answer.export.as_ref(), facts)
        }),
        unknown,
    };
    Ok((status, page.render()?))
}

/// Returns the labels of the events of a question that were never recorded.
fn unknown(view: &View, export: &dyn Exports) -> Result<Vec<String>, WebError> {
    let segments = export.segments();
    let names = segments.iter().flat_map(|segment| segment.names());
    let saved = view.tracker.segments();
    let names = names.filter(|name| saved.get(name).is_none());
    let unknown = view.tracker.never_recorded(names)?;
    let labels = &view.dashboard.glossary.labels;
    let called = |name: &EventName| Segment::event(name).with_labels(labels);
    Ok(unknown.into_iter().map(called).collect())
}

/// Summarizes the choices: `by week`, `UTC`. The segments are in the title.
fn settings(inputs: &[Input], calendar: Calendar) -> Vec<String> {
    let shown = inputs.iter().filter_map(|input| {
        let value = match input.words.iter().position(|choice| choice.is_chosen) {
            Some(0) if input.name != "by" => "",
            Some(place) => input.words[place].word,
            None => &input.value,
        };
        let is_shown = !value.is_empty() && !input.is_segment && input.name != "zone";
        let value = words::shortened(value, 32);
        is_shown.then(|| match value.parse::<u64>() {
            Ok(_) => format!("{value} {}", input.label),
            Err(_) => format!("{} {value}", input.label),
        })
    });
    shown.chain([calendar.words()]).collect()
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
    let Frame { columns, rows } = export.wide();
    let is_by_period = export.is_by_period();
    let drawn = export.chart().map(charts::columns).unwrap_or_default();
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
    let is_blank = |row: &[Value]| {
        let mut values = row.iter().skip(1);
        is_by_period && values.all(|value| matches!(value, Value::Empty | Value::Word(_)))
    };
    let mut shown: Vec<Row> = Vec::new();
    let mut begun: Option<(Period, u64)> = None;
    for (place, row) in rows.iter().enumerate() {
        let column = drawn.get(place);
        let period = column.and_then(|column| column.period);
        let span = begun.filter(|_| is_blank(row)).zip(period);
        // A period without numbers joins the one before it.
        if let (Some(((first, count), last)), Some(before)) = (span, shown.last_mut()) {
            let range = words::from_to(first, last);
            let periods = many(count + 1, first.grain().as_str());
            before.at = String::new();
            before.folded = Some(format!("{range}: not recorded, {periods}"));
            begun = Some((first, count + 1));
            continue;
        }
        begun = period.filter(|_| is_blank(row)).map(|period| (period, 1));
        shown.push(Row {
            at: column.map(|column| column.at.clone()).unwrap_or_default(),
            cells: row.iter().map(cell).collect(),
            folded: None,
        });
    }
    if is_by_period {
        // The newest first.
        shown.reverse();
    }
    let more = shown.len().saturating_sub(MAX_ROWS);
    shown.truncate(MAX_ROWS);
    let has_chart = export.chart().is_some();
    let formats = Format::ALL.into_iter();
    let formats = formats.filter(|format| !format.is_chart() || has_chart);
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
        rows: shown,
        more,
        is_by_period,
        picture: has_chart.then(|| {
            let ending = Format::Png.ending();
            view.to(&format!("/{name}.{ending}?{query}"))
        }),
        files: formats
            .map(|format| {
                let address = format!("/{name}.{}?{query}", format.ending());
                (view.to(&address), format.label())
            })
            .collect(),
    }
}
