//! One rule for all texts that are written.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::sets::{EventName, EventNameError};

/// Removes white space and byte order marks around a text, and composes its characters (Unicode
/// NFC), so that texts that look the same are the same.
///
/// ```ignore
/// assert_eq!(clean(" signup\t"), "signup");
/// assert_eq!(clean("cafe\u{301}"), "café");
/// ```
pub fn clean(text: &str) -> Cow<'_, str> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        Cow::Borrowed(text)
    } else {
        // Composing never leaves white space at the ends: no such character has a decomposition
        // that begins or ends with another one.
        Cow::Owned(text.nfc().collect())
    }
}

/// Reads the name of an event that is written.
///
/// # Errors
/// Returns the rule that the name breaks.
pub fn event_name(text: &str) -> Result<EventName, EventNameError> {
    EventName::new(&clean(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_look_the_same_are_the_same() {
        for text in [
            " signup",
            "signup ",
            "\u{feff}signup\r",
            "\u{a0}signup\u{3000}",
        ] {
            assert_eq!(event_name(text).unwrap().as_str(), "signup");
        }
        assert_eq!(clean("cafe\u{301}"), clean("caf\u{e9}"));
        assert_eq!(clean("\u{1112}\u{1161}\u{11ab}"), "\u{d55c}");
        // Compatibility characters keep their difference.
        assert_ne!(clean("\u{fb01}"), clean("fi"));
        assert!(event_name(" \u{feff}").is_err());
    }

    proptest! {
        #[test]
        fn cleaning_twice_is_cleaning_once(text in "\\PC{0,12}|[ \u{301}\u{323}a\u{feff}\u{2000}\u{2001}\u{340}]{0,8}") {
            let once = clean(&text).into_owned();
            prop_assert_eq!(clean(&once), once.as_str());
        }
    }
}
