//! The stylesheet, the script and the icon: inside the binary, named by a hash of their content, so
//! that a browser may keep them for ever and still gets the new ones after an update.

use std::sync::LazyLock;

use crate::render::colour;

/// A file of the pages.
#[derive(Debug)]
pub struct Asset {
    /// Where it is served: `/static/app.1b2c3d4e.css`.
    pub path: String,
    pub(super) body: String,
    pub(super) content_type: &'static str,
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
