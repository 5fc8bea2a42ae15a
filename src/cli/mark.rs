//! `cohortist mark` and `cohortist unmark`.

use chrono::{DateTime, Utc};
use clap::builder::FalseyValueParser;

use crate::cli::names;
use crate::cli::output::{Usage, note, status, warn_if_unsynced};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::render::many;
use crate::sets::{EventName, UserId};
use crate::store::StoreError;
use crate::tracker::{Error, Extent, Ids, Tracker};
use crate::values::{TimeError, Times, Unit, event_name, numeric_id, string_id};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist mark active 123                         user 123 is active now
  cohortist mark signup 7 8 9 --at 2026-11-20       three users on that day
  cohortist mark premium 123 --ever                 also mark `premium@ever`
  cohortist mark song:played 123 --hourly           also mark the hour
  cohortist --ids map mark active ann@example.com   a new store with string ids

Either all users of a command are recorded or none. Marking twice is the same as marking once.";

const UNMARK_EXAMPLES: &str = "\
EXAMPLES
  cohortist unmark active 123                       not active today
  cohortist unmark signup 7 8 --at 2026-11-20       two users on that day
  cohortist unmark premium 123 --ever               also unmark `premium@ever`

Clears the day, the week and the month, even if the user did the same on another day of that week \
or month.";

/// Record an event for users
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Name of the event, such as active or song:played
    event: String,

    /// User ids: whole numbers from 0 to 4294967295, or strings with --ids map
    #[arg(required = true, value_name = "USER", allow_negative_numbers = true)]
    users: Vec<String>,

    /// When it happened [default: now]
    #[arg(long, value_name = "TIME", env = "COHORTIST_AT")]
    at: Option<String>,

    /// Accept times before 1990 and after next year
    #[arg(long, env = "COHORTIST_ANY_YEAR", value_parser = FalseyValueParser::new())]
    any_year: bool,

    /// Also mark the bitmap of the hour
    #[arg(long, env = "COHORTIST_HOURLY", value_parser = FalseyValueParser::new())]
    hourly: bool,

    /// Also mark the undated bitmap, EVENT@ever
    #[arg(long, env = "COHORTIST_EVER", value_parser = FalseyValueParser::new())]
    ever: bool,
}

/// Remove an event from users
#[derive(Debug, clap::Args)]
#[command(after_help = UNMARK_EXAMPLES)]
pub struct UnmarkArgs {
    /// Name of the event, such as active or song:played
    event: String,

    /// User ids: whole numbers from 0 to 4294967295, or strings with --ids map
    #[arg(required = true, value_name = "USER", allow_negative_numbers = true)]
    users: Vec<String>,

    /// The time whose day, week and month are cleared [default: now]
    #[arg(long, value_name = "TIME", env = "COHORTIST_AT")]
    at: Option<String>,

    /// Also clear the bitmap of the hour
    #[arg(long, env = "COHORTIST_HOURLY", value_parser = FalseyValueParser::new())]
    hourly: bool,

    /// Also clear the undated bitmap, EVENT@ever
    #[arg(long, env = "COHORTIST_EVER", value_parser = FalseyValueParser::new())]
    ever: bool,
}

/// What to mark or unmark.
pub struct Config {
    event: EventName,
    users: Vec<String>,
    at: Option<String>,
    any_year: bool,
    extent: Extent,
    /// Whether to mark or to unmark.
    value: bool,
}

impl TryFrom<Args> for Config {
    type Error = Usage;

    fn try_from(args: Args) -> Result<Self, Usage> {
        let Args {
            event,
            users,
            at,
            any_year,
            hourly,
            ever,
        } = args;
        Ok(Config {
            event: event_name(&event).map_err(|error| Usage(error.to_string()))?,
            users,
            at,
            any_year,
            extent: Extent { hourly, ever },
            value: true,
        })
    }
}

impl TryFrom<UnmarkArgs> for Config {
    type Error = Usage;

    fn try_from(args: UnmarkArgs) -> Result<Self, Usage> {
        let UnmarkArgs {
            event,
            users,
            at,
            hourly,
            ever,
        } = args;
        Ok(Config {
            event: names::event(&event)?,
            users,
            at,
            any_year: true,
            extent: Extent { hourly, ever },
            value: false,
        })
    }
}

impl Config {
    /// Opens the store. Creates none for a user id that a new store cannot have.
    fn open(&self, store: &StoreConfig) -> anyhow::Result<Tracker> {
        let malformed = self.users.iter().find_map(|text| match store.ids() {
            Some(Ids::Strings) => string_id(text).err(),
            _ => numeric_id(text.as_bytes()).err(),
        });
        let Some(malformed) = malformed else {
            return store.open();
        };
        store
            .open_to_read()
            .map_err(|error| match error.downcast_ref() {
                Some(StoreError::Missing(_)) => Usage(malformed.to_string()).into(),
                _ => error,
            })
    }

    /// When it happened.
    fn at(&self, clock: Clock) -> Result<DateTime<Utc>, Usage> {
        let Some(at) = &self.at else {
            return Ok(clock.now());
        };
        let times = match self.any_year {
            true => Times::default(),
            false => Times::plausible(clock.now()),
        };
        let time = times.read(at.as_bytes()).map_err(|error| {
            let flag = match error {
                TimeError::Implausible { .. } => "; --any-year accepts it",
                _ => "",
            };
            Usage(format!("--at: {error}{flag}"))
        })?;
        if let Some(unit) = time.unit.filter(|unit| *unit != Unit::Seconds) {
            note!("--at {at} was read as {unit} since 1970");
        }
        Ok(DateTime::from_timestamp(time.seconds, 0).expect("a time is in the supported years"))
    }

    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let at = self.at(clock)?;
        let tracker = self.open(store)?;
        let users = self.numbers(&tracker)?;
        let mut batch = tracker.batch();
        for user in &users {
            if self.value {
                batch.mark_to(&self.event, *user, at, self.extent)?;
            } else {
                batch.unmark_to(&self.event, *user, at, self.extent)?;
            }
        }
        warn_if_unsynced(batch.commit())?;
        status!(
            "{} `{}` for {} at {} UTC",
            if self.value { "marked" } else { "unmarked" },
            self.event,
            many(users.len() as u64, "user"),
            at.format("%Y-%m-%d %H:%M:%S")
        );
        Ok(())
    }

    /// The numbers of the users. Notes which users to unmark do not exist.
    fn numbers(&self, tracker: &Tracker) -> anyhow::Result<Vec<UserId>> {
        let ids: Vec<&str> = self.users.iter().map(String::as_str).collect();
        if self.value {
            return tracker.assign(&ids).map_err(usage);
        }
        let mut numbers = Vec::new();
        for (number, id) in tracker.users(&ids).map_err(usage)?.into_iter().zip(ids) {
            match number {
                Some(number) => numbers.push(number),
                None => note!("there is no user {id}"),
            }
        }
        Ok(numbers)
    }
}

/// A wrong user id is a mistake on the command line.
pub(super) fn usage(error: Error) -> anyhow::Error {
    match error {
        Error::Ids(error) => Usage(error.to_string()).into(),
        error => error.into(),
    }
}
