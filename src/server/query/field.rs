//! The fields of the forms, and problems with their values.

use std::fmt;

use crate::render::words;
use crate::reports::QueryError;

/// A field of the form, by its name in the query string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// `cohort`
    Cohort,
    /// `cohort_and`, and which of them, from 0.
    CohortAnd(usize),
    /// `returning`
    Returning,
    /// `returning_and`, and which of them, from 0.
    ReturningAnd(usize),
    /// `by`
    By,
    /// `rows`
    Rows,
    /// `cols`
    Cols,
    /// `brackets`
    Brackets,
    /// `from`
    From,
    /// `to`
    To,
    /// `measure`
    Measure,
    /// `as`
    As,
    /// `average`
    Average,
    /// `goal`
    Goal,
    /// `previous`
    Previous,
    /// `breakdown`
    Breakdown,
    /// `compare`, and which of them, from 0.
    Compare(usize),
    /// `split`
    Split,
    /// `week`
    Week,
    /// `zone`
    Zone,
    /// `order`
    Order,
    /// `scale`
    Scale,
    /// `trend`: a column, 0 being the first.
    Trend,
    /// `group`: the group whose cohorts are shown.
    Group,
    /// `range`: one of the [`Range`](super::Range)s, to be put in place of dates and sizes.
    Range,
    /// `name`: the name for a saved list of people.
    Name,
    /// `at`: a cohort's period, on the people page, like the following fields.
    At,
    /// `k`: a column.
    Column,
    /// `who`
    Who,
    /// `set`
    Set,
    /// `after`: the user id after which a page begins.
    After,
    /// `limit`: the maximum number of users.
    Limit,
    /// `id`: a user.
    User,
    /// A field of a report that has no label of its own.
    Other(&'static str),
}

impl Field {
    /// Returns the field of a report by its name, and which of its values.
    pub fn of_report(name: &'static str, index: Option<usize>) -> Self {
        match (name, index) {
            ("cohort_and", Some(index)) => Field::CohortAnd(index),
            ("returning_and", Some(index)) => Field::ReturningAnd(index),
            ("cohort", _) => Field::Cohort,
            ("returning", _) => Field::Returning,
            ("by", _) => Field::By,
            ("rows", _) => Field::Rows,
            ("cols", _) => Field::Cols,
            ("brackets", _) => Field::Brackets,
            ("from", _) => Field::From,
            ("to", _) => Field::To,
            ("measure", _) => Field::Measure,
            ("as", _) => Field::As,
            ("average", _) => Field::Average,
            ("goal", _) => Field::Goal,
            ("previous", _) => Field::Previous,
            ("breakdown", _) => Field::Breakdown,
            ("compare", index) => Field::Compare(index.unwrap_or(0)),
            ("split", _) => Field::Split,
            ("week", _) => Field::Week,
            ("zone", _) => Field::Zone,
            ("set", _) => Field::Set,
            ("after", _) => Field::After,
            ("limit", _) => Field::Limit,
            ("id", _) => Field::User,
            (other, _) => Field::Other(other),
        }
    }
}

impl Field {
    /// Returns its name in the query string.
    pub const fn name(self) -> &'static str {
        match self {
            Field::Cohort => "cohort",
            Field::CohortAnd(_) => "cohort_and",
            Field::Returning => "returning",
            Field::ReturningAnd(_) => "returning_and",
            Field::By => "by",
            Field::Rows => "rows",
            Field::Cols => "cols",
            Field::Brackets => "brackets",
            Field::From => "from",
            Field::To => "to",
            Field::Measure => "measure",
            Field::As => "as",
            Field::Average => "average",
            Field::Goal => "goal",
            Field::Previous => "previous",
            Field::Breakdown => "breakdown",
            Field::Compare(_) => "compare",
            Field::Split => "split",
            Field::Group => "group",
            Field::Week => "week",
            Field::Zone => "zone",
            Field::Order => "order",
            Field::Scale => "scale",
            Field::Trend => "trend",
            Field::Range => "range",
            Field::Name => "name",
            Field::At => "at",
            Field::Column => "k",
            Field::Who => "who",
            Field::Set => "set",
            Field::After => "after",
            Field::Limit => "limit",
            Field::User => "id",
            Field::Other(name) => name,
        }
    }
}

impl Field {
    /// Whether its values are segments.
    pub const fn is_segment(self) -> bool {
        matches!(
            self,
            Field::Cohort
                | Field::CohortAnd(_)
                | Field::Returning
                | Field::ReturningAnd(_)
                | Field::Compare(_)
        )
    }

    /// Returns its label on pages.
    pub const fn label(self) -> &'static str {
        match self {
            Field::Cohort => "People who did",
            Field::CohortAnd(_) | Field::ReturningAnd(_) => "and",
            Field::Returning => "came back to",
            Field::Rows => "cohorts",
            Field::Cols => "periods",
            Field::Brackets => "or brackets",
            Field::Measure => "counted",
            Field::As => "show",
            Field::Breakdown => "by values",
            Field::Compare(0) => "or compare",
            Field::Compare(_) => "with",
            Field::Split => "or before and after",
            Field::Goal => "goal in %",
            Field::Previous => "range before",
            Field::At => "cohort of",
            Field::Column => "column",
            Field::Set => "People in",
            Field::User => "User",
            Field::Name => "Name",
            Field::Trend => "column of the trend",
            Field::Week => "weeks from",
            Field::Zone => "time zone",
            Field::Who
            | Field::After
            | Field::Limit
            | Field::Range
            | Field::Group
            | Field::Order
            | Field::Scale => self.name(),
            Field::By | Field::From | Field::To | Field::Average | Field::Other(_) => self.name(),
        }
    }
}

/// Formats the field's name, which is also its id on the page: `cohort`, `cohort_and-1`.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::CohortAnd(i) | Field::ReturningAnd(i) | Field::Compare(i) => {
                write!(f, "{}-{i}", self.name())
            }
            _ => f.write_str(self.name()),
        }
    }
}

/// A problem with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field.
    pub field: Field,
    /// What is wrong, and a valid example.
    pub message: String,
    /// The position of the problem in a segment, in characters from 1.
    pub column: Option<usize>,
}

impl Problem {
    pub(crate) fn new(field: Field, message: impl Into<String>) -> Self {
        Problem {
            field,
            message: message.into(),
            column: None,
        }
    }

    /// Replaces backticks by quotes, for pages.
    pub fn for_page(self) -> Self {
        Problem {
            message: words::curly(&self.message),
            ..self
        }
    }

    /// Converts a problem with a field of a report.
    pub fn of_report(problem: crate::reports::Problem) -> Self {
        Problem {
            field: Field::of_report(problem.field, problem.index),
            message: problem.message,
            column: problem.column,
        }
    }

    /// Converts an error to a problem of the field that causes it.
    pub fn of_query(error: &QueryError) -> Self {
        // Errors about the size of the table have no field of their own.
        let field = error.field().unwrap_or("rows");
        Problem::new(Field::of_report(field, None), error.to_string())
    }
}
