//! Distinct users.

use std::collections::HashMap;

use crate::bitmap::{Tile, split};
use crate::sets::UserId;

/// Distinct users, and their number.
#[derive(Default)]
pub struct Seen {
    tiles: HashMap<u16, Tile>,
    pub count: u64,
}

impl Seen {
    /// Adds one user. Returns whether the user is new.
    pub fn insert(&mut self, user: UserId) -> bool {
        let before = self.count;
        self.add(&[user]);
        self.count > before
    }

    /// Returns whether a user was added.
    pub fn contains(&self, user: UserId) -> bool {
        let (tile, place) = split(user);
        self.tiles
            .get(&tile)
            .is_some_and(|tile| tile.contains(place))
    }

    /// Adds users, which are in ascending order.
    pub fn add(&mut self, users: &[UserId]) {
        for users in users.chunk_by(|a, b| split(*a).0 == split(*b).0) {
            let (tile, _) = split(users[0]);
            self.count += self.tiles.entry(tile).or_default().add(users);
        }
    }
}
