//! The keys of the string ids of a prefix in Redis.

use ::redis::{Cmd, cmd};

use crate::sets::Prefix;
use crate::sets::SCRATCH;
use crate::store::redis::server_eval::OURS;

pub(super) fn numbers_key(prefix: &Prefix) -> String {
    format!("{prefix}ids")
}

/// Exists while numeric ids are being marked. A temporary key like others: it expires and is not an
/// event. The first marks delete it if they are in the same slot.
pub(super) fn settled_key(prefix: &Prefix) -> String {
    format!("{prefix}{SCRATCH}{OURS}numbers")
}

pub(super) fn texts_key(prefix: &Prefix) -> String {
    format!("{prefix}ids:texts")
}

/// Asks for the next free number. The field is missing where user ids are numeric.
pub(super) fn asking(prefix: &Prefix) -> Cmd {
    let mut command = cmd("HGET");
    command.arg(numbers_key(prefix)).arg("");
    command
}
