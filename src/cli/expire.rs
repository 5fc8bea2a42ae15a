//! `cohortist expire`.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use clap::builder::FalseyValueParser;
use indicatif::HumanBytes;

use crate::calendar::Grain;
use crate::cli::output::{Out, Usage, say};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::render::{many, thousands};
use crate::reports::keeping::Keeping;
use crate::sets::{Key, When};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist expire --hours 30d --days 400d           what would go, and how much room it takes: nothing is deleted
  cohortist expire --hours 30d --days 400d --yes     delete it
  cohortist expire --hours 2w --yes                  hours alone; days, weeks and months stay

A bitmap goes when its period ended that long ago: --days 400d deletes the bitmaps of days that ended 400 days ago or
earlier. Weeks and months are bitmaps of their own, so tables by week and month stay whole when days go; a year is made of
its months. Undated bitmaps (NAME@ever) stay for good. Beside a running `serve --resp` give its URL with --store.";

/// Delete bitmaps of periods long ago
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// How long bitmaps of hours are kept: 30d, 2w, 36h
    #[arg(long, value_name = "SPAN", env = "COHORTIST_HOURS", value_parser = span)]
    hours: Option<TimeDelta>,

    /// How long those of days are kept: 400d, 2y
    #[arg(long, value_name = "SPAN", env = "COHORTIST_DAYS", value_parser = span)]
    days: Option<TimeDelta>,

    /// How long those of weeks are kept
    #[arg(long, value_name = "SPAN", env = "COHORTIST_WEEKS", value_parser = span)]
    weeks: Option<TimeDelta>,

    /// How long those of months are kept
    #[arg(long, value_name = "SPAN", env = "COHORTIST_MONTHS", value_parser = span)]
    months: Option<TimeDelta>,

    /// Delete them; without it, only say what would go
    #[arg(long, env = "COHORTIST_YES", value_parser = FalseyValueParser::new())]
    yes: bool,
}

/// A span of at least an hour. A slip such as `30` or `30m` must not delete everything.
pub(super) fn span(text: &str) -> Result<TimeDelta, String> {
    let told = || "write a span of at least an hour, such as 36h, 30d, 2w or 1y".to_owned();
    let span: Duration = humantime::parse_duration(text).map_err(|_| told())?;
    TimeDelta::from_std(span).ok().filter(|span| *span >= TimeDelta::hours(1)).ok_or_else(told)
}

/// What to keep for how long.
pub struct Config {
    keeping: Keeping,
    yes: bool,
}

impl TryFrom<Args> for Config {
    type Error = Usage;

    fn try_from(args: Args) -> Result<Self, Usage> {
        let keeping = Keeping { hours: args.hours, days: args.days, weeks: args.weeks, months: args.months };
        if keeping.is_for_good() {
            return Err(Usage(
                "how long shall what be kept? Say --hours 30d, --days 400d, --weeks or --months".to_owned(),
            ));
        }
        Ok(Config { keeping, yes: args.yes })
    }
}

impl Config {
    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let now = clock.now();
        let tracker = store.open_to_read()?;
        if self.yes {
            let deleted = tracker.expire(&self.keeping, now)?;
            say!("deleted {}", many(deleted, "bitmap"));
            return Ok(());
        }
        let keys = tracker.over(&self.keeping, now)?;
        let sizes = tracker.store().sizes(&keys)?;
        let mut out = Out::new();
        let mut groups: BTreeMap<Grain, Vec<(&Key, Option<u64>)>> = BTreeMap::new();
        for (key, size) in keys.iter().zip(sizes) {
            if let When::In(period) = key.when() {
                groups.entry(period.grain()).or_default().push((key, size));
            }
        }
        for (grain, group) in &groups {
            let periods = group.iter().filter_map(|(key, _)| match key.when() {
                When::In(period) => Some(period),
                When::Ever => None,
            });
            let (first, last) = (periods.clone().min(), periods.max());
            let (Some(first), Some(last)) = (first, last) else { continue };
            // Where one size is not known, the sum is not either.
            let bytes: Option<u64> = group.iter().map(|(_, size)| *size).sum();
            let bytes = bytes.map_or("of unknown size".to_owned(), |bytes| format!("about {}", HumanBytes(bytes)));
            let count = thousands(group.len() as u64);
            out.line(format_args!(
                "{:<6} {count:>9}  {bytes:<18}  {} to {}",
                plural(*grain),
                first.label(),
                last.label()
            ))?;
        }
        out.finish()?;
        match keys.len() {
            0 => say!("nothing has been kept that long"),
            count => say!("{} would go; nothing was deleted: add --yes to do it", many(count as u64, "bitmap")),
        }
        Ok(())
    }
}

fn plural(grain: Grain) -> &'static str {
    match grain {
        Grain::Hour => "hours",
        Grain::Day => "days",
        Grain::Week => "weeks",
        Grain::Month => "months",
        Grain::Year => "years",
    }
}
