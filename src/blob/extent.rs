//! Extents: what heads say of them and what their owners store of them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::causality::HybridTime;
use crate::codec::Format;
use crate::replication::{Level, RowKey, TableId};
use crate::types::{ExtentId, NodeId};

/// Bytes of a chunk: the unit of checksums, of disk records and of memory per transfer.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// The longest extent.
pub const EXTENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An extent as a head names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentRef {
    /// The extent.
    #[serde(rename = "i")]
    pub id: ExtentId,
    /// Its bytes.
    #[serde(rename = "l")]
    pub length: u64,
}

/// The object that an extent belongs to, by its row. A part of an upload belongs to the object
/// that it will be a part of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectName {
    /// What is hashed to find the object's owners; it begins with the bucket's id.
    #[serde(rename = "r")]
    pub routing: Bytes,
    /// Where the object's row sorts among those that are routed alike: its key.
    #[serde(rename = "s")]
    pub sort: Bytes,
}

/// Who wrote an extent, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The gateway that wrote it.
    #[serde(rename = "w")]
    pub writer: NodeId,
    /// What it belongs to.
    #[serde(rename = "o")]
    pub object: ObjectName,
}

/// An extent as its owners store it, written with its seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentRecord {
    /// Its bytes.
    #[serde(rename = "l")]
    pub length: u64,
    /// What was hashed to find its owners: its own id, or its object's routing key if it is
    /// attached to the object.
    #[serde(rename = "r", with = "serde_bytes")]
    pub routing: Vec<u8>,
    /// Copies wanted.
    #[serde(rename = "n")]
    pub n: u8,
    /// When its writer began, before the first byte: an extent of a dead writer is told from one
    /// that is being written.
    #[serde(rename = "b")]
    pub begun: HybridTime,
    /// Who wrote it for what; unknown of extents of the first release.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The owner that this copy is kept for, if its node stands in for one.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub hinted_for: Option<NodeId>,
}

impl Format for ExtentRecord {
    const NAME: &'static str = "extent record";
    const NUMBER: u16 = 1;
}

/// What bytes are written for, and how many copies of them make a success.
#[derive(Clone, Debug)]
pub struct NewBytes {
    /// The object that they belong to.
    pub object: ObjectName,
    /// When the write began that will name them, before the first of them was stored.
    pub begun: HybridTime,
    /// Copies that there should be.
    pub n: usize,
    /// How many of them are waited for, and whether others stand in for owners that are away.
    pub level: Level,
}

/// The row of an extent that is placed by `routing`.
#[must_use]
pub fn extent_row(routing: Bytes, extent: ExtentId) -> RowKey {
    let sort = Bytes::copy_from_slice(extent.as_bytes());
    RowKey { table: TableId::Extents, routing, sort }
}

/// The extent that a row of [`TableId::Extents`] is about.
#[must_use]
pub fn extent_of(row: &RowKey) -> Option<ExtentId> {
    let bytes: [u8; 16] = row.sort.as_ref().try_into().ok()?;
    Some(ExtentId::from_bytes(bytes))
}

/// How many chunks an extent of `length` bytes has.
#[must_use]
pub(super) fn chunks_of(length: u64) -> u32 {
    u32::try_from(length.div_ceil(CHUNK_BYTES as u64)).unwrap_or(u32::MAX)
}

/// The chunk that byte `at` lies in.
#[must_use]
pub(super) fn chunk_at(at: u64) -> u32 {
    u32::try_from(at / CHUNK_BYTES as u64).unwrap_or(u32::MAX)
}
