//! `cohortist count`.

use std::sync::Arc;

use crate::calendar::Zone;
use crate::cli::notes::{Notes, SetCount};
use crate::cli::output::{Out, Usage};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::sets::{Plan, Segments, Set, SetContext, parse_set, set_reads_catalogue};
use crate::tracker::Tracker;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist count active@2026-11-23                  a day
  cohortist count active@2026-W48 active@2026-11     a week, and a month
  cohortist count active@2026 active@2026-11-23T14   a year, and an hour
  cohortist count plan:pro@ever                      the undated bitmap
  cohortist count '\"a|b\"@2026-11'                  a name that needs quotes
  cohortist count '(active & search:used)@2026-11 & !plan:pro@ever'

The operators are & (and), | (or), ^ (either, but not both) and & ! (and not). One set prints a \
number. Several sets print a line each: the number, a tab and the set. A `-` means that the store \
has no data for the set.";

/// Count the users in sets
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Sets of users: EVENT@PERIOD, combined with &, |, ^ and & !
    #[arg(required = true, value_name = "SET")]
    sets: Vec<String>,

    #[command(flatten)]
    zone: ZoneArg,
}

/// The zone of the periods in sets.
#[derive(Debug, clap::Args)]
pub(super) struct ZoneArg {
    /// The time zone in which periods begin and end, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", env = "COHORTIST_ZONE")]
    pub(super) zone: Option<Zone>,
}

/// The sets to count, each with its text.
pub struct Config {
    sets: Vec<String>,
    zone: SetZone,
}

/// The zone of the periods in sets: the one that was given, or the usual one.
pub(super) struct SetZone {
    given: Option<Zone>,
    usual: Zone,
}

impl SetZone {
    pub(super) fn new(given: ZoneArg, usual: Zone) -> Self {
        SetZone {
            given: given.zone,
            usual,
        }
    }

    /// The zone, as far as it is known without the store.
    pub(super) fn named(&self) -> Zone {
        self.given.unwrap_or(self.usual)
    }

    /// The zone by which the store counts.
    pub(super) fn of(&self, tracker: &Tracker) -> crate::Result<Zone> {
        let usual = tracker.own_zone(self.usual)?;
        tracker.in_zone(self.given.unwrap_or(usual))
    }
}

/// Checks the text of a set as far as that is possible without a store. An error points at its
/// column.
pub(super) fn checked(text: &str, zone: Zone, saved: &Segments) -> Result<Set, Usage> {
    let context = SetContext {
        segments: saved,
        zone,
        ..SetContext::empty()
    };
    parse_set(text, context).map_err(|error| Usage::in_text("SET", text, &error))
}

/// Parses a set. Only functions and patterns need the store's list of bitmaps.
pub(super) fn set(text: &str, zone: Zone, tracker: &Tracker) -> anyhow::Result<Set> {
    let in_text = |error| Usage::in_text("SET", text, &error);
    let catalogue = match set_reads_catalogue(text, tracker.segments()).map_err(in_text)? {
        true => tracker.catalogue()?,
        false => Arc::default(),
    };
    let context = SetContext {
        segments: tracker.segments(),
        catalogue: &catalogue,
        hidden: &[],
        zone,
    };
    Ok(parse_set(text, context).map_err(in_text)?)
}

impl Config {
    pub fn new(args: Args, zone: Zone, saved: &Segments) -> Result<Self, Usage> {
        let zone = SetZone::new(args.zone, zone);
        let mut plan = Plan::new();
        for text in &args.sets {
            let set = checked(text, zone.named(), saved)?;
            // Each may be short enough, and all together too long.
            plan.count_set(&set)
                .map_err(|error| Usage(error.to_string()))?;
        }
        Ok(Config {
            sets: args.sets,
            zone,
        })
    }

    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let tracker = store.open_to_read()?;
        let zone = self.zone.of(&tracker)?;
        let sets = self
            .sets
            .iter()
            .map(|text| Ok((text, set(text, zone, &tracker)?)));
        let sets: Vec<(&String, Set)> = sets.collect::<anyhow::Result<_>>()?;
        let counts = tracker.counts(sets.iter().map(|(_, set)| set))?;
        let counted = sets.iter().zip(&counts);
        let counted = counted.map(|((text, set), count)| (text.as_str(), set, *count));
        let sets = SetCount::all(&tracker, clock, zone, counted)?;
        let mut out = Out::new();
        for set in &sets {
            // A number would be wrong.
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
        notes.print(&tracker, clock)
    }
}
