//! What a link between two nodes does to the packets on it (pure).

use std::time::Duration;

use crate::content::mix;

/// The quality of a link in one direction. Shares are in thousandths of all packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// Lost.
    pub loss: u64,
    /// Delivered twice.
    pub duplicates: u64,
    /// Held back, so that later ones overtake them.
    pub reorder: u64,
    /// With a flipped bit.
    pub damage: u64,
    /// How long each packet takes.
    pub delay: Duration,
    /// How much longer it may take.
    pub jitter: Duration,
}

/// How one copy of a packet arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// After this time.
    pub after: Duration,
    /// With this draw's bit flipped.
    pub damage: Option<u64>,
}

/// How long a packet is held back at least, so that others overtake it.
const HOLD: Duration = Duration::from_millis(5);

/// Draws of one link: they depend on the packets of that link only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws(u64);

impl Draws {
    /// The draws of the link `from`–`to`.
    #[must_use]
    pub(super) const fn of(seed: u64, from: usize, to: usize) -> Self {
        Self(mix(seed ^ mix((from as u64) << 32 | to as u64)))
    }

    /// The next number.
    pub(super) const fn next(&mut self) -> u64 {
        self.0 = mix(self.0);
        self.0
    }

    fn hits(&mut self, thousandths: u64) -> bool {
        thousandths > 0 && self.next() % 1_000 < thousandths
    }

    fn part_of(&mut self, span: Duration) -> Duration {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(if micros == 0 { 0 } else { self.next() % (micros + 1) })
    }
}

impl Quality {
    /// The copies of a packet that arrive: none if it is lost.
    pub(super) fn arrivals(&self, draws: &mut Draws) -> Vec<Arrival> {
        if draws.hits(self.loss) {
            return Vec::new();
        }
        let copies = if draws.hits(self.duplicates) { 2 } else { 1 };
        (0..copies).map(|_| self.arrival(draws)).collect()
    }

    fn arrival(&self, draws: &mut Draws) -> Arrival {
        let mut after = self.delay + draws.part_of(self.jitter);
        if draws.hits(self.reorder) {
            after += HOLD + draws.part_of(HOLD);
        }
        Arrival { after, damage: draws.hits(self.damage).then(|| draws.next()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Draws, Quality};

    const MANY: usize = 20_000;

    fn arrivals(quality: Quality) -> Vec<Vec<super::Arrival>> {
        let mut draws = Draws::of(7, 1, 2);
        (0..MANY).map(|_| quality.arrivals(&mut draws)).collect()
    }

    fn share(count: usize) -> usize {
        count * 1_000 / MANY
    }

    #[test]
    fn a_perfect_link_delivers_once_and_at_once() {
        for copies in arrivals(Quality::default()) {
            assert_eq!(copies.len(), 1);
            assert_eq!((copies[0].after, copies[0].damage), (Duration::ZERO, None));
        }
    }

    #[test]
    fn shares_are_what_was_asked_for() {
        let quality = Quality { loss: 200, duplicates: 100, damage: 50, ..Quality::default() };

        let all = arrivals(quality);

        let lost = share(all.iter().filter(|copies| copies.is_empty()).count());
        let twice = share(all.iter().filter(|copies| copies.len() == 2).count());
        let damaged = share(all.iter().flatten().filter(|copy| copy.damage.is_some()).count());
        assert!((190..=210).contains(&lost), "{lost}");
        assert!((72..=88).contains(&twice), "{twice}");
        assert!((38..=50).contains(&damaged), "{damaged}");
    }

    #[test]
    fn held_packets_are_overtaken_and_jitter_has_bounds() {
        let ms = Duration::from_millis;
        let quality = Quality { reorder: 300, delay: ms(20), jitter: ms(4), ..Quality::default() };

        let times: Vec<Duration> =
            arrivals(quality).into_iter().flatten().map(|copy| copy.after).collect();

        assert!(times.iter().all(|time| (ms(20)..=ms(34)).contains(time)));
        let held = share(times.iter().filter(|time| **time >= ms(25)).count());
        assert!((280..=320).contains(&held), "{held}");
    }

    #[test]
    fn a_links_draws_follow_from_the_seed_and_its_ends() {
        let first = |seed, from, to| Draws::of(seed, from, to).next();

        assert_eq!(first(1, 2, 3), first(1, 2, 3));
        assert_ne!(first(1, 2, 3), first(1, 3, 2));
        assert_ne!(first(1, 2, 3), first(2, 2, 3));
    }
}
