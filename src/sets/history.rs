//! Segments evaluated in a period, with functions that look back to earlier periods.

use chrono::{DateTime, Utc};

use crate::calendar::{Grain, Period};
use crate::sets::{Catalogue, EventName, Key, MAX_TERMS, Offsets, Segment, Set, TooLarge, When};

impl Segment {
    /// Returns the users of the segment in one period. Saved segments and patterns must have been
    /// [expanded](crate::sets::Segments::expand). The catalogue lists the bitmaps of earlier periods
    /// for `first` and `before`.
    ///
    /// # Errors
    /// Returns an error if the set would have more than [`MAX_TERMS`] terms.
    pub fn at(&self, period: Period, catalogue: &Catalogue) -> Result<Set, TooLarge> {
        let longest = self.terms_at(period, catalogue);
        if longest > MAX_TERMS {
            return Err(TooLarge { longest });
        }
        Ok(self.build(period, catalogue))
    }

    /// Returns at least the number of terms of the set in a period, without building it.
    fn terms_at(&self, period: Period, catalogue: &Catalogue) -> usize {
        let all = |list: &[Segment]| {
            list.iter()
                .map(|part| part.terms_at(period, catalogue))
                .fold(1, usize::saturating_add)
        };
        let times = |part: &Segment, offsets: &Offsets| {
            let each = part.terms_at(period, catalogue).saturating_add(6);
            each.saturating_mul(offsets.len()).saturating_add(1)
        };
        match self {
            Segment::Event(_) if !period.is_stored() => period.stored().len() + 1,
            Segment::Event(_) | Segment::Ever(_) | Segment::Names(_) | Segment::NamesEver(_) => 1,
            Segment::And(list) | Segment::Or(list) | Segment::Xor(list) => all(list),
            Segment::Diff(a, b) => a
                .terms_at(period, catalogue)
                .saturating_add(b.terms_at(period, catalogue))
                .saturating_add(1),
            Segment::Before(of) => of.terms_before(period, catalogue),
            Segment::First(of) => of
                .terms_at(period, catalogue)
                .saturating_add(of.terms_before(period, catalogue)),
            Segment::Within(of, offsets) | Segment::AtLeast(_, of, offsets) => times(of, offsets),
        }
    }

    fn terms_before(&self, period: Period, catalogue: &Catalogue) -> usize {
        if self.is_union_of_units() {
            let mut terms: usize = 1;
            self.visit(&mut |name, ever| {
                let own = if ever { 1 } else { catalogue.of(name).len() };
                terms = terms.saturating_add(terms_of_growing(own));
            });
            terms
        } else {
            let earlier = self.recorded_before(period, catalogue).len();
            let each = self.terms_at(period, catalogue);
            let operators = terms_of_growing(earlier) - earlier;
            earlier.saturating_mul(each).saturating_add(operators)
        }
    }

    fn build(&self, period: Period, catalogue: &Catalogue) -> Set {
        let all = |list: &[Segment]| list.iter().map(|s| s.build(period, catalogue)).collect();
        let around = |of: &Segment, offsets: &Offsets| {
            let periods = offsets.iter().filter_map(|by| period.shift(by).ok());
            periods.map(|at| of.build(at, catalogue)).collect()
        };
        match self {
            Segment::Event(name) => Set::event_in(name, period),
            Segment::Ever(name) => Set::ever(name),
            Segment::Names(_) | Segment::NamesEver(_) => Set::Empty,
            Segment::And(list) => Set::And(all(list)),
            Segment::Or(list) => Set::Or(all(list)),
            Segment::Xor(list) => Set::Xor(all(list)),
            Segment::Diff(a, b) => a.build(period, catalogue) - b.build(period, catalogue),
            Segment::Before(of) => of.before(period, catalogue),
            Segment::First(of) => of.build(period, catalogue) - of.before(period, catalogue),
            Segment::Within(of, offsets) => Set::Or(around(of, offsets)),
            Segment::AtLeast(least, of, offsets) => Set::AtLeast(*least, around(of, offsets)),
        }
    }

    /// Returns the union of the segment's users in all recorded periods before this one.
    fn before(&self, period: Period, catalogue: &Catalogue) -> Set {
        if self.is_union_of_units() {
            return self.with_leaves(&|name| {
                let keys = coarsest_before(catalogue.of(name), period.start());
                let mut union = Set::Empty;
                for (grain, keys) in keys {
                    let keys = keys.into_iter().cloned().map(Set::Key).collect();
                    union = if grain > period.grain() {
                        Set::Or(vec![union, Set::Or(keys)])
                    } else {
                        growing_union(union, keys)
                    };
                }
                union
            });
        }
        let earlier = self.recorded_before(period, catalogue);
        let earlier = earlier.into_iter();
        growing_union(
            Set::Empty,
            earlier.map(|at| self.build(at, catalogue)).collect(),
        )
    }

    /// Returns the segment's set with these sets of dated events.
    fn with_leaves(&self, event: &dyn Fn(&EventName) -> Set) -> Set {
        let all = |list: &[Segment]| list.iter().map(|s| s.with_leaves(event)).collect();
        match self {
            Segment::Event(name) => event(name),
            Segment::Ever(name) => Set::ever(name),
            Segment::And(list) => Set::And(all(list)),
            Segment::Or(list) => Set::Or(all(list)),
            Segment::Diff(a, b) => a.with_leaves(event) - b.with_leaves(event),
            _ => unreachable!("a union of units holds no other operation"),
        }
    }

    /// Returns the periods before this one, of its grain, in which one of the segment's events has a
    /// bitmap.
    fn recorded_before(&self, period: Period, catalogue: &Catalogue) -> Vec<Period> {
        let (unit, grain, zone) = (period.unit(), period.grain(), period.zone());
        let mut periods = Vec::new();
        self.visit(&mut |name, ever| {
            let keys = if ever { &[][..] } else { catalogue.of(name) };
            let dated = keys.iter().filter_map(|key| match key.when() {
                // Where its zone cannot be used, no period is asked about.
                When::In(at) if at.grain() == unit && at.zone() == zone => Some(at.within(grain)),
                When::In(at) if at.grain() == unit => zone.period(grain, at.start()).ok(),
                _ => None,
            });
            periods.extend(dated.filter(|at| at.is_before(period)));
        });
        periods.sort_unstable();
        periods.dedup();
        periods
    }

    /// Returns whether the segment's users in a long period are the union of its users in shorter
    /// ones: single events, unions, and both reduced by undated events.
    pub fn is_union_of_units(&self) -> bool {
        match self {
            Segment::Event(_) => true,
            Segment::Or(list) => list
                .iter()
                .all(|part| part.is_undated() || part.is_union_of_units()),
            Segment::And(list) => {
                let mut dated = list.iter().filter(|part| !part.is_undated());
                dated.next().is_some_and(Segment::is_union_of_units) && dated.next().is_none()
            }
            Segment::Diff(a, b) => a.is_union_of_units() && b.is_undated(),
            _ => false,
        }
    }

    /// Returns whether the segment is the same in every period.
    pub fn is_undated(&self) -> bool {
        match self {
            Segment::Ever(_) | Segment::NamesEver(_) => true,
            Segment::And(list) | Segment::Or(list) | Segment::Xor(list) => {
                list.iter().all(Segment::is_undated)
            }
            Segment::Diff(a, b) => a.is_undated() && b.is_undated(),
            _ => false,
        }
    }
}

/// The number of consecutive sets that form one union.
const BLOCK: usize = 32;

/// Returns the union of a set and consecutive ones.
///
/// The unions up to one period and up to the next share all parts but the last one, so a plan that
/// needs both takes one operation for it: the last sets, up to [`BLOCK`], are added one by one, to
/// the union of whole blocks.
fn growing_union(start: Set, mut sets: Vec<Set>) -> Set {
    let last = sets.split_off(sets.len() - sets.len() % BLOCK);
    let blocks = sets.chunks(BLOCK).map(|block| Set::Or(block.to_vec()));
    let start = Set::Or(std::iter::once(start).chain(blocks).collect());
    last.into_iter()
        .fold(start, |union, next| Set::Or(vec![union, next]))
}

/// Returns at least the number of terms of a union of so many bitmaps before a period.
fn terms_of_growing(sets: usize) -> usize {
    // Each grain has a union and an empty or other start.
    sets + sets / BLOCK + sets.min(BLOCK) + 4 * 3
}

/// Returns the fewest of an event's bitmaps that cover everything before a moment: months, then
/// weeks, days and hours where a coarser bitmap is missing or ends later. Those of a grain are in
/// order.
fn coarsest_before(keys: &[Key], moment: DateTime<Utc>) -> Vec<(Grain, Vec<&Key>)> {
    let mut chosen = Vec::new();
    let mut covered: Vec<(DateTime<Utc>, DateTime<Utc>)> = Vec::new();
    for grain in [Grain::Month, Grain::WEEK, Grain::Day, Grain::Hour] {
        let is_covered = |period: Period| {
            let after = covered.partition_point(|(start, _)| *start <= period.start());
            after > 0 && period.end() <= covered[after - 1].1
        };
        let more: Vec<(&Key, Period)> = keys
            .iter()
            .filter_map(|key| match key.when() {
                When::In(period) => Some((key, period)),
                When::Ever => None,
            })
            .filter(|(_, period)| period.grain() == grain && period.end() <= moment)
            .filter(|(_, period)| !is_covered(*period))
            .collect();
        covered.extend(more.iter().map(|(_, at)| (at.start(), at.end())));
        chosen.push((grain, more.into_iter().map(|(key, _)| key).collect()));
        covered.sort_unstable();
        covered = merged(&covered);
    }
    chosen
}

/// Returns sorted intervals with those that touch or overlap combined.
fn merged(sorted: &[(DateTime<Utc>, DateTime<Utc>)]) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
    let mut merged: Vec<(DateTime<Utc>, DateTime<Utc>)> = Vec::with_capacity(sorted.len());
    for (start, end) in sorted {
        match merged.last_mut() {
            Some((_, last)) if *start <= *last => *last = (*last).max(*end),
            _ => merged.push((*start, *end)),
        }
    }
    merged
}
