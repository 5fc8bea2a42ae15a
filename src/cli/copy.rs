//! `cohortist copy`.

mod all;
mod bitmaps;
mod by_size;
mod mismatch;
mod progress;
mod string_ids;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::bail;
use clap::builder::FalseyValueParser;
use indicatif::ProgressBar;

use self::bitmaps::{Copier, Side};
use self::mismatch::Mismatch;
use self::progress::{list, visible_in_terminal};
use crate::calendar::Zone;
use crate::cli::config::File;
use crate::cli::notes;
use crate::cli::output::{Out, Usage, status};
use crate::cli::store::{StoreConfig, Stores};
use crate::render::{many, thousands};
use crate::sets::{Key, Prefix, Set};
use crate::store::Options;
use crate::tracker::{Ids, Tracker};

const EXAMPLES: &str = "\
EXAMPLES
  # bitmapist's data from Redis to a path, and back
  cohortist copy redis://localhost:6379/0 ./cohortist.db
  cohortist copy ./cohortist.db redis://localhost:6379/0
  # to another server, with another prefix
  cohortist copy redis://old:6379/0 redis://new:6379/0 --to-prefix bitmapist_
  # to a Redis Cluster
  cohortist copy redis://old:6379/0 redis-cluster://a:6379,b:6379
  # between stores in the configuration
  cohortist --config acme.toml copy production archive
  # the whole database, not only events
  cohortist copy redis://old:6379/0 redis://new:6379/0 --all-keys

Copies all bitmaps of all events, then compares the counts on both sides. Writes nothing to FROM \
and deletes nothing in TO. Other keys are not copied. If it is interrupted, run it again: complete \
bitmaps are not copied twice. If events are still recorded in FROM, switch to TO, then run it once \
more: only what changed is copied.

With --all-keys, every key is copied under its own name with its expiry, and its value is compared \
on both sides. Between two Redis servers this includes all types. Between a path and Redis it \
includes only strings, and other keys are listed. If a key has another value in TO, it is kept and \
the copy fails in the end; with --overwrite, it is replaced. Temporary keys (PREFIXbitop_…) are not \
copied.";

/// The number of bitmaps counted in one batch.
const BATCH_COUNTS: usize = 2_000;

/// How often bitmaps that changed while they were copied are copied again.
const PASSES: usize = 3;

/// Copy all events from one store to another
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Store to read: a path, a Redis URL, or a name in the configuration
    from: String,

    /// Store to write; a path is created if it does not exist
    to: String,

    /// Prefix of keys in TO [default: as in FROM]
    #[arg(long, value_name = "PREFIX", env = "COHORTIST_TO_PREFIX")]
    to_prefix: Option<String>,

    /// Copy every key, not only events
    #[arg(long, env = "COHORTIST_ALL_KEYS", value_parser = FalseyValueParser::new())]
    all_keys: bool,

    /// With --all-keys: replace keys that have another value in TO
    #[arg(long)]
    overwrite: bool,
}

/// What to copy.
pub struct Config {
    from: StoreConfig,
    to: StoreConfig,
    /// How to copy all keys, or `None` to copy only events.
    all: Option<all::Settings>,
}

impl Config {
    pub fn new(
        args: Args,
        file: &File,
        options: &Options,
        ids: Option<Ids>,
    ) -> Result<Self, Usage> {
        let from = Stores::new(Some(args.from), None, file, options, ids)?.default;
        let same_prefix = Options {
            prefix: Prefix::new(from.prefix()),
            ..options.clone()
        };
        let mut to = Stores::new(Some(args.to), None, file, &same_prefix, ids)?.default;
        if let Some(prefix) = &args.to_prefix {
            to = to.with_prefix(Prefix::new(prefix));
        }
        if from.is_same_place(&to) {
            return Err(Usage("FROM and TO are the same store".to_owned()));
        }
        if args.overwrite && !args.all_keys {
            return Err(Usage(
                "--overwrite needs --all-keys. Without it, users are only added to bitmaps"
                    .to_owned(),
            ));
        }
        if args.all_keys && (from.is_cluster() || to.is_cluster()) {
            return Err(Usage(
                "--all-keys cannot be used with a Redis Cluster, in which cohortist splits bitmaps over several keys. Leave it out to copy all events"
                    .to_owned(),
            ));
        }
        if args.all_keys && from.prefix() != to.prefix() {
            return Err(Usage(format!(
                "--all-keys copies keys under their own names, but the prefix is `{}` in FROM and `{}` in TO. Leave out --all-keys or the other prefix",
                from.prefix(),
                to.prefix()
            )));
        }
        let all = args.all_keys.then_some(all::Settings {
            overwrite: args.overwrite,
        });
        Ok(Config { from, to, all })
    }

    /// Makes sure that both stores are kept in the same zone: an empty one will be in that of FROM.
    fn same_zone(&self, zone: Zone, to: Tracker) -> anyhow::Result<Tracker> {
        let to = match self.to.kept_in() {
            None => to.with_zone(zone),
            Some(asked) if asked == zone.asked() => to,
            Some(asked) => bail!(
                "FROM is kept in {}, and TO in {asked}: their periods cannot be mixed. Copy to a \
                 store that is kept in {}",
                zone.name(),
                zone.name()
            ),
        };
        to.settle_zone()?;
        Ok(to)
    }

    pub fn run(self) -> anyhow::Result<()> {
        let started = Instant::now();
        if let Some(settings) = self.all {
            let from = self.from.open_to_read()?;
            let zone = from.kept_in()?;
            drop(from);
            let prepare = || self.same_zone(zone, self.to.open()?).map(drop);
            return all::copy(&self.from, &self.to, settings, started, prepare);
        }
        let source = Side::open_to_read(&self.from)?;
        let from = &source.tracker;
        from.check_types()?;
        let keys = from.keys("")?;
        if keys.is_empty() {
            notes::nothing_found(from)?;
            bail!(
                "{} has no events under the prefix `{}`: nothing was copied",
                self.from.display(),
                self.from.prefix()
            );
        }
        notes::other_prefix(from)?;
        let mut target = Side::open(&self.to)?;
        target.tracker = self.same_zone(from.kept_in()?, target.tracker)?;
        let to = &target.tracker;
        let shown = self.to.display();
        // Before the bitmaps, which mean nothing without the ids.
        string_ids::copy(from, to, &shown)?;
        let mut copied = 0;
        let mut users = 0;
        let mut mismatches = compare(from, to, &keys)?;
        let equal = keys.len() - mismatches.len();
        if equal > 0 {
            status!(
                "{} of {} there already",
                thousands(equal as u64),
                many(keys.len() as u64, "bitmap")
            );
        }
        for pass in 0..PASSES {
            // Copying cannot fix a copy that has more users than its original.
            let behind: Vec<&Mismatch> = mismatches
                .iter()
                .filter(|mismatch| mismatch.copy < mismatch.original)
                .collect();
            if behind.is_empty() {
                break;
            }
            let copier = Copier {
                from: &source,
                to: &target,
                bar: progress_bar(behind.iter().map(|mismatch| mismatch.original).sum()),
            };
            users += match pass {
                0 => copier.copy(&behind)?,
                // A bitmap may have two names, or may have changed while it was read.
                _ => copier.copy_users(&behind)?,
            };
            copied += behind.len() as u64;
            copier.bar.finish_and_clear();
            // The bitmaps may contain users who are new since the last time.
            string_ids::copy(from, to, &shown)?;
            let keys: Vec<Key> = mismatches
                .into_iter()
                .map(|mismatch| mismatch.key)
                .collect();
            mismatches = compare(from, to, &keys)?;
        }
        self.check_equal(&mismatches)?;
        let events: BTreeSet<_> = keys.iter().map(Key::event).collect();
        let ids = match from.assigned()? {
            Some(next) => format!(", with {}", many(next, "string id")),
            None => String::new(),
        };
        let mut out = Out::new();
        out.line(format_args!(
            "copied {} with {} to {shown} in {:.1} s; all {} of {} count the same on both sides{ids}",
            many(copied, "bitmap"),
            many(users, "bit"),
            started.elapsed().as_secs_f64(),
            thousands(keys.len() as u64),
            many(events.len() as u64, "event"),
        ))?;
        Ok(out.finish()?)
    }

    /// Fails if bitmaps still differ.
    fn check_equal(&self, mismatches: &[Mismatch]) -> anyhow::Result<()> {
        let (ahead, behind): (Vec<&Mismatch>, Vec<&Mismatch>) = mismatches
            .iter()
            .partition(|mismatch| mismatch.copy > mismatch.original);
        let from = self.from.display();
        let to = self.to.display();
        if !ahead.is_empty() {
            bail!(
                "{} in {to} contain users that are not in {from}, so the copy is not equal: {}. They were there before, or were \
                 unmarked in the meantime. To be sure, copy to an empty store",
                many(ahead.len() as u64, "bitmap"),
                list(ahead.iter().map(ToString::to_string)),
            );
        }
        if !behind.is_empty() {
            bail!(
                "{} changed in {from} again and again while they were copied: {}. Run this again when no more events are recorded there",
                many(behind.len() as u64, "bitmap"),
                list(behind.iter().map(ToString::to_string)),
            );
        }
        Ok(())
    }
}

/// Counts bitmaps in both stores and returns those that differ.
fn compare(from: &Tracker, to: &Tracker, keys: &[Key]) -> anyhow::Result<Vec<Mismatch>> {
    let mut mismatches = Vec::new();
    for keys in keys.chunks(BATCH_COUNTS) {
        let sets: Vec<Set> = keys.iter().cloned().map(Set::Key).collect();
        // The copy first: marks in the meantime then make it seem behind, and never ahead.
        let copies = to.counts(&sets)?;
        let originals = from.counts(&sets)?;
        for ((key, original), copy) in keys.iter().zip(originals).zip(copies) {
            if original != copy {
                mismatches.push(Mismatch {
                    key: key.clone(),
                    original,
                    copy,
                });
            }
        }
    }
    Ok(mismatches)
}

fn progress_bar(bits: u64) -> ProgressBar {
    visible_in_terminal(
        bits,
        "{bar:30} {human_pos}/{human_len} bits, {per_sec}, {eta} left",
    )
}
