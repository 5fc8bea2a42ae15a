//! `cohortist mark` and `cohortist unmark`.

use chrono::{DateTime, Utc};
use clap::builder::FalseyValueParser;

use crate::calendar::parse_moment;
use crate::cli::names;
use crate::cli::output::{Usage, say};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::ingest::parse_user;
use crate::render::many;
use crate::sets::{EventName, UserId};
use crate::tracker::Extent;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist mark active 123                        user 123 is active now
  cohortist mark signup 7 8 9 --at 2026-11-20      three users at once, on that day
  cohortist mark premium 123 --ever                and in the undated bitmap, `premium@ever`
  cohortist mark song:played 123 --hourly          and in the bitmap of the hour, for --by hour

All users of one command are recorded together, or none. Marking twice is the same as once.";

pub(super) const UNMARK: &str = "Take back that users did something";

pub(super) const UNMARK_EXAMPLES: &str = "\
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

    /// User ids: whole numbers from 0 to 4294967295
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

/// What to mark or unmark.
pub struct Config {
    event: EventName,
    users: Vec<UserId>,
    at: Option<DateTime<Utc>>,
    extent: Extent,
    value: bool,
}

impl Config {
    pub fn new(args: Args, value: bool) -> Result<Self, Usage> {
        let users = args.users.iter().map(|text| parse_user(text).map_err(|reason| Usage(reason.to_string())));
        Ok(Config {
            event: names::event(&args.event)?,
            users: users.collect::<Result<_, _>>()?,
            at: args.at,
            extent: Extent { hourly: args.hourly, ever: args.ever },
            value,
        })
    }

    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let at = self.at.unwrap_or_else(|| clock.now());
        let tracker = store.open()?;
        let mut batch = tracker.batch();
        for user in &self.users {
            if self.value {
                batch.mark_to(&self.event, *user, at, self.extent)?;
            } else {
                batch.unmark_to(&self.event, *user, at, self.extent)?;
            }
        }
        batch.commit()?;
        let done = if self.value { "marked" } else { "unmarked" };
        let users = many(self.users.len() as u64, "user");
        say!("{done} `{}` for {users} at {} UTC", self.event, at.format("%Y-%m-%d %H:%M:%S"));
        Ok(())
    }
}
