//! One linearizable register per key, without a leader: CASPaxos over the owners of a partition
//! (Rystsov, "CASPaxos: Replicated State Machines without logs", 2018). Pure.
//!
//! A [`Proposer`] runs one operation at its coordinator, an [`Acceptor`] is one owner's vote on
//! one key. Any node coordinates; there are no leases, so no clock can break anything. What is
//! decided lies in [`rules`], one function each, named after the rule that it keeps.
//!
//! # Invariants
//! Each is checked in every state of `tests/consensus_model/`, and each has a planted mutation
//! there that breaks it; what the model covers and what not is in `docs/adr/0011-strong-rounds.md`.
//! 1. An acceptor's promise and acceptance never decrease, across restarts too (P1).
//! 2. There is one value per ballot (P2), and what is chosen forms a chain: each chosen value is
//!    the one before it, or made from it, or a blind write (P3).
//! 3. An answer shows durable state only (P5).
//! 4. What is acknowledged is never lost; what was answered as not begun never takes effect (P8);
//!    nothing takes effect twice (P9); every history of a key is linearizable.
//! 5. State is erased only below a fence on all owners (P10).
//! 6. During a layout change whatever is chosen is known to a majority of the old owners and of
//!    the new (P6).

mod acceptor;
mod ballot;
mod cell;
mod electorate;
mod message;
mod operation;
mod patience;
mod promises;
mod proposer;
pub mod rules;
mod trail;

pub use acceptor::{Accepted, Acceptor, Effect, Erasure, Ground, Memory};
pub use ballot::{Ballot, Mint};
pub use cell::{Cell, Content, Lineage};
pub use electorate::{Electorate, ElectorateNumber};
pub use message::{Answer, Asked, Declined, Past, Refusal, Request, Standing, Why};
pub use operation::{Change, Decision, Grant, Intent, Outcome, Seen};
pub use patience::Patience;
pub use proposer::{Ballots, Earlier, Opening, Proposer, Step};
pub use trail::{Adopted, Inquiry, Recollection, Testimony, Trail};
