//! What stands around every page.

use crate::server::assets;

/// What stands around every page: assets, and where the numbers come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What the dashboard is called.
    pub title: String,
    /// What every address of this store's pages begins with: nothing, or `/in/staging`.
    pub base: String,
    /// The page's own address: path and query as they were sent.
    pub here: String,
    /// The store in few words, and where it is.
    pub source: Option<(String, String)>,
    /// Whether users are numbers, for which some keyboards have keys of their own.
    pub numbers: bool,
    /// The stores to switch between, when there are several.
    pub stores: Vec<StoreLink>,
    /// Why there may be nothing to see: a wrong prefix, and keys that are not read.
    pub notes: Vec<String>,
}

/// A store of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLink {
    /// Its name.
    pub name: String,
    /// Where the same page is for it.
    pub href: String,
    /// Whether it is the one shown.
    pub here: bool,
}

impl Layout {
    /// The stylesheet's address.
    pub fn style(&self) -> &'static str {
        &assets::STYLE.path
    }

    /// The script's address.
    pub fn script(&self) -> &'static str {
        &assets::SCRIPT.path
    }

    /// The icon's address.
    pub fn icon(&self) -> &'static str {
        &assets::ICON.path
    }
}
