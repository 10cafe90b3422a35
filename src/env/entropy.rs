//! Randomness, as the entropy seam gives it.

use std::sync::Arc;

/// A source of random bits.
///
/// The real one is seeded by the operating system and good enough for ids; the simulated one
/// yields the same stream for the same seed.
pub trait Entropy: Send + Sync + 'static {
    /// The next 64 bits.
    fn next_u64(&self) -> u64;

    /// A stream of its own for the part of the node that `label` names, so that one part's
    /// draws do not shift another's.
    fn fork(&self, label: &str) -> Arc<dyn Entropy>;

    /// Sixteen bytes, for an id.
    fn next_id(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next_u64().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next_u64().to_le_bytes());
        bytes
    }

    /// A number below `bound`, near enough to uniform for jitter and choice.
    ///
    /// # Panics
    /// If `bound` is zero.
    fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing lies below zero");
        self.next_u64() % bound
    }
}
