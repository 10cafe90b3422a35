//! Faults as data: a schedule is made from a seed, printed, told to the history, and done.
//!
//! # Invariants
//! 1. The same seed, kinds, nodes and span make the same schedule.
//! 2. What damages stored data strikes one node of a run only, and always the same: what has W
//!    copies then has W − 1 whole ones.
//! 3. However faults overlap, the end of the last one on a node or a link heals it.

mod act;
mod damage;
mod fault;
mod mix;
mod schedule;

pub use act::Nemesis;
pub use fault::{Fault, Kind};
pub use mix::Mix;
pub use schedule::{Event, Schedule};
