//! The checksum that travels with bytes from the gateway to the disk and back.

use serde::{Deserialize, Serialize};

/// A CRC-32C (Castagnoli, iSCSI polynomial) over some bytes.
///
/// Computed once, at the gateway, over each inline body and chunk; stored with the bytes and
/// checked at every hop out of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Crc32c(pub u32);

impl Crc32c {
    /// The checksum of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        // The algorithm yields 32 bits in a u64; the upper half is zero.
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
        Self((sum & 0xffff_ffff) as u32)
    }

    /// Whether `bytes` still have this checksum.
    #[must_use]
    pub fn matches(self, bytes: &[u8]) -> bool {
        self == Self::of(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Crc32c;

    #[test]
    fn the_check_value_of_the_standard_holds() {
        assert_eq!(Crc32c::of(b"123456789"), Crc32c(0xe306_9283));
    }

    #[test]
    fn one_flipped_bit_is_noticed() {
        let sum = Crc32c::of(b"quorate");

        assert!(sum.matches(b"quorate"));
        assert!(!sum.matches(b"quorbte"));
    }
}
