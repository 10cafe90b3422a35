//! The answering side of a connection.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::bulk::serve_bulk;
use super::figures;
use super::frame::{FRAME_BYTES_MAX, Header, Kind};
use super::hub::GossipPacket;
use super::link::{LANE_BYTES_MAX, Link, frame_of, write_frames};
use super::stream::{Frame, Inlet, InletError, Outlet, code, over_bound, pack};
use super::transport::{HandlerError, Message, RequestContext};

/// Answers that wait for a lane's writer; handlers beyond wait, holding their permits.
const ANSWER_QUEUE: usize = 128;
/// Requests above this come alone and are counted against the peer's memory.
pub(super) const SMALL_BYTES_MAX: usize = 64 << 10;
/// The longest gossip message.
pub(super) const GOSSIP_BYTES_MAX: usize = 64 << 10;
/// A reason that is longer is cut.
const REASON_BYTES_MAX: usize = 1_024;

/// Serves a connection until it ends.
pub(super) async fn serve_link(link: Arc<Link>) {
    futures_util::future::join3(accept_bidi(&link), accept_uni(&link), accept_datagrams(&link))
        .await;
    link.hub.ended(&link);
}

async fn accept_bidi(link: &Arc<Link>) {
    while let Ok((send, receive)) = link.connection.accept_bi().await {
        let serving = serve_stream(Arc::clone(link), Outlet::new(send), Inlet::new(receive));
        link.hub.tasks.spawn("peer stream", Box::pin(serving)).detach();
    }
}

async fn accept_uni(link: &Arc<Link>) {
    while let Ok(receive) = link.connection.accept_uni().await {
        let serving = serve_uni(Arc::clone(link), Inlet::new(receive));
        link.hub.tasks.spawn("peer one-way stream", Box::pin(serving)).detach();
    }
}

async fn accept_datagrams(link: &Arc<Link>) {
    while let Ok(message) = link.connection.read_datagram().await {
        receive_gossip(link, message);
    }
}

fn receive_gossip(link: &Link, message: Bytes) {
    figures::received(message.len());
    let (peer, address) = (link.node(), link.connection.remote_address());
    // Gossip that does not fit is dropped: the next round says the same.
    if link.hub.gossip.try_send(GossipPacket { peer, address, message }).is_err() {
        figures::refused("gossip");
    }
}

/// A one-way stream brings a large answer or a large gossip message.
async fn serve_uni(link: Arc<Link>, mut inlet: Inlet) {
    match read_uni(&link, &mut inlet).await {
        Ok(()) => {}
        Err(InletError::Frame(error)) => link.violated(&error),
        // The caller learns by its deadline, or by the end of the connection.
        Err(InletError::Cut | InletError::Stream(_)) => {}
    }
}

async fn read_uni(link: &Link, inlet: &mut Inlet) -> Result<(), InletError> {
    let Some(header) = inlet.header().await? else {
        return Ok(());
    };
    link.note(&header);
    match header.kind {
        Kind::Gossip if header.payload_length() <= GOSSIP_BYTES_MAX => {
            let message = inlet.message(&header).await?;
            receive_gossip(link, message.body);
        }
        Kind::Answer => {
            // An answer that nobody waits for any more is not worth its memory.
            if let Some(waiter) = link.claim(header.id) {
                drop(waiter.send((header.kind, inlet.message(&header).await?)));
            }
        }
        _ => link.violated(&"a one-way stream begins with the wrong kind of frame"),
    }
    Ok(())
}

async fn serve_stream(link: Arc<Link>, outlet: Outlet, mut inlet: Inlet) {
    let result = match inlet.header().await {
        Ok(Some(header)) => serve_first(&link, header, outlet, inlet).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(InletError::Frame(error)) = result {
        link.violated(&error);
    }
}

async fn serve_first(
    link: &Arc<Link>,
    header: Header,
    outlet: Outlet,
    inlet: Inlet,
) -> Result<(), InletError> {
    link.note(&header);
    match header.kind {
        Kind::Request => serve_lane(link, header, outlet, inlet).await,
        Kind::Solo => serve_solo(link, header, outlet, inlet).await,
        Kind::Bulk => serve_bulk(link, header, outlet, inlet).await,
        Kind::Answer | Kind::Refused | Kind::Failed | Kind::Gossip => {
            link.violated(&"a stream begins with the wrong kind of frame");
            Ok(())
        }
    }
}

async fn serve_lane(
    link: &Arc<Link>,
    mut header: Header,
    outlet: Outlet,
    mut inlet: Inlet,
) -> Result<(), InletError> {
    outlet.prefer();
    let (answers, mut queue) = mpsc::channel(ANSWER_QUEUE);
    let writer = async move { write_frames(None, &mut queue, outlet).await };
    link.hub.tasks.spawn("peer lane writer", Box::pin(writer)).detach();
    loop {
        if header.kind != Kind::Request || header.payload_length() > SMALL_BYTES_MAX {
            link.violated(&"a lane carries something else than small requests");
            return Ok(());
        }
        let request = inlet.message(&header).await?;
        let responder = Responder::Lane(answers.clone());
        respond(link, header, request, responder, None).await;
        match inlet.header().await? {
            Some(next) => header = next,
            None => return Ok(()),
        }
        link.note(&header);
    }
}

async fn serve_solo(
    link: &Arc<Link>,
    header: Header,
    outlet: Outlet,
    mut inlet: Inlet,
) -> Result<(), InletError> {
    let mut room = None;
    let length = header.payload_length();
    if length > SMALL_BYTES_MAX {
        let kib = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
        match Arc::clone(&link.peer.request_kib).try_acquire_many_owned(kib) {
            Ok(permit) => room = Some(permit),
            Err(_) => {
                // Waiting here would let one peer's large requests starve each other.
                inlet.stop(code::REFUSED);
                refuse(link, &header, "busy", Responder::Solo(outlet)).await;
                return Ok(());
            }
        }
    }
    let request = inlet.message(&header).await?;
    respond(link, header, request, Responder::Solo(outlet), room).await;
    Ok(())
}

/// Where an answer goes.
enum Responder {
    Lane(mpsc::Sender<Frame>),
    Solo(Outlet),
}

/// Lets the handler answer in a task of its own, or refuses at once.
async fn respond(
    link: &Arc<Link>,
    header: Header,
    request: Message,
    responder: Responder,
    room: Option<OwnedSemaphorePermit>,
) {
    let Ok(permit) = Arc::clone(&link.peer.calls).try_acquire_owned() else {
        return refuse(link, &header, "busy", responder).await;
    };
    let Some(handler) = link.hub.handler.read().clone() else {
        return refuse(link, &header, "not serving yet", responder).await;
    };
    let context = context_of(link, &header);
    let answering = Arc::clone(link);
    let task = async move {
        let result = handler.call(context, header.service, request).await;
        answer(&answering, &header, result, responder).await;
        drop((permit, room));
    };
    link.hub.tasks.spawn("peer request", Box::pin(task)).detach();
}

pub(super) fn context_of(link: &Link, header: &Header) -> RequestContext {
    let deadline = link.hub.clock.monotonic() + header.patience;
    RequestContext { peer: link.node(), deadline }
}

async fn refuse(link: &Link, header: &Header, reason: &'static str, responder: Responder) {
    figures::refused(reason);
    answer(link, header, Err(HandlerError::Refused(reason.to_owned())), responder).await;
}

async fn answer(
    link: &Link,
    header: &Header,
    result: Result<Message, HandlerError>,
    responder: Responder,
) {
    let (kind, message) = match result {
        Ok(message) => match over_bound(&message) {
            None => (Kind::Answer, message),
            Some(length) => {
                let reason = format!("its answer of {length} bytes is over {FRAME_BYTES_MAX}");
                (Kind::Failed, reason.into_bytes().into())
            }
        },
        Err(HandlerError::Refused(reason)) => (Kind::Refused, reason_of(&reason)),
        Err(HandlerError::Failed(reason)) => (Kind::Failed, reason_of(&reason)),
    };
    let large = message.body.len() + message.attachment.len() > LANE_BYTES_MAX;
    let frame = frame_of(&link.hub, kind, header.service, header.id, header.patience, message);
    // A caller that cannot be reached any more learns from the end of its connection.
    match responder {
        Responder::Lane(_) if large => {
            if let Ok(send) = link.connection.open_uni().await {
                write_whole(Outlet::new(send), frame).await;
            }
        }
        Responder::Lane(answers) => drop(answers.send(frame).await),
        Responder::Solo(outlet) => write_whole(outlet, frame).await,
    }
}

/// Writes one frame and ends the stream.
pub(super) async fn write_whole(mut outlet: Outlet, frame: Frame) {
    if outlet.write(&mut pack([frame])).await.is_ok() {
        outlet.finish();
    }
}

/// An error's text, as long as a frame for it may be.
pub(super) fn reason_of(reason: &str) -> Message {
    let end = reason.floor_char_boundary(reason.len().min(REASON_BYTES_MAX));
    reason.as_bytes()[..end].to_vec().into()
}
