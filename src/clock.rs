//! The only module that reads the system's clock. All other code takes the time as an argument.

use chrono::{DateTime, Utc};

/// The source of the current time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// Always this moment, for reports as of a past time.
    Fixed(DateTime<Utc>),
}

impl Clock {
    /// Returns whether the time is fixed.
    pub const fn is_given(self) -> bool {
        matches!(self, Clock::Fixed(_))
    }

    /// Returns the current time.
    #[allow(clippy::disallowed_methods)]
    pub fn now(self) -> DateTime<Utc> {
        match self {
            Clock::System => Utc::now(),
            Clock::Fixed(moment) => moment,
        }
    }
}
