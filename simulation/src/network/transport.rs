//! The twin of `Transport`: requests and answers that are really in flight.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, Shared, select};
use parking_lot::Mutex;
use quorate::env::{Clock, Monotonic, Tasks, timeout_at};
use quorate::net::{
    BulkStream, Handler, HandlerError, LinkFacts, Message, PeerError, RequestContext, ServiceId,
    Transport,
};
use quorate::types::NodeId;
use tokio::sync::oneshot;

use super::SimNetwork;
use super::connection::{Connection, End, Way};
use super::station::Running;
use crate::clock::SimClock;
use crate::entropy::fnv1a;
use crate::trace::{Digest, Event};

/// The greatest request, as the real transport's frames bound it.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// The first pause after a failed dial; it doubles, with jitter, up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A dial under way: all who want the connection wait for the one dial.
type Dial = Shared<BoxFuture<'static, Result<Arc<Connection>, String>>>;

/// What is known of the way to one peer.
#[derive(Default)]
struct Route {
    address: Option<SocketAddr>,
    under_way: Option<Dial>,
    failures: u32,
    retry_at: Option<Monotonic>,
    reason: String,
}

/// One boot's way to its peers.
pub struct SimTransport {
    network: Arc<SimNetwork>,
    own: End,
    clock: SimClock,
    routes: Arc<Mutex<BTreeMap<NodeId, Route>>>,
}

type Answer = Result<Message, HandlerError>;

/// A request on its way.
struct Flight {
    connection: Arc<Connection>,
    way: Way,
    service: ServiceId,
    request: Message,
    facts: Option<(u64, u64)>,
    patience: Duration,
}

impl SimTransport {
    pub(super) fn new(network: Arc<SimNetwork>, node: NodeId, boot: u64, clock: SimClock) -> Self {
        Self { network, own: End { node, boot }, clock, routes: Arc::default() }
    }

    /// The node whose way this is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.own.node
    }

    /// Lets `facts` fill and read the headers of frames from now on.
    pub fn link_facts(&self, facts: Arc<dyn LinkFacts>) {
        let mut state = self.network.state.lock();
        let running =
            state.stations.get_mut(&self.own.node).and_then(|station| station.running.as_mut());
        let replaced = running
            .filter(|running| running.boot == self.own.boot)
            .and_then(|running| running.facts.replace(facts));
        drop(state);
        drop(replaced);
    }

    async fn connect(
        &self,
        peer: NodeId,
        deadline: Monotonic,
    ) -> Result<Arc<Connection>, PeerError> {
        let unreachable = |reason| PeerError::Unreachable { peer, reason };
        if self.clock.monotonic() >= deadline {
            return Err(unreachable("the deadline had passed".to_owned()));
        }
        if peer == self.own.node {
            return Err(unreachable("it is this node itself".to_owned()));
        }
        if let Some(connection) = self.network.open_connection(self.own, peer) {
            return Ok(connection);
        }
        let dial = self.dial(peer).map_err(unreachable)?;
        match timeout_at(&self.clock, deadline, dial).await {
            Some(Ok(connection)) => Ok(connection),
            Some(Err(reason)) => Err(unreachable(reason)),
            None => Err(unreachable("no connection in time".to_owned())),
        }
    }

    /// The dial to `peer`, begun if need be. Fails at once while a failed dial is recent.
    fn dial(&self, peer: NodeId) -> Result<Dial, String> {
        let mut routes = self.routes.lock();
        let route = routes.entry(peer).or_default();
        let Some(address) = route.address else {
            return Err("its address is not known yet".to_owned());
        };
        if let Some(dial) = &route.under_way {
            return Ok(dial.clone());
        }
        if route.retry_at.is_some_and(|moment| self.clock.monotonic() < moment) {
            return Err(route.reason.clone());
        }
        let (sender, receiver) = oneshot::channel();
        let (network, routes) = (Arc::clone(&self.network), Arc::clone(&self.routes));
        let (own, clock) = (self.own, self.clock.clone());
        let task = async move {
            let result = network.dial(own, peer, address).await;
            if let Some(route) = routes.lock().get_mut(&peer) {
                route.dialled(&clock, &network, &result);
            }
            drop(sender.send(result));
        };
        self.network.couriers.spawn("dial", Box::pin(task)).detach();
        let stopped = || Err("the network is gone".to_owned());
        let dial =
            receiver.map(move |result| result.unwrap_or_else(|_| stopped())).boxed().shared();
        route.under_way = Some(dial.clone());
        Ok(dial)
    }

    async fn wait(
        &self,
        peer: NodeId,
        connection: &Connection,
        answer: oneshot::Receiver<Answer>,
        deadline: Monotonic,
    ) -> Result<Message, PeerError> {
        let ended = std::pin::pin!(connection.closed());
        let outcome = timeout_at(&self.clock, deadline, select(answer, ended)).await;
        match outcome {
            Some(Either::Left((Ok(Ok(message)), _))) => Ok(message),
            Some(Either::Left((Ok(Err(HandlerError::Refused(reason))), _))) => {
                Err(PeerError::Refused { peer, reason })
            }
            Some(Either::Left((Ok(Err(HandlerError::Failed(reason))), _))) => {
                Err(PeerError::Failed { peer, reason })
            }
            // The answer is gone for good; what the caller sees of that is silence.
            Some(Either::Left((Err(_), ended))) => {
                match timeout_at(&self.clock, deadline, ended).await {
                    Some(reason) => Err(PeerError::Lost { peer, reason: reason.to_owned() }),
                    None => Err(PeerError::TimedOut { peer }),
                }
            }
            Some(Either::Right((reason, _))) => {
                Err(PeerError::Lost { peer, reason: reason.to_owned() })
            }
            None => Err(PeerError::TimedOut { peer }),
        }
    }

    fn note<T>(&self, peer: NodeId, service: ServiceId, result: &Result<T, PeerError>) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(PeerError::Unreachable { .. }) => "unreachable",
            Err(PeerError::TimedOut { .. }) => "timed out",
            Err(PeerError::Lost { .. }) => "lost",
            Err(PeerError::Refused { .. }) => "refused",
            Err(PeerError::Failed { .. }) => "failed",
        };
        self.network.trace.record(Event {
            from: self.own.node,
            to: peer,
            kind: "call",
            number: u64::from(service.0),
            digest: Digest::NONE,
            outcome,
        });
    }
}

#[async_trait]
impl Transport for SimTransport {
    async fn call(
        &self,
        peer: NodeId,
        service: ServiceId,
        request: Message,
        deadline: Monotonic,
    ) -> Result<Message, PeerError> {
        let bytes = weight(&request);
        if bytes > REQUEST_BYTES_MAX {
            let reason = format!("a request of {bytes} bytes is over {REQUEST_BYTES_MAX}");
            return Err(PeerError::Unreachable { peer, reason });
        }
        let result = match self.connect(peer, deadline).await {
            Ok(connection) => {
                let (sender, answer) = oneshot::channel();
                let facts = self.network.facts_out(self.own);
                let patience = deadline.since(self.clock.monotonic());
                let flight = Flight {
                    connection: Arc::clone(&connection),
                    way: connection.way_from(self.own),
                    service,
                    request,
                    facts,
                    patience,
                };
                let conduct = Arc::clone(&self.network).conduct(flight, sender);
                self.network.couriers.spawn("call", Box::pin(conduct)).detach();
                self.wait(peer, &connection, answer, deadline).await
            }
            Err(error) => Err(error),
        };
        self.note(peer, service, &result);
        result
    }

    async fn open(
        &self,
        peer: NodeId,
        service: ServiceId,
        header: Bytes,
        deadline: Monotonic,
    ) -> Result<BulkStream, PeerError> {
        let result = self.connect(peer, deadline).await;
        self.note(peer, service, &result);
        let patience = deadline.since(self.clock.monotonic());
        let connection = result?;
        let way = connection.way_from(self.own);
        Ok(self.network.open_bulk((&connection, way), service, header, patience))
    }

    async fn identify(
        &self,
        address: SocketAddr,
        deadline: Monotonic,
    ) -> Result<NodeId, PeerError> {
        // Who answers is not known yet, so an error names this node's own id.
        let peer = self.own.node;
        let unreachable = |reason| PeerError::Unreachable { peer, reason };
        let handshake = self.network.handshake(self.own, address);
        match timeout_at(&self.clock, deadline, handshake).await {
            Some(Ok(connection)) => {
                let found = connection.listener.node;
                self.learn(found, address);
                Ok(found)
            }
            Some(Err(reason)) => Err(unreachable(reason)),
            None => Err(unreachable("no handshake in time".to_owned())),
        }
    }

    fn learn(&self, peer: NodeId, address: SocketAddr) {
        let mut routes = self.routes.lock();
        let route = routes.entry(peer).or_default();
        // At a new address it may be dialled at once.
        if route.address.replace(address) != Some(address) {
            route.failures = 0;
            route.retry_at = None;
        }
    }

    fn round_trip(&self, peer: NodeId) -> Option<Duration> {
        Some(self.network.open_connection(self.own, peer)?.round_trip)
    }

    fn serve(&self, handler: Arc<dyn Handler>) {
        let mut state = self.network.state.lock();
        let running =
            state.stations.get_mut(&self.own.node).and_then(|station| station.running.as_mut());
        let replaced = running
            .filter(|running| running.boot == self.own.boot)
            .and_then(|running| running.handler.replace(handler));
        drop(state);
        drop(replaced);
    }
}

impl Route {
    fn dialled(
        &mut self,
        clock: &SimClock,
        network: &SimNetwork,
        result: &Result<Arc<Connection>, String>,
    ) {
        self.under_way = None;
        let Err(reason) = result else {
            self.failures = 0;
            return;
        };
        let doubled = (PAUSE_MIN * 2_u32.pow(self.failures.min(10))).min(PAUSE_MAX);
        let address = self.address.map(|address| address.to_string()).unwrap_or_default();
        let address = fnv1a(address.as_bytes());
        let draw = network.seed.of("redial").with(address).with(u64::from(self.failures));
        let percent = u32::try_from(draw.between(50, 100)).unwrap_or(100);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(clock.monotonic() + doubled * percent / 100);
        self.reason.clone_from(reason);
    }
}

impl SimNetwork {
    /// Brings a request there, has it handled, and brings the answer back.
    async fn conduct(self: Arc<Self>, flight: Flight, sender: oneshot::Sender<Answer>) {
        let (connection, way) = (Arc::clone(&flight.connection), flight.way);
        let (caller, peer) = connection.ends(way);
        let service = flight.service;
        if self.carry(&connection, way, weight(&flight.request)).await.is_err() {
            return;
        }
        let digest = Digest::of_message(&flight.request);
        if self.vanishes(peer.node, service, digest.0) {
            return self.arrived(&connection, way, service, (digest, "vanished"));
        }
        self.arrived(&connection, way, service, (digest, "request"));
        let Some(running) = self.running(peer) else {
            return;
        };
        self.facts_in(peer, caller.node, flight.facts);
        let answer = match handle(&running, caller.node, flight).await {
            Some(answer) => answer,
            // The handler panicked: the peer lives, and tells.
            None if self.running(peer).is_some() => {
                Err(HandlerError::Failed("the handler ended without an answer".to_owned()))
            }
            None => return,
        };
        let facts = self.facts_out(peer);
        let bytes = answer.as_ref().map_or(0, weight);
        if self.carry(&connection, way.reversed(), bytes).await.is_err() {
            return;
        }
        self.arrived(&connection, way.reversed(), service, outcome(&answer));
        self.facts_in(caller, peer.node, facts);
        // The caller may have stopped waiting.
        drop(sender.send(answer));
    }

    /// Records that something arrived: its digest and what it was.
    pub(super) fn arrived(
        &self,
        connection: &Connection,
        way: Way,
        service: ServiceId,
        (digest, outcome): (Digest, &'static str),
    ) {
        let (from, to) = connection.ends(way);
        let number = u64::from(service.0);
        let (from, to) = (from.node, to.node);
        self.trace.record(Event { from, to, kind: "arrived", number, digest, outcome });
    }
}

/// Runs the handler among its node's tasks; `None` if it ended without an answer.
async fn handle(running: &Running, caller: NodeId, flight: Flight) -> Option<Answer> {
    let Some(handler) = running.handler.clone() else {
        return Some(Err(HandlerError::Refused("the node does not serve yet".to_owned())));
    };
    let context =
        RequestContext { peer: caller, deadline: running.clock.monotonic() + flight.patience };
    let (sender, answer) = oneshot::channel();
    let serve = async move {
        let answer = handler.call(context, flight.service, flight.request).await;
        drop(sender.send(answer));
    };
    running.tasks.spawn("peer request", Box::pin(serve)).detach();
    answer.await.ok()
}

fn weight(message: &Message) -> usize {
    message.body.len() + message.attachment.len()
}

fn outcome(answer: &Answer) -> (Digest, &'static str) {
    match answer {
        Ok(message) => (Digest::of_message(message), "answer"),
        Err(HandlerError::Refused(_)) => (Digest::NONE, "refusal"),
        Err(HandlerError::Failed(_)) => (Digest::NONE, "failure"),
    }
}
