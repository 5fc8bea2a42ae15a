//! Writes what was read while reading goes on, and keeps book of what the store has acknowledged.

use std::collections::VecDeque;
use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::bitmap::{Tile, split};
use crate::cli::import::checkpoint::{Checkpoint, Witness};
use crate::cli::output::written;
use crate::ingest::{Bits, Gathered, Position};
use crate::render::thousands;
use crate::sets::{Key, Prefix, UserId, When};
use crate::store::Progress;
use crate::tracker::{Ids, Result, Tracker};

/// How often checkpoints are written.
pub const SAVE_EVERY: Duration = Duration::from_millis(500);

/// Rows to write, and how far they go.
pub struct Package {
    pub gathered: Gathered,
    /// The texts that its users are places of, where they are called so.
    pub texts: Option<Vec<String>>,
    /// How many good lines they are.
    pub rows: u64,
    pub reached: Vec<Reached>,
    /// The values of properties that became events so far.
    pub values: Values,
}

/// The texts of numbers; none where users are numbers.
type Called<'a> = HashMap<UserId, &'a String>;

/// For each property its values.
type Values = Vec<(String, Vec<String>)>;

/// How far one file was read.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    /// Its place among the files.
    pub file: usize,
    pub at: Position,
    /// Good and bad lines, from its beginning.
    pub records: u64,
    pub skipped: u64,
    pub done: bool,
}

/// What is in the store.
#[derive(Default)]
pub struct Tally {
    pub records: u64,
    pub users: Seen,
    pub events: BTreeSet<u32>,
}

/// Where checkpoints go.
pub struct Keeper<'a> {
    pub files: &'a [String],
    /// For each file its checkpoint; none for pipes.
    pub checkpoints: Vec<Option<Checkpoint>>,
    pub prefix: Prefix,
    /// Acknowledged, with the last change of the store that was then written: a checkpoint must not be ahead of what
    /// survives a power cut.
    pub waiting: VecDeque<(u64, Vec<(usize, Checkpoint)>)>,
    pub saved: Instant,
    /// How long at least until the next.
    pub save_every: Duration,
    /// The first checkpoint that could not be written, and why.
    pub failure: Option<String>,
    /// Whether any was written.
    pub any: bool,
}

impl Keeper<'_> {
    fn acknowledged(
        &mut self,
        reached: &[Reached],
        values: &Values,
        bits: &Bits,
        called: &Called<'_>,
        progress: Progress,
    ) {
        let witness = |group: Option<(&Key, &[UserId])>| {
            group.and_then(|(key, users)| {
                let user = *users.last()?;
                let name = called.get(&user).map_or_else(|| user.to_string(), |text| (*text).clone());
                Some(Witness { key: key.text(&self.prefix), user, called: name })
            })
        };
        let witnesses = [witness(bits.groups().next()), witness(bits.groups().last())];
        let mut due = Vec::new();
        for reached in reached {
            let Some(Some(checkpoint)) = self.checkpoints.get_mut(reached.file) else { continue };
            (checkpoint.byte, checkpoint.line) = (reached.at.byte, reached.at.line);
            (checkpoint.records, checkpoint.skipped, checkpoint.done) =
                (reached.records, reached.skipped, reached.done);
            checkpoint.values.clone_from(values);
            // Of the first package and of the last.
            checkpoint.witnesses.truncate(1);
            checkpoint.witnesses.extend(witnesses.iter().flatten().cloned());
            due.push((reached.file, checkpoint.clone()));
        }
        if !due.is_empty() {
            self.waiting.push_back((progress.written, due));
        }
        if self.saved.elapsed() >= self.save_every {
            self.save(progress.durable);
        }
    }

    /// Writes what was acknowledged, up to this change.
    pub fn save(&mut self, durable: u64) {
        let mut latest: HashMap<usize, Checkpoint> = HashMap::new();
        while self.waiting.front().is_some_and(|(written, _)| *written <= durable) {
            latest.extend(self.waiting.pop_front().into_iter().flat_map(|(_, due)| due));
        }
        for (place, checkpoint) in latest {
            let Some(file) = self.files.get(place) else { continue };
            match checkpoint.save(file) {
                Ok(()) => self.any = true,
                Err(error) => {
                    self.failure.get_or_insert_with(|| format!("no checkpoint can be kept beside {file}: {error}"));
                }
            }
        }
        self.saved = Instant::now();
    }
}

/// Writes packages until there are no more; stops at the first that cannot be written.
pub fn write(
    tracker: &Tracker,
    packages: &Receiver<Package>,
    at_once: usize,
    keeper: &mut Keeper<'_>,
    tally: &mut Tally,
    bar: &ProgressBar,
) -> Result<()> {
    let began = Instant::now();
    for package in packages {
        let mut gathered = package.gathered;
        let mut called = HashMap::new();
        match &package.texts {
            Some(texts) => {
                let numbers = tracker.enroll(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
                gathered.translate(&numbers);
                called = numbers.into_iter().zip(texts).collect();
            }
            None => tracker.settle(Ids::Numbers)?,
        }
        let bits = gathered.bits()?;
        let mut runs: Vec<(&Key, &[UserId])> = Vec::new();
        let mut room = at_once;
        for (key, mut users) in bits.groups() {
            while let Some((now, later)) = users.split_at_checked(room) {
                runs.push((key, now));
                written(tracker.store().add(&runs))?;
                runs.clear();
                (users, room) = (later, at_once);
            }
            room -= users.len();
            runs.push((key, users));
        }
        written(tracker.store().add(&runs))?;
        tally.take(package.rows, &bits);
        let progress = tracker.store().progress();
        keeper.acknowledged(&package.reached, &package.values, &bits, &called, progress);
        let rate = tally.records.saturating_mul(1000) / u64::try_from(began.elapsed().as_millis()).unwrap_or(1).max(1);
        bar.set_message(format!("{} rows/s", thousands(rate)));
    }
    Ok(())
}

impl Tally {
    fn take(&mut self, rows: u64, bits: &Bits) {
        self.records += rows;
        self.events.extend(bits.events());
        // Whoever is in a day is in its month, and undated marks are of people who were met with a date.
        bits.groups().filter(|(key, _)| is_month(key)).for_each(|(_, users)| self.users.add(users));
    }
}

fn is_month(key: &Key) -> bool {
    matches!(key.when(), When::In(period) if period.grain() == crate::calendar::Grain::Month)
}

/// Distinct users.
#[derive(Default)]
pub struct Seen {
    tiles: HashMap<u16, Tile>,
    pub count: u64,
}

impl Seen {
    /// Takes in users in ascending order.
    fn add(&mut self, users: &[UserId]) {
        for users in users.chunk_by(|a, b| split(*a).0 == split(*b).0) {
            let Some(first) = users.first() else { continue };
            self.count += self.tiles.entry(split(*first).0).or_default().add(users);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::checkpoint::{Found, Origin};
    use crate::ingest::{Gather, Names};
    use crate::store::Options;
    use crate::store::embedded::EmbeddedStore;

    /// How far a checkpoint says that the import came.
    fn saved(file: &str, origin: &Origin, tracker: &Tracker) -> Option<u64> {
        match Checkpoint::find(file, origin, tracker).unwrap() {
            Found::Good(checkpoint) => Some(checkpoint.records),
            Found::Nothing | Found::Stale(_) => None,
        }
    }

    #[test]
    fn a_checkpoint_is_never_ahead_of_what_survives_a_power_cut() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("marks.csv").display().to_string();
        std::fs::write(&file, "user,event").unwrap();
        let tracker = Tracker::new(std::sync::Arc::new(EmbeddedStore::in_memory(&Options::default())));
        let origin = Origin::of(&file, "", String::new(), "").unwrap();
        let files = [file.clone()];
        let reached = |records| {
            [Reached { file: 0, at: Position { byte: records, line: records }, records, skipped: 0, done: false }]
        };
        let mut keeper = Keeper {
            files: &files,
            checkpoints: vec![Some(origin.clone().start())],
            prefix: Prefix::new(""),
            waiting: VecDeque::new(),
            // Long ago, so that each package is worth a look.
            saved: Instant::now().checked_sub(SAVE_EVERY).unwrap(),
            save_every: SAVE_EVERY,
            failure: None,
            any: false,
        };
        let bits = Gather::new(false, false).drain(&Names::new(&[], 1).unwrap()).bits().unwrap();
        // Ten changes for each package, of which those before the last are durable.
        for package in 1..=4_u64 {
            keeper.saved = Instant::now().checked_sub(SAVE_EVERY).unwrap();
            let progress = Progress { written: package * 10, durable: package * 10 - 1 };
            keeper.acknowledged(&reached(package), &Vec::new(), &bits, &HashMap::new(), progress);
            assert_eq!(saved(&file, &origin, &tracker), (package > 1).then(|| package - 1));
        }
        keeper.save(39);
        assert_eq!(saved(&file, &origin, &tracker), Some(3));
        keeper.save(40);
        assert_eq!(saved(&file, &origin, &tracker), Some(4));
    }
}
