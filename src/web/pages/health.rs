//! `/healthz` and `/readyz`, for whatever watches over the process.

use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use crate::web::block;
use crate::web::error::RETRY_SECONDS;

/// `/healthz`: the process is alive. Does not touch the store.
pub async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive", "version": env!("CARGO_PKG_VERSION") }))
}

/// `/readyz`: the store answers, and what its operator should know of it. 503 when it does not.
pub async fn ready(request: HttpRequest) -> HttpResponse {
    match block(&request, |view| Ok(view.tracker.describe()?)).await {
        Ok(info) => HttpResponse::Ok().json(json!({ "status": "ready", "store": info.kind, "notes": info.notes })),
        Err(error) => HttpResponse::ServiceUnavailable()
            .insert_header((RETRY_AFTER, RETRY_SECONDS))
            .json(json!({ "status": "unavailable", "error": error.to_string() })),
    }
}
