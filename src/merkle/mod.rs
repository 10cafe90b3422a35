//! What replicas compare instead of their records: partition trees (Dynamo §4.7). Pure.
//!
//! # Invariants
//! 1. A leaf is the sum of its rows' elements, so the order in which rows came does not matter
//!    and a change costs one addition.
//! 2. Replicas that hold the same rows have the same leaves; a row that differs changes its leaf
//!    but for one case in 2^128.

mod leaf;
mod tree;

pub use leaf::{Leaf, RowHash};
pub use tree::{Fingerprint, LeafSet, LeafSums, Root};

#[cfg(test)]
#[path = "../../tests/fuzz/merkle.rs"]
mod fuzz;
