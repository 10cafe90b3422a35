//! Deterministic twins of the seams, and the simulation of a cluster.

pub mod disk;
pub mod meta;
pub mod power;
