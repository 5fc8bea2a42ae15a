//! The stored form of a tile: the shortest of three forms, or the difference from the tile in the
//! older segments.
//!
//! | first byte | what follows |
//! |---|---|
//! | 1 | *places*: for each user, the distance from the previous one, minus one, as a varint |
//! | 2 | *runs*: for each run of consecutive users, its distance from the previous one and its length, each minus one, as varints |
//! | 3 | *bits*: 8,192 bytes in Redis' order |
//! | 4 | *change*: the length of the first list in bytes as a varint, the users added, and the users removed, both as places |

use crate::bitmap::{TILE_BYTES, Tile};
use crate::store::embedded::table::codec::{Input, put_varint};

const PLACES: u8 = 1;
const RUNS: u8 = 2;
const BITS: u8 = 3;
const CHANGE: u8 = 4;

/// The maximum number of users stored as places. A tile with more users is stored as bits, unless
/// it is stored as runs: a list is read one user at a time.
const MOST_PLACES: u64 = 4096;

/// [`TILE_BYTES`] as a `usize`.
#[allow(clippy::cast_possible_truncation)] // 8192.
const TILE_LEN: usize = TILE_BYTES as usize;

/// What is stored for a tile in one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packed {
    /// The whole tile.
    Whole(Tile),
    /// The changes since the older segments. A user is in at most one of the two tiles.
    Change { added: Tile, removed: Tile },
}

/// Returns approximately how many bytes a tile with `users` users takes on disk.
pub const fn estimated_bytes(users: u64) -> u64 {
    if users < TILE_BYTES {
        users
    } else {
        TILE_BYTES
    }
}

/// Returns the bytes of a whole tile.
pub fn pack(tile: &Tile) -> Vec<u8> {
    // A run takes at least two bytes, and a place usually takes one.
    let are_runs = 2 * tile.runs() < tile.len().min(TILE_BYTES);
    if !are_runs && tile.len() > MOST_PLACES {
        let mut bits = Vec::with_capacity(TILE_LEN + 1);
        bits.push(BITS);
        bits.extend_from_slice(&tile.bytes());
        return bits;
    }
    let users = usize::try_from(tile.len()).expect("a tile has at most 65,536 users");
    let mut list = Vec::with_capacity(users.min(TILE_LEN) + 64);
    if are_runs {
        list.push(RUNS);
        put_runs(&mut list, tile);
    } else {
        list.push(PLACES);
        put_places(&mut list, tile);
    }
    list
}

/// Returns the bytes of a change.
pub fn pack_change(added: &Tile, removed: &Tile) -> Vec<u8> {
    let mut added_places = Vec::new();
    put_places(&mut added_places, added);
    let mut bytes = vec![CHANGE];
    put_varint(&mut bytes, added_places.len() as u64);
    bytes.extend(added_places);
    put_places(&mut bytes, removed);
    bytes
}

impl Packed {
    /// Reads a packed tile or change. Returns `None` for anything else.
    pub fn read(bytes: &[u8]) -> Option<Packed> {
        let mut input = Input(bytes);
        match input.byte()? {
            PLACES => places(input).map(Packed::Whole),
            RUNS => runs(input).map(Packed::Whole),
            BITS if input.0.len() as u64 == TILE_BYTES => {
                Some(Packed::Whole(Tile::of_bytes(input.0)))
            }
            CHANGE => {
                let len = input.len()?;
                let added = places(Input(input.take(len)?))?;
                Some(Packed::Change {
                    added,
                    removed: places(input)?,
                })
            }
            _ => None,
        }
    }

    /// Reads a value as a change. Returns `None` if it is not a change or cannot be read.
    pub fn change(value: &[u8]) -> Option<Packed> {
        (value.first() == Some(&CHANGE)).then(|| Packed::read(value))?
    }

    /// Applies this to the value in the older segments. A tile that they do not have counts as
    /// empty.
    pub fn over(self, older: Option<Packed>) -> Packed {
        let Packed::Change { added, removed } = self else {
            return self;
        };
        match older {
            None => Packed::Whole(added),
            Some(Packed::Whole(tile)) => Packed::Whole(tile.diff(&removed).or(&added)),
            Some(Packed::Change {
                added: more,
                removed: fewer,
            }) => Packed::Change {
                added: more.diff(&removed).or(&added),
                removed: fewer.diff(&added).or(&removed),
            },
        }
    }

    /// Returns the bytes as stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Packed::Whole(tile) => pack(tile),
            Packed::Change { added, removed } => pack_change(added, removed),
        }
    }
}

fn put_places(bytes: &mut Vec<u8>, tile: &Tile) {
    let mut next = 0;
    tile.visit(0, |place| {
        put_varint(bytes, u64::from(place) - next);
        next = u64::from(place) + 1;
        true
    });
}

fn put_runs(bytes: &mut Vec<u8>, tile: &Tile) {
    let mut next = 0;
    let mut put = |(from, to): (u64, u64)| {
        put_varint(bytes, from - next);
        put_varint(bytes, to - from);
        next = to + 1;
    };
    let mut run: Option<(u64, u64)> = None;
    tile.visit(0, |place| {
        let place = u64::from(place);
        match &mut run {
            Some((_, to)) if *to + 1 == place => *to = place,
            _ => run.replace((place, place)).into_iter().for_each(&mut put),
        }
        true
    });
    run.into_iter().for_each(put);
}

/// The first place beyond the end of a tile.
const END: u64 = TILE_BYTES * 8;

fn places(input: Input<'_>) -> Option<Tile> {
    // A place takes at least one byte.
    let mut bits = Bits::new(input.0.len());
    match &mut bits {
        Bits::Few(places) => each_place(input, |place| places.push(place))?,
        Bits::Many(bytes) => each_place(input, |place| {
            bytes[usize::from(place / 8)] |= 0x80 >> (place % 8)
        })?,
    }
    Some(bits.tile())
}

fn each_place(mut input: Input<'_>, mut each: impl FnMut(u16)) -> Option<()> {
    let mut next = 0;
    while !input.is_empty() {
        let place = next + input.varint().filter(|distance| *distance < END)?;
        each(u16::try_from(place).ok()?);
        next = place + 1;
    }
    Some(())
}

fn runs(mut input: Input<'_>) -> Option<Tile> {
    let mut bits = Bits::new(usize::MAX);
    let mut next = 0;
    while !input.is_empty() {
        let from = next + input.varint().filter(|distance| *distance < END)?;
        let to = from + input.varint().filter(|more| *more < END)?;
        (from..=to).try_for_each(|place| bits.set(place))?;
        next = to + 1;
    }
    Some(bits.tile())
}

/// Collects ascending places: few in a list, many as bits.
enum Bits {
    Few(Vec<u16>),
    Many(Box<[u8]>),
}

impl Bits {
    fn new(most: usize) -> Self {
        if most <= 256 {
            Bits::Few(Vec::with_capacity(most))
        } else {
            Bits::Many(vec![0; TILE_LEN].into())
        }
    }

    /// Adds a place. Returns `None` if it is beyond the end of a tile.
    fn set(&mut self, place: u64) -> Option<()> {
        let place = u16::try_from(place).ok()?;
        match self {
            Bits::Few(places) => places.push(place),
            Bits::Many(bytes) => bytes[usize::from(place / 8)] |= 0x80 >> (place % 8),
        }
        Some(())
    }

    fn tile(self) -> Tile {
        match self {
            Bits::Few(places) => places.into_iter().collect(),
            Bits::Many(bytes) => Tile::of_bytes(&bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Generates tiles with few users, with many users, and with runs.
    fn tiles() -> impl Strategy<Value = Tile> {
        let few = prop::collection::btree_set(any::<u16>(), 0..40)
            .prop_map(|places| places.into_iter().collect());
        let many = (any::<u64>(), 1_u32..30).prop_map(|(seed, one_in)| {
            let mut state = seed | 1;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            (0..=u16::MAX)
                .filter(|_| next() % u64::from(one_in) == 0)
                .collect()
        });
        let runs = prop::collection::vec((any::<u16>(), 0_u16..3000), 0..8).prop_map(|runs| {
            runs.into_iter()
                .flat_map(|(from, len)| from..=from.saturating_add(len))
                .collect()
        });
        prop_oneof![few, many, runs, Just((0..=u16::MAX).collect::<Tile>())]
    }

    fn whole(bytes: &[u8]) -> Tile {
        match Packed::read(bytes) {
            Some(Packed::Whole(tile)) => tile,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn tiles_read_back_and_are_never_longer_than_bits(tile in tiles()) {
            let bytes = pack(&tile);
            // A few places or runs take more than a byte.
            prop_assert!(bytes.len() as u64 <= TILE_BYTES + 1, "{}", bytes.len());
            prop_assert_eq!(whole(&bytes), tile.compact());
        }

        #[test]
        fn changes_can_be_merged_in_any_order(one in tiles(), two in tiles(), three in tiles()) {
            let read = |before: &Tile, after: &Tile| {
                Packed::read(&pack_change(&after.diff(before), &before.diff(after))).unwrap()
            };
            let first = read(&one, &two);
            let second = read(&two, &three);
            let base = || Some(Packed::Whole(one.clone()));
            let expected = Packed::Whole(three.compact());
            let compact = |packed| match packed {
                Packed::Whole(tile) => Packed::Whole(tile.compact()),
                change => change,
            };
            // The result is the same for either order of merging.
            prop_assert_eq!(compact(second.clone().over(Some(first.clone().over(base())))), expected.clone());
            let merged = Packed::read(&second.over(Some(first)).to_bytes()).unwrap();
            prop_assert_eq!(compact(merged.over(base())), expected);
        }

        #[test]
        fn small_changes_take_few_bytes(tile in tiles(), places in prop::collection::btree_set(any::<u16>(), 1..20)) {
            let mut after = tile.clone();
            for place in &places {
                after.set(*place, !tile.contains(*place));
            }
            prop_assert!(pack_change(&after.diff(&tile), &tile.diff(&after)).len() <= 2 + 3 * places.len());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Packed::read(&bytes);
        }
    }

    #[test]
    fn consecutive_users_are_runs() {
        let tile: Tile = (1000..30_000).collect();
        assert_eq!(pack(&tile).len(), 6);
        let every_third: Tile = (0..=u16::MAX).step_by(3).collect();
        assert_eq!(pack(&every_third).len() as u64, TILE_BYTES + 1);
        let few: BTreeSet<u16> = [0, 1, 9, 65_535].into();
        assert_eq!(
            pack(&few.iter().copied().collect()),
            [PLACES, 0, 0, 7, 0xf5, 0xff, 3]
        );
    }
}
