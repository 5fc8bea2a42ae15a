//! The endpoint of the events report.

use chrono::{DateTime, Utc};

use crate::endpoints::{Answer, AnswerError, Description, Endpoint};
use crate::reports::events::Events as Report;
use crate::reports::{Arity, Field, Kind, Params, Problem, Reader, WEEK, ZONE};
use crate::sets::EventName;
use crate::tracker::{Run, Tracker};

/// See [`crate::reports::events`].
pub struct Events;

const FIELDS: &[Field] = &[
    Field {
        name: "starting_with",
        help: "Only events whose name begins with this text",
        kind: Kind::Text,
        arity: Arity::Optional,
    },
    WEEK,
    ZONE,
];

static DESCRIPTION: Description = Description {
    name: "events",
    about: "List the events, and how many people did each of them lately",
    fields: FIELDS,
    examples: &[
        ("events", "every recorded event"),
        (
            "events --starting-with country:",
            "country:DE, country:US, …",
        ),
    ],
    explanation: "",
};

impl Endpoint for Events {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn check(&self, params: &Params, _: DateTime<Utc>) -> Result<(), Vec<Problem>> {
        let mut read = Reader::new(FIELDS, params);
        read.calendar();
        read.finish(Some(()))
    }

    fn answer(
        &self,
        params: &Params,
        tracker: &Tracker,
        run: &Run<'_>,
    ) -> Result<Answer, AnswerError> {
        self.check(params, run.now)?;
        let mut names: Vec<EventName> = tracker.events(params.text("starting_with"))?;
        names.retain(|name| !run.is_hidden(name));
        let report = Report {
            names: Some(names),
            calendar: Reader::new(FIELDS, params).calendar(),
        };
        let answered = tracker.run(&report, run)?;
        Ok(Answer::of(answered, |overview| Box::new(overview)))
    }
}
