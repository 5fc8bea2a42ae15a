//! The little statistics that a retention table needs.

/// The standard normal quantile for a two-sided 95 % interval.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// The share `part / whole`, 0–1; `None` of nothing.
#[allow(clippy::cast_precision_loss)] // Counts stay far below 2⁵³.
pub fn rate(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Wilson's 95 % score interval for the share behind `part` of `whole`, both ends 0–1; `None` of
/// nothing.
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

/// The standard error of the share `part / whole`; `None` of nothing.
#[allow(clippy::cast_precision_loss)]
pub fn standard_error(part: u64, whole: u64) -> Option<f64> {
    let p = rate(part, whole)?;
    Some((p * (1.0 - p) / whole as f64).sqrt())
}

/// The mean of some numbers; `None` of none.
#[allow(clippy::cast_precision_loss)]
pub fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

/// The middle of a list; the mean of the two middle ones, rounded down, when their number is even.
pub fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(values[middle - 1].midpoint(values[middle])),
    }
}
