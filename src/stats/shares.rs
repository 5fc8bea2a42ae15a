//! Statistics for retention tables.

/// The standard normal quantile for a two-sided 95 % interval.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// Returns the share `part / whole`, 0–1. `None` if `whole` is 0.
#[allow(clippy::cast_precision_loss)] // Counts stay far below 2⁵³.
pub fn rate(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Returns Wilson's 95 % score interval for the share `part / whole`, both ends 0–1. `None` if
/// `whole` is 0.
///
/// Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
/// JASA 22 (1927), without continuity correction. Unlike the textbook interval it never leaves 0–1
/// and works at 0 % and 100 %.
///
/// ```
/// use cohortist::stats::wilson;
/// let (low, high) = wilson(372, 1_358).unwrap();
/// assert_eq!((format!("{low:.3}"), format!("{high:.3}")), ("0.251".into(), "0.298".into()));
/// assert_eq!(wilson(0, 10).map(|(low, _)| low), Some(0.0));
/// assert_eq!(wilson(0, 0), None);
/// ```
#[allow(clippy::cast_precision_loss)]
pub fn wilson(part: u64, whole: u64) -> Option<(f64, f64)> {
    let p = rate(part, whole)?;
    let n = whole as f64;
    let z2 = Z_95 * Z_95;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z_95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let low = if part == 0 {
        0.0
    } else {
        (centre - half).max(0.0)
    };
    let high = if part == whole {
        1.0
    } else {
        (centre + half).min(1.0)
    };
    Some((low, high))
}

/// Returns the standard error of the share `part / whole`. `None` if `whole` is 0.
#[allow(clippy::cast_precision_loss)]
pub fn standard_error(part: u64, whole: u64) -> Option<f64> {
    let p = rate(part, whole)?;
    Some((p * (1.0 - p) / whole as f64).sqrt())
}

/// Returns the mean of some numbers. `None` if there are none.
#[allow(clippy::cast_precision_loss)]
pub fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

/// Returns the median of a list. For an even length it is the mean of the two middle numbers,
/// rounded down.
pub fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(values[middle - 1].midpoint(values[middle])),
    }
}
