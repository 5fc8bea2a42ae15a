//! `cohortist expire`.

use std::cell::Cell;

use anyhow::bail;
use chrono::{DateTime, TimeDelta, Utc};

use crate::cli::expiry::{Expiry, span};
use crate::cli::notes;
use crate::cli::output::{Out, Usage, status, warn_if_unsynced, warning};
use crate::cli::sizes::{bitmaps, estimated_size, plural, total_size};
use crate::cli::store::{NamedStoreConfig, StoreConfig};
use crate::clock::Clock;
use crate::render::{many, thousands};
use crate::reports::expiry::{self, ExpiryPolicy};
use crate::tracker::{Error, Tracker};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist expire --hours 30d --days 400d          what it would delete
  cohortist expire --hours 30d --days 400d --yes    delete it
  cohortist expire --hours 2w --yes                 hours only
  cohortist expire                                  by cohortist.toml

A bitmap expires when its period ended that long ago: --days 400d deletes the bitmaps of days that \
ended at least 400 days ago. Weeks and months have their own bitmaps, so tables by week and month \
stay complete when days expire. A year consists of its months. Undated bitmaps (NAME@ever) never \
expire.

If even the newest bitmap has expired, the clock may be wrong and nothing is deleted, unless you \
add --even-the-newest.

With [expire] in the configuration, `cohortist serve` does this every night. Any flag overrides \
the whole [expire] section. While `cohortist serve --resp` runs, pass its address with --store.";

/// Delete bitmaps of periods that ended long ago
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// How long to keep the bitmaps of hours: 36h, 30d, 2w
    #[arg(long, value_name = "SPAN", value_parser = span)]
    hours: Option<TimeDelta>,

    /// How long to keep the bitmaps of days: 400d, 2y
    #[arg(long, value_name = "SPAN", value_parser = span)]
    days: Option<TimeDelta>,

    /// How long to keep the bitmaps of weeks
    #[arg(long, value_name = "SPAN", value_parser = span)]
    weeks: Option<TimeDelta>,

    /// How long to keep the bitmaps of months
    #[arg(long, value_name = "SPAN", value_parser = span)]
    months: Option<TimeDelta>,

    /// Delete; without it, only report
    #[arg(long)]
    yes: bool,

    /// Delete even if the newest bitmap has expired
    #[arg(long)]
    even_the_newest: bool,
}

pub struct Config {
    policy: ExpiryPolicy,
    /// The description of the policy if it is from the configuration.
    configured: Option<String>,
    yes: bool,
    even_the_newest: bool,
}

impl Config {
    /// Takes the policy from the flags, or from the configuration if there are none. The two are
    /// not mixed: with `--hours` alone, no days may be deleted.
    pub fn new(args: Args, store: &NamedStoreConfig) -> Result<Self, Usage> {
        let flags = ExpiryPolicy {
            hours: args.hours,
            days: args.days,
            weeks: args.weeks,
            months: args.months,
        };
        let config = Config {
            policy: flags,
            configured: None,
            yes: args.yes,
            even_the_newest: args.even_the_newest,
        };
        if !flags.is_for_good() {
            return Ok(config);
        }
        let Expiry {
            policy,
            description,
        } = &store.expire;
        if policy.is_for_good() {
            return Err(Usage(
                "use --hours 30d, --days 400d, --weeks or --months to say how long bitmaps are kept, or add [expire] to the configuration"
                    .to_owned(),
            ));
        }
        if store.read_only {
            return Err(Usage(format!(
                "the configuration makes {} read-only, so [expire] deletes nothing from it. To delete anyway, use --hours 30d, --days 400d, --weeks or --months",
                store.display()
            )));
        }
        Ok(Config {
            policy: *policy,
            configured: Some(description.clone()),
            ..config
        })
    }

    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let now = clock.now();
        let tracker = store.open_to_read()?;
        if let Some(description) = &self.configured {
            status!("from the configuration: {description}");
        }
        if self.yes {
            self.delete(&tracker, now)
        } else {
            self.report(&tracker, now)
        }
    }

    fn delete(&self, tracker: &Tracker, now: DateTime<Utc>) -> anyhow::Result<()> {
        let bytes = Cell::new(None);
        let deleted = tracker.of_listed(|| {
            let keys = match tracker.due(&self.policy, now) {
                Err(Error::NewestIsOver { .. }) if self.even_the_newest => {
                    tracker.over(&self.policy, now)?
                }
                keys => keys?,
            };
            if keys.is_empty() {
                return Ok(0);
            }
            bytes.set(total_size(tracker, &keys)?);
            tracker.delete_keys(&keys)
        });
        if let Err(error @ Error::NewestIsOver { .. }) = deleted {
            bail!("{error}. If it is, add --even-the-newest")
        }
        let deleted = warn_if_unsynced(deleted)?;
        if deleted == Some(0) {
            status!("nothing has expired");
            return notes::nothing_found(tracker).map(drop);
        }
        let size = estimated_size(bytes.get());
        status!("deleted {}, {size}", bitmaps(deleted));
        Ok(())
    }

    fn report(&self, tracker: &Tracker, now: DateTime<Utc>) -> anyhow::Result<()> {
        let (count, kinds) = tracker.of_listed(|| {
            let keys = tracker.over(&self.policy, now)?;
            let sizes = tracker.sizes(&keys)?;
            Ok((keys.len() as u64, expiry::sum(keys.iter().zip(sizes))))
        })?;
        let mut out = Out::new();
        for kind in kinds {
            out.line(format_args!(
                "{:<6} {:>9}  {:<18}  {} to {}",
                plural(kind.grain),
                thousands(kind.count),
                estimated_size(kind.bytes),
                kind.first.label(),
                kind.last.label()
            ))?;
        }
        out.finish()?;
        if count == 0 {
            status!("nothing has expired");
            return notes::nothing_found(tracker).map(drop);
        }
        status!(
            "{} would be deleted; nothing was deleted: add --yes to delete",
            many(count, "bitmap")
        );
        if let Err(error @ Error::NewestIsOver { .. }) = tracker.due(&self.policy, now) {
            warning!("{error}. If it is, --yes also needs --even-the-newest");
        }
        Ok(())
    }
}
