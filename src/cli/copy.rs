//! `cohortist copy`.

mod all;
mod texts;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::builder::FalseyValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::config::File;
use crate::cli::notes;
use crate::cli::output::{Out, Usage, say, written};
use crate::cli::store::{StoreConfig, Stores};
use crate::render::{many, thousands};
use crate::sets::{Key, Prefix, Set};
use crate::store::{Mark, Options};
use crate::tracker::{Ids, Tracker};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist copy redis://localhost:6379/0 ./cohortist.db             from bitmapist's Redis into a store of its own
  cohortist copy ./cohortist.db redis://localhost:6379/0             and back
  cohortist copy redis://old:6379/0 redis://new:6379/0 --to-prefix bitmapist_
  cohortist copy redis://old:6379/0 redis-cluster://a:6379,b:6379    from one server into a cluster
  cohortist --config acme.toml copy production archive               stores of the configuration, by name
  cohortist copy redis://old:6379/0 redis://new:6379/0 --all-keys    the whole database, not events alone

Every bitmap of every event is copied and then counted on both sides; other keys are left alone, and nothing is written
to FROM. What TO holds already stays. Interrupted, run it again: what is whole is not copied twice. While FROM is still
marked, run it once more after the switch: only what changed is copied.

With --all-keys every key is copied under its own name, with the time it has to live, and compared on both sides: of any
type between two Redis; between a path and a Redis every string, and keys of other types are named as left out. A key
that TO holds otherwise stays as it is, and the copy fails at its end naming it; --overwrite puts FROM's in its place.
Temporary keys (PREFIXbitop_…) are left alone.";

/// How many bits are written in one go.
const AT_ONCE: usize = 65_536;

/// How many bitmaps are counted in one go.
const COUNTED_AT_ONCE: usize = 2_000;

/// How often bitmaps that changed on the way are copied anew.
const PASSES: usize = 3;

/// How many bitmaps a message names.
const NAMED: usize = 5;

/// Copy every event from one store into another
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The store to read: a path, redis://… or the name of a store in the configuration
    from: String,

    /// The store to write; a path that is not there is made
    to: String,

    /// What keys begin with in TO [default: as in FROM]
    #[arg(long, value_name = "PREFIX", env = "COHORTIST_TO_PREFIX")]
    to_prefix: Option<String>,

    /// Copy every key, not only the bitmaps of events
    #[arg(long, env = "COHORTIST_ALL_KEYS", value_parser = FalseyValueParser::new())]
    all_keys: bool,

    /// With --all-keys: replace keys that TO holds otherwise
    #[arg(long)]
    overwrite: bool,
}

/// From where to where.
pub struct Config {
    from: StoreConfig,
    to: StoreConfig,
    /// Every key, whoever made it.
    all: Option<all::Settings>,
}

impl Config {
    pub fn new(
        args: Args,
        file: &File,
        options: &Options,
        ids: Option<Ids>,
    ) -> Result<Self, Usage> {
        let one = |text: &str, options: &Options| {
            Ok::<_, Usage>(Stores::new(Some(text.to_owned()), None, file, options, ids)?.default)
        };
        let from = one(&args.from, options)?;
        let same_prefix = Options {
            prefix: Prefix::new(from.prefix()),
            ..options.clone()
        };
        let mut to = one(&args.to, &same_prefix)?;
        if let Some(prefix) = &args.to_prefix {
            to = to.with_prefix(Prefix::new(prefix));
        }
        if from.is_same_place(&to) {
            return Err(Usage(
                "FROM and TO are the same store: there is nothing to copy".to_owned(),
            ));
        }
        if args.overwrite && !args.all_keys {
            return Err(Usage(
                "--overwrite goes with --all-keys: users are added to bitmaps of events, and none is lost".to_owned(),
            ));
        }
        if args.all_keys && (from.is_cluster() || to.is_cluster()) {
            return Err(Usage(
                "--all-keys copies keys under their own names, and a cluster keeps bitmaps under others, in parts: leave it away, and every event is copied"
                    .to_owned(),
            ));
        }
        if args.all_keys && from.prefix() != to.prefix() {
            return Err(Usage(format!(
                "--all-keys copies keys under their own names, and events begin with `{}` in FROM and with `{}` in TO: leave out one of --all-keys and the other prefix",
                from.prefix(),
                to.prefix()
            )));
        }
        let all = args.all_keys.then_some(all::Settings {
            overwrite: args.overwrite,
        });
        Ok(Config { from, to, all })
    }

    pub fn run(self) -> anyhow::Result<()> {
        let started = Instant::now();
        if let Some(settings) = self.all {
            return all::copy(&self.from, &self.to, settings, started);
        }
        let from = self.from.open_to_read()?;
        from.check_types()?;
        let keys = from.keys("")?;
        if keys.is_empty() {
            notes::nothing_found(&from)?;
            bail!(
                "{} holds no events that begin with `{}`: nothing was copied",
                self.from.shown(),
                self.from.prefix()
            );
        }
        notes::other_prefix(&from)?;
        let to = self.to.open()?;
        let shown = self.to.shown();
        // First, as bitmaps are of numbers that mean nothing without them.
        texts::copy(&from, &to, &shown)?;
        let (mut copied, mut users) = (0, 0);
        let mut left = unlike(&from, &to, &keys)?;
        let whole = keys.len() - left.len();
        if whole > 0 {
            say!(
                "{} of {} there already",
                thousands(whole as u64),
                many(keys.len() as u64, "bitmap")
            );
        }
        for _ in 0..PASSES {
            // One that holds more than its original is not mended by copying.
            let less: Vec<Unlike> = left
                .iter()
                .filter(|unlike| unlike.copy < unlike.original)
                .cloned()
                .collect();
            if less.is_empty() {
                break;
            }
            let bar = bar(less.iter().map(|unlike| unlike.original).sum());
            for Unlike { key, .. } in &less {
                users += copy(&from, &to, key, &bar)?;
                copied += 1;
            }
            bar.finish_and_clear();
            // Who was met meanwhile may be in bitmaps already.
            texts::copy(&from, &to, &shown)?;
            let keys: Vec<Key> = left.iter().map(|unlike| unlike.key.clone()).collect();
            left = unlike(&from, &to, &keys)?;
        }
        self.verified(&left)?;
        let mut events: Vec<_> = keys.iter().map(Key::event).collect();
        events.sort_unstable();
        events.dedup();
        let called = match from.assigned()? {
            Some(next) => format!(", {} came along", many(next, "text id")),
            None => String::new(),
        };
        let mut out = Out::new();
        out.line(format_args!(
            "copied {} with {} to {} in {:.1} s; all {} of {} count the same on both sides{called}",
            many(copied, "bitmap"),
            many(users, "bit"),
            self.to.shown(),
            started.elapsed().as_secs_f64(),
            thousands(keys.len() as u64),
            many(events.len() as u64, "event"),
        ))?;
        Ok(out.finish()?)
    }

    fn verified(&self, left: &[Unlike]) -> anyhow::Result<()> {
        let named = |found: &[&Unlike]| {
            let names: Vec<String> = found
                .iter()
                .take(NAMED)
                .map(|u| format!("{} ({} of {})", u.key, u.copy, u.original))
                .collect();
            let more = if found.len() > NAMED {
                format!(" and {} more", found.len() - NAMED)
            } else {
                String::new()
            };
            format!("{}{more}", names.join(", "))
        };
        let (more, less): (Vec<&Unlike>, Vec<&Unlike>) = left
            .iter()
            .partition(|unlike| unlike.copy > unlike.original);
        if !more.is_empty() {
            bail!(
                "{} in {} hold users that {} does not have, so the copy is not equal: {}. They were there before, or were \
                 unmarked meanwhile; copy into an empty store to be sure",
                many(more.len() as u64, "bitmap"),
                self.to.shown(),
                self.from.shown(),
                named(&more)
            );
        }
        if !less.is_empty() {
            bail!(
                "{} went on changing in {} while they were copied: {}. Run this again when nothing marks there any more",
                many(less.len() as u64, "bitmap"),
                self.from.shown(),
                named(&less)
            );
        }
        Ok(())
    }
}

/// A bitmap whose counts differ.
#[derive(Debug, Clone)]
struct Unlike {
    key: Key,
    original: u64,
    copy: u64,
}

fn unlike(from: &Tracker, to: &Tracker, keys: &[Key]) -> anyhow::Result<Vec<Unlike>> {
    let mut found = Vec::new();
    for some in keys.chunks(COUNTED_AT_ONCE) {
        let sets: Vec<Set> = some.iter().cloned().map(Set::Key).collect();
        // The copy first: what is marked between the two makes it look behind, and never ahead.
        let copies = to.counts(&sets)?;
        let originals = from.counts(&sets)?;
        let counts = some.iter().zip(originals.into_iter().zip(copies));
        found.extend(counts.filter(|(_, (original, copy))| original != copy).map(
            |(key, (original, copy))| Unlike {
                key: key.clone(),
                original,
                copy,
            },
        ));
    }
    Ok(found)
}

/// Marks every user of a bitmap in the other store; returns how many there were.
fn copy(from: &Tracker, to: &Tracker, key: &Key, bar: &ProgressBar) -> anyhow::Result<u64> {
    let (mut marks, mut users) = (Vec::with_capacity(AT_ONCE), 0);
    for user in from.members(&Set::Key(key.clone())) {
        marks.push(Mark {
            key: key.clone(),
            user: user?,
            value: true,
        });
        if marks.len() == AT_ONCE {
            users += flush(to, &mut marks, bar)?;
        }
    }
    Ok(users + flush(to, &mut marks, bar)?)
}

fn flush(to: &Tracker, marks: &mut Vec<Mark>, bar: &ProgressBar) -> anyhow::Result<u64> {
    if !marks.is_empty() {
        written(to.apply(marks))?;
    }
    let users = marks.len() as u64;
    bar.inc(users);
    marks.clear();
    Ok(users)
}

fn bar(bits: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(bits), ProgressDrawTarget::hidden());
    if io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(
            "{bar:30} {human_pos}/{human_len} bits, {per_sec}, {eta} left",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}
