//! User ids: their numbers, and the kind of ids that a store has.

use std::borrow::Cow;

use crate::sets::{UserId, parse_numeric_id, parse_string_id};
use crate::tracker::base::Tracker;
use crate::tracker::error::Result;
use crate::tracker::ids::{Ids, IdsError};
use crate::values::{clean, numeric_id, string_id};

impl Tracker {
    /// Sets the kind of user ids. By default the store decides, and an empty store has numeric ids.
    pub fn with_ids(mut self, ids: Ids) -> Self {
        self.ids = Some(ids);
        self
    }

    /// The kind of user ids of the store.
    ///
    /// ```
    /// use cohortist::{Ids, Tracker, store};
    /// let tracker = Tracker::new(store::open("memory:", &store::Options::default())?).with_ids(Ids::Strings);
    /// let users = tracker.assign(&["ann@example.com", "7", "ann@example.com"])?;
    /// assert_eq!(users, [0, 1, 0]);
    /// assert_eq!(tracker.called(&[1, 0])?, ["7", "ann@example.com"]);
    /// assert_eq!((tracker.user("7")?, tracker.user("bob")?), (Some(1), None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the store could not be read, or has another kind than [`with_ids`](Self::with_ids) set.
    pub fn ids(&self) -> Result<Ids> {
        self.ids_of(self.assigned()?.is_some())
    }

    /// The [`ids`](Self::ids) of a store, given whether it has string ids.
    fn ids_of(&self, has_strings: bool) -> Result<Ids> {
        match (has_strings, self.ids) {
            (true, Some(Ids::Numbers)) => Err(IdsError::HasStrings.into()),
            (true, _) => Ok(Ids::Strings),
            (false, Some(Ids::Strings)) if !self.keys("")?.is_empty() => {
                Err(IdsError::HasNumbers.into())
            }
            (false, Some(Ids::Strings)) => Ok(Ids::Strings),
            (false, _) => Ok(Ids::Numbers),
        }
    }

    /// Returns the number of each user id, in order. New string ids get a number.
    ///
    /// # Errors
    /// If one is not a valid user id of this store, or could not get a number.
    pub fn assign(&self, called: &[&str]) -> Result<Vec<UserId>> {
        let ids = self.ids()?;
        if called.is_empty() {
            return Ok(Vec::new());
        }
        match ids {
            Ids::Numbers => {
                let numbers = called
                    .iter()
                    .map(|text| Ok(numeric_id(text.as_bytes()).map_err(IdsError::from)?.id))
                    .collect::<Result<Vec<UserId>>>()?;
                self.settle(Ids::Numbers)?;
                Ok(numbers)
            }
            Ids::Strings => {
                let texts = called
                    .iter()
                    .map(|text| Ok(string_id(text).map_err(IdsError::from)?))
                    .collect::<Result<Vec<_>>>()?;
                let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
                self.settle(Ids::Strings)?;
                Ok(self.store.string_ids().assign(&texts)?)
            }
        }
    }

    /// Fixes the kind of user ids before the first mark. If two programs start to fill a store at
    /// the same time, one with strings and one with numbers, at most one of them gets past this.
    /// [`assign`](Self::assign) calls it; a program that marks numbers without it calls this before
    /// each batch.
    ///
    /// It does not stop programs that know nothing about string ids, such as bitmapist on the same
    /// Redis.
    ///
    /// # Errors
    /// If the store has the other kind, or could not be written.
    pub fn settle(&self, ids: Ids) -> Result<()> {
        let string_ids = self.store.string_ids();
        match ids {
            Ids::Numbers if string_ids.settle_numbers()? => Ok(()),
            Ids::Numbers => Err(IdsError::HasStrings.into()),
            Ids::Strings if string_ids.next()?.is_some_and(|next| next > 0) => Ok(()),
            Ids::Strings => {
                // First reserve, so that no more numbers are marked; then look for earlier ones.
                if !string_ids.begin()? {
                    return Err(IdsError::HasNumbers.into());
                }
                if !self.keys("")?.is_empty() {
                    string_ids.withdraw()?;
                    return Err(IdsError::HasNumbers.into());
                }
                Ok(())
            }
        }
    }

    /// How many string ids the store has assigned; `None` if it has numeric ids.
    ///
    /// # Errors
    /// If the store could not be read.
    pub fn assigned(&self) -> Result<Option<u64>> {
        Ok(self.store.string_ids().next()?)
    }

    /// The number of a user id; `None` for an unknown string.
    ///
    /// # Errors
    /// If it is not a valid user id of this store, or the store could not be read.
    pub fn user(&self, called: &str) -> Result<Option<UserId>> {
        Ok(self.users(&[called])?.pop().flatten())
    }

    /// The numbers of user ids; `None` for an unknown string.
    ///
    /// # Errors
    /// If one is not a valid user id of this store, or the store could not be read.
    pub fn users(&self, called: &[&str]) -> Result<Vec<Option<UserId>>> {
        let texts = texts(called);
        // The same round trip tells which kind of ids the store has.
        let found = self
            .store
            .string_ids()
            .numbers(texts.as_deref().unwrap_or_default())?;
        match self.ids_of(found.is_some())? {
            Ids::Numbers => called.iter().map(|text| Ok(Some(number(text)?))).collect(),
            Ids::Strings => {
                let texts = texts?;
                let found = found.unwrap_or_else(|| vec![None; texts.len()]);
                self.with_composed(&texts, found)
            }
        }
    }

    /// Ids are stored with composed characters. The numbers of those that are not found as they are
    /// written are looked up in that form.
    fn with_composed(
        &self,
        texts: &[&str],
        mut found: Vec<Option<UserId>>,
    ) -> Result<Vec<Option<UserId>>> {
        let missing = (0..texts.len()).filter(|index| found[*index].is_none());
        let composed: Vec<(usize, Cow<'_, str>)> = missing
            .map(|index| (index, clean(texts[index])))
            .filter(|(index, text)| text != texts[*index])
            .collect();
        if composed.is_empty() {
            return Ok(found);
        }
        let wanted: Vec<&str> = composed.iter().map(|(_, text)| &**text).collect();
        let numbers = self.store.string_ids().numbers(&wanted)?;
        for ((index, _), number) in composed.iter().zip(numbers.into_iter().flatten()) {
            found[*index] = number;
        }
        Ok(found)
    }

    /// The user ids of numbers. In a store with string ids, a number without a string, which only a
    /// damaged log leaves behind, is written `#7`.
    ///
    /// # Errors
    /// If the store could not be read.
    pub fn called(&self, users: &[UserId]) -> Result<Vec<String>> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        Ok(match self.store.string_ids().texts(users)? {
            None => users.iter().map(UserId::to_string).collect(),
            Some(texts) => users
                .iter()
                .zip(texts)
                .map(|(user, text)| text.unwrap_or_else(|| format!("#{user}")))
                .collect(),
        })
    }
}

fn number(called: &str) -> Result<UserId, IdsError> {
    Ok(parse_numeric_id(called.as_bytes())?)
}

fn texts<'a>(called: &[&'a str]) -> Result<Vec<&'a str>, IdsError> {
    called
        .iter()
        .map(|called| Ok(parse_string_id(called)?))
        .collect()
}
