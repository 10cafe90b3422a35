//! Bulk transfers: a stream of its own each, pieces with a length in front.
//!
//! FIN is "finished"; a reset is "broken off"; a length with its top bit set announces the
//! reason of a failure instead of a piece.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use quinn::{ReadError, WriteError};
use tokio::sync::oneshot;

use super::figures;
use super::frame::Header;
use super::link::Link;
use super::serve::{SMALL_BYTES_MAX, context_of, reason_of};
use super::stream::{Inlet, InletError, Outlet, code};
use super::transport::{BulkReceiver, BulkSender, BulkStream, HandlerError, PeerError};

/// The longest piece, in bytes.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

/// Marks a length as that of a failure: one byte (1 refused, 2 failed) and a reason.
const FAILURE: u32 = 1 << 31;
const FAILURE_BYTES_MAX: usize = 4 << 10;
const REFUSED: u8 = 1;
const FAILED: u8 = 2;

/// The two directions of a transfer that this node opened.
pub(super) fn opened(link: &Arc<Link>, outlet: Outlet, inlet: Inlet) -> BulkStream {
    stream(link, outlet, inlet, None)
}

fn stream(
    link: &Arc<Link>,
    outlet: Outlet,
    inlet: Inlet,
    give_back: Option<oneshot::Sender<Outlet>>,
) -> BulkStream {
    let sender = Sender { link: Arc::clone(link), outlet: Some(outlet), busy: false, give_back };
    let receiver = Receiver { link: Arc::clone(link), inlet, want: None };
    BulkStream { sender: Box::new(sender), receiver: Box::new(receiver) }
}

/// Serves a transfer that a peer opened.
pub(super) async fn serve_bulk(
    link: &Arc<Link>,
    header: Header,
    outlet: Outlet,
    mut inlet: Inlet,
) -> Result<(), InletError> {
    if header.payload_length() > SMALL_BYTES_MAX {
        link.violated(&"the header of a transfer is too long");
        return Ok(());
    }
    let Ok(permit) = Arc::clone(&link.peer.bulk).try_acquire_owned() else {
        figures::refused("busy");
        inlet.stop(code::REFUSED);
        write_failure(outlet, REFUSED, "busy").await;
        return Ok(());
    };
    let opening = inlet.message(&header).await?;
    let Some(handler) = link.hub.handler.read().clone() else {
        inlet.stop(code::REFUSED);
        write_failure(outlet, REFUSED, "not serving yet").await;
        return Ok(());
    };
    let (give_back, given_back) = oneshot::channel();
    let stream = stream(link, outlet, inlet, Some(give_back));
    let context = context_of(link, &header);
    let result = handler.bulk(context, header.service, opening.body, stream).await;
    drop(permit);
    let (number, reason) = match result {
        // An outlet that comes back unfinished is dropped here, which breaks the stream off.
        Ok(()) => return Ok(()),
        Err(HandlerError::Refused(reason)) => (REFUSED, reason),
        Err(HandlerError::Failed(reason)) => (FAILED, reason),
    };
    // The handler has dropped its sender, or still has it in a task that will.
    if let Ok(outlet) = given_back.await {
        write_failure(outlet, number, &reason).await;
    }
    Ok(())
}

async fn write_failure(mut outlet: Outlet, number: u8, reason: &str) {
    let reason = reason_of(reason).body;
    let mut bytes = BytesMut::with_capacity(5 + reason.len());
    // `reason_of` cuts far below the bound.
    bytes.put_u32_le(FAILURE | u32::try_from(reason.len() + 1).unwrap_or(1));
    bytes.put_u8(number);
    bytes.extend_from_slice(&reason);
    if outlet.write(&mut [bytes.freeze()]).await.is_ok() {
        outlet.finish();
    }
}

struct Sender {
    link: Arc<Link>,
    /// `None` after the stream has ended, well or not.
    outlet: Option<Outlet>,
    /// A piece is half written: whoever dropped that call has cut the stream.
    busy: bool,
    /// Where the unfinished outlet of a handler goes, so that its error can still be told.
    give_back: Option<oneshot::Sender<Outlet>>,
}

#[async_trait]
impl BulkSender for Sender {
    async fn send(&mut self, piece: Bytes) -> Result<(), PeerError> {
        let length = piece.len();
        if length > PIECE_BYTES_MAX || self.busy {
            self.outlet = None;
            return Err(self.link.lost("a piece was over 1 MiB, or an earlier one was cut"));
        }
        let Some(outlet) = &mut self.outlet else {
            return Err(self.link.lost("the transfer has ended already"));
        };
        let prefix = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        self.busy = true;
        let result = outlet.write(&mut [Bytes::copy_from_slice(&prefix), piece]).await;
        self.busy = false;
        match result {
            Ok(()) => {
                figures::sent(length);
                Ok(())
            }
            Err(error) => {
                self.outlet = None;
                Err(write_failed(&self.link, &error))
            }
        }
    }

    async fn finish(&mut self) -> Result<(), PeerError> {
        match self.outlet.take() {
            Some(outlet) if !self.busy && self.link.is_alive() => {
                outlet.finish();
                Ok(())
            }
            _ => Err(self.link.lost("the transfer has ended already")),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let (Some(outlet), Some(give_back), false) =
            (self.outlet.take(), self.give_back.take(), self.busy)
        {
            // If nobody takes it, it is dropped, which breaks the stream off.
            drop(give_back.send(outlet));
        }
    }
}

fn write_failed(link: &Link, error: &WriteError) -> PeerError {
    match error {
        WriteError::Stopped(stopped) if *stopped == code::REFUSED => {
            PeerError::Refused { peer: link.node(), reason: "it takes no transfer now".to_owned() }
        }
        WriteError::Stopped(_) => link.lost("the peer reads no further"),
        _ => link.lost(&error.to_string()),
    }
}

struct Receiver {
    link: Arc<Link>,
    inlet: Inlet,
    /// The length word of the piece that is being read, so that a dropped call loses nothing.
    want: Option<u32>,
}

#[async_trait]
impl BulkReceiver for Receiver {
    async fn next(&mut self) -> Result<Option<Bytes>, PeerError> {
        self.piece().await.map_err(|error| match &error {
            PieceError::Peer(error) => error.clone(),
            PieceError::Inlet(InletError::Stream(ReadError::Reset(_))) => {
                self.link.lost("the peer broke the transfer off")
            }
            PieceError::Inlet(error) => self.link.inlet_failed(error),
        })
    }
}

/// Why there is no next piece.
enum PieceError {
    Inlet(InletError),
    Peer(PeerError),
}

impl From<InletError> for PieceError {
    fn from(error: InletError) -> Self {
        Self::Inlet(error)
    }
}

impl Receiver {
    async fn piece(&mut self) -> Result<Option<Bytes>, PieceError> {
        let word = match self.want {
            Some(word) => word,
            None => {
                let Some(bytes) = self.inlet.take(4).await? else {
                    return Ok(None);
                };
                let mut word = [0; 4];
                word.copy_from_slice(&bytes);
                u32::from_le_bytes(word)
            }
        };
        self.want = Some(word);
        let length = (word & !FAILURE) as usize;
        let failed = word & FAILURE != 0;
        let bound = if failed { FAILURE_BYTES_MAX } else { PIECE_BYTES_MAX };
        if length > bound || (failed && length == 0) {
            self.link.violated(&format!("a piece of {length} bytes is out of bounds"));
            return Err(PieceError::Peer(self.link.lost("")));
        }
        let bytes = match length {
            0 => Bytes::new(),
            _ => self.inlet.take(length).await?.ok_or(InletError::Cut)?,
        };
        self.want = None;
        figures::received(length);
        if failed {
            return Err(PieceError::Peer(self.failure(&bytes)));
        }
        Ok(Some(bytes))
    }

    fn failure(&self, bytes: &[u8]) -> PeerError {
        let peer = self.link.node();
        let reason = String::from_utf8_lossy(bytes.get(1..).unwrap_or_default()).into_owned();
        match bytes.first() {
            Some(&REFUSED) => PeerError::Refused { peer, reason },
            _ => PeerError::Failed { peer, reason },
        }
    }
}
