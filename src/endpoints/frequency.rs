//! The endpoint of the frequency report.

use crate::endpoints::Description;
use crate::endpoints::endpoint::Plain;
use crate::reports::frequency::{Frequency as Report, Window};
use crate::reports::{Arity, Field, Kind, Params, Problem, Reader, WEEK, ZONE};

/// See [`crate::reports::frequency`].
pub(super) static FREQUENCY: Plain<Report> = Plain {
    description: &DESCRIPTION,
    read,
};

/// How many weeks are shown beside the window.
const WEEKS: u32 = 8;

const FIELDS: &[Field] = &[
    Field {
        name: "event",
        help: "Who is counted: an event or a segment such as `active & (web | ios)`",
        kind: Kind::Segment,
        arity: Arity::Required,
    },
    Field {
        name: "window",
        help: "Its length in days or weeks: 7d, 28d, 30d, 4w [default: 28d]",
        kind: Kind::Text,
        arity: Arity::Optional,
    },
    Field {
        name: "to",
        help: "The last day of the window [default: the last complete one]",
        kind: Kind::Date,
        arity: Arity::Optional,
    },
    WEEK,
    ZONE,
];

fn read(params: &Params) -> Result<Report, Vec<Problem>> {
    let mut read = Reader::new(FIELDS, params);
    let segment = read.segment("event");
    let window: Window = read.word("window");
    let week = read.week_start();
    let zone = read.zone();
    let to = read.date("to");
    read.finish(segment.map(|segment| Report {
        segment,
        window: window.with_weeks(week),
        to,
        weeks: WEEKS,
        week,
        zone,
    }))
}

static DESCRIPTION: Description = Description {
    name: "frequency",
    about: "Show on how many days of a window people were active",
    fields: FIELDS,
    examples: &[
        ("frequency active", "28 complete days"),
        ("frequency active --window 7d --to 2026-11-22", "one week"),
        ("frequency 'active & web' --window 12w", "weeks, not days"),
    ],
    explanation: "exactly: people with exactly so many active days in the window; at_least: with so many or more.
Days count, not how often an event happened: twenty marks on one day are one day. * the window is
not over. ≥ at least: the window begins before the first record. – not recorded.",
};
