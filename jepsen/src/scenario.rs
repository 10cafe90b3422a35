//! The scenarios: load, a fault at a known time, and an audit.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use quorate::env::{Clock, OsClock, TokioTasks};

use crate::client::{Client, Outcome};
use crate::cluster::Cluster;
use crate::history::History;
use crate::load::{BUCKET, Load, Tolerance};

/// The nodes of every scenario.
const NODES: usize = 3;

/// Until then a dead node may cost its peers' requests; after it, none may fail.
const DETECTION: Duration = Duration::from_secs(3);

/// How long a client waits for a reply.
const PATIENCE: Duration = Duration::from_secs(15);

/// Clients at work.
const CLIENTS: u64 = 8;

/// How a scenario is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server's binary.
    pub binary: PathBuf,
    /// How long the load lasts.
    pub span: Duration,
    /// What the clients' choices follow from.
    pub seed: u64,
    /// Where the history goes; beside the cluster if `None`.
    pub history: Option<PathBuf>,
}

/// What came of a scenario.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// How many operations there were under load.
    pub operations: u64,
    /// How many keys had to be there at the end.
    pub keys: usize,
    /// What should have held and did not.
    pub violations: Vec<String>,
    /// Where the nodes' folders and logs are, if they were kept.
    pub folder: Option<PathBuf>,
}

struct Stage {
    cluster: Cluster,
    probe: Client,
    load: Arc<Load>,
    clock: Arc<OsClock>,
}

/// SIGKILL of one of three nodes in the middle of the load. After the time of detection no
/// request through the two others fails; the killed node returns and serves; every acknowledged
/// object reads back the same through every node.
///
/// # Errors
/// If the cluster cannot be started or handled. Violations are in the verdict.
pub async fn kill_one(options: &Options) -> anyhow::Result<Verdict> {
    let mut stage = Stage::set(options).await?;
    let clients = stage.load.start(&TokioTasks::current(), CLIENTS, options.seed);
    let third = options.span / 3;
    let victim = 1 + usize::try_from(options.seed % NODES as u64)?;
    let others = (1..=NODES).filter(|node| *node != victim).collect();
    stage.clock.sleep(third).await;

    stage.load.ask(others);
    stage.cluster.kill(victim)?;
    stage.load.history().nemesis("kill", Some(victim));
    stage.clock.sleep(DETECTION).await;
    stage.load.tolerate(Tolerance::Nothing);
    stage.load.take_counts();
    stage.clock.sleep(third).await;
    stage.load.tolerate(Tolerance::Failures);
    let served = stage.load.take_counts();
    if served.values().sum::<u64>() == 0 {
        stage.load.violation("nothing was asked of the two others".to_owned());
    }

    stage.return_node(victim).await?;
    stage.load.ask((1..=NODES).collect());
    stage.load.take_counts();
    stage.clock.sleep(third).await;
    let served = stage.load.take_counts();
    if !served.contains_key(&(victim, "ok")) {
        stage.load.violation(format!("node {victim} returned and served nothing: {served:?}"));
    }
    stage.load.stop(clients).await;
    stage.close().await
}

/// SIGKILL of all nodes in the middle of the load, and a restart: every acknowledged object is
/// there, byte for byte, through every node.
///
/// # Errors
/// If the cluster cannot be started or handled. Violations are in the verdict.
pub async fn kill_all(options: &Options) -> anyhow::Result<Verdict> {
    let mut stage = Stage::set(options).await?;
    let clients = stage.load.start(&TokioTasks::current(), CLIENTS, options.seed);
    stage.clock.sleep(options.span / 2).await;

    stage.cluster.kill_all()?;
    stage.load.history().nemesis("kill all", None);
    stage.clock.sleep(Duration::from_secs(1)).await;
    for node in 1..=NODES {
        stage.cluster.start_node(node)?;
    }
    for node in 1..=NODES {
        stage.return_node(node).await?;
    }
    stage.load.take_counts();
    stage.clock.sleep(options.span / 2).await;
    let served = stage.load.take_counts();
    for node in (1..=NODES).filter(|node| !served.contains_key(&(*node, "ok"))) {
        stage.load.violation(format!("node {node} returned and served nothing: {served:?}"));
    }
    stage.load.stop(clients).await;
    stage.close().await
}

impl Stage {
    async fn set(options: &Options) -> anyhow::Result<Self> {
        let clock = Arc::new(OsClock::new());
        let probe = Client::nobody(Arc::clone(&clock), PATIENCE);
        let mut cluster = Cluster::start(&options.binary, NODES, Arc::clone(&clock))?;
        let credentials = match cluster.form(&probe).await {
            Ok(credentials) => credentials,
            Err(error) => {
                let folder = cluster.keep_folder();
                return Err(error.context(format!("see {}", folder.display())));
            }
        };
        let client = Client::new(credentials, Arc::clone(&clock), PATIENCE);
        make_bucket(&client, &cluster).await?;
        let history = History::new(Arc::clone(&clock), open_history(options)?);
        let load = Load::new(client, Arc::clone(&clock), cluster.endpoints(), history);
        Ok(Self { cluster, probe, load, clock })
    }

    /// Starts a node again and waits until it is ready; that it is not is a violation.
    async fn return_node(&mut self, number: usize) -> anyhow::Result<()> {
        self.cluster.start_node(number)?;
        self.load.history().nemesis("start", Some(number));
        if let Err(error) = self.cluster.wait_ready(&self.probe, number).await {
            self.load.violation(format!("node {number} did not return: {error:#}"));
        }
        Ok(())
    }

    async fn close(mut self) -> anyhow::Result<Verdict> {
        self.load.audit().await;
        for fallen in self.cluster.fallen() {
            self.load.violation(fallen);
        }
        self.load.history().finish()?;
        let (operations, keys) = self.load.size();
        if keys == 0 {
            self.load.violation("no write was acknowledged, so nothing was tested".to_owned());
        }
        let violations = self.load.violations();
        let folder = (!violations.is_empty()).then(|| self.cluster.keep_folder());
        Ok(Verdict { operations, keys, violations, folder })
    }
}

async fn make_bucket(client: &Client, cluster: &Cluster) -> anyhow::Result<()> {
    let first = cluster.endpoints().into_iter().next().context("the cluster has no node")?;
    match client.create_bucket(first, BUCKET, None).await {
        Outcome::Ok(()) => Ok(()),
        Outcome::Fail(reason) | Outcome::Info(reason) => {
            bail!("the bucket cannot be made: {reason}")
        }
    }
}

fn open_history(options: &Options) -> anyhow::Result<Box<dyn std::io::Write + Send>> {
    let Some(path) = &options.history else {
        return Ok(Box::new(std::io::sink()));
    };
    let file = File::create(path as &Path)
        .with_context(|| format!("the history {} cannot be made", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}
