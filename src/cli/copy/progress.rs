//! Progress bars of copies, and lists of names in their reports.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::render::thousands;

/// The number of bitmaps or keys that a message names.
const MAX_NAMED: usize = 5;

/// Joins names with commas: the first [`MAX_NAMED`] of them, and the number of the others.
pub fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    let others = names.len().saturating_sub(MAX_NAMED);
    let named: Vec<String> = names.take(MAX_NAMED).collect();
    let named = named.join(", ");
    if others > 0 {
        format!("{named} and {} more", thousands(others as u64))
    } else {
        named
    }
}

/// Creates a progress bar that is visible only in a terminal.
pub fn visible_in_terminal(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
    if io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}
