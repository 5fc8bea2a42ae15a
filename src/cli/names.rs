//! Event names as people type them: checked, and with a hint when nothing was recorded under one.

use crate::calendar::Period;
use crate::cli::output::{Usage, say};
use crate::clock::Clock;
use crate::render::words;
use crate::reports::coverage::State;
use crate::reports::people::state_of;
use crate::sets::{EventName, Segment, set_periods};
use crate::tracker::Tracker;

/// Checks an event's name.
pub fn event(text: &str) -> Result<EventName, Usage> {
    EventName::new(text).map_err(|error| Usage(error.to_string()))
}

/// Says on stderr which names stand for nothing at all, and which were perhaps meant.
pub fn note_never_recorded<'a>(
    tracker: &Tracker,
    names: impl IntoIterator<Item = &'a EventName>,
) -> anyhow::Result<()> {
    let unknown = tracker.never_recorded(names)?;
    if !unknown.is_empty() {
        let known = tracker.events("")?;
        if known.is_empty() && note_other_prefix(tracker)? {
            return Ok(());
        }
        unknown.iter().for_each(|name| {
            say!(
                "note: nothing was ever recorded for `{name}`{}",
                hint(name, &known)
            )
        });
    }
    Ok(())
}

/// Says on stderr under which other prefix there are events, when there are none under this one;
/// returns whether it did.
pub fn note_other_prefix(tracker: &Tracker) -> anyhow::Result<bool> {
    let others = tracker.other_prefixes()?;
    let prefix = tracker.describe()?.prefix;
    let told = words::other_prefixes(prefix.as_str(), &others.found, others.complete);
    told.iter().for_each(|told| say!("note: {told}"));
    Ok(told.is_some())
}

/// Says on stderr which keys under the prefix are no event's, as the last listing found.
pub fn note_strays(tracker: &Tracker, prefix: &str) {
    let strays = tracker.unparsed_keys();
    if strays.count > 0 {
        say!(
            "note: {}",
            words::strays(prefix, strays.count, &strays.example)
        );
    }
}

/// Says on stderr that numbers as of a given moment include later marks, as bitmaps are kept whole.
pub fn note_later(tracker: &Tracker, clock: Clock) -> anyhow::Result<()> {
    if clock.is_given() {
        let later = tracker.catalogue()?.holding_later(clock.now());
        words::includes_later(&later, clock.now())
            .iter()
            .for_each(|later| say!("note: {later}"));
    }
    Ok(())
}

/// Says on stderr which sets, by their texts and counts, the store has no data of, or not of all.
pub fn note_unrecorded<'a>(
    tracker: &Tracker,
    clock: Clock,
    sets: impl IntoIterator<Item = (&'a str, u64)>,
) -> anyhow::Result<()> {
    let tied: Vec<(&str, u64, Vec<Period>)> = sets
        .into_iter()
        // What was read as a set before has periods.
        .map(|(text, count)| (text, count, set_periods(text).unwrap_or_default()))
        // People in one period were recorded. Listing all keys to find out more can take long in a
        // big Redis.
        .filter(|(_, count, periods)| match periods.len() {
            0 => false,
            1 => *count == 0,
            _ => true,
        })
        .collect();
    if tied.is_empty() || tracker.catalogue()?.is_empty() {
        return Ok(());
    }
    let coverage = tracker.coverage(clock.now(), clock.is_given())?;
    for (text, count, mut periods) in tied {
        let what = match state_of(count, &periods, &coverage) {
            Some(State::NotRecorded) => "is not recorded",
            Some(State::PartlyRecorded) => "is only partly recorded",
            Some(State::Future) => {
                say!("note: {text} has not begun");
                continue;
            }
            _ => continue,
        };
        periods.retain(|period| coverage.state_of(*period) == State::NotRecorded);
        say!("note: {text} {what}{}", words::extent(&coverage, &periods));
    }
    Ok(())
}

/// Says on stderr which names in segments stand for nothing at all, and which were perhaps meant.
pub fn note_unknown(tracker: &Tracker, segments: &[&Segment]) -> anyhow::Result<()> {
    note_never_recorded(tracker, segments.iter().flat_map(|segment| segment.names()))
}

/// Says on stderr which names are only recorded without dates, where a dated bitmap was asked for:
/// `plan:pro` for `plan:pro@ever` is easily written, and gives a table full of zeros.
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
            say!(
                "note: `{name}` is only recorded without dates: write {}",
                Segment::Ever(name.clone())
            );
        }
    }
    Ok(())
}

/// `; did you mean …?`, or what else to do.
pub fn hint(name: &EventName, known: &[EventName]) -> String {
    let similar: Vec<String> = name
        .similar(known)
        .into_iter()
        .map(|name| format!("`{}`", Segment::event(name)))
        .collect();
    if known.is_empty() {
        "; this store has no events yet".to_owned()
    } else if similar.is_empty() {
        "; `cohortist events` lists what there is".to_owned()
    } else {
        format!("; did you mean {}?", similar.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_get_a_hint() {
        let known: Vec<EventName> = ["active", "signup", "song:played", "a|b"]
            .iter()
            .map(|name| EventName::new(name).unwrap())
            .collect();
        let hint = |name: &str, known: &[EventName]| hint(&EventName::new(name).unwrap(), known);
        assert_eq!(hint("singup", &known), "; did you mean `signup`?");
        assert_eq!(hint("Active", &known), "; did you mean `active`?");
        assert_eq!(
            hint("zzz", &known),
            "; `cohortist events` lists what there is"
        );
        assert_eq!(hint("zzz", &[]), "; this store has no events yet");
    }
}
