//! Bodies that say who wrote them: a pseudo-random stream of the write's number.

use bytes::Bytes;

/// A write that was attempted: its number is unique in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    /// The write's number.
    pub number: u64,
    /// Its length in bytes.
    pub length: usize,
}

impl Written {
    /// The bytes of this write; no two writes share a body, but for very short ones.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.length + 8);
        let mut word = self.number;
        while bytes.len() < self.length {
            bytes.extend_from_slice(&word.to_be_bytes());
            word = mix(word.wrapping_add(self.number));
        }
        bytes.truncate(self.length);
        bytes.into()
    }
}

/// SplitMix64's finalizer.
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SHA-256 in hexadecimal digits.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use super::Written;

    #[test]
    fn a_body_follows_from_its_write_and_differs_from_others() {
        let one = Written { number: 1, length: 1_000 };
        let other = Written { number: 2, length: 1_000 };

        assert_eq!(one.bytes(), one.bytes());
        assert_eq!(one.bytes().len(), 1_000);
        assert_ne!(one.bytes(), other.bytes());
    }
}
