//! The endpoint of the trends report.

use crate::endpoints::Description;
use crate::endpoints::endpoint::Plain;
use crate::endpoints::range::{BY, FROM, ROWS, range};
use crate::reports::comparison::BREAKDOWN;
use crate::reports::trends::{Rolling, Trends as Report};
use crate::reports::{Arity, Field, Kind, Params, Problem, Reader, WEEK, ZONE};

/// See [`crate::reports::trends`].
pub(super) static TRENDS: Plain<Report> = Plain {
    description: &DESCRIPTION,
    read,
};

const FIELDS: &[Field] = &[
    Field {
        name: "event",
        help: "Who is counted: 1 to 6 events or segments such as `active & (web | ios)`",
        kind: Kind::Segment,
        arity: Arity::Several,
    },
    BREAKDOWN,
    BY,
    Field {
        name: "rolling",
        help: "People of the 7d, 28d or 30d up to each day [default: of each period]",
        kind: Kind::Text,
        arity: Arity::Optional,
    },
    FROM,
    ROWS,
    WEEK,
    ZONE,
];

fn read(params: &Params) -> Result<Report, Vec<Problem>> {
    let mut read = Reader::new(FIELDS, params);
    let segments = read.several_segments("event");
    let breakdown = read.parsed(BREAKDOWN.name);
    let rolling: Option<Rolling> = read.parsed("rolling");
    let range = range(&mut read);
    read.finish(Some(Report {
        segments,
        breakdown,
        range,
        rolling,
    }))
}

static DESCRIPTION: Description = Description {
    name: "trends",
    about: "Show how many people are active, by period or in rolling windows",
    fields: FIELDS,
    examples: &[
        ("trends active", "the last 30 days"),
        (
            "trends active signup --by week --rows 12",
            "two lines, 12 weeks",
        ),
        (
            "trends active --breakdown 'plan:*'",
            "a line for each plan",
        ),
        (
            "trends active --rolling 28d --rows 90",
            "rolling monthly people",
        ),
    ],
    explanation: "A rolling window counts each person once, who was active on any of its days; it needs --by day.
stickiness, with --rolling 28d: mean people a day ÷ people of the 28 days. * so far. ≥ at least: a
part of the window is not recorded. – not recorded.",
};
