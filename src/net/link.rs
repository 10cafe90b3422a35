//! One connection with a proven peer: requests go out on its lanes, answers find their callers.
//!
//! A lane is a long-lived stream that many callers share: its writer task takes what has queued
//! up and writes it at once, because a stream per request costs four times the processor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::Connection;
use tokio::sync::{mpsc, oneshot};

use super::endpoint::Class;
use super::figures;
use super::frame::{Header, Kind};
use super::hub::Hub;
use super::peer::Peer;
use super::stream::{Frame, Inlet, InletError, Outlet, code, pack};
use super::transport::{Message, PeerError, ServiceId};
use crate::env::{Monotonic, timeout_at};
use crate::types::NodeId;

/// Lanes per connection: several, so that one lost packet does not stall all requests.
const LANES: usize = 3;
/// Frames that wait for a lane's writer; callers beyond wait until their deadline.
const LANE_QUEUE: usize = 128;
/// Frames written at once.
const BATCH: usize = 64;
/// Messages above this travel on a stream of their own.
pub(super) const LANE_BYTES_MAX: usize = 32 << 10;

/// An answer as it came: its kind says how it is meant.
type Answer = (Kind, Message);

/// One connection with a peer.
pub(super) struct Link {
    pub(super) hub: Arc<Hub>,
    pub(super) peer: Arc<Peer>,
    pub(super) connection: Connection,
    pub(super) class: Class,
    lanes: Vec<mpsc::Sender<Frame>>,
    /// Who waits for which answer; `None` once the connection has ended.
    waiting: Mutex<Option<BTreeMap<u64, oneshot::Sender<Answer>>>>,
    next_id: AtomicU64,
    _counted: figures::Counted,
}

impl Link {
    /// Takes over `connection` and starts its lanes.
    pub(super) fn start(
        hub: &Arc<Hub>,
        peer: Arc<Peer>,
        connection: Connection,
        class: Class,
    ) -> Arc<Self> {
        let (lanes, queues): (Vec<_>, Vec<_>) =
            (0..LANES).map(|_| mpsc::channel(LANE_QUEUE)).unzip();
        let name = match class {
            Class::Control => "control",
            Class::Bulk => "bulk",
        };
        let link = Arc::new(Self {
            hub: Arc::clone(hub),
            peer,
            connection,
            class,
            lanes,
            waiting: Mutex::new(Some(BTreeMap::new())),
            next_id: AtomicU64::new(1),
            _counted: figures::Counted::new(name),
        });
        for queue in queues {
            let lane = run_lane(Arc::clone(&link), queue);
            hub.tasks.spawn("peer lane", Box::pin(lane)).detach();
        }
        link
    }

    pub(super) fn node(&self) -> NodeId {
        self.peer.node
    }

    pub(super) fn is_alive(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Sends a small request among others and waits for its answer.
    pub(super) async fn call(
        &self,
        service: ServiceId,
        request: Message,
        deadline: Monotonic,
    ) -> Result<Message, PeerError> {
        let mut waiter = self.enlist()?;
        let frame = self.frame(Kind::Request, service, waiter.id, deadline, request);
        let lane = &self.lanes[waiter.id as usize % LANES];
        let clock = &*self.hub.clock;
        if let Err(refused) = lane.try_send(frame) {
            let mpsc::error::TrySendError::Full(frame) = refused else {
                return Err(self.unreachable("the connection has ended"));
            };
            match timeout_at(clock, deadline, lane.send(frame)).await {
                Some(Ok(())) => {}
                Some(Err(_)) => return Err(self.unreachable("the connection has ended")),
                None => return Err(self.unreachable("too many requests wait to be sent")),
            }
        }
        match timeout_at(clock, deadline, &mut waiter.answer).await {
            Some(Ok(answer)) => self.judge(answer),
            Some(Err(_)) => Err(self.lost("")),
            None => Err(PeerError::TimedOut { peer: self.node() }),
        }
    }

    /// Sends a large request on a stream of its own and waits for its answer there.
    pub(super) async fn call_alone(
        &self,
        service: ServiceId,
        request: Message,
        deadline: Monotonic,
    ) -> Result<Message, PeerError> {
        let clock = &*self.hub.clock;
        let (mut outlet, mut inlet) = self.open_stream(deadline).await?;
        let frame = self.frame(Kind::Solo, service, 0, deadline, request);
        let exchange = Box::pin(async {
            // A peer that refuses stops reading; its answer says why, so writing may fail.
            let written = outlet.write(&mut pack([frame])).await;
            if written.is_ok() {
                outlet.finish();
            }
            let header = inlet.header().await?.ok_or(InletError::Cut)?;
            self.note(&header);
            Ok((header.kind, inlet.message(&header).await?))
        });
        match timeout_at(clock, deadline, exchange).await {
            Some(Ok(answer)) => self.judge(answer),
            Some(Err(error)) => Err(self.inlet_failed(&error)),
            None => Err(PeerError::TimedOut { peer: self.node() }),
        }
    }

    /// Opens a stream for one exchange; nothing is sent yet.
    pub(super) async fn open_stream(
        &self,
        deadline: Monotonic,
    ) -> Result<(Outlet, Inlet), PeerError> {
        match timeout_at(&*self.hub.clock, deadline, self.connection.open_bi()).await {
            Some(Ok((send, receive))) => Ok((Outlet::new(send), Inlet::new(receive))),
            Some(Err(error)) => Err(self.unreachable(&error.to_string())),
            None => Err(self.unreachable("too many transfers are open")),
        }
    }

    /// A frame for this peer, with this node's facts in its header.
    pub(super) fn frame(
        &self,
        kind: Kind,
        service: ServiceId,
        id: u64,
        deadline: Monotonic,
        message: Message,
    ) -> Frame {
        let patience = deadline.since(self.hub.clock.monotonic());
        frame_of(&self.hub, kind, service, id, patience, message)
    }

    /// Takes in what a frame's header tells.
    pub(super) fn note(&self, header: &Header) {
        figures::received(header.payload_length());
        self.hub.facts.incoming(self.node(), header.layout_version, header.hybrid_time);
    }

    /// Takes the caller that waits for answer `id` off the list, if it still waits. If it is
    /// then dropped unanswered, its caller hears that the answer was lost.
    pub(super) fn claim(&self, id: u64) -> Option<oneshot::Sender<Answer>> {
        self.waiting.lock().as_mut()?.remove(&id)
    }

    /// Tells every caller that waits that no answer will come.
    pub(super) fn end(&self) {
        self.waiting.lock().take();
    }

    /// Ends the connection because the peer does not speak the protocol.
    pub(super) fn violated(&self, error: &dyn std::fmt::Display) {
        figures::refused("violation");
        let (peer, address) = (self.node(), self.connection.remote_address());
        tracing::warn!(%peer, %address, %error, "peer broke the protocol, closing its connection");
        self.connection.close(code::VIOLATION, error.to_string().as_bytes());
    }

    pub(super) fn unreachable(&self, reason: &str) -> PeerError {
        PeerError::Unreachable { peer: self.node(), reason: reason.to_owned() }
    }

    /// The error for a stream that broke after something was sent.
    pub(super) fn lost(&self, reason: &str) -> PeerError {
        let reason = match self.connection.close_reason() {
            Some(closed) => closed.to_string(),
            None if reason.is_empty() => "the stream ended".to_owned(),
            None => reason.to_owned(),
        };
        PeerError::Lost { peer: self.node(), reason }
    }

    /// The error for an answer that could not be read.
    pub(super) fn inlet_failed(&self, error: &InletError) -> PeerError {
        if let InletError::Frame(violation) = error {
            self.violated(violation);
        }
        self.lost(&error.to_string())
    }

    fn enlist(&self) -> Result<Waiter<'_>, PeerError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        match self.waiting.lock().as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(self.unreachable("the connection has ended")),
        };
        Ok(Waiter { link: self, id, answer })
    }

    fn judge(&self, (kind, message): Answer) -> Result<Message, PeerError> {
        let reason = || String::from_utf8_lossy(&message.body).into_owned();
        match kind {
            Kind::Answer => Ok(message),
            Kind::Refused => Err(PeerError::Refused { peer: self.node(), reason: reason() }),
            Kind::Failed => Err(PeerError::Failed { peer: self.node(), reason: reason() }),
            Kind::Request | Kind::Solo | Kind::Bulk | Kind::Gossip => {
                self.violated(&"an answer has the kind of a request");
                Err(self.lost("the answer was none"))
            }
        }
    }
}

/// A frame with `hub`'s facts in its header.
pub(super) fn frame_of(
    hub: &Hub,
    kind: Kind,
    service: ServiceId,
    id: u64,
    patience: Duration,
    message: Message,
) -> Frame {
    let (layout_version, hybrid_time) = hub.facts.outgoing();
    // Callers refuse what is over the bound of 4 MiB, so both lengths fit.
    let length = |part: &Bytes| u32::try_from(part.len()).unwrap_or(u32::MAX);
    let header = Header {
        kind,
        service,
        id,
        patience,
        layout_version,
        hybrid_time,
        body_length: length(&message.body),
        attachment_length: length(&message.attachment),
    };
    figures::sent(header.payload_length());
    Frame { header, message }
}

/// A caller on the list of those who wait, for as long as it lives.
struct Waiter<'a> {
    link: &'a Link,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.link.waiting.lock().as_mut() {
            waiting.remove(&self.id);
        }
    }
}

/// Serves one lane until the connection ends.
async fn run_lane(link: Arc<Link>, mut queue: mpsc::Receiver<Frame>) {
    let connection = link.connection.clone();
    let closed = std::pin::pin!(connection.closed());
    let lane = std::pin::pin!(async {
        // The peer learns of a stream by its first bytes, so an unused lane costs nothing.
        let Some(first) = queue.recv().await else { return };
        let Ok((send, receive)) = link.connection.open_bi().await else { return };
        let outlet = Outlet::new(send);
        outlet.prefer();
        let answers = read_answers(Arc::clone(&link), Inlet::new(receive));
        link.hub.tasks.spawn("peer lane answers", Box::pin(answers)).detach();
        write_frames(Some(first), &mut queue, outlet).await;
        // A lane that broke while its connection lives would swallow requests for ever.
        link.connection.close(code::BROKEN, b"a lane broke");
    });
    futures_util::future::select(closed, lane).await;
}

async fn read_answers(link: Arc<Link>, mut inlet: Inlet) {
    loop {
        match read_answer(&link, &mut inlet).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(InletError::Frame(error)) => return link.violated(&error),
            Err(InletError::Cut | InletError::Stream(_)) => break,
        }
    }
    link.connection.close(code::BROKEN, b"a lane broke");
}

/// Reads one answer; false at the end of the stream.
async fn read_answer(link: &Link, inlet: &mut Inlet) -> Result<bool, InletError> {
    let Some(header) = inlet.header().await? else {
        return Ok(false);
    };
    link.note(&header);
    let message = inlet.message(&header).await?;
    if let Some(waiter) = link.claim(header.id) {
        drop(waiter.send((header.kind, message)));
    }
    Ok(true)
}

/// Writes what queues up, many frames at once, until the queue closes or the stream breaks.
pub(super) async fn write_frames(
    first: Option<Frame>,
    queue: &mut mpsc::Receiver<Frame>,
    mut outlet: Outlet,
) {
    let mut batch: Vec<Frame> = first.into_iter().collect();
    loop {
        if batch.is_empty() && queue.recv_many(&mut batch, BATCH).await == 0 {
            return outlet.finish();
        }
        let mut chunks = pack(batch.drain(..));
        if outlet.write(&mut chunks).await.is_err() {
            return;
        }
    }
}
