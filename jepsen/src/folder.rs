//! The temporary folder of a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the names of all these folders begin with.
const PREFIX: &str = "quorate-jepsen-";

/// A folder that goes with its last user, unless it is to be kept.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    kept: AtomicBool,
}

impl Folder {
    /// Makes a new one.
    ///
    /// # Errors
    /// If that is refused.
    pub fn make() -> anyhow::Result<Arc<Self>> {
        let path = tempfile::Builder::new().prefix(PREFIX).tempdir()?.keep();
        Ok(Arc::new(Self { path, kept: AtomicBool::new(false) }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets it stay behind for people to look at.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) {
            // What cannot be removed is of no more use, and does no harm.
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Folder;

    #[test]
    fn a_folder_goes_with_its_last_user_unless_it_is_kept() {
        let folder = Folder::make().unwrap();
        let path = folder.path().to_owned();
        let other = std::sync::Arc::clone(&folder);

        drop(folder);
        assert!(path.is_dir());
        drop(other);
        assert!(!path.exists());

        let kept = Folder::make().unwrap();
        let path = kept.path().to_owned();
        kept.keep();
        drop(kept);
        assert!(path.is_dir());
        std::fs::remove_dir(&path).unwrap();
    }
}
