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

/// The length of every part but the last: the least that S3 takes.
pub const PART_BYTES: usize = 5 << 20;

/// How long bodies are. A write's length follows from its number, so that a body that was cut
/// short is told from a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// Up to 8 KiB: values of keys.
    Small,
    /// Nothing large, one for each way of storing: what is written once and kept.
    Kept,
    /// One for each way of storing: with the row, attached to it, and as extents.
    Mixed,
    /// Uploads in parts: the largest has two.
    Parts,
}

impl Sizes {
    const fn lengths(self) -> &'static [usize] {
        match self {
            Self::Small => &[16, 100, 700, 2_000, 8 * 1024],
            Self::Kept => &[100, 8 * 1024, 300 * 1024],
            Self::Parts => &[1_000, 60 * 1024, 300 * 1024, PART_BYTES + 100 * 1024],
            Self::Mixed => &[64, 1_000, 12 * 1024, 60 * 1024, 300 * 1024, 1_300 * 1024],
        }
    }

    /// The write of this number.
    #[must_use]
    pub fn of(self, number: u64) -> Written {
        let lengths = self.lengths();
        // Large bodies are rare: they cost most.
        let draw = mix(number ^ 0x51ce) % (1 << lengths.len());
        let place = (draw | 1 << (lengths.len() - 1)).trailing_zeros() as usize;
        Written { number, length: lengths.get(place).copied().unwrap_or_default() }
    }

    /// The number of the write whose bytes these are.
    ///
    /// # Errors
    /// Says what is wrong with bytes that no write has.
    pub fn recognise(self, bytes: &[u8]) -> Result<u64, String> {
        let first = bytes.first_chunk::<8>().map(|first| u64::from_be_bytes(*first));
        let number = first.ok_or_else(|| format!("{} bytes are no write's", bytes.len()))?;
        let written = self.of(number);
        if bytes.len() != written.length {
            let (found, length) = (bytes.len(), written.length);
            return Err(format!("{found} bytes that begin as write {number} of {length} bytes"));
        }
        if written.bytes() != *bytes {
            return Err(format!("the bytes of write {number} are changed"));
        }
        Ok(number)
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
    use super::{Sizes, Written};

    #[test]
    fn a_write_is_recognised_by_its_bytes_and_by_nothing_less() {
        for number in 1..200 {
            let bytes = Sizes::Mixed.of(number).bytes();

            assert_eq!(Sizes::Mixed.recognise(&bytes), Ok(number));
            assert!(Sizes::Mixed.recognise(&bytes[..bytes.len() - 1]).is_err());
            let mut changed = bytes.to_vec();
            *changed.last_mut().unwrap() ^= 1;
            assert!(Sizes::Mixed.recognise(&changed).is_err());
        }
        assert!(Sizes::Small.recognise(b"short").is_err());
    }

    #[test]
    fn every_length_occurs_and_large_ones_are_rare() {
        let lengths =
            |length| (1..=6_400).filter(|number| Sizes::Mixed.of(*number).length == length).count();

        assert!((3_000..3_400).contains(&lengths(64)));
        assert!((100..350).contains(&lengths(1_300 * 1024)));
    }

    #[test]
    fn a_body_follows_from_its_write_and_differs_from_others() {
        let one = Written { number: 1, length: 1_000 };
        let other = Written { number: 2, length: 1_000 };

        assert_eq!(one.bytes(), one.bytes());
        assert_eq!(one.bytes().len(), 1_000);
        assert_ne!(one.bytes(), other.bytes());
    }
}
