//! String ids: for each prefix the roll of its users, in memory since the last checkpoint and in the file before.
//!
//! Numbers are given under the lock of the layers and logged before anybody hears of them, like marks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use hashbrown::HashMap;

use crate::sets::{Key, Prefix, SCRATCH, UserId};
use crate::store::embedded::layers::Layers;
use crate::store::embedded::log::Change;
use crate::store::embedded::table::{Entry, ID, Input, PRESENT, ROLL, TEXT, Version, put_varint, text_key};
use crate::store::embedded::{EmbeddedStore, Engine};
use crate::store::{Result, StoreError, TextIds};

/// How many numbers there are.
const NUMBERS_IN_ALL: u64 = 1 << 32;

/// What became of the roll of one prefix since the layer below.
#[derive(Debug, Clone, Default)]
pub struct Roll {
    /// What lies below does not count.
    fresh: bool,
    /// The number the next new text gets; 0 when there is no roll any more.
    next: u64,
    numbers: HashMap<Arc<str>, UserId>,
    /// Ascending by number.
    texts: Vec<(UserId, Arc<str>)>,
}

/// Rolls by their prefix.
pub type Rolls = BTreeMap<Box<str>, Roll>;

impl Roll {
    /// The texts from the number `first` on; says about how much memory they take.
    fn enroll(&mut self, first: u64, texts: Vec<String>) -> usize {
        let mut memory = 0;
        for (number, text) in (first..).zip(texts) {
            let Ok(number) = UserId::try_from(number) else { break };
            memory += 96 + text.len();
            let text: Arc<str> = text.into();
            self.numbers.insert(Arc::clone(&text), number);
            debug_assert!(self.texts.last().is_none_or(|(last, _)| *last < number), "numbers are given in order");
            self.texts.push((number, text));
            self.next = self.next.max(u64::from(number) + 1);
        }
        memory
    }

    fn text(&self, user: UserId) -> Option<&Arc<str>> {
        let at = self.texts.binary_search_by_key(&user, |(number, _)| *number).ok()?;
        Some(&self.texts[at].1)
    }
}

/// Puts places of texts in the order of these texts. The first bytes of a text decide mostly, and are beside its place.
fn sort_by_text<'t>(places: &mut [(u128, u32)], text: impl Fn(u32) -> &'t str) {
    places.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| text(a.1).cmp(text(b.1))));
}

/// The first 16 bytes of a text as a number that orders them.
fn first_bytes(text: &str) -> u128 {
    let mut bytes = [0; 16];
    let len = text.len().min(16);
    bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
    u128::from_be_bytes(bytes)
}

/// A text is not known above the table.
struct NotAbove;

impl Layers {
    fn rolls_of(&self, prefix: &str) -> impl Iterator<Item = &Roll> {
        let frozen = self.frozen_rolls.as_ref().and_then(|rolls| rolls.get(prefix));
        [self.rolls.get(prefix), frozen].into_iter().flatten()
    }

    /// The number the next new text gets, if there is a roll.
    fn next_number(&self, prefix: &str, file: Option<&Version>) -> Result<Option<u64>> {
        match (self.rolls_of(prefix).next(), file) {
            (Some(roll), _) => Ok((roll.next > 0).then_some(roll.next)),
            (None, Some(file)) => next_in(file, prefix),
            (None, None) => Ok(None),
        }
    }

    /// The number of a text as far as it is known above the table; `Err` where the table has to be asked.
    fn number_above(&self, prefix: &str, text: &str) -> Result<Option<UserId>, NotAbove> {
        for roll in self.rolls_of(prefix) {
            if let Some(number) = roll.numbers.get(text) {
                return Ok(Some(*number));
            }
            if roll.fresh {
                return Ok(None);
            }
        }
        Err(NotAbove)
    }

    /// The numbers of texts, in their order.
    fn numbers(&self, prefix: &str, texts: &[&str], table: Option<&Version>) -> Result<Vec<Option<UserId>>> {
        let mut numbers: Vec<Option<UserId>> = vec![None; texts.len()];
        let mut below = Vec::new();
        for (place, text) in texts.iter().enumerate() {
            match self.number_above(prefix, text) {
                Ok(number) => numbers[place] = number,
                Err(NotAbove) => below.push((first_bytes(text), u32::try_from(place).expect("a batch is smaller"))),
            }
        }
        if let Some(table) = table {
            // Neighbours are in the same block.
            sort_by_text(&mut below, |place| texts[place as usize]);
            for (_, place) in below {
                let place = place as usize;
                numbers[place] = number_in(table, prefix, texts[place])?;
            }
        }
        Ok(numbers)
    }

    fn text(&self, prefix: &str, user: UserId, file: Option<&Version>) -> Result<Option<String>> {
        for roll in self.rolls_of(prefix) {
            if let Some(text) = roll.text(user) {
                return Ok(Some(text.to_string()));
            }
            if roll.fresh {
                return Ok(None);
            }
        }
        file.map_or(Ok(None), |file| text_in(file, prefix, user))
    }

    /// Gives texts the numbers from `first` on, in memory. Cannot fail.
    pub fn enroll(&mut self, prefix: &str, first: u64, texts: Vec<String>) {
        self.enrolled.insert(prefix.into());
        self.dirty_bytes += self.rolls.entry(prefix.into()).or_default().enroll(first, texts);
    }

    /// Forgets a roll, in memory. Cannot fail.
    pub fn forget(&mut self, prefix: &str) {
        self.enrolled.remove(prefix);
        self.rolls.insert(prefix.into(), Roll { fresh: true, ..Roll::default() });
    }

    /// No number of somebody whose text was lost with a part of the log is given to somebody else.
    pub fn pass_over(&mut self, key: &str, user: UserId, file: Option<&Version>) -> Result<()> {
        let prefixes: Vec<Box<str>> =
            self.enrolled.iter().filter(|prefix| key.starts_with(&***prefix)).cloned().collect();
        for prefix in prefixes {
            let next = u64::from(user) + 1;
            if self.next_number(&prefix, file)?.is_some_and(|given| given < next) {
                self.rolls.entry(prefix).or_default().next = next;
            }
        }
        Ok(())
    }
}

/// What a key begins with that is about the string ids of a prefix.
fn beginning(kind: u8, prefix: &str) -> Vec<u8> {
    let mut key = vec![kind];
    put_varint(&mut key, prefix.len() as u64);
    key.extend_from_slice(prefix.as_bytes());
    key
}

fn id_key(prefix: &str, text: &str) -> Vec<u8> {
    let mut key = beginning(ID, prefix);
    key.extend_from_slice(text.as_bytes());
    key
}

fn number_key(prefix: &str, user: UserId) -> Vec<u8> {
    let mut key = beginning(TEXT, prefix);
    key.extend_from_slice(&user.to_be_bytes());
    key
}

fn number_value(number: u64) -> Vec<u8> {
    let mut value = vec![PRESENT];
    put_varint(&mut value, number);
    value
}

fn read_number(value: &[u8]) -> Option<u64> {
    let mut input = Input(value);
    input.varint().filter(|_| input.is_empty())
}

fn next_in(table: &Version, prefix: &str) -> Result<Option<u64>> {
    table.get(&text_key(ROLL, prefix), read_number)
}

fn number_in(table: &Version, prefix: &str, text: &str) -> Result<Option<UserId>> {
    table.get(&id_key(prefix, text), |value| UserId::try_from(read_number(value)?).ok())
}

fn text_in(table: &Version, prefix: &str, user: UserId) -> Result<Option<String>> {
    table.get(&number_key(prefix, user), |value| String::from_utf8(value.to_vec()).ok())
}

/// The prefixes whose users are string ids.
pub fn prefixes(table: &Version) -> Result<BTreeSet<Box<str>>> {
    let mut found = BTreeSet::new();
    table.visit(&[ROLL], |prefix, _| {
        found.insert(String::from_utf8_lossy(prefix).into());
        Ok(true)
    })?;
    Ok(found)
}

/// Both entries of a string id.
pub fn id_entries(prefix: &str, text: &str, user: UserId) -> [(Vec<u8>, Vec<u8>); 2] {
    let mut value = vec![PRESENT];
    value.extend_from_slice(text.as_bytes());
    [(id_key(prefix, text), number_value(user.into())), (number_key(prefix, user), value)]
}

/// What an entry of the table says of string ids.
pub enum IdEntry {
    ByText(String, UserId),
    ByNumber(UserId, String),
    Next(u64),
}

/// Reads an entry about string ids, with its prefix; `None` for any other.
pub fn read_entry(key: &[u8], value: &[u8]) -> Option<(String, IdEntry)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let (kind, rest) = key.split_first()?;
    if *kind == ROLL {
        return Some((text(rest)?, IdEntry::Next(read_number(value)?)));
    }
    if ![ID, TEXT].contains(kind) {
        return None;
    }
    let mut input = Input(rest);
    let len = input.len()?;
    let prefix = text(input.take(len)?)?;
    Some(match *kind {
        ID => (prefix, IdEntry::ByText(text(input.0)?, UserId::try_from(read_number(value)?).ok()?)),
        _ => (prefix, IdEntry::ByNumber(UserId::from_be_bytes(input.0.try_into().ok()?), text(value)?)),
    })
}

/// The entry that says which number the next new string id gets.
pub fn next_entry(prefix: &str, next: u64) -> Entry {
    (text_key(ROLL, prefix), Some(number_value(next)))
}

/// What a checkpoint writes of string ids, each list ascending by key.
#[derive(Debug, Default)]
pub struct IdEntries {
    /// Text → number.
    pub ids: Vec<Entry>,
    /// Number → text.
    pub texts: Vec<Entry>,
    /// The next number of each prefix.
    pub rolls: Vec<Entry>,
}

/// What a checkpoint writes of rolls.
pub fn entries(table: Option<&Version>, rolls: &Rolls) -> Result<IdEntries> {
    let mut entries = IdEntries::default();
    let mut in_order: Vec<_> = rolls.iter().collect();
    in_order.sort_by_key(|(prefix, _)| beginning(ID, prefix));
    for (prefix, roll) in in_order {
        let mut places: Vec<(u128, u32)> =
            (0..).zip(&roll.texts).map(|(at, (_, text))| (first_bytes(text), at)).collect();
        sort_by_text(&mut places, |at| &roll.texts[at as usize].1);
        for (_, at) in places {
            let (user, text) = &roll.texts[at as usize];
            entries.ids.push((id_key(prefix, text), Some(number_value((*user).into()))));
        }
        entries.texts.extend(roll.texts.iter().map(|(user, text)| {
            let [_, (key, value)] = id_entries(prefix, text, *user);
            (key, Some(value))
        }));
        if roll.next > 0 {
            entries.rolls.push((text_key(ROLL, prefix), Some(number_value(roll.next))));
        } else if roll.fresh {
            entries.rolls.push((text_key(ROLL, prefix), None));
        }
        let Some(table) = table.filter(|_| roll.fresh) else { continue };
        for (kind, entries) in [(ID, &mut entries.ids), (TEXT, &mut entries.texts)] {
            let beginning = beginning(kind, prefix);
            table.visit(&beginning, |rest, _| {
                // What came back is written above.
                let is_back = match kind {
                    ID => std::str::from_utf8(rest).is_ok_and(|text| roll.numbers.contains_key(text)),
                    _ => rest.try_into().is_ok_and(|user| roll.text(UserId::from_be_bytes(user)).is_some()),
                };
                if !is_back {
                    entries.push(([&beginning[..], rest].concat(), None));
                }
                Ok(true)
            })?;
            entries.sort_unstable();
        }
    }
    entries.rolls.sort_unstable();
    Ok(entries)
}

impl Engine {
    pub(super) fn table(&self) -> Option<Arc<Version>> {
        self.disk.as_ref().map(|disk| disk.base.table().version())
    }

    fn location(&self) -> String {
        self.disk.as_ref().map_or("memory:".to_owned(), |disk| disk.directory.display().to_string())
    }

    /// Refuses what would put a number among text ids that no text has: it would come to be somebody else's. Temporary
    /// keys are nobody's event.
    pub(super) fn guard(&self, layers: &Layers, key: &str) -> Result<()> {
        let behind = layers.enrolled.iter().find_map(|prefix| key.strip_prefix(&**prefix));
        if behind.is_none_or(|rest| rest.starts_with(SCRATCH)) {
            return Ok(());
        }
        let reason = format!(
            "`{key}` belongs to a store with string ids, so a numeric id could refer to the wrong user. Mark over HTTP, with `cohortist mark` or with `import`"
        );
        Err(StoreError::Refused { location: self.location(), reason })
    }
}

impl EmbeddedStore {
    /// What is found in the roll as it is now, where there is one.
    fn looked_up<T>(&self, find: impl FnOnce(&Layers, Option<&Version>) -> Result<T>) -> Result<Option<T>> {
        let layers = self.engine.read();
        let table = self.engine.table();
        match layers.next_number(self.prefix.as_str(), table.as_deref())? {
            None => Ok(None),
            Some(_) => find(&layers, table.as_deref()).map(Some),
        }
    }
}

impl TextIds for EmbeddedStore {
    fn next(&self) -> Result<Option<u64>> {
        let layers = self.engine.read();
        layers.next_number(self.prefix.as_str(), self.engine.table().as_deref())
    }

    fn numbers(&self, texts: &[&str]) -> Result<Option<Vec<Option<UserId>>>> {
        self.looked_up(|layers, table| layers.numbers(self.prefix.as_str(), texts, table))
    }

    fn settle_numbers(&self) -> Result<bool> {
        let prefix = self.prefix.as_str();
        let settled = || self.engine.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if settled().contains(prefix) {
            return Ok(true);
        }
        // Texts begin under this lock.
        let layers = self.engine.lock();
        let is_free = !layers.enrolled.contains(prefix);
        if is_free {
            settled().insert(prefix.into());
        }
        Ok(is_free)
    }

    fn begin(&self) -> Result<bool> {
        let layers = self.engine.lock();
        Ok(layers.enrolled.contains(self.prefix.as_str()) || self.engine.may_begin(&layers, self.prefix.as_str())?)
    }

    fn withdraw(&self) -> Result<()> {
        // Nothing begins before the first text.
        Ok(())
    }

    fn enroll(&self, texts: &[&str]) -> Result<Vec<UserId>> {
        // Most are known, and finding them holds nobody up.
        let looked_in = self.engine.table();
        let known = self.numbers(texts)?.unwrap_or_else(|| vec![None; texts.len()]);
        let unknown: Vec<&str> = texts.iter().zip(&known).filter(|(_, n)| n.is_none()).map(|(text, _)| *text).collect();
        if unknown.is_empty() {
            return Ok(known.into_iter().flatten().collect());
        }
        let mut given = self.engine.enroll(self.prefix.as_str(), &unknown, looked_in.as_ref())?.into_iter();
        Ok(known.into_iter().filter_map(|number| number.or_else(|| given.next())).collect())
    }

    fn texts(&self, users: &[UserId]) -> Result<Option<Vec<Option<String>>>> {
        self.looked_up(|layers, file| users.iter().map(|user| layers.text(self.prefix.as_str(), *user, file)).collect())
    }

    fn forget(&self) -> Result<u64> {
        let settled = || self.engine.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(given) = self.next()? else {
            settled().remove(self.prefix.as_str());
            return Ok(0);
        };
        let mut layers = self.engine.lock_with_room()?;
        self.engine.append(&mut layers, Change::Forget { prefix: self.prefix.to_string() })?;
        layers.forget(self.prefix.as_str());
        settled().remove(self.prefix.as_str());
        self.engine.written(layers)?;
        Ok(given)
    }
}

impl Engine {
    /// Whether the first text may come: not where users are numbers.
    fn may_begin(&self, layers: &Layers, prefix: &str) -> Result<bool> {
        if self.settled.lock().unwrap_or_else(PoisonError::into_inner).contains(prefix) {
            return Ok(false);
        }
        let reader = self.reader();
        let whose = Prefix::new(prefix);
        let mut is_free = true;
        layers.visit_keys(prefix, reader.as_ref(), |text| {
            is_free = Key::parse(&whose, text).is_none();
            is_free
        })?;
        Ok(is_free)
    }

    /// Gives numbers to texts that had none a moment ago, when the table was `looked_in`.
    fn enroll(&self, prefix: &str, texts: &[&str], looked_in: Option<&Arc<Version>>) -> Result<Vec<UserId>> {
        let mut layers = self.lock_with_room()?;
        if !layers.enrolled.contains(prefix) && !self.may_begin(&layers, prefix)? {
            let reason = "its users are numbers already, and text ids cannot be mixed with them".to_owned();
            return Err(StoreError::Refused { location: self.location(), reason });
        }
        let table = self.table();
        let is_same = match (&table, looked_in) {
            (Some(table), Some(before)) => Arc::ptr_eq(table, before),
            _ => false,
        };
        let first = layers.next_number(prefix, table.as_deref())?.unwrap_or(0);
        // What was not in the table is not there now, unless it is another one.
        let found = layers.numbers(prefix, texts, table.as_deref().filter(|_| !is_same))?;
        let (mut given, mut next) = (HashMap::new(), first);
        let (mut numbers, mut new) = (Vec::with_capacity(texts.len()), Vec::new());
        for (text, found) in texts.iter().zip(found) {
            numbers.push(match found {
                Some(number) => u64::from(number),
                None => *given.entry(*text).or_insert_with(|| {
                    new.push((*text).to_owned());
                    next += 1;
                    next - 1
                }),
            });
        }
        if next > NUMBERS_IN_ALL {
            let reason = "it has no numbers left for text ids".to_owned();
            return Err(StoreError::Refused { location: self.location(), reason });
        }
        if !new.is_empty() {
            let change = Change::Enroll { prefix: prefix.to_owned(), first, texts: new.clone() };
            self.append(&mut layers, change)?;
            layers.enroll(prefix, first, new);
            // To whoever asks for numbers, texts that may be lost are none: no mark is made with them.
            self.written(layers).map_err(|error| match error {
                StoreError::Unsynced { path, reason } => StoreError::Write { path, reason },
                error => error,
            })?;
        }
        Ok(numbers.into_iter().filter_map(|number| UserId::try_from(number).ok()).collect())
    }
}
