//! `cohortist import`.

mod archive;
mod checkpoint;
mod newest;
mod seen;
mod skipped;
mod source;
mod summary;
mod writer;

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::iter::zip;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::ValueEnum;
use clap::builder::FalseyValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::calendar::Zone;
use crate::cli::id_batches::id_batches;
use crate::cli::names;
use crate::cli::output::{AlreadyReported, Out, Usage, message, note, status};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::ingest::{
    Columns, EventFrom, Fault, Format, Gather, Header, Layout, Names, Position, Problem, Records,
    Wish,
};
use crate::render::{many, thousands};
use crate::sets::{Prefix, parse_numeric_id};
use crate::store::embedded::{EmbeddedStore, Keyspace};
use crate::store::{Options, StoreError};
use crate::tracker::{Extent, Ids, Tracker};
use crate::values::{Times, Unit};
use checkpoint::{Checkpoint, Found, Origin};
use skipped::Skipped;
use source::{Data, Part};
use summary::Summary;
use writer::{CheckpointWriter, Package, Reached, Tally};

const EXAMPLES: &str = "\
EXAMPLES
  # columns user, event and timestamp
  cohortist import events.csv
  cohortist import january.csv.gz february.csv.zst more.ndjson
  # other columns, and the same event on every line
  cohortist import users.csv --event signup --user-column id --time-column date
  # no column names in the first line
  cohortist import log.tsv --columns user,event,time
  # check a file without importing it
  cohortist import events.csv --dry-run
  # also mark country:DE and so on, and only the newest value of plan
  cohortist import events.csv --property country --property plan:current
  # resume where an import stopped
  cohortist import huge.csv --resume
  # string user ids (emails, UUIDs) need a new store
  cohortist --ids map import accounts.csv
  # from a database
  psql -c 'COPY (SELECT id, created_at FROM users) TO STDOUT CSV HEADER' |
    cohortist import - --event signup

FORMATS
  Parquet, CSV with names of columns in the first line, or NDJSON:
  user,event,timestamp
  4,purchase,1997-01-18 09:30:00
  {\"user\": 4, \"event\": \"purchase\", \"timestamp\": 853579800}

The file's name or its first byte tells the format. Files may be compressed with gzip or zstd, or be in a ZIP archive. \
Columns are found by their usual names, whatever their case and separators, and exports of \
Amplitude, Google Analytics, Mixpanel, Plausible, PostHog, Segment, Snowplow and Umami are \
recognized; the guesses are reported before anything is imported. Other columns are ignored.

Importing a file twice changes nothing. Invalid lines are reported and skipped; if they are more \
than --max-skipped, the exit code is 3.";

/// The number of rows combined before they are written. More rows make bigger groups of the same
/// bitmap and take more memory, about 30 bytes per row.
const ROWS: usize = 1 << 19;

/// The number of bitmaps touched before the rows that touch them are written.
const BITMAPS: usize = 1 << 16;

/// The total length of string ids, in bytes, before the rows that contain them are written.
const TEXT_BYTES: usize = 1 << 25;

/// The maximum memory for string ids whose numbers are cached, in bytes: enough for about two
/// million email addresses.
const CACHED_ID_BYTES: usize = 128 << 20;

/// How long rows may wait for others.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The number of lines read between two checks of the clock.
const CLOCK_LINES: u64 = 4096;

/// The number of marks written in one batch, which is written as a whole or not at all.
const BATCH_MARKS: usize = 1 << 17;

/// The same for Redis, which serves no other clients in the meantime.
const BATCH_MARKS_IN_REDIS: usize = 1 << 14;

/// The number of invalid lines reported in full.
const MAX_REPORTED: u64 = 20;

/// Import events from CSV, NDJSON and Parquet files
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Files, or - for stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,

    /// Columns with the user id; the first one with a value counts [default: user, user_id, …]
    #[arg(
        long,
        value_name = "NAME",
        env = "COHORTIST_USER_COLUMN",
        value_delimiter = ','
    )]
    user_column: Vec<String>,

    /// Column with the name of the event [default: event, event_name, …]
    #[arg(long, value_name = "NAME", env = "COHORTIST_EVENT_COLUMN")]
    event_column: Option<String>,

    /// Column with the time [default: timestamp, time, ts, created_at, …]
    #[arg(long, value_name = "NAME", env = "COHORTIST_TIME_COLUMN")]
    time_column: Option<String>,

    /// Columns of a CSV file without a header: names, or their numbers
    #[arg(
        long,
        value_name = "NAMES",
        env = "COHORTIST_COLUMNS",
        value_delimiter = ','
    )]
    columns: Vec<String>,

    /// Form of the times, as for strftime, such as %d/%m/%Y [default: told by each time]
    #[arg(long, value_name = "FORMAT", env = "COHORTIST_TIME_FORMAT")]
    time_format: Option<String>,

    /// Unit of times that are numbers [default: told by their size]
    #[arg(
        long,
        value_name = "UNIT",
        env = "COHORTIST_TIME_UNIT",
        conflicts_with = "time_format"
    )]
    time_unit: Option<UnitArg>,

    /// Import times before 1990 and after next year, instead of skipping their lines
    #[arg(long, env = "COHORTIST_ANY_YEAR", value_parser = FalseyValueParser::new())]
    any_year: bool,

    /// The event of every line, instead of a column
    #[arg(long, value_name = "NAME", env = "COHORTIST_EVENT")]
    event: Option<String>,

    /// Column whose values become events (plan:pro); or NAME:dated, NAME:current [repeatable]
    #[arg(
        long,
        value_name = "NAME",
        env = "COHORTIST_PROPERTY",
        value_delimiter = ','
    )]
    property: Vec<String>,

    /// Maximum number of values per property; others are counted and skipped
    #[arg(
        long,
        value_name = "N",
        env = "COHORTIST_PROPERTY_VALUES",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    property_values: u32,

    /// Also mark the bitmaps of hours, for --by hour
    #[arg(long, env = "COHORTIST_HOURLY", value_parser = FalseyValueParser::new())]
    hourly: bool,

    /// Also mark the undated bitmaps, EVENT@ever
    #[arg(long, env = "COHORTIST_EVER", value_parser = FalseyValueParser::new())]
    ever: bool,

    /// Stop at the first invalid line instead of skipping it
    #[arg(long, env = "COHORTIST_STRICT", value_parser = FalseyValueParser::new())]
    strict: bool,

    /// Percentage of lines that may be skipped; with more, the exit code is 3
    #[arg(
        long,
        value_name = "PERCENT",
        env = "COHORTIST_MAX_SKIPPED",
        default_value = "5",
        value_parser = percentage
    )]
    max_skipped: f64,

    /// Read the files and print the summary, but import nothing
    #[arg(long)]
    dry_run: bool,

    /// Resume an interrupted import, from the checkpoints next to the files
    #[arg(long, env = "COHORTIST_RESUME", value_parser = FalseyValueParser::new())]
    resume: bool,

    /// Import even if the store lost string ids, so that users may get a second id
    #[arg(long)]
    ids_may_repeat: bool,

    /// Rows per batch, with fewer marks and a checkpoint each (for tests)
    #[arg(
        long,
        hide = true,
        value_name = "ROWS",
        env = "COHORTIST_BATCH_ROWS",
        value_parser = clap::value_parser!(u32).range(1..=524_288)
    )]
    batch_rows: Option<u32>,
}

/// The unit of times that are numbers.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum UnitArg {
    S,
    Ms,
    Us,
    Ns,
}

impl From<UnitArg> for Unit {
    fn from(arg: UnitArg) -> Unit {
        match arg {
            UnitArg::S => Unit::Seconds,
            UnitArg::Ms => Unit::Milliseconds,
            UnitArg::Us => Unit::Microseconds,
            UnitArg::Ns => Unit::Nanoseconds,
        }
    }
}

fn percentage(text: &str) -> Result<f64, String> {
    text.strip_suffix('%')
        .unwrap_or(text)
        .trim()
        .parse()
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| "write a percentage from 0 to 100, such as 2.5".to_owned())
}

/// Parses the names or numbers of the columns of a file without a header.
fn header(columns: &[String]) -> Result<Header, Usage> {
    let numbers: Option<Vec<usize>> = columns
        .iter()
        .map(|name| name.trim().parse().ok())
        .collect();
    match numbers {
        Some(numbers) if numbers.is_empty() => Ok(Header::FirstLine),
        Some(numbers) if numbers.contains(&0) => {
            Err(Usage("--columns: columns are counted from 1".to_owned()))
        }
        Some(numbers) => Ok(Header::Places(
            numbers.into_iter().map(|number| number - 1).collect(),
        )),
        None => Ok(Header::Names(
            columns.iter().map(|name| name.trim().to_owned()).collect(),
        )),
    }
}

/// How much is written at a time.
#[derive(Debug, Clone, Copy)]
struct Batching {
    /// The number of rows combined.
    rows: usize,
    /// The number of marks written in one batch.
    marks: usize,
    /// The minimum time between two checkpoints.
    save_interval: Duration,
}

impl Batching {
    fn new(rows: Option<usize>, is_redis: bool) -> Self {
        let marks = if is_redis {
            BATCH_MARKS_IN_REDIS
        } else {
            BATCH_MARKS
        };
        match rows {
            None => Batching {
                rows: ROWS,
                marks,
                save_interval: writer::SAVE_INTERVAL,
            },
            Some(rows) => Batching {
                rows,
                marks: (marks * rows / ROWS).max(1),
                save_interval: Duration::ZERO,
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
    ids_may_repeat: bool,
    any_year: bool,
    time_format: Option<String>,
    time_unit: Option<Unit>,
    max_skipped: f64,
    dry_run: bool,
    batch_rows: Option<usize>,
}

impl Config {
    /// `properties` are those of the configuration file, which are used if the options name none.
    pub fn new(args: Args, properties: Vec<Wish>) -> Result<Self, Usage> {
        if args.files.iter().filter(|file| *file == "-").count() > 1 {
            return Err(Usage("stdin (-) can be read only once".to_owned()));
        }
        if args.resume && args.files.iter().any(|file| file == "-") {
            return Err(Usage(
                "stdin (-) cannot be resumed: it cannot be read again".to_owned(),
            ));
        }
        let to_usize = |number| usize::try_from(number).expect("a usize has at least 32 bits");
        let property_values = to_usize(args.property_values);
        let named: Vec<Wish> = args
            .property
            .iter()
            .map(|text| text.as_str().into())
            .collect();
        let are_optional = named.is_empty();
        let properties = if are_optional { properties } else { named };
        Names::new(&properties, property_values)
            .map_err(|error| Usage(format!("--property is the start of event names: {error}")))?;
        if let Some(format) = &args.time_format {
            Times::default()
                .with_format(format)
                .map_err(|error| Usage(format!("--time-format: {error}")))?;
        }
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
                properties,
                optional_properties: are_optional,
                header: header(&args.columns)?,
                times: Times::default(),
                string_ids: false,
            },
            property_values,
            extent: Extent {
                hourly: args.hourly,
                ever: args.ever,
            },
            strict: args.strict,
            resume: args.resume,
            ids_may_repeat: args.ids_may_repeat,
            any_year: args.any_year,
            time_format: args.time_format,
            time_unit: args.time_unit.map(Unit::from),
            max_skipped: args.max_skipped,
            dry_run: args.dry_run,
            batch_rows: args.batch_rows.map(to_usize),
        })
    }
}

/// What is known about a file before it is read.
struct Checked {
    /// The parts, and the layout of each. That of a pipe is not known.
    parts: Vec<(Part, Option<Layout>)>,
    bytes: Option<u64>,
}

impl Checked {
    fn pipe() -> Self {
        Checked {
            parts: vec![(Part::default(), None)],
            bytes: None,
        }
    }

    /// Returns a text that is the same for two files only if all lines are read in the same way.
    /// `None` for a pipe.
    fn fingerprint(&self) -> Option<String> {
        let layouts = self.parts.iter().map(|(_, layout)| layout.as_ref());
        let mut fingerprints: Vec<String> = layouts
            .map(|layout| layout.map(Layout::fingerprint))
            .collect::<Option<_>>()?;
        // An archive has many files of the same kind.
        fingerprints.dedup();
        Some(fingerprints.join("\n"))
    }
}

/// How reading and writing ended.
struct Outcome {
    skipped: Skipped,
    failure: Option<anyhow::Error>,
}

impl Config {
    pub fn run(mut self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        self.wishes.times = self.times(clock)?;
        // Everything that can be checked in advance is checked before the first mark is written.
        let mut names = Names::new(&self.wishes.properties, self.property_values)?;
        let mut checked = self.check_all(&mut names)?;
        let (tracker, embedded) = self.open_store(store)?;
        let ids = tracker.ids()?;
        if ids == Ids::Strings {
            if let Some(embedded) = embedded.filter(|_| !self.ids_may_repeat) {
                check_lost_ids(&tracker, &embedded.keyspace(), &store.display())?;
            }
            // Other fields may hold the user.
            self.wishes.string_ids = true;
            names = Names::new(&self.wishes.properties, self.property_values)?;
            checked = self.check_all(&mut names)?;
            // Other clients write to a Redis server, and it may lose numbers, so every batch asks
            // it again.
            names.use_string_ids(if store.is_redis() { 0 } else { CACHED_ID_BYTES });
        }
        for (file, checked) in zip(&self.files, &checked) {
            print_guesses(file, checked);
        }
        let checkpoints = self.checkpoints(&checked, store, &tracker, ids)?;
        for checkpoint in checkpoints.iter().flatten() {
            names.remember(&checkpoint.values);
        }
        let before: u64 = checkpoints
            .iter()
            .flatten()
            .map(|checkpoint| checkpoint.records)
            .sum();
        let skipped_before = checkpoints
            .iter()
            .flatten()
            .map(|checkpoint| checkpoint.skipped)
            .sum();
        let batching = Batching::new(self.batch_rows, store.is_redis());
        let starts = checkpoints.clone();
        let mut checkpoints = CheckpointWriter {
            files: &self.files,
            checkpoints,
            prefix: Prefix::new(store.prefix()),
            waiting: VecDeque::new(),
            saved_at: Instant::now(),
            save_interval: batching.save_interval,
            failure: None,
            any_saved: before > 0,
        };
        let mut tally = Tally::default();
        let zone = tracker.settle_zone()?;
        if zone.is_kept() {
            note!(
                "rows are filed by the clocks of {}; times without an offset are read as UTC",
                zone.name()
            );
        }
        let outcome = self.read_and_write(
            &tracker,
            &checked,
            &starts,
            batching,
            zone,
            &mut names,
            &mut checkpoints,
            &mut tally,
        );
        if let Some(error) = outcome.failure {
            if self.resume || checkpoints.any_saved {
                // If this fails, the rows are imported again.
                let _ = tracker.flush();
                checkpoints.save(tracker.progress().durable);
            }
            let can_resume = checkpoints.any_saved && !self.strict;
            return Err(stopped(&error, tally.records + before, can_resume));
        }
        if let Some(reason) = checkpoints.failure.as_ref().filter(|_| self.resume) {
            note!("{reason}");
        }
        if !self.dry_run {
            for file in self.files.iter().filter(|file| *file != "-") {
                Checkpoint::remove(file);
            }
        }
        let summary = Summary {
            files: self.files.len() as u64,
            tally: &tally,
            skipped: &outcome.skipped,
            before,
            skipped_before,
            names: &names,
            property_values: self.property_values,
            ids,
            is_dry_run: self.dry_run,
        };
        summary.print_notes();
        let mut out = Out::new();
        out.line(summary.text())?;
        out.finish()?;
        if tally.records + before == 0 {
            return Err(AlreadyReported.into());
        }
        summary.check_skipped(self.max_skipped)?;
        Ok(())
    }

    /// How times are read.
    fn times(&self, clock: Clock) -> anyhow::Result<Times> {
        let mut times = match self.any_year {
            true => Times::default(),
            false => Times::plausible(clock.now()),
        };
        if let Some(format) = &self.time_format {
            times = times.with_format(format)?;
        }
        if let Some(unit) = self.time_unit {
            times = times.with_unit(unit);
        }
        Ok(times)
    }

    fn check_all(&self, names: &mut Names) -> anyhow::Result<Vec<Checked>> {
        self.files
            .iter()
            .map(|file| self.check(file, names))
            .collect()
    }

    /// Opens the store. For a dry run, returns an empty store in memory with the same kind of ids.
    fn open_store(&self, store: &StoreConfig) -> anyhow::Result<(Tracker, Option<EmbeddedStore>)> {
        if !self.dry_run {
            let (tracker, embedded) = store.open_with_embedded()?;
            store.print_location(None, &tracker)?;
            return Ok((tracker, embedded));
        }
        let ids = match store.open_to_read() {
            Ok(tracker) => tracker.ids()?,
            Err(error) => match error.downcast_ref() {
                Some(StoreError::Missing(_)) => store.ids().unwrap_or(Ids::Numbers),
                _ => return Err(error),
            },
        };
        let memory = EmbeddedStore::in_memory(&Options::default());
        Ok((Tracker::new(memory.shared()).with_ids(ids), None))
    }

    /// Reads all files in this thread, and writes to the store in another one.
    #[expect(clippy::too_many_arguments, reason = "the state of an import")]
    fn read_and_write(
        &self,
        tracker: &Tracker,
        checked: &[Checked],
        starts: &[Option<Checkpoint>],
        batching: Batching,
        zone: Zone,
        names: &mut Names,
        checkpoints: &mut CheckpointWriter<'_>,
        tally: &mut Tally,
    ) -> Outcome {
        let bar = progress_bar(checked.iter().map(|checked| checked.bytes).sum());
        let (read, written, skipped) = std::thread::scope(|scope| {
            // One package waits while another one is written and the next one is assembled.
            let (sender, packages) = sync_channel(1);
            let bar = &bar;
            // The thread owns the receiver, so that sending fails when writing has ended.
            let writing = scope.spawn(move || {
                writer::write(tracker, &packages, batching.marks, checkpoints, tally, bar)
            });
            let mut import = Import {
                config: self,
                rows: batching.rows,
                names,
                gather: Gather::new(self.extent.hourly, self.extent.ever).kept_in(zone),
                began: Instant::now(),
                reached: Vec::new(),
                packages: sender,
                skipped: Skipped::default(),
                noted_numeric_ids: false,
                bar,
            };
            let read = import.files(checked, starts);
            // Lines before an invalid one are imported.
            let sent = import.send();
            let skipped = std::mem::take(&mut import.skipped);
            drop(import);
            (read.and(sent), writing.join(), skipped)
        });
        bar.finish_and_clear();
        let written = written.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let failure = match (written, read) {
            (Err(error), _) => Some(anyhow::Error::from(error)),
            (Ok(()), Err(Stop::Failed(error))) => Some(error),
            (Ok(()), Ok(()) | Err(Stop::WriterEnded)) => None,
        };
        Outcome { skipped, failure }
    }

    /// Checks that a file can be opened and has its columns. Pipes cannot be read twice, so they
    /// are not checked.
    fn check(&self, file: &str, names: &mut Names) -> anyhow::Result<Checked> {
        if file == "-" {
            return Ok(Checked::pipe());
        }
        let meta = fs::metadata(file).with_context(|| format!("cannot read {file}"))?;
        if meta.is_dir() {
            bail!("{file} is a directory; name the files in it");
        }
        if !meta.is_file() {
            return Ok(Checked::pipe());
        }
        let mut parts = Vec::new();
        for part in source::parts(file)? {
            let data = part.open(file, 0, &ProgressBar::hidden())?;
            let records = self.records(file, &part, data, names)?;
            parts.push((part, Some(records.layout().clone())));
        }
        Ok(Checked {
            parts,
            bytes: Some(meta.len()),
        })
    }

    fn records(
        &self,
        file: &str,
        part: &Part,
        data: Data,
        names: &mut Names,
    ) -> anyhow::Result<Records<Box<dyn BufRead>>> {
        let records = match data {
            Data::Lines(lines) => {
                Records::open(lines, Format::of_name(part.name(file)), &self.wishes, names)
            }
            Data::Table(table) => Records::of_table(table, &self.wishes, names),
        };
        records.map_err(|problem| failed(&part.display(file), problem))
    }

    /// Returns the checkpoint of each regular file: where to resume, or the start of the file.
    fn checkpoints(
        &self,
        checked: &[Checked],
        store: &StoreConfig,
        tracker: &Tracker,
        ids: Ids,
    ) -> anyhow::Result<Vec<Option<Checkpoint>>> {
        self.files
            .iter()
            .zip(checked)
            .map(|(file, checked)| match checked.fingerprint() {
                _ if self.dry_run => Ok(None),
                Some(layout) => self
                    .checkpoint(file, &layout, store, tracker, ids)
                    .map(Some),
                None => Ok(None),
            })
            .collect()
    }

    fn checkpoint(
        &self,
        file: &str,
        layout: &str,
        store: &StoreConfig,
        tracker: &Tracker,
        ids: Ids,
    ) -> anyhow::Result<Checkpoint> {
        let Columns {
            event,
            properties,
            times,
            ..
        } = &self.wishes;
        let reading = format!(
            "{layout} {event:?} {properties:?} {times:?} {:?} {ids:?}",
            self.extent
        );
        let origin = Origin::of(file, &reading, store.identity(), store.prefix())
            .with_context(|| format!("cannot read {file}"))?;
        match (Checkpoint::find(file, &origin, tracker)?, self.resume) {
            (Found::Valid(checkpoint), true) => return Ok(checkpoint),
            (Found::Valid(checkpoint), false) => {
                let line = thousands(checkpoint.line);
                note!(
                    "an earlier import of {file} stopped after line {line}; --resume would resume there"
                );
            }
            (Found::Stale(reason), true) => {
                note!(
                    "{file} is imported from the beginning, because its checkpoint cannot be used: {reason}"
                );
            }
            (Found::Stale(_), false) | (Found::Nothing, _) => {}
        }
        Ok(origin.start())
    }
}

/// Fails if the store lost string ids in damage that was accepted with `--accept-loss`. A user
/// whose id was lost would get a second one, and count twice.
fn check_lost_ids(tracker: &Tracker, keyspace: &Keyspace, shown: &str) -> anyhow::Result<()> {
    // Only a store with losses is worth reading all ids.
    if keyspace.losses().is_empty() {
        return Ok(());
    }
    let lost = lost_ids(tracker)?;
    if lost == 0 {
        return Ok(());
    }
    bail!(
        "{shown} has lost {} (see `cohortist info`). Importing would give these users a second id, and count them twice. Restore a backup with `cohortist restore`, or import with --ids-may-repeat",
        many(lost, "string id")
    )
}

/// The number of users of a store without a string id.
fn lost_ids(tracker: &Tracker) -> anyhow::Result<u64> {
    let ids = tracker.store().string_ids();
    // A store that is empty again has assigned none.
    let next = ids.next()?.unwrap_or(0);
    let mut lost = 0;
    for users in id_batches(next) {
        let texts = ids.texts(&users)?.expect("the store has string ids");
        lost += texts.iter().filter(|text| text.is_none()).count() as u64;
    }
    Ok(lost)
}

/// Prints the guesses about a file, each once.
fn print_guesses(file: &str, checked: &Checked) {
    let mut printed: Vec<&str> = Vec::new();
    for (part, layout) in &checked.parts {
        if let Some(guess) = layout.as_ref().and_then(Layout::guess)
            && !printed.contains(&guess)
        {
            status!("{}: {guess}", part.display(file));
            printed.push(guess);
        }
    }
}

/// `file` is the name for messages.
fn failed(file: &str, problem: Problem) -> anyhow::Error {
    match problem {
        Problem::File(reason) => anyhow!("{file}: {reason}"),
        Problem::Line { line, reason, .. } => anyhow!("{file}, line {line}: {reason}"),
        Problem::Read(error) => anyhow!("cannot read {file}: {error}"),
    }
}

/// The error of an import that stopped after so many records.
fn stopped(error: &anyhow::Error, records: u64, can_resume: bool) -> anyhow::Error {
    let imported = match records {
        0 => return anyhow!("{}. Nothing was imported", message(error)),
        1 => "The 1 record before that is".to_owned(),
        _ => format!("The {} records before that are", thousands(records)),
    };
    let resume = if can_resume {
        "; --resume resumes there"
    } else {
        ""
    };
    anyhow!(
        "{}. {imported} imported, nothing after it{resume}",
        message(error)
    )
}

/// Why reading ends early.
enum Stop {
    /// A file has this problem.
    Failed(anyhow::Error),
    /// Writing has ended. The writer reports the reason.
    WriterEnded,
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
    /// The invalid lines in all files.
    skipped: Skipped,
    /// Whether it was noted that numeric ids are stored as strings.
    noted_numeric_ids: bool,
    bar: &'a ProgressBar,
}

impl Import<'_> {
    fn files(&mut self, checked: &[Checked], starts: &[Option<Checkpoint>]) -> Result<(), Stop> {
        for (index, file) in self.config.files.iter().enumerate() {
            let start = starts[index].as_ref();
            if start.is_some_and(|start| start.done) {
                continue;
            }
            let mut reached = Reached {
                file: index,
                part: start.map_or(0, |start| start.part),
                at: start.map_or(Position::default(), Checkpoint::position),
                records: start.map_or(0, |start| start.records),
                skipped: start.map_or(0, |start| start.skipped),
                done: false,
            };
            for (number, (part, layout)) in checked[index].parts.iter().enumerate() {
                if number >= reached.part {
                    reached.part = number;
                    self.part(file, part, layout.as_ref(), &mut reached)?;
                    reached.at = Position::default();
                }
            }
            reached.part = checked[index].parts.len();
            reached.done = true;
            self.reached.push(reached);
        }
        Ok(())
    }

    /// Reads a part of a file, from the position that was reached.
    fn part(
        &mut self,
        file: &str,
        part: &Part,
        layout: Option<&Layout>,
        reached: &mut Reached,
    ) -> Result<(), Stop> {
        let mut records = self
            .open(file, part, layout, reached.at)
            .map_err(Stop::Failed)?;
        let name = part.display(file);
        let record = records.layout().record();
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
                Err(Problem::Line {
                    line,
                    fault,
                    reason,
                }) if !self.config.strict => {
                    reached.skipped += 1;
                    self.skip(fault, || format!("{name}, {record} {line}: {reason}"));
                }
                // Lines before the invalid one are imported, lines after it are not.
                Err(problem) => {
                    self.reached.push(*reached);
                    return Err(Stop::Failed(failed(&name, problem)));
                }
            }
            lines += 1;
            let is_full = self.gather.rows() >= self.rows
                || self.gather.bitmaps() >= BITMAPS
                || self.names.string_id_bytes() >= TEXT_BYTES;
            if is_full || (lines.is_multiple_of(CLOCK_LINES) && self.began.elapsed() >= MAX_WAIT) {
                reached.at = records.position();
                self.reached.push(*reached);
                self.send()?;
            }
        }
        Ok(())
    }

    /// Opens a part of a file at a position.
    fn open(
        &mut self,
        file: &str,
        part: &Part,
        layout: Option<&Layout>,
        at: Position,
    ) -> anyhow::Result<Records<Box<dyn BufRead>>> {
        let data = part.open(file, at.byte, self.bar)?;
        if let Some(layout) = layout.filter(|_| at != Position::default()) {
            self.bar.reset_eta();
            let wishes = &self.config.wishes;
            return Ok(match data {
                Data::Lines(lines) => Records::resume(lines, layout, wishes, at, self.names),
                Data::Table(table) => Records::resume_table(table, layout, wishes, at, self.names),
            });
        }
        let records = self.config.records(file, part, data, self.names)?;
        if layout.is_none()
            && let Some(guess) = records.layout().guess()
        {
            let name = part.display(file);
            self.bar.suspend(|| status!("{name}: {guess}"));
        }
        Ok(records)
    }

    /// Sends what was read to the writer.
    fn send(&mut self) -> Result<(), Stop> {
        let rows = self.gather.rows() as u64;
        self.began = Instant::now();
        let gathered = self.gather.drain(self.names);
        let texts = self.names.take_string_ids();
        if let Some(texts) = &texts {
            self.note_numeric_ids(texts.new.iter());
        }
        let package = Package {
            gathered,
            texts,
            rows,
            reached: std::mem::take(&mut self.reached),
            values: self.names.values(),
            held: self.names.held(),
        };
        self.packages.send(package).map_err(|_| Stop::WriterEnded)
    }

    /// Notes once that ids that look like numbers are stored as strings.
    fn note_numeric_ids<'t>(&mut self, mut ids: impl Iterator<Item = &'t str>) {
        if self.noted_numeric_ids {
            return;
        }
        if let Some(id) = ids.find(|id| parse_numeric_id(id.as_bytes()).is_ok()) {
            self.noted_numeric_ids = true;
            self.bar.suspend(|| {
                note!("numeric user ids such as {id} are stored as strings, because this store has string ids");
            });
        }
    }

    /// Counts a line that is skipped. `description` tells which one, and why.
    fn skip(&mut self, fault: Fault, description: impl Fn() -> String) {
        self.skipped.add(fault, &description);
        let total = self.skipped.total();
        if total <= MAX_REPORTED {
            self.bar.suspend(|| status!("{} — skipped", description()));
        } else if total == MAX_REPORTED + 1 {
            self.bar
                .suspend(|| status!("further invalid lines are skipped and only counted"));
        }
    }
}

/// Creates a progress bar, which is visible only in a terminal. It shows progress by bytes if their
/// number is known.
fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{wide_bar} {bytes} of {total_bytes}  {msg}, {eta} left",
        ),
        None => (
            ProgressBar::no_length(),
            "{spinner} {bytes} read, {bytes_per_sec}, {msg}",
        ),
    };
    bar.set_draw_target(target);
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    bar.with_style(style).with_message("0 rows/s")
}
