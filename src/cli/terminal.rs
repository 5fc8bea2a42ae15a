//! What a terminal can show.

use std::io::IsTerminal;

/// Whether a stream is a terminal that accepts colour: <https://no-color.org>.
pub fn has_colour(stream: &impl IsTerminal) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal()
        && !is_set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
