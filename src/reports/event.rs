//! One event in detail: its trend, its current and complete periods, its lifecycle and its
//! frequency.

use crate::calendar::Grain;
use crate::reports::error::QueryError;
use crate::reports::events::{Events, EventsQuestion, Overview};
use crate::reports::frequency::{Frequency, FrequencyQuestion, Habits, Window};
use crate::reports::lifecycle::{Growth, Lifecycle, LifecycleQuestion};
use crate::reports::range::Range;
use crate::reports::report::{Context, Report, Request, Results};
use crate::reports::trend::{Activity, Trend, TrendQuestion};
use crate::sets::{EventName, Segment};

/// Asks about one event with one plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event.
    pub name: EventName,
    /// The length of a period of the trend.
    pub grain: Grain,
    /// How many periods the trend has.
    pub count: u32,
}

/// The number of weeks and months for the key figures, besides the trend.
const WEEKS: u32 = 26;
const MONTHS: u32 = 12;
/// The number of weeks of the lifecycle.
pub const LIFECYCLE_WEEKS: u32 = 12;

/// A planned [`Event`].
#[derive(Debug, Clone)]
pub struct EventQuestion {
    overview: EventsQuestion,
    trend: TrendQuestion,
    weeks: TrendQuestion,
    months: TrendQuestion,
    lifecycle: LifecycleQuestion,
    frequency: FrequencyQuestion,
}

/// The details of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDetail {
    /// The overview of the event. Empty if it was never recorded.
    pub overview: Overview,
    /// The trend that was asked for.
    pub trend: Activity,
    /// The last 26 weeks.
    pub weeks: Activity,
    /// The last 12 months.
    pub months: Activity,
    /// The lifecycle of the last [`LIFECYCLE_WEEKS`].
    pub lifecycle: Growth,
    /// On how many of the last 28 days people did it.
    pub frequency: Habits,
}

impl Report for Event {
    type Planned = EventQuestion;
    type Answer = EventDetail;

    fn plan(
        &self,
        request: &mut Request,
        context: &Context<'_>,
    ) -> Result<EventQuestion, QueryError> {
        let events = Events {
            names: Some(vec![self.name.clone()]),
        };
        let overview = events.plan(request, context)?;
        let mut trend = |grain, count| {
            let segment = Segment::event(&self.name);
            let trend = Trend {
                segment,
                grain,
                count,
            };
            trend.plan(request, context)
        };
        let lifecycle = Lifecycle {
            segment: Segment::event(&self.name),
            range: Range {
                grain: Grain::Week,
                from: None,
                rows: Some(LIFECYCLE_WEEKS),
            },
        };
        let frequency = Frequency {
            segment: Segment::event(&self.name),
            window: Window::default(),
            to: None,
            weeks: 0,
        };
        Ok(EventQuestion {
            overview,
            trend: trend(self.grain, self.count)?,
            weeks: trend(Grain::Week, WEEKS)?,
            months: trend(Grain::Month, MONTHS)?,
            lifecycle: lifecycle.plan(request, context)?,
            frequency: frequency.plan(request, context)?,
        })
    }

    fn is_stale(planned: &EventQuestion, results: &Results) -> bool {
        Lifecycle::is_stale(&planned.lifecycle, results)
            || Frequency::is_stale(&planned.frequency, results)
    }

    fn answer(planned: EventQuestion, results: &Results) -> EventDetail {
        EventDetail {
            overview: Events::answer(planned.overview, results),
            trend: Trend::answer(planned.trend, results),
            weeks: Trend::answer(planned.weeks, results),
            months: Trend::answer(planned.months, results),
            lifecycle: Lifecycle::answer(planned.lifecycle, results),
            frequency: Frequency::answer(planned.frequency, results),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::calendar::parse_moment;
    use crate::reports::coverage::{Coverage, State};
    use crate::reports::events::Recent;
    use crate::reports::spans::Running;
    use crate::reports::trend::Daily;
    use crate::sets::{Catalogue, Counts, Key, Labels, Plan, Segments, When};

    /// A report's plan and its question, in a store with these bitmaps.
    fn planned<R: Report>(
        report: &R,
        keys: &[Key],
        coverage: &Coverage,
    ) -> Result<(Plan, R::Planned), QueryError> {
        let mut request = Request::default();
        let context = Context {
            coverage,
            catalogue: &Arc::new(Catalogue::new(keys.to_vec())),
            segments: &Segments::default(),
            labels: &Labels::new(),
            hidden: &[],
        };
        let question = report.plan(&mut request, &context)?;
        Ok((request.plan, question))
    }

    fn trend(segment: &str, (grain, count): (Grain, u32)) -> Trend {
        Trend {
            segment: segment.parse().unwrap(),
            grain,
            count,
        }
    }

    fn answer<R: Report>(question: R::Planned, plan: &Plan) -> R::Answer {
        R::answer(question, &Results::of_counts(answers(plan)))
    }

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
        let (plan, question) = planned(&Events::default(), &keys, &coverage).unwrap();
        assert_eq!(plan.roots().len(), 8, "{:?}", plan.roots());
        let overview = answer::<Events>(question, &plan);
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
            let (plan, question) = planned(&Events::default(), &keys(texts), &coverage).unwrap();
            answer::<Events>(question, &plan).entries[0].week.change()
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
        let asked = (Grain::Day, 14);
        let (plan, question) = planned(&trend("b", asked), &keys, &coverage).unwrap();
        let activity = answer::<Trend>(question, &plan);
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
        let asked = (Grain::Week, 2);
        let (plan, question) = planned(&trend("b", asked), &keys, &coverage).unwrap();
        let activity = answer::<Trend>(question, &plan);
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
        let none = planned(&trend("b", (Grain::Day, 0)), &keys, &coverage);
        assert_eq!(none.unwrap_err().to_string(), "0 periods: ask for 1 to 400");
    }

    #[test]
    fn without_its_days_a_month_says_nothing_of_stickiness() {
        let coverage = as_of("2026-11-25T14:05:00Z");
        let keys = keys(&["b_2026-10", "b_2026-11-9", "b_2026-11"]);
        let asked = (Grain::Month, 12);
        let (plan, question) = planned(&trend("b & pro@ever", asked), &keys, &coverage).unwrap();
        assert_eq!(plan.roots().len(), 3);
        let activity = answer::<Trend>(question, &plan);
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
        let (plan, question) = planned(&Events::default(), &keys, &coverage).unwrap();
        let overview = answer::<Events>(question, &plan);
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

        let (plan, question) = planned(&trend("b", (Grain::Day, 14)), &keys, &coverage).unwrap();
        let activity = answer::<Trend>(question, &plan);
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

        let (plan, question) = planned(&trend("b", (Grain::Week, 4)), &keys, &coverage).unwrap();
        let activity = answer::<Trend>(question, &plan);
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
        let (plan, question) = planned(&trend("b", (Grain::Day, 3)), &keys, &coverage).unwrap();
        let activity = answer::<Trend>(question, &plan);
        let states: Vec<State> = activity.points.iter().map(|point| point.state).collect();
        assert_eq!(
            states,
            [State::NotRecorded, State::Complete, State::InProgress]
        );
        let (plan, question) = planned(&Events::default(), &keys, &coverage).unwrap();
        let overview = answer::<Events>(question, &plan);
        assert_eq!(overview.entries[0].days[27..], [None, Some(22), Some(23)]);
        assert_eq!(
            overview.entries[0].month.last,
            Some(100),
            "the month is kept"
        );
    }
}
