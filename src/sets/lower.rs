//! Translates sets to the nodes of a plan.

use crate::sets::Set;
use crate::sets::counter::BitPlanes;
use crate::sets::plan::{NodeId, Operands, Plan};

impl Plan {
    /// Adds a set, sharing what is there already. Its terms are not counted.
    pub(super) fn put(&mut self, set: &Set) -> NodeId {
        match set {
            Set::Empty => self.empty(),
            Set::Key(key) => self.key(key.clone()),
            Set::And(sets) => {
                let ids = self.put_all(sets);
                self.and(ids)
            }
            Set::Or(sets) => {
                let ids = self.put_all(sets);
                self.or(ids)
            }
            Set::Xor(sets) => {
                let ids = self.put_all(sets);
                self.xor(ids)
            }
            Set::Diff(a, b) => {
                let a = self.put(a);
                let b = self.put(b);
                self.diff(a, b)
            }
            Set::AtLeast(least, sets) => {
                let ids = self.put_all(sets);
                let planes = BitPlanes::new(self, ids);
                planes.at_least(self, *least)
            }
            Set::Not(set) => {
                let id = self.put(set);
                self.not(id)
            }
        }
    }

    fn put_all(&mut self, sets: &[Set]) -> Operands {
        sets.iter().map(|set| self.put(set)).collect()
    }
}
