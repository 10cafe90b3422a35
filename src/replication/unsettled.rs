//! Partitions whose owners are known to have parted: hints came in, an owner missed a write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::{Clock, Monotonic};
use crate::ring::Partition;

/// Noted beside requests, looked at by those who begin rounds of repair.
pub(crate) struct Unsettled {
    clock: Arc<dyn Clock>,
    /// When something was noted of a partition last. There are no more than partitions.
    noted: Mutex<BTreeMap<Partition, Monotonic>>,
}

impl Unsettled {
    /// Nothing is noted.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, noted: Mutex::default() })
    }

    /// The owners of `partition` may not hold the same.
    pub(crate) fn note(&self, partition: Partition) {
        self.noted.lock().insert(partition, self.clock.monotonic());
    }

    /// Takes the partitions of which nothing was noted for `quiet`: while a backlog still comes
    /// in, a comparison would only find what is on its way.
    pub(crate) fn take_quiet(&self, quiet: Duration) -> Vec<Partition> {
        let now = self.clock.monotonic();
        let mut noted = self.noted.lock();
        let ripe: Vec<Partition> = noted
            .iter()
            .filter(|(_, at)| now.since(**at) >= quiet)
            .map(|(partition, _)| *partition)
            .collect();
        for partition in &ripe {
            noted.remove(partition);
        }
        ripe
    }
}
