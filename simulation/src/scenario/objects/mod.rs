//! Real nodes serve objects to clients of every gateway while links, nodes and clocks fail.
//!
//! What must hold is named after the invariants of the design: what was acknowledged is on a
//! quorum, so that any one machine can be spared (I1), nothing acknowledged is lost (I2),
//! copies converge (I3), nothing deleted comes back (I4), every byte is the right one (I5), no
//! node panics (I7), every request ends and all succeed soon after the faults (I8), and what was
//! answered as not done is never seen (I9).

mod audit;
pub(super) mod body;
mod client;
pub(super) mod history;
mod listing;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::future::{join, select};
use parking_lot::Mutex;
use quorate::catalog::{BucketName, CreateBucket, OwnerId};
use quorate::env::Tasks;
use quorate::replication::Patience;
use quorate::types::{Key, NodeId};

use super::{Report, RunOptions};
use crate::clock::WorldTime;
use crate::cluster::{Cluster, ClusterOptions, Mains, Started};
use crate::entropy::Seed;
use crate::faults::{self, Fault, PlannedFault};
use crate::trace::Trace;
use crate::world::{World, WorldOptions, simulate};

use client::Client;
use history::History;

/// The bucket that everything happens in.
const BUCKET: &str = "objects";

/// The header that names the write which made an object.
const WRITE_HEADER: &str = "x-amz-meta-write";

/// After the faults every request succeeds within this time.
const LIVELY_AGAIN: Duration = Duration::from_secs(30);

/// In this time each machine looks through all that it holds, and mends what rotted.
const SCRUBBED: Duration = Duration::from_secs(150);

/// What a run consists of, drawn from its seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many nodes there are.
    pub nodes: u8,
    /// Clients of each gateway.
    pub clients: u8,
    /// How many keys they share.
    pub keys: u8,
    /// How long coordinators wait for an answer.
    pub answer: Duration,
    /// Whether power goes out in the middle of steps of the storage.
    pub mains: Mains,
    /// The machine on whose disk inline bytes rot, if there is one. It is one at most: more could
    /// take the last good copy.
    pub rotten: Option<NodeId>,
    /// What goes wrong, and when.
    pub faults: Vec<PlannedFault>,
}

impl Plan {
    /// The plan that follows from `seed`.
    #[must_use]
    pub fn draw(seed: Seed, span: Duration) -> Self {
        let draw = |what: &str, low, high| seed.of(what).between(low, high);
        let nodes = if draw("nodes", 0, 3) == 0 { 5 } else { 3 };
        let ids: Vec<NodeId> = (1..=nodes).map(World::node_id).collect();
        let mut faults = faults::plan(seed.of("faults"), &ids, span);
        // Half of the runs have right clocks, so that a loss there cannot be due to wrong ones.
        if draw("clocks", 0, 1) == 0 {
            faults.retain(|planned| !is_of_clock(planned.fault));
        }
        let mains = if draw("mains", 0, 1) == 0 { Mains::Steady } else { Mains::Unsteady };
        Self {
            nodes,
            clients: u8::try_from(draw("clients", 1, 3)).unwrap_or(1),
            keys: u8::try_from(draw("keys", 3, 16)).unwrap_or(3),
            answer: Duration::from_millis(draw("answer", 1_000, 10_000)),
            mains,
            rotten: (draw("rot", 0, 1) == 0).then(|| World::node_id(1)),
            faults,
        }
    }

    /// Whether some clock is wrong at some time.
    #[must_use]
    pub fn has_wrong_clocks(&self) -> bool {
        self.faults.iter().any(|planned| is_of_clock(planned.fault))
    }

    fn key_names(&self) -> Vec<Key> {
        let name = |number: u8| match number % 4 {
            0 => format!("a/{number:02}"),
            1 => format!("b/c/{number:02}"),
            2 => format!("b/{number:02}"),
            _ => format!("key-{number:02}"),
        };
        (0..self.keys).filter_map(|number| Key::new(name(number)).ok()).collect()
    }
}

const fn is_of_clock(fault: Fault) -> bool {
    matches!(fault, Fault::ClockJump { .. } | Fault::ClockDrift { .. })
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The cluster is being set up.
    Before,
    /// Clients work and faults strike.
    Faults,
    /// All is healed, and what there is is looked at.
    After,
}

/// What all clients share. It outlives every boot, as an observer does.
struct State {
    keys: Vec<Key>,
    world_time: WorldTime,
    trace: Arc<Trace>,
    stage: Mutex<Stage>,
    history: Mutex<History>,
}

impl State {
    fn stage(&self) -> Stage {
        *self.stage.lock()
    }

    fn enter(&self, stage: Stage) {
        *self.stage.lock() = stage;
    }

    fn seconds(&self) -> f64 {
        self.world_time.elapsed().as_secs_f64()
    }

    fn violate(&self, what: String) {
        self.history.lock().violations.push(what);
    }
}

/// Runs the scenario of `seed`.
///
/// # Errors
/// If the runtime cannot be made, or the cluster does not start. Violations are in the report.
pub fn run(seed: Seed, options: RunOptions) -> anyhow::Result<Report> {
    let plan = Plan::draw(seed, options.span);
    simulate(Box::pin(run_plan(seed, plan, options)))?
}

async fn run_plan(seed: Seed, plan: Plan, options: RunOptions) -> anyhow::Result<Report> {
    let blocking_max = Duration::from_millis(seed.of("blocking").between(0, 8));
    let world_options =
        WorldOptions { text: options.text, blocking_max, ..WorldOptions::default() };
    let world = World::new(seed, world_options);
    let state = Arc::new(State {
        keys: plan.key_names(),
        world_time: world.time(),
        trace: Arc::clone(world.trace()),
        stage: Mutex::new(Stage::Before),
        history: Mutex::default(),
    });
    let cluster_options = ClusterOptions {
        nodes: plan.nodes,
        patience: Patience { answer: plan.answer, ..Patience::default() },
        ..ClusterOptions::default()
    };
    let cluster = Cluster::new(&world, cluster_options, clients(&state, plan.clients))?;

    let outcome = conduct(&cluster, &state, &plan).await;
    if let Err(error) = outcome {
        state.violate(format!("I8: {error:#}"));
    }

    world.shut_down();
    let report = report(seed, &cluster, &state);
    cluster.clear();
    Ok(report)
}

/// Starts clients beside each node that starts.
fn clients(state: &Arc<State>, count: u8) -> Started {
    let state = Arc::clone(state);
    Box::new(move |node, sim| {
        if state.stage() == Stage::After {
            return;
        }
        for _ in 0..count {
            let client = Client::new(&state, node, sim);
            sim.tasks.spawn("client", Box::pin(client.work())).detach();
        }
    })
}

async fn conduct(cluster: &Arc<Cluster>, state: &Arc<State>, plan: &Plan) -> anyhow::Result<()> {
    let world = cluster.world();
    world.nodes().into_iter().for_each(|node| cluster.start(node));
    cluster.init().await.context("the cluster did not come into being")?;
    create_bucket(cluster).await.context("the bucket was not created")?;

    state.enter(Stage::Faults);
    cluster.set_mains(plan.mains);
    {
        let faults = faults::carry_out(world, &plan.faults, |node| cluster.start(node));
        let beside = async {
            match plan.rotten {
                Some(node) => drop(join(cluster.tend(), cluster.rot(node)).await),
                None => cluster.tend().await,
            }
        };
        let _ended = select(std::pin::pin!(faults), std::pin::pin!(beside)).await;
    }
    state.enter(Stage::After);
    cluster.set_mains(Mains::Steady);
    for node in cluster.dark() {
        cluster.start(node);
    }

    audit::is_lively(cluster, state, LIVELY_AGAIN).await?;
    let before = audit::converge(cluster, state).await?;
    world.nodes().into_iter().for_each(|node| cluster.crash(node));
    world.nodes().into_iter().for_each(|node| cluster.start(node));
    audit::is_lively(cluster, state, LIVELY_AGAIN).await?;
    let after = audit::converge(cluster, state).await?;
    audit::compare(state, &before, &after);
    if plan.rotten.is_some() {
        // Until what rotted was found and mended another machine cannot be spared.
        world.time().sleep(SCRUBBED).await;
    }
    audit::spares_each(cluster, state, &after).await?;
    audit::is_tidy(cluster, plan.answer * 20).await?;
    let last = audit::converge(cluster, state).await?;
    audit::compare(state, &after, &last);
    Ok(())
}

async fn create_bucket(cluster: &Arc<Cluster>) -> anyhow::Result<()> {
    let nodes = cluster.all_up(Duration::from_secs(10)).await?;
    let first = nodes.first().context("a cluster needs a node")?;
    let name: BucketName = BUCKET.parse()?;
    let request = CreateBucket { name, owner: OwnerId("owner".to_owned()), level: None, n: None };
    for _ in 0..50 {
        match first.catalog.create_bucket(request.clone()).await {
            Ok(_) => return Ok(()),
            // Gossip may not have told yet that all are there.
            Err(_) => cluster.world().time().sleep(Duration::from_millis(200)).await,
        }
    }
    Err(anyhow!("bucket '{BUCKET}' cannot be created"))
}

fn report(seed: Seed, cluster: &Cluster, state: &State) -> Report {
    let world = cluster.world();
    let mut history = state.history.lock();
    history.check_seen();
    let mut violations = history.violations.clone();
    violations.extend(cluster.failures());
    violations.extend(world.panics().into_iter().map(|panic| format!("I7: panic in {panic}")));
    let mut lines = world.trace().lines();
    if !lines.is_empty() {
        lines.extend(history.keys().iter().map(|key| format!("{key}\n{}", history.describe(key))));
    }
    Report {
        seed,
        trace: world.trace().summary(),
        operations: history.operations.clone(),
        violations,
        lines,
    }
}
