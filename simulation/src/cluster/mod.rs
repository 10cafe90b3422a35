//! A cluster of real nodes over simulated seams. Each machine's disks outlive its node.

mod hazards;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use parking_lot::Mutex;
use quorate::blob::UpkeepSettings;
use quorate::catalog::{CatalogLimits, CollectionSettings};
use quorate::env::Tasks;
use quorate::membership::{FormerMember, Identity, Liveness};
use quorate::net::{LinkFacts, Transport};
use quorate::node::{Foundation, Node, NodeSettings, Seams, StartError};
use quorate::replication::{HintLimits, Patience, RepairSettings};
use quorate::ring::PartitionCount;
use quorate::store::{Disk, Family};
use quorate::types::{ByteCount, DiskId, NodeId, Zone};
use serde::{Deserialize, Serialize};

use crate::coverage::Coverage;
use crate::disk::SimDisk;
use crate::entropy::Seed;
use crate::meta::MemMeta;
use crate::power::Power;
use crate::trace::Event;
use crate::world::{SimNode, World};

/// How often something that takes its time is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Of a thousand ends of a node, so many are power cuts; the others are kills of its process.
const POWER_CUTS: u16 = 700;

/// Of a thousand boots, so many end by themselves in the middle of some step of the storage.
const SHORT_LIVES: u16 = 500;

/// How many steps of the storage a short life has at most.
const SHORT_LIFE_STEPS: u64 = 400;

/// How the nodes of a cluster are set up.
#[derive(Clone, Copy, Debug)]
pub struct ClusterOptions {
    /// How many nodes there are.
    pub nodes: u8,
    /// Partitions of the ring, a power of two.
    pub partitions: u32,
    /// Sizes and bounds of the catalogue.
    pub limits: CatalogLimits,
    /// How long coordinators wait.
    pub patience: Patience,
    /// The size of a segment file: small, so that segments are rolled over.
    pub segment_size: ByteCount,
    /// How copies are compared.
    pub repair: RepairSettings,
    /// How much is kept for owners that are away.
    pub hints: HintLimits,
    /// How bytes are looked after.
    pub upkeep: UpkeepSettings,
    /// When bytes that nothing names are freed.
    pub collection: CollectionSettings,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        let limits = CatalogLimits {
            inline_max: ByteCount(512),
            attached_max: ByteCount::kib(4),
            bodies_max: 64,
            ..CatalogLimits::default()
        };
        Self {
            nodes: 3,
            partitions: 32,
            limits,
            patience: Patience::default(),
            segment_size: ByteCount::mib(1),
            repair: RepairSettings::default(),
            hints: HintLimits::default(),
            upkeep: UpkeepSettings { scrub_interval: Duration::from_secs(60) },
            collection: CollectionSettings {
                read_grace: Patience::default().answer * 6,
                read_grace_min: Patience::default().answer * 6,
                uploads_kept: Patience::default().answer * 9,
            },
        }
    }
}

/// Whether a power may go out by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mains {
    /// It stays until a node is crashed.
    Steady,
    /// Some boots lose it in the middle of a step of their storage.
    Unsteady,
}

/// What one machine keeps, whoever runs on it.
struct Machine {
    disk: SimDisk,
    segments: SimDisk,
    meta: MemMeta,
    power: Power,
    boots: u64,
    /// Whether its disk was made to fail or to be full in this boot.
    failing: bool,
    node: Option<Arc<Node>>,
}

/// Called with each node that has started, and with its seams.
pub type Started = Box<dyn Fn(&Arc<Node>, &SimNode) + Send + Sync>;

/// Real nodes on the machines of a world.
pub struct Cluster {
    world: Arc<World>,
    options: ClusterOptions,
    seed: Seed,
    mains: Mutex<Mains>,
    machines: Mutex<BTreeMap<NodeId, Machine>>,
    failures: Mutex<Vec<String>>,
    /// What its nodes have passed.
    coverage: Coverage,
    /// Nodes that died in the middle of a step, to be let go between two steps.
    fallen: Mutex<Vec<Arc<Node>>>,
    started: Started,
}

impl Cluster {
    /// Machines with empty disks, switched off. `started` is called after each start of a node.
    ///
    /// # Errors
    /// If an identity cannot be written.
    pub fn new(
        world: &Arc<World>,
        options: ClusterOptions,
        started: Started,
    ) -> anyhow::Result<Arc<Self>> {
        let seed = world.seed().of("cluster");
        let mut machines = BTreeMap::new();
        for node in world.add_machines(options.nodes) {
            machines.insert(node, Machine::new(node)?);
        }
        let cluster = Arc::new(Self {
            world: Arc::clone(world),
            options,
            seed,
            mains: Mutex::new(Mains::Steady),
            machines: Mutex::new(machines),
            failures: Mutex::default(),
            coverage: Coverage::default(),
            fallen: Mutex::default(),
            started,
        });
        cluster.listen();
        Ok(cluster)
    }

    /// From their next boot on, machines have such a power; one that is on becomes steady at
    /// once.
    pub fn set_mains(&self, mains: Mains) {
        *self.mains.lock() = mains;
        if mains == Mains::Steady {
            self.machines.lock().values().for_each(|machine| machine.power.hold());
        }
    }

    /// Starts a node on what its machine's disks hold after a power cut or a kill. If it runs,
    /// it ends so first. It is there once [`Cluster::node`] shows it.
    pub fn start(self: &Arc<Self>, node: NodeId) {
        self.crash(node);
        let (Some(seams), Some(sim)) = (self.disks(node), self.world.boot(node)) else {
            return;
        };
        let cluster = Arc::clone(self);
        let tasks = Arc::clone(&sim.tasks);
        let start = async move {
            match cluster.bring_up(&sim, seams).await {
                Ok(node) => cluster.is_up(&node, &sim),
                Err(error) => cluster.did_not_start(sim.node, &error),
            }
        };
        tasks.spawn("start of a node", Box::pin(start)).detach();
    }

    /// Ends a node in the middle of whatever it does; nothing happens if it does not run.
    pub fn crash(&self, node: NodeId) {
        self.world.crash(node);
        let fallen = std::mem::take(&mut *self.fallen.lock());
        drop(fallen);
        let ended = self.machines.lock().get_mut(&node).and_then(|machine| machine.node.take());
        // Dropped outside the lock.
        drop(ended);
    }

    /// Ends a node and empties its machine's disks: its next start re-enters the cluster under
    /// the same id, as `quorate server` does after asking its peers, and is to be rebuilt.
    ///
    /// # Errors
    /// If its identity cannot be read or written.
    pub fn wipe(&self, node: NodeId) -> anyhow::Result<()> {
        self.crash(node);
        let mut machines = self.machines.lock();
        let machine = machines.get_mut(&node).context("there is no such machine")?;
        let life = self.seed.of("wiped").of(&node.to_string()).with(machine.boots);
        // What a dead power hides is what its peers remember all the same.
        machine.survive(life, Power::steady());
        let folder: Arc<dyn Disk> = Arc::new(machine.disk.clone());
        let known = Identity::peek(&folder)?.context("the machine was never started")?;
        let mut disk = *node.as_bytes();
        disk[8..].copy_from_slice(&life.0.to_le_bytes());
        let cluster = known.cluster.context("the node was no member yet")?;
        let member =
            FormerMember { cluster, node, boot: known.boot, alive: 0, liveness: Liveness::Down };
        let boots = machine.boots;
        *machine = Machine::with(Identity::re_entering(&member, DiskId::from_bytes(disk)))?;
        machine.boots = boots;
        self.world.trace().record(Event::at(node, "fault", boots, "wiped"));
        Ok(())
    }

    /// The storage of the next boot: what survived the last one.
    fn disks(&self, node: NodeId) -> Option<(SimDisk, SimDisk, MemMeta)> {
        let mut machines = self.machines.lock();
        let machine = machines.get_mut(&node)?;
        let life = self.seed.of(&node.to_string()).with(machine.boots);
        let short = *self.mains.lock() == Mains::Unsteady
            && life.of("short").happens(SHORT_LIVES)
            && machine.boots > 0;
        let power = if short {
            Power::cut_after(life.of("steps").between(0, SHORT_LIFE_STEPS))
        } else {
            Power::steady()
        };
        machine.survive(life, power);
        Some((machine.disk.clone(), machine.segments.clone(), machine.meta.clone()))
    }

    async fn bring_up(
        &self,
        sim: &SimNode,
        (disk, segments, meta): (SimDisk, SimDisk, MemMeta),
    ) -> Result<Arc<Node>, StartError> {
        let seams = Seams {
            clock: sim.clock.clone(),
            entropy: sim.entropy.clone(),
            tasks: sim.tasks.clone(),
            disk: Arc::new(disk),
            segments: Arc::new(segments),
            meta: Arc::new(meta),
        };
        for (peer, address) in self.world.network().addresses() {
            sim.transport.learn(peer, address);
        }
        let foundation = Foundation::lay(seams).await?;
        sim.transport.link_facts(Arc::clone(&foundation.site) as Arc<dyn LinkFacts>);
        let settings = NodeSettings {
            name: format!("machine-{}", sim.address.ip()),
            zone: Zone::new("simulated"),
            capacity: ByteCount::gib(1),
            secret: [7; 32],
            limits: self.options.limits,
            patience: self.options.patience,
            segment_size: self.options.segment_size,
            repair: self.options.repair,
            hints: self.options.hints,
            upkeep: self.options.upkeep,
            collection: self.options.collection,
        };
        Node::start(settings, foundation, sim.transport.clone(), sim.gossip.clone()).await
    }

    fn is_up(&self, node: &Arc<Node>, sim: &SimNode) {
        if !self.world.is_up(sim.node) {
            // It died in its last step.
            return;
        }
        self.world.trace().record(Event::at(sim.node, "node", u64::from(sim.boot), "started"));
        if let Some(machine) = self.machines.lock().get_mut(&sim.node) {
            machine.node = Some(Arc::clone(node));
        }
        (self.started)(node, sim);
    }

    fn did_not_start(&self, node: NodeId, error: &StartError) {
        // A start that loses power or its disk fails as it should: the next finds what it left.
        let (mut dark, mut failing) = (false, false);
        self.with_machine(node, |machine| {
            (dark, failing) = (machine.power.is_off(), machine.failing);
        });
        if !dark {
            // The process has ended.
            self.world.crash(node);
        }
        if !dark && !failing {
            let what = format!("node {} did not start from its disks: {error}", node.short());
            self.failures.lock().push(what);
        }
    }

    /// Watches the machines: whose power went out ends, and starts again after a while. Runs
    /// until it is dropped.
    pub async fn tend(self: &Arc<Self>) {
        for round in 0_u64.. {
            self.world.time().sleep(LOOK_AGAIN).await;
            for node in self.dark() {
                self.world.trace().record(Event::at(node, "fault", round, "power cut"));
                self.crash(node);
                let pause = self.seed.of("dark").with(round).between(0, 4_000);
                self.world.time().sleep(Duration::from_millis(pause)).await;
                if !self.world.is_up(node) {
                    self.start(node);
                }
            }
        }
    }

    /// The running machines whose power is out.
    #[must_use]
    pub fn dark(&self) -> Vec<NodeId> {
        let machines = self.machines.lock();
        let dark = machines.iter().filter(|(_, machine)| machine.power.is_off());
        dark.map(|(node, _)| *node).filter(|node| self.world.is_up(*node)).collect()
    }

    /// All rows of a machine's tables, for comparing.
    #[must_use]
    pub fn rows(&self, node: NodeId) -> BTreeMap<(Family, Bytes), Bytes> {
        let meta = self.machines.lock().get(&node).map(|machine| machine.meta.clone());
        meta.map(|meta| meta.rows()).unwrap_or_default()
    }

    /// Ends a node and puts these rows in the place of its own; its other files stay.
    pub fn put_back(&self, node: NodeId, rows: BTreeMap<(Family, Bytes), Bytes>) {
        self.crash(node);
        if let Some(machine) = self.machines.lock().get_mut(&node) {
            machine.meta = MemMeta::holding(rows, machine.power.clone());
        }
    }

    /// The running node of a machine, once it has started.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<Arc<Node>> {
        self.machines.lock().get(&node).and_then(|machine| machine.node.clone())
    }

    /// Waits until every node has started.
    ///
    /// # Errors
    /// If one has not within `patience`.
    pub async fn all_up(&self, patience: Duration) -> anyhow::Result<Vec<Arc<Node>>> {
        self.these_up(&self.world.nodes(), patience).await
    }

    /// Waits until these nodes have started.
    ///
    /// # Errors
    /// If one has not within `patience`.
    pub async fn these_up(
        &self,
        nodes: &[NodeId],
        patience: Duration,
    ) -> anyhow::Result<Vec<Arc<Node>>> {
        let until = self.world.time().elapsed() + patience;
        loop {
            let up: Vec<Arc<Node>> = nodes.iter().filter_map(|node| self.node(*node)).collect();
            if up.len() == nodes.len() {
                return Ok(up);
            }
            if self.world.time().elapsed() >= until {
                bail!("{} of {} nodes are up after {patience:?}", up.len(), nodes.len());
            }
            self.world.time().sleep(LOOK_AGAIN).await;
        }
    }

    /// Does what `quorate cluster init` does, on the first machine.
    ///
    /// # Errors
    /// If a node does not start, or the layout does not reach all of them.
    pub async fn init(&self) -> anyhow::Result<()> {
        let nodes = self.all_up(Duration::from_secs(30)).await?;
        let partitions = PartitionCount::new(self.options.partitions)?;
        let first = nodes.first().context("a cluster needs a node")?;
        first.membership.init(nodes.len(), partitions, Duration::from_secs(30)).await?;
        Ok(())
    }

    /// What nodes did that no simulated fault excuses.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().clone()
    }

    /// What its nodes have passed so far.
    #[must_use]
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Lets every node go, after the world's end.
    pub fn clear(&self) {
        quorate::env::probe::listen(None);
        let fallen = std::mem::take(&mut *self.fallen.lock());
        drop(fallen);
        let machines = std::mem::take(&mut *self.machines.lock());
        drop(machines);
    }

    /// The world that it runs in.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }
}

impl Machine {
    fn new(node: NodeId) -> anyhow::Result<Self> {
        let identity = Identity {
            format: 1,
            cluster: None,
            node,
            disk: DiskId::from_bytes(*node.as_bytes()),
            boot: 0,
            rebuilding: false,
        };
        Self::with(identity)
    }

    /// A machine with empty disks but for this identity.
    fn with(identity: Identity) -> anyhow::Result<Self> {
        let power = Power::steady();
        let disk = SimDisk::new(power.clone());
        let folder: Arc<dyn Disk> = Arc::new(disk.clone());
        identity.save(&folder)?;
        let segments = SimDisk::new(power.clone());
        let meta = MemMeta::new(power.clone());
        Ok(Self { disk, segments, meta, power, boots: 0, failing: false, node: None })
    }

    /// Replaces the storage by what the end of this life left of it.
    fn survive(&mut self, life: Seed, power: Power) {
        let (disk, segments, meta) = (&self.disk, &self.segments, &self.meta);
        let cut = self.power.was_cut() || life.of("end").happens(POWER_CUTS);
        let (disk, segments, meta) = if cut {
            (
                disk.crash(life.of("disk").0, power.clone()),
                segments.crash(life.of("segments").0, power.clone()),
                meta.crash(life.of("meta").0, power.clone()),
            )
        } else {
            (disk.kill(power.clone()), segments.kill(power.clone()), meta.kill(power.clone()))
        };
        (self.disk, self.segments, self.meta, self.power) = (disk, segments, meta, power);
        self.boots += 1;
        self.failing = false;
    }
}
