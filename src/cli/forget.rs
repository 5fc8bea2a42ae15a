//! `cohortist forget`.

use std::io::{self, BufRead as _};

use anyhow::Context as _;

use crate::cli::mark::usage;
use crate::cli::output::{AlreadyReported, Usage, note, status, warn_if_unsynced};
use crate::cli::store::StoreConfig;
use crate::render::many;
use crate::tracker::{Error, Tracker};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist forget 123                          clear user 123 everywhere
  cohortist forget ann@example.com --dry-run    how many bitmaps the user is in
  cohortist forget - < ids.txt                  many users, one id per line

Clears the user's bit in all bitmaps under the prefix: hours, days, weeks, months and undated ones. \
In a store with string ids the id is deleted too, and a later mark of it is that of a new user. \
Past reports change, because the user is no longer counted.

Backups keep the user. The files of an embedded store keep traces until `cohortist compact`. \
The options of this command have no environment variables.";

/// Erase users from all bitmaps, and their string ids
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// User ids, or - to read one id per line from stdin
    #[arg(required = true, value_name = "USER", allow_negative_numbers = true)]
    users: Vec<String>,

    /// Report what would be cleared, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// The number of events that the message about one user names.
const MAX_NAMED: usize = 5;

pub fn run(args: Args, store: &StoreConfig) -> anyhow::Result<()> {
    let users = if args.users == ["-"] {
        from_stdin()?
    } else {
        args.users
    };
    let tracker = store.open_to_read()?;
    let mut unknown = 0;
    for user in &users {
        let is_known = if args.dry_run {
            report(&tracker, user)
        } else {
            forget(&tracker, user)
        };
        if !is_known.map_err(usage)? {
            note!("there is no user {user}");
            unknown += 1;
        }
    }
    if unknown == users.len() {
        return Err(AlreadyReported.into());
    }
    Ok(())
}

fn from_stdin() -> anyhow::Result<Vec<String>> {
    let lines = io::stdin().lock().lines();
    let ids = lines.map(|line| Ok(line.context("cannot read stdin")?.trim().to_owned()));
    let ids: Vec<String> = ids.collect::<anyhow::Result<_>>()?;
    let ids: Vec<String> = ids.into_iter().filter(|id| !id.is_empty()).collect();
    if ids.is_empty() {
        return Err(Usage("there is no user id on stdin: write one per line".to_owned()).into());
    }
    Ok(ids)
}

/// Reports what would be cleared. Returns whether the user is known.
fn report(tracker: &Tracker, user: &str) -> Result<bool, Error> {
    let Some(number) = tracker.user(user)? else {
        return Ok(false);
    };
    let keys = tracker.bitmaps_of(number)?;
    status!(
        "user {user} is in {}; nothing was cleared",
        many(keys.len() as u64, "bitmap")
    );
    Ok(true)
}

/// Clears a user. Returns whether the user was known.
fn forget(tracker: &Tracker, user: &str) -> Result<bool, Error> {
    let Some(forgotten) = warn_if_unsynced(tracker.forget(user))? else {
        // Cleared, but not synced.
        return Ok(true);
    };
    let Some(forgotten) = forgotten else {
        return Ok(false);
    };
    let names: Vec<&str> = forgotten
        .events
        .iter()
        .map(|event| event.as_str())
        .collect();
    let named = match names.as_slice() {
        [] => String::new(),
        few if few.len() <= MAX_NAMED => format!(" of {}", few.join(", ")),
        [..] => format!(" of {} events", names.len()),
    };
    status!(
        "cleared user {user} from {}{named}{}",
        many(forgotten.bitmaps as u64, "bitmap"),
        if forgotten.string_id {
            ", and deleted the string id"
        } else {
            ""
        }
    );
    Ok(true)
}
