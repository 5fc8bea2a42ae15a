//! The names of the files in a store's directory that belong to a requested backup.

/// The start of the name of a request file. The names of all of these files end with the process id
/// of the requesting process.
pub(super) const REQUESTED: &str = "backup-wanted-";

/// The start of the name of a backup that is being written.
pub(super) const UNFINISHED: &str = "backup-under-way-";

/// The start of the name of a finished backup.
pub(super) const DONE: &str = "backup-done-";

/// The start of the name of a file that contains why a backup failed.
pub(super) const FAILED: &str = "backup-failed-";

/// Returns whether a file in a store's directory belongs to a requested backup.
pub(super) fn is_ours(name: &str) -> bool {
    [REQUESTED, UNFINISHED, DONE, FAILED]
        .iter()
        .any(|start| name.starts_with(start))
}

/// Returns whether a file in a store's directory is an unfinished backup.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNFINISHED)
}
