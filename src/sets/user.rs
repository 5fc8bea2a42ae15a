//! How users are called: by a number, or by a text that gets one.

/// A user: a number from 0 to 2³²−1, one bit.
pub type UserId = u32;

/// The longest text id, in bytes.
pub const MAX_TEXT_ID: usize = 200;

/// Why a text cannot be what somebody is called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserIdError {
    /// No number of the right size.
    #[error("`{0}` is not a user id: a whole number from 0 to 4294967295")]
    NoNumber(String),
    /// The same, and it has letters.
    #[error(
        "`{0}` is not a user id: a whole number from 0 to 4294967295 (for texts, begin a new store with --ids map)"
    )]
    Text(String),
    /// Nothing.
    #[error("a user id must not be empty")]
    Empty,
    /// Too much.
    #[error("`{0}…` is too long for a user id: at most {MAX_TEXT_ID} bytes")]
    TooLong(String),
    /// Something that cannot be shown.
    #[error("`{0}` is not a user id: it holds a control character")]
    Control(String),
    /// What stands for a directory in an address.
    #[error("`{0}` cannot be a user id: in an address it would mean a directory")]
    Dots(String),
}

/// Reads a user id that is a number: digits, with nothing but blanks around them.
///
/// ```
/// use cohortist::sets::user_number;
/// assert_eq!(user_number(b" 123 "), Ok(123));
/// assert!(user_number(b"4294967296").is_err() && user_number(b"-1").is_err() && user_number(b"").is_err());
/// assert!(user_number(b"ann@example.com").unwrap_err().to_string().contains("--ids map"));
/// ```
///
/// # Errors
/// What a user id looks like.
pub fn user_number(text: &[u8]) -> Result<UserId, UserIdError> {
    let digits = text.trim_ascii();
    match whole_number(digits).and_then(|number| UserId::try_from(number).ok()) {
        Some(user) => Ok(user),
        None => {
            let text = digits
                .iter()
                .any(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii());
            let shown = shown(&String::from_utf8_lossy(digits));
            Err(if text {
                UserIdError::Text(shown)
            } else {
                UserIdError::NoNumber(shown)
            })
        }
    }
}

/// A number in digits and nothing else, less than 2⁶⁴.
pub fn whole_number(digits: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| Some(u64::from(byte.wrapping_sub(b'0'))).filter(|digit| *digit < 10);
    match digits.len() {
        0 => None,
        // Nineteen digits are less than 2⁶⁴ whatever they are.
        1..=19 => digits
            .iter()
            .try_fold(0, |number, byte| Some(number * 10 + digit(byte)?)),
        _ => digits.iter().try_fold(0_u64, |number, byte| {
            number.checked_mul(10)?.checked_add(digit(byte)?)
        }),
    }
}

/// Reads a user id that is a text: 1 to [`MAX_TEXT_ID`] bytes without control characters; blanks
/// around it do not count. `123` is a text like any other.
///
/// ```
/// use cohortist::sets::user_text;
/// assert_eq!(user_text(" ann@example.com "), Ok("ann@example.com"));
/// assert!(user_text(" ").is_err() && user_text("a\tb").is_err() && user_text("..").is_err());
/// assert!(user_text(&"x".repeat(200)).is_ok() && user_text(&"x".repeat(201)).is_err());
/// ```
///
/// # Errors
/// Which rule it breaks.
pub fn user_text(text: &str) -> Result<&str, UserIdError> {
    let text = text.trim();
    match text {
        "" => Err(UserIdError::Empty),
        "." | ".." => Err(UserIdError::Dots(text.to_owned())),
        _ if text.len() > MAX_TEXT_ID => Err(UserIdError::TooLong(text.chars().take(40).collect())),
        _ if text.chars().any(char::is_control) => Err(UserIdError::Control(shown(text))),
        _ => Ok(text),
    }
}

/// A text as it may be printed: short, and without control characters.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        format!("{short}…")
    } else {
        short
    }
}
