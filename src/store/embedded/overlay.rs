//! Overlays: the changes of one bitmap in one memtable.

use crate::bitmap::{Tile, split};
use crate::sets::UserId;
use hashbrown::HashMap;
use std::borrow::Cow;
use std::sync::Arc;

/// The length of a bitmap that exists but has no bytes. Only Redis' SET creates such a bitmap. The
/// length 0 stands for a bitmap that does not exist.
pub const EMPTY: u64 = u64::MAX;

/// The changes of one bitmap in one memtable. They apply to the older version of the bitmap, from
/// the older memtable and the table.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    /// Whether the older version of the bitmap still counts.
    pub older: Older,
    /// The length of the resulting bitmap in bytes: 0 if it is deleted, [`EMPTY`] if it exists but
    /// has no bytes.
    pub len: u64,
    /// The changed tiles.
    pub tiles: TileMap<TileChange>,
    /// Users added by a log to tiles of the table that were not read when the store was opened.
    /// They apply after `tiles`, and the tiles may contain them already.
    pub unresolved: TileMap<Tile>,
}

impl Overlay {
    /// Returns whether the bitmap exists after these changes.
    pub fn exists(&self) -> bool {
        self.len > 0
    }

    /// Returns the length of the resulting bitmap in bytes.
    pub fn bytes(&self) -> u64 {
        if self.len == EMPTY { 0 } else { self.len }
    }

    /// Returns approximately how many bytes of memory the overlay takes.
    pub fn memory(&self) -> usize {
        let unresolved = self.unresolved.iter().map(|(_, tile)| tile.memory());
        self.tiles
            .iter()
            .map(|(_, tile)| tile.memory())
            .chain(unresolved)
            .sum()
    }
}

/// Whether the version of a bitmap in the older memtable and the table still counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Older {
    /// The overlay changes the older version, if there is one.
    #[default]
    Visible,
    /// The overlay replaces the older version, if there is one.
    Hidden,
    /// There is no older version.
    Absent,
}

/// A sorted map from tile numbers. Most bitmaps have one or a few tiles.
#[derive(Debug, Clone)]
pub struct TileMap<T>(Vec<(u16, T)>);

impl<T> TileMap<T> {
    pub(super) fn find(&self, number: u16) -> std::result::Result<usize, usize> {
        self.0.binary_search_by_key(&number, |(number, _)| *number)
    }

    pub fn get(&self, number: u16) -> Option<&T> {
        self.find(number).ok().map(|at| &self.0[at].1)
    }

    /// Returns the entry of a tile. Inserts the result of `new` if there is none.
    pub fn get_or_insert_with(&mut self, number: u16, new: impl FnOnce() -> T) -> &mut T {
        let at = self.find(number).unwrap_or_else(|at| {
            if self.0.is_empty() {
                self.0.reserve_exact(1);
            }
            self.0.insert(at, (number, new()));
            at
        });
        &mut self.0[at].1
    }

    /// Iterates over all entries in ascending order of tile numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &T)> {
        self.0.iter().map(|(number, change)| (*number, change))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for TileMap<T> {
    fn default() -> Self {
        TileMap(Vec::new())
    }
}

impl<T> FromIterator<(u16, T)> for TileMap<T> {
    /// Collects entries, which must be in ascending order of tile numbers.
    fn from_iter<I: IntoIterator<Item = (u16, T)>>(tiles: I) -> Self {
        let tiles: Vec<_> = tiles.into_iter().collect();
        assert!(tiles.is_sorted_by(|(a, _), (b, _)| a < b), "tiles ascend");
        TileMap(tiles)
    }
}

/// The changes of one tile. They apply to the older version of the tile: `added` holds users that
/// the older version does not have, `removed` holds users that it has.
#[derive(Debug, Clone, Default)]
pub struct TileChange {
    /// The added users.
    pub added: Arc<Tile>,
    /// The removed users, or `None` if there are none. There may be millions of changed tiles, most
    /// of them with a few added users and no removed ones.
    pub(super) removed: Option<Arc<Tile>>,
}

impl TileChange {
    /// Applies the change to the older version of the tile.
    pub fn over(&self, older: Option<Arc<Tile>>) -> Arc<Tile> {
        let Some(older) = older.filter(|older| !older.is_empty()) else {
            return Arc::clone(&self.added);
        };
        match &self.removed {
            None if self.added.is_empty() => older,
            None => Arc::new(older.or(&self.added)),
            Some(removed) => Arc::new(older.diff(removed).or(&self.added)),
        }
    }

    /// Returns the removed users.
    pub fn removed(&self) -> Cow<'_, Tile> {
        self.removed
            .as_deref()
            .map_or_else(Cow::default, Cow::Borrowed)
    }

    /// Returns the number of users in the tile, given the number in its older version.
    pub fn users_over(&self, older: u64) -> u64 {
        older + self.added.len() - self.removed_len()
    }

    /// Returns the number of removed users.
    pub fn removed_len(&self) -> u64 {
        self.removed.as_ref().map_or(0, |removed| removed.len())
    }

    /// Returns whether the other change is a copy of this one, and neither has changed since. Does
    /// not compare users, which would be slow.
    pub fn is_same(&self, other: &TileChange) -> bool {
        let same = |own: &Arc<Tile>, other: &Arc<Tile>| {
            Arc::ptr_eq(own, other) || (own.is_empty() && other.is_empty())
        };
        let same_removed = match (&self.removed, &other.removed) {
            (Some(own), Some(other)) => same(own, other),
            (own, other) => own.is_none() && other.is_none(),
        };
        same(&self.added, &other.added) && same_removed
    }

    /// Returns whether the tile contains the user at a place, or `None` if this change does not
    /// affect the user.
    pub(super) fn contains(&self, place: u16) -> Option<bool> {
        let is_removed = || {
            self.removed
                .as_ref()
                .is_some_and(|removed| removed.contains(place))
        };
        if self.added.contains(place) {
            Some(true)
        } else {
            is_removed().then_some(false)
        }
    }

    /// Sets the bit at a place, which must have the other value.
    pub(super) fn flip(&mut self, place: u16, value: bool) {
        // The new value either equals the older version again, or now differs from it.
        if value {
            let was_removed = self
                .removed
                .as_mut()
                .is_some_and(|removed| Arc::make_mut(removed).set(place, false));
            if !was_removed {
                Arc::make_mut(&mut self.added).set(place, true);
            }
            self.removed = self.removed.take().filter(|removed| !removed.is_empty());
        } else if self.added.is_empty() || !Arc::make_mut(&mut self.added).set(place, false) {
            Arc::make_mut(self.removed.get_or_insert_default()).set(place, true);
        }
    }

    /// Adds users, in ascending order. The tile must not contain any of them.
    pub fn add(&mut self, users: &[UserId]) {
        if self.removed.is_none() {
            Arc::make_mut(&mut self.added).add(users);
        } else {
            users
                .iter()
                .for_each(|user| self.flip(split(*user).1, true));
        }
    }

    /// Adds the users of a tile. This tile must not contain any of them.
    pub(super) fn add_tile(&mut self, users: &Tile) {
        match self.removed.take() {
            None => self.added = Arc::new(self.added.or(users)),
            Some(removed) => {
                self.added = Arc::new(self.added.or(&users.diff(&removed)));
                self.removed =
                    Some(Arc::new(removed.diff(users))).filter(|removed| !removed.is_empty());
            }
        }
    }

    /// Returns approximately how many bytes of memory the change takes.
    pub fn memory(&self) -> usize {
        // Its entry in the map, and the reference counters.
        64 + self.added.memory() + self.removed.as_ref().map_or(0, |removed| removed.memory())
    }
}

/// A memtable: overlays by key. Readers share the overlays. A writer copies the overlays and tiles
/// that a reader still holds.
pub type Memtable = HashMap<Box<str>, Arc<Overlay>>;
