//! Plans the counts of trends, and builds the answer from them.

use std::convert::Infallible;

use crate::calendar::{Grain, Period, Zone};
use crate::reports::comparison::{GroupKind, KnownValues, Values};
use crate::reports::coverage::{Coverage, State};
use crate::reports::error::QueryError;
use crate::reports::first_recorded::{Beginning, dated};
use crate::reports::range::Range;
use crate::reports::report::{Context, Report, Request, Results};
use crate::reports::rolling::WindowUnions;
use crate::reports::trends::lines::{Breakdown, Lines, Point, Series};
use crate::reports::trends::rolling::Rolling;
use crate::sets::{CountId, Counts, EventName, NodeId, Plan, Segment};
use crate::stats::rate;

/// The maximum number of segments.
pub const MAX_SERIES: usize = 6;

/// Asks how many users are in each of some segments, period by period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trends {
    /// The segments, 1–[`MAX_SERIES`], or 1 with a breakdown. Each has dated events.
    pub segments: Vec<Segment>,
    /// Divides the users of the segment into groups.
    pub breakdown: Option<Values>,
    /// The periods.
    pub range: Range,
    /// Counts the users of the window that ends with each period, which is a day.
    pub rolling: Option<Rolling>,
}

/// A planned [`Trends`].
#[derive(Debug, Clone)]
pub struct TrendsQuestion {
    grain: Grain,
    zone: Zone,
    rolling: Option<Rolling>,
    periods: Vec<Period>,
    series: Vec<AskedSeries>,
    breakdown: Option<AskedBreakdown>,
    data_ends: Option<Period>,
    may_include_later_marks: bool,
    /// The counts of periods that are not recorded.
    unlisted: Vec<CountId>,
}

/// The groups among the series.
#[derive(Debug, Clone)]
struct AskedBreakdown {
    segment: Segment,
    /// The same with saved segments written out.
    expanded: Segment,
    values: Values,
    known: KnownValues,
    step: Step,
}

#[derive(Debug, Clone)]
enum Step {
    /// The users of each value are counted, to find the values with the most.
    Ranking(Vec<CountId>),
    /// The groups are counted.
    Groups {
        /// The distinct users of the segment.
        people: CountId,
        /// The distinct users of each group.
        of_groups: Vec<CountId>,
        empty_values: usize,
    },
}

/// The counts of one segment or group among the plan's roots.
#[derive(Debug, Clone)]
struct AskedSeries {
    kind: GroupKind,
    segment: Option<Segment>,
    begins: Beginning,
    is_on_the_same_day: bool,
    points: Vec<AskedPoint>,
    /// For windows of 28 days: each day, from the first day of the first window.
    days: Vec<CountId>,
}

/// The count of one period, `None` if it is not recorded.
#[derive(Debug, Clone)]
struct AskedPoint {
    period: Period,
    state: State,
    people: Option<CountId>,
}

/// A segment in each period or day that the windows consist of.
struct Units {
    /// The periods, oldest first, and the users of the segment in each.
    sets: Vec<(Period, NodeId)>,
    begins: Beginning,
    coverage: Coverage,
}

impl Units {
    fn is_recorded(&self, unit: Period) -> bool {
        let state = self.begins.state(unit, unit, &self.coverage);
        !matches!(state, State::Future | State::NotRecorded)
    }
}

impl Report for Trends {
    type Planned = TrendsQuestion;
    type Answer = Lines;

    fn zone(&self) -> Option<Zone> {
        Some(self.range.zone)
    }

    fn plan(
        &self,
        request: &mut Request,
        context: &Context<'_>,
    ) -> Result<TrendsQuestion, QueryError> {
        self.check()?;
        let coverage = context.coverage;
        let plan = &mut request.plan;
        let mut question = TrendsQuestion {
            grain: self.range.grain,
            zone: coverage.zone(),
            rolling: self.rolling,
            periods: self.range.periods(coverage)?,
            series: Vec::with_capacity(self.segments.len()),
            breakdown: None,
            data_ends: coverage.data_ends(self.range.grain),
            may_include_later_marks: false,
            unlisted: Vec::new(),
        };
        for segment in &self.segments {
            let expanded = context.sets().expand(segment)?;
            if expanded.is_undated() {
                return Err(wrong(
                    "event",
                    format!("`{segment}` has no dates, so it has no trend: name a dated event"),
                ));
            }
            match &self.breakdown {
                None => question.ask_segment(plan, segment, &expanded, context)?,
                Some(values) => {
                    let known = KnownValues::of(values, context)?;
                    question.rank(plan, (segment, expanded), (values, known), context)?;
                }
            }
        }
        Ok(question)
    }

    fn is_stale(planned: &TrendsQuestion, results: &Results) -> bool {
        results.counts.any(&planned.unlisted)
    }

    fn next(
        planned: &mut TrendsQuestion,
        results: &Results,
        context: &Context<'_>,
    ) -> Result<Option<Request>, QueryError> {
        let Some(AskedBreakdown {
            step: Step::Ranking(people),
            ..
        }) = &planned.breakdown
        else {
            return Ok(None);
        };
        let people = people.clone();
        let mut request = Request::default();
        planned.ask_groups(&mut request.plan, &people, &results.counts, context)?;
        Ok(Some(request))
    }

    fn answer(planned: TrendsQuestion, results: &Results) -> Lines {
        planned.lines(&results.counts)
    }
}

fn wrong(field: &'static str, message: String) -> QueryError {
    QueryError::Field { field, message }
}

impl Trends {
    fn check(&self) -> Result<(), QueryError> {
        let count = self.segments.len();
        if !(1..=MAX_SERIES).contains(&count) {
            let message = format!("{count} segments: ask for 1 to {MAX_SERIES}");
            return Err(wrong("event", message));
        }
        if self.breakdown.is_some() && count > 1 {
            let message = format!(
                "a breakdown divides one segment into groups, and there are {count}: remove the \
                 others, or the breakdown"
            );
            return Err(wrong("breakdown", message));
        }
        let mut earlier = self.segments.iter().enumerate();
        if let Some((_, twice)) = earlier.find(|(at, s)| self.segments[..*at].contains(s)) {
            let message = format!("`{twice}` is given twice; remove one of them");
            return Err(wrong("event", message));
        }
        if self.rolling.is_some() && self.range.grain != Grain::Day {
            let message = "a rolling window ends on each day: ask by day, or without `rolling`";
            return Err(wrong("rolling", message.to_owned()));
        }
        Ok(())
    }
}

impl TrendsQuestion {
    fn length(&self) -> u32 {
        self.rolling.map_or(1, Rolling::days)
    }

    /// Adds the users of a segment in each unit to the plan. `also` are further events whose dated
    /// bitmaps are used.
    fn units(
        &self,
        plan: &mut Plan,
        expanded: &Segment,
        also: &[&EventName],
        context: &Context<'_>,
    ) -> Result<Units, QueryError> {
        let length = self.length();
        let first = *self.periods.first().expect("there is at least one period");
        let earliest = first
            .shift(1 - i64::from(length))
            .map_err(|error| QueryError::Date {
                field: "from",
                error,
            })?;
        let count = u32::try_from(self.periods.len()).expect("at most 400 periods");
        let mut sets = Vec::new();
        for unit in earliest.range(count + length - 1) {
            sets.push((unit, plan.add(&expanded.at(unit, context.catalogue)?)?));
        }
        let mut names = dated([expanded]);
        names.extend(also);
        let coverage = context.covering(&names);
        Ok(Units {
            sets,
            begins: Beginning::of(expanded, context.catalogue, &coverage),
            coverage,
        })
    }

    /// Plans the series of a segment.
    fn ask_segment(
        &mut self,
        plan: &mut Plan,
        segment: &Segment,
        expanded: &Segment,
        context: &Context<'_>,
    ) -> Result<(), QueryError> {
        let units = self.units(plan, expanded, &[], context)?;
        self.may_include_later_marks |= context.may_include_later(dated([expanded]), &self.periods);
        let nodes: Vec<NodeId> = units.sets.iter().map(|(_, node)| *node).collect();
        let kind = GroupKind::Segment(segment.clone());
        let is_union = expanded.is_union_of_units();
        let points = self.ask(
            plan,
            (kind, Some(segment.clone())),
            &units,
            &nodes,
            is_union,
        );
        if !expanded.has_function() {
            self.unlisted.extend(points);
        }
        Ok(())
    }

    /// Plans the number of users of each value of a breakdown.
    fn rank(
        &mut self,
        plan: &mut Plan,
        (segment, expanded): (&Segment, Segment),
        (values, known): (&Values, KnownValues),
        context: &Context<'_>,
    ) -> Result<(), QueryError> {
        let also = known.dated();
        let units = self.units(plan, &expanded, &also, context)?;
        let mut names = dated([&expanded]);
        names.extend(also);
        self.may_include_later_marks = context.may_include_later(names, &self.periods);
        let (recorded, others): (Vec<_>, Vec<_>) = units
            .sets
            .iter()
            .partition(|(unit, _)| units.is_recorded(*unit));
        if !expanded.has_function() {
            self.unlisted
                .extend(others.iter().map(|(_, node)| plan.count(*node)));
        }
        let people = known.counted(plan, &recorded, context.catalogue)?;
        self.breakdown = Some(AskedBreakdown {
            segment: segment.clone(),
            expanded,
            values: values.clone(),
            known,
            step: Step::Ranking(people),
        });
        Ok(())
    }

    /// Plans the groups of a breakdown, of which the users were counted.
    fn ask_groups(
        &mut self,
        plan: &mut Plan,
        people: &[CountId],
        counts: &Counts,
        context: &Context<'_>,
    ) -> Result<(), QueryError> {
        let Some(mut breakdown) = self.breakdown.take() else {
            return Ok(());
        };
        let empty_values = breakdown.known.rank(people, counts);
        let units = self.units(plan, &breakdown.expanded, &breakdown.known.dated(), context)?;
        let is_union = breakdown.expanded.is_union_of_units();
        // The distinct users of the recorded units.
        let all = |plan: &mut Plan, nodes: &[NodeId]| {
            let nodes = units.sets.iter().zip(nodes);
            let recorded = nodes.filter(|((unit, _), _)| units.is_recorded(*unit));
            let union = plan.or(recorded.map(|(_, node)| *node).collect::<Vec<_>>());
            plan.count(union)
        };
        let mut of_groups = Vec::new();
        let groups = breakdown
            .known
            .groups(&breakdown.segment, context.catalogue);
        for mut group in groups {
            let mut nodes = Vec::with_capacity(units.sets.len());
            for (unit, who) in &units.sets {
                nodes.push(group.within(plan, *who, *unit)?);
            }
            let segment = group.segment.take();
            let segment = segment.filter(|segment| self.is_listed(segment, context));
            self.ask(
                plan,
                (group.kind.clone(), segment),
                &units,
                &nodes,
                is_union,
            );
            of_groups.push(all(plan, &nodes));
        }
        let everybody: Vec<NodeId> = units.sets.iter().map(|(_, who)| *who).collect();
        breakdown.step = Step::Groups {
            people: all(plan, &everybody),
            of_groups,
            empty_values,
        };
        self.breakdown = Some(breakdown);
        Ok(())
    }

    /// Whether the users of a group can be listed: the set of a long window may have too many terms.
    fn is_listed(&self, segment: &Segment, context: &Context<'_>) -> bool {
        let (Some(rolling), Some(last)) = (self.rolling, self.periods.last()) else {
            return true;
        };
        let expanded = context.sets().expand(&rolling.window_of(segment.clone()));
        expanded.is_ok_and(|expanded| expanded.at(*last, context.catalogue).is_ok())
    }

    /// Plans one series, from its users in each unit, and returns the counts of periods that are
    /// not recorded.
    fn ask(
        &mut self,
        plan: &mut Plan,
        (kind, segment): (GroupKind, Option<Segment>),
        units: &Units,
        nodes: &[NodeId],
        is_union: bool,
    ) -> Vec<CountId> {
        let length = usize::try_from(self.length()).expect("a window has at most 30 days");
        let mut unions = WindowUnions::new(length);
        let node = |_: &mut Plan, place: usize| Ok::<_, Infallible>(nodes[place]);
        let mut points = Vec::with_capacity(self.periods.len());
        let mut unlisted = Vec::new();
        for at in 0..self.periods.len() {
            let Ok(window) = unions.union(plan, at, node);
            let [from, until] = [at, at + length - 1].map(|place| units.sets[place].0);
            let state = units.begins.state(from, until, &units.coverage);
            let is_recorded = !matches!(state, State::Future | State::NotRecorded);
            if !is_recorded {
                unlisted.push(plan.count(window));
            }
            points.push(AskedPoint {
                period: until,
                state,
                people: is_recorded.then(|| plan.count(window)),
            });
        }
        let days = match self.rolling {
            Some(Rolling::FourWeeks) => nodes,
            _ => &[],
        };
        self.series.push(AskedSeries {
            kind,
            segment,
            begins: units.begins,
            is_on_the_same_day: self.rolling.is_some() && !is_union,
            points,
            days: days.iter().map(|day| plan.count(*day)).collect(),
        });
        unlisted
    }

    fn lines(self, counts: &Counts) -> Lines {
        let mut series: Vec<Series> = self
            .series
            .into_iter()
            .map(|asked| asked.series(counts))
            .collect();
        let breakdown = self.breakdown.map(|asked| {
            let Step::Groups {
                people,
                of_groups,
                empty_values,
            } = asked.step
            else {
                unreachable!("the groups are planned before the answer is made");
            };
            let of_groups: Vec<u64> = of_groups.iter().map(|id| counts[*id]).collect();
            // Where every person has a value, nobody is left over.
            let mut at = 0;
            series.retain(|series| {
                at += 1;
                at == 1 || !series.kind.is_rest() || of_groups[at - 1] > 0
            });
            Breakdown {
                segment: asked.segment,
                values: asked.values,
                basis: asked.known.basis,
                people: counts[people],
                people_of_groups: of_groups.iter().sum(),
                empty_values,
            }
        });
        Lines {
            grain: self.grain,
            zone: self.zone,
            rolling: self.rolling,
            series,
            breakdown,
            data_ends: self.data_ends,
            may_include_later_marks: self.may_include_later_marks,
        }
    }
}

impl AskedSeries {
    fn series(self, counts: &Counts) -> Series {
        let point = |(at, asked): (usize, &AskedPoint)| {
            let people = asked.people.map(|id| counts[id]);
            let window = self.days.iter().skip(at).take(28);
            let total: u64 = window.map(|id| counts[*id]).sum();
            let is_sticky = !self.days.is_empty() && asked.state == State::Complete;
            let all = people.filter(|_| is_sticky).map(|people| people * 28);
            Point {
                period: asked.period,
                state: asked.state,
                people,
                stickiness: all.and_then(|all| rate(total, all)),
            }
        };
        Series {
            points: self.points.iter().enumerate().map(point).collect(),
            kind: self.kind,
            segment: self.segment,
            begins: self.begins.period(),
            is_on_the_same_day: self.is_on_the_same_day,
        }
    }
}
