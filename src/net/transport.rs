//! The seam between nodes.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::env::Monotonic;
use crate::types::NodeId;

/// Which part of a node a request is for. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u8);

/// A request or an answer: a small encoded body and raw bytes that travel beside it uncopied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// An encoded value, small.
    pub body: Bytes,
    /// Raw bytes, up to a few MiB; empty for most messages.
    pub attachment: Bytes,
}

impl From<Vec<u8>> for Message {
    fn from(body: Vec<u8>) -> Self {
        Self { body: body.into(), attachment: Bytes::new() }
    }
}

/// Why a peer gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// The request was never sent: it certainly did not happen there.
    #[error("peer {peer} is unreachable: {reason}")]
    Unreachable {
        /// The peer.
        peer: NodeId,
        /// What failed.
        reason: String,
    },
    /// The request was sent and no answer came in time: it may have happened.
    #[error("peer {peer} did not answer in time")]
    TimedOut {
        /// The peer.
        peer: NodeId,
    },
    /// The connection ended after the request was sent: it may have happened.
    #[error("the connection to peer {peer} ended: {reason}")]
    Lost {
        /// The peer.
        peer: NodeId,
        /// Why it ended.
        reason: String,
    },
    /// The peer's handler refused before doing anything: it certainly did not happen there.
    #[error("peer {peer} refused: {reason}")]
    Refused {
        /// The peer.
        peer: NodeId,
        /// What the peer said.
        reason: String,
    },
    /// The peer's handler failed: it may have happened.
    #[error("peer {peer} failed: {reason}")]
    Failed {
        /// The peer.
        peer: NodeId,
        /// What the peer said.
        reason: String,
    },
}

impl PeerError {
    /// Whether the request certainly had no effect at the peer.
    #[must_use]
    pub const fn certainly_not_done(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused { .. })
    }
}

/// What a handler says instead of an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HandlerError {
    /// Refused before anything was done.
    #[error("{0}")]
    Refused(String),
    /// Failed; something may have been done.
    #[error("{0}")]
    Failed(String),
}

/// What a handler knows of a request besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext {
    /// The proven sender.
    pub peer: NodeId,
    /// When the sender stops waiting, on this node's clock.
    pub deadline: Monotonic,
}

/// One direction of a bulk transfer. Pieces arrive whole, in order, at most once.
#[async_trait]
pub trait BulkSender: Send {
    /// Sends one piece (at most 1 MiB), waiting while the peer's window is full.
    async fn send(&mut self, piece: Bytes) -> Result<(), PeerError>;

    /// Tells the peer that no more pieces come. Dropping the sender without this tells the peer
    /// that the transfer was broken off.
    async fn finish(&mut self) -> Result<(), PeerError>;
}

/// The other direction.
#[async_trait]
pub trait BulkReceiver: Send {
    /// The next piece; `None` after the peer finished; an error if it broke off.
    async fn next(&mut self) -> Result<Option<Bytes>, PeerError>;
}

/// A stream of its own for one bulk transfer.
pub struct BulkStream {
    /// Towards the peer.
    pub sender: Box<dyn BulkSender>,
    /// From the peer.
    pub receiver: Box<dyn BulkReceiver>,
}

/// Serves requests of peers.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Answers one small request.
    async fn call(
        &self,
        context: RequestContext,
        service: ServiceId,
        request: Message,
    ) -> Result<Message, HandlerError>;

    /// Serves one bulk transfer that began with `header`. An error breaks the stream off.
    async fn bulk(
        &self,
        context: RequestContext,
        service: ServiceId,
        header: Bytes,
        stream: BulkStream,
    ) -> Result<(), HandlerError>;
}

/// What rides in the header of every frame, both ways: how nodes keep their clocks and layouts
/// together without messages of their own. Implemented above this folder.
pub trait LinkFacts: Send + Sync + 'static {
    /// This node's (layout version, hybrid time), for an outgoing frame.
    fn outgoing(&self) -> (u64, u64);

    /// A peer's (layout version, hybrid time), from an incoming frame.
    fn incoming(&self, peer: NodeId, layout_version: u64, hybrid_time: u64);
}

/// The way to peers.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` to `peer` and waits for its answer until `deadline`.
    async fn call(
        &self,
        peer: NodeId,
        service: ServiceId,
        request: Message,
        deadline: Monotonic,
    ) -> Result<Message, PeerError>;

    /// Opens a bulk transfer to `peer`; `deadline` bounds the opening, not the transfer.
    async fn open(
        &self,
        peer: NodeId,
        service: ServiceId,
        header: Bytes,
        deadline: Monotonic,
    ) -> Result<BulkStream, PeerError>;

    /// Connects to whoever listens at `address` and returns its proven node id.
    async fn identify(&self, address: SocketAddr, deadline: Monotonic)
    -> Result<NodeId, PeerError>;

    /// Notes where `peer` is reached.
    fn learn(&self, peer: NodeId, address: SocketAddr);

    /// Round-trip time to `peer`, if it was measured: for nearest-first reads.
    fn round_trip(&self, peer: NodeId) -> Option<std::time::Duration>;

    /// Serves peers' requests with `handler` from now on.
    fn serve(&self, handler: Arc<dyn Handler>);
}
