//! One simulated world: machines, the network between them, and what they share.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate::env::Entropy;
use quorate::types::NodeId;

use crate::clock::{SimClock, WallClock, WorldTime};
use crate::entropy::{Seed, SimEntropy};
use crate::gossip::{GossipField, Member, SimGossip};
use crate::network::{NetworkOptions, SimNetwork, SimTransport};
use crate::tasks::SimTasks;
use crate::trace::{Event, TextLog, Trace};

/// The port that every machine listens on.
const PEER_PORT: u16 = 9002;

/// How a world is made.
#[derive(Clone, Copy, Debug)]
pub struct WorldOptions {
    /// How connections behave.
    pub network: NetworkOptions,
    /// How long blocking work takes at most; zero runs it in place.
    pub blocking_max: Duration,
    /// Whether the trace keeps text.
    pub text: TextLog,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            network: NetworkOptions::default(),
            blocking_max: Duration::ZERO,
            text: TextLog::Off,
        }
    }
}

/// The simulated seams of one boot of one node.
#[derive(Clone)]
pub struct SimNode {
    /// Its id.
    pub node: NodeId,
    /// Which boot of it, from 1.
    pub boot: u32,
    /// Where peers reach it.
    pub address: SocketAddr,
    /// Its clocks.
    pub clock: Arc<SimClock>,
    /// Its randomness; each boot draws other bits.
    pub entropy: Arc<SimEntropy>,
    /// Its tasks.
    pub tasks: Arc<SimTasks>,
    /// Its way to peers.
    pub transport: Arc<SimTransport>,
    /// Its gossip, already joined.
    pub gossip: Arc<SimGossip>,
}

struct Machine {
    address: SocketAddr,
    wall: Arc<WallClock>,
    boots: u32,
    up: bool,
    /// The tasks of every boot, for their panics.
    tasks: Vec<Arc<SimTasks>>,
}

/// Machines, network, gossip and trace of one run. Lives on the runtime of [`simulate`].
pub struct World {
    seed: Seed,
    options: WorldOptions,
    time: WorldTime,
    trace: Arc<Trace>,
    network: Arc<SimNetwork>,
    gossip: Arc<GossipField>,
    machines: Mutex<BTreeMap<NodeId, Machine>>,
}

impl World {
    /// A world without machines, beginning now.
    #[must_use]
    pub fn new(seed: Seed, options: WorldOptions) -> Arc<Self> {
        let time = WorldTime::begin();
        let trace = Trace::new(time, options.text);
        let network =
            SimNetwork::new(time, seed.of("network"), options.network, Arc::clone(&trace));
        let gossip = GossipField::new(Arc::clone(&network));
        let machines = Mutex::default();
        Arc::new(Self { seed, options, time, trace, network, gossip, machines })
    }

    /// The id of the `number`th machine (from 1); the same in every world.
    #[must_use]
    pub fn node_id(number: u8) -> NodeId {
        let mut bytes = [0; 16];
        bytes[0] = number;
        bytes[15] = number;
        NodeId::from_bytes(bytes)
    }

    /// Adds `count` machines, switched off, at 10.0.0.1 and up. Their ids, in order.
    pub fn add_machines(&self, count: u8) -> Vec<NodeId> {
        let mut machines = self.machines.lock();
        let first = u8::try_from(machines.len()).unwrap_or(u8::MAX).saturating_add(1);
        let added: Vec<NodeId> = (first..first.saturating_add(count)).map(Self::node_id).collect();
        for (number, node) in (first..).zip(&added) {
            let address = SocketAddr::from((Ipv4Addr::new(10, 0, 0, number), PEER_PORT));
            self.network.place(*node, address);
            let wall = Arc::new(WallClock::new(self.time));
            let machine = Machine { address, wall, boots: 0, up: false, tasks: Vec::new() };
            machines.insert(*node, machine);
        }
        added
    }

    /// Starts a node on its machine; `None` if there is no such machine. If it is running, it
    /// crashes first.
    pub fn boot(&self, node: NodeId) -> Option<SimNode> {
        self.crash(node);
        let (boot, address, wall) = {
            let mut machines = self.machines.lock();
            let machine = machines.get_mut(&node)?;
            machine.boots += 1;
            machine.up = true;
            (machine.boots, machine.address, Arc::clone(&machine.wall))
        };
        let seed = self.seed.of(&node.to_string()).with(u64::from(boot));
        let clock = SimClock::boot(wall);
        let tasks = SimTasks::new(seed.of("tasks"), self.options.blocking_max).of(node);
        let tasks = Arc::new(tasks);
        let entropy = Arc::new(SimEntropy::new(seed));
        let transport = self.network.boot(node, &clock, &tasks);
        let member = Member { node, boot, address };
        let draws = entropy.fork("gossip");
        let gossip = SimGossip::join(&self.gossip, member, clock.clone(), &tasks, draws);
        if let Some(machine) = self.machines.lock().get_mut(&node) {
            machine.tasks.push(Arc::clone(&tasks));
        }
        self.trace.record(Event::at(node, "machine", u64::from(boot), "boot"));
        let clock = Arc::new(clock);
        Some(SimNode { node, boot, address, clock, entropy, tasks, transport, gossip })
    }

    /// Ends a node as by `kill -9`; nothing happens if it is not running.
    pub fn crash(&self, node: NodeId) {
        if self.mark_down(node) {
            self.trace.record(Event::at(node, "machine", 0, "crash"));
            self.network.crash(node);
        }
    }

    /// Ends a node in good order: its peers learn that its connections are closed.
    pub fn stop(&self, node: NodeId) {
        if self.mark_down(node) {
            self.trace.record(Event::at(node, "machine", 0, "stop"));
            self.network.stop(node);
        }
    }

    fn mark_down(&self, node: NodeId) -> bool {
        let mut machines = self.machines.lock();
        machines.get_mut(&node).is_some_and(|machine| std::mem::replace(&mut machine.up, false))
    }

    /// Whether a node is running.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.machines.lock().get(&node).is_some_and(|machine| machine.up)
    }

    /// All machines, in id order.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.machines.lock().keys().copied().collect()
    }

    /// A machine's wall clock, to set it wrong.
    #[must_use]
    pub fn wall(&self, node: NodeId) -> Option<Arc<WallClock>> {
        self.machines.lock().get(&node).map(|machine| Arc::clone(&machine.wall))
    }

    /// Changes a machine's wall clock, if there is such a machine.
    pub fn with_wall(&self, node: NodeId, change: impl FnOnce(&WallClock)) {
        if let Some(wall) = self.wall(node) {
            change(&wall);
        }
    }

    /// Lets a running node take no step until [`World::resume`].
    pub fn pause(&self, node: NodeId) {
        self.with_tasks(node, SimTasks::pause);
    }

    /// Ends a pause.
    pub fn resume(&self, node: NodeId) {
        self.with_tasks(node, SimTasks::resume);
    }

    /// Lets each access to a running node's disk take so much longer.
    pub fn slow_disk(&self, node: NodeId, by: Duration) {
        self.with_tasks(node, |tasks| tasks.slow_down(by));
    }

    /// Does something with the tasks of a node's present boot.
    fn with_tasks(&self, node: NodeId, work: impl FnOnce(&SimTasks)) {
        let machines = self.machines.lock();
        let tasks = machines.get(&node).and_then(|machine| machine.tasks.last()).map(Arc::clone);
        drop(machines);
        if let Some(tasks) = tasks {
            work(&tasks);
        }
    }

    /// Ends the world: every node stops, and what they hold is let go.
    pub fn shut_down(&self) {
        for node in self.nodes() {
            self.stop(node);
        }
        self.network.couriers().stop_all();
        self.gossip.clear();
    }

    /// Every panic of every node so far. There must be none.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        let machines = self.machines.lock();
        let mut panics = self.network.couriers().panics();
        panics.extend(machines.values().flat_map(|m| &m.tasks).flat_map(|tasks| tasks.panics()));
        panics
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Arc<SimNetwork> {
        &self.network
    }

    /// The trace.
    #[must_use]
    pub fn trace(&self) -> &Arc<Trace> {
        &self.trace
    }

    /// The time that all share.
    #[must_use]
    pub fn time(&self) -> WorldTime {
        self.time
    }

    /// The seed that everything follows from.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.seed
    }
}

/// Runs `run` to its end on a runtime of one thread and paused time.
///
/// # Errors
/// If the runtime cannot be made.
pub fn simulate<T>(run: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(run))
}
