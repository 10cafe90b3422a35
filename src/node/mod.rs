//! Composition: configuration, wiring, start, orderly stop.
//!
//! # Invariants
//! 1. Every seam is chosen here, once, at the start, and handed down.

pub mod config;

/// Runs a node until it is told to stop.
///
/// # Errors
/// If it cannot start, or had to stop for a fault.
pub async fn serve(config: config::Config) -> anyhow::Result<()> {
    config.check()?;
    anyhow::bail!("this build has no node to start")
}
