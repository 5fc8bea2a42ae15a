//! The names of log files, and which of them a directory contains.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The start of the names of log files.
pub(super) const LOG: &str = "log-";

/// Returns the name of the log with a number.
pub(super) fn log_name(number: u64) -> String {
    format!("{LOG}{number}")
}

pub(super) fn log_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(log_name(number))
}

pub(super) fn log_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(LOG)?.parse().ok()?;
    (log_name(number) == name).then_some(number)
}

/// Returns the numbers and the paths of the logs in a directory, in ascending order.
pub(super) fn log_files(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if let Some(number) = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(log_number)
        {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}
