//! Buckets are created, filled, emptied, deleted and created again, all at once.
//!
//! What must hold: a bucket goes only when it is empty, so an acknowledged object that nobody
//! deleted is in a bucket that is there, whatever was refused or broke off (I2); all members
//! agree which buckets there are (I3); what was answered as not done is not there (I9).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use parking_lot::Mutex;
use quorate::catalog::{
    BucketName, BucketRecord, CatalogError, CreateBucket, ListEntry, ListObjects, NewObject,
    OwnerId,
};
use quorate::env::{Clock, Entropy, Tasks, deadline_in, timeout_at};
use quorate::node::Node;
use quorate::replication::{Level, Outcome};
use quorate::types::{BucketId, Key};

use super::objects::body::{End, SimBody, bytes_of, md5_of};
use super::objects::history::WriteId;
use super::stage::{self, Curtain, Found, Stage};
use super::{Plan, Report, RunOptions};
use crate::cluster::{Cluster, Started};
use crate::coverage::Counts;
use crate::entropy::Seed;
use crate::faults::{DISKS, MACHINES, NETWORK, pick};
use crate::world::{SimNode, simulate};

/// The buckets that come and go.
const NAMES: [&str; 2] = ["coming", "going"];

/// A bucket that stays, so that the cluster is known to work before it begins.
const STAYS: &str = "stays";

/// After all is healed, members agree and everything can be read within this time.
const SETTLED: Duration = Duration::from_secs(60);

/// Nothing takes longer.
const OPERATION_MAX: Duration = Duration::from_secs(90);

/// What is known of one put; its key is its number.
struct Put {
    bucket: BucketId,
    acknowledged: bool,
    never: bool,
}

#[derive(Default)]
struct Ledger {
    puts: BTreeMap<u64, Put>,
    /// Keys that somebody tried to delete.
    deleted: BTreeSet<(BucketId, u64)>,
    operations: Counts,
    violations: Vec<String>,
}

/// What all clients share.
struct State {
    curtain: Curtain,
    level: Level,
    copies: u8,
    ledger: Mutex<Ledger>,
}

/// The plan that follows from `seed`.
#[must_use]
pub fn draw(seed: Seed, span: Duration) -> Plan {
    let plan = Plan {
        copies: 3,
        level: pick(seed.of("level"), &[Level::Strict, Level::Strict, Level::Quorum]),
        answer_millis: seed.of("answer").between(500, 3_000),
        ..Plan::sized(seed, pick(seed.of("nodes"), &[3, 3, 4, 5]))
    };
    plan.with_swarm(seed, span, &[NETWORK, MACHINES, DISKS])
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
        curtain: Curtain::default(),
        level: plan.level,
        copies: plan.copies,
        ledger: Mutex::default(),
    });
    let cluster = stage::cluster_of(&world, plan, clients(&state, plan.clients))?;
    if let Err(error) = conduct(&cluster, &state, plan).await {
        state.ledger.lock().violations.push(format!("I3: {error:#}"));
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

/// Starts clients beside each node that starts.
fn clients(state: &Arc<State>, count: u8) -> Started {
    let state = Arc::clone(state);
    Box::new(move |node, sim| {
        if state.curtain.stage() == Stage::After {
            return;
        }
        for _ in 0..count {
            let client = Client::new(&state, node, sim);
            sim.tasks.spawn("client", Box::pin(client.work())).detach();
        }
    })
}

async fn conduct(cluster: &Arc<Cluster>, state: &State, plan: &Plan) -> anyhow::Result<()> {
    stage::found(cluster, plan, STAYS).await?;
    state.curtain.enter(Stage::Faults);
    stage::suffer(cluster, plan).await;
    state.curtain.enter(Stage::After);
    stage::heal_all(cluster);
    // What was under way when the faults ended may still take effect.
    cluster.world().time().sleep(Duration::from_secs(40)).await;
    settled(cluster, state).await?;
    stage::restart_all(cluster);
    settled(cluster, state).await
}

/// Waits until members agree and all that was acknowledged is there.
async fn settled(cluster: &Arc<Cluster>, state: &State) -> anyhow::Result<()> {
    let time = cluster.world().time();
    let until = time.elapsed() + SETTLED;
    loop {
        let looked = look(cluster, state).await;
        let Err(error) = looked else { return Ok(()) };
        if time.elapsed() >= until {
            bail!("{SETTLED:?} after all was healed: {error:#}");
        }
        time.sleep(Duration::from_secs(2)).await;
    }
}

async fn look(cluster: &Arc<Cluster>, state: &State) -> anyhow::Result<()> {
    let nodes = cluster.all_up(Duration::from_secs(30)).await?;
    let known: Vec<BTreeMap<BucketId, Arc<BucketRecord>>> = nodes
        .iter()
        .map(|node| node.catalog.buckets().into_iter().map(|b| (b.id, b)).collect())
        .collect();
    let ids = |buckets: &BTreeMap<BucketId, _>| buckets.keys().copied().collect::<Vec<_>>();
    if let Some(other) = known.iter().find(|other| ids(other) != ids(&known[0])) {
        return Err(anyhow!("members know other buckets: {:?} and {:?}", known[0], other));
    }
    let (must, never): (Vec<_>, Vec<_>) = {
        let ledger = state.ledger.lock();
        let deleted = |number: &u64, put: &Put| ledger.deleted.contains(&(put.bucket, *number));
        let must = ledger.puts.iter().filter(|(n, put)| put.acknowledged && !deleted(n, put));
        let never = ledger.puts.iter().filter(|(_, put)| put.never);
        let pair = |(number, put): (&u64, &Put)| (*number, put.bucket);
        (must.map(pair).collect(), never.map(pair).collect())
    };
    for (number, id) in must {
        let bucket = known[0].get(&id).ok_or_else(|| {
            anyhow!("I2: object {number} was acknowledged, and its bucket is gone")
        })?;
        let found = nodes[0].catalog.head_object(bucket, &key(number)?).await;
        found.map_err(|error| anyhow!("I2: object {number} was acknowledged: {error}"))?;
    }
    for (number, id) in never {
        let Some(bucket) = known[0].get(&id) else { continue };
        match nodes[0].catalog.head_object(bucket, &key(number)?).await {
            Err(CatalogError::NoSuchKey) => {}
            Ok(_) => return Err(anyhow!("I9: object {number} was answered as not done")),
            Err(error) => return Err(anyhow!("object {number} cannot be looked for: {error}")),
        }
    }
    Ok(())
}

fn key(number: u64) -> anyhow::Result<Key> {
    Ok(Key::new(format!("{}/{number}", number % 7))?)
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

    async fn work(self) {
        loop {
            self.clock.sleep(Duration::from_millis(20 + self.entropy.below(300))).await;
            match self.state.curtain.stage() {
                Stage::Before => continue,
                Stage::Faults => {}
                Stage::After => return,
            }
            let deadline = deadline_in(&*self.clock, OPERATION_MAX);
            let operation = Box::pin(self.operate());
            if timeout_at(&*self.clock, deadline, operation).await.is_none() {
                let what = format!("I8: a request took over {OPERATION_MAX:?}");
                self.state.ledger.lock().violations.push(what);
            }
        }
    }

    fn count(&self, word: &'static str) {
        *self.state.ledger.lock().operations.entry(word).or_default() += 1;
    }

    async fn operate(&self) {
        let place = usize::try_from(self.entropy.below(NAMES.len() as u64)).unwrap_or_default();
        let name = NAMES[place];
        let Some(bucket) = self.node.catalog.bucket(name) else {
            return self.create(name).await;
        };
        match self.entropy.below(10) {
            0 => self.create(name).await,
            1..3 => self.delete_bucket(&bucket).await,
            3..5 => self.clear(&bucket).await,
            _ => self.put(&bucket).await,
        }
    }

    async fn create(&self, name: &str) {
        let Ok(name) = name.parse::<BucketName>() else { return };
        let owner = OwnerId("owner".to_owned());
        let (level, n) = (Some(self.state.level), Some(self.state.copies));
        let created = self.node.catalog.create_bucket(CreateBucket { name, owner, level, n }).await;
        self.count(if created.is_ok() { "bucket created" } else { "bucket not created" });
    }

    async fn delete_bucket(&self, bucket: &BucketRecord) {
        let word = match self.node.catalog.delete_bucket(bucket).await {
            Ok(()) => "bucket deleted",
            Err(CatalogError::BucketNotEmpty) => "bucket not empty",
            Err(_) => "bucket not deleted",
        };
        self.count(word);
    }

    async fn put(&self, bucket: &BucketRecord) {
        let number = {
            let mut ledger = self.state.ledger.lock();
            let number = ledger.puts.len() as u64 + 1;
            let put = Put { bucket: bucket.id, acknowledged: false, never: false };
            ledger.puts.insert(number, put);
            number
        };
        let Ok(key) = key(number) else { return };
        let write = WriteId(number);
        let length = usize::try_from(1 + self.entropy.below(900)).unwrap_or(1);
        let (clock, draws) = (Arc::clone(&self.clock), self.entropy.fork("body"));
        let mut body =
            SimBody::new(bytes_of(write, length), md5_of(write, 0), End::Whole, clock, draws);
        let object = NewObject { headers: Vec::new(), checksum: None };
        let result = self.node.catalog.put_object(bucket, key, object, &mut body).await;
        let mut ledger = self.state.ledger.lock();
        let Some(put) = ledger.puts.get_mut(&number) else { return };
        let word = match result {
            Ok(_) => {
                put.acknowledged = true;
                "put done"
            }
            Err(CatalogError::Unavailable { outcome: Outcome::Unknown, .. }) => "put unknown",
            Err(CatalogError::BucketChanging | CatalogError::NoSuchBucket) => {
                put.never = true;
                "put met a change"
            }
            Err(_) => {
                put.never = true;
                "put not done"
            }
        };
        *ledger.operations.entry(word).or_default() += 1;
    }

    /// Deletes all that a listing shows.
    async fn clear(&self, bucket: &BucketRecord) {
        let mut request = ListObjects { max: 100, ..ListObjects::default() };
        while let Ok(page) = self.node.catalog.list_objects(bucket, &request).await {
            for entry in page.entries {
                let ListEntry::Object(head) = entry else { continue };
                let text = String::from_utf8_lossy(head.key.as_bytes()).into_owned();
                let number = text.rsplit('/').next().and_then(|number| number.parse().ok());
                let Some(number) = number else { continue };
                self.state.ledger.lock().deleted.insert((bucket.id, number));
                if self.node.catalog.delete_object(bucket, &head.key).await.is_ok() {
                    self.count("object deleted");
                }
            }
            match page.next {
                Some(next) => request.after = next,
                None => return,
            }
        }
    }
}
