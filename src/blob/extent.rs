//! Extents: what heads say of them and what their owners store of them.

use serde::{Deserialize, Serialize};

use crate::causality::HybridTime;
use crate::codec::Format;
use crate::types::ExtentId;

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
    /// When its writer began: an extent of a dead writer is told from one that is being written.
    #[serde(rename = "b")]
    pub begun: HybridTime,
}

impl Format for ExtentRecord {
    const NAME: &'static str = "extent record";
    const NUMBER: u16 = 1;
}
