//! Builds responses: pages, plain text, and errors as a page, JSON or text.

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ALLOW, CONTENT_TYPE, ContentEncoding, ETAG, ETag, EntityTag, HeaderValue, IfNoneMatch,
    RETRY_AFTER, TryIntoHeaderValue, VARY, WWW_AUTHENTICATE,
};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use askama::Template;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::render::{FileName, words};
use crate::server::Layout;
use crate::server::error::{RETRY_SECONDS, WebError};
use crate::server::page_cache::{CachedPage, PageEncoding};
use crate::server::query::Problem;
use crate::server::request_id::RequestId;
use crate::server::view::{here, state_and_path, without_store};

/// The value of `Retry-After` if too many questions wait.
const RETRY_BUSY_SECONDS: &str = "10";

/// Returns the response for a page.
pub(super) fn html((status, page): (StatusCode, String)) -> HttpResponse {
    whole((status, page).into())
}

/// Returns the response for a cached page, or 304 if the client already has it.
pub(super) fn cached(request: &HttpRequest, page: CachedPage) -> HttpResponse {
    let Some(tag) = page.tag.clone() else {
        return whole(page);
    };
    let mut response = if has_tag(request, &tag) {
        HttpResponse::NotModified().finish()
    } else {
        whole(page)
    };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    let tag = ETag(tag).try_into_value();
    headers.insert(ETAG, tag.expect("tags consist of letters, digits and `-`"));
    response
}

/// Whether the client already has the page with this tag.
fn has_tag(request: &HttpRequest, tag: &EntityTag) -> bool {
    match request.get_header() {
        Some(IfNoneMatch::Items(known)) => known.iter().any(|known| known.weak_eq(tag)),
        Some(IfNoneMatch::Any) => true,
        None => false,
    }
}

fn whole(page: CachedPage) -> HttpResponse {
    let mut response = HttpResponse::build(page.status);
    response.insert_header((CONTENT_TYPE, "text/html; charset=utf-8"));
    if page.encoding == PageEncoding::Gzip {
        response.insert_header(ContentEncoding::Gzip);
    }
    response.body(page.body)
}

/// Returns a plain text response.
pub(super) fn plain(status: StatusCode, text: String) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"))
        .body(text)
}

/// Returns a `Content-Disposition` header: an ASCII file name for every client, and the full name
/// (RFC 6266) if it differs.
pub(super) fn disposition(kind: &str, name: &FileName) -> String {
    let full = if name.full == name.ascii {
        String::new()
    } else {
        format!(
            "; filename*=UTF-8''{}",
            utf8_percent_encode(&name.full, IN_HEADER)
        )
    };
    format!("{kind}; filename=\"{}\"{full}", name.ascii)
}

/// Escapes all characters that RFC 8187 does not allow unescaped (`attr-char`).
const IN_HEADER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    layout: Layout,
    status: u16,
    headline: &'a str,
    advice: &'a str,
    message: String,
    problems: &'a [Problem],
    /// The address of a form with these fields, if a form can fix the problem.
    form: Option<String>,
}

/// Returns the page whose form can fix the query of a request.
fn form_for(request: &HttpRequest) -> Option<String> {
    let (state, path) = state_and_path(request);
    let page = ["/people", "/retention"]
        .into_iter()
        .find(|page| path.starts_with(page))?;
    let base = state.as_ref().map_or("", |state| state.base.as_str());
    Some(format!("{base}{page}?{}", request.query_string()))
}

/// The format of an error response.
pub(super) enum ErrorFormat {
    Json,
    Text,
    Page,
}

impl ErrorFormat {
    /// Picks the format of the requested resource: programs cannot read pages.
    pub(super) fn to(request: &HttpRequest) -> Self {
        let path = without_store(state_and_path(request).1);
        if path.ends_with(".json") || path.starts_with("/api/") || path == "/api" {
            ErrorFormat::Json
        } else if path.ends_with(".csv") {
            ErrorFormat::Text
        } else {
            ErrorFormat::Page
        }
    }
}

/// Turns a result into a response. An error becomes JSON for JSON requests, text for CSV files, and
/// a page otherwise.
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
        let allow = match state_and_path(request).1 {
            "/people" => "GET, HEAD, POST",
            "/api/v1/marks" => "POST",
            path if path.starts_with("/api/v1/users/") => "DELETE",
            _ => "GET, HEAD",
        };
        response.insert_header((ALLOW, allow));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.insert_header((WWW_AUTHENTICATE, "Bearer"));
    }
    let format = ErrorFormat::to(request);
    if matches!(format, ErrorFormat::Text) {
        let mut text = format!("{error}\n");
        for problem in problems(&error) {
            text.push_str(&format!("{}: {}\n", problem.field, problem.message));
        }
        response.insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"));
        return response.body(text.replace('\0', "\u{fffd}"));
    }
    if matches!(format, ErrorFormat::Json) {
        let fields: Vec<_> = problems(&error)
            .iter()
            .map(|p| json!({ "field": p.field.to_string(), "message": p.message, "column": p.column }))
            .collect();
        let mut object =
            json!({ "status": status.as_u16(), "message": error.to_string(), "fields": fields });
        if let WebError::Entries(_, entries) = &error {
            object["entries"] = json!(entries);
        }
        return response.json(json!({ "error": object }));
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

/// Logs an error of the server, and returns the status of an error.
pub(super) fn log_failure(request: &HttpRequest, error: &WebError) -> StatusCode {
    let (status, ..) = error.explanation();
    // Rejected requests are counted instead: there may be thousands per second.
    let is_rejection = matches!(
        error,
        WebError::Busy(_) | WebError::Crowded(_) | WebError::Unread(_)
    );
    if status.is_server_error() && !is_rejection {
        let route = request.match_pattern().unwrap_or_default();
        tracing::error!(route, status = status.as_u16(), request_id = %RequestId::known(request), "{error}");
    }
    status
}

/// Renders the error page, and returns it with its status. Server errors are logged.
pub(super) fn page(request: &HttpRequest, error: &WebError) -> (StatusCode, String) {
    let (_, headline, advice) = error.explanation();
    let status = log_failure(request, error);
    let problems = problems(error);
    let message = match error {
        WebError::Query(_) | WebError::NotFound | WebError::Method => String::new(),
        other => words::curly(&other.to_string()),
    };
    let for_page: Vec<Problem> = problems.iter().cloned().map(Problem::for_page).collect();
    let (state, _) = state_and_path(request);
    let page = ErrorPage {
        layout: Layout::bare(state.as_deref(), &here(request)),
        status: status.as_u16(),
        headline,
        advice,
        message,
        problems: &for_page,
        form: (!problems.is_empty()).then(|| form_for(request)).flatten(),
    };
    (
        status,
        page.render().unwrap_or_else(|failure| {
            tracing::error!("the error page could not be rendered: {failure}");
            format!("<!doctype html><title>{headline}</title><p>{advice}")
        }),
    )
}
