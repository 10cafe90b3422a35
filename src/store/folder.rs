//! The real data folder: a directory of flat files, locked by this process.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, FlockOperation};

use super::disk::{Create, Disk, DiskFile, DiskSpace};
use super::error::StoreError;

/// Linux refuses longer lists of buffers in one call (`IOV_MAX`).
const BUFFERS_PER_CALL: usize = 1024;
/// How often a lock that another process holds is tried again, and after which pause.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A directory. Its lock is held until the last handle is dropped.
pub struct FolderDisk {
    path: PathBuf,
    folder: File,
}

impl FolderDisk {
    /// Opens the folder `path`, creating it if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Io`] that says whether it cannot be created, cannot be written, or is held
    /// by another process.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(path).map_err(|error| StoreError::io("create", path, &error))?;
        rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| StoreError::io("write into the data folder", path, &error.into()))?;
        let folder = File::open(path).map_err(|error| StoreError::io("open", path, &error))?;
        with_patience(|| lock(&folder, path))?;
        Ok(Self { path: path.to_owned(), folder })
    }

    fn place(&self, name: &str) -> Result<PathBuf, StoreError> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(StoreError::Io {
                action: "use",
                path: self.path.join(name),
                reason: "names in a data folder are flat".to_owned(),
            });
        }
        Ok(self.path.join(name))
    }

    fn names(&self) -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                continue;
            }
            // Our own names are ASCII; others are not ours.
            names.extend(entry.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl Disk for FolderDisk {
    fn open(&self, name: &str, create: Create) -> Result<Arc<dyn DiskFile>, StoreError> {
        let path = self.place(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create == Create::IfMissing)
            .truncate(false)
            .open(&path)
            .map_err(|error| StoreError::io("open", &path, &error))?;
        Ok(Arc::new(FolderFile { file, path }))
    }

    fn list(&self) -> Result<Vec<String>, StoreError> {
        self.names().map_err(|error| StoreError::io("list", &self.path, &error))
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        let path = self.place(name)?;
        std::fs::remove_file(&path).map_err(|error| StoreError::io("remove", &path, &error))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let path = self.place(from)?;
        std::fs::rename(&path, self.place(to)?)
            .map_err(|error| StoreError::io("rename", &path, &error))
    }

    fn sync_folder(&self) -> Result<(), StoreError> {
        self.folder.sync_all().map_err(|error| stopped(&self.path, &error))
    }

    fn space(&self) -> Result<DiskSpace, StoreError> {
        let figures = rustix::fs::fstatvfs(&self.folder)
            .map_err(|error| StoreError::io("measure", &self.path, &error.into()))?;
        Ok(DiskSpace {
            free: figures.f_bavail.saturating_mul(figures.f_frsize),
            total: figures.f_blocks.saturating_mul(figures.f_frsize),
        })
    }
}

struct FolderFile {
    file: File,
    path: PathBuf,
}

impl FolderFile {
    fn write_all(&self, mut position: u64, buffers: &[&[u8]]) -> std::io::Result<()> {
        for group in buffers.chunks(BUFFERS_PER_CALL) {
            let mut slices: Vec<IoSlice<'_>> =
                group.iter().map(|bytes| IoSlice::new(bytes)).collect();
            let mut rest = slices.as_mut_slice();
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                let written = match rustix::io::pwritev(&self.file, rest, position) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(written) => written,
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                };
                position += u64::try_from(written).unwrap_or_default();
                IoSlice::advance_slices(&mut rest, written);
            }
        }
        Ok(())
    }

    fn read_some(&self, position: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = position + u64::try_from(filled).unwrap_or_default();
            match self.file.read_at(&mut buffer[filled..], at) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl DiskFile for FolderFile {
    fn write_at(&self, position: u64, buffers: &[&[u8]]) -> Result<(), StoreError> {
        self.write_all(position, buffers)
            .map_err(|error| StoreError::io("write to", &self.path, &error))
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        self.read_some(position, buffer).map_err(|error| StoreError::io("read", &self.path, &error))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|error| stopped(&self.path, &error))
    }

    fn length(&self) -> Result<u64, StoreError> {
        let metadata =
            self.file.metadata().map_err(|error| StoreError::io("measure", &self.path, &error))?;
        Ok(metadata.len())
    }

    fn truncate(&self, length: u64) -> Result<(), StoreError> {
        self.file.set_len(length).map_err(|error| StoreError::io("cut", &self.path, &error))
    }
}

fn stopped(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Stopped { path: path.to_owned(), reason: error.to_string() }
}

fn lock(folder: &File, path: &Path) -> Result<(), StoreError> {
    rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| lock_error(path, error))
}

/// Tries to take a lock a few times: a process that was told to stop needs a moment to let go.
#[expect(clippy::disallowed_methods, reason = "a real seam, and the node has not started yet")]
pub(super) fn with_patience<T>(
    mut attempt: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    for _ in 0..LOCK_ATTEMPTS {
        match attempt() {
            Err(StoreError::Io { action: "lock", .. }) => std::thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
    attempt()
}

fn lock_error(path: &Path, error: rustix::io::Errno) -> StoreError {
    if error == rustix::io::Errno::WOULDBLOCK {
        let reason =
            "another process holds it; stop that node first, or give this one a folder of its own";
        return StoreError::Io { action: "lock", path: path.to_owned(), reason: reason.to_owned() };
    }
    StoreError::io("lock", path, &error.into())
}
