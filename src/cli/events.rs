//! `cohortist events`.

use crate::cli::notes::{self, Notes};
use crate::cli::output::{Out, note};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist events                            all events
  cohortist events --starting-with country:   country:DE, country:US, …";

/// List the names of all events
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// List only names that start with this
    #[arg(
        long,
        value_name = "TEXT",
        env = "COHORTIST_STARTING_WITH",
        default_value = "",
        hide_default_value = true
    )]
    starting_with: String,
}

/// Which names to list.
pub struct Config {
    starting_with: String,
}

impl From<Args> for Config {
    fn from(args: Args) -> Self {
        Config {
            starting_with: args.starting_with,
        }
    }
}

impl Config {
    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let tracker = store.open_to_read()?;
        tracker.check_types()?;
        let names = tracker.events(&self.starting_with)?;
        let mut out = Out::new();
        for name in &names {
            out.line(name)?;
        }
        out.finish()?;
        let is_elsewhere = notes::nothing_found(&tracker)?;
        if names.is_empty() && !is_elsewhere {
            match &*self.starting_with {
                "" => note!("no events under the prefix `{}`", store.prefix()),
                start => note!("no event starts with `{}`", start.escape_debug()),
            }
        }
        let later = Notes {
            later: tracker.catalogue()?.holding_later(clock.now()),
            ..Notes::default()
        };
        later.print(&tracker, clock)?;
        notes::data_ends(&tracker, clock)
    }
}
