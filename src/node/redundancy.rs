//! How many copies are proven, as the admin API and health tell it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::admin::{
    AdminError, ErrorKind, Finding, HealthLevel, Redundancy, RepairAction, RepairNode,
    RepairReport, RepairRequest, RepairRun, Unproven,
};
use crate::replication::{Command, Inventory, PartitionRedundancy, ReplicationError};
use crate::ring::Partition;
use crate::types::NodeId;

use super::start::Node;
use super::status::name_of;

/// Partitions that a report names one by one.
const UNPROVEN_MAX: usize = 100;

/// What health says of redundancy.
pub(super) struct Proof {
    pub(super) redundancy: Redundancy,
    paused: usize,
}

impl Proof {
    /// The part of the health line.
    pub(super) fn summary(&self) -> String {
        let Redundancy { proven, partitions, oldest_proof_seconds, .. } = &self.redundancy;
        let oldest = oldest_proof_seconds.map(|seconds| format!(" (oldest {seconds} s ago)"));
        format!("{proven}/{partitions} partitions fully proven{}", oldest.unwrap_or_default())
    }

    /// What is not as it should be.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let Redundancy { proven, partitions, never_proven, rows_missing, fresh_seconds, .. } =
            &self.redundancy;
        let mut findings = Vec::new();
        let mut warn = |code: &str, summary: String, next: &str| {
            findings.push(Finding {
                code: code.to_owned(),
                level: HealthLevel::Warn,
                summary,
                next: next.to_owned(),
            });
        };
        if proven < partitions {
            let summary = format!(
                "{} of {partitions} partitions have no proof of the last {fresh_seconds} s, made \
                 since their owners were started, that all their copies agree; {never_proven} of \
                 them never had one",
                partitions - proven
            );
            warn("NOT_PROVEN", summary, "quorate repair status");
        }
        if *rows_missing > 0 {
            let summary =
                format!("{rows_missing} rows wait for bytes that are not on all their owners");
            warn("BYTES_MISSING", summary, "quorate repair status");
        }
        if self.paused > 0 {
            let summary = format!("repair is paused on {} nodes", self.paused);
            warn("REPAIR_PAUSED", summary, "quorate repair resume");
        }
        findings
    }
}

impl Node {
    /// What is proven, as all nodes together know it; `None` before the first layout.
    pub(super) async fn proof(&self) -> Option<Proof> {
        let inventory = self.repair.inventory(Command::Tell).await.ok()?;
        let paused = inventory.nodes.values().filter(|node| node.paused).count();
        Some(Proof { redundancy: self.redundancy(&inventory), paused })
    }

    fn redundancy(&self, inventory: &Inventory) -> Redundancy {
        let fresh = self.repair.settings().fresh();
        let summary = inventory.summary(self.seams.clock.wall().0, fresh);
        Redundancy {
            partitions: summary.partitions,
            proven: summary.proven,
            never_proven: summary.never_proven,
            short: summary.short,
            rows_missing: summary.rows_missing,
            oldest_proof_seconds: summary.oldest_proof_seconds,
            fresh_seconds: fresh.as_secs(),
        }
    }

    /// Tells repair something on every node, and how it goes.
    pub(super) async fn repair_report(
        &self,
        request: Option<RepairRequest>,
    ) -> Result<RepairReport, AdminError> {
        let command = self.command(request)?;
        let inventory = self.repair.inventory(command).await.map_err(|error| match error {
            ReplicationError::NoLayout => {
                AdminError::new(ErrorKind::NotInitialized, error.to_string())
                    .next("quorate cluster init --expect 3")
            }
            error => AdminError::new(ErrorKind::Unavailable, error.to_string()),
        })?;
        let now = self.seams.clock.wall().0;
        let peers = self.membership.gossip().peers();
        let names: BTreeMap<NodeId, String> =
            peers.iter().map(|peer| (peer.node, name_of(peer))).collect();
        let name = |node: NodeId| names.get(&node).cloned().unwrap_or_else(|| node.short());
        let layout = self.membership.holder().current();
        let members = layout.iter().flat_map(|layout| layout.members().iter());
        let silent = members.map(|member| member.node);
        let silent = silent.filter(|node| !inventory.nodes.contains_key(node)).map(name).collect();
        Ok(RepairReport {
            redundancy: self.redundancy(&inventory),
            interval_seconds: self.repair.settings().interval.as_secs(),
            run: run(&inventory, now),
            nodes: nodes(&inventory, &name),
            silent,
            unproven: unproven(&inventory, now, self.repair.settings().fresh()),
        })
    }

    fn command(&self, request: Option<RepairRequest>) -> Result<Command, AdminError> {
        let Some(request) = request else { return Ok(Command::Tell) };
        let partitions =
            self.membership.holder().current().map_or(0, |layout| layout.partitions().get());
        if let Some(partition) = request.partition.filter(|partition| *partition >= partitions) {
            let message = format!("there is no partition {partition}: there are {partitions}");
            return Err(AdminError::new(ErrorKind::Invalid, message).next("quorate ring"));
        }
        Ok(match request.action {
            RepairAction::Start => {
                let partition = request.partition.map(Partition::from);
                Command::Start { partition, since: self.coordinator.site().now() }
            }
            RepairAction::Pause => Command::Pause,
            RepairAction::Resume => Command::Resume,
        })
    }
}

fn run(inventory: &Inventory, now: u64) -> Option<RepairRun> {
    let started = inventory.nodes.values().filter_map(|node| node.started).max()?;
    let done = inventory.partitions.iter().filter_map(|partition| partition.proven_at);
    let done = done.filter(|at| *at >= started).count() as u64;
    let all = inventory.partitions.len() as u64;
    let elapsed = now.saturating_sub(started.millis()) / 1_000;
    let left = (done > 0).then(|| elapsed * all.saturating_sub(done) / done.max(1));
    Some(RepairRun {
        started_unix_ms: started.millis(),
        elapsed_seconds: elapsed,
        done: u32::try_from(done).unwrap_or(u32::MAX),
        left_seconds: left,
    })
}

fn nodes(inventory: &Inventory, name: &dyn Fn(NodeId) -> String) -> Vec<RepairNode> {
    let mut nodes: Vec<RepairNode> = inventory
        .nodes
        .iter()
        .map(|(node, repair)| RepairNode {
            name: name(*node),
            node_id: *node,
            paused: repair.paused,
            building: repair.building,
            rounds_under_way: repair.rounds_under_way,
            rows_pulled: repair.rows_pulled,
            rows_pushed: repair.rows_pushed,
            tombstones_purged: repair.tombstones_purged,
            leaves_corrected: repair.leaves_corrected,
            bytes_sent: repair.bytes_sent,
            purge_blocked: repair.purge_blocked.clone(),
        })
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

fn unproven(inventory: &Inventory, now: u64, fresh: Duration) -> Vec<Unproven> {
    let age = |partition: &PartitionRedundancy| {
        partition.fully_proven_at.map(|at| now.saturating_sub(at.millis()) / 1_000)
    };
    let behind = inventory.partitions.iter().filter(|partition| {
        let proven = age(partition).is_some_and(|age| age <= fresh.as_secs());
        !proven || partition.rows_missing > 0
    });
    behind
        .take(UNPROVEN_MAX)
        .map(|partition| Unproven {
            partition: partition.partition.as_u32(),
            copies: partition.copies,
            wanted: partition.wanted,
            full_proof_seconds: age(partition),
            rows_missing: partition.rows_missing,
        })
        .collect()
}
