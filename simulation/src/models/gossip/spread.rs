//! How long a change takes to be known everywhere.

use super::settings::Settings;
use crate::entropy::Seed;
use crate::models::draws::Draws;

/// When nodes talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchanges {
    /// As chitchat does: each node calls its peers one after another, once in a round.
    Rounds,
    /// At random times, one exchange at a time, as many in a round on average: what the closed
    /// form assumes.
    Scattered,
}

/// How many rounds it takes until all nodes know a change that one of them makes at a random
/// time. After an exchange both sides know what one of them knew (scuttlebutt's SYN, SYN-ACK and
/// ACK).
#[must_use]
pub fn spread(settings: &Settings, nodes: usize, exchanges: Exchanges, seed: Seed) -> f64 {
    let mut draws = Draws::new(seed);
    let mut rumour = Rumour::new(nodes, draws.below(nodes));
    match exchanges {
        Exchanges::Rounds => in_rounds(settings, &mut rumour, &mut draws),
        Exchanges::Scattered => scattered(settings, &mut rumour, &mut draws),
    }
}

/// Who knows.
struct Rumour {
    known: Vec<bool>,
    unknown: usize,
}

impl Rumour {
    fn new(nodes: usize, origin: usize) -> Self {
        let mut known = vec![false; nodes];
        known[origin] = true;
        Self { known, unknown: nodes - 1 }
    }

    fn exchange(&mut self, one: usize, other: usize) {
        if self.known[one] != self.known[other] {
            self.known[one] = true;
            self.known[other] = true;
            self.unknown -= 1;
        }
    }
}

fn in_rounds(settings: &Settings, rumour: &mut Rumour, draws: &mut Draws) -> f64 {
    let nodes = rumour.known.len();
    let mut phases: Vec<(f64, usize)> = (0..nodes).map(|node| (draws.unit(), node)).collect();
    phases.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let start = draws.unit();
    for round in 0_u32.. {
        for (phase, node) in &phases {
            let time = f64::from(round) + phase;
            if time < start {
                continue;
            }
            for peer in draws.others(nodes, *node, settings.fan_out) {
                rumour.exchange(*node, peer);
            }
            if rumour.unknown == 0 {
                return time - start;
            }
        }
    }
    unreachable!("every round brings a change further")
}

fn scattered(settings: &Settings, rumour: &mut Rumour, draws: &mut Draws) -> f64 {
    let nodes = rumour.known.len();
    let mut time = 0.0;
    while rumour.unknown > 0 {
        time += draws.wait((nodes * settings.fan_out) as f64);
        let one = draws.below(nodes);
        let other = (one + 1 + draws.below(nodes - 1)) % nodes;
        rumour.exchange(one, other);
    }
    time
}

/// The mean number of rounds at scattered exchanges, exactly: with `k` of `n` nodes knowing,
/// `n * f` exchanges in a round hit one who knows and one who does not with probability
/// `2 k (n - k) / (n (n - 1))`, so the mean is the sum of `(n - 1) / (2 f k (n - k))`, which is
/// `(n - 1) / (n f)` times the harmonic number of `n - 1`: about `ln(n) / f`.
#[must_use]
pub fn spread_mean(nodes: usize, fan_out: usize) -> f64 {
    let harmonic: f64 = (1..nodes).map(|term| 1.0 / term as f64).sum();
    (nodes - 1) as f64 / (nodes * fan_out) as f64 * harmonic
}

#[cfg(test)]
mod tests {
    use super::{Exchanges, spread, spread_mean};
    use crate::entropy::Seed;
    use crate::models::figures::{Estimate, mean};
    use crate::models::gossip::Settings;

    fn trials(nodes: usize, exchanges: Exchanges, count: u64) -> Vec<f64> {
        let settings = Settings::configured();
        (0..count).map(|trial| spread(&settings, nodes, exchanges, Seed(trial).of("t"))).collect()
    }

    #[test]
    fn scattered_exchanges_take_as_long_as_the_closed_form_says() {
        for nodes in [2, 10, 100] {
            let estimate = Estimate::of(&trials(nodes, Exchanges::Scattered, 2_000));

            assert!(estimate.errors_from(spread_mean(nodes, 3)) < 4.0, "{nodes}: {estimate:?}");
        }
    }

    #[test]
    fn rounds_take_about_as_long_and_grow_with_the_logarithm() {
        let taken = [10, 100, 1_000].map(|nodes| mean(&trials(nodes, Exchanges::Rounds, 60)));

        for (taken, nodes) in taken.iter().zip([10, 100, 1_000]) {
            let ratio = taken / spread_mean(nodes, 3);
            assert!((0.6..1.4).contains(&ratio), "{nodes}: {ratio}");
        }
        let (first, second) = (taken[1] - taken[0], taken[2] - taken[1]);
        assert!((first / second - 1.0).abs() < 0.5, "{taken:?}");
    }
}
