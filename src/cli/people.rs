//! `cohortist people`.

use crate::cli::count;
use crate::cli::output::{Out, Usage};
use crate::cli::store::StoreConfig;
use crate::sets::{Segments, Set, UserId};

/// How many users are fetched at once.
const AT_ONCE: usize = 10_000;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist people active@2026-11-23                          who was active that day
  cohortist people 'signup@2026-11-20 & active@2026-11-23'    a cell of a retention table, by name
  cohortist people 'active@2026-10 & !active@2026-11'         who was lost
  cohortist people active@2026-11 | head                      the ten smallest ids";

/// List the users in a set, one id a line, in ascending order; text ids in that of when they were first met
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
        let mut members = tracker.members(&self.set);
        loop {
            let users = members.by_ref().take(AT_ONCE).collect::<crate::Result<Vec<UserId>>>()?;
            tracker.called(&users)?.iter().try_for_each(|name| out.line(name))?;
            if users.len() < AT_ONCE {
                break;
            }
        }
        Ok(out.finish()?)
    }
}
