//! Comparison of two shares: the interval of their difference, tests, and the correction for
//! several tests.

use crate::stats::{rate, wilson};

/// Two groups, each with how many of its people did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TwoByTwo {
    /// People of the first group who did it.
    pub part_a: u64,
    /// People of the first group.
    pub whole_a: u64,
    /// People of the second group who did it.
    pub part_b: u64,
    /// People of the second group.
    pub whole_b: u64,
}

/// A table of one cohort, for [`mantel_haenszel`].
pub type Stratum = TwoByTwo;

/// The difference of two shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The first share minus the second one, −1 to 1.
    pub difference: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
}

#[allow(clippy::cast_precision_loss)] // Counts stay far below 2⁵³.
fn real(count: u64) -> f64 {
    count as f64
}

impl TwoByTwo {
    /// Returns the sum of tables, cell by cell.
    pub fn pooled(tables: impl IntoIterator<Item = TwoByTwo>) -> TwoByTwo {
        let empty = TwoByTwo {
            part_a: 0,
            whole_a: 0,
            part_b: 0,
            whole_b: 0,
        };
        tables.into_iter().fold(empty, |sum, table| TwoByTwo {
            part_a: sum.part_a + table.part_a,
            whole_a: sum.whole_a + table.whole_a,
            part_b: sum.part_b + table.part_b,
            whole_b: sum.whole_b + table.whole_b,
        })
    }

    /// Returns the smallest of the four counts to expect if both shares were equal; `None` without
    /// people.
    pub fn least_expected(&self) -> Option<f64> {
        let all = real(self.whole_a + self.whole_b);
        let did = real(self.part_a + self.part_b);
        let least_column = did.min(all - did);
        let least_row = real(self.whole_a.min(self.whole_b));
        (all > 0.0).then(|| least_column * least_row / all)
    }
}

/// Returns the difference of two shares with Newcombe's 95 % interval, which combines the
/// [Wilson intervals](wilson) of both; `None` if a group is empty.
///
/// Source: R. G. Newcombe, "Interval estimation for the difference between independent
/// proportions", Statistics in Medicine 17 (1998), method 10.
///
/// ```
/// use cohortist::stats::{TwoByTwo, newcombe};
/// let table = TwoByTwo { part_a: 1_023, whole_a: 2_505, part_b: 233, whole_b: 700 };
/// let found = newcombe(&table).unwrap();
/// assert_eq!(format!("{:.4}", found.difference), "0.0755");
/// assert_eq!(format!("{:.4} {:.4}", found.interval.0, found.interval.1), "0.0350 0.1146");
/// ```
pub fn newcombe(table: &TwoByTwo) -> Option<Difference> {
    let a = rate(table.part_a, table.whole_a)?;
    let b = rate(table.part_b, table.whole_b)?;
    let (low_a, high_a) = wilson(table.part_a, table.whole_a)?;
    let (low_b, high_b) = wilson(table.part_b, table.whole_b)?;
    let difference = a - b;
    let below = (a - low_a).hypot(high_b - b);
    let above = (high_a - a).hypot(b - low_b);
    Some(Difference {
        difference,
        interval: (difference - below, difference + above),
    })
}

/// Returns the probability that a chi-squared variable with one degree of freedom is at least
/// `statistic`.
fn chi_squared_tail(statistic: f64) -> f64 {
    libm::erfc((statistic / 2.0).sqrt())
}

/// Returns the p-value of Pearson's chi-squared test, without continuity correction; `None` if a
/// group is empty, or if nobody or everybody did it.
///
/// Use [`fisher`] if a count [to expect](TwoByTwo::least_expected) is below 5.
pub fn chi_squared(table: &TwoByTwo) -> Option<f64> {
    let a = rate(table.part_a, table.whole_a)?;
    let b = rate(table.part_b, table.whole_b)?;
    let both = rate(table.part_a + table.part_b, table.whole_a + table.whole_b)?;
    let variance = both * (1.0 - both) * (1.0 / real(table.whole_a) + 1.0 / real(table.whole_b));
    (variance > 0.0).then(|| chi_squared_tail((a - b) * (a - b) / variance))
}

/// Returns the two-sided p-value of the Cochran–Mantel–Haenszel test over strata, without
/// continuity correction. Strata in which a side is empty are skipped. `None` if no stratum says
/// anything.
///
/// Sources: W. G. Cochran, Biometrics 10 (1954); N. Mantel and W. Haenszel, JNCI 22 (1959).
pub fn mantel_haenszel(strata: &[Stratum]) -> Option<f64> {
    let mut excess = 0.0;
    let mut variance = 0.0;
    for stratum in strata {
        let whole = stratum.whole_a + stratum.whole_b;
        if stratum.whole_a == 0 || stratum.whole_b == 0 {
            continue;
        }
        let all = real(whole);
        let did = real(stratum.part_a + stratum.part_b);
        let a = real(stratum.whole_a);
        let b = real(stratum.whole_b);
        excess += real(stratum.part_a) - a * did / all;
        variance += a * b * did * (all - did) / (all * all * (all - 1.0));
    }
    (variance > 0.0).then(|| chi_squared_tail(excess * excess / variance))
}

/// Returns the two-sided p-value of Fisher's exact test: the probability of all tables with the
/// same totals that are at most as likely as this one.
///
/// Takes time in proportion to the smallest total; meant for small tables.
///
/// Source: R. A. Fisher, "The design of experiments" (1935).
pub fn fisher(table: &TwoByTwo) -> f64 {
    let did = table.part_a + table.part_b;
    let all = table.whole_a + table.whole_b;
    let least = did.saturating_sub(table.whole_b);
    let most = did.min(table.whole_a);
    let log_factorial = |n: u64| libm::lgamma(real(n) + 1.0);
    let log_choose = |n: u64, k: u64| log_factorial(n) - log_factorial(k) - log_factorial(n - k);
    let log_probability = |part_a: u64| {
        log_choose(table.whole_a, part_a) + log_choose(table.whole_b, did - part_a)
            - log_choose(all, did)
    };
    // Tables that are exactly as likely may differ in the last digits.
    let limit = log_probability(table.part_a) + 1e-7;
    let sum: f64 = (least..=most)
        .map(log_probability)
        .filter(|probability| *probability <= limit)
        .map(f64::exp)
        .sum();
    sum.min(1.0)
}

/// Returns the p-values of several tests with Holm's correction, in the same order.
///
/// Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal
/// of Statistics 6 (1979).
///
/// ```
/// use cohortist::stats::holm;
/// assert_eq!(holm(&[0.5, 0.01, 0.3]), [0.6, 0.03, 0.6]);
/// ```
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (tests, index) in (1..=p_values.len()).rev().zip(order) {
        #[allow(clippy::cast_precision_loss)] // There are at most a few hundred tests.
        let own = p_values[index] * tests as f64;
        largest = largest.max(own).min(1.0);
        corrected[index] = largest;
    }
    corrected
}
