//! The names that libraries added to a store while this process runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use crate::sets::EventName;

/// The names of new events, by the index of the store. The list of a store's bitmaps may be some
/// seconds old, and a limit on names must hold within them. Clones share the names.
#[derive(Debug, Clone, Default)]
pub struct RecentNames(Arc<Mutex<HashMap<usize, BTreeSet<EventName>>>>);

impl RecentNames {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<usize, BTreeSet<EventName>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
