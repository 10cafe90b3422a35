//! Reading: one verified copy, chunk by chunk, from whichever owner has it.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;

use crate::codec::{Crc32c, encode_message};
use crate::env::{deadline_in, timeout_at};
use crate::membership::Liveness;
use crate::replication::ReplicaPlan;
use crate::store::{SegmentLog, StoreError};
use crate::types::{ExtentId, NodeId};

use super::extent::{CHUNK_BYTES, ExtentRef, chunk_at};
use super::lane::STALL_MAX;
use super::service::{BLOB_SERVICE, BlobError, Blobs, WHOLE};
use super::wire::{BlobRequest, PieceHeader};

/// Chunks read ahead of the client.
const AHEAD_CHUNKS: usize = 4;

/// Chunks read from the local disk in one hop.
const HOP_CHUNKS: u32 = 4;

/// Times that all owners are tried before a read gives up.
const ROUNDS: usize = 2;

type Delivery = mpsc::Sender<Result<Bytes, BlobError>>;

/// Where checked chunks go.
pub(super) enum Sink<'a> {
    /// To a client, cut to the range that it asked for.
    Client(&'a Delivery),
    /// Into this node's log, whole and with their checksums.
    Log { segments: &'a SegmentLog, extent: ExtentId, failure: Option<StoreError> },
}

impl<'a> Sink<'a> {
    pub(super) const fn log(segments: &'a SegmentLog, extent: ExtentId) -> Self {
        Self::Log { segments, extent, failure: None }
    }

    /// Why nothing more is taken.
    pub(super) fn failure(&self) -> String {
        match self {
            Self::Log { failure: Some(failure), .. } => failure.to_string(),
            Self::Log { .. } | Self::Client(_) => "nobody wants it any more".to_owned(),
        }
    }

    /// Takes a chunk; false if it takes no more.
    async fn take(&mut self, number: u32, crc: Crc32c, payload: Bytes, cut: Range<usize>) -> bool {
        match self {
            Self::Client(deliver) => deliver.send(Ok(payload.slice(cut))).await.is_ok(),
            Self::Log { segments, extent, failure } => {
                let appended = segments.append(*extent, WHOLE, number, crc, payload).await;
                *failure = appended.err();
                failure.is_none()
            }
        }
    }
}

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
                let mut sink = Sink::Client(deliver);
                if !self.deliver_extent(&placed, n, inside, &mut sink).await? {
                    return Ok(());
                }
            }
            start = end;
        }
        Ok(())
    }

    /// Delivers a part of one extent, changing nodes where one fails; false if the sink takes no
    /// more.
    pub(super) async fn deliver_extent(
        &self,
        placed: &Placed,
        n: usize,
        range: Range<u64>,
        sink: &mut Sink<'_>,
    ) -> Result<bool, BlobError> {
        let plan = self.plan(&placed.routing, n)?;
        let mut progress = Progress::new(placed.extent, range);
        let mut reasons = Vec::new();
        let mut lack = BTreeSet::new();
        for node in self.sources(&plan, n) {
            let passed = if node == self.me() {
                self.deliver_own(placed, &mut progress, sink).await
            } else {
                self.deliver_peers(node, placed, &mut progress, sink).await
            };
            match passed {
                Ok(Delivered::All) => return Ok(true),
                Ok(Delivered::SinkClosed) => return Ok(false),
                Err(Unread { reason, absent }) => {
                    tracing::debug!(extent = %placed.extent.id, %node, reason, "next node");
                    reasons.push(format!("{}: {reason}", node.short()));
                    if absent {
                        lack.insert(node);
                    }
                }
            }
        }
        let (extent, reason) = (placed.extent.id, reasons.join("; "));
        let list = plan.layout.preference_list(plan.partition);
        if list.all().iter().all(|node| lack.contains(node)) {
            return Err(BlobError::Nowhere { extent, reason });
        }
        Err(BlobError::Unreadable { extent, reason })
    }

    /// Who may have a copy, in the order in which they are asked: the owners, nearest first;
    /// those who may have stood in for one; then all of them once more.
    fn sources(&self, plan: &ReplicaPlan, n: usize) -> Vec<NodeId> {
        let peers = self.coordinator.peers();
        let owners = plan.nearest_first(self.me(), &**peers);
        let mut list = plan.layout.preference_list(plan.partition).fallbacks(n).to_vec();
        list.retain(|node| *node == self.me() || peers.liveness(*node) == Liveness::Up);
        let once = [owners, list].concat();
        std::iter::repeat_n(once, ROUNDS).flatten().collect()
    }

    async fn deliver_own(
        &self,
        placed: &Placed,
        progress: &mut Progress,
        sink: &mut Sink<'_>,
    ) -> Result<Delivered, Unread> {
        while let Some(first) = progress.next() {
            // A few chunks for each hop to the disk's threads; no more, or memory grows.
            let until = (progress.last + 1).min(first + HOP_CHUNKS);
            let read = self.segments.read_many(progress.extent.id, WHOLE, first..until).await;
            let chunks = read.map_err(|error| self.unread_own(placed, &error))?;
            let Some(chunks) = chunks.filter(|chunks| !chunks.is_empty()) else {
                self.missed(placed.extent.id, &placed.routing);
                return Err(Unread { reason: "not here".into(), absent: true });
            };
            for chunk in chunks {
                let (crc, payload) = chunk.map_err(|error| self.unread_own(placed, &error))?;
                if !progress.pass((crc, payload), sink).await? {
                    return Ok(Delivered::SinkClosed);
                }
            }
        }
        Ok(Delivered::All)
    }

    /// A chunk of this node could not be read: if it is damaged, it is fetched anew.
    fn unread_own(&self, placed: &Placed, error: &StoreError) -> String {
        if matches!(error, StoreError::Damaged { .. }) {
            self.doubt(placed.extent.id);
        }
        error.to_string()
    }

    async fn deliver_peers(
        &self,
        owner: NodeId,
        placed: &Placed,
        progress: &mut Progress,
        sink: &mut Sink<'_>,
    ) -> Result<Delivered, Unread> {
        let Some(first) = progress.next() else {
            return Ok(Delivered::All);
        };
        let (extent, last, routing) = (placed.extent.id, progress.last, placed.routing.clone());
        let request = BlobRequest::Get { extent, first, last, routing };
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
            let crc = match PieceHeader::decode(&header) {
                Some(PieceHeader::Chunk { crc, .. }) if crc.matches(&payload) => crc,
                _ => return Err("a chunk does not match its checksum".into()),
            };
            if !progress.pass((crc, payload), sink).await? {
                return Ok(Delivered::SinkClosed);
            }
        }
        Ok(Delivered::All)
    }
}

fn refuse_bad_header(header: &[u8], expected: u32) -> Result<(), Unread> {
    match PieceHeader::decode(header) {
        Some(PieceHeader::Chunk { number, .. }) if number == expected => Ok(()),
        Some(PieceHeader::Missing) => Err(Unread { reason: "not there".into(), absent: true }),
        Some(PieceHeader::Damaged) => Err("damaged there".into()),
        _ => Err("an unexpected piece".into()),
    }
}

/// Why a node did not deliver.
struct Unread {
    reason: String,
    /// Whether it certainly has no copy.
    absent: bool,
}

impl From<String> for Unread {
    fn from(reason: String) -> Self {
        Self { reason, absent: false }
    }
}

impl From<&str> for Unread {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

enum Delivered {
    All,
    SinkClosed,
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
        let (upcoming, last) = (chunk_at(range.start), chunk_at(range.end.saturating_sub(1)));
        Self { extent, range, upcoming, last }
    }

    fn next(&self) -> Option<u32> {
        (self.upcoming <= self.last).then_some(self.upcoming)
    }

    /// Cuts the next chunk to the range and hands it on; false if nobody takes it.
    async fn pass(
        &mut self,
        (crc, payload): (Crc32c, Bytes),
        sink: &mut Sink<'_>,
    ) -> Result<bool, String> {
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
        let number = self.upcoming;
        self.upcoming += 1;
        Ok(sink.take(number, crc, payload, from..to).await)
    }
}
