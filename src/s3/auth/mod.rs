//! Who sends a request: AWS signature version 4 in all its forms, and version 2 in old
//! presigned URLs.
//!
//! # Invariants
//! 1. No caller without a verified signature over the method, path, query, host and every
//!    `x-amz-*` header of the request.
//! 2. Signatures are compared in constant time; secrets and derived keys are never printed.
//! 3. The cache of derived keys is bounded and fed by verified requests only.

mod canonical;
mod credential_scope;
mod keys;
mod presigned_v2;
mod signature;
mod verify;

pub(crate) use signature::ChunkSigner;
#[cfg(test)]
pub(crate) use signature::SigningKey;
pub(crate) use verify::{Authenticated, Authenticator, Payload};

#[cfg(test)]
mod aws_examples;
