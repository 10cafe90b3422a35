//! The Amazon S3 front: requests in, catalogue calls, S3's answers out.
//!
//! # Invariants
//! 1. Nothing is done for a caller whose signature was not verified (`auth`), and nothing in a
//!    bucket but through `authorize::authorize`: operations get their buckets from
//!    its answer only.
//! 2. A header, condition or sub-resource that is not served is refused, never ignored
//!    (`headers`, `router`).
//! 3. No body is polled before its request is authenticated and authorised, so a client that
//!    waits for `100 Continue` is refused before it sends; no object's body is ever held whole.
//! 4. Every answer carries its request id; error bodies carry the same one.
//!
//! Objects without a checksum given or asked for are stored without one: S3's newer habit of
//! adding a CRC64NVME of its own is not followed, since every byte is checked against a CRC32C
//! of ours anyway.

mod authorize;
mod body;
mod call;
mod conditions;
mod error;
mod front;
mod headers;
mod metrics;
mod operation;
mod ops;
mod range;
mod reply;
mod request;
mod router;
mod slow;
mod xml;

use crate::auth::{dates, percent};

pub use front::{S3Config, S3Front};

#[cfg(test)]
#[path = "../../tests/fuzz/s3.rs"]
mod fuzz;
