//! Waiting until a healed cluster has nothing more to hand over, and what its nodes say.

use std::time::Duration;

use anyhow::{Context, bail};
use quorate::admin::{HintsReport, HistoryReport, RepairReport};
use quorate::env::Clock;
use serde::de::DeserializeOwned;

use super::Arena;
use crate::place::{Place, TOKEN};

/// How long hints and repair may take once faults are gone.
const PATIENCE: Duration = Duration::from_secs(120);

impl Arena {
    /// Waits until no node keeps hints and all partitions were proven anew.
    ///
    /// # Errors
    /// If that takes more than two minutes, with what is left.
    pub async fn settle(&self) -> anyhow::Result<Duration> {
        let began = self.clock.monotonic();
        let mut started = false;
        loop {
            let left = match self.left(&mut started).await {
                Ok(None) => return Ok(self.clock.monotonic().since(began)),
                Ok(Some(left)) => left,
                Err(error) => format!("{error:#}"),
            };
            if self.clock.monotonic().since(began) > PATIENCE {
                bail!("the cluster did not settle in {PATIENCE:?}: {left}");
            }
            self.clock.sleep(Duration::from_millis(500)).await;
        }
    }

    async fn left(&self, repairing: &mut bool) -> anyhow::Result<Option<String>> {
        let hints: HintsReport = self.ask("/v1/hints").await?;
        if !hints.unheard.is_empty() {
            return Ok(Some(format!("{} do not answer", hints.unheard.join(", "))));
        }
        if !hints.hints.is_empty() {
            let hints: Vec<String> = hints.hints.iter().map(|hint| format!("{hint:?}")).collect();
            return Ok(Some(format!("hints are left: {}", hints.join("; "))));
        }
        if !*repairing {
            self.cluster.command(&["repair", "start"])?;
            *repairing = true;
        }
        let repair: RepairReport = self.ask("/v1/repair").await?;
        let done = repair.run.as_ref().map_or(0, |run| run.done);
        let all = repair.redundancy.partitions;
        let missing = repair.redundancy.rows_missing;
        if done < all || repair.redundancy.proven < all || missing > 0 {
            let unproven = repair.unproven.iter().take(3);
            let unproven: Vec<String> = unproven.map(|what| format!("{what:?}")).collect();
            return Ok(Some(format!(
                "{done} of {all} partitions are proven, {missing} rows lack bytes, silent: {:?}, \
                 unproven: {}",
                repair.silent,
                unproven.join("; ")
            )));
        }
        Ok(None)
    }

    /// What stands under a key, and what lost to concurrent writes.
    ///
    /// # Errors
    /// If node 1 does not answer.
    pub async fn object_history(&self, bucket: &str, key: &str) -> anyhow::Result<HistoryReport> {
        self.ask(&format!("/v1/object/history?bucket={bucket}&key={key}")).await
    }

    /// A metric's value at each node, over all its labels.
    ///
    /// # Errors
    /// If a node does not answer.
    pub async fn metric(&self, name: &str) -> anyhow::Result<Vec<f64>> {
        let mut values = Vec::new();
        for place in self.cluster.places() {
            let text = self.probe.plain(place.admin, "/metrics", None).await;
            let text = text.with_context(|| format!("{} tells no metrics", place.admin))?;
            values.push(sum_of(&String::from_utf8_lossy(&text), name));
        }
        Ok(values)
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let places = self.cluster.places();
        let first = places.first().context("the cluster has no node")?;
        self.ask_at(first, path).await
    }

    pub(super) async fn ask_at<T: DeserializeOwned>(
        &self,
        place: &Place,
        path: &str,
    ) -> anyhow::Result<T> {
        let at = place.admin;
        let body = self.probe.plain(at, path, Some(TOKEN)).await;
        let body = body.with_context(|| format!("{at} does not answer {path}"))?;
        serde_json::from_slice(&body).with_context(|| format!("{at} answers {path} oddly"))
    }
}

/// The sum of a metric's values in Prometheus's text.
fn sum_of(text: &str, name: &str) -> f64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<f64>().ok()
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::sum_of;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_taken_for_no_other() {
        let text = "# HELP lost x\nlost 3\nlost_total 50\nkept{a=\"1\"} 2\nkept{a=\"}\"} 5\n";

        assert!((sum_of(text, "lost") - 3.0).abs() < f64::EPSILON);
        assert!((sum_of(text, "kept") - 7.0).abs() < f64::EPSILON);
        assert!(sum_of(text, "none").abs() < f64::EPSILON);
    }
}
