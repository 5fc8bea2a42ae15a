//! Delta-coded batches: users in ascending order that are added to one bitmap together.
//!
//! Data that arrives in this form, as in an import, needs no sorting by key and tile and one lookup
//! per tile. It takes a byte or two per user in the log.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sets::UserId;
use crate::store::Result;

/// A batch as stored in the log: the distance of each user from the previous one, the first from 0.
/// Each byte holds seven bits, lowest first. The eighth bit is set if another byte follows. The
/// users are strictly ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaBatch(Vec<u8>);

impl DeltaBatch {
    /// Encodes users, which must be in ascending order without duplicates.
    pub fn encode(users: &[UserId]) -> Self {
        let mut bytes = Vec::with_capacity(users.len() * 3 / 2 + 8);
        let mut before = 0;
        for user in users {
            let mut distance = user.wrapping_sub(before);
            before = *user;
            while distance > 0x7f {
                bytes.push(0x80 | (distance & 0x7f).to_le_bytes()[0]);
                distance >>= 7;
            }
            bytes.push(distance.to_le_bytes()[0]);
        }
        DeltaBatch(bytes)
    }

    /// Returns the users, in ascending order.
    pub fn users(&self) -> Vec<UserId> {
        decode(&self.0).expect("a batch is checked when it is read from a log")
    }
}

/// Returns the users of a batch, or `None` if the bytes are not a valid batch.
fn decode(bytes: &[u8]) -> Option<Vec<UserId>> {
    let mut users: Vec<UserId> = Vec::with_capacity(bytes.len());
    let mut distance = 0_u64;
    let mut shift = 0;
    for byte in bytes {
        distance |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            let user = users.last().map_or(0, |user| u64::from(*user)) + distance;
            if distance == 0 && !users.is_empty() {
                return None;
            }
            users.push(UserId::try_from(user).ok()?);
            distance = 0;
            shift = 0;
        } else if shift > 28 {
            return None;
        }
    }
    (shift == 0).then_some(users)
}

impl Serialize for DeltaBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for DeltaBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = DeltaBatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a delta-coded batch")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<DeltaBatch, E> {
                if decode(bytes).is_some() {
                    Ok(DeltaBatch(bytes.to_vec()))
                } else {
                    Err(E::invalid_length(bytes.len(), &self))
                }
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_batch_decodes_to_the_encoded_users(users in prop::collection::btree_set(any::<u32>(), 0..50), near: bool) {
            // Users that are close together take a byte or two each, others up to five.
            let users: std::collections::BTreeSet<u32> =
                users.into_iter().map(|user| if near { user >> 22 } else { user }).collect();
            let users: Vec<u32> = users.into_iter().collect();
            let batch = DeltaBatch::encode(&users);
            let most = if near { 2 } else { 5 };
            prop_assert!(batch.0.len() <= most * users.len());
            prop_assert_eq!(decode(&batch.0), Some(users));
        }

        #[test]
        fn decoded_users_ascend_for_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(users) = decode(&bytes) {
                prop_assert!(users.is_sorted_by(|a, b| a < b));
            }
        }
    }

    #[test]
    fn bytes_that_are_not_a_batch_are_rejected() {
        assert_eq!(
            decode(&[0xff, 0xff, 0xff, 0xff, 0x0f]),
            Some(vec![UserId::MAX])
        );
        for bytes in [
            &[0xff, 0xff, 0xff, 0xff, 0x10][..],
            &[0xff, 0xff, 0xff, 0xff, 0x0f, 1],
            &[0x80; 6],
            &[5, 0],
            &[0x80],
        ] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
        assert_eq!(DeltaBatch::encode(&[0, 1, 300]).0, [0, 1, 0xab, 2]);
    }
}
