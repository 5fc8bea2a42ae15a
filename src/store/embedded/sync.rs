//! The synchronization primitives that [`signal`](super::signal) uses. Its tests replace them.

pub use std::sync::atomic::{AtomicU64, Ordering};
pub use std::sync::{Condvar, Mutex, MutexGuard};
