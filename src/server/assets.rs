//! The stylesheet, the script and the icon: inside the binary, named by a hash of their content, so
//! that a browser may keep them for ever and still gets the new ones after an update.

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};

use crate::render::colour;
use crate::server::error::{WebError, answer};

/// A file of the pages.
#[derive(Debug)]
pub struct Asset {
    /// Where it is served: `/static/app.1b2c3d4e.css`.
    pub path: String,
    body: String,
    content_type: &'static str,
}

impl Asset {
    fn new(stem: &str, ending: &str, content_type: &'static str, body: String) -> Self {
        let hash = crc32fast::hash(body.as_bytes());
        Asset {
            path: format!("/static/{stem}.{hash:08x}.{ending}"),
            body,
            content_type,
        }
    }
}

/// The stylesheet, with the heat ramp's classes behind it.
pub static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let body = [include_str!("../../static/app.css"), &colour::css()].concat();
    Asset::new("app", "css", "text/css; charset=utf-8", body)
});

/// The script: small, and nothing needs it.
pub static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "app",
        "js",
        "text/javascript; charset=utf-8",
        include_str!("../../static/app.js").to_owned(),
    )
});

/// The icon.
pub static ICON: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "icon",
        "svg",
        "image/svg+xml",
        include_str!("../../static/icon.svg").to_owned(),
    )
});

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

/// `/favicon.ico` and `/favicon.svg`: the icon, for whoever asks without having read a page.
pub async fn icon() -> HttpResponse {
    serve(&ICON, "public, max-age=86400")
}

fn serve(asset: &'static Asset, cache: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, asset.content_type))
        .insert_header((CACHE_CONTROL, cache))
        .body(asset.body.as_str())
}
