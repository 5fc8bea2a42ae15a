//! Files and directories that only their owner may read, because a store holds personal data.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Options that create a file for its owner only (0600). An existing file keeps its permissions.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Like [`std::fs::write`], for a file that only its owner may read.
///
/// # Errors
/// Those of that function.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?
        .write_all(content.as_ref())
}

/// Copies a file so that only its owner may read the copy, and syncs it to disk.
///
/// # Errors
/// If it cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    let mut source = File::open(from)?;
    let mut target = options().write(true).create(true).truncate(true).open(to)?;
    let bytes = io::copy(&mut source, &mut target)?;
    target.sync_all()?;
    Ok(bytes)
}

/// Like [`std::fs::create_dir_all`]. If the last directory is new, only its owner may enter it
/// (0700).
///
/// # Errors
/// Those of that function.
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

/// The permissions of a directory if users outside its owner's group may enter or read it.
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
