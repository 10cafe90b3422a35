//! Reads chunks back, each checked before it is shown.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::files::SegmentFiles;
use super::index::{IndexRow, Located, Runs, chunks_key, extent_key};
use super::record::{HEADER_BYTES, Kind, PAYLOAD_BYTES_MAX, Place, RecordHeader};
use super::{FragmentKey, SealedExtent, widened};
use crate::codec::Crc32c;
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::store::error::StoreError;
use crate::store::figures::{BYTES_READ, DAMAGED_READS};
use crate::store::meta::{Family, MetaStore};
use crate::types::DiskId;

/// Bytes of records that one call for many chunks reads, unless one chunk alone has more.
const READ_BYTES_MAX: u64 = 4 << 20;

/// How often one read looks for bytes that went elsewhere while it read.
const MOVES_FOLLOWED_MAX: u32 = 16;

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

    /// Reads one chunk, which lay where `runs` say. Blocks.
    ///
    /// A compaction or another seal may have taken the bytes elsewhere since; then the row says
    /// where. `None` if the extent was forgotten meanwhile.
    pub(super) fn read(
        &self,
        key: FragmentKey,
        chunk: u32,
        runs: &Runs,
    ) -> Result<Option<CheckedChunk>, StoreError> {
        let mut moved;
        let mut runs = runs;
        for _ in 0..MOVES_FOLLOWED_MAX {
            let Some(located) = runs.locate(chunk) else { return Ok(None) };
            let error = match read_checked(&self.files, self.disk, key, chunk, located) {
                Ok(checked) => {
                    BYTES_READ.inc_by(widened(checked.1.len()));
                    return Ok(Some(checked));
                }
                Err(error) => error,
            };
            let Some(now) = self.runs(key)? else { return Ok(None) };
            if now == *runs {
                DAMAGED_READS.inc();
                probe::sometimes("a damaged chunk is found");
                tracing::warn!(%error, extent = %key.extent, fragment = key.fragment, chunk,
                    "a chunk failed its check");
                return Err(error);
            }
            moved = now;
            runs = &moved;
        }
        Err(self.damaged(key, "its bytes move faster than they can be read"))
    }

    /// Reads the first of `chunks`, and as many more as one hop may, in order; ends early where
    /// the extent was forgotten meanwhile. Blocks.
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
            let bytes = span.iter().map(Located::bytes).sum::<u64>();
            if bytes > room && !read.is_empty() {
                break;
            }
            tracing::trace!(extent = %key.extent, last = last.place.offset, bytes, "reads a span");
            let count = self.read_span(key, next, &span, runs, &mut read);
            if count < span.len() {
                break;
            }
            next = next.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
            room = room.saturating_sub(bytes);
        }
        read
    }

    /// Chunks whose records touch, so that one read fetches them all.
    fn span(&self, runs: &Runs, chunks: Range<u32>, room: u64) -> Vec<Located> {
        let mut span: Vec<Located> = Vec::new();
        let mut bytes = 0;
        for located in chunks.map_while(|chunk| runs.locate(chunk)) {
            let length = located.bytes();
            let touches = span.last().is_none_or(|last| {
                let end = last.place.offset.saturating_add(last.bytes());
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

    /// Reads touching chunks into `read` and returns how many: all, unless the extent was
    /// forgotten meanwhile.
    fn read_span(
        &self,
        key: FragmentKey,
        first: u32,
        span: &[Located],
        runs: &Runs,
        read: &mut Vec<Result<CheckedChunk, StoreError>>,
    ) -> usize {
        let Some(start) = span.first() else { return 0 };
        let bytes = span.iter().map(Located::bytes).sum::<u64>();
        // One unreadable sector must not take its neighbours along, so each chunk that fails is
        // read once more by itself: counted and logged in one place.
        let mut rest = read_bytes(&self.files, start.place, bytes).unwrap_or_default();
        for (index, (chunk, located)) in (first..).zip(span).enumerate() {
            let length = usize::try_from(located.bytes()).unwrap_or(usize::MAX);
            let record = rest.split_to(rest.len().min(length));
            let checked = match check(self.disk, key, chunk, *located, &record) {
                Ok(checked) => {
                    BYTES_READ.inc_by(u64::from(located.length));
                    Ok(Some(checked))
                }
                Err(_) => self.read(key, chunk, runs),
            };
            match checked.transpose() {
                Some(checked) => read.push(checked),
                None => return index,
            }
        }
        span.len()
    }

    fn damaged(&self, key: FragmentKey, reason: &str) -> StoreError {
        let path = std::path::PathBuf::from(format!("extent {} on disk {}", key.extent, self.disk));
        StoreError::Damaged { path, reason: reason.to_owned() }
    }
}

/// Reads the record of one chunk and checks it. Blocks.
pub(super) fn read_checked(
    files: &SegmentFiles,
    disk: DiskId,
    key: FragmentKey,
    chunk: u32,
    located: Located,
) -> Result<CheckedChunk, StoreError> {
    let record = read_bytes(files, located.place, located.bytes())?;
    check(disk, key, chunk, located, &record)
}

fn check(
    disk: DiskId,
    key: FragmentKey,
    chunk: u32,
    located: Located,
    record: &Bytes,
) -> Result<CheckedChunk, StoreError> {
    let segment = located.place.segment;
    let what = || format!("chunk {chunk} of extent {} at {}", key.extent, located.place.offset);
    let header = RecordHeader::decode(record, disk, located.place)
        .ok_or_else(|| segment.damaged(format!("the header of {} is not valid", what())))?;
    let expected = (Kind::Chunk, key, chunk, located.length);
    if (header.kind, header.key, header.chunk, header.length) != expected {
        return Err(segment.damaged(format!("another record lies in the place of {}", what())));
    }
    let payload = record.slice(HEADER_BYTES..);
    if !header.payload.matches(&payload) && !is_planted(Mutation::ChunksUnchecked) {
        return Err(segment.damaged(format!("the bytes of {} fail their checksum", what())));
    }
    Ok((header.payload, payload))
}

fn read_bytes(files: &SegmentFiles, place: Place, length: u64) -> Result<Bytes, StoreError> {
    let unreadable = |error: StoreError| place.segment.damaged(error.to_string());
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > HEADER_BYTES + PAYLOAD_BYTES_MAX {
        return Err(place.segment.damaged("an index row names an impossible length"));
    }
    let file = files.existing(place.segment).map_err(unreadable)?;
    let mut buffer = vec![0; length];
    let filled = file.read_at(place.offset, &mut buffer).map_err(unreadable)?;
    if filled < length {
        let reason = format!("it ends before {} + {length}", place.offset);
        return Err(place.segment.damaged(reason));
    }
    Ok(Bytes::from(buffer))
}
