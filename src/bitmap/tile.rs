//! A tile: the bits of 65 536 consecutive users.

use std::ops::Range;

use crate::bitmap::kernel::{self, WORDS, Words};
use crate::sets::UserId;

/// The bytes a tile covers in a Redis bitmap: 65 536 bits.
pub const TILE_BYTES: u64 = 8192;

/// The most users a tile holds as a sorted list. Measured, not guessed: on 10 M users AND+popcount
/// over 8 KiB of words takes a tenth of the time of walking two lists of some 3 700, so the border
/// lies where a list is 1 KiB.
const SPARSE_MAX: usize = 512;

/// The tile of a user, and the place in it.
#[allow(clippy::cast_possible_truncation)] // The halves of 32 bits.
pub const fn split(user: UserId) -> (u16, u16) {
    ((user >> 16) as u16, user as u16)
}

/// The user at a place of a tile.
pub const fn user(tile: u16, place: u16) -> UserId {
    ((tile as u32) << 16) | place as u32
}

/// The bits of 65 536 consecutive users: a sorted list while few, words when many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tile {
    /// The places of the set bits, ascending.
    Sparse(Vec<u16>),
    /// One bit for each user.
    Dense(Dense),
}

/// Words, how many of their bits are set, and where.
#[derive(Debug, Clone)]
pub struct Dense {
    count: u32,
    /// The first and the last word that may have bits. Ids are mostly given out one after the
    /// other, so those who signed up on one day are in few words of a tile: the others need not be
    /// looked at.
    span: (u16, u16),
    words: Box<Words>,
}

/// The span may be wider than it need be.
impl PartialEq for Dense {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.words == other.words
    }
}

impl Eq for Dense {}

fn word_and_bit(place: u16) -> (usize, u64) {
    (usize::from(place / 64), 1 << (63 - place % 64))
}

/// The number of one of the 1024 words.
fn number_of(word: usize) -> u16 {
    u16::try_from(word).unwrap_or(u16::MAX)
}

impl Dense {
    pub(super) fn words(&self) -> &Words {
        &self.words
    }

    pub(super) fn contains(&self, place: u16) -> bool {
        let (word, bit) = word_and_bit(place);
        self.words.0[word] & bit != 0
    }

    /// Of the words that `fill` puts in.
    fn filled(fill: impl FnOnce(&mut [u64; WORDS])) -> Self {
        let mut dense = Dense {
            count: 0,
            span: (0, 0),
            words: Box::default(),
        };
        dense.fill(fill);
        dense
    }

    fn fill(&mut self, fill: impl FnOnce(&mut [u64; WORDS])) {
        let words = &mut self.words.0;
        fill(words);
        let at = |word: Option<usize>| word.map_or(0, number_of);
        let (first, last) = (
            words.iter().position(|word| *word != 0),
            words.iter().rposition(|word| *word != 0),
        );
        (self.count, self.span) = (kernel::count(words), (at(first), at(last)));
    }

    fn from_places(places: &[u16]) -> Self {
        Dense::filled(|words| {
            for place in places {
                let (word, bit) = word_and_bit(*place);
                words[word] |= bit;
            }
        })
    }

    /// From the first to the last word in which both may have bits; when there is none, it ends
    /// before it begins.
    fn common(&self, other: &Dense) -> (u16, u16) {
        (self.span.0.max(other.span.0), self.span.1.min(other.span.1))
    }

    /// The words in which both may have bits. They begin and end with a cache line, as half lines
    /// cost as much as whole ones.
    pub(super) fn shared(&self, other: &Dense) -> Range<usize> {
        let (from, to) = self.common(other);
        if from > to {
            0..0
        } else {
            usize::from(from) & !7..(usize::from(to) | 7) + 1
        }
    }

    /// How many users are in both.
    pub(super) fn and_count(&self, other: &Dense) -> u64 {
        let shared = self.shared(other);
        kernel::and_count(&self.words.0[shared.clone()], &other.words.0[shared]).into()
    }

    /// From the first to the last word in which either may have bits.
    fn either(&self, other: &Dense) -> (u16, u16) {
        (self.span.0.min(other.span.0), self.span.1.max(other.span.1))
    }

    /// Takes in the users of another one.
    fn take_in(&mut self, other: &Dense) {
        let theirs = usize::from(other.span.0)..=usize::from(other.span.1);
        self.count += kernel::or_assign(&mut self.words.0[theirs.clone()], &other.words.0[theirs]);
        self.span = self.either(other);
    }

    /// Takes in the users that two others share.
    fn take_in_both(&mut self, a: &Dense, b: &Dense) {
        let shared = a.shared(b);
        if !shared.is_empty() {
            self.count += kernel::or_and_assign(
                &mut self.words.0[shared.clone()],
                &a.words.0[shared.clone()],
                &b.words.0[shared],
            );
            let (from, to) = a.common(b);
            self.span = (self.span.0.min(from), self.span.1.max(to));
        }
    }

    /// The users in both, who share some words.
    fn and(&self, other: &Dense) -> Dense {
        let (shared, mut words) = (self.shared(other), Box::<Words>::default());
        let count = kernel::and_into(
            &mut words.0[shared.clone()],
            &self.words.0[shared.clone()],
            &other.words.0[shared.clone()],
        );
        Dense {
            count,
            span: self.common(other),
            words,
        }
    }

    /// The users in this one and not in the other.
    fn diff(&self, other: &Dense) -> Dense {
        let (shared, mut result) = (self.shared(other), self.clone());
        result.count -=
            kernel::diff_assign(&mut result.words.0[shared.clone()], &other.words.0[shared]);
        result
    }

    /// The users in exactly one of the two.
    fn xor(&self, other: &Dense) -> Dense {
        let mut words = self.words.clone();
        let count = kernel::xor_assign(&mut words.0, &other.words.0);
        Dense {
            count,
            span: self.either(other),
            words,
        }
    }
}

impl Default for Tile {
    fn default() -> Self {
        Tile::Sparse(Vec::new())
    }
}

impl Tile {
    /// Its words, when it has them.
    pub(super) fn dense(&self) -> Option<&Dense> {
        match self {
            Tile::Dense(dense) => Some(dense),
            Tile::Sparse(_) => None,
        }
    }

    /// How many users are in it.
    pub fn len(&self) -> u64 {
        match self {
            Tile::Sparse(places) => places.len() as u64,
            Tile::Dense(dense) => dense.count.into(),
        }
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes of memory it takes.
    pub fn memory(&self) -> usize {
        match self {
            Tile::Sparse(places) => 48 + 2 * places.capacity(),
            Tile::Dense(_) => 48 + size_of::<Words>(),
        }
    }

    /// Whether the user at `place` is in it.
    pub fn contains(&self, place: u16) -> bool {
        match self {
            Tile::Sparse(places) => places.binary_search(&place).is_ok(),
            Tile::Dense(dense) => dense.contains(place),
        }
    }

    /// Puts the user at `place` in, or takes them out; says whether that changed anything.
    pub fn set(&mut self, place: u16, value: bool) -> bool {
        match self {
            Tile::Sparse(places) => match (places.binary_search(&place), value) {
                (Ok(at), false) => {
                    places.remove(at);
                    true
                }
                (Err(_), true) if places.len() >= SPARSE_MAX => {
                    *self = Tile::Dense(Dense::from_places(places));
                    self.set(place, true)
                }
                (Err(at), true) => {
                    places.insert(at, place);
                    true
                }
                _ => false,
            },
            Tile::Dense(dense) => {
                let (word, bit) = word_and_bit(place);
                let changed = (dense.words.0[word] & bit != 0) != value;
                if changed {
                    dense.words.0[word] ^= bit;
                    if value {
                        dense.count += 1
                    } else {
                        dense.count -= 1
                    }
                    let (first, last) = dense.span;
                    dense.span = (first.min(place / 64), last.max(place / 64));
                }
                changed
            }
        }
    }

    /// Puts users of this tile in, who are in ascending order; says how many of them were not in
    /// it.
    pub fn add(&mut self, users: &[UserId]) -> u64 {
        let before = self.len();
        if let Tile::Sparse(places) = self {
            let mut merged = Vec::with_capacity(places.len() + users.len());
            let users: Vec<u16> = users.iter().map(|user| split(*user).1).collect();
            merge(places, &users, |place, _, _| merged.push(place));
            *self = if merged.len() > SPARSE_MAX {
                Tile::Dense(Dense::from_places(&merged))
            } else {
                Tile::Sparse(merged)
            };
        } else if let Tile::Dense(dense) = self {
            dense.fill(|words| {
                for user in users {
                    let (word, bit) = word_and_bit(split(*user).1);
                    words[word] |= bit;
                }
            });
        }
        self.len() - before
    }

    /// Those of some users of this tile, ascending, who are not in it.
    pub fn missing(&self, users: &[UserId]) -> Vec<UserId> {
        match self {
            Tile::Sparse(places) => {
                let mut rest = &places[..];
                let is_missing = |user: &&UserId| {
                    let place = split(**user).1;
                    while rest.first().is_some_and(|first| *first < place) {
                        rest = &rest[1..];
                    }
                    rest.first() != Some(&place)
                };
                users.iter().filter(is_missing).copied().collect()
            }
            Tile::Dense(dense) => users
                .iter()
                .filter(|user| !dense.contains(split(**user).1))
                .copied()
                .collect(),
        }
    }

    /// How many runs of consecutive users there are.
    pub fn runs(&self) -> u64 {
        match self {
            Tile::Sparse(places) => {
                let breaks = places
                    .windows(2)
                    .filter(|pair| pair[1] - pair[0] > 1)
                    .count();
                (breaks + usize::from(!places.is_empty())) as u64
            }
            Tile::Dense(dense) => {
                let mut last = 0;
                let begins = dense.words.0.iter().map(|word| {
                    // A bit begins a run where the one before it, the next higher, is not set.
                    let begins = word & !(word >> 1 | last << 63);
                    last = *word;
                    u64::from(begins.count_ones())
                });
                begins.sum()
            }
        }
    }

    /// The places of its users that are `from` or beyond, ascending, given to `each` until it
    /// answers `false`.
    pub fn visit(&self, from: u16, mut each: impl FnMut(u16) -> bool) {
        match self {
            Tile::Sparse(places) => {
                let start = places.partition_point(|p| *p < from);
                let _ = places[start..].iter().all(|p| each(*p));
            }
            Tile::Dense(dense) => {
                let first = usize::from(from / 64);
                let mut keep = u64::MAX >> (from % 64);
                for (base, word) in (0..=u16::MAX).step_by(64).zip(&dense.words.0).skip(first) {
                    let mut word = word & keep;
                    keep = u64::MAX;
                    while word != 0 {
                        let place = word.leading_zeros();
                        word &= !(1 << (63 - place));
                        #[allow(clippy::cast_possible_truncation)] // Below 64.
                        if !each(base + place as u16) {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// How many users there are at places `from` to `to`, both included.
    pub fn count_between(&self, from: u16, to: u16) -> u64 {
        match self {
            _ if from > to => 0,
            Tile::Sparse(places) => {
                let below = |place: u32| places.partition_point(|p| u32::from(*p) < place) as u64;
                below(u32::from(to) + 1) - below(u32::from(from))
            }
            Tile::Dense(dense) => {
                let (first, last) = (usize::from(from / 64), usize::from(to / 64));
                let (head, tail) = (u64::MAX >> (from % 64), u64::MAX << (63 - to % 64));
                let words = dense
                    .words
                    .0
                    .iter()
                    .enumerate()
                    .skip(first)
                    .take(last - first + 1);
                let masked = words.map(|(at, word)| {
                    let head = if at == first { head } else { u64::MAX };
                    word & head & if at == last { tail } else { u64::MAX }
                });
                masked.map(|word| u64::from(word.count_ones())).sum()
            }
        }
    }

    /// The first place from `from` on that is taken, or that is free.
    pub fn first(&self, from: u16, taken: bool) -> Option<u16> {
        if taken {
            let mut found = None;
            self.visit(from, |place| {
                found = Some(place);
                false
            });
            return found;
        }
        match self {
            Tile::Sparse(places) => {
                let start = places.partition_point(|p| *p < from);
                // The list counts up by one from `from` as long as nothing is free.
                let run = (from..=u16::MAX)
                    .zip(&places[start..])
                    .take_while(|(place, taken)| place == *taken)
                    .count();
                u16::try_from(usize::from(from) + run).ok()
            }
            Tile::Dense(dense) => {
                let mut keep = u64::MAX >> (from % 64);
                for (base, word) in (0..=u16::MAX)
                    .step_by(64)
                    .zip(&dense.words.0)
                    .skip(usize::from(from / 64))
                {
                    let free = !word & keep;
                    keep = u64::MAX;
                    if free != 0 {
                        // Below 64.
                        return Some(base + u16::try_from(free.leading_zeros()).unwrap_or(0));
                    }
                }
                None
            }
        }
    }

    /// Its bits as bytes in Redis' order, all 8192 of them.
    pub fn bytes(&self) -> Box<[u8]> {
        let mut bytes = vec![0; WORDS * 8].into_boxed_slice();
        match self {
            Tile::Sparse(places) => {
                for place in places {
                    bytes[usize::from(place / 8)] |= 0x80 >> (place % 8);
                }
            }
            Tile::Dense(dense) => {
                for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(&dense.words.0) {
                    *chunk = word.to_be_bytes();
                }
            }
        }
        bytes
    }

    /// The tile of up to 8192 bytes in Redis' order; what is beyond them is empty.
    pub fn of_bytes(bytes: &[u8]) -> Tile {
        let dense = Dense::filled(|words| {
            for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
                let mut whole = [0; 8];
                whole[..chunk.len()].copy_from_slice(chunk);
                *word = u64::from_be_bytes(whole);
            }
        });
        Tile::Dense(dense).compact()
    }

    /// The place of its last user.
    pub fn last(&self) -> Option<u16> {
        match self {
            Tile::Sparse(places) => places.last().copied(),
            Tile::Dense(dense) => {
                let found = (0..=u16::MAX)
                    .step_by(64)
                    .zip(&dense.words.0)
                    .rfind(|(_, word)| **word != 0);
                // A word that is not 0 has fewer than 64 zeros behind its last bit.
                found.and_then(|(base, word)| {
                    Some(base + 63 - u16::try_from(word.trailing_zeros()).ok()?)
                })
            }
        }
    }

    /// The same users in as little memory as may be: an intersection of dense tiles may have few
    /// users left.
    pub fn compact(&self) -> Tile {
        match self {
            Tile::Dense(dense) if dense.count as usize <= SPARSE_MAX => Tile::Sparse(self.places()),
            _ => self.clone(),
        }
    }

    fn places(&self) -> Vec<u16> {
        let mut places = Vec::with_capacity(usize::try_from(self.len()).unwrap_or(0));
        self.visit(0, |place| {
            places.push(place);
            true
        });
        places
    }

    /// How many users are in both.
    pub fn and_count(&self, other: &Tile) -> u64 {
        match (self, other) {
            (Tile::Dense(a), Tile::Dense(b)) => a.and_count(b),
            (Tile::Sparse(places), Tile::Dense(dense))
            | (Tile::Dense(dense), Tile::Sparse(places)) => {
                places.iter().map(|p| u64::from(dense.contains(*p))).sum()
            }
            (Tile::Sparse(a), Tile::Sparse(b)) => {
                let mut count = 0;
                merge(a, b, |_, in_a, in_b| count += u64::from(in_a && in_b));
                count
            }
        }
    }

    /// The users in both.
    pub fn and(&self, other: &Tile) -> Tile {
        match (self, other) {
            (Tile::Sparse(places), Tile::Dense(dense))
            | (Tile::Dense(dense), Tile::Sparse(places)) => Tile::Sparse(
                places
                    .iter()
                    .copied()
                    .filter(|p| dense.contains(*p))
                    .collect(),
            ),
            (Tile::Dense(a), Tile::Dense(b)) if a.shared(b).is_empty() => Tile::default(),
            (Tile::Dense(a), Tile::Dense(b)) => Tile::Dense(a.and(b)),
            (Tile::Sparse(a), Tile::Sparse(b)) => sparse(a, b, |in_a, in_b| in_a && in_b),
        }
    }

    /// The users in either.
    pub fn or(&self, other: &Tile) -> Tile {
        match (self, other) {
            (Tile::Sparse(a), Tile::Sparse(b)) => sparse(a, b, |in_a, in_b| in_a || in_b),
            (dense @ Tile::Dense(_), other) | (other, dense @ Tile::Dense(_)) => {
                let mut result = dense.clone();
                result.take_in(other);
                result
            }
        }
    }

    /// Puts the users of another one in.
    pub fn take_in(&mut self, other: &Tile) {
        match (&mut *self, other) {
            (Tile::Dense(dense), Tile::Dense(other)) => dense.take_in(other),
            (Tile::Dense(_), Tile::Sparse(places)) => {
                for place in places {
                    self.set(*place, true);
                }
            }
            _ => *self = self.or(other),
        }
    }

    /// Puts the users of several others in. They are counted once, in the end.
    pub fn take_in_all(&mut self, others: &[&Tile]) {
        let users = others
            .iter()
            .fold(self.len(), |users, other| users + other.len());
        if others.len() < 2 || users <= SPARSE_MAX as u64 {
            others.iter().for_each(|other| self.take_in(other));
            return;
        }
        let mut dense = match std::mem::take(self) {
            Tile::Dense(dense) => dense,
            Tile::Sparse(places) => Dense::from_places(&places),
        };
        let mut words = Vec::with_capacity(others.len());
        let (mut from, mut to) = (usize::from(dense.span.0), usize::from(dense.span.1));
        for other in others {
            match other {
                Tile::Dense(other) => {
                    words.push(other.words());
                    (from, to) = (
                        from.min(usize::from(other.span.0)),
                        to.max(usize::from(other.span.1)),
                    );
                }
                Tile::Sparse(places) => {
                    for place in places {
                        let (word, bit) = word_and_bit(*place);
                        dense.words.0[word] |= bit;
                        (from, to) = (from.min(word), to.max(word));
                    }
                }
            }
        }
        let span = from & !7..(to | 7) + 1;
        kernel::or_all(&mut dense.words.0[span.clone()], span.start, &words);
        dense.count = kernel::count(&dense.words.0[span]);
        dense.span = (number_of(from), number_of(to));
        *self = Tile::Dense(dense);
    }

    /// Puts the users in that two others share.
    pub fn take_in_both(&mut self, a: &Tile, b: &Tile) {
        match (&mut *self, a, b) {
            (Tile::Dense(dense), Tile::Dense(a), Tile::Dense(b)) => dense.take_in_both(a, b),
            (_, Tile::Dense(_), Tile::Dense(_)) => self.take_in(&a.and(b)),
            (Tile::Dense(_), Tile::Sparse(few), other)
            | (Tile::Dense(_), other, Tile::Sparse(few)) => {
                for place in few.iter().filter(|place| other.contains(**place)) {
                    self.set(*place, true);
                }
            }
            (Tile::Sparse(own), Tile::Sparse(few), other)
            | (Tile::Sparse(own), other, Tile::Sparse(few)) => {
                // Mostly there are few new ones, or none.
                let (mut own, mut other) = (Walk::of(own), Walk::in_tile(other));
                let new: Vec<u16> = few
                    .iter()
                    .copied()
                    .filter(|place| !own.finds(*place) && other.finds(*place))
                    .collect();
                if !new.is_empty() {
                    self.take_in(&Tile::Sparse(new));
                }
            }
        }
    }

    /// The users in exactly one of the two.
    pub fn xor(&self, other: &Tile) -> Tile {
        match (self, other) {
            (Tile::Sparse(a), Tile::Sparse(b)) => sparse(a, b, |in_a, in_b| in_a != in_b),
            (Tile::Dense(a), Tile::Dense(b)) => Tile::Dense(a.xor(b)),
            (Tile::Sparse(places), dense @ Tile::Dense(_))
            | (dense @ Tile::Dense(_), Tile::Sparse(places)) => {
                let mut result = dense.clone();
                for place in places {
                    result.set(*place, !dense.contains(*place));
                }
                result
            }
        }
    }

    /// The users in this one and not in the other.
    pub fn diff(&self, other: &Tile) -> Tile {
        match (self, other) {
            (Tile::Sparse(a), b) => {
                Tile::Sparse(a.iter().copied().filter(|p| !b.contains(*p)).collect())
            }
            (Tile::Dense(a), Tile::Dense(b)) => Tile::Dense(a.diff(b)),
            (Tile::Dense(_), Tile::Sparse(places)) => {
                let mut result = self.clone();
                for place in places {
                    result.set(*place, false);
                }
                result
            }
        }
    }

    /// The first `bytes` bytes' worth of users that are not in it; at most [`TILE_BYTES`].
    pub fn complement(&self, bytes: u64) -> Tile {
        let bits = bytes.min(TILE_BYTES) * 8;
        let all = Dense::filled(|words| {
            for (start, word) in (0..).step_by(64).zip(words) {
                let left = bits.saturating_sub(start).min(64);
                *word = u64::MAX
                    .checked_shl(64 - u32::try_from(left).unwrap_or(64))
                    .unwrap_or(0);
            }
        });
        Tile::Dense(all).diff(self)
    }

    /// As stored: 8192 bytes are words in Redis' bit order; fewer are ascending little-endian
    /// 16-bit places.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Tile::Sparse(places) => places.iter().flat_map(|p| p.to_le_bytes()).collect(),
            Tile::Dense(dense) if dense.count as usize <= SPARSE_MAX => self.compact().to_bytes(),
            Tile::Dense(dense) => dense.words.0.iter().flat_map(|w| w.to_be_bytes()).collect(),
        }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Tile> {
        if bytes.len() as u64 == TILE_BYTES {
            return Some(Tile::Dense(Dense::filled(|words| {
                for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *word = u64::from_be_bytes(*chunk);
                }
            })));
        }
        let (chunks, rest) = bytes.as_chunks::<2>();
        let places: Vec<u16> = chunks.iter().map(|c| u16::from_le_bytes(*c)).collect();
        (rest.is_empty() && places.len() <= SPARSE_MAX && places.is_sorted_by(|a, b| a < b))
            .then_some(Tile::Sparse(places))
    }
}

impl FromIterator<u16> for Tile {
    fn from_iter<I: IntoIterator<Item = u16>>(places: I) -> Self {
        let mut places: Vec<u16> = places.into_iter().collect();
        places.sort_unstable();
        places.dedup();
        if places.len() > SPARSE_MAX {
            Tile::Dense(Dense::from_places(&places))
        } else {
            Tile::Sparse(places)
        }
    }
}

/// Looks for places one after the other, each beyond the one before.
enum Walk<'a> {
    List { places: &'a [u16], at: usize },
    Words(&'a Dense),
}

impl<'a> Walk<'a> {
    fn of(places: &'a [u16]) -> Self {
        Walk::List { places, at: 0 }
    }

    fn in_tile(tile: &'a Tile) -> Self {
        match tile {
            Tile::Sparse(places) => Walk::of(places),
            Tile::Dense(dense) => Walk::Words(dense),
        }
    }

    fn finds(&mut self, place: u16) -> bool {
        match self {
            Walk::Words(dense) => dense.contains(place),
            Walk::List { places, at } => {
                while places.get(*at).is_some_and(|next| *next < place) {
                    *at += 1;
                }
                places.get(*at) == Some(&place)
            }
        }
    }
}

fn sparse(a: &[u16], b: &[u16], keep: fn(bool, bool) -> bool) -> Tile {
    let mut places = Vec::with_capacity(a.len().max(b.len()));
    merge(a, b, |place, in_a, in_b| {
        if keep(in_a, in_b) {
            places.push(place);
        }
    });
    if places.len() > SPARSE_MAX {
        Tile::Dense(Dense::from_places(&places))
    } else {
        Tile::Sparse(places)
    }
}

/// Walks two ascending lists; `each` hears every place once, with the lists it is in.
pub(super) fn merge(a: &[u16], b: &[u16], mut each: impl FnMut(u16, bool, bool)) {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        each(x.min(y), x <= y, y <= x);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    a[i..].iter().for_each(|x| each(*x, true, false));
    b[j..].iter().for_each(|y| each(*y, false, true));
}
