//! The only door to time, randomness and task starting.
//!
//! # Invariants
//! 1. Nothing above this folder reads a clock, draws randomness or starts a task but through
//!    these seams, so that the simulation runs the real code (`clippy.toml` denies the rest).
//! 2. What a node does is a function of its inputs, its clock and its entropy.
//! 3. Time that is compared is [`Monotonic`]; [`UnixMillis`] feeds stamps and is shown to people.

mod clock;
mod entropy;
pub mod metrics;
pub mod mutation;
pub mod probe;
mod real;
mod tasks;

pub use clock::{Clock, Monotonic, UnixMillis, deadline_in, timeout_at};
pub use entropy::Entropy;
pub use real::{OsClock, OsEntropy, TokioTasks};
pub use tasks::{TaskHandle, Tasks, blocking};
