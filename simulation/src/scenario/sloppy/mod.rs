//! Sloppy buckets stay available while owners are away, and converge when all are back.
//!
//! What must hold: a cluster that has lost any two owners of a partition, or is split in two, goes
//! on taking writes at level `eventual`; when all is healed, hints drain to none, nothing that was
//! acknowledged is lost to an older write, all owners hold the same rows, nobody else holds any,
//! and the leaves of every tree are the sums of the rows (I2, I3, I4, I9). Keys of the key-value
//! API lose no value that nobody saw.

mod converge;
mod siblings;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::future::select;
use parking_lot::Mutex;
use quorate::catalog::{BucketName, CreateBucket, OwnerId};
use quorate::env::Tasks;
use quorate::replication::{Level, Patience};
use quorate::types::{Key, NodeId};

use super::{Report, RunOptions};
use crate::cluster::{Cluster, ClusterOptions, Mains, Started};
use crate::entropy::Seed;
use crate::faults::{self, Fault, PlannedFault};
use crate::world::{World, WorldOptions, simulate};

use siblings::{SiblingLedger, SiblingWriter};
use writer::{Ledger, Writer};

/// The bucket that everything happens in.
const BUCKET: &str = "sloppy";

/// How many nodes there are: two more than a row has owners.
const NODES: u8 = 5;

/// After all is healed, hints are delivered and owners agree within this time.
const CONVERGED: Duration = Duration::from_secs(240);

/// After this time no write of the time of faults is under way any more.
const UNDER_WAY_MAX: Duration = Duration::from_secs(40);

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The cluster is being set up.
    Before,
    /// Writers work and faults strike.
    Faults,
    /// All is healed.
    After,
}

/// What all writers share. It outlives every boot, as an observer does.
struct State {
    keys: Vec<Key>,
    stage: Mutex<Stage>,
    ledger: Mutex<Ledger>,
    siblings: Mutex<SiblingLedger>,
    operations: Mutex<BTreeMap<&'static str, u64>>,
    violations: Mutex<Vec<String>>,
}

impl State {
    fn violate(&self, what: String) {
        self.violations.lock().push(what);
    }

    fn count(&self, word: &'static str) {
        *self.operations.lock().entry(word).or_default() += 1;
    }
}

/// Runs the scenario of `seed`.
///
/// # Errors
/// If the runtime cannot be made. Violations are in the report.
pub fn run(seed: Seed, options: RunOptions) -> anyhow::Result<Report> {
    simulate(Box::pin(run_seed(seed, options)))?
}

/// Which level the bucket has: the first is the one that must never refuse.
fn level(seed: Seed) -> Level {
    match seed.of("level").between(0, 3) {
        0 | 1 => Level::Eventual,
        2 => Level::Quorum,
        _ => Level::Numbers { r: 1, w: 2 },
    }
}

/// A split in two halves, two nodes away at once, or whatever comes.
fn plan(seed: Seed, span: Duration) -> Vec<PlannedFault> {
    let nodes: Vec<NodeId> = (1..=NODES).map(World::node_id).collect();
    let span_millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let at_millis = span_millis / 6;
    let lasts_millis = span_millis * 2 / 3;
    let first = seed.of("first").between(0, u64::from(NODES) - 1);
    let second = first + seed.of("second").between(1, u64::from(NODES) - 1);
    let node = |number: u64| nodes[usize::try_from(number).unwrap_or_default() % nodes.len()];
    let pair = [node(first), node(second)];
    match seed.of("kind").between(0, 2) {
        0 => pair
            .map(|node| PlannedFault { at_millis, lasts_millis, fault: Fault::Crash { node } })
            .to_vec(),
        1 => {
            let others = nodes.iter().filter(|node| !pair.contains(node));
            let cuts = others.flat_map(|&other| pair.map(|one| Fault::Split { one, other }));
            cuts.map(|fault| PlannedFault { at_millis, lasts_millis, fault }).collect()
        }
        _ => {
            let mut faults = faults::plan(seed.of("faults"), &nodes, span);
            // Wrong clocks decide who wins, which is another matter than what is kept.
            faults.retain(|planned| {
                !matches!(planned.fault, Fault::ClockJump { .. } | Fault::ClockDrift { .. })
            });
            faults
        }
    }
}

async fn run_seed(seed: Seed, options: RunOptions) -> anyhow::Result<Report> {
    let world_options = WorldOptions { text: options.text, ..WorldOptions::default() };
    let world = World::new(seed, world_options);
    let keys = seed.of("keys").between(2, 24);
    let state = Arc::new(State {
        keys: (0..keys).filter_map(|number| Key::new(format!("key/{number:02}")).ok()).collect(),
        stage: Mutex::new(Stage::Before),
        ledger: Mutex::default(),
        siblings: Mutex::default(),
        operations: Mutex::default(),
        violations: Mutex::default(),
    });
    let patience = Patience {
        answer: Duration::from_millis(seed.of("answer").between(1_000, 4_000)),
        ..Patience::default()
    };
    let cluster_options = ClusterOptions { nodes: NODES, patience, ..ClusterOptions::default() };
    let cluster = Cluster::new(&world, cluster_options, writers(&state))?;

    if let Err(error) = conduct(&cluster, &state, seed, options.span).await {
        state.violate(format!("I3: {error:#}"));
    }

    world.shut_down();
    let mut violations = state.violations.lock().clone();
    violations.extend(cluster.failures());
    violations.extend(world.panics().into_iter().map(|panic| format!("I7: panic in {panic}")));
    let report = Report {
        seed,
        trace: world.trace().summary(),
        operations: state.operations.lock().clone(),
        violations,
        lines: world.trace().lines(),
    };
    cluster.clear();
    Ok(report)
}

/// Starts a writer beside each node that starts.
fn writers(state: &Arc<State>) -> Started {
    let state = Arc::clone(state);
    Box::new(move |node, sim| {
        if *state.stage.lock() != Stage::After {
            let writer = Writer::new(&state, node, sim);
            sim.tasks.spawn("writer", Box::pin(writer.work())).detach();
            let writer = SiblingWriter::new(&state, node, sim);
            sim.tasks.spawn("sibling writer", Box::pin(writer.work())).detach();
        }
    })
}

async fn conduct(
    cluster: &Arc<Cluster>,
    state: &Arc<State>,
    seed: Seed,
    span: Duration,
) -> anyhow::Result<()> {
    let world = cluster.world();
    world.nodes().into_iter().for_each(|node| cluster.start(node));
    cluster.init().await.context("the cluster did not come into being")?;
    create_bucket(cluster, level(seed)).await?;

    *state.stage.lock() = Stage::Faults;
    let unsteady = seed.of("mains").between(0, 2) == 0;
    cluster.set_mains(if unsteady { Mains::Unsteady } else { Mains::Steady });
    {
        let plan = plan(seed.of("plan"), span);
        let faults = faults::carry_out(world, &plan, |node| cluster.start(node));
        let _ended = select(std::pin::pin!(faults), std::pin::pin!(cluster.tend())).await;
    }
    *state.stage.lock() = Stage::After;
    cluster.set_mains(Mains::Steady);
    for node in cluster.dark() {
        cluster.start(node);
    }
    cluster.all_up(Duration::from_secs(30)).await?;
    // What was under way when the faults ended may still take effect.
    world.time().sleep(UNDER_WAY_MAX).await;

    converge::all_agree(cluster, CONVERGED).await?;
    converge::newest_stand(cluster, state).await?;
    siblings::none_is_lost(cluster, state).await?;
    // What stands must stand on the disks too.
    world.nodes().into_iter().for_each(|node| cluster.crash(node));
    world.nodes().into_iter().for_each(|node| cluster.start(node));
    cluster.all_up(Duration::from_secs(30)).await?;
    converge::all_agree(cluster, CONVERGED).await?;
    converge::newest_stand(cluster, state).await?;
    siblings::none_is_lost(cluster, state).await
}

async fn create_bucket(cluster: &Arc<Cluster>, level: Level) -> anyhow::Result<()> {
    let nodes = cluster.all_up(Duration::from_secs(10)).await?;
    let first = nodes.first().context("a cluster needs a node")?;
    let name: BucketName = BUCKET.parse()?;
    let owner = OwnerId("owner".to_owned());
    let request = CreateBucket { name, owner, level: Some(level), n: None };
    for _ in 0..50 {
        match first.catalog.create_bucket(request.clone()).await {
            Ok(_) => return Ok(()),
            // Gossip may not have told yet that all are there.
            Err(_) => cluster.world().time().sleep(Duration::from_millis(200)).await,
        }
    }
    Err(anyhow!("bucket '{BUCKET}' cannot be created"))
}
