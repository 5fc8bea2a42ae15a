//! `cohortist delete`.

use anyhow::bail;

use crate::calendar::Period;
use crate::cli::expire::room;
use crate::cli::output::{Usage, say, written};
use crate::cli::store::StoreConfig;
use crate::cli::{names, notes};
use crate::render::many;
use crate::sets::{EventName, Key};
use crate::tracker::Tracker;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist delete old:event                       every bitmap of one event
  cohortist delete active --period 2026-11-23      one bitmap: of that day, and of nothing else
  cohortist delete premium --period ever           the undated bitmap
  cohortist delete --all --yes                     every event under the prefix
  cohortist delete old:event --dry-run             what that would delete, and how much space it takes

Only keys that read as events under the prefix are deleted; all others in the same Redis are left alone.
What to delete is read from the command line alone: these options have no environment variables.";

/// Delete bitmaps: one, all of an event, or all
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The event's name
    event: Option<String>,

    /// Only the bitmap of this period: 2026-11-23T14, 2026-11-23, 2026-W48, 2026-11, or ever
    #[arg(long, value_name = "PERIOD")]
    period: Option<String>,

    /// Every event under the prefix
    #[arg(long)]
    all: bool,

    /// Confirm --all
    #[arg(long)]
    yes: bool,

    /// Report what would be deleted and how many bytes that frees, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

/// What to delete.
pub struct Config {
    what: What,
    dry_run: bool,
}

enum What {
    All { confirmed: bool },
    Event(EventName),
    One(Key),
}

impl TryFrom<Args> for Config {
    type Error = Usage;

    fn try_from(args: Args) -> Result<Self, Usage> {
        let event = args.event.as_deref().map(names::event).transpose()?;
        let what = match (event, args.period.as_deref(), args.all) {
            (Some(event), None, false) => Ok(What::Event(event)),
            (Some(event), Some("ever"), false) => Ok(What::One(Key::ever(event))),
            (Some(event), Some(period), false) => {
                let period: Period = period
                    .parse()
                    .map_err(|error| Usage(format!("--period: {error}")))?;
                Key::new(event, period).map(What::One).map_err(|error| {
                    Usage(format!(
                        "--period {period}: {error}. Delete those: {period}-01, {period}-02, …"
                    ))
                })
            }
            (None, None, true) => Ok(What::All {
                confirmed: args.yes,
            }),
            (Some(_), _, true) => Err(Usage("name an event or say --all, not both".to_owned())),
            (None, Some(_), _) => Err(Usage(
                "--period needs an event: cohortist delete EVENT --period P".to_owned(),
            )),
            (None, None, false) => Err(Usage(
                "what shall be deleted? Name an event, or say --all --yes for every one".to_owned(),
            )),
        };
        Ok(Config {
            what: what?,
            dry_run: args.dry_run,
        })
    }
}

impl Config {
    pub fn run(self, store: &StoreConfig) -> anyhow::Result<()> {
        if self.dry_run {
            return self.what.report(store);
        }
        match self.what {
            What::All { confirmed: false } => {
                let prefix = store.prefix();
                Err(Usage(format!(
                    "this would delete every event under the prefix `{prefix}` in {}: add --yes to do it",
                    store.shown()
                ))
                .into())
            }
            What::All { confirmed: true } => {
                let tracker = store.open_to_read()?;
                let deleted = written(tracker.delete_all())?;
                say!(
                    "deleted {}: every event under the prefix `{}`",
                    bitmaps(deleted),
                    store.prefix()
                );
                if deleted == Some(0) {
                    notes::nothing_found(&tracker)?;
                }
                Ok(())
            }
            What::Event(event) => {
                let tracker = store.open_to_read()?;
                let deleted = written(tracker.delete_event(&event))?;
                said(&tracker, &event, deleted, "")
            }
            What::One(key) => {
                let tracker = store.open_to_read()?;
                let deleted = written(tracker.delete(&key))?;
                said(
                    &tracker,
                    key.event(),
                    deleted.map(u64::from),
                    " in that period",
                )
            }
        }
    }
}

impl What {
    /// Says what would be deleted, and how much space it takes.
    fn report(self, store: &StoreConfig) -> anyhow::Result<()> {
        let tracker = store.open_to_read()?;
        let (count, bytes) = tracker.of_listed(|| {
            let mut keys = tracker.keys(self.begins_with())?;
            keys.retain(|key| self.includes(key));
            let bytes: Option<u64> = tracker.sizes(&keys)?.into_iter().sum();
            Ok((keys.len() as u64, bytes))
        })?;
        say!(
            "{} would be deleted, {}; nothing was deleted",
            many(count, "bitmap"),
            room(bytes)
        );
        if count == 0 {
            notes::nothing_found(&tracker)?;
        }
        Ok(())
    }

    fn begins_with(&self) -> &str {
        match self {
            What::All { .. } => "",
            What::Event(event) => event.as_str(),
            What::One(key) => key.event().as_str(),
        }
    }

    fn includes(&self, key: &Key) -> bool {
        match self {
            What::All { .. } => true,
            What::Event(event) => key.event() == event,
            What::One(one) => key.plain() == *one,
        }
    }
}

/// How many bitmaps were deleted; `None` where the store could not say, because the disk failed
/// when they were gone.
pub(super) fn bitmaps(deleted: Option<u64>) -> String {
    deleted.map_or_else(|| "bitmaps".to_owned(), |deleted| many(deleted, "bitmap"))
}

fn said(
    tracker: &Tracker,
    event: &EventName,
    deleted: Option<u64>,
    when: &str,
) -> anyhow::Result<()> {
    if deleted == Some(0) {
        notes::nothing_found(tracker)?;
        let known = tracker.events("")?;
        let hint = if known.contains(event) {
            String::new()
        } else {
            names::hint(event, &known)
        };
        bail!("nothing to delete: there is no bitmap of `{event}`{when}{hint}");
    }
    say!("deleted {} of `{event}`", bitmaps(deleted));
    Ok(())
}
