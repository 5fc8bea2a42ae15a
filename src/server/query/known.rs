//! Which parameters an address understands, so that a misspelt one is not ignored in silence.

use url::form_urlencoded;

use crate::endpoints;
use crate::render::words;
use crate::reports::{Field, WEEK, ZONE};
use crate::server::files::Format;

/// The parameters that only the retention page knows.
const RETENTION: [&str; 8] = [
    "order", "scale", "trend", "group", "range", "first", "swap", "anew",
];

/// bitmapist's names of a retention question's fields.
const BITMAPIST: [&str; 10] = [
    "select1",
    "select1b",
    "select2",
    "select2b",
    "time_group",
    "num_results",
    "num_of_rows",
    "start_date",
    "as_percent",
    "export_csv",
];

/// The parameters of a list of people, besides those of a retention question.
const PEOPLE: [&str; 7] = ["set", "at", "k", "who", "after", "limit", "saved"];

/// What people write for a parameter of another name.
const OTHER_NAMES: [(&str, &str); 16] = [
    ("tz", "zone"),
    ("timezone", "zone"),
    ("grain", "by"),
    ("interval", "by"),
    ("period", "by"),
    ("granularity", "by"),
    ("unit", "by"),
    ("start", "from"),
    ("since", "from"),
    ("date_from", "from"),
    ("end", "to"),
    ("until", "to"),
    ("date_to", "to"),
    ("user", "id"),
    ("search", "q"),
    ("segment", "event"),
];

/// Parameters that links get from mails, advertisements and caches. They mean nothing here and change
/// nothing.
fn is_tracking(name: &str) -> bool {
    name.starts_with("utm_") || matches!(name, "fbclid" | "gclid" | "msclkid" | "mc_cid" | "_")
}

/// Returns the parameters that a path understands. `None` for addresses that decide themselves.
fn known(path: &str) -> Option<Vec<&'static str>> {
    let names =
        |fields: &[Field]| -> Vec<&'static str> { fields.iter().map(|field| field.name).collect() };
    let calendar = [WEEK.name, ZONE.name];
    let rest = path.strip_prefix("/api/v1/");
    let report = match rest {
        Some(name) => name,
        None => {
            let name = path.strip_prefix('/')?;
            let endings = Format::ALL.into_iter();
            let mut endings = endings.map(|format| format!(".{}", format.ending()));
            endings
                .find_map(|ending| name.strip_suffix(ending.as_str()))
                .unwrap_or(name)
        }
    };
    let retention = || {
        let endpoint = endpoints::ALL.iter().find(|it| it.name() == "retention");
        let fields = endpoint.map(|it| names(it.fields())).unwrap_or_default();
        [&fields[..], &RETENTION, &BITMAPIST].concat()
    };
    Some(match (report, rest.is_some()) {
        ("retention", _) => retention(),
        ("people", false) => [&retention()[..], &PEOPLE].concat(),
        ("events", false) => [&["q", "sort", "down", "starting_with"][..], &calendar].concat(),
        ("events", true) => calendar.into(),
        ("count", true) => vec!["set", ZONE.name, WEEK.name],
        ("users", false) => vec!["id"],
        ("segments", false) => vec!["changed"],
        ("autocomplete", false) => vec!["q"],
        (name, false) if name.starts_with("events/") => {
            [&["by", "last", "name"][..], &calendar].concat()
        }
        (name, false) if name.starts_with("users/") => Vec::new(),
        (name, _) => {
            let endpoint = endpoints::ALL.iter().find(|it| it.name() == name)?;
            names(endpoint.fields())
        }
    })
}

/// Returns what is wrong with the names of the parameters in an address: one sentence for each that
/// is not known, with the nearest known one.
pub fn unknown(here: &str) -> Vec<String> {
    let (path, query) = here.split_once('?').unwrap_or((here, ""));
    let Some(known) = known(path) else {
        return Vec::new();
    };
    let mut told: Vec<String> = Vec::new();
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if name.is_empty() || known.contains(&&*name) || is_tracking(&name) {
            continue;
        }
        let meant = nearest(&name, &known);
        let meant = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        let sentence = format!(
            "`{}` is not a parameter of this address{meant}",
            words::shortened(&name, 24)
        );
        if !told.contains(&sentence) {
            told.push(sentence);
        }
    }
    told
}

/// Returns the known parameter that a name is likely to mean.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let name = name.to_lowercase();
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == name);
    if let Some((_, meant)) = other
        && known.contains(meant)
    {
        return Some(meant);
    }
    let score = |known: &str| strsim::jaro_winkler(&name, known);
    let best = known
        .iter()
        .copied()
        .max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.8).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_parameters_are_named_with_the_nearest_known_one() {
        let retention = "/retention?cohort=a&returning=b&tz=Europe/Berlin&meassure=on&xyz=1&xyz=2";
        assert_eq!(
            unknown(retention),
            [
                "`tz` is not a parameter of this address; did you mean `zone`?",
                "`meassure` is not a parameter of this address; did you mean `measure`?",
                "`xyz` is not a parameter of this address",
            ]
        );
        for known in [
            "/retention?select1=a&select2=b&time_group=weeks&export_csv=1&utm_source=mail",
            "/retention.tidy.csv?cohort=a&zone=UTC",
            "/people?set=a@2026&after=7&saved=1",
            "/events?q=a&sort=name",
            "/events/a%2Fb?by=week&last=3",
            "/lifecycle?event=a&by=week&from=2026-01-01",
            "/api/v1/count?set=a@2026&zone=UTC",
            "/users?id=7",
            "/nowhere?x=1",
            "/",
        ] {
            assert_eq!(unknown(known), <[String; 0]>::default(), "{known}");
        }
        assert_eq!(unknown("/api/v1/lifecycle?event=a&tz=UTC").len(), 1);
        assert_eq!(unknown("/api/v1/user?id=7&zone=UTC").len(), 1);
        assert_eq!(unknown("/users/7?by=day").len(), 1);
    }
}
