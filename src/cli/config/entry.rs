//! A store of the configuration.

use crate::calendar::Zone;
use crate::cli::expiry::Expiry;
use crate::sets::Prefix;

/// A store in the file.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    /// The store, as on the command line.
    pub store: String,
    pub prefix: Option<Prefix>,
    /// The zone in which the store is kept.
    pub kept_in: Option<Zone>,
    pub read_only: bool,
    /// The store's own expiry, or the file's.
    pub expire: Expiry,
}
