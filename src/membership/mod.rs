//! Who is there, who is alive, and the layout in force (Dynamo §4.8).
//!
//! # Invariants
//! 1. Liveness is soft: gossip may be wrong, and nothing but speed depends on it.
//! 2. Ownership is hard: it comes from the decided [`Layout`](crate::ring::Layout) alone.
//! 3. A node that has a cluster id refuses another.
//! 4. A layout is in force on a node only after it is durable there.

mod bootstrap;
mod chitchat_gossip;
mod gossip;
mod identity;
mod layout_holder;

pub use bootstrap::{
    BootstrapError, MEMBERSHIP_SERVICE, Membership, MembershipSeams, facts, own_facts,
};
pub use chitchat_gossip::{ChitchatGossip, GossipConfig, GossipError};
pub use gossip::{Gossip, Liveness, PeerState};
pub use identity::{IDENTITY_FILE, Identity};
pub use layout_holder::LayoutHolder;
