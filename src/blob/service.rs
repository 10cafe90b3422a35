//! This node's extents, and the way to those of its peers.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Semaphore;

use crate::codec::{Crc32c, decode_message, encode_format, encode_message};
use crate::env::deadline_in;
use crate::net::{BulkStream, HandlerError, Message, ServiceId};
use crate::replication::{
    Coordinator, Decision, Level, Outcome, ReplicaPlan, ReplicationError, WriteAnswer, WriteTally,
};
use crate::store::{SegmentLog, StoreError};
use crate::types::{ExtentId, NodeId};

use super::extent::{CHUNK_BYTES, ExtentRecord, ExtentRef};
use super::wire::{BlobReply, BlobRequest, PieceHeader};
use super::writer::BlobWriter;

/// Requests about extents.
pub const BLOB_SERVICE: ServiceId = ServiceId(4);

/// Chunks read from the disk in one hop.
const HOP_CHUNKS: u32 = 4;

/// Acknowledged attached bodies, of up to 1 MiB, whose last owner is still waited for.
const LATE_BODIES_MAX: usize = 48;

/// The fragment number of replicated extents, whose copies are whole.
pub(crate) const WHOLE: u8 = 0;

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
    /// There is no layout, or a message was malformed.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
}

/// What one owner made of an extent.
#[derive(Debug, Clone)]
pub(super) enum LaneError {
    Full(String),
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

/// Extents of this node and its peers. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    pub(super) coordinator: Coordinator,
    pub(super) segments: SegmentLog,
    late: Arc<Semaphore>,
}

impl Blobs {
    /// Extents over `segments`, placed by `coordinator`'s layout.
    #[must_use]
    pub fn new(coordinator: Coordinator, segments: SegmentLog) -> Self {
        Self { coordinator, segments, late: Arc::new(Semaphore::new(LATE_BODIES_MAX)) }
    }

    /// This node's segment log.
    #[must_use]
    pub fn segments(&self) -> &SegmentLog {
        &self.segments
    }

    /// Begins writing bytes of unknown length, kept `n` times.
    #[must_use]
    pub fn writer(&self, n: usize) -> BlobWriter {
        BlobWriter::new(self.clone(), n)
    }

    pub(super) fn me(&self) -> NodeId {
        self.coordinator.site().node
    }

    pub(super) fn plan(&self, routing: &[u8], n: usize) -> Result<ReplicaPlan, BlobError> {
        let layout = self.coordinator.layout()?;
        let partition = layout.partition_of(routing);
        Ok(ReplicaPlan::for_partition(layout, partition, n, Level::Strict)?)
    }

    /// Writes a small body to the owners of `routing`, its object's: one message and one sync
    /// each.
    ///
    /// # Errors
    /// [`BlobError`] if fewer than a quorum of them took it.
    pub async fn put_attached(
        &self,
        routing: &Bytes,
        n: usize,
        body: Bytes,
    ) -> Result<ExtentRef, BlobError> {
        let plan = self.plan(routing, n)?;
        let id = ExtentId::from_bytes(self.coordinator.site().entropy.next_id());
        let length = body.len() as u64;
        let record = self.record(length, routing, n)?;
        let checksums: Vec<Crc32c> = body.chunks(CHUNK_BYTES).map(Crc32c::of).collect();
        let mut answers = FuturesUnordered::new();
        for &owner in &plan.owners {
            let (blobs, checksums) = (self.clone(), checksums.clone());
            let (body, record) = (body.clone(), record.clone());
            answers.push(
                async move {
                    let result = if owner == blobs.me() {
                        blobs.keep_whole(id, &checksums, &body, record).await
                    } else {
                        blobs.send_whole(owner, id, checksums, body, record).await
                    };
                    (owner, result)
                }
                .boxed(),
            );
        }
        let mut tally = WriteTally::new(&plan.owners, plan.writes());
        let mut errors = Vec::new();
        while let Some((owner, result)) = answers.next().await {
            let answer = match result {
                Ok(()) => WriteAnswer::Durable,
                Err(error) => {
                    errors.push(error);
                    WriteAnswer::NotDone
                }
            };
            match tally.record(owner, answer) {
                Decision::Pending => {}
                Decision::Reached => {
                    self.wait_behind(answers.for_each(|_| async {}).boxed());
                    return Ok(ExtentRef { id, length });
                }
                Decision::Impossible => break,
            }
        }
        Err(too_few(&plan, errors))
    }

    /// Lets late owners take a body behind the client's back. Each holds its whole body, so
    /// beyond a bound a slow owner is not waited for.
    fn wait_behind(&self, rest: BoxFuture<'static, ()>) {
        if let Ok(place) = Arc::clone(&self.late).try_acquire_owned() {
            let rest = rest.map(move |()| drop(place));
            self.coordinator.site().tasks.spawn("late attached", rest.boxed()).detach();
        }
    }

    pub(super) fn record(&self, length: u64, routing: &[u8], n: usize) -> Result<Bytes, BlobError> {
        let record = ExtentRecord {
            length,
            routing: routing.to_vec(),
            n: u8::try_from(n).unwrap_or(u8::MAX),
            begun: self.coordinator.site().now(),
        };
        encode_format(&record)
            .map(Bytes::from)
            .map_err(|error| ReplicationError::Damaged(error.to_string()).into())
    }

    async fn keep_whole(
        &self,
        extent: ExtentId,
        checksums: &[Crc32c],
        body: &Bytes,
        record: Bytes,
    ) -> Result<(), LaneError> {
        let chunks: Vec<(Crc32c, Bytes)> = checksums
            .iter()
            .enumerate()
            .map(|(index, crc)| {
                let start = index * CHUNK_BYTES;
                (*crc, body.slice(start..body.len().min(start + CHUNK_BYTES)))
            })
            .collect();
        Ok(self.segments.put_whole(extent, WHOLE, chunks, record).await?)
    }

    async fn send_whole(
        &self,
        owner: NodeId,
        extent: ExtentId,
        checksums: Vec<Crc32c>,
        body: Bytes,
        record: Bytes,
    ) -> Result<(), LaneError> {
        let failed = |reason: String| LaneError::Failed(reason);
        let request = BlobRequest::PutWhole { extent, checksums, record };
        let header = encode_message(&request).map_err(|error| failed(error.to_string()))?;
        let site = self.coordinator.site();
        let deadline = deadline_in(&*site.clock, super::STALL_MAX * 2);
        let message = Message { body: header.into(), attachment: body };
        let answer = self
            .coordinator
            .transport()
            .call(owner, BLOB_SERVICE, message, deadline)
            .await
            .map_err(|error| failed(error.to_string()))?;
        lane_result(&answer.body)
    }

    /// Answers a peer that sends a whole small extent.
    ///
    /// # Errors
    /// [`HandlerError`] for messages that cannot be read.
    pub async fn serve_call(&self, request: Message) -> Result<Message, HandlerError> {
        let refused = |reason: String| HandlerError::Refused(reason);
        let decoded = decode_message(&request.body).map_err(|error| refused(error.to_string()))?;
        let BlobRequest::PutWhole { extent, checksums, record } = decoded else {
            return Err(refused("this request needs a stream of its own".into()));
        };
        let body = request.attachment;
        if checksums.len() != body.len().div_ceil(CHUNK_BYTES) {
            return Err(refused(format!("{} checksums for {} bytes", checksums.len(), body.len())));
        }
        let reply = reply_of(self.keep_whole(extent, &checksums, &body, record).await);
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
            BlobRequest::Get { extent, first, last } => {
                self.serve_get(extent, first, last, stream).await
            }
            BlobRequest::PutWhole { .. } => {
                Err(HandlerError::Refused("a whole extent is sent by a call".into()))
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
        let reply = match taken {
            Ok(()) => BlobReply::Sealed,
            Err(LaneError::Full(reason)) => BlobReply::Full { reason },
            Err(LaneError::Failed(reason)) => BlobReply::Failed { reason },
        };
        let body = encode_message(&reply).map_err(|error| failed(error.to_string()))?;
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
        extent: ExtentId,
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
                        tracing::warn!(%extent, chunk = number, %error, "a chunk is not served");
                        let damaged = PieceHeader::Damaged.encode();
                        stream.sender.send(damaged).await.map_err(failed)?;
                        return stream.sender.finish().await.map_err(failed);
                    }
                }
            }
        }
        stream.sender.finish().await.map_err(failed)
    }
}

/// What a reply says of a lane.
pub(super) fn lane_result(reply: &[u8]) -> Result<(), LaneError> {
    match decode_message(reply) {
        Ok(BlobReply::Sealed) => Ok(()),
        Ok(BlobReply::Full { reason }) => Err(LaneError::Full(reason)),
        Ok(BlobReply::Failed { reason }) => Err(LaneError::Failed(reason)),
        Err(error) => Err(LaneError::Failed(error.to_string())),
    }
}

fn reply_of(result: Result<(), LaneError>) -> BlobReply {
    match result {
        Ok(()) => BlobReply::Sealed,
        Err(LaneError::Full(reason)) => BlobReply::Full { reason },
        Err(LaneError::Failed(reason)) => BlobReply::Failed { reason },
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
            LaneError::Full(reason) if plan.owners.len() - full < plan.writes() => {
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
