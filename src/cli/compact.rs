//! `cohortist compact`.

use indicatif::HumanBytes;

use crate::cli::output::status;
use crate::cli::store::StoreConfig;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist compact                          compact ./cohortist.db
  cohortist --store /data/shop.db compact    compact another store

Immediately frees the space of deleted and overwritten data, which is otherwise freed gradually \
while the store is open. Needs free disk space equal to the size of the store, because the old \
files are deleted after the new one is complete.

A store that is open in another process cannot be compacted. That process frees the space \
gradually.";

/// Merge the files of a store and free unused space
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

pub fn run(store: &StoreConfig) -> anyhow::Result<()> {
    store.require_path("compacted")?;
    let (before, after) = store
        .open_embedded(false)?
        .keyspace()
        .compact()?
        .expect("a store at a path has files");
    status!(
        "compacted {}: {} before, {} now",
        store.display(),
        HumanBytes(before),
        HumanBytes(after)
    );
    Ok(())
}
