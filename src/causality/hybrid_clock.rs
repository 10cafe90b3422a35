//! Hybrid logical clocks: stamps near wall time that respect causality (Kulkarni et al., 2014).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::NodeId;

/// A hybrid timestamp: 48 bits of Unix milliseconds, 16 bits that count within one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HybridTime(pub u64);

impl HybridTime {
    /// The first timestamp of a millisecond.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis << 16)
    }

    /// Its wall-clock part: milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 >> 16
    }
}

impl fmt::Debug for HybridTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.millis(), self.0 & 0xffff)
    }
}

/// The order of writes that saw nothing of each other: time first, then the minting node, so
/// that no two writes are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// When the write was minted.
    #[serde(rename = "t")]
    pub time: HybridTime,
    /// Where it was minted.
    #[serde(rename = "n")]
    pub node: NodeId,
}

/// A peer's time lies too far ahead of this node's wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a peer's clock is {ahead:?} ahead of this node's: check the clocks (NTP) of both")]
pub struct ClockAhead {
    /// How far ahead it lies.
    pub ahead: Duration,
}

/// One node's hybrid clock. Wall time is an argument, so the clock is a pure state machine.
#[derive(Debug)]
pub struct HybridClock {
    last: HybridTime,
    drift_max: Duration,
}

impl HybridClock {
    /// A clock that continues above `floor`, the highest stamp stored or reserved before, and
    /// that follows peers at most `drift_max` ahead of the wall clock.
    #[must_use]
    pub const fn new(floor: HybridTime, drift_max: Duration) -> Self {
        Self { last: floor, drift_max }
    }

    /// A new timestamp, greater than every one given or accepted before.
    pub fn tick(&mut self, wall_millis: u64) -> HybridTime {
        self.last =
            HybridTime::from_millis(wall_millis).max(HybridTime(self.last.0.saturating_add(1)));
        self.last
    }

    /// A new timestamp that also lies above `seen`, a stamp that is already stored: the write
    /// supersedes it, however far ahead its clock was.
    pub fn tick_above(&mut self, wall_millis: u64, seen: HybridTime) -> HybridTime {
        let own = self.tick(wall_millis);
        // The node-wide clock is not dragged along: only this key pays for a far stamp.
        own.max(HybridTime(seen.0.saturating_add(1)))
    }

    /// Learns a peer's time.
    ///
    /// # Errors
    /// [`ClockAhead`] if it lies further ahead than allowed; the clock then stays as it is.
    pub fn observe(&mut self, wall_millis: u64, remote: HybridTime) -> Result<(), ClockAhead> {
        let ahead = Duration::from_millis(remote.millis().saturating_sub(wall_millis));
        if ahead > self.drift_max {
            return Err(ClockAhead { ahead });
        }
        self.last = self.last.max(remote);
        Ok(())
    }

    /// The last timestamp given or accepted.
    #[must_use]
    pub const fn last(&self) -> HybridTime {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::{HybridClock, HybridTime};
    use std::time::Duration;

    #[test]
    fn stamps_grow_when_the_wall_clock_goes_back() {
        let mut clock = HybridClock::new(HybridTime::default(), Duration::from_secs(5));

        let first = clock.tick(1_000);
        let second = clock.tick(400);

        assert!(second > first);
        assert_eq!(second.millis(), 1_000);
    }

    #[test]
    fn a_far_peer_does_not_drag_the_clock_along() {
        let mut clock = HybridClock::new(HybridTime::default(), Duration::from_secs(5));

        let error = clock.observe(1_000, HybridTime::from_millis(3_600_000)).unwrap_err();

        assert_eq!(error.ahead, Duration::from_secs(3_599));
        assert_eq!(clock.tick(1_000).millis(), 1_000);
    }

    #[test]
    fn a_write_supersedes_the_record_it_saw_even_if_that_lies_in_the_future() {
        let mut clock = HybridClock::new(HybridTime::default(), Duration::from_secs(5));
        let stored = HybridTime::from_millis(9_999_999);

        assert!(clock.tick_above(1_000, stored) > stored);
        assert_eq!(clock.tick(1_001).millis(), 1_001);
    }
}
