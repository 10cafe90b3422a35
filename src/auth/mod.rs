//! Who sends a request: AWS signature version 4 in all its forms, and version 2 in old
//! presigned URLs. Both client fronts use it; it knows neither buckets nor what is asked.
//!
//! # Invariants
//! 1. No caller without a verified signature over the method, path, query, host and every
//!    `x-amz-*` header of the request.
//! 2. Signatures are compared in constant time; secrets and derived keys are never printed.
//! 3. The cache of derived keys is bounded and fed by verified requests only.

mod canonical;
mod credential_scope;
pub(crate) mod dates;
mod error;
mod head;
mod keys;
pub(crate) mod percent;
mod presigned_v2;
mod signature;
mod verify;

pub(crate) use error::{AuthCode, AuthError};
pub(crate) use head::Head;
pub(crate) use signature::ChunkSigner;
#[cfg(test)]
pub(crate) use signature::SigningKey;
pub(crate) use verify::{Authenticated, Authenticator, Payload, Signatory};

#[cfg(test)]
mod aws_examples;

#[cfg(test)]
#[path = "../../tests/fuzz/auth.rs"]
mod fuzz;
