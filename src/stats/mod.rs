//! Statistics of shares: intervals, comparisons and survival. Pure functions of counts.

mod compare;
mod shares;
mod survival;

pub use compare::{
    Difference, Stratum, TwoByTwo, chi_squared, fisher, holm, mantel_haenszel, newcombe,
};
pub use shares::{Z_95, mean, median, rate, standard_error, wilson};
pub use survival::{AtRisk, Survival, kaplan_meier};
