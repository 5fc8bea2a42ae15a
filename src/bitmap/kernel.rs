//! The inner loops over dense tiles, compiled for several instruction sets and chosen at run time.

// The dispatch macro calls functions with target features behind a run-time check; nothing here is unsafe itself.
#![allow(unsafe_code)]

use multiversion::multiversion;

/// The 64-bit words of a dense tile.
pub const WORDS: usize = 1024;

/// A dense tile's bits. User `n` of the tile is bit `63 − n % 64` of word `n / 64`: read as big-endian bytes, that is
/// the order Redis keeps bits in. They begin with a cache line, as a load that lies across two of them costs as much as two.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(align(64))]
pub struct Words(pub [u64; WORDS]);

impl Default for Words {
    fn default() -> Self {
        Words([0; WORDS])
    }
}

macro_rules! kernels {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),+) -> u32 $body:block)+) => {
        $(
            $(#[$doc])*
            #[multiversion(targets(
                "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx512vpopcntdq+bmi1+bmi2+popcnt",
                "x86_64+avx2+bmi1+bmi2+popcnt",
                "x86_64+popcnt",
                "aarch64+neon",
            ))]
            pub fn $name($($arg: $type),+) -> u32 $body
        )+
    };
}

/// A tile holds at most 65 536 users, so a sum over its words fits in 32 bits. Several slices are of the same length.
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
    /// How many bits are set.
    fn count(a: &[u64]) -> u32 {
        sum!(a.iter())
    }

    /// How many bits are set in both.
    fn and_count(a: &[u64], b: &[u64]) -> u32 {
        sum!(a.iter().zip(b).map(|(x, y)| x & y))
    }

    /// `a = b & c`; returns how many bits that are.
    fn and_into(a: &mut [u64], b: &[u64], c: &[u64]) -> u32 {
        sum!(a.iter_mut().zip(b.iter().zip(c)).map(|(x, (y, z))| { *x = y & z; *x }))
    }

    /// `a |= b`; returns how many bits that sets.
    fn or_assign(a: &mut [u64], b: &[u64]) -> u32 {
        sum!(a.iter_mut().zip(b).map(|(x, y)| { let new = y & !*x; *x |= y; new }))
    }

    /// `a |= b & c`; returns how many bits that sets.
    fn or_and_assign(a: &mut [u64], b: &[u64], c: &[u64]) -> u32 {
        sum!(a.iter_mut().zip(b.iter().zip(c)).map(|(x, (y, z))| { let new = y & z & !*x; *x |= new; new }))
    }

    /// `a ^= b`; returns how many bits are set.
    fn xor_assign(a: &mut [u64], b: &[u64]) -> u32 {
        sum!(a.iter_mut().zip(b).map(|(x, y)| { *x ^= y; *x }))
    }

    /// `a &= !b`; returns how many bits that clears.
    fn diff_assign(a: &mut [u64], b: &[u64]) -> u32 {
        sum!(a.iter_mut().zip(b).map(|(x, y)| { let gone = *x & y; *x &= !y; gone }))
    }
}
