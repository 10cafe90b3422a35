//! Tests of real `quorate` processes: load, faults, and a verdict on what was acknowledged.
//!
//! # Invariants
//! 1. Only processes that a cluster here started are ever signalled, by their own id, and all
//!    of them are ended when it is dropped.
//! 2. Every HTTP attempt is one operation of the history: nothing is sent twice in silence.
//! 3. An outcome that is not known stays possible for ever; it is never taken for a failure.

pub mod arena;
pub mod checker;
pub mod client;
pub mod cluster;
pub mod content;
pub mod expectation;
pub mod export;
pub mod folder;
pub mod history;
pub mod inspect;
pub mod load;
pub mod matrix;
pub mod nemesis;
pub mod place;
pub mod report;
pub mod run;
pub mod scenario;
pub mod sign;
pub mod split_sides;
pub mod workload;
