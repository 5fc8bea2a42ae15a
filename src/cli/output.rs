//! What every command does with stdout, stderr and its exit code.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::process::ExitCode;

use tracing::Level;

use crate::cli::logs;
use crate::store::StoreError;
use crate::tracker::Written;

/// Writes a line to stderr, in the format of the log. Unlike `eprintln!` it does not fail when
/// nobody reads it.
macro_rules! say {
    ($($part:tt)*) => {
        $crate::cli::logs::say(tracing::Level::INFO, format_args!($($part)*))
    };
}
pub(super) use say;

/// The command line asks for something that makes no sense: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

impl Usage {
    /// An error in expression text, with a mark below the column it is about.
    pub fn in_text(what: &str, text: &str, error: &crate::sets::SyntaxError) -> Self {
        let shown: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if shown.chars().count() > 90 {
            return Usage(format!("{what}: {error}"));
        }
        let mut message = format!(
            "{what}: {error}\n\n    {shown}\n    {}^",
            " ".repeat(error.column.saturating_sub(1))
        );
        if !text.contains('"')
            && text.trim().contains(char::is_whitespace)
            && error.message.contains("found `")
        {
            message += "\n\nA name that holds spaces or & | ^ ! ( ) @ goes in quotes of its own: '\"like this\"'";
        }
        Usage(message)
    }
}

/// It failed, and what there is to say has been said: exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
pub struct Said;

/// Stdout, buffered. Call `finish` at the end.
pub struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    pub fn new() -> Self {
        Out(BufWriter::with_capacity(1 << 16, io::stdout().lock()))
    }

    pub fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.0, "{line}")
    }

    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes())
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether a stream is a terminal that wants colour: <https://no-color.org>.
pub fn colour(stream: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// What the store answered to a change. A warning says when the change was made and a power cut may
/// lose it; then there is no answer.
pub fn written<T>(result: Result<T, impl Into<crate::Error>>) -> crate::Result<Option<T>> {
    let Written { answer, warning } = Written::of(result)?;
    if let Some(warning) = warning {
        say!("warning: {warning}");
    }
    Ok(answer)
}

/// The message of an error behind those of its contexts. The message of a library error includes
/// that of its source, so the chain ends there.
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

/// Prints an error, cleaned by `clean`, and says how to exit.
pub fn exit(result: anyhow::Result<()>, clean: &dyn Fn(String) -> String) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let closed_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed_pipe) {
        return ExitCode::SUCCESS;
    }
    if error.is::<Said>() {
        return ExitCode::FAILURE;
    }
    logs::say(
        Level::ERROR,
        format_args!("error: {}", clean(message(&error))),
    );
    if error.is::<Usage>() {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}
