//! The columns of a retention table: single periods, or brackets such as days 2–7.

use std::fmt;
use std::str::FromStr;

use crate::calendar::Period;
use crate::reports::limits::MAX_COLS;

/// A column: the periods after the cohort's own that it stands for, both ends included. Its text is
/// that of a bracket: `1`, `2-7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Column {
    /// The first period, counted from the cohort's own, which is 0.
    pub first: u32,
    /// The last period; not before the first.
    pub last: u32,
}

impl Column {
    /// Returns the column of one period.
    pub const fn single(offset: u32) -> Self {
        Column {
            first: offset,
            last: offset,
        }
    }

    /// Returns how many periods it has.
    pub const fn width(self) -> u32 {
        self.last - self.first + 1
    }

    /// Returns its first and last period in the row of a cohort. Beyond the last supported year they
    /// are the last one before it.
    pub fn periods(self, cohort: Period) -> [Period; 2] {
        let at = |offset: u32| {
            let mut by = (0..=offset).rev();
            by.find_map(|by| cohort.shift(by.into()).ok())
                .expect("the cohort is within the supported years")
        };
        [at(self.first), at(self.last)]
    }

    /// Returns the start of the first period and the exclusive end of the last one as ISO text.
    pub fn iso_bounds(self, cohort: Period) -> [String; 2] {
        let [first, last] = self.periods(cohort);
        let [start, _] = first.iso_bounds();
        let [_, end] = last.iso_bounds();
        [start, end]
    }

    /// Returns its text for people, with a dash: `1`, `2–7`.
    pub fn label(self) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}–{}", self.first, self.last)
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Ranges of periods as the columns of a table, such as `1,2-7,8-14,15-30`: in ascending order,
/// without overlap. There is at least one.
///
/// ```
/// use cohortist::reports::retention::Brackets;
/// let brackets: Brackets = " 1, 2-7,15-30".parse()?;
/// assert_eq!(brackets.to_string(), "1,2-7,15-30");
/// let error = |text: &str| text.parse::<Brackets>().unwrap_err().to_string();
/// assert!(error("7-2").contains("2-7"));
/// assert!("1,1-7".parse::<Brackets>().is_err());
/// assert!("1-400".parse::<Brackets>().is_err());
/// # Ok::<(), cohortist::reports::retention::BracketsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Brackets(Vec<Column>);

impl Brackets {
    /// The columns, in order.
    pub fn columns(&self) -> &[Column] {
        &self.0
    }

    /// Returns the last period of the last bracket.
    pub fn last(&self) -> u32 {
        self.0.last().expect("there is at least one bracket").last
    }
}

impl fmt::Display for Brackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, column) in self.0.iter().enumerate() {
            let separator = if place > 0 { "," } else { "" };
            write!(f, "{separator}{column}")?;
        }
        Ok(())
    }
}

/// Why a text is not a list of brackets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BracketsError {
    /// A part that is neither a number nor a range.
    #[error("`{0}` is not a range of periods: write numbers and ranges such as `1,2-7,8-14,15-30`")]
    Range(String),
    /// A range whose end comes before its beginning.
    #[error("`{last}-{first}` goes backwards: write `{first}-{last}`")]
    Backwards {
        /// The smaller number, given last.
        first: u32,
        /// The greater number, given first.
        last: u32,
    },
    /// A period beyond the maximum.
    #[error("`{0}` ends too late: the last period of a table is {last}", last = MAX_COLS - 1)]
    TooLate(Column),
    /// A range that does not follow the one before it.
    #[error(
        "`{next}` does not follow `{before}`: brackets go up and share no period, such as `1,2-7,8-14`"
    )]
    Order {
        /// The bracket before it.
        before: Column,
        /// The bracket.
        next: Column,
    },
}

/// The maximum length of a text that an error repeats, in characters.
const SHOWN: usize = 24;

impl FromStr for Column {
    type Err = BracketsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let wrong = || BracketsError::Range(text.chars().take(SHOWN).collect());
        let number = |part: &str| {
            let part = part.trim();
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            // A number too large to be read is too late as well.
            is_number.then(|| part.parse::<u32>().unwrap_or(u32::MAX - 1))
        };
        let (first, last) = match text.split_once(['-', '–']) {
            None => (text, text),
            Some(ends) => ends,
        };
        let (first, last) = number(first).zip(number(last)).ok_or_else(wrong)?;
        if first > last {
            return Err(BracketsError::Backwards {
                first: last,
                last: first,
            });
        }
        let column = Column { first, last };
        if last >= MAX_COLS {
            return Err(BracketsError::TooLate(column));
        }
        Ok(column)
    }
}

impl FromStr for Brackets {
    type Err = BracketsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let columns = text.split(',').map(str::parse);
        let columns: Vec<Column> = columns.collect::<Result<_, _>>()?;
        let out_of_order = columns
            .windows(2)
            .find(|pair| pair[1].first <= pair[0].last);
        match out_of_order {
            Some(pair) => Err(BracketsError::Order {
                before: pair[0],
                next: pair[1],
            }),
            None => Ok(Brackets(columns)),
        }
    }
}
