//! `cohortist check`.

use indicatif::HumanBytes;
use tracing::Level;

use crate::cli::logs;
use crate::cli::output::{AlreadyReported, Out, note};
use crate::cli::store::StoreConfig;
use crate::render::many;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist check                            check ./cohortist.db
  cohortist --store /data/shop.db check      check another store

Reads every byte of a store at a path and writes nothing: the manifest, each block of each segment, \
each bitmap, each string id in both directions, and the logs. Prints each file and whether it is \
intact. If a file is damaged, prints one line on stderr per problem and exits with code 1.

A store that is open in another process cannot be checked. Make a backup instead, which is checked \
while it is written.";

/// Check every file of a store for damage
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

pub fn run(store: &StoreConfig) -> anyhow::Result<()> {
    let checked = store.check()?;
    let mut out = Out::new();
    for file in &checked.files {
        let bytes = file
            .bytes
            .map_or("missing".to_owned(), |bytes| HumanBytes(bytes).to_string());
        let state = if file.damages.is_empty() {
            "intact"
        } else {
            "DAMAGED"
        };
        out.line(format_args!("{:<16} {bytes:>12}  {state}", file.name))?;
    }
    if let Some(bitmaps) = checked.bitmaps {
        out.line(many(bitmaps, "bitmap"))?;
    }
    out.finish()?;
    for note in &checked.notes {
        note!("{note}");
    }
    let mut is_intact = true;
    for damage in checked.damages() {
        is_intact = false;
        logs::print(Level::ERROR, format_args!("error: {damage}"));
    }
    if is_intact {
        Ok(())
    } else {
        Err(AlreadyReported.into())
    }
}
