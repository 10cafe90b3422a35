//! Which write supersedes which (Dynamo §4.4). Pure: wall time comes in as an argument.
//!
//! # Invariants
//! 1. A [`Dot`] names one write for ever: an actor is a node in one boot and one stint.
//! 2. A [`VersionVector`] entry covers only writes that its holder has seen (Riak's kv679).
//! 3. Stamps of one [`HybridClock`] strictly grow, across restarts too, and a far peer cannot
//!    push it more than the allowed drift ahead of the wall clock.
//! 4. Merging vectors, and sets of siblings, is commutative, associative and idempotent.
//! 5. A dot is minted once: a node that has lost its record of a key mints as another actor.
//! 6. A context that a client brings is one that was given out for that very key, or is refused.

mod context;
mod dot;
mod hybrid_clock;
mod siblings;
mod stints;
mod vector;

#[cfg(test)]
mod histories;

pub use context::{CONTEXT_TEXT_MAX, CausalContext, ContextTooLong, InvalidContext};
pub use dot::{Actor, Dot};
pub use hybrid_clock::{ClockAhead, HybridClock, HybridTime, Stamp};
pub use siblings::Siblings;
pub use stints::Stints;
pub use vector::{Ancestry, VersionVector};

#[cfg(test)]
#[path = "../../tests/fuzz/causality.rs"]
mod fuzz;
