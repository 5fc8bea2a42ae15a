//! The length of a window of days or weeks.

use std::fmt;
use std::str::FromStr;

use crate::calendar::{Grain, WeekStart};
use crate::reports::error::QueryError;

/// The maximum length of a window, in days or weeks.
pub const MAX_WINDOW: u32 = 366;

/// The length of a window, such as `28d` or `4w`.
///
/// ```
/// use cohortist::calendar::Grain;
/// use cohortist::reports::frequency::Window;
/// let window: Window = "4w".parse()?;
/// assert_eq!((window.length(), window.grain()), (4, Grain::WEEK));
/// assert_eq!(Window::default().to_string(), "28d");
/// assert!("0d".parse::<Window>().is_err() && "28".parse::<Window>().is_err());
/// # Ok::<(), cohortist::reports::QueryError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    length: u32,
    grain: Grain,
}

impl Window {
    /// A window of this many days, 1–[`MAX_WINDOW`].
    pub const fn days(length: u32) -> Self {
        assert!(length >= 1 && length <= MAX_WINDOW, "a valid length");
        Window {
            length,
            grain: Grain::Day,
        }
    }

    /// The number of periods, at least 1.
    pub const fn length(self) -> u32 {
        self.length
    }

    /// The same; weeks begin on this day.
    #[must_use]
    pub const fn with_weeks(self, start: WeekStart) -> Self {
        Window {
            grain: self.grain.with_weeks(start),
            ..self
        }
    }

    /// A day or a week.
    pub const fn grain(self) -> Grain {
        self.grain
    }
}

impl Default for Window {
    /// 28 days: each weekday counts the same.
    fn default() -> Self {
        Window::days(28)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.grain == Grain::Day { 'd' } else { 'w' };
        write!(f, "{}{unit}", self.length)
    }
}

impl FromStr for Window {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let parts = text
            .strip_suffix('d')
            .map(|length| (length, Grain::Day))
            .or_else(|| Some((text.strip_suffix('w')?, Grain::WEEK)));
        let window = parts.and_then(|(length, grain)| {
            let is_plain = length.bytes().all(|byte| byte.is_ascii_digit());
            let length: u32 = length.parse().ok().filter(|_| is_plain)?;
            (1..=MAX_WINDOW)
                .contains(&length)
                .then_some(Window { length, grain })
        });
        window.ok_or_else(|| QueryError::Field {
            field: "window",
            message: format!(
                "`{}` is not a number of days or weeks from 1 to {MAX_WINDOW}: write 7d, 28d or 4w",
                text.chars().take(24).collect::<String>()
            ),
        })
    }
}
