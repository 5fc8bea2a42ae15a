//! Tiles: the bits of 65,536 consecutive users.

use std::ops::Range;

use crate::bitmap::kernel::{self, Keep, WORDS, Words};
use crate::sets::UserId;

/// The length of a tile in a Redis bitmap, in bytes.
pub const TILE_BYTES: u64 = 8192;

/// The maximum number of users that a tile holds as a sorted list. According to measurements with
/// 10 million users, AND and a population count over 8 KiB of words take a tenth of the time of
/// merging two lists of 3,700 users, so the limit is a list of 1 KiB.
const SPARSE_MAX: usize = 512;

/// Returns the number of the tile that contains a user, and the place of the user in the tile.
#[allow(clippy::cast_possible_truncation)] // The halves of 32 bits.
pub const fn split(user: UserId) -> (u16, u16) {
    ((user >> 16) as u16, user as u16)
}

/// Returns the user at a place of the tile with a number.
pub const fn user(tile: u16, place: u16) -> UserId {
    ((tile as u32) << 16) | place as u32
}

/// A set of users among 65,536 consecutive ones: a sorted list if there are few, or a bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tile {
    /// The places of the users, in ascending order.
    Sparse(Vec<u16>),
    /// One bit per user.
    Dense(Dense),
}

/// A bitmap of 65,536 bits.
#[derive(Debug, Clone)]
pub struct Dense {
    /// The number of bits that are set.
    count: u32,
    /// The first and the last word that may have bits. Ids are usually assigned in order, so the
    /// users who signed up on one day are in a few words of a tile. The other words need not be
    /// read.
    span: (u16, u16),
    words: Box<Words>,
}

/// Ignores the span, which may be wider than necessary.
impl PartialEq for Dense {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.words == other.words
    }
}

impl Eq for Dense {}

/// Returns the index of the word that contains a place, and the bit in that word.
fn word_and_bit(place: u16) -> (usize, u64) {
    (usize::from(place / 64), 1 << (63 - place % 64))
}

/// Converts the index of a word to a smaller type.
fn word_number(word: usize) -> u16 {
    u16::try_from(word).expect("a tile has 1,024 words")
}

impl Dense {
    pub(super) fn words(&self) -> &Words {
        &self.words
    }

    pub(super) fn contains(&self, place: u16) -> bool {
        let (word, bit) = word_and_bit(place);
        self.words.0[word] & bit != 0
    }

    /// Creates a bitmap from the words that `fill` writes.
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
        // Without users, the span is the first word.
        let first = words.iter().position(|word| *word != 0).unwrap_or(0);
        let last = words.iter().rposition(|word| *word != 0).unwrap_or(0);
        self.count = kernel::count(words);
        self.span = (word_number(first), word_number(last));
    }

    fn from_places(places: &[u16]) -> Self {
        Dense::filled(|words| {
            for place in places {
                let (word, bit) = word_and_bit(*place);
                words[word] |= bit;
            }
        })
    }

    /// Returns the first and the last word in which both may have bits. If there are none, the last
    /// one precedes the first one.
    fn common(&self, other: &Dense) -> (u16, u16) {
        (self.span.0.max(other.span.0), self.span.1.min(other.span.1))
    }

    /// Returns the range of words in which both may have bits, extended to whole cache lines,
    /// because half a line takes as much time as a whole one.
    pub(super) fn shared(&self, other: &Dense) -> Range<usize> {
        let (from, to) = self.common(other);
        if from > to {
            0..0
        } else {
            usize::from(from) & !7..(usize::from(to) | 7) + 1
        }
    }

    /// Returns the number of users in both.
    pub(super) fn and_count(&self, other: &Dense) -> u64 {
        let shared = self.shared(other);
        kernel::and_count(&self.words.0[shared.clone()], &other.words.0[shared]).into()
    }

    /// Returns the first and the last word in which either may have bits.
    fn either(&self, other: &Dense) -> (u16, u16) {
        (self.span.0.min(other.span.0), self.span.1.max(other.span.1))
    }

    /// Adds the users of another bitmap.
    fn or_assign(&mut self, other: &Dense) {
        let theirs = usize::from(other.span.0)..=usize::from(other.span.1);
        self.count += kernel::or_assign(&mut self.words.0[theirs.clone()], &other.words.0[theirs]);
        self.span = self.either(other);
    }

    /// Adds the users that are in both of two other bitmaps.
    fn or_assign_and(&mut self, a: &Dense, b: &Dense) {
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

    /// Returns the users in both. The [shared](Self::shared) range must not be empty.
    fn and(&self, other: &Dense) -> Dense {
        let shared = self.shared(other);
        let mut words = Box::<Words>::default();
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

    /// Removes the users of another bitmap.
    fn diff_assign(&mut self, other: &Dense) {
        let shared = self.shared(other);
        self.count -=
            kernel::diff_assign(&mut self.words.0[shared.clone()], &other.words.0[shared]);
    }

    /// Returns the users in exactly one of the two bitmaps.
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
    /// Returns the bitmap of a dense tile.
    pub(super) fn dense(&self) -> Option<&Dense> {
        match self {
            Tile::Dense(dense) => Some(dense),
            Tile::Sparse(_) => None,
        }
    }

    /// Returns the number of users in the tile.
    pub fn len(&self) -> u64 {
        match self {
            Tile::Sparse(places) => places.len() as u64,
            Tile::Dense(dense) => dense.count.into(),
        }
    }

    /// Returns whether the tile contains no users.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns approximately how many bytes of memory the tile takes.
    pub fn memory(&self) -> usize {
        match self {
            Tile::Sparse(places) => 48 + 2 * places.capacity(),
            Tile::Dense(_) => 48 + size_of::<Words>(),
        }
    }

    /// Returns whether the tile contains the user at `place`.
    pub fn contains(&self, place: u16) -> bool {
        match self {
            Tile::Sparse(places) => places.binary_search(&place).is_ok(),
            Tile::Dense(dense) => dense.contains(place),
        }
    }

    /// Adds the user at `place` (`true`) or removes it. Returns whether the tile has changed.
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

    /// Adds users of this tile, in ascending order. Returns how many of them are new.
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

    /// Returns those of `users` that the tile does not contain. They must be users of this tile, in
    /// ascending order.
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

    /// Returns the number of runs of consecutive users.
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
                    // A bit starts a run if the previous one, the next higher bit, is not set.
                    let begins = word & !(word >> 1 | last << 63);
                    last = *word;
                    u64::from(begins.count_ones())
                });
                begins.sum()
            }
        }
    }

    /// Passes the places of the users from `from` on to `each`, in ascending order, until `each`
    /// returns `false`.
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

    /// Returns the number of users at the places from `from` to `to`, both included.
    pub fn count_between(&self, from: u16, to: u16) -> u64 {
        match self {
            _ if from > to => 0,
            Tile::Sparse(places) => {
                let below = |place: u32| places.partition_point(|p| u32::from(*p) < place) as u64;
                below(u32::from(to) + 1) - below(u32::from(from))
            }
            Tile::Dense(dense) => {
                let first = usize::from(from / 64);
                let last = usize::from(to / 64);
                let head = u64::MAX >> (from % 64);
                let tail = u64::MAX << (63 - to % 64);
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

    /// Returns the first place from `from` on whose user is in the tile (`true`) or not.
    pub fn first(&self, from: u16, value: bool) -> Option<u16> {
        if value {
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
                // The places from `from` on are consecutive until the first free one.
                let run = (from..=u16::MAX)
                    .zip(&places[start..])
                    .take_while(|(place, present)| place == *present)
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
                        let zeros = u16::try_from(free.leading_zeros());
                        return Some(base + zeros.expect("a word has 64 bits"));
                    }
                }
                None
            }
        }
    }

    /// Returns the 8,192 bytes of the tile in a Redis bitmap.
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

    /// Creates a tile from up to 8,192 bytes of a Redis bitmap. Missing bytes count as 0.
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

    /// Returns the place of the last user.
    pub fn last(&self) -> Option<u16> {
        match self {
            Tile::Sparse(places) => places.last().copied(),
            Tile::Dense(dense) => {
                let (base, word) = (0..=u16::MAX)
                    .step_by(64)
                    .zip(&dense.words.0)
                    .rfind(|(_, word)| **word != 0)?;
                let zeros = u16::try_from(word.trailing_zeros());
                Some(base + 63 - zeros.expect("a word has 64 bits"))
            }
        }
    }

    /// Returns the same users as a bitmap.
    pub(super) fn to_dense(&self) -> Tile {
        Tile::Dense(match self {
            Tile::Sparse(places) => Dense::from_places(places),
            Tile::Dense(dense) => dense.clone(),
        })
    }

    /// Returns the same users in the smaller representation. An intersection of dense tiles may
    /// have few users.
    pub fn compact(&self) -> Tile {
        match self {
            Tile::Dense(dense) if dense.count as usize <= SPARSE_MAX => Tile::Sparse(self.places()),
            _ => self.clone(),
        }
    }

    fn places(&self) -> Vec<u16> {
        let users = usize::try_from(self.len()).expect("a tile has at most 65,536 users");
        let mut places = Vec::with_capacity(users);
        self.visit(0, |place| {
            places.push(place);
            true
        });
        places
    }

    /// Returns the number of users in both tiles.
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

    /// Returns the users in both tiles.
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

    /// Returns the users in either tile.
    pub fn or(&self, other: &Tile) -> Tile {
        match (self, other) {
            (Tile::Sparse(a), Tile::Sparse(b)) => sparse(a, b, |in_a, in_b| in_a || in_b),
            (dense @ Tile::Dense(_), other) | (other, dense @ Tile::Dense(_)) => {
                let mut result = dense.clone();
                result.or_assign(other);
                result
            }
        }
    }

    /// Adds the users of another tile.
    pub fn or_assign(&mut self, other: &Tile) {
        match (&mut *self, other) {
            (Tile::Dense(dense), Tile::Dense(other)) => dense.or_assign(other),
            (Tile::Dense(_), Tile::Sparse(places)) => {
                for place in places {
                    self.set(*place, true);
                }
            }
            _ => *self = self.or(other),
        }
    }

    /// Adds the users of several other tiles. Counts the users only once, at the end.
    pub fn or_assign_all(&mut self, others: &[&Tile]) {
        let users = others
            .iter()
            .fold(self.len(), |users, other| users + other.len());
        if others.len() < 2 || users <= SPARSE_MAX as u64 {
            others.iter().for_each(|other| self.or_assign(other));
            return;
        }
        let mut dense = match std::mem::take(self) {
            Tile::Dense(dense) => dense,
            Tile::Sparse(places) => Dense::from_places(&places),
        };
        let mut words = Vec::with_capacity(others.len());
        let mut from = usize::from(dense.span.0);
        let mut to = usize::from(dense.span.1);
        for other in others {
            match other {
                Tile::Dense(other) => {
                    words.push(other.words());
                    from = from.min(usize::from(other.span.0));
                    to = to.max(usize::from(other.span.1));
                }
                Tile::Sparse(places) => {
                    for place in places {
                        let (word, bit) = word_and_bit(*place);
                        dense.words.0[word] |= bit;
                        from = from.min(word);
                        to = to.max(word);
                    }
                }
            }
        }
        let span = from & !7..(to | 7) + 1;
        kernel::or_all(&mut dense.words.0[span.clone()], span.start, &words);
        dense.count = kernel::count(&dense.words.0[span]);
        dense.span = (word_number(from), word_number(to));
        *self = Tile::Dense(dense);
    }

    /// Adds the users that are in both of two other tiles.
    pub fn or_assign_and(&mut self, a: &Tile, b: &Tile) {
        match (&mut *self, a, b) {
            (Tile::Dense(dense), Tile::Dense(a), Tile::Dense(b)) => dense.or_assign_and(a, b),
            (_, Tile::Dense(_), Tile::Dense(_)) => self.or_assign(&a.and(b)),
            (Tile::Dense(_), Tile::Sparse(few), other)
            | (Tile::Dense(_), other, Tile::Sparse(few)) => {
                for place in few.iter().filter(|place| other.contains(**place)) {
                    self.set(*place, true);
                }
            }
            (Tile::Sparse(own), Tile::Sparse(few), other)
            | (Tile::Sparse(own), other, Tile::Sparse(few)) => {
                // Usually there are few new users, or none.
                let mut own = Lookup::of_list(own);
                let mut other = Lookup::of_tile(other);
                let new: Vec<u16> = few
                    .iter()
                    .copied()
                    .filter(|place| !own.contains(*place) && other.contains(*place))
                    .collect();
                if !new.is_empty() {
                    self.or_assign(&Tile::Sparse(new));
                }
            }
        }
    }

    /// Returns the users in exactly one of the two tiles.
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

    /// Returns the users in this tile but not in the other.
    pub fn diff(&self, other: &Tile) -> Tile {
        let mut left = self.clone();
        left.keep(other, Keep::Outside);
        left
    }

    /// Removes the users that are in another tile, or those that are not.
    pub fn keep(&mut self, other: &Tile, keep: Keep) {
        match (&mut *self, other, keep) {
            (Tile::Sparse(places), other, _) => {
                let mut other = Lookup::of_tile(other);
                places.retain(|place| other.contains(*place) == (keep == Keep::Inside));
            }
            (Tile::Dense(a), Tile::Dense(b), Keep::Outside) => a.diff_assign(b),
            (Tile::Dense(_), Tile::Sparse(places), Keep::Outside) => {
                for place in places {
                    self.set(*place, false);
                }
            }
            (own @ Tile::Dense(_), other, Keep::Inside) => *own = own.and(other),
        }
    }

    /// Returns the users that are not in the tile, among those in its first `bytes` bytes.
    pub fn complement(&self, bytes: u64) -> Tile {
        let bits = bytes.min(TILE_BYTES) * 8;
        let all = Dense::filled(|words| {
            for (start, word) in (0..).step_by(64).zip(words) {
                let left = u32::try_from(bits.saturating_sub(start).min(64)).expect("at most 64");
                // Nothing is left after a shift by all 64 bits.
                *word = u64::MAX.checked_shl(64 - left).unwrap_or(0);
            }
        });
        Tile::Dense(all).diff(self)
    }

    /// Returns the bytes of the tile in the log: either 8,192 bytes as in a Redis bitmap, or fewer,
    /// which are ascending places as little-endian `u16`s.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Tile::Sparse(places) => places.iter().flat_map(|p| p.to_le_bytes()).collect(),
            Tile::Dense(dense) if dense.count as usize <= SPARSE_MAX => self.compact().to_bytes(),
            Tile::Dense(dense) => dense.words.0.iter().flat_map(|w| w.to_be_bytes()).collect(),
        }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) returned. Returns `None` for anything else.
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

/// Looks up places in ascending order.
enum Lookup<'a> {
    List { places: &'a [u16], at: usize },
    Words(&'a Dense),
}

impl<'a> Lookup<'a> {
    fn of_list(places: &'a [u16]) -> Self {
        Lookup::List { places, at: 0 }
    }

    fn of_tile(tile: &'a Tile) -> Self {
        match tile {
            Tile::Sparse(places) => Lookup::of_list(places),
            Tile::Dense(dense) => Lookup::Words(dense),
        }
    }

    /// Returns whether a place is present. It must not precede the place of the last call.
    fn contains(&mut self, place: u16) -> bool {
        match self {
            Lookup::Words(dense) => dense.contains(place),
            Lookup::List { places, at } => {
                while places.get(*at).is_some_and(|next| *next < place) {
                    *at += 1;
                }
                places.get(*at) == Some(&place)
            }
        }
    }
}

/// Combines two sorted lists. `keep` decides about each place by whether it is in `a` and in `b`.
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

/// Merges two sorted lists. Passes every place to `each`, and whether it is in `a` and in `b`.
pub(super) fn merge(a: &[u16], b: &[u16], mut each: impl FnMut(u16, bool, bool)) {
    let mut i = 0;
    let mut j = 0;
    while i < a.len() && j < b.len() {
        let x = a[i];
        let y = b[j];
        each(x.min(y), x <= y, y <= x);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    a[i..].iter().for_each(|x| each(*x, true, false));
    b[j..].iter().for_each(|y| each(*y, false, true));
}
