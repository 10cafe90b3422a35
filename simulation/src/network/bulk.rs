//! Bulk transfers: two pipes of pieces that arrive whole, in order, at most once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{Either, select};
use quorate::env::{Clock, Tasks};
use quorate::net::{
    BulkReceiver, BulkSender, BulkStream, HandlerError, PeerError, RequestContext, ServiceId,
};
use quorate::types::NodeId;
use tokio::sync::{mpsc, oneshot};

use super::SimNetwork;
use super::connection::{Connection, End, Way};
use crate::trace::Digest;

/// Pieces that wait on each side of a pipe before the sender has to.
const WINDOW_PIECES: usize = 4;

/// The greatest piece that the seam allows.
const PIECE_BYTES_MAX: usize = 1 << 20;

enum Frame {
    Piece(Bytes),
    Finish,
    /// The other side broke off: for its handler's error, or for none.
    Broken(Option<HandlerError>),
}

type Verdict = oneshot::Receiver<Result<(), HandlerError>>;

/// One direction's two halves, and what its courier works with.
struct Pipe {
    way: Way,
    service: ServiceId,
    connection: Arc<Connection>,
    outbox: mpsc::Receiver<Frame>,
    arrivals: mpsc::Sender<Frame>,
    /// How the sending side's handler ended, where a handler sends.
    verdict: Option<Verdict>,
}

struct SimBulkSender {
    peer: NodeId,
    connection: Arc<Connection>,
    outbox: Option<mpsc::Sender<Frame>>,
}

struct SimBulkReceiver {
    peer: NodeId,
    connection: Arc<Connection>,
    arrivals: mpsc::Receiver<Frame>,
    finished: Option<Result<(), PeerError>>,
}

impl SimNetwork {
    /// Starts a transfer over `connection`. The opening side gets its ends at once; the other
    /// side's handler starts when the header has arrived.
    pub(super) fn open_bulk(
        self: &Arc<Self>,
        (connection, way): (&Arc<Connection>, Way),
        service: ServiceId,
        header: Bytes,
        patience: Duration,
    ) -> BulkStream {
        let (tell, verdict) = oneshot::channel();
        let (out, out_sender, out_receiver) = pipe(connection, way, service, None);
        let (back, back_sender, back_receiver) =
            pipe(connection, way.reversed(), service, Some(verdict));
        let network = Arc::clone(self);
        let there = BulkStream { sender: back_sender, receiver: out_receiver };
        let begin = async move {
            let bytes = header.len();
            if network.carry(&out.connection, way, bytes).await.is_err() {
                return;
            }
            network.arrived(&out.connection, way, service, (Digest::of(&header), "header"));
            let ends = out.connection.ends(way);
            if !network.start_handler((header, service, patience), ends, there, tell) {
                return;
            }
            let answers = Arc::clone(&network).run_pipe(back);
            network.couriers.spawn("bulk answers", Box::pin(answers)).detach();
            Arc::clone(&network).run_pipe(out).await;
        };
        self.couriers.spawn("bulk", Box::pin(begin)).detach();
        BulkStream { sender: out_sender, receiver: back_receiver }
    }

    fn start_handler(
        &self,
        (header, service, patience): (Bytes, ServiceId, Duration),
        (opener, peer): (End, End),
        stream: BulkStream,
        tell: oneshot::Sender<Result<(), HandlerError>>,
    ) -> bool {
        let Some(running) = self.running(peer) else {
            return false;
        };
        let Some(handler) = running.handler else {
            drop(tell.send(Err(HandlerError::Refused("the node does not serve yet".to_owned()))));
            return true;
        };
        let deadline = running.clock.monotonic() + patience;
        let serve = async move {
            let context = RequestContext { peer: opener.node, deadline };
            let ended = handler.bulk(context, service, header, stream).await;
            drop(tell.send(ended));
        };
        running.tasks.spawn("peer transfer", Box::pin(serve)).detach();
        true
    }

    /// Carries frames one way until the end, a break, or the loss of the connection.
    async fn run_pipe(self: Arc<Self>, mut pipe: Pipe) {
        let (from, _) = pipe.connection.ends(pipe.way);
        loop {
            let frame = match next_frame(&mut pipe).await {
                Next::Frame(frame) => frame,
                Next::Dropped => {
                    let verdict = match pipe.verdict.take() {
                        Some(verdict) => verdict.await.ok().and_then(Result::err),
                        None => None,
                    };
                    Frame::Broken(verdict)
                }
                Next::NoReader => return,
            };
            if self.running(from).is_none() {
                return;
            }
            let (bytes, digest, word) = match &frame {
                Frame::Piece(piece) => (piece.len(), Digest::of(piece), "piece"),
                Frame::Finish => (0, Digest::NONE, "finish"),
                Frame::Broken(_) => (0, Digest::NONE, "break"),
            };
            if self.carry(&pipe.connection, pipe.way, bytes).await.is_err() {
                pipe.connection.closed().await;
                return;
            }
            self.arrived(&pipe.connection, pipe.way, pipe.service, (digest, word));
            let last = !matches!(frame, Frame::Piece(_));
            if pipe.arrivals.send(frame).await.is_err() || last {
                return;
            }
        }
    }
}

enum Next {
    Frame(Frame),
    /// The sending half was dropped without a finish.
    Dropped,
    /// The receiving half was dropped.
    NoReader,
}

async fn next_frame(pipe: &mut Pipe) -> Next {
    let frame = std::pin::pin!(pipe.outbox.recv());
    let unread = std::pin::pin!(pipe.arrivals.closed());
    match select(frame, unread).await {
        Either::Left((Some(frame), _)) => Next::Frame(frame),
        Either::Left((None, _)) => Next::Dropped,
        Either::Right(((), _)) => Next::NoReader,
    }
}

fn pipe(
    connection: &Arc<Connection>,
    way: Way,
    service: ServiceId,
    verdict: Option<Verdict>,
) -> (Pipe, Box<dyn BulkSender>, Box<dyn BulkReceiver>) {
    let (from, to) = connection.ends(way);
    let (outbox_in, outbox) = mpsc::channel(WINDOW_PIECES);
    let (arrivals, arrivals_out) = mpsc::channel(WINDOW_PIECES);
    let sender = SimBulkSender {
        peer: to.node,
        connection: Arc::clone(connection),
        outbox: Some(outbox_in),
    };
    let receiver = SimBulkReceiver {
        peer: from.node,
        connection: Arc::clone(connection),
        arrivals: arrivals_out,
        finished: None,
    };
    let connection = Arc::clone(connection);
    let pipe = Pipe { way, service, connection, outbox, arrivals, verdict };
    (pipe, Box::new(sender), Box::new(receiver))
}

impl SimBulkSender {
    async fn put(&mut self, frame: Frame) -> Result<(), PeerError> {
        let peer = self.peer;
        let lost = |reason: &str| PeerError::Lost { peer, reason: reason.to_owned() };
        let Some(outbox) = &self.outbox else {
            return Err(lost("the transfer was already finished"));
        };
        let put = std::pin::pin!(outbox.send(frame));
        let ended = std::pin::pin!(self.connection.closed());
        match select(ended, put).await {
            Either::Left((reason, _)) => Err(lost(reason)),
            Either::Right((Ok(()), _)) => Ok(()),
            Either::Right((Err(_), _)) => Err(lost("the peer stopped reading")),
        }
    }
}

#[async_trait]
impl BulkSender for SimBulkSender {
    async fn send(&mut self, piece: Bytes) -> Result<(), PeerError> {
        assert!(piece.len() <= PIECE_BYTES_MAX, "a piece of {} bytes is too large", piece.len());
        self.put(Frame::Piece(piece)).await
    }

    async fn finish(&mut self) -> Result<(), PeerError> {
        let told = self.put(Frame::Finish).await;
        self.outbox = None;
        told
    }
}

impl SimBulkReceiver {
    fn end(&mut self, end: Result<(), PeerError>) -> Result<Option<Bytes>, PeerError> {
        self.finished = Some(end.clone());
        end.map(|()| None)
    }
}

#[async_trait]
impl BulkReceiver for SimBulkReceiver {
    async fn next(&mut self) -> Result<Option<Bytes>, PeerError> {
        if let Some(end) = &self.finished {
            return end.clone().map(|()| None);
        }
        let peer = self.peer;
        let lost = |reason: &str| PeerError::Lost { peer, reason: reason.to_owned() };
        let connection = Arc::clone(&self.connection);
        let next = {
            let arrived = std::pin::pin!(self.arrivals.recv());
            let ended = std::pin::pin!(connection.closed());
            match select(arrived, ended).await {
                Either::Left((Some(frame), _)) => Ok(frame),
                // The courier is gone, so nothing more arrives; the connection says why.
                Either::Left((None, ended)) => Err(ended.await),
                Either::Right((reason, _)) => Err(reason),
            }
        };
        match next {
            Ok(Frame::Piece(piece)) => Ok(Some(piece)),
            Ok(Frame::Finish) => self.end(Ok(())),
            Ok(Frame::Broken(None)) => self.end(Err(lost("the peer broke the transfer off"))),
            Ok(Frame::Broken(Some(HandlerError::Refused(reason)))) => {
                self.end(Err(PeerError::Refused { peer, reason }))
            }
            Ok(Frame::Broken(Some(HandlerError::Failed(reason)))) => {
                self.end(Err(PeerError::Failed { peer, reason }))
            }
            Err(reason) => self.end(Err(lost(reason))),
        }
    }
}
