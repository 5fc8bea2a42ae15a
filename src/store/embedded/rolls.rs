//! Text ids: for each prefix the roll of its users, in memory since the last checkpoint and in the file before.
//!
//! Numbers are given under the lock of the layers and logged before anybody hears of them, like marks. In the file each
//! entry carries a checksum of both its sides: a bit that flips on the disk must not become somebody else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use redb::{Database, ReadOnlyTable, ReadTransaction, TableDefinition, WriteTransaction};

use crate::sets::{Key, Prefix, SCRATCH, UserId};
use crate::store::embedded::base::COPIED_AT_ONCE;
use crate::store::embedded::layers::Layers;
use crate::store::embedded::log::Change;
use crate::store::embedded::{EmbeddedStore, Engine};
use crate::store::{Result, StoreError, TextIds};

/// Prefix → the number its next new text gets.
const ROLLS: TableDefinition<&str, u64> = TableDefinition::new("rolls");
/// (prefix, text) → the checksum times 2³², and the number.
const NUMBERS: TableDefinition<(&str, &str), u64> = TableDefinition::new("numbers");
/// (prefix, number) → the checksum, and the text.
const TEXTS: TableDefinition<(&str, u32), (u32, &str)> = TableDefinition::new("texts");

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
    texts: BTreeMap<UserId, Arc<str>>,
}

/// Rolls by their prefix.
pub type Rolls = BTreeMap<Box<str>, Roll>;

impl Roll {
    /// The texts from the number `first` on; says about how much memory they take.
    fn enroll(&mut self, first: u64, texts: Vec<String>) -> usize {
        let mut memory = 0;
        for (number, text) in (first..).zip(texts) {
            let Ok(number) = UserId::try_from(number) else { break };
            memory += 160 + text.len();
            let text: Arc<str> = text.into();
            self.numbers.insert(Arc::clone(&text), number);
            self.texts.insert(number, text);
            self.next = self.next.max(u64::from(number) + 1);
        }
        memory
    }
}

impl Layers {
    fn rolls_of(&self, prefix: &str) -> impl Iterator<Item = &Roll> {
        let frozen = self.frozen_rolls.as_ref().and_then(|rolls| rolls.get(prefix));
        [self.rolls.get(prefix), frozen].into_iter().flatten()
    }

    /// The number the next new text gets, if there is a roll.
    fn next_number(&self, prefix: &str, file: Option<&RollReader>) -> Result<Option<u64>, redb::Error> {
        match (self.rolls_of(prefix).next(), file) {
            (Some(roll), _) => Ok((roll.next > 0).then_some(roll.next)),
            (None, Some(file)) => Ok(file.rolls.get(prefix)?.map(|next| next.value())),
            (None, None) => Ok(None),
        }
    }

    fn number(&self, prefix: &str, text: &str, file: Option<&RollReader>) -> Result<Option<UserId>, redb::Error> {
        for roll in self.rolls_of(prefix) {
            if let Some(number) = roll.numbers.get(text) {
                return Ok(Some(*number));
            }
            if roll.fresh {
                return Ok(None);
            }
        }
        file.map_or(Ok(None), |file| file.number(prefix, text))
    }

    fn text(&self, prefix: &str, user: UserId, file: Option<&RollReader>) -> Result<Option<String>, redb::Error> {
        for roll in self.rolls_of(prefix) {
            if let Some(text) = roll.texts.get(&user) {
                return Ok(Some(text.to_string()));
            }
            if roll.fresh {
                return Ok(None);
            }
        }
        file.map_or(Ok(None), |file| file.text(prefix, user))
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
    pub fn pass_over(&mut self, key: &str, user: UserId, file: Option<&RollReader>) -> Result<(), redb::Error> {
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

/// The rolls in the file, as of when it was made.
pub struct RollReader {
    rolls: ReadOnlyTable<&'static str, u64>,
    numbers: ReadOnlyTable<(&'static str, &'static str), u64>,
    texts: ReadOnlyTable<(&'static str, u32), (u32, &'static str)>,
}

impl RollReader {
    /// The rolls of a file; `None` where there never was one.
    pub fn open(transaction: &ReadTransaction) -> Result<Option<Self>, redb::Error> {
        let rolls = match transaction.open_table(ROLLS) {
            Ok(rolls) => rolls,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(RollReader { rolls, numbers: transaction.open_table(NUMBERS)?, texts: transaction.open_table(TEXTS)? }))
    }

    /// The prefixes that have one.
    pub fn prefixes(&self) -> Result<BTreeSet<Box<str>>, redb::Error> {
        self.rolls.range::<&str>(..)?.map(|entry| Ok(entry?.0.value().into())).collect()
    }

    fn number(&self, prefix: &str, text: &str) -> Result<Option<UserId>, redb::Error> {
        let Some(sealed) = self.numbers.get((prefix, text))? else { return Ok(None) };
        opened(sealed.value(), text).map(Some)
    }

    fn text(&self, prefix: &str, user: UserId) -> Result<Option<String>, redb::Error> {
        let Some(sealed) = self.texts.get((prefix, user))? else { return Ok(None) };
        let (checksum, text) = sealed.value();
        if checksum == sum(text, user) { Ok(Some(text.to_owned())) } else { Err(unlike(user)) }
    }

    /// Reads everything and checks that both sides agree.
    pub fn check(&self) -> Result<(), redb::Error> {
        for entry in self.texts.range::<(&str, u32)>(..)? {
            let (place, sealed) = entry?;
            let ((prefix, user), (checksum, text)) = (place.value(), sealed.value());
            let given = self.rolls.get(prefix)?.map_or(0, |next| next.value());
            let whole = checksum == sum(text, user) && u64::from(user) < given;
            if !whole || self.number(prefix, text)? != Some(user) {
                return Err(unlike(user));
            }
        }
        Ok(())
    }

    /// Puts all there is into another file, which has none yet.
    pub fn copy_to(&self, database: &Database) -> Result<(), redb::Error> {
        self.check()?;
        let mut texts = self.texts.range::<(&str, u32)>(..)?.peekable();
        while texts.peek().is_some() {
            let transaction = database.begin_write()?;
            {
                let (mut to_texts, mut to_numbers) = (transaction.open_table(TEXTS)?, transaction.open_table(NUMBERS)?);
                for entry in texts.by_ref().take(COPIED_AT_ONCE) {
                    let (place, sealed) = entry?;
                    let ((prefix, user), (checksum, text)) = (place.value(), sealed.value());
                    to_texts.insert((prefix, user), (checksum, text))?;
                    to_numbers.insert((prefix, text), seal(text, user))?;
                }
            }
            transaction.commit()?;
        }
        let transaction = database.begin_write()?;
        {
            transaction.open_table(TEXTS)?;
            transaction.open_table(NUMBERS)?;
            let mut to_rolls = transaction.open_table(ROLLS)?;
            for entry in self.rolls.range::<&str>(..)? {
                let (prefix, next) = entry?;
                to_rolls.insert(prefix.value(), next.value())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Writes rolls as part of a checkpoint.
pub fn write(transaction: &WriteTransaction, rolls: &Rolls) -> Result<(), redb::Error> {
    if rolls.is_empty() {
        return Ok(());
    }
    let mut all = transaction.open_table(ROLLS)?;
    let (mut numbers, mut texts) = (transaction.open_table(NUMBERS)?, transaction.open_table(TEXTS)?);
    for (prefix, roll) in rolls {
        let prefix = &**prefix;
        if roll.fresh {
            // No text lies between a prefix and itself with a NUL behind.
            let behind = format!("{prefix}\0");
            numbers.retain_in((prefix, "")..(&*behind, ""), |_, _| false)?;
            texts.retain_in((prefix, 0)..(&*behind, 0), |_, _| false)?;
            all.remove(prefix)?;
        }
        let mut in_order: Vec<(&Arc<str>, &UserId)> = roll.numbers.iter().collect();
        // Neighbours go to the same page.
        in_order.sort_unstable();
        for (text, user) in in_order {
            numbers.insert((prefix, &**text), seal(text, *user))?;
        }
        for (user, text) in &roll.texts {
            texts.insert((prefix, *user), (sum(text, *user), &**text))?;
        }
        if roll.next > 0 {
            all.insert(prefix, roll.next)?;
        }
    }
    Ok(())
}

fn sum(text: &str, user: UserId) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&user.to_le_bytes());
    hasher.update(text.as_bytes());
    hasher.finalize()
}

fn seal(text: &str, user: UserId) -> u64 {
    u64::from(sum(text, user)) << 32 | u64::from(user)
}

fn opened(sealed: u64, text: &str) -> Result<UserId, redb::Error> {
    let user = UserId::try_from(sealed & u64::from(u32::MAX)).unwrap_or_default();
    if sealed == seal(text, user) { Ok(user) } else { Err(unlike(user)) }
}

fn unlike(user: UserId) -> redb::Error {
    redb::Error::Corrupted(format!("the text id of user {user} is not whole"))
}

impl Engine {
    pub(super) fn rolls(&self) -> Result<Option<RollReader>> {
        match &self.disk {
            Some(disk) => disk.base.rolls(),
            None => Ok(None),
        }
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
            "users under `{key}` are called by text ids, and a mere number would come to be somebody else's. Mark by HTTP, `cohortist mark` or `import`"
        );
        Err(StoreError::Refused { location: self.location(), reason })
    }

    fn damaged_roll(&self, error: redb::Error) -> StoreError {
        StoreError::Damaged { path: self.location(), reason: error.to_string() }
    }
}

impl EmbeddedStore {
    /// What is found in the roll as it is now, where there is one.
    fn looked_up<T>(
        &self,
        find: impl FnOnce(&Layers, Option<&RollReader>) -> Result<T, redb::Error>,
    ) -> Result<Option<T>> {
        let layers = self.engine.read();
        let file = self.engine.rolls()?;
        let found = || match layers.next_number(self.prefix.as_str(), file.as_ref())? {
            None => Ok(None),
            Some(_) => find(&layers, file.as_ref()).map(Some),
        };
        found().map_err(|error| self.engine.damaged_roll(error))
    }
}

impl TextIds for EmbeddedStore {
    fn next(&self) -> Result<Option<u64>> {
        let layers = self.engine.read();
        let file = self.engine.rolls()?;
        layers.next_number(self.prefix.as_str(), file.as_ref()).map_err(|error| self.engine.damaged_roll(error))
    }

    fn numbers(&self, texts: &[&str]) -> Result<Option<Vec<Option<UserId>>>> {
        self.looked_up(|layers, file| {
            texts.iter().map(|text| layers.number(self.prefix.as_str(), text, file)).collect()
        })
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
        let known = self.numbers(texts)?.unwrap_or_else(|| vec![None; texts.len()]);
        let unknown: Vec<&str> = texts.iter().zip(&known).filter(|(_, n)| n.is_none()).map(|(text, _)| *text).collect();
        let given = if unknown.is_empty() { Vec::new() } else { self.engine.enroll(self.prefix.as_str(), &unknown)? };
        let mut given = given.into_iter();
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
        let reader = self.reader()?;
        let whose = Prefix::new(prefix);
        Ok(!layers.keys(prefix, reader.as_ref())?.iter().any(|text| Key::parse(&whose, text).is_some()))
    }

    /// Gives numbers to texts that had none a moment ago.
    fn enroll(&self, prefix: &str, texts: &[&str]) -> Result<Vec<UserId>> {
        let mut layers = self.lock_with_room()?;
        if !layers.enrolled.contains(prefix) && !self.may_begin(&layers, prefix)? {
            let reason = "its users are numbers already, and text ids cannot be mixed with them".to_owned();
            return Err(StoreError::Refused { location: self.location(), reason });
        }
        let file = self.rolls()?;
        let file = file.as_ref();
        let found = || -> Result<_, redb::Error> {
            let first = layers.next_number(prefix, file)?.unwrap_or(0);
            let (mut new, mut next) = (HashMap::new(), first);
            let (mut numbers, mut in_order) = (Vec::with_capacity(texts.len()), Vec::new());
            for text in texts {
                let number = match layers.number(prefix, text, file)? {
                    Some(number) => u64::from(number),
                    None => *new.entry(*text).or_insert_with(|| {
                        in_order.push((*text).to_owned());
                        next += 1;
                        next - 1
                    }),
                };
                numbers.push(number);
            }
            Ok((first, next, numbers, in_order))
        };
        let (first, next, numbers, new) = found().map_err(|error| self.damaged_roll(error))?;
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
