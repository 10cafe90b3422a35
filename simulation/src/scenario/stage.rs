//! The phases that every run of a cluster goes through.
//!
//! 1. *Before*: the cluster comes into being, and a bucket.
//! 2. *Faults*: clients work while faults strike; what must always hold is looked at.
//! 3. *A core*: only a quorum of every partition is healed, and must make progress.
//! 4. *After*: all is healed, and everything is compared; then once more after a start from disk.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::future::select;
use parking_lot::Mutex;
use quorate::catalog::{BucketName, CreateBucket, OwnerId};
use quorate::replication::Level;
use quorate::types::NodeId;

use super::{Plan, Report, RunOptions};
use crate::cluster::{Cluster, Mains, Started};
use crate::entropy::Seed;
use crate::faults::{self, Machines};
use crate::world::{World, WorldOptions};

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The cluster is being set up.
    Before,
    /// Clients work and faults strike.
    Faults,
    /// All is healed, and what there is is looked at.
    After,
}

/// A stage that clients look at. Clones are one.
#[derive(Clone)]
pub struct Curtain(Arc<Mutex<Stage>>);

impl Default for Curtain {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Stage::Before)))
    }
}

impl Curtain {
    /// How far the run has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        *self.0.lock()
    }

    /// Goes on to a stage.
    pub fn enter(&self, stage: Stage) {
        *self.0.lock() = stage;
    }
}

/// The world of a plan, switched off.
#[must_use]
pub fn world_of(seed: Seed, plan: &Plan, options: RunOptions) -> Arc<World> {
    let blocking_max = Duration::from_millis(plan.blocking_millis);
    let world_options =
        WorldOptions { text: options.text, blocking_max, ..WorldOptions::default() };
    World::new(seed, world_options)
}

/// The cluster of a plan, switched off. `started` is called after each start of a node.
///
/// # Errors
/// If an identity cannot be written.
pub fn cluster_of(
    world: &Arc<World>,
    plan: &Plan,
    started: Started,
) -> anyhow::Result<Arc<Cluster>> {
    Cluster::new(world, plan.cluster(), started)
}

/// Starts all nodes and creates a bucket.
///
/// # Errors
/// If that does not succeed in time.
pub async fn found(cluster: &Arc<Cluster>, plan: &Plan, bucket: &str) -> anyhow::Result<()> {
    let world = cluster.world();
    world.nodes().into_iter().for_each(|node| cluster.start(node));
    cluster.init().await.context("the cluster did not come into being")?;
    create_bucket(cluster, bucket, (plan.level, plan.copies)).await
}

/// Creates a bucket, trying again for a while.
///
/// # Errors
/// If it cannot be created in time.
pub async fn create_bucket(
    cluster: &Arc<Cluster>,
    bucket: &str,
    (level, copies): (Level, u8),
) -> anyhow::Result<()> {
    let nodes = cluster.all_up(Duration::from_secs(10)).await?;
    let first = nodes.first().context("a cluster needs a node")?;
    let name: BucketName = bucket.parse()?;
    let owner = OwnerId("owner".to_owned());
    let request = CreateBucket { name, owner, level: Some(level), n: Some(copies) };
    let mut last = String::new();
    for _ in 0..50 {
        match first.catalog.create_bucket(request.clone()).await {
            Ok(_) => return Ok(()),
            // Gossip may not have told yet that all are there.
            Err(error) => last = error.to_string(),
        }
        cluster.world().time().sleep(Duration::from_millis(200)).await;
    }
    Err(anyhow!("bucket '{bucket}' cannot be created: {last}"))
}

/// Lets faults strike as planned. At its end links may still be cut and machines be down.
pub async fn suffer(cluster: &Arc<Cluster>, plan: &Plan) {
    cluster.set_mains(plan.mains);
    {
        let machines: &dyn Machines = cluster;
        let faults = faults::carry_out(cluster.world(), &plan.faults, machines);
        let _ended = select(std::pin::pin!(faults), std::pin::pin!(cluster.tend())).await;
    }
    cluster.set_mains(Mains::Steady);
    for node in cluster.dark() {
        cluster.start(node);
    }
}

/// Heals a quorum of every partition and cuts the others off; the healed nodes.
#[must_use]
pub fn heal_core(cluster: &Arc<Cluster>, seed: Seed, plan: &Plan) -> Vec<NodeId> {
    let mut core = plan.node_ids();
    let spared = usize::from(plan.copies) - (usize::from(plan.copies) / 2 + 1);
    for number in 0..spared {
        let place = seed.of("left out").with(number as u64).between(0, core.len() as u64 - 1);
        core.remove(usize::try_from(place).unwrap_or_default());
    }
    let rest: Vec<NodeId> =
        plan.node_ids().into_iter().filter(|node| !core.contains(node)).collect();
    faults::cut_off(cluster.world(), &rest);
    let machines: &dyn Machines = cluster;
    faults::heal(cluster.world(), &core, machines);
    core
}

/// Heals everything.
pub fn heal_all(cluster: &Arc<Cluster>) {
    let machines: &dyn Machines = cluster;
    faults::heal(cluster.world(), &cluster.world().nodes(), machines);
}

/// Ends all nodes and starts them from their disks.
pub fn restart_all(cluster: &Arc<Cluster>) {
    let nodes = cluster.world().nodes();
    nodes.iter().for_each(|node| cluster.crash(*node));
    nodes.iter().for_each(|node| cluster.start(*node));
}

/// The report of a run that has ended: the world is shut down, and what it holds is let go.
#[must_use]
pub fn report(seed: Seed, cluster: &Cluster, found: Found) -> Report {
    let world = cluster.world();
    world.shut_down();
    let Found { operations, mut violations, more_lines } = found;
    violations.extend(cluster.failures());
    violations.extend(world.panics().into_iter().map(|panic| format!("I7: panic in {panic}")));
    let mut lines = world.trace().lines();
    if !lines.is_empty() {
        lines.extend(more_lines);
    }
    let report = Report {
        seed,
        trace: world.trace().summary(),
        operations,
        passed: cluster.coverage().passed(),
        died: cluster.coverage().died(),
        violations,
        lines,
    };
    cluster.clear();
    report
}

/// What a scenario has to say of a run.
#[derive(Default)]
pub struct Found {
    /// Operations by how they ended.
    pub operations: crate::coverage::Counts,
    /// What should have held and did not.
    pub violations: Vec<String>,
    /// Lines for the text log.
    pub more_lines: Vec<String>,
}
