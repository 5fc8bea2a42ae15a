//! The groups of a breakdown: which events are its values, and who is known by them.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::calendar::Period;
use crate::reports::comparison::answer::{Basis, GroupKind};
use crate::reports::comparison::grouping::Values;
use crate::reports::error::QueryError;
use crate::reports::report::Context;
use crate::sets::{Catalogue, CountId, Counts, EventName, Key, MAX_MATCHES, NodeId, Plan, Segment};

/// The maximum number of values of a breakdown that have a group of their own.
pub const SHOWN_VALUES: usize = 8;

/// The maximum number of values in the text of a set that links to its people.
const LINKED_VALUES: usize = 30;

/// The events of a breakdown, and since when their users count as known.
#[derive(Debug, Clone)]
pub(in crate::reports) struct KnownValues {
    /// The beginning of the events' names.
    start: String,
    /// Since when their users count as known: [`Basis::KnownThen`] or [`Basis::KnownToday`].
    pub basis: Basis,
    names: Vec<EventName>,
}

/// One group of a breakdown.
#[derive(Debug, Clone)]
pub(in crate::reports) struct ValueGroup<'a> {
    /// Which people it has.
    pub kind: GroupKind,
    /// The divided segment with the group's condition. `None` if its text would be too long.
    pub segment: Option<Segment>,
    known: KnownBy<'a>,
}

impl KnownValues {
    /// Finds the values of a breakdown.
    ///
    /// # Errors
    /// If no event is one, or too many are.
    pub fn of(values: &Values, context: &Context<'_>) -> Result<Self, QueryError> {
        let wrong = |message: String| QueryError::Field {
            field: "breakdown",
            message,
        };
        let matching = |pattern: &Segment| {
            let expanded = context.sets().expand(pattern);
            let expanded = expanded.map_err(|error| wrong(error.to_string()))?;
            Ok::<Vec<EventName>, QueryError>(expanded.names().into_iter().cloned().collect())
        };
        let dated = match values.is_today {
            true => Vec::new(),
            false => matching(&Segment::Names(values.start.clone()))?,
        };
        let (names, basis) = if dated.is_empty() {
            let ever = matching(&Segment::NamesEver(values.start.clone()))?;
            (ever, Basis::KnownToday)
        } else {
            (dated, Basis::KnownThen)
        };
        if names.len() > MAX_MATCHES {
            return Err(wrong(format!(
                "`{values}` matches {} events; at most {MAX_MATCHES} are allowed. Write a longer beginning",
                names.len()
            )));
        }
        // Without bitmaps the question is only checked.
        if names.is_empty() && !context.catalogue.is_empty() {
            let ever = if values.is_today {
                " with an undated bitmap"
            } else {
                ""
            };
            return Err(wrong(format!(
                "no event{ever} begins with `{}`: write the beginning of the values' names, such as \
                 `country:*`",
                values.start
            )));
        }
        Ok(KnownValues {
            start: values.start.clone(),
            basis,
            names,
        })
    }

    /// Returns the events whose dated bitmaps are used.
    pub fn dated(&self) -> Vec<&EventName> {
        match self.basis {
            Basis::KnownThen => self.names.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Plans the number of people of each value in some sets, each of a period. Periods are in
    /// ascending order.
    ///
    /// # Errors
    /// If the plan becomes too large.
    pub fn counted(
        &self,
        plan: &mut Plan,
        sets: &[(Period, NodeId)],
        catalogue: &Catalogue,
    ) -> Result<Vec<CountId>, QueryError> {
        let all = plan.or(sets.iter().map(|(_, who)| *who).collect::<Vec<_>>());
        let mut counts = Vec::with_capacity(self.names.len());
        for name in &self.names {
            let of = std::slice::from_ref(name);
            let mut known = KnownBy::new(of, self.basis, catalogue);
            let people = match self.basis {
                Basis::KnownThen => {
                    let mut people = Vec::with_capacity(sets.len());
                    for (period, who) in sets {
                        let known = known.at(plan, *period)?;
                        people.push(plan.and([*who, known]));
                    }
                    plan.or(people)
                }
                _ => match sets.last() {
                    Some((period, _)) => {
                        let known = known.at(plan, *period)?;
                        plan.and([all, known])
                    }
                    None => plan.empty(),
                },
            };
            counts.push(plan.count(people));
        }
        Ok(counts)
    }

    /// Keeps the values that have people, those with the most first, and returns how many have
    /// nobody. `people` are those that [`counted`](Self::counted) planned.
    pub fn rank(&mut self, people: &[CountId], counts: &Counts) -> usize {
        let names = std::mem::take(&mut self.names);
        let mut ranked: Vec<(u64, EventName)> =
            people.iter().map(|id| counts[*id]).zip(names).collect();
        ranked.sort_by(|(a, first), (b, second)| (Reverse(a), first).cmp(&(Reverse(b), second)));
        let empty = ranked.len() - ranked.partition_point(|(people, _)| *people > 0);
        let with_people = ranked.into_iter().take_while(|(people, _)| *people > 0);
        self.names = with_people.map(|(_, name)| name).collect();
        empty
    }

    /// Returns the groups into which the values divide the people of a segment: the first values,
    /// the people without any, and those of the other values.
    pub fn groups<'a>(
        &'a self,
        segment: &Segment,
        catalogue: &'a Catalogue,
    ) -> Vec<ValueGroup<'a>> {
        let group = |kind, segment, names| ValueGroup {
            kind,
            segment,
            known: KnownBy::new(names, self.basis, catalogue),
        };
        let within = |names: &[EventName]| segment.clone().and_all([self.known_by(names)]);
        let (shown, others) = self.names.split_at(self.names.len().min(SHOWN_VALUES));
        let mut groups: Vec<ValueGroup<'a>> = shown
            .iter()
            .map(std::slice::from_ref)
            .map(|name| group(GroupKind::Value(name[0].clone()), Some(within(name)), name))
            .collect();
        let without = self
            .known_by_any()
            .map(|any| Segment::Diff(Box::new(segment.clone()), Box::new(any)));
        groups.push(group(GroupKind::None, without, &self.names));
        if !others.is_empty() {
            let is_short = others.len() <= LINKED_VALUES;
            let kind = GroupKind::Other(others.len());
            groups.push(group(kind, is_short.then(|| within(others)), others));
        }
        groups
    }

    /// The segment of everybody who is known by some of the values.
    fn known_by(&self, names: &[EventName]) -> Segment {
        let leaf = |name: &EventName| match self.basis {
            Basis::KnownToday => Segment::Ever(name.clone()),
            _ => Segment::event(name),
        };
        let mut leaves: Vec<Segment> = names.iter().map(leaf).collect();
        let union = if leaves.len() == 1 {
            leaves.remove(0)
        } else {
            Segment::Or(leaves)
        };
        match self.basis {
            Basis::KnownToday => union,
            _ => known_then(union),
        }
    }

    /// The segment of everybody who is known by any of the values. `None` if its text would be too
    /// long.
    fn known_by_any(&self) -> Option<Segment> {
        let start = self.start.clone();
        let pattern = match self.basis {
            Basis::KnownToday => Segment::NamesEver(start),
            _ => Segment::Names(start),
        };
        // A pattern with special characters cannot be written.
        match pattern.to_string().parse::<Segment>() {
            Ok(read) if read == pattern => Some(match self.basis {
                Basis::KnownToday => pattern,
                _ => known_then(pattern),
            }),
            _ if self.names.len() <= LINKED_VALUES => Some(self.known_by(&self.names)),
            _ => None,
        }
    }
}

impl ValueGroup<'_> {
    /// Adds those of `who`, the divided segment's users in a period, that belong to the group to the
    /// plan. Periods are asked for in ascending order.
    ///
    /// # Errors
    /// If the plan becomes too large.
    pub fn within(
        &mut self,
        plan: &mut Plan,
        who: NodeId,
        period: Period,
    ) -> Result<NodeId, QueryError> {
        let known = self.known.at(plan, period)?;
        Ok(match self.kind {
            GroupKind::None => plan.diff(who, known),
            _ => plan.and([who, known]),
        })
    }
}

/// Everybody who was in a segment up to and including a period.
fn known_then(of: Segment) -> Segment {
    Segment::Or(vec![Segment::Before(Box::new(of.clone())), of])
}

/// Everybody who is known by some events: in one of their undated bitmaps, or marked with one of
/// them up to and including a period.
#[derive(Debug, Clone)]
struct KnownBy<'a> {
    names: &'a [EventName],
    basis: Basis,
    catalogue: &'a Catalogue,
    seen: HashSet<Key>,
    so_far: Option<NodeId>,
}

impl<'a> KnownBy<'a> {
    fn new(names: &'a [EventName], basis: Basis, catalogue: &'a Catalogue) -> Self {
        KnownBy {
            names,
            basis,
            catalogue,
            seen: HashSet::new(),
            so_far: None,
        }
    }

    /// Adds those of a period to the plan. Periods are asked for in ascending order: what is known
    /// in one remains known, so that each bitmap is joined once.
    fn at(&mut self, plan: &mut Plan, period: Period) -> Result<NodeId, QueryError> {
        if self.basis == Basis::KnownToday {
            return Ok(*self.so_far.get_or_insert_with(|| {
                let ever: Vec<NodeId> = self
                    .names
                    .iter()
                    .map(|name| plan.key(Key::ever(name.clone())))
                    .collect();
                plan.or(ever)
            }));
        }
        let mut joined: Vec<NodeId> = self.so_far.into_iter().collect();
        for name in self.names {
            let set = known_then(Segment::event(name)).at(period, self.catalogue)?;
            for key in set.keys() {
                if !self.seen.contains(key) {
                    self.seen.insert(key.clone());
                    joined.push(plan.key(key.clone()));
                }
            }
        }
        let known = plan.or(joined);
        self.so_far = Some(known);
        Ok(known)
    }
}
