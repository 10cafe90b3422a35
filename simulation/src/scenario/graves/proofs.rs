//! Proofs tell the truth: none is about a copy whose machine is down.

use std::sync::Arc;
use std::time::Duration;

use quorate::replication::Command;

use super::State;
use crate::cluster::Cluster;
use crate::entropy::Seed;
use crate::faults::pick;
use crate::scenario::Plan;

/// With one machine down for a while, no partition of which it holds a copy is proven in full.
pub(super) async fn name_no_one_away(
    cluster: &Arc<Cluster>,
    state: &State,
    seed: Seed,
    plan: &Plan,
) -> anyhow::Result<()> {
    let time = cluster.world().time();
    let away = pick(seed.of("proofs"), &plan.node_ids());
    cluster.crash(away);
    // Rounds that were under way have ended, and peers have noticed.
    time.sleep(Duration::from_secs(20)).await;
    let others: Vec<_> = plan.node_ids().into_iter().filter(|node| *node != away).collect();
    let nodes = cluster.these_up(&others, Duration::from_secs(5)).await?;
    let Some(node) = nodes.first() else { return Ok(()) };
    let since = node.coordinator.site().now();
    node.repair.inventory(Command::Start { partition: None, since }).await?;
    time.sleep(Duration::from_secs(3 * plan.interval_seconds + 10)).await;
    let layout = node.coordinator.layout()?;
    let inventory = node.repair.inventory(Command::Tell).await?;
    for partition in &inventory.partitions {
        let list = layout.preference_list(partition.partition);
        let owns = list.owners(usize::from(plan.copies)).contains(&away);
        if owns && partition.fully_proven_at.is_some_and(|at| at > since) {
            let number = partition.partition.as_u32();
            state.violate(format!("I3: partition {number} was proven in full without an owner"));
        }
    }
    cluster.start(away);
    cluster.all_up(Duration::from_secs(30)).await.map(drop)
}
