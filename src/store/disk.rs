//! The seam to one data folder's files. Calls block; callers go through `env::blocking`.

use std::sync::Arc;

use super::error::StoreError;

/// One data folder: flat, named files.
///
/// The real one is a directory; the simulated one loses unsynced writes at a crash, tears
/// tails, flips bits, fills up and fails.
pub trait Disk: Send + Sync + 'static {
    /// Opens `name` for reading and appending, creating it if `create` says so. A created
    /// file's directory entry is durable once [`Disk::sync_folder`] returns.
    ///
    /// # Errors
    /// If it does not exist and is not to be created, or the system refuses.
    fn open(&self, name: &str, create: Create) -> Result<Arc<dyn DiskFile>, StoreError>;

    /// The names of all files, sorted.
    ///
    /// # Errors
    /// If the folder cannot be read.
    fn list(&self) -> Result<Vec<String>, StoreError>;

    /// Removes `name`; durable once [`Disk::sync_folder`] returns.
    ///
    /// # Errors
    /// If the system refuses.
    fn remove(&self, name: &str) -> Result<(), StoreError>;

    /// Renames `from` to `to`, replacing it; durable once [`Disk::sync_folder`] returns.
    ///
    /// # Errors
    /// If the system refuses.
    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError>;

    /// Makes creations, removals and renames durable.
    ///
    /// # Errors
    /// [`StoreError::Stopped`]: what has been done to the folder may be lost.
    fn sync_folder(&self) -> Result<(), StoreError>;

    /// Bytes free for new files, and the size of the file system.
    ///
    /// # Errors
    /// If the system does not tell.
    fn space(&self) -> Result<DiskSpace, StoreError>;
}

/// Whether [`Disk::open`] makes a file that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// A missing file is an error.
    MustExist,
    /// A missing file is created empty.
    IfMissing,
}

/// Room in a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that may still be written.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// One open file. Positions are bytes from its start.
pub trait DiskFile: Send + Sync + 'static {
    /// Writes all of `buffers`, one after the other, from `position` on. Not durable yet.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Io`]; some of the bytes may have been written.
    fn write_at(&self, position: u64, buffers: &[&[u8]]) -> Result<(), StoreError>;

    /// Fills `buffer` from `position` on and returns how many bytes there were before the end.
    ///
    /// # Errors
    /// If the system refuses.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, StoreError>;

    /// Makes all written bytes durable (fdatasync).
    ///
    /// # Errors
    /// [`StoreError::Stopped`]: what was written since the last sync may be lost for good, and
    /// trying again would not tell (a failed fsync clears the error on Linux).
    fn sync(&self) -> Result<(), StoreError>;

    /// The length in bytes.
    ///
    /// # Errors
    /// If the system refuses.
    fn length(&self) -> Result<u64, StoreError>;

    /// Cuts the file to `length` bytes.
    ///
    /// # Errors
    /// If the system refuses.
    fn truncate(&self, length: u64) -> Result<(), StoreError>;
}
