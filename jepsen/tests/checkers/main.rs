//! The checkers find what is wrong with a history, and nothing wrong with one that a correct
//! store may leave: hand-written cases with known verdicts, histories of a small model of a store
//! from seeds, the same with one thing changed in them, and for linearizability another judge.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

mod brute;
mod last_write;
mod linearizable;
mod listing;
mod model;
mod mutation;
mod progress;
mod regular;
mod script;
mod set;
mod siblings;
mod suite;
