//! Which tiles of which bitmaps a plan needs, one window of 64 tiles at a time. Does no I/O.
//!
//! A word describes a window: bit `t` stands for tile `start + t`.

use crate::bitmap::TILE_BYTES;
use crate::sets::{Node, Plan};

/// The number of tiles in a window.
pub(super) const WIDTH: u32 = u64::BITS;

/// The number of tiles that all possible user ids span.
const ALL_TILES: u32 = 1 << 16;

/// The number of tiles of a bitmap of `bytes` bytes.
pub(super) fn tiles_of(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(TILE_BYTES))
        .unwrap_or(ALL_TILES)
        .min(ALL_TILES)
}

/// The tiles `from..to` that lie in the window that begins at `start`.
pub(super) fn between(start: u32, from: u32, to: u32) -> u64 {
    below(to.saturating_sub(start)) & !below(from.saturating_sub(start))
}

/// The first `tiles` tiles of a window.
pub(super) fn below(tiles: u32) -> u64 {
    1_u64.checked_shl(tiles).map_or(u64::MAX, |bit| bit - 1)
}

/// What a plan needs in a window.
pub(super) struct Needs {
    /// For each node, the tiles in which its users must be known. For a key, these are the tiles to
    /// fetch.
    pub words: Vec<u64>,
    /// The tiles in which any root other than a key can have users.
    pub roots: u64,
}

/// What a plan needs in the window at `start`. `tiles` holds the number of tiles of each node, by
/// Redis' rules for lengths. `present` returns the tiles in which a key may have users.
///
/// Where one operand of an intersection is empty, the others are not needed, and neither is
/// anything below them. Roots that are keys need nothing: the server counts them.
pub(super) fn needs(
    plan: &Plan,
    tiles: &[u32],
    start: u32,
    present: impl Fn(usize) -> u64,
) -> Needs {
    let mut holds: Vec<u64> = Vec::with_capacity(plan.nodes().len());
    for (i, node) in plan.nodes().iter().enumerate() {
        let operands = node.operands().iter().map(|id| holds[id.index()]);
        holds.push(match node {
            Node::Empty => 0,
            Node::Key(_) => present(i),
            Node::And(_) => operands.reduce(|a, b| a & b).unwrap_or(0),
            Node::Or(_) | Node::Xor(_) => operands.fold(0, |a, b| a | b),
            Node::Diff([a, _]) => holds[a.index()],
            Node::Not(a) => between(start, 0, tiles[a.index()]),
        });
    }
    let mut words = vec![0; holds.len()];
    let mut roots = 0;
    for root in plan.roots() {
        if !matches!(plan.node(*root), Node::Key(_)) {
            words[root.index()] = holds[root.index()];
            roots |= holds[root.index()];
        }
    }
    // Operands come before the nodes that use them. Going backwards, everything that uses a node
    // has been visited before the node.
    for (i, node) in plan.nodes().iter().enumerate().rev() {
        let asked = words[i];
        if asked != 0 {
            node.operands()
                .iter()
                .map(|id| id.index())
                .for_each(|operand| words[operand] |= asked & holds[operand]);
        }
    }
    Needs { words, roots }
}

/// How many tiles of a window fit into one piece: as many as need no more than `most` tiles of
/// bitmaps together, and always enough to include at least one needed tile.
pub(super) fn width(words: impl Iterator<Item = u64>, most: u64) -> u32 {
    let mut at = [0_u64; WIDTH as usize];
    for word in words {
        ones(word).for_each(|tile| at[tile as usize] += 1);
    }
    let mut sum = 0;
    let fits = at.iter().take_while(|count| {
        let fits = sum == 0 || **count == 0 || sum + **count <= most;
        sum += **count;
        fits
    });
    u32::try_from(fits.count()).unwrap_or(WIDTH)
}

/// The positions of the set bits of a word, ascending.
fn ones(word: u64) -> impl Iterator<Item = u32> {
    (0..WIDTH).filter(move |bit| word >> bit & 1 != 0)
}

/// The runs of adjacent set bits of a word, each as its start and its exclusive end.
pub(super) fn runs(word: u64) -> impl Iterator<Item = (u32, u32)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = word.checked_shr(at).filter(|rest| *rest != 0)?;
        let first = at + rest.trailing_zeros();
        let end = first + (word >> first).trailing_ones();
        at = end;
        Some((first, end))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sets::{EventName, Set};

    fn key(name: &str) -> Set {
        Set::ever(&EventName::new(name).unwrap())
    }

    /// The tiles that a set needs of the keys `a`, `b` and `c` if these may have users in the tiles
    /// of `present`. All bitmaps have 8 tiles.
    fn of_keys(set: &Set, present: [u64; 3]) -> [u64; 3] {
        let mut plan = Plan::new();
        plan.count_set(set).unwrap();
        let place = |node: &Node| match node {
            Node::Key(key) => "abc".find(key.event().as_str()),
            _ => None,
        };
        let tiles = vec![8; plan.nodes().len()];
        let needs = needs(&plan, &tiles, 0, |node| {
            present[place(&plan.nodes()[node]).unwrap()]
        });
        let mut found = [0; 3];
        for (node, word) in plan.nodes().iter().zip(needs.words) {
            if let Some(place) = place(node) {
                found[place] = word;
            }
        }
        found
    }

    #[test]
    fn only_what_can_change_the_answer_is_needed() {
        let (a, b, c) = (key("a"), key("b"), key("c"));
        let present = [0b0011_1100, 0b1111_0000, 0b1000_0001];
        assert_eq!(
            of_keys(&(a.clone() & b.clone()), present),
            [0b0011_0000, 0b0011_0000, 0]
        );
        assert_eq!(
            of_keys(&(a.clone() | b.clone()), present),
            [0b0011_1100, 0b1111_0000, 0]
        );
        assert_eq!(
            of_keys(&(b.clone() - a.clone()), present),
            [0b0011_0000, 0b1111_0000, 0]
        );
        assert_eq!(
            of_keys(&((a.clone() | b.clone()) & c.clone()), present),
            [0, 0b1000_0000, 0b1000_0000]
        );
        assert_eq!(of_keys(&(a.clone() & b & c.clone()), present), [0, 0, 0]);
        assert_eq!(of_keys(&!a.clone(), present), [0b0011_1100, 0, 0]);
        assert_eq!(of_keys(&(!a.clone() & c), present), [0, 0, 0b1000_0001]);
        assert_eq!(
            of_keys(&a, present),
            [0, 0, 0],
            "servers count keys themselves"
        );
    }

    #[test]
    fn a_complement_of_an_empty_set_has_users() {
        let mut plan = Plan::new();
        plan.count_set(&!(key("a") & key("b"))).unwrap();
        let needs = needs(&plan, &[3, 9, 9, 9], 0, |_| 0);
        assert_eq!((needs.words[0], needs.roots), (0, 0b1_1111_1111));
    }

    #[test]
    fn words_are_read_by_runs() {
        let of = |word| runs(word).collect::<Vec<_>>();
        assert_eq!(of(0), []);
        assert_eq!(of(0b1100_0111), [(0, 3), (6, 8)]);
        assert_eq!(of(u64::MAX), [(0, 64)]);
        assert_eq!(of(1 << 63), [(63, 64)]);
    }

    #[test]
    fn a_window_ends_where_enough_is_needed() {
        assert_eq!(width([u64::MAX, u64::MAX].into_iter(), 10), 5);
        assert_eq!(
            width([0b1000, 0b1000, 0b1000].into_iter(), 2),
            64,
            "at least one needed tile is taken"
        );
        assert_eq!(width([0b1_1000, 0b1000, 0b1000].into_iter(), 2), 4);
        assert_eq!(width([].into_iter(), 2), 64);
        assert_eq!(
            (below(0), below(3), below(64), below(99)),
            (0, 7, u64::MAX, u64::MAX)
        );
        assert_eq!(
            (between(64, 66, 70), between(64, 0, 65), between(64, 0, 3)),
            (0b11_1100, 1, 0)
        );
        assert_eq!(
            (
                tiles_of(0),
                tiles_of(1),
                tiles_of(8192),
                tiles_of(8193),
                tiles_of(u64::MAX)
            ),
            (0, 1, 1, 2, 65536)
        );
    }
}
