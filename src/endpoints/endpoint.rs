//! Connects a report to the fields of its question.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::reports::coverage::Coverage;
use crate::reports::{Exports, Field, Params, Problem, QueryError, Report, plan_at};
use crate::sets::Catalogue;
use crate::store::StoreError;
use crate::tracker::{Answered, Error, Run, Tracker};

/// What people and programs are told about a report.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// Its name: the page `/NAME`, the command `cohortist NAME`, `/api/v1/NAME`.
    pub name: &'static str,
    /// A one-line description: an imperative of at most 80 characters.
    pub about: &'static str,
    /// The fields of its question.
    pub fields: &'static [Field],
    /// A few example command lines, each with a remark.
    pub examples: &'static [(&'static str, &'static str)],
    /// What else its help explains, in lines of at most 100 characters.
    pub explanation: &'static str,
}

/// A report that is available by name.
pub trait Endpoint: Sync {
    /// Describes the report.
    fn description(&self) -> &'static Description;

    /// Its name.
    fn name(&self) -> &'static str {
        self.description().name
    }

    /// The fields of its question.
    fn fields(&self) -> &'static [Field] {
        self.description().fields
    }

    /// Checks the fields as far as that is possible without a store.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    fn check(&self, params: &Params, now: DateTime<Utc>) -> Result<(), Vec<Problem>>;

    /// The answer.
    ///
    /// # Errors
    /// If a field is wrong, or the store fails.
    fn answer(
        &self,
        params: &Params,
        tracker: &Tracker,
        run: &Run<'_>,
    ) -> Result<Answer, AnswerError>;
}

/// The endpoint of a report whose answer is exported as it is.
pub(super) struct Plain<R> {
    /// What people and programs are told about it.
    pub description: &'static Description,
    /// Reads the question from its fields.
    pub read: fn(&Params) -> Result<R, Vec<Problem>>,
}

impl<R> Endpoint for Plain<R>
where
    R: Report,
    R::Answer: Exports + 'static,
{
    fn description(&self) -> &'static Description {
        self.description
    }

    fn check(&self, params: &Params, now: DateTime<Utc>) -> Result<(), Vec<Problem>> {
        let planned = plan_at(&(self.read)(params)?, now).map(drop);
        planned.map_err(|error| vec![problem(&error)])
    }

    fn answer(
        &self,
        params: &Params,
        tracker: &Tracker,
        run: &Run<'_>,
    ) -> Result<Answer, AnswerError> {
        let answered = tracker.run(&(self.read)(params)?, run)?;
        Ok(Answer::of(answered, |answer| Box::new(answer)))
    }
}

/// An answer that can be written in every format.
pub struct Answer {
    /// The answer.
    pub export: Box<dyn Exports>,
    /// The bitmaps that existed.
    pub catalogue: Arc<Catalogue>,
    /// Which periods they cover.
    pub coverage: Coverage,
    /// How long ago the store was asked.
    pub age: Duration,
}

impl Answer {
    pub(super) fn of<A>(answered: Answered<A>, export: impl FnOnce(A) -> Box<dyn Exports>) -> Self {
        Answer {
            export: export(answered.answer),
            catalogue: answered.catalogue,
            coverage: answered.coverage,
            age: answered.age,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// Some fields are wrong.
    #[error("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Problems {
        /// Every one of them.
        problems: Vec<Problem>,
    },
    /// Something that was named, such as a user, is unknown.
    #[error("{0}")]
    Unknown(String),
    /// The store failed.
    #[error(transparent)]
    Failed(Error),
}

impl From<Vec<Problem>> for AnswerError {
    fn from(problems: Vec<Problem>) -> Self {
        AnswerError::Problems { problems }
    }
}

impl From<Problem> for AnswerError {
    fn from(problem: Problem) -> Self {
        vec![problem].into()
    }
}

impl From<Error> for AnswerError {
    fn from(error: Error) -> Self {
        match error {
            Error::Query(error) => problem(&error).into(),
            other => AnswerError::Failed(other),
        }
    }
}

impl From<StoreError> for AnswerError {
    fn from(error: StoreError) -> Self {
        AnswerError::Failed(error.into())
    }
}

/// Converts an error to a problem of the field that causes it.
pub(super) fn problem(error: &QueryError) -> Problem {
    // Errors about the size of the table have no field of their own.
    Problem::new(error.field().unwrap_or("rows"), error.to_string())
}
