//! A connection between two boots of two nodes, and what is carried over it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Shared;
use parking_lot::Mutex;
use quorate::types::NodeId;
use tokio::sync::oneshot;

use super::SimNetwork;
use super::station::Running;

/// Bytes that a packet without payload takes.
const PACKET_BYTES: usize = 64;

/// The longest pause between retransmissions.
const RETRANSMIT_MAX: Duration = Duration::from_secs(1);

/// Which way something goes over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From who dialled to who listened.
    Out,
    /// From who listened to who dialled.
    Back,
}

impl Way {
    pub(super) const fn reversed(self) -> Self {
        match self {
            Self::Out => Self::Back,
            Self::Back => Self::Out,
        }
    }
}

/// One end of a connection: a node, and which boot of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) node: NodeId,
    pub(super) boot: u64,
}

pub(super) struct Connection {
    pub(super) dialer: End,
    pub(super) listener: End,
    pub(super) round_trip: Duration,
    close: Mutex<Option<oneshot::Sender<&'static str>>>,
    // Not a watch channel: tokio wakes the waiters of one watch in random order.
    closed: Shared<oneshot::Receiver<&'static str>>,
}

impl Connection {
    fn new(dialer: End, listener: End, round_trip: Duration) -> Self {
        let (close, closed) = oneshot::channel();
        let close = Mutex::new(Some(close));
        Self { dialer, listener, round_trip, close, closed: closed.shared() }
    }

    /// Ends the connection, once.
    pub(super) fn close(&self, reason: &'static str) {
        let close = self.close.lock().take();
        if let Some(close) = close {
            // The receiver is this connection's own field, so it is there.
            let _ = close.send(reason);
        }
    }

    /// Resolves with the reason when the connection has ended.
    pub(super) async fn closed(&self) -> &'static str {
        self.closed.clone().await.unwrap_or("the network is gone")
    }

    pub(super) fn is_closed(&self) -> bool {
        self.close.lock().is_none()
    }

    /// Which way goes what `end` sends.
    pub(super) fn way_from(&self, end: End) -> Way {
        if self.dialer == end { Way::Out } else { Way::Back }
    }

    /// (sender, receiver) of what goes this way.
    pub(super) const fn ends(&self, way: Way) -> (End, End) {
        match way {
            Way::Out => (self.dialer, self.listener),
            Way::Back => (self.listener, self.dialer),
        }
    }
}

/// What was to be carried did not arrive, and never will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl SimNetwork {
    /// Makes a connection from one boot of a node to `to`, which must be who answers.
    pub(super) async fn dial(
        &self,
        from: End,
        to: NodeId,
        address: SocketAddr,
    ) -> Result<Arc<Connection>, String> {
        let connection = self.handshake(from, address).await?;
        if connection.listener.node != to {
            return Err(format!("node {} answers at {address}", connection.listener.node));
        }
        Ok(connection)
    }

    /// An open connection between this boot of a node and `to`, whoever of them dialled.
    pub(super) fn open_connection(&self, from: End, to: NodeId) -> Option<Arc<Connection>> {
        let state = self.state.lock();
        let dialled = state.connections.get(&(from.node, to)).filter(|each| each.dialer == from);
        let dialled = dialled.filter(|each| !each.is_closed());
        let accepted = state.connections.get(&(to, from.node)).filter(|each| each.listener == from);
        dialled.or(accepted.filter(|each| !each.is_closed())).map(Arc::clone)
    }

    /// Connects to whoever listens at `address`: a round trip in which both ways must be free.
    pub(super) async fn handshake(
        &self,
        from: End,
        address: SocketAddr,
    ) -> Result<Arc<Connection>, String> {
        let Some(to) = self.state.lock().addresses.get(&address).copied() else {
            self.time.sleep(self.options.dial_timeout).await;
            return Err(format!("nobody answers at {address}"));
        };
        let began = self.time.elapsed();
        let mut pause = self.options.retransmit;
        loop {
            let out = self.draw(from.node, to, PACKET_BYTES);
            let back = self.draw(to, from.node, PACKET_BYTES);
            let round_trip = out.delay + back.delay;
            self.time.sleep(round_trip).await;
            let free = !out.lost && !back.lost;
            let free = free && !self.is_cut(from.node, to) && !self.is_cut(to, from.node);
            if self.boot_of(from.node) != Some(from.boot) {
                return Err("this node has stopped".to_owned());
            }
            if let Some(boot) = self.boot_of(to).filter(|_| free) {
                let connection = Connection::new(from, End { node: to, boot }, round_trip);
                let connection = Arc::new(connection);
                let ends = (from.node, to);
                self.state.lock().connections.insert(ends, Arc::clone(&connection));
                return Ok(connection);
            }
            if self.time.elapsed() - began >= self.options.dial_timeout {
                return Err(format!("no handshake with {address} in time"));
            }
            self.time.sleep(pause).await;
            pause = (pause * 2).min(RETRANSMIT_MAX);
        }
    }

    /// Carries `bytes` one way, sending again what is lost, until they arrive or the connection
    /// has ended.
    pub(super) async fn carry(
        &self,
        connection: &Connection,
        way: Way,
        bytes: usize,
    ) -> Result<(), Gone> {
        let (from, to) = connection.ends(way);
        let mut pause = self.options.retransmit;
        loop {
            // A dead sender sends nothing again; what it had sent before is under way.
            if connection.is_closed() || self.boot_of(from.node) != Some(from.boot) {
                return Err(Gone);
            }
            let passage = self.draw(from.node, to.node, PACKET_BYTES + bytes);
            self.time.sleep(passage.delay).await;
            if !passage.lost && !self.is_cut(from.node, to.node) {
                match self.boot_of(to.node) {
                    Some(boot) if boot == to.boot && !connection.is_closed() => return Ok(()),
                    Some(boot) if boot != to.boot => return self.stray(connection).await,
                    _ => {}
                }
            }
            self.time.sleep(pause).await;
            pause = (pause * 2).min(RETRANSMIT_MAX);
        }
    }

    /// A packet reached a later boot than the one it was meant for: that answers with a reset.
    async fn stray(&self, connection: &Connection) -> Result<(), Gone> {
        self.time.sleep(connection.round_trip / 2).await;
        connection.close("the peer was restarted");
        Err(Gone)
    }

    /// The running node at this end, if it is the same boot still.
    pub(super) fn running(&self, end: End) -> Option<Running> {
        let state = self.state.lock();
        let running = state.stations.get(&end.node)?.running.as_ref()?;
        (running.boot == end.boot).then(|| running.clone())
    }

    /// What the node at this end puts into the header of a frame.
    pub(super) fn facts_out(&self, end: End) -> Option<(u64, u64)> {
        Some(self.running(end)?.facts?.outgoing())
    }

    /// Hands a frame's header to the node at this end.
    pub(super) fn facts_in(&self, end: End, peer: NodeId, facts: Option<(u64, u64)>) {
        let reader = self.running(end).and_then(|running| running.facts);
        if let (Some(reader), Some((layout_version, hybrid_time))) = (reader, facts) {
            reader.incoming(peer, layout_version, hybrid_time);
        }
    }
}
