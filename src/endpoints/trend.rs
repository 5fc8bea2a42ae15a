//! The endpoint of the trend report.

use chrono::{DateTime, Utc};

use crate::calendar::Grain;
use crate::endpoints::{Answer, AnswerError, Description, Endpoint};
use crate::reports::trend::Trend as Report;
use crate::reports::{Arity, Field, Kind, MAX_PERIODS, Params, Problem, Reader};
use crate::tracker::{Run, Tracker};

/// See [`crate::reports::trend`].
pub struct Trend;

const FIELDS: &[Field] = &[
    Field {
        name: "segment",
        help: "Who is counted: an event or a segment such as `active & (web | ios)`",
        kind: Kind::Segment,
        arity: Arity::Required,
    },
    Field {
        name: "by",
        help: "The length of a period",
        kind: Kind::Word(&["day", "hour", "week", "month", "year"]),
        arity: Arity::Optional,
    },
    Field {
        name: "last",
        help: "How many periods [default: 30 days, 48 hours, 26 weeks, 12 months, 5 years]",
        kind: Kind::Number(1, MAX_PERIODS),
        arity: Arity::Optional,
    },
];

/// Returns the default number of periods.
const fn default_count(grain: Grain) -> u32 {
    match grain {
        Grain::Hour => 48,
        Grain::Day => 30,
        Grain::Week => 26,
        Grain::Month => 12,
        Grain::Year => 5,
    }
}

fn read(params: &Params) -> Result<Report, Vec<Problem>> {
    let mut read = Reader::new(FIELDS, params);
    let segment = read.segment("segment");
    let grain = read.word::<Grain>("by");
    let count = read.number("last", 1, MAX_PERIODS);
    let report = segment.map(|segment| Report {
        segment,
        grain,
        count: count.unwrap_or(default_count(grain)),
    });
    read.finish(report)
}

static DESCRIPTION: Description = Description {
    name: "trend",
    about: "Show how many users are in a segment, period by period",
    fields: FIELDS,
    examples: &[
        ("trend active", "the last 30 days"),
        (
            "trend 'active & web' --by week --last 12",
            "the last 12 weeks",
        ),
    ],
    explanation: "",
};

impl Endpoint for Trend {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn check(&self, params: &Params, _: DateTime<Utc>) -> Result<(), Vec<Problem>> {
        read(params).map(drop)
    }

    fn answer(
        &self,
        params: &Params,
        tracker: &Tracker,
        run: &Run<'_>,
    ) -> Result<Answer, AnswerError> {
        let answered = tracker.run(&read(params)?, run)?;
        Ok(Answer::of(answered, |activity| Box::new(activity)))
    }
}
