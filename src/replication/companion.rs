//! What other floors add to the change of a row, and what may refuse one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::causality::{HybridTime, Stamp};
use crate::ring::Partition;
use crate::store::Batch;
use crate::types::NodeId;

use super::error::ReplicationError;
use super::table::RowKey;

/// Why a record comes to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// A client writes it now.
    Client {
        /// When its request began, by its gateway's hybrid clock.
        begun: HybridTime,
    },
    /// A client writes it now, and this node keeps it for an owner that is away (Dynamo §4.6).
    Hinted {
        /// Whom it is kept for.
        owner: NodeId,
        /// When its request began.
        begun: HybridTime,
    },
    /// It was written before: read repair, a delivered hint.
    Repair,
    /// It was written before, and another owner holds it.
    Exchange {
        /// The purge floor of that owner's copy: what it holds below was not purged there.
        floor: HybridTime,
    },
}

impl Purpose {
    /// When the client's request began, if this is one.
    #[must_use]
    pub const fn begun(self) -> Option<HybridTime> {
        match self {
            Self::Client { begun } | Self::Hinted { begun, .. } => Some(begun),
            Self::Repair | Self::Exchange { .. } => None,
        }
    }
}

/// A record on its way into a replica.
#[derive(Clone, Copy, Debug)]
pub struct RowWrite<'a> {
    /// Its row.
    pub row: &'a RowKey,
    /// The partition of the row.
    pub partition: Partition,
    /// Copies of it that there should be.
    pub n: u8,
    /// Why it comes.
    pub purpose: Purpose,
    /// The record.
    pub record: &'a Bytes,
    /// The bytes beside it.
    pub inline: &'a Bytes,
}

/// A change of a row, as it is decided under the row's lock. Records are encoded.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The row.
    pub row: &'a RowKey,
    /// Its partition.
    pub partition: Partition,
    /// Copies of it that there should be.
    pub n: u8,
    /// Why it changes; a refresh of a row's state is a repair.
    pub purpose: Purpose,
    /// What was held.
    pub before: Option<&'a [u8]>,
    /// What came.
    pub incoming: &'a [u8],
    /// What is held from now on.
    pub after: &'a [u8],
}

/// Whether the bytes that belong to a row are on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BytesHere {
    /// All of them, or it has none of its own.
    All,
    /// Some are not.
    Missing,
}

/// Adds to the batch of every change of a table's rows.
pub trait Companion: Send + Sync {
    /// Adds what belongs to `change`; it becomes durable with it or not at all.
    ///
    /// # Errors
    /// The change is then refused, and nothing was done.
    fn accompany(
        &self,
        change: &Change<'_>,
        batch: &mut Batch,
    ) -> Result<BytesHere, ReplicationError>;

    /// Adds what belongs to the removal of a row that held `record`: a guest that was delivered,
    /// a tombstone that was purged.
    fn discard(&self, _row: &RowKey, _record: &[u8], _batch: &mut Batch) {}
}

/// What a guard is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The row.
    pub row: &'a RowKey,
    /// Its partition.
    pub partition: Partition,
    /// Why the record comes.
    pub purpose: Purpose,
    /// Its stamp; `None` if it is minted here, above everything that is held.
    pub stamp: Option<Stamp>,
    /// The epoch of its bucket when it was written, if it belongs to one.
    pub bucket_epoch: Option<u64>,
    /// Bytes of the record and beside it.
    pub bytes: u64,
    /// Whether this node holds a record of the row, a tombstone included.
    pub held: bool,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is merged.
    Take,
    /// It is merged without those of its concurrent values that are stamped not above this and
    /// that the row here does not hold: they were superseded, and purged since.
    TakeAbove(HybridTime),
    /// It is acknowledged and not stored: what it says was superseded, and purged since.
    Outlived,
}

/// May refuse records before they are merged. Asked under the row's lock.
pub trait Guard: Send + Sync {
    /// Judges one record.
    ///
    /// # Errors
    /// It is refused, and nothing was done.
    fn judge(&self, incoming: &Incoming<'_>) -> Result<Verdict, ReplicationError>;
}
