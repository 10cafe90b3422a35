//! Lots drawn from a seed.

use crate::entropy::{Seed, mix};

/// A stream of lots (SplitMix64): equal seeds give equal streams, on every machine.
#[derive(Clone, Debug)]
pub struct Draws {
    state: u64,
}

impl Draws {
    /// The stream of `seed`.
    #[must_use]
    pub const fn new(seed: Seed) -> Self {
        Self { state: seed.0 }
    }

    fn bits(&mut self) -> u64 {
        // `mix` adds the golden ratio before it mixes, so the counter itself need not.
        let bits = mix(self.state);
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits
    }

    /// A number from 0 (included) to 1 (excluded).
    pub fn unit(&mut self) -> f64 {
        // The 53 bits that a float holds exactly.
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number below `bound`, which is above 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // Multiplying instead of dividing: the bias is below 2^-32 at these bounds.
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A waiting time for what happens at this rate.
    pub fn wait(&mut self, rate: f64) -> f64 {
        -(1.0 - self.unit()).ln() / rate
    }

    /// The numbers below `count` in random order.
    pub fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }

    /// Up to `wanted` distinct numbers below `count`, none of them `but`.
    pub fn others(&mut self, count: usize, but: usize, wanted: usize) -> Vec<usize> {
        let mut chosen = Vec::with_capacity(wanted);
        if count <= wanted + 1 {
            chosen.extend((0..count).filter(|other| *other != but));
            return chosen;
        }
        while chosen.len() < wanted {
            let other = self.below(count);
            if other != but && !chosen.contains(&other) {
                chosen.push(other);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::Draws;
    use crate::entropy::Seed;

    #[test]
    fn lots_have_the_means_that_their_names_say() {
        let mut draws = Draws::new(Seed(3));
        let mean = |draw: &mut dyn FnMut() -> f64| (0..100_000).map(|_| draw()).sum::<f64>() / 1e5;

        assert!((mean(&mut || draws.unit()) - 0.5).abs() < 0.005);
        assert!((mean(&mut || draws.below(7) as f64) - 3.0).abs() < 0.03);
        assert!((mean(&mut || f64::from(u8::from(draws.happens(0.2)))) - 0.2).abs() < 0.005);
        assert!((mean(&mut || draws.wait(4.0)) - 0.25).abs() < 0.005);
    }

    #[test]
    fn others_are_distinct_and_others() {
        let mut draws = Draws::new(Seed(3));
        for count in [2, 3, 4, 5, 50] {
            let mut chosen = draws.others(count, 1, 3);
            chosen.sort_unstable();
            chosen.dedup();

            assert_eq!(chosen.len(), (count - 1).min(3));
            assert!(!chosen.contains(&1));
        }
    }

    #[test]
    fn an_order_names_everyone_once() {
        let mut order = Draws::new(Seed(3)).order(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();

        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
