//! `cohortist import`.

mod checkpoint;
mod source;
mod writer;

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::builder::FalseyValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::names;
use crate::cli::output::{Out, Said, Usage, message, say};
use crate::cli::store::StoreConfig;
use crate::ingest::{
    Columns, EventFrom, Format, Gather, Layout, Names, Position, Problem, Records,
};
use crate::render::{many, thousands};
use crate::sets::Prefix;
use crate::tracker::{Extent, Ids, Tracker};
use checkpoint::{Checkpoint, Found, Origin};
use writer::{Keeper, Package, Reached, Tally};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist import events.csv                          columns user, event and timestamp
  cohortist import users.csv --event signup --user-column id --time-column created_at
  cohortist import january.csv.gz february.csv.zst more.ndjson
  cohortist import events.csv --property plan --property country
  cohortist import huge.csv --resume                   go on where it was interrupted
  cohortist --ids map import accounts.csv              users are texts: a new store of such
  psql -c 'COPY (SELECT id, created_at FROM users) TO STDOUT CSV HEADER' |
    cohortist import - --event signup

A CSV names its columns in the first line; NDJSON has one object a line, with fields of those names:
  user,event,timestamp
  4,purchase,1997-01-18 09:30:00
  {\"user\": 4, \"event\": \"purchase\", \"timestamp\": 853579800}

Which of the two it is, the file's name or its first byte tells; gzip and zstd are unpacked on the way. Columns are
found by the usual names, and exports of Mixpanel (NDJSON), PostHog (CSV) and Amplitude (NDJSON) are recognised; what
was guessed is said before anything is written. Other columns are ignored. Importing a file twice changes nothing. A
bad line is reported with its number and skipped. User ids are whole numbers; for texts, such as e-mails and UUIDs,
begin a new store with --ids map.";

/// The number of rows combined before they are written. More rows make bigger groups of the same
/// bitmap and take more memory, about 30 bytes per row.
const ROWS: usize = 1 << 19;

/// The number of bitmaps touched before the rows that touch them are written.
const BITMAPS: usize = 1 << 16;

/// The total length of string ids, in bytes, before the rows that contain them are written.
const TEXT_BYTES: usize = 1 << 25;

/// The maximum memory for string ids whose numbers are remembered, in bytes: enough for about two
/// million email addresses.
const REMEMBERED: usize = 128 << 20;

/// How long rows may wait for others, and how many lines are read between two checks of the clock.
const WAIT: Duration = Duration::from_secs(1);
const LOOK_EVERY: u64 = 4096;

/// The number of marks written in one batch. Whatever happens, either all of them or none are in
/// the store.
const AT_ONCE: usize = 1 << 17;

/// The same for Redis, which does not serve other clients in the meantime.
const AT_ONCE_IN_REDIS: usize = 1 << 14;

/// The number of bad lines reported in full.
const REPORTED: u64 = 20;

/// Bring in CSV or NDJSON files of who did what when
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Files, or - for stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,

    /// The column with the user id [default: user, user_id, distinct_id or uid]
    #[arg(long, value_name = "NAME", env = "COHORTIST_USER_COLUMN")]
    user_column: Option<String>,

    /// The column with the event's name [default: event or event_name]
    #[arg(long, value_name = "NAME", env = "COHORTIST_EVENT_COLUMN")]
    event_column: Option<String>,

    /// The column with the time [default: timestamp, time, ts or created_at]
    #[arg(long, value_name = "NAME", env = "COHORTIST_TIME_COLUMN")]
    time_column: Option<String>,

    /// Every line is this event; no event column is needed
    #[arg(long, value_name = "NAME", env = "COHORTIST_EVENT")]
    event: Option<String>,

    /// Also mark the values of this column as undated events, plan:pro@ever; may be repeated
    #[arg(
        long,
        value_name = "NAME",
        env = "COHORTIST_PROPERTY",
        value_delimiter = ','
    )]
    property: Vec<String>,

    /// How many different values of a property become events; further ones are counted and left out
    #[arg(long, value_name = "N", env = "COHORTIST_PROPERTY_VALUES", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    property_values: u32,

    /// Also mark the bitmaps of the hours, for --by hour
    #[arg(long, env = "COHORTIST_HOURLY", value_parser = FalseyValueParser::new())]
    hourly: bool,

    /// Also mark the undated bitmaps, EVENT@ever
    #[arg(long, env = "COHORTIST_EVER", value_parser = FalseyValueParser::new())]
    ever: bool,

    /// Stop at the first bad line instead of skipping it
    #[arg(long, env = "COHORTIST_STRICT", value_parser = FalseyValueParser::new())]
    strict: bool,

    /// Go on where an import of the same files was interrupted, by the checkpoint beside each file
    #[arg(long, env = "COHORTIST_RESUME", value_parser = FalseyValueParser::new())]
    resume: bool,

    /// Write so few rows together, with as many fewer marks in one go, and keep a checkpoint after
    /// each: for tests of interruptions
    #[arg(long, hide = true, value_name = "ROWS", env = "COHORTIST_BATCH_ROWS",
          value_parser = clap::value_parser!(u32).range(1..=524_288))]
    batch_rows: Option<u32>,
}

/// How much is written at a time.
#[derive(Debug, Clone, Copy)]
struct Batching {
    /// The number of rows combined.
    rows: usize,
    /// The number of marks written in one batch.
    at_once: usize,
    /// The minimum time between two checkpoints.
    save_every: Duration,
}

impl Batching {
    fn new(batch_rows: Option<usize>, is_redis: bool) -> Self {
        let at_once = if is_redis { AT_ONCE_IN_REDIS } else { AT_ONCE };
        match batch_rows {
            None => Batching {
                rows: ROWS,
                at_once,
                save_every: writer::SAVE_EVERY,
            },
            Some(rows) => Batching {
                rows,
                at_once: (at_once * rows / ROWS).max(1),
                save_every: Duration::ZERO,
            },
        }
    }
}

/// What to import.
pub struct Config {
    files: Vec<String>,
    wishes: Columns,
    property_values: usize,
    extent: Extent,
    strict: bool,
    resume: bool,
    batch_rows: Option<usize>,
}

impl TryFrom<Args> for Config {
    type Error = Usage;

    fn try_from(args: Args) -> Result<Self, Usage> {
        if args.files.iter().filter(|file| *file == "-").count() > 1 {
            return Err(Usage("stdin (-) can be read only once".to_owned()));
        }
        if args.resume && args.files.iter().any(|file| file == "-") {
            return Err(Usage(
                "stdin (-) cannot be resumed: it cannot be read again".to_owned(),
            ));
        }
        let property_values = usize::try_from(args.property_values).unwrap_or(usize::MAX);
        Names::new(&args.property, property_values)
            .map_err(|error| Usage(format!("--property: {error}, as an event of it would")))?;
        Ok(Config {
            files: args.files,
            wishes: Columns {
                user: args.user_column,
                event: match (args.event.as_deref(), args.event_column) {
                    (Some(name), _) => EventFrom::Always(names::event(name)?),
                    (None, Some(column)) => EventFrom::Column(column),
                    (None, None) => EventFrom::Guess,
                },
                time: args.time_column,
                properties: args.property,
            },
            property_values,
            extent: Extent {
                hourly: args.hourly,
                ever: args.ever,
            },
            strict: args.strict,
            resume: args.resume,
            batch_rows: args.batch_rows.and_then(|rows| usize::try_from(rows).ok()),
        })
    }
}

/// What is known about a file before it is read. Nothing is known about a pipe.
#[derive(Default)]
struct Checked {
    layout: Option<Layout>,
    bytes: Option<u64>,
}

impl Config {
    pub fn run(self, store: &StoreConfig) -> anyhow::Result<()> {
        let mut names = Names::new(&self.wishes.properties, self.property_values)?;
        // Every failure that can be foreseen happens now, before the first record is written.
        let checked = self
            .files
            .iter()
            .map(|file| self.check(file, &mut names))
            .collect::<anyhow::Result<Vec<Checked>>>()?;
        for (file, checked) in self.files.iter().zip(&checked) {
            say_guess(file, checked.layout.as_ref());
        }
        let tracker = store.open()?;
        store.say_where("", &tracker)?;
        let ids = tracker.ids()?;
        if ids == Ids::Strings {
            // Other clients write to a Redis server, and it may lose numbers, so every batch asks
            // it again.
            names.use_string_ids(if store.is_redis() { 0 } else { REMEMBERED });
        }
        let checkpoints = self.checkpoints(&checked, store, &tracker, ids)?;
        checkpoints
            .iter()
            .flatten()
            .for_each(|checkpoint| names.remember(&checkpoint.values));
        let before: u64 = checkpoints
            .iter()
            .flatten()
            .map(|checkpoint| checkpoint.records)
            .sum();
        let starts = checkpoints.clone();
        let batching = Batching::new(self.batch_rows, store.is_redis());
        let mut keeper = Keeper {
            files: &self.files,
            checkpoints,
            prefix: Prefix::new(store.prefix()),
            waiting: VecDeque::new(),
            saved: Instant::now(),
            save_every: batching.save_every,
            failure: None,
            any: before > 0,
        };
        let bar = bar(checked.iter().map(|checked| checked.bytes).sum());
        let mut tally = Tally::default();
        let (read, written) = std::thread::scope(|scope| {
            // One package waits while another is written and the next one is assembled.
            let (sender, packages) = sync_channel(1);
            let writing = scope.spawn(|| {
                // Moved into the thread, so that the receiver is dropped when writing ends and the
                // sender gets an error.
                let packages = packages;
                writer::write(
                    &tracker,
                    &packages,
                    batching.at_once,
                    &mut keeper,
                    &mut tally,
                    &bar,
                )
            });
            let mut import = Import {
                config: &self,
                rows: batching.rows,
                names: &mut names,
                gather: Gather::new(self.extent.hourly, self.extent.ever),
                began: Instant::now(),
                reached: Vec::new(),
                packages: sender,
                skipped: 0,
                bar: &bar,
            };
            let files = self
                .files
                .iter()
                .enumerate()
                .zip(checked.iter().zip(&starts));
            let read = files
                .map(|((place, file), (checked, start))| {
                    import.file(place, file, checked.layout.as_ref(), start.as_ref())
                })
                .collect::<Result<Vec<()>, Stop>>();
            let read = match import.send() {
                Err(stop) => read.and(Err(stop)),
                Ok(()) => read,
            };
            let skipped = import.skipped;
            drop(import);
            (
                read.map(|_| ())
                    .map_err(|stop| (stop, skipped))
                    .map(|()| skipped),
                writing.join(),
            )
        });
        bar.finish_and_clear();
        let written = written.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let skipped = match &read {
            Ok(skipped) | Err((_, skipped)) => *skipped,
        };
        let failure = match (written, read) {
            (Err(error), _) => Some(anyhow::Error::from(error)),
            (Ok(()), Err((Stop::Failed(error), _))) => Some(error),
            (Ok(()), _) => None,
        };
        if let Some(error) = failure {
            if self.resume || keeper.any {
                // Rows that cannot be made durable are imported again.
                let _ = tracker.flush();
                keeper.save(tracker.progress().durable);
            }
            let resumable = if keeper.any && !self.strict {
                "; --resume goes on from there"
            } else {
                ""
            };
            let error = message(&error);
            return match tally.records + before {
                0 => Err(anyhow!("{error}. Nothing was imported")),
                records => Err(anyhow!(
                    "{error}. {} imported, nothing after it{resumable}",
                    were(records)
                )),
            };
        }
        if let Some(reason) = keeper.failure.as_ref().filter(|_| self.resume) {
            say!("note: {reason}");
        }
        self.files
            .iter()
            .filter(|file| *file != "-")
            .for_each(|file| Checkpoint::remove(file));
        self.note_left_out(&names);
        let mut out = Out::new();
        out.line(self.summary(&tally, skipped, before, &names))?;
        out.finish()?;
        if tally.records + before == 0 {
            Err(Said.into())
        } else {
            Ok(())
        }
    }

    /// Checks that a file can be opened and has its columns. Pipes cannot be read twice, so they
    /// are not checked.
    fn check(&self, file: &str, names: &mut Names) -> anyhow::Result<Checked> {
        if file == "-" {
            return Ok(Checked::default());
        }
        let meta = fs::metadata(file).with_context(|| format!("cannot read {file}"))?;
        if meta.is_dir() {
            return Err(anyhow!("{file} is a directory; name the files in it"));
        }
        if !meta.is_file() {
            return Ok(Checked::default());
        }
        let reader = open(file, 0, &ProgressBar::hidden())?;
        let records = self.records(file, reader, names)?;
        Ok(Checked {
            layout: Some(records.layout().clone()),
            bytes: Some(meta.len()),
        })
    }

    fn records<R: BufRead>(
        &self,
        file: &str,
        reader: R,
        names: &mut Names,
    ) -> anyhow::Result<Records<R>> {
        Records::open(reader, Format::of_name(file), &self.wishes, names)
            .map_err(|problem| failed(file, problem))
    }

    /// Returns the checkpoint of each regular file: where to resume, or the start of the file.
    fn checkpoints(
        &self,
        checked: &[Checked],
        store: &StoreConfig,
        tracker: &Tracker,
        ids: Ids,
    ) -> anyhow::Result<Vec<Option<Checkpoint>>> {
        let files = self.files.iter().zip(checked).map(|(file, checked)| {
            let Some(layout) = &checked.layout else { return Ok(None) };
            let Columns { event, properties, .. } = &self.wishes;
            let reading = format!("{} {event:?} {properties:?} {:?} {ids:?}", layout.fingerprint(), self.extent);
            let origin = Origin::of(file, &reading, store.identity(), store.prefix());
            let origin = origin.with_context(|| format!("cannot read {file}"))?;
            Ok(Some(match (Checkpoint::find(file, &origin, tracker)?, self.resume) {
                (Found::Good(found), true) => found,
                (Found::Good(found), false) => {
                    let lines = thousands(found.line);
                    say!("note: an import of {file} stopped behind line {lines}; --resume would go on from there");
                    origin.start()
                }
                (Found::Stale(reason), true) => {
                    say!("note: {file} is imported from the beginning, in spite of its checkpoint: {reason}");
                    origin.start()
                }
                (Found::Stale(_), false) | (Found::Nothing, _) => origin.start(),
            }))
        });
        files.collect()
    }

    fn note_left_out(&self, names: &Names) {
        for property in names.properties() {
            let name = &property.name;
            if property.beyond > 0 {
                say!(
                    "note: `{name}` has more than {} different values; the others, on {}, were left out (--property-values says how many)",
                    thousands(self.property_values as u64),
                    many(property.beyond, "line"),
                );
            }
            if property.unusable > 0 {
                let lines = many(property.unusable, "line");
                say!(
                    "note: on {lines} `{name}` makes no event name (too long, control characters, a list or an object)"
                );
            }
        }
    }

    /// Returns a summary such as `imported 6,919 marks of 1 event by 2,357 users from 1 file,
    /// skipped 3 lines`.
    fn summary(&self, tally: &Tally, skipped: u64, before: u64, names: &Names) -> String {
        let mut more = String::new();
        if !names.properties().is_empty() {
            let values: usize = names
                .properties()
                .iter()
                .map(crate::ingest::Property::values)
                .sum();
            let properties = many(names.properties().len() as u64, "property");
            more += &format!(
                ", {} of {}",
                many(values as u64, "value"),
                properties.replace("propertys", "properties")
            );
        }
        if skipped > 0 {
            more += &format!(", skipped {}", many(skipped, "line"));
        }
        if before > 0 {
            more += &format!("; {} were in before", many(before, "mark"));
        }
        let files = many(self.files.len() as u64, "file");
        if tally.records == 0 {
            return format!("imported nothing from {files}{more}");
        }
        format!(
            "imported {} of {} by {} from {files}{more}",
            many(tally.records, "mark"),
            many(tally.events.len() as u64, "event"),
            many(tally.users.count, "user"),
        )
    }
}

fn open(file: &str, at: u64, bar: &ProgressBar) -> anyhow::Result<Box<dyn BufRead>> {
    source::open(file, at, bar).with_context(|| format!("cannot read {file}"))
}

fn shown(file: &str) -> &str {
    if file == "-" { "stdin" } else { file }
}

fn say_guess(file: &str, layout: Option<&Layout>) {
    if let Some(guess) = layout.and_then(Layout::guess) {
        say!("{}: {guess}", shown(file));
    }
}

fn failed(file: &str, problem: Problem) -> anyhow::Error {
    match problem {
        Problem::File(reason) => anyhow!("{}: {reason}", shown(file)),
        Problem::Line { line, reason } => anyhow!("{}, line {line}: {reason}", shown(file)),
        Problem::Read(error) => anyhow!("cannot read {file}: {error}"),
    }
}

fn were(records: u64) -> String {
    if records == 1 {
        "The 1 record before that is".to_owned()
    } else {
        format!("The {} records before that are", thousands(records))
    }
}

/// Why reading ends early.
enum Stop {
    /// A file has this problem.
    Failed(anyhow::Error),
    /// Writing has ended. The writer reports the reason.
    NobodyWrites,
}

/// The state of an import that is being read.
struct Import<'a> {
    config: &'a Config,
    /// How many rows are combined.
    rows: usize,
    names: &'a mut Names,
    gather: Gather,
    /// When the first of the waiting rows arrived.
    began: Instant,
    /// How far files were read since the last package.
    reached: Vec<Reached>,
    packages: SyncSender<Package>,
    /// The number of bad lines in all files.
    skipped: u64,
    bar: &'a ProgressBar,
}

impl Import<'_> {
    fn file(
        &mut self,
        place: usize,
        file: &str,
        layout: Option<&Layout>,
        start: Option<&Checkpoint>,
    ) -> Result<(), Stop> {
        let start = start.filter(|start| start.done || start.position() != Position::default());
        if start.is_some_and(|start| start.done) {
            return Ok(());
        }
        let mut reached = Reached {
            file: place,
            at: Position::default(),
            records: start.map_or(0, |start| start.records),
            skipped: start.map_or(0, |start| start.skipped),
            done: false,
        };
        let mut records = match (start, layout) {
            (Some(start), Some(layout)) => {
                let reader = open(file, start.byte, self.bar).map_err(Stop::Failed)?;
                self.bar.reset_eta();
                Records::resume(
                    reader,
                    layout,
                    &self.config.wishes,
                    start.position(),
                    self.names,
                )
            }
            _ => {
                let reader = open(file, 0, self.bar).map_err(Stop::Failed)?;
                let records = self
                    .config
                    .records(file, reader, self.names)
                    .map_err(Stop::Failed)?;
                if layout.is_none() {
                    self.bar.suspend(|| say_guess(file, Some(records.layout())));
                }
                records
            }
        };
        let mut lines: u64 = 0;
        loop {
            // If reading a line fails, a part of it may have been counted.
            reached.at = records.position();
            let Some(row) = records.next(self.names) else {
                break;
            };
            match row {
                Ok(row) => {
                    self.gather.add(row, records.properties());
                    reached.records += 1;
                }
                Err(Problem::Line { line, reason }) if !self.config.strict => {
                    reached.skipped += 1;
                    self.skip(file, line, &reason);
                }
                // Lines before the bad line are imported, lines after it are not.
                Err(problem) => {
                    self.reached.push(reached);
                    return Err(Stop::Failed(failed(file, problem)));
                }
            }
            lines += 1;
            let full = self.gather.rows() >= self.rows
                || self.gather.bitmaps() >= BITMAPS
                || self.names.string_id_bytes() >= TEXT_BYTES;
            if full || (lines.is_multiple_of(LOOK_EVERY) && self.began.elapsed() >= WAIT) {
                reached.at = records.position();
                self.reached.push(reached);
                self.send()?;
            }
        }
        reached.done = true;
        self.reached.push(reached);
        Ok(())
    }

    /// Sends what was read to the writer.
    fn send(&mut self) -> Result<(), Stop> {
        let rows = self.gather.rows() as u64;
        self.began = Instant::now();
        let gathered = self.gather.drain(self.names);
        let package = Package {
            gathered,
            texts: self.names.take_string_ids(),
            rows,
            reached: std::mem::take(&mut self.reached),
            values: self.names.values(),
        };
        self.packages.send(package).map_err(|_| Stop::NobodyWrites)
    }

    fn skip(&mut self, file: &str, line: u64, reason: &str) {
        self.skipped += 1;
        match self.skipped {
            n if n <= REPORTED => {
                self.say(&format!("{}, line {line}: {reason} — skipped", shown(file)))
            }
            n if n == REPORTED + 1 => self.say("more bad lines are skipped and only counted"),
            _ => {}
        }
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| say!("{line}"));
    }
}

/// Creates a progress bar, which is visible only in a terminal. It shows progress by bytes if their
/// number is known.
fn bar(bytes: Option<u64>) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{wide_bar} {bytes} of {total_bytes}  {msg}, {eta} to go",
        ),
        None => (
            ProgressBar::no_length(),
            "{spinner} {bytes} read, {bytes_per_sec}, {msg}",
        ),
    };
    bar.set_draw_target(target);
    bar.with_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
    .with_message("0 rows/s")
}
