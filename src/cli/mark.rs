//! `cohortist mark` and `cohortist unmark`.

use chrono::{DateTime, Utc};
use clap::builder::FalseyValueParser;

use crate::calendar::parse_moment;
use crate::cli::names;
use crate::cli::output::{Usage, say, written};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::render::many;
use crate::sets::{EventName, parse_numeric_id, parse_string_id};
use crate::store::StoreError;
use crate::tracker::{Error, Extent, Ids, Tracker};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist mark active 123                        user 123 is active now
  cohortist mark signup 7 8 9 --at 2026-11-20      three users at once, on that day
  cohortist mark premium 123 --ever                and in the undated bitmap, `premium@ever`
  cohortist mark song:played 123 --hourly          and in the bitmap of the hour, for --by hour
  cohortist --ids map mark active ann@example.com  a new store whose users are texts

All users of one command are recorded together, or none. Marking twice is the same as once.";

const UNMARK_EXAMPLES: &str = "\
EXAMPLES
  cohortist unmark active 123                      not today after all
  cohortist unmark signup 7 8 --at 2026-11-20      not on that day
  cohortist unmark premium 123 --ever              out of the undated bitmap as well

The day, week and month of the moment are cleared, even if the user did it on another day of that week or month.";

/// Record that users did something
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The event's name, such as active or song:played
    event: String,

    /// User ids: whole numbers from 0 to 4294967295, or texts with --ids map
    #[arg(required = true, value_name = "USER", allow_negative_numbers = true)]
    users: Vec<String>,

    /// When it happened [default: now]
    #[arg(long, value_name = "TIME", env = "COHORTIST_AT", value_parser = parse_moment)]
    at: Option<DateTime<Utc>>,

    /// Also in the bitmap of the hour
    #[arg(long, env = "COHORTIST_HOURLY", value_parser = FalseyValueParser::new())]
    hourly: bool,

    /// Also in the undated bitmap, EVENT@ever
    #[arg(long, env = "COHORTIST_EVER", value_parser = FalseyValueParser::new())]
    ever: bool,
}

/// Take back that users did something
#[derive(Debug, clap::Args)]
#[command(after_help = UNMARK_EXAMPLES)]
pub struct UnmarkArgs {
    /// The event's name, such as active or song:played
    event: String,

    /// User ids: whole numbers from 0 to 4294967295, or texts with --ids map
    #[arg(required = true, value_name = "USER", allow_negative_numbers = true)]
    users: Vec<String>,

    /// The moment whose day, week and month are cleared [default: now]
    #[arg(long, value_name = "TIME", env = "COHORTIST_AT", value_parser = parse_moment)]
    at: Option<DateTime<Utc>>,

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
    at: Option<DateTime<Utc>>,
    extent: Extent,
    value: bool,
}

impl TryFrom<Args> for Config {
    type Error = Usage;

    fn try_from(args: Args) -> Result<Self, Usage> {
        let Args {
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
            extent: Extent { hourly, ever },
            value: false,
        })
    }
}

impl Config {
    /// No store is made for the sake of a user there cannot be in a new one.
    fn open(&self, store: &StoreConfig) -> anyhow::Result<Tracker> {
        let slip = self.users.iter().find_map(|text| match store.ids() {
            Some(Ids::Strings) => parse_string_id(text).err(),
            _ => parse_numeric_id(text.as_bytes()).err(),
        });
        match slip {
            None => store.open(),
            Some(slip) => store
                .open_to_read()
                .map_err(|error| match error.downcast_ref() {
                    Some(StoreError::Missing(_)) => Usage(slip.to_string()).into(),
                    _ => error,
                }),
        }
    }

    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let at = self.at.unwrap_or_else(|| clock.now());
        let tracker = self.open(store)?;
        let called: Vec<&str> = self.users.iter().map(String::as_str).collect();
        let refused = |error: Error| match error {
            Error::Ids(error) => anyhow::Error::from(Usage(error.to_string())),
            error => error.into(),
        };
        let mut batch = tracker.batch();
        let mut known = self.users.len() as u64;
        if self.value {
            for user in tracker.assign(&called).map_err(refused)? {
                batch.mark_to(&self.event, user, at, self.extent)?;
            }
        } else {
            for (user, name) in tracker
                .users(&called)
                .map_err(refused)?
                .into_iter()
                .zip(&called)
            {
                match user {
                    Some(user) => {
                        batch.unmark_to(&self.event, user, at, self.extent)?;
                    }
                    None => {
                        known -= 1;
                        say!("note: nobody here is called {name}");
                    }
                }
            }
        }
        written(batch.commit())?;
        let done = if self.value { "marked" } else { "unmarked" };
        let users = many(known, "user");
        say!(
            "{done} `{}` for {users} at {} UTC",
            self.event,
            at.format("%Y-%m-%d %H:%M:%S")
        );
        Ok(())
    }
}
