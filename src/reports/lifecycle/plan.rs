//! Plans the counts of a lifecycle, and builds the answer from them.

use crate::calendar::{Grain, Period, Zone};
use crate::reports::clamps::Clamps;
use crate::reports::coverage::{Coverage, State};
use crate::reports::error::QueryError;
use crate::reports::first_recorded::{Beginning, dated};
use crate::reports::lifecycle::growth::{Classes, Growth, Stage};
use crate::reports::range::Range;
use crate::reports::report::{Context, Report, Request, Results};
use crate::sets::{CountId, Counts, Plan, Segment};

/// Asks for the lifecycle of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    /// Whose lifecycle. It has dated events and no functions.
    pub segment: Segment,
    /// The periods.
    pub range: Range,
}

/// A planned [`Lifecycle`].
#[derive(Debug, Clone)]
pub struct LifecycleQuestion {
    segment: Segment,
    grain: Grain,
    zone: Zone,
    data_ends: Option<Period>,
    may_include_later_marks: bool,
    begins: Option<Period>,
    periods: Vec<AskedPeriod>,
    /// The counts of the periods that are not recorded.
    unlisted: Vec<CountId>,
}

/// The counts of one period among the plan's roots.
#[derive(Debug, Clone)]
struct AskedPeriod {
    period: Period,
    state: State,
    /// `None` where the period is not recorded.
    active: Option<CountId>,
    /// `None` where the history is not recorded whole.
    classes: Option<AskedClasses>,
}

/// Counts from which the classes follow.
#[derive(Debug, Clone)]
struct AskedClasses {
    /// In the period before.
    before: CountId,
    /// In this period and in the one before.
    both: CountId,
    /// In this period and in any earlier one.
    seen: CountId,
}

impl Report for Lifecycle {
    type Planned = LifecycleQuestion;
    type Answer = Growth;

    fn zone(&self) -> Option<Zone> {
        Some(self.range.zone)
    }

    fn plan(
        &self,
        request: &mut Request,
        context: &Context<'_>,
    ) -> Result<LifecycleQuestion, QueryError> {
        let expanded = context.sets().expand(&self.segment)?;
        self.check(&expanded)?;
        let coverage = context.covering(&dated([&expanded]));
        let periods = self.range.periods(&coverage)?;
        let begins = Beginning::of(&expanded, context.catalogue, &coverage);
        let history = History::new(&expanded, begins, self.range.grain, &coverage);
        let mut question = LifecycleQuestion {
            segment: self.segment.clone(),
            grain: self.range.grain,
            zone: coverage.zone(),
            data_ends: coverage.data_ends(self.range.grain),
            may_include_later_marks: context.may_include_later(dated([&expanded]), &periods),
            begins: begins.period(),
            periods: Vec::with_capacity(periods.len()),
            unlisted: Vec::new(),
        };
        question.ask(&mut request.plan, &expanded, &periods, &history, context)?;
        Ok(question)
    }

    fn is_stale(planned: &LifecycleQuestion, results: &Results) -> bool {
        results.counts.any(&planned.unlisted)
    }

    fn answer(planned: LifecycleQuestion, results: &Results) -> Growth {
        planned.growth(&results.counts)
    }
}

impl Lifecycle {
    fn check(&self, expanded: &Segment) -> Result<(), QueryError> {
        let segment = &self.segment;
        let message = if expanded.is_undated() {
            format!(
                "`{segment}` has no dates, and a lifecycle compares periods: name a dated event"
            )
        } else if expanded.has_function() {
            format!(
                "`{segment}` contains a function, which looks at several periods, as a lifecycle does: leave it out"
            )
        } else {
            return Ok(());
        };
        Err(QueryError::Field {
            field: "event",
            message,
        })
    }
}

/// Which earlier users of a segment are known.
struct History<'a> {
    begins: Beginning,
    coverage: &'a Coverage,
    /// The periods without bitmaps of their own, each with a longer one that contains it. Its users
    /// are known to be earlier ones once that is over, and never without one.
    gaps: Vec<(Period, Option<Period>)>,
}

impl<'a> History<'a> {
    fn new(segment: &Segment, begins: Beginning, grain: Grain, coverage: &'a Coverage) -> Self {
        let mut gaps = Vec::new();
        let first = match begins {
            Beginning::From(first) => Some(first.within(grain)),
            Beginning::Always => coverage.first(grain),
            Beginning::Never => None,
        };
        if let Some((first, last)) = first.zip(coverage.last(grain)) {
            let is_union = segment.is_union_of_units();
            let mut at = Some(first);
            while let Some(period) = at.filter(|at| *at <= last) {
                if coverage.state_of(period) == State::NotRecorded {
                    // Only the users of a union are known from longer periods.
                    let kept = is_union
                        .then(|| Self::covered_by(period, coverage))
                        .flatten();
                    gaps.push((period, kept));
                }
                at = period.shift(1).ok();
            }
        }
        History {
            begins,
            coverage,
            gaps,
        }
    }

    /// Returns the shortest recorded longer period that contains a period.
    fn covered_by(period: Period, coverage: &Coverage) -> Option<Period> {
        let longer = [Grain::Day, Grain::WEEK, Grain::Month];
        let longer = longer.into_iter().filter(|grain| *grain > period.grain());
        longer
            .map(|grain| period.within(grain))
            .find(|longer| longer.end() >= period.end() && coverage.is_recorded(*longer))
    }

    /// Whether all earlier users and those of the period before are known.
    fn is_known_before(&self, period: Period) -> bool {
        let Ok(before) = period.previous() else {
            return false;
        };
        let is_whole = match self.begins.state(before, before, self.coverage) {
            State::Complete | State::InProgress => true,
            // Records begin within it.
            State::PartlyRecorded => self.coverage.is_whole_since_its_records_begin(before),
            State::Future | State::NotRecorded => false,
        };
        let is_known = |(gap, kept): &(Period, Option<Period>)| {
            period <= *gap || kept.is_some_and(|kept| kept.end() <= period.start())
        };
        is_whole && self.gaps.iter().all(is_known)
    }
}

impl LifecycleQuestion {
    fn ask(
        &mut self,
        plan: &mut Plan,
        segment: &Segment,
        periods: &[Period],
        history: &History<'_>,
        context: &Context<'_>,
    ) -> Result<(), QueryError> {
        let first = *periods.first().expect("there is at least one period");
        let catalogue = context.catalogue;
        let mut previous = match first.previous() {
            Ok(period) => plan.add(&segment.at(period, catalogue)?)?,
            Err(_) => plan.empty(),
        };
        let earlier = Segment::Before(Box::new(segment.clone()));
        // The users of all earlier periods: those of the rows so far, and of the history before a
        // row if the row before it is not recorded. That it contains the previous period's users
        // keeps every class at 0 or more, even if a bitmap lacks marks of its days.
        let mut seen = previous;
        let mut needs_history = true;
        for period in periods.iter().copied() {
            let users = plan.add(&segment.at(period, catalogue)?)?;
            let mut state = history.begins.state(period, period, history.coverage);
            let mut classes = None;
            let mut active = None;
            if state == State::NotRecorded {
                self.unlisted.push(plan.count(users));
                needs_history = true;
            } else if history.is_known_before(period) {
                if needs_history {
                    let history = plan.add(&earlier.at(period, catalogue)?)?;
                    seen = plan.or([seen, history]);
                    needs_history = false;
                }
                let both = plan.and([users, previous]);
                let again = plan.and([users, seen]);
                active = Some(plan.count(users));
                classes = Some(AskedClasses {
                    before: plan.count(previous),
                    both: plan.count(both),
                    seen: plan.count(again),
                });
            } else {
                state = State::PartlyRecorded;
                active = Some(plan.count(users));
            }
            self.periods.push(AskedPeriod {
                period,
                state,
                active,
                classes,
            });
            seen = plan.or([seen, users]);
            previous = users;
        }
        Ok(())
    }

    fn growth(self, counts: &Counts) -> Growth {
        let mut clamps = Clamps::default();
        let stage = |asked: &AskedPeriod| {
            let active = asked.active.map(|id| counts[id]);
            let classes = asked.classes.as_ref().zip(active).map(|(ids, active)| {
                let before = counts[ids.before];
                let seen = clamps.at_most(counts[ids.seen], active);
                let both = clamps.at_most(counts[ids.both], seen.min(before));
                Classes {
                    new: active - seen,
                    returning: both,
                    resurrected: seen - both,
                    dormant: before - both,
                }
            });
            Stage {
                period: asked.period,
                state: asked.state,
                active,
                classes,
            }
        };
        let stages = self.periods.iter().map(stage).collect();
        clamps.report(&self.segment);
        Growth {
            stages,
            segment: self.segment,
            grain: self.grain,
            zone: self.zone,
            begins: self.begins,
            data_ends: self.data_ends,
            may_include_later_marks: self.may_include_later_marks,
        }
    }
}
