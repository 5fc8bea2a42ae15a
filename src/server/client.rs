//! Finds out which client sent a request, and whether the request is for this dashboard.

use std::net::IpAddr;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::HOST;
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use crate::server::Live;
use crate::server::host::Refusal;
use crate::server::respond::{ErrorFormat, plain};

/// Rejects requests for other hosts. `/healthz` is exempt: it reveals nothing, and orchestrators
/// may use any host name to check it.
pub(super) async fn admitted(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let refusal = match request.app_data::<Live>() {
        Some(live) if request.path() != "/healthz" => {
            let mut headers = request.headers().get_all(HOST);
            // A header that is not text is not a valid host.
            let header = headers
                .next()
                .map(|value| value.to_str().unwrap_or_default());
            let target = request
                .uri()
                .authority()
                .map(|authority| authority.as_str());
            let admitted = live.dashboard().hosts.admit(header, target);
            if headers.next().is_some() {
                Some(Refusal::Malformed)
            } else {
                admitted.err()
            }
        }
        _ => None,
    };
    match refusal {
        None => Ok(next.call(request).await?.map_into_left_body()),
        Some(refusal) => {
            let response = rejection(&refusal, request.request());
            Ok(request.into_response(response).map_into_right_body())
        }
    }
}

/// Returns the response to a rejected request. It reveals nothing about the dashboard: no title, no
/// store names.
fn rejection(refusal: &Refusal, request: &HttpRequest) -> HttpResponse {
    let (status, message) = match refusal {
            Refusal::Malformed => (
                StatusCode::BAD_REQUEST,
                "the request does not name one valid host: send one `Host` header, such as `Host: localhost:8080`"
                    .to_owned(),
            ),
            Refusal::Unknown(name) => (
                StatusCode::MISDIRECTED_REQUEST,
                format!(
                    "this dashboard does not answer to the name {name}. If it is its own, start `cohortist serve` with --host \
                     {name} (COHORTIST_HOST), or write hosts = [\"{name}\"] under [server] in cohortist.toml"
                ),
            ),
        };
    match ErrorFormat::to(request) {
        ErrorFormat::Json => {
            let error = json!({ "status": status.as_u16(), "message": message, "fields": [] });
            HttpResponse::build(status).json(json!({ "error": error }))
        }
        ErrorFormat::Text | ErrorFormat::Page => plain(status, format!("{message}\n")),
    }
}

/// Returns the address of the client: the connection's peer, or the address that a trusted proxy
/// names in `X-Forwarded-For`. Use it wherever a client's address is logged or counted. `None`
/// without a connection, as in tests.
pub(super) fn client_address(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    let Some(live) = request.app_data::<Live>() else {
        return Some(peer);
    };
    let forwarded: Vec<&str> = request
        .headers()
        .get_all("x-forwarded-for")
        // A value that is not text is not an address, so the trusted part of the list ends there.
        .map(|value| value.to_str().unwrap_or_default())
        .collect();
    Some(live.dashboard().proxies.client(peer, forwarded.into_iter()))
}

/// Whether the connection's peer is a trusted proxy.
fn through_trusted_proxy(request: &HttpRequest) -> bool {
    let Some((live, peer)) = request.app_data::<Live>().zip(request.peer_addr()) else {
        return false;
    };
    live.dashboard().proxies.trusts(peer.ip())
}

/// Whether a form was sent by one of our own pages. Browsers send the origin of a form. A request
/// without one comes from another program and is accepted.
pub(super) fn is_own_page(request: &HttpRequest) -> bool {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    if let Some(site) = header("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    let Some(origin) = header("origin") else {
        return true;
    };
    let host = origin.split_once("://").map(|(_, host)| host);
    let forwarded = header("x-forwarded-host").filter(|_| through_trusted_proxy(request));
    host.is_some() && (host == header("host") || host == forwarded)
}
