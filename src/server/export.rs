//! The files of every report: `/NAME.csv`, `.tidy.csv`, `.json`, `.svg`, and `/api/v1/NAME`.

use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};
use url::form_urlencoded;

use crate::endpoints::{AnswerError, Endpoint};
use crate::render::{self, FileName, charts, csv, words};
use crate::reports::{Exports, Params};
use crate::server::error::{WebError, answer};
use crate::server::pages::retention;
use crate::server::query::Problem;
use crate::server::{State, View, block, disposition, writing};
use crate::store::Freshness;

/// The formats of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// What the page shows.
    Csv,
    /// A number a line.
    Tidy,
    /// One object.
    Json,
    /// The chart alone.
    Svg,
}

impl Format {
    /// All formats, in the order of their links.
    pub const ALL: [Format; 4] = [Format::Csv, Format::Tidy, Format::Json, Format::Svg];

    /// How the address and the name of a file end.
    pub const fn ending(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Tidy => "tidy.csv",
            Format::Json => "json",
            Format::Svg => "svg",
        }
    }

    /// What a link calls it.
    pub const fn label(self) -> &'static str {
        match self {
            Format::Csv => "CSV",
            Format::Tidy => "Tidy CSV",
            Format::Json => "JSON",
            Format::Svg => "SVG",
        }
    }

    /// The content type, and whether a browser saves the file or shows it.
    const fn content(self) -> (&'static str, &'static str) {
        match self {
            Format::Csv | Format::Tidy => ("text/csv; charset=utf-8; header=present", "attachment"),
            Format::Json => ("application/json", "inline"),
            Format::Svg => ("image/svg+xml", "inline"),
        }
    }
}

/// An answer in one format.
#[derive(Debug)]
pub struct File {
    /// The name that a browser saves it under.
    pub name: FileName,
    /// Its content.
    pub body: String,
}

impl File {
    /// An answer in one format; `None` if it has no chart.
    pub fn of(export: &dyn Exports, format: Format) -> Option<Self> {
        let body = match format {
            Format::Csv => csv::frame(&export.wide()),
            Format::Tidy => csv::frame(&export.tidy()),
            Format::Json => format!("{}\n", export.json()),
            Format::Svg => charts::file(export.chart()?),
        };
        let ending = match (format, export.variant()) {
            (Format::Csv, Some(variant)) => format!("{variant}.csv"),
            _ => format.ending().to_owned(),
        };
        let name = render::file_name(export).ending(&ending);
        Some(File { name, body })
    }
}

impl From<AnswerError> for WebError {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Problems { problems } => {
                WebError::Query(problems.into_iter().map(Problem::of_report).collect())
            }
            AnswerError::Unknown(message) => WebError::Unknown(message),
            AnswerError::Failed(error) => error.into(),
        }
    }
}

/// The values of a question's fields in a query string.
pub fn params(state: &State, endpoint: &dyn Endpoint, query: &str) -> Result<Params, WebError> {
    if endpoint.name() == retention::NAME {
        // It has bitmapist's names too, and a default question.
        return retention::params(state, query);
    }
    let pairs = form_urlencoded::parse(query.as_bytes());
    Ok(Params::read(endpoint.fields(), pairs))
}

/// A report as a file.
pub async fn file(
    request: HttpRequest,
    endpoint: &'static dyn Endpoint,
    format: Format,
) -> HttpResponse {
    let written = block(&request, move |view| written(view, endpoint, format)).await;
    respond(&request, format, written)
}

fn written(view: &View, endpoint: &dyn Endpoint, format: Format) -> Result<File, WebError> {
    let params = params(view, endpoint, view.query())?;
    let run = view.run(Freshness::Checked);
    let answer = endpoint.answer(&params, &view.tracker, &run)?;
    if matches!(format, Format::Csv | Format::Tidy)
        && let Some((what, periods)) = answer.export.unrecorded()
    {
        let extent = words::extent(&answer.coverage, periods);
        return Err(WebError::NoData(format!("{what} is not recorded{extent}")));
    }
    writing(answer.export.values())?;
    File::of(answer.export.as_ref(), format).ok_or(WebError::NotFound)
}

/// The response that carries a file.
pub fn respond(
    request: &HttpRequest,
    format: Format,
    file: Result<File, WebError>,
) -> HttpResponse {
    let (content_type, kind) = format.content();
    let carry = |file: File| {
        HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, content_type))
            .insert_header((CONTENT_DISPOSITION, disposition(kind, &file.name)))
            .body(file.body)
    };
    let written = file.map(carry);
    answer(
        request,
        written.map_err(|error| retention::sized(error, request)),
    )
}
