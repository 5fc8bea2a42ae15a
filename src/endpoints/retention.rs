//! The endpoint of the retention report.

use chrono::{DateTime, Utc};

use crate::endpoints::endpoint::problem;
use crate::endpoints::{Answer, AnswerError, Description, Endpoint};
use crate::reports::comparison::{Comparison, ShownGroups};
use crate::reports::retention::{Benchmarks, FIELDS, Parts, PreviousRange, Shown};
use crate::reports::{Params, Problem, plan_at};
use crate::tracker::{Run, Tracker};

/// See [`crate::reports::retention`].
pub struct Retention;

static DESCRIPTION: Description = Description {
    name: "retention",
    about: "Show how many users of each cohort come back",
    fields: FIELDS,
    examples: &[
            ("retention signup active", "last 14 days"),
            ("retention signup active --by week --as count", "in people"),
            ("retention signup 'active & !ios@ever'", "not on iOS"),
            (
                "retention signup active --measure on_or_after",
                "then or later",
            ),
            ("retention signup active --breakdown 'country:*'", "by country"),
            (
                "retention signup active --format tidy > cells.csv",
                "for pandas",
            ),
        ],
    explanation: "Column 0 is the cohort's own period, column 1 the next. A cell that has not begun is blank. A cell
in progress has a * and is excluded from averages. A – means that the store has no data. The table
ends where the data ends. Combine events with & (and), | (or), ^ (either) and & ! (and not).
NAME@ever is an undated bitmap. Quote a name with spaces or & | ^ ! ( ) @: '\"a|b\"'.",
};

impl Endpoint for Retention {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn check(&self, params: &Params, now: DateTime<Utc>) -> Result<(), Vec<Problem>> {
        let parts = Parts::read(params)?;
        let query = parts.query();
        let checked = match parts.grouping {
            None => query.check(now),
            Some(grouping) => plan_at(&Comparison { query, grouping }, now).map(drop),
        };
        checked.map_err(|error| vec![problem(&error)])
    }

    fn answer(
        &self,
        params: &Params,
        tracker: &Tracker,
        run: &Run<'_>,
    ) -> Result<Answer, AnswerError> {
        let parts = Parts::read(params)?;
        let show = parts.show;
        let goal = parts.goal;
        let query = parts.query();
        if let Some(grouping) = parts.grouping {
            let answered = tracker.run(&Comparison { query, grouping }, run)?;
            return Ok(Answer::of(answered, |compared| {
                Box::new(ShownGroups {
                    compared,
                    show,
                    goal,
                })
            }));
        }
        let answered = tracker.run(&query, run)?;
        let before = match parts.previous {
            PreviousRange::Hidden => None,
            PreviousRange::Shown => answered.answer.previous_query(),
        };
        let previous = before.map(|query| tracker.run(&query, run)).transpose()?;
        let benchmarks = Benchmarks {
            goal,
            previous: previous.map(|previous| previous.answer),
        };
        Ok(Answer::of(answered, |table| {
            Box::new(Shown {
                table,
                show,
                benchmarks,
            })
        }))
    }
}
