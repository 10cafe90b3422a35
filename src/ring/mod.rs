//! Who owns which slice of the key space (Dynamo §4.2, §4.3, §6.2). Pure and deterministic.
//!
//! A routing key hashes to a [`Token`], the token's top bits name a [`Partition`], and the
//! [`Layout`] holds one [`PreferenceList`] per partition: owners first, fallbacks after them.
//! A layout is computed once, by the administrator's node, then shipped and never recomputed.
//!
//! # Invariants
//! 1. The nodes of a preference list are distinct, and each has capacity: gateways own nothing
//!    (`ring::properties`).
//! 2. Zones before capacity: the first `n` nodes of a list take at most `L` nodes of a zone, and
//!    at least `min(nodes of the zone, L - 1)`, where `L` is the least number with
//!    `sum over zones of min(nodes of the zone, L) >= n`. For three copies: three zones where
//!    there are three, both zones where there are two.
//! 3. Capacity within that: a node's fair share is its capacity's part of all copies, clipped to
//!    what invariants 1 and 2 permit. At three copies no node holds more than
//!    `ceil(1.05 * fair)` or fewer than `floor(0.95 * fair)` partitions.
//! 4. The same members in any order give the same layout, and equal layouts have equal digests.
//! 5. Bytes that are no sound layout are refused; none make a node panic.

mod error;
mod layout;
mod member;
mod movement;
mod owners;
mod placement;
mod preference;
mod repair;
mod report;
mod roster;
mod share;
mod stored;
mod tail;
mod token;
mod vnodes;

#[cfg(test)]
mod properties;

pub use error::LayoutError;
pub use layout::{Layout, LayoutVersion, MEMBERS_MAX};
pub use member::{Capacity, Member};
pub use movement::Movement;
pub use preference::{LIST_LENGTH_MAX, PreferenceList};
pub use report::{CopiesReport, LayoutReport, NodeReport};
pub use token::{Partition, PartitionCount, Token};

#[cfg(test)]
#[path = "../../tests/fuzz/ring.rs"]
mod fuzz;
