//! Request bodies: unframed, checked against everything the client promised, never held whole.
//!
//! # Invariants
//! 1. Memory per body is one piece off the socket and one bounded line of framing, whatever
//!    lengths the client announces.
//! 2. `verify` succeeds only if length, digests, chunk signatures and trailers all match.
//! 3. Pieces are slices of what came off the socket; no byte is copied.

mod chunked;
mod digests;
mod incoming;
mod promise;

pub(crate) use digests::{
    ALL as ALGORITHMS, Digests, header_name, name as algorithm_name, parse as parse_algorithm,
};
pub(crate) use incoming::{BODY_BYTES_MAX, Unread, read_document};
pub(crate) use promise::{Content, Promise};

#[cfg(test)]
#[path = "../../../tests/fuzz/s3_body.rs"]
pub(in crate::s3) mod fuzz;
