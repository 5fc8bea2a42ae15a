//! Everything that is written to stderr: the log and the messages of commands, as text or as one
//! JSON object per line.
//!
//! A server passes its lines to a writer thread and drops those that do not fit into the queue, so
//! that a log reader that is slow or has stopped delays no request.
//!
//! An error that repeats, such as a full disk while thousands of marks arrive, is logged once in
//! ten seconds, followed by the number of repeats. The metrics count every one of them.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrono::SecondsFormat;
use clap::ValueEnum;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{self as format, FmtContext};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::cli::terminal;
use crate::clock::Clock;

/// Writes a line to stderr, in the format of the log. Unlike `eprintln!`, it does not panic if
/// stderr is closed.
macro_rules! status {
    ($($part:tt)*) => {
        $crate::cli::logs::print(tracing::Level::INFO, format_args!($($part)*))
    };
}

/// Writes a line to stderr that starts with `note: `.
macro_rules! note {
    ($($part:tt)*) => {
        $crate::cli::logs::print(
            tracing::Level::INFO,
            format_args!("note: {}", format_args!($($part)*)),
        )
    };
}

/// Writes a line to stderr that starts with `warning: `.
macro_rules! warning {
    ($($part:tt)*) => {
        $crate::cli::logs::print(
            tracing::Level::WARN,
            format_args!("warning: {}", format_args!($($part)*)),
        )
    };
}
pub(super) use {note, status, warning};

/// The format of stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Whether stderr is JSON. Set once, before anything is written.
static JSON: AtomicBool = AtomicBool::new(false);

/// The time within which an error is logged only once.
const REPEAT_INTERVAL: Duration = Duration::from_secs(10);

/// The number of different errors whose repeats are counted at the same time.
const MAX_RECENT: usize = 1000;

/// Sets the format of everything that is written from here on.
pub fn set_format(format: LogFormat) {
    JSON.store(format == LogFormat::Json, Ordering::Relaxed);
    if is_json() {
        std::panic::set_hook(Box::new(|panic| {
            print(Level::ERROR, format_args!("{panic}"));
        }));
    }
}

fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Writes a message to stderr.
pub fn print(level: Level, message: fmt::Arguments<'_>) {
    let mut line = if is_json() {
        json(level, "cohortist", &message.to_string(), &[])
    } else {
        message.to_string()
    };
    line.push('\n');
    write(line.into_bytes());
}

/// The queue of the writer thread, if there is one.
static QUEUE: OnceLock<SyncSender<Queued>> = OnceLock::new();

/// The number of lines that did not fit into the queue since the last one that did.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The maximum number of lines in the queue.
const QUEUE_LINES: usize = 8192;

/// The maximum number of bytes that are written in one call.
const WRITE_BYTES: usize = 64 << 10;

/// How long the end of the program waits for queued lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

enum Queued {
    Line(Vec<u8>),
    /// Answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// Writes a line in one call, so that the lines of several threads do not mix. A closed stderr is
/// not an error.
fn write(line: Vec<u8>) {
    let Some(queue) = QUEUE.get() else {
        let _ = io::stderr().write_all(&line);
        return;
    };
    if queue.try_send(Queued::Line(line)).is_err() {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// The loop of the writer thread.
fn write_queued(queue: &Receiver<Queued>) {
    let mut text = Vec::new();
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        let mut flushed = None;
        while let Some(queued) = next.take() {
            match queued {
                Queued::Line(line) => text.extend_from_slice(&line),
                Queued::Flush(done) => flushed = Some(done),
            }
            if text.len() < WRITE_BYTES && flushed.is_none() {
                next = queue.try_recv().ok();
            }
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let message =
                format!("{dropped} lines of the log were dropped: stderr is read too slowly");
            let line = if is_json() {
                json(Level::WARN, "cohortist", &message, &[])
            } else {
                message
            };
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        let _ = io::stderr().write_all(&text);
        text.clear();
        if let Some(done) = flushed {
            let _ = done.send(());
        }
    }
}

/// Writes the lines of the log to stderr.
struct LineWriter;

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the writer thread of a server.
pub fn start_writer() {
    let (queue, lines) = sync_channel(QUEUE_LINES);
    let spawned = std::thread::Builder::new()
        .name("cohortist-log".into())
        .spawn(move || write_queued(&lines));
    if spawned.is_ok() {
        let _ = QUEUE.set(queue);
    }
}

/// Starts the log with the filter in `COHORTIST_LOG`, or at `level`.
pub fn start(level: &str) {
    let variable = std::env::var("COHORTIST_LOG")
        .ok()
        .filter(|text| !text.is_empty());
    let filter = variable.and_then(|text| match EnvFilter::try_new(&text) {
        Ok(filter) => Some(filter),
        Err(_) => {
            note!("COHORTIST_LOG={text} is not valid, so {level} is used. Use error, warn, info or debug");
            None
        }
    });
    let filter = filter.unwrap_or_else(|| EnvFilter::new(level));
    let ansi = terminal::has_colour(&io::stderr());
    let lines = format::layer().with_writer(|| LineWriter).with_ansi(ansi);
    let text = (!is_json()).then_some(lines);
    let json = is_json().then(|| {
        format::layer()
            .with_writer(|| LineWriter)
            .with_ansi(false)
            .event_format(Json)
    });
    // Fails only if a logger was set before, as in a test.
    let _ = tracing_subscriber::registry()
        .with(text)
        .with(json)
        .with(Throttle)
        .with(filter)
        .try_init();
}

/// Formats a line of the log as one JSON object.
fn json(level: Level, target: &str, message: &str, fields: &[(&str, Value)]) -> String {
    let time = Clock::System
        .now()
        .to_rfc3339_opts(SecondsFormat::Millis, true);
    let level = level.as_str().to_lowercase();
    let head = [
        ("time", &*time),
        ("level", &*level),
        ("target", target),
        ("message", message),
    ];
    let head = head.map(|(name, text)| (name, Value::from(text)));
    let members = head
        .iter()
        .chain(fields)
        .map(|(name, value)| format!("{}:{value}", Value::from(*name)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// The message of an event, and its other fields.
#[derive(Default)]
struct Parts {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Parts {
    fn of(event: &Event<'_>) -> Self {
        let mut parts = Parts::default();
        event.record(&mut parts);
        parts
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

/// Writes events as JSON.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Parts { message, fields } = Parts::of(event);
        writeln!(
            writer,
            "{}",
            json(
                *event.metadata().level(),
                event.metadata().target(),
                &message,
                &fields
            )
        )
    }
}

/// Drops errors that repeat within [`REPEAT_INTERVAL`], and logs how often they did.
struct Throttle;

static RECENT: Mutex<Option<RecentErrors>> = Mutex::new(None);

/// The errors and warnings logged within the last [`REPEAT_INTERVAL`].
#[derive(Default)]
struct RecentErrors {
    entries: HashMap<u64, RecentError>,
    /// Whether a thread is running that logs the repeats.
    has_summary_thread: bool,
}

/// An error that was logged, and its repeats since.
#[derive(Debug, PartialEq, Eq)]
struct RecentError {
    level: Level,
    message: String,
    logged_at: Instant,
    repeats: u64,
}

impl RecentErrors {
    /// Returns whether to log an error now; otherwise counts it as a repeat.
    fn admit(&mut self, key: u64, level: Level, message: &str, now: Instant) -> bool {
        if let Some(error) = self.entries.get_mut(&key) {
            error.repeats += 1;
            return false;
        }
        // Once the map is full, further errors are all logged and none is remembered.
        if self.entries.len() < MAX_RECENT {
            self.entries.insert(
                key,
                RecentError {
                    level,
                    message: message.to_owned(),
                    logged_at: now,
                    repeats: 0,
                },
            );
        }
        true
    }

    /// Removes and returns the errors that may be logged again.
    fn remove_expired(&mut self, now: Instant) -> Vec<RecentError> {
        self.entries
            .extract_if(|_, error| now.duration_since(error.logged_at) >= REPEAT_INTERVAL)
            .map(|(_, error)| error)
            .collect()
    }
}

fn recent() -> MutexGuard<'static, Option<RecentErrors>> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Subscriber> Layer<S> for Throttle {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == SUMMARY_TARGET {
            return true;
        }
        let Parts { message, fields } = Parts::of(event);
        let mut hasher = DefaultHasher::new();
        (metadata.target(), metadata.line(), &message).hash(&mut hasher);
        // The same error in two requests has two request ids.
        for (name, value) in fields.iter().filter(|(name, _)| *name != "request_id") {
            (name, value.to_string()).hash(&mut hasher);
        }
        let now = Instant::now();
        let (expired, admitted) = {
            let mut guard = recent();
            let recent = guard.get_or_insert_default();
            let expired = recent.remove_expired(now);
            let admitted = recent.admit(hasher.finish(), *metadata.level(), &message, now);
            if !admitted && !recent.has_summary_thread {
                let spawned = std::thread::Builder::new()
                    .name("cohortist-repeats".into())
                    .spawn(summarize_until_quiet);
                recent.has_summary_thread = spawned.is_ok();
            }
            (expired, admitted)
        };
        expired.iter().for_each(log_repeats);
        admitted
    }
}

/// The target of the lines that count repeats, which are never dropped themselves.
const SUMMARY_TARGET: &str = "cohortist::repeated";

/// Logs how often an error was repeated, if it was.
fn log_repeats(error: &RecentError) {
    let RecentError {
        level,
        message,
        repeats,
        ..
    } = error;
    match *level {
        _ if *repeats == 0 => {}
        Level::ERROR => {
            tracing::error!(target: SUMMARY_TARGET, repeats, "repeated {repeats} times: {message}")
        }
        _ => tracing::warn!(target: SUMMARY_TARGET, repeats, "repeated {repeats} times: {message}"),
    }
}

/// The loop of a thread that runs as long as there are repeats to log.
fn summarize_until_quiet() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let (expired, more) = {
            let mut guard = recent();
            let recent = guard.get_or_insert_default();
            let expired = recent.remove_expired(Instant::now());
            recent.has_summary_thread = recent.entries.values().any(|error| error.repeats > 0);
            (expired, recent.has_summary_thread)
        };
        expired.iter().for_each(log_repeats);
        if !more {
            return;
        }
    }
}

/// Logs the remaining repeats and waits until everything is written. Called when the program ends.
pub fn finish() {
    let errors = recent().take().unwrap_or_default().entries;
    errors.values().for_each(log_repeats);
    let Some(queue) = QUEUE.get() else { return };
    let (done, written) = sync_channel(1);
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    // A full queue has room again as soon as stderr is read.
    while queue.try_send(Queued::Flush(done.clone())).is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(done);
    let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_error_is_logged_once_per_interval_and_counted() {
        let mut recent = RecentErrors::default();
        let start = Instant::now();
        assert!(recent.admit(1, Level::ERROR, "disk full", start));
        assert!(recent.admit(2, Level::WARN, "another", start));
        for n in 1..=120 {
            let now = start + REPEAT_INTERVAL / 121 * n;
            assert_eq!(
                (
                    recent.admit(1, Level::ERROR, "disk full", now),
                    recent.remove_expired(now).len()
                ),
                (false, 0)
            );
        }
        let end = start + REPEAT_INTERVAL;
        let mut expired = recent.remove_expired(end);
        expired.sort_by_key(|error| error.repeats);
        let summary: Vec<_> = expired
            .iter()
            .map(|error| (error.level, &*error.message, error.repeats))
            .collect();
        assert_eq!(
            summary,
            [
                (Level::WARN, "another", 0),
                (Level::ERROR, "disk full", 120)
            ]
        );
        assert!(recent.admit(1, Level::ERROR, "disk full", end));
    }

    #[test]
    fn different_errors_are_all_logged_in_bounded_memory() {
        let mut recent = RecentErrors::default();
        let start = Instant::now();
        assert!((0..5000).all(|key| recent.admit(key, Level::WARN, "x", start)));
        assert_eq!(recent.entries.len(), MAX_RECENT);
        assert_eq!(
            recent.remove_expired(start + REPEAT_INTERVAL).len(),
            MAX_RECENT
        );
    }

    #[test]
    fn a_json_line_is_one_object_for_any_message() {
        let fields = [
            ("n", Value::from(3)),
            ("ms", Value::from(0.5)),
            ("a \"b\"", Value::from("c\nd")),
        ];
        let line = json(Level::WARN, "cohortist::x", "say \"hi\"\n\u{1}é", &fields);
        assert!(!line.contains('\n'));
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&read["level"], &read["message"], &read["n"]),
            (&"warn".into(), &"say \"hi\"\n\u{1}é".into(), &3.into())
        );
        assert_eq!(
            (&read["ms"], &read["a \"b\""], &read["target"]),
            (&0.5.into(), &"c\nd".into(), &"cohortist::x".into())
        );
        assert!(chrono::DateTime::parse_from_rfc3339(read["time"].as_str().unwrap()).is_ok());
    }
}
