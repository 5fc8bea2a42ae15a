//! `cohortist compact`.

use indicatif::HumanBytes;

use crate::cli::output::say;
use crate::cli::store::StoreConfig;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist compact                                ./cohortist.db
  cohortist --store /data/cohortist.db compact

Immediately frees the space of deleted or overwritten data, which is otherwise freed gradually while the
store is open. Needs free disk space equal to the size of the store: the old files are deleted after the
new one is complete. A store that is open in another process cannot be compacted with this command: that
process frees the space gradually.";

/// Merge the files of a store into one and give back free space
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

pub fn run(store: &StoreConfig) -> anyhow::Result<()> {
    store.require_path("compacted")?;
    let keyspace = store.open_embedded(false)?.keyspace();
    if let Some((before, after)) = keyspace.compact()? {
        say!(
            "compacted {}: {} before, {} now",
            store.shown(),
            HumanBytes(before),
            HumanBytes(after)
        );
    }
    Ok(())
}
