//! The keys of the string ids of a prefix in Redis.

use ::redis::{Cmd, cmd};

use crate::sets::Prefix;
use crate::sets::SCRATCH;
use crate::store::redis::server_eval::OURS;

pub(super) fn numbers_key(prefix: &Prefix) -> String {
    format!("{prefix}ids")
}

/// There while numbers are being marked. A temporary key like others: it expires, and is no event.
/// The first marks take it away where they are in the same slot.
pub(super) fn settled_key(prefix: &Prefix) -> String {
    format!("{prefix}{SCRATCH}{OURS}numbers")
}

pub(super) fn texts_key(prefix: &Prefix) -> String {
    format!("{prefix}ids:texts")
}

/// Asks for the number that comes next; there is none where users are numbers.
pub(super) fn asking(prefix: &Prefix) -> Cmd {
    let mut command = cmd("HGET");
    command.arg(numbers_key(prefix)).arg("");
    command
}
