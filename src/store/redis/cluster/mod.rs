//! One store of a whole cluster: users sharded by id range, each shard a store in Redis of its own.
//!
//! `layout` says which shard a user is in and what its keys are called. A shard is a [`RedisStore`](super::RedisStore)
//! whose keys begin with the shard's tag and whose requests go to whichever node has the shard's
//! slot (`route`, and `topology`, which reads who that is). What is asked here is asked of the
//! shards there are, on the nodes side by side (`fan_out`), and put together: counts are added, lists
//! follow each other. `save` saves. Complements are refused: they depend on the length of a whole
//! bitmap, and no shard knows it.
//!
//! The `redis` crate's own client for clusters is not used: its pipelines are no transactions, and
//! like those for one server they wait for each reply as long as for all.
//!
//! A shard whose slot is on its way has keys on either side. Commands go after their key one by one
//! (`Follow` in `connection`), and `migrating` answers what the nodes then refuse to compute.
//!
//! # Which shards there are
//! Nobody keeps a list, which could be lost apart from what it lists. Each request asks every
//! primary how many keys it has in the slots of shards (CLUSTER COUNTKEYSINSLOT, which counts
//! nothing; `shards` knows how to do with few), and which slots are its own at that moment or
//! later. Only when all slots have an owner, and every owner's word is what was thought, the answer
//! holds; a slot that is on its way to another node, or changed hands just now, is taken for one
//! with a shard in it, and one that only the node it goes to remembers to be on its way makes the
//! request fail. So a shard that was marked before a request is never left out of its answer: it is
//! there, or the request fails.

mod asked;
mod fan_out;
mod layout;
mod migrating;
mod route;
mod save;
mod seen;
mod shards;
mod store;
mod topology;

pub(in crate::store::redis) use route::Slot;

pub use store::ClusterStore;
