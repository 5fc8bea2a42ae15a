//! Reads marks from CSV, NDJSON and Parquet data. This module is pure: it reads from a reader and
//! does not know stores.
//!
//! [`Records`] recognizes the [`Layout`] of the data and reads it line by line. An invalid line is
//! returned as an error with its number and the reason, so that the caller decides what to do.
//! [`Gather`] collects the rows of many lines, and [`Gathered`] sorts their bits by bitmap and user
//! and removes duplicates, because stores write such data fastest.
//!
//! ```
//! use cohortist::ingest::{Columns, Gather, Names, Records};
//! let mut names = Names::new(&[], 1000)?;
//! let csv = b"user_id,event,time\n7,signup,2026-11-23\n7,signup,2026-11-24\nx,signup,2026-11-24\n";
//! let mut records = Records::open(csv.as_slice(), None, &Columns::default(), &mut names)?;
//! assert_eq!(records.layout().guess().unwrap(), "`user_id` is the user, `event` the event, `time` the time");
//! let mut gather = Gather::new(false, false);
//! let mut invalid = 0;
//! while let Some(row) = records.next(&mut names) {
//!     match row {
//!         Ok(row) => gather.add(row, records.properties()),
//!         Err(_) => invalid += 1,
//!     }
//! }
//! let bits = gather.drain(&names).bits()?;
//! let keys: Vec<String> = bits.groups().map(|(key, users)| format!("{key} {users:?}")).collect();
//! assert_eq!(keys, ["signup_2026-11-23 [7]", "signup_2026-11-24 [7]", "signup_W2026-48 [7]", "signup_2026-11 [7]"]);
//! assert_eq!(invalid, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod field;
mod gather;
mod json;
mod layout;
mod lines;
mod names;
mod notes;
#[cfg(feature = "parquet")]
mod parquet;
mod place;
mod position;
mod products;
mod property;
mod records;

pub use batch::{Batch, Batches, Column, Table, Texts, Values};
pub use gather::{Bits, Current, Gather, Gathered};
pub use layout::{Columns, EventFrom, Format, Header, Layout, Source};
pub(crate) use names::RowIds;
pub use names::{Names, Property};
pub use notes::{Example, Notes};
#[cfg(feature = "parquet")]
pub use parquet::Parquet;
pub use place::Field;
pub use position::Position;
pub use property::{Dating, Wish, matches};
pub use records::{Fault, Held, Problem, Records, Row};
