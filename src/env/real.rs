//! The seams over the operating system and tokio.
#![expect(clippy::disallowed_methods, reason = "this file is the door that the others are sent to")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use super::clock::{Clock, Monotonic, UnixMillis};
use super::entropy::Entropy;
use super::tasks::{TaskHandle, Tasks};

/// The machine's clocks, on tokio's timer.
pub struct OsClock {
    started: tokio::time::Instant,
}

impl OsClock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { started: tokio::time::Instant::now() }
    }
}

impl Default for OsClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for OsClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.started.elapsed())
    }

    fn wall(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, moment: Monotonic) -> BoxFuture<'static, ()> {
        // A century is far enough for "never", and near enough for tokio's arithmetic.
        let far = Duration::from_secs(100 * 365 * 86_400);
        let target = self.started + moment.0.min(far);
        Box::pin(async move { tokio::time::sleep_until(target).await })
    }
}

/// Random bits of a cryptographic generator, seeded by the operating system.
pub struct OsEntropy {
    generator: Mutex<StdRng>,
}

impl OsEntropy {
    /// A freshly seeded generator.
    #[must_use]
    pub fn new() -> Self {
        Self { generator: Mutex::new(StdRng::from_os_rng()) }
    }
}

impl Default for OsEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for OsEntropy {
    fn next_u64(&self) -> u64 {
        self.generator.lock().next_u64()
    }

    fn fork(&self, _label: &str) -> Arc<dyn Entropy> {
        Arc::new(Self::new())
    }
}

/// Tasks on the current tokio runtime.
pub struct TokioTasks {
    runtime: tokio::runtime::Handle,
}

impl TokioTasks {
    /// Tasks on the runtime that the caller runs on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn current() -> Self {
        Self { runtime: tokio::runtime::Handle::current() }
    }
}

impl Tasks for TokioTasks {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        let handle = self.runtime.spawn(task).abort_handle();
        TaskHandle::new(move || handle.abort())
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        drop(self.runtime.spawn_blocking(work));
    }
}
