//! What was deleted and purged does not come back, whoever was away and brings it.
//!
//! One hand per key puts and deletes, through any gateway, one operation after another, so that
//! what must stand is known exactly. Tombstones are purged soon, while owners are away for longer
//! than that, hints wait, and requests are stuck at machines that pause. In the end an old disk
//! is put back.
//!
//! What must hold: nothing deleted is seen again, nothing put is lost (I2, I4, I9); all owners
//! agree, no hints are left (I3); every tombstone goes in the end; a proof of all copies is never
//! given while one of them is away.

mod hand;
mod proofs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use futures_util::future::{join, join_all};
use parking_lot::Mutex;
use quorate::replication::{Level, TableId};
use quorate::store::Family;
use quorate::types::NodeId;

use super::sloppy::converge;
use super::stage::{self, Curtain, Found, Stage};
use super::{Plan, Report, RunOptions};
use crate::cluster::Cluster;
use crate::coverage::Counts;
use crate::entropy::Seed;
use crate::faults::{Fault, Kind, MACHINES, NETWORK, PlannedFault, pick};
use crate::world::simulate;

use hand::{Hand, Outcomes};

/// The bucket that everything happens in.
const BUCKET: &str = "graves";

/// The header that names the write which made an object.
const WRITE_HEADER: &str = "x-amz-meta-write";

/// After all is healed, owners agree within this time.
const CONVERGED: Duration = Duration::from_secs(240);

/// What all hands share.
struct State {
    curtain: Curtain,
    operations: Mutex<Counts>,
    violations: Mutex<Vec<String>>,
}

impl State {
    fn count(&self, word: &'static str) {
        *self.operations.lock().entry(word).or_default() += 1;
    }

    fn violate(&self, what: String) {
        self.violations.lock().push(what);
    }
}

/// The plan that follows from `seed`.
#[must_use]
pub fn draw(seed: Seed, span: Duration) -> Plan {
    let nodes = pick(seed.of("nodes"), &[3, 3, 4, 5]);
    let plan = Plan {
        partitions: 8,
        copies: 3,
        level: pick(seed.of("level"), &[Level::Strict, Level::Eventual, Level::Quorum]),
        keys: u8::try_from(seed.of("keys").between(6, 24)).unwrap_or(6),
        answer_millis: seed.of("answer").between(700, 2_000),
        interval_seconds: pick(seed.of("interval"), &[3, 5, 10]),
        lag_seconds: pick(seed.of("lag"), &[3, 5, 10, 20]),
        ..Plan::sized(seed, nodes)
    };
    let mut plan = plan.with_swarm(seed, span, &[NETWORK, MACHINES]);
    // Somebody is away for much longer than tombstones are kept.
    let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let node = pick(seed.of("away"), &plan.node_ids());
    let fault = Fault::at(Kind::Crash, node);
    let at_millis = seed.of("leaves").between(span / 10, span / 3);
    plan.faults.push(PlannedFault { at_millis, lasts_millis: span / 2, fault });
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
    let cluster = stage::cluster_of(&world, plan, Box::new(|_, _| {}))?;
    let state = State {
        curtain: Curtain::default(),
        operations: Mutex::default(),
        violations: Mutex::default(),
    };
    if let Err(error) = conduct(&cluster, &state, seed, plan).await {
        state.violate(format!("I3: {error:#}"));
    }
    let found = Found {
        operations: state.operations.into_inner(),
        violations: state.violations.into_inner(),
        more_lines: Vec::new(),
    };
    Ok(stage::report(seed, &cluster, found))
}

async fn conduct(
    cluster: &Arc<Cluster>,
    state: &State,
    seed: Seed,
    plan: &Plan,
) -> anyhow::Result<()> {
    stage::found(cluster, plan, BUCKET).await?;
    let mut hands: Vec<Hand<'_>> = plan
        .key_names()
        .into_iter()
        .map(|key| Hand::new(cluster, state, seed, plan, key))
        .collect();
    state.curtain.enter(Stage::Faults);
    let old = {
        let work = join_all(hands.iter_mut().map(Hand::work));
        let (_, old) = join(work, async {
            let old = snapshot(cluster, seed, plan);
            let faults = stage::suffer(cluster, plan);
            let (_, old) = join(faults, old).await;
            state.curtain.enter(Stage::After);
            stage::heal_all(cluster);
            old
        })
        .await;
        old
    };
    let standing: Vec<Outcomes> = hands.into_iter().map(Hand::outcomes).collect();
    cluster.all_up(Duration::from_secs(30)).await?;

    stands(cluster, state, plan, &standing).await?;
    proofs::name_no_one_away(cluster, state, seed, plan).await?;
    buried(cluster, plan).await?;
    stands(cluster, state, plan, &standing).await?;
    // Floors must stand on the disks too.
    if seed.of("restart").happens(500) {
        stage::restart_all(cluster);
        cluster.all_up(Duration::from_secs(30)).await?;
    }
    let (node, rows) = old;
    cluster.put_back(node, rows);
    cluster.start(node);
    cluster.all_up(Duration::from_secs(30)).await?;
    stands(cluster, state, plan, &standing).await?;
    buried(cluster, plan).await
}

/// A machine and rows that it held once.
type Old = (NodeId, BTreeMap<(Family, Bytes), Bytes>);

/// The rows of some machine at some time during the faults.
async fn snapshot(cluster: &Arc<Cluster>, seed: Seed, plan: &Plan) -> Old {
    let last = plan.faults.iter().map(|planned| planned.at_millis).max().unwrap_or(1);
    let moment = seed.of("snapshot").between(0, last);
    cluster.world().time().sleep(Duration::from_millis(moment)).await;
    let node = pick(seed.of("old disk"), &plan.node_ids());
    (node, cluster.rows(node))
}

/// Owners agree, and every gateway shows what must stand.
async fn stands(
    cluster: &Arc<Cluster>,
    state: &State,
    plan: &Plan,
    standing: &[Outcomes],
) -> anyhow::Result<()> {
    converge::all_agree(cluster, usize::from(plan.copies), CONVERGED).await?;
    for node in cluster.all_up(Duration::from_secs(5)).await? {
        let bucket = node.catalog.bucket(BUCKET).context("the bucket is gone")?;
        for expected in standing {
            let key = &expected.key;
            let seen = expected.face.look(&node, &bucket, key).await;
            let seen = seen.map_err(|error| anyhow!("after all was healed, '{key}': {error}"))?;
            if let Some(fault) = expected.fault(&seen) {
                state.violate(fault);
            }
        }
    }
    Ok(())
}

/// Every tombstone is purged in the end.
async fn buried(cluster: &Arc<Cluster>, plan: &Plan) -> anyhow::Result<()> {
    let time = cluster.world().time();
    let patience = Duration::from_secs(plan.lag_seconds + 20 * plan.interval_seconds + 60);
    let until = time.elapsed() + patience;
    loop {
        let left = cluster.world().nodes().into_iter().map(|node| tombstones(cluster, node));
        let left: usize = left.sum();
        if left == 0 {
            return Ok(());
        }
        if time.elapsed() >= until {
            bail!("{patience:?} after all was healed, {left} tombstones are left");
        }
        time.sleep(Duration::from_secs(2)).await;
    }
}

fn tombstones(cluster: &Arc<Cluster>, node: NodeId) -> usize {
    let rows = cluster.rows(node);
    let tables = [TableId::Objects.family(), TableId::Kv.family()];
    let gone = |value: &Bytes| value.first().is_some_and(|flags| flags & 1 != 0);
    rows.iter().filter(|((family, _), value)| tables.contains(family) && gone(value)).count()
}
