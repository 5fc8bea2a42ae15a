//! Requested properties.

use std::convert::Infallible;
use std::str::FromStr;

/// A requested property: a column or field whose values become events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The name of the column or field, or a pattern with `*`. Values follow it in the names of
    /// events.
    pub name: String,
    /// When users have a value.
    pub dating: Dating,
}

/// When users have a value of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dating {
    /// At any time: whoever once had the value has it.
    #[default]
    Undated,
    /// In the periods of the lines with the value.
    Dated,
    /// Since the latest line: a user has only the newest value.
    Current,
}

impl FromStr for Wish {
    type Err = Infallible;

    /// Parses a name, perhaps with `:undated`, `:dated` or `:current`.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (name, dating) = match text.rsplit_once(':') {
            Some((name, "undated")) => (name, Dating::Undated),
            Some((name, "dated")) => (name, Dating::Dated),
            Some((name, "current")) => (name, Dating::Current),
            _ => (text, Dating::Undated),
        };
        Ok(Wish {
            name: name.to_owned(),
            dating,
        })
    }
}

impl From<&str> for Wish {
    fn from(text: &str) -> Self {
        match text.parse() {
            Ok(wish) => wish,
            Err(never) => match never {},
        }
    }
}

/// Returns whether a name matches a pattern with wildcards.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.into_iter().any(|at| matches(rest, &name[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_any_text_at_a_star() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("properties.*", "properties.plan", true),
            ("properties.*", "propertiesplan", false),
            ("*plan", "a.plan", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXc", false),
            ("plan", "plans", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_suffix_says_when_users_have_a_value() {
        let wish = |text: &str| {
            let wish = Wish::from(text);
            (wish.name, wish.dating)
        };
        assert_eq!(wish("plan"), ("plan".to_owned(), Dating::Undated));
        assert_eq!(wish("plan:dated"), ("plan".to_owned(), Dating::Dated));
        assert_eq!(wish("a:b:current"), ("a:b".to_owned(), Dating::Current));
        assert_eq!(wish("a:b"), ("a:b".to_owned(), Dating::Undated));
    }
}
