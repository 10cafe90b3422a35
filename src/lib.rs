//! Quorate: a leaderless, Dynamo-style key-value and blob store with an Amazon S3 front.
//!
//! Each folder is a concept of the Dynamo paper (DeCandia et al., SOSP 2007) and imports
//! strictly lower floors only; `tests/architecture.rs` enforces it. Start with
//! `ARCHITECTURE.md`, which walks a PUT, a GET and a failed node through these files.

pub mod codec;

pub mod types;

pub mod causality;
pub mod env;
pub mod merkle;
pub mod ring;

mod auth;
pub mod consensus;
pub mod http;
pub mod net;
pub mod store;

pub mod membership;

pub mod replication;

pub mod blob;

pub mod catalog;

pub mod admin;
pub mod kv;
pub mod s3;

pub mod node;

pub mod cli;

#[cfg(test)]
#[path = "../tests/fuzz/harness.rs"]
mod fuzz;
