//! Small bodies: one message and one sync at each of their object's owners.
//!
//! # What can go wrong, and what answers it
//! - *An owner is away, refuses, or is silent.* At sloppy levels the next living node of the
//!   preference list keeps the body for it; at strict levels it is done without while enough are
//!   left.
//! - *The quorum is reached before the last owner answers.* The rest goes on behind the client's
//!   back, stand-ins included; beyond a bound it is dropped. What an owner then lacks it is told of
//!   by a round of repair, soon.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::codec::{Crc32c, encode_message};
use crate::env::{Monotonic, deadline_in};
use crate::membership::Liveness;
use crate::net::Message;
use crate::replication::{Decision, ReplicaPlan, WriteAnswer, WriteTally};
use crate::types::{ExtentId, NodeId};

use super::extent::{CHUNK_BYTES, ExtentRef, NewBytes};
use super::lane::{LaneError, STALL_MAX, lane_result};
use super::service::{BLOB_SERVICE, BlobError, Blobs, WHOLE, too_few};
use super::wire::BlobRequest;

/// How long an owner may be silent before somebody stands in for it.
const SILENT_MAX: Duration = Duration::from_millis(500);

type Answer = (NodeId, Result<(), LaneError>);

/// One body on its way to its owners.
struct Spread {
    blobs: Blobs,
    id: ExtentId,
    plan: ReplicaPlan,
    bytes: NewBytes,
    body: Bytes,
    checksums: Vec<Crc32c>,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    tally: WriteTally,
    spare: VecDeque<NodeId>,
    impatient_at: Option<Monotonic>,
    errors: Vec<LaneError>,
}

impl Blobs {
    /// Writes a small body to the owners of its object.
    ///
    /// # Errors
    /// [`BlobError`] if fewer of them took it than the level asks for.
    pub async fn put_attached(&self, bytes: NewBytes, body: Bytes) -> Result<ExtentRef, BlobError> {
        let plan = self.plan_at(&bytes.object.routing, bytes.n, bytes.level)?;
        let id = ExtentId::from_bytes(self.coordinator.site().entropy.next_id());
        let length = body.len() as u64;
        let spare: VecDeque<NodeId> = self.living(&plan.fallbacks).into();
        let clock = &*self.coordinator.site().clock;
        let mut spread = Spread {
            blobs: self.clone(),
            id,
            checksums: body.chunks(CHUNK_BYTES).map(Crc32c::of).collect(),
            answers: FuturesUnordered::new(),
            tally: WriteTally::new(&plan.owners, plan.writes()),
            impatient_at: (!spare.is_empty()).then(|| deadline_in(clock, SILENT_MAX)),
            spare,
            errors: Vec::new(),
            plan,
            bytes,
            body,
        };
        spread.begin()?;
        loop {
            match spread.tally.decision() {
                Decision::Reached => break,
                Decision::Impossible if spread.spare.is_empty() => return Err(spread.refused()),
                Decision::Pending | Decision::Impossible => {
                    if !spread.step().await? {
                        return Err(spread.refused());
                    }
                }
            }
        }
        spread.go_on_behind();
        Ok(ExtentRef { id, length })
    }

    pub(super) async fn keep_whole(
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
        node: NodeId,
        request: BlobRequest,
        body: Bytes,
    ) -> Result<(), LaneError> {
        let failed = |reason: String| LaneError::Failed(reason);
        let header = encode_message(&request).map_err(|error| failed(error.to_string()))?;
        let site = self.coordinator.site();
        let deadline = deadline_in(&*site.clock, STALL_MAX * 2);
        let message = Message { body: header.into(), attachment: body };
        let answer = self
            .coordinator
            .transport()
            .call(node, BLOB_SERVICE, message, deadline)
            .await
            .map_err(|error| failed(error.to_string()))?;
        lane_result(&answer.body)
    }
}

impl Spread {
    fn begin(&mut self) -> Result<(), BlobError> {
        for owner in self.plan.owners.clone() {
            let up = owner == self.blobs.me()
                || self.blobs.coordinator.peers().liveness(owner) == Liveness::Up;
            if up || !self.replace(owner)? {
                self.ask(owner, None)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, node: NodeId, hinted_for: Option<NodeId>) -> Result<(), BlobError> {
        let length = self.body.len() as u64;
        let routing = &self.bytes.object.routing;
        let record = self.blobs.record(length, routing, &self.bytes, hinted_for)?;
        let (blobs, extent, body) = (self.blobs.clone(), self.id, self.body.clone());
        let checksums = self.checksums.clone();
        let asked = async move {
            let result = if node == blobs.me() {
                blobs.keep_whole(extent, &checksums, &body, record).await
            } else {
                let request = BlobRequest::PutWhole { extent, checksums, record };
                blobs.send_whole(node, request, body).await
            };
            (node, result)
        };
        self.answers.push(asked.boxed());
        Ok(())
    }

    /// Lets the next spare node stand in for `owner`; false if there is none.
    fn replace(&mut self, owner: NodeId) -> Result<bool, BlobError> {
        if self.tally.has_stand_in(owner) {
            return Ok(true);
        }
        let Some(node) = self.spare.pop_front() else { return Ok(false) };
        self.tally.stand_in(owner, node);
        self.ask(node, Some(owner))?;
        Ok(true)
    }

    /// Takes one answer, or loses patience with those who are silent; false when all is heard.
    async fn step(&mut self) -> Result<bool, BlobError> {
        let answer = match self.impatient_at {
            None => self.answers.next().await,
            Some(moment) => {
                let clock = Arc::clone(&self.blobs.coordinator.site().clock);
                match select(self.answers.next(), clock.sleep_until(moment)).await {
                    Either::Left((answer, _)) => answer,
                    Either::Right(((), _)) => {
                        self.impatient_at = None;
                        for owner in self.tally.unfilled() {
                            self.replace(owner)?;
                        }
                        return Ok(true);
                    }
                }
            }
        };
        let Some((node, result)) = answer else { return Ok(false) };
        match result {
            Ok(()) => {
                self.tally.record(node, WriteAnswer::Durable);
            }
            Err(error) => {
                self.errors.push(error);
                // Bytes that no head names are nothing, wherever they are.
                self.tally.record(node, WriteAnswer::NotDone);
                for owner in self.tally.lost_by(node) {
                    self.replace(owner)?;
                }
            }
        }
        Ok(true)
    }

    /// Lets late owners take the body behind the client's back. Each holds its whole body, so
    /// beyond a bound a slow owner is not waited for.
    fn go_on_behind(mut self) {
        if self.answers.is_empty() {
            self.note_missed();
            return;
        }
        let Ok(place) = Arc::clone(&self.blobs.late).try_acquire_owned() else {
            self.note_missed();
            return;
        };
        let tasks = Arc::clone(&self.blobs.coordinator.site().tasks);
        let rest = async move {
            while matches!(self.step().await, Ok(true)) {}
            self.note_missed();
            drop(place);
        };
        tasks.spawn("late attached", rest.boxed()).detach();
    }

    fn note_missed(&self) {
        self.blobs.coordinator.note_missed(self.plan.partition, &self.tally.unfilled());
    }

    fn refused(self) -> BlobError {
        // Whoever took it says that it should exist, until it is found to be an orphan.
        self.note_missed();
        too_few(&self.plan, self.errors)
    }
}
