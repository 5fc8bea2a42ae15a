//! `/static/…` and the icon.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};

use crate::server::assets::{Asset, ICON, SCRIPT, STYLE};
use crate::server::error::WebError;
use crate::server::respond::answer;

/// `/static/…`: an asset by its hashed name.
pub async fn by_name(request: HttpRequest) -> HttpResponse {
    let found = [&STYLE, &SCRIPT, &ICON]
        .into_iter()
        .find(|asset| asset.path == request.path());
    match found {
        Some(asset) => serve(asset, "public, max-age=31536000, immutable"),
        None => answer(&request, Err(WebError::NotFound)),
    }
}

/// `/favicon.ico` and `/favicon.svg`: the icon, for clients that request it without reading a page.
pub async fn icon() -> HttpResponse {
    serve(&ICON, "public, max-age=86400")
}

fn serve(asset: &'static Asset, cache: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, asset.content_type))
        .insert_header((CACHE_CONTROL, cache))
        .body(asset.body.as_str())
}
