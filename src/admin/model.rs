//! What the admin API says of the cluster.

use serde::{Deserialize, Serialize};

use crate::membership::Liveness;
use crate::replication::Level;
use crate::types::{ByteCount, ClusterId, NodeId, Zone};

use super::repair::Redundancy;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HealthLevel {
    /// Nothing to do.
    #[serde(rename = "HEALTH_OK")]
    Ok,
    /// Everything is served; something needs a person, though not at once.
    #[serde(rename = "HEALTH_WARN")]
    Warn,
    /// Something cannot be read or written.
    #[serde(rename = "HEALTH_CRITICAL")]
    Critical,
}

impl HealthLevel {
    /// The word that begins the health line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "HEALTH_OK",
            Self::Warn => "HEALTH_WARN",
            Self::Critical => "HEALTH_CRITICAL",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A stable name, for instance `NODE_DOWN`.
    pub code: String,
    /// How bad it is.
    pub level: HealthLevel,
    /// What, and who.
    pub summary: String,
    /// What to type or do.
    pub next: String,
}

/// The cluster's health in one line, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The worst of the findings.
    pub level: HealthLevel,
    /// The line without its first word, for instance `3/3 nodes up · layout v1`.
    pub summary: String,
    /// What is wrong, worst first; empty when nothing is.
    pub findings: Vec<Finding>,
}

/// One node, as `status` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The operator's name for it.
    pub name: String,
    /// Its id.
    pub node_id: NodeId,
    /// Its failure domain.
    pub zone: Zone,
    /// Where peers reach it.
    pub address: String,
    /// What it may hold; 0 for a gateway.
    pub capacity: ByteCount,
    /// Bytes that it holds, if it said so.
    pub used: Option<ByteCount>,
    /// Bytes free on its disk, if it said so.
    pub free: Option<ByteCount>,
    /// Whether it seems alive to the node that answered.
    pub liveness: Liveness,
    /// Its part of the ring, 0 to 1; `None` before the first layout.
    pub owns: Option<f64>,
    /// The layout version that it knows; 0 for none.
    pub layout_version: u64,
    /// Its release.
    pub software_version: String,
    /// Seconds since it started, if it said so.
    pub uptime_seconds: Option<u64>,
    /// How far its wall clock is ahead of the answering node's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// How far it has come if its data folder was emptied and is being rebuilt.
    #[serde(default)]
    pub rebuilding: Option<Rebuilt>,
}

/// How far a node has come that lost its data folder: until the end it counts for no quorum of
/// the partitions that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// Partitions that it holds again.
    pub done: u32,
    /// Partitions that it owns.
    pub total: u32,
}

/// The answer to `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The health line.
    pub health: Health,
    /// The cluster's id; `None` before `cluster init`.
    pub cluster_id: Option<ClusterId>,
    /// The layout in force; 0 before `cluster init`.
    pub layout_version: u64,
    /// Partitions of the ring; 0 before `cluster init`.
    pub partitions: u32,
    /// The level of buckets that are created without one.
    pub default_level: Level,
    /// How many copies are proven; `None` before `cluster init`.
    #[serde(default)]
    pub redundancy: Option<Redundancy>,
    /// The node that answered.
    pub answered_by: NodeId,
    /// All nodes, by zone and name.
    pub nodes: Vec<NodeStatus>,
    /// The next step to type, if there is an obvious one.
    pub next: Option<String>,
}

impl ClusterStatus {
    /// How many nodes seem alive.
    #[must_use]
    pub fn nodes_up(&self) -> usize {
        self.nodes.iter().filter(|node| node.liveness == Liveness::Up).count()
    }
}

/// A node's part of the ring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RingNode {
    /// The operator's name for it.
    pub name: String,
    /// Its id.
    pub node_id: NodeId,
    /// Its failure domain.
    pub zone: Zone,
    /// What it may hold.
    pub capacity: ByteCount,
    /// Partitions that it is among the first n owners of.
    pub partitions: u32,
    /// Its part of all copies, 0 to 1.
    pub owns: f64,
    /// The part that its capacity asks for, 0 to 1.
    pub fair: f64,
    /// With how many other nodes it shares a partition: how many help to rebuild it.
    pub scatter_width: u32,
}

/// The answer to `ring`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RingReport {
    /// The layout that this describes.
    pub layout_version: u64,
    /// Partitions of the ring.
    pub partitions: u32,
    /// Copies of each record that the figures are for.
    pub n: u8,
    /// The greatest owns / fair of any node: 1 is perfect.
    pub balance: f64,
    /// Partitions whose copies are in as many zones as there can be.
    pub zone_spread: u32,
    /// All nodes with capacity, by zone and name.
    pub nodes: Vec<RingNode>,
}

/// What a replica is to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Among the first n of the preference list.
    Owner,
    /// Further down: stands in for an owner that is down.
    Fallback,
}

/// What a replica has under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holding {
    /// A live object.
    Object,
    /// A tombstone.
    Deleted,
    /// Nothing.
    Nothing,
    /// It did not answer, so nobody knows.
    Unknown,
}

/// One replica of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The operator's name for the node.
    pub name: String,
    /// Its id.
    pub node_id: NodeId,
    /// Its failure domain.
    pub zone: Zone,
    /// Owner or fallback.
    pub role: Role,
    /// Whether it seems alive.
    pub liveness: Liveness,
    /// What it has.
    pub holding: Holding,
    /// The stamp of what it has, as text that sorts by time.
    pub stamp: Option<String>,
}

/// The answer to `locate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// Where it lies on the ring, in hexadecimal.
    pub token: String,
    /// The slice of the ring that the token is in.
    pub partition: u32,
    /// The layout that says so.
    pub layout_version: u64,
    /// Owners first, then fallbacks, in preference order.
    pub replicas: Vec<Replica>,
}

/// What one node keeps for one owner that was away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHints {
    /// The node that keeps it.
    pub kept_by: String,
    /// Whom it is kept for.
    pub kept_for: String,
    /// Whether that node seems alive to the node that answered.
    pub liveness: Liveness,
    /// Rows.
    pub rows: u64,
    /// Their bytes, without those of extents.
    pub bytes: ByteCount,
    /// Seconds since the oldest of their writes began.
    pub oldest_seconds: Option<u64>,
}

/// The answer to `hints`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintsReport {
    /// What is kept, by keeper and owner.
    pub hints: Vec<KeptHints>,
    /// Nodes that did not say what they keep.
    pub unheard: Vec<String>,
}
