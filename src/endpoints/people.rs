//! The endpoint of the people report.

use chrono::{DateTime, Utc};

use crate::calendar::Zone;
use crate::endpoints::{Answer, AnswerError, Description, Endpoint};
use crate::reports::people::{NamedPeople, People as Report};
use crate::reports::{Arity, Field, Kind, Params, Problem, Reader, WEEK, ZONE};
use crate::sets::{SetContext, UserId, parse_set, set_periods};
use crate::tracker::{Error, Ids, Run, Tracker};

/// See [`crate::reports::people`].
pub struct People;

/// The default number of users per page; [`MAX_USERS`] is the maximum.
const USERS: u32 = 1_000;
const MAX_USERS: u32 = 100_000;

const FIELDS: &[Field] = &[
    Field {
        name: "set",
        help: "A set of users: EVENT@PERIOD, joined by `&`, `|`, `^` and `& !`",
        kind: Kind::Set,
        arity: Arity::Required,
    },
    Field {
        name: "after",
        help: "Only users after this one, in the order of the list",
        kind: Kind::Text,
        arity: Arity::Optional,
    },
    Field {
        name: "limit",
        help: "At most this many users [default: 1000]",
        kind: Kind::Number(1, MAX_USERS),
        arity: Arity::Optional,
    },
    WEEK,
    ZONE,
];

/// The zone that was asked for. What is wrong with it is reported with the other fields.
fn zone(params: &Params) -> Zone {
    Reader::new(FIELDS, params).zone()
}

/// Reads the question except for `after`, which needs the store's ids.
fn read(params: &Params, context: SetContext<'_>) -> Result<Report, Vec<Problem>> {
    let mut read = Reader::new(FIELDS, params);
    let text = read.text("set");
    let limit = read.number("limit", 1, MAX_USERS).unwrap_or(USERS);
    // A set names its periods: a week as the text says when it begins.
    read.week_start();
    read.zone();
    let zone = context.zone;
    let set = match parse_set(text, context) {
        Ok(set) => Some(set),
        Err(_) if text.is_empty() => {
            read.reject(Problem::new(
                "set",
                "write a set, such as `active@2026-11-23`",
            ));
            None
        }
        Err(error) => {
            read.reject(Problem {
                column: Some(error.column),
                ..Problem::new("set", format!("`{text}`: {error}"))
            });
            None
        }
    };
    let report = set.map(|set| Report {
        text: text.to_owned(),
        set,
        periods: set_periods(text, zone).expect("the text was parsed as a set"),
        zone,
        after: None,
        limit: limit as usize,
    });
    read.finish(report)
}

/// Returns the user after whom the list continues.
fn after(params: &Params, tracker: &Tracker) -> Result<Option<UserId>, AnswerError> {
    let text = params.text("after");
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |message: String| AnswerError::from(Problem::new("after", message));
    match tracker.user(text) {
        Ok(Some(user)) => Ok(Some(user)),
        Ok(None) => Err(wrong(format!("no user has the id `{text}`"))),
        Err(Error::Ids(_)) => Err(wrong(format!("`{text}` is not a valid user id"))),
        Err(error) => Err(error.into()),
    }
}

static DESCRIPTION: Description = Description {
    name: "people",
    about: "List the users in a set",
    fields: FIELDS,
    examples: &[
        ("people active@2026-11-23", "who was active that day"),
        (
            "people 'signup@2026-11-20 & active@2026-11-23'",
            "a cell of a retention table",
        ),
        ("people 'active@2026-10 & !active@2026-11'", "who was lost"),
    ],
    explanation: "",
};

impl Endpoint for People {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn check(&self, params: &Params, _: DateTime<Utc>) -> Result<(), Vec<Problem>> {
        let context = SetContext {
            zone: zone(params),
            ..SetContext::empty()
        };
        read(params, context).map(drop)
    }

    fn answer(
        &self,
        params: &Params,
        tracker: &Tracker,
        run: &Run<'_>,
    ) -> Result<Answer, AnswerError> {
        let catalogue = tracker.catalogue()?;
        let context = SetContext {
            segments: tracker.segments(),
            catalogue: &catalogue,
            hidden: run.hidden,
            zone: tracker.in_zone(zone(params))?,
        };
        let report = Report {
            after: after(params, tracker)?,
            ..read(params, context)?
        };
        let answered = tracker.run(&report, run)?;
        let ids = tracker.called(&answered.answer.users)?;
        let are_strings = tracker.ids()? == Ids::Strings;
        let names = report.set.keys();
        let unknown = tracker.never_recorded(names.into_iter().map(|key| key.event()))?;
        let never_recorded = unknown.into_iter().map(ToString::to_string).collect();
        Ok(Answer::of(answered, |list| {
            Box::new(NamedPeople {
                list,
                ids,
                are_strings,
                never_recorded,
            })
        }))
    }
}
