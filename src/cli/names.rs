//! Event names on the command line: they are checked, and names without data get a hint.

use crate::calendar::Period;
use crate::cli::output::{Usage, note};
use crate::clock::Clock;
use crate::render::words;
use crate::reports::coverage::State;
use crate::reports::people::state_of;
use crate::sets::{EventName, Segment, set_periods};
use crate::tracker::Tracker;

/// Checks the name of an event.
pub fn event(text: &str) -> Result<EventName, Usage> {
    EventName::new(text).map_err(|error| Usage(error.to_string()))
}

/// Notes which events were never recorded, with similar names.
pub fn note_never_recorded<'a>(
    tracker: &Tracker,
    names: impl IntoIterator<Item = &'a EventName>,
) -> anyhow::Result<()> {
    let unknown = tracker.never_recorded(names)?;
    if unknown.is_empty() {
        return Ok(());
    }
    let known = tracker.events("")?;
    if known.is_empty() && note_other_prefix(tracker)? {
        return Ok(());
    }
    for name in unknown {
        note!(
            "nothing was ever recorded for `{name}`{}",
            hint(name, &known)
        );
    }
    Ok(())
}

/// Notes under which other prefixes there are events. Returns whether there are any.
pub fn note_other_prefix(tracker: &Tracker) -> anyhow::Result<bool> {
    let others = tracker.store().other_prefixes()?;
    let prefix = tracker.describe()?.prefix;
    let note = words::other_prefixes(prefix.as_str(), &others.found, others.complete);
    if let Some(note) = &note {
        note!("{note}");
    }
    Ok(note.is_some())
}

/// Notes which keys under the prefix are not events, as the last listing found.
pub fn note_strays(tracker: &Tracker, prefix: &str) {
    let strays = tracker.store().strays();
    if strays.count > 0 {
        note!("{}", words::strays(prefix, strays.count, &strays.example));
    }
}

/// Notes that numbers as of an earlier time include later marks, because bitmaps are stored whole.
pub fn note_later(tracker: &Tracker, clock: Clock) -> anyhow::Result<()> {
    if clock.is_given() {
        let later = tracker.catalogue()?.holding_later(clock.now());
        if let Some(note) = words::includes_later(&later, clock.now()) {
            note!("{note}");
        }
    }
    Ok(())
}

/// Notes for which sets, given by their texts and counts, the store has no data or only a part.
pub fn note_unrecorded<'a>(
    tracker: &Tracker,
    clock: Clock,
    sets: impl IntoIterator<Item = (&'a str, u64)>,
) -> anyhow::Result<()> {
    let dated: Vec<(&str, u64, Vec<Period>)> = sets
        .into_iter()
        .map(|(text, count)| {
            let periods = set_periods(text).expect("the text was parsed as a set before");
            (text, count, periods)
        })
        // A set of one period that has users was recorded. Checking more would list all keys, which
        // takes long in a large Redis.
        .filter(|(_, count, periods)| match periods.len() {
            0 => false,
            1 => *count == 0,
            _ => true,
        })
        .collect();
    if dated.is_empty() || tracker.catalogue()?.is_empty() {
        return Ok(());
    }
    let coverage = tracker.coverage(clock.now(), clock.is_given())?;
    for (text, count, mut periods) in dated {
        let state = match state_of(count, &periods, &coverage) {
            Some(State::NotRecorded) => "is not recorded",
            Some(State::PartlyRecorded) => "is only partly recorded",
            Some(State::Future) => {
                note!("{text} has not begun");
                continue;
            }
            _ => continue,
        };
        periods.retain(|period| coverage.state_of(*period) == State::NotRecorded);
        note!("{text} {state}{}", words::extent(&coverage, &periods));
    }
    Ok(())
}

/// Notes which names in segments were never recorded, with similar names.
pub fn note_unknown(tracker: &Tracker, segments: &[&Segment]) -> anyhow::Result<()> {
    note_never_recorded(tracker, segments.iter().flat_map(|segment| segment.names()))
}

/// Notes which names in segments are only recorded without dates. It is easy to write `plan:pro`
/// for `plan:pro@ever`, and the result is a table of zeros.
pub fn note_undated(tracker: &Tracker, segments: &[&Segment]) -> anyhow::Result<()> {
    let mut dated: Vec<&EventName> = Vec::new();
    for segment in segments {
        segment.visit(&mut |name, ever| {
            if !ever && !dated.contains(&name) {
                dated.push(name);
            }
        });
    }
    for name in dated {
        if tracker.is_undated(name)? {
            note!(
                "`{name}` is only recorded without dates: write {}",
                Segment::Ever(name.clone())
            );
        }
    }
    Ok(())
}

/// Continues a sentence about an unknown event: `; did you mean …?`, or what else to do.
pub fn hint(name: &EventName, known: &[EventName]) -> String {
    if known.is_empty() {
        return "; this store has no events yet".to_owned();
    }
    let similar: Vec<String> = name
        .similar(known)
        .into_iter()
        .map(|name| format!("`{}`", Segment::event(name)))
        .collect();
    if similar.is_empty() {
        "; `cohortist events` lists all events".to_owned()
    } else {
        format!("; did you mean {}?", similar.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_get_a_hint() {
        let known: Vec<EventName> = ["active", "signup", "song:played", "a|b"]
            .iter()
            .map(|name| EventName::new(name).unwrap())
            .collect();
        let hint = |name: &str, known: &[EventName]| hint(&EventName::new(name).unwrap(), known);
        assert_eq!(hint("singup", &known), "; did you mean `signup`?");
        assert_eq!(hint("Active", &known), "; did you mean `active`?");
        assert_eq!(hint("zzz", &known), "; `cohortist events` lists all events");
        assert_eq!(hint("zzz", &[]), "; this store has no events yet");
    }
}
