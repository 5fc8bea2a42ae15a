//! Reports: a question becomes a [`Plan`](crate::sets::Plan) of counts, and the counts become a
//! table. All pure.

/// Defines a choice of a few words, as used in addresses and on the command line.
macro_rules! choice {
    ($(#[$about:meta])* $type:ident { $($(#[$doc:meta])* $value:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $type { $($(#[$doc])* $value),+ }

        impl $type {
            /// Its word.
            pub const fn as_str(self) -> &'static str {
                match self { $($type::$value => $word),+ }
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::reports::QueryError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok($type::$value),)+
                    _ => Err($crate::reports::QueryError::Word { given: text.to_owned(), known: &[$($word),+] }),
                }
            }
        }
    };
}
pub(crate) use choice;

mod activity;
mod clamps;
pub mod comparison;
pub mod coverage;
pub mod dates;
mod error;
pub mod event;
pub mod events;
pub mod expiry;
mod export;
pub mod first_recorded;
pub mod frame;
pub mod frequency;
pub mod lifecycle;
mod limits;
mod params;
pub mod people;
pub mod range;
mod report;
pub mod retention;
mod rolling;
#[cfg(test)]
pub(crate) mod sample;
pub mod spans;
pub mod trend;
pub mod trends;
pub mod user;

pub use clamps::clamped_counts;
pub use error::QueryError;
pub use export::{Chart, Exports};
pub use limits::MAX_PERIODS;
pub use params::{Arity, Field, Kind, Params, Problem, Reader};
pub use report::{
    Context, Lookup, LookupId, Page, PageId, Report, Request, Results, answer_with, plan_at,
};
