//! The members of a set, page by page.

use std::sync::Arc;

use crate::sets::{Set, UserId};
use crate::store::Store;
use crate::tracker::base::Tracker;
use crate::tracker::error::Result;

/// How many members are fetched at a time.
const PAGE: usize = 65_536;

impl Tracker {
    /// The users of a set in ascending order, fetched page by page, so that they never have to fit
    /// in memory.
    pub fn members(&self, set: &Set) -> Members {
        Members {
            store: Arc::clone(&self.store),
            set: set.clone(),
            page: Vec::new().into_iter(),
            after: None,
            done: false,
        }
    }

    /// One page of the users of a set: at most `limit` of those greater than `after`, in ascending
    /// order.
    ///
    /// # Errors
    /// If the store could not be read.
    pub fn members_after(
        &self,
        set: &Set,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>> {
        Ok(self.store.members(set, after, limit)?)
    }
}

/// The members of a set, in ascending order. See [`Tracker::members`].
#[derive(Debug, Clone)]
pub struct Members {
    store: Arc<dyn Store>,
    set: Set,
    page: std::vec::IntoIter<UserId>,
    after: Option<UserId>,
    done: bool,
}

impl Members {
    /// Starts after `user`.
    pub fn after(mut self, user: UserId) -> Self {
        self.after = Some(user);
        self
    }
}

impl Iterator for Members {
    type Item = Result<UserId>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(user) = self.page.next() {
            return Some(Ok(user));
        }
        if self.done {
            return None;
        }
        match self.store.members(&self.set, self.after, PAGE) {
            Ok(page) => {
                self.done = page.len() < PAGE;
                self.after = page.last().copied();
                self.page = page.into_iter();
                self.page.next().map(Ok)
            }
            Err(error) => {
                self.done = true;
                Some(Err(error.into()))
            }
        }
    }
}
