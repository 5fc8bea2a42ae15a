//! The endpoint of the retention report.

use chrono::{DateTime, Utc};

use crate::endpoints::endpoint::problem;
use crate::endpoints::{Answer, AnswerError, Endpoint};
use crate::reports::retention::{FIELDS, Parts, Shown};
use crate::reports::{Field, Params, Problem};
use crate::tracker::{Run, Tracker};

/// See [`crate::reports::retention`].
pub struct Retention;

impl Endpoint for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    fn about(&self) -> &'static str {
        "Show how many users of each cohort come back"
    }

    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn examples(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("retention signup active --by week", "weekly cohorts"),
            (
                "retention signup 'active & web' --as count",
                "numbers of users",
            ),
            (
                "retention signup active --format tidy > cells.csv",
                "one cell per line",
            ),
        ]
    }

    fn check(&self, params: &Params, now: DateTime<Utc>) -> Result<(), Vec<Problem>> {
        let query = Parts::read(params)?.query();
        query.check(now).map_err(|error| vec![problem(&error)])
    }

    fn answer(
        &self,
        params: &Params,
        tracker: &Tracker,
        run: &Run<'_>,
    ) -> Result<Answer, AnswerError> {
        let parts = Parts::read(params)?;
        let show = parts.show;
        let answered = tracker.run(&parts.query(), run)?;
        Ok(Answer::of(answered, |table| {
            Box::new(Shown { table, show })
        }))
    }
}
