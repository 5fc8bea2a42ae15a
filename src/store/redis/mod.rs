//! A store in Redis that reads and writes bitmapist's bitmaps in place.
//!
//! A plan takes a few round trips. The first one asks for the sizes of its bitmaps, which often
//! shows that most of the plan is empty. Then either the server computes the rest, in one trip for
//! each chunk of BITOP and BITCOUNT, or the bitmaps are fetched piece by piece and counted here.
//! [`RedisStore`] lists the guarantees.
//!
//! # Layout
//! `location` reads the URL, `route` sends requests to the right server, `pool` pools connections,
//! `connection` makes round trips and explains errors, `capabilities` finds out what a server lacks
//! or forbids. `lower` turns a plan into steps and `server_eval` runs them on the server. `needs`
//! finds which tiles a plan needs, `local_eval` fetches them and counts here. `members` reads
//! bitmaps, `scan` finds and deletes keys, `server` moves keys of any type, `id_map` and `id_keys`
//! hold string ids, `kept_in` the time zone of the periods, `client_tracking` and `watched` learn which bitmaps have changed, and `cluster`
//! combines many such stores into one.

mod capabilities;
mod client_tracking;
#[cfg(feature = "cluster")]
mod cluster;
mod connection;
mod id_keys;
mod id_map;
mod kept_in;
mod local_eval;
mod location;
mod lower;
mod members;
mod needs;
mod pool;
mod route;
mod saved_lists;
mod scan;
mod server;
mod server_eval;
mod store;
mod watched;

#[cfg(feature = "cluster")]
pub use cluster::ClusterStore;
pub use server::{Bits, Dump, Kind, Made, Server, Written};
pub use store::RedisStore;
