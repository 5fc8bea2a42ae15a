//! How the people of a retention question are divided into groups.

use std::fmt;
use std::str::FromStr;

use chrono::NaiveDate;

use crate::reports::params::{Problem, Reader};
use crate::sets::Segment;

/// The maximum number of segments that are compared; the minimum is 2.
pub const MAX_SEGMENTS: usize = 6;

/// What the groups of a comparison are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    /// A group for each event whose name has a beginning.
    Breakdown(Values),
    /// A group for each of 2–[`MAX_SEGMENTS`] segments: the users of the cohort who are in it in
    /// the cohort's period.
    Compare(Vec<Segment>),
    /// The cohorts before a date, and those from it on.
    Split(NaiveDate),
}

/// The values of a property: the events whose names begin with a text, such as `country:*`.
///
/// ```
/// use cohortist::reports::comparison::Values;
/// let values: Values = "country:*".parse()?;
/// assert_eq!((values.start.as_str(), values.is_today), ("country:", false));
/// let today: Values = "country:*@ever".parse()?;
/// assert_eq!((today.to_string().as_str(), today.is_today), ("country:*@ever", true));
/// assert!("country:DE".parse::<Values>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// The beginning of the names.
    pub start: String,
    /// Whether users are grouped as they are known today, even if the values have dates.
    pub is_today: bool,
}

impl FromStr for Values {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (beginning, is_today) = match text.strip_suffix("@ever") {
            Some(beginning) => (beginning, true),
            None => (text, false),
        };
        let Some(start) = beginning.strip_suffix('*') else {
            return Err(
                "write the beginning of the values' names with a `*` at its end, such as `country:*`"
                    .to_owned(),
            );
        };
        Ok(Values {
            start: start.to_owned(),
            is_today,
        })
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ever = if self.is_today { "@ever" } else { "" };
        write!(f, "{}*{ever}", self.start)
    }
}

impl Grouping {
    /// The fields of a question that divide people into groups. Only one of them may be given.
    const FIELDS: [&'static str; 3] = ["breakdown", "compare", "split"];

    /// Reads the fields `breakdown`, `compare` and `split`.
    pub fn read(read: &mut Reader<'_>) -> Option<Grouping> {
        let given: Vec<&str> = Self::FIELDS
            .into_iter()
            .filter(|name| !read.text(name).is_empty())
            .collect();
        if let [first, second, ..] = given[..] {
            let field = Self::FIELDS.into_iter().find(|name| *name == second);
            let message = format!(
                "`{first}` and `{second}` exclude each other: each divides people into groups. \
                 Remove one of them"
            );
            read.reject(Problem::new(field.expect("it is one of them"), message));
        }
        let breakdown = read.parsed("breakdown").map(Grouping::Breakdown);
        let segments = read.segments("compare");
        let split = read.date("split").map(Grouping::Split);
        breakdown.or_else(|| compared(read, segments)).or(split)
    }

    /// The name of its field.
    pub fn field(&self) -> &'static str {
        match self {
            Grouping::Breakdown(_) => "breakdown",
            Grouping::Compare(_) => "compare",
            Grouping::Split(_) => "split",
        }
    }

    /// The values of its field.
    pub fn values(&self) -> Vec<String> {
        match self {
            Grouping::Breakdown(values) => vec![values.to_string()],
            Grouping::Compare(segments) => segments.iter().map(ToString::to_string).collect(),
            Grouping::Split(date) => vec![date.to_string()],
        }
    }

    /// The segments that it names.
    pub fn segments(&self) -> &[Segment] {
        match self {
            Grouping::Compare(segments) => segments,
            Grouping::Breakdown(_) | Grouping::Split(_) => &[],
        }
    }

    /// The same with each segment changed.
    #[must_use]
    pub fn map(&self, change: impl Fn(&Segment) -> Segment) -> Grouping {
        match self {
            Grouping::Compare(segments) => Grouping::Compare(segments.iter().map(change).collect()),
            other => other.clone(),
        }
    }
}

/// Checks the segments of `compare`.
fn compared(read: &mut Reader<'_>, segments: Vec<Segment>) -> Option<Grouping> {
    let count = read.all("compare").len();
    if count == 0 {
        return None;
    }
    if !(2..=MAX_SEGMENTS).contains(&count) {
        let message = match count {
            1 => "one segment has nothing to be compared with: give `compare` 2 to 6 times"
                .to_owned(),
            _ => format!("{count} segments: compare 2 to {MAX_SEGMENTS}"),
        };
        read.reject(Problem::new("compare", message));
    }
    let twice = (1..segments.len()).find(|at| segments[..*at].contains(&segments[*at]));
    if let Some(at) = twice {
        read.reject(Problem {
            index: Some(at),
            ..Problem::new(
                "compare",
                format!("`{}` is given twice; remove one of them", segments[at]),
            )
        });
    }
    Some(Grouping::Compare(segments))
}
