//! Notes on stderr about an answer: names that were never recorded, sets without data, marks after a
//! given *now*, a wrong prefix. Every command that prints an answer prints its notes with [`Notes`].

use crate::calendar::{Grain, Period, Zone};
use crate::cli::names::hint;
use crate::cli::output::note;
use crate::clock::Clock;
use crate::render::words;
use crate::reports::coverage::{Coverage, State};
use crate::reports::people::state_of;
use crate::sets::{EventName, Segment, Set, set_periods};
use crate::tracker::Tracker;

/// The parts of an answer that may need a note.
#[derive(Default)]
pub struct Notes<'a> {
    /// Names for which no users were found.
    pub names: Vec<&'a EventName>,
    /// Segments for which no users were found.
    pub segments: Vec<&'a Segment>,
    /// Sets with their counts.
    pub sets: Vec<SetCount<'a>>,
    /// Grains whose current period may include marks made after a given *now*. Those of `sets` are
    /// added.
    pub later: Vec<Grain>,
}

/// A counted set, with what is known about its count.
pub struct SetCount<'a> {
    text: &'a str,
    set: &'a Set,
    count: u64,
    periods: Vec<Period>,
    /// What the store covers, if `state` is known.
    coverage: Option<Coverage>,
    /// `None` for a set without dates, or if the count itself shows that users were recorded.
    state: Option<State>,
}

impl<'a> SetCount<'a> {
    /// Finds out what is known about the counts of sets. Each set comes with its text and count.
    pub fn all(
        tracker: &Tracker,
        clock: Clock,
        zone: Zone,
        sets: impl IntoIterator<Item = (&'a str, &'a Set, u64)>,
    ) -> anyhow::Result<Vec<SetCount<'a>>> {
        let mut all = Vec::new();
        for (text, set, count) in sets {
            let periods = set_periods(text, zone).expect("the text was parsed as a set before");
            // A set of one period that has users was recorded. Checking more would list all keys,
            // which takes long in a large Redis.
            let is_known = periods.is_empty() || (periods.len() == 1 && count > 0);
            let coverage = if is_known {
                None
            } else {
                let (now, is_given) = (clock.now(), clock.is_given());
                Some(tracker.coverage_of_set(set, zone, now, is_given)?)
            };
            let state = coverage
                .as_ref()
                .and_then(|coverage| state_of(count, &periods, coverage));
            all.push(SetCount {
                text,
                set,
                count,
                periods,
                coverage,
                state,
            });
        }
        Ok(all)
    }

    /// The text of the set.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The count, or `None` if the store has no data for the periods of the set.
    pub fn known(&self) -> Option<u64> {
        (self.state != Some(State::NotRecorded)).then_some(self.count)
    }
}

impl Notes<'_> {
    /// Prints all notes.
    pub fn print(&self, tracker: &Tracker, clock: Clock) -> anyhow::Result<()> {
        let empty = self.sets.iter().filter(|set| set.count == 0);
        let of_sets = empty.flat_map(|set| set.set.keys()).map(|key| key.event());
        let of_segments = self.segments.iter().flat_map(|segment| segment.names());
        let names = self.names.iter().copied();
        never_recorded(tracker, names.chain(of_segments).chain(of_sets))?;
        undated(tracker, &self.segments)?;
        unrecorded(tracker, &self.sets)?;
        self.later(tracker, clock)
    }

    /// Notes which numbers as of an earlier time may include later marks, because bitmaps are stored
    /// whole.
    fn later(&self, tracker: &Tracker, clock: Clock) -> anyhow::Result<()> {
        if !clock.is_given() {
            return Ok(());
        }
        let mut grains = self.later.clone();
        for set in &self.sets {
            grains.extend(tracker.later_in(set.set, &set.periods, clock.now())?);
        }
        grains.sort_unstable();
        grains.dedup();
        if let Some(note) = words::includes_later(&grains, clock.now()) {
            note!("{note}");
        }
        Ok(())
    }
}

/// Notes which events were never recorded, with similar names.
fn never_recorded<'a>(
    tracker: &Tracker,
    names: impl IntoIterator<Item = &'a EventName>,
) -> anyhow::Result<()> {
    let unknown = tracker.never_recorded(names)?;
    if unknown.is_empty() || nothing_found(tracker)? {
        return Ok(());
    }
    let known = tracker.events("")?;
    for name in unknown {
        note!(
            "nothing was ever recorded for `{name}`{}",
            hint(name, &known)
        );
    }
    Ok(())
}

/// Notes why there is little or no data under the prefix: which other prefixes have events, and
/// which keys are not read. Returns whether there are events under another prefix.
pub fn nothing_found(tracker: &Tracker) -> anyhow::Result<bool> {
    let is_elsewhere = other_prefix(tracker)?;
    strays(tracker)?;
    Ok(is_elsewhere)
}

/// Notes under which other prefixes there are events, if this one is wrong. Returns whether it is.
pub fn other_prefix(tracker: &Tracker) -> anyhow::Result<bool> {
    let prefix = tracker.describe()?.prefix;
    let others = tracker.other_prefixes(&prefix)?;
    let note = words::other_prefixes(prefix.as_str(), &others.found, others.complete);
    if let Some(note) = &note {
        note!("{note}");
    }
    Ok(note.is_some())
}

/// Notes which keys under the prefix are not bitmaps of events, as the last listing found.
fn strays(tracker: &Tracker) -> anyhow::Result<()> {
    let strays = tracker.unparsed_keys();
    if strays.count > 0 {
        let prefix = tracker.describe()?.prefix;
        let note = words::unparsed_keys(prefix.as_str(), strays.count, &strays.example);
        note!("{note}");
    }
    Ok(())
}

/// Notes which names in segments are only recorded without dates. It is easy to write `plan:pro`
/// for `plan:pro@ever`, and the result is a table of zeros.
fn undated(tracker: &Tracker, segments: &[&Segment]) -> anyhow::Result<()> {
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

/// Notes for which sets the store has no data, or only a part.
fn unrecorded(tracker: &Tracker, sets: &[SetCount<'_>]) -> anyhow::Result<()> {
    let is_noted = sets.iter().any(|set| {
        matches!(
            set.state,
            Some(State::NotRecorded | State::PartlyRecorded | State::Future)
        )
    });
    // An empty store has no data for any set.
    if !is_noted || tracker.catalogue()?.is_empty() {
        return Ok(());
    }
    for set in sets {
        let Some(coverage) = &set.coverage else {
            continue;
        };
        let state = match set.state {
            Some(State::NotRecorded) => "is not recorded",
            Some(State::PartlyRecorded) => "is only partly recorded",
            Some(State::Future) => {
                note!("{} has not begun", set.text);
                continue;
            }
            _ => continue,
        };
        let mut periods = set.periods.clone();
        periods.retain(|period| coverage.state_of(*period) == State::NotRecorded);
        let extent = words::extent(coverage, &periods);
        note!("{} {state}{extent}", set.text);
    }
    Ok(())
}

/// Notes when the data ends, if that is before now.
pub fn data_ends(tracker: &Tracker, clock: Clock) -> anyhow::Result<()> {
    let coverage = tracker.coverage(clock.now(), clock.is_given())?;
    if let Some(end) = coverage.data_ends(Grain::Day) {
        note!("{}", words::ends(end));
    }
    Ok(())
}
