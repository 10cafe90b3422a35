//! Writing: chunks to all owners of an extent in parallel, with bounded memory.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::codec::{Crc32c, encode_message};
use crate::env::{deadline_in, timeout_at};
use crate::membership::Liveness;
use crate::replication::ReplicaPlan;
use crate::types::{ExtentId, NodeId};

use super::extent::{CHUNK_BYTES, EXTENT_BYTES_MAX, ExtentRef};
use super::service::{BLOB_SERVICE, BlobError, Blobs, LaneError, WHOLE, lane_result, too_few};
use super::wire::{BlobRequest, PieceHeader};

/// How long one owner may hold back the others before its lane is given up.
pub const STALL_MAX: Duration = Duration::from_secs(5);

/// Chunks queued for one owner: with n = 3 an upload holds at most 3 × 4 references to the same
/// few chunks.
const LANE_CHUNKS: usize = 4;

/// Extents that may be sealing behind the one being written.
const SEALING_MAX: usize = 2;

/// Draws of an extent id in search of owners that all seem alive.
const DRAWS_MAX: usize = 16;

enum Piece {
    Chunk { number: u32, crc: Crc32c, payload: Bytes },
    Seal { chunks: u32, record: Bytes },
}

/// One owner of the extent being written.
struct Lane {
    queue: mpsc::Sender<Piece>,
    verdict: oneshot::Receiver<Result<(), LaneError>>,
}

/// An extent on its way to its owners.
struct Flight {
    id: ExtentId,
    plan: ReplicaPlan,
    length: u64,
    chunks: u32,
    lanes: Vec<Lane>,
    errors: Vec<LaneError>,
}

/// Writes a body as extents. Dropping it unfinished abandons what was not sealed.
pub struct BlobWriter {
    blobs: Blobs,
    n: usize,
    pending: BytesMut,
    current: Option<Flight>,
    sealing: Vec<Flight>,
    written: Vec<ExtentRef>,
}

impl BlobWriter {
    pub(super) fn new(blobs: Blobs, n: usize) -> Self {
        Self {
            blobs,
            n,
            pending: BytesMut::new(),
            current: None,
            sealing: Vec::new(),
            written: Vec::new(),
        }
    }

    /// Takes more bytes, waiting while the owners' queues are full.
    ///
    /// # Errors
    /// [`BlobError`] once fewer owners than a quorum are left.
    pub async fn push(&mut self, mut bytes: Bytes) -> Result<(), BlobError> {
        while !bytes.is_empty() {
            if self.pending.is_empty() && bytes.len() >= CHUNK_BYTES {
                let chunk = bytes.split_to(CHUNK_BYTES);
                self.push_chunk(chunk).await?;
                continue;
            }
            if self.pending.capacity() == 0 {
                self.pending.reserve(CHUNK_BYTES);
            }
            let wanted = CHUNK_BYTES - self.pending.len();
            let piece = bytes.split_to(wanted.min(bytes.len()));
            self.pending.extend_from_slice(&piece);
            if self.pending.len() == CHUNK_BYTES {
                let chunk = std::mem::take(&mut self.pending).freeze();
                self.push_chunk(chunk).await?;
            }
        }
        Ok(())
    }

    /// Seals what was pushed; the extents are on stable storage at a quorum of their owners.
    ///
    /// # Errors
    /// [`BlobError`] if one of them did not get there.
    pub async fn finish(mut self) -> Result<Vec<ExtentRef>, BlobError> {
        if !self.pending.is_empty() {
            let chunk = std::mem::take(&mut self.pending).freeze();
            self.push_chunk(chunk).await?;
        }
        self.seal_current().await?;
        for flight in std::mem::take(&mut self.sealing) {
            self.written.push(flight.sealed().await?);
        }
        Ok(std::mem::take(&mut self.written))
    }

    async fn push_chunk(&mut self, chunk: Bytes) -> Result<(), BlobError> {
        let full = |flight: &Flight| flight.length + chunk.len() as u64 > EXTENT_BYTES_MAX;
        if self.current.as_ref().is_some_and(full) {
            self.seal_current().await?;
        }
        if self.current.is_none() {
            self.current = Some(self.open()?);
        }
        if let Some(flight) = &mut self.current {
            flight.send_chunk(&self.blobs, chunk).await?;
        }
        Ok(())
    }

    async fn seal_current(&mut self) -> Result<(), BlobError> {
        let Some(mut flight) = self.current.take() else {
            return Ok(());
        };
        let record = self.blobs.record(flight.length, flight.id.as_bytes(), self.n)?;
        let seal = || Piece::Seal { chunks: flight.chunks, record: record.clone() };
        let pieces: Vec<Piece> = flight.lanes.iter().map(|_| seal()).collect();
        flight.send_all(&self.blobs, pieces).await?;
        self.sealing.push(flight);
        if self.sealing.len() > SEALING_MAX {
            let oldest = self.sealing.remove(0);
            self.written.push(oldest.sealed().await?);
        }
        Ok(())
    }

    /// Draws an id whose owners all seem alive, if there is one, and opens a lane to each.
    fn open(&self) -> Result<Flight, BlobError> {
        let entropy = &self.blobs.coordinator.site().entropy;
        let mut drawn = None;
        for _ in 0..DRAWS_MAX {
            let id = ExtentId::from_bytes(entropy.next_id());
            let plan = self.blobs.plan(id.as_bytes(), self.n)?;
            let down = plan.owners.iter().filter(|&&owner| self.is_down(owner)).count();
            let best = drawn.as_ref().is_none_or(|(_, _, fewest)| down < *fewest);
            if best {
                drawn = Some((id, plan, down));
            }
            if down == 0 {
                break;
            }
        }
        let Some((id, plan, _)) = drawn else {
            return Err(BlobError::Full("no owner was drawn".into()));
        };
        let mut lanes = Vec::new();
        let mut errors = Vec::new();
        let alive = plan.owners.iter().filter(|&&owner| !self.is_down(owner)).count();
        for &owner in &plan.owners {
            if self.is_down(owner) && alive >= plan.writes() {
                errors.push(LaneError::Failed(format!("{} is down", owner.short())));
            } else {
                lanes.push(self.open_lane(owner, id));
            }
        }
        Ok(Flight { id, plan, length: 0, chunks: 0, lanes, errors })
    }

    fn is_down(&self, owner: NodeId) -> bool {
        owner != self.blobs.me() && self.blobs.coordinator.peers().liveness(owner) == Liveness::Down
    }

    fn open_lane(&self, owner: NodeId, extent: ExtentId) -> Lane {
        let (queue, pieces) = mpsc::channel(LANE_CHUNKS);
        let (tell, verdict) = oneshot::channel();
        let blobs = self.blobs.clone();
        let task = async move {
            let result = if owner == blobs.me() {
                local_lane(&blobs, extent, pieces).await
            } else {
                remote_lane(&blobs, owner, extent, pieces).await
            };
            // The writer may be gone; its lanes then end on their own.
            drop(tell.send(result));
        };
        self.blobs.coordinator.site().tasks.spawn("extent lane", task.boxed()).detach();
        Lane { queue, verdict }
    }
}

impl Flight {
    async fn send_chunk(&mut self, blobs: &Blobs, chunk: Bytes) -> Result<(), BlobError> {
        let crc = Crc32c::of(&chunk);
        let number = self.chunks;
        self.chunks += 1;
        self.length += chunk.len() as u64;
        let piece = || Piece::Chunk { number, crc, payload: chunk.clone() };
        let pieces = self.lanes.iter().map(|_| piece()).collect();
        self.send_all(blobs, pieces).await
    }

    /// Queues one piece for each lane; a lane that is broken or stalls is given up while a
    /// quorum is left.
    async fn send_all(&mut self, blobs: &Blobs, pieces: Vec<Piece>) -> Result<(), BlobError> {
        let clock = &*blobs.coordinator.site().clock;
        let mut kept = Vec::with_capacity(self.lanes.len());
        let mut deadline = None;
        for (mut lane, piece) in std::mem::take(&mut self.lanes).into_iter().zip(pieces) {
            let queued = match lane.queue.try_send(piece) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(piece)) => {
                    let until = *deadline.get_or_insert_with(|| deadline_in(clock, STALL_MAX));
                    matches!(timeout_at(clock, until, lane.queue.send(piece)).await, Some(Ok(())))
                }
            };
            if queued {
                kept.push(lane);
            } else {
                self.errors.push(verdict_of_broken(&mut lane));
            }
        }
        self.lanes = kept;
        if self.lanes.len() < self.plan.writes() {
            return Err(too_few(&self.plan, std::mem::take(&mut self.errors)));
        }
        Ok(())
    }

    /// Waits until a quorum of owners has sealed; the others go on behind.
    async fn sealed(self) -> Result<ExtentRef, BlobError> {
        let Self { id, plan, length, lanes, mut errors, .. } = self;
        let mut verdicts: FuturesUnordered<_> =
            lanes.into_iter().map(|lane| lane.verdict).collect();
        let mut sealed = 0;
        while let Some(verdict) = verdicts.next().await {
            match verdict {
                Ok(Ok(())) => sealed += 1,
                Ok(Err(error)) => errors.push(error),
                Err(_) => errors.push(LaneError::Failed("its lane ended".into())),
            }
            if sealed >= plan.writes() {
                return Ok(ExtentRef { id, length });
            }
        }
        Err(too_few(&plan, errors))
    }
}

fn verdict_of_broken(lane: &mut Lane) -> LaneError {
    match lane.verdict.try_recv() {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => LaneError::Failed("an owner stalled or broke off".into()),
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

/// Sends an extent's pieces to another owner on a stream of their own.
async fn remote_lane(
    blobs: &Blobs,
    owner: NodeId,
    extent: ExtentId,
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<(), LaneError> {
    let failed = |error: &dyn std::fmt::Display| LaneError::Failed(error.to_string());
    let header = encode_message(&BlobRequest::Put { extent }).map_err(|error| failed(&error))?;
    let site = blobs.coordinator.site();
    let deadline = deadline_in(&*site.clock, STALL_MAX);
    let transport = blobs.coordinator.transport();
    let mut stream = transport
        .open(owner, BLOB_SERVICE, header.into(), deadline)
        .await
        .map_err(|error| failed(&error))?;
    while let Some(piece) = pieces.recv().await {
        let (header, payload, last) = match piece {
            Piece::Chunk { number, crc, payload } => {
                (PieceHeader::Chunk { number, crc }, payload, false)
            }
            Piece::Seal { chunks, record } => (PieceHeader::Seal { chunks }, record, true),
        };
        // An owner that takes nothing for so long was given up by the writer long ago.
        let sent = async {
            stream.sender.send(header.encode()).await?;
            stream.sender.send(payload).await
        };
        let until = deadline_in(&*site.clock, STALL_MAX * 2);
        match timeout_at(&*site.clock, until, sent).await {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(failed(&error)),
            None => return Err(LaneError::Failed(format!("{} stalled", owner.short()))),
        }
        if last {
            stream.sender.finish().await.map_err(|error| failed(&error))?;
            let deadline = deadline_in(&*site.clock, STALL_MAX * 6);
            let reply = timeout_at(&*site.clock, deadline, stream.receiver.next()).await;
            return match reply {
                Some(Ok(Some(reply))) => lane_result(&reply),
                Some(Ok(None)) => Err(LaneError::Failed("no answer to a seal".into())),
                Some(Err(error)) => Err(failed(&error)),
                None => Err(LaneError::Failed(format!("{} did not seal in time", owner.short()))),
            };
        }
    }
    // Dropping the stream unfinished tells the owner to forget the extent.
    Err(LaneError::Failed("the writer broke off".into()))
}
