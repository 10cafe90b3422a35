//! What nodes notice of faults: clocks that are off, and damaged bytes.

use std::time::Duration;

use futures_util::future::join_all;
use quorate::admin::ClusterStatus;
use quorate::env::Clock;

use super::Arena;

/// How long nodes may take to read all that they keep.
const SCRUB_PATIENCE: Duration = Duration::from_secs(120);

/// Where nodes count damage: chunks that were read, extents that the scrubber read, and spans that
/// were found at start.
const DAMAGE: [&str; 3] = [
    "quorate_store_damaged_reads_total",
    "quorate_scrub_damaged_total",
    "quorate_store_damaged_spans_total",
];

impl Arena {
    /// How far off nodes see the clock of `node`, in milliseconds, each that has a reading; the
    /// node itself sees all others off.
    pub async fn clock_readings(&self, node: usize) -> Vec<i64> {
        let places = self.cluster.places();
        let asked = (1..).zip(&places).map(|(number, place)| async move {
            let status = self.ask_at::<ClusterStatus>(place, "/v1/status").await.ok()?;
            Some((number, status))
        });
        let mut readings = Vec::new();
        for (number, status) in join_all(asked).await.into_iter().flatten() {
            readings.extend(readings_of(&status, number, node));
        }
        readings
    }

    /// How often nodes found damaged bytes since they were started.
    ///
    /// # Errors
    /// If a node does not answer.
    pub async fn damage_found(&self) -> anyhow::Result<Vec<f64>> {
        let mut found = vec![0.0; self.cluster.places().len()];
        for name in DAMAGE {
            for (sum, value) in found.iter_mut().zip(self.metric(name).await?) {
                *sum += value;
            }
        }
        Ok(found)
    }

    /// Waits until every node has ended so many more rounds of reading all that it keeps. Whether
    /// all did in time.
    ///
    /// # Errors
    /// If a node does not answer.
    pub async fn await_scrubs(&self, wanted: u32) -> anyhow::Result<bool> {
        let began = self.clock.monotonic();
        let before = self.metric("quorate_scrub_rounds_total").await?;
        loop {
            let rounds = self.metric("quorate_scrub_rounds_total").await?;
            let least = f64::from(wanted) - 0.5;
            if before.iter().zip(&rounds).all(|(before, now)| now - before > least) {
                return Ok(true);
            }
            if self.clock.monotonic().since(began) > SCRUB_PATIENCE {
                return Ok(false);
            }
            self.clock.sleep(Duration::from_millis(500)).await;
        }
    }
}

/// How far off the clock of `node` is, as `asker` says.
fn readings_of(status: &ClusterStatus, asker: usize, node: usize) -> Vec<i64> {
    let wanted = format!("n{node}");
    let others = status.nodes.iter().filter_map(|other| {
        let offset = other.clock_offset_ms?;
        match (asker == node, other.name == wanted) {
            (true, false) => Some(-offset),
            (false, true) => Some(offset),
            _ => None,
        }
    });
    others.collect()
}
