//! The common parts of every page.

use crate::calendar::{Calendar, WeekStart, Zone};
use crate::server::assets;

/// The common parts of every page: assets, navigation, and the source of the numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The title of the dashboard.
    pub title: String,
    /// The beginning of the addresses of this store's pages: empty, or `/in/staging`.
    pub base: String,
    /// The page's own address: path and query as sent.
    pub here: String,
    /// A short description of the store, and its location.
    pub source: Option<(String, String)>,
    /// Whether user ids are numbers, so that touch devices show a numeric keyboard.
    pub numbers: bool,
    /// The stores to switch between. Empty for a single store.
    pub stores: Vec<StoreLink>,
    /// Explanations of missing data: a wrong prefix, or keys that are not read.
    pub notes: Vec<String>,
    /// In which zone periods begin and end, and on which day weeks do.
    pub calendar: Calendar,
    /// The zone in which the store is kept.
    pub kept_in: Zone,
}

/// A link to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLink {
    /// Its name.
    pub name: String,
    /// The address of the same page for it.
    pub href: String,
    /// Whether it is the current store.
    pub here: bool,
}

/// The largest number of stores that the header lists one by one. More are a menu.
const MAX_SHOWN_STORES: usize = 3;

impl Layout {
    /// Returns the name of the current store if there are too many for a list in the header.
    pub fn store_of_many(&self) -> Option<&str> {
        let current = self.stores.iter().find(|store| store.here)?;
        (self.stores.len() > MAX_SHOWN_STORES).then_some(&*current.name)
    }

    /// The same page with numbers in a zone and by its weeks.
    #[must_use]
    pub fn counted_by(self, calendar: Calendar) -> Self {
        Layout { calendar, ..self }
    }

    /// Says in which zone periods begin and end, and when weeks begin unless on Monday.
    pub fn periods(&self) -> String {
        let zone = match self.kept_in.is_kept() {
            true => self.kept_in.words(),
            false => self.calendar.zone.words(),
        };
        match self.calendar.week {
            WeekStart::Monday => format!("All periods begin and end in {zone}"),
            week => format!(
                "All periods begin and end in {zone}, weeks on {}",
                week.name()
            ),
        }
    }

    /// Returns the stylesheet's address.
    pub fn style(&self) -> &'static str {
        &assets::STYLE.path
    }

    /// Returns the script's address.
    pub fn script(&self) -> &'static str {
        &assets::SCRIPT.path
    }

    /// Returns the icon's address.
    pub fn icon(&self) -> &'static str {
        &assets::ICON.path
    }
}
