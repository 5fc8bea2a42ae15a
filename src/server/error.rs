//! Why a request was not answered: one exhaustive match from what went wrong to its status.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;

use crate::endpoints::AnswerError;
use crate::render::{thousands, words};
use crate::server::query::{Field, Problem};
use crate::store::{Cost, StoreError};

/// After how many seconds a client may try again when the store is away.
pub const RETRY_SECONDS: &str = "2";

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Some fields of the query string are not valid.
    #[error("the question cannot be answered as it is written")]
    Query(Vec<Problem>),
    /// A part of the address that no form creates is not valid, and why.
    #[error("{0}")]
    Address(String),
    /// There is no such page.
    #[error("there is no such page")]
    NotFound,
    /// What was named does not exist.
    #[error("{0}")]
    Unknown(String),
    /// The store has no data for the request.
    #[error("{0}")]
    NoData(String),
    /// The page exists, but not with this method.
    #[error("this method does nothing at this address")]
    Method,
    /// A change was requested that is not allowed, for example by a page of another site.
    #[error("{0}")]
    Forbidden(String),
    /// A request to change something has no valid token.
    #[error("{0}")]
    Unauthorised(&'static str),
    /// Some entries of a batch are not valid: how many, and the first of them.
    #[error("{} wrong, so nothing was recorded", if *.0 == 1 { "1 entry is".to_owned() } else { format!("{} entries are", .0) })]
    Entries(usize, Vec<BadEntry>),
    /// The body is longer than this many bytes.
    #[error("the body is longer than {} MiB: send it in pieces", .0 >> 20)]
    TooLarge(usize),
    /// No byte of the body arrived for this long.
    #[error("nothing more of the request's body arrived for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// Too many questions of this kind are waiting.
    #[error("{0}")]
    Busy(Busy),
    /// There is no memory left for a body. The bodies of all clients share this many bytes.
    #[error("request bodies already use their {} MiB of memory: send it again later, or start `cohortist serve` with a larger --memory-mb", .0 >> 20)]
    Crowded(u64),
    /// There is no memory left for a response. All responses that clients have not read yet share
    /// this many bytes.
    #[error("responses that clients have not read yet use all of their {} MiB of memory: try again in a few seconds, or start `cohortist serve` with a larger --memory-mb", .0 >> 20)]
    Unread(u64),
    /// The content type of the body is not supported.
    #[error("{0}")]
    Unsupported(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A template failed. No input should cause this.
    #[error("the page could not be rendered: {0}")]
    Render(#[from] askama::Error),
    /// The work for this request ended without a result: it panicked, or the server is stopping.
    #[error("the work on this request was interrupted")]
    BrokenOff,
    /// The server is stopping, and the grace period is over.
    #[error(
        "the server is stopping and did not wait for this request any longer: try again in a moment"
    )]
    Stopping,
}

/// What is wrong with one entry of a batch.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BadEntry {
    /// Its index in the batch, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub message: String,
}

impl From<crate::Error> for WebError {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Store(error) => WebError::Store(error),
            crate::Error::Query(error) => WebError::Query(vec![Problem::of_query(&error)]),
            crate::Error::Ids(error) => {
                WebError::Query(vec![Problem::new(Field::User, error.to_string())])
            }
            crate::Error::Zone(error) => WebError::Forbidden(error.to_string()),
            crate::Error::NewestIsOver { .. } => WebError::Forbidden(error.to_string()),
            crate::Error::Calendar(error) => {
                WebError::Query(vec![Problem::of_query(&error.into())])
            }
        }
    }
}

impl WebError {
    /// Returns the status, a headline, and what the reader can do.
    pub(super) fn explanation(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            WebError::Query(_) => (
                StatusCode::BAD_REQUEST,
                "The question is not valid",
                "Correct the fields below and try again.",
            ),
            WebError::Address(_) => (
                StatusCode::BAD_REQUEST,
                "The address is not valid",
                "Correct it as described below, or follow a link instead.",
            ),
            WebError::NotFound => (
                StatusCode::NOT_FOUND,
                "Page not found",
                "The address may be misspelled, or from another version.",
            ),
            WebError::Unknown(_) => (StatusCode::NOT_FOUND, "Not found", "Check the spelling."),
            WebError::NoData(_) => (
                StatusCode::NOT_FOUND,
                "No data",
                "An empty file would mean that nobody did it.",
            ),
            WebError::Forbidden(_) => (
                StatusCode::FORBIDDEN,
                "Not allowed",
                "Nothing was changed. The reason is below.",
            ),
            WebError::Unauthorised(_) => (
                StatusCode::UNAUTHORIZED,
                "A token is required",
                "Nothing was changed.",
            ),
            WebError::Entries(..) => (
                StatusCode::BAD_REQUEST,
                "Some entries are wrong",
                "Nothing was recorded.",
            ),
            WebError::TooLarge(_) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "The request is too large",
                "Send it in several parts.",
            ),
            WebError::Stalled(_) => (
                StatusCode::REQUEST_TIMEOUT,
                "The request was incomplete",
                "Nothing was changed. Send it again without a pause.",
            ),
            WebError::Stopping => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The server is stopping",
                "Reload this page in a moment, when it is back.",
            ),
            WebError::Busy(_) | WebError::Store(StoreError::Costly(_)) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many large questions at once",
                "Nothing is wrong with this one: it was not started.",
            ),
            WebError::Crowded(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many large requests at once",
                "Nothing was recorded.",
            ),
            WebError::Unread(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many large answers at once",
                "Nothing is wrong with this one. Load it again in a moment.",
            ),
            WebError::Unsupported(_) => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The content type is not supported",
                "Nothing was recorded.",
            ),
            WebError::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "This address is read-only",
                "Use GET.",
            ),
            WebError::Store(StoreError::TooLarge(_)) => (
                StatusCode::BAD_REQUEST,
                "The question is too large",
                "It was not started. Shorten it as described below.",
            ),
            WebError::Store(StoreError::Sparse { .. }) => (
                StatusCode::BAD_REQUEST,
                "The user id is too large",
                "Nothing was recorded.",
            ),
            WebError::Store(StoreError::Unreachable { .. }) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The store does not answer",
                "cohortist cannot reach the data at the moment. It tries again with every request: reload this page \
                 when the store is back. Nothing needs a restart.",
            ),
            WebError::Store(StoreError::Refused { .. } | StoreError::NotABitmap { .. }) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The store refused the request",
                "Its message is below.",
            ),
            WebError::Store(StoreError::Locked(_)) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The store is in use",
                "Another process has it open. Stop that process, or wait for it.",
            ),
            WebError::Store(StoreError::Write { .. }) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The store cannot be written",
                "Nothing was changed. Everything can still be read.",
            ),
            WebError::Store(
                StoreError::Open { .. }
                | StoreError::Unsynced { .. }
                | StoreError::Damaged { .. }
                | StoreError::Backup { .. }
                | StoreError::NotAStore { .. }
                | StoreError::Missing(_)
                | StoreError::WrongCount(_)
                | StoreError::FeatureDisabled { .. }
                | StoreError::Url(_),
            ) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "The store cannot be read",
                "Its message is below, and in the server's log.",
            ),
            WebError::Store(StoreError::Unsupported(_)) => (
                StatusCode::NOT_IMPLEMENTED,
                "This store cannot answer that",
                "What it does not support is named below.",
            ),
            WebError::Store(StoreError::Cancelled) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The request was cancelled",
                "The client closed the connection, or the server is stopping. Send it again.",
            ),
            WebError::Render(_) | WebError::BrokenOff => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal error",
                "This is a bug in cohortist. The server's log has details.",
            ),
        }
    }
}

impl From<AnswerError> for WebError {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Problems { problems } => {
                WebError::Query(problems.into_iter().map(Problem::of_report).collect())
            }
            AnswerError::Unknown(message) => WebError::Unknown(message),
            AnswerError::Failed(error) => error.into(),
        }
    }
}

/// A question that was refused, as too many such wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    pub(super) cost: Cost,
    /// Rows and columns, where it is a table.
    pub(super) table: Option<(u32, u32)>,
    /// How many wait already.
    pub(super) waiting: usize,
}

impl Busy {
    /// The same of a table of so many rows and columns.
    pub(crate) fn of_table(self, rows: u32, columns: u32) -> Self {
        Busy {
            table: Some((rows, columns)),
            ..self
        }
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = match self.cost.ids {
            0 => String::new(),
            ids => format!(" over {} user ids", words::about(ids)),
        };
        let waiting = thousands(self.waiting as u64);
        match self.table {
            Some((rows, columns)) => {
                let (rows, columns) = (thousands(rows.into()), thousands(columns.into()));
                write!(
                    f,
                    "{rows} cohorts × {columns} columns{over} take a while to count, and {waiting} such questions wait \
                     already. Ask for fewer rows or columns, or a coarser grain, or try again later"
                )
            }
            None => {
                let sets = crate::render::many(self.cost.sets as u64, "set");
                write!(
                    f,
                    "{sets}{over} take a while to count, and {waiting} such questions wait already. Ask for less at \
                     once, or try again later"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_makes_the_question_expensive() {
        let cost = Cost {
            work: 0,
            sets: 10_011,
            ids: 153 << 16,
        };
        let busy = Busy {
            cost,
            table: None,
            waiting: 32,
        };
        let table = busy.of_table(141, 141).to_string();
        assert!(
            table.starts_with("141 cohorts × 141 columns over 10 million user ids "),
            "{table}"
        );
        assert!(
            table.contains("fewer rows or columns, or a coarser grain"),
            "{table}"
        );
        assert!(
            busy.to_string()
                .starts_with("10,011 sets over 10 million user ids "),
            "{busy}"
        );
    }
}
