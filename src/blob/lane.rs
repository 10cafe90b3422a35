//! Lanes: the way of one extent's pieces to one node.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use crate::codec::{Crc32c, decode_message, encode_message};
use crate::env::{deadline_in, timeout_at};
use crate::store::StoreError;
use crate::types::{ExtentId, NodeId};

use super::service::{BLOB_SERVICE, Blobs, WHOLE};
use super::wire::{BlobReply, BlobRequest, PieceHeader};

/// How long one owner may hold back the others before its lane is given up.
pub const STALL_MAX: Duration = Duration::from_secs(5);

/// Chunks queued for one node: with n = 3 an upload holds at most 3 × 4 references to the same
/// few chunks.
pub(super) const LANE_CHUNKS: usize = 4;

/// What one node made of an extent.
#[derive(Debug, Clone)]
pub(super) enum LaneError {
    /// It has no room.
    Full(String),
    /// It did not take it, or its answer is not known.
    Failed(String),
}

impl From<StoreError> for LaneError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { path } => Self::Full(path.display().to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// What a reply says of a lane.
pub(super) fn lane_result(reply: &[u8]) -> Result<(), LaneError> {
    match decode_message(reply) {
        Ok(BlobReply::Sealed) => Ok(()),
        Ok(BlobReply::Full { reason }) => Err(LaneError::Full(reason)),
        Ok(BlobReply::Failed { reason }) => Err(LaneError::Failed(reason)),
        Ok(other) => Err(LaneError::Failed(format!("unexpected answer {other:?}"))),
        Err(error) => Err(LaneError::Failed(error.to_string())),
    }
}

/// What a lane's result is in a reply.
pub(super) fn reply_of(result: Result<(), LaneError>) -> BlobReply {
    match result {
        Ok(()) => BlobReply::Sealed,
        Err(LaneError::Full(reason)) => BlobReply::Full { reason },
        Err(LaneError::Failed(reason)) => BlobReply::Failed { reason },
    }
}

/// What travels on a lane.
#[derive(Clone)]
pub(super) enum Piece {
    Chunk { number: u32, crc: Crc32c, payload: Bytes },
    Seal { chunks: u32, record: Bytes },
}

/// The way to one node that takes the extent being written.
pub(super) struct Lane {
    pub(super) node: NodeId,
    /// The owner that it stands in for, if it is none itself.
    pub(super) hinted_for: Option<NodeId>,
    pub(super) queue: mpsc::Sender<Piece>,
    pub(super) verdict: oneshot::Receiver<Result<(), LaneError>>,
}

impl Lane {
    /// Opens a lane to `node`.
    pub(super) fn open(
        blobs: &Blobs,
        extent: ExtentId,
        node: NodeId,
        hinted_for: Option<NodeId>,
    ) -> Self {
        let (queue, pieces) = mpsc::channel(LANE_CHUNKS);
        let (tell, verdict) = oneshot::channel();
        let lane = blobs.clone();
        let task = async move {
            let result = if node == lane.me() {
                local_lane(&lane, extent, pieces).await
            } else {
                remote_lane(&lane, node, extent, pieces).await
            };
            // The writer may be gone; its lanes then end on their own.
            drop(tell.send(result));
        };
        blobs.coordinator.site().tasks.spawn("extent lane", task.boxed()).detach();
        Self { node, hinted_for, queue, verdict }
    }

    /// The owner whose place it fills.
    pub(super) fn owner(&self) -> NodeId {
        self.hinted_for.unwrap_or(self.node)
    }

    /// Why a lane that takes nothing more is broken.
    pub(super) fn breach(&mut self) -> LaneError {
        match self.verdict.try_recv() {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => {
                LaneError::Failed(format!("{} stalled or broke off", self.node.short()))
            }
        }
    }
}

/// Writes an extent's pieces to this node's own segments.
async fn local_lane(
    blobs: &Blobs,
    extent: ExtentId,
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<(), LaneError> {
    let result = async {
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Chunk { number, crc, payload } => {
                    blobs.segments.append(extent, WHOLE, number, crc, payload).await?;
                }
                Piece::Seal { chunks, record } => {
                    return Ok(blobs.segments.seal(extent, WHOLE, chunks, record).await?);
                }
            }
        }
        Err(LaneError::Failed("the writer broke off".into()))
    }
    .await;
    if result.is_err() {
        blobs.segments.abandon(extent, WHOLE);
    }
    result
}

/// Sends an extent's pieces to another node on a stream of their own.
async fn remote_lane(
    blobs: &Blobs,
    node: NodeId,
    extent: ExtentId,
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<(), LaneError> {
    let failed = |error: &dyn std::fmt::Display| LaneError::Failed(error.to_string());
    let header = encode_message(&BlobRequest::Put { extent }).map_err(|error| failed(&error))?;
    let site = blobs.coordinator.site();
    let deadline = deadline_in(&*site.clock, STALL_MAX);
    let transport = blobs.coordinator.transport();
    let mut stream = transport
        .open(node, BLOB_SERVICE, header.into(), deadline)
        .await
        .map_err(|error| failed(&error))?;
    while let Some(piece) = pieces.recv().await {
        let (header, payload, last) = match piece {
            Piece::Chunk { number, crc, payload } => {
                (PieceHeader::Chunk { number, crc }, payload, false)
            }
            Piece::Seal { chunks, record } => (PieceHeader::Seal { chunks }, record, true),
        };
        // A node that takes nothing for so long was given up by the writer long ago.
        let sent = async {
            stream.sender.send(header.encode()).await?;
            stream.sender.send(payload).await
        };
        let until = deadline_in(&*site.clock, STALL_MAX * 2);
        match timeout_at(&*site.clock, until, sent).await {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(failed(&error)),
            None => return Err(LaneError::Failed(format!("{} stalled", node.short()))),
        }
        if last {
            stream.sender.finish().await.map_err(|error| failed(&error))?;
            let deadline = deadline_in(&*site.clock, STALL_MAX * 6);
            let reply = timeout_at(&*site.clock, deadline, stream.receiver.next()).await;
            return match reply {
                Some(Ok(Some(reply))) => lane_result(&reply),
                Some(Ok(None)) => Err(LaneError::Failed("no answer to a seal".into())),
                Some(Err(error)) => Err(failed(&error)),
                None => Err(LaneError::Failed(format!("{} did not seal in time", node.short()))),
            };
        }
    }
    // Dropping the stream unfinished tells the node to forget the extent.
    Err(LaneError::Failed("the writer broke off".into()))
}
