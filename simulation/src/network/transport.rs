//! The twin of `Transport`: requests and answers that are really in flight.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{Either, select};
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
use crate::trace::{Digest, Event};

/// One boot's way to its peers.
pub struct SimTransport {
    network: Arc<SimNetwork>,
    own: End,
    clock: SimClock,
    known: Mutex<BTreeMap<NodeId, SocketAddr>>,
}

type Answer = Result<Message, HandlerError>;

/// A request on its way.
struct Flight {
    connection: Arc<Connection>,
    service: ServiceId,
    request: Message,
    facts: Option<(u64, u64)>,
    patience: Duration,
}

impl SimTransport {
    pub(super) fn new(network: Arc<SimNetwork>, node: NodeId, boot: u64, clock: SimClock) -> Self {
        Self { network, own: End { node, boot }, clock, known: Mutex::default() }
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
        let Some(address) = self.known.lock().get(&peer).copied() else {
            return Err(unreachable("no address is known".to_owned()));
        };
        let dialled = self.network.dial(self.own, peer, address);
        match timeout_at(&self.clock, deadline, dialled).await {
            Some(Ok(connection)) => Ok(connection),
            Some(Err(reason)) => Err(unreachable(reason)),
            None => Err(unreachable("no connection in time".to_owned())),
        }
    }

    async fn wait(
        &self,
        connection: &Connection,
        answer: oneshot::Receiver<Answer>,
        deadline: Monotonic,
    ) -> Result<Message, PeerError> {
        let peer = connection.listener.node;
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
        let result = match self.connect(peer, deadline).await {
            Ok(connection) => {
                let (sender, answer) = oneshot::channel();
                let facts = self.network.facts_out(self.own);
                let patience = deadline.since(self.clock.monotonic());
                let flight = Flight {
                    connection: Arc::clone(&connection),
                    service,
                    request,
                    facts,
                    patience,
                };
                let conduct = Arc::clone(&self.network).conduct(flight, sender);
                self.network.couriers.spawn("call", Box::pin(conduct)).detach();
                self.wait(&connection, answer, deadline).await
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
        Ok(self.network.open_bulk(&result?, service, header, patience))
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
        self.known.lock().insert(peer, address);
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

impl SimNetwork {
    /// Brings a request there, has it handled, and brings the answer back.
    async fn conduct(self: Arc<Self>, flight: Flight, sender: oneshot::Sender<Answer>) {
        let connection = Arc::clone(&flight.connection);
        let service = flight.service;
        if self.carry(&connection, Way::Out, weight(&flight.request)).await.is_err() {
            return;
        }
        let digest = Digest::of_message(&flight.request);
        self.arrived(&connection, Way::Out, service, (digest, "request"));
        let Some(running) = self.running(connection.listener) else {
            return;
        };
        self.facts_in(connection.listener, connection.dialer.node, flight.facts);
        let answer = match handle(&running, flight).await {
            Some(answer) => answer,
            // The handler panicked: the peer lives, and tells.
            None if self.running(connection.listener).is_some() => {
                Err(HandlerError::Failed("the handler ended without an answer".to_owned()))
            }
            None => return,
        };
        let facts = self.facts_out(connection.listener);
        let bytes = answer.as_ref().map_or(0, weight);
        if self.carry(&connection, Way::Back, bytes).await.is_err() {
            return;
        }
        self.arrived(&connection, Way::Back, service, outcome(&answer));
        self.facts_in(connection.dialer, connection.listener.node, facts);
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
async fn handle(running: &Running, flight: Flight) -> Option<Answer> {
    let Some(handler) = running.handler.clone() else {
        return Some(Err(HandlerError::Refused("the node does not serve yet".to_owned())));
    };
    let context = RequestContext {
        peer: flight.connection.dialer.node,
        deadline: running.clock.monotonic() + flight.patience,
    };
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
