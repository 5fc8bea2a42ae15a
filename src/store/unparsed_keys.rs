//! Keys that a list of events leaves out: those that do not belong to an event, and those under
//! other prefixes.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sets::{Catalogue, EventName, Key, Prefix, SCRATCH};

/// The names of keys that a server lists, without duplicates.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub texts: BTreeSet<String>,
    /// Names that are not UTF-8. They cannot belong to an event.
    pub others: BTreeSet<Vec<u8>>,
}

impl Names {
    /// Keeps those that begin with `start`.
    pub(super) fn beginning_with(mut self, start: &str) -> Self {
        self.texts.retain(|text| text.starts_with(start));
        self.others
            .retain(|name| name.starts_with(start.as_bytes()));
        self
    }
}

impl Extend<Vec<u8>> for Names {
    fn extend<T: IntoIterator<Item = Vec<u8>>>(&mut self, names: T) {
        for name in names {
            match String::from_utf8(name) {
                Ok(text) => self.texts.insert(text),
                Err(error) => self.others.insert(error.into_bytes()),
            };
        }
    }
}

/// Keys that begin with the prefix and do not belong to an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnparsedKeys {
    /// How many there are.
    pub count: u64,
    /// One of them; what of it is not UTF-8 is replaced by `�`.
    pub example: String,
}

/// What the last list of all keys left out.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    found: Mutex<UnparsedKeys>,
    /// Keys that read like those of events, and are of another type than bitmaps.
    other_types: Mutex<BTreeSet<String>>,
    /// Whether a request came upon such a key since they were looked for. Types are not asked for
    /// otherwise: that would cost a command for each key.
    suspects: AtomicBool,
}

impl LeftOut {
    pub(super) fn get(&self) -> UnparsedKeys {
        locked(&self.found).clone()
    }

    /// Makes the next listing look for keys of other types.
    pub(super) fn suspect(&self) {
        self.suspects.store(true, Ordering::Relaxed);
    }

    /// Returns the keys of events among names that begin with the prefix and `starting_with`.
    /// `plain` turns a name into the name of the key on a single server, and returns `None` for a
    /// name that the store does not read. `of_other_types` selects the keys that are not bitmaps.
    pub(super) fn parse<'a, E>(
        &self,
        prefix: &Prefix,
        starting_with: &str,
        names: &'a Names,
        plain: impl Fn(&'a str) -> Option<Cow<'a, str>>,
        of_other_types: impl FnOnce(&[&'a String]) -> Result<BTreeSet<String>, E>,
    ) -> Result<Vec<Key>, E> {
        let mut listing = Listing::new(prefix, starting_with);
        let is_event = |text: &'a String| {
            plain(text).is_some_and(|plain| Key::parse(prefix, &plain).is_some())
        };
        listing.other_types = self.other_types(&names.texts, is_event, of_other_types, &listing)?;
        names
            .texts
            .iter()
            .for_each(|text| listing.take(text, plain(text).as_deref()));
        names
            .others
            .iter()
            .for_each(|name| listing.leave_out(&String::from_utf8_lossy(name)));
        Ok(self.keep(listing))
    }

    /// Returns those of `texts` that are keys of other types. If such keys are suspected, all texts
    /// are checked, and otherwise only the keys that were of another type before.
    fn other_types<'a, E>(
        &self,
        texts: &'a BTreeSet<String>,
        is_event: impl Fn(&'a String) -> bool,
        of_other_types: impl FnOnce(&[&'a String]) -> Result<BTreeSet<String>, E>,
        listing: &Listing<'_>,
    ) -> Result<BTreeSet<String>, E> {
        let suspects = match listing.is_of_all() {
            true => self.suspects.swap(false, Ordering::Relaxed),
            false => self.suspects.load(Ordering::Relaxed),
        };
        let known = locked(&self.other_types).clone();
        if !suspects && known.is_empty() {
            return Ok(known);
        }
        let asked: Vec<&String> = texts
            .iter()
            .filter(|text| known.contains(*text) || (suspects && is_event(text)))
            .collect();
        let found = of_other_types(&asked).inspect_err(|_| {
            self.suspects.fetch_or(suspects, Ordering::Relaxed);
        })?;
        let mut known = locked(&self.other_types);
        if listing.is_of_all() {
            known.clear();
        }
        known.extend(found.iter().cloned());
        Ok(found)
    }

    /// The keys of a listing; one of all keys also finds out which are not bitmaps of events.
    pub(super) fn keep(&self, listing: Listing<'_>) -> Vec<Key> {
        let is_of_all = listing.is_of_all();
        let Listing {
            mut keys,
            strays,
            spoiled,
            ..
        } = listing;
        if is_of_all {
            *locked(&self.found) = strays;
        }
        if !spoiled.is_empty() {
            keys.retain(|key| !spoiled.contains(key));
        }
        keys
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The keys of events, collected from texts that begin with the prefix and `starting_with`. The
/// latter may match more than a name: `song_u` is a key of `song`.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    prefix: &'a Prefix,
    starting_with: &'a str,
    keys: Vec<Key>,
    strays: UnparsedKeys,
    /// Texts that are not bitmaps, whatever they read like.
    other_types: BTreeSet<String>,
    /// What those read like. A bitmap that a cluster keeps in parts cannot be read when one of them
    /// is of another type.
    spoiled: BTreeSet<Key>,
}

impl<'a> Listing<'a> {
    pub(super) fn new(prefix: &'a Prefix, starting_with: &'a str) -> Self {
        Listing {
            prefix,
            starting_with,
            keys: Vec::new(),
            strays: UnparsedKeys::default(),
            other_types: BTreeSet::new(),
            spoiled: BTreeSet::new(),
        }
    }

    fn is_of_all(&self) -> bool {
        self.starting_with.is_empty()
    }

    /// Adds the next text, with the name of the key on a single server.
    pub(super) fn take(&mut self, text: &str, plain: Option<&str>) {
        match plain.and_then(|plain| Key::parse(self.prefix, plain)) {
            Some(key) if self.other_types.contains(text) => {
                self.spoiled.insert(key);
                self.leave_out(text);
            }
            Some(key) if key.event().as_str().starts_with(self.starting_with) => {
                // Neighbours of one event share its name: there may be thousands.
                let shared = self
                    .keys
                    .last()
                    .filter(|last| last.event() == key.event())
                    .map(Key::event);
                let key = shared.map_or_else(|| key.clone(), |event| key.with_event(event));
                self.keys.push(key);
            }
            Some(_) => {}
            None if plain.is_some_and(|plain| is_own(self.prefix, plain)) => {}
            None => self.leave_out(text),
        }
    }

    fn leave_out(&mut self, text: &str) {
        if self.strays.count == 0 || *text < *self.strays.example {
            text.clone_into(&mut self.strays.example);
        }
        self.strays.count += 1;
    }
}

/// The `plain` of stores whose keys have their names on a single server.
#[allow(clippy::unnecessary_wraps)]
pub(super) fn as_is(text: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(text))
}

/// Whether a key belongs to the store although it is not of an event: a temporary one, or the
/// string ids.
fn is_own(prefix: &Prefix, text: &str) -> bool {
    let rest = text.strip_prefix(prefix.as_str()).unwrap_or_default();
    rest.starts_with(SCRATCH) || matches!(rest, "ids" | "ids:texts")
}

/// Prefixes that hold events, found by looking at some of a store's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherPrefixes {
    /// Each prefix with the number of its keys: those that go on from the store's own first, then
    /// those with most keys.
    pub found: Vec<(String, u64)>,
    /// Whether all keys were looked at. If not, the numbers are lower bounds.
    pub complete: bool,
}

impl OtherPrefixes {
    /// Returns the longer prefix that explains all events under `own`, if there is one.
    pub(crate) fn longer(own: &Prefix, all: &Catalogue) -> Self {
        let mut prefixes = all.events().map(|known| longer(own, &known.event));
        let prefix = prefixes.next().flatten();
        let found = prefix.filter(|prefix| prefixes.all(|other| other.as_ref() == Some(prefix)));
        let keys = all.keys().len() as u64;
        OtherPrefixes {
            found: found.map(|prefix| (prefix, keys)).into_iter().collect(),
            complete: true,
        }
    }

    /// Returns the prefixes of these keys, except `own`. `prefix_of` finds the likely prefix of the
    /// key of an event.
    pub(super) fn of<'a>(
        own: &Prefix,
        texts: impl IntoIterator<Item = &'a String>,
        complete: bool,
        prefix_of: impl Fn(&'a str) -> Option<&'a str>,
    ) -> Self {
        let own = own.as_str();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for text in texts {
            let is_other = |prefix: &&str| !text.starts_with(own) || prefix.len() > own.len();
            if let Some(prefix) = prefix_of(text).filter(is_other) {
                *counts.entry(prefix).or_default() += 1;
            }
        }
        let mut found: Vec<(String, u64)> = counts
            .into_iter()
            .map(|(prefix, keys)| (prefix.to_owned(), keys))
            .collect();
        // A part of the right prefix is no coincidence.
        found.sort_by_key(|(prefix, keys)| Reverse((prefix.starts_with(own), *keys)));
        OtherPrefixes { found, complete }
    }
}

/// Returns the longer prefix that explains an event under `own`: `trackist_` if `own` is `track` or
/// `trackist`.
fn longer(own: &Prefix, event: &EventName) -> Option<String> {
    const SEPARATORS: [char; 2] = ['_', ':'];
    let (own, text) = (own.as_str(), format!("{own}{event}"));
    let usual = USUAL
        .iter()
        .filter_map(|usual| text.find(usual).map(|at| at + usual.len()))
        .filter(|end| *end > own.len())
        .min();
    let lacks_separator = !own.is_empty() && !own.ends_with(SEPARATORS);
    let end = match usual {
        Some(end) => end,
        None if lacks_separator && event.as_str().starts_with(SEPARATORS) => own.len() + 1,
        None => return None,
    };
    text.get(..end)
        .filter(|_| end < text.len())
        .map(str::to_owned)
}

/// The default prefixes of bitmapist and its ports.
const USUAL: [&str; 2] = ["trackist_", "bitmapist_"];

/// The likely prefix of a key of an event: up to a usual one, or else up to the first `_` or `:`;
/// empty if the event begins at once.
pub(super) fn prefix_of(text: &str) -> Option<&str> {
    let is_event = |end: usize| {
        Key::parse(&Prefix::new(text.get(..end)?), text)
            .is_some()
            .then(|| text.get(..end))?
    };
    let usual = USUAL
        .iter()
        .filter_map(|usual| text.find(usual).map(|at| at + usual.len()))
        .min();
    match usual {
        Some(end) => is_event(end),
        None => text
            .find(['_', ':'])
            .and_then(|at| is_event(at + 1))
            .or_else(|| is_event(0)),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn events_are_told_from_other_keys() {
        let left_out = LeftOut::default();
        let texts = [
            "t_a_2026-11-2",
            "t_b_u",
            "t_cache:1",
            "t_ids",
            "t_ids:texts",
            "t_bitop_x_2026",
            "t_a_2026-13",
        ];
        let mut names = Names::default();
        names.extend(texts.map(|text| text.as_bytes().to_vec()));
        let asked = Cell::new(0);
        let parse = |starting_with: &str| {
            let hashes = |texts: &[&String]| {
                asked.set(asked.get() + texts.len());
                let hashes = texts.iter().filter(|text| **text == "t_b_u");
                Ok::<_, Infallible>(hashes.map(|text| (*text).clone()).collect())
            };
            let Ok(keys) = left_out.parse(&Prefix::new("t_"), starting_with, &names, as_is, hashes);
            keys.len()
        };
        let strays = |count, example: &str| UnparsedKeys {
            count,
            example: example.to_owned(),
        };
        assert_eq!((parse(""), parse("b"), asked.get()), (2, 1, 0));
        assert_eq!(left_out.get(), strays(2, "t_a_2026-13"));
        // Types are asked for once a request came upon another one, and then of that key alone.
        left_out.suspect();
        assert_eq!((parse("b"), parse(""), asked.get()), (0, 1, 4));
        assert_eq!((parse(""), parse("b"), asked.get()), (1, 0, 6));
        assert_eq!(left_out.get(), strays(3, "t_a_2026-13"));
    }

    #[test]
    fn the_prefix_of_a_key_is_found() {
        for (text, prefix) in [
            ("trackist_sign_up_2026-11-2", Some("trackist_")),
            ("app:bitmapist_active_W2026-3", Some("app:bitmapist_")),
            ("trackist_bitop_1_2026-11-2", None),
            ("bitanalytics_signup_2014-2", Some("bitanalytics_")),
            ("shop:song:played_u", Some("shop:")),
            ("active_2026-11", Some("")),
            ("session:9f3", None),
            ("queue", None),
        ] {
            assert_eq!(prefix_of(text), prefix, "{text}");
        }
        let texts = ["a_x_u", "a_y_u", "b_x_u", "c"].map(str::to_owned);
        assert_eq!(
            OtherPrefixes::of(&Prefix::new("b_"), &texts, true, prefix_of).found,
            [("a_".to_owned(), 2)]
        );
        assert_eq!(
            OtherPrefixes::of(&Prefix::new("a"), &texts, true, prefix_of).found,
            [("a_".to_owned(), 2), ("b_".to_owned(), 1)]
        );
    }

    #[test]
    fn a_forgotten_underscore_is_found() {
        let longer = |own: &str, events: &[&str]| {
            let keys = events
                .iter()
                .map(|name| Key::ever(EventName::new(name).unwrap()));
            let all = Catalogue::new(keys.collect());
            let found = OtherPrefixes::longer(&Prefix::new(own), &all).found;
            found.into_iter().next().map(|(prefix, _)| prefix)
        };
        for (own, events, prefix) in [
            ("trackist", &["_active", "_signup"][..], Some("trackist_")),
            ("track", &["ist_active", "ist__x"], Some("trackist_")),
            ("", &["trackist_active"], Some("trackist_")),
            ("shop", &[":active", ":song:played"], Some("shop:")),
            ("trackist", &["_active", "signup"], None),
            ("trackist_", &["_active"], None),
            ("trackist_", &["active"], None),
            ("", &["_active"], None),
            ("x_", &["trackist_a", "bitmapist_b"], None),
            ("x_", &[], None),
        ] {
            assert_eq!(longer(own, events).as_deref(), prefix, "{own:?} {events:?}");
        }
    }
}
