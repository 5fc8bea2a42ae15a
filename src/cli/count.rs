//! `cohortist count`.

use crate::cli::names;
use crate::cli::output::{Out, Usage};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::sets::{EventName, Plan, Segments, Set, parse_set};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist count active@2026-11-23                  a day
  cohortist count active@2026-W48 active@2026-11     a week, and a month
  cohortist count active@2026 active@2026-11-23T14   a year, and an hour
  cohortist count plan:pro@ever                      the undated bitmap
  cohortist count '\"a|b\"@2026-11'                  a name that needs quotes
  cohortist count '(active & search:used)@2026-11 & !plan:pro@ever'

The operators are & (and), | (or), ^ (either, but not both) and & ! (and not). One set prints a \
number. Several sets print a line each: the number, a tab and the set.";

/// Count the users in sets
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Sets of users: EVENT@PERIOD, combined with &, |, ^ and & !
    #[arg(required = true, value_name = "SET")]
    sets: Vec<String>,
}

/// The sets to count, each with its text.
pub struct Config {
    sets: Vec<(String, Set)>,
}

/// Parses a set. An error points at its column.
pub(super) fn set(text: &str, saved: &Segments) -> Result<Set, Usage> {
    parse_set(text, saved).map_err(|error| Usage::in_text("SET", text, &error))
}

impl Config {
    pub fn new(args: Args, saved: &Segments) -> Result<Self, Usage> {
        let sets = args
            .sets
            .into_iter()
            .map(|text| set(&text, saved).map(|set| (text, set)));
        let sets: Vec<(String, Set)> = sets.collect::<Result<_, _>>()?;
        // Sets that are each small enough may be too large together.
        let mut plan = Plan::new();
        for (_, set) in &sets {
            plan.count_set(set)
                .map_err(|error| Usage(error.to_string()))?;
        }
        Ok(Config { sets })
    }

    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let tracker = store.open_to_read()?;
        let counts = tracker.counts(self.sets.iter().map(|(_, set)| set))?;
        let mut out = Out::new();
        for (count, (text, _)) in counts.iter().zip(&self.sets) {
            match self.sets.len() {
                1 => out.line(count)?,
                _ => out.line(format_args!("{count}\t{text}"))?,
            }
        }
        out.finish()?;
        // A count of 0 may be due to a misspelt name.
        let empty = counts
            .iter()
            .zip(&self.sets)
            .filter(|(count, _)| **count == 0);
        let names: Vec<&EventName> = empty
            .flat_map(|(_, (_, set))| set.keys())
            .map(|key| key.event())
            .collect();
        names::note_never_recorded(&tracker, names)?;
        names::note_unrecorded(
            &tracker,
            clock,
            self.sets.iter().map(|(text, _)| text.as_str()).zip(counts),
        )
    }
}
