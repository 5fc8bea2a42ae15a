//! `cohortist count`.

use crate::cli::notes::{Notes, SetCount};
use crate::cli::output::{Out, Usage};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::sets::{Plan, Segments, Set, parse_set};

/// How sets are written, for the help of all commands that take one.
pub(super) const EXAMPLES: &str = "\
EXAMPLES
  cohortist count active@2026-11-23                          that day
  cohortist count active@2026-W48 active@2026-11             that week; that month
  cohortist count active@2026 active@2026-11-23T14           that year; that hour
  cohortist count plan:pro@ever                              the undated bitmap
  cohortist count '(active & search:used)@2026-11 & !plan:pro@ever'
                                                             & and, | or, ^ either, & ! and not
  cohortist count '\"a|b\"@2026-11'                            quotes for names that hold such signs

One set prints a number; several print a line each: the number, a tab, the set. A `-` means that
the store has no data.";

/// Count the users in sets
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Sets of users: EVENT@PERIOD, joined by & | ^ and & !
    #[arg(required = true, value_name = "SET")]
    sets: Vec<String>,
}

/// What to count, with its text.
pub struct Config {
    sets: Vec<(String, Set)>,
}

/// Reads a set; an error points at its column.
pub(super) fn set(text: &str, context: SetContext<'_>) -> Result<Set, Usage> {
    parse_set(text, context).map_err(|error| Usage::in_text("SET", text, &error))
}

impl Config {
    pub fn new(args: Args, saved: &Segments) -> Result<Self, Usage> {
        let sets = args
            .sets
            .into_iter()
            .map(|text| set(&text, saved).map(|set| (text, set)));
        let sets: Vec<(String, Set)> = sets.collect::<Result<_, _>>()?;
        // Each may be short enough, and all together too long.
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
        let counted = self.sets.iter().zip(&counts);
        let counted = counted.map(|((text, set), count)| (text.as_str(), set, *count));
        let sets = SetCount::all(&tracker, clock, counted)?;
        let mut out = Out::new();
        for set in &sets {
            // No number, rather than one that is wrong.
            let count = set
                .known()
                .map_or("-".to_owned(), |count| count.to_string());
            match sets.len() {
                1 => out.line(count)?,
                _ => out.line(format_args!("{count}\t{}", set.text()))?,
            }
        }
        out.finish()?;
        let notes = Notes {
            sets,
            ..Notes::default()
        };
        notes.say(&tracker, clock)
    }
}
