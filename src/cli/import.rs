//! `cohortist import`.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Read};

use anyhow::{Context, anyhow};
use clap::builder::FalseyValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::names;
use crate::cli::output::{Out, Said, Usage};
use crate::cli::records::{Columns, EventFrom, Format, Problem, Record, Records};
use crate::cli::store::StoreConfig;
use crate::render::{many, thousands};
use crate::sets::{EventName, UserId};
use crate::tracker::{Batch, Extent};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist import events.csv                          columns user, event and timestamp
  cohortist import users.csv --event signup --user-column id --time-column created_at
  cohortist import january.csv february.csv more.ndjson
  zcat events.csv.gz | cohortist import -
  psql -c 'COPY (SELECT id, created_at FROM users) TO STDOUT CSV HEADER' |
    cohortist import - --event signup --user-column id --time-column created_at

A CSV names its columns in the first line; NDJSON has one object a line, with fields of those names:
  user,event,timestamp
  4,purchase,1997-01-18 09:30:00
  {\"user\": 4, \"event\": \"purchase\", \"timestamp\": 853579800}

Which of the two it is, the file's name or its first byte tells. Other columns are ignored, and importing
a file twice changes nothing. A bad line is reported with its number and skipped.";

/// Records written in one go. All of them, or none, are in the store whatever happens.
const AT_ONCE: usize = 5_000;

/// Bad lines reported in full.
const REPORTED: u64 = 20;

/// Bring in CSV or NDJSON files of who did what when
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Files, or - for stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,

    /// The column with the user id
    #[arg(long, value_name = "NAME", env = "COHORTIST_USER_COLUMN", default_value = "user")]
    user_column: String,

    /// The column with the event's name
    #[arg(long, value_name = "NAME", env = "COHORTIST_EVENT_COLUMN", default_value = "event")]
    event_column: String,

    /// The column with the time
    #[arg(long, value_name = "NAME", env = "COHORTIST_TIME_COLUMN", default_value = "timestamp")]
    time_column: String,

    /// Every line is this event; no event column is needed
    #[arg(long, value_name = "NAME", env = "COHORTIST_EVENT")]
    event: Option<String>,

    /// Also mark the bitmaps of the hours, for --by hour
    #[arg(long, env = "COHORTIST_HOURLY", value_parser = FalseyValueParser::new())]
    hourly: bool,

    /// Also mark the undated bitmaps, EVENT@ever
    #[arg(long, env = "COHORTIST_EVER", value_parser = FalseyValueParser::new())]
    ever: bool,

    /// Stop at the first bad line instead of skipping it
    #[arg(long, env = "COHORTIST_STRICT", value_parser = FalseyValueParser::new())]
    strict: bool,
}

/// What to import.
pub struct Config {
    files: Vec<String>,
    columns: Columns,
    extent: Extent,
    strict: bool,
}

impl TryFrom<Args> for Config {
    type Error = Usage;

    fn try_from(args: Args) -> Result<Self, Usage> {
        if args.files.iter().filter(|file| *file == "-").count() > 1 {
            return Err(Usage("stdin (-) can be read only once".to_owned()));
        }
        Ok(Config {
            columns: Columns {
                user: args.user_column,
                event: match args.event.as_deref() {
                    Some(name) => EventFrom::Always(names::event(name)?),
                    None => EventFrom::Column(args.event_column),
                },
                time: args.time_column,
            },
            files: args.files,
            extent: Extent { hourly: args.hourly, ever: args.ever },
            strict: args.strict,
        })
    }
}

impl Config {
    pub fn run(self, store: &StoreConfig) -> anyhow::Result<()> {
        // Everything that can be known to fail fails now, before the first record is written.
        let bytes = self.files.iter().map(|file| self.check(file)).sum::<anyhow::Result<Option<u64>>>()?;
        let tracker = store.open()?;
        let mut import =
            Import { batch: tracker.batch(), waiting: 0, tally: Tally::default(), config: &self, bar: bar(bytes) };
        let result = self.files.iter().try_for_each(|file| import.file(file));
        import.bar.finish_and_clear();
        let tally = import.tally;
        match result {
            Ok(()) => {
                let mut out = Out::new();
                out.line(tally.summary(self.files.len()))?;
                out.finish()?;
                if tally.records == 0 { Err(Said.into()) } else { Ok(()) }
            }
            Err(error) if tally.records == 0 => Err(anyhow!("{error:#}. Nothing was imported")),
            Err(error) => Err(anyhow!("{error:#}. {} imported, nothing after it", were(tally.records))),
        }
    }

    /// Whether a file can be opened and has its columns; its size. Pipes cannot be read twice, so they are not tried.
    fn check(&self, file: &str) -> anyhow::Result<Option<u64>> {
        if file == "-" {
            return Ok(None);
        }
        let meta = fs::metadata(file).with_context(|| format!("cannot read {file}"))?;
        if meta.is_dir() {
            return Err(anyhow!("{file} is a directory; name the files in it"));
        }
        if !meta.is_file() {
            return Ok(None);
        }
        self.records(file, BufReader::new(open(file)?))?;
        Ok(Some(meta.len()))
    }

    fn records<R: BufRead>(&self, file: &str, reader: R) -> anyhow::Result<Records<R>> {
        Records::new(reader, Format::of_name(file), &self.columns).map_err(|problem| failed(file, problem))
    }
}

fn open(file: &str) -> anyhow::Result<Box<dyn Read>> {
    if file == "-" {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(File::open(file).with_context(|| format!("cannot read {file}"))?))
}

fn failed(file: &str, problem: Problem) -> anyhow::Error {
    let file = if file == "-" { "stdin" } else { file };
    match problem {
        Problem::File(reason) => anyhow!("{file}: {reason}"),
        Problem::Line { line, reason } => anyhow!("{file}, line {line}: {reason}"),
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

/// An import under way.
struct Import<'a> {
    config: &'a Config,
    batch: Batch<'a>,
    /// Records in the batch.
    waiting: u64,
    tally: Tally,
    bar: ProgressBar,
}

#[derive(Default)]
struct Tally {
    /// Records that are in the store.
    records: u64,
    users: Seen,
    events: BTreeSet<EventName>,
    skipped: u64,
}

impl Import<'_> {
    fn file(&mut self, file: &str) -> anyhow::Result<()> {
        let reader = BufReader::with_capacity(1 << 17, self.bar.wrap_read(open(file)?));
        let mut last: Option<EventName> = None;
        for record in self.config.records(file, reader)? {
            match record {
                Ok(Record { event, user, at }) => {
                    self.batch.mark_to(&event, user, at, self.config.extent)?;
                    self.tally.users.insert(user);
                    if last.as_ref() != Some(&event) {
                        self.tally.events.insert(event.clone());
                        last = Some(event);
                    }
                    self.waiting += 1;
                    if self.waiting == AT_ONCE as u64 {
                        self.commit()?;
                    }
                }
                Err(Problem::Line { line, reason }) if !self.config.strict => self.skip(file, line, &reason),
                Err(problem) => {
                    // What came before the bad line is imported, what comes after it is not.
                    self.commit()?;
                    return Err(failed(file, problem));
                }
            }
        }
        self.commit()
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        self.batch.commit()?;
        self.tally.records += std::mem::take(&mut self.waiting);
        Ok(())
    }

    fn skip(&mut self, file: &str, line: u64, reason: &str) {
        self.tally.skipped += 1;
        let file = if file == "-" { "stdin" } else { file };
        match self.tally.skipped {
            n if n <= REPORTED => self.say(&format!("{file}, line {line}: {reason} — skipped")),
            n if n == REPORTED + 1 => self.say("more bad lines are skipped and only counted"),
            _ => {}
        }
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| crate::cli::output::say!("{line}"));
    }
}

impl Tally {
    /// `imported 6,919 marks of 1 event by 2,357 users from 1 file, skipped 3 lines`
    fn summary(&self, files: usize) -> String {
        let skipped = match self.skipped {
            0 => String::new(),
            n => format!(", skipped {}", many(n, "line")),
        };
        let files = many(files as u64, "file");
        if self.records == 0 {
            return format!("imported nothing from {files}{skipped}");
        }
        format!(
            "imported {} of {} by {} from {files}{skipped}",
            many(self.records, "mark"),
            many(self.events.len() as u64, "event"),
            many(self.users.count, "user"),
        )
    }
}

/// Distinct users: 64 of them in a word, so that many millions take little room.
#[derive(Default)]
struct Seen {
    words: HashMap<UserId, u64>,
    count: u64,
}

impl Seen {
    fn insert(&mut self, user: UserId) {
        let word = self.words.entry(user / 64).or_default();
        let bit = 1 << (user % 64);
        self.count += u64::from(*word & bit == 0);
        *word |= bit;
    }
}

/// A bar where somebody sees it: by bytes when it is known how many there are.
fn bar(bytes: Option<u64>) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{wide_bar} {bytes} of {total_bytes}  {bytes_per_sec}, {eta} to go"),
        None => (ProgressBar::no_length(), "{spinner} {bytes} read, {bytes_per_sec}"),
    };
    bar.set_draw_target(target);
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
