//! Deterministic simulation of a cluster.

fn main() {}
