//! What owners say to each other when they compare their copies.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use crate::causality::HybridTime;
use crate::merkle::Root;
use crate::net::ServiceId;
use crate::replication::message::{HandedRow, ReplicaStanding};
use crate::replication::table::TableId;
use crate::ring::Partition;
use crate::types::NodeId;

use super::proof::Proof;

/// Requests between owners that compare their copies.
pub const REPAIR_SERVICE: ServiceId = ServiceId(9);

/// One tree of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct TreeName {
    #[serde(rename = "t")]
    pub(crate) table: TableId,
    /// Copies of its rows that there should be.
    #[serde(rename = "n")]
    pub(crate) n: u8,
}

/// The root of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeRoot {
    #[serde(rename = "t")]
    pub(crate) tree: TreeName,
    #[serde(rename = "r")]
    pub(crate) root: Root,
}

/// A request, always about one partition of the sender's layout.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RepairRequest {
    #[serde(rename = "l")]
    pub(crate) layout: u64,
    #[serde(rename = "p")]
    pub(crate) partition: Partition,
    /// The purge floor of the sender's copy: what it holds below was never purged.
    #[serde(rename = "f", default)]
    pub(crate) floor: HybridTime,
    /// Whether the sender's copy counts.
    #[serde(rename = "s", default = "counted")]
    pub(crate) standing: ReplicaStanding,
    #[serde(rename = "a")]
    pub(crate) ask: Ask,
}

/// Of a sender that does not say.
const fn counted() -> ReplicaStanding {
    ReplicaStanding::Counted
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Which trees have another root than these; trees without rows are left out.
    Compare { roots: Vec<TreeRoot> },
    /// The leaves of a tree.
    Leaves { tree: TreeName },
    /// The rows of these leaves from a key on.
    Keys { tree: TreeName, leaves: ByteBuf, from: Bytes },
    /// The records of these rows, as many as one answer holds.
    Records { tree: TreeName, keys: Vec<Bytes> },
    /// Merge these records, with their inline bytes in the attachment.
    Push { rows: Vec<HandedRow> },
    /// Erase these rows, whose stamps are not above the sender's floor and which it has not.
    Outlived { tree: TreeName, rows: Vec<(Bytes, ByteArray<16>)> },
    /// Count this tree again: its leaves differ from the sender's and its rows do not.
    Recount { tree: TreeName },
    /// The exchange is over; `complete` if each side now has what the other had.
    Finish { complete: bool },
    /// Exchange with that peer and tell how it went.
    Meet { peer: NodeId },
    /// Remember this proof.
    Proven { proof: Proof },
    /// Refuse client's writes not above this floor, durably, and tell of the oldest hint.
    Fence { fence: HybridTime },
    /// Erase tombstones not above this floor, and let nothing of that age in again.
    Purge { purge: HybridTime },
    /// Look at the partitions that are shared with the sender soon: it was away.
    Returned,
    /// The owners of the partition may have parted: prove it soon.
    Hurry,
    /// What is known of all partitions.
    Inventory,
    /// The operator's word to this node.
    Control { command: Command },
}

/// What an operator may tell the repair of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Prove this partition now, or all of them.
    Start {
        /// Which; all if not given.
        partition: Option<Partition>,
        /// When this was said.
        since: HybridTime,
    },
    /// Begin no more rounds.
    Pause,
    /// Go on.
    Resume,
    /// Nothing: only tell how it goes.
    Tell,
}

/// How an exchange went, for the node that drives the round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PairReport {
    /// Whether each side now has what the other had when it began.
    pub(crate) complete: bool,
    /// Rows of the asking side whose bytes are missing there.
    pub(crate) missing_here: u64,
    /// Rows of the other side whose bytes are missing there.
    pub(crate) missing_there: u64,
    /// Rows that came.
    pub(crate) pulled: u64,
    /// Rows that went.
    pub(crate) pushed: u64,
    /// Rows that were erased at either side because they had been purged.
    pub(crate) erased: u64,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum RepairReply {
    /// These trees differ. `missing` rows of the partition lack bytes here.
    Compared {
        floor: HybridTime,
        missing: u64,
        differing: Vec<TreeName>,
        #[serde(default = "counted")]
        standing: ReplicaStanding,
    },
    /// The leaves ride as the attachment.
    Leaves,
    /// The rows ride as the attachment; `next` is the first key that was not looked at.
    Keys { next: Option<Bytes> },
    /// The records of the first `looked` keys, with their inline bytes in the attachment; those
    /// that are gone since are left out, and so are `damaged` ones.
    Records { rows: Vec<HandedRow>, looked: u32, damaged: u32 },
    /// For each row, whether it is durable here; and how long the sender should pause.
    Pushed { durable: Vec<bool>, pause_millis: u32 },
    /// So many rows were erased.
    Erased { rows: u64 },
    /// Noted; so many rows of the partition lack bytes here.
    Finished { missing: u64 },
    /// How the exchange with the third went.
    Met { report: PairReport },
    /// The fence stands; the oldest write that is kept here for somebody else.
    Fenced { oldest: Option<HybridTime> },
    /// Done.
    Done,
    /// What this node knows; see [`super::inventory`].
    Inventory { known: super::inventory::Known },
    /// This node is being rebuilt in the partition.
    Rebuilding,
    /// Another layout is in force here.
    StaleLayout { version: u64 },
    /// Not now, or not like this.
    Refused { reason: String },
}
