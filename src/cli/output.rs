//! How commands use stdout, stderr and the exit code.

use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;

use tracing::Level;

use crate::cli::logs;
use crate::sets::SyntaxError;
use crate::store::StoreError;
use crate::tracker::Written;

pub(super) use crate::cli::logs::{note, status, warning};

/// A command line that makes no sense. The exit code is 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The longest expression that is printed with a mark below the error, in characters.
const LONGEST_MARKED: usize = 90;

impl Usage {
    /// An error in an expression, with a mark below its column. `argument` is the argument's name.
    pub fn in_text(argument: &str, text: &str, error: &SyntaxError) -> Self {
        Usage::marked(&format!("{argument}: {error}"), text, error.column)
    }

    /// An error with the expression that it is about, and a mark below a column of it, counted from
    /// 1.
    pub fn marked(error: &str, text: &str, column: usize) -> Self {
        let printable: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if printable.chars().count() > LONGEST_MARKED {
            return Usage(error.to_owned());
        }
        let mut message = format!(
            "{error}\n\n    {printable}\n    {}^",
            " ".repeat(column.saturating_sub(1))
        );
        if is_second_word(text, column) {
            message +=
                "\n\nA name with spaces or & | ^ ! ( ) @ needs its own quotes: '\"like this\"'";
        }
        Usage(message)
    }
}

/// Whether a word starts at this column, counted from 1, and only spaces separate it from a word
/// before it, as in an unquoted name that contains a space.
fn is_second_word(text: &str, column: usize) -> bool {
    if text.contains('"') {
        return false;
    }
    let is_operator = |c: char| "&|^!()".contains(c);
    let mut before: Vec<char> = text.chars().collect();
    let rest = before.split_off(column.saturating_sub(1).min(before.len()));
    let starts_word = rest
        .first()
        .is_some_and(|c| !c.is_whitespace() && !is_operator(*c));
    let is_spaced = before.last().is_some_and(|c| c.is_whitespace());
    let follows_word = before
        .iter()
        .rfind(|c| !c.is_whitespace())
        .is_some_and(|c| !is_operator(*c));
    starts_word && is_spaced && follows_word
}

/// A failure that was already reported on stderr. The exit code is 1.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
pub struct AlreadyReported;

/// More lines were skipped than the user accepts. The exit code is 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TooManySkipped(pub String);

/// Buffered stdout. Call `finish` at the end.
pub struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    pub fn new() -> Self {
        Out(BufWriter::with_capacity(1 << 16, io::stdout().lock()))
    }

    pub fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.0, "{line}")
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Returns what the store answered to a change. Returns `None`, with a warning on stderr, if the
/// change was made but could not be synced to disk.
pub fn warn_if_unsynced<T>(result: Result<T, impl Into<crate::Error>>) -> crate::Result<Option<T>> {
    let Written { answer, warning } = Written::of(result)?;
    if let Some(warning) = warning {
        warning!("{warning}");
    }
    Ok(answer)
}

/// Returns the message of an error, after those of its contexts. The message of a library error
/// includes that of its source, so the chain ends there.
pub fn message(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        parts.push(cause.to_string());
        if cause.is::<StoreError>() || cause.is::<crate::Error>() {
            break;
        }
    }
    parts.join(": ")
}

/// Prints the error, if any, and returns the exit code. `redact` removes passwords from messages.
pub fn exit(result: anyhow::Result<()>, redact: &dyn Fn(String) -> String) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if error.chain().any(is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    if error.is::<AlreadyReported>() {
        return ExitCode::FAILURE;
    }
    logs::print(
        Level::ERROR,
        format_args!("error: {}", redact(message(&error))),
    );
    if error.is::<Usage>() {
        ExitCode::from(2)
    } else if error.is::<TooManySkipped>() {
        ExitCode::from(3)
    } else {
        ExitCode::FAILURE
    }
}

fn is_closed_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_second_of_two_words_hints_at_quotes() {
        for (text, column, expected) in [
            ("song played", 6, true),
            ("(song  played)", 8, true),
            ("song played", 1, false),
            ("song & played", 8, false),
            ("song !played", 6, false),
            ("song played", 12, false),
            ("\"song\" played", 8, false),
            ("", 1, false),
        ] {
            assert_eq!(is_second_word(text, column), expected, "{text}, {column}");
        }
    }
}
