//! What is counted for `/metrics`: requests by route, and what `[expire]` deleted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::reports::expiry::Over;
use crate::telemetry::Durations;

/// Requests answered, by route.
pub(super) static ROUTES: Mutex<BTreeMap<String, Arc<Route>>> = Mutex::new(BTreeMap::new());

/// What `[expire]` deleted, by store.
pub(super) static EXPIRY: Mutex<BTreeMap<String, Expiry>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
pub(super) struct Route {
    /// How many, by method and status.
    pub(super) answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
    pub(super) seconds: Durations,
}

#[derive(Default)]
pub(super) struct Expiry {
    /// Bitmaps and bytes, by kind.
    pub(super) deleted: BTreeMap<&'static str, (u64, u64)>,
    pub(super) failures: u64,
    /// How often even the newest bitmap would have gone.
    pub(super) refused: u64,
    /// When it was last carried out, in seconds since 1970.
    pub(super) done: Option<i64>,
}

/// A count that was interrupted by a panic is still a count.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts an answer and the time that the server took for it. `route` is the pattern that the
/// address matched, so that there are only as many as there are routes.
pub fn answered(route: &str, method: &str, status: u16, took: Duration) {
    let known = lock(&ROUTES).get(route).map(Arc::clone);
    let route =
        known.unwrap_or_else(|| Arc::clone(lock(&ROUTES).entry(route.to_owned()).or_default()));
    // A client may send any method.
    let method = ["GET", "HEAD", "POST"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other");
    *lock(&route.answers).entry((method, status)).or_default() += 1;
    route.seconds.observe(took);
}

/// Counts what `[expire]` deleted from a store, as of `now`.
pub fn expired(store: &str, kinds: &[Over], now: DateTime<Utc>) {
    let mut expiry = lock(&EXPIRY);
    let expiry = expiry.entry(store.to_owned()).or_default();
    for over in kinds {
        let (bitmaps, bytes) = expiry.deleted.entry(over.grain.as_str()).or_default();
        *bitmaps += over.count;
        *bytes += over.bytes.unwrap_or(0);
    }
    expiry.done = Some(now.timestamp());
}

/// Counts a failure to do so.
pub fn expiry_failed(store: &str) {
    lock(&EXPIRY).entry(store.to_owned()).or_default().failures += 1;
}

/// Counts a night on which nothing was deleted because even the newest bitmap would have gone.
pub fn expiry_refused(store: &str) {
    lock(&EXPIRY).entry(store.to_owned()).or_default().refused += 1;
}
