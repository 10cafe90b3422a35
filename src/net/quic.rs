//! The transport that peers really use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quinn::Incoming;
use tokio::sync::{Semaphore, mpsc};

use super::bulk::opened;
use super::endpoint::{Class, QuicLimits, open};
use super::error::NetError;
use super::figures;
use super::frame::{FRAME_BYTES_MAX, Kind};
use super::hub::{Complaints, Directory, GossipPacket, Hub};
use super::identity::PeerIdentity;
use super::link::{LANE_BYTES_MAX, Link, frame_of};
use super::peer::Target;
use super::serve::{GOSSIP_BYTES_MAX, SMALL_BYTES_MAX, write_whole};
use super::stream::{Outlet, code, over_bound, pack};
use super::transport::{BulkStream, Handler, LinkFacts, Message, PeerError, ServiceId, Transport};
use crate::env::{Clock, Entropy, Monotonic, TaskHandle, Tasks, timeout_at};
use crate::types::NodeId;

/// Gossip messages that wait to be taken; more are dropped.
const GOSSIP_QUEUE: usize = 1_024;
/// Handshakes of strangers under way; more are refused.
const HANDSHAKES_MAX: usize = 64;
/// Stands in errors for a node that is not known yet.
const NOBODY: NodeId = NodeId::from_bytes([0; 16]);

/// Where and as whom to talk to peers.
#[derive(Clone, Debug)]
pub struct QuicConfig {
    /// The UDP address to listen on and to dial from.
    pub listen: SocketAddr,
    /// This node's certificate.
    pub identity: PeerIdentity,
    /// Limits and patience.
    pub limits: QuicLimits,
}

/// [`Transport`] over QUIC. Dropping it closes its connections.
pub struct QuicTransport {
    pub(super) hub: Arc<Hub>,
    gossip: Mutex<Option<mpsc::Receiver<GossipPacket>>>,
    accepting: Mutex<Option<TaskHandle>>,
}

impl QuicTransport {
    /// Listens on `config.listen` and accepts peers from now on. Call within a tokio runtime:
    /// quinn drives its connections there.
    ///
    /// # Errors
    /// [`NetError::Listen`] names the address if it is taken; the others are bugs or limits out
    /// of range.
    pub fn bind(
        config: QuicConfig,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        tasks: Arc<dyn Tasks>,
        facts: Arc<dyn LinkFacts>,
    ) -> Result<Arc<Self>, NetError> {
        let ids = entropy.fork("connection ids");
        let endpoint = open(config.listen, &config.identity, &config.limits, ids)?;
        let (gossip, inbox) = mpsc::channel(GOSSIP_QUEUE);
        let hub = Arc::new(Hub {
            node: config.identity.node(),
            endpoint: endpoint.endpoint,
            dialing: endpoint.dialing,
            limits: config.limits,
            clock,
            entropy,
            tasks,
            facts,
            handler: RwLock::new(None),
            gossip,
            directory: Mutex::new(Directory::default()),
            complaints: Complaints::default(),
        });
        let accepting = hub.tasks.spawn("peer accept", Box::pin(accept(Arc::clone(&hub))));
        Ok(Arc::new(Self {
            hub,
            gossip: Mutex::new(Some(inbox)),
            accepting: Mutex::new(Some(accepting)),
        }))
    }

    /// The address listened on, with the port that the system chose if 0 was asked for.
    ///
    /// # Errors
    /// [`std::io::Error`] if the socket is gone.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.hub.endpoint.local_addr()
    }

    /// Says goodbye to all peers and waits until they were told, at most `patience`.
    pub async fn close(&self, patience: Duration) {
        self.hub.endpoint.close(code::CLOSED, b"the node stops");
        let deadline = self.hub.clock.monotonic() + patience;
        timeout_at(&*self.hub.clock, deadline, self.hub.endpoint.wait_idle()).await;
        self.accepting.lock().take();
    }

    /// Sends a gossip message to whoever listens at `address`. Never waits: without a
    /// connection it begins to dial and drops the message, as the next round says the same.
    pub fn send_gossip(&self, address: SocketAddr, message: Bytes) {
        if message.len() > GOSSIP_BYTES_MAX {
            tracing::warn!(%address, length = message.len(), "gossip is too long, dropped");
            return;
        }
        match self.hub.live_at(address) {
            Some(link) => gossip_on(&link, message),
            None => self.nudge(address),
        }
    }

    /// The gossip messages of peers; `None` for all but the first caller.
    pub fn take_gossip(&self) -> Option<mpsc::Receiver<GossipPacket>> {
        self.gossip.lock().take()
    }

    fn nudge(&self, address: SocketAddr) {
        if let Some(route) = self.hub.stranger(address) {
            route.nudge(&self.hub, Target::Anyone(address));
        }
    }

    async fn link(
        &self,
        peer: NodeId,
        class: Class,
        deadline: Monotonic,
    ) -> Result<Arc<Link>, PeerError> {
        let unreachable = |reason: &str| PeerError::Unreachable { peer, reason: reason.to_owned() };
        if peer == self.hub.node {
            return Err(unreachable("it is this node itself"));
        }
        let Some(entry) = self.hub.known(peer) else {
            return Err(unreachable("its address is not known yet"));
        };
        let route = entry.route(class);
        if let Some(link) = route.live() {
            return Ok(link);
        }
        let Some(address) = entry.address() else {
            return Err(unreachable("its address is not known yet"));
        };
        let target = Target::Node(peer, address);
        route.link(&self.hub, target, deadline).await.map_err(|reason| unreachable(&reason))
    }

    async fn call_once(
        &self,
        peer: NodeId,
        service: ServiceId,
        request: Message,
        deadline: Monotonic,
    ) -> Result<Message, PeerError> {
        if let Some(length) = over_bound(&request) {
            let reason = format!("a request of {length} bytes is over {FRAME_BYTES_MAX}");
            return Err(PeerError::Unreachable { peer, reason });
        }
        if request.body.len() + request.attachment.len() > LANE_BYTES_MAX {
            let link = self.link(peer, Class::Bulk, deadline).await?;
            Box::pin(link.call_alone(service, request, deadline)).await
        } else {
            let link = self.link(peer, Class::Control, deadline).await?;
            link.call(service, request, deadline).await
        }
    }
}

#[async_trait]
impl Transport for QuicTransport {
    async fn call(
        &self,
        peer: NodeId,
        service: ServiceId,
        request: Message,
        deadline: Monotonic,
    ) -> Result<Message, PeerError> {
        let began = self.hub.clock.monotonic();
        let result = self.call_once(peer, service, request, deadline).await;
        figures::called(service, &result, self.hub.clock.monotonic().since(began));
        result
    }

    async fn open(
        &self,
        peer: NodeId,
        service: ServiceId,
        header: Bytes,
        deadline: Monotonic,
    ) -> Result<BulkStream, PeerError> {
        let message = Message { body: header, attachment: Bytes::new() };
        let length = message.body.len();
        if length > SMALL_BYTES_MAX {
            let reason = format!("a header of {length} bytes is over {SMALL_BYTES_MAX}");
            return Err(PeerError::Unreachable { peer, reason });
        }
        let link = self.link(peer, Class::Bulk, deadline).await?;
        let (mut outlet, inlet) = link.open_stream(deadline).await?;
        let frame = link.frame(Kind::Bulk, service, 0, deadline, message);
        let written =
            timeout_at(&*self.hub.clock, deadline, outlet.write(&mut pack([frame]))).await;
        match written {
            Some(Ok(())) => Ok(opened(&link, outlet, inlet)),
            Some(Err(error)) => Err(link.lost(&error.to_string())),
            None => Err(PeerError::TimedOut { peer }),
        }
    }

    async fn identify(
        &self,
        address: SocketAddr,
        deadline: Monotonic,
    ) -> Result<NodeId, PeerError> {
        if let Some(link) = self.hub.live_at(address) {
            return Ok(link.node());
        }
        let dialing = self.hub.dial(Target::Anyone(address), Class::Control);
        match timeout_at(&*self.hub.clock, deadline, dialing).await {
            Some(Ok(link)) => Ok(link.node()),
            Some(Err(reason)) => Err(PeerError::Unreachable { peer: NOBODY, reason }),
            None => {
                let reason = format!("nobody answered at udp {address} in time");
                Err(PeerError::Unreachable { peer: NOBODY, reason })
            }
        }
    }

    fn learn(&self, peer: NodeId, address: SocketAddr) {
        if peer != self.hub.node {
            self.hub.learn(peer, address);
        }
    }

    fn round_trip(&self, peer: NodeId) -> Option<Duration> {
        let link = self.hub.known(peer)?.route(Class::Control).live()?;
        Some(link.connection.rtt())
    }

    fn serve(&self, handler: Arc<dyn Handler>) {
        *self.hub.handler.write() = Some(handler);
    }
}

impl Drop for QuicTransport {
    fn drop(&mut self) {
        self.hub.endpoint.close(code::CLOSED, b"the node stops");
        self.hub.forget_all();
    }
}

fn gossip_on(link: &Arc<Link>, message: Bytes) {
    let fits = link.connection.max_datagram_size().is_some_and(|most| message.len() <= most);
    if fits {
        figures::sent(message.len());
        // A connection that ends loses the message; the next round says the same.
        drop(link.connection.send_datagram(message));
        return;
    }
    let hub = &link.hub;
    let payload = Message { body: message, attachment: Bytes::new() };
    let frame = frame_of(hub, Kind::Gossip, ServiceId(0), 0, Duration::ZERO, payload);
    let connection = link.connection.clone();
    let clock = Arc::clone(&hub.clock);
    let deadline = clock.monotonic() + hub.limits.dial_timeout;
    let sending = async move {
        let whole = async {
            if let Ok(send) = connection.open_uni().await {
                write_whole(Outlet::new(send), frame).await;
            }
        };
        timeout_at(&*clock, deadline, whole).await;
    };
    hub.tasks.spawn("peer gossip", Box::pin(sending)).detach();
}

/// Accepts peers until the endpoint closes.
async fn accept(hub: Arc<Hub>) {
    let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = hub.endpoint.accept().await {
        // Under load a dialler first proves that its address is its own, so that forged packets
        // cannot take all the places.
        if room.available_permits() < HANDSHAKES_MAX / 2 && incoming.may_retry() {
            drop(incoming.retry());
            continue;
        }
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            figures::refused("handshakes");
            incoming.refuse();
            continue;
        };
        let welcoming = Arc::clone(&hub);
        let handshake = async move {
            welcome(welcoming, incoming).await;
            drop(permit);
        };
        hub.tasks.spawn("peer handshake", Box::pin(handshake)).detach();
    }
}

async fn welcome(hub: Arc<Hub>, incoming: Incoming) {
    let address = incoming.remote_address();
    let deadline = hub.clock.monotonic() + hub.limits.idle_timeout;
    let connection =
        match timeout_at(&*hub.clock, deadline, std::future::IntoFuture::into_future(incoming))
            .await
        {
            Some(Ok(connection)) => connection,
            Some(Err(error)) => {
                hub.complain(address, &error);
                return;
            }
            None => return,
        };
    let class = connection
        .handshake_data()
        .and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok())
        .and_then(|data| Class::from_protocol(&data.protocol?));
    let Some(class) = class else {
        connection.close(code::VIOLATION, b"unknown protocol");
        return;
    };
    if let Err(reason) = hub.adopt(connection, class) {
        tracing::warn!(%address, %reason, "a peer was refused");
    }
}
