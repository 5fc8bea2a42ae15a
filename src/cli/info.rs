//! `cohortist info`.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;
use indicatif::HumanBytes;
use serde_json::json;

use crate::calendar::{Grain, Period};
use crate::cli::output::Out;
use crate::cli::store::StoreConfig;
use crate::render::{many, thousands};
use crate::sets::{Key, Prefix, When};
use crate::store::embedded::Usage;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist info                                   ./cohortist.db
  cohortist info --format json | jq .table_bytes   for programs

Prints the format of a store at a path, its size by event, its first and last day, its logs, its last
checkpoint, the space that `cohortist compact` would free, and the losses that were accepted with --accept-loss.
Sizes by event and free space are estimates: files are compressed in blocks, and each entry counts for its
share of its block.";

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

/// How to print it.
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
#[derive(Default)]
struct Group {
    bitmaps: u64,
    bytes: u64,
}

/// What is in a store.
struct Contents {
    usage: Usage,
    /// By name, ascending.
    events: Vec<(String, Group)>,
    /// Keys that are not events under the prefix.
    others: Group,
    days: Option<(Period, Period)>,
}

impl Config {
    pub fn run(self, store: &StoreConfig) -> anyhow::Result<()> {
        store.require_path("described")?;
        let keyspace = store.open_embedded(false)?.keyspace();
        let prefix = Prefix::new(store.prefix());
        let texts = keyspace.read(|look| {
            Ok(look
                .keys()?
                .iter()
                .map(str::to_owned)
                .collect::<Vec<String>>())
        })?;
        let Some(contents) = Contents::read(&keyspace, &prefix, &texts)? else {
            return Ok(());
        };
        let mut out = Out::new();
        match self.format {
            Format::Text => contents.print(&mut out)?,
            Format::Json => out.line(serde_json::to_string_pretty(&contents.json())?)?,
        }
        Ok(out.finish()?)
    }
}

impl Contents {
    fn read(
        keyspace: &crate::store::embedded::Keyspace,
        prefix: &Prefix,
        texts: &[String],
    ) -> anyhow::Result<Option<Contents>> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut names: Vec<String> = Vec::new();
        // The first group is that of keys that are no events.
        let mut place = |text: &str| {
            Key::parse(prefix, text).map_or(0, |key| {
                let next = names.len() + 1;
                *places.entry(key.event().to_string()).or_insert_with(|| {
                    names.push(key.event().to_string());
                    next
                })
            })
        };
        let mut bitmaps: Vec<u64> = vec![0];
        let mut days: Option<(Period, Period)> = None;
        for text in texts {
            let at = place(text);
            bitmaps.resize(bitmaps.len().max(at + 1), 0);
            bitmaps[at] += 1;
            if let Some(When::In(period)) = Key::parse(prefix, text).map(|key| key.when())
                && matches!(period.grain(), Grain::Hour | Grain::Day)
            {
                let day = period.within(Grain::Day);
                days =
                    Some(days.map_or((day, day), |(first, last)| (first.min(day), last.max(day))));
            }
        }
        let Some(usage) = keyspace.usage(&mut place)? else {
            return Ok(None);
        };
        let group = |at: usize| Group {
            bitmaps: bitmaps.get(at).copied().unwrap_or(0),
            bytes: usage.bytes.get(at).copied().unwrap_or(0),
        };
        let mut events: Vec<(String, Group)> = names
            .iter()
            .enumerate()
            .map(|(at, name)| (name.clone(), group(at + 1)))
            .collect();
        events.sort_by(|a, b| a.0.cmp(&b.0));
        let others = group(0);
        Ok(Some(Contents {
            usage,
            events,
            others,
            days,
        }))
    }

    fn bitmaps(&self) -> u64 {
        self.events
            .iter()
            .map(|(_, group)| group.bitmaps)
            .sum::<u64>()
            + self.others.bitmaps
    }

    fn checkpoint(&self) -> Option<String> {
        let at =
            DateTime::<Utc>::from_timestamp_millis(i64::try_from(self.usage.checkpoint_at?).ok()?)?;
        Some(at.to_rfc3339_opts(SecondsFormat::Secs, true))
    }

    fn print(&self, out: &mut Out) -> std::io::Result<()> {
        let usage = &self.usage;
        let mut line = |name: &str, value: String| out.line(format_args!("{name:<16} {value}"));
        line("format", usage.format.to_string())?;
        line(
            "table",
            format!(
                "{} in {}",
                HumanBytes(usage.table_bytes),
                many(usage.segments, "segment")
            ),
        )?;
        line(
            "free",
            format!(
                "about {}, given back by `cohortist compact`",
                HumanBytes(usage.free_bytes)
            ),
        )?;
        let logged = many(usage.logged, "change");
        line(
            "log",
            format!(
                "{} in {}, {logged} since the last checkpoint",
                HumanBytes(usage.log_bytes),
                many(usage.logs, "file")
            ),
        )?;
        line(
            "last checkpoint",
            self.checkpoint().unwrap_or_else(|| "none".to_owned()),
        )?;
        line("bitmaps", thousands(self.bitmaps()))?;
        if let Some((first, last)) = self.days {
            line("first day", first.to_string())?;
            line("last day", last.to_string())?;
        }
        for loss in &usage.losses {
            line("lost", loss.clone())?;
        }
        for (name, group) in self
            .events
            .iter()
            .map(|(name, group)| (name.as_str(), group))
            .chain((self.others.bitmaps > 0).then_some(("(other keys)", &self.others)))
        {
            out.line(format_args!(
                "{:>12}  {:>9}  {name}",
                format!("~{}", HumanBytes(group.bytes)),
                thousands(group.bitmaps)
            ))?;
        }
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        let usage = &self.usage;
        let events = self
            .events
            .iter()
            .map(|(name, group)| json!({ "event": name, "bitmaps": group.bitmaps, "estimated_bytes": group.bytes }));
        json!({
            "format": usage.format,
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
            "events": events.collect::<Vec<_>>(),
            "other_keys": { "bitmaps": self.others.bitmaps, "estimated_bytes": self.others.bytes },
        })
    }
}
