//! How the users of a store are called: numbers, or texts that get one. Never both in one store.

use crate::sets::{UserId, UserIdError, user_number, user_text};
use crate::tracker::{Error, Result, Tracker};

/// How the users of a store are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// By whole numbers, which are the bits themselves: bitmapist's way.
    Numbers,
    /// By texts. Each has a number, first come first served, which nobody need ever see.
    Strings,
}

/// Why a user cannot be called so here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdsError {
    /// Numbers were asked for, in a store of texts.
    #[error(
        "the users of this store are called by text ids, and numbers cannot be mixed with them: leave --ids away"
    )]
    HasStrings,
    /// Texts were asked for, in a store of numbers.
    #[error(
        "the users of this store are numbers already, and text ids cannot be mixed with them: take a new store, or other keys in this one with --prefix"
    )]
    HasNumbers,
    /// What was given is none.
    #[error(transparent)]
    Malformed(#[from] UserIdError),
}

impl Tracker {
    /// The same tracker for a store whose users are called so; without, the store itself tells, and
    /// an empty one is of numbers.
    pub fn with_ids(mut self, ids: Ids) -> Self {
        self.ids = Some(ids);
        self
    }

    /// How the users of the store are called.
    ///
    /// ```
    /// use cohortist::{Ids, Tracker, store};
    /// let tracker = Tracker::new(store::open("memory:", &store::Options::default())?).with_ids(Ids::Strings);
    /// let users = tracker.enroll(&["ann@example.com", "7", "ann@example.com"])?;
    /// assert_eq!(users, [0, 1, 0]);
    /// assert_eq!(tracker.called(&[1, 0])?, ["7", "ann@example.com"]);
    /// assert_eq!((tracker.user("7")?, tracker.user("bob")?), (Some(1), None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the store could not say, or they are not called as [`with_ids`](Self::with_ids) has it.
    pub fn ids(&self) -> Result<Ids> {
        self.ids_of(self.store.string_ids().next()?.is_some())
    }

    /// [`ids`](Self::ids) of a store that has texts, or none.
    fn ids_of(&self, has_texts: bool) -> Result<Ids> {
        match (has_texts, self.ids) {
            (true, Some(Ids::Numbers)) => Err(IdsError::HasStrings.into()),
            (true, _) => Ok(Ids::Strings),
            (false, Some(Ids::Strings)) if !self.store.keys("")?.is_empty() => {
                Err(IdsError::HasNumbers.into())
            }
            (false, Some(Ids::Strings)) => Ok(Ids::Strings),
            (false, _) => Ok(Ids::Numbers),
        }
    }

    /// The numbers to mark users by, in order, whatever they are called by: texts that are new get
    /// one.
    ///
    /// # Errors
    /// When one of them is no user id here, or could not get a number.
    pub fn assign(&self, called: &[&str]) -> Result<Vec<UserId>> {
        let ids = self.ids()?;
        if called.is_empty() {
            return Ok(Vec::new());
        }
        match ids {
            Ids::Numbers => {
                let numbers = called
                    .iter()
                    .map(|text| Ok(number(text)?))
                    .collect::<Result<Vec<UserId>>>()?;
                self.settle(Ids::Numbers)?;
                Ok(numbers)
            }
            Ids::Strings => {
                let texts = texts(called)?;
                self.settle(Ids::Strings)?;
                Ok(self.store.string_ids().assign(&texts)?)
            }
        }
    }

    /// Settles how users are called before the first of them is marked. When two programs begin to
    /// fill a store at the same time, one with texts and one with numbers, at most one of them gets
    /// past this. [`assign`](Self::enroll) does it; those that mark numbers without it do it
    /// themselves, before each batch.
    ///
    /// Programs that know nothing of text ids, such as bitmapist on the same Redis, are not held
    /// up.
    ///
    /// # Errors
    /// When users are called otherwise, or the store could not settle it.
    pub fn settle(&self, ids: Ids) -> Result<()> {
        let string_ids = self.store.string_ids();
        match ids {
            Ids::Numbers if string_ids.settle_numbers()? => Ok(()),
            Ids::Numbers => Err(IdsError::HasStrings.into()),
            Ids::Strings if string_ids.next()?.is_some_and(|next| next > 0) => Ok(()),
            Ids::Strings => {
                // First they begin, so that no number comes any more; then it is seen whether some
                // came before.
                if !string_ids.begin()? {
                    return Err(IdsError::HasNumbers.into());
                }
                if !self.store.keys("")?.is_empty() {
                    string_ids.withdraw()?;
                    return Err(IdsError::HasNumbers.into());
                }
                Ok(())
            }
        }
    }

    /// The number of a user; `None` for a text that nobody here is called by.
    ///
    /// # Errors
    /// When it is no user id here, or the store could not say.
    pub fn user(&self, called: &str) -> Result<Option<UserId>> {
        Ok(self.users(&[called])?.first().copied().flatten())
    }

    /// The numbers of users; `None` for a text that nobody here is called by.
    ///
    /// # Errors
    /// When one of them is no user id here, or the store could not say.
    pub fn users(&self, called: &[&str]) -> Result<Vec<Option<UserId>>> {
        let texts = texts(called);
        // Whether they are texts at all is learned on the same trip.
        let found = self
            .store
            .string_ids()
            .numbers(texts.as_deref().unwrap_or_default())?;
        match self.ids_of(found.is_some())? {
            Ids::Numbers => called.iter().map(|text| Ok(Some(number(text)?))).collect(),
            Ids::Strings => texts
                .map(|texts| found.unwrap_or_else(|| vec![None; texts.len()]))
                .map_err(Error::from),
        }
    }

    /// What users are called. A number of a text store that has no text, which only a damaged log
    /// leaves behind, is written `#7`.
    ///
    /// # Errors
    /// When the store could not say.
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
    Ok(user_number(called.as_bytes())?)
}

fn texts<'a>(called: &[&'a str]) -> Result<Vec<&'a str>, IdsError> {
    called.iter().map(|called| Ok(user_text(called)?)).collect()
}

impl From<UserIdError> for Error {
    fn from(error: UserIdError) -> Self {
        Error::Ids(error.into())
    }
}
