//! Finds out since when the events of a table are recorded. Earlier counts are 0, which reports
//! explain.

use std::collections::{BTreeMap, HashSet};

use crate::calendar::{Period, WeekStart};
use crate::reports::coverage::{Coverage, State};
use crate::reports::spans::Span;
use crate::sets::{Catalogue, EventName, Segment};

/// Since when the events of a retention table are recorded. Periods are days if there are daily
/// bitmaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The starting segment is empty before this period. `None` if unknown, and for undated
    /// segments.
    pub cohort: Option<Period>,
    /// The first recorded periods of the arguments of `first` and `before` in the starting segment.
    /// In these periods everybody looks new.
    pub firsts: Vec<Period>,
    /// Each event that the table uses with dates, with its first recorded period.
    pub events: Vec<(EventName, Period)>,
    /// Whether the table contains the period of *now*, and may include marks made after *now*.
    pub later: bool,
}

/// The first period of each event.
type First = BTreeMap<EventName, Period>;

/// Returns the first period of each dated event of these segments that is recorded.
fn first_periods<'a>(
    segments: impl IntoIterator<Item = &'a Segment>,
    all: &Catalogue,
    coverage: &Coverage,
) -> Vec<(EventName, Period)> {
    let first = |name: &EventName| {
        let span = Span::of_in(coverage.zone(), all.of(name), coverage.now());
        Some((name.clone(), span?.first))
    };
    dated(segments).into_iter().filter_map(first).collect()
}

/// When a segment can first contain users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// In any period: it uses no dated events.
    Always,
    /// From this period on: a day if there are daily bitmaps.
    From(Period),
    /// In no period.
    Never,
}

impl Beginning {
    /// Returns it for an expanded segment, given all keys of the store, in periods of the zone of
    /// the coverage.
    pub fn of(segment: &Segment, all: &Catalogue, coverage: &Coverage) -> Self {
        let known = first_periods([segment], all, coverage)
            .into_iter()
            .collect();
        beginning(segment, &known)
    }

    /// Returns the first period. `None` if there is none, or all periods count.
    pub fn period(self) -> Option<Period> {
        match self {
            Beginning::From(period) => Some(period),
            Beginning::Always | Beginning::Never => None,
        }
    }

    /// Returns the state of a number about all periods from `from` to `until`, both included, of a
    /// segment that begins like this. Earlier periods are not recorded.
    pub fn state(self, from: Period, until: Period, coverage: &Coverage) -> State {
        match (coverage.state(from, until), self) {
            (State::Future, _) => State::Future,
            (state, Beginning::Always) => state,
            (State::NotRecorded, _) | (_, Beginning::Never) => State::NotRecorded,
            (_, Beginning::From(first)) if until.is_before(first.within(until.grain())) => {
                State::NotRecorded
            }
            (_, Beginning::From(first)) if from.is_before(first.within(from.grain())) => {
                State::PartlyRecorded
            }
            // A week that does not begin on Monday is a union of days.
            (_, Beginning::From(first))
                if from.grain().week_start() != WeekStart::Monday
                    && from.local_start() < first.local_start() =>
            {
                State::PartlyRecorded
            }
            (state, Beginning::From(_)) => state,
        }
    }
}

impl Recorded {
    /// Returns it for two expanded segments, given all keys of the store, in periods of the zone of
    /// the coverage.
    pub fn of(sides: [&Segment; 2], all: &Catalogue, coverage: &Coverage) -> Self {
        let events = first_periods(sides, all, coverage);
        let known = events.iter().cloned().collect();
        let begins = |segment: &Segment| beginning(segment, &known).period();
        let mut histories = Vec::new();
        sides[0].visit_histories(&mut |of| histories.push(of));
        Recorded {
            cohort: begins(sides[0]),
            firsts: histories.into_iter().filter_map(begins).collect(),
            events,
            later: false,
        }
    }
}

impl Recorded {
    /// Whether nothing is recorded before a period, for `first` and `before` in the starting
    /// segment.
    pub fn is_first(&self, period: Period) -> bool {
        let is_within =
            |first: &Period| period.start() <= first.start() && first.start() < period.end();
        self.firsts.iter().any(is_within)
    }
}

/// Returns the events whose dated bitmaps are used, each once.
pub fn dated<'a>(sides: impl IntoIterator<Item = &'a Segment>) -> Vec<&'a EventName> {
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    for side in sides {
        side.visit(&mut |name, ever| {
            if !ever && seen.insert(name) {
                names.push(name);
            }
        });
    }
    names
}

fn beginning(segment: &Segment, first: &First) -> Beginning {
    let all = |list: &[Segment]| {
        list.iter()
            .map(|part| beginning(part, first))
            .collect::<Vec<_>>()
    };
    match segment {
        Segment::Event(name) => first
            .get(name)
            .map_or(Beginning::Never, |period| Beginning::From(*period)),
        // A segment is expanded before it is planned, and an expanded one has no pattern.
        Segment::Ever(_) | Segment::Names(_) | Segment::NamesEver(_) => Beginning::Always,
        Segment::Before(of)
        | Segment::First(of)
        | Segment::Within(of, _)
        | Segment::AtLeast(_, of, _) => beginning(of, first),
        Segment::Diff(from, _) => beginning(from, first),
        // All of them must have begun …
        Segment::And(list) => all(list)
            .into_iter()
            .fold(Beginning::Always, |a, b| match (a, b) {
                (Beginning::Never, _) | (_, Beginning::Never) => Beginning::Never,
                (Beginning::Always, other) | (other, Beginning::Always) => other,
                (Beginning::From(a), Beginning::From(b)) => {
                    Beginning::From(if a.start() < b.start() { b } else { a })
                }
            }),
        // … or any.
        Segment::Or(list) | Segment::Xor(list) => {
            all(list)
                .into_iter()
                .fold(Beginning::Never, |a, b| match (a, b) {
                    (Beginning::Always, _) | (_, Beginning::Always) => Beginning::Always,
                    (Beginning::Never, other) | (other, Beginning::Never) => other,
                    (Beginning::From(a), Beginning::From(b)) => {
                        Beginning::From(if b.start() < a.start() { b } else { a })
                    }
                })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;
    use crate::sets::Key;

    /// `cohort / events`
    fn of(cohort: &str, returning: &str) -> String {
        let keys = [
            ("a", "2026-07-27"),
            ("a", "2026-09-01"),
            ("b", "2026-08-02"),
            ("c", "2026-08-30"),
        ];
        let keys = keys.into_iter().flat_map(|(event, day)| {
            Key::of_mark(
                &EventName::new(event).unwrap(),
                parse_moment(day).unwrap(),
                false,
            )
            .unwrap()
            .collect::<Vec<_>>()
        });
        let sides: [Segment; 2] = [cohort.parse().unwrap(), returning.parse().unwrap()];
        let now = parse_moment("2026-11-23T14:05:00Z").unwrap();
        let all = Catalogue::new(keys.collect());
        let coverage = Coverage::whole(now).unwrap();
        let recorded = Recorded::of([&sides[0], &sides[1]], &all, &coverage);
        let events: Vec<String> = recorded
            .events
            .iter()
            .map(|(event, since)| format!("{event} {since}"))
            .collect();
        let cohort = recorded
            .cohort
            .map_or_else(|| "-".to_owned(), |period| period.to_string());
        format!("{cohort} / {}", events.join(", "))
    }

    #[test]
    fn a_segment_begins_when_it_can_hold_somebody() {
        assert_eq!(of("a", "b"), "2026-07-27 / a 2026-07-27, b 2026-08-02");
        assert_eq!(
            of("a & c", "b & pro@ever"),
            "2026-08-30 / a 2026-07-27, c 2026-08-30, b 2026-08-02"
        );
        assert_eq!(
            of("a | c", "never"),
            "2026-07-27 / a 2026-07-27, c 2026-08-30"
        );
        assert_eq!(of("a & !c", "a"), "2026-07-27 / a 2026-07-27, c 2026-08-30");
        assert_eq!(of("pro@ever", "pro@ever | b"), "- / b 2026-08-02");
        assert_eq!(of("never & a", "never"), "- / a 2026-07-27");
    }
}
