//! The key-value API: opaque values under keys, with the concurrent ones side by side
//! (Dynamo §4.4, §6.3). Its document is `docs/openapi-kv.json`.
//!
//! # Invariants
//! 1. Nothing is done for a caller that is not known (`auth`), nor in a bucket that is not the
//!    caller's; no body is polled before that.
//! 2. A parameter, condition or header that is not served is refused, never ignored.
//! 3. A client gets a causal context only for what it was shown or wrote itself, so what it then
//!    supersedes is what it has seen.
//! 4. Every answer carries its request id; every error says what is known of its outcome.
//! 5. What a request holds in memory is bounded: one value in, one key's values out, and for
//!    scans with values `scan::PAGE_BYTES_MAX` and one key more.

mod auth;
mod error;
mod front;
mod metrics;
mod openapi;
mod reply;
mod request;
mod route;
mod scan;
mod value;

pub use front::{KvConfig, KvFront};

#[cfg(test)]
#[path = "../../tests/fuzz/kv.rs"]
mod fuzz;
