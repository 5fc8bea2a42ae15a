//! Writes what was read while reading continues, and keeps track of what the store has
//! acknowledged.

use std::collections::VecDeque;
use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::cli::import::checkpoint::{Checkpoint, Sample};
use crate::cli::import::newest::Newest;
use crate::cli::import::seen::Seen;
use crate::cli::output::warn_if_unsynced;
use crate::ingest::{Bits, Gathered, Names, Position, RowIds};
use crate::render::thousands;
use crate::sets::{EventName, Key, Prefix, UserId, When};
use crate::store::Progress;
use crate::tracker::{Ids, Result, Tracker};

/// The minimum time between two saves of checkpoints.
pub const SAVE_INTERVAL: Duration = Duration::from_millis(500);

/// Rows to write, and how far into the files they reach.
pub struct Package {
    pub gathered: Gathered,
    /// The string ids, if users have string ids. The users of `gathered` are then indexes into
    /// `places`.
    pub texts: Option<RowIds>,
    /// The number of valid lines.
    pub rows: u64,
    pub reached: Vec<Reached>,
    /// The values of properties that became events so far.
    pub values: Values,
    /// The events that values of properties became so far, with their numbers and the index of the
    /// property.
    pub held: Vec<(u32, EventName, usize)>,
}

/// The values of each property.
type Values = Vec<(String, Vec<String>)>;

/// How far one file was read.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    /// Its index among the files.
    pub file: usize,
    /// The part of the file that is being read.
    pub part: usize,
    pub at: Position,
    /// The number of valid and of invalid lines, from the beginning of the file.
    pub records: u64,
    pub skipped: u64,
    pub done: bool,
}

/// What the import has written to the store.
#[derive(Default)]
pub struct Tally {
    pub records: u64,
    pub users: Seen,
    pub events: BTreeSet<u32>,
    /// The first and the last day, as the time of their beginning.
    pub days: Option<(i64, i64)>,
    /// The users of the undated values of each property, by the index of the property.
    values: HashMap<usize, ValueUsers>,
}

/// The users of the values of a property.
#[derive(Default)]
struct ValueUsers {
    by_value: HashMap<EventName, Seen>,
    any: Seen,
    several: Seen,
}

/// How many users have values of a property.
#[derive(Debug, Clone, Copy)]
pub struct Several {
    /// Users with a value.
    pub users: u64,
    /// Users with more than one value.
    pub several: u64,
}

/// Saves checkpoints.
pub struct CheckpointWriter<'a> {
    pub files: &'a [String],
    /// The checkpoint of each file, or `None` for a pipe.
    pub checkpoints: Vec<Option<Checkpoint>>,
    pub prefix: Prefix,
    /// Acknowledged checkpoints, each with the last change that the store had written at that time.
    /// A checkpoint must not be ahead of what survives a power cut.
    pub waiting: VecDeque<(u64, Vec<(usize, Checkpoint)>)>,
    pub saved_at: Instant,
    /// The minimum time until the next save.
    pub save_interval: Duration,
    /// The first checkpoint that could not be written, and why.
    pub failure: Option<String>,
    /// Whether any checkpoint was written.
    pub any_saved: bool,
}

impl CheckpointWriter<'_> {
    /// Records how far the store has acknowledged the files.
    fn acknowledge(
        &mut self,
        reached: &[Reached],
        values: &Values,
        samples: &[Sample],
        progress: Progress,
    ) {
        let mut due = Vec::new();
        for reached in reached {
            let Some(checkpoint) = &mut self.checkpoints[reached.file] else {
                continue;
            };
            checkpoint.part = reached.part;
            checkpoint.byte = reached.at.byte;
            checkpoint.line = reached.at.line;
            checkpoint.records = reached.records;
            checkpoint.skipped = reached.skipped;
            checkpoint.done = reached.done;
            checkpoint.values.clone_from(values);
            // Keeps a sample of the first package and those of the last one.
            checkpoint.samples.truncate(1);
            checkpoint.samples.extend_from_slice(samples);
            due.push((reached.file, checkpoint.clone()));
        }
        if !due.is_empty() {
            self.waiting.push_back((progress.written, due));
        }
        if self.saved_at.elapsed() >= self.save_interval {
            self.save(progress.durable);
        }
    }

    /// Writes the checkpoints that were acknowledged, up to the change `durable`.
    pub fn save(&mut self, durable: u64) {
        let mut latest: HashMap<usize, Checkpoint> = HashMap::new();
        while let Some((_, checkpoints)) = self
            .waiting
            .pop_front_if(|(written, _)| *written <= durable)
        {
            latest.extend(checkpoints);
        }
        for (index, checkpoint) in latest {
            let file = &self.files[index];
            match checkpoint.save(file) {
                Ok(()) => self.any_saved = true,
                Err(error) => {
                    self.failure.get_or_insert_with(|| {
                        format!("the checkpoint of {file} cannot be saved next to it: {error}")
                    });
                }
            }
        }
        self.saved_at = Instant::now();
    }
}

/// Writes packages, in batches of at most `batch_marks` marks, until there are no more. Stops at the
/// first one that cannot be written.
pub fn write(
    tracker: &Tracker,
    packages: &Receiver<Package>,
    batch_marks: usize,
    checkpoints: &mut CheckpointWriter<'_>,
    tally: &mut Tally,
    bar: &ProgressBar,
) -> Result<()> {
    let began = Instant::now();
    // The numbers of users, by the index of their string id.
    let mut numbers: Vec<UserId> = Vec::new();
    let mut newest = Newest::default();
    for package in packages {
        let mut gathered = package.gathered;
        match &package.texts {
            Some(texts) => {
                numbers.truncate(texts.first);
                numbers.extend(tracker.assign(&texts.new.iter().collect::<Vec<_>>())?);
                let users: Vec<UserId> = texts
                    .indexes
                    .iter()
                    .map(|place| numbers[*place as usize])
                    .collect();
                gathered.translate(&users);
            }
            None => tracker.settle(Ids::Numbers)?,
        }
        tally.take_days(gathered.days());
        let users: Vec<UserId> = gathered
            .users()
            .flat_map(|(_, users)| users)
            .copied()
            .collect();
        tracker.store().check_users(&users)?;
        let current = gathered.take_current();
        let bits = gathered.bits()?;
        let mut runs: Vec<(&Key, &[UserId])> = Vec::new();
        let mut room = batch_marks;
        for (key, mut users) in bits.groups() {
            while let Some((now, later)) = users.split_at_checked(room) {
                runs.push((key, now));
                warn_if_unsynced(tracker.add(&runs))?;
                runs.clear();
                users = later;
                room = batch_marks;
            }
            room -= users.len();
            runs.push((key, users));
        }
        warn_if_unsynced(tracker.add(&runs))?;
        if !current.is_empty() {
            let events: HashMap<u32, &EventName> = package
                .held
                .iter()
                .map(|(number, event, _)| (*number, event))
                .collect();
            let name = |property: usize| package.values[property].0.as_str();
            newest.write(tracker, &current, batch_marks, name, |event| events[&event])?;
        }
        tally.take(package.rows, &bits);
        tally.take_values(&package.held, &bits);
        let id_of = |user: UserId| match &package.texts {
            Some(texts) if let Some(index) = new_id(&numbers, texts, user) => {
                Ok(texts.new.get(index).to_owned())
            }
            _ => Ok(tracker
                .called(&[user])?
                .pop()
                .expect("every user has an id")),
        };
        let samples = samples(&checkpoints.prefix, &bits, id_of)?;
        let progress = tracker.progress();
        checkpoints.acknowledge(&package.reached, &package.values, &samples, progress);
        let millis = u64::try_from(began.elapsed().as_millis())
            .expect("an import takes less than 584 million years");
        let rate = tally.records.saturating_mul(1000) / millis.max(1);
        bar.set_message(format!("{} rows/s", thousands(rate)));
    }
    Ok(())
}

/// Returns the index of a user's string id among the new ones of a package.
fn new_id(numbers: &[UserId], texts: &RowIds, user: UserId) -> Option<usize> {
    numbers[texts.first..]
        .iter()
        .position(|number| *number == user)
}

/// Returns a bit of the first bitmap and one of the last. `id_of` returns the id of a user.
fn samples(
    prefix: &Prefix,
    bits: &Bits,
    id_of: impl Fn(UserId) -> Result<String>,
) -> Result<Vec<Sample>> {
    let ends = [bits.groups().next(), bits.groups().last()];
    let sample = |(key, users): (&Key, &[UserId])| {
        let user = *users.last().expect("a bitmap that is written has users");
        Ok(Sample {
            key: key.text(prefix),
            user,
            id: id_of(user)?,
        })
    };
    ends.into_iter().flatten().map(sample).collect()
}

impl Tally {
    fn take(&mut self, rows: u64, bits: &Bits) {
        self.records += rows;
        self.events.extend(bits.events());
        // A user in a day is also in its month, and undated marks belong to users who also have a
        // dated mark.
        bits.groups()
            .filter(|(key, _)| is_month(key))
            .for_each(|(_, users)| self.users.add(users));
    }
}

impl Tally {
    fn take_days(&mut self, days: Option<(i64, i64)>) {
        self.days = match (self.days, days) {
            (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
            (known, new) => known.or(new),
        };
    }

    fn take_values(&mut self, held: &[(u32, EventName, usize)], bits: &Bits) {
        if held.is_empty() {
            return;
        }
        let properties: HashMap<&EventName, usize> = held
            .iter()
            .map(|(_, event, property)| (event, *property))
            .collect();
        for (key, users) in bits.groups().filter(|(key, _)| key.when() == When::Ever) {
            if let Some(property) = properties.get(key.event()) {
                let values = self.values.entry(*property).or_default();
                let of_value = values.by_value.entry(key.event().clone()).or_default();
                for user in users {
                    if of_value.insert(*user) && !values.any.insert(*user) {
                        values.several.insert(*user);
                    }
                }
            }
        }
    }

    /// Returns the undated properties of which users have more than one value.
    pub fn several_values<'n>(&self, names: &'n Names) -> impl Iterator<Item = (&'n str, Several)> {
        let properties = names.properties().iter().enumerate();
        let found = properties.filter_map(|(index, property)| {
            let values = self.values.get(&index)?;
            let counts = Several {
                users: values.any.count,
                several: values.several.count,
            };
            (counts.several > 0).then_some((property.name.as_str(), counts))
        });
        found.collect::<Vec<_>>().into_iter()
    }
}

fn is_month(key: &Key) -> bool {
    matches!(key.when(), When::In(period) if period.grain() == crate::calendar::Grain::Month)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::checkpoint::{Found, Origin};
    use crate::store::Options;
    use crate::store::embedded::EmbeddedStore;

    /// Returns how far the import got, according to its checkpoint.
    fn saved(file: &str, origin: &Origin, tracker: &Tracker) -> Option<u64> {
        match Checkpoint::find(file, origin, tracker).unwrap() {
            Found::Valid(checkpoint) => Some(checkpoint.records),
            Found::Nothing | Found::Stale(_) => None,
        }
    }

    #[test]
    fn a_checkpoint_is_never_ahead_of_what_survives_a_power_cut() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("marks.csv").display().to_string();
        std::fs::write(&file, "user,event").unwrap();
        let tracker = Tracker::new(std::sync::Arc::new(EmbeddedStore::in_memory(
            &Options::default(),
        )));
        let origin = Origin::of(&file, "", String::new(), "").unwrap();
        let files = [file.clone()];
        let reached = |records| {
            [Reached {
                file: 0,
                part: 0,
                at: Position {
                    byte: records,
                    line: records,
                },
                records,
                skipped: 0,
                done: false,
            }]
        };
        let mut checkpoints = CheckpointWriter {
            files: &files,
            checkpoints: vec![Some(origin.clone().start())],
            prefix: Prefix::new(""),
            waiting: VecDeque::new(),
            // Long ago, so that each package triggers a save.
            saved_at: Instant::now().checked_sub(SAVE_INTERVAL).unwrap(),
            save_interval: SAVE_INTERVAL,
            failure: None,
            any_saved: false,
        };
        // Each package has ten changes, of which all but the last one are durable.
        for package in 1..=4_u64 {
            checkpoints.saved_at = Instant::now().checked_sub(SAVE_INTERVAL).unwrap();
            let progress = Progress {
                written: package * 10,
                durable: package * 10 - 1,
            };
            checkpoints.acknowledge(&reached(package), &Vec::new(), &[], progress);
            assert_eq!(
                saved(&file, &origin, &tracker),
                (package > 1).then(|| package - 1)
            );
        }
        checkpoints.save(39);
        assert_eq!(saved(&file, &origin, &tracker), Some(3));
        checkpoints.save(40);
        assert_eq!(saved(&file, &origin, &tracker), Some(4));
    }
}
