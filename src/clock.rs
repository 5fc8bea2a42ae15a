//! The only place that reads the clock. Everything else is told what time it is.

use chrono::{DateTime, Utc};

/// What time it is: the system's clock, or a moment to look back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// Always this moment: reports "as of" then.
    Fixed(DateTime<Utc>),
}

impl Clock {
    /// Whether the moment was given, and is not what the time is.
    pub const fn is_given(self) -> bool {
        matches!(self, Clock::Fixed(_))
    }

    /// The moment by this clock.
    #[allow(clippy::disallowed_methods)]
    pub fn now(self) -> DateTime<Utc> {
        match self {
            Clock::System => Utc::now(),
            Clock::Fixed(moment) => moment,
        }
    }
}
