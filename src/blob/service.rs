//! This node's extents, and the way to those of its peers.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::codec::{decode_message, encode_format, encode_message};
use crate::membership::Liveness;
use crate::net::{BulkStream, HandlerError, Message, ServiceId};
use crate::replication::{Companion, Coordinator, Level, Outcome, ReplicaPlan, ReplicationError};
use crate::store::{SegmentLog, StoreError};
use crate::types::{ExtentId, NodeId};

use super::extent::{CHUNK_BYTES, ExtentRecord, NewBytes, Origin};
use super::lane::{LaneError, reply_of};
use super::upkeep::Upkeep;
use super::wanted::ExtentCompanion;
use super::wire::{BlobReply, BlobRequest, PieceHeader};
use super::writer::BlobWriter;

/// Requests about extents.
pub const BLOB_SERVICE: ServiceId = ServiceId(4);

/// Chunks read from the disk in one hop.
pub(super) const HOP_CHUNKS: u32 = 4;

/// Acknowledged attached bodies, of up to 1 MiB, whose last owner is still waited for.
const LATE_BODIES_MAX: usize = 48;

/// The fragment number of replicated extents, whose copies are whole.
pub(super) const WHOLE: u8 = 0;

/// Why bytes were not written or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlobError {
    /// Too few owners took the bytes; no head names them, so nothing was done.
    #[error("{answered} of {needed} needed owners took the bytes: {reason}")]
    Unavailable {
        /// How many did.
        answered: usize,
        /// How many must.
        needed: usize,
        /// What the others said.
        reason: String,
    },
    /// Too few owners have room.
    #[error("no room: {0}")]
    Full(String),
    /// No owner has an undamaged copy within reach.
    #[error("extent {extent}: no owner has an undamaged copy within reach: {reason}")]
    Unreadable {
        /// The extent.
        extent: ExtentId,
        /// What the owners said.
        reason: String,
    },
    /// Nobody has it: each node that may have a copy was asked, and has none.
    #[error("extent {extent}: nobody has it: {reason}")]
    Nowhere {
        /// The extent.
        extent: ExtentId,
        /// What the nodes said.
        reason: String,
    },
    /// There is no layout, or a message was malformed.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
}

/// Extents of this node and its peers. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    pub(super) coordinator: Coordinator,
    pub(super) segments: SegmentLog,
    pub(super) companion: Arc<ExtentCompanion>,
    pub(super) upkeep: Arc<Upkeep>,
    /// Places for attached bodies whose last owners are still waited for.
    pub(super) late: Arc<Semaphore>,
}

impl Blobs {
    /// Extents over `segments`, placed by `coordinator`'s layout.
    ///
    /// # Errors
    /// If the queue of fetches cannot be read.
    pub fn new(coordinator: Coordinator, segments: SegmentLog) -> Result<Self, StoreError> {
        let meta = coordinator.replica().rows().meta();
        let companion = ExtentCompanion::open(segments.clone(), &**meta)?;
        let late = Arc::new(Semaphore::new(LATE_BODIES_MAX));
        Ok(Self { coordinator, segments, companion, upkeep: Arc::default(), late })
    }

    /// What goes with every change of an extent's row.
    #[must_use]
    pub fn companion(&self) -> Arc<dyn Companion> {
        Arc::clone(&self.companion) as Arc<dyn Companion>
    }

    /// This node's segment log.
    #[must_use]
    pub fn segments(&self) -> &SegmentLog {
        &self.segments
    }

    /// Begins writing bytes of unknown length.
    #[must_use]
    pub fn writer(&self, bytes: NewBytes) -> BlobWriter {
        BlobWriter::new(self.clone(), bytes)
    }

    pub(super) fn me(&self) -> NodeId {
        self.coordinator.site().node
    }

    pub(super) fn plan(&self, routing: &[u8], n: usize) -> Result<ReplicaPlan, BlobError> {
        self.plan_at(routing, n, Level::Strict)
    }

    pub(super) fn plan_at(
        &self,
        routing: &[u8],
        n: usize,
        level: Level,
    ) -> Result<ReplicaPlan, BlobError> {
        let layout = self.coordinator.layout()?;
        let partition = layout.partition_of(routing);
        Ok(ReplicaPlan::for_partition(layout, partition, n, level)?)
    }

    /// Those of `nodes` that seem alive, in order.
    pub(super) fn living(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let peers = self.coordinator.peers();
        let up = |node: &NodeId| *node == self.me() || peers.liveness(*node) == Liveness::Up;
        nodes.iter().copied().filter(up).collect()
    }

    /// The record to seal an extent with.
    pub(super) fn record(
        &self,
        length: u64,
        routing: &[u8],
        bytes: &NewBytes,
        hinted_for: Option<NodeId>,
    ) -> Result<Bytes, BlobError> {
        let record = ExtentRecord {
            length,
            routing: routing.to_vec(),
            n: u8::try_from(bytes.n).unwrap_or(u8::MAX),
            begun: bytes.begun,
            origin: Some(Origin { writer: self.me(), object: bytes.object.clone() }),
            hinted_for,
        };
        encode_format(&record)
            .map(Bytes::from)
            .map_err(|error| ReplicationError::Damaged(error.to_string()).into())
    }

    /// Answers a peer that sends a whole small extent.
    ///
    /// # Errors
    /// [`HandlerError`] for messages that cannot be read.
    pub async fn serve_call(&self, request: Message) -> Result<Message, HandlerError> {
        let refused = |reason: String| HandlerError::Refused(reason);
        let decoded = decode_message(&request.body).map_err(|error| refused(error.to_string()))?;
        let reply = match decoded {
            BlobRequest::PutWhole { extent, checksums, record } => {
                let body = request.attachment;
                let chunks = body.len().div_ceil(CHUNK_BYTES);
                if checksums.len() != chunks {
                    return Err(refused(format!("{} checksums, {chunks} chunks", checksums.len())));
                }
                reply_of(self.keep_whole(extent, &checksums, &body, record).await)
            }
            BlobRequest::Holds { extent } => match self.segments.find(extent, WHOLE) {
                Ok(Some(_)) if !self.companion.is_doubted(extent) => BlobReply::Held,
                _ => BlobReply::NotHeld,
            },
            BlobRequest::Put { .. } | BlobRequest::Get { .. } => {
                return Err(refused("this request needs a stream of its own".into()));
            }
        };
        encode_message(&reply)
            .map(Message::from)
            .map_err(|error| HandlerError::Failed(error.to_string()))
    }

    /// Serves a peer's bulk transfer.
    ///
    /// # Errors
    /// [`HandlerError`] breaks the stream off.
    pub async fn serve_bulk(&self, header: Bytes, stream: BulkStream) -> Result<(), HandlerError> {
        let request =
            decode_message(&header).map_err(|error| HandlerError::Refused(error.to_string()))?;
        match request {
            BlobRequest::Put { extent } => self.serve_put(extent, stream).await,
            BlobRequest::Get { extent, first, last, routing } => {
                self.serve_get((extent, routing), first, last, stream).await
            }
            BlobRequest::PutWhole { .. } | BlobRequest::Holds { .. } => {
                Err(HandlerError::Refused("this request is sent by a call".into()))
            }
        }
    }

    async fn serve_put(
        &self,
        extent: ExtentId,
        mut stream: BulkStream,
    ) -> Result<(), HandlerError> {
        let failed = |reason: String| HandlerError::Failed(reason);
        let taken = self.take_pieces(extent, &mut stream).await;
        if taken.is_err() {
            self.segments.abandon(extent, WHOLE);
        }
        let body = encode_message(&reply_of(taken)).map_err(|error| failed(error.to_string()))?;
        stream.sender.send(body.into()).await.map_err(|error| failed(error.to_string()))?;
        stream.sender.finish().await.map_err(|error| failed(error.to_string()))
    }

    async fn take_pieces(
        &self,
        extent: ExtentId,
        stream: &mut BulkStream,
    ) -> Result<(), LaneError> {
        let broken = |error: crate::net::PeerError| LaneError::Failed(error.to_string());
        let ended = || LaneError::Failed("the stream ended without a seal".into());
        loop {
            let header = stream.receiver.next().await.map_err(broken)?.ok_or_else(ended)?;
            let payload = stream.receiver.next().await.map_err(broken)?.ok_or_else(ended)?;
            match PieceHeader::decode(&header) {
                Some(PieceHeader::Chunk { number, crc }) if payload.len() <= CHUNK_BYTES => {
                    self.segments.append(extent, WHOLE, number, crc, payload).await?;
                }
                Some(PieceHeader::Seal { chunks }) => {
                    return Ok(self.segments.seal(extent, WHOLE, chunks, payload).await?);
                }
                _ => return Err(LaneError::Failed("malformed piece".into())),
            }
        }
    }

    async fn serve_get(
        &self,
        (extent, routing): (ExtentId, Bytes),
        first: u32,
        last: u32,
        mut stream: BulkStream,
    ) -> Result<(), HandlerError> {
        let failed = |error: crate::net::PeerError| HandlerError::Failed(error.to_string());
        let mut number = first;
        while number <= last {
            let until = last.saturating_add(1).min(number.saturating_add(HOP_CHUNKS));
            let chunks = match self.segments.read_many(extent, WHOLE, number..until).await {
                Ok(Some(chunks)) if !chunks.is_empty() => chunks,
                Ok(_) => vec![],
                Err(error) => vec![Err(error)],
            };
            if chunks.is_empty() {
                self.missed(extent, &routing);
                let missing = PieceHeader::Missing.encode();
                stream.sender.send(missing).await.map_err(failed)?;
                break;
            }
            for chunk in chunks {
                match chunk {
                    Ok((crc, payload)) => {
                        let header = PieceHeader::Chunk { number, crc };
                        stream.sender.send(header.encode()).await.map_err(failed)?;
                        stream.sender.send(payload).await.map_err(failed)?;
                        number += 1;
                    }
                    Err(error) => {
                        self.note_unserved(extent, number, &error);
                        let damaged = PieceHeader::Damaged.encode();
                        stream.sender.send(damaged).await.map_err(failed)?;
                        return stream.sender.finish().await.map_err(failed);
                    }
                }
            }
        }
        stream.sender.finish().await.map_err(failed)
    }

    /// A chunk cannot be served; if it is damaged, the extent is fetched anew.
    fn note_unserved(&self, extent: ExtentId, chunk: u32, error: &StoreError) {
        tracing::warn!(%extent, chunk, %error, "a chunk is not served");
        if matches!(error, StoreError::Damaged { .. }) {
            self.doubt(extent);
        }
    }
}

/// The error for a write that too few owners took.
pub(super) fn too_few(plan: &ReplicaPlan, errors: Vec<LaneError>) -> BlobError {
    let mut reasons = Vec::new();
    let answered = plan.owners.len().saturating_sub(errors.len());
    let full = errors.iter().filter(|error| matches!(error, LaneError::Full(_))).count();
    for error in errors {
        match error {
            // Only full disks stand in the way: trying again would not help.
            LaneError::Full(reason) if plan.owners.len().saturating_sub(full) < plan.writes() => {
                return BlobError::Full(reason);
            }
            LaneError::Full(reason) => reasons.push(format!("no room: {reason}")),
            LaneError::Failed(reason) => reasons.push(reason),
        }
    }
    BlobError::Unavailable { answered, needed: plan.writes(), reason: reasons.join("; ") }
}

impl BlobError {
    /// What may be said of the operation that met this error: bytes without a head are nothing.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        Outcome::None
    }
}
