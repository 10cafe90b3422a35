//! Replicated tables and the coordinator (Dynamo §4.5, §4.6).
//!
//! # Invariants
//! 1. An acknowledged write is on stable storage on the owners that its level asks for (I1).
//! 2. Absence is answered by a quorum only; "cannot read" is never "not there" (I9).
//! 3. Replicas that have merged the same writes, in whatever order, hold the same record (I3).
//!
//! # What can go wrong, and what answers it
//! - *An owner dies after it took a write, before it answered.* Its answer counts as uncertain;
//!   the write is acknowledged only if others make the quorum, else it is `unknown`.
//! - *Two gateways write one key at once.* Owners mint, each under its own lock, so both writes
//!   have dots and stamps; every replica keeps the greater stamp, whatever the order of arrival.
//! - *A gateway's clock is behind.* The minting owner stamps above the record that it holds.
//! - *An owner was down and comes back stale.* A read quorum meets the write quorum in an owner
//!   that has the newer record; the merge wins and repairs the stale one.
//! - *A replica's row is damaged.* It answers `Damaged`, which counts as no answer, and mends it
//!   with another owner's copy.
//! - *A late message of an older layout arrives.* Requests carry the layout's version.
//!
//! Per-key ballots are not built yet. An owner that missed a write is brought up by its hint, by
//! reads of that key, and by anti-entropy.

mod antientropy;
mod companion;
mod coordinator;
mod damaged;
mod error;
mod floors;
mod held;
mod hints;
mod level;
mod message;
mod plan;
mod replica;
mod scan;
mod site;
mod slice_walk;
mod stored;
mod table;
mod tally;
mod unsettled;
mod version;

pub use antientropy::{
    Command, CopiesInUse, Exchanged, Inventory, NodeRepair, PartitionRedundancy, Proof, Proven,
    REPAIR_SERVICE, RedundancySummary, Repair, RepairSettings,
};
pub use companion::{BytesHere, Change, Companion, Guard, Incoming, Purpose, RowWrite, Verdict};
pub use coordinator::{
    Coordinator, NewWrite, OwnStanding, Patience, ReadReceipt, ScanEntry, ScanPage, ScanQuery,
    Standing, WriteReceipt,
};
pub use error::ReplicationError;
pub use floors::{Floor, Floors};
pub use held::HeldRow;
pub use hints::{BytesPusher, HintFigures, HintLedger, HintLimits, Hints};
pub use level::{Level, Outcome, ParseLevelError, Served};
pub use message::{COORDINATE_SERVICE, REPLICA_SERVICE, ReplicaStanding, Want};
pub use plan::{PeerView, ReplicaPlan};
pub use replica::{HYBRID_TIME_KEY, Replica, Watcher};
pub use site::{CLOCK_DRIFT_MAX, Site};
pub use stored::leaf_key;
pub use table::{InlineFacts, Record, RowKey, TableId, Tables};
pub use tally::{Decision, Digest, ReadDecision, ReadTally, WriteAnswer, WriteTally};
pub use version::{Order, Version};

#[cfg(test)]
#[path = "../../tests/fuzz/replication.rs"]
mod fuzz;
