//! How peers' wall clocks stand to this node's: who is wrong is told by the median.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::{Monotonic, UnixMillis};
use crate::types::NodeId;

/// A node whose wall clock is further from the median of its peers coordinates no sloppy writes.
pub const CLOCK_OFFSET_MAX: Duration = Duration::from_secs(5);
/// Fewer peers than this cannot outvote a node about the time.
const PEERS_MIN: usize = 2;
/// Older readings are forgotten: the clocks may have been set since.
const READING_AGE_MAX: Duration = Duration::from_secs(30);

/// This node's wall clock is wrong, as most of its peers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this node's clock is {lead_ms:+} ms from the median of its {peers} peers; \
     at most {} ms are tolerated: set the clock (chrony, ntp)",
    CLOCK_OFFSET_MAX.as_millis()
)]
pub struct ClockFault {
    /// How far this node's clock is ahead, in milliseconds; negative if it is behind.
    pub lead_ms: i64,
    /// How many peers were heard.
    pub peers: usize,
}

#[derive(Clone, Copy)]
struct Reading {
    ahead_ms: i64,
    taken: Monotonic,
}

/// The last reading of each peer's wall clock.
#[derive(Default)]
pub struct Clocks {
    readings: Mutex<BTreeMap<NodeId, Reading>>,
}

/// How far a peer's clock is ahead, in milliseconds, if it told `told` in answer to a question
/// that was sent at `sent` and answered at `received`.
#[must_use]
pub(super) fn ahead_by(sent: UnixMillis, received: UnixMillis, told: UnixMillis) -> i64 {
    let middle = sent.0 / 2 + received.0 / 2;
    i64::try_from(i128::from(told.0) - i128::from(middle)).unwrap_or(0)
}

impl Clocks {
    /// Notes that `peer`'s clock was found `ahead_ms` milliseconds ahead of this node's at `now`.
    pub fn note(&self, peer: NodeId, ahead_ms: i64, now: Monotonic) {
        let mut readings = self.readings.lock();
        readings.retain(|_, reading| now.since(reading.taken) <= READING_AGE_MAX);
        readings.insert(peer, Reading { ahead_ms, taken: now });
    }

    /// How far `peer`'s clock is ahead of this node's, in milliseconds, if it was heard lately.
    #[must_use]
    pub fn ahead(&self, peer: NodeId, now: Monotonic) -> Option<i64> {
        let readings = self.readings.lock();
        let reading = readings.get(&peer)?;
        (now.since(reading.taken) <= READING_AGE_MAX).then_some(reading.ahead_ms)
    }

    /// The median of how far peers are ahead, and how many were heard; `None` if they are too few
    /// to outvote this node. Of two middle ones, the one nearer to this node's clock.
    #[must_use]
    pub fn median(&self, now: Monotonic) -> Option<(i64, usize)> {
        let mut offsets: Vec<i64> = {
            let readings = self.readings.lock();
            let fresh = readings.values().filter(|r| now.since(r.taken) <= READING_AGE_MAX);
            fresh.map(|reading| reading.ahead_ms).collect()
        };
        if offsets.len() < PEERS_MIN {
            return None;
        }
        offsets.sort_unstable();
        let (low, high) = (offsets[(offsets.len() - 1) / 2], offsets[offsets.len() / 2]);
        let median = if low.unsigned_abs() <= high.unsigned_abs() { low } else { high };
        Some((median, offsets.len()))
    }

    /// Why this node must not stamp sloppy writes now.
    ///
    /// # Errors
    /// [`ClockFault`] if its clock is further from its peers' median than is tolerated.
    pub fn check(&self, now: Monotonic) -> Result<(), ClockFault> {
        match self.median(now) {
            Some((median, peers))
                if u128::from(median.unsigned_abs()) > CLOCK_OFFSET_MAX.as_millis() =>
            {
                Err(ClockFault { lead_ms: -median, peers })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ClockFault, Clocks, ahead_by};
    use crate::env::{Monotonic, UnixMillis};
    use crate::types::NodeId;

    const NOW: Monotonic = Monotonic(Duration::from_secs(100));

    fn clocks(offsets: &[i64]) -> Clocks {
        let clocks = Clocks::default();
        for (peer, offset) in (1..).zip(offsets) {
            clocks.note(NodeId::from_bytes([peer; 16]), *offset, NOW);
        }
        clocks
    }

    #[test]
    fn a_node_that_most_peers_contradict_is_wrong() {
        let behind = clocks(&[9_000, 8_000]).check(NOW);
        let ahead = clocks(&[-7_000, 10, -6_500]).check(NOW);

        assert_eq!(behind, Err(ClockFault { lead_ms: -8_000, peers: 2 }));
        assert_eq!(ahead, Err(ClockFault { lead_ms: 6_500, peers: 3 }));
    }

    #[test]
    fn one_wrong_peer_does_not_make_a_node_wrong() {
        clocks(&[60_000, 3]).check(NOW).unwrap();
        clocks(&[60_000]).check(NOW).unwrap();
        clocks(&[-60_000, 20, -4]).check(NOW).unwrap();
        clocks(&[]).check(NOW).unwrap();
    }

    #[test]
    fn old_readings_say_nothing() {
        let clocks = clocks(&[9_000, 9_000]);
        let later = NOW + Duration::from_secs(31);

        clocks.check(later).unwrap();
        assert_eq!(clocks.ahead(NodeId::from_bytes([1; 16]), later), None);
    }

    #[test]
    fn a_reading_is_taken_in_the_middle_of_its_round_trip() {
        assert_eq!(ahead_by(UnixMillis(1_000), UnixMillis(1_200), UnixMillis(1_150)), 50);
        assert_eq!(ahead_by(UnixMillis(1_000), UnixMillis(1_200), UnixMillis(900)), -200);
    }
}
