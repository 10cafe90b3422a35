//! Faults as data: a schedule is made from a seed, printed, told to the history, and done.
//!
//! # Invariants
//! 1. The same seed, kinds, nodes and span make the same schedule.
//! 2. What damages stored data strikes one node of a run only, and always the same: what has W
//!    copies then has W − 1 whole ones.
//! 3. What a fault did is looked at, not supposed: packets that were dropped, bits that differ,
//!    processes that the kernel says are stopped, clocks as other nodes read them.
//! 4. However faults overlap, the end of the last one on a node or a link heals it.

mod act;
mod damage;
mod effect;
mod fault;
mod mix;
mod schedule;

pub use act::{Done, Nemesis};
pub use effect::{Effect, tell};
pub use fault::{Fault, Kind};
pub use mix::Mix;
pub use schedule::{Event, Schedule};
