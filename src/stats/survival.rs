//! Survival: the share that remains, period after period, when some are observed for longer than
//! others.

use crate::stats::Z_95;

/// The people observed at one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtRisk {
    /// People who remained until this step and are observed in it.
    pub at_risk: u64,
    /// Those of them who did not remain.
    pub lost: u64,
}

/// An estimate of the share that remains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Survival {
    /// The share, 0–1.
    pub rate: f64,
    /// Its 95 % interval; `None` at 0 and 1.
    pub interval: Option<(f64, f64)>,
}

/// Returns the Kaplan–Meier estimate after each step, up to the first one at which nobody is at
/// risk. The interval is of the log(−log) kind with Greenwood's standard error.
///
/// Sources: E. L. Kaplan and P. Meier, JASA 53 (1958); M. Greenwood (1926); J. D. Kalbfleisch and
/// R. L. Prentice, "The statistical analysis of failure time data" (1980).
///
/// ```
/// use cohortist::stats::{AtRisk, kaplan_meier};
/// let steps = [AtRisk { at_risk: 21, lost: 3 }, AtRisk { at_risk: 17, lost: 1 }];
/// let survival = kaplan_meier(steps);
/// assert_eq!(format!("{:.3} {:.3}", survival[0].rate, survival[1].rate), "0.857 0.807");
/// ```
#[allow(clippy::cast_precision_loss)] // Counts stay far below 2⁵³.
pub fn kaplan_meier(steps: impl IntoIterator<Item = AtRisk>) -> Vec<Survival> {
    let mut rate = 1.0;
    let mut greenwood = 0.0;
    let observed = steps.into_iter().take_while(|step| step.at_risk > 0);
    observed
        .map(|AtRisk { at_risk, lost }| {
            let remained = at_risk
                .checked_sub(lost)
                .expect("nobody is lost who was not at risk");
            rate *= remained as f64 / at_risk as f64;
            greenwood += lost as f64 / (at_risk as f64 * remained as f64);
            let interval = (rate > 0.0 && rate < 1.0).then(|| {
                let exponent = Z_95 * greenwood.sqrt() / f64::ln(rate).abs();
                (rate.powf(exponent.exp()), rate.powf((-exponent).exp()))
            });
            Survival { rate, interval }
        })
        .collect()
}
