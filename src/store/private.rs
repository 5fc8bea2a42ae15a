//! Files and directories that only their owner may read: a store holds who did what.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Options that create a file for its owner alone (0600). One that exists keeps its permissions.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// As [`std::fs::write`], for a file of its owner alone.
///
/// # Errors
/// As there.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?
        .write_all(content.as_ref())
}

/// Copies a file so that only its owner may read the copy, and forces it to disk.
///
/// # Errors
/// When it cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    let mut source = File::open(from)?;
    let mut target = options().write(true).create(true).truncate(true).open(to)?;
    let bytes = io::copy(&mut source, &mut target)?;
    target.sync_all()?;
    Ok(bytes)
}

/// As [`std::fs::create_dir_all`], but the last one is its owner's alone (0700) where it is new.
///
/// # Errors
/// As there.
pub fn create_directory(path: &Path) -> io::Result<()> {
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        std::fs::create_dir_all(parent)?;
    }
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Err(error) if !path.is_dir() => Err(error),
        _ => Ok(()),
    }
}

/// The permissions of a directory that users outside its owner's group may enter or read.
pub fn open_to_all(directory: &Path) -> Option<u32> {
    #[cfg(unix)]
    {
        let metadata = directory
            .metadata()
            .ok()
            .filter(std::fs::Metadata::is_dir)?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        (mode & 0o007 != 0).then_some(mode)
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        None
    }
}
