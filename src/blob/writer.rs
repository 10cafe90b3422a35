//! Writing: chunks to all owners of an extent in parallel, with bounded memory.
//!
//! # What can go wrong, and what answers it
//! - *An owner is known to be away.* Other ids are drawn until all owners look alive; if none is
//!   found, at sloppy levels the next living node of the preference list takes the owner's lane
//!   and owes it a delivery, at strict levels the lane is left out while a quorum remains.
//! - *A lane breaks off at once.* At sloppy levels somebody else takes it over, as long as the
//!   first chunks are still at hand.
//! - *A lane breaks off later.* The others go on while enough are left; the owner is told of the
//!   extent by a round of repair, soon, and fetches it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;

use crate::codec::Crc32c;
use crate::env::{deadline_in, timeout_at};
use crate::membership::Liveness;
use crate::replication::ReplicaPlan;
use crate::types::{ExtentId, NodeId};

use super::extent::{CHUNK_BYTES, EXTENT_BYTES_MAX, ExtentRef, NewBytes};
use super::lane::{LANE_CHUNKS, Lane, LaneError, Piece, STALL_MAX};
use super::service::{BlobError, Blobs, too_few};

/// Extents that may be sealing behind the one being written.
const SEALING_MAX: usize = 2;

/// Draws of an extent id in search of owners that all seem alive.
const DRAWS_MAX: usize = 16;

/// An extent on its way to its owners.
struct Flight {
    blobs: Blobs,
    id: ExtentId,
    plan: ReplicaPlan,
    length: u64,
    chunks: u32,
    lanes: Vec<Lane>,
    errors: Vec<LaneError>,
    /// Everything so far, for those who take over a lane; `None` once it is too much.
    early: Option<Vec<Piece>>,
    /// Living nodes that may take over lanes, best first.
    spare: VecDeque<NodeId>,
}

/// Writes a body as extents. Dropping it unfinished abandons what was not sealed.
pub struct BlobWriter {
    blobs: Blobs,
    bytes: NewBytes,
    pending: BytesMut,
    current: Option<Flight>,
    sealing: Vec<Flight>,
    written: Vec<ExtentRef>,
}

impl BlobWriter {
    pub(super) fn new(blobs: Blobs, bytes: NewBytes) -> Self {
        Self {
            blobs,
            bytes,
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

    /// Seals what was pushed; the extents are on stable storage at as many nodes as asked for.
    ///
    /// # Errors
    /// [`BlobError`] if one of them did not get there.
    pub async fn finish(mut self) -> Result<Vec<ExtentRef>, BlobError> {
        if !self.pending.is_empty() {
            let chunk = std::mem::take(&mut self.pending).freeze();
            self.push_chunk(chunk).await?;
        }
        self.seal_current().await?;
        while !self.sealing.is_empty() {
            let oldest = self.sealing.remove(0);
            self.written.push(oldest.sealed().await?);
        }
        Ok(std::mem::take(&mut self.written))
    }

    async fn push_chunk(&mut self, chunk: Bytes) -> Result<(), BlobError> {
        let full = |flight: &Flight| flight.length + chunk.len() as u64 > EXTENT_BYTES_MAX;
        if self.current.as_ref().is_some_and(full) {
            self.seal_current().await?;
        }
        if self.current.is_none() {
            self.current = Some(Flight::open(&self.blobs, &self.bytes)?);
        }
        if let Some(flight) = &mut self.current {
            flight.send_chunk(chunk).await?;
        }
        Ok(())
    }

    async fn seal_current(&mut self) -> Result<(), BlobError> {
        let Some(mut flight) = self.current.take() else {
            return Ok(());
        };
        flight.send_seal(&self.bytes).await?;
        self.sealing.push(flight);
        if self.sealing.len() > SEALING_MAX {
            let oldest = self.sealing.remove(0);
            self.written.push(oldest.sealed().await?);
        }
        Ok(())
    }
}

impl Drop for BlobWriter {
    /// What is being sealed when a body is given up may be sealed on some owners only.
    fn drop(&mut self) {
        for flight in &self.sealing {
            self.blobs.coordinator.note_missed(flight.plan.partition, &flight.plan.owners);
        }
    }
}

impl Flight {
    /// Draws an id whose owners all seem alive, if there is one, and opens a lane to each.
    fn open(blobs: &Blobs, bytes: &NewBytes) -> Result<Self, BlobError> {
        let entropy = &blobs.coordinator.site().entropy;
        let mut drawn = None;
        for _ in 0..DRAWS_MAX {
            let id = ExtentId::from_bytes(entropy.next_id());
            let plan = blobs.plan_at(id.as_bytes(), bytes.n, bytes.level)?;
            let down = plan.owners.iter().filter(|&&owner| is_down(blobs, owner)).count();
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
        let spare = blobs.living(&plan.fallbacks).into();
        let early = plan.level.is_sloppy().then(Vec::new);
        let mut flight = Self {
            blobs: blobs.clone(),
            id,
            plan,
            length: 0,
            chunks: 0,
            lanes: Vec::new(),
            errors: Vec::new(),
            early,
            spare,
        };
        flight.open_lanes();
        Ok(flight)
    }

    fn open_lanes(&mut self) {
        let owners = self.plan.owners.clone();
        let alive = owners.iter().filter(|&&owner| !is_down(&self.blobs, owner)).count();
        for owner in owners {
            if !is_down(&self.blobs, owner) {
                self.lanes.push(Lane::open(&self.blobs, self.id, owner, None));
            } else if let Some(lane) = self.substitute(owner) {
                self.lanes.push(lane);
            } else if alive >= self.plan.writes() {
                let reason = format!("{} is down", owner.short());
                self.errors.push(LaneError::Failed(reason));
            } else {
                self.lanes.push(Lane::open(&self.blobs, self.id, owner, None));
            }
        }
    }

    /// A lane to somebody who takes over what was meant for `owner`, with all that was sent so
    /// far on it.
    fn substitute(&mut self, owner: NodeId) -> Option<Lane> {
        let early = self.early.as_ref()?;
        let node = self.spare.pop_front()?;
        let lane = Lane::open(&self.blobs, self.id, node, Some(owner));
        for piece in early {
            // There is room: no more is kept than a lane holds.
            lane.queue.try_send(piece.clone()).ok()?;
        }
        Some(lane)
    }

    async fn send_chunk(&mut self, chunk: Bytes) -> Result<(), BlobError> {
        let crc = Crc32c::of(&chunk);
        let number = self.chunks;
        self.chunks += 1;
        self.length += chunk.len() as u64;
        let piece = Piece::Chunk { number, crc, payload: chunk };
        self.send_all(&|_| piece.clone()).await?;
        match &mut self.early {
            // One place is left for the seal.
            Some(early) if early.len() + 1 < LANE_CHUNKS => early.push(piece),
            early => *early = None,
        }
        Ok(())
    }

    async fn send_seal(&mut self, bytes: &NewBytes) -> Result<(), BlobError> {
        let (length, chunks) = (self.length, self.chunks);
        let record = self.blobs.record(length, self.id.as_bytes(), bytes, None)?;
        let mut records = Vec::new();
        for owner in &self.plan.owners {
            let hinted = self.blobs.record(length, self.id.as_bytes(), bytes, Some(*owner))?;
            records.push((*owner, hinted));
        }
        let seal = move |hinted_for: Option<NodeId>| {
            let hinted = records.iter().find(|(owner, _)| Some(*owner) == hinted_for);
            let record = hinted.map_or(&record, |(_, hinted)| hinted).clone();
            Piece::Seal { chunks, record }
        };
        self.send_all(&seal).await
    }

    /// Queues one piece for each lane; a lane that is broken or stalls is taken over by somebody
    /// else if it can be, or given up while enough are left.
    async fn send_all(
        &mut self,
        piece: &(dyn Fn(Option<NodeId>) -> Piece + Sync),
    ) -> Result<(), BlobError> {
        let clock = std::sync::Arc::clone(&self.blobs.coordinator.site().clock);
        let mut kept = Vec::with_capacity(self.lanes.len());
        let mut waiting: VecDeque<Lane> = std::mem::take(&mut self.lanes).into();
        let mut deadline = None;
        while let Some(mut lane) = waiting.pop_front() {
            let queued = match lane.queue.try_send(piece(lane.hinted_for)) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(piece)) => {
                    let until = *deadline.get_or_insert_with(|| deadline_in(&*clock, STALL_MAX));
                    matches!(timeout_at(&*clock, until, lane.queue.send(piece)).await, Some(Ok(())))
                }
            };
            if queued {
                kept.push(lane);
                continue;
            }
            self.errors.push(lane.breach());
            waiting.extend(self.substitute(lane.owner()));
        }
        self.lanes = kept;
        if self.lanes.len() < self.plan.writes() {
            return Err(too_few(&self.plan, std::mem::take(&mut self.errors)));
        }
        Ok(())
    }

    /// Waits until enough nodes have sealed; the others go on behind.
    async fn sealed(mut self) -> Result<ExtentRef, BlobError> {
        let mut verdicts: FuturesUnordered<BoxFuture<'static, Verdict>> =
            std::mem::take(&mut self.lanes).into_iter().map(verdict_of).collect();
        let mut missed = self.plan.owners.clone();
        let mut sealed = 0;
        while let Some((owner, verdict)) = verdicts.next().await {
            match verdict {
                Ok(()) => {
                    sealed += 1;
                    missed.retain(|missed| *missed != owner);
                }
                Err(error) => self.errors.push(error),
            }
            if sealed >= self.plan.writes() {
                let extent = ExtentRef { id: self.id, length: self.length };
                self.go_on_behind(verdicts, missed);
                return Ok(extent);
            }
        }
        // Whoever sealed it says that it should exist, until it is found to be an orphan.
        self.blobs.coordinator.note_missed(self.plan.partition, &missed);
        Err(too_few(&self.plan, self.errors))
    }

    /// Hears what becomes of the last lanes, and notes whose extent is missing then. Their chunks
    /// are held by the lanes, which are bounded and end by themselves.
    fn go_on_behind(
        self,
        mut verdicts: FuturesUnordered<BoxFuture<'static, Verdict>>,
        mut missed: Vec<NodeId>,
    ) {
        let (blobs, partition) = (self.blobs, self.plan.partition);
        if verdicts.is_empty() {
            blobs.coordinator.note_missed(partition, &missed);
            return;
        }
        let tasks = std::sync::Arc::clone(&blobs.coordinator.site().tasks);
        let rest = async move {
            while let Some((owner, verdict)) = verdicts.next().await {
                if verdict.is_ok() {
                    missed.retain(|missed| *missed != owner);
                }
            }
            blobs.coordinator.note_missed(partition, &missed);
        };
        tasks.spawn("late extent lanes", rest.boxed()).detach();
    }
}

/// What came of the lane that fills an owner's place.
type Verdict = (NodeId, Result<(), LaneError>);

/// What comes of a lane on which everything was sent.
fn verdict_of(lane: Lane) -> BoxFuture<'static, Verdict> {
    async move {
        let owner = lane.owner();
        let ended = || Err(LaneError::Failed("its lane ended".into()));
        (owner, lane.verdict.await.unwrap_or_else(|_| ended()))
    }
    .boxed()
}

fn is_down(blobs: &Blobs, owner: NodeId) -> bool {
    owner != blobs.me() && blobs.coordinator.peers().liveness(owner) == Liveness::Down
}
