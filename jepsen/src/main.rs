//! Partition tests on real processes.

fn main() {}
