//! How much work one question may be on this thread.
//!
//! A server must know what a question costs before it starts, and only the store can tell: it knows
//! how long its bitmaps are, and which counts are cached. So a server runs requests [`within`] a
//! limit, and a store that is asked for more returns [`StoreError::Costly`](crate::store::StoreError::Costly) instead of an answer,
//! without having done anything. The request then waits for its turn without a thread, and runs
//! again within a higher limit. Threads without a limit, such as those of commands, are never
//! refused.

mod estimate;
mod limit;

pub use estimate::Cost;

pub(crate) use estimate::UNKNOWN_TILES;

pub use limit::{Class, check, check_nodes, class, within};
