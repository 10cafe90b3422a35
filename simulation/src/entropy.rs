//! The twin of entropy: streams of bits that follow from a seed and from names.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate::env::Entropy;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// Where every draw of a run comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of the part that `label` names: FNV-1a of the label, mixed in by SplitMix64.
    #[must_use]
    pub fn of(self, label: &str) -> Self {
        self.with(fnv1a(label.as_bytes()))
    }

    /// The seed of the part that `number` names.
    #[must_use]
    pub const fn with(self, number: u64) -> Self {
        Self(mix(self.0 ^ mix(number)))
    }

    /// A number from `low` to `high`, both included, for a seed that is drawn from once.
    #[must_use]
    pub const fn between(self, low: u64, high: u64) -> u64 {
        let width = high.saturating_sub(low).saturating_add(1);
        low + mix(self.0) % width
    }

    /// Whether an event of this probability happens, for a seed that is drawn from once.
    #[must_use]
    pub const fn happens(self, permille: u16) -> bool {
        mix(self.0) % 1_000 < permille as u64
    }
}

/// SplitMix64's finalizer: every bit of the result depends on every bit of `number`.
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The 64-bit FNV-1a hash: the same in every process, unlike the standard library's hasher.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

struct Stream {
    generator: StdRng,
    /// How often each label was forked: two parts with one name must not draw equal ids.
    forks: BTreeMap<String, u64>,
}

/// A seeded stream. Equal seeds, labels and order of forks of one label give equal bits.
pub struct SimEntropy {
    seed: Seed,
    stream: Mutex<Stream>,
}

impl SimEntropy {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        let generator = StdRng::seed_from_u64(seed.0);
        Self { seed, stream: Mutex::new(Stream { generator, forks: BTreeMap::new() }) }
    }
}

impl Entropy for SimEntropy {
    fn next_u64(&self) -> u64 {
        self.stream.lock().generator.next_u64()
    }

    fn fork(&self, label: &str) -> Arc<dyn Entropy> {
        let mut stream = self.stream.lock();
        let count = stream.forks.entry(label.to_owned()).or_default();
        let seed = self.seed.of(label).with(*count);
        *count += 1;
        Arc::new(Self::new(seed))
    }
}

#[cfg(test)]
mod tests {
    use quorate::env::Entropy;

    use super::{Seed, SimEntropy, fnv1a};

    fn draws(entropy: &dyn Entropy) -> Vec<u64> {
        (0..16).map(|_| entropy.next_u64()).collect()
    }

    #[test]
    fn equal_seeds_and_labels_give_equal_streams() {
        let (one, other) = (SimEntropy::new(Seed(7)), SimEntropy::new(Seed(7)));
        other.next_u64();

        assert_eq!(draws(&*one.fork("ids")), draws(&*other.fork("ids")));
        assert_ne!(draws(&*one.fork("ids")), draws(&*other.fork("jitter")));
    }

    #[test]
    fn two_forks_of_one_label_differ() {
        let entropy = SimEntropy::new(Seed(7));

        assert_ne!(draws(&*entropy.fork("ids")), draws(&*entropy.fork("ids")));
    }

    #[test]
    fn the_hash_of_labels_is_fnv_1a() {
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
