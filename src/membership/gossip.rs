//! The seam to gossip: small facts about peers, and whether they seem alive.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::sync::watch;

use crate::types::NodeId;

/// Whether a peer seems alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    /// Heard from lately.
    Up,
    /// Not heard from for longer than the failure detector allows.
    Down,
}

/// What gossip knows of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Its id.
    pub node: NodeId,
    /// How often it had been started: a greater boot replaces a smaller one.
    pub boot: u32,
    /// Where peers reach it.
    pub peer_address: SocketAddr,
    /// Whether it seems alive.
    pub liveness: Liveness,
    /// Facts it publishes of itself (zone, version, layout version, disk, clock), small.
    pub facts: BTreeMap<String, String>,
}

/// Gossip among nodes: `chitchat` over QUIC, or a seeded double in the simulation.
pub trait Gossip: Send + Sync + 'static {
    /// Sets a fact about this node. Facts are small (under 256 bytes) and change seldom.
    fn publish(&self, fact: &str, value: String);

    /// All nodes known, this one included, in id order.
    fn peers(&self) -> Vec<PeerState>;

    /// Counts up whenever a node comes, goes or changes a fact.
    fn changes(&self) -> watch::Receiver<u64>;
}
