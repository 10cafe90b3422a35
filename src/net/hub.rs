//! What all connections of a node share: its seams, its peers, and how to dial.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;

use super::endpoint::{Class, QuicLimits};
use super::figures;
use super::identity::{name_of, node_of};
use super::link::Link;
use super::peer::{Peer, Route, Target};
use super::serve::serve_link;
use super::stream::code;
use super::transport::{Handler, LinkFacts};
use super::verify::ANY_NODE;
use crate::env::{Clock, Entropy, Monotonic, Tasks, timeout_at};
use crate::types::NodeId;

/// Addresses of nodes not known yet that are remembered for gossip; more are not dialled.
const STRANGERS_MAX: usize = 1_024;
/// How often the same kind of failed handshake is logged.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// A gossip message as it came: from whom, from where, and its bytes.
#[derive(Clone, Debug)]
pub struct GossipPacket {
    /// The proven sender.
    pub peer: NodeId,
    /// Where an answer reaches it.
    pub address: SocketAddr,
    /// The message.
    pub message: Bytes,
}

/// What all connections share.
pub(super) struct Hub {
    pub(super) node: NodeId,
    pub(super) endpoint: Endpoint,
    pub(super) dialing: [ClientConfig; 2],
    pub(super) limits: QuicLimits,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) tasks: Arc<dyn Tasks>,
    pub(super) facts: Arc<dyn LinkFacts>,
    pub(super) handler: RwLock<Option<Arc<dyn Handler>>>,
    pub(super) gossip: mpsc::Sender<GossipPacket>,
    pub(super) directory: Mutex<Directory>,
    pub(super) complaints: Complaints,
}

/// Who is reached where.
#[derive(Default)]
pub(super) struct Directory {
    peers: BTreeMap<NodeId, Arc<Peer>>,
    nodes: BTreeMap<SocketAddr, NodeId>,
    strangers: BTreeMap<SocketAddr, Arc<Route>>,
}

impl Hub {
    /// The entry of `node`, made if it is new. Nodes are proven or learned from such, so their
    /// number is the cluster's.
    pub(super) fn peer(&self, node: NodeId) -> Arc<Peer> {
        let mut directory = self.directory.lock();
        let make = || Arc::new(Peer::new(node, &self.limits));
        Arc::clone(directory.peers.entry(node).or_insert_with(make))
    }

    /// The entry of `node`, if there is one.
    pub(super) fn known(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.directory.lock().peers.get(&node).cloned()
    }

    /// Notes where `node` is reached.
    pub(super) fn learn(&self, node: NodeId, address: SocketAddr) {
        self.peer(node).learn(address);
        let mut directory = self.directory.lock();
        directory.nodes.insert(address, node);
        directory.strangers.remove(&address);
    }

    /// A live control connection with the node at `address`, if there is one.
    pub(super) fn live_at(&self, address: SocketAddr) -> Option<Arc<Link>> {
        let peer = {
            let directory = self.directory.lock();
            let node = directory.nodes.get(&address)?;
            Arc::clone(directory.peers.get(node)?)
        };
        peer.route(Class::Control).live()
    }

    /// The route to whoever is at `address`; `None` if too many strangers are remembered.
    pub(super) fn stranger(&self, address: SocketAddr) -> Option<Arc<Route>> {
        let mut directory = self.directory.lock();
        if directory.strangers.len() >= STRANGERS_MAX && !directory.strangers.contains_key(&address)
        {
            return None;
        }
        let make = || Arc::new(Route::new(Class::Control));
        Some(Arc::clone(directory.strangers.entry(address).or_insert_with(make)))
    }

    /// Dials `target` and starts to serve the connection.
    pub(super) async fn dial(
        self: &Arc<Self>,
        target: Target,
        class: Class,
    ) -> Result<Arc<Link>, String> {
        let name = match target {
            Target::Node(node, _) => name_of(node),
            Target::Anyone(_) => ANY_NODE.to_owned(),
        };
        let config = self.dialing[class.index()].clone();
        let address = target.address();
        let connecting = self
            .endpoint
            .connect_with(config, address, &name)
            .map_err(|error| error.to_string())?;
        let deadline = self.clock.monotonic() + self.limits.dial_timeout;
        match timeout_at(&*self.clock, deadline, connecting).await {
            Some(Ok(connection)) => self.adopt(connection, class),
            Some(Err(error)) => Err(self.complain(address, &error)),
            None => Err(format!("nobody answered at udp {address}")),
        }
    }

    /// Takes over a connection whose handshake is done.
    pub(super) fn adopt(
        self: &Arc<Self>,
        connection: Connection,
        class: Class,
    ) -> Result<Arc<Link>, String> {
        let Some(node) = proven_node(&connection) else {
            connection.close(code::VIOLATION, b"the certificate names no node");
            return Err("the certificate names no node".to_owned());
        };
        let peer = self.peer(node);
        let remote = connection.remote_address();
        if peer.address().is_none() {
            peer.learn(remote);
        }
        {
            let mut directory = self.directory.lock();
            directory.nodes.insert(remote, node);
            directory.strangers.remove(&remote);
        }
        let link = Link::start(self, peer, connection, class);
        link.peer.route(class).install(Arc::clone(&link));
        tracing::debug!(peer = %node, address = %remote, ?class, "connected");
        let serving = serve_link(Arc::clone(&link));
        self.tasks.spawn("peer connection", Box::pin(serving)).detach();
        Ok(link)
    }

    /// Lets go of all peers. Peers hold their connections, and these hold them and the hub:
    /// where the tasks that clean up are gone already, the socket must still be freed.
    pub(super) fn forget_all(&self) {
        let directory = std::mem::take(&mut *self.directory.lock());
        directory.peers.values().for_each(|peer| peer.disconnect());
        directory.strangers.values().for_each(|route| route.disconnect());
    }

    /// Cleans up after a connection.
    pub(super) fn ended(&self, link: &Link) {
        link.end();
        link.peer.route(link.class).sweep();
        let remote = link.connection.remote_address();
        // A peer that dialled from another port than it listens on leaves no trace.
        if link.peer.address() != Some(remote) {
            let mut directory = self.directory.lock();
            if directory.nodes.get(&remote) == Some(&link.node()) {
                directory.nodes.remove(&remote);
            }
        }
        let reason = link.connection.close_reason().map(|reason| reason.to_string());
        tracing::debug!(peer = %link.node(), address = %remote, reason, "connection ended");
    }

    /// Says why a handshake failed, and logs it, rarely, if a person has to act.
    pub(super) fn complain(&self, address: SocketAddr, error: &ConnectionError) -> String {
        let reason = match failed_handshake(error) {
            Some(Failure::Strangers) => {
                format!(
                    "the handshake with udp {address} failed (another cluster secret?): {error}"
                )
            }
            Some(Failure::AnotherNode) => format!("another node answers at udp {address}"),
            None => return format!("udp {address}: {error}"),
        };
        figures::refused("handshake");
        if self.complaints.due(self.clock.monotonic()) {
            tracing::warn!(%address, %reason, "a peer was refused");
        }
        reason
    }
}

/// How the two sides of a handshake do not fit.
enum Failure {
    Strangers,
    AnotherNode,
}

/// What a failed handshake means, if TLS failed it.
fn failed_handshake(error: &ConnectionError) -> Option<Failure> {
    let (number, text) = match error {
        ConnectionError::TransportError(error) => (u64::from(error.code), error.reason.clone()),
        ConnectionError::ConnectionClosed(closed) => {
            (u64::from(closed.error_code), String::from_utf8_lossy(&closed.reason).into_owned())
        }
        _ => return None,
    };
    // QUIC carries TLS alerts as 0x100 + alert (RFC 9001 §4.8).
    if !(0x100..0x200).contains(&number) {
        return None;
    }
    if text.contains("NotValidForName") || text.contains("not valid for name") {
        return Some(Failure::AnotherNode);
    }
    Some(Failure::Strangers)
}

fn proven_node(connection: &Connection) -> Option<NodeId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    node_of(chain.first()?)
}

/// Keeps one kind of warning from filling the log.
#[derive(Default)]
pub(super) struct Complaints {
    last: Mutex<Option<Monotonic>>,
}

impl Complaints {
    fn due(&self, now: Monotonic) -> bool {
        let mut last = self.last.lock();
        let due = last.is_none_or(|last| now.since(last) >= COMPLAINT_PAUSE);
        if due {
            *last = Some(now);
        }
        due
    }
}
