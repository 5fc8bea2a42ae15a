//! Where bitmaps of users are stored: in an embedded store, in Redis, or in a Redis Cluster.
//!
//! [`open`] opens one. A [`Store`] answers a whole [`Plan`](crate::sets::Plan) at once and knows
//! nothing about cohorts or caching; [`CachedStore`] is a cache in front of any of them.

pub mod budget;
mod cache;
mod cancel;
pub mod cost;
mod documents;
pub mod embedded;
mod error;
mod health;
mod open;
mod options;
mod padded_keys;
pub(crate) mod private;
mod redacted;
#[cfg(feature = "redis")]
pub mod redis;
mod snapshot;
mod traits;
mod unparsed_keys;

pub use cache::{CacheOptions, CacheStats, CachedStore, Counted, Freshness};
pub use cancel::{Cancel, CancelOnDrop};
pub use cost::Cost;
pub use error::{Result, StoreError};
pub use health::{FilesHealth, Health, Progress};
pub use open::{Place, open, open_embedded};
pub use options::{Durability, Options, RedisEval};
pub use padded_keys::PaddedKeys;
pub use redacted::redacted;
pub use snapshot::Snapshot;
pub use traits::{
    BitmapState, ChangeFeed, Documents, IdMap, KeyListing, Maintenance, Mark, NumericIds, Saved,
    Store, StoreInfo,
};
pub use unparsed_keys::{OtherPrefixes, UnparsedKeys};
