//! The fields of a retention question.

use crate::calendar::Grain;
use crate::reports::comparison::{BREAKDOWN, Grouping};
use crate::reports::limits::{MAX_COLS, MAX_ROWS};
use crate::reports::params::{Arity, Field, Kind, Params, Problem, Reader, WEEK, ZONE};
use crate::reports::retention::query::{Averaging, Measure, PreviousRange, Query, Show};
use crate::sets::Segment;

/// Every field of a retention question.
pub const FIELDS: &[Field] = &[
    Field {
        name: "cohort",
        help: "Who starts: a segment such as `signup & (web | ios)`",
        kind: Kind::Segment,
        arity: Arity::Required,
    },
    Field {
        name: "returning",
        help: "What counts as coming back: a segment",
        kind: Kind::Segment,
        arity: Arity::Required,
    },
    Field {
        name: "cohort_and",
        help: "A further segment that the cohort must be in",
        kind: Kind::Segment,
        arity: Arity::Repeated,
    },
    Field {
        name: "returning_and",
        help: "A further segment that returning users must be in",
        kind: Kind::Segment,
        arity: Arity::Repeated,
    },
    Field {
        name: "by",
        help: "The length of a period",
        kind: Kind::Word(&["day", "hour", "week", "month", "year"]),
        arity: Arity::Optional,
    },
    Field {
        name: "rows",
        help: "How many cohorts [default: 14 days, 12 weeks or months, 5 years, 24 hours]",
        kind: Kind::Number(1, MAX_ROWS),
        arity: Arity::Optional,
    },
    Field {
        name: "cols",
        help: "How many periods, the cohort's own included [default: as rows]",
        kind: Kind::Number(1, MAX_COLS),
        arity: Arity::Optional,
    },
    Field {
        name: "brackets",
        help: "Ranges of periods as columns instead, such as 1,2-7,8-14,15-30",
        kind: Kind::Text,
        arity: Arity::Optional,
    },
    Field {
        name: "from",
        help: "A date in the first cohort",
        kind: Kind::Date,
        arity: Arity::Optional,
    },
    Field {
        name: "to",
        help: "A date in the last cohort [default: the newest]",
        kind: Kind::Date,
        arity: Arity::Optional,
    },
    Field {
        name: "measure",
        help: "Which users return: in the period, in it or later, until it, or in each",
        kind: Kind::Word(&["on", "on_or_after", "on_or_before", "unbroken"]),
        arity: Arity::Optional,
    },
    Field {
        name: "as",
        help: "What the cells of a wide table show",
        kind: Kind::Word(&["percent", "count", "previous"]),
        arity: Arity::Optional,
    },
    Field {
        name: "average",
        help: "How averages weigh cohorts; unbroken returns have survival by default",
        kind: Kind::Word(&["weighted", "simple", "survival"]),
        arity: Arity::Optional,
    },
    Field {
        name: "goal",
        help: "A share in percent that the chart shows as a line",
        kind: Kind::Number(0, 100),
        arity: Arity::Optional,
    },
    Field {
        name: "previous",
        help: "Whether the chart also shows as many cohorts just before: 1 for yes",
        kind: Kind::Word(&["0", "1"]),
        arity: Arity::Optional,
    },
    BREAKDOWN,
    Field {
        name: "compare",
        help: "A segment as a group; 2 to 6 of them are compared with the first",
        kind: Kind::Segment,
        arity: Arity::Repeated,
    },
    Field {
        name: "split",
        help: "A date: cohorts before it are compared with those from it on",
        kind: Kind::Date,
        arity: Arity::Optional,
    },
    WEEK,
    ZONE,
];

/// A retention question as its fields have it: the filters are apart from the two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The question without the filters.
    pub bare: Query,
    /// The filters of the cohort.
    pub cohort_and: Vec<Segment>,
    /// The filters of coming back.
    pub returning_and: Vec<Segment>,
    /// What the cells of a wide table show.
    pub show: Show,
    /// A share in percent that the chart shows as a line.
    pub goal: Option<u32>,
    /// Whether the chart also shows as many cohorts just before.
    pub previous: PreviousRange,
    /// The groups, if the question has any.
    pub grouping: Option<Grouping>,
}

impl Parts {
    /// Reads the fields.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(params: &Params) -> Result<Self, Vec<Problem>> {
        let mut read = Reader::new(FIELDS, params);
        let cohort = read.segment("cohort");
        let cohort_and = read.segments("cohort_and");
        let returning = read.segment("returning");
        let returning_and = read.segments("returning_and");
        let grain = read.grain("by");
        let zone = read.zone();
        let rows = read.number("rows", 1, MAX_ROWS);
        let cols = read.number("cols", 1, MAX_COLS);
        let brackets = read.parsed("brackets");
        let from = read.date("from");
        let to = read.date("to");
        let measure: Measure = read.word("measure");
        let show = read.word("as");
        if show == Show::Previous && !measure.is_nested() {
            read.reject(Problem::new(
                "as",
                "`previous` goes with `measure=on_or_after` and `measure=unbroken` only: there each \
                 column's people are among those of the column before it",
            ));
        }
        let averaging = match read.text("average") {
            "" => Averaging::default_for(measure),
            _ => read.word("average"),
        };
        let goal = read.number("goal", 0, 100);
        let previous = read.word("previous");
        let grouping = Grouping::read(&mut read);
        if previous == PreviousRange::Shown {
            let why = match (&grouping, grain) {
                (Some(_), _) => Some("goes with a question without groups only"),
                (None, Grain::Hour) => Some("goes with days and longer periods only"),
                (None, _) => None,
            };
            if let Some(why) = why {
                read.reject(Problem::new("previous", format!("the range before {why}")));
            }
        }
        let parts = cohort.zip(returning).map(|(cohort, returning)| Parts {
            bare: Query {
                rows,
                cols,
                brackets,
                from,
                to,
                measure,
                averaging,
                zone,
                ..Query::new(cohort, returning, grain)
            },
            cohort_and,
            returning_and,
            show,
            goal,
            previous,
            grouping,
        });
        read.finish(parts)
    }

    /// The question, with the filters joined to the two sides.
    pub fn query(&self) -> Query {
        let joined =
            |side: &Segment, filters: &[Segment]| side.clone().and_all(filters.iter().cloned());
        Query {
            cohort: joined(&self.bare.cohort, &self.cohort_and),
            returning: joined(&self.bare.returning, &self.returning_and),
            ..self.bare.clone()
        }
    }
}
