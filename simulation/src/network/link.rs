//! One direction between two nodes: how long things take on it and whether they are lost.

use std::time::Duration;

use crate::entropy::Seed;

/// How fast and how safely a link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkQuality {
    /// The shortest way there. At least a millisecond: the timer resolves no less.
    pub latency_min: Duration,
    /// The longest way there.
    pub latency_max: Duration,
    /// Of a thousand transmissions, this many are lost (and sent again later).
    pub loss_permille: u16,
    /// Throughput; `None` is without bound.
    pub bytes_per_second: Option<u64>,
}

impl Default for LinkQuality {
    /// One to five milliseconds, no loss, no bound.
    fn default() -> Self {
        Self {
            latency_min: Duration::from_millis(1),
            latency_max: Duration::from_millis(5),
            loss_permille: 0,
            bytes_per_second: None,
        }
    }
}

impl LinkQuality {
    /// This quality with a latency from `least` to twice that.
    #[must_use]
    pub fn slow(self, least: Duration) -> Self {
        Self { latency_min: least, latency_max: least * 2, ..self }
    }

    /// This quality with loss.
    #[must_use]
    pub const fn lossy(self, permille: u16) -> Self {
        Self { loss_permille: permille, ..self }
    }
}

/// What one transmission meets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    pub(super) delay: Duration,
    pub(super) lost: bool,
}

#[derive(Debug)]
pub(super) struct Link {
    seed: Seed,
    pub(super) quality: LinkQuality,
    pub(super) cut: bool,
    /// How often the link was cut, to tell one cut from the next.
    pub(super) cuts: u64,
    drawn: u64,
    /// When the last byte that was handed to a link of bounded throughput has left.
    free_at: Duration,
}

impl Link {
    pub(super) fn new(seed: Seed, quality: LinkQuality) -> Self {
        Self { seed, quality, cut: false, cuts: 0, drawn: 0, free_at: Duration::ZERO }
    }

    pub(super) fn draw(&mut self, now: Duration, bytes: usize) -> Passage {
        self.drawn += 1;
        let draw = self.seed.with(self.drawn);
        let latency = draw.of("latency").between(
            micros(self.quality.latency_min).max(1_000),
            micros(self.quality.latency_max).max(1_000),
        );
        let queued = self.queue(now, bytes);
        Passage {
            delay: queued + Duration::from_micros(latency),
            lost: draw.of("loss").happens(self.quality.loss_permille),
        }
    }

    fn queue(&mut self, now: Duration, bytes: usize) -> Duration {
        let Some(rate) = self.quality.bytes_per_second else {
            return Duration::ZERO;
        };
        let micros = (bytes as u64).saturating_mul(1_000_000) / rate.max(1);
        self.free_at = self.free_at.max(now) + Duration::from_micros(micros);
        self.free_at - now
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Link, LinkQuality};
    use crate::entropy::Seed;

    #[test]
    fn a_narrow_link_queues_what_it_is_given() {
        let quality = LinkQuality { bytes_per_second: Some(1_000_000), ..LinkQuality::default() };
        let mut link = Link::new(Seed(1), quality);

        let first = link.draw(Duration::ZERO, 500_000).delay;
        let second = link.draw(Duration::ZERO, 500_000).delay;

        assert!((500..=505).contains(&first.as_millis()), "{first:?}");
        assert!((1_000..=1_005).contains(&second.as_millis()), "{second:?}");
    }

    #[test]
    fn loss_happens_as_often_as_asked() {
        let mut link = Link::new(Seed(2), LinkQuality::default().lossy(100));

        let lost = (0..10_000).filter(|_| link.draw(Duration::ZERO, 1).lost).count();

        assert!((850..=1_150).contains(&lost), "{lost}");
    }
}
