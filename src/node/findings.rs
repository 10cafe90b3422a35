//! What `status` finds wrong about clocks, identities and data folders.

use crate::admin::{Finding, HealthLevel, NodeStatus, Rebuilt};
use crate::membership::{CLOCK_OFFSET_MAX, PeerState, facts};

use super::start::Node;
use super::status::name_of;

/// How far a peer says that it has been rebuilt.
pub(super) fn rebuilt(peer: &PeerState) -> Option<Rebuilt> {
    let (done, total) = peer.facts.get(facts::REBUILDING)?.split_once('/')?;
    Some(Rebuilt { done: done.parse().ok()?, total: total.parse().ok()? })
}

impl Node {
    /// Findings about clocks, rebuilding nodes, nodes of other clusters, and this node's folder.
    pub(super) fn membership_findings(
        &self,
        peers: &[PeerState],
        nodes: &[NodeStatus],
    ) -> Vec<Finding> {
        let mut findings: Vec<Finding> = nodes.iter().filter_map(rebuilding).collect();
        findings.extend(self.clock_findings(nodes));
        for peer in self.membership.strangers_among(peers) {
            findings.push(Finding {
                code: "CLUSTER_MISMATCH".to_owned(),
                level: HealthLevel::Warn,
                summary: format!(
                    "node {} ({}) has this cluster's secret and belongs to cluster {}",
                    name_of(peer),
                    peer.peer_address,
                    peer.facts.get(facts::CLUSTER).map_or("?", String::as_str)
                ),
                next: "give each cluster a secret of its own".to_owned(),
            });
        }
        if let Some(reason) = self.membership.verdict().borrow().clone() {
            findings.push(Finding {
                code: "FOLDER_ROLLED_BACK".to_owned(),
                level: HealthLevel::Critical,
                summary: reason,
                next: "stop this node, empty its data folder, start it again".to_owned(),
            });
        }
        findings
    }

    fn clock_findings(&self, nodes: &[NodeStatus]) -> Vec<Finding> {
        let now = self.seams.clock.monotonic();
        let clocks = &self.membership.memory().clocks;
        let median = clocks.median(now).map_or(0, |(median, _)| median);
        let wrong = |node: &&NodeStatus| {
            let lead = node.clock_offset_ms.map_or(0, |ahead| ahead.saturating_sub(median));
            u128::from(lead.unsigned_abs()) > CLOCK_OFFSET_MAX.as_millis()
        };
        let skewed = |node: &NodeStatus| Finding {
            code: "CLOCK_SKEW".to_owned(),
            level: HealthLevel::Warn,
            summary: format!(
                "the clock of node {} is {:+} ms from the median of the others: it refuses sloppy \
                 writes beyond {} ms",
                node.name,
                node.clock_offset_ms.map_or(0, |ahead| ahead.saturating_sub(median)),
                CLOCK_OFFSET_MAX.as_millis()
            ),
            next: format!(
                "set the clock of node {} (chronyc tracking; chronyc makestep)",
                node.name
            ),
        };
        nodes.iter().filter(wrong).map(skewed).collect()
    }
}

fn rebuilding(node: &NodeStatus) -> Option<Finding> {
    let Rebuilt { done, total } = node.rebuilding?;
    Some(Finding {
        code: "REBUILDING".to_owned(),
        level: HealthLevel::Warn,
        summary: format!(
            "node {} lost its data folder and has {done} of {total} partitions back; it counts for \
             no quorum of the others yet",
            node.name
        ),
        next: "leave it running, and keep the other nodes up; quorate repair status".to_owned(),
    })
}
