//! Since when there is anything to count: before the first mark of its events a set holds nobody, and a 0 would claim to
//! know that.
//!
//! Where the keys are at hand, [`Recorded::of`] reads it off them; where listing them is slow, a [`Search`] finds it by a
//! few counts.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::calendar::{Grain, Period};
use crate::reports::activity::Span;
use crate::sets::{Catalogue, EventName, Plan, Segment, Set};

/// Since when both sides of a retention table are recorded. Periods are days, where days are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Before it nobody can be in a cohort. `None` when that is not known, and for undated segments, which have no
    /// beginning.
    pub cohort: Option<Period>,
    /// Before it nobody can come back, likewise.
    pub returning: Option<Period>,
    /// Events that begin later than the side they stand in: `ios` in `web | ios`.
    pub later: Vec<(EventName, Period)>,
}

/// The first period of each event.
type First = BTreeMap<EventName, Period>;

/// When a segment can hold somebody for the first time.
enum Beginning {
    Always,
    From(Period),
    Never,
}

impl Recorded {
    /// Of two segments whose saved segments are written out, given all keys there are.
    pub fn of(sides: [&Segment; 2], all: &Catalogue, now: DateTime<Utc>) -> Self {
        let first =
            dated(sides).into_iter().filter_map(|name| Some((name.clone(), Span::of(all.of(name), now)?.first)));
        Self::from_first(sides, &first.collect())
    }

    fn from_first(sides: [&Segment; 2], first: &First) -> Self {
        let [cohort, returning] = sides.map(|side| match beginning(side, first) {
            Beginning::From(period) => Some(period),
            Beginning::Always | Beginning::Never => None,
        });
        let mut later: Vec<(EventName, Period)> = Vec::new();
        for side in sides {
            let begins = match beginning(side, first) {
                Beginning::Always => None,
                Beginning::From(period) => Some(period.start()),
                Beginning::Never => continue,
            };
            for name in dated([side]) {
                let found = first.get(name).filter(|period| begins.is_none_or(|begins| begins < period.start()));
                if let Some(period) = found.filter(|_| later.iter().all(|(known, _)| known != name)) {
                    later.push((name.clone(), *period));
                }
            }
        }
        Recorded { cohort, returning, later }
    }
}

/// The events whose dated bitmaps are asked for, each once.
fn dated<'a>(sides: impl IntoIterator<Item = &'a Segment>) -> Vec<&'a EventName> {
    let mut names: Vec<&EventName> = Vec::new();
    for side in sides {
        side.visit(&mut |name, ever| {
            if !ever && !names.contains(&name) {
                names.push(name);
            }
        });
    }
    names
}

fn beginning(segment: &Segment, first: &First) -> Beginning {
    let all = |list: &[Segment]| list.iter().map(|part| beginning(part, first)).collect::<Vec<_>>();
    match segment {
        Segment::Event(name) => first.get(name).map_or(Beginning::Never, |period| Beginning::From(*period)),
        Segment::Ever(_) => Beginning::Always,
        Segment::Diff(from, _) => beginning(from, first),
        // All of them have to be there …
        Segment::And(list) => all(list).into_iter().fold(Beginning::Always, |a, b| match (a, b) {
            (Beginning::Never, _) | (_, Beginning::Never) => Beginning::Never,
            (Beginning::Always, other) | (other, Beginning::Always) => other,
            (Beginning::From(a), Beginning::From(b)) => Beginning::From(if a.start() < b.start() { b } else { a }),
        }),
        // … or any.
        Segment::Or(list) | Segment::Xor(list) => all(list).into_iter().fold(Beginning::Never, |a, b| match (a, b) {
            (Beginning::Always, _) | (_, Beginning::Always) => Beginning::Always,
            (Beginning::Never, other) | (other, Beginning::Never) => other,
            (Beginning::From(a), Beginning::From(b)) => Beginning::From(if b.start() < a.start() { b } else { a }),
        }),
    }
}

/// Finds the first marks of a table's events by counting, in at most three plans, of which the first one mostly does: what
/// was recorded in the month before a table was recorded before the table.
///
/// [`plan`](Self::plan) → counts → [`learn`](Self::learn), until there is no plan any more.
#[derive(Debug, Clone)]
pub struct Search {
    sides: [Segment; 2],
    /// The month before the table's first cohort.
    before: Period,
    /// The month that holds *now*.
    last: Period,
    open: Vec<EventName>,
    first: First,
    /// What was asked last, and what is to be asked next.
    asked: Vec<(EventName, Period)>,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Before,
    Months,
    Days,
    Done,
}

/// The first month that is looked into: the first of Unix time, before which no product has marks.
const EPOCH: (i32, u32) = (1970, 1);

impl Search {
    /// For a table of two segments, whose saved segments are written out, with its first cohort.
    pub fn new(sides: [&Segment; 2], first: Period, now: DateTime<Utc>) -> Self {
        let month = first.within(Grain::Month);
        let before = month.previous().unwrap_or(month);
        let mut search = Search {
            sides: sides.map(Clone::clone),
            before,
            last: Period::containing(Grain::Month, now).unwrap_or(month),
            open: dated(sides).into_iter().cloned().collect(),
            first: First::new(),
            asked: Vec::new(),
            step: Step::Before,
        };
        search.asked = search.open.iter().map(|name| (name.clone(), before)).collect();
        search
    }

    /// What to count next; `None` when all is known.
    pub fn plan(&self) -> Option<Plan> {
        if self.asked.is_empty() {
            return None;
        }
        let mut plan = Plan::new();
        self.asked.iter().for_each(|(name, period)| {
            plan.count_set(&Set::event_in(name, *period));
        });
        Some(plan)
    }

    /// Takes the counts of the last plan in.
    pub fn learn(&mut self, counts: &[u64]) {
        let found = std::mem::take(&mut self.asked).into_iter().zip(counts).filter(|(_, count)| **count > 0);
        let mut earliest = First::new();
        for ((name, period), _) in found {
            earliest.entry(name).or_insert(period);
        }
        self.first.extend(earliest.clone());
        self.step = match self.step {
            Step::Before => {
                // Their exact beginning lies before the table, and concerns nobody.
                self.open.retain(|name| !earliest.contains_key(name));
                Step::Months
            }
            Step::Months => {
                // Those never recorded have no days either.
                self.open.retain(|name| earliest.contains_key(name));
                Step::Days
            }
            Step::Days | Step::Done => Step::Done,
        };
        self.asked = match self.step {
            Step::Months => {
                let from = Period::month(EPOCH.0, EPOCH.1).map_or(self.before, |epoch| epoch.min(self.before));
                let months = self.last.since(from).and_then(|months| u32::try_from(months + 1).ok()).unwrap_or(0);
                let of = |name: &EventName| from.range(months).map(|month| (name.clone(), month)).collect::<Vec<_>>();
                self.open.iter().flat_map(of).collect()
            }
            Step::Days => {
                let month = |name: &EventName| self.first.get(name).map(|month| (name.clone(), *month));
                let days = |(name, month): (EventName, Period)| {
                    month.split(Grain::Day).map(|day| (name.clone(), day)).collect::<Vec<_>>()
                };
                self.open.iter().filter_map(month).flat_map(days).collect()
            }
            Step::Before | Step::Done => Vec::new(),
        };
    }

    /// What was found.
    pub fn recorded(&self) -> Recorded {
        Recorded::from_first([&self.sides[0], &self.sides[1]], &self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;
    use crate::sets::Key;

    fn now() -> DateTime<Utc> {
        parse_moment("2026-11-23T14:05:00Z").unwrap()
    }

    fn name(text: &str) -> EventName {
        EventName::new(text).unwrap()
    }

    /// The keys of a mark on each of these days.
    fn marked(marks: &[(&str, &str)]) -> Vec<Key> {
        let keys = |(event, day): &(&str, &str)| {
            Key::of_mark(&name(event), parse_moment(day).unwrap(), false).unwrap().collect::<Vec<_>>()
        };
        marks.iter().flat_map(keys).collect()
    }

    /// `cohort / returning / later ones`
    fn said(recorded: &Recorded) -> String {
        let text = |period: Option<Period>| period.map_or_else(|| "-".to_owned(), |period| period.to_string());
        let later: Vec<String> = recorded.later.iter().map(|(event, since)| format!("{event} {since}")).collect();
        format!("{} / {} / {}", text(recorded.cohort), text(recorded.returning), later.join(", "))
    }

    fn of(cohort: &str, returning: &str) -> String {
        let keys = marked(&[("a", "2026-07-27"), ("a", "2026-09-01"), ("b", "2026-08-02"), ("c", "2026-08-30")]);
        let sides: [Segment; 2] = [cohort.parse().unwrap(), returning.parse().unwrap()];
        said(&Recorded::of([&sides[0], &sides[1]], &Catalogue::new(keys), now()))
    }

    #[test]
    fn a_segment_begins_when_it_can_hold_somebody() {
        assert_eq!(of("a", "b"), "2026-07-27 / 2026-08-02 / ");
        assert_eq!(of("a & c", "b & pro@ever"), "2026-08-30 / 2026-08-02 / ");
        assert_eq!(of("a | c", "b ^ a"), "2026-07-27 / 2026-07-27 / c 2026-08-30, b 2026-08-02");
        assert_eq!(of("a & !c", "never"), "2026-07-27 / - / c 2026-08-30");
        assert_eq!(of("pro@ever", "pro@ever | b"), "- / - / b 2026-08-02");
        assert_eq!(of("never & a", "never | a"), "- / 2026-07-27 / ");
    }

    /// What a search finds, and how many plans it took.
    fn searched(keys: &[Key], cohort: &str, returning: &str, first: &str) -> (String, usize) {
        let sides: [Segment; 2] = [cohort.parse().unwrap(), returning.parse().unwrap()];
        let mut search = Search::new([&sides[0], &sides[1]], first.parse().unwrap(), now());
        let mut plans = 0;
        while let Some(plan) = search.plan() {
            plans += 1;
            let count = |id: &crate::sets::NodeId| match plan.node(*id) {
                crate::sets::Node::Key(key) => u64::from(keys.contains(key)),
                other => panic!("{other:?} is asked for"),
            };
            search.learn(&plan.roots().iter().map(count).collect::<Vec<_>>());
        }
        (said(&search.recorded()), plans)
    }

    #[test]
    fn a_few_counts_tell_the_same_as_all_keys() {
        let keys = marked(&[("a", "2026-07-27"), ("a", "2026-09-01"), ("b", "2026-08-02"), ("c", "2026-08-30")]);
        for (cohort, returning) in [("a", "b"), ("a & c", "b & pro@ever"), ("a | c", "b ^ a"), ("a & !c", "never")] {
            assert_eq!(searched(&keys, cohort, returning, "2026-07"), (of(cohort, returning), 3), "{cohort}");
        }
        assert_eq!(searched(&keys, "pro@ever", "x@ever", "2026-07"), ("- / - / ".into(), 0));
        // What the month before a table holds needs no further question.
        let usual = marked(&[("a", "2020-01-01"), ("a", "2026-10-02"), ("b", "2026-10-03")]);
        assert_eq!(searched(&usual, "a", "b", "2026-11-10"), ("2026-10 / 2026-10 / ".into(), 1));
        // A pause before the table is not its beginning, and the first day may be long gone.
        let pause = marked(&[("a", "2019-05-05"), ("a", "2026-11-02")]);
        assert_eq!(searched(&pause, "a", "a", "2026-W46"), ("2019-05-05 / 2019-05-05 / ".into(), 3));
        let month_only = vec![Key::new(name("a"), "2026-11".parse().unwrap()).unwrap()];
        assert_eq!(searched(&month_only, "a", "a", "2026-W46"), ("2026-11 / 2026-11 / ".into(), 3));
        let never = searched(&[], "a", "b", "2026");
        assert_eq!(never, ("- / - / ".into(), 2));
    }
}
