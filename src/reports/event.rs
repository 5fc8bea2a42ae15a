//! One event in detail: its trend, and at a glance its running and complete periods.

use crate::calendar::Grain;
use crate::reports::error::QueryError;
use crate::reports::events::{Events, EventsQuestion, Overview};
use crate::reports::report::{Context, Report, Request, Results};
use crate::reports::trend::{Activity, Trend, TrendQuestion};
use crate::sets::{EventName, Segment};

/// Asks about one event. One plan counts everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event.
    pub name: EventName,
    /// The length of a period of the trend.
    pub grain: Grain,
    /// How many periods the trend has.
    pub count: u32,
}

/// How many weeks and months beside the trend are looked at for the figures.
const WEEKS: u32 = 26;
const MONTHS: u32 = 12;

/// A planned [`Event`].
#[derive(Debug, Clone)]
pub struct EventQuestion {
    overview: EventsQuestion,
    trend: TrendQuestion,
    weeks: TrendQuestion,
    months: TrendQuestion,
}

/// What there is to know about one event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDetail {
    /// The event at a glance. Without entries if it was never recorded.
    pub overview: Overview,
    /// The trend that was asked for.
    pub trend: Activity,
    /// The last 26 weeks.
    pub weeks: Activity,
    /// The last 12 months.
    pub months: Activity,
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
        Ok(EventQuestion {
            overview,
            trend: trend(self.grain, self.count)?,
            weeks: trend(Grain::Week, WEEKS)?,
            months: trend(Grain::Month, MONTHS)?,
        })
    }

    fn answer(planned: EventQuestion, results: &Results) -> EventDetail {
        EventDetail {
            overview: Events::answer(planned.overview, results),
            trend: Trend::answer(planned.trend, results),
            weeks: Trend::answer(planned.weeks, results),
            months: Trend::answer(planned.months, results),
        }
    }
}
