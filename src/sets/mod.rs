//! Sets of users as expressions over bitmap keys: names, keys, algebra, text and plans. All pure.

mod catalogue;
mod context;
mod counter;
mod history;
mod interner;
mod key;
mod labels;
mod lower;
mod offsets;
mod parse;
mod parse_set;
mod pattern;
mod phrase;
mod plan;
mod segment;
mod set;
mod user;

pub use catalogue::{Catalogue, Known};
pub use context::SetContext;
pub use counter::BitPlanes;
pub(crate) use interner::{Interner, StringList};
pub use key::{EventName, EventNameError, Key, KeyError, Prefix, SCRATCH, When};
pub use labels::{AmbiguousLabel, Label, Labels, labelled, resolved, typed};
pub use offsets::Offsets;
pub use parse::SyntaxError;
pub use parse_set::{parse_set, set_periods, set_reads_catalogue};
pub use pattern::Pattern;
pub use phrase::{PeriodWords, read_set};
pub(crate) use plan::Terms;
pub use plan::{
    CountId, Counts, MAX_TERMS, NODE_WORK, Node, NodeId, Operands, Plan, TooLarge, WrongCount,
};
pub use segment::{ExpandError, FunctionError, MAX_MATCHES, Segment, SegmentError, Segments};
pub use set::Set;
pub use user::{
    MAX_STRING_ID_BYTES, UserId, UserIdError, parse_numeric_id, parse_string_id, whole_number,
};
