//! Sloppy buckets stay available while owners are away, and converge when all are back.
//!
//! What must hold: a cluster that has lost any two owners of a partition, or is split in two, goes
//! on taking writes at level `eventual`; when all is healed, hints drain to none, nothing that was
//! acknowledged is lost to an older write, all owners hold the same rows, nobody else holds any,
//! and the leaves of every tree are the sums of the rows (I2, I3, I4, I9). Keys of the key-value
//! API lose no value that nobody saw.

pub(super) mod converge;
mod siblings;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use parking_lot::Mutex;
use quorate::env::Tasks;
use quorate::replication::Level;
use quorate::types::Key;

use super::stage::{self, Curtain, Found, Stage};
use super::{Plan, Report, RunOptions};
use crate::cluster::{Cluster, Started};
use crate::entropy::Seed;
use crate::faults::{DISKS, Fault, Kind, MACHINES, NETWORK, PlannedFault, pick};
use crate::world::simulate;

use siblings::{SiblingLedger, SiblingWriter};
use writer::{Ledger, Writer};

/// The bucket that everything happens in.
const BUCKET: &str = "sloppy";

/// After all is healed, hints are delivered and owners agree within this time.
const CONVERGED: Duration = Duration::from_secs(240);

/// After this time no write of the time of faults is under way any more.
const UNDER_WAY_MAX: Duration = Duration::from_secs(40);

/// What all writers share. It outlives every boot, as an observer does.
struct State {
    keys: Vec<Key>,
    curtain: Curtain,
    copies: usize,
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

/// The plan that follows from `seed`: a split in two halves, two nodes away at once, or whatever
/// comes.
#[must_use]
pub fn draw(seed: Seed, span: Duration) -> Plan {
    let nodes = pick(seed.of("nodes"), &[5, 5, 5, 6, 7]);
    let mut plan = Plan {
        // The first is the one that must never refuse.
        level: pick(
            seed.of("level"),
            &[Level::Eventual, Level::Eventual, Level::Quorum, Level::Numbers { r: 1, w: 2 }],
        ),
        clients: 1,
        keys: u8::try_from(seed.of("keys").between(2, 24)).unwrap_or(2),
        answer_millis: seed.of("answer").between(1_000, 4_000),
        hint_seconds: pick(seed.of("hints"), &[24 * 3_600, 24 * 3_600, 15]),
        ..Plan::sized(seed, nodes)
    };
    let span_millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let at_millis = span_millis / 6;
    let lasts_millis = span_millis * 2 / 3;
    let first = seed.of("first").between(0, u64::from(nodes) - 1);
    let second = first + seed.of("second").between(1, u64::from(nodes) - 1);
    let ids = plan.node_ids();
    let node = |number: u64| ids[usize::try_from(number).unwrap_or_default() % ids.len()];
    let pair = [node(first), node(second)];
    let fault = |fault| PlannedFault { at_millis, lasts_millis, fault };
    match seed.of("kind").between(0, 3) {
        0 => plan.faults = pair.map(|node| fault(Fault::at(Kind::Crash, node))).to_vec(),
        1 => {
            let others = ids.iter().filter(|node| !pair.contains(node));
            let cuts =
                others.flat_map(|&other| pair.map(|one| Fault::between(Kind::Split, one, other)));
            plan.faults = cuts.map(fault).collect();
        }
        // Wrong clocks decide who wins, which is another matter than what is kept; and what is
        // destroyed may be all that acknowledged a write.
        _ => plan = plan.with_swarm(seed, span, &[NETWORK, MACHINES, DISKS]),
    }
    plan
}

/// Runs a plan.
///
/// # Errors
/// If the runtime cannot be made. Violations are in the report.
pub fn run(seed: Seed, plan: &Plan, options: RunOptions) -> anyhow::Result<Report> {
    simulate(Box::pin(run_plan(seed, plan, options)))?
}

async fn run_plan(seed: Seed, plan: &Plan, options: RunOptions) -> anyhow::Result<Report> {
    let world = stage::world_of(seed, plan, options);
    let state = Arc::new(State {
        keys: (0..plan.keys).filter_map(|n| Key::new(format!("key/{n:02}")).ok()).collect(),
        curtain: Curtain::default(),
        copies: usize::from(plan.copies),
        ledger: Mutex::default(),
        siblings: Mutex::default(),
        operations: Mutex::default(),
        violations: Mutex::default(),
    });
    let cluster = stage::cluster_of(&world, plan, writers(&state))?;
    if let Err(error) = conduct(&cluster, &state, plan).await {
        state.violate(format!("I3: {error:#}"));
    }
    let found = Found {
        operations: state.operations.lock().clone(),
        violations: state.violations.lock().clone(),
        more_lines: Vec::new(),
    };
    Ok(stage::report(seed, &cluster, found))
}

/// Starts a writer beside each node that starts.
fn writers(state: &Arc<State>) -> Started {
    let state = Arc::clone(state);
    Box::new(move |node, sim| {
        if state.curtain.stage() != Stage::After {
            let writer = Writer::new(&state, node, sim);
            sim.tasks.spawn("writer", Box::pin(writer.work())).detach();
            let writer = SiblingWriter::new(&state, node, sim);
            sim.tasks.spawn("sibling writer", Box::pin(writer.work())).detach();
        }
    })
}

async fn conduct(cluster: &Arc<Cluster>, state: &Arc<State>, plan: &Plan) -> anyhow::Result<()> {
    stage::found(cluster, plan, BUCKET).await?;
    state.curtain.enter(Stage::Faults);
    {
        let suffering = std::pin::pin!(stage::suffer(cluster, plan));
        let watching = std::pin::pin!(converge::watch_hints(cluster, state, plan));
        let _ended = select(suffering, watching).await;
    }
    state.curtain.enter(Stage::After);
    stage::heal_all(cluster);
    cluster.all_up(Duration::from_secs(30)).await?;
    // What was under way when the faults ended may still take effect.
    cluster.world().time().sleep(UNDER_WAY_MAX).await;

    converge::all_agree(cluster, state.copies, CONVERGED).await?;
    converge::newest_stand(cluster, state).await?;
    siblings::none_is_lost(cluster, state).await?;
    // What stands must stand on the disks too.
    stage::restart_all(cluster);
    cluster.all_up(Duration::from_secs(30)).await?;
    converge::all_agree(cluster, state.copies, CONVERGED).await?;
    converge::newest_stand(cluster, state).await?;
    siblings::none_is_lost(cluster, state).await
}
