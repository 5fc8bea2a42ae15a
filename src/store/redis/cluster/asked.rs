//! The answer of one node, and how it sees the cluster.

use ::redis::Value;

/// What a primary answered.
pub(super) struct Asked<T> {
    pub(super) answer: T,
    /// How it sees the cluster, when it said so in one with the answer (`CLUSTER NODES`).
    pub(super) view: Option<Value>,
}

impl<T> Asked<T> {
    pub(super) fn of(answer: T) -> Self {
        Asked { answer, view: None }
    }
}
