//! How long bitmaps are kept, and which of them have been kept long enough. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::calendar::Grain;
use crate::sets::{Key, When};

/// For each kind of bitmap how long it is kept after its period ended; for good when `None`. Undated bitmaps are for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Of hours.
    pub hours: Option<TimeDelta>,
    /// Of days.
    pub days: Option<TimeDelta>,
    /// Of weeks.
    pub weeks: Option<TimeDelta>,
    /// Of months, of which years are made.
    pub months: Option<TimeDelta>,
}

impl Keeping {
    /// Whether everything is kept for good.
    pub fn is_for_good(&self) -> bool {
        *self == Keeping::default()
    }

    /// Whether a bitmap has been kept long enough.
    ///
    /// ```
    /// use chrono::TimeDelta;
    /// use cohortist::{calendar::{Period, parse_moment}, reports::keeping::Keeping, sets::Key};
    ///
    /// let keeping = Keeping { days: Some(TimeDelta::days(400)), ..Keeping::default() };
    /// let key = |day| Key::new("active".parse().unwrap(), Period::day(2025, 10, day).unwrap()).unwrap();
    /// let now = parse_moment("2026-11-23T09:00:00Z")?;
    /// // The 18th ended with the beginning of the 19th, 400 days and nine hours ago.
    /// assert_eq!((keeping.is_over(&key(18), now), keeping.is_over(&key(19), now)), (true, false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_over(&self, key: &Key, now: DateTime<Utc>) -> bool {
        let When::In(period) = key.when() else { return false };
        let kept = match period.grain() {
            Grain::Hour => self.hours,
            Grain::Day => self.days,
            Grain::Week => self.weeks,
            Grain::Month => self.months,
            Grain::Year => None,
        };
        kept.is_some_and(|kept| now.signed_duration_since(period.end()) >= kept)
    }
}
