//! User ids as they are written.

use std::borrow::Cow;

use crate::sets::{UserId, UserIdError, parse_numeric_id, parse_string_id};
use crate::values::text::clean;

/// The texts that programs write where there is no user.
const NOBODY: [&str; 13] = [
    "",
    "NULL",
    "null",
    "Null",
    "None",
    "NaN",
    "nan",
    "undefined",
    "[object Object]",
    "\\N",
    "(null)",
    "<null>",
    "<NA>",
];

/// Returns whether a text stands for no user at all, such as `NULL` or `undefined`.
pub fn is_nobody(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    text.len() <= "[object Object]".len() && NOBODY.iter().any(|nobody| nobody.as_bytes() == text)
}

/// A numeric id, and how it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumericId {
    /// The id.
    pub id: UserId,
    /// How it was written.
    pub spelling: Spelling,
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// As decimal digits: `7`.
    Plain,
    /// With zeros before it: `007`. As a string it would be another user than `7`.
    LeadingZeros,
    /// With a fraction of zero: `7.0`, as pandas writes a column of numbers with gaps.
    Float,
}

/// Reads a numeric user id that is written: decimal digits, or those and a fraction of zero.
///
/// # Errors
/// Returns [`UserIdError::Empty`] or [`UserIdError::Nobody`] for a text that stands for no user, and
/// the error of [`parse_numeric_id`] for any other text that is not a numeric id.
pub fn numeric_id(text: &[u8]) -> Result<NumericId, UserIdError> {
    let text = text.trim_ascii();
    if let Ok(id) = parse_numeric_id(text) {
        let has_zeros = text.len() > 1 && text[0] == b'0';
        let spelling = if has_zeros {
            Spelling::LeadingZeros
        } else {
            Spelling::Plain
        };
        return Ok(NumericId { id, spelling });
    }
    if let Some(whole) = whole_part(text)
        && let Ok(id) = parse_numeric_id(whole)
    {
        let spelling = Spelling::Float;
        return Ok(NumericId { id, spelling });
    }
    let cleaned = clean_bytes(text);
    if cleaned.len() < text.len() {
        return numeric_id(&cleaned);
    }
    if text.is_empty() {
        return Err(UserIdError::Empty);
    }
    if is_nobody(text) {
        return Err(UserIdError::Nobody(
            String::from_utf8_lossy(text).into_owned(),
        ));
    }
    parse_numeric_id(whole_part(text).unwrap_or(text)).map(|id| NumericId {
        id,
        spelling: Spelling::Float,
    })
}

/// White space that is not ASCII is removed as well.
fn clean_bytes(text: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(text).map(clean) {
        Ok(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
        Ok(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
        Err(_) => Cow::Borrowed(text),
    }
}

/// Returns the digits before a fraction of zero.
fn whole_part(text: &[u8]) -> Option<&[u8]> {
    let at = text.iter().position(|byte| *byte == b'.')?;
    let fraction = &text[at + 1..];
    (!fraction.is_empty() && fraction.iter().all(|byte| *byte == b'0')).then(|| &text[..at])
}

/// Reads a string user id that is written.
///
/// # Errors
/// Returns [`UserIdError::Nobody`] for a text that stands for no user, or the rule that the id
/// breaks.
pub fn string_id(text: &str) -> Result<Cow<'_, str>, UserIdError> {
    let text = clean(text);
    if !text.is_empty() && is_nobody(text.as_bytes()) {
        return Err(UserIdError::Nobody(text.into_owned()));
    }
    parse_string_id(&text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_programs_write_them() {
        for (text, id, spelling) in [
            ("7", 7, Spelling::Plain),
            (" 7\u{a0}", 7, Spelling::Plain),
            ("0", 0, Spelling::Plain),
            ("007", 7, Spelling::LeadingZeros),
            ("13085.0", 13085, Spelling::Float),
            ("4294967295.00", UserId::MAX, Spelling::Float),
        ] {
            assert_eq!(
                numeric_id(text.as_bytes()),
                Ok(NumericId { id, spelling }),
                "{text}"
            );
        }
        for text in [
            "7.5",
            "7.",
            ".0",
            "-1",
            "1e3",
            "4294967296",
            "4294967296.0",
            "x7",
        ] {
            let error = numeric_id(text.as_bytes()).unwrap_err();
            assert!(!matches!(error, UserIdError::Nobody(_)), "{text}: {error}");
        }
    }

    #[test]
    fn texts_for_no_user_are_nobody_in_all_stores() {
        for text in [
            "NULL",
            "null ",
            "None",
            "NaN",
            "undefined",
            "[object Object]",
            "\\N",
        ] {
            let nobody = |error| matches!(error, UserIdError::Nobody(_));
            assert!(numeric_id(text.as_bytes()).is_err_and(nobody), "{text}");
            assert!(string_id(text).is_err_and(nobody), "{text}");
        }
        for text in ["", " ", "\u{a0}"] {
            assert_eq!(numeric_id(text.as_bytes()), Err(UserIdError::Empty));
            assert_eq!(string_id(text), Err(UserIdError::Empty));
        }
        assert_eq!(string_id(" nullable "), Ok("nullable".into()));
        assert_eq!(string_id("jose\u{301}"), string_id("jos\u{e9}"));
    }
}
