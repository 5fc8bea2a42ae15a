//! Serves the files of every report: `/NAME.csv`, `.tidy.csv`, `.json`, `.svg`, `.png`, and `/api/v1/NAME`.

use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};
use url::form_urlencoded;

use crate::endpoints::Endpoint;
use crate::render::words;
use crate::reports::Params;
use crate::server::error::WebError;
use crate::server::files::{File, Format};
use crate::server::pages::retention;
use crate::server::respond::{answer, disposition};
use crate::server::work::{block, writing};
use crate::server::{State, View};
use crate::store::Freshness;

/// Reads the values of a question's fields from a query string.
pub fn params(state: &State, endpoint: &dyn Endpoint, query: &str) -> Result<Params, WebError> {
    if endpoint.name() == retention::NAME {
        // Retention also accepts bitmapist's names, and has a default question.
        return retention::params(state, query);
    }
    let pairs = form_urlencoded::parse(query.as_bytes());
    let mut params = Params::read(endpoint.fields(), pairs);
    state.resolve(&mut params, endpoint.fields());
    params.default_calendar(endpoint.fields(), state.usual_calendar());
    Ok(params)
}

/// Serves a report as a file.
pub async fn file(
    request: HttpRequest,
    endpoint: &'static dyn Endpoint,
    format: Format,
) -> HttpResponse {
    let rendered = block(&request, move |view| render(view, endpoint, format)).await;
    respond(&request, format, rendered)
}

fn render(view: &View, endpoint: &dyn Endpoint, format: Format) -> Result<File, WebError> {
    if view.here.starts_with("/api/") {
        view.known_parameters_only()?;
    }
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

/// Returns the response for a file.
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
    let rendered = file.map(carry);
    answer(
        request,
        rendered.map_err(|error| retention::sized(error, request)),
    )
}
