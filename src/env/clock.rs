//! Time, as the clock seam gives it.

use std::future::Future;
use std::ops::Add;
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};
use serde::{Deserialize, Serialize};

/// A moment on one node's monotonic clock: time since that clock's own start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// The time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Wall-clock time: milliseconds since 1970-01-01 UTC. It may jump and disagree between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

/// One node's clocks.
pub trait Clock: Send + Sync + 'static {
    /// Time that never goes back, for deadlines and measurements.
    fn monotonic(&self) -> Monotonic;

    /// Time of day, for stamps and people.
    fn wall(&self) -> UnixMillis;

    /// Resolves at `moment`, at once if it has passed.
    fn sleep_until(&self, moment: Monotonic) -> BoxFuture<'static, ()>;

    /// Resolves after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.monotonic() + duration)
    }
}

/// The moment `duration` from now.
pub fn deadline_in(clock: &dyn Clock, duration: Duration) -> Monotonic {
    clock.monotonic() + duration
}

/// The future's value, or `None` once `deadline` has come.
pub async fn timeout_at<F: Future>(
    clock: &dyn Clock,
    deadline: Monotonic,
    future: F,
) -> Option<F::Output> {
    let future = std::pin::pin!(future);
    // The future is polled first, so that a value that is there is never thrown away.
    match select(future, clock.sleep_until(deadline)).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(((), _)) => None,
    }
}
