//! Which write supersedes which (Dynamo §4.4). Pure: wall time comes in as an argument.
//!
//! # Invariants
//! 1. A [`Dot`] names one write for ever: an actor is a node in one boot and one stint.
//! 2. A [`VersionVector`] entry covers only writes that its holder has seen (Riak's kv679).
//! 3. Stamps of one [`HybridClock`] strictly grow, across restarts too, and a far peer cannot
//!    push it more than the allowed drift ahead of the wall clock.
//! 4. Merging vectors is commutative, associative and idempotent.

mod dot;
mod hybrid_clock;
mod vector;

pub use dot::{Actor, Dot};
pub use hybrid_clock::{ClockAhead, HybridClock, HybridTime, Stamp};
pub use vector::{Ancestry, VersionVector};
