//! Counts many intersections of two tiles with the same number in one pass.
//!
//! Pairs of dense tiles are counted strip by strip ([`kernel::and_counts`]), and so are the columns
//! that reduce a dense tile one after the other. Pairs of sorted lists
//! are counted together: a table records for each place which lists contain it, so each list is
//! read once, however many pairs it belongs to. The time is proportional to the number of users in
//! the lists and in the intersections, not to the number of pairs.

use smallvec::SmallVec;

use crate::bitmap::kernel::{self, Keep, WORDS, Words};
use crate::bitmap::program::BATCH;
use crate::bitmap::tile::{Dense, Tile, merge};

/// The minimum number of pairs of lists for which the table is used. Fewer pairs are counted pair
/// by pair.
const MIN_PAIRS: u32 = 4;

/// The number of places that the table covers at a time. It takes 128 KiB.
const PART: usize = 1 << 14;

/// Stands for a tile without users.
pub(super) static NOBODY: Words = Words([0; WORDS]);

/// Pairs of dense tiles to count.
#[derive(Default)]
pub(super) struct Pairs<'a> {
    rows: Vec<kernel::Row<'a>>,
    columns: Vec<&'a [u64]>,
    /// The root of the plan that each column counts for.
    roots: Vec<u32>,
}

impl<'a> Pairs<'a> {
    /// Adds pairs of a dense tile with others, each with the root that it counts for. Some pairs
    /// are added to `counts` at once.
    pub fn row(
        &mut self,
        own: &'a Dense,
        others: impl Iterator<Item = (&'a Dense, u32)>,
        counts: &mut [u64],
    ) {
        let before = self.columns.len();
        let whole = own.shared(own).len();
        let mut start = WORDS;
        let mut end = 0;
        for (other, root) in others {
            let shared = own.shared(other);
            if 2 * shared.len() < whole {
                // The range of the whole row would be much too large for this pair.
                counts[root as usize] += own.and_count(other);
            } else {
                start = start.min(shared.start);
                end = end.max(shared.end);
                self.columns.push(&other.words().0);
                self.roots.push(root);
            }
        }
        let columns = self.columns.len() - before;
        if columns > 0 {
            self.rows.push(kernel::Row {
                words: &own.words().0,
                running: None,
                range: start..end,
                columns,
            });
        }
    }

    /// Adds tiles that reduce a tile one after the other, each with the root that counts what is
    /// left. `None` is an empty tile. If not all of them are dense, they are added to `counts` at
    /// once.
    pub fn running(
        &mut self,
        own: &'a Tile,
        keep: Keep,
        others: impl Iterator<Item = (Option<&'a Tile>, u32)> + Clone,
        counts: &mut [u64],
    ) {
        let is_list = |tile: Option<&Tile>| matches!(tile, Some(Tile::Sparse(_)));
        let dense = own
            .dense()
            .filter(|_| !others.clone().any(|(other, _)| is_list(other)));
        let Some(dense) = dense else {
            let mut left = own.clone();
            for (other, root) in others {
                match (keep, other) {
                    (_, Some(other)) => left.keep(other, keep),
                    (Keep::Inside, None) => break,
                    (Keep::Outside, None) => {}
                }
                counts[root as usize] += left.len();
            }
            return;
        };
        let before = self.columns.len();
        for (other, root) in others {
            let words = other.and_then(Tile::dense).map(Dense::words);
            self.columns.push(&words.unwrap_or(&NOBODY).0);
            self.roots.push(root);
        }
        self.rows.push(kernel::Row {
            words: &dense.words().0,
            running: Some(keep),
            range: dense.shared(dense),
            columns: self.columns.len() - before,
        });
    }

    /// Adds the count of each pair to the count of its root. `tiles` is the number of tiles in all
    /// pairs.
    pub fn count(self, tiles: usize, counts: &mut [u64]) {
        let mut dense = vec![0; self.columns.len()];
        kernel::and_counts(&self.rows, &self.columns, tiles, &mut dense);
        for (root, count) in self.roots.iter().zip(dense) {
            counts[*root as usize] += count;
        }
    }
}

/// Returns how many users are both in a sorted list and in a dense tile.
pub(super) fn mixed(list: &[u16], words: &Dense) -> u64 {
    list.iter()
        .map(|place| u64::from(words.contains(*place)))
        .sum()
}

/// Counts pairs of sorted lists. Its memory is reused.
#[derive(Default)]
pub(super) struct Lists {
    /// The number of users in both lists of each pair, by the greater number of the two lists, then
    /// by the lower one.
    both: Vec<u32>,
    /// For each place of a part, the set of lists that contain it. All sets are empty between two
    /// calls.
    holders: Vec<u64>,
}

impl Lists {
    /// Counts pairs of those `tiles` that are lists: each list with the lists of lower numbers that
    /// are in its set in `before`. Replaces all previous counts.
    pub fn count(&mut self, tiles: &[Option<&Tile>], before: &[u64]) {
        let mut lists: SmallVec<[(usize, &[u16], u64); BATCH]> = SmallVec::new();
        let mut there = 0;
        let mut pairs = 0;
        for (number, (tile, before)) in tiles.iter().zip(before).enumerate() {
            if let Some(Tile::Sparse(list)) = tile {
                lists.push((number, list, before & there));
                pairs += (before & there).count_ones();
                there |= 1 << number;
            }
        }
        self.both.clear();
        if pairs == 0 {
            return;
        }
        self.both.resize(BATCH * tiles.len(), 0);
        if pairs < MIN_PAIRS {
            for (number, list, before) in &lists {
                for (other_number, other, _) in
                    lists.iter().filter(|(other, ..)| before & 1 << other != 0)
                {
                    self.both[BATCH * number + other_number] += in_both(list, other);
                }
            }
            return;
        }
        self.holders.resize(PART, 0);
        // The constant length makes bounds checks unnecessary.
        let holders = self
            .holders
            .first_chunk_mut::<PART>()
            .expect("it has that length");
        for end in (1..=4).map(|part| part * PART) {
            let mut walked: SmallVec<[&[u16]; BATCH]> = SmallVec::new();
            for (number, list, before) in &mut lists {
                let both = &mut self.both[BATCH * *number..][..BATCH];
                let mut walk = 0;
                for place in list
                    .iter()
                    .map(|place| usize::from(*place))
                    .take_while(|place| *place < end)
                {
                    let holders = &mut holders[place % PART];
                    let mut shared = *holders & *before;
                    while shared != 0 {
                        both[shared.trailing_zeros() as usize] += 1;
                        shared &= shared - 1;
                    }
                    *holders |= 1 << *number;
                    walk += 1;
                }
                let (own, rest) = list.split_at(walk);
                walked.push(own);
                *list = rest;
            }
            for own in walked {
                for place in own {
                    holders[usize::from(*place) % PART] = 0;
                }
            }
        }
    }

    /// Returns how many users are in both of two lists, given their numbers, or 0 if the pair was
    /// not counted.
    pub fn counted(&self, a: u32, b: u32) -> u64 {
        self.both
            .get(BATCH * a.max(b) as usize + a.min(b) as usize)
            .copied()
            .unwrap_or(0)
            .into()
    }
}

/// Returns how many places are in both of two sorted lists.
fn in_both(a: &[u16], b: &[u16]) -> u32 {
    let mut count = 0;
    merge(a, b, |_, in_a, in_b| count += u32::from(in_a && in_b));
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tile() -> impl Strategy<Value = Tile> {
        prop_oneof![
            Just(Tile::default()),
            proptest::collection::vec(any::<u16>(), 0..40).prop_map(Tile::from_iter),
            proptest::collection::vec(0..200_u16, 0..100).prop_map(Tile::from_iter),
            proptest::collection::vec(any::<u16>(), 400..700).prop_map(Tile::from_iter),
            (any::<u16>(), 0..3000_u16)
                .prop_map(|(from, len)| (from..from.saturating_add(len)).collect()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn lists_are_counted_like_individual_pairs(
            numbers in proptest::collection::vec(proptest::collection::vec(tile(), 1..=BATCH), 1..3),
            before in proptest::collection::vec(any::<u64>(), BATCH),
        ) {
            let mut lists = Lists::default();
            let tiles = numbers.iter().map(Vec::len).min().unwrap();
            let before: Vec<u64> = before[..tiles].iter().enumerate().map(|(number, set)| set & ((1 << number) - 1)).collect();
            for number in &numbers {
                let held: Vec<Option<&Tile>> = number[..tiles].iter().map(Some).collect();
                lists.count(&held, &before);
                prop_assert!(lists.holders.iter().all(|holders| *holders == 0), "the sets are empty again");
                for (a, b) in (0..tiles).flat_map(|a| (0..a).map(move |b| (a, b))) {
                    let expected = match (&number[a], &number[b]) {
                        (Tile::Sparse(x), Tile::Sparse(y)) if before[a] >> b & 1 == 1 => {
                            x.iter().filter(|place| y.contains(place)).count() as u64
                        }
                        _ => 0,
                    };
                    let counted = lists.counted(u32::try_from(b).unwrap(), u32::try_from(a).unwrap());
                    prop_assert_eq!(counted, expected, "{} and {}", a, b);
                }
            }
        }

        #[test]
        fn dense_tiles_are_counted_like_individual_pairs(
            tiles in proptest::collection::vec(tile(), 1..=BATCH),
            rows in proptest::collection::vec((0..BATCH, any::<u64>()), 0..20),
        ) {
            let dense: Vec<&Dense> = tiles.iter().filter_map(Tile::dense).collect();
            let mut pairs = Pairs::default();
            let mut expected = Vec::new();
            // The counts are added to the previous values.
            let mut counts = vec![1; 20 * BATCH];
            for (own, columns) in rows.iter().filter(|_| !dense.is_empty()) {
                let own = dense[own % dense.len()];
                let mut row = Vec::new();
                for (_, other) in dense.iter().enumerate().filter(|(at, _)| columns >> at & 1 == 1) {
                    row.push((*other, u32::try_from(expected.len()).unwrap()));
                    let both = own.words().0.iter().zip(&other.words().0).map(|(a, b)| u64::from((a & b).count_ones()));
                    expected.push(1 + both.sum::<u64>());
                }
                pairs.row(own, row.into_iter(), &mut counts);
            }
            pairs.count(dense.len(), &mut counts);
            prop_assert_eq!(&counts[..expected.len()], &expected[..]);
        }
    }
}
