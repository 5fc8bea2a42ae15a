//! Lists of people that were saved under a name: undated bitmaps that pages made, and may rename and
//! delete.

use std::collections::BTreeSet;

use crate::sets::{EventName, Key, Set};
use crate::store::{Saved, StoreError};
use crate::tracker::base::Tracker;
use crate::tracker::error::{Error, Result};

/// The document with the names, sorted, one on each line.
const LISTS: &str = "lists";

impl Tracker {
    /// Saves the users of a set as the undated bitmap of a new event, and remembers it as a saved
    /// list.
    ///
    /// # Errors
    /// Those of [`save_ever`](Self::save_ever).
    pub fn save_list(&self, set: &Set, name: &EventName) -> Result<Saved> {
        let saved = self.save_ever(set, name);
        let is_written = match &saved {
            Ok(saved) => matches!(saved, Saved::People(_)),
            Err(error) => matches!(error, Error::Store(StoreError::Unsynced { .. })),
        };
        if is_written {
            self.note_list(name, true)?;
        }
        saved
    }

    /// Returns the names of the saved lists that exist, sorted.
    ///
    /// ```
    /// use cohortist::sets::{EventName, Set};
    /// use cohortist::{Tracker, store};
    /// let tracker = Tracker::new(store::open("memory:", &store::Options::default())?);
    /// let [pro, fans, friends] = ["pro", "fans", "friends"].map(|name| EventName::new(name).unwrap());
    /// tracker.mark_ever(&pro, 7)?;
    /// tracker.save_list(&Set::ever(&pro), &fans)?;
    /// assert_eq!(tracker.saved_lists()?, [fans.clone()]);
    /// tracker.rename_list(&fans, &friends)?;
    /// assert!(tracker.contains(&Set::ever(&friends), 7)?);
    /// assert_eq!(tracker.delete_list(&pro)?, false, "it was not saved as a list");
    /// assert_eq!(tracker.delete_list(&friends)?, true);
    /// assert_eq!(tracker.saved_lists()?, []);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn saved_lists(&self) -> Result<Vec<EventName>> {
        let text = self.store.document(LISTS)?.unwrap_or_default();
        let mut lists: Vec<EventName> = text
            .lines()
            .filter_map(|name| EventName::new(name).ok())
            .collect();
        if !lists.is_empty() {
            // It may have been deleted by another program, and marked anew with dates.
            let all = self.catalogue()?;
            lists.retain(|name| all.event(name).is_some_and(|known| known.last.is_none()));
        }
        Ok(lists)
    }

    /// Gives a saved list another name. `Saved::Taken` if an event has that name.
    ///
    /// # Errors
    /// If it may have both names, or the old one only.
    pub fn rename_list(&self, from: &EventName, to: &EventName) -> Result<Saved> {
        let saved = self.save_list(&Set::ever(from), to)?;
        if matches!(saved, Saved::People(_)) {
            self.delete_list(from)?;
        }
        Ok(saved)
    }

    /// Deletes a saved list. Returns whether there was one of that name: other events stay.
    ///
    /// # Errors
    /// If it may still exist.
    pub fn delete_list(&self, name: &EventName) -> Result<bool> {
        if !self.saved_lists()?.contains(name) {
            return Ok(false);
        }
        self.delete(&Key::ever(name.clone()))?;
        self.note_list(name, false)?;
        Ok(true)
    }

    /// Remembers that an event is a saved list, or no longer.
    fn note_list(&self, name: &EventName, is_saved: bool) -> Result<()> {
        loop {
            let text = self.store.document(LISTS)?;
            let mut names: BTreeSet<&str> = text.iter().flat_map(|text| text.lines()).collect();
            let is_changed = match is_saved {
                true => names.insert(name.as_str()),
                false => names.remove(name.as_str()),
            };
            if !is_changed {
                return Ok(());
            }
            let lines: Vec<&str> = names.into_iter().collect();
            let new = (!lines.is_empty()).then(|| lines.join("\n"));
            if self
                .store
                .replace_document(LISTS, text.as_deref(), new.as_deref())?
            {
                return Ok(());
            }
        }
    }
}
