//! Composition: configuration, wiring, start, orderly stop.
//!
//! # Invariants
//! 1. Every seam is chosen here, once, at the start, and handed down.
//! 2. A node answers nothing before its identity, its tables and its segments are recovered.

pub mod config;

mod control;
mod figures;
mod findings;
mod handler;
mod history;
mod kept;
mod levels;
mod peers;
mod rebuild;
mod redundancy;
mod rejoin;
mod serve;
mod start;
mod status;

pub use serve::serve;
pub use start::{Foundation, Node, NodeSettings, Seams, StartError};
