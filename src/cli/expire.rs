//! `cohortist expire`.

use std::time::Duration;

use anyhow::bail;
use chrono::TimeDelta;
use indicatif::HumanBytes;

use crate::calendar::Grain;
use crate::cli::delete;
use crate::cli::notes;
use crate::cli::output::{Out, Usage, say, written};
use crate::cli::store::{Named, StoreConfig};
use crate::clock::Clock;
use crate::render::{many, thousands};
use crate::reports::expiry::{self, ExpiryPolicy};
use crate::tracker::Error;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist expire --hours 30d --days 400d           what would go, and how much room it takes: nothing is deleted
  cohortist expire --hours 30d --days 400d --yes     delete it
  cohortist expire --hours 2w --yes                  hours alone; days, weeks and months stay
  cohortist expire --days 400d --yes --even-the-newest   also when everything is that old; refused otherwise, because
                                                     the clock may be wrong
  cohortist expire                                   what would go by [expire] of cohortist.toml

A bitmap goes when its period ended that long ago: --days 400d deletes the bitmaps of days that ended 400 days ago or
earlier. Weeks and months are bitmaps of their own, so tables by week and month stay whole when days go; a year is made of
its months. Undated bitmaps (NAME@ever) stay for good. Beside a running `serve --resp` give its URL with --store.

With [expire] in the configuration `serve` does it every night. A flag here stands in place of all of [expire].";

/// Delete bitmaps of periods long ago
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// How long bitmaps of hours are kept: 30d, 2w, 36h
    #[arg(long, value_name = "SPAN", value_parser = span)]
    hours: Option<TimeDelta>,

    /// How long those of days are kept: 400d, 2y
    #[arg(long, value_name = "SPAN", value_parser = span)]
    days: Option<TimeDelta>,

    /// How long those of weeks are kept
    #[arg(long, value_name = "SPAN", value_parser = span)]
    weeks: Option<TimeDelta>,

    /// How long those of months are kept
    #[arg(long, value_name = "SPAN", value_parser = span)]
    months: Option<TimeDelta>,

    /// Delete them; without it, only say what would go
    #[arg(long)]
    yes: bool,

    /// Delete even when the newest bitmap is old enough to go; without it, that is taken for a
    /// wrong clock
    #[arg(long)]
    even_the_newest: bool,
}

/// A span of at least an hour. A slip such as `30` or `30m` must not delete everything.
pub(super) fn span(text: &str) -> Result<TimeDelta, String> {
    let told = || "write a span of at least an hour, such as 36h, 30d, 2w or 1y".to_owned();
    let span: Duration = humantime::parse_duration(text).map_err(|_| told())?;
    TimeDelta::from_std(span)
        .ok()
        .filter(|span| *span >= TimeDelta::hours(1))
        .ok_or_else(told)
}

/// For how long a configuration keeps what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expiry {
    pub policy: ExpiryPolicy,
    /// As it was written: `hours 30d, days 400d`.
    pub words: String,
}

/// What to keep for how long.
pub struct Config {
    policy: ExpiryPolicy,
    /// What of the configuration it is, if it is that.
    configured: Option<String>,
    yes: bool,
    even_the_newest: bool,
}

impl Config {
    /// The flags say how long, or else the configuration; never some of it by one and some by the
    /// other, as whoever names the hours alone means nothing else to go.
    pub fn new(args: Args, store: &Named) -> Result<Self, Usage> {
        let flags = ExpiryPolicy {
            hours: args.hours,
            days: args.days,
            weeks: args.weeks,
            months: args.months,
        };
        let Expiry {
            policy: configured,
            words,
        } = &store.expire;
        let (yes, even_the_newest) = (args.yes, args.even_the_newest);
        if !flags.is_for_good() {
            return Ok(Config {
                policy: flags,
                configured: None,
                yes,
                even_the_newest,
            });
        }
        if configured.is_for_good() {
            return Err(Usage(
                "how long shall what be kept? Say --hours 30d, --days 400d, --weeks or --months, or in the configuration [expire]"
                    .to_owned(),
            ));
        }
        if store.read_only {
            return Err(Usage(format!(
                "the configuration says that {} is read-only, so nothing of it goes by [expire]; to delete none the less say how long: --hours 30d, --days 400d",
                store.called()
            )));
        }
        Ok(Config {
            policy: *configured,
            configured: Some(words.clone()),
            yes,
            even_the_newest,
        })
    }

    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let now = clock.now();
        let tracker = store.open_to_read()?;
        if let Some(words) = &self.configured {
            say!("by the configuration: {words}");
        }
        if self.yes {
            let deleted = tracker.of_listed(|| {
                let keys = match tracker.due(&self.policy, now) {
                    Err(Error::NewestIsOver { .. }) if self.even_the_newest => {
                        tracker.over(&self.policy, now)?
                    }
                    keys => keys?,
                };
                if keys.is_empty() {
                    Ok(0)
                } else {
                    tracker.delete_keys(&keys)
                }
            });
            if let Err(error @ Error::NewestIsOver { .. }) = deleted {
                bail!("{error}. If it is, add --even-the-newest")
            }
            let deleted = written(deleted)?;
            say!("deleted {}", delete::bitmaps(deleted));
            if deleted == Some(0) {
                notes::nothing_found(&tracker)?;
            }
            return Ok(());
        }
        let (count, kinds) = tracker.of_listed(|| {
            let keys = tracker.over(&self.policy, now)?;
            let sizes = tracker.sizes(&keys)?;
            Ok((keys.len(), expiry::sum(keys.iter().zip(sizes))))
        })?;
        let mut out = Out::new();
        for over in kinds {
            out.line(format_args!(
                "{:<6} {:>9}  {:<18}  {} to {}",
                plural(over.grain),
                thousands(over.count),
                room(over.bytes),
                over.first.label(),
                over.last.label()
            ))?;
        }
        out.finish()?;
        match count {
            0 => {
                say!("nothing has been kept that long");
                notes::nothing_found(&tracker)?;
            }
            count => {
                say!(
                    "{} would go; nothing was deleted: add --yes to do it",
                    many(count as u64, "bitmap")
                );
                if let Err(error @ Error::NewestIsOver { .. }) = tracker.due(&self.policy, now) {
                    say!("warning: {error}. If it is, --yes also needs --even-the-newest");
                }
            }
        }
        Ok(())
    }
}

/// How much room bitmaps take.
pub(super) fn room(bytes: Option<u64>) -> String {
    bytes.map_or("of unknown size".to_owned(), |bytes| {
        format!("about {}", HumanBytes(bytes))
    })
}

pub(super) fn plural(grain: Grain) -> &'static str {
    match grain {
        Grain::Hour => "hours",
        Grain::Day => "days",
        Grain::Week => "weeks",
        Grain::Month => "months",
        Grain::Year => "years",
    }
}
