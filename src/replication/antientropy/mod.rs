//! Merkle anti-entropy: owners compare their copies, exchange what differs, and prove that they
//! agree (Dynamo §4.7).
//!
//! # Invariants
//! 1. A partition counts as proven at a time only if every two of its owners completed an
//!    exchange that began after it, in both directions, for every table, bytes included.
//! 2. An exchange merges records as any other write does; it erases only what its peer is proven
//!    to have purged.
//! 3. Two owners in sync exchange one small message each way, whatever they hold.
//! 4. The leaves of a tree are the sums of its rows at every moment: both change in one batch.
//!    Where they are found not to be, the difference is added, which stays right whatever is
//!    written meanwhile.
//!
//! # What can go wrong, and what answers it
//! - *Rows change while they are compared.* A proof speaks of its beginning: each side read its
//!   leaves after that, and what came later is a matter of later rounds.
//! - *An owner dies in the middle.* Every record that was merged stays merged; the exchange is
//!   not complete, the round proves fewer copies, and is tried again after a pause that grows.
//! - *Leaves differ and rows do not.* Some sum is wrong: both sides count theirs again.
//! - *Both sides' leaves are equal and wrong.* Each node counts its leaves again after a start.
//! - *A disk comes from a release without leaves.* A marker is missing: all leaves are counted
//!   before the first exchange, which is refused until then.
//! - *A row's bytes are missing at both owners.* Their roots agree; each counts such rows beside
//!   its trees, and a partition with any is not proven.
//! - *A row is damaged here.* It is left out and the exchange is not complete; the peer's copy
//!   replaces it where their digests differ.
//! - *Millions of rows differ.* Keys come in pages, records in batches of a mebibyte, each
//!   followed by a pause as long as the busier side asks for.
//! - *Two nodes think that they drive a round.* Both do; merging twice is merging once, and of
//!   two proofs the later counts.
//! - *The layout changes in the middle.* Messages carry its version; the round ends.
//! - *A peer sends rows of another partition, or garbage.* They are refused; each record is
//!   checked as a client's is.

mod agenda;
mod exchange;
mod figures;
mod inventory;
mod local;
mod message;
mod pair;
mod proof;
mod purge;
mod recount;
mod roots;
mod round;
mod scheduler;
mod serve;
mod service;

pub use inventory::{Inventory, NodeRepair, PartitionRedundancy, RedundancySummary};
pub use message::{Command, REPAIR_SERVICE};
pub use proof::{Proof, Proven};
pub use service::{CopiesInUse, Exchanged, Repair, RepairSettings};

#[cfg(test)]
#[path = "../../../tests/fuzz/antientropy.rs"]
mod fuzz;
