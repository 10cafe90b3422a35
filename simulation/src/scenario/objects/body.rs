//! Bodies that follow from the number of their write, so that a reader knows every byte.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quorate::catalog::{BodyError, BodySource, VerifiedBody};
use quorate::env::{Clock, Entropy};

use super::history::WriteId;
use crate::entropy::mix;

/// The bytes of a write.
#[must_use]
pub(in crate::scenario) fn bytes_of(write: WriteId, length: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut place = 0_u64;
    while bytes.len() < length {
        bytes.extend_from_slice(&mix(mix(write.0) ^ place).to_le_bytes());
        place += 1;
    }
    bytes.truncate(length);
    bytes.into()
}

/// A stand-in for the MD5 of a body: as good for telling writes apart, and free.
#[must_use]
pub(in crate::scenario) fn md5_of(write: WriteId, part: u16) -> [u8; 16] {
    let mut md5 = [0; 16];
    md5[..8].copy_from_slice(&mix(write.0).to_le_bytes());
    md5[8..].copy_from_slice(&mix(mix(write.0) ^ u64::from(part) ^ 0x9a27).to_le_bytes());
    md5
}

/// How a client ends its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scenario) enum End {
    /// As it should.
    Whole,
    /// It goes away in the middle.
    Broken,
    /// Its digest does not match.
    Refused,
}

/// A client's body on its way in, in pieces, with pauses.
pub(in crate::scenario) struct SimBody {
    left: Bytes,
    length: usize,
    md5: [u8; 16],
    end: End,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    slow: u64,
}

impl SimBody {
    pub(in crate::scenario) fn new(
        bytes: Bytes,
        md5: [u8; 16],
        end: End,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let length = bytes.len();
        // One client in eight dawdles between its pieces.
        let slow = if entropy.below(8) == 0 { 400 } else { 1 };
        Self { left: bytes, length, md5, end, clock, entropy, slow }
    }
}

#[async_trait]
impl BodySource for SimBody {
    fn length(&self) -> Option<u64> {
        u64::try_from(self.length).ok()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.end == End::Broken && self.left.len() <= self.length / 2 {
            return Err(BodyError::Broken { reason: "the client went away".to_owned() });
        }
        if self.left.is_empty() {
            return Ok(None);
        }
        let most = (self.length / 3).max(1) as u64;
        let wanted = usize::try_from(1 + self.entropy.below(most)).unwrap_or(1);
        let piece = self.left.split_to(wanted.min(self.left.len()));
        self.clock.sleep(Duration::from_millis(self.entropy.below(self.slow))).await;
        Ok(Some(piece))
    }

    fn verify(&mut self) -> Result<VerifiedBody, BodyError> {
        if self.end == End::Refused {
            return Err(BodyError::Rejected("the digest does not match".into()));
        }
        Ok(VerifiedBody { md5: self.md5, checksums: Vec::new() })
    }
}
