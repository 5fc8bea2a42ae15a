//! Which pages of other sites may send events: cross-origin resource sharing.

use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HeaderMap,
    HeaderName, HeaderValue, ORIGIN, VARY,
};
use actix_web::{HttpRequest, HttpResponse};

use super::settings::Collect;

/// How long browsers may remember an answer to a preflight, in seconds.
const REMEMBERED: &str = "7200";

/// The longest list of header names that is allowed, in bytes.
const MAX_HEADERS: usize = 1024;

/// Who sent a request.
#[derive(Debug, Clone)]
pub enum Sender {
    /// A program, or a page of this server.
    Program,
    /// A page that may send events.
    Page(HeaderValue),
    /// A page of another site.
    Stranger,
}

impl Sender {
    pub fn of(request: &HttpRequest, collect: &Collect, is_own: bool) -> Self {
        match request.headers().get(ORIGIN) {
            None => Sender::Program,
            Some(origin) if origin.to_str().is_ok_and(|origin| collect.admits(origin)) => {
                Sender::Page(origin.clone())
            }
            Some(_) if is_own => Sender::Program,
            Some(_) => Sender::Stranger,
        }
    }

    /// Adds the headers that let a page read the answer.
    pub fn allow(&self, response: &mut HttpResponse) {
        let headers = response.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("origin"));
        let Sender::Page(origin) = self else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        // Some libraries send cookies along, which nothing here reads.
        let yes = HeaderValue::from_static("true");
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        let name = HeaderName::from_static("cross-origin-resource-policy");
        headers.insert(name, HeaderValue::from_static("cross-origin"));
    }
}

/// Answers a preflight of a page that may send events.
pub fn preflight(sender: &Sender, asked: &HeaderMap) -> HttpResponse {
    let mut response = HttpResponse::NoContent().finish();
    sender.allow(&mut response);
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, OPTIONS"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED));
    if let Some(names) = asked
        .get(ACCESS_CONTROL_REQUEST_HEADERS)
        .filter(|names| names.len() <= MAX_HEADERS)
    {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}
