//! Which bitmaps a mark changes.

/// Which bitmaps a mark sets beyond day, week and month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Also the bitmap of the hour.
    pub hourly: bool,
    /// Also the undated bitmap.
    pub ever: bool,
}
