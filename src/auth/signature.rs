//! Derived keys, signatures over strings, and the chain of signatures over a streamed body.

use ring::hmac;

use super::canonical::EMPTY_SHA256;
use super::error::{AuthCode, AuthError};

/// A signing key of one credential, day and region. Never printed.
#[derive(Clone)]
pub(crate) struct SigningKey(hmac::Key);

impl SigningKey {
    /// Derives the key for `day` (`20130524`) and `region`.
    pub(crate) fn derive(secret: &str, day: &str, region: &str) -> Self {
        let step = |key: &[u8], text: &str| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
        };
        let day = step(format!("AWS4{secret}").as_bytes(), day);
        let region = step(day.as_ref(), region);
        let service = step(region.as_ref(), "s3");
        let last = step(service.as_ref(), "aws4_request");
        Self(hmac::Key::new(hmac::HMAC_SHA256, last.as_ref()))
    }

    /// Whether `signature`, hexadecimal, is this key's over `text`; in constant time.
    pub(crate) fn verifies(&self, text: &str, signature: &str) -> bool {
        let mut tag = [0; 32];
        hex::decode_to_slice(signature, &mut tag).is_ok()
            && hmac::verify(&self.0, text.as_bytes(), &tag).is_ok()
    }
}

/// Checks the chunks of a signed stream: each signature covers the one before it.
pub(crate) struct ChunkSigner {
    key: SigningKey,
    date: String,
    scope: String,
    previous: String,
}

impl ChunkSigner {
    /// A chain that starts with the request's own signature (the seed).
    pub(crate) fn new(key: SigningKey, date: &str, scope: &str, seed: &str) -> Self {
        Self { key, date: date.to_owned(), scope: scope.to_owned(), previous: seed.to_owned() }
    }

    /// Checks the next chunk, given the SHA-256 of its bytes.
    ///
    /// # Errors
    /// SignatureDoesNotMatch.
    pub(crate) fn chunk(&mut self, sha256: &[u8], signature: &str) -> Result<(), AuthError> {
        let tail = format!("{EMPTY_SHA256}\n{}", hex::encode(sha256));
        self.step("AWS4-HMAC-SHA256-PAYLOAD", &tail, signature)
    }

    /// Checks the trailers, given the SHA-256 of their canonical lines.
    ///
    /// # Errors
    /// SignatureDoesNotMatch.
    pub(crate) fn trailer(&mut self, sha256: &[u8], signature: &str) -> Result<(), AuthError> {
        self.step("AWS4-HMAC-SHA256-TRAILER", &hex::encode(sha256), signature)
    }

    fn step(&mut self, kind: &str, tail: &str, signature: &str) -> Result<(), AuthError> {
        let Self { date, scope, previous, .. } = self;
        let text = format!("{kind}\n{date}\n{scope}\n{previous}\n{tail}");
        if !self.key.verifies(&text, signature) {
            return Err(AuthCode::SignatureDoesNotMatch.into());
        }
        signature.clone_into(&mut self.previous);
        Ok(())
    }
}
