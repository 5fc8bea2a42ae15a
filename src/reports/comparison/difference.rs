//! The difference of two groups at one column, and whether it could be chance.

use crate::reports::retention::FEWEST_PEOPLE;
use crate::stats::{
    Difference as Estimate, TwoByTwo, chi_squared, fisher, holm, mantel_haenszel, newcombe,
};

/// The corrected p-value below which a difference is unlikely to be chance.
const UNLIKELY: f64 = 0.05;

/// The smallest count to expect for which the other tests are used instead of Fisher's.
const LEAST_EXPECTED: f64 = 5.0;

/// How a difference was tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The Cochran–Mantel–Haenszel test over cohorts.
    MantelHaenszel,
    /// The chi-squared test of the pooled table.
    ChiSquared,
    /// Fisher's exact test of the pooled table.
    Fisher,
}

impl Method {
    /// Its name in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::MantelHaenszel => "cochran_mantel_haenszel",
            Method::ChiSquared => "chi_squared",
            Method::Fisher => "fisher",
        }
    }

    /// Its name for people.
    pub const fn words(self) -> &'static str {
        match self {
            Method::MantelHaenszel => "Cochran–Mantel–Haenszel test over cohorts",
            Method::ChiSquared => "chi-squared test",
            Method::Fisher => "Fisher’s exact test",
        }
    }
}

/// Why a difference has no test, or no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTest {
    /// People are in both groups.
    Overlap,
    /// More than 1 % of the entries are of people who are in several cohorts.
    Repeats,
    /// No cohort with people is complete on both sides.
    NothingComplete,
    /// No cohort has people on both sides.
    NothingInCommon,
    /// Fewer than [`FEWEST_PEOPLE`] people on a side: there is a test, and no verdict.
    FewPeople,
}

impl NoTest {
    /// The name used in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            NoTest::Overlap => "groups_overlap",
            NoTest::Repeats => "people_in_several_cohorts",
            NoTest::NothingComplete => "nothing_complete",
            NoTest::NothingInCommon => "no_common_cohort",
            NoTest::FewPeople => "few_people",
        }
    }
}

/// Whether a difference could be chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The corrected p-value is below 0.05.
    Unlikely,
    /// It is not.
    Could,
}

impl Verdict {
    /// The words for people and files.
    pub const fn words(self) -> &'static str {
        match self {
            Verdict::Unlikely => "unlikely to be chance",
            Verdict::Could => "could be chance",
        }
    }
}

/// The test of a difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// The two-sided p-value.
    pub p: f64,
    /// The same after Holm's correction for all tests of the comparison.
    pub p_holm: f64,
    /// How it was tested.
    pub method: Method,
}

/// The difference of two groups at one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The group that is the first of the two, whose rate the other one is subtracted from.
    pub of: usize,
    /// The group that is subtracted.
    pub minus: usize,
    /// The place of the column.
    pub column: usize,
    /// How many cohorts went in.
    pub cohorts: usize,
    /// The people of both, added up over the cohorts.
    pub pooled: TwoByTwo,
    /// The difference of the rates. `None` if a side has no people.
    pub estimate: Option<Estimate>,
    /// The test. `None` without one.
    pub test: Option<Test>,
    /// Why there is no test or no verdict.
    pub reason: Option<NoTest>,
}

impl Difference {
    /// Compares two groups from their counts in each cohort. With `by_cohort` they have the cohorts
    /// in common. `untested` is why there must not be a test.
    pub fn new(
        (of, minus): (usize, usize),
        column: usize,
        cohorts: &[TwoByTwo],
        by_cohort: bool,
        untested: Option<NoTest>,
    ) -> Self {
        let pooled = TwoByTwo::pooled(cohorts.iter().copied());
        let estimate = newcombe(&pooled);
        let tested = match untested {
            Some(reason) => Err(reason),
            None if estimate.is_none() => Err(NoTest::NothingComplete),
            None => test(&pooled, cohorts, by_cohort),
        };
        let is_small = pooled.whole_a.min(pooled.whole_b) < FEWEST_PEOPLE;
        Difference {
            of,
            minus,
            column,
            cohorts: cohorts.len(),
            pooled,
            estimate,
            test: tested.ok().map(|(p, method)| Test {
                p,
                p_holm: p,
                method,
            }),
            reason: tested.err().or(is_small.then_some(NoTest::FewPeople)),
        }
    }

    /// Formats the difference in percentage points, with its sign: `+7.6`.
    pub fn points(&self) -> Option<String> {
        Some(signed(self.estimate?.difference))
    }

    /// Formats its interval in percentage points: `+3.5 to +11.5`.
    pub fn interval_points(&self) -> Option<String> {
        let (low, high) = self.estimate?.interval;
        Some(format!("{} to {}", signed(low), signed(high)))
    }

    /// Whether the difference could be chance. `None` if there is no test, or there are too few
    /// people.
    pub fn verdict(&self) -> Option<Verdict> {
        let test = self.test.filter(|_| self.reason.is_none())?;
        Some(if test.p_holm < UNLIKELY {
            Verdict::Unlikely
        } else {
            Verdict::Could
        })
    }
}

/// Formats a difference (0.1 is 10 points) in percentage points, with its sign: `+1.9`, `−0.8`,
/// `0.0`.
fn signed(difference: f64) -> String {
    match format!("{:+.1}", difference * 100.0).as_str() {
        "+0.0" | "-0.0" => "0.0".to_owned(),
        signed => signed.replace('-', "−"),
    }
}

/// Returns the p-value of a difference, and how it was found.
fn test(pooled: &TwoByTwo, cohorts: &[TwoByTwo], by_cohort: bool) -> Result<(f64, Method), NoTest> {
    let least = pooled.least_expected();
    if least.is_none_or(|least| least < LEAST_EXPECTED) {
        return Ok((fisher(pooled), Method::Fisher));
    }
    let found = match by_cohort {
        true => (mantel_haenszel(cohorts), Method::MantelHaenszel),
        false => (chi_squared(pooled), Method::ChiSquared),
    };
    match found {
        (Some(p), method) => Ok((p, method)),
        (None, _) => Err(NoTest::NothingInCommon),
    }
}

/// Corrects all tests with Holm's method, and returns how many they are.
pub(super) fn correct(differences: &mut [Difference]) -> usize {
    let mut tests: Vec<&mut Test> = differences
        .iter_mut()
        .filter_map(|difference| difference.test.as_mut())
        .collect();
    let corrected = holm(&tests.iter().map(|test| test.p).collect::<Vec<_>>());
    for (test, corrected) in tests.iter_mut().zip(corrected) {
        test.p_holm = corrected;
    }
    tests.len()
}
