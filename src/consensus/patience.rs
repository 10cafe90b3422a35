//! How long a refused operation waits before it tries again.

use std::time::Duration;

/// The most tries of one operation; then its driver gives up.
const TRIES_MAX: u32 = 12;
/// The mean pause after the first refusal: a few rounds within one data centre.
const PAUSE_FIRST: Duration = Duration::from_millis(4);
/// The longest mean pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Randomised exponential back-off: rounds that refuse one another part ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Patience {
    tries: u32,
}

impl Patience {
    /// How long to wait before the next try, or `None` if it is time to give up. `random` is
    /// uniform over all numbers: the pause is uniform between nothing and twice its mean, so that
    /// of two rivals one is soon far ahead.
    pub fn pause(&mut self, random: u64) -> Option<Duration> {
        if self.tries >= TRIES_MAX {
            return None;
        }
        let mean = PAUSE_FIRST.saturating_mul(1 << self.tries).min(PAUSE_MAX);
        self.tries += 1;
        let most = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX).saturating_mul(2);
        Some(Duration::from_nanos(random % most.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::{PAUSE_FIRST, PAUSE_MAX, Patience, TRIES_MAX};

    #[test]
    fn pauses_grow_up_to_a_bound_and_tries_end() {
        let mut patience = Patience::default();

        let pauses: Vec<_> = std::iter::from_fn(|| patience.pause(u64::MAX / 2)).collect();

        assert_eq!(pauses.len(), TRIES_MAX as usize);
        assert!(pauses[0] < PAUSE_FIRST * 2);
        assert!(pauses.iter().all(|pause| *pause < PAUSE_MAX * 2));
    }

    #[test]
    fn two_rivals_do_not_wait_alike() {
        let (mut one, mut other) = (Patience::default(), Patience::default());

        assert_ne!(one.pause(1_000_000), other.pause(3_000_000));
    }
}
