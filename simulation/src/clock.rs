//! The twin of a node's clocks: paused monotonic time, and a wall clock that can be wrong.
#![expect(clippy::disallowed_methods, reason = "this file is a clock: others are sent to it")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use quorate::env::{Clock, Monotonic, UnixMillis};

/// Far enough for "never", near enough for tokio's arithmetic.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// When the simulated world began: 2026-01-01 00:00:00 UTC.
const BASE: UnixMillis = UnixMillis(1_767_225_600_000);

/// The time that every part of one simulated world shares.
#[derive(Clone, Copy, Debug)]
pub struct WorldTime {
    began: tokio::time::Instant,
}

impl WorldTime {
    /// A time that begins now, on the paused clock of the runtime that the caller runs on.
    #[must_use]
    pub fn begin() -> Self {
        Self { began: tokio::time::Instant::now() }
    }

    /// How long the world has been running.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Resolves after `duration`, rounded up to a millisecond (the timer's resolution).
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration.min(NEVER)).await;
    }
}

#[derive(Debug)]
struct Skew {
    /// Difference to true time when `since` was current.
    offset_millis: i64,
    /// Milliseconds gained per million.
    drift: i32,
    /// When offset and drift were set.
    since: Duration,
}

impl Skew {
    fn at(&self, now: Duration) -> i64 {
        let span = i64::try_from(now.saturating_sub(self.since).as_millis()).unwrap_or(i64::MAX);
        let gained = span.saturating_mul(i64::from(self.drift)) / 1_000_000;
        self.offset_millis.saturating_add(gained)
    }
}

/// A machine's time of day: true time, an offset and a drift. It outlives the node's restarts.
#[derive(Debug)]
pub struct WallClock {
    time: WorldTime,
    skew: Mutex<Skew>,
}

impl WallClock {
    /// A wall clock that shows true time.
    #[must_use]
    pub fn new(time: WorldTime) -> Self {
        let skew = Skew { offset_millis: 0, drift: 0, since: Duration::ZERO };
        Self { time, skew: Mutex::new(skew) }
    }

    /// Time of day as this machine believes it to be.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        let elapsed = self.time.elapsed();
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let truth = BASE.0.saturating_add(millis);
        UnixMillis(truth.saturating_add_signed(self.skew.lock().at(elapsed)))
    }

    /// Moves the clock by `millis` at once, forward or back.
    pub fn jump(&self, millis: i64) {
        let now = self.time.elapsed();
        let mut skew = self.skew.lock();
        skew.offset_millis = skew.at(now).saturating_add(millis);
        skew.since = now;
    }

    /// Lets the clock gain `drift` milliseconds per million from now on (negative: lose).
    pub fn set_drift(&self, drift: i32) {
        let now = self.time.elapsed();
        let mut skew = self.skew.lock();
        skew.offset_millis = skew.at(now);
        skew.since = now;
        skew.drift = drift;
    }

    /// Sets the clock right, as a time server does.
    pub fn set_right(&self) {
        *self.skew.lock() = Skew { offset_millis: 0, drift: 0, since: self.time.elapsed() };
    }
}

/// One running node's clocks. Monotonic time starts at zero with each boot.
#[derive(Clone, Debug)]
pub struct SimClock {
    started: tokio::time::Instant,
    wall: Arc<WallClock>,
}

impl SimClock {
    /// The clocks of a node that boots now on a machine with this wall clock.
    #[must_use]
    pub fn boot(wall: Arc<WallClock>) -> Self {
        Self { started: tokio::time::Instant::now(), wall }
    }
}

impl Clock for SimClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.started.elapsed())
    }

    fn wall(&self) -> UnixMillis {
        self.wall.now()
    }

    fn sleep_until(&self, moment: Monotonic) -> BoxFuture<'static, ()> {
        let target = self.started + moment.0.min(NEVER);
        Box::pin(tokio::time::sleep_until(target))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use quorate::env::Clock;

    use super::{SimClock, WallClock, WorldTime};

    #[tokio::test(start_paused = true)]
    async fn a_drifting_wall_clock_leaves_monotonic_time_alone() {
        let time = WorldTime::begin();
        let wall = Arc::new(WallClock::new(time));
        let clock = SimClock::boot(Arc::clone(&wall));
        let before = clock.wall();

        wall.set_drift(1_000);
        clock.sleep(Duration::from_secs(1_000)).await;
        wall.jump(-250);

        assert_eq!(clock.monotonic().0, Duration::from_secs(1_000));
        assert_eq!(clock.wall().0 - before.0, 1_000_000 + 1_000 - 250);
        wall.set_right();
        assert_eq!(clock.wall().0 - before.0, 1_000_000);
    }
}
