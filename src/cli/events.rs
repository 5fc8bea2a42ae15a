//! `cohortist events`.

use crate::calendar::Grain;
use crate::cli::names;
use crate::cli::output::{Out, note};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::render::words;

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
        let names = tracker.events(&self.starting_with)?;
        let mut out = Out::new();
        for name in &names {
            out.line(name)?;
        }
        out.finish()?;
        if names.is_empty() {
            match &*self.starting_with {
                "" if names::note_other_prefix(&tracker)? => {}
                "" => note!("no events under the prefix `{}`", store.prefix()),
                start => note!("no event starts with `{}`", start.escape_debug()),
            }
        }
        names::note_strays(&tracker, store.prefix());
        if let Some(end) = tracker
            .coverage(clock.now(), clock.is_given())?
            .data_ends(Grain::Day)
        {
            note!("{}", words::ends(end));
        }
        Ok(())
    }
}
