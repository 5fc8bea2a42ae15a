//! Sets of users as expressions over bitmaps.

use std::ops::{BitAnd, BitOr, BitXor, Not, Sub};

use crate::calendar::Period;
use crate::sets::{EventName, Key};

/// A set of users: one bitmap, or an expression over bitmaps. A missing bitmap is the empty set.
///
/// ```
/// use cohortist::sets::{EventName, Set};
/// use cohortist::calendar::Period;
/// let november: Period = "2026-11".parse()?;
/// let active = Set::event_in(&EventName::new("active")?, november);
/// let premium = Set::ever(&EventName::new("premium")?);
/// let free_and_active = active - premium;
/// # let _ = free_and_active;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Set {
    /// No users.
    Empty,
    /// One bitmap.
    Key(Key),
    /// Users in all of these sets. Empty if there are no sets.
    And(Vec<Set>),
    /// Users in any of these sets.
    Or(Vec<Set>),
    /// Users in an odd number of these sets.
    Xor(Vec<Set>),
    /// Users in the first set but not in the second. Unlike `BITOP AND a (NOT b)`, it keeps users
    /// beyond the end of `b`.
    Diff(Box<Set>, Box<Set>),
    /// Users in at least this many of the sets; at least 1.
    AtLeast(u32, Vec<Set>),
    /// The complement up to the byte length of the operand's bitmap, exactly as Redis' `BITOP NOT`.
    /// It exists for parity with bitmapist's `BitOpNot`; for "and not" use [`Set::Diff`].
    Not(Box<Set>),
}

impl Set {
    /// Returns the users who did `event` in `period`. Without a bitmap of its own it is the union of
    /// the [stored](Period::stored) periods that it consists of, such as the 12 months of a year.
    pub fn event_in(event: &EventName, period: Period) -> Set {
        let key = |part: Period| {
            let key = Key::new(event.clone(), part).expect("stored periods have bitmaps");
            Set::Key(key)
        };
        match period.stored()[..] {
            [only] => key(only),
            ref parts => Set::Or(parts.iter().copied().map(key).collect()),
        }
    }

    /// Returns the users in the undated bitmap of `event`.
    pub fn ever(event: &EventName) -> Set {
        Set::Key(Key::ever(event.clone()))
    }

    /// Returns the number of terms: all bitmaps and operators, repeated ones included.
    ///
    /// ```
    /// use cohortist::sets::{EventName, Set};
    /// let [a, b] = ["a", "b"].map(|name| EventName::new(name).unwrap());
    /// assert_eq!(Set::ever(&a).terms(), 1);
    /// assert_eq!((Set::ever(&a) & Set::ever(&b) & Set::ever(&a)).terms(), 4);
    /// assert_eq!(Set::event_in(&a, "2026".parse()?).terms(), 13, "the union of twelve months");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn terms(&self) -> usize {
        1 + match self {
            Set::Empty | Set::Key(_) => 0,
            Set::And(sets) | Set::Or(sets) | Set::Xor(sets) => sets.iter().map(Set::terms).sum(),
            // About five operations for each set count in how many of them a user is.
            Set::AtLeast(_, sets) => sets.iter().map(|set| set.terms() + 5).sum(),
            Set::Diff(a, b) => a.terms() + b.terms(),
            Set::Not(set) => set.terms(),
        }
    }

    /// Returns every key in the expression, in order, duplicates included.
    pub fn keys(&self) -> Vec<&Key> {
        match self {
            Set::Empty => Vec::new(),
            Set::Key(key) => vec![key],
            Set::And(sets) | Set::Or(sets) | Set::Xor(sets) | Set::AtLeast(_, sets) => {
                sets.iter().flat_map(Set::keys).collect()
            }
            Set::Diff(a, b) => [a.keys(), b.keys()].concat(),
            Set::Not(set) => set.keys(),
        }
    }
}

impl From<Key> for Set {
    fn from(key: Key) -> Set {
        Set::Key(key)
    }
}

/// Implements an operator. Nested operands become one n-ary node, so that `a | b | c` is a single
/// BITOP.
macro_rules! operator {
    ($trait:ident, $method:ident, $variant:ident) => {
        impl $trait for Set {
            type Output = Set;

            fn $method(self, other: Set) -> Set {
                match (self, other) {
                    (Set::$variant(mut left), Set::$variant(right)) => {
                        left.extend(right);
                        Set::$variant(left)
                    }
                    (Set::$variant(mut left), right) => {
                        left.push(right);
                        Set::$variant(left)
                    }
                    (left, right) => Set::$variant(vec![left, right]),
                }
            }
        }
    };
}

operator!(BitAnd, bitand, And);
operator!(BitOr, bitor, Or);
operator!(BitXor, bitxor, Xor);

impl Sub for Set {
    type Output = Set;

    fn sub(self, other: Set) -> Set {
        Set::Diff(Box::new(self), Box::new(other))
    }
}

impl Not for Set {
    type Output = Set;

    fn not(self) -> Set {
        Set::Not(Box::new(self))
    }
}
