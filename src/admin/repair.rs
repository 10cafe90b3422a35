//! What the admin API is asked about repair, and what it says of it.

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// What repair is told: `POST /v1/repair`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepairAction {
    /// Prove now.
    Start,
    /// Begin no more rounds.
    Pause,
    /// Go on.
    Resume,
}

/// Tells repair something: `POST /v1/repair`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairRequest {
    /// What.
    pub action: RepairAction,
    /// Which partition to prove; all of them if not given.
    #[serde(default)]
    pub partition: Option<u32>,
}

/// How many copies are proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redundancy {
    /// Partitions of the ring.
    pub partitions: u32,
    /// Partitions with a fresh proof that all their copies agree and are whole.
    pub proven: u32,
    /// Partitions that were never proven in full.
    pub never_proven: u32,
    /// Partitions whose last proof is about fewer copies than there should be.
    pub short: u32,
    /// Rows whose bytes are missing at some owner.
    pub rows_missing: u64,
    /// The age of the oldest full proof; `null` if some partition has none.
    pub oldest_proof_seconds: Option<u64>,
    /// How old a proof may be to count as fresh.
    pub fresh_seconds: u64,
}

/// A run that an operator started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairRun {
    /// When: milliseconds since 1970 UTC.
    pub started_unix_ms: u64,
    /// How long ago.
    pub elapsed_seconds: u64,
    /// Partitions proven since then, be it with owners away.
    pub done: u32,
    /// How long the rest takes at the same rate; `null` if nothing is done yet.
    pub left_seconds: Option<u64>,
}

/// How repair goes on one node. Counters are since its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairNode {
    /// The operator's name for it.
    pub name: String,
    /// Its id.
    pub node_id: NodeId,
    /// Whether it was told to pause.
    pub paused: bool,
    /// Whether its trees are still being built from its rows.
    pub building: bool,
    /// Rounds under way.
    pub rounds_under_way: u64,
    /// Rows that exchanges brought it.
    pub rows_pulled: u64,
    /// Rows that it gave to others in exchanges.
    pub rows_pushed: u64,
    /// Tombstones that it purged.
    pub tombstones_purged: u64,
    /// Sums of leaves that were found wrong and corrected.
    pub leaves_corrected: u64,
    /// Bytes of repair messages that it sent.
    pub bytes_sent: u64,
    /// Why tombstones are not purged, if they are not.
    pub purge_blocked: Option<String>,
}

/// A partition that is not proven in full and freshly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproven {
    /// Its number.
    pub partition: u32,
    /// Copies that the last proof is about.
    pub copies: u8,
    /// Copies that there should be.
    pub wanted: u8,
    /// The age of the last full proof; `null` if there is none.
    pub full_proof_seconds: Option<u64>,
    /// Rows whose bytes are missing at some owner.
    pub rows_missing: u64,
}

/// The answer to `GET` and `POST /v1/repair`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairReport {
    /// How many copies are proven.
    pub redundancy: Redundancy,
    /// How often each partition is proven.
    pub interval_seconds: u64,
    /// The last run that an operator started, if there was one.
    pub run: Option<RepairRun>,
    /// How repair goes on the nodes that answered, by name.
    pub nodes: Vec<RepairNode>,
    /// Members that did not answer.
    pub silent: Vec<String>,
    /// Partitions that are not proven, the first hundred.
    pub unproven: Vec<Unproven>,
}
