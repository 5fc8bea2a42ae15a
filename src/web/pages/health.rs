//! `/healthz` and `/readyz`, for whatever watches over the process.

use actix_web::HttpResponse;
use actix_web::http::header::RETRY_AFTER;
use actix_web::web::Data;
use serde_json::json;

use crate::web::error::RETRY_SECONDS;
use crate::web::{State, block};

/// `/healthz`: the process is alive. Does not touch the store.
pub async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive", "version": env!("CARGO_PKG_VERSION") }))
}

/// `/readyz`: the store answers. 503 when it does not.
pub async fn ready(state: Data<State>) -> HttpResponse {
    match block(&state, |state| Ok(state.tracker.describe()?)).await {
        Ok(info) => HttpResponse::Ok().json(json!({ "status": "ready", "store": info.kind })),
        Err(error) => HttpResponse::ServiceUnavailable()
            .insert_header((RETRY_AFTER, RETRY_SECONDS))
            .json(json!({ "status": "unavailable", "error": error.to_string() })),
    }
}
