//! The text of `--store` without its password, for messages.

/// The text of a URL with whatever may be a password left out: all before an `@`, and the query.
pub fn redacted(text: &str) -> String {
    let (head, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    // A password may itself hold `@`, `/`, `?` or `#`, so the last `@` of all counts.
    let (login, place) = match rest.rsplit_once('@') {
        Some((_, place)) => ("…@", place),
        None => ("", rest),
    };
    match place.split_once('?') {
        Some((path, _)) => format!("{head}{login}{path}?…"),
        None => format!("{head}{login}{place}"),
    }
}
