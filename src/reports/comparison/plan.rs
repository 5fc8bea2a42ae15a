//! Plans the tables of the groups, and what they have in common.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::ops::Range;

use crate::calendar::Period;
use crate::reports::comparison::answer::{Basis, Compared, Group, GroupKind};
use crate::reports::comparison::difference::{Difference, NoTest, correct};
use crate::reports::comparison::grouping::{Grouping, Values};
use crate::reports::coverage::State;
use crate::reports::error::QueryError;
use crate::reports::first_recorded::Recorded;
use crate::reports::report::{Context, Report, Request, Results};
use crate::reports::retention::{Members, Planner, Query, Question, Row, Table, are_independent};
use crate::sets::{
    Catalogue, CountId, Counts, EventName, Key, MAX_MATCHES, NodeId, Plan, Segment, Set,
};
use crate::stats::TwoByTwo;

/// The maximum number of values of a breakdown that have a group of their own.
pub const SHOWN_VALUES: usize = 8;

/// The maximum number of values in the text of a set that links to its people.
const LINKED_VALUES: usize = 30;

/// Asks a retention question for each of several groups of people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The question.
    pub query: Query,
    /// The groups.
    pub grouping: Grouping,
}

/// A planned [`Comparison`].
#[derive(Debug, Clone)]
pub struct ComparisonQuestion {
    query: Query,
    /// The same with saved segments written out.
    expanded: Query,
    grouping: Grouping,
    basis: Basis,
    step: Step,
}

#[derive(Debug, Clone)]
enum Step {
    /// The people of each value are counted, to find the values with the most.
    Ranking {
        values: Vec<(EventName, CountId)>,
        unlisted: Vec<CountId>,
    },
    /// The groups are counted.
    Groups(Asked),
}

/// The groups and their counts.
#[derive(Debug, Clone)]
struct Asked {
    groups: Vec<AskedGroup>,
    /// The distinct users of all groups.
    people: CountId,
    /// How many values have nobody in the cohorts.
    empty_values: usize,
    /// The cohort that belongs to neither side of a date.
    left_out: Option<Period>,
}

/// The counts of one group.
#[derive(Debug, Clone)]
struct AskedGroup {
    kind: GroupKind,
    /// The cohort with the group's condition. `None` if its text would be too long.
    cohort: Option<Segment>,
    question: Question,
    rows: Range<usize>,
    /// For each cohort and column, whether it is complete.
    complete: Vec<Vec<bool>>,
    /// The users that the group has in common with the first one, cohort by cohort.
    common: Vec<CountId>,
    /// The distinct users of both in the cohorts behind the averages.
    both: Option<CountId>,
}

impl Report for Comparison {
    type Planned = ComparisonQuestion;
    type Answer = Compared;

    fn plan(
        &self,
        request: &mut Request,
        context: &Context<'_>,
    ) -> Result<ComparisonQuestion, QueryError> {
        let expanded = self.query.expanded(context.sets())?;
        let plan = &mut request.plan;
        let (basis, step) = match &self.grouping {
            Grouping::Breakdown(values) => {
                let (names, basis) = events_of(values, context)?;
                (basis, ranking(plan, &expanded, names, basis, context)?)
            }
            Grouping::Compare(segments) => {
                let asked = compared(plan, self, &expanded, segments, context)?;
                (Basis::Segments, Step::Groups(asked))
            }
            Grouping::Split(date) => {
                let asked = split(plan, self, &expanded, *date, context)?;
                (Basis::Date, Step::Groups(asked))
            }
        };
        Ok(ComparisonQuestion {
            query: self.query.clone(),
            expanded,
            grouping: self.grouping.clone(),
            basis,
            step,
        })
    }

    fn is_stale(planned: &ComparisonQuestion, results: &Results) -> bool {
        match &planned.step {
            Step::Ranking { unlisted, .. } => results.counts.any(unlisted),
            Step::Groups(asked) => asked
                .groups
                .iter()
                .any(|group| group.question.contradicts_coverage(&results.counts)),
        }
    }

    fn next(
        planned: &mut ComparisonQuestion,
        results: &Results,
        context: &Context<'_>,
    ) -> Result<Option<Request>, QueryError> {
        let (Step::Ranking { values, .. }, Grouping::Breakdown(pattern)) =
            (&planned.step, &planned.grouping)
        else {
            return Ok(None);
        };
        let mut ranked: Vec<(u64, &EventName)> = values
            .iter()
            .map(|(name, people)| (results.counts[*people], name))
            .collect();
        ranked.sort_by_key(|(people, name)| (Reverse(*people), *name));
        let (with_people, empty) = {
            let some = ranked.partition_point(|(people, _)| *people > 0);
            (some, ranked.len() - some)
        };
        let names: Vec<EventName> = ranked[..with_people]
            .iter()
            .map(|(_, name)| (*name).clone())
            .collect();
        let mut request = Request::default();
        let asked = broken_down(&mut request.plan, planned, pattern, &names, empty, context)?;
        planned.step = Step::Groups(asked);
        Ok(Some(request))
    }

    fn answer(planned: ComparisonQuestion, results: &Results) -> Compared {
        planned.compared(&results.counts)
    }
}

/// Returns the events of a breakdown, and since when their users count as known.
fn events_of(
    values: &Values,
    context: &Context<'_>,
) -> Result<(Vec<EventName>, Basis), QueryError> {
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
    Ok((names, basis))
}

/// Everybody who is known by some events: in one of their undated bitmaps, or marked with one of
/// them up to and including a period.
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

/// Everybody who was in a segment up to and including a period.
fn known_then(of: Segment) -> Segment {
    Segment::Or(vec![Segment::Before(Box::new(of.clone())), of])
}

/// Plans the number of people of each value.
fn ranking(
    plan: &mut Plan,
    query: &Query,
    names: Vec<EventName>,
    basis: Basis,
    context: &Context<'_>,
) -> Result<Step, QueryError> {
    let planner = Planner::new(query, context)?;
    let mut cohorts: Vec<(Period, NodeId)> = Vec::new();
    let mut unlisted = Vec::new();
    let dated = crate::reports::first_recorded::dated([&query.cohort, &query.returning]);
    for period in planner.periods() {
        if context.coverage.is_recorded(*period) {
            let who = plan.add(&query.cohort.at(*period, context.catalogue)?)?;
            cohorts.push((*period, who));
        } else if !dated.is_empty() {
            // These counts are 0 unless the catalogue is out of date.
            let anybody = dated.iter().map(|name| Set::event_in(name, *period));
            unlisted.push(plan.count_set(&Set::Or(anybody.collect()))?);
        }
    }
    let all = plan.or(cohorts.iter().map(|(_, who)| *who).collect::<Vec<_>>());
    let mut values = Vec::with_capacity(names.len());
    for name in names {
        let of = std::slice::from_ref(&name);
        let mut known = KnownBy::new(of, basis, context.catalogue);
        let people = match basis {
            Basis::KnownThen => {
                let mut people = Vec::with_capacity(cohorts.len());
                for (period, who) in &cohorts {
                    let known = known.at(plan, *period)?;
                    people.push(plan.and([*who, known]));
                }
                plan.or(people)
            }
            _ => match cohorts.last() {
                Some((period, _)) => {
                    let known = known.at(plan, *period)?;
                    plan.and([all, known])
                }
                None => plan.empty(),
            },
        };
        let people = plan.count(people);
        values.push((name, people));
    }
    Ok(Step::Ranking { values, unlisted })
}

/// Plans groups one after the other.
struct Groups<'a, 'p> {
    plan: &'p mut Plan,
    planner: Planner<'a>,
    /// The question with the table's names.
    shown: &'a Query,
    query: &'a Query,
    context: &'a Context<'a>,
    groups: Vec<AskedGroup>,
    members: Vec<Members>,
}

impl<'a, 'p> Groups<'a, 'p> {
    fn new(
        plan: &'p mut Plan,
        shown: &'a Query,
        query: &'a Query,
        context: &'a Context<'a>,
    ) -> Result<Self, QueryError> {
        Ok(Groups {
            plan,
            planner: Planner::new(query, context)?,
            shown,
            query,
            context,
            groups: Vec::new(),
            members: Vec::new(),
        })
    }

    /// Adds a group: of the users of the cohorts in `rows`, those that `within` keeps. `cohort` is
    /// the segment of the starting side with the group's condition, and `expanded` the same with
    /// saved segments written out.
    fn add(
        &mut self,
        kind: GroupKind,
        (cohort, expanded): (Option<Segment>, &Segment),
        rows: Range<usize>,
        within: &mut dyn FnMut(&mut Plan, NodeId, Period) -> Result<NodeId, QueryError>,
    ) -> Result<(), QueryError> {
        let (base, catalogue) = (&self.query.cohort, self.context.catalogue);
        let asked = Query {
            cohort: expanded.clone(),
            ..self.query.clone()
        };
        let (question, members) =
            self.planner
                .question(self.plan, &asked, rows.clone(), &mut |plan, period| {
                    let who = plan.add(&base.at(period, catalogue)?)?;
                    within(plan, who, period)
                })?;
        let shown = Query {
            cohort: cohort.clone().unwrap_or(self.shown.cohort.clone()),
            ..self.shown.clone()
        };
        let recorded = Recorded::of(
            [&asked.cohort, &asked.returning],
            catalogue,
            self.context.coverage.now(),
        );
        let complete = self.planner.periods()[rows.clone()].iter().map(|period| {
            let windows = asked.windows(*period, self.context.coverage);
            let is_complete = |state| state == State::Complete && !recorded.is_first(*period);
            windows
                .iter()
                .map(|window| is_complete(window.state))
                .collect()
        });
        self.groups.push(AskedGroup {
            kind,
            cohort,
            complete: complete.collect(),
            question: question.of(shown),
            rows,
            common: Vec::new(),
            both: None,
        });
        self.members.push(members);
        Ok(())
    }

    /// Plans what says how far the groups overlap.
    fn finish(mut self, empty_values: usize, left_out: Option<Period>) -> Asked {
        let plan = self.plan;
        for at in 1..self.groups.len() {
            let [first, own] = [&self.members[0], &self.members[at]];
            let group = &mut self.groups[at];
            // Cohorts on the two sides of a date are no pairs.
            if group.rows == (0..self.planner.periods().len()) {
                let pairs = first.cohorts.iter().zip(&own.cohorts);
                group.common = pairs
                    .filter_map(|(first, own)| Some([(*first)?, (*own)?]))
                    .map(|pair| {
                        let common = plan.and(pair);
                        plan.count(common)
                    })
                    .collect();
            }
            let both = plan.or([first.complete, own.complete]);
            group.both = Some(plan.count(both));
        }
        let all = plan.or(self.members.iter().map(|of| of.all).collect::<Vec<_>>());
        Asked {
            people: plan.count(all),
            groups: self.groups,
            empty_values,
            left_out,
        }
    }
}

fn compared(
    plan: &mut Plan,
    asked: &Comparison,
    expanded: &Query,
    segments: &[Segment],
    context: &Context<'_>,
) -> Result<Asked, QueryError> {
    let mut groups = Groups::new(plan, &asked.query, expanded, context)?;
    let rows = 0..groups.planner.periods().len();
    for segment in segments {
        let own = context
            .sets()
            .expand(segment)
            .map_err(|error| QueryError::Field {
                field: "compare",
                message: error.to_string(),
            })?;
        let narrowed = |by: &Query, with: &Segment| by.cohort.clone().and_all([with.clone()]);
        groups.add(
            GroupKind::Segment(segment.clone()),
            (
                Some(narrowed(&asked.query, segment)),
                &narrowed(expanded, &own),
            ),
            rows.clone(),
            &mut |plan, who, period| {
                let set = own.at(period, context.catalogue)?;
                let own = plan.add(&set)?;
                Ok(plan.and([who, own]))
            },
        )?;
    }
    Ok(groups.finish(0, None))
}

fn split(
    plan: &mut Plan,
    asked: &Comparison,
    expanded: &Query,
    date: chrono::NaiveDate,
    context: &Context<'_>,
) -> Result<Asked, QueryError> {
    let mut groups = Groups::new(plan, &asked.query, expanded, context)?;
    let periods = groups.planner.periods();
    let moment = date.and_time(chrono::NaiveTime::MIN).and_utc();
    let before = periods.partition_point(|period| period.end() <= moment);
    let after = periods.partition_point(|period| period.start() < moment);
    let (left_out, end) = (periods.get(before..after), periods.len());
    let left_out = left_out.and_then(|within| within.first().copied());
    for (kind, rows) in [
        (GroupKind::Before, 0..before),
        (GroupKind::After, after..end),
    ] {
        groups.add(
            kind,
            (Some(asked.query.cohort.clone()), &expanded.cohort),
            rows,
            &mut |_, who, _| Ok(who),
        )?;
    }
    Ok(groups.finish(0, left_out))
}

fn broken_down(
    plan: &mut Plan,
    planned: &ComparisonQuestion,
    values: &Values,
    names: &[EventName],
    empty_values: usize,
    context: &Context<'_>,
) -> Result<Asked, QueryError> {
    let basis = planned.basis;
    let cohort = &planned.query.cohort;
    let base = &planned.expanded.cohort;
    let mut groups = Groups::new(plan, &planned.query, &planned.expanded, context)?;
    let rows = 0..groups.planner.periods().len();
    let of_names = |names: &[EventName]| {
        let leaf = |name: &EventName| match basis {
            Basis::KnownToday => Segment::Ever(name.clone()),
            _ => Segment::event(name),
        };
        let mut leaves: Vec<Segment> = names.iter().map(leaf).collect();
        let union = if leaves.len() == 1 {
            leaves.remove(0)
        } else {
            Segment::Or(leaves)
        };
        match basis {
            Basis::KnownToday => union,
            _ => known_then(union),
        }
    };
    let (shown, others) = names.split_at(names.len().min(SHOWN_VALUES));
    for name in shown {
        let name = std::slice::from_ref(name);
        let mut known = KnownBy::new(name, basis, context.catalogue);
        groups.add(
            GroupKind::Value(name[0].clone()),
            (Some(cohort.clone().and_all([of_names(name)])), base),
            rows.clone(),
            &mut |plan, who, period| {
                let known = known.at(plan, period)?;
                Ok(plan.and([who, known]))
            },
        )?;
    }
    let pattern = match basis {
        Basis::KnownToday => Segment::NamesEver(values.start.clone()),
        _ => Segment::Names(values.start.clone()),
    };
    // A pattern with special characters cannot be written.
    let any = match pattern.to_string().parse::<Segment>() {
        Ok(read) if read == pattern => Some(match basis {
            Basis::KnownToday => pattern,
            _ => known_then(pattern),
        }),
        _ if names.len() <= LINKED_VALUES => Some(of_names(names)),
        _ => None,
    };
    let without = any.map(|any| Segment::Diff(Box::new(cohort.clone()), Box::new(any)));
    let mut known = KnownBy::new(names, basis, context.catalogue);
    groups.add(
        GroupKind::None,
        (without, base),
        rows.clone(),
        &mut |plan, who, period| {
            let known = known.at(plan, period)?;
            Ok(plan.diff(who, known))
        },
    )?;
    if !others.is_empty() {
        let is_short = others.len() <= LINKED_VALUES;
        let other = is_short.then(|| cohort.clone().and_all([of_names(others)]));
        let mut known = KnownBy::new(others, basis, context.catalogue);
        groups.add(
            GroupKind::Other(others.len()),
            (other, base),
            rows,
            &mut |plan, who, period| {
                let known = known.at(plan, period)?;
                Ok(plan.and([who, known]))
            },
        )?;
    }
    Ok(groups.finish(empty_values, None))
}

impl ComparisonQuestion {
    /// The oldest cohort. `None` without cohorts.
    pub fn first(&self) -> Option<Period> {
        match &self.step {
            Step::Ranking { .. } => None,
            Step::Groups(asked) => asked.groups.iter().find_map(|group| group.question.first()),
        }
    }

    /// The names of the groups. There are none before the values with the most people are known.
    pub fn names(&self) -> Vec<String> {
        match &self.step {
            Step::Ranking { .. } => Vec::new(),
            Step::Groups(asked) => asked.groups.iter().map(|group| group.kind.name()).collect(),
        }
    }

    /// The answer, from the counts of its last request.
    pub fn compared(&self, counts: &Counts) -> Compared {
        let Step::Groups(asked) = &self.step else {
            unreachable!("the groups are planned before the answer is made");
        };
        let tables: Vec<Table> = asked
            .groups
            .iter()
            .map(|group| group.question.table(counts))
            .collect();
        let mut differences = Vec::new();
        for at in 1..tables.len() {
            self.compare(&asked.groups, &tables, at, counts, &mut differences);
        }
        let tests = correct(&mut differences);
        let entries = tables.iter().map(|table| table.people).sum();
        let groups = asked.groups.iter().zip(tables);
        let groups: Vec<Group> = groups
            .map(|(asked, table)| Group {
                kind: asked.kind.clone(),
                cohort: asked.cohort.clone(),
                table,
            })
            .collect();
        Compared {
            query: self.query.clone(),
            grouping: self.grouping.clone(),
            basis: self.basis,
            people: counts[asked.people],
            people_of_groups: entries,
            groups,
            differences,
            tests,
            empty_values: asked.empty_values,
            left_out: asked.left_out,
        }
    }

    /// Compares the first group with another one, column by column.
    fn compare(
        &self,
        groups: &[AskedGroup],
        tables: &[Table],
        at: usize,
        counts: &Counts,
        differences: &mut Vec<Difference>,
    ) {
        let is_split = matches!(self.grouping, Grouping::Split(_));
        let (asked, [first, own]) = (&groups[at], [&tables[0], &tables[at]]);
        let entries = first.complete_entries + own.complete_entries;
        let both = asked.both.map_or(0, |id| counts[id]).min(entries);
        let are_repeats =
            !first.is_independent() || !own.is_independent() || !are_independent(entries, both);
        let untested = match () {
            () if counts.any(&asked.common) => Some(NoTest::Overlap),
            () if are_repeats => Some(NoTest::Repeats),
            () => None,
        };
        let is_complete = |group: usize, row: usize, column: usize| {
            let row = groups[group].complete.get(row);
            row.and_then(|row| row.get(column))
                .copied()
                .unwrap_or(false)
        };
        for (place, column) in self.query.columns().enumerate() {
            // Nobody comes back in the cohort's own period.
            if column.first == 0 {
                continue;
            }
            let rows = |group: usize| {
                let rows = tables[group].rows.iter().enumerate();
                rows.filter(move |(row, _)| is_complete(group, *row, place))
            };
            // An empty cohort has no cells.
            let side = |row: &Row| {
                let number = row.cells[place].number();
                number.map_or((0, 0), |number| (number.retained, number.size))
            };
            let table = |(part_a, whole_a): (u64, u64), (part_b, whole_b): (u64, u64)| TwoByTwo {
                part_a,
                whole_a,
                part_b,
                whole_b,
            };
            let (cohorts, pair): (Vec<TwoByTwo>, _) = if is_split {
                // What came after, minus what was before.
                let before = rows(0).map(|(_, row)| table((0, 0), side(row)));
                let after = rows(at).map(|(_, row)| table(side(row), (0, 0)));
                (before.chain(after).collect(), (at, 0))
            } else {
                let both = rows(0).filter(|(row, _)| is_complete(at, *row, place));
                let tables = both.map(|(row, of)| table(side(of), side(&own.rows[row])));
                (tables.collect(), (0, at))
            };
            differences.push(Difference::new(pair, place, &cohorts, !is_split, untested));
        }
    }
}
