//! The endpoint of the lifecycle report.

use crate::endpoints::Description;
use crate::endpoints::endpoint::Plain;
use crate::endpoints::range::{BY, FROM, ROWS, range};
use crate::reports::lifecycle::Lifecycle as Report;
use crate::reports::{Arity, Field, Kind, Params, Problem, Reader, WEEK, ZONE};

/// See [`crate::reports::lifecycle`].
pub(super) static LIFECYCLE: Plain<Report> = Plain {
    description: &DESCRIPTION,
    read,
};

const FIELDS: &[Field] = &[
    Field {
        name: "event",
        help: "Whose lifecycle: an event or a segment such as `active & (web | ios)`",
        kind: Kind::Segment,
        arity: Arity::Required,
    },
    BY,
    FROM,
    ROWS,
    WEEK,
    ZONE,
];

fn read(params: &Params) -> Result<Report, Vec<Problem>> {
    let mut read = Reader::new(FIELDS, params);
    let segment = read.segment("event");
    let range = range(&mut read);
    read.finish(segment.map(|segment| Report { segment, range }))
}

static DESCRIPTION: Description = Description {
    name: "lifecycle",
    about: "Split active users into new, returning and resurrected, and show who left",
    fields: FIELDS,
    examples: &[
        ("lifecycle active", "the last 30 days"),
        ("lifecycle active --by week --rows 12", "the last 12 weeks"),
        ("lifecycle 'active & !ios@ever' --by month", "not on iOS"),
    ],
    explanation: "new: in no earlier period. returning: also in the period before. resurrected: in an earlier period,
not in the one before. dormant: in the period before, not in this one; in a period in progress, not
back yet. quick_ratio: (new + resurrected) ÷ dormant. * so far. ≥ at least: the first recorded
period, in which every user would look new. – not recorded.",
};
