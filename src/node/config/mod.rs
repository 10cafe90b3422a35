//! What an operator says: a TOML file, overridden by the environment.
//!
//! # Invariants
//! 1. A key that nothing knows is refused, with the nearest known name: it is never ignored.
//! 2. `config/quorate.toml` documents every key with its default (a test compares).
//! 3. A configuration that passed [`Config::check`] does not fail later for what it says.
//! 4. Secrets never show in `Debug` output or errors.
//!
//! Each section is handed to the folder that it is for; none sees the whole.

mod check;
mod dev;
mod keys;
mod load;
mod sections;
mod values;

#[cfg(test)]
mod tests;

pub use check::Fault;
pub use dev::{DEV_DATA_FOLDER, DevCredential, DevError};
pub use load::ConfigError;
pub use sections::{Admin, Cluster, Config, Kv, Limits, Log, LogFormat, Node, Peer, S3, Store};
pub use values::duration::parse as parse_duration;
pub use values::{HostPort, InvalidHostPort, Secret};

#[cfg(test)]
#[path = "../../../tests/fuzz/config.rs"]
mod fuzz;
