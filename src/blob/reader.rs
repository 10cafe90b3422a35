//! Reading: one verified copy, chunk by chunk, from whichever owner has it.

use std::ops::Range;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;

use crate::codec::encode_message;
use crate::env::{deadline_in, timeout_at};
use crate::types::NodeId;

use super::STALL_MAX;
use super::extent::{CHUNK_BYTES, ExtentRef};
use super::service::{BLOB_SERVICE, BlobError, Blobs, WHOLE};
use super::wire::{BlobRequest, PieceHeader};

/// Chunks read ahead of the client.
const AHEAD_CHUNKS: usize = 4;

/// Chunks read from the local disk in one hop.
const HOP_CHUNKS: u32 = 4;

/// Times that all owners are tried before a read gives up.
const ROUNDS: usize = 2;

type Delivery = mpsc::Sender<Result<Bytes, BlobError>>;

/// An extent and what was hashed to find its owners.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) extent: ExtentRef,
    pub(crate) routing: Bytes,
}

impl Blobs {
    /// The bytes of `range` of a body that consists of `extents`, each placed by its own id.
    ///
    /// The stream reads a few chunks ahead and stops when it is dropped.
    #[must_use]
    pub fn read(
        &self,
        extents: &[ExtentRef],
        n: usize,
        range: Range<u64>,
    ) -> BoxStream<'static, Result<Bytes, BlobError>> {
        let placed = extents.iter().map(|&extent| Placed {
            extent,
            routing: Bytes::copy_from_slice(extent.id.as_bytes()),
        });
        self.read_placed(placed.collect(), n, range)
    }

    /// The bytes of `range` of a body attached to the object that `routing` places.
    #[must_use]
    pub fn read_attached(
        &self,
        extent: ExtentRef,
        routing: Bytes,
        n: usize,
        range: Range<u64>,
    ) -> BoxStream<'static, Result<Bytes, BlobError>> {
        self.read_placed(vec![Placed { extent, routing }], n, range)
    }

    fn read_placed(
        &self,
        extents: Vec<Placed>,
        n: usize,
        range: Range<u64>,
    ) -> BoxStream<'static, Result<Bytes, BlobError>> {
        let (deliver, chunks) = mpsc::channel(AHEAD_CHUNKS);
        let blobs = self.clone();
        let task = async move {
            if let Err(error) = blobs.deliver(extents, n, range, &deliver).await {
                // The client may be gone; then nobody wants the error.
                drop(deliver.send(Err(error)).await);
            }
        };
        let handle = self.coordinator.site().tasks.spawn("extent reader", task.boxed());
        Box::pin(futures_util::stream::unfold((chunks, handle), |(mut chunks, handle)| async {
            let chunk = chunks.recv().await?;
            Some((chunk, (chunks, handle)))
        }))
    }

    async fn deliver(
        &self,
        extents: Vec<Placed>,
        n: usize,
        range: Range<u64>,
        deliver: &Delivery,
    ) -> Result<(), BlobError> {
        let mut start = 0;
        for placed in extents {
            let end = start + placed.extent.length;
            let wanted = range.start.max(start)..range.end.min(end);
            if wanted.start < wanted.end {
                let inside = wanted.start - start..wanted.end - start;
                if !self.deliver_extent(&placed, n, inside, deliver).await? {
                    return Ok(());
                }
            }
            start = end;
        }
        Ok(())
    }

    /// Delivers a part of one extent, changing owners where one fails; false if the client went
    /// away.
    async fn deliver_extent(
        &self,
        placed: &Placed,
        n: usize,
        range: Range<u64>,
        deliver: &Delivery,
    ) -> Result<bool, BlobError> {
        let plan = self.plan(&placed.routing, n)?;
        let mut progress = Progress::new(placed.extent, range);
        let mut reasons = Vec::new();
        let owners = plan.nearest_first(self.me(), &**self.coordinator.peers());
        for owner in std::iter::repeat_n(owners, ROUNDS).flatten() {
            let failed = if owner == self.me() {
                self.deliver_own(&mut progress, deliver).await
            } else {
                self.deliver_peers(owner, &mut progress, deliver).await
            };
            match failed {
                Ok(Delivered::All) => return Ok(true),
                Ok(Delivered::ClientGone) => return Ok(false),
                Err(reason) => {
                    tracing::debug!(extent = %placed.extent.id, %owner, reason, "next owner");
                    reasons.push(format!("{}: {reason}", owner.short()));
                }
            }
        }
        Err(BlobError::Unreadable { extent: placed.extent.id, reason: reasons.join("; ") })
    }

    async fn deliver_own(
        &self,
        progress: &mut Progress,
        deliver: &Delivery,
    ) -> Result<Delivered, String> {
        while let Some(first) = progress.next() {
            // A few chunks for each hop to the disk's threads; no more, or memory grows.
            let until = (progress.last + 1).min(first + HOP_CHUNKS);
            let read = self.segments.read_many(progress.extent.id, WHOLE, first..until).await;
            let chunks = read.map_err(|error| error.to_string())?.ok_or("not here")?;
            if chunks.is_empty() {
                return Err("not here".into());
            }
            for chunk in chunks {
                let (_, payload) = chunk.map_err(|error| error.to_string())?;
                if !progress.pass(payload, deliver).await? {
                    return Ok(Delivered::ClientGone);
                }
            }
        }
        Ok(Delivered::All)
    }

    async fn deliver_peers(
        &self,
        owner: NodeId,
        progress: &mut Progress,
        deliver: &Delivery,
    ) -> Result<Delivered, String> {
        let Some(first) = progress.next() else {
            return Ok(Delivered::All);
        };
        let request = BlobRequest::Get { extent: progress.extent.id, first, last: progress.last };
        let header = encode_message(&request).map_err(|error| error.to_string())?;
        let clock = &*self.coordinator.site().clock;
        let deadline = deadline_in(clock, STALL_MAX);
        let opened =
            self.coordinator.transport().open(owner, BLOB_SERVICE, header.into(), deadline).await;
        let mut stream = opened.map_err(|error| error.to_string())?;
        stream.sender.finish().await.map_err(|error| error.to_string())?;
        while let Some(expected) = progress.next() {
            let mut pieces = Vec::with_capacity(2);
            while pieces.len() < 2 {
                let deadline = deadline_in(clock, STALL_MAX);
                let piece = timeout_at(clock, deadline, stream.receiver.next())
                    .await
                    .ok_or("no bytes in time")?
                    .map_err(|error| error.to_string())?
                    .ok_or("the stream ended early")?;
                if pieces.is_empty() {
                    refuse_bad_header(&piece, expected)?;
                }
                pieces.push(piece);
            }
            let (payload, header) = (pieces.pop(), pieces.pop());
            let (Some(payload), Some(header)) = (payload, header) else {
                return Err("a piece is missing".into());
            };
            match PieceHeader::decode(&header) {
                Some(PieceHeader::Chunk { crc, .. }) if crc.matches(&payload) => {}
                _ => return Err("a chunk does not match its checksum".into()),
            }
            if !progress.pass(payload, deliver).await? {
                return Ok(Delivered::ClientGone);
            }
        }
        Ok(Delivered::All)
    }
}

fn refuse_bad_header(header: &[u8], expected: u32) -> Result<(), String> {
    match PieceHeader::decode(header) {
        Some(PieceHeader::Chunk { number, .. }) if number == expected => Ok(()),
        Some(PieceHeader::Missing) => Err("not there".into()),
        Some(PieceHeader::Damaged) => Err("damaged there".into()),
        _ => Err("an unexpected piece".into()),
    }
}

enum Delivered {
    All,
    ClientGone,
}

/// How much of an extent's range was delivered.
struct Progress {
    extent: ExtentRef,
    range: Range<u64>,
    upcoming: u32,
    last: u32,
}

impl Progress {
    /// `range` is not empty and lies within the extent.
    fn new(extent: ExtentRef, range: Range<u64>) -> Self {
        let chunk_of = |at: u64| u32::try_from(at / CHUNK_BYTES as u64).unwrap_or(u32::MAX);
        let (upcoming, last) = (chunk_of(range.start), chunk_of(range.end.saturating_sub(1)));
        Self { extent, range, upcoming, last }
    }

    fn next(&self) -> Option<u32> {
        (self.upcoming <= self.last).then_some(self.upcoming)
    }

    /// Cuts the next chunk to the range and hands it on; false if the client went away.
    async fn pass(&mut self, payload: Bytes, deliver: &Delivery) -> Result<bool, String> {
        let start = u64::from(self.upcoming) * CHUNK_BYTES as u64;
        let whole = (self.extent.length - start).min(CHUNK_BYTES as u64);
        if payload.len() as u64 != whole {
            return Err(format!("chunk {} has {} bytes", self.upcoming, payload.len()));
        }
        let from = self.range.start.saturating_sub(start);
        let to = (self.range.end - start).min(whole);
        let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) else {
            return Err("a chunk too long for memory".into());
        };
        self.upcoming += 1;
        Ok(deliver.send(Ok(payload.slice(from..to))).await.is_ok())
    }
}
