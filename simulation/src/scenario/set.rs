//! A set that only grows: clients add elements of their own and list all of them.
//!
//! What must hold: a listing shows every element that was acknowledged before it began, once, and
//! none that was never added or was answered as not done (I2, I9); whatever one machine loses,
//! every element can be read with its bytes in the end (I1, I5).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures_util::StreamExt;
use parking_lot::Mutex;
use quorate::catalog::{BucketRecord, CatalogError, ListEntry, ListObjects, NewObject};
use quorate::env::{Clock, Entropy, Tasks, deadline_in, timeout_at};
use quorate::node::Node;
use quorate::replication::Outcome;
use quorate::types::Key;

use super::objects::body::{End, SimBody, bytes_of, md5_of};
use super::objects::history::WriteId;
use super::stage::{self, Curtain, Found, Stage};
use super::{Plan, Report, RunOptions};
use crate::cluster::{Cluster, Started};
use crate::coverage::Counts;
use crate::entropy::Seed;
use crate::faults::{CLOCKS, DISKS, Fault, Kind, MACHINES, NETWORK, PlannedFault, RUIN, pick};
use crate::world::{SimNode, simulate};

/// The bucket that everything happens in.
const BUCKET: &str = "set";

/// After all is healed every element can be read within this time.
const READABLE: Duration = Duration::from_secs(120);

/// Nothing takes longer.
const OPERATION_MAX: Duration = Duration::from_secs(90);

/// What is known of one element.
#[derive(Clone, Copy)]
struct Element {
    length: usize,
    acknowledged: bool,
    never: bool,
}

#[derive(Default)]
struct Ledger {
    elements: BTreeMap<u64, Element>,
    operations: Counts,
    violations: Vec<String>,
}

impl Ledger {
    fn acknowledged(&self) -> BTreeSet<u64> {
        let acknowledged = self.elements.iter().filter(|(_, element)| element.acknowledged);
        acknowledged.map(|(number, _)| *number).collect()
    }
}

/// What all clients share.
struct State {
    curtain: Curtain,
    ledger: Mutex<Ledger>,
}

impl State {
    fn violate(&self, what: String) {
        self.ledger.lock().violations.push(what);
    }
}

/// The plan that follows from `seed`: in half of the runs a machine is emptied.
#[must_use]
pub fn draw(seed: Seed, span: Duration) -> Plan {
    let plan = Plan {
        answer_millis: seed.of("answer").between(500, 3_000),
        ..Plan::sized(seed, pick(seed.of("nodes"), &[3, 3, 3, 5]))
    };
    let mut plan = plan.with_swarm(seed, span, &[NETWORK, MACHINES, DISKS, RUIN, CLOCKS]);
    if seed.of("emptied").happens(500) {
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let node = plan.node_ids()[0];
        let at_millis = seed.of("when").between(span / 4, span / 2);
        let lasts_millis = seed.of("back").between(20, 8_000);
        let fault = Fault::at(Kind::Wipe, node);
        plan.faults.push(PlannedFault { at_millis, lasts_millis, fault });
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
    let state = Arc::new(State { curtain: Curtain::default(), ledger: Mutex::default() });
    let cluster = stage::cluster_of(&world, plan, clients(&state))?;
    if let Err(error) = conduct(&cluster, &state, plan).await {
        state.violate(format!("I8: {error:#}"));
    }
    let found = {
        let ledger = state.ledger.lock();
        Found {
            operations: ledger.operations.clone(),
            violations: ledger.violations.clone(),
            more_lines: Vec::new(),
        }
    };
    Ok(stage::report(seed, &cluster, found))
}

/// Starts one who adds and one who lists beside each node that starts.
fn clients(state: &Arc<State>) -> Started {
    let state = Arc::clone(state);
    Box::new(move |node, sim| {
        if state.curtain.stage() != Stage::After {
            let adder = Client::new(&state, node, sim);
            sim.tasks.spawn("adder", Box::pin(adder.add())).detach();
            let lister = Client::new(&state, node, sim);
            sim.tasks.spawn("lister", Box::pin(lister.list())).detach();
        }
    })
}

async fn conduct(cluster: &Arc<Cluster>, state: &Arc<State>, plan: &Plan) -> anyhow::Result<()> {
    stage::found(cluster, plan, BUCKET).await?;
    state.curtain.enter(Stage::Faults);
    stage::suffer(cluster, plan).await;
    state.curtain.enter(Stage::After);
    stage::heal_all(cluster);
    all_readable(cluster, state).await?;
    stage::restart_all(cluster);
    all_readable(cluster, state).await
}

/// Waits until every gateway lists and reads every element.
async fn all_readable(cluster: &Arc<Cluster>, state: &Arc<State>) -> anyhow::Result<()> {
    let time = cluster.world().time();
    let until = time.elapsed() + READABLE;
    for node in cluster.all_up(Duration::from_secs(30)).await? {
        let clock: Arc<dyn Clock> = Arc::clone(&node.seams.clock);
        let entropy: Arc<dyn Entropy> = node.seams.entropy.fork("audit");
        let client = Client { state: Arc::clone(state), node, clock, entropy };
        while let Err(error) = client.read_all().await {
            if time.elapsed() >= until {
                bail!("{READABLE:?} after all was healed: {error:#}");
            }
            time.sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

/// One client beside a gateway.
struct Client {
    state: Arc<State>,
    node: Arc<Node>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Client {
    fn new(state: &Arc<State>, node: &Arc<Node>, sim: &SimNode) -> Self {
        Self {
            state: Arc::clone(state),
            node: Arc::clone(node),
            clock: sim.clock.clone(),
            entropy: sim.entropy.fork("client"),
        }
    }

    /// Whether to go on; `None` while the run has not begun.
    async fn pause(&self, most: u64) -> Option<bool> {
        self.clock.sleep(Duration::from_millis(10 + self.entropy.below(most))).await;
        match self.state.curtain.stage() {
            Stage::Before => None,
            Stage::Faults => Some(true),
            Stage::After => Some(false),
        }
    }

    async fn add(self) {
        loop {
            match self.pause(250).await {
                None => continue,
                Some(true) => {}
                Some(false) => return,
            }
            let Some(bucket) = self.node.catalog.bucket(BUCKET) else { continue };
            let deadline = deadline_in(&*self.clock, OPERATION_MAX);
            let added = Box::pin(self.add_one(&bucket));
            if timeout_at(&*self.clock, deadline, added).await.is_none() {
                self.state.violate(format!("I8: a put took over {OPERATION_MAX:?}"));
            }
        }
    }

    async fn add_one(&self, bucket: &BucketRecord) {
        let most = if self.entropy.below(5) == 0 { 9_000 } else { 500 };
        let length = usize::try_from(self.entropy.below(most)).unwrap_or_default();
        let number = {
            let mut ledger = self.state.ledger.lock();
            let number = ledger.elements.len() as u64 + 1;
            let element = Element { length, acknowledged: false, never: false };
            ledger.elements.insert(number, element);
            number
        };
        let Ok(key) = key(number) else { return };
        let write = WriteId(number);
        let (clock, draws) = (Arc::clone(&self.clock), self.entropy.fork("body"));
        let mut body =
            SimBody::new(bytes_of(write, length), md5_of(write, 0), End::Whole, clock, draws);
        let object = NewObject { headers: Vec::new(), checksum: None };
        let result = self.node.catalog.put_object(bucket, key, object, &mut body).await;
        let mut ledger = self.state.ledger.lock();
        let Some(element) = ledger.elements.get_mut(&number) else { return };
        let word = match result {
            Ok(_) => {
                element.acknowledged = true;
                "added"
            }
            Err(
                CatalogError::Unavailable { outcome: Outcome::Unknown, .. }
                | CatalogError::BytesUnavailable { .. }
                | CatalogError::Internal { .. },
            ) => "add unknown",
            Err(_) => {
                element.never = true;
                "not added"
            }
        };
        *ledger.operations.entry(word).or_default() += 1;
    }

    async fn list(self) {
        loop {
            match self.pause(2_000).await {
                None => continue,
                Some(true) => {}
                Some(false) => return,
            }
            let Some(bucket) = self.node.catalog.bucket(BUCKET) else { continue };
            let word = match Box::pin(self.list_once(&bucket)).await {
                Ok(_) => "listed",
                Err(_) => "list failed",
            };
            *self.state.ledger.lock().operations.entry(word).or_default() += 1;
        }
    }

    /// Lists everything and checks it against what had been acknowledged before.
    async fn list_once(&self, bucket: &BucketRecord) -> Result<BTreeSet<u64>, CatalogError> {
        let expected = self.state.ledger.lock().acknowledged();
        let mut request = ListObjects { max: 200, ..ListObjects::default() };
        let mut seen = BTreeSet::new();
        loop {
            let page = self.node.catalog.list_objects(bucket, &request).await?;
            for entry in page.entries {
                let ListEntry::Object(head) = entry else { continue };
                let text = String::from_utf8_lossy(head.key.as_bytes()).into_owned();
                let number = text.rsplit('/').next().and_then(|number| number.parse().ok());
                self.saw(number.unwrap_or(0), &mut seen);
            }
            match page.next {
                Some(next) => request.after = next,
                None => break,
            }
        }
        if let Some(missing) = expected.difference(&seen).next() {
            let via = self.node.coordinator.site().node.short();
            let at = self.clock.wall().0 % 1_000_000;
            self.state.violate(format!("I2: element {missing} is not listed via {via} ({at} ms)"));
        }
        Ok(seen)
    }

    fn saw(&self, number: u64, seen: &mut BTreeSet<u64>) {
        let known = self.state.ledger.lock().elements.get(&number).copied();
        match known {
            None => self.state.violate(format!("I5: element {number} was never added")),
            Some(element) if element.never => {
                self.state.violate(format!("I9: element {number} was answered as not added"));
            }
            Some(_) => {}
        }
        if !seen.insert(number) {
            self.state.violate(format!("I2: element {number} is listed twice"));
        }
    }

    /// Reads every element with its bytes.
    async fn read_all(&self) -> anyhow::Result<()> {
        let bucket = self.node.catalog.bucket(BUCKET).context("the bucket is gone")?;
        self.list_once(&bucket).await?;
        let elements: Vec<(u64, Element)> = {
            let ledger = self.state.ledger.lock();
            let acknowledged = ledger.elements.iter().filter(|(_, element)| element.acknowledged);
            acknowledged.map(|(number, element)| (*number, *element)).collect()
        };
        for (number, element) in elements {
            let failed = |error: CatalogError| anyhow!("I1: element {number}: {error}");
            let reader =
                self.node.catalog.get_object(&bucket, &key(number)?).await.map_err(failed)?;
            let mut stream = reader.read(0..u64::MAX);
            let mut bytes = Vec::new();
            while let Some(piece) = stream.next().await {
                bytes.extend_from_slice(&piece.map_err(failed)?);
            }
            if bytes != bytes_of(WriteId(number), element.length) {
                self.state.violate(format!("I5: element {number} has other bytes"));
            }
        }
        Ok(())
    }
}

fn key(number: u64) -> anyhow::Result<Key> {
    Ok(Key::new(format!("{}/{number}", number % 5))?)
}
