//! Divides work into groups of limited size.

/// Divides items into groups of at most `most` bytes. A larger item has its own group.
pub fn by_size<T>(items: &[T], most: u64, size: impl Fn(&T) -> u64) -> impl Iterator<Item = &[T]> {
    let mut sum = 0_u64;
    items.chunk_by(move |before, next| {
        sum = sum.saturating_add(size(before));
        let fits = sum.saturating_add(size(next)) <= most;
        if !fits {
            sum = 0;
        }
        fits
    })
}
