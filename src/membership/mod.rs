//! Who is there, who is alive, and the layout in force (Dynamo §4.8).
//!
//! # Invariants
//! 1. Liveness is soft: gossip may be wrong, and nothing but speed depends on it.
//! 2. Ownership is hard: it comes from the decided [`Layout`](crate::ring::Layout) alone.
//! 3. A node that has a cluster id refuses another.
//! 4. A layout is in force on a node only after it is durable there.
//! 5. A data folder never speaks for what it has lost: an emptied one re-enters as *rebuilding*,
//!    one that is older than its peers remember does not go on.

mod address_book;
mod bootstrap;
mod chitchat_gossip;
mod clocks;
mod gossip;
mod identity;
mod layout_holder;
mod lives;
mod memory;
mod rebuilding;
mod rejoin;
mod rounds;

pub use address_book::{Acquaintance, AddressBook};
pub use bootstrap::{
    BootstrapError, MEMBERSHIP_SERVICE, Membership, MembershipSeams, facts, own_facts,
};
pub use chitchat_gossip::{ChitchatGossip, GossipConfig, GossipError};
pub use clocks::{CLOCK_OFFSET_MAX, ClockFault, Clocks};
pub use gossip::{Gossip, Liveness, PeerState};
pub use identity::{IDENTITY_FILE, Identity};
pub use layout_holder::LayoutHolder;
pub use lives::{Awakening, Folder, Remembered};
pub use memory::Memory;
pub use rebuilding::{Progress, Rebuilding};
pub use rejoin::{FormerMember, Past, Recollection, past_of, who_was};

#[cfg(test)]
#[path = "../../tests/fuzz/membership.rs"]
mod fuzz;
