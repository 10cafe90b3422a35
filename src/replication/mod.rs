//! Replicated tables and the coordinator (Dynamo §4.5, §4.6).

mod level;

pub use level::{Level, Outcome, ParseLevelError, Served};
