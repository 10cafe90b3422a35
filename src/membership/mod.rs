//! Who is there, who is alive, and the layout in force (Dynamo §4.8).
//!
//! # Invariants
//! 1. Liveness is soft: gossip may be wrong, and nothing but speed depends on it.
//! 2. Ownership is hard: it comes from the decided [`Layout`](crate::ring::Layout) alone.
//! 3. A node that has a cluster id refuses another.

mod chitchat_gossip;
mod gossip;

pub use chitchat_gossip::{ChitchatGossip, GossipConfig, GossipError};
pub use gossip::{Gossip, Liveness, PeerState};
