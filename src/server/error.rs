//! Errors as pages: one exhaustive match from what went wrong to its status, told in the page's own
//! dress or as JSON.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde_json::json;

use crate::render::words;
use crate::server::Busy;
use crate::server::log::RequestId;
use crate::server::pages::Layout;
use crate::server::query::{Field, Problem};
use crate::server::{here, place, without_store};
use crate::store::StoreError;

/// After how many seconds a client may try again when the store is away.
pub const RETRY_SECONDS: &str = "2";

/// The same when too many questions wait.
const RETRY_BUSY_SECONDS: &str = "10";

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The query string has fields that cannot be understood.
    #[error("the question cannot be answered as it is written")]
    Query(Vec<Problem>),
    /// A part of the address that no form has written cannot be understood; what is wrong with it.
    #[error("{0}")]
    Address(String),
    /// There is no such page.
    #[error("there is no such page")]
    NotFound,
    /// Nothing is known about what was named.
    #[error("{0}")]
    Unknown(String),
    /// The store has no data of what was asked for.
    #[error("{0}")]
    NoData(String),
    /// The page exists, the method does not.
    #[error("this method does nothing at this address")]
    Method,
    /// Another site's page wanted something changed.
    #[error("{0}")]
    Forbidden(String),
    /// A request to change something came without the token that allows it.
    #[error("{0}")]
    Unauthorised(&'static str),
    /// Some entries of a batch are wrong: how many, and the first of them.
    #[error("{} wrong, so nothing was recorded", if *.0 == 1 { "1 entry is".to_owned() } else { format!("{} entries are", .0) })]
    Entries(usize, Vec<BadEntry>),
    /// A body longer than so many bytes.
    #[error("the body is longer than {} MiB: send it in pieces", .0 >> 20)]
    TooLarge(usize),
    /// The body stopped arriving for so long.
    #[error("nothing more of the request's body arrived for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// Too many questions of its kind wait already.
    #[error("{0}")]
    Busy(Busy),
    /// There is no memory left for a body: what all clients send together has its share, of so many
    /// bytes.
    #[error("requests take {} MiB already, all they may: send it again later, or start `cohortist serve` with a larger --memory-mb", .0 >> 20)]
    Crowded(u64),
    /// There is no memory left for an answer. All answers that clients have not read yet share so
    /// many bytes.
    #[error("answers that clients have not read yet take all of their {} MiB: ask again in a few seconds, or start `cohortist serve` with a larger --memory-mb", .0 >> 20)]
    Unread(u64),
    /// A body in a form that is not understood.
    #[error("{0}")]
    Unsupported(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A template failed, which no input should bring about.
    #[error("the page could not be written: {0}")]
    Render(#[from] askama::Error),
    /// The work for this request ended without a result: it panicked, or the server is stopping.
    #[error("the work on this request was broken off")]
    BrokenOff,
    /// The server stops, and has waited for this request as long as it does.
    #[error(
        "the server is stopping and did not wait for this request any longer: ask again in a moment"
    )]
    Stopping,
}

/// What is wrong with one entry of a batch.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BadEntry {
    /// Its place, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub message: String,
}

impl From<crate::Error> for WebError {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Store(error) => WebError::Store(error),
            crate::Error::Query(error) => WebError::Query(vec![Problem::of_query(&error)]),
            crate::Error::Ids(error) => {
                WebError::Query(vec![Problem::new(Field::User, error.to_string())])
            }
            crate::Error::NewestIsOver { .. } => WebError::Forbidden(error.to_string()),
            crate::Error::Calendar(error) => {
                WebError::Query(vec![Problem::of_query(&error.into())])
            }
        }
    }
}

impl WebError {
    /// The status it is answered with, a headline, and what the reader can do.
    fn told(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            WebError::Query(_) => (
                StatusCode::BAD_REQUEST,
                "That question does not work yet",
                "Mend what is named below and ask again.",
            ),
            WebError::Address(_) => (
                StatusCode::BAD_REQUEST,
                "That address does not work",
                "Mend what is named below, or follow a link instead.",
            ),
            WebError::NotFound => (
                StatusCode::NOT_FOUND,
                "There is no page here",
                "The address may be mistyped, or from another version.",
            ),
            WebError::Unknown(_) => (
                StatusCode::NOT_FOUND,
                "Nothing is known about that",
                "Check the spelling.",
            ),
            WebError::NoData(_) => (
                StatusCode::NOT_FOUND,
                "There is no data of that",
                "The file would be empty, and say that nobody did it.",
            ),
            WebError::Forbidden(_) => (
                StatusCode::FORBIDDEN,
                "That is not allowed here",
                "Nothing was changed. What is in the way is named below.",
            ),
            WebError::Unauthorised(_) => (
                StatusCode::UNAUTHORIZED,
                "Who is asking?",
                "Nothing was changed.",
            ),
            WebError::Entries(..) => (
                StatusCode::BAD_REQUEST,
                "Some entries are wrong",
                "Nothing was recorded.",
            ),
            WebError::TooLarge(_) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "That is too much at once",
                "Send it in pieces.",
            ),
            WebError::Stalled(_) => (
                StatusCode::REQUEST_TIMEOUT,
                "The request did not arrive",
                "Nothing was changed. Send it again without a pause.",
            ),
            WebError::Stopping => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The server is stopping",
                "Load this page again in a moment, when it is back.",
            ),
            WebError::Busy(_) | WebError::Store(StoreError::Costly(_)) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many large questions at once",
                "Nothing is wrong with this one: it was not started.",
            ),
            WebError::Crowded(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too much is being sent at once",
                "Nothing was recorded.",
            ),
            WebError::Unread(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many large answers at once",
                "Nothing is wrong with this one. Load it again in a moment.",
            ),
            WebError::Unsupported(_) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "That form is not understood",
                "Nothing was recorded.",
            ),
            WebError::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "This address can only be read",
                "Open it with GET.",
            ),
            WebError::Store(StoreError::TooLarge(_)) => (
                StatusCode::BAD_REQUEST,
                "That question is too large",
                "It was not started. Shorten it as described below.",
            ),
            WebError::Store(StoreError::Unreachable { .. }) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The store does not answer",
                "The numbers are there; cohortist cannot reach them just now. It tries anew with every request, so \
                 load this page again once the store is back: nothing needs a restart.",
            ),
            WebError::Store(StoreError::Refused { .. } | StoreError::NotABitmap { .. }) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The store refuses",
                "It answers, but not this question. Its own words are below.",
            ),
            WebError::Store(StoreError::Locked(_)) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The store is in use",
                "Another process has it open. End that one, or wait for it.",
            ),
            WebError::Store(StoreError::Write { .. }) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The store cannot be written",
                "Nothing was changed. Everything can still be read.",
            ),
            WebError::Store(
                StoreError::Open { .. }
                | StoreError::Unsynced { .. }
                | StoreError::Damaged { .. }
                | StoreError::Backup { .. }
                | StoreError::NotAStore { .. }
                | StoreError::Missing(_)
                | StoreError::WrongCount(_)
                | StoreError::FeatureDisabled { .. }
                | StoreError::Url(_),
            ) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "The store cannot be read",
                "What it said is below, and in the server's log.",
            ),
            WebError::Store(StoreError::Unsupported(_)) => (
                StatusCode::NOT_IMPLEMENTED,
                "This store cannot answer that",
                "What it does not support is named below.",
            ),
            WebError::Store(StoreError::Cancelled) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The request was cancelled",
                "The client closed the connection, or the server is stopping. Send it again.",
            ),
            WebError::Render(_) | WebError::BrokenOff => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something broke",
                "This is a fault of cohortist. The server's log says more.",
            ),
        }
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    layout: Layout,
    status: u16,
    headline: &'a str,
    advice: &'a str,
    said: String,
    problems: &'a [Problem],
    /// Where the form with these fields is, when a form can mend it.
    form: Option<String>,
}

/// The page whose form can mend the query of a request.
fn form_for(request: &HttpRequest) -> Option<String> {
    let (state, path) = place(request);
    let page = ["/people", "/retention"]
        .into_iter()
        .find(|page| path.starts_with(page))?;
    let base = state.as_ref().map_or("", |state| state.base.as_str());
    Some(format!("{base}{page}?{}", request.query_string()))
}

/// What an error is told as.
pub(super) enum ErrorFormat {
    Json,
    Text,
    Page,
}

impl ErrorFormat {
    /// As whoever asked for it can read it: a program does not read pages.
    pub(super) fn to(request: &HttpRequest) -> Self {
        let path = without_store(place(request).1);
        if path.ends_with(".json") || path.starts_with("/api/") || path == "/api" {
            ErrorFormat::Json
        } else if path.ends_with(".csv") {
            ErrorFormat::Text
        } else {
            ErrorFormat::Page
        }
    }
}

/// The response of a result; an error becomes JSON where JSON is asked for, text where a CSV file
/// is, and a page elsewhere.
pub fn answer(request: &HttpRequest, result: Result<HttpResponse, WebError>) -> HttpResponse {
    let error = match result {
        Ok(response) => return response,
        Err(error) => error,
    };
    let (status, html) = page(request, &error);
    let mut response = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = if matches!(error, WebError::Busy(_)) {
            RETRY_BUSY_SECONDS
        } else {
            RETRY_SECONDS
        };
        response.insert_header((RETRY_AFTER, seconds));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allow = match place(request).1 {
            "/people" => "GET, HEAD, POST",
            "/api/v1/marks" => "POST",
            _ => "GET, HEAD",
        };
        response.insert_header((ALLOW, allow));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.insert_header((WWW_AUTHENTICATE, "Bearer"));
    }
    let told = ErrorFormat::to(request);
    if matches!(told, ErrorFormat::Text) {
        let mut text = format!("{error}\n");
        for problem in problems(&error) {
            text.push_str(&format!("{}: {}\n", problem.field, problem.message));
        }
        response.insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"));
        return response.body(text.replace('\0', "\u{fffd}"));
    }
    if matches!(told, ErrorFormat::Json) {
        let fields: Vec<_> = problems(&error)
            .iter()
            .map(|p| json!({ "field": p.field.to_string(), "message": p.message, "column": p.column }))
            .collect();
        let mut told =
            json!({ "status": status.as_u16(), "message": error.to_string(), "fields": fields });
        if let WebError::Entries(_, entries) = &error {
            told["entries"] = json!(entries);
        }
        return response.json(json!({ "error": told }));
    }
    let html = html.replace('\0', "\u{fffd}");
    response
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .body(html)
}

fn problems(error: &WebError) -> &[Problem] {
    match error {
        WebError::Query(problems) => problems,
        _ => &[],
    }
}

/// The page that tells an error, and its status. What is the server's to mend is logged.
pub(super) fn page(request: &HttpRequest, error: &WebError) -> (StatusCode, String) {
    let (status, headline, advice) = error.told();
    // Refusals are counted; there may be thousands a second.
    let is_refusal = matches!(
        error,
        WebError::Busy(_) | WebError::Crowded(_) | WebError::Unread(_)
    );
    if status.is_server_error() && !is_refusal {
        let route = request.match_pattern().unwrap_or_default();
        tracing::error!(route, status = status.as_u16(), request_id = %RequestId::known(request), "{error}");
    }
    let problems = problems(error);
    let said = match error {
        WebError::Query(_) | WebError::NotFound | WebError::Method => String::new(),
        other => words::curly(&other.to_string()),
    };
    let shown: Vec<Problem> = problems.iter().cloned().map(Problem::for_page).collect();
    let (state, _) = place(request);
    let page = ErrorPage {
        layout: Layout::bare(state.as_deref(), &here(request)),
        status: status.as_u16(),
        headline,
        advice,
        said,
        problems: &shown,
        form: (!problems.is_empty()).then(|| form_for(request)).flatten(),
    };
    (
        status,
        page.render()
            .unwrap_or_else(|_| format!("<!doctype html><title>{headline}</title><p>{advice}")),
    )
}
