//! How long bitmaps are kept, as options and the configuration state it.

use std::time::Duration;

use chrono::TimeDelta;

use crate::reports::expiry::ExpiryPolicy;

/// How long the bitmaps of a store are kept, from the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expiry {
    pub policy: ExpiryPolicy,
    /// The policy as it was written: `hours 30d, days 400d`.
    pub description: String,
}

/// Parses a span of at least an hour, so that a slip such as `30` or `30m` cannot delete
/// everything.
pub fn span(text: &str) -> Result<TimeDelta, String> {
    let error = || "write a span of at least an hour, such as 36h, 30d, 2w or 1y".to_owned();
    let span: Duration = humantime::parse_duration(text).map_err(|_| error())?;
    TimeDelta::from_std(span)
        .ok()
        .filter(|span| *span >= TimeDelta::hours(1))
        .ok_or_else(error)
}
