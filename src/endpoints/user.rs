//! The endpoint of the user report.

use chrono::{DateTime, Utc};

use crate::endpoints::{Answer, AnswerError, Description, Endpoint};
use crate::reports::user::{NamedHistory, User as Report};
use crate::reports::{Arity, Field, Kind, Params, Problem, Reader};
use crate::tracker::{Error, Ids, Run, Tracker};

/// See [`crate::reports::user`].
pub struct User;

const FIELDS: &[Field] = &[Field {
    name: "id",
    help: "The user's id",
    kind: Kind::Text,
    arity: Arity::Required,
}];

static DESCRIPTION: Description = Description {
    name: "user",
    about: "Show what one user did, and when",
    fields: FIELDS,
    examples: &[
        ("user 123", "the events of user 123"),
        (
            "user ann@example.com --format tidy",
            "string id, one day per line",
        ),
    ],
    explanation: "",
};

impl Endpoint for User {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn check(&self, params: &Params, _: DateTime<Utc>) -> Result<(), Vec<Problem>> {
        let mut read = Reader::new(FIELDS, params);
        if read.text("id").is_empty() {
            read.reject(Problem::new("id", "write the id of a user"));
        }
        read.finish(Some(()))
    }

    fn answer(
        &self,
        params: &Params,
        tracker: &Tracker,
        run: &Run<'_>,
    ) -> Result<Answer, AnswerError> {
        self.check(params, run.now)?;
        let text = params.text("id");
        let user = match tracker.user(text) {
            Ok(Some(user)) => user,
            Ok(None) => {
                return Err(AnswerError::Unknown(format!("no user has the id `{text}`")));
            }
            Err(Error::Ids(error)) => return Err(Problem::new("id", error.to_string()).into()),
            Err(error) => return Err(error.into()),
        };
        let id = tracker.called(&[user])?.concat();
        let is_string = tracker.ids()? == Ids::Strings;
        let answered = tracker.run(&Report { user }, run)?;
        Ok(Answer::of(answered, |history| {
            Box::new(NamedHistory {
                history,
                id,
                is_string,
            })
        }))
    }
}
