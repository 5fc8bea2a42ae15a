//! Counters for `/metrics`: requests by route, and bitmaps deleted by `[expire]`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::reports::expiry::Over;
use crate::telemetry::Durations;

/// Answered requests, by route.
pub(super) static ROUTES: Mutex<BTreeMap<String, Arc<Route>>> = Mutex::new(BTreeMap::new());

/// Bitmaps deleted by `[expire]`, by store.
pub(super) static EXPIRY: Mutex<BTreeMap<String, Expiry>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
pub(super) struct Route {
    /// Number of answers by method and status.
    pub(super) answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
    pub(super) seconds: Durations,
}

#[derive(Default)]
pub(super) struct Expiry {
    /// Bitmaps and bytes, by grain.
    pub(super) deleted: BTreeMap<&'static str, (u64, u64)>,
    pub(super) failures: u64,
    /// How often nothing was deleted because even the newest bitmap would have expired.
    pub(super) refused: u64,
    /// The last run, in seconds since 1970.
    pub(super) done: Option<i64>,
}

/// Locks a counter. A counter stays valid after a panic of another thread.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts an answer and the server's time for it. `route` is the matched pattern, which limits the
/// number of labels.
pub fn answered(route: &str, method: &str, status: u16, took: Duration) {
    let known = lock(&ROUTES).get(route).map(Arc::clone);
    let route =
        known.unwrap_or_else(|| Arc::clone(lock(&ROUTES).entry(route.to_owned()).or_default()));
    // Clients may send any method.
    let method = ["GET", "HEAD", "POST"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other");
    *lock(&route.answers).entry((method, status)).or_default() += 1;
    route.seconds.observe(took);
}

/// Counts the bitmaps that `[expire]` deleted from a store, as of `now`.
pub fn expired(store: &str, kinds: &[Over], now: DateTime<Utc>) {
    let mut expiry = lock(&EXPIRY);
    let expiry = expiry.entry(store.to_owned()).or_default();
    for over in kinds {
        let (bitmaps, bytes) = expiry.deleted.entry(over.grain.as_str()).or_default();
        *bitmaps += over.count;
        // The metric is approximate: unknown sizes count as 0.
        *bytes += over.bytes.unwrap_or(0);
    }
    expiry.done = Some(now.timestamp());
}

/// Counts a failed run of `[expire]`.
pub fn expiry_failed(store: &str) {
    lock(&EXPIRY).entry(store.to_owned()).or_default().failures += 1;
}

/// Counts a run in which nothing was deleted because even the newest bitmap would have expired.
pub fn expiry_refused(store: &str) {
    lock(&EXPIRY).entry(store.to_owned()).or_default().refused += 1;
}
