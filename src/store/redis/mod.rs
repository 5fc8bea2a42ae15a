//! The store in Redis: bitmapist's own bitmaps, where bitmapist keeps them.
//!
//! A plan takes a few round trips: one for the sizes of its bitmaps, which often shows that most of
//! it is empty. Then either the server computes, one trip for each chunk of BITOP and BITCOUNT, or
//! the bitmaps are fetched piece by piece and counted here. See [`RedisStore`] for what is
//! promised.
//!
//! # Layout
//! `location` reads the URL, `route` sends requests there, `connect` pools connections, `wire` makes round trips and explains
//! errors, `capabilities` finds out what a server lacks or forbids; `resolve` plans, `execute`
//! carries out on the server; `window` finds what has to be fetched, `fetch` does and counts here;
//! `members` reads bitmaps, `scan` finds and deletes keys, `server` moves keys of any type,
//! `string_ids` calls users by texts; `watch` is told which bitmaps have changed; `cluster` makes one
//! store of many such.

mod capabilities;
mod client_tracking;
#[cfg(feature = "cluster")]
mod cluster;
mod connection;
mod id_keys;
mod id_map;
mod local_eval;
mod location;
mod lower;
mod members;
mod needs;
mod pool;
mod route;
mod scan;
mod server;
mod server_eval;
mod store;
mod watched;

#[cfg(feature = "cluster")]
pub use cluster::ClusterStore;
pub use server::{Bits, Dump, Kind, Made, Server, Written};
pub use store::RedisStore;
