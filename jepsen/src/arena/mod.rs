//! A cluster whose nodes have addresses and disks of their own, and what is known of it.
//!
//! # Invariants
//! 1. Everything here is inside the sandbox: it ends with the runner, however that ends.
//! 2. Nodes end before their disks are unmounted and their hosts removed.

mod clock;
mod disk;
mod kernel;
mod link;
mod network;
mod notice;
mod packet;
pub mod sandbox;
mod settle;
mod switch;
mod tool;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use quorate::env::OsClock;

pub use clock::{Clocks, library};
pub use disk::Disk;
pub use link::Quality;
pub use switch::{Figures, Switch, between};

use crate::client::Client;
use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::place::{Place, Tuning};
use network::Network;

/// How long a client waits for a reply: longer than a node waits for its peers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A disk's size.
const DISK_BYTES: u64 = 2 << 30;

/// How an arena is built.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server's binary.
    pub binary: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// What the switch's draws follow from.
    pub seed: u64,
    /// How nodes are configured.
    pub tuning: Tuning,
    /// Who sets the nodes' clocks.
    pub clocks: Clocks,
}

/// A running cluster on its own network and disks.
pub struct Arena {
    // In the order in which they must end.
    cluster: Cluster,
    disks: Vec<Disk>,
    network: Network,
    folder: Arc<Folder>,
    probe: Client,
    client: Client,
    clock: Arc<OsClock>,
}

impl Arena {
    /// Builds hosts and disks, starts the nodes and makes them a cluster.
    ///
    /// # Errors
    /// If any of that fails; the folder is kept if nodes had been started.
    pub async fn build(plan: &Plan, clock: Arc<OsClock>) -> anyhow::Result<Self> {
        let folder = Folder::make()?;
        let network = Network::build(plan.nodes, plan.seed, Arc::clone(&clock))?;
        let mut disks = Vec::new();
        let mut places = Vec::new();
        for node in 1..=plan.nodes {
            let home = folder.path().join(format!("node-{node}"));
            std::fs::create_dir_all(&home)?;
            let disk = Disk::make(home.join("disk.img"), home.join("disk"), DISK_BYTES)?;
            let data = disk.path().join("data");
            disks.push(disk);
            let launcher = Network::launcher(node);
            let mut place = Place::at(switch::address(node), home, data, launcher);
            place.variables = plan.clocks.variables(&place.home)?;
            places.push(place);
        }
        let own = Arc::clone(&folder);
        let mut cluster =
            Cluster::start_at(&plan.binary, own, places, plan.tuning, Arc::clone(&clock))?;
        let probe = Client::nobody(Arc::clone(&clock), PATIENCE);
        let credentials = cluster.form(&probe).await.inspect_err(|_| folder.keep())?;
        let client = Client::new(credentials, Arc::clone(&clock), PATIENCE);
        Ok(Self { cluster, disks, network, folder, probe, client, clock })
    }

    /// The processes.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The processes, to do something to them.
    pub fn cluster_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// The network.
    #[must_use]
    pub fn switch(&self) -> &Switch {
        self.network.switch()
    }

    /// A node's disk, from 1.
    #[must_use]
    pub fn disk(&self, node: usize) -> Option<&Disk> {
        self.disks.get(node.checked_sub(1)?)
    }

    /// Where a node's segment files are.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn segments(&self, node: usize) -> anyhow::Result<PathBuf> {
        Ok(self.place(node)?.data.join("segments"))
    }

    /// Where a node's data is.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn data(&self, node: usize) -> anyhow::Result<PathBuf> {
        Ok(self.place(node)?.data)
    }

    /// Empties a node's folder.
    ///
    /// # Errors
    /// If that is refused.
    pub fn wipe(&self, node: usize) -> anyhow::Result<()> {
        let data = self.data(node)?;
        std::fs::remove_dir_all(&data).with_context(|| format!("{} stays", data.display()))
    }

    /// Sets a node's clock off by so much, from now on at this rate.
    ///
    /// # Errors
    /// If the file that says so cannot be written.
    pub fn set_clock(&self, node: usize, offset_ms: i64, percent: u32) -> anyhow::Result<()> {
        clock::set(&self.place(node)?.home, offset_ms, percent)
    }

    fn place(&self, node: usize) -> anyhow::Result<Place> {
        let place = node.checked_sub(1).and_then(|at| self.cluster.places().get(at).cloned());
        place.with_context(|| format!("there is no node {node}"))
    }

    /// Makes every link and every node whole again and waits until all nodes are ready.
    ///
    /// # Errors
    /// If a node does not become ready.
    pub async fn heal(&mut self) -> anyhow::Result<()> {
        self.network.switch().heal();
        for node in 1..=self.disks.len() {
            self.cluster.start_node(node)?;
            self.cluster.resume(node)?;
        }
        for node in 1..=self.disks.len() {
            self.cluster.wait_ready(&self.probe, node).await?;
        }
        Ok(())
    }

    /// A client of the cluster.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The run's folder.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }
}
