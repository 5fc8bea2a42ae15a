//! Addresses of pages that other pages link to.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;

use crate::calendar::{Period, Zone};
use crate::server::State;
use crate::server::query::PageQuery;
use crate::sets::EventName;

/// The beginning of the addresses of event pages.
pub(super) const EVENTS: &str = "/events/";

/// The beginning of the addresses of user pages.
pub(super) const USERS: &str = "/users/";

/// The characters that are not escaped in a path. Everything else is, so that no proxy interprets
/// it.
const UNESCAPED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const IN_EVENT: &AsciiSet = &UNESCAPED.remove(b':');
const IN_CELL: &AsciiSet = &UNESCAPED.remove(b'=');
const IN_USER: &AsciiSet = &UNESCAPED.remove(b'@');

/// Returns the address of an event's page, or of its file if `ending` is `.csv`.
pub(super) fn event(name: &EventName, ending: &str, pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let mut path = utf8_percent_encode(name.as_str(), IN_EVENT).to_string();
    if matches!(name.as_str(), "." | "..") {
        // However they are escaped, browsers resolve them as relative paths.
        query.append_pair("name", name.as_str());
        path.clear();
    } else if let Some(stem) = [".csv", ".json"]
        .iter()
        .find_map(|end| path.strip_suffix(end).map(str::len))
    {
        path.replace_range(stem..=stem, "%2E");
    }
    query.extend_pairs(pairs);
    let query = query.finish();
    format!(
        "{EVENTS}{path}{ending}{}{query}",
        if query.is_empty() { "" } else { "?" }
    )
}

/// Returns the address of the page of a retention question.
pub(super) fn retention(state: &State, asked: &PageQuery) -> String {
    state.to(&format!("/retention?{}", asked.canonical()))
}

/// Returns the address of the people in a set.
pub(super) fn people(state: &State, set: &str, zone: Zone) -> String {
    state.to(&format!("/people?{}", set_query(state, set, zone)))
}

/// Returns `set=…`, escaped, with the zone of its periods.
pub(super) fn set_query(state: &State, text: &str, zone: Zone) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("set", text);
    if zone.asked() != state.usual_calendar().zone {
        query.append_pair("zone", zone.name());
    }
    query.finish()
}

/// Escapes a value of a query string.
pub(super) fn escaped(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect()
}

/// Returns the beginning of the addresses of a table's cells. `3.2` after it is the list of the
/// fourth cohort's people who came back in column 2, `3` the list of that whole cohort, and
/// `trend-2` the page with the trend of column 2. Cells have short relative addresses because the
/// page declares this beginning once.
pub(super) fn cells(asked: &PageQuery, first: Period) -> String {
    let question = PageQuery {
        trend: None,
        ..asked.clone()
    }
    .canonical();
    format!(
        "/people/{}/{}/",
        utf8_percent_encode(&question, IN_CELL),
        utf8_percent_encode(&first.to_string(), IN_CELL)
    )
}

/// Returns the address of a user's page.
pub(super) fn user(state: &State, name: &str) -> String {
    let escaped = utf8_percent_encode(name, IN_USER).to_string();
    // A name that ends like a file must not lead to a file.
    let escaped = escaped
        .strip_suffix(".json")
        .map(|rest| format!("{rest}%2Ejson"))
        .unwrap_or(escaped);
    state.to(&format!("{USERS}{escaped}"))
}
