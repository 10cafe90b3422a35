//! Reads chunks back, each checked before it is shown.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::files::SegmentFiles;
use super::index::{IndexRow, Located, Runs, chunks_key, extent_key};
use super::record::{HEADER_BYTES, HEADER_LENGTH, Kind, PAYLOAD_BYTES_MAX, RecordHeader};
use super::{FragmentKey, SealedExtent, widened};
use crate::codec::Crc32c;
use crate::store::error::StoreError;
use crate::store::figures::{BYTES_READ, DAMAGED_READS};
use crate::store::meta::{Batch, Family, MetaStore};
use crate::types::DiskId;

/// Bytes of records that one call for many chunks reads, unless one chunk alone has more.
const READ_BYTES_MAX: u64 = 4 << 20;

/// A chunk that matched the checksum stored with it.
pub type CheckedChunk = (Crc32c, Bytes);

pub(super) struct Reader {
    disk: DiskId,
    meta: Arc<dyn MetaStore>,
    files: Arc<SegmentFiles>,
}

impl Reader {
    pub(super) fn new(disk: DiskId, meta: Arc<dyn MetaStore>, files: Arc<SegmentFiles>) -> Self {
        Self { disk, meta, files }
    }

    pub(super) fn meta(&self) -> &dyn MetaStore {
        &*self.meta
    }

    pub(super) fn forget(&self, key: FragmentKey, batch: &mut Batch) {
        batch.delete(Family::Chunks, chunks_key(key, self.disk));
    }

    pub(super) fn find(&self, key: FragmentKey) -> Result<Option<SealedExtent>, StoreError> {
        let Some(runs) = self.runs(key)? else { return Ok(None) };
        let Some(record) = self.meta.get(Family::Extents, &extent_key(key))? else {
            return Ok(None);
        };
        Ok(Some(SealedExtent { length: runs.length(), chunks: runs.chunks(), record }))
    }

    /// Where the chunks of a sealed extent lie.
    pub(super) fn runs(&self, key: FragmentKey) -> Result<Option<Runs>, StoreError> {
        let Some(row) = self.meta.get(Family::Chunks, &chunks_key(key, self.disk))? else {
            return Ok(None);
        };
        match IndexRow::decode(&row) {
            Some((IndexRow::Sealed(runs), [])) => Ok(Some(runs)),
            Some((IndexRow::Suspect, [])) => {
                Err(self.damaged(key, "its seal was in a damaged span"))
            }
            _ => Err(self.damaged(key, "its row in the chunk index cannot be decoded")),
        }
    }

    /// Reads one chunk. Blocks.
    pub(super) fn read(
        &self,
        key: FragmentKey,
        chunk: u32,
        located: Located,
    ) -> Result<CheckedChunk, StoreError> {
        let checked = self.read_record(key, chunk, located);
        match &checked {
            Ok((_, payload)) => BYTES_READ.inc_by(widened(payload.len())),
            Err(error) => {
                DAMAGED_READS.inc();
                tracing::warn!(%error, extent = %key.extent, fragment = key.fragment, chunk,
                    "a chunk failed its check");
            }
        }
        checked
    }

    fn read_record(
        &self,
        key: FragmentKey,
        chunk: u32,
        located: Located,
    ) -> Result<CheckedChunk, StoreError> {
        let record = self.bytes(located, HEADER_LENGTH + u64::from(located.length))?;
        self.check(key, chunk, located, &record)
    }

    /// Reads the first of `chunks`, and as many more as one hop may, in order. Blocks.
    pub(super) fn read_many(
        &self,
        key: FragmentKey,
        runs: &Runs,
        chunks: Range<u32>,
    ) -> Vec<Result<CheckedChunk, StoreError>> {
        let mut read = Vec::new();
        let mut room = READ_BYTES_MAX;
        let mut next = chunks.start;
        while next < chunks.end {
            let span = self.span(runs, next..chunks.end, room);
            let Some(last) = span.last() else { break };
            let bytes = HEADER_LENGTH * widened(span.len())
                + span.iter().map(|located| u64::from(located.length)).sum::<u64>();
            if bytes > room && !read.is_empty() {
                break;
            }
            tracing::trace!(extent = %key.extent, last = last.place.offset, bytes, "reads a span");
            read.extend(self.read_span(key, next, &span, bytes));
            next = next.saturating_add(u32::try_from(span.len()).unwrap_or(u32::MAX));
            room = room.saturating_sub(bytes);
        }
        read
    }

    /// Chunks whose records touch, so that one read fetches them all.
    fn span(&self, runs: &Runs, chunks: Range<u32>, room: u64) -> Vec<Located> {
        let mut span: Vec<Located> = Vec::new();
        let mut bytes = 0;
        for located in chunks.map_while(|chunk| runs.locate(chunk)) {
            let length = HEADER_LENGTH + u64::from(located.length);
            let touches = span.last().is_none_or(|last| {
                let end = last.place.offset.saturating_add(HEADER_LENGTH + u64::from(last.length));
                last.place.segment == located.place.segment && end == located.place.offset
            });
            if !touches || (bytes + length > room && !span.is_empty()) {
                break;
            }
            bytes += length;
            span.push(located);
        }
        span
    }

    fn read_span(
        &self,
        key: FragmentKey,
        first: u32,
        span: &[Located],
        bytes: u64,
    ) -> Vec<Result<CheckedChunk, StoreError>> {
        let numbered = (first..).zip(span.iter().copied());
        let Some(start) = span.first().copied() else { return Vec::new() };
        let Ok(mut rest) = self.bytes(start, bytes) else {
            // One unreadable sector must not take its neighbours along.
            return numbered.map(|(chunk, located)| self.read(key, chunk, located)).collect();
        };
        numbered
            .map(|(chunk, located)| {
                let length = usize::try_from(located.length).unwrap_or(usize::MAX);
                let record = rest.split_to(rest.len().min(HEADER_BYTES.saturating_add(length)));
                match self.check(key, chunk, located, &record) {
                    Ok(checked) => {
                        BYTES_READ.inc_by(u64::from(located.length));
                        Ok(checked)
                    }
                    // Read once more by itself: counted and logged in one place.
                    Err(_) => self.read(key, chunk, located),
                }
            })
            .collect()
    }

    fn check(
        &self,
        key: FragmentKey,
        chunk: u32,
        located: Located,
        record: &Bytes,
    ) -> Result<CheckedChunk, StoreError> {
        let segment = located.place.segment;
        let what = || format!("chunk {chunk} of extent {} at {}", key.extent, located.place.offset);
        let header = RecordHeader::decode(record, self.disk, located.place)
            .ok_or_else(|| segment.damaged(format!("the header of {} is not valid", what())))?;
        let expected = (Kind::Chunk, key, chunk, located.length);
        if (header.kind, header.key, header.chunk, header.length) != expected {
            return Err(segment.damaged(format!("another record lies in the place of {}", what())));
        }
        let payload = record.slice(HEADER_BYTES..);
        if !header.payload.matches(&payload) {
            return Err(segment.damaged(format!("the bytes of {} fail their checksum", what())));
        }
        Ok((header.payload, payload))
    }

    fn bytes(&self, located: Located, length: u64) -> Result<Bytes, StoreError> {
        let place = located.place;
        let unreadable = |error: StoreError| place.segment.damaged(error.to_string());
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if usize::try_from(located.length).unwrap_or(usize::MAX) > PAYLOAD_BYTES_MAX {
            return Err(place.segment.damaged("its index row names an impossible length"));
        }
        let file = self.files.existing(place.segment).map_err(unreadable)?;
        let mut buffer = vec![0; length];
        let filled = file.read_at(place.offset, &mut buffer).map_err(unreadable)?;
        if filled < length {
            let reason = format!("it ends before {} + {length}", place.offset);
            return Err(place.segment.damaged(reason));
        }
        Ok(Bytes::from(buffer))
    }

    fn damaged(&self, key: FragmentKey, reason: &str) -> StoreError {
        let path = std::path::PathBuf::from(format!("extent {} on disk {}", key.extent, self.disk));
        StoreError::Damaged { path, reason: reason.to_owned() }
    }
}
