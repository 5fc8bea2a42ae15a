//! A store over a whole cluster: users are sharded by id range, and each shard is a store in Redis.
//!
//! `layout` defines which shard a user is in and how its keys are named. A shard is a
//! [`RedisStore`](super::RedisStore) whose keys begin with the shard's tag and whose requests go to
//! the node that owns the shard's slot (`route`; `topology` parses who the owner is). A request to
//! the cluster asks all existing shards, on different nodes in parallel (`fan_out`), and combines
//! the answers: counts are added, lists are concatenated. `save` saves sets. Complements are
//! refused: they depend on the length of a whole bitmap, which no shard knows.
//!
//! The `redis` crate's cluster client is not used: its pipelines are not transactions, and like
//! those for a single server they apply the timeout to each reply instead of to all.
//!
//! A shard whose slot is migrating has keys on both nodes. Commands follow their keys one by one
//! (`Follow` in `connection`), and `migrating` computes the answers that the nodes refuse to
//! compute meanwhile.
//!
//! # Which shards exist
//! There is no stored list of shards, which could get out of step with the data. Instead, each
//! request asks every primary how many keys it has in the slots of shards (CLUSTER COUNTKEYSINSLOT,
//! which is cheap; `shards` keeps the number of commands low), and which slots it owns at that
//! moment or later. The answer is valid only if every slot has an owner and every primary confirms
//! the slots that it was assumed to own. A slot that is migrating or has just changed owner is
//! assumed to hold a shard. If only the importing node remembers that a slot is migrating, the
//! request fails. So a shard that was marked before a request is never missing from its answer: it
//! is included, or the request fails.

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
