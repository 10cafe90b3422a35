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

use parking_lot::Mutex;
use quorate::env::Tasks;
use quorate::types::Key;

use super::stage::{self, Curtain, Found, Stage};
use super::{Plan, Report, RunOptions};
use crate::clock::WorldTime;
use crate::cluster::{Cluster, Started};
use crate::entropy::Seed;
use crate::faults::{CLOCKS, DISKS, Kind, MACHINES, NETWORK, RUIN};
use crate::trace::Trace;
use crate::world::simulate;

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

/// The plan that follows from `seed`.
#[must_use]
pub fn draw(seed: Seed, span: Duration) -> Plan {
    let nodes = [3, 3, 3, 4, 5, 5, 6, 7];
    let nodes = crate::faults::pick(seed.of("nodes"), &nodes);
    let plan = Plan::sized(seed, nodes);
    // Half of the runs have right clocks, so that a loss there cannot be due to wrong ones.
    let clocks = if seed.of("clocks").happens(500) { CLOCKS } else { &[] };
    plan.with_swarm(seed, span, &[NETWORK, MACHINES, DISKS, RUIN, clocks])
}

/// What all clients share. It outlives every boot, as an observer does.
struct State {
    keys: Vec<Key>,
    world_time: WorldTime,
    trace: Arc<Trace>,
    curtain: Curtain,
    /// Whether a disk may be full.
    may_be_full: bool,
    history: Mutex<History>,
}

impl State {
    fn stage(&self) -> Stage {
        self.curtain.stage()
    }

    fn seconds(&self) -> f64 {
        self.world_time.elapsed().as_secs_f64()
    }

    fn violate(&self, what: String) {
        self.history.lock().violations.push(what);
    }
}

/// Runs a plan.
///
/// # Errors
/// If the runtime cannot be made, or the cluster does not start. Violations are in the report.
pub fn run(seed: Seed, plan: &Plan, options: RunOptions) -> anyhow::Result<Report> {
    simulate(Box::pin(run_plan(seed, plan, options)))?
}

async fn run_plan(seed: Seed, plan: &Plan, options: RunOptions) -> anyhow::Result<Report> {
    let world = stage::world_of(seed, plan, options);
    let state = Arc::new(State {
        keys: plan.key_names(),
        world_time: world.time(),
        trace: Arc::clone(world.trace()),
        curtain: Curtain::default(),
        may_be_full: plan.strikes(&[Kind::DiskFull]),
        history: Mutex::default(),
    });
    let cluster = stage::cluster_of(&world, plan, clients(&state, plan.clients))?;
    if let Err(error) = conduct(&cluster, &state, seed, plan).await {
        state.violate(format!("I8: {error:#}"));
    }
    let mut history = state.history.lock();
    history.check_seen();
    let found = Found {
        operations: history.operations.clone(),
        violations: std::mem::take(&mut history.violations),
        more_lines: history
            .keys()
            .iter()
            .map(|key| format!("{key}\n{}", history.describe(key)))
            .collect(),
    };
    drop(history);
    Ok(stage::report(seed, &cluster, found))
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

async fn conduct(
    cluster: &Arc<Cluster>,
    state: &Arc<State>,
    seed: Seed,
    plan: &Plan,
) -> anyhow::Result<()> {
    stage::found(cluster, plan, BUCKET).await?;
    state.curtain.enter(Stage::Faults);
    stage::suffer(cluster, plan).await;
    state.curtain.enter(Stage::After);

    // A node that is being rebuilt is none of a quorum: then all are needed.
    if !plan.strikes(&[Kind::Wipe]) {
        let core = stage::heal_core(cluster, seed, plan);
        audit::is_lively(cluster, state, &core, LIVELY_AGAIN).await?;
    }
    stage::heal_all(cluster);
    let nodes = plan.node_ids();
    audit::is_lively(cluster, state, &nodes, LIVELY_AGAIN).await?;
    // Completions whose clients went away are done by then.
    cluster.world().time().sleep(plan.answer() * 8).await;
    let before = audit::converge(cluster, state).await?;
    stage::restart_all(cluster);
    audit::is_lively(cluster, state, &nodes, LIVELY_AGAIN).await?;
    let after = audit::converge(cluster, state).await?;
    audit::compare(state, &before, &after);
    if plan.strikes(RUIN) {
        // Until what was destroyed is found and mended, no other machine can be spared.
        cluster.world().time().sleep(SCRUBBED).await;
    }
    // An emptied machine counts again only when rounds have met enough owners since its start.
    if !plan.strikes(&[Kind::Wipe]) {
        audit::spares_each(cluster, state, &after).await?;
    }
    audit::is_tidy(cluster, plan.answer() * 20).await?;
    let last = audit::converge(cluster, state).await?;
    audit::compare(state, &after, &last);
    Ok(())
}
