//! Why the catalogue did not do what it was asked.

use crate::blob::BlobError;
use crate::replication::{Outcome, ReplicationError};

use super::body::BodyError;
use super::records::{ChecksumAlgorithm, LevelRefused};

/// A refusal or failure; each variant asks the client for another reaction.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The bucket does not exist.
    #[error("there is no such bucket")]
    NoSuchBucket,
    /// Somebody else owns a bucket of that name.
    #[error("a bucket of that name belongs to another owner")]
    BucketTaken,
    /// The caller already owns a bucket of that name.
    #[error("the caller already owns that bucket")]
    BucketOwned,
    /// The bucket is being deleted or was changed: nothing was done; ask again.
    #[error("the bucket is being changed or deleted: nothing was done, ask again")]
    BucketChanging,
    /// The bucket still holds objects.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// There is no such object.
    #[error("there is no such key")]
    NoSuchKey,
    /// There is no such upload, or it was completed or aborted.
    #[error("there is no such upload, or it was completed or aborted")]
    NoSuchUpload,
    /// A part named in a completion was never uploaded, or has another ETag.
    #[error("part {part} was not uploaded or has another ETag")]
    InvalidPart {
        /// The part number.
        part: u16,
    },
    /// The parts of a completion are not in ascending order.
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    /// A part that is not the last has less than 5 MiB.
    #[error("part {part} has {size} bytes; every part but the last needs 5 MiB")]
    PartTooSmall {
        /// The part number.
        part: u16,
        /// Its bytes.
        size: u64,
    },
    /// The checksum that the client demands of a completed object is another.
    #[error("the object's {algorithm:?} checksum is not the one that was given")]
    ChecksumMismatch {
        /// The algorithm.
        algorithm: ChecksumAlgorithm,
    },
    /// There is no such credential.
    #[error("there is no such credential")]
    NoSuchCredential,
    /// A credential of that access key id exists already.
    #[error("a credential with that access key id exists already")]
    CredentialExists,
    /// The body ended early, was refused by the caller's checks, or could not be read.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Not enough owners answered: 503 with the outcome.
    #[error("not enough replicas: {reason}")]
    Unavailable {
        /// Whether the operation may have happened.
        outcome: Outcome,
        /// Who was missing.
        reason: String,
    },
    /// Too much is under way: 503 SlowDown; nothing was done.
    #[error("too busy: {reason}")]
    SlowDown {
        /// Which bound was reached.
        reason: String,
    },
    /// No room on the disks of enough owners; nothing was committed.
    #[error("not enough room: {reason}")]
    Full {
        /// Which nodes are full.
        reason: String,
    },
    /// Bytes of a live object cannot be had in an undamaged copy now: never answered as 404.
    #[error("no undamaged copy of the object's bytes can be reached: {reason}")]
    BytesUnavailable {
        /// Which extent, and what its owners said.
        reason: String,
    },
    /// The request cannot be served as it is: nothing was done.
    #[error("{reason}")]
    Refused {
        /// What stands in the way.
        reason: String,
    },
    /// The request took so long that its bytes may have been collected: nothing was done.
    #[error("the request took too long: {reason}")]
    TooSlow {
        /// How long it may take.
        reason: String,
    },
    /// A defect of ours or a damaged record.
    #[error("internal error: {reason}")]
    Internal {
        /// What happened.
        reason: String,
    },
}

impl CatalogError {
    /// The same error of an operation that has done something durable already: what is left of
    /// it may still happen.
    #[must_use]
    pub(super) fn after_a_durable_step(self) -> Self {
        match self {
            Self::Unavailable { reason, .. }
            | Self::Full { reason }
            | Self::SlowDown { reason } => Self::Unavailable { outcome: Outcome::Unknown, reason },
            Self::BucketChanging => Self::Unavailable {
                outcome: Outcome::Unknown,
                reason: "the bucket was changed meanwhile".into(),
            },
            other => other,
        }
    }
}

impl From<ReplicationError> for CatalogError {
    fn from(error: ReplicationError) -> Self {
        match error {
            ReplicationError::Unavailable { outcome, .. } => {
                Self::Unavailable { outcome, reason: error.to_string() }
            }
            ReplicationError::NoLayout => {
                Self::Unavailable { outcome: Outcome::None, reason: error.to_string() }
            }
            ReplicationError::StaleBucket => Self::BucketChanging,
            ReplicationError::Full(reason) => Self::Full { reason },
            ReplicationError::Busy(reason) => Self::SlowDown { reason },
            ReplicationError::ClockSkew(_) => {
                Self::Unavailable { outcome: Outcome::None, reason: error.to_string() }
            }
            ReplicationError::Rejected(reason) => Self::Refused { reason },
            ReplicationError::TooLate(reason) => Self::TooSlow { reason },
            // A local failure after a write was queued does not tell whether it will be found.
            ReplicationError::Store(_) => {
                Self::Unavailable { outcome: Outcome::Unknown, reason: error.to_string() }
            }
            ReplicationError::Damaged(reason) => Self::Internal { reason },
        }
    }
}

impl From<LevelRefused> for CatalogError {
    fn from(refused: LevelRefused) -> Self {
        Self::Refused { reason: refused.to_string() }
    }
}

impl From<BlobError> for CatalogError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Unavailable { .. } => {
                Self::Unavailable { outcome: Outcome::None, reason: error.to_string() }
            }
            BlobError::Full(reason) => Self::Full { reason },
            BlobError::Unreadable { .. } | BlobError::Nowhere { .. } => {
                Self::BytesUnavailable { reason: error.to_string() }
            }
            BlobError::Replication(error) => error.into(),
        }
    }
}
