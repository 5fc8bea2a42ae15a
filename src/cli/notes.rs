//! What a command says on stderr about its answer: names that were never recorded, sets without
//! data, marks after a given *now*, a wrong prefix. Every command that asks something says it through [`Notes`].

use crate::calendar::{Grain, Period};
use crate::cli::names::hint;
use crate::cli::output::say;
use crate::clock::Clock;
use crate::render::words;
use crate::reports::coverage::{Coverage, State};
use crate::reports::people::state_of;
use crate::sets::{EventName, Segment, Set, set_periods};
use crate::tracker::Tracker;

/// An answer, as far as there may be something to say about it.
#[derive(Default)]
pub struct Notes<'a> {
    /// Names in it for which nobody was found.
    pub names: Vec<&'a EventName>,
    /// Segments that found nobody.
    pub segments: Vec<&'a Segment>,
    /// Sets with their counts.
    pub sets: Vec<SetCount<'a>>,
    /// Grains whose running period may include marks made after a given *now*; those of sets are
    /// found out.
    pub later: Vec<Grain>,
}

/// A set that was counted, and what is known of its count.
pub struct SetCount<'a> {
    text: &'a str,
    set: &'a Set,
    count: u64,
    periods: Vec<Period>,
    /// `None` without dates, and where there is nothing to find out.
    state: Option<State>,
}

impl<'a> SetCount<'a> {
    /// What is known of counts of sets, each with its text.
    pub fn all(
        tracker: &Tracker,
        clock: Clock,
        sets: impl IntoIterator<Item = (&'a str, &'a Set, u64)>,
    ) -> anyhow::Result<Vec<SetCount<'a>>> {
        let mut coverage = None;
        let mut all = Vec::new();
        for (text, set, count) in sets {
            // What was read as a set before has periods.
            let periods = set_periods(text).unwrap_or_default();
            // People in one period were recorded. Listing all keys to find out more can take long
            // in a big Redis.
            let is_known = periods.is_empty() || (periods.len() == 1 && count > 0);
            let state = if is_known {
                None
            } else {
                state_of(count, &periods, cached(&mut coverage, tracker, clock)?)
            };
            all.push(SetCount {
                text,
                set,
                count,
                periods,
                state,
            });
        }
        Ok(all)
    }

    /// Its text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Its count; `None` where the store has no data of its periods.
    pub fn known(&self) -> Option<u64> {
        (self.state != Some(State::NotRecorded)).then_some(self.count)
    }
}

fn cached<'c>(
    coverage: &'c mut Option<Coverage>,
    tracker: &Tracker,
    clock: Clock,
) -> anyhow::Result<&'c Coverage> {
    Ok(match coverage {
        Some(known) => known,
        None => coverage.insert(tracker.coverage(clock.now(), clock.is_given())?),
    })
}

impl Notes<'_> {
    /// Says all there is to say.
    pub fn say(&self, tracker: &Tracker, clock: Clock) -> anyhow::Result<()> {
        let empty = self.sets.iter().filter(|set| set.count == 0);
        let of_sets = empty.flat_map(|set| set.set.keys()).map(|key| key.event());
        let of_segments = self.segments.iter().flat_map(|segment| segment.names());
        let names = self.names.iter().copied();
        never_recorded(tracker, names.chain(of_segments).chain(of_sets))?;
        undated(tracker, &self.segments)?;
        unrecorded(tracker, clock, &self.sets)?;
        self.later(tracker, clock)
    }

    /// Which numbers as of a given moment may include later marks, as bitmaps are kept whole.
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
        if let Some(told) = words::includes_later(&grains, clock.now()) {
            say!("note: {told}");
        }
        Ok(())
    }
}

/// Which names stand for nothing at all, and which were perhaps meant.
fn never_recorded<'a>(
    tracker: &Tracker,
    names: impl IntoIterator<Item = &'a EventName>,
) -> anyhow::Result<()> {
    let unknown = tracker.never_recorded(names)?;
    if unknown.is_empty() || nothing_found(tracker)? {
        return Ok(());
    }
    let known = tracker.events("")?;
    unknown.iter().for_each(|name| {
        say!(
            "note: nothing was ever recorded for `{name}`{}",
            hint(name, &known)
        )
    });
    Ok(())
}

/// Why nothing, or something else than expected, was found under the prefix: where the events are
/// instead, and which keys are not read. Returns whether there are events under another prefix.
pub fn nothing_found(tracker: &Tracker) -> anyhow::Result<bool> {
    let is_elsewhere = other_prefix(tracker)?;
    strays(tracker)?;
    Ok(is_elsewhere)
}

/// Under which other prefix the events are, where this one is wrong; returns whether it is.
pub fn other_prefix(tracker: &Tracker) -> anyhow::Result<bool> {
    let prefix = tracker.describe()?.prefix;
    let others = tracker.other_prefixes(&prefix)?;
    let told = words::other_prefixes(prefix.as_str(), &others.found, others.complete);
    told.iter().for_each(|told| say!("note: {told}"));
    Ok(told.is_some())
}

/// Which keys under the prefix are not bitmaps of events, as the last listing found.
fn strays(tracker: &Tracker) -> anyhow::Result<()> {
    let strays = tracker.unparsed_keys();
    if strays.count > 0 {
        let prefix = tracker.describe()?.prefix;
        let told = words::unparsed_keys(prefix.as_str(), strays.count, &strays.example);
        say!("note: {told}");
    }
    Ok(())
}

/// Which names are only recorded without dates, where a dated bitmap was asked for: `plan:pro` for
/// `plan:pro@ever` is easily written, and gives a table full of zeros.
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
            say!(
                "note: `{name}` is only recorded without dates: write {}",
                Segment::Ever(name.clone())
            );
        }
    }
    Ok(())
}

/// Which sets the store has no data of, or not of all.
fn unrecorded(tracker: &Tracker, clock: Clock, sets: &[SetCount<'_>]) -> anyhow::Result<()> {
    let is_noted = sets.iter().any(|set| {
        matches!(
            set.state,
            Some(State::NotRecorded | State::PartlyRecorded | State::Future)
        )
    });
    // In an empty store that is so of all sets.
    if !is_noted || tracker.catalogue()?.is_empty() {
        return Ok(());
    }
    let mut coverage = None;
    for set in sets {
        let what = match set.state {
            Some(State::NotRecorded) => "is not recorded",
            Some(State::PartlyRecorded) => "is only partly recorded",
            Some(State::Future) => {
                say!("note: {} has not begun", set.text);
                continue;
            }
            _ => continue,
        };
        let coverage = cached(&mut coverage, tracker, clock)?;
        let mut periods = set.periods.clone();
        periods.retain(|period| coverage.state_of(*period) == State::NotRecorded);
        let extent = words::extent(coverage, &periods);
        say!("note: {} {what}{extent}", set.text);
    }
    Ok(())
}

/// When the data ends, where that is before now.
pub fn data_ends(tracker: &Tracker, clock: Clock) -> anyhow::Result<()> {
    let coverage = tracker.coverage(clock.now(), clock.is_given())?;
    if let Some(end) = coverage.data_ends(Grain::Day) {
        say!("note: {}", words::ends(end));
    }
    Ok(())
}
