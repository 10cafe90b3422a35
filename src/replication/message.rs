//! What coordinators and replicas say to each other.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::causality::HybridTime;
use crate::net::ServiceId;

use crate::types::NodeId;

use super::companion::Purpose;
use super::hints::HintFigures;
use super::level::{Level, Outcome, Served};
use super::table::{RowKey, TableId};
use super::version::Version;

/// Requests to a replica.
pub const REPLICA_SERVICE: ServiceId = ServiceId(2);
/// Requests to coordinate a write as one of its owners.
pub const COORDINATE_SERVICE: ServiceId = ServiceId(3);

/// A row, as requests name it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RowName {
    #[serde(rename = "t")]
    pub(crate) table: TableId,
    #[serde(rename = "r")]
    pub(crate) routing: Bytes,
    #[serde(rename = "s")]
    pub(crate) sort: Bytes,
}

impl RowName {
    /// The name of `row`.
    pub(crate) fn of(row: &RowKey) -> Self {
        Self { table: row.table, routing: row.routing.clone(), sort: row.sort.clone() }
    }

    /// The row that it names.
    pub(crate) fn key(self) -> RowKey {
        RowKey { table: self.table, routing: self.routing, sort: self.sort }
    }
}

/// A row that is handed over whole; its inline bytes lie in the attachment, one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HandedRow {
    #[serde(rename = "k")]
    pub(crate) row: RowName,
    #[serde(rename = "n")]
    pub(crate) n: u8,
    #[serde(rename = "v")]
    pub(crate) record: Bytes,
    #[serde(rename = "i")]
    pub(crate) inline_length: u32,
}

/// How much of a record a read asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// Its digest.
    Digest,
    /// The record.
    Record,
    /// The record and the bytes beside it.
    RecordAndBytes,
}

/// A request to one replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ReplicaRequest {
    /// Merge this record; inline bytes ride as the attachment.
    Write { layout: u64, row: RowName, n: u8, purpose: Purpose, record: Bytes },
    /// Merge these records, which were written before.
    Take { layout: u64, rows: Vec<HandedRow> },
    /// Tell what is held.
    Read { layout: u64, row: RowName, want: Want },
    /// Tell how much is kept for owners that were away.
    Kept,
    /// Tell what is held of several ranges.
    Scan { layout: u64, scan: ScanRequest },
}

/// A replica's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ReplicaReply {
    /// The record is durable, merged with what was there; if what was there is newer, its
    /// version.
    Written { newer: Option<Box<Version>>, standing: ReplicaStanding },
    /// For each of the rows, whether it is durable here; and how long the sender should pause
    /// before it hands over more.
    Taken { durable: Vec<bool>, pause_millis: u32 },
    /// The record, if there is one; inline bytes ride as the attachment.
    Row { record: Option<Bytes> },
    /// The record's digest, if there is a record.
    Digest { digest: Option<serde_bytes::ByteArray<16>> },
    /// Rows; their encoded form rides as the attachment.
    Rows,
    /// How much is kept for whom.
    Kept { owners: Vec<(NodeId, HintFigures)> },
    /// This replica is being rebuilt: what it holds says nothing yet.
    Rebuilding,
    /// Too much is under way here; nothing was done.
    Busy { reason: String },
    /// This node's clock, or the sender's, is wrong; nothing was done.
    ClockSkew { reason: String },
    /// Another layout is in force here.
    StaleLayout { version: u64 },
    /// The bucket is being deleted or was changed.
    StaleBucket,
    /// No room.
    Full { reason: String },
    /// The row or its bytes are damaged here: use another copy.
    Damaged { reason: String },
    /// Refused before anything was done.
    Refused { reason: String },
}

/// Whether a replica counts for quorums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicaStanding {
    /// It does.
    Counted,
    /// It is being rebuilt: it takes writes and counts for none.
    Rebuilding,
}

/// Ranges of one table to be scanned on one replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ScanRequest {
    pub(crate) table: TableId,
    /// The ranges, each within one routing key.
    pub(crate) slices: Vec<SliceRequest>,
    /// Only sort keys that begin so.
    pub(crate) prefix: Bytes,
    /// Groups sort keys that share what comes before this after the prefix.
    pub(crate) delimiter: Option<Bytes>,
    /// Whether rows come whole or as digests.
    pub(crate) want: Want,
}

/// One range of a scan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SliceRequest {
    pub(crate) routing: Bytes,
    /// The first sort key of interest.
    pub(crate) from: Bytes,
    /// At most so many rows and prefixes.
    pub(crate) limit: u32,
}

/// A write to be coordinated by one of its owners; inline bytes ride as the attachment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CoordinateRequest {
    pub(crate) layout: u64,
    pub(crate) row: RowName,
    pub(crate) record: Bytes,
    pub(crate) n: u8,
    pub(crate) level: Level,
    /// When the client's request began, by its gateway's hybrid clock.
    pub(crate) begun: HybridTime,
    /// When this was sent, by the same clock.
    pub(crate) sent: HybridTime,
    /// How long after that it waits for an answer: what arrives later is not minted, because the
    /// client may have been answered, and have written again, meanwhile.
    pub(crate) patience_millis: u64,
}

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum CoordinateReply {
    /// It is durable on its quorum, as this record.
    Written { record: Bytes, served: Served },
    /// It did not reach its quorum.
    Unavailable { answered: usize, needed: usize, outcome: Outcome, reason: String },
    /// The bucket is being deleted or was changed; nothing was done.
    StaleBucket,
    /// No room; nothing was done.
    Full { reason: String },
    /// Too much is under way; nothing was done.
    Busy { reason: String },
    /// A clock is wrong; nothing was done.
    ClockSkew { reason: String },
    /// The record cannot be taken as it is, for this reason; nothing was done.
    Rejected { reason: String },
    /// The request began too long ago; nothing was done.
    TooLate { reason: String },
    /// Refused before anything was done: ask another owner.
    Refused { reason: String },
}
