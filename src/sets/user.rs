//! User ids: numbers, and strings that a store maps to numbers.

/// The number of a user, which is the index of a bit: from 0 to 2³²−1.
pub type UserId = u32;

/// The maximum length of a string id, in bytes.
pub const MAX_STRING_ID_BYTES: usize = 200;

/// Why a string is not a valid user id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserIdError {
    /// A numeric id is not a whole number in the valid range.
    #[error("`{0}` is not a valid user id: this store uses numeric ids from 0 to 4294967295")]
    NotANumber(String),
    /// Like [`NotANumber`](Self::NotANumber), and the string contains letters, so it may be a
    /// string id.
    #[error(
        "`{0}` is not a valid user id: this store uses numeric ids from 0 to 4294967295 (for string ids, create a store with --ids map)"
    )]
    NotANumberButText(String),
    /// A numeric id is a whole number that is too large.
    #[error(
        "`{0}` is not a valid user id: this store uses numeric ids from 0 to 4294967295 (for larger ids, create a store with --ids map)"
    )]
    TooLarge(String),
    /// The id is not UTF-8.
    #[error("`{0}` is not UTF-8")]
    NotUtf8(String),
    /// The text stands for no user, such as `NULL`.
    #[error("`{0}` stands for no user")]
    Nobody(String),
    /// The id is empty.
    #[error("a user id must not be empty")]
    Empty,
    /// A string id is longer than [`MAX_STRING_ID_BYTES`].
    #[error("`{0}…` is too long for a user id: at most {MAX_STRING_ID_BYTES} bytes")]
    TooLong(String),
    /// A string id contains a control character.
    #[error("`{0}` is not a valid user id: it contains a control character")]
    Control(String),
    /// A string id is `.` or `..`.
    #[error("`{0}` is not a valid user id: in a URL it would mean a directory")]
    Dots(String),
}

/// Parses a numeric user id: decimal digits, with optional white space around them.
///
/// ```
/// use cohortist::sets::parse_numeric_id;
/// assert_eq!(parse_numeric_id(b" 123 "), Ok(123));
/// assert!(parse_numeric_id(b"4294967296").is_err());
/// assert!(parse_numeric_id(b"-1").is_err() && parse_numeric_id(b"").is_err());
/// assert!(parse_numeric_id(b"ann@example.com").unwrap_err().to_string().contains("--ids map"));
/// ```
///
/// # Errors
/// Returns [`UserIdError::NotANumber`], [`UserIdError::NotANumberButText`] or
/// [`UserIdError::TooLarge`].
pub fn parse_numeric_id(text: &[u8]) -> Result<UserId, UserIdError> {
    let digits = text.trim_ascii();
    match whole_number(digits).and_then(|number| UserId::try_from(number).ok()) {
        Some(user) => Ok(user),
        None => {
            let has_letters = digits
                .iter()
                .any(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii());
            let is_whole = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let shown = shown(&String::from_utf8_lossy(digits));
            Err(if is_whole {
                UserIdError::TooLarge(shown)
            } else if has_letters {
                UserIdError::NotANumberButText(shown)
            } else {
                UserIdError::NotANumber(shown)
            })
        }
    }
}

/// Parses a number less than 2⁶⁴ that consists of decimal digits only.
pub fn whole_number(digits: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| Some(u64::from(byte.wrapping_sub(b'0'))).filter(|digit| *digit < 10);
    match digits.len() {
        0 => None,
        // Every number of 19 digits is less than 2⁶⁴.
        1..=19 => digits
            .iter()
            .try_fold(0, |number, byte| Some(number * 10 + digit(byte)?)),
        _ => digits.iter().try_fold(0_u64, |number, byte| {
            number.checked_mul(10)?.checked_add(digit(byte)?)
        }),
    }
}

/// Parses a string user id: 1 to [`MAX_STRING_ID_BYTES`] bytes without control characters. White
/// space around it is removed. `123` is a valid string id.
///
/// ```
/// use cohortist::sets::parse_string_id;
/// assert_eq!(parse_string_id(" ann@example.com "), Ok("ann@example.com"));
/// assert!(parse_string_id(" ").is_err() && parse_string_id("a\tb").is_err());
/// assert!(parse_string_id("..").is_err());
/// assert!(parse_string_id(&"x".repeat(200)).is_ok() && parse_string_id(&"x".repeat(201)).is_err());
/// ```
///
/// # Errors
/// Returns the rule that the string breaks.
pub fn parse_string_id(text: &str) -> Result<&str, UserIdError> {
    let text = text.trim();
    match text {
        "" => Err(UserIdError::Empty),
        "." | ".." => Err(UserIdError::Dots(text.to_owned())),
        _ if text.len() > MAX_STRING_ID_BYTES => {
            Err(UserIdError::TooLong(text.chars().take(40).collect()))
        }
        _ if text.chars().any(char::is_control) => Err(UserIdError::Control(shown(text))),
        _ => Ok(text),
    }
}

/// Returns a string for use in a message: at most 40 characters, with control characters escaped.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        format!("{short}…")
    } else {
        short
    }
}
