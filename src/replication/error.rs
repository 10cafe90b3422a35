//! Why a replicated operation did not succeed.

use crate::codec::FormatError;
use crate::store::StoreError;

use super::level::Outcome;

/// A failure; each variant asks the caller for another reaction.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReplicationError {
    /// There is no layout yet.
    #[error("this cluster has no layout yet: run 'quorate cluster init'")]
    NoLayout,
    /// Too few owners answered.
    #[error("{answered} of {needed} needed owners answered: {reason}")]
    Unavailable {
        /// How many confirmed.
        answered: usize,
        /// How many must.
        needed: usize,
        /// What may be said of the operation.
        outcome: Outcome,
        /// What the others said.
        reason: String,
    },
    /// The bucket was changed or deleted; nothing was done.
    #[error("the bucket was deleted or changed meanwhile")]
    StaleBucket,
    /// An owner's disk is full; nothing was done.
    #[error("no room: {0}")]
    Full(String),
    /// Too much is under way; nothing was done.
    #[error("too much is under way: {0}")]
    Busy(String),
    /// A clock is wrong by more than is allowed; nothing was done.
    #[error("CLOCK_SKEW: {0}")]
    ClockSkew(String),
    /// The record cannot be taken as it is; nothing was done.
    #[error("{0}")]
    Rejected(String),
    /// The request began too long ago to be taken; nothing was done.
    #[error("the request took too long: {0}")]
    TooLate(String),
    /// This node's storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record or message is damaged, or from a newer release.
    #[error("{0}")]
    Damaged(String),
}

impl From<FormatError> for ReplicationError {
    fn from(error: FormatError) -> Self {
        Self::Damaged(error.to_string())
    }
}
