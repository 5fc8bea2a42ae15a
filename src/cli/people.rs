//! `cohortist people`.

use crate::cli::count;
use crate::cli::notes::{Notes, SetCount};
use crate::cli::output::{Out, Usage};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::sets::{Segments, UserId};

/// The number of users fetched in one batch.
const AT_ONCE: usize = 10_000;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist people active@2026-11-23                         active on a day
  cohortist people 'signup@2026-11-20 & active@2026-11-23'   a cell of a table
  cohortist people 'active@2026-10 & !active@2026-11'        active no more
  cohortist people active@2026-11 | head                     ten of them

Prints one id per line: numbers in ascending order, string ids in order of first appearance.";

/// List the ids of the users in a set
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A set of users: EVENT@PERIOD, combined with &, |, ^ and & !
    set: String,
}

/// The set to list.
pub struct Config {
    text: String,
}

impl Config {
    pub fn new(args: Args, saved: &Segments) -> Result<Self, Usage> {
        count::checked(&args.set, saved)?;
        Ok(Config { text: args.set })
    }

    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let tracker = store.open_to_read()?;
        let set = count::set(&self.text, &tracker)?;
        let mut out = Out::new();
        let mut members = tracker.members(&set);
        let mut count = 0;
        loop {
            let users = members
                .by_ref()
                .take(AT_ONCE)
                .collect::<crate::Result<Vec<UserId>>>()?;
            count += users.len() as u64;
            tracker
                .called(&users)?
                .iter()
                .try_for_each(|name| out.line(name))?;
            if users.len() < AT_ONCE {
                break;
            }
        }
        out.finish()?;
        let notes = Notes {
            sets: SetCount::all(&tracker, clock, [(self.text.as_str(), &set, count)])?,
            ..Notes::default()
        };
        notes.print(&tracker, clock)
    }
}
