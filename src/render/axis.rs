//! Axes with round ticks.

use chrono::Datelike;

use crate::calendar::{Grain, Period, Zone};

/// An axis that starts at 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The end of the axis, never 0.
    pub top: f64,
    /// The ticks from 0 to `top`, evenly spaced.
    pub ticks: Vec<f64>,
    /// The decimal places needed to tell the ticks apart.
    pub decimals: usize,
}

impl Axis {
    /// Returns an axis for shares (0–1), in percent: 0/25/50/75/100, or a fitted one if no share
    /// exceeds 50 %.
    pub fn percent(greatest: f64) -> Self {
        let greatest = if greatest.is_finite() {
            greatest * 100.0
        } else {
            0.0
        };
        if greatest <= 0.0 || greatest > 50.0 {
            return Axis {
                top: 100.0,
                ticks: vec![0.0, 25.0, 50.0, 75.0, 100.0],
                decimals: 0,
            };
        }
        Self::fitted(greatest, 0.1)
    }

    /// Like [`percent`](Axis::percent), but fitted up to 80 % for charts where changes matter more
    /// than the level: 0/20/40/60.
    pub fn percent_fitted(greatest: f64) -> Self {
        match greatest * 100.0 {
            percent if percent > 50.0 && percent <= 80.0 => Self::fitted(percent, 20.0),
            _ => Self::percent(greatest),
        }
    }

    /// Returns an axis for counts: 0/500/1,000/1,500/2,000.
    pub fn count(greatest: f64) -> Self {
        Self::fitted(greatest, 1.0)
    }

    /// Returns an axis of at most five steps. A step is 1, 2 or 5 times a power of ten, and at
    /// least `least`.
    fn fitted(greatest: f64, least: f64) -> Self {
        let mut step = least;
        for factor in [2.0, 2.5, 2.0].into_iter().cycle().take(60) {
            if step * 5.0 >= greatest {
                break;
            }
            step *= factor;
        }
        let steps = (1..=5u8)
            .find(|n| step * f64::from(*n) >= greatest)
            .unwrap_or(5);
        let decimals = usize::from(step < 1.0);
        Axis {
            top: step * f64::from(steps),
            ticks: (0..=steps).map(|n| step * f64::from(n)).collect(),
            decimals,
        }
    }
}

/// Returns the distance between two labels on an axis of `cols` columns. It is a usual unit of the
/// grain, and gives at most 15 labels.
pub fn column_step(grain: Grain, cols: usize) -> usize {
    let steps: &[usize] = match grain {
        Grain::Hour => &[1, 2, 3, 6, 12, 24, 48, 72],
        Grain::Day => &[1, 2, 7, 14, 28, 56],
        Grain::Week(_) => &[1, 2, 4, 13, 26, 52],
        Grain::Month => &[1, 2, 3, 6, 12, 24, 36],
        Grain::Year => &[1, 2, 5, 10, 20, 50],
    };
    steps
        .iter()
        .copied()
        .find(|step| cols.saturating_sub(1) / step < 15)
        .unwrap_or(cols.max(1))
}

/// Returns the indexes and labels of the periods that an axis names, from consecutive periods,
/// oldest first. It picks round dates, as many as fit. `narrow` is for an axis of half a page.
pub fn period_labels(periods: &[Period], narrow: bool) -> Vec<(usize, String)> {
    let labelled = (0..periods.len()).filter(|i| is_labelled(periods, *i, narrow));
    // The first label includes the year; later months leave it out.
    let words = |(place, i): (usize, usize)| match periods[i].grain() {
        Grain::Month if place > 0 && periods[i].local_start().month() > 1 => {
            periods[i].local_start().format("%b").to_string()
        }
        _ => periods[i].short_label(),
    };
    labelled
        .enumerate()
        .map(|(place, i)| (i, words((place, i))))
        .collect()
}

/// Returns what an axis of periods shows, below it.
pub fn periods_of(grain: Grain, zone: Zone) -> String {
    match grain {
        Grain::Week(start) => format!("weeks by their {}, {zone}", start.name()),
        grain => format!("{grain}s, {zone}"),
    }
}

fn is_labelled(periods: &[Period], i: usize, narrow: bool) -> bool {
    let n = periods.len();
    let start = periods[i].local_start();
    let few = match periods[i].grain() {
        // All labels but the first are shorter than a date.
        Grain::Month => 7,
        _ if narrow => 5,
        _ => 7,
    };
    if n < few {
        return true;
    }
    let back = n - 1 - i;
    match periods[i].grain() {
        Grain::Day if n > 14 => {
            start.weekday().number_from_monday() == 1
                && (back / 7).is_multiple_of(n.div_ceil(7 * 7))
        }
        Grain::Month if n <= 24 => {
            start
                .month0()
                .is_multiple_of(if narrow && n > 14 { 6 } else { 2 })
        }
        Grain::Month => {
            let years = [1, 2, 5, 10]
                .into_iter()
                .find(|years| n / (12 * years) < 12)
                .unwrap_or(20);
            start.month0() == 0
                && usize::try_from(start.year()).is_ok_and(|year| year.is_multiple_of(years))
        }
        _ => back.is_multiple_of(n.div_ceil(if narrow { 3 } else { 7 })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;

    #[test]
    fn period_labels_stay_few_and_are_never_none() {
        let now = parse_moment("2026-11-23T14:05:00Z").unwrap();
        for grain in Grain::ALL {
            let current = Period::containing(grain, now).unwrap();
            for n in 1..=400 {
                let periods: Vec<Period> =
                    current.shift(1 - i64::from(n)).unwrap().range(n).collect();
                for narrow in [false, true] {
                    let labels = period_labels(&periods, narrow);
                    assert!(
                        (1..=13).contains(&labels.len()),
                        "{labels:?} for {n} {grain}s"
                    );
                }
            }
        }
    }

    #[test]
    fn months_say_their_year_once() {
        let labels = |from: &str, n: u32, narrow: bool| {
            let periods: Vec<Period> = from.parse::<Period>().unwrap().range(n).collect();
            period_labels(&periods, narrow)
                .into_iter()
                .map(|(_, words)| words)
                .collect::<Vec<_>>()
                .join(", ")
        };
        assert_eq!(labels("2026-07", 5, true), "Jul 2026, Aug, Sep, Oct, Nov");
        assert_eq!(
            labels("2025-12", 12, true),
            "Jan 2026, Mar, May, Jul, Sep, Nov"
        );
        assert_eq!(labels("2025-10", 3, false), "Oct 2025, Nov, Dec");
        assert_eq!(labels("2025-11", 24, true), "Jan 2026, Jul, Jan 2027, Jul");
    }

    #[test]
    fn percent_ticks_are_round() {
        let ticks = |greatest| Axis::percent(greatest).ticks;
        assert_eq!(ticks(0.93), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(ticks(0.0), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(ticks(f64::NAN), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(ticks(0.44), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(ticks(0.03), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(Axis::percent(0.001).top, 0.1);
        let fitted = |greatest| Axis::percent_fitted(greatest).ticks;
        assert_eq!(fitted(0.51), [0.0, 20.0, 40.0, 60.0]);
        assert_eq!(fitted(0.8), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!((fitted(0.5), fitted(0.81)), (ticks(0.5), ticks(0.81)));
    }

    #[test]
    fn count_ticks_are_round() {
        let ticks = |greatest| Axis::count(greatest).ticks;
        assert_eq!(ticks(1_719.0), [0.0, 500.0, 1_000.0, 1_500.0, 2_000.0]);
        assert_eq!(ticks(0.0), [0.0, 1.0]);
        assert_eq!(ticks(3.0), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(ticks(4_294_967_295.0), [0.0, 1e9, 2e9, 3e9, 4e9, 5e9]);
    }

    #[test]
    fn column_labels_stay_few() {
        assert_eq!(column_step(Grain::Day, 14), 1);
        assert_eq!(column_step(Grain::Day, 31), 7);
        assert_eq!(column_step(Grain::Hour, 24), 2);
        assert_eq!(column_step(Grain::WEEK, 52), 4);
        assert_eq!(column_step(Grain::Month, 0), 1);
        for cols in 1..=400 {
            assert!((cols - 1) / column_step(Grain::WEEK, cols) < 15);
        }
    }
}
