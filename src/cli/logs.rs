//! What goes to stderr: the log and the messages of commands, as text or as one JSON object a line.
//!
//! A server hands its lines to a thread that writes them, and drops what does not fit into the
//! queue: a reader of the log that is slow or has stopped holds up no request.
//!
//! A fault that repeats, such as a disk that is full while thousands of marks arrive, is logged
//! once in ten seconds, with how often it occurred. The log says so; metrics count every one of
//! them.

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

use crate::cli::output::{self, say};
use crate::clock::Clock;

/// How stderr is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Whether stderr is JSON. Set once, before anything is written.
static JSON: AtomicBool = AtomicBool::new(false);

/// How often the same fault is logged.
const ONCE_IN: Duration = Duration::from_secs(10);

/// How many different faults are told apart at once.
const FAULTS: usize = 1000;

/// Says how everything is written from here on.
pub fn set_format(format: LogFormat) {
    JSON.store(format == LogFormat::Json, Ordering::Relaxed);
    if is_json() {
        std::panic::set_hook(Box::new(|panic| say(Level::ERROR, format_args!("{panic}"))));
    }
}

fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Writes a message to stderr.
pub fn say(level: Level, message: fmt::Arguments<'_>) {
    let mut line = if is_json() {
        json(level, "cohortist", &message.to_string(), &[])
    } else {
        message.to_string()
    };
    line.push('\n');
    write(line.into_bytes());
}

/// The lines that wait for the writing thread, where there is one.
static QUEUE: OnceLock<SyncSender<Queued>> = OnceLock::new();

/// Lines that did not fit into the queue since the last one that did.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines may wait.
const QUEUED: usize = 8192;

/// How many bytes are written in one go, when so many wait.
const AT_ONCE: usize = 64 << 10;

/// How long the end of the program waits for lines to be written.
const END_WITHIN: Duration = Duration::from_secs(1);

enum Queued {
    Line(Vec<u8>),
    /// To be answered when all lines before it were written.
    End(SyncSender<()>),
}

/// Writes a line, in one piece so that lines of several threads do not mix. That nobody reads it is
/// no error.
fn write(line: Vec<u8>) {
    match QUEUE.get() {
        None => drop(std::io::stderr().write_all(&line)),
        Some(queue) => match queue.try_send(Queued::Line(line)) {
            Ok(()) => {}
            Err(_) => drop(DROPPED.fetch_add(1, Ordering::Relaxed)),
        },
    }
}

/// The work of the writing thread.
fn write_queued(queue: &Receiver<Queued>) {
    let mut text = Vec::new();
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        let mut end = None;
        while let Some(queued) = next.take() {
            match queued {
                Queued::Line(line) => text.extend_from_slice(&line),
                Queued::End(done) => end = Some(done),
            }
            if text.len() < AT_ONCE && end.is_none() {
                next = queue.try_recv().ok();
            }
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let message = format!(
                "{dropped} lines of the log were dropped, as they were not read fast enough"
            );
            let line = if is_json() {
                json(Level::WARN, "cohortist", &message, &[])
            } else {
                message
            };
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        let _ = std::io::stderr().write_all(&text);
        text.clear();
        end.map(|done| done.send(()));
    }
}

/// A line on its way to stderr.
struct Line;

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the thread that writes what a server logs.
pub fn write_apart() {
    let (queue, lines) = sync_channel(QUEUED);
    let spawned = std::thread::Builder::new()
        .name("cohortist-log".into())
        .spawn(move || write_queued(&lines));
    if spawned.is_ok() {
        let _ = QUEUE.set(queue);
    }
}

/// Starts the log: at `level`, or as `COHORTIST_LOG` has it.
pub fn start(level: &str) {
    let asked = std::env::var("COHORTIST_LOG")
        .ok()
        .filter(|text| !text.is_empty());
    let filter = asked.and_then(|text| match EnvFilter::try_new(&text) {
        Ok(filter) => Some(filter),
        Err(_) => {
            say!("note: COHORTIST_LOG={text} is not understood; using {level}. Write error, warn, info or debug.");
            None
        }
    });
    let filter = filter.unwrap_or_else(|| EnvFilter::new(level));
    let ansi = output::colour(&std::io::stderr());
    let lines = format::layer().with_writer(|| Line).with_ansi(ansi);
    let text = (!is_json()).then_some(lines);
    let json = is_json().then(|| {
        format::layer()
            .with_writer(|| Line)
            .with_ansi(false)
            .event_format(Json)
    });
    // Fails only when a logger was set before, as a test may have done.
    let _ = tracing_subscriber::registry()
        .with(text)
        .with(json)
        .with(Throttle)
        .with(filter)
        .try_init();
}

/// A line of the log as one JSON object.
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

/// Keeps a fault that repeats from filling the log.
struct Throttle;

/// The faults of late.
static LATELY: Mutex<Option<Lately>> = Mutex::new(None);

#[derive(Default)]
struct Lately {
    faults: HashMap<u64, Fault>,
    /// Whether a thread waits to tell how often they occurred.
    waiting: bool,
}

/// A fault that was logged, and its repeats since.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    level: Level,
    message: String,
    logged: Instant,
    repeats: u64,
}

impl Lately {
    /// Whether a fault is to be logged now.
    fn admits(&mut self, key: u64, level: Level, message: &str, now: Instant) -> bool {
        if let Some(fault) = self.faults.get_mut(&key) {
            fault.repeats += 1;
            return false;
        }
        // Faults that are all different are not held back, and not remembered either.
        if self.faults.len() < FAULTS {
            self.faults.insert(
                key,
                Fault {
                    level,
                    message: message.to_owned(),
                    logged: now,
                    repeats: 0,
                },
            );
        }
        true
    }

    /// Forgets the faults that were logged so long ago that they may be again.
    fn over(&mut self, now: Instant) -> Vec<Fault> {
        self.faults
            .extract_if(|_, fault| now.duration_since(fault.logged) >= ONCE_IN)
            .map(|(_, fault)| fault)
            .collect()
    }
}

fn lately() -> MutexGuard<'static, Option<Lately>> {
    LATELY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Subscriber> Layer<S> for Throttle {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == REPEATED {
            return true;
        }
        let Parts { message, fields } = Parts::of(event);
        let mut hasher = DefaultHasher::new();
        (metadata.target(), metadata.line(), &message).hash(&mut hasher);
        // Two requests that meet the same fault have each its own id.
        for (name, value) in fields.iter().filter(|(name, _)| *name != "request_id") {
            (name, value.to_string()).hash(&mut hasher);
        }
        let now = Instant::now();
        let (over, admitted) = {
            let mut held = lately();
            let lately = held.get_or_insert_default();
            let over = lately.over(now);
            let admitted = lately.admits(hasher.finish(), *metadata.level(), &message, now);
            if !admitted && !lately.waiting {
                let spawned = std::thread::Builder::new()
                    .name("cohortist-faults".into())
                    .spawn(tell_in_time);
                lately.waiting = spawned.is_ok();
            }
            (over, admitted)
        };
        over.iter().for_each(tell);
        admitted
    }
}

/// The target of summaries, which are never held back.
const REPEATED: &str = "cohortist::repeated";

/// Logs how often a fault was repeated.
fn tell(fault: &Fault) {
    let Fault {
        level,
        message,
        repeats,
        ..
    } = fault;
    match *level {
        _ if *repeats == 0 => {}
        Level::ERROR => {
            tracing::error!(target: REPEATED, repeats, "repeated {repeats} times: {message}")
        }
        _ => tracing::warn!(target: REPEATED, repeats, "repeated {repeats} times: {message}"),
    }
}

/// The work of a thread that lives as long as there are repeats to tell of.
fn tell_in_time() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let (over, more) = {
            let mut held = lately();
            let lately = held.get_or_insert_default();
            let over = lately.over(Instant::now());
            lately.waiting = lately.faults.values().any(|fault| fault.repeats > 0);
            (over, lately.waiting)
        };
        over.iter().for_each(tell);
        if !more {
            return;
        }
    }
}

/// Tells of all repeats that were held back, and waits until everything is written: for the end of
/// the program.
pub fn finish() {
    let faults = lately().take().unwrap_or_default().faults;
    faults.values().for_each(tell);
    let Some(queue) = QUEUE.get() else { return };
    let (done, written) = sync_channel(1);
    let until = Instant::now() + END_WITHIN;
    // There is room as soon as the reader of the log goes on, if it does.
    while queue.try_send(Queued::End(done.clone())).is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(done);
    let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_fault_is_logged_once_in_a_while_and_counted() {
        let mut lately = Lately::default();
        let start = Instant::now();
        assert!(lately.admits(1, Level::ERROR, "disk full", start));
        assert!(lately.admits(2, Level::WARN, "another", start));
        for n in 1..=120 {
            let now = start + ONCE_IN / 121 * n;
            assert_eq!(
                (
                    lately.admits(1, Level::ERROR, "disk full", now),
                    lately.over(now).len()
                ),
                (false, 0)
            );
        }
        let end = start + ONCE_IN;
        let mut over = lately.over(end);
        over.sort_by_key(|fault| fault.repeats);
        let told: Vec<_> = over
            .iter()
            .map(|fault| (fault.level, &*fault.message, fault.repeats))
            .collect();
        assert_eq!(
            told,
            [
                (Level::WARN, "another", 0),
                (Level::ERROR, "disk full", 120)
            ]
        );
        assert!(lately.admits(1, Level::ERROR, "disk full", end));
    }

    #[test]
    fn faults_that_are_all_different_take_no_room_and_are_all_logged() {
        let mut lately = Lately::default();
        let start = Instant::now();
        assert!((0..5000).all(|key| lately.admits(key, Level::WARN, "x", start)));
        assert_eq!(lately.faults.len(), FAULTS);
        assert_eq!(lately.over(start + ONCE_IN).len(), FAULTS);
    }

    #[test]
    fn a_line_is_one_object_whatever_it_says() {
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
