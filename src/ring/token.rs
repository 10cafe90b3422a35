//! Positions on the ring and the equal slices that it is cut into.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::LayoutError;

/// A position on the ring: murmur3 (x64, 128 bits, seed 0) of a routing key.
///
/// Part of the on-disk contract: rows are stored under the partition of their token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u128);

impl Token {
    /// The token of a routing key.
    #[must_use]
    pub fn of(routing_key: &[u8]) -> Self {
        let mut source = routing_key;
        // Reading from memory cannot fail; the crate's signature is for files.
        Self(murmur3::murmur3_x64_128(&mut source, 0).unwrap_or_default())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:032x})", self.0)
    }
}

/// One slice of the ring: the unit of ownership, Merkle tree, transfer and proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u32);

impl Partition {
    /// Its number.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// Its number as a key prefix: big-endian, so that byte order is numeric order.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// The partition with this key prefix.
    #[must_use]
    pub const fn from_be_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_be_bytes(bytes))
    }
}

impl From<u32> for Partition {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How many partitions a cluster has: a power of two from 1 to 65,536, fixed for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct PartitionCount(u32);

impl PartitionCount {
    /// What a cluster gets that asks for nothing else: enough for four nodes at 64 each.
    pub const DEFAULT: Self = Self(256);

    /// Takes a number of partitions.
    ///
    /// # Errors
    /// [`LayoutError::PartitionCount`] unless it is a power of two from 1 to 65,536.
    pub const fn new(count: u32) -> Result<Self, LayoutError> {
        if count.is_power_of_two() && count <= 65_536 {
            Ok(Self(count))
        } else {
            Err(LayoutError::PartitionCount(count))
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The partition that a token lies in: its top bits.
    #[must_use]
    pub fn partition_of(self, token: Token) -> Partition {
        let bits = self.0.trailing_zeros();
        // A shift by all 128 bits overflows: a ring of one partition has no bits to look at.
        Partition(token.0.checked_shr(128 - bits).map_or(0, |top| top as u32))
    }

    /// Where a partition begins: its first token. Partitions beyond the last wrap around.
    #[must_use]
    pub fn start_of(self, partition: Partition) -> Token {
        let bits = self.0.trailing_zeros();
        Token(u128::from(partition.0).checked_shl(128 - bits).unwrap_or(0))
    }

    /// All partitions, in order.
    pub fn iter(self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.0).map(Partition)
    }
}

impl TryFrom<u32> for PartitionCount {
    type Error = LayoutError;

    fn try_from(count: u32) -> Result<Self, LayoutError> {
        Self::new(count)
    }
}

impl From<PartitionCount> for u32 {
    fn from(count: PartitionCount) -> Self {
        count.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Partition, PartitionCount, Token};

    #[test]
    fn the_token_of_a_key_never_changes() {
        // h1 = cbd8a7b341bd9b02, h2 = 5b1e906a48ae1d19 in the reference implementation.
        assert_eq!(Token::of(b"hello"), Token(0x5b1e_906a_48ae_1d19_cbd8_a7b3_41bd_9b02));
        assert_eq!(Token::of(b""), Token(0));
    }

    #[test]
    fn a_partition_is_the_top_bits_of_its_tokens() {
        let count = PartitionCount::new(256).unwrap();

        assert_eq!(count.partition_of(Token(u128::MAX)), Partition(255));
        assert_eq!(count.partition_of(Token::of(b"hello")), Partition(0x5b));
        for partition in count.iter() {
            assert_eq!(count.partition_of(count.start_of(partition)), partition);
        }
    }

    #[test]
    fn a_ring_of_one_partition_has_every_token_in_it() {
        let count = PartitionCount::new(1).unwrap();

        assert_eq!(count.partition_of(Token(u128::MAX)), Partition(0));
        assert_eq!(count.start_of(Partition(0)), Token(0));
    }

    #[test]
    fn only_powers_of_two_up_to_65536_are_partition_counts() {
        for bad in [0, 3, 255, 65_537, 131_072, u32::MAX] {
            assert!(PartitionCount::new(bad).is_err(), "{bad}");
        }
        for bits in 0..=16 {
            assert!(PartitionCount::new(1 << bits).is_ok());
        }
    }

    #[test]
    fn partitions_sort_alike_as_numbers_and_as_key_prefixes() {
        let (low, high) = (Partition(255), Partition(256));

        assert!(low < high);
        assert!(low.to_be_bytes() < high.to_be_bytes());
        assert_eq!(Partition::from_be_bytes(high.to_be_bytes()), high);
    }
}
