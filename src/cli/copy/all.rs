//! `cohortist copy --all-keys`: copies a whole database, including keys that are not events.
//!
//! Between two Redis servers, values are copied in Redis' own format (DUMP, RESTORE), so that every
//! type arrives. If one side is an embedded store, which holds only bitmaps, strings are copied as
//! bitmaps. Either way a key is created as a whole, and none is replaced without `--overwrite`, so
//! that an interrupted copy can be run again. In the end, all keys are compared.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use anyhow::bail;
use indicatif::ProgressBar;

use super::by_size::by_size;
use super::progress::{list, visible_in_terminal};
use crate::cli::output::{Out, status};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::render::{many, thousands};
use crate::sets::{Key, Prefix, SCRATCH};
use crate::store::Snapshot;
use crate::store::embedded::{Keyspace, ReadTxn, WriteTxn};
use crate::store::redis::{Bits, Dump, Kind, Made, Server, Written};
use crate::store::{self, StoreError};

/// The number of keys read in one batch.
const BATCH_KEYS: usize = 500;

/// The maximum number of bytes of values in memory, unless a single value is larger.
const BATCH_BYTES: u64 = 16 << 20;

/// The longest name of a key in an embedded store, in bytes.
const LONGEST_NAME: usize = 64 << 10;

/// The type of keys that do not exist, as Redis names it.
const NONE: &str = "none";

/// The type of keys that both kinds of stores can have.
const STRING: &str = "string";

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Whether to replace keys that have another value in TO.
    pub overwrite: bool,
}

type Name = Vec<u8>;

/// Copies every key of a store to another one, and compares them. `prepare` is called before the
/// other store is opened.
pub fn copy(
    from: &StoreConfig,
    to: &StoreConfig,
    settings: Settings,
    started: Instant,
    prepare: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let both_are_redis = from.is_redis() && to.is_redis();
    if !both_are_redis && (has_string_ids(from)? || has_string_ids(to)?) {
        bail!(
            "string ids cannot be copied from or to a path with --all-keys. Leave it out to copy all events with their string ids"
        );
    }
    let source = End::open_to_read(from)?;
    let mut names = source.names()?;
    let prefix = Prefix::new(from.prefix());
    names.retain(|name| !is_temporary(&prefix, name));
    if names.is_empty() {
        bail!("{} has no keys: nothing was copied", from.display());
    }
    prepare()?;
    let copier = Copier {
        from: source,
        to: End::open(to)?,
        to_display: to.display(),
    };
    let mut tally = Tally::default();
    let existing = copier.create_all(&names, &mut tally)?;
    if existing > 0 {
        status!(
            "{} of {} there already",
            thousands(existing),
            many(names.len() as u64, "key")
        );
    }
    names.retain(|name| !tally.skipped.contains_key(name));
    let mut different = copier.compare(&names, &mut tally)?;
    if settings.overwrite && !different.is_empty() {
        copier.replace(&different, &mut tally)?;
        different.retain(|name| !tally.skipped.contains_key(name));
        different = copier.compare(&different, &mut tally)?;
    }
    tally.print();
    if !different.is_empty() {
        bail!("{}", describe(&different, from, to, settings));
    }
    let failed = tally.failed();
    if failed > 0 {
        bail!(
            "{} in {} could not be copied",
            many(failed, "key"),
            from.display()
        );
    }
    let replaced = if tally.replaced > 0 {
        format!(" and replaced {}", thousands(tally.replaced))
    } else {
        String::new()
    };
    let mut out = Out::new();
    out.line(format_args!(
        "copied {}{replaced} to {} in {:.1} s; all {} are equal on both sides",
        many(tally.created, "key"),
        to.display(),
        started.elapsed().as_secs_f64(),
        thousands(tally.equal),
    ))?;
    Ok(out.finish()?)
}

/// The error if keys differ in the end.
fn describe(
    different: &[Name],
    from: &StoreConfig,
    to: &StoreConfig,
    settings: Settings,
) -> String {
    let verb = if different.len() == 1 {
        "differs"
    } else {
        "differ"
    };
    let hint = if settings.overwrite {
        "They keep changing: run this again when nothing writes to FROM any more"
    } else {
        "They had another value in TO before, or have changed in FROM since they were copied. Use --overwrite to replace them"
    };
    format!(
        "{} in {} {verb} from {}: {}. {hint}",
        many(different.len() as u64, "key"),
        to.display(),
        from.display(),
        list(different.iter().map(|name| printable(name))),
    )
}

/// Whether a store has string ids. A store that does not exist has none.
fn has_string_ids(store: &StoreConfig) -> anyhow::Result<bool> {
    match store.open_to_read() {
        Ok(tracker) => Ok(tracker.assigned()?.is_some()),
        Err(error) if matches!(error.downcast_ref(), Some(StoreError::Missing(_))) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a key is one of the temporary keys of a request. The keys of an event named `bitop` look
/// similar.
fn is_temporary(prefix: &Prefix, name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    text.strip_prefix(prefix.as_str())
        .is_some_and(|rest| rest.starts_with(SCRATCH))
        && Key::parse(prefix, &text).is_none()
}

/// The name of a key without control characters.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// The outcome of a copy.
#[derive(Default)]
struct Tally {
    created: u64,
    replaced: u64,
    equal: u64,
    /// The number of keys that were deleted in FROM during the copy.
    deleted: u64,
    skipped: BTreeMap<Name, Obstacle>,
}

/// Why a key was not copied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    /// An embedded store does not have this type.
    Type {
        kind: String,
        store: String,
    },
    NotUtf8 {
        store: String,
    },
    LongName,
    /// The server cannot read the dump. This is a failure, the others are expected.
    Unreadable {
        kind: String,
        reason: String,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Type { kind, store } => {
                write!(f, "of type {kind}, because {store} can have only strings")
            }
            Obstacle::NotUtf8 { store } => write!(
                f,
                "with a name that is not UTF-8, which {store} cannot have"
            ),
            Obstacle::LongName => f.write_str("with a name of more than 64 KiB"),
            Obstacle::Unreadable { kind, reason } => {
                write!(f, "of type {kind} that TO cannot read ({reason})")
            }
        }
    }
}

impl Tally {
    /// The number of keys that should have been copied and were not.
    fn failed(&self) -> u64 {
        let failed = self
            .skipped
            .values()
            .filter(|obstacle| matches!(obstacle, Obstacle::Unreadable { .. }));
        failed.count() as u64
    }

    fn print(&self) {
        let mut by_obstacle: BTreeMap<&Obstacle, Vec<&Name>> = BTreeMap::new();
        for (name, obstacle) in &self.skipped {
            by_obstacle.entry(obstacle).or_default().push(name);
        }
        for (obstacle, names) in by_obstacle {
            status!(
                "left out {} {obstacle}: {}",
                many(names.len() as u64, "key"),
                list(names.iter().map(|name| printable(name)))
            );
        }
        if self.deleted > 0 {
            status!(
                "{} deleted in FROM in the meantime",
                many(self.deleted, "key")
            );
        }
    }
}

/// One side of a copy.
enum End {
    Server(Server),
    Keyspace(Keyspace),
}

impl End {
    fn open(config: &StoreConfig) -> anyhow::Result<Self> {
        if config.is_redis() {
            return Ok(End::Server(config.open_server()?));
        }
        Ok(End::Keyspace(config.open_embedded(true)?.keyspace()))
    }

    fn open_to_read(config: &StoreConfig) -> anyhow::Result<Self> {
        if config.is_redis() {
            return Ok(End::Server(config.open_server()?));
        }
        Ok(End::Keyspace(config.open_embedded(false)?.keyspace()))
    }

    fn names(&self) -> anyhow::Result<Vec<Name>> {
        match self {
            End::Server(server) => Ok(server.names()?.into_iter().collect()),
            End::Keyspace(keyspace) => {
                let mut names: Vec<Name> =
                    keyspace.read(|txn| Ok(txn.keys()?.iter().map(Name::from).collect()))?;
                names.sort_unstable();
                Ok(names)
            }
        }
    }

    fn kinds(&self, names: &[&[u8]]) -> anyhow::Result<Vec<Kind>> {
        match self {
            End::Server(server) => Ok(server.kinds(names)?),
            End::Keyspace(keyspace) => {
                let kinds =
                    keyspace.read(|txn| names.iter().map(|name| kind_of(txn, name)).collect())?;
                Ok(kinds)
            }
        }
    }

    /// Reads strings as bitmaps. Returns `None` for keys of other types, and keys that were deleted
    /// in the meantime.
    fn bitmaps(&self, keys: &[TypedKey<'_>]) -> anyhow::Result<Vec<Option<Snapshot>>> {
        let strings = keys.iter().filter(|(_, kind)| kind.name == STRING);
        let read = match self {
            End::Server(server) => {
                let strings: Vec<(&[u8], u64)> =
                    strings.map(|(name, kind)| (*name, kind.bytes)).collect();
                server.bitmaps(&strings)?
            }
            End::Keyspace(keyspace) => keyspace.read(|txn| {
                strings
                    .map(|(name, _)| match std::str::from_utf8(name) {
                        Ok(text) => txn.snapshot(text),
                        Err(_) => Ok(None),
                    })
                    .collect::<store::Result<Vec<_>>>()
            })?,
        };
        let mut read = read.into_iter();
        let bitmaps = keys.iter().map(|(_, kind)| {
            if kind.name == STRING {
                read.next().expect("each string was read")
            } else {
                None
            }
        });
        Ok(bitmaps.collect())
    }

    fn put(&self, keys: &[Bits<'_>], replace: bool) -> anyhow::Result<Vec<Made>> {
        match self {
            End::Server(server) => Ok(server.put(keys, replace)?),
            End::Keyspace(keyspace) => {
                let made = keyspace.change(|txn| {
                    keys.iter()
                        .map(|bits| put_bits(txn, bits, replace))
                        .collect()
                })?;
                Ok(made)
            }
        }
    }
}

/// The type of a key in an embedded store.
fn kind_of(txn: ReadTxn<'_>, name: &[u8]) -> store::Result<Kind> {
    match std::str::from_utf8(name) {
        Ok(text) if txn.exists(text)? => Ok(Kind {
            name: STRING.to_owned(),
            bytes: txn.len(text)?,
            lifetime: txn
                .expires_at(text)
                .map(|expires_at| expires_at.saturating_sub(now())),
        }),
        _ => Ok(Kind {
            name: NONE.to_owned(),
            bytes: 0,
            lifetime: None,
        }),
    }
}

fn put_bits(txn: &mut WriteTxn<'_>, bits: &Bits<'_>, replace: bool) -> store::Result<Made> {
    let (name, bitmap, lifetime) = bits;
    let text = std::str::from_utf8(name).expect("other names have an obstacle");
    if !replace && txn.read().exists(text)? {
        return Ok(Made::Taken);
    }
    let expires_at = lifetime.map(|left| now().saturating_add(left));
    txn.put_snapshot(text, bitmap, expires_at)?;
    Ok(Made::New)
}

/// Milliseconds since 1970 by the system's clock. Keys expire by that clock, not by `--now`.
fn now() -> u64 {
    let millis = Clock::System.now().timestamp_millis();
    u64::try_from(millis).expect("the clock is after 1970")
}

struct Copier {
    from: End,
    to: End,
    /// The name of the store to copy to.
    to_display: String,
}

/// A key with its type and size.
type TypedKey<'a> = (&'a [u8], Kind);

/// The outcome of creating keys.
#[derive(Default)]
struct Created {
    count: u64,
    /// The number of keys that existed.
    existing: u64,
}

impl Created {
    fn record(&mut self, made: &Made) {
        match made {
            Made::New => self.count += 1,
            Made::Taken | Made::Unreadable(_) => self.existing += 1,
        }
    }
}

impl Copier {
    /// Creates the keys that TO does not have. Returns the number of keys that it has.
    fn create_all(&self, names: &[Name], tally: &mut Tally) -> anyhow::Result<u64> {
        let bar = progress_bar(names.len(), "copied");
        let mut existing = 0;
        for names in names.chunks(BATCH_KEYS) {
            existing += self.create_missing(names, tally)?;
            bar.inc(names.len() as u64);
        }
        bar.finish_and_clear();
        Ok(existing)
    }

    /// Replaces keys in TO.
    fn replace(&self, names: &[Name], tally: &mut Tally) -> anyhow::Result<()> {
        for names in names.chunks(BATCH_KEYS) {
            let keys = self.typed(names)?;
            tally.replaced += self.create(&keys, true, &mut tally.skipped)?.count;
        }
        Ok(())
    }

    /// The types and sizes of keys in FROM.
    fn typed<'a>(&self, names: &'a [Name]) -> anyhow::Result<Vec<TypedKey<'a>>> {
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let kinds = self.from.kinds(&names)?;
        Ok(names.into_iter().zip(kinds).collect())
    }

    /// Returns why TO cannot have a key, if it cannot.
    fn obstacle(&self, name: &[u8], kind: &Kind) -> Option<Obstacle> {
        if matches!(self.to, End::Server(_)) || kind.name == NONE {
            return None;
        }
        let store = self.to_display.clone();
        if kind.name != STRING {
            let kind = kind.name.clone();
            return Some(Obstacle::Type { kind, store });
        }
        if std::str::from_utf8(name).is_err() {
            return Some(Obstacle::NotUtf8 { store });
        }
        (name.len() > LONGEST_NAME).then_some(Obstacle::LongName)
    }

    /// Creates those of the keys that TO does not have. Returns the number of keys that it has.
    fn create_missing(&self, names: &[Name], tally: &mut Tally) -> anyhow::Result<u64> {
        let mut keys = self.typed(names)?;
        keys.retain(|(name, kind)| match self.obstacle(name, kind) {
            Some(obstacle) => {
                tally.skipped.insert(name.to_vec(), obstacle);
                false
            }
            None => true,
        });
        let names: Vec<&[u8]> = keys.iter().map(|(name, _)| *name).collect();
        let copies = self.to.kinds(&names)?;
        let total = keys.len() as u64;
        let missing: Vec<TypedKey<'_>> = keys
            .into_iter()
            .zip(copies)
            .filter(|(_, copy)| copy.name == NONE)
            .map(|(key, _)| key)
            .collect();
        let existing = total - missing.len() as u64;
        let created = self.create(&missing, false, &mut tally.skipped)?;
        tally.created += created.count;
        Ok(existing + created.existing)
    }

    /// Creates keys, or replaces existing ones with `replace`.
    fn create(
        &self,
        keys: &[TypedKey<'_>],
        replace: bool,
        skipped: &mut BTreeMap<Name, Obstacle>,
    ) -> anyhow::Result<Created> {
        let mut created = Created::default();
        for group in groups(keys) {
            match (&self.from, &self.to) {
                (End::Server(from), End::Server(to)) => {
                    self.restore(from, to, group, replace, skipped, &mut created)?;
                }
                _ => self.put(group, replace, &mut created)?,
            }
        }
        Ok(created)
    }

    /// Copies keys from one server to another with DUMP and RESTORE.
    fn restore(
        &self,
        from: &Server,
        to: &Server,
        group: &[TypedKey<'_>],
        replace: bool,
        skipped: &mut BTreeMap<Name, Obstacle>,
        created: &mut Created,
    ) -> anyhow::Result<()> {
        let dumps = dumps(from, group)?;
        let payloads: Vec<Written<'_>> = group
            .iter()
            .zip(&dumps)
            .filter_map(|((name, kind), dump)| match dump {
                Dump::Payload(payload) => Some((*name, payload.as_slice(), kind.lifetime)),
                Dump::Gone | Dump::Unknown => None,
            })
            .collect();
        let mut restored = to.restore(&payloads, size(group), replace)?.into_iter();
        let mut as_bitmaps = Vec::new();
        for ((name, kind), dump) in group.iter().zip(&dumps) {
            let made = match dump {
                Dump::Payload(_) => restored.next().expect("each payload has an outcome"),
                Dump::Unknown => Made::Unreadable("FROM has no command DUMP".to_owned()),
                Dump::Gone => continue,
            };
            match made {
                // Servers of different versions can still exchange strings.
                Made::Unreadable(_) if kind.name == STRING => {
                    as_bitmaps.push((*name, kind.clone()));
                }
                Made::Unreadable(reason) => {
                    let kind = kind.name.clone();
                    skipped.insert(name.to_vec(), Obstacle::Unreadable { kind, reason });
                }
                made => created.record(&made),
            }
        }
        self.put(&as_bitmaps, replace, created)
    }

    /// Copies the strings among the keys as bitmaps.
    fn put(
        &self,
        keys: &[TypedKey<'_>],
        replace: bool,
        created: &mut Created,
    ) -> anyhow::Result<()> {
        let strings: Vec<TypedKey<'_>> = keys
            .iter()
            .filter(|(_, kind)| kind.name == STRING)
            .cloned()
            .collect();
        let bitmaps = self.from.bitmaps(&strings)?;
        let bits: Vec<Bits<'_>> = strings
            .iter()
            .zip(bitmaps)
            .filter_map(|((name, kind), bitmap)| Some((*name, bitmap?, kind.lifetime)))
            .collect();
        for made in self.to.put(&bits, replace)? {
            created.record(&made);
        }
        Ok(())
    }

    /// Returns the keys that differ.
    fn compare(&self, names: &[Name], tally: &mut Tally) -> anyhow::Result<Vec<Name>> {
        let bar = progress_bar(names.len(), "compared");
        let mut different = Vec::new();
        for names in names.chunks(BATCH_KEYS) {
            let keys = self.typed(names)?;
            for group in groups(&keys) {
                let names: Vec<&[u8]> = group.iter().map(|(name, _)| *name).collect();
                let copies = self.to.kinds(&names)?;
                let copies: Vec<TypedKey<'_>> = names.into_iter().zip(copies).collect();
                let identical = self.identical(group, &copies)?;
                for (((name, kind), (_, copy)), identical) in
                    group.iter().zip(&copies).zip(identical)
                {
                    let is_equal = kind.name == copy.name
                        && (identical || self.has_equal_value(name, kind)?);
                    if kind.name == NONE {
                        tally.deleted += 1;
                    } else if is_equal {
                        tally.equal += 1;
                    } else if self.is_deleted(name)? {
                        tally.deleted += 1;
                    } else {
                        different.push(name.to_vec());
                    }
                }
                bar.inc(group.len() as u64);
            }
        }
        bar.finish_and_clear();
        Ok(different)
    }

    /// Whether a key does not exist in FROM any more.
    fn is_deleted(&self, name: &[u8]) -> anyhow::Result<bool> {
        let kinds = self.from.kinds(&[name])?;
        Ok(kinds.iter().all(|kind| kind.name == NONE))
    }

    /// Returns for each key whether the values are identical in their stored form. Values that are
    /// not may still be equal.
    fn identical(
        &self,
        originals: &[TypedKey<'_>],
        copies: &[TypedKey<'_>],
    ) -> anyhow::Result<Vec<bool>> {
        if let (End::Server(from), End::Server(to)) = (&self.from, &self.to) {
            let originals = dumps(from, originals)?;
            let copies = dumps(to, copies)?;
            return Ok(originals
                .into_iter()
                .zip(copies)
                .map(|(a, b)| matches!(a, Dump::Payload(_)) && a == b)
                .collect());
        }
        let originals = self.from.bitmaps(originals)?;
        let copies = self.to.bitmaps(copies)?;
        Ok(originals
            .into_iter()
            .zip(copies)
            .map(|(a, b)| a.zip(b).is_some_and(|(a, b)| a.same(&b)))
            .collect())
    }

    /// Whether the values are equal, whatever their stored form. Bitmaps have been compared before.
    fn has_equal_value(&self, name: &[u8], kind: &Kind) -> anyhow::Result<bool> {
        match (&self.from, &self.to) {
            // Types that cannot be compared count as different.
            (End::Server(from), End::Server(to)) => Ok(from.same(to, name, kind)?.unwrap_or(false)),
            _ => Ok(false),
        }
    }
}

fn dumps(server: &Server, group: &[TypedKey<'_>]) -> anyhow::Result<Vec<Dump>> {
    let names: Vec<&[u8]> = group.iter().map(|(name, _)| *name).collect();
    Ok(server.dumps(&names, size(group))?)
}

/// The approximate number of bytes that keys take together.
fn size(group: &[TypedKey<'_>]) -> u64 {
    group
        .iter()
        .map(|(_, kind)| kind.bytes)
        .fold(0, u64::saturating_add)
}

/// Divides keys into groups of at most [`BATCH_BYTES`]. A larger value has its own group.
fn groups<'k, 'a>(keys: &'k [TypedKey<'a>]) -> impl Iterator<Item = &'k [TypedKey<'a>]> {
    by_size(keys, BATCH_BYTES, |(_, kind)| kind.bytes)
}

fn progress_bar(keys: usize, action: &str) -> ProgressBar {
    let template = format!("{{bar:30}} {{human_pos}}/{{human_len}} keys {action}, {{eta}} left");
    visible_in_terminal(keys as u64, &template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_contain_every_key_once_and_are_not_too_large() {
        let key = |bytes| {
            (
                &b"x"[..],
                Kind {
                    name: "string".to_owned(),
                    bytes,
                    lifetime: None,
                },
            )
        };
        let sizes = [
            1,
            BATCH_BYTES - 1,
            1,
            BATCH_BYTES * 3,
            5,
            6,
            BATCH_BYTES,
            BATCH_BYTES / 2,
            BATCH_BYTES / 2,
        ];
        let keys = sizes.map(key);
        let groups: Vec<Vec<u64>> = groups(&keys)
            .map(|g| g.iter().map(|(_, kind)| kind.bytes).collect())
            .collect();
        assert_eq!(groups.concat(), sizes);
        assert!(
            groups
                .iter()
                .all(|group| group.len() == 1 || group.iter().sum::<u64>() <= BATCH_BYTES),
            "{groups:?}"
        );
        assert_eq!(
            groups.iter().map(Vec::len).collect::<Vec<_>>(),
            [2, 1, 1, 2, 1, 2]
        );
    }

    #[test]
    fn temporary_keys_are_recognized_by_their_names() {
        let prefix = Prefix::new("trackist_");
        for (name, temporary) in [
            ("trackist_bitop_cohortist:1:0", true),
            ("trackist_bitop_", true),
            ("trackist_bitop_2026-11", false),
            ("trackist_active_2026-11", false),
            ("bitop_x", false),
            ("other", false),
        ] {
            assert_eq!(is_temporary(&prefix, name.as_bytes()), temporary, "{name}");
        }
    }
}
