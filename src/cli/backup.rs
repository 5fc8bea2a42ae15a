//! `cohortist backup` and `cohortist restore`.

use std::path::PathBuf;

use crate::cli::output::status;
use crate::cli::store::StoreConfig;
use crate::render::many;
use crate::store::StoreError;
use crate::store::embedded::{ask_owner, restore};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist backup ./monday.backup                      back up ./cohortist.db
  cohortist --store /data/shop.db backup ./shop.backup  back up another store

The backup is the store as of one moment and is checked while it is written. Events can be \
recorded in the meantime. If another process has the store open, such as `cohortist serve`, that \
process writes the file, so it must run on this machine. `cohortist restore FILE` creates a store \
from a backup.

Only a store at a path can be backed up. For Redis, use its own tools, or copy its events to a \
path with `cohortist copy`.";

/// Write a store to one file, even while it is served
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The file to write; it must not exist
    file: PathBuf,
}

const RESTORE_EXAMPLES: &str = "\
EXAMPLES
  cohortist restore ./monday.backup                     create ./cohortist.db
  cohortist --store ./copy.db restore ./monday.backup   create another store

The store must not exist. Every bitmap in the backup is read and checked before the store appears.";

/// Create a store from a backup
#[derive(Debug, clap::Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub struct RestoreArgs {
    /// The backup to read
    file: PathBuf,
}

/// A file to write or to read.
pub enum Config {
    Backup(PathBuf),
    Restore(PathBuf),
}

impl From<Args> for Config {
    fn from(args: Args) -> Self {
        Config::Backup(args.file)
    }
}

impl From<RestoreArgs> for Config {
    fn from(args: RestoreArgs) -> Self {
        Config::Restore(args.file)
    }
}

impl Config {
    pub fn run(self, store: &StoreConfig) -> anyhow::Result<()> {
        match self {
            Config::Backup(file) => back_up(store, &file),
            Config::Restore(file) => {
                let path = store.require_path("restored")?;
                let bitmaps = restore(&file, path)?;
                status!(
                    "restored {} to {}",
                    many(bitmaps, "bitmap"),
                    store.display()
                );
                Ok(())
            }
        }
    }
}

fn back_up(store: &StoreConfig, file: &std::path::Path) -> anyhow::Result<()> {
    let path = store.require_path("backed up")?;
    match store.open_embedded(false) {
        Ok(embedded) => {
            let bitmaps = embedded.back_up(file)?;
            status!("wrote {} to {}", many(bitmaps, "bitmap"), file.display());
        }
        Err(error) if is_locked(&error) => {
            let is_still_locked = || store.open_to_read().is_err_and(|error| is_locked(&error));
            ask_owner(path, file, is_still_locked)?;
            status!(
                "wrote {} through the process that has {} open",
                file.display(),
                store.display()
            );
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn is_locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Locked(_)))
}
