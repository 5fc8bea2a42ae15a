//! Finds out when a segment can contain users and what is recorded for each of its events: why a
//! table is empty.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};

use crate::reports::spans::Span;
use crate::sets::{Catalogue, EventName, Segment, When};

/// The records of a name in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It was never recorded.
    Never,
    /// It is recorded with dates, as the segment requires.
    Dated(Span),
    /// It is recorded without dates, as the segment requires: `pro@ever`.
    Undated,
    /// The segment requires dates, and there are only undated marks.
    OnlyUndated,
    /// The segment requires undated marks, and there are only dated ones.
    OnlyDated(Span),
}

/// Returns each name of a segment once, with its records. Saved segments must be expanded.
pub fn leaves(segment: &Segment, all: &Catalogue, now: DateTime<Utc>) -> Vec<(Segment, Found)> {
    let mut leaves = Vec::new();
    let mut seen = HashSet::new();
    segment.visit(&mut |name, ever| {
        if seen.insert((name, ever)) {
            let leaf = if ever {
                Segment::Ever(name.clone())
            } else {
                Segment::event(name)
            };
            leaves.push((leaf, found(name, ever, all, now)));
        }
    });
    leaves
}

fn found(name: &EventName, ever: bool, all: &Catalogue, now: DateTime<Utc>) -> Found {
    let keys = all.of(name);
    let has_ever = keys.iter().any(|key| key.when() == When::Ever);
    match (Span::of_in(all.zone(), keys, now), has_ever) {
        (_, true) if ever => Found::Undated,
        (Some(span), _) if ever => Found::OnlyDated(span),
        (Some(span), _) => Found::Dated(span),
        (None, true) => Found::OnlyUndated,
        (None, false) => Found::Never,
    }
}

/// The dates on which a segment can contain users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dates {
    /// Any date: the segment has no dated events.
    Always,
    /// From the first to the second.
    Between(NaiveDate, NaiveDate),
    /// No date.
    Never,
}

impl Dates {
    /// Returns the dates of a segment with expanded saved segments.
    ///
    /// ```
    /// use cohortist::{calendar::parse_moment, reports::dates::Dates, sets::{Catalogue, EventName, Key}};
    /// let keys = |event: &str, day: &str| {
    ///     let at = parse_moment(day).unwrap();
    ///     Key::of_mark(&EventName::new(event).unwrap(), at, false).unwrap().collect::<Vec<_>>()
    /// };
    /// let all = Catalogue::new([keys("old", "2020-05-05"), keys("new", "2026-11-20")].concat());
    /// let dates = |text: &str| Dates::of(&text.parse().unwrap(), &all, parse_moment("2026-11-23").unwrap());
    /// let day = |text: &str| text.parse().unwrap();
    /// assert_eq!(dates("old | new"), Dates::Between(day("2020-05-05"), day("2026-11-20")));
    /// assert_eq!((dates("old & new"), dates("old & !new")), (Dates::Never, dates("old")));
    /// ```
    pub fn of(segment: &Segment, all: &Catalogue, now: DateTime<Utc>) -> Dates {
        let each = |list: &[Segment]| {
            list.iter()
                .map(|part| Dates::of(part, all, now))
                .collect::<Vec<_>>()
        };
        match segment {
            Segment::Event(name) => match found(name, false, all, now) {
                Found::Dated(span) => {
                    // A month with remaining days ends today.
                    let today = span.last.zone().local(now).date();
                    Dates::Between(
                        span.first.local_start().date(),
                        span.last.last_day().min(today),
                    )
                }
                _ => Dates::Never,
            },
            // A pattern or function may match at any time.
            Segment::Ever(_) | Segment::Names(_) | Segment::NamesEver(_) => Dates::Always,
            Segment::Before(_) | Segment::Within(..) | Segment::AtLeast(..) => Dates::Always,
            Segment::First(of) => Dates::of(of, all, now),
            Segment::Diff(from, _) => Dates::of(from, all, now),
            Segment::And(list) => each(list).into_iter().fold(Dates::Always, Dates::both),
            Segment::Or(list) | Segment::Xor(list) => {
                each(list).into_iter().fold(Dates::Never, Dates::either)
            }
        }
    }

    /// Returns the dates that both contain.
    #[must_use]
    pub fn both(self, other: Dates) -> Dates {
        match (self, other) {
            (Dates::Never, _) | (_, Dates::Never) => Dates::Never,
            (Dates::Always, dates) | (dates, Dates::Always) => dates,
            (Dates::Between(a, b), Dates::Between(c, d)) if a.max(c) <= b.min(d) => {
                Dates::Between(a.max(c), b.min(d))
            }
            _ => Dates::Never,
        }
    }

    fn either(self, other: Dates) -> Dates {
        match (self, other) {
            (Dates::Always, _) | (_, Dates::Always) => Dates::Always,
            (Dates::Never, dates) | (dates, Dates::Never) => dates,
            (Dates::Between(a, b), Dates::Between(c, d)) => Dates::Between(a.min(c), b.max(d)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;
    use crate::sets::Key;

    #[test]
    fn each_name_is_found_as_it_is_asked_for() {
        let name = |text: &str| EventName::new(text).unwrap();
        let now = parse_moment("2026-11-23T14:05:00Z").unwrap();
        let mut keys: Vec<Key> =
            Key::of_mark(&name("a"), parse_moment("2026-07-28").unwrap(), true)
                .unwrap()
                .collect();
        keys.extend([
            Key::ever(name("pro")),
            Key::new(name("m"), "2026-11".parse().unwrap()).unwrap(),
        ]);
        let all = Catalogue::new(keys);
        let said = |text: &str| {
            let leaves = leaves(&text.parse().unwrap(), &all, now);
            let said = leaves.into_iter().map(|(leaf, found)| match found {
                Found::Dated(span) => format!("{leaf} {} {}", span.first, span.last),
                Found::OnlyDated(span) => format!("{leaf} dated {}", span.first),
                other => format!("{leaf} {other:?}"),
            });
            said.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            said("a & a | m"),
            "a 2026-07-28 2026-07-28, m 2026-11 2026-11"
        );
        assert_eq!(said("pro & !pro@ever"), "pro OnlyUndated, pro@ever Undated");
        assert_eq!(
            said("a@ever ^ x ^ x@ever"),
            "a@ever dated 2026-07-28, x Never, x@ever Never"
        );
        let dates = |text: &str| Dates::of(&text.parse().unwrap(), &all, now);
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        assert_eq!(
            dates("m"),
            Dates::Between(day("2026-11-01"), day("2026-11-23"))
        );
        assert_eq!(
            (
                dates("a & pro@ever"),
                dates("a & pro"),
                dates("x | pro@ever")
            ),
            (
                Dates::Between(day("2026-07-28"), day("2026-07-28")),
                Dates::Never,
                Dates::Always
            )
        );
    }
}
