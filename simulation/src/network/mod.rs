//! The twin of the network: connections between nodes, and everything that goes wrong on them.
//!
//! What QUIC can do is modelled, and nothing else: delay, loss that shows as delay, cuts that
//! show as silence and then as a lost connection, resets. It never duplicates, reorders within
//! a stream, or damages bytes.
//!
//! # Invariants
//! 1. A request that arrived was sent once and is handled at most once.
//! 2. `Unreachable` is answered only while nothing was handed to a connection.
//! 3. Each draw follows from (seed, from, to, how many were drawn on that link), so taking one
//!    fault away does not shift the others' times.
//! 4. Nothing that a crashed node still holds reaches a peer; what was on the wire does.

mod bulk;
mod connection;
mod link;
mod station;
mod transport;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate::env::Tasks;
use quorate::net::ServiceId;
use quorate::replication::REPLICA_SERVICE;
use quorate::types::NodeId;

use crate::clock::{SimClock, WorldTime};
use crate::entropy::{Seed, fnv1a};
use crate::tasks::SimTasks;
use crate::trace::Trace;

use connection::Connection;
use link::Link;
use station::Station;

pub use link::LinkQuality;
pub use transport::SimTransport;

/// How connections behave.
#[derive(Clone, Copy, Debug)]
pub struct NetworkOptions {
    /// Every link's quality at first.
    pub quality: LinkQuality,
    /// A connection on which nothing passed for this long is lost.
    pub idle_timeout: Duration,
    /// A peer that did not answer a handshake for this long is unreachable.
    pub dial_timeout: Duration,
    /// How often a silent connection is tried: so soon a restarted peer resets it.
    pub keep_alive: Duration,
    /// The pause before the first retransmission; later ones double it, up to a second.
    pub retransmit: Duration,
}

impl Default for NetworkOptions {
    /// As the real transport's limits are by default.
    fn default() -> Self {
        Self {
            quality: LinkQuality::default(),
            idle_timeout: Duration::from_secs(5),
            dial_timeout: Duration::from_millis(1_500),
            keep_alive: Duration::from_secs(1),
            retransmit: Duration::from_millis(50),
        }
    }
}

#[derive(Default)]
struct State {
    stations: BTreeMap<NodeId, Station>,
    addresses: BTreeMap<SocketAddr, NodeId>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    /// By (dialer, listener); each direction has a connection of its own.
    connections: BTreeMap<(NodeId, NodeId), Arc<Connection>>,
    /// Of a thousand requests for a node's copies, so many never arrive.
    deaf: BTreeMap<NodeId, u16>,
}

/// The network of one simulated world.
pub struct SimNetwork {
    time: WorldTime,
    seed: Seed,
    options: NetworkOptions,
    trace: Arc<Trace>,
    /// What is on the wire belongs to no node.
    couriers: SimTasks,
    state: Mutex<State>,
}

impl SimNetwork {
    /// A network without nodes.
    #[must_use]
    pub fn new(
        time: WorldTime,
        seed: Seed,
        options: NetworkOptions,
        trace: Arc<Trace>,
    ) -> Arc<Self> {
        let couriers = SimTasks::new(seed.of("couriers"), Duration::ZERO);
        Arc::new(Self { time, seed, options, trace, couriers, state: Mutex::default() })
    }

    /// Places a machine at an address; it is off until [`SimNetwork::boot`].
    pub fn place(&self, node: NodeId, address: SocketAddr) {
        let mut state = self.state.lock();
        state.addresses.insert(address, node);
        state.stations.insert(node, Station::new(address));
    }

    /// Where every machine is, in node order.
    #[must_use]
    pub fn addresses(&self) -> Vec<(NodeId, SocketAddr)> {
        let state = self.state.lock();
        state.stations.iter().map(|(node, station)| (*node, station.address)).collect()
    }

    /// Starts a node and gives it its way to peers. A running node is replaced as by a crash.
    pub fn boot(
        self: &Arc<Self>,
        node: NodeId,
        clock: &SimClock,
        tasks: &SimTasks,
    ) -> Arc<SimTransport> {
        self.crash(node);
        self.reset_former(node);
        let boot = {
            let mut state = self.state.lock();
            state.stations.get_mut(&node).map(|station| station.boot(clock.clone(), tasks.clone()))
        };
        Arc::new(SimTransport::new(Arc::clone(self), node, boot.unwrap_or_default(), clock.clone()))
    }

    /// Peers that still hold connections with former boots of `node` try them soon, and are told
    /// that they are void.
    fn reset_former(self: &Arc<Self>, node: NodeId) {
        let former = self.connections_of(node);
        let network = Arc::clone(self);
        let tried = async move {
            network.time.sleep(network.options.keep_alive).await;
            for connection in former {
                let (one, other) = (connection.dialer.node, connection.listener.node);
                if !network.is_cut(one, other) && !network.is_cut(other, one) {
                    connection.close("the peer was restarted");
                }
            }
        };
        self.couriers.spawn("keep alive", Box::pin(tried)).detach();
    }

    /// Ends a node without a word: its tasks stop, its peers hear nothing and lose their
    /// connections after the idle timeout.
    pub fn crash(self: &Arc<Self>, node: NodeId) {
        if self.take_down(node) {
            let orphans = self.connections_of(node);
            let network = Arc::clone(self);
            let wait = async move {
                network.time.sleep(network.options.idle_timeout).await;
                for connection in orphans {
                    connection.close("the peer fell silent");
                }
            };
            self.couriers.spawn("idle timeout", Box::pin(wait)).detach();
        }
    }

    /// Ends a node in good order: its peers learn at once that its connections are closed.
    pub fn stop(&self, node: NodeId) {
        if self.take_down(node) {
            for connection in self.connections_of(node) {
                connection.close("the peer closed the connection");
            }
        }
    }

    fn take_down(&self, node: NodeId) -> bool {
        let running =
            self.state.lock().stations.get_mut(&node).and_then(|station| station.running.take());
        // Dropped outside the lock: what a handler owns may look at the network as it goes.
        if let Some(running) = &running {
            running.tasks.stop_all();
        }
        running.is_some()
    }

    fn connections_of(&self, node: NodeId) -> Vec<Arc<Connection>> {
        // They stay where they are: a peer that does not know of the end goes on using its own
        // until it is closed, and that is where uncertain outcomes come from.
        let state = self.state.lock();
        let mut connections: Vec<_> = state.connections.values().map(Arc::clone).collect();
        connections.retain(|each| each.dialer.node == node || each.listener.node == node);
        connections
    }

    /// Stops everything that passes from `from` to `to`, until healed. If that outlasts the
    /// idle timeout, the connections between the two are lost.
    pub fn cut(self: &Arc<Self>, from: NodeId, to: NodeId) {
        let cuts = self.with_link(from, to, |link| {
            link.cut = true;
            link.cuts += 1;
            link.cuts
        });
        let network = Arc::clone(self);
        let watch = async move {
            network.time.sleep(network.options.idle_timeout).await;
            let same = network.with_link(from, to, |link| link.cut && link.cuts == cuts);
            if same {
                network.close_between(from, to, "nothing passed within the idle timeout");
            }
        };
        self.couriers.spawn("idle timeout", Box::pin(watch)).detach();
    }

    /// Lets everything pass from `from` to `to` again.
    pub fn heal(&self, from: NodeId, to: NodeId) {
        self.with_link(from, to, |link| link.cut = false);
    }

    /// Sets how fast and how safely things pass from `from` to `to`.
    pub fn set_quality(&self, from: NodeId, to: NodeId, quality: LinkQuality) {
        self.with_link(from, to, |link| link.quality = quality);
    }

    /// The quality that links have at first.
    #[must_use]
    pub fn usual_quality(&self) -> LinkQuality {
        self.options.quality
    }

    /// Of a thousand requests for the copies of `node`, lets so many vanish from now on.
    pub fn set_deaf(&self, node: NodeId, permille: u16) {
        self.state.lock().deaf.insert(node, permille);
    }

    /// Whether a request vanishes.
    fn vanishes(&self, node: NodeId, service: ServiceId, draw: u64) -> bool {
        let permille = self.state.lock().deaf.get(&node).copied().unwrap_or_default();
        service == REPLICA_SERVICE && self.seed.of("deaf").with(draw).happens(permille)
    }

    /// Breaks the connections between two nodes at once; both see them as lost.
    pub fn reset(&self, one: NodeId, other: NodeId) {
        self.close_between(one, other, "the connection was reset");
    }

    fn close_between(&self, one: NodeId, other: NodeId, reason: &'static str) {
        let closed = {
            let mut state = self.state.lock();
            let out = state.connections.remove(&(one, other));
            let back = state.connections.remove(&(other, one));
            [out, back]
        };
        for connection in closed.into_iter().flatten() {
            connection.close(reason);
        }
    }

    /// What a message of `bytes` meets on its way out of `from` towards `to`: how long it takes,
    /// and whether it is lost.
    fn draw(&self, from: NodeId, to: NodeId, bytes: usize) -> link::Passage {
        let now = self.time.elapsed();
        self.with_link(from, to, |link| link.draw(now, bytes))
    }

    fn with_link<T>(&self, from: NodeId, to: NodeId, change: impl FnOnce(&mut Link) -> T) -> T {
        let mut state = self.state.lock();
        let link = state.links.entry((from, to)).or_insert_with(|| {
            let seed = self.seed.with(fnv1a(from.as_bytes())).with(fnv1a(to.as_bytes()));
            Link::new(seed, self.options.quality)
        });
        change(link)
    }

    /// Sends one datagram without a connection; whether it arrived.
    pub(crate) async fn datagram(&self, from: NodeId, to: NodeId, bytes: usize) -> bool {
        let passage = self.draw(from, to, bytes);
        self.time.sleep(passage.delay).await;
        !passage.lost && !self.is_cut(from, to) && self.boot_of(to).is_some()
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.with_link(from, to, |link| link.cut)
    }

    /// Which boot of `node` is running.
    fn boot_of(&self, node: NodeId) -> Option<u64> {
        let state = self.state.lock();
        let station = state.stations.get(&node)?;
        station.running.as_ref().map(|running| running.boot)
    }

    /// The tasks of what is on the wire.
    pub(crate) fn couriers(&self) -> &SimTasks {
        &self.couriers
    }

    /// The time that the network runs by.
    pub(crate) fn time(&self) -> WorldTime {
        self.time
    }

    /// The trace that the network records to.
    #[must_use]
    pub fn trace(&self) -> &Arc<Trace> {
        &self.trace
    }
}
