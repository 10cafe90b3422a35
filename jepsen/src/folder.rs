//! The temporary folder of a run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

/// What the names of all these folders begin with.
const PREFIX: &str = "quorate-jepsen-";

/// Locked as long as its run lives, by name.
const LOCK: &str = "lock";

/// There if the folder is to stay, by name.
const KEPT: &str = "kept";

/// A folder that goes with its last user, unless it is to be kept.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    kept: AtomicBool,
    /// The kernel unlocks it when the process ends, however it does.
    _lock: File,
}

/// Removes the folders of runs that were cut short, unless they are to be kept. How many.
#[must_use]
pub fn sweep() -> usize {
    sweep_in(&std::env::temp_dir())
}

fn sweep_in(parent: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(parent) else { return 0 };
    let is_ours = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
    };
    let paths = entries.flatten().map(|entry| entry.path()).filter(is_ours);
    paths.filter(|path| is_left_behind(path) && std::fs::remove_dir_all(path).is_ok()).count()
}

fn is_left_behind(path: &Path) -> bool {
    let lock = File::open(path.join(LOCK));
    !path.join(KEPT).exists() && lock.is_ok_and(|lock| lock.try_lock().is_ok())
}

impl Folder {
    /// Makes a new one.
    ///
    /// # Errors
    /// If that is refused.
    pub fn make() -> anyhow::Result<Arc<Self>> {
        Self::make_in(&std::env::temp_dir())
    }

    fn make_in(parent: &Path) -> anyhow::Result<Arc<Self>> {
        let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?.keep();
        let lock = File::create(path.join(LOCK))?;
        lock.try_lock().context("a new folder is locked")?;
        Ok(Arc::new(Self { path, kept: AtomicBool::new(false), _lock: lock }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets it stay behind for people to look at.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
        // Without it the next run may sweep the folder away: no more than a loss of evidence.
        drop(File::create(self.path.join(KEPT)));
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
    use super::{Folder, LOCK, PREFIX, sweep_in};

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
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn folders_of_runs_that_were_cut_short_are_swept_and_no_others() {
        let parent = tempfile::tempdir().unwrap();
        let running = Folder::make_in(parent.path()).unwrap();
        let kept = Folder::make_in(parent.path()).unwrap();
        kept.keep();
        let kept = kept.path().to_owned();
        let dead = parent.path().join(format!("{PREFIX}dead"));
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join(LOCK), []).unwrap();
        let foreign = parent.path().join(format!("{PREFIX}foreign"));
        std::fs::create_dir(&foreign).unwrap();

        assert_eq!(sweep_in(parent.path()), 1);

        assert!(!dead.exists());
        assert!(running.path().exists() && kept.exists() && foreign.exists());
        assert_eq!(sweep_in(parent.path()), 0);
    }
}
