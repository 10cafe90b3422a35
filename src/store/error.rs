//! What can go wrong between this node and its disk.

use std::path::PathBuf;

/// A failure of local storage. Each variant asks its caller for another reaction.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk has no room: refuse new writes, go on serving reads.
    #[error("no space left on {path}: free some or add capacity; reads go on")]
    Full {
        /// The folder or file that could not grow.
        path: PathBuf,
    },
    /// A sync or write failed: what was written since the last sync may be lost, so this disk
    /// acknowledges nothing more until it is examined and the node restarted.
    #[error("the disk of {path} is stopped after a failed write or sync: {reason}")]
    Stopped {
        /// The folder of that disk.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// Bytes on disk do not match their checksum or format: use another copy and repair this.
    #[error("damaged data in {path}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What did not match.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {reason}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The node is stopping.
    #[error("this node is stopping")]
    Stopping,
}

impl StoreError {
    /// Classifies an operating system error.
    #[must_use]
    pub fn io(action: &'static str, path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        let path = path.into();
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::Full { path }
            }
            _ => Self::Io { action, path, reason: error.to_string() },
        }
    }

    /// This error as the end of all writing, unless room is the matter: after any other
    /// failed write nobody knows what the disk holds.
    #[must_use]
    pub(super) fn into_stopped(self) -> Self {
        match self {
            Self::Io { path, reason, .. } | Self::Damaged { path, reason } => {
                Self::Stopped { path, reason }
            }
            other => other,
        }
    }
}
