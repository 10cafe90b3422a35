//! Deterministic simulation: the real node on simulated seams.
//!
//! # Invariants
//! 1. A run is a function of its seed: equal seeds give equal [`trace::Trace`] hashes, in one
//!    process and in another (`tests/determinism.rs`).
//! 2. Time is tokio's paused clock: it moves only when every task waits, so an hour of a quiet
//!    cluster costs milliseconds.
//! 3. Nothing here uses an unbiased `select!`, the order of a hash map, or a thread: each of
//!    them was measured to break invariant 1.
//! 4. What a twin refuses or loses, the real seam may refuse or lose: errors are those that
//!    `quorate::net::PeerError` documents, no more.

pub mod clock;
pub mod cluster;
pub mod coverage;
pub mod disk;
pub mod entropy;
pub mod faults;
pub mod gossip;
pub mod meta;
pub mod models;
pub mod mutations;
pub mod network;
pub mod power;
pub mod recording;
pub mod scenario;
pub mod shrink;
pub mod tasks;
pub mod trace;
pub mod world;
