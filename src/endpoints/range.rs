//! The fields of a range of periods.

use crate::reports::range::Range;
use crate::reports::{Arity, Field, Kind, MAX_PERIODS, Reader};

/// The length of a period.
pub(super) const BY: Field = Field {
    name: "by",
    help: "The length of a period",
    kind: Kind::Word(&["day", "hour", "week", "month", "year"]),
    arity: Arity::Optional,
};

/// The first period.
pub(super) const FROM: Field = Field {
    name: "from",
    help: "The first period is the one that contains this date",
    kind: Kind::Date,
    arity: Arity::Optional,
};

/// The number of periods.
pub(super) const ROWS: Field = Field {
    name: "rows",
    help: "How many periods [default: 30 days, 48 hours, 26 weeks, 12 months, 5 years]",
    kind: Kind::Number(1, MAX_PERIODS),
    arity: Arity::Optional,
};

/// Reads these fields, [`WEEK`](crate::reports::WEEK) and [`ZONE`](crate::reports::ZONE).
pub(super) fn range(read: &mut Reader<'_>) -> Range {
    Range {
        grain: read.grain(BY.name),
        from: read.date(FROM.name),
        rows: read.number(ROWS.name, 1, MAX_PERIODS),
        zone: read.zone(),
    }
}
