//! The inner loops over dense tiles. They are compiled for several instruction sets, of which one
//! is chosen at run time.
//!
//! Most loops are plain Rust that the compiler vectorizes for each instruction set. A table of
//! cohorts takes most of its time to count the bits that two bitmaps share, so this loop is written
//! by hand:
//!
//! * With AVX-512 VPOPCNTDQ, a cache line takes one AND, one VPOPCNTQ and one ADD. [`and_counts`]
//!   counts one row against up to eight columns at once, strip by strip, so that the strips of all
//!   tiles stay in the L1 cache.
//! * With AVX-512 or AVX2 alone, 16 vectors at a time are added by carry-save adders, and only
//!   every sixteenth vector is counted with a lookup table for nibbles. This is the Harley–Seal
//!   method of W. Muła, N. Kurz and D. Lemire, *Faster Population Counts Using AVX2 Instructions*
//!   (The Computer Journal 61, 2018).
//!
//! `docs/decisions/0002-how-bitmaps-are-counted.md` has the measurements behind these choices.

// Functions with target features are called after a run-time check, and vectors are loaded through
// pointers.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

/// The number of 64-bit words of a dense tile.
pub const WORDS: usize = 1024;

/// The bits of a dense tile. User `n` of the tile is bit `63 − n % 64` of word `n / 64`. As
/// big-endian bytes, this is the order of bits in Redis. The words are aligned to a cache line,
/// because a load across two cache lines takes as long as two loads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(align(64))]
pub struct Words(pub [u64; WORDS]);

impl Default for Words {
    fn default() -> Self {
        Words([0; WORDS])
    }
}

/// An instruction set that this processor supports. A value for another instruction set cannot be
/// created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instructions(Level);

/// The instruction sets, in ascending order. A processor that supports one also supports all lower
/// ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Level {
    /// The instructions that every processor of this architecture has.
    Plain = 1,
    #[cfg(target_arch = "x86_64")]
    Popcnt,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 as of Skylake-X, without a vector population count.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 with VPOPCNTDQ, as of Ice Lake and Zen 4.
    #[cfg(target_arch = "x86_64")]
    Vpopcnt,
}

use Level::Plain;
#[cfg(target_arch = "x86_64")]
use Level::{Avx2, Avx512, Popcnt, Vpopcnt};

/// The [`Level`] that the loops use, or 0 before the first use.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

impl Instructions {
    /// Returns all instruction sets that this processor supports, slowest first.
    pub fn available() -> Vec<Instructions> {
        #[cfg(target_arch = "x86_64")]
        let levels = [
            (Plain, true),
            (Popcnt, is_x86_feature_detected!("popcnt")),
            (
                Avx2,
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2"),
            ),
            (
                Avx512,
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl"),
            ),
            (Vpopcnt, is_x86_feature_detected!("avx512vpopcntdq")),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let levels = [(Plain, true)];
        levels
            .into_iter()
            .take_while(|(_, is_supported)| *is_supported)
            .map(|(level, _)| Instructions(level))
            .collect()
    }

    /// Makes all later evaluations use this instruction set. This is for measurements: by default,
    /// the best one is used.
    pub fn choose(self) {
        CHOSEN.store(self.0 as u8, Ordering::Relaxed);
    }

    /// Returns the instruction set that was [chosen](Self::choose), or the best one.
    fn chosen() -> Instructions {
        match CHOSEN.load(Ordering::Relaxed) {
            1 => Instructions(Plain),
            #[cfg(target_arch = "x86_64")]
            2 => Instructions(Popcnt),
            #[cfg(target_arch = "x86_64")]
            3 => Instructions(Avx2),
            #[cfg(target_arch = "x86_64")]
            4 => Instructions(Avx512),
            #[cfg(target_arch = "x86_64")]
            5 => Instructions(Vpopcnt),
            _ => {
                let best = Instructions::available()
                    .pop()
                    .unwrap_or(Instructions(Plain));
                // Does not replace a choice made in the meantime.
                let _ =
                    CHOSEN.compare_exchange(0, best.0 as u8, Ordering::Relaxed, Ordering::Relaxed);
                best
            }
        }
    }

    /// Returns the common name of the instruction set.
    pub fn name(self) -> &'static str {
        match self.0 {
            Plain => "plain",
            #[cfg(target_arch = "x86_64")]
            Popcnt => "POPCNT",
            #[cfg(target_arch = "x86_64")]
            Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Avx512 => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Vpopcnt => "AVX-512 VPOPCNTDQ",
        }
    }

    /// See [`and_count`].
    fn and_count(self, a: &[u64], b: &[u64]) -> u32 {
        assert_eq!(a.len(), b.len(), "both slices have the same length");
        match self.0 {
            Plain => plain::and_count(a, b),
            // SAFETY: the processor has these instructions, as `self` exists.
            #[cfg(target_arch = "x86_64")]
            Popcnt => unsafe { x86::popcnt_and_count(a, b) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Avx2 => unsafe { x86::avx2::and_count(a, b) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Avx512 => unsafe { x86::avx512::and_count(a, b) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Vpopcnt => unsafe { x86::vpopcnt::and_count(a, b) },
        }
    }

    /// See [`or_all`].
    fn or_all(self, a: &mut [u64], from: usize, tiles: &[&Words]) {
        match self.0 {
            // SAFETY: the processor has these instructions, as `self` exists.
            #[cfg(target_arch = "x86_64")]
            Avx2 => unsafe { x86::avx2::or_all(a, from, tiles) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Avx512 | Vpopcnt => unsafe { x86::avx512::or_all(a, from, tiles) },
            _ => plain::or_all(a, from, tiles),
        }
    }

    /// See [`and_counts`].
    fn and_counts(self, rows: &[Row<'_>], columns: &[&[u64]], tiles: usize, counts: &mut [u64]) {
        assert_eq!(
            rows.iter().map(|row| row.columns).sum::<usize>(),
            columns.len(),
            "each column belongs to a row"
        );
        assert_eq!(columns.len(), counts.len(), "a count for each column");
        assert!(
            rows.iter().all(|row| row.range.end <= WORDS),
            "ranges within a tile"
        );
        match self.0 {
            // SAFETY: the processor has these instructions, as `self` exists.
            #[cfg(target_arch = "x86_64")]
            Vpopcnt => unsafe { x86::vpopcnt::and_counts(rows, columns, tiles, counts) },
            // The others need so much time for a cache line that the next one can be fetched from
            // the L2 cache meanwhile.
            _ => {
                let mut pairs = columns.iter().zip(counts);
                let mut left = Words::default();
                for row in rows {
                    let own = &row.words[row.range.clone()];
                    let left = &mut left.0[row.range.clone()];
                    if row.running.is_some() {
                        left.copy_from_slice(own);
                    }
                    for (column, count) in pairs.by_ref().take(row.columns) {
                        let column = &column[row.range.clone()];
                        *count += u64::from(match row.running {
                            None => self.and_count(own, column),
                            Some(keep) => self.keep(left, column, keep.flip()),
                        });
                    }
                }
            }
        }
    }
}

/// Which users a tile keeps when another one reduces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Those in the other tile.
    Inside,
    /// Those not in the other tile.
    Outside,
}

impl Keep {
    /// Returns the bits to flip in the other tile, whose bits are then kept.
    fn flip(self) -> u64 {
        match self {
            Keep::Inside => 0,
            Keep::Outside => u64::MAX,
        }
    }
}

/// A dense tile that is counted against others, which are the columns of the row. All may be parts
/// of tiles.
pub struct Row<'a> {
    /// The words of the tile.
    pub words: &'a [u64],
    /// `None` if each column counts the bits that it shares with the tile. Otherwise the columns
    /// reduce the tile one after the other, and each counts what is left.
    pub running: Option<Keep>,
    /// The words in which anything may be counted.
    pub range: Range<usize>,
    /// The number of columns of the row.
    pub columns: usize,
}

/// Returns the number of bits that are set in both slices, which must have the same length.
pub fn and_count(a: &[u64], b: &[u64]) -> u32 {
    Instructions::chosen().and_count(a, b)
}

/// Adds the number of bits that each of `columns` shares with its row, or leaves of it, to the count
/// of the column. The columns of the first row come first, and so on. `tiles` is the number of different tiles.
///
/// # Panics
/// Panics if the numbers of columns do not match, or if a range ends beyond the tile.
pub fn and_counts(rows: &[Row<'_>], columns: &[&[u64]], tiles: usize, counts: &mut [u64]) {
    Instructions::chosen().and_counts(rows, columns, tiles, counts);
}

/// Returns the number of bits that are set.
pub fn count(a: &[u64]) -> u32 {
    and_count(a, a)
}

/// Compiles functions for every instruction set. `name` uses the chosen one, `Instructions::name`
/// a given one.
macro_rules! kernels {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),+) -> $ret:ty $body:block)+) => {
        $(
            $(#[$doc])*
            pub fn $name($($arg: $type),+) -> $ret {
                Instructions::chosen().$name($($arg),+)
            }
        )+

        impl Instructions {
            $(
                fn $name(self, $($arg: $type),+) -> $ret {
                    #[inline(always)]
                    fn plain($($arg: $type),+) -> $ret $body

                    #[cfg(target_arch = "x86_64")]
                    #[target_feature(enable = "popcnt")]
                    fn popcnt($($arg: $type),+) -> $ret {
                        plain($($arg),+)
                    }

                    #[cfg(target_arch = "x86_64")]
                    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
                    fn avx2($($arg: $type),+) -> $ret {
                        plain($($arg),+)
                    }

                    #[cfg(target_arch = "x86_64")]
                    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,popcnt")]
                    fn avx512($($arg: $type),+) -> $ret {
                        plain($($arg),+)
                    }

                    #[cfg(target_arch = "x86_64")]
                    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,bmi1,bmi2,popcnt")]
                    fn vpopcnt($($arg: $type),+) -> $ret {
                        plain($($arg),+)
                    }

                    match self.0 {
                        Plain => plain($($arg),+),
                        // SAFETY: the processor has these instructions, as `self` exists.
                        #[cfg(target_arch = "x86_64")]
                        Popcnt => unsafe { popcnt($($arg),+) },
                        // SAFETY: as above.
                        #[cfg(target_arch = "x86_64")]
                        Avx2 => unsafe { avx2($($arg),+) },
                        // SAFETY: as above.
                        #[cfg(target_arch = "x86_64")]
                        Avx512 => unsafe { avx512($($arg),+) },
                        // SAFETY: as above.
                        #[cfg(target_arch = "x86_64")]
                        Vpopcnt => unsafe { vpopcnt($($arg),+) },
                    }
                }
            )+
        }
    };
}

/// Counts the bits in the words of a tile. There are at most 65,536, so the sum fits in 32 bits.
macro_rules! sum {
    ($words:expr) => {{
        let mut total = 0u64;
        for word in $words {
            total += u64::from(word.count_ones());
        }
        #[allow(clippy::cast_possible_truncation)]
        {
            total as u32
        }
    }};
}

kernels! {
    /// Computes `a = b & c`. Returns the number of bits that are set. All slices must have the same
    /// length, here and below.
    fn and_into(a: &mut [u64], b: &[u64], c: &[u64]) -> u32 {
        sum!(a.iter_mut().zip(b.iter().zip(c)).map(|(x, (y, z))| { *x = y & z; *x }))
    }

    /// Computes `a |= b`. Returns the number of bits that this sets.
    fn or_assign(a: &mut [u64], b: &[u64]) -> u32 {
        sum!(a.iter_mut().zip(b).map(|(x, y)| { let new = y & !*x; *x |= y; new }))
    }

    /// Computes `a |= b & c`. Returns the number of bits that this sets.
    fn or_and_assign(a: &mut [u64], b: &[u64], c: &[u64]) -> u32 {
        sum!(a.iter_mut().zip(b.iter().zip(c)).map(|(x, (y, z))| { let new = y & z & !*x; *x |= new; new }))
    }

    /// Computes `a ^= b`. Returns the number of bits that are set.
    fn xor_assign(a: &mut [u64], b: &[u64]) -> u32 {
        sum!(a.iter_mut().zip(b).map(|(x, y)| { *x ^= y; *x }))
    }

    /// Computes `a &= b ^ flip`. Returns the number of bits that are left.
    fn keep(a: &mut [u64], b: &[u64], flip: u64) -> u32 {
        sum!(a.iter_mut().zip(b).map(|(x, y)| { *x &= y ^ flip; *x }))
    }

    /// Computes `a &= !b`. Returns the number of bits that this clears.
    fn diff_assign(a: &mut [u64], b: &[u64]) -> u32 {
        sum!(a.iter_mut().zip(b).map(|(x, y)| { let gone = *x & y; *x &= !y; gone }))
    }

    /// Returns the number of bits that are set in either of two slices.
    fn count_either(a: &[u64], b: &[u64]) -> u32 {
        sum!(a.iter().zip(b).map(|(x, y)| x | y))
    }

    /// Computes `a = b & c`, as all below without counting.
    fn set_and(a: &mut [u64], b: &[u64], c: &[u64]) -> () {
        a.iter_mut().zip(b.iter().zip(c)).for_each(|(x, (y, z))| *x = y & z);
    }

    /// Computes `a = b | c`.
    fn set_or(a: &mut [u64], b: &[u64], c: &[u64]) -> () {
        a.iter_mut().zip(b.iter().zip(c)).for_each(|(x, (y, z))| *x = y | z);
    }

    /// Computes `a = b ^ c`.
    fn set_xor(a: &mut [u64], b: &[u64], c: &[u64]) -> () {
        a.iter_mut().zip(b.iter().zip(c)).for_each(|(x, (y, z))| *x = y ^ z);
    }

    /// Computes `a = b & !c`.
    fn set_diff(a: &mut [u64], b: &[u64], c: &[u64]) -> () {
        a.iter_mut().zip(b.iter().zip(c)).for_each(|(x, (y, z))| *x = y & !z);
    }

    /// Computes `a |= b & c`.
    fn add_and(a: &mut [u64], b: &[u64], c: &[u64]) -> () {
        a.iter_mut().zip(b.iter().zip(c)).for_each(|(x, (y, z))| *x |= y & z);
    }

    /// Computes `a &= b`.
    fn join_and(a: &mut [u64], b: &[u64]) -> () {
        a.iter_mut().zip(b).for_each(|(x, y)| *x &= y);
    }

    /// Computes `a |= b`.
    fn join_or(a: &mut [u64], b: &[u64]) -> () {
        a.iter_mut().zip(b).for_each(|(x, y)| *x |= y);
    }

    /// Computes `a &= !b`.
    fn join_diff(a: &mut [u64], b: &[u64]) -> () {
        a.iter_mut().zip(b).for_each(|(x, y)| *x &= !y);
    }

    /// Computes `a ^= b`.
    fn join_xor(a: &mut [u64], b: &[u64]) -> () {
        a.iter_mut().zip(b).for_each(|(x, y)| *x ^= y);
    }
}

/// Begins to bring words into the L2 cache. They are usually not needed one after the other, so the
/// processor does not foresee it.
pub fn prefetch(words: &[u64]) {
    #[cfg(target_arch = "x86_64")]
    for line in words.chunks(8) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch has no effect that a program can observe.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = words;
}

/// Computes the union of `a` and several tiles, and stores it in `a`. `a` corresponds to the words
/// of a tile from `from` on.
pub fn or_all(a: &mut [u64], from: usize, tiles: &[&Words]) {
    Instructions::chosen().or_all(a, from, tiles);
}

mod plain {
    use super::Words;

    /// [`or_all`](super::or_all) for any processor.
    pub(super) fn or_all(a: &mut [u64], from: usize, tiles: &[&Words]) {
        for tile in tiles {
            for (x, y) in a.iter_mut().zip(&tile.0[from..]) {
                *x |= y;
            }
        }
    }

    /// [`and_count`](super::and_count) for any processor.
    #[inline(always)]
    pub(super) fn and_count(a: &[u64], b: &[u64]) -> u32 {
        sum!(a.iter().zip(b).map(|(x, y)| x & y))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[target_feature(enable = "popcnt")]
    pub(super) fn popcnt_and_count(a: &[u64], b: &[u64]) -> u32 {
        super::plain::and_count(a, b)
    }

    /// Defines `and_count`, by the Harley–Seal method, and `or_all`, for vectors of `$lanes` words.
    /// The surrounding module must define operations on such vectors: `zero`, `load`, `store`,
    /// `and`, `or`, `add` (of bytes), `carry` and `parity` (of three bits), `counts` (of the bits
    /// in each byte), `double` (of each byte) and `total` (of all bytes).
    macro_rules! harley_seal {
        ($features:literal, $lanes:literal) => {
            /// Adds two vectors to sums of bits. Returns the carry.
            #[inline]
            #[target_feature(enable = $features)]
            fn carry_save(sums: &mut Vector, a: Vector, b: Vector) -> Vector {
                let carried = carry(*sums, a, b);
                *sums = parity(*sums, a, b);
                carried
            }

            /// Eight vectors stay in registers while all tiles are added to them.
            #[target_feature(enable = $features)]
            pub(in super::super) fn or_all(a: &mut [u64], from: usize, tiles: &[&Words]) {
                const BLOCK: usize = 8 * $lanes;
                let (blocks, rest) = a.as_chunks_mut::<BLOCK>();
                let mut at = from;
                for block in blocks {
                    let own = block.as_chunks_mut::<$lanes>().0;
                    let mut all = [zero(); 8];
                    for (vector, words) in all.iter_mut().zip(&*own) {
                        *vector = load(words);
                    }
                    for tile in tiles {
                        let words = tile.0[at..at + BLOCK].as_chunks::<$lanes>().0;
                        for (vector, words) in all.iter_mut().zip(words) {
                            *vector = or(*vector, load(words));
                        }
                    }
                    for (vector, words) in all.into_iter().zip(own) {
                        store(words, vector);
                    }
                    at += BLOCK;
                }
                plain::or_all(rest, at, tiles);
            }

            #[target_feature(enable = $features)]
            pub(in super::super) fn and_count(a: &[u64], b: &[u64]) -> u32 {
                let (blocks, rest) = a.as_chunks::<{ 16 * $lanes }>();
                let (others, other_rest) = b.as_chunks::<{ 16 * $lanes }>();
                // Sums of bits. Each has twice the weight of the previous one.
                let mut ones = zero();
                let mut twos = zero();
                let mut fours = zero();
                let mut eights = zero();
                let mut sixteens = 0;
                // The count in a byte increases by up to 8 per block, so it can hold 31 blocks.
                for (blocks, others) in blocks.chunks(31).zip(others.chunks(31)) {
                    let mut bytes = zero();
                    for (block, other) in blocks.iter().zip(others) {
                        let (block, other) =
                            (block.as_chunks::<$lanes>().0, other.as_chunks::<$lanes>().0);
                        let both = |at: usize| and(load(&block[at]), load(&other[at]));
                        let mut four = |at: usize| {
                            let two = carry_save(&mut ones, both(at), both(at + 1));
                            let another = carry_save(&mut ones, both(at + 2), both(at + 3));
                            carry_save(&mut twos, two, another)
                        };
                        let (a, b, c, d) = (four(0), four(4), four(8), four(12));
                        let eight = carry_save(&mut fours, a, b);
                        let another = carry_save(&mut fours, c, d);
                        bytes = add(bytes, counts(carry_save(&mut eights, eight, another)));
                    }
                    sixteens += total(bytes);
                }
                // At most 8 × (1 + 2 + 4 + 8) here, and 8 for each of 15 vectors below: less than
                // 256.
                let mut bytes = counts(eights);
                for sums in [fours, twos, ones] {
                    bytes = add(double(bytes), counts(sums));
                }
                let (vectors, rest) = rest.as_chunks::<$lanes>();
                let (others, other_rest) = other_rest.as_chunks::<$lanes>();
                for (x, y) in vectors.iter().zip(others) {
                    bytes = add(bytes, counts(and(load(x), load(y))));
                }
                16 * sixteens + total(bytes) + plain::and_count(rest, other_rest)
            }
        };
    }

    pub(super) mod avx2 {
        use std::arch::x86_64::*;

        use crate::bitmap::kernel::{Words, plain};

        type Vector = __m256i;

        harley_seal!("avx2,bmi1,bmi2,popcnt", 4);

        #[inline]
        #[target_feature(enable = "avx2")]
        fn zero() -> Vector {
            _mm256_setzero_si256()
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn load(words: &[u64; 4]) -> Vector {
            // SAFETY: the words have as many bytes as the vector. They need not be aligned.
            unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn store(words: &mut [u64; 4], vector: Vector) {
            // SAFETY: the words have as many bytes as the vector. They need not be aligned.
            unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) };
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn or(a: Vector, b: Vector) -> Vector {
            _mm256_or_si256(a, b)
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn and(a: Vector, b: Vector) -> Vector {
            _mm256_and_si256(a, b)
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn add(a: Vector, b: Vector) -> Vector {
            _mm256_add_epi8(a, b)
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn double(a: Vector) -> Vector {
            _mm256_add_epi8(a, a)
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn carry(a: Vector, b: Vector, c: Vector) -> Vector {
            _mm256_or_si256(
                _mm256_and_si256(b, c),
                _mm256_and_si256(_mm256_xor_si256(b, c), a),
            )
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn parity(a: Vector, b: Vector, c: Vector) -> Vector {
            _mm256_xor_si256(_mm256_xor_si256(b, c), a)
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn counts(bytes: Vector) -> Vector {
            let of_nibble = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
            ));
            let nibble = _mm256_set1_epi8(15);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble);
            let low = _mm256_and_si256(bytes, nibble);
            _mm256_add_epi8(
                _mm256_shuffle_epi8(of_nibble, high),
                _mm256_shuffle_epi8(of_nibble, low),
            )
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn total(bytes: Vector) -> u32 {
            let sums = _mm256_sad_epu8(bytes, zero());
            let sums = _mm_add_epi32(
                _mm256_castsi256_si128(sums),
                _mm256_extracti128_si256::<1>(sums),
            );
            _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums))).cast_unsigned()
        }
    }

    pub(super) mod avx512 {
        use std::arch::x86_64::*;

        use crate::bitmap::kernel::{Words, plain};

        type Vector = __m512i;

        harley_seal!("avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,popcnt", 8);

        #[inline]
        #[target_feature(enable = "avx512f")]
        fn zero() -> Vector {
            _mm512_setzero_si512()
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(super) fn load(words: &[u64; 8]) -> Vector {
            // SAFETY: the words have as many bytes as the vector. They need not be aligned.
            unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(super) fn store(words: &mut [u64; 8], vector: Vector) {
            // SAFETY: the words have as many bytes as the vector. They need not be aligned.
            unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        fn or(a: Vector, b: Vector) -> Vector {
            _mm512_or_si512(a, b)
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        fn and(a: Vector, b: Vector) -> Vector {
            _mm512_and_si512(a, b)
        }

        #[inline]
        #[target_feature(enable = "avx512bw")]
        fn add(a: Vector, b: Vector) -> Vector {
            _mm512_add_epi8(a, b)
        }

        #[inline]
        #[target_feature(enable = "avx512bw")]
        fn double(a: Vector) -> Vector {
            _mm512_add_epi8(a, a)
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        fn carry(a: Vector, b: Vector, c: Vector) -> Vector {
            _mm512_ternarylogic_epi64::<0xe8>(a, b, c)
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        fn parity(a: Vector, b: Vector, c: Vector) -> Vector {
            _mm512_ternarylogic_epi64::<0x96>(a, b, c)
        }

        #[inline]
        #[target_feature(enable = "avx512bw")]
        fn counts(bytes: Vector) -> Vector {
            let of_nibble = _mm512_broadcast_i32x4(_mm_setr_epi8(
                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
            ));
            let nibble = _mm512_set1_epi8(15);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble);
            let low = _mm512_and_si512(bytes, nibble);
            _mm512_add_epi8(
                _mm512_shuffle_epi8(of_nibble, high),
                _mm512_shuffle_epi8(of_nibble, low),
            )
        }

        #[inline]
        #[target_feature(enable = "avx512bw")]
        fn total(bytes: Vector) -> u32 {
            _mm512_reduce_add_epi32(_mm512_sad_epu8(bytes, zero())).cast_unsigned()
        }
    }

    pub(super) mod vpopcnt {
        use std::arch::x86_64::*;
        use std::ops::Range;

        use super::avx512::{load, store};
        use crate::bitmap::kernel::{Row, WORDS, Words, plain};

        #[target_feature(
            enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,bmi1,bmi2,popcnt"
        )]
        pub(in super::super) fn and_count(a: &[u64], b: &[u64]) -> u32 {
            plain::and_count(a, b)
        }

        /// The total number of bytes of the strips of all tiles. They must fit into the L1 cache,
        /// which has at least 32 KiB.
        const STRIPS: usize = 32 << 10;

        /// [`and_counts`](crate::bitmap::kernel::and_counts), strip by strip.
        #[target_feature(
            enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,bmi1,bmi2,popcnt"
        )]
        pub(in super::super) fn and_counts(
            rows: &[Row<'_>],
            columns: &[&[u64]],
            tiles: usize,
            counts: &mut [u64],
        ) {
            /// Passes eight columns and counts at a time to a function, then the rest of them.
            macro_rules! in_eights {
                ($strip_of:ident($row:ident, $words:ident $(, $more:expr)?), $columns:ident, $counts:ident) => {{
                    let (eights, rest) = $columns.as_chunks::<8>();
                    let (counts, counts_rest) = $counts.as_chunks_mut::<8>();
                    for (columns, counts) in eights.iter().zip(counts) {
                        $strip_of($row, columns, $words.clone() $(, $more)?, counts);
                    }
                    macro_rules! rest {
                        ($len:literal) => {
                            if let (Some(columns), Some(counts)) = (rest.as_array(), counts_rest.as_mut_array()) {
                                $strip_of::<$len>($row, columns, $words $(, $more)?, counts);
                            }
                        };
                    }
                    match rest.len() {
                        1 => rest!(1),
                        2 => rest!(2),
                        3 => rest!(3),
                        4 => rest!(4),
                        5 => rest!(5),
                        6 => rest!(6),
                        7 => rest!(7),
                        _ => {}
                    }
                }};
            }
            let mut left = Words::default();
            let strip = (STRIPS / 8 / tiles.max(1))
                .next_multiple_of(64)
                .clamp(64, WORDS);
            let end = rows.iter().map(|row| row.range.end).max().unwrap_or(0);
            for start in (0..end).step_by(strip) {
                let mut at = 0;
                for row in rows {
                    let own = at..at + row.columns;
                    at = own.end;
                    let words = row.range.start.max(start)..row.range.end.min(start + strip);
                    if words.start < words.end {
                        let (columns, counts) = (&columns[own.clone()], &mut counts[own]);
                        if let Some(keep) = row.running {
                            let left = &mut left.0[words.clone()];
                            left.copy_from_slice(&row.words[words.clone()]);
                            in_eights!(running_strip_of(left, words, keep.flip()), columns, counts);
                        } else {
                            let row = &row.words[words.clone()];
                            in_eights!(strip_of(row, words), columns, counts);
                        }
                    }
                }
            }
        }

        /// Adds the number of bits that each of up to eight columns shares with a row, in a range
        /// of words, to `counts`.
        #[inline]
        #[target_feature(
            enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,bmi1,bmi2,popcnt"
        )]
        fn strip_of<const N: usize>(
            row: &[u64],
            columns: &[&[u64]; N],
            words: Range<usize>,
            counts: &mut [u64; N],
        ) {
            let columns: [&[u64]; N] = columns.map(|column| &column[words.clone()]);
            let (vectors, rest) = row.as_chunks::<8>();
            let mut sums = [_mm512_setzero_si512(); 8];
            for (at, vector) in vectors.iter().enumerate() {
                let vector = load(vector);
                for (sum, column) in sums.iter_mut().zip(&columns) {
                    // SAFETY: every column has as many words as the row, so it has this vector.
                    let other = unsafe { _mm512_loadu_si512(column.as_ptr().add(8 * at).cast()) };
                    *sum = _mm512_add_epi64(
                        *sum,
                        _mm512_popcnt_epi64(_mm512_and_si512(vector, other)),
                    );
                }
            }
            for (count, sum) in counts.iter_mut().zip(totals(sums)) {
                *count += sum;
            }
            if !rest.is_empty() {
                for (count, column) in counts.iter_mut().zip(columns) {
                    *count += u64::from(plain::and_count(rest, &column[8 * vectors.len()..]));
                }
            }
        }

        /// Reduces what is left of a row, in a range of words, by up to eight columns one after the
        /// other. Adds the number of bits that are left after each to `counts`.
        #[inline]
        #[target_feature(
            enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,bmi1,bmi2,popcnt"
        )]
        fn running_strip_of<const N: usize>(
            left: &mut [u64],
            columns: &[&[u64]; N],
            words: Range<usize>,
            flip: u64,
            counts: &mut [u64; N],
        ) {
            let columns: [&[u64]; N] = columns.map(|column| &column[words.clone()]);
            let (vectors, rest) = left.as_chunks_mut::<8>();
            let flips = _mm512_set1_epi64(flip.cast_signed());
            let mut sums = [_mm512_setzero_si512(); 8];
            let whole = 8 * vectors.len();
            for (at, words) in vectors.iter_mut().enumerate() {
                let mut vector = load(words);
                for (sum, column) in sums.iter_mut().zip(&columns) {
                    // SAFETY: every column has as many words as the row, so it has this vector.
                    let other = unsafe { _mm512_loadu_si512(column.as_ptr().add(8 * at).cast()) };
                    // vector & (other ^ flips)
                    vector = _mm512_ternarylogic_epi64::<0x60>(vector, other, flips);
                    *sum = _mm512_add_epi64(*sum, _mm512_popcnt_epi64(vector));
                }
                store(words, vector);
            }
            for (count, sum) in counts.iter_mut().zip(totals(sums)) {
                *count += sum;
            }
            for (count, column) in counts.iter_mut().zip(columns) {
                for (word, other) in rest.iter_mut().zip(&column[whole..]) {
                    *word &= other ^ flip;
                    *count += u64::from(word.count_ones());
                }
            }
        }

        /// Returns the sum of the eight numbers of each vector.
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn totals(sums: [__m512i; 8]) -> [u64; 8] {
            let [a, b, c, d, e, f, g, h] = sums;
            // Each quarter of a vector contains one number of `a` and one of `b`.
            let pairs =
                |a, b| _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
            let halves = |a, b| {
                let (even, odd) = (
                    _mm512_shuffle_i64x2::<0b10_00_10_00>(a, b),
                    _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b),
                );
                _mm512_add_epi64(even, odd)
            };
            let all = halves(
                halves(pairs(a, b), pairs(c, d)),
                halves(pairs(e, f), pairs(g, h)),
            );
            let mut totals = [0; 8];
            // SAFETY: the numbers are as many bytes as the vector, and need not be aligned.
            unsafe { _mm512_storeu_si512(totals.as_mut_ptr().cast(), all) };
            totals
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Loop = fn(Instructions, &mut [u64], &[u64], &[u64]) -> u32;

    /// Computes the result and the counted bits from one word of each slice.
    type Expected = fn(u64, u64, u64) -> (u64, u64);

    /// Generates words, and a range of them.
    fn slices() -> impl Strategy<Value = (Vec<u64>, Vec<u64>, Vec<u64>, usize, usize)> {
        let word = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
        let words = || proptest::collection::vec(word.clone(), WORDS + 8);
        (words(), words(), words(), 0..9_usize, 0..=WORDS - 1)
    }

    fn sum(words: impl Iterator<Item = u64>) -> u32 {
        words.map(u64::count_ones).sum()
    }

    /// A kernel that combines its operands and counts nothing.
    type Uncounted = fn(Instructions, &mut [u64], &[u64], &[u64]);
    /// The same for one word.
    type OfWord = fn(u64, u64, u64) -> u64;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn each_instruction_set_computes_the_same((a, b, c, from, len) in slices()) {
            let (a, b, c) = (&a[from..from + len], &b[from..from + len], &c[from..from + len]);
            for instructions in Instructions::available() {
                let name = instructions.name();
                prop_assert_eq!(instructions.and_count(a, b), sum(a.iter().zip(b).map(|(a, b)| a & b)), "{}", name);
                prop_assert_eq!(instructions.count_either(a, b), sum(a.iter().zip(b).map(|(a, b)| a | b)), "{}", name);
                let all: [(&str, Loop, Expected); 5] = [
                    ("and", |i, a, b, c| i.and_into(a, b, c), |_, b, c| (b & c, b & c)),
                    ("or", |i, a, b, _| i.or_assign(a, b), |a, b, _| (a | b, b & !a)),
                    ("or and", |i, a, b, c| i.or_and_assign(a, b, c), |a, b, c| (a | b & c, b & c & !a)),
                    ("xor", |i, a, b, _| i.xor_assign(a, b), |a, b, _| (a ^ b, a ^ b)),
                    ("diff", |i, a, b, _| i.diff_assign(a, b), |a, b, _| (a & !b, a & b)),
                ];
                let uncounted: [(&str, Uncounted, OfWord); 9] = [
                    ("set and", |i, a, b, c| i.set_and(a, b, c), |_, b, c| b & c),
                    ("set or", |i, a, b, c| i.set_or(a, b, c), |_, b, c| b | c),
                    ("set xor", |i, a, b, c| i.set_xor(a, b, c), |_, b, c| b ^ c),
                    ("set diff", |i, a, b, c| i.set_diff(a, b, c), |_, b, c| b & !c),
                    ("add and", |i, a, b, c| i.add_and(a, b, c), |a, b, c| a | b & c),
                    ("join and", |i, a, b, _| i.join_and(a, b), |a, b, _| a & b),
                    ("join or", |i, a, b, _| i.join_or(a, b), |a, b, _| a | b),
                    ("join diff", |i, a, b, _| i.join_diff(a, b), |a, b, _| a & !b),
                    ("join xor", |i, a, b, _| i.join_xor(a, b), |a, b, _| a ^ b),
                ];
                for (what, kernel, plain) in uncounted {
                    let mut made = a.to_vec();
                    kernel(instructions, &mut made, b, c);
                    let expected: Vec<u64> = (0..len).map(|at| plain(a[at], b[at], c[at])).collect();
                    prop_assert_eq!(made, expected, "{} {}", name, what);
                }
                for (what, kernel, plain) in all {
                    let mut made = a.to_vec();
                    let count = kernel(instructions, &mut made, b, c);
                    let expected: Vec<(u64, u64)> = (0..len).map(|at| plain(a[at], b[at], c[at])).collect();
                    prop_assert!(made.iter().eq(expected.iter().map(|(word, _)| word)), "{} {}", name, what);
                    prop_assert_eq!(count, sum(expected.iter().map(|(_, counted)| *counted)), "{} {}", name, what);
                }
            }
        }

        #[test]
        fn each_instruction_set_counts_rows_like_individual_pairs(
            seeds in proptest::collection::vec(any::<u64>(), 1..40),
            rows in proptest::collection::vec((any::<proptest::sample::Index>(), 0..=WORDS, 0..=WORDS, 0..20_usize, 0..4_u8), 0..12),
            picks in proptest::collection::vec(any::<proptest::sample::Index>(), 12 * 20),
        ) {
            let tiles: Vec<Words> = seeds.iter().map(|seed| pseudo_random(*seed)).collect();
            let rows: Vec<Row<'_>> = rows
                .iter()
                .map(|(tile, a, b, columns, running)| Row {
                    words: &tile.get(&tiles).0,
                    running: [None, None, Some(Keep::Inside), Some(Keep::Outside)][usize::from(*running)],
                    range: *a.min(b)..*a.max(b),
                    columns: *columns,
                })
                .collect();
            let columns: Vec<&[u64]> =
                picks.iter().take(rows.iter().map(|row| row.columns).sum()).map(|pick| &pick.get(&tiles).0[..]).collect();
            let mut expected = vec![7; columns.len()];
            let mut at = 0;
            for row in &rows {
                let mut left = row.words[row.range.clone()].to_vec();
                for _ in 0..row.columns {
                    let words = left.iter().zip(&columns[at][row.range.clone()]);
                    let kept = words.map(|(word, other)| match row.running {
                        Some(Keep::Outside) => word & !other,
                        _ => word & other,
                    });
                    let kept: Vec<u64> = kept.collect();
                    expected[at] += u64::from(sum(kept.iter().copied()));
                    if row.running.is_some() {
                        left = kept;
                    }
                    at += 1;
                }
            }
            for instructions in Instructions::available() {
                let mut counts = vec![7; columns.len()];
                instructions.and_counts(&rows, &columns, tiles.len(), &mut counts);
                prop_assert_eq!(&counts, &expected, "{}", instructions.name());
            }
        }

        #[test]
        fn each_instruction_set_computes_the_same_unions(seeds in proptest::collection::vec(any::<u64>(), 0..6), from in 0..WORDS, len in 0..WORDS) {
            let tiles: Vec<Words> = seeds.iter().map(|seed| pseudo_random(*seed)).collect();
            let tiles: Vec<&Words> = tiles.iter().collect();
            let own = pseudo_random(1);
            let to = WORDS.min(from + len);
            let expected: Vec<u64> =
                (from..to).map(|word| tiles.iter().fold(own.0[word], |all, tile| all | tile.0[word])).collect();
            for instructions in Instructions::available() {
                let mut made = own.0[from..to].to_vec();
                instructions.or_all(&mut made, from, &tiles);
                prop_assert_eq!(&made, &expected, "{}", instructions.name());
            }
        }
    }

    /// Returns pseudo-random bits. For some seeds, no bit or every bit is set.
    fn pseudo_random(seed: u64) -> Words {
        let mut state = seed;
        let mut words = Words::default();
        for word in &mut words.0 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *word = match seed % 8 {
                0 => 0,
                1 => u64::MAX,
                _ => state ^ state >> 29,
            };
        }
        words
    }

    #[test]
    fn a_full_tile_is_counted_in_full() {
        let full = Words([u64::MAX; WORDS]);
        let row = || Row {
            words: &full.0,
            running: None,
            range: 0..WORDS,
            columns: 3,
        };
        for instructions in Instructions::available() {
            assert_eq!(
                instructions.and_count(&full.0, &full.0),
                65_536,
                "{}",
                instructions.name()
            );
            let mut counts = [0; 6];
            instructions.and_counts(&[row(), row()], &[&full.0[..]; 6], 1, &mut counts);
            assert_eq!(counts, [65_536; 6], "{}", instructions.name());
        }
        let many = vec![u64::MAX; 100_000];
        for instructions in Instructions::available() {
            assert_eq!(
                instructions.and_count(&many, &many),
                6_400_000,
                "{}",
                instructions.name()
            );
        }
    }

    #[test]
    fn the_chosen_instruction_set_is_used() {
        let [first, .., last] = &Instructions::available()[..] else {
            return;
        };
        first.choose();
        assert_eq!(Instructions::chosen(), *first);
        last.choose();
        assert_eq!(Instructions::chosen(), *last);
    }
}
