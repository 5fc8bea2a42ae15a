//! `cohortist delete`.

use anyhow::bail;

use crate::calendar::Period;
use crate::cli::output::{Usage, status, warn_if_unsynced};
use crate::cli::sizes::{bitmaps, estimated_size, total_size};
use crate::cli::store::StoreConfig;
use crate::cli::{names, notes};
use crate::render::many;
use crate::sets::{EventName, Key};
use crate::tracker::Tracker;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist delete old:event --dry-run            what it would delete
  cohortist delete old:event                      all bitmaps of an event
  cohortist delete active --period 2026-11-23     one bitmap, of that day
  cohortist delete premium --period ever          the undated bitmap
  cohortist delete --all --yes                    all events under the prefix

Only keys under the prefix that parse as events are deleted. Other keys in the same Redis are kept. \
The options of this command have no environment variables.";

/// Delete a bitmap, an event or all events
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Name of the event
    event: Option<String>,

    /// Delete only this period: 2026-11-23T14, 2026-11-23, 2026-W48, 2026-11 or ever
    #[arg(long, value_name = "PERIOD")]
    period: Option<String>,

    /// Delete all events under the prefix
    #[arg(long)]
    all: bool,

    /// Confirm --all
    #[arg(long)]
    yes: bool,

    /// Report what would be deleted and its size, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

pub struct Config {
    target: Target,
    dry_run: bool,
}

/// What to delete.
enum Target {
    All { confirmed: bool },
    Event(EventName),
    Bitmap(Key),
}

impl TryFrom<Args> for Config {
    type Error = Usage;

    fn try_from(args: Args) -> Result<Self, Usage> {
        Ok(Config {
            dry_run: args.dry_run,
            target: args.try_into()?,
        })
    }
}

impl TryFrom<Args> for Target {
    type Error = Usage;

    fn try_from(args: Args) -> Result<Self, Usage> {
        let event = args.event.as_deref().map(names::event).transpose()?;
        match (event, args.period.as_deref(), args.all) {
            (Some(event), None, false) => Ok(Target::Event(event)),
            (Some(event), Some("ever"), false) => Ok(Target::Bitmap(Key::ever(event))),
            (Some(event), Some(text), false) => {
                let period: Period = text
                    .parse()
                    .map_err(|error| Usage(format!("--period: {error}")))?;
                // Only years have no bitmap of their own.
                Key::new(event, period)
                    .map(Target::Bitmap)
                    .map_err(|error| {
                        Usage(format!(
                            "--period {text}: {error}. Delete its months: {text}-01, {text}-02, …"
                        ))
                    })
            }
            (None, None, true) => Ok(Target::All {
                confirmed: args.yes,
            }),
            (Some(_), _, true) => Err(Usage("name an event or use --all, not both".to_owned())),
            (None, Some(_), _) => Err(Usage(
                "--period needs an event: cohortist delete EVENT --period PERIOD".to_owned(),
            )),
            (None, None, false) => Err(Usage("name an event, or use --all --yes".to_owned())),
        }
    }
}

impl Config {
    pub fn run(self, store: &StoreConfig) -> anyhow::Result<()> {
        if self.dry_run {
            return self.target.report(&store.open_to_read()?);
        }
        if let Target::All { confirmed: false } = self.target {
            return Err(Usage(format!(
                "this would delete all events under the prefix `{}` in {}: add --yes to confirm",
                store.prefix(),
                store.display()
            ))
            .into());
        }
        self.target.delete(&store.open_to_read()?, store.prefix())
    }
}

impl Target {
    /// Reports what would be deleted, and how much space it takes.
    fn report(&self, tracker: &Tracker) -> anyhow::Result<()> {
        let (count, bytes) = tracker.of_listed(|| {
            let keys = self.keys(tracker)?;
            Ok((keys.len() as u64, total_size(tracker, &keys)?))
        })?;
        if count == 0
            && let Some(event) = self.event()
        {
            return nothing_to_delete(tracker, event);
        }
        status!(
            "{} would be deleted, {}; nothing was deleted",
            many(count, "bitmap"),
            estimated_size(bytes)
        );
        if count == 0 {
            notes::nothing_found(tracker)?;
        }
        Ok(())
    }

    fn delete(&self, tracker: &Tracker, prefix: &str) -> anyhow::Result<()> {
        let deleted = warn_if_unsynced(match self {
            Target::All { .. } => tracker.delete_all(),
            Target::Event(event) => tracker.delete_event(event),
            Target::Bitmap(key) => tracker.delete(key).map(u64::from),
        })?;
        let bitmaps = bitmaps(deleted);
        match self.event() {
            None => {
                status!("deleted {bitmaps}: all events under the prefix `{prefix}`");
                if deleted == Some(0) {
                    notes::nothing_found(tracker)?;
                }
            }
            Some(event) if deleted == Some(0) => return nothing_to_delete(tracker, event),
            Some(event) => status!("deleted {bitmaps} of `{event}`"),
        }
        Ok(())
    }

    fn event(&self) -> Option<&EventName> {
        match self {
            Target::All { .. } => None,
            Target::Event(event) => Some(event),
            Target::Bitmap(key) => Some(key.event()),
        }
    }

    /// The keys of the bitmaps to delete.
    fn keys(&self, tracker: &Tracker) -> crate::Result<Vec<Key>> {
        let start = self.event().map_or("", EventName::as_str);
        let mut keys = tracker.keys(start)?;
        keys.retain(|key| match self {
            Target::All { .. } => true,
            Target::Event(event) => key.event() == event,
            Target::Bitmap(bitmap) => key.plain() == *bitmap,
        });
        Ok(keys)
    }
}

/// The error if an event has no bitmap to delete. It contains similar names if there is no such
/// event.
fn nothing_to_delete(tracker: &Tracker, event: &EventName) -> anyhow::Result<()> {
    notes::nothing_found(tracker)?;
    let known = tracker.events("")?;
    if known.contains(event) {
        bail!("nothing to delete: there is no bitmap of `{event}` in that period");
    }
    bail!(
        "nothing to delete: there is no event `{event}`{}",
        names::hint(event, &known)
    );
}
