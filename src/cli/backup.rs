//! `cohortist backup` and `cohortist restore`.

use std::path::PathBuf;

use crate::cli::output::{Usage, say};
use crate::cli::store::StoreConfig;
use crate::render::many;
use crate::store::StoreError;
use crate::store::embedded::{ask_owner, restore};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist backup ./monday.backup                           of ./cohortist.db, whether it is being served or not
  cohortist --store /data/cohortist.db backup /mnt/monday.backup

The file is the store as of one moment, checked while it is written; marks go on meanwhile. A process that has the store
open, such as `cohortist serve`, writes it itself, so both have to be on this machine. `cohortist restore FILE` makes a
store of it. Redis has its own means; `cohortist copy` brings its marks into a store that can be backed up.";

/// Write the whole store to one file, also while it is served
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The file to write, which must not exist yet
    file: PathBuf,
}

const RESTORE_EXAMPLES: &str = "\
EXAMPLES
  cohortist restore ./monday.backup                          makes ./cohortist.db
  cohortist --store ./looked-at.db restore ./monday.backup   makes another, to look at

The store must not exist yet. Every bitmap in the backup is read and checked before the store appears.";

/// Create a store from a backup
#[derive(Debug, clap::Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub struct RestoreArgs {
    /// The backup to read
    file: PathBuf,
}

/// Which file, and in which direction.
pub struct Config {
    file: PathBuf,
    restore: bool,
}

impl From<Args> for Config {
    fn from(args: Args) -> Self {
        Config {
            file: args.file,
            restore: false,
        }
    }
}

impl From<RestoreArgs> for Config {
    fn from(args: RestoreArgs) -> Self {
        Config {
            file: args.file,
            restore: true,
        }
    }
}

impl Config {
    pub fn run(self, store: &StoreConfig) -> anyhow::Result<()> {
        let Some(path) = store.path() else {
            let shown = store.shown();
            return Err(Usage(format!(
                "only a store at a path is backed up and restored, and this is {shown}; `cohortist copy {shown} ./cohortist.db` makes one of it"
            ))
            .into());
        };
        let file = &self.file;
        if self.restore {
            let bitmaps = restore(file, path)?;
            say!("restored {} to {}", many(bitmaps, "bitmap"), store.shown());
            return Ok(());
        }
        match store.open_embedded(false) {
            Ok(embedded) => {
                let bitmaps = embedded.back_up(file)?;
                say!("wrote {} to {}", many(bitmaps, "bitmap"), file.display());
            }
            Err(error) if is_locked(&error) => {
                ask_owner(path, file, || {
                    store.open_to_read().is_err_and(|error| is_locked(&error))
                })?;
                say!(
                    "wrote {}, by the process that has {} open",
                    file.display(),
                    store.shown()
                );
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn is_locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Locked(_)))
}
