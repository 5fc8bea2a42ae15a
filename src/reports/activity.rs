//! Activity: how many people did something, period by period.
//!
//! [`OverviewQuestion`] asks after many events at once, [`ActivityQuestion`] after one segment over time. Both add
//! their counts to a [`Plan`] they are given, so that a page asks its store once, and both are told
//! which bitmaps exist, so that those that do not cost nothing.

use std::cmp::Reverse;
use std::collections::HashSet;

use chrono::{DateTime, Utc};

use crate::calendar::{CalendarError, Grain, Period};
use crate::reports::coverage::{Coverage, State};
use crate::reports::stats::rate;
use crate::sets::{Catalogue, CountId, Counts, EventName, Key, Plan, Segment, TooLarge, When};

/// How many days an overview shows, the running one included.
pub const OVERVIEW_DAYS: usize = 30;

/// The most periods an activity may have.
pub const MAX_PERIODS: u32 = 400;

/// Why an activity cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActivityError {
    /// Too few or too many periods.
    #[error("{0} periods: ask for 1 to {MAX_PERIODS}")]
    Periods(u32),
    /// A date outside the supported years.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// The segment is too long for so many periods.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// Between which periods something was recorded, by the bitmaps there are: days, where days are
/// kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first one: a week or month when the bitmaps of its days are gone.
    pub first: Period,
    /// The last one that has begun.
    pub last: Period,
}

impl Span {
    /// The span of these keys as of `now`; `None` when none of them is dated and has begun.
    ///
    /// ```
    /// use cohortist::{calendar::parse_moment, reports::activity::Span, sets::{EventName, Key}};
    /// let event = EventName::new("active")?;
    /// let keys: Vec<Key> = ["2026-11-09", "2026-11-20"]
    ///     .iter()
    ///     .flat_map(|day| Key::of_mark(&event, parse_moment(day).unwrap(), true).unwrap())
    ///     .collect();
    /// let span = Span::of(&keys, parse_moment("2026-11-23")?).unwrap();
    /// assert_eq!((span.first.to_string(), span.last.to_string()), ("2026-11-09".into(), "2026-11-20".into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of<'a>(keys: impl IntoIterator<Item = &'a Key>, now: DateTime<Utc>) -> Option<Span> {
        let mut span: Option<Span> = None;
        for key in keys {
            let When::In(period) = key.when() else {
                continue;
            };
            let period = if period.grain() == Grain::Hour {
                period.within(Grain::Day)
            } else {
                period
            };
            if period.start() > now {
                continue;
            }
            // The month of a day ends after it and begins before it, so a day says more at both
            // ends.
            let early = |p: Period| (p.end(), Reverse(p.start()));
            let late = |p: Period| (p.start(), Reverse(p.end()));
            let span = span.get_or_insert(Span {
                first: period,
                last: period,
            });
            if early(period) < early(span.first) {
                span.first = period;
            }
            if late(period) > late(span.last) {
                span.last = period;
            }
        }
        span
    }

    /// Whether there are records from the period's beginning on, so that it can be compared with
    /// others.
    pub fn covers(&self, period: Period) -> bool {
        self.first.start() <= period.start()
    }
}

/// How many periods back lies the one that a period is compared with: a day is compared with the
/// same weekday of the week before, as between two days that follow one another the weekday says
/// more than anything people did; everything else with the period before.
pub const fn compared(grain: Grain) -> u32 {
    if matches!(grain, Grain::Day) { 7 } else { 1 }
}

/// The change from `before` to `after` as a share of `before`: 0.1 is a tenth more. `None` when
/// there was nobody.
fn change(before: u64, after: u64) -> Option<f64> {
    rate(after, before).map(|ratio| ratio - 1.0)
}

/// What a store has to count for an [`Overview`].
#[derive(Debug, Clone)]
pub struct OverviewQuestion {
    coverage: Coverage,
    running: Running,
    events: Vec<AskedEvent>,
}

/// The last recorded period of each grain: in a live store the one that holds *now*, otherwise the
/// one in which the data ends. Its number can still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// A day.
    pub day: Period,
    /// A week.
    pub week: Period,
    /// A month.
    pub month: Period,
}

impl Running {
    /// The running periods of a store; where a grain is not recorded at all, the period that holds
    /// *now*.
    pub fn of(coverage: &Coverage) -> Self {
        let running = |grain| {
            coverage
                .last(grain)
                .unwrap_or_else(|| coverage.current(grain))
        };
        Running {
            day: running(Grain::Day),
            week: running(Grain::Week),
            month: running(Grain::Month),
        }
    }
}

/// Where the counts of one event stand among the plan's roots; `None` where there is no bitmap.
#[derive(Debug, Clone)]
struct AskedEvent {
    event: EventName,
    days: [Option<CountId>; OVERVIEW_DAYS],
    weeks: [Option<CountId>; 3],
    months: [Option<CountId>; 3],
    ever: Option<CountId>,
    span: Option<Span>,
}

impl OverviewQuestion {
    /// Adds to the plan what is to be counted for every event that has a key among `keys`, in a
    /// store with this coverage.
    pub fn new(plan: &mut Plan, keys: &[Key], coverage: &Coverage) -> Self {
        let all = Catalogue::new(keys.to_vec());
        Self::of(
            plan,
            all.events().map(|known| all.of_known(known)),
            coverage,
        )
    }

    /// The same for events one by one, each with its keys.
    pub fn of<'a>(
        plan: &mut Plan,
        events: impl IntoIterator<Item = &'a [Key]>,
        coverage: &Coverage,
    ) -> Self {
        let (running, now) = (Running::of(coverage), coverage.now());
        let by_event = events
            .into_iter()
            .filter_map(|keys| Some((keys.first()?.event(), keys)));
        let mut events = Vec::new();
        for (event, keys) in by_event {
            let mut asked = AskedEvent {
                event: event.clone(),
                days: [None; OVERVIEW_DAYS],
                weeks: [None; 3],
                months: [None; 3],
                ever: None,
                span: Span::of(keys, now),
            };
            for key in keys {
                let slot = match key.when() {
                    When::Ever => Some(&mut asked.ever),
                    When::In(period) => {
                        let back = |running: Period| usize::try_from(running.since(period)?).ok();
                        match period.grain() {
                            Grain::Day => back(running.day).and_then(|n| asked.days.get_mut(n)),
                            Grain::Week => back(running.week).and_then(|n| asked.weeks.get_mut(n)),
                            Grain::Month => {
                                back(running.month).and_then(|n| asked.months.get_mut(n))
                            }
                            Grain::Hour | Grain::Year => None,
                        }
                    }
                };
                if let Some(slot) = slot {
                    *slot = Some(plan.count_key(key));
                }
            }
            events.push(asked);
        }
        OverviewQuestion {
            coverage: coverage.clone(),
            running,
            events,
        }
    }

    /// The overview, from the counts of the plan in order.
    pub fn overview(&self, counts: &Counts) -> Overview {
        let at = |id: Option<CountId>| id.map(|id| counts[id]);
        let number = |running: Period, roots: &[Option<CountId>], back: usize| {
            let period = i64::try_from(back)
                .ok()
                .and_then(|back| running.shift(-back).ok())?;
            let is_recorded = self.coverage.is_recorded(period);
            is_recorded.then(|| roots.get(back).and_then(|root| at(*root)).unwrap_or(0))
        };
        let recent = |running: Period, roots: &[Option<CountId>], span: Option<Span>| {
            let back = 1 + usize::try_from(compared(running.grain())).unwrap_or(1);
            let [current, last, before] = [0, 1, back].map(|back| number(running, roots, back));
            let before_of_last = running.shift(-1 - i64::from(compared(running.grain())));
            let known =
                before_of_last.is_ok_and(|before| span.is_some_and(|span| span.covers(before)));
            Recent {
                current,
                last,
                before,
                known,
            }
        };
        let Running { day, week, month } = self.running;
        let entry = |asked: &AskedEvent| Entry {
            event: asked.event.clone(),
            days: (0..asked.days.len())
                .rev()
                .map(|back| number(day, &asked.days, back))
                .collect(),
            day: recent(day, &asked.days, asked.span),
            week: recent(week, &asked.weeks, asked.span),
            month: recent(month, &asked.months, asked.span),
            ever: at(asked.ever),
            span: asked.span,
        };
        Overview {
            now: self.coverage.now(),
            today: self.coverage.current(Grain::Day),
            running: self.running,
            data_ends: self.coverage.data_ends(Grain::Day),
            entries: self.events.iter().map(entry).collect(),
        }
    }
}

/// Many events side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// As of when.
    pub now: DateTime<Utc>,
    /// The day that holds it.
    pub today: Period,
    /// The periods that the numbers count back from.
    pub running: Running,
    /// When the data ends, where that is before now.
    pub data_ends: Option<Period>,
    /// One for each event, sorted by name.
    pub entries: Vec<Entry>,
}

/// One event of an [`Overview`].
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub event: EventName,
    /// People on each of the last [`OVERVIEW_DAYS`] days, oldest first; the last one is running.
    /// `None` on days that are not recorded.
    pub days: Vec<Option<u64>>,
    /// People by day.
    pub day: Recent,
    /// People by week.
    pub week: Recent,
    /// People by month.
    pub month: Recent,
    /// People in the undated bitmap; `None` where there is none.
    pub ever: Option<u64>,
    /// When it was recorded; `None` for an event that is only recorded without dates.
    pub span: Option<Span>,
}

/// The running period, the last complete one, and the one that is compared with. `None` where a
/// period is not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    /// People in the running one, so far.
    pub current: Option<u64>,
    /// People in the last complete one.
    pub last: Option<u64>,
    /// People in the one it is compared with: the week or month before it, the same weekday a week
    /// before a day.
    pub before: Option<u64>,
    /// Whether there are records for the whole of that one.
    pub known: bool,
}

impl Recent {
    /// The change between the two complete periods, as a share of the earlier one. `None` when that
    /// one was empty, records began within it, or either is not recorded. The running period is
    /// never compared.
    pub fn change(&self) -> Option<f64> {
        change(self.before.filter(|_| self.known)?, self.last?)
    }
}

/// What a store has to count for an [`Activity`].
#[derive(Debug, Clone)]
pub struct ActivityQuestion {
    segment: Segment,
    grain: Grain,
    coverage: Coverage,
    span: Option<Span>,
    /// Oldest first, with as many more at the beginning than were asked for as it takes to compare
    /// the first.
    periods: Vec<AskedPeriod>,
    shown: usize,
}

/// Where the counts of one period stand among the plan's roots; `None` where there is no bitmap.
#[derive(Debug, Clone)]
struct AskedPeriod {
    period: Period,
    people: Option<CountId>,
    /// Of each complete day in it.
    days: Vec<Option<CountId>>,
}

impl ActivityQuestion {
    /// Adds to the plan the people in the segment in each of the last `count` periods up to the
    /// last recorded one, in a store with this coverage: up to the one that holds *now*, or the one
    /// in which the data ends. `keys` are the bitmaps there are, at least those of the segment's
    /// events.
    ///
    /// # Errors
    /// When `count` is not 1–[`MAX_PERIODS`], that leaves the supported years, or the segment is
    /// too long for so many.
    pub fn new(
        plan: &mut Plan,
        segment: &Segment,
        (grain, count): (Grain, u32),
        keys: &[Key],
        coverage: &Coverage,
    ) -> Result<Self, ActivityError> {
        if !(1..=MAX_PERIODS).contains(&count) {
            return Err(ActivityError::Periods(count));
        }
        let names = segment.names();
        let existing: HashSet<&Key> = keys
            .iter()
            .filter(|key| names.contains(&key.event()))
            .collect();
        let span = Span::of(existing.iter().copied(), coverage.now());
        let current = coverage
            .last(grain)
            .unwrap_or_else(|| coverage.current(grain));
        let first = current.shift(1 - i64::from(count))?;
        let mut ask = |period: Period| {
            if !coverage.is_recorded(period) {
                return Ok(None);
            }
            let set = segment.at(period);
            // Without a complement nothing but nobody comes of bitmaps that do not exist.
            set.keys()
                .into_iter()
                .any(|key| existing.contains(key))
                .then(|| plan.count_set(&set))
                .transpose()
        };
        let mut periods = Vec::new();
        let earlier = (1..=i64::from(compared(grain)))
            .rev()
            .filter_map(|back| first.shift(-back).ok());
        for period in earlier.chain(first.range(count)) {
            let people = ask(period)?;
            let whole = span.is_some_and(|span| span.covers(period));
            let daily = matches!(grain, Grain::Week | Grain::Month)
                && period >= first
                && people.is_some()
                && whole;
            let days = if daily {
                period.split(Grain::Day).collect()
            } else {
                Vec::new()
            };
            let days = days
                .into_iter()
                .filter(|day| coverage.state_of(*day) == State::Complete);
            periods.push(AskedPeriod {
                period,
                people,
                days: days.map(&mut ask).collect::<Result<_, TooLarge>>()?,
            });
        }
        let shown = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(ActivityQuestion {
            segment: segment.clone(),
            grain,
            coverage: coverage.clone(),
            span,
            periods,
            shown,
        })
    }

    /// The activity, from the counts of the plan in order.
    pub fn activity(&self, counts: &Counts) -> Activity {
        // Without a bitmap there is no user.
        let at = |id: Option<CountId>| id.map_or(0, |id| counts[id]);
        let mut points: Vec<Point> = Vec::with_capacity(self.periods.len());
        for asked in &self.periods {
            let people = at(asked.people);
            let state = self.coverage.state_of(asked.period);
            let back = usize::try_from(compared(self.grain))
                .ok()
                .and_then(|back| points.len().checked_sub(back));
            let before = back.and_then(|i| points.get(i)).filter(|before| {
                let complete = state == State::Complete && before.state == State::Complete;
                complete && self.span.is_some_and(|span| span.covers(before.period))
            });
            let change = before.and_then(|before| change(before.people, people));
            let total: u64 = asked.days.iter().map(|root| at(*root)).sum();
            let days = u64::try_from(asked.days.len()).unwrap_or(0);
            // Nobody on any day and yet somebody in the month: the bitmaps of its days are gone.
            let daily = rate(total, days)
                .filter(|_| total > 0)
                .map(|mean| Daily { mean, days });
            points.push(Point {
                period: asked.period,
                state,
                people,
                change,
                daily,
            });
        }
        points.drain(..points.len().saturating_sub(self.shown));
        Activity {
            segment: self.segment.clone(),
            grain: self.grain,
            now: self.coverage.now(),
            data_ends: self.coverage.data_ends(self.grain),
            span: self.span,
            points,
        }
    }
}

/// How many people were in a segment, period by period.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    /// Who is counted.
    pub segment: Segment,
    /// The length of a period.
    pub grain: Grain,
    /// As of when.
    pub now: DateTime<Utc>,
    /// When the store's data ends, where that is before now.
    pub data_ends: Option<Period>,
    /// When its events were recorded; `None` when none of them is dated.
    pub span: Option<Span>,
    /// Oldest first; the last one is running, or the one in which the data ends.
    pub points: Vec<Point>,
}

impl Activity {
    /// The last period that is over.
    pub fn last_complete(&self) -> Option<&Point> {
        self.points
            .iter()
            .rev()
            .find(|point| point.state == State::Complete)
    }

    /// The points from the first period on in which anything was recorded; at least the running
    /// one. Before it there is nothing to see, not even that nobody came.
    pub fn recorded(&self) -> &[Point] {
        let begun = |point: &Point| {
            self.span
                .is_some_and(|span| span.first.start() < point.period.end())
        };
        let first = self
            .points
            .iter()
            .position(begun)
            .unwrap_or(self.points.len().saturating_sub(1));
        self.points.get(first..).unwrap_or_default()
    }

    /// The period with the most people, if it has any.
    pub fn greatest(&self) -> Option<&Point> {
        self.points
            .iter()
            .max_by_key(|point| point.people)
            .filter(|point| point.people > 0)
    }
}

/// One period of an [`Activity`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The period.
    pub period: Period,
    /// Whether its number is known, and can still change.
    pub state: State,
    /// How many people; 0 where it is not recorded.
    pub people: u64,
    /// The change from the period before, for a day from the same weekday a week before, as a share
    /// of it. Only where both are complete, the earlier one had anybody, and records do not begin
    /// within it.
    pub change: Option<f64>,
    /// The days in it, for weeks and months that were recorded from their first day on.
    pub daily: Option<Daily>,
}

impl Point {
    /// Stickiness: mean people a day ÷ people in the whole period, 0–1. The mean is over the
    /// period's complete days. For a running period both are as of now; for one that was not
    /// recorded from its first day on there is none.
    #[allow(clippy::cast_precision_loss)] // Counts stay far below 2⁵³.
    pub fn stickiness(&self) -> Option<f64> {
        let daily = self.daily.filter(|_| self.people > 0)?;
        Some(daily.mean / self.people as f64)
    }
}

/// The complete days of a week or month.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Daily {
    /// Mean people a day.
    pub mean: f64,
    /// Over how many days.
    pub days: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;

    /// A store that has recorded everything up to that moment.
    fn as_of(now: &str) -> Coverage {
        Coverage::whole(parse_moment(now).unwrap()).unwrap()
    }

    fn keys(texts: &[&str]) -> Vec<Key> {
        let prefix = crate::sets::Prefix::new("");
        texts
            .iter()
            .map(|text| Key::parse(&prefix, text).unwrap())
            .collect()
    }

    /// Counts that tell where they were asked: a day counts its day of the month, everything else
    /// 100.
    fn answers(plan: &Plan) -> Counts {
        let count = |key: &Key| match key.when() {
            When::In(p) if p.grain() == Grain::Day => {
                p.start().format("%-d").to_string().parse().unwrap()
            }
            _ => 100,
        };
        let nodes = plan.roots().iter().map(|id| plan.node(*id));
        let counts = nodes
            .map(|node| {
                if let crate::sets::Node::Key(key) = node {
                    count(key)
                } else {
                    7
                }
            })
            .collect();
        Counts::new(plan, counts).unwrap()
    }

    #[test]
    fn an_overview_asks_for_existing_bitmaps_only_and_once() {
        let coverage = as_of("2026-11-23T14:05:00Z");
        let keys = keys(&[
            "b_2026-11-23",
            "b_2026-11-22",
            "b_2026-10-25",
            "b_2026-10-24",
            "b_2026-11-15",
            "b_2026-11-24",
            "b_W2026-48",
            "b_W2026-46",
            "b_2026-11",
            "b_2026-11-23-14",
            "pro_u",
            "b_2026-12-1",
        ]);
        let mut plan = Plan::new();
        let question = OverviewQuestion::new(&mut plan, &keys, &coverage);
        assert_eq!(plan.roots().len(), 8, "{:?}", plan.roots());
        let overview = question.overview(&answers(&plan));
        let [b, pro] = &overview.entries[..] else {
            panic!("{overview:?}")
        };
        assert_eq!(
            (
                b.day.current,
                b.day.last,
                b.days[0],
                b.days[1],
                b.days.len()
            ),
            (Some(23), Some(22), Some(25), Some(0), 30)
        );
        let recent = |numbers: [u64; 3]| {
            let [current, last, before] = numbers.map(Some);
            Recent {
                current,
                last,
                before,
                known: true,
            }
        };
        assert_eq!(b.day, recent([23, 22, 15]), "a Sunday with a Sunday");
        assert_eq!(b.week, recent([100, 0, 100]));
        assert_eq!((b.week.change(), b.month.change()), (Some(-1.0), None));
        let span = b.span.unwrap();
        assert_eq!(
            (span.first.to_string(), span.last.to_string()),
            ("2026-10-24".into(), "2026-11-23".into())
        );
        assert_eq!(
            (pro.ever, pro.span, pro.day.current),
            (Some(100), None, Some(0))
        );
    }

    #[test]
    fn a_first_week_that_was_not_recorded_whole_is_compared_with_nothing() {
        let coverage = as_of("2026-11-23T14:05:00Z");
        let texts = ["b_W2026-46", "b_W2026-47", "b_2026-11-11", "b_2026-11-17"];
        let change = |texts: &[&str]| {
            let mut plan = Plan::new();
            let question = OverviewQuestion::new(&mut plan, &keys(texts), &coverage);
            question.overview(&answers(&plan)).entries[0].week.change()
        };
        assert_eq!((change(&texts), change(&texts[..2])), (None, Some(0.0)));
    }

    #[test]
    fn a_day_is_compared_with_its_weekday_once_that_was_recorded() {
        let coverage = as_of("2026-11-23T14:05:00Z");
        let keys = keys(&[
            "b_2026-11-13",
            "b_2026-11-14",
            "b_2026-11-20",
            "b_2026-11-21",
            "b_2026-11-22",
        ]);
        let mut plan = Plan::new();
        let asked = (Grain::Day, 14);
        let question =
            ActivityQuestion::new(&mut plan, &"b".parse().unwrap(), asked, &keys, &coverage)
                .unwrap();
        let activity = question.activity(&answers(&plan));
        let said: Vec<_> = activity
            .recorded()
            .iter()
            .map(|p| (p.period.to_string(), p.people, p.change))
            .collect();
        assert_eq!(activity.points.len(), 14);
        assert_eq!(
            (said.len(), said[0].clone()),
            (11, ("2026-11-13".into(), 13, None)),
            "nothing is known before it"
        );
        let last: Vec<_> = said[7..]
            .iter()
            .map(|(day, _, change)| (&day[8..], *change))
            .collect();
        let expected = [
            ("20", Some(20.0 / 13.0 - 1.0)),
            ("21", Some(0.5)),
            ("22", None),
            ("23", None),
        ];
        assert_eq!(
            last, expected,
            "nobody on Sunday the 15th, and today is compared with nothing"
        );
    }

    #[test]
    fn weeks_know_their_days_and_the_running_one_is_compared_with_nothing() {
        let coverage = as_of("2026-11-25T14:05:00Z");
        let keys = keys(&[
            "b_W2026-46",
            "b_W2026-47",
            "b_W2026-48",
            "b_2026-11-9",
            "b_2026-11-17",
            "b_2026-11-22",
            "b_2026-11-23",
            "b_2026-11-25",
        ]);
        let mut plan = Plan::new();
        let asked = (Grain::Week, 2);
        let question =
            ActivityQuestion::new(&mut plan, &"b".parse().unwrap(), asked, &keys, &coverage)
                .unwrap();
        let activity = question.activity(&answers(&plan));
        let [last, running] = activity.points[..] else {
            panic!("{activity:?}")
        };
        assert_eq!(
            (last.state, last.people, last.change),
            (State::Complete, 100, Some(0.0))
        );
        assert_eq!(
            last.daily,
            Some(Daily {
                mean: 39.0 / 7.0,
                days: 7
            })
        );
        assert_eq!((running.state, running.change), (State::InProgress, None));
        assert_eq!(
            running.daily,
            Some(Daily {
                mean: 23.0 / 2.0,
                days: 2
            })
        );
        assert_eq!(format!("{:.4}", running.stickiness().unwrap()), "0.1150");
        let none = ActivityQuestion::new(
            &mut plan,
            &"b".parse().unwrap(),
            (Grain::Day, 0),
            &keys,
            &coverage,
        );
        assert_eq!(none.unwrap_err().to_string(), "0 periods: ask for 1 to 400");
    }

    #[test]
    fn without_its_days_a_month_says_nothing_of_stickiness() {
        let coverage = as_of("2026-11-25T14:05:00Z");
        let mut plan = Plan::new();
        let keys = keys(&["b_2026-10", "b_2026-11-9", "b_2026-11"]);
        let asked = (Grain::Month, 12);
        let question = ActivityQuestion::new(
            &mut plan,
            &"b & pro@ever".parse().unwrap(),
            asked,
            &keys,
            &coverage,
        )
        .unwrap();
        assert_eq!(plan.roots().len(), 3);
        let activity = question.activity(&answers(&plan));
        let october = activity.last_complete().unwrap();
        assert_eq!(
            (october.people, october.stickiness(), activity.points.len()),
            (7, None, 12)
        );
    }

    /// Days, weeks and months of marks on these days, and of months without days.
    fn marked(days: &[&str], months: &[&str]) -> Vec<Key> {
        let event = EventName::new("b").unwrap();
        let days = days
            .iter()
            .flat_map(|day| Key::of_mark(&event, parse_moment(day).unwrap(), false).unwrap());
        let months = months
            .iter()
            .map(|month| Key::new(event.clone(), month.parse().unwrap()).unwrap());
        let keys: std::collections::BTreeSet<Key> = days.chain(months).collect();
        keys.into_iter().collect()
    }

    #[test]
    fn after_the_end_of_the_data_nothing_is_zero() {
        let keys = marked(
            &["2026-11-12", "2026-11-19", "2026-11-25", "2026-11-26"],
            &[],
        );
        let coverage =
            Coverage::of(&keys, parse_moment("2026-12-01T09:00:00Z").unwrap(), false).unwrap();
        let mut plan = Plan::new();
        let question = OverviewQuestion::new(&mut plan, &keys, &coverage);
        let overview = question.overview(&answers(&plan));
        let Running { day, week, month } = overview.running;
        assert_eq!(
            [day, week, month].map(|p| p.to_string()),
            ["2026-11-26", "2026-W48", "2026-11"]
        );
        assert_eq!(overview.data_ends, Some(day));
        let [b] = &overview.entries[..] else {
            panic!("{overview:?}")
        };
        // 18 November is a true zero, as the store went on; October is before its first month.
        assert_eq!(
            b.day,
            Recent {
                current: Some(26),
                last: Some(25),
                before: Some(0),
                known: true
            }
        );
        assert_eq!(
            b.month,
            Recent {
                current: Some(100),
                last: None,
                before: None,
                known: false
            }
        );
        assert_eq!(
            (b.days.len(), b.days[14], b.days[15], b.days[29]),
            (30, None, Some(12), Some(26))
        );

        let mut plan = Plan::new();
        let question = ActivityQuestion::new(
            &mut plan,
            &"b".parse().unwrap(),
            (Grain::Day, 14),
            &keys,
            &coverage,
        );
        let activity = question.unwrap().activity(&answers(&plan));
        let states = |activity: &Activity| {
            activity
                .points
                .iter()
                .map(|point| point.state)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (activity.points[13].period, activity.points[13].people),
            (day, 26)
        );
        let expected = [vec![State::Complete; 13], vec![State::InProgress]].concat();
        assert_eq!(
            (states(&activity), activity.data_ends),
            (expected, Some(day))
        );
        let last = activity.last_complete().unwrap();
        assert_eq!(
            (last.people, last.change),
            (25, None),
            "18 November had nobody"
        );

        let mut plan = Plan::new();
        let question = ActivityQuestion::new(
            &mut plan,
            &"b".parse().unwrap(),
            (Grain::Week, 4),
            &keys,
            &coverage,
        );
        let activity = question.unwrap().activity(&answers(&plan));
        let expected = [
            State::NotRecorded,
            State::Complete,
            State::Complete,
            State::InProgress,
        ];
        assert_eq!(
            (states(&activity), activity.points[3].period),
            (expected.to_vec(), week)
        );
        let days: Vec<Option<u64>> = activity
            .points
            .iter()
            .map(|p| p.daily.map(|daily| daily.days))
            .collect();
        assert_eq!(
            days,
            [None, None, Some(7), Some(3)],
            "the first week began before the first mark"
        );
    }

    #[test]
    fn deleted_days_are_not_zero() {
        let keys = marked(&["2026-11-22", "2026-11-23"], &["2026-10"]);
        let coverage =
            Coverage::of(&keys, parse_moment("2026-11-23T09:00:00Z").unwrap(), false).unwrap();
        let mut plan = Plan::new();
        let question = ActivityQuestion::new(
            &mut plan,
            &"b".parse().unwrap(),
            (Grain::Day, 3),
            &keys,
            &coverage,
        );
        let activity = question.unwrap().activity(&answers(&plan));
        let states: Vec<State> = activity.points.iter().map(|point| point.state).collect();
        assert_eq!(
            states,
            [State::NotRecorded, State::Complete, State::InProgress]
        );
        let mut plan = Plan::new();
        let question = OverviewQuestion::new(&mut plan, &keys, &coverage);
        let overview = question.overview(&answers(&plan));
        assert_eq!(overview.entries[0].days[27..], [None, Some(22), Some(23)]);
        assert_eq!(
            overview.entries[0].month.last,
            Some(100),
            "the month is kept"
        );
    }
}
