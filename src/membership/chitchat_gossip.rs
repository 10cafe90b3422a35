//! [`Gossip`] by `chitchat` (scuttlebutt and a phi-accrual failure detector) over the peers'
//! QUIC connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use chitchat::transport::{Socket, Transport as GossipRoad};
use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, ChitchatMessage, Deserializable,
    FailureDetectorConfig, NodeState, Serializable, spawn_chitchat,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use super::gossip::{Gossip, Liveness, PeerState};
use crate::env::{Clock, TaskHandle, Tasks};
use crate::net::{GossipPacket, QuicTransport, Transport};
use crate::types::NodeId;

/// A fact's value that is longer is refused: every round carries what changed, and gossip
/// messages are bounded at 64 KiB.
const FACT_BYTES_MAX: usize = 256;
/// How long a dead node stays listed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// How a node takes part in gossip.
#[derive(Clone, Debug)]
pub struct GossipConfig {
    /// Only nodes with the same name gossip with each other.
    pub cluster_id: String,
    /// This node.
    pub node: NodeId,
    /// How often it has been started.
    pub boot: u32,
    /// Where peers reach it.
    pub advertise: SocketAddr,
    /// Where to find the first peers.
    pub seeds: Vec<SocketAddr>,
    /// The time between rounds. Default [`GossipConfig::INTERVAL`].
    pub interval: Duration,
}

impl GossipConfig {
    /// The time between rounds, unless a test wants another.
    pub const INTERVAL: Duration = Duration::from_millis(250);
    /// With a window of two and chitchat's prior of five intervals, the mean stays near the
    /// interval, so the detector is nearly a timeout of 7 intervals: a node killed is noticed
    /// after about 2 s at 250 ms, and a pause of 1 s is not. It grows on slow networks, where
    /// heartbeats come seldom.
    pub const PHI_THRESHOLD: f64 = 8.5;
    /// How many intervals between heartbeats the detector remembers.
    pub const WINDOW: usize = 2;
    /// Longer silences are no measurement of the network.
    pub const INTERVAL_MAX: Duration = Duration::from_secs(5);
}

/// Why gossip cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// The transport's gossip is taken already.
    #[error("gossip runs already on this transport")]
    Taken,
    /// chitchat failed.
    #[error("cannot start gossip: {reason}")]
    Start {
        /// What it said.
        reason: String,
    },
}

/// Gossip over QUIC. Dropping it ends this node's part.
pub struct ChitchatGossip {
    shared: Arc<Shared>,
    _driver: TaskHandle,
    handle: ChitchatHandle,
}

struct Shared {
    config: GossipConfig,
    transport: Arc<QuicTransport>,
    /// Facts that were published and not yet handed to chitchat, whose lock is async.
    unpublished: Mutex<BTreeMap<String, String>>,
    published: Notify,
    peers: Mutex<Vec<PeerState>>,
    changes: watch::Sender<u64>,
}

impl ChitchatGossip {
    /// Starts to gossip over `transport`. Call within a tokio runtime: chitchat runs there.
    ///
    /// # Errors
    /// [`GossipError::Taken`] if the transport gossips already; [`GossipError::Start`] with
    /// chitchat's reason.
    pub async fn start(
        transport: Arc<QuicTransport>,
        config: GossipConfig,
        clock: Arc<dyn Clock>,
        tasks: Arc<dyn Tasks>,
    ) -> Result<Arc<Self>, GossipError> {
        let inbox = transport.take_gossip().ok_or(GossipError::Taken)?;
        let road = Road { transport: Arc::clone(&transport), inbox: Mutex::new(Some(inbox)) };
        let handle = spawn_chitchat(chitchat_config(&config), Vec::new(), &road)
            .await
            .map_err(|source| GossipError::Start { reason: source.to_string() })?;
        let own = PeerState {
            node: config.node,
            boot: config.boot,
            peer_address: config.advertise,
            liveness: Liveness::Up,
            facts: BTreeMap::new(),
        };
        let shared = Arc::new(Shared {
            config,
            transport,
            unpublished: Mutex::new(BTreeMap::new()),
            published: Notify::new(),
            peers: Mutex::new(vec![own]),
            changes: watch::channel(0).0,
        });
        let driver = drive(Arc::clone(&shared), handle.chitchat(), clock);
        let driver = tasks.spawn("gossip", Box::pin(driver));
        Ok(Arc::new(Self { shared, _driver: driver, handle }))
    }
}

impl Gossip for ChitchatGossip {
    fn publish(&self, fact: &str, value: String) {
        if value.len() > FACT_BYTES_MAX {
            tracing::warn!(fact, length = value.len(), "a fact is too long for gossip, not told");
            return;
        }
        self.shared.unpublished.lock().insert(fact.to_owned(), value);
        self.shared.published.notify_one();
    }

    fn peers(&self) -> Vec<PeerState> {
        self.shared.peers.lock().clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

impl Drop for ChitchatGossip {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

fn chitchat_config(config: &GossipConfig) -> ChitchatConfig {
    ChitchatConfig {
        chitchat_id: ChitchatId::new(
            config.node.to_string(),
            u64::from(config.boot),
            config.advertise,
        ),
        cluster_id: config.cluster_id.clone(),
        gossip_interval: config.interval,
        listen_addr: config.advertise,
        seed_nodes: config.seeds.iter().map(ToString::to_string).collect(),
        failure_detector_config: FailureDetectorConfig::new(
            GossipConfig::PHI_THRESHOLD,
            GossipConfig::WINDOW,
            GossipConfig::INTERVAL_MAX,
            config.interval,
            FORGOTTEN_AFTER,
        ),
        marked_for_deletion_grace_period: FORGOTTEN_AFTER,
        catchup_callback: None,
        extra_liveness_predicate: None,
    }
}

/// Hands facts to chitchat and keeps the list of peers, for as long as the node gossips.
async fn drive(
    shared: Arc<Shared>,
    chitchat: Arc<tokio::sync::Mutex<Chitchat>>,
    clock: Arc<dyn Clock>,
) {
    loop {
        {
            let mut chitchat = chitchat.lock().await;
            for (fact, value) in std::mem::take(&mut *shared.unpublished.lock()) {
                chitchat.self_node_state().set(fact, value);
            }
            let peers = list(&chitchat, shared.config.node);
            drop(chitchat);
            shared.replace(peers);
        }
        let pause = clock.sleep(shared.config.interval / 2);
        let published = std::pin::pin!(shared.published.notified());
        futures_util::future::select(published, pause).await;
    }
}

impl Shared {
    fn replace(&self, peers: Vec<PeerState>) {
        if *self.peers.lock() == peers {
            return;
        }
        // The dead come first: where a new node took over an address, it is the one there.
        for liveness in [Liveness::Down, Liveness::Up] {
            for peer in peers.iter().filter(|peer| peer.liveness == liveness) {
                self.transport.learn(peer.node, peer.peer_address);
            }
        }
        let before = std::mem::replace(&mut *self.peers.lock(), peers.clone());
        log_changes(&before, &peers);
        self.changes.send_modify(|count| *count += 1);
    }
}

fn log_changes(before: &[PeerState], after: &[PeerState]) {
    let known: BTreeMap<_, _> = before.iter().map(|peer| (peer.node, peer)).collect();
    for peer in after {
        let liveness = known.get(&peer.node).map(|peer| peer.liveness);
        if liveness != Some(peer.liveness) {
            let address = peer.peer_address;
            tracing::info!(node = %peer.node, %address, liveness = ?peer.liveness, "peer seen");
        }
    }
}

/// All nodes that chitchat knows, the greatest boot of each, in id order.
fn list(chitchat: &Chitchat, own: NodeId) -> Vec<PeerState> {
    let live: std::collections::BTreeSet<_> = chitchat.live_nodes().collect();
    let mut peers = BTreeMap::new();
    for (id, state) in chitchat.node_states() {
        let up = live.contains(id) || *id == *chitchat.self_chitchat_id();
        let Some(peer) = peer_state(id, state, if up { Liveness::Up } else { Liveness::Down })
        else {
            continue;
        };
        // Another node may know a former boot of this one better than this one itself.
        if peer.node == own && *id != *chitchat.self_chitchat_id() {
            continue;
        }
        match peers.get(&peer.node) {
            Some(PeerState { boot, .. }) if *boot > peer.boot => {}
            _ => drop(peers.insert(peer.node, peer)),
        }
    }
    peers.into_values().collect()
}

fn peer_state(id: &ChitchatId, state: &NodeState, liveness: Liveness) -> Option<PeerState> {
    let facts =
        state.key_values().map(|(fact, value)| (fact.to_owned(), value.to_owned())).collect();
    Some(PeerState {
        node: id.node_id.parse().ok()?,
        boot: u32::try_from(id.generation_id).ok()?,
        peer_address: id.gossip_advertise_addr,
        liveness,
        facts,
    })
}

/// chitchat's way to peers: the transport's gossip.
struct Road {
    transport: Arc<QuicTransport>,
    inbox: Mutex<Option<mpsc::Receiver<GossipPacket>>>,
}

#[async_trait]
impl GossipRoad for Road {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let inbox = self.inbox.lock().take().context("gossip is open already")?;
        Ok(Box::new(RoadEnd { transport: Arc::clone(&self.transport), inbox }))
    }
}

struct RoadEnd {
    transport: Arc<QuicTransport>,
    inbox: mpsc::Receiver<GossipPacket>,
}

#[async_trait]
impl Socket for RoadEnd {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        self.transport.send_gossip(to, Bytes::from(message.serialize_to_vec()));
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let packet = self.inbox.recv().await.context("the transport has stopped")?;
            let mut bytes = &packet.message[..];
            match ChitchatMessage::deserialize(&mut bytes) {
                Ok(message) => return Ok((packet.address, message)),
                Err(error) => {
                    tracing::warn!(peer = %packet.peer, %error, "gossip that cannot be read");
                }
            }
        }
    }
}
