//! The answer of one node, with its view of the cluster.

use ::redis::Value;

/// The answer of a primary.
pub(super) struct Asked<T> {
    pub(super) answer: T,
    /// Its view of the cluster (`CLUSTER NODES`), if it was read together with the answer.
    pub(super) view: Option<Value>,
}

impl<T> Asked<T> {
    pub(super) fn of(answer: T) -> Self {
        Asked { answer, view: None }
    }
}
