//! [`Gossip`] by `chitchat` (scuttlebutt and a phi-accrual failure detector) over the peers'
//! QUIC connections.
//!
//! # What can go wrong, and what answers it
//! - *chitchat ends.* It panics on a digest of more than 895 lives of nodes, and every start of a
//!   node is a life. Ended lives are forgotten soon ([`GossipConfig::FORGOTTEN_AFTER`]), many of
//!   them are warned of, and a node whose gossip has ended stops ([`ChitchatGossip::ended`]): a
//!   node that no longer hears who lives must not go on as if it did.
//! - *Both sides of a long split forget each other.* Nodes that were once met and are not listed
//!   any more are called again and again.

use std::collections::BTreeMap;
use std::future::Future;
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
use crate::env::{Clock, TaskHandle, Tasks, metrics};
use crate::net::{GossipPacket, QuicTransport, Transport};
use crate::types::NodeId;

static LIVES: std::sync::LazyLock<prometheus::IntGauge> = std::sync::LazyLock::new(|| {
    metrics::gauge("quorate_gossip_lives", "Lives of nodes that gossip lists; it ends at 896.")
});

/// A fact's value that is longer is refused: every round carries what changed, and gossip
/// messages are bounded at 64 KiB.
const FACT_BYTES_MAX: usize = 256;
/// Lives from which on it is warned: at 896 chitchat ends.
const LIVES_MANY: i64 = 600;
/// How often a node that is not listed any more is called.
const CALL_EVERY: Duration = Duration::from_secs(5);
/// Addresses that are remembered of nodes that are not listed any more.
const STRAYED_MAX: usize = 1_024;

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
    /// How long a life that ended stays listed; for half of it, it is told of. A node that
    /// crashes again and again leaves a life each time, of which a digest holds 895: that is a
    /// start every 0.7 s.
    pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(20 * 60);
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
    _tasks: [TaskHandle; 2],
    handle: Arc<ChitchatHandle>,
}

struct Shared {
    config: GossipConfig,
    transport: Arc<QuicTransport>,
    /// Facts that were published and not yet handed to chitchat, whose lock is async.
    unpublished: Mutex<BTreeMap<String, String>>,
    published: Notify,
    peers: Mutex<Vec<PeerState>>,
    changes: watch::Sender<u64>,
    /// Why gossip ended, once it has.
    ended: watch::Sender<Option<String>>,
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
            ended: watch::channel(None).0,
        });
        let handle = Arc::new(handle);
        let driver = drive(Arc::clone(&shared), Arc::clone(&handle), clock);
        let driver = tasks.spawn("gossip", Box::pin(driver));
        let end = tell_end(Arc::clone(&shared), handle.termination_watcher());
        let watcher = tasks.spawn("gossip's end", Box::pin(end));
        Ok(Arc::new(Self { shared, _tasks: [driver, watcher], handle }))
    }

    /// Why gossip ended, once it has: from then on this node does not hear who lives, and must
    /// stop.
    pub fn ended(&self) -> watch::Receiver<Option<String>> {
        self.shared.ended.subscribe()
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
            GossipConfig::FORGOTTEN_AFTER,
        ),
        marked_for_deletion_grace_period: GossipConfig::FORGOTTEN_AFTER,
        catchup_callback: None,
        extra_liveness_predicate: None,
    }
}

/// Hands facts to chitchat, keeps the list of peers and calls those that are not listed any more,
/// for as long as the node gossips.
async fn drive(shared: Arc<Shared>, handle: Arc<ChitchatHandle>, clock: Arc<dyn Clock>) {
    let chitchat = handle.chitchat();
    let mut strayed = Strayed::default();
    let mut next_call = clock.monotonic() + CALL_EVERY;
    loop {
        let peers = {
            let mut chitchat = chitchat.lock().await;
            for (fact, value) in std::mem::take(&mut *shared.unpublished.lock()) {
                chitchat.self_node_state().set(fact, value);
            }
            LIVES.set(i64::try_from(chitchat.node_states().len()).unwrap_or(i64::MAX));
            list(&chitchat, shared.config.node)
        };
        if clock.monotonic() >= next_call {
            next_call = clock.monotonic() + CALL_EVERY;
            warn_of_many(LIVES.get());
            if let Some(address) = strayed.next(&peers) {
                // It fails only if gossip has ended, and then the node stops.
                drop(handle.gossip(address));
            }
        }
        shared.replace(peers);
        let pause = clock.sleep(shared.config.interval / 2);
        let published = std::pin::pin!(shared.published.notified());
        futures_util::future::select(published, pause).await;
    }
}

fn warn_of_many(lives: i64) {
    if lives > LIVES_MANY {
        tracing::warn!(
            lives,
            "gossip lists many lives of nodes, and ends at 896: a node starts again and again, \
             look for it with 'quorate status' and stop it"
        );
    }
}

/// Tells why gossip ended.
async fn tell_end(shared: Arc<Shared>, end: impl Future<Output = anyhow::Result<()>>) {
    let reason = match end.await {
        Ok(()) => "it was shut down".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    tracing::error!(%reason, "gossip has ended: this node does not hear any more who lives");
    shared.ended.send_replace(Some(reason));
}

/// Where nodes were that are not listed any more: after a long split nobody else may know them.
#[derive(Default)]
struct Strayed {
    met: BTreeMap<NodeId, SocketAddr>,
    last: Option<NodeId>,
}

impl Strayed {
    /// Remembers who is listed, and names the next one to call of those who are not.
    fn next(&mut self, listed: &[PeerState]) -> Option<SocketAddr> {
        for peer in listed {
            if self.met.len() < STRAYED_MAX || self.met.contains_key(&peer.node) {
                self.met.insert(peer.node, peer.peer_address);
            }
        }
        let is_missing = |node: &NodeId| listed.iter().all(|peer| peer.node != *node);
        let missing = || self.met.iter().filter(|(node, _)| is_missing(node));
        let after = missing().find(|(node, _)| self.last.is_none_or(|last| **node > last));
        let (node, address) = after.or_else(|| missing().next())?;
        self.last = Some(*node);
        Some(*address)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: u8) -> PeerState {
        PeerState {
            node: NodeId::from_bytes([id; 16]),
            boot: 1,
            peer_address: SocketAddr::from(([10, 0, 0, id], 1)),
            liveness: Liveness::Down,
            facts: BTreeMap::new(),
        }
    }

    #[test]
    fn who_is_not_listed_any_more_is_called_in_turn_until_it_is_listed_again() {
        let mut strayed = Strayed::default();
        let all: Vec<PeerState> = (1..=4).map(peer).collect();

        assert_eq!(strayed.next(&all), None);
        let left = &all[..2];
        let called: Vec<_> = (0..3).filter_map(|_| strayed.next(left)).collect();
        let place = |id: u8| peer(id).peer_address;
        assert_eq!(called, [place(3), place(4), place(3)]);
        assert_eq!(strayed.next(&all[..3]), Some(place(4)));
        assert_eq!(strayed.next(&all), None);
    }
}
