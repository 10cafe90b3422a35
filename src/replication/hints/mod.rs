//! Writes kept for owners that are away, and their delivery (Dynamo §4.6).
//!
//! # Invariants
//! 1. A hint is durable in the batch of the write that it stands for.
//! 2. It is deleted only after its owner acknowledged what is kept, or after all other owners of
//!    the row did; never because it is old, or too many. An owner that is being rebuilt does not
//!    count.
//! 3. Beyond its limits a node keeps no *new* hints.
//!
//! # What can go wrong, and what answers it
//! - *The node that keeps a hint dies and comes back.* Hints are rows; the next look finds them.
//! - *The owner dies while it is given its rows.* Nothing is deleted without its answer; merging
//!   twice is merging once.
//! - *A later write of the row comes while it is delivered.* The hint goes only if the row still
//!   holds what was delivered; otherwise it is delivered again.
//! - *Two owners of a row are away.* Each has a hint of its own; the row goes with the last.
//! - *A backlog of days meets an owner that serves clients.* Batches go one after the other, and
//!   the owner says how long to pause before the next.
//! - *The owner never comes back.* What is kept for too long is brought to the other owners;
//!   all of them are proof enough.
//! - *A row is damaged here.* It is not delivered and its hint stays: a guest copy was one of W.

mod delivery;
mod ledger;
mod row;

pub use delivery::{BytesPusher, Hints};
pub use ledger::{HintFigures, HintLedger, HintLimits};
pub(crate) use row::{HintName, HintRow};
