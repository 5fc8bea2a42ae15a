//! Event names as people type them: checked, and with a hint when nothing was recorded under one.

use crate::cli::output::{Usage, say};
use crate::sets::{EventName, Segment};
use crate::tracker::Tracker;

/// Checks an event's name.
pub fn event(text: &str) -> Result<EventName, Usage> {
    EventName::new(text).map_err(|error| Usage(error.to_string()))
}

/// Says on stderr which names of the segments stand for nothing at all, and which were perhaps meant.
pub fn note_unknown(tracker: &Tracker, segments: &[&Segment]) -> anyhow::Result<()> {
    let known = tracker.events("")?;
    let mut seen = Vec::new();
    for name in segments.iter().flat_map(|segment| segment.names()) {
        if known.binary_search(name).is_err() && !seen.contains(&name) {
            seen.push(name);
            say!("note: nothing was ever recorded for `{name}`{}", hint(name.as_str(), &known));
        }
    }
    Ok(())
}

/// `; did you mean …?`, or what else to do.
pub fn hint(name: &str, known: &[EventName]) -> String {
    let similar = similar(name, known);
    if known.is_empty() {
        "; this store has no events yet".to_owned()
    } else if similar.is_empty() {
        "; `cohortist events` lists what there is".to_owned()
    } else {
        format!("; did you mean {}?", similar.join(" or "))
    }
}

/// Up to three known names that look like `name`, likest first, as one would type them in a segment.
fn similar(name: &str, known: &[EventName]) -> Vec<String> {
    let lower = name.to_lowercase();
    let mut scored: Vec<(f64, &EventName)> = known
        .iter()
        .map(|other| (strsim::jaro_winkler(&lower, &other.as_str().to_lowercase()), other))
        .filter(|(score, _)| *score > 0.85)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, name)| format!("`{}`", Segment::event(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_get_a_hint() {
        let known: Vec<EventName> =
            ["active", "signup", "song:played", "a|b"].iter().map(|name| EventName::new(name).unwrap()).collect();
        assert_eq!(hint("singup", &known), "; did you mean `signup`?");
        assert_eq!(hint("Active", &known), "; did you mean `active`?");
        assert_eq!(hint("zzz", &known), "; `cohortist events` lists what there is");
        assert_eq!(hint("zzz", &[]), "; this store has no events yet");
    }
}
