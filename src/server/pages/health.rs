//! `/healthz` and `/readyz`, for whatever watches over the process.

use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use crate::server::State;
use crate::server::error::RETRY_SECONDS;
use crate::server::work::block;
use crate::store::StoreInfo;

/// `/healthz`: the process is alive. Does not touch the store.
pub async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive", "version": env!("CARGO_PKG_VERSION") }))
}

/// `/readyz`: the store answers, takes what this server is there to write, and what its operator
/// should know of it. 503 when it does not.
pub async fn ready(request: HttpRequest) -> HttpResponse {
    let checked = block(&request, |view| {
        let info = view.tracker.describe()?;
        let ready = info.refusal.is_none() || !must_write(view);
        Ok((info, ready))
    });
    let (info, ready) = match checked.await {
        Ok(checked) => checked,
        Err(error) => return unavailable(&error.to_string(), &[]),
    };
    let StoreInfo {
        kind,
        mut notes,
        refusal,
        ..
    } = info;
    match refusal {
        Some(reason) if !ready => {
            unavailable(&format!("the store cannot be written: {reason}"), &notes)
        }
        refusal => {
            notes.extend(refusal.map(|reason| {
                format!("the store cannot be written, and this server stays ready as it only reads it: {reason}")
            }));
            HttpResponse::Ok().json(json!({ "status": "ready", "store": kind, "notes": notes }))
        }
    }
}

/// Whether a server is of no use when its store cannot be written: it takes marks, or its store is
/// its own, where a failure to write is always a fault. A dashboard on a Redis replica that may
/// save a segment now and then is as useful without.
fn must_write(state: &State) -> bool {
    let takes_marks = state.dashboard.write_token.is_some();
    !state.read_only && (takes_marks || state.tracker.is_local())
}

fn unavailable(error: &str, notes: &[String]) -> HttpResponse {
    HttpResponse::ServiceUnavailable()
        .insert_header((RETRY_AFTER, RETRY_SECONDS))
        .json(json!({ "status": "unavailable", "error": error, "notes": notes }))
}
