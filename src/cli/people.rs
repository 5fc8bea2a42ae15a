//! `cohortist people`.

use crate::cli::count;
use crate::cli::output::{Out, Usage};
use crate::cli::store::StoreConfig;
use crate::sets::{Segments, Set};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist people active@2026-11-23                          who was active that day
  cohortist people 'signup@2026-11-20 & active@2026-11-23'    a cell of a retention table, by name
  cohortist people 'active@2026-10 & !active@2026-11'         who was lost
  cohortist people active@2026-11 | head                      the ten smallest ids";

/// List the users in a set, one id a line, in ascending order
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A set of users: EVENT@PERIOD, joined by & | ^ and & !
    set: String,
}

/// Whom to list.
pub struct Config {
    set: Set,
}

impl Config {
    pub fn new(args: Args, saved: &Segments) -> Result<Self, Usage> {
        Ok(Config { set: count::set(&args.set, saved)? })
    }

    pub fn run(self, store: &StoreConfig) -> anyhow::Result<()> {
        let tracker = store.open_to_read()?;
        let mut out = Out::new();
        for user in tracker.members(&self.set) {
            out.line(user?)?;
        }
        Ok(out.finish()?)
    }
}
