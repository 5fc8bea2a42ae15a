//! Lines of a file → marks. Streaming and pure: it sees a reader, no file and no store.
//!
//! [`Records`] recognises what is written how ([`Layout`]) and reads line by line; a bad line is a value among the
//! others, with its number and the reason, so that the caller decides what to do. [`Gather`] brings
//! the rows of many lines together, and [`Gathered`] puts them in order, each bit of each bitmap
//! once, which is how stores take them fastest.
//!
//! ```
//! use cohortist::ingest::{Gather, Names, Records, Wishes};
//! let mut names = Names::new(&[], 1000)?;
//! let csv = b"user_id,event,time\n7,signup,2026-11-23\n7,signup,2026-11-24\nx,signup,2026-11-24\n";
//! let mut records = Records::open(csv.as_slice(), None, &Wishes::default(), &mut names)?;
//! assert_eq!(records.layout().guess().unwrap(), "`user_id` is the user, `event` the event, `time` the time");
//! let (mut gather, mut bad) = (Gather::new(false, false), 0);
//! while let Some(row) = records.next(&mut names) {
//!     match row {
//!         Ok(row) => gather.add(row, records.properties()),
//!         Err(_) => bad += 1,
//!     }
//! }
//! let bits = gather.drain(&names).bits()?;
//! let keys: Vec<String> = bits.groups().map(|(key, users)| format!("{key} {users:?}")).collect();
//! assert_eq!(keys, ["signup_2026-11-23 [7]", "signup_2026-11-24 [7]", "signup_W2026-48 [7]", "signup_2026-11 [7]"]);
//! assert_eq!(bad, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod field;
mod gather;
mod json;
mod layout;
mod lines;
mod names;
mod records;

pub use gather::{Bits, Gather, Gathered};
pub use layout::{EventFrom, Format, Layout, Wishes};
pub(crate) use names::RowTexts;
pub use names::{Names, Property};
pub use records::{Position, Problem, Records, Row};
