//! `cohortist copy --all-keys`: a whole database, keys of others included.
//!
//! Between two Redis values travel as Redis writes them down (DUMP, RESTORE), so that every type
//! arrives. Where an end is an embedded store, which holds bitmaps alone, strings travel as
//! bitmaps. Either way a key is made whole or not at all and none is replaced unasked, so that an
//! interrupted copy can be run again. At the end all of them are compared.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::copy::NAMED;
use crate::cli::output::{Out, say};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::render::{many, thousands};
use crate::sets::{Key, Prefix, SCRATCH};
use crate::store::Snapshot;
use crate::store::embedded::Keyspace;
use crate::store::redis::{Bits, Dump, Kind, Made, Server, Written};
use crate::store::{self, StoreError};

/// How many keys are looked at in one go.
const AT_ONCE: usize = 500;

/// How many bytes of values are in memory at once, unless a single value is larger.
const BYTES_AT_ONCE: u64 = 16 << 20;

/// The longest name of a key in an embedded store, in bytes.
const LONGEST_NAME: usize = 64 << 10;

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Replace what TO holds otherwise.
    pub overwrite: bool,
}

type Name = Vec<u8>;

/// Copies every key of a store into another one, and compares them.
pub fn copy(
    from: &StoreConfig,
    to: &StoreConfig,
    settings: Settings,
    started: Instant,
) -> anyhow::Result<()> {
    if !(from.is_redis() && to.is_redis()) && (is_of_texts(from)? || is_of_texts(to)?) {
        bail!(
            "users are called by text ids, which do not go from or to a path with --all-keys: leave it away, and events are copied with their text ids"
        );
    }
    let source = End::open(from, false)?;
    let mut names = source.names()?;
    let prefix = Prefix::new(from.prefix());
    names.retain(|name| !is_temporary(&prefix, name));
    if names.is_empty() {
        bail!("{} holds no keys: nothing was copied", from.shown());
    }
    let copying = Copying {
        from: source,
        to: End::open(to, true)?,
        shown: to.shown(),
    };
    let mut tally = Tally::default();
    let progress = bar(names.len() as u64, "copied");
    let mut there = Vec::new();
    for some in names.chunks(AT_ONCE) {
        copying.make_missing(some, &mut tally, &mut there)?;
        progress.inc(some.len() as u64);
    }
    progress.finish_and_clear();
    if !there.is_empty() {
        say!(
            "{} of {} there already",
            thousands(there.len() as u64),
            many(names.len() as u64, "key")
        );
    }
    let wanted: Vec<Name> = names
        .into_iter()
        .filter(|name| !tally.left_out.contains_key(name))
        .collect();
    let mut unlike = copying.compare(&wanted, &mut tally)?;
    if settings.overwrite && !unlike.is_empty() {
        for some in unlike.chunks(AT_ONCE) {
            tally.replaced += copying
                .make(&copying.known(some)?, true, &mut tally.left_out)?
                .made;
        }
        unlike.retain(|name| !tally.left_out.contains_key(name));
        unlike = copying.compare(&unlike, &mut tally)?;
    }
    tally.tell();
    if !unlike.is_empty() {
        let mend = if settings.overwrite {
            "It goes on changing: run this again when nothing writes there any more"
        } else {
            "What was there before, or has changed meanwhile, was left as it is; --overwrite puts FROM's in its place"
        };
        bail!(
            "{} in {} {} from what {} holds: {}. {mend}",
            many(unlike.len() as u64, "key"),
            to.shown(),
            if unlike.len() == 1 {
                "differs"
            } else {
                "differ"
            },
            from.shown(),
            listed(unlike.iter().map(|name| shown(name)), unlike.len())
        );
    }
    if tally.unreadable > 0 {
        bail!(
            "{} of {} could not be copied",
            many(tally.unreadable, "key"),
            from.shown()
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
        many(tally.made, "key"),
        to.shown(),
        started.elapsed().as_secs_f64(),
        thousands(tally.equal),
    ))?;
    Ok(out.finish()?)
}

/// Whether the users of a store are called by texts; nobody is in one that is not there.
fn is_of_texts(store: &StoreConfig) -> anyhow::Result<bool> {
    match store.open_to_read() {
        Ok(tracker) => Ok(tracker.assigned()?.is_some()),
        Err(error) if matches!(error.downcast_ref(), Some(StoreError::Missing(_))) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a key is one of those that requests make and delete again. An event called `bitop` has
/// keys that look like it.
fn is_temporary(prefix: &Prefix, name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    let behind = text.strip_prefix(prefix.as_str());
    behind.is_some_and(|rest| rest.starts_with(SCRATCH)) && Key::parse(prefix, &text).is_none()
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn listed(names: impl Iterator<Item = String>, count: usize) -> String {
    let some: Vec<String> = names.take(NAMED).collect();
    let more = if count > NAMED {
        format!(" and {} more", thousands((count - NAMED) as u64))
    } else {
        String::new()
    };
    format!("{}{more}", some.join(", "))
}

/// What became of the keys.
#[derive(Default)]
struct Tally {
    made: u64,
    replaced: u64,
    equal: u64,
    gone: u64,
    unreadable: u64,
    left_out: BTreeMap<Name, LeftOut>,
}

/// Why a key was not copied.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct LeftOut {
    why: String,
    /// Neither end can read or write the value, so the copy fails at its end.
    is_unreadable: bool,
}

impl LeftOut {
    /// A key that the other end does not hold at all.
    fn unfit(why: String) -> Self {
        LeftOut {
            why,
            is_unreadable: false,
        }
    }

    /// A key whose value did not get through.
    fn unreadable(kind: &Kind, words: &str) -> Self {
        LeftOut {
            why: format!("that TO cannot take, of type {} ({words})", kind.name),
            is_unreadable: true,
        }
    }
}

impl Tally {
    fn tell(&mut self) {
        let mut by_reason: BTreeMap<&LeftOut, Vec<&Name>> = BTreeMap::new();
        for (name, left_out) in &self.left_out {
            by_reason.entry(left_out).or_default().push(name);
        }
        for (LeftOut { why, is_unreadable }, names) in by_reason {
            if *is_unreadable {
                self.unreadable += names.len() as u64;
            }
            let named = listed(names.iter().map(|name| shown(name)), names.len());
            say!(
                "left out {} {why}: {named}",
                many(names.len() as u64, "key")
            );
        }
        if self.gone > 0 {
            say!("{} went from FROM meanwhile", many(self.gone, "key"));
        }
    }
}

/// One end of a copy.
enum End {
    Server(Server),
    Keyspace(Keyspace),
}

impl End {
    fn open(config: &StoreConfig, to_write: bool) -> anyhow::Result<Self> {
        if config.is_redis() {
            return Ok(End::Server(config.open_server()?));
        }
        Ok(End::Keyspace(config.open_embedded(to_write)?.keyspace()))
    }

    fn names(&self) -> anyhow::Result<Vec<Name>> {
        Ok(match self {
            End::Server(server) => server.names()?.into_iter().collect(),
            End::Keyspace(space) => {
                let mut names = space
                    .read(|look| Ok(look.keys()?.iter().map(Name::from).collect::<Vec<_>>()))?;
                names.sort_unstable();
                names
            }
        })
    }

    fn kinds(&self, names: &[&[u8]]) -> anyhow::Result<Vec<Kind>> {
        let none = || Kind {
            name: "none".to_owned(),
            bytes: 0,
            lifetime: None,
        };
        match self {
            End::Server(server) => Ok(server.kinds(names)?),
            End::Keyspace(space) => Ok(space.read(|look| {
                let kind = |name: &&[u8]| -> store::Result<Kind> {
                    let Ok(text) = std::str::from_utf8(name) else {
                        return Ok(none());
                    };
                    if !look.exists(text)? {
                        return Ok(none());
                    }
                    let lifetime = look
                        .expires_at(text)
                        .map(|until| until.saturating_sub(now()));
                    Ok(Kind {
                        name: "string".to_owned(),
                        bytes: look.len(text)?,
                        lifetime,
                    })
                };
                names.iter().map(kind).collect()
            })?),
        }
    }

    /// Strings as bitmaps; `None` for what is none, or is gone.
    fn bitmaps(&self, keys: &[Known<'_>]) -> anyhow::Result<Vec<Option<Snapshot>>> {
        let strings = keys.iter().filter(|(_, kind)| kind.name == "string");
        let read = match self {
            End::Server(server) => server.bitmaps(
                &strings
                    .map(|(name, kind)| (*name, kind.bytes))
                    .collect::<Vec<_>>(),
            )?,
            End::Keyspace(space) => space.read(|look| {
                let read = strings.map(|(name, _)| match std::str::from_utf8(name) {
                    Ok(text) => look.snapshot(text),
                    Err(_) => Ok(None),
                });
                read.collect::<store::Result<Vec<_>>>()
            })?,
        };
        let mut read = read.into_iter();
        let each = |(_, kind): &Known<'_>| {
            (kind.name == "string")
                .then(|| read.next())
                .flatten()
                .flatten()
        };
        Ok(keys.iter().map(each).collect())
    }

    fn put(&self, keys: &[Bits<'_>], replace: bool) -> anyhow::Result<Vec<Made>> {
        match self {
            End::Server(server) => Ok(server.put(keys, replace)?),
            End::Keyspace(space) => Ok(space.change(|space| {
                let mut put = |(name, bitmap, lifetime): &Bits<'_>| -> store::Result<Made> {
                    let Ok(text) = std::str::from_utf8(name) else {
                        return Ok(Made::Taken);
                    };
                    if !replace && space.read().exists(text)? {
                        return Ok(Made::Taken);
                    }
                    space.put_snapshot(
                        text,
                        bitmap,
                        lifetime.map(|left| now().saturating_add(left)),
                    )?;
                    Ok(Made::New)
                };
                keys.iter().map(&mut put).collect()
            })?),
        }
    }
}

/// Milliseconds since 1970 by the system's clock, which is the one keys live by, whatever --now
/// says.
fn now() -> u64 {
    u64::try_from(Clock::System.now().timestamp_millis()).unwrap_or(0)
}

struct Copying {
    from: End,
    to: End,
    shown: String,
}

/// A key with what it is.
type Known<'a> = (&'a [u8], Kind);

/// What came of making keys.
#[derive(Default)]
struct MadeOf {
    made: u64,
    taken: Vec<Name>,
}

impl Copying {
    fn known<'a>(&self, names: &'a [Name]) -> anyhow::Result<Vec<Known<'a>>> {
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let kinds = self.from.kinds(&names)?;
        Ok(names.into_iter().zip(kinds).collect())
    }

    /// Whether a key fits into the other end; if not, why.
    fn obstacle(&self, name: &[u8], kind: &Kind) -> Option<String> {
        let (End::Keyspace(_), text) = (&self.to, std::str::from_utf8(name)) else {
            return None;
        };
        match text {
            _ if kind.name == "none" => None,
            _ if kind.name != "string" => Some(format!(
                "of type {}, as {} holds bitmaps and other strings alone",
                kind.name, self.shown
            )),
            Err(_) => Some(format!(
                "with a name that is not UTF-8, as {} has none such",
                self.shown
            )),
            Ok(text) if text.len() > LONGEST_NAME => {
                Some("with a name of more than 64 KiB".to_owned())
            }
            Ok(_) => None,
        }
    }

    /// Makes those that the other end does not have; notes the others.
    fn make_missing(
        &self,
        names: &[Name],
        tally: &mut Tally,
        there: &mut Vec<Name>,
    ) -> anyhow::Result<()> {
        let mut wanted = self.known(names)?;
        wanted.retain(|(name, kind)| match self.obstacle(name, kind) {
            Some(why) => {
                tally.left_out.insert(name.to_vec(), LeftOut::unfit(why));
                false
            }
            None => true,
        });
        let only: Vec<&[u8]> = wanted.iter().map(|(name, _)| *name).collect();
        let mut missing = Vec::new();
        for (known, copy) in wanted.into_iter().zip(self.to.kinds(&only)?) {
            if copy.name == "none" {
                missing.push(known)
            } else {
                there.push(known.0.to_vec())
            }
        }
        let MadeOf { made, taken } = self.make(&missing, false, &mut tally.left_out)?;
        tally.made += made;
        there.extend(taken);
        Ok(())
    }

    /// Makes keys, or with `replace` puts them in place of what there is.
    fn make(
        &self,
        keys: &[Known<'_>],
        replace: bool,
        left_out: &mut BTreeMap<Name, LeftOut>,
    ) -> anyhow::Result<MadeOf> {
        let mut of = MadeOf::default();
        for group in groups(keys) {
            let dumps = match (&self.from, &self.to) {
                (End::Server(from), End::Server(to)) => Some((to, dumps(from, group)?)),
                _ => None,
            };
            let Some((to, dumps)) = dumps else {
                self.put(group, replace, &mut of)?;
                continue;
            };
            let written = group
                .iter()
                .zip(&dumps)
                .filter_map(|((name, kind), dump)| match dump {
                    Dump::Payload(payload) => Some((*name, payload.as_slice(), kind.lifetime)),
                    Dump::Gone | Dump::Unknown => None,
                });
            let written: Vec<Written<'_>> = written.collect();
            let mut made = to.restore(&written, size(group), replace)?.into_iter();
            let mut as_bitmaps = Vec::new();
            for ((name, kind), dump) in group.iter().zip(&dumps) {
                let outcome = match dump {
                    Dump::Payload(_) => made.next().unwrap_or(Made::Taken),
                    Dump::Unknown => Made::Unreadable("FROM does not know DUMP".to_owned()),
                    Dump::Gone => continue,
                };
                match outcome {
                    // Between servers of different age a string still is what it is.
                    Made::Unreadable(_) if kind.name == "string" => {
                        as_bitmaps.push((*name, kind.clone()))
                    }
                    Made::Unreadable(words) => {
                        left_out.insert(name.to_vec(), LeftOut::unreadable(kind, &words));
                    }
                    outcome => of.note(name, outcome),
                }
            }
            self.put(&as_bitmaps, replace, &mut of)?;
        }
        Ok(of)
    }

    /// Makes keys that are strings, or does so in place of what there is.
    fn put(&self, keys: &[Known<'_>], replace: bool, of: &mut MadeOf) -> anyhow::Result<()> {
        let strings: Vec<Known<'_>> = keys
            .iter()
            .filter(|(_, kind)| kind.name == "string")
            .cloned()
            .collect();
        let bitmaps = self.from.bitmaps(&strings)?;
        let bits = strings
            .iter()
            .zip(bitmaps)
            .filter_map(|((name, kind), bitmap)| Some((*name, bitmap?, kind.lifetime)));
        let bits: Vec<Bits<'_>> = bits.collect();
        let made = self.to.put(&bits, replace)?;
        bits.iter()
            .zip(made)
            .for_each(|((name, ..), made)| of.note(name, made));
        Ok(())
    }

    /// The keys that are not the same on both sides.
    fn compare(&self, names: &[Name], tally: &mut Tally) -> anyhow::Result<Vec<Name>> {
        let progress = bar(names.len() as u64, "compared");
        let mut unlike = Vec::new();
        for some in names.chunks(AT_ONCE) {
            let known = self.known(some)?;
            for group in groups(&known) {
                let only: Vec<&[u8]> = group.iter().map(|(name, _)| *name).collect();
                let copies = self.to.kinds(&only)?;
                let copies: Vec<Known<'_>> = only.into_iter().zip(copies).collect();
                let alike = self.alike(group, &copies)?;
                for (((name, kind), (_, copy)), alike) in group.iter().zip(&copies).zip(alike) {
                    if kind.name == "none" {
                        tally.gone += 1;
                    } else if kind.name == copy.name && (alike || self.same(name, kind)?) {
                        tally.equal += 1;
                    } else if self
                        .known(&[name.to_vec()])?
                        .iter()
                        .all(|(_, kind)| kind.name == "none")
                    {
                        // Its time was over while it was looked at.
                        tally.gone += 1;
                    } else {
                        unlike.push(name.to_vec());
                    }
                }
                progress.inc(group.len() as u64);
            }
        }
        progress.finish_and_clear();
        Ok(unlike)
    }

    /// For each key whether at first sight the values are the same; if not, they may yet be,
    /// written down otherwise.
    fn alike(&self, originals: &[Known<'_>], copies: &[Known<'_>]) -> anyhow::Result<Vec<bool>> {
        if let (End::Server(from), End::Server(to)) = (&self.from, &self.to) {
            let dumped = dumps(from, originals)?.into_iter().zip(dumps(to, copies)?);
            return Ok(dumped
                .map(|(a, b)| matches!(a, Dump::Payload(_)) && a == b)
                .collect());
        }
        let bitmaps = self
            .from
            .bitmaps(originals)?
            .into_iter()
            .zip(self.to.bitmaps(copies)?);
        Ok(bitmaps
            .map(|(a, b)| a.zip(b).is_some_and(|(a, b)| a.same(&b)))
            .collect())
    }

    /// Whether the values are the same, however they are written down.
    fn same(&self, name: &[u8], kind: &Kind) -> anyhow::Result<bool> {
        match (&self.from, &self.to) {
            (End::Server(from), End::Server(to)) => Ok(from.same(to, name, kind)?.unwrap_or(false)),
            // Bitmaps have been looked at.
            _ => Ok(false),
        }
    }
}

impl MadeOf {
    fn note(&mut self, name: &[u8], made: Made) {
        match made {
            Made::New => self.made += 1,
            Made::Taken | Made::Unreadable(_) => self.taken.push(name.to_vec()),
        }
    }
}

fn dumps(server: &Server, group: &[Known<'_>]) -> anyhow::Result<Vec<Dump>> {
    let names: Vec<&[u8]> = group.iter().map(|(name, _)| *name).collect();
    Ok(server.dumps(&names, size(group))?)
}

/// About how many bytes keys take together.
fn size(group: &[Known<'_>]) -> u64 {
    group
        .iter()
        .map(|(_, kind)| kind.bytes)
        .fold(0, u64::saturating_add)
}

/// Keys in groups whose values fit into memory together; one that is larger is a group of its own.
fn groups<'k, 'a>(keys: &'k [Known<'a>]) -> impl Iterator<Item = &'k [Known<'a>]> {
    let mut sum = 0_u64;
    keys.chunk_by(move |(_, before), (_, next)| {
        sum = sum.saturating_add(before.bytes);
        let fits = sum.saturating_add(next.bytes) <= BYTES_AT_ONCE;
        if !fits {
            sum = 0;
        }
        fits
    })
}

fn bar(keys: u64, done: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(keys), ProgressDrawTarget::hidden());
    if io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(&format!(
            "{{bar:30}} {{human_pos}}/{{human_len}} keys {done}, {{eta}} left"
        ));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_every_key_once_and_no_more_than_fits() {
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
            BYTES_AT_ONCE - 1,
            1,
            BYTES_AT_ONCE * 3,
            5,
            6,
            BYTES_AT_ONCE,
            BYTES_AT_ONCE / 2,
            BYTES_AT_ONCE / 2,
        ];
        let keys = sizes.map(key);
        let groups: Vec<Vec<u64>> = groups(&keys)
            .map(|g| g.iter().map(|(_, kind)| kind.bytes).collect())
            .collect();
        assert_eq!(groups.concat(), sizes);
        assert!(
            groups
                .iter()
                .all(|group| group.len() == 1 || group.iter().sum::<u64>() <= BYTES_AT_ONCE),
            "{groups:?}"
        );
        assert_eq!(
            groups.iter().map(Vec::len).collect::<Vec<_>>(),
            [2, 1, 1, 2, 1, 2]
        );
    }

    #[test]
    fn temporary_keys_are_known_by_their_names() {
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
