//! Stylesheet, script and icon. They are embedded in the binary and named by a hash of their
//! content, so browsers can cache them forever and still get new versions after an update.

use std::sync::LazyLock;

use crate::render::colour;

/// A static file of the pages.
#[derive(Debug)]
pub struct Asset {
    /// Its address: `/static/app.1b2c3d4e.css`.
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

/// The stylesheet, followed by the classes of the heat ramp.
pub static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let body = [include_str!("../../static/app.css"), &colour::css()].concat();
    Asset::new("app", "css", "text/css; charset=utf-8", body)
});

/// The script. Pages work without it.
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
