//! Keys that a listing of events leaves out: what they are, and under which prefix there are events
//! instead.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::sets::{Key, Prefix, SCRATCH};

/// Keys that begin with the prefix and are no event's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnparsedKeys {
    /// How many there are.
    pub count: u64,
    /// One of them.
    pub example: String,
}

/// What the last listing of all keys left out.
#[derive(Debug, Default)]
pub(super) struct LeftOut(Mutex<UnparsedKeys>);

impl LeftOut {
    pub(super) fn get(&self) -> UnparsedKeys {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The keys of events among texts that begin with the prefix and `starting_with`. `plain` turns
    /// a text into what a single server calls the key; `None` for a text that the store does not
    /// read.
    pub(super) fn parse<'a>(
        &self,
        prefix: &Prefix,
        starting_with: &str,
        texts: impl IntoIterator<Item = &'a String>,
        plain: impl Fn(&'a str) -> Option<Cow<'a, str>>,
    ) -> Vec<Key> {
        let mut listing = Listing::new(prefix, starting_with);
        texts
            .into_iter()
            .for_each(|text| listing.take(text, plain(text).as_deref()));
        self.keep(listing)
    }

    /// The keys of a listing; one of all keys also finds out which are none of an event's.
    pub(super) fn keep(&self, listing: Listing<'_>) -> Vec<Key> {
        if listing.starting_with.is_empty() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = listing.strays;
        }
        listing.keys
    }
}

/// The keys of events, collected from texts that begin with the prefix and a part of the name. A
/// text may begin so with more than its name: `song_u` is a key of `song`.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    prefix: &'a Prefix,
    starting_with: &'a str,
    keys: Vec<Key>,
    strays: UnparsedKeys,
}

impl<'a> Listing<'a> {
    pub(super) fn new(prefix: &'a Prefix, starting_with: &'a str) -> Self {
        Listing {
            prefix,
            starting_with,
            keys: Vec::new(),
            strays: UnparsedKeys::default(),
        }
    }

    /// Takes in the next text, and what a single server calls the key.
    pub(super) fn take(&mut self, text: &str, plain: Option<&str>) {
        match plain.and_then(|plain| Key::parse(self.prefix, plain)) {
            Some(key) if key.event().as_str().starts_with(self.starting_with) => {
                // One text for neighbours of one event, of which there may be thousands.
                let shared = self
                    .keys
                    .last()
                    .filter(|last| last.event() == key.event())
                    .map(Key::event);
                let key = shared.map_or_else(|| key.clone(), |event| key.renamed(event));
                self.keys.push(key);
            }
            Some(_) => {}
            None if plain.is_some_and(|plain| is_own(self.prefix, plain)) => {}
            None => {
                if self.strays.count == 0 || *text < *self.strays.example {
                    text.clone_into(&mut self.strays.example);
                }
                self.strays.count += 1;
            }
        }
    }
}

/// The text of a key where each key has its plain name.
#[allow(clippy::unnecessary_wraps)]
pub(super) fn as_is(text: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(text))
}

/// Whether a key that is no event's belongs to the store all the same: a temporary one, or the
/// texts of string ids.
fn is_own(prefix: &Prefix, text: &str) -> bool {
    let rest = text.strip_prefix(prefix.as_str()).unwrap_or_default();
    rest.starts_with(SCRATCH) || matches!(rest, "ids" | "ids:texts")
}

/// Prefixes under which there are events, found by looking at some of a store's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherPrefixes {
    /// Each prefix with the number of its keys, most keys first.
    pub found: Vec<(String, u64)>,
    /// Whether all keys were looked at: otherwise the numbers are lower bounds.
    pub complete: bool,
}

impl OtherPrefixes {
    /// Those that these keys begin with, but for `own`. `prefix_of` finds the likely prefix of a
    /// key that is an event's.
    pub(super) fn of<'a>(
        own: &Prefix,
        texts: impl IntoIterator<Item = &'a String>,
        complete: bool,
        prefix_of: impl Fn(&'a str) -> Option<&'a str>,
    ) -> Self {
        let texts = texts
            .into_iter()
            .filter(|text| !text.starts_with(own.as_str()));
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for prefix in texts.filter_map(|text| prefix_of(text)) {
            *counts.entry(prefix).or_default() += 1;
        }
        let mut found: Vec<(String, u64)> = counts
            .into_iter()
            .map(|(prefix, keys)| (prefix.to_owned(), keys))
            .collect();
        found.sort_by_key(|(_, keys)| std::cmp::Reverse(*keys));
        OtherPrefixes { found, complete }
    }
}

/// What bitmapist and its ports begin their keys with.
const USUAL: [&str; 2] = ["trackist_", "bitmapist_"];

/// The likely prefix of a key that is an event's: up to a usual one, or else up to the first `_` or
/// `:`; nothing where the event begins at once.
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
        let texts = texts.map(str::to_owned);
        let parse = |starting_with: &str| {
            left_out
                .parse(&Prefix::new("t_"), starting_with, &texts, as_is)
                .len()
        };
        assert_eq!((parse(""), parse("b")), (2, 1));
        assert_eq!(
            left_out.get(),
            UnparsedKeys {
                count: 2,
                example: "t_a_2026-13".into()
            }
        );
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
    }
}
