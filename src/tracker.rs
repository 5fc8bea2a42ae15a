//! The library's front door: record what users did, and ask who did it.

mod base;
mod batch;
mod changes;
mod error;
mod extent;
mod forget;
mod ids;
mod kept_in;
mod keys;
mod members;
mod remembered;
mod run;
mod saved_lists;
mod systems;
mod user_ids;
mod written;
mod zone_error;

pub use crate::store::Counted;

pub use base::Tracker;
pub use batch::Batch;
pub use error::{Error, Result};
pub use extent::Extent;
pub use forget::Forgotten;
pub use ids::{Ids, IdsError};
pub use members::Members;
pub use run::{Answered, Asked, Run};
pub use systems::Systems;
pub use written::Written;
pub use zone_error::ZoneError;
