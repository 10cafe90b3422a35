//! A disk of each node's own: an ext4 file system in a file, which can lose its power.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::kernel::shut_down_ext4;
use super::tool::run;

/// What fills a disk, by name.
const BALLAST: &str = "ballast";

/// What is written and not synced just before the power goes, by name: it must be lost.
const UNSYNCED: &str = "unsynced";

/// What is written to see whether there is room, by name.
const PROBE: &str = "probe";

/// A mounted disk; dropping it unmounts it. The image stays.
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Makes a file system of `bytes` in the file `image` and mounts it at `mount`.
    ///
    /// # Errors
    /// If there is no room or no right to mount.
    pub fn make(image: PathBuf, mount: PathBuf, bytes: u64) -> anyhow::Result<Self> {
        let file = File::create(&image)
            .with_context(|| format!("the image {} cannot be made", image.display()))?;
        file.set_len(bytes)?;
        fs::create_dir_all(&mount)?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", text(&image)?])?;
        let disk = Self { image, mount };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Loses power: what was not synced is gone, and nothing works until [`Disk::power_on`].
    /// Whether it then refuses to write.
    ///
    /// # Errors
    /// If it is not mounted.
    pub fn power_off(&self) -> anyhow::Result<bool> {
        // A full disk has no room for it, and then nothing to show.
        drop(fs::write(self.mount.join(UNSYNCED), [7; 4_096]));
        shut_down_ext4(&self.mount)
            .with_context(|| format!("{} cannot be shut down", self.mount.display()))?;
        Ok(fs::write(self.mount.join(PROBE), [7]).is_err())
    }

    /// Mounts it again, as after a loss of power. Nobody may have a file open on it. Whether
    /// what had not been synced is gone.
    ///
    /// # Errors
    /// If somebody has, or the file system cannot be mounted.
    pub fn power_on(&self) -> anyhow::Result<bool> {
        run("umount", &[text(&self.mount)?])?;
        self.mount()?;
        let unsynced = self.mount.join(UNSYNCED);
        let left = fs::read(&unsynced).is_ok_and(|bytes| bytes == [7; 4_096]);
        remove(&unsynced)?;
        Ok(!left)
    }

    /// Whether there is no room for another block.
    ///
    /// # Errors
    /// If writing fails for another reason.
    pub fn is_full(&self) -> anyhow::Result<bool> {
        let probe = self.mount.join(PROBE);
        let written = fs::write(&probe, [7; 4_096]);
        remove(&probe)?;
        match written {
            Ok(()) => Ok(false),
            Err(error) if error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes all the room there is.
    ///
    /// # Errors
    /// If the disk is off.
    pub fn fill(&self) -> anyhow::Result<()> {
        let path = self.mount.join(BALLAST);
        let file = File::create(&path).context("the ballast cannot be made")?;
        let mut step: u64 = statvfs(&self.mount)?.f_bavail * statvfs(&self.mount)?.f_frsize;
        let mut length = 0;
        // As much as there is room for, down to the last block.
        while step >= 4_096 {
            match fallocate(&file, FallocateFlags::empty(), length, step) {
                Ok(()) => length += step,
                Err(_) => step /= 2,
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// If the disk is off.
    pub fn empty_ballast(&self) -> anyhow::Result<()> {
        Ok(remove(&self.mount.join(BALLAST))?)
    }

    fn mount(&self) -> anyhow::Result<()> {
        run("mount", &["-o", "loop,data=ordered", text(&self.image)?, text(&self.mount)?])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Ok(mount) = text(&self.mount) {
            // Whatever is left goes with the sandbox.
            drop(run("umount", &[mount]));
        }
    }
}

/// Removes a file that may not be there.
fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is no text", path.display()))
}
