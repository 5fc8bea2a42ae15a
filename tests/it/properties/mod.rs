//! What has to hold for any bytes at all, as functions that panic where it does not.
//!
//! The targets of `fuzz/` call these with what a fuzzer thinks of; `corpus.rs` here calls them with
//! every input that is kept, on each test run and without a fuzzer. They see only what the crate
//! makes public.

pub mod collect;
pub mod import;
mod import_model;
pub mod resp;
pub mod segments;
pub mod values;

/// Places to cut bytes at, ascending: all of them where they are few, some spread over them where
/// they are many.
fn cuts(len: usize, most: usize) -> impl Iterator<Item = usize> {
    (0..=len).step_by(len / most.max(1) + 1)
}

/// Numbers that look like nothing and are the same for the same bytes.
struct Dice(u64);

impl Dice {
    fn of(bytes: &[u8]) -> Self {
        Dice(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    /// From 1 to `most`.
    fn roll(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        1 + (self.0 >> 33) as usize % most.max(1)
    }
}
