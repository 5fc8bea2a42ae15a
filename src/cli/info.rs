//! `cohortist info`.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;
use indicatif::HumanBytes;
use serde_json::json;

use crate::calendar::{Grain, Period};
use crate::cli::output::Out;
use crate::cli::store::StoreConfig;
use crate::render::{many, thousands};
use crate::sets::{Key, Prefix, When};
use crate::store::embedded::{Keyspace, Usage};
use crate::tracker::{Ids, Tracker};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist info                                   describe ./cohortist.db
  cohortist info --format json | jq .table_bytes   for programs

Prints the format of a store at a path, its kind of user ids, its size by event, its first and last \
day, its logs, its last checkpoint, the space that `cohortist compact` would free, and the losses \
that were accepted with --accept-loss.

Sizes by event and free space are estimates: files are compressed in blocks, and each entry counts \
for its share of its block. Changes since the last checkpoint count with the size that the next \
checkpoint will give them.";

/// Print the format, size and contents of a store
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Output format
    #[arg(long, value_enum, default_value = "text", env = "COHORTIST_FORMAT")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub struct Config {
    format: Format,
}

impl From<Args> for Config {
    fn from(args: Args) -> Self {
        Config {
            format: args.format,
        }
    }
}

/// The bitmaps of one event.
#[derive(Debug, Default, Clone, Copy)]
struct Group {
    bitmaps: u64,
    bytes: u64,
}

/// The contents of a store.
struct Contents {
    usage: Usage,
    /// The number of string ids, or `None` if user ids are numbers.
    string_ids: Option<u64>,
    /// Ordered by the event's name.
    events: Vec<(String, Group)>,
    /// Keys under this prefix or another that are not events under this prefix.
    others: Group,
    days: Option<(Period, Period)>,
}

impl Config {
    pub fn run(self, store: &StoreConfig) -> anyhow::Result<()> {
        store.require_path("described")?;
        let (tracker, embedded) = store.open_embedded_to_read()?;
        let contents = Contents::read(&tracker, &embedded.keyspace())?;
        let mut out = Out::new();
        match self.format {
            Format::Text => contents.print(&mut out)?,
            Format::Json => out.line(serde_json::to_string_pretty(&contents.json())?)?,
        }
        Ok(out.finish()?)
    }
}

/// Assigns keys to the events they belong to.
struct Groups<'p> {
    prefix: &'p Prefix,
    /// The index of each event.
    events: BTreeMap<String, usize>,
}

impl Groups<'_> {
    /// The index of keys that are not events.
    const OTHERS: usize = 0;

    fn of(&mut self, key: &str) -> usize {
        let Some(key) = Key::parse(self.prefix, key) else {
            return Self::OTHERS;
        };
        let next = self.events.len() + 1;
        *self.events.entry(key.event().to_string()).or_insert(next)
    }

    /// The number of groups.
    fn len(&self) -> usize {
        self.events.len() + 1
    }
}

impl Contents {
    fn read(tracker: &Tracker, keyspace: &Keyspace) -> anyhow::Result<Contents> {
        let prefix = tracker.describe()?.prefix;
        let mut groups = Groups {
            prefix: &prefix,
            events: BTreeMap::new(),
        };
        let usage = keyspace
            .usage(|key| groups.of(key))?
            .expect("a store at a path has files");
        let keys = all_keys(keyspace)?;
        let mut bitmaps: Vec<u64> = Vec::new();
        for key in &keys {
            let group = groups.of(key);
            bitmaps.resize(groups.len().max(bitmaps.len()), 0);
            bitmaps[group] += 1;
        }
        bitmaps.resize(groups.len(), 0);
        let parsed: Vec<Key> = keys
            .iter()
            .filter_map(|key| Key::parse(&prefix, key))
            .collect();
        let mut bytes = usage.bytes.clone();
        bytes.resize(groups.len(), 0);
        // The files show nothing of changes since the last checkpoint.
        if usage.logged > 0 {
            let sizes = tracker.sizes(&parsed)?;
            bytes[Groups::OTHERS + 1..].fill(0);
            for (key, size) in parsed.iter().zip(sizes) {
                let group = groups.events[key.event().as_str()];
                bytes[group] += size.expect("an embedded store knows the sizes of its bitmaps");
            }
        }
        let group = |index: usize| Group {
            bitmaps: bitmaps[index],
            bytes: bytes[index],
        };
        Ok(Contents {
            string_ids: match tracker.ids()? {
                Ids::Strings => tracker.assigned()?,
                Ids::Numbers => None,
            },
            days: first_and_last_day(&parsed),
            events: groups
                .events
                .iter()
                .map(|(name, index)| (name.clone(), group(*index)))
                .filter(|(_, group)| group.bitmaps > 0)
                .collect(),
            others: group(Groups::OTHERS),
            usage,
        })
    }

    fn bitmaps(&self) -> u64 {
        let of_events: u64 = self.events.iter().map(|(_, group)| group.bitmaps).sum();
        of_events + self.others.bitmaps
    }

    /// The time of the last checkpoint, in RFC 3339 format.
    fn checkpoint(&self) -> Option<String> {
        let millis = i64::try_from(self.usage.checkpoint_at?).ok()?;
        let time = DateTime::<Utc>::from_timestamp_millis(millis)?;
        Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
    }

    fn print(&self, out: &mut Out) -> std::io::Result<()> {
        let usage = &self.usage;
        let mut line = |name: &str, value: String| out.line(format_args!("{name:<16} {value}"));
        line("format", usage.format.to_string())?;
        line(
            "user ids",
            match self.string_ids {
                Some(count) => format!("strings, {} so far", thousands(count)),
                None => "numbers".to_owned(),
            },
        )?;
        let table = HumanBytes(usage.table_bytes);
        let segments = many(usage.segments, "segment");
        line("table", format!("{table} in {segments}"))?;
        let free = HumanBytes(usage.free_bytes);
        line(
            "free",
            format!("about {free}, freed by `cohortist compact`"),
        )?;
        let log = HumanBytes(usage.log_bytes);
        let logs = many(usage.logs, "file");
        let logged = many(usage.logged, "change");
        line(
            "log",
            format!("{log} in {logs}, {logged} since the last checkpoint"),
        )?;
        let checkpoint = self.checkpoint();
        line(
            "last checkpoint",
            checkpoint.unwrap_or_else(|| "none".to_owned()),
        )?;
        line("bitmaps", thousands(self.bitmaps()))?;
        if let Some((first, last)) = self.days {
            line("first day", first.to_string())?;
            line("last day", last.to_string())?;
        }
        for loss in &usage.losses {
            line("lost", loss.clone())?;
        }
        let mut group = |name: &str, group: &Group| {
            let bytes = format!("~{}", HumanBytes(group.bytes));
            let bitmaps = thousands(group.bitmaps);
            out.line(format_args!("{bytes:>12}  {bitmaps:>9}  {name}"))
        };
        for (name, of_event) in &self.events {
            group(name, of_event)?;
        }
        if self.others.bitmaps > 0 {
            group("(other keys)", &self.others)?;
        }
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        let usage = &self.usage;
        let events: Vec<serde_json::Value> = self
            .events
            .iter()
            .map(|(name, group)| {
                json!({
                    "event": name,
                    "bitmaps": group.bitmaps,
                    "estimated_bytes": group.bytes,
                })
            })
            .collect();
        json!({
            "format": usage.format,
            "user_ids": if self.string_ids.is_some() { "strings" } else { "numbers" },
            "string_ids": self.string_ids,
            "segments": usage.segments,
            "table_bytes": usage.table_bytes,
            "estimated_free_bytes": usage.free_bytes,
            "logs": usage.logs,
            "log_bytes": usage.log_bytes,
            "logged_changes": usage.logged,
            "last_checkpoint": self.checkpoint(),
            "bitmaps": self.bitmaps(),
            "first_day": self.days.map(|(first, _)| first.to_string()),
            "last_day": self.days.map(|(_, last)| last.to_string()),
            "losses": usage.losses,
            "events": events,
            "other_keys": {
                "bitmaps": self.others.bitmaps,
                "estimated_bytes": self.others.bytes,
            },
        })
    }
}

fn all_keys(keyspace: &Keyspace) -> anyhow::Result<Vec<String>> {
    Ok(keyspace.read(|txn| Ok(txn.keys()?.iter().map(str::to_owned).collect()))?)
}

/// The first and the last day with data, by the bitmaps of days and hours.
fn first_and_last_day(keys: &[Key]) -> Option<(Period, Period)> {
    let days = keys.iter().filter_map(|key| match key.when() {
        When::In(period) if matches!(period.grain(), Grain::Hour | Grain::Day) => {
            Some(period.within(Grain::Day))
        }
        _ => None,
    });
    days.clone().min().zip(days.max())
}
