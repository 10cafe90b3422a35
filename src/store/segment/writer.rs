//! The one writer of a log: turns a group of requests into one write and at most one sync.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::files::SegmentFiles;
use super::index::{
    IndexRow, Located, Runs, chunks_key, encode_position, extent_key, position_key,
};
use super::ledger::{Ledger, Move};
use super::record::{HEADER_BYTES, HEADER_LENGTH, Kind, Place, RecordHeader, encode_file_header};
use super::recovery::Recovered;
use super::{FragmentKey, SegmentNumber, SegmentOptions, refused, widened};
use crate::codec::Crc32c;
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::store::disk::DiskFile;
use crate::store::error::StoreError;
use crate::store::figures::{BYTES_APPENDED, SEALS, SEGMENT_SYNCS};
use crate::store::meta::{Batch, Durability, Family, MetaStore};

pub(super) type Reply<T = ()> = oneshot::Sender<Result<T, StoreError>>;

/// One thing to do; the room that it takes in the queue is given back once it is written.
pub(super) struct Request {
    pub(super) work: Work,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

pub(super) enum Work {
    /// What writes an extent.
    Extent(FragmentKey, Action),
    /// Writes chunks of a sealed extent once more and answers where; they are dead bytes until
    /// its row is moved.
    Copy { key: FragmentKey, chunks: Vec<(u32, Crc32c, Bytes)>, reply: Reply<Vec<Located>> },
    /// Makes copies durable and replaces the rows; answers how many.
    Move { moves: Vec<Move>, reply: Reply<u64> },
    /// Makes all rows durable, and the position; answers which of the segments no row can point
    /// to from now on that does not already.
    Settle { segments: BTreeSet<SegmentNumber>, reply: Reply<BTreeSet<SegmentNumber>> },
}

pub(super) enum Action {
    Chunk { number: u32, crc: Crc32c, payload: Bytes },
    Seal { chunks: u32, record: Bytes, reply: Reply },
    Whole { chunks: Vec<(Crc32c, Bytes)>, record: Bytes, reply: Reply },
    Abandon,
}

impl Work {
    /// Answers that it was not done. A caller that has gone away wants no answer.
    pub(super) fn refuse(self, error: &StoreError) {
        match self {
            Self::Extent(_, Action::Seal { reply, .. } | Action::Whole { reply, .. }) => {
                drop(reply.send(Err(error.clone())));
            }
            Self::Extent(_, Action::Chunk { .. } | Action::Abandon) => {}
            Self::Copy { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Move { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Settle { reply, .. } => drop(reply.send(Err(error.clone()))),
        }
    }
}

/// An extent that is appended to.
#[derive(Default)]
struct OpenExtent {
    chunks: BTreeMap<u32, Located>,
    failed: Option<StoreError>,
}

struct Active {
    number: SegmentNumber,
    file: Arc<dyn DiskFile>,
    /// Where the next record goes; nothing lies behind it.
    end: u64,
}

pub(super) struct Writer {
    options: SegmentOptions,
    meta: Arc<dyn MetaStore>,
    files: Arc<SegmentFiles>,
    active: Option<Active>,
    next: SegmentNumber,
    /// Up to where all rows are derived, as the tables know.
    position: Option<Place>,
    open: BTreeMap<FragmentKey, OpenExtent>,
    stopped: Option<StoreError>,
    ledger: Arc<Ledger>,
    /// Told when there are rows in `Family::Fresh`.
    fresh: Arc<Notify>,
}

/// Requests that share a sync.
#[derive(Default)]
struct Group {
    /// Not yet handed to the disk.
    records: Vec<([u8; HEADER_BYTES], Bytes)>,
    length: u64,
    keys: Vec<FragmentKey>,
    seals: Vec<Sealing>,
    /// How many of `seals` the disk has taken.
    seals_written: usize,
    copies: Vec<(Vec<Located>, Reply<Vec<Located>>)>,
    room: Vec<OwnedSemaphorePermit>,
}

struct Sealing {
    key: FragmentKey,
    runs: Runs,
    row: Bytes,
    record: Bytes,
    reply: Reply,
}

impl Writer {
    pub(super) fn new(
        options: SegmentOptions,
        meta: Arc<dyn MetaStore>,
        files: Arc<SegmentFiles>,
        recovered: &Recovered,
        ledger: Arc<Ledger>,
        fresh: Arc<Notify>,
    ) -> Result<Self, StoreError> {
        let active = match recovered.active {
            None => None,
            Some(Place { segment, offset }) => {
                Some(Active { number: segment, file: files.existing(segment)?, end: offset })
            }
        };
        Ok(Self {
            options,
            meta,
            files,
            active,
            next: recovered.next,
            position: recovered.position,
            open: BTreeMap::new(),
            stopped: None,
            ledger,
            fresh,
        })
    }

    /// Why nothing is written any more, if so.
    pub(super) fn stopped(&self) -> Option<&StoreError> {
        self.stopped.as_ref()
    }

    /// Writes a group and answers its seals. Blocks.
    pub(super) fn write(&mut self, requests: Vec<Request>) {
        let mut group = Group::default();
        for Request { work, room } in requests {
            group.room.extend(room);
            match work {
                Work::Extent(key, action) => self.extent(&mut group, key, action),
                Work::Copy { key, chunks, reply } => self.copy(&mut group, key, chunks, reply),
                // These look at rows, so all that came before is derived first.
                Work::Move { moves, reply } => {
                    self.finish(&mut group);
                    drop(reply.send(self.relocate(&mut group, moves)));
                }
                Work::Settle { segments, reply } => {
                    self.finish(&mut group);
                    drop(reply.send(self.settle(segments)));
                }
            }
        }
        self.finish(&mut group);
        self.ledger.set_open_extents(widened(self.open.len()));
    }

    fn extent(&mut self, group: &mut Group, key: FragmentKey, action: Action) {
        match action {
            Action::Chunk { number, crc, payload } => {
                self.append(group, key, number, crc, payload);
            }
            Action::Seal { chunks, record, reply } => {
                self.seal(group, key, chunks, record, reply);
            }
            Action::Whole { chunks, record, reply } => {
                self.abandon(key);
                let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
                for (number, (crc, payload)) in (0..count).zip(chunks) {
                    self.append(group, key, number, crc, payload);
                }
                self.seal(group, key, count, record, reply);
            }
            Action::Abandon => self.abandon(key),
        }
    }

    fn abandon(&mut self, key: FragmentKey) {
        let extent = self.open.remove(&key).unwrap_or_default();
        self.ledger.closed(extent.chunks.into_values());
    }

    /// Writes and commits what was collected.
    fn finish(&mut self, group: &mut Group) {
        // A failure has been told to the extents that it hit; the others go on.
        drop(self.flush(group));
        // The next requests may queue up while this group is synced.
        group.room.clear();
        self.commit(group);
    }

    fn append(
        &mut self,
        group: &mut Group,
        key: FragmentKey,
        number: u32,
        crc: Crc32c,
        payload: Bytes,
    ) {
        if self.open.get(&key).is_some_and(|extent| extent.failed.is_some()) {
            return;
        }
        if !self.open.contains_key(&key) && self.open.len() >= self.options.open_extents_max {
            // It is not opened, so that its seal fails for want of chunks.
            tracing::warn!(extent = %key.extent, "refused an extent: too many are being written");
            return;
        }
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let header = RecordHeader { kind: Kind::Chunk, key, chunk: number, length, payload: crc };
        match self.push(group, header, payload) {
            Ok(place) => {
                let located = Located { place, length };
                let chunks = &mut self.open.entry(key).or_default().chunks;
                self.ledger.opened(located);
                self.ledger.closed(chunks.insert(number, located));
            }
            Err(error) => self.open.entry(key).or_default().failed = Some(error),
        }
    }

    fn seal(
        &mut self,
        group: &mut Group,
        key: FragmentKey,
        chunks: u32,
        record: Bytes,
        reply: Reply,
    ) {
        let extent = self.open.remove(&key).unwrap_or_default();
        let sealed = extent
            .failed
            .map_or(Ok(()), Err)
            .and_then(|()| runs_of(key, &extent.chunks, chunks))
            .and_then(|runs| {
                let row = IndexRow::Sealed(runs.clone()).encode();
                self.push_seal(group, Kind::Seal, key, chunks, &row, &record)?;
                Ok((runs, row))
            });
        match sealed {
            Ok((runs, row)) => group.seals.push(Sealing { key, runs, row, record, reply }),
            Err(error) => {
                self.ledger.closed(extent.chunks.into_values());
                // A caller that has gone away wants no answer.
                drop(reply.send(Err(error)));
            }
        }
    }

    fn push_seal(
        &mut self,
        group: &mut Group,
        kind: Kind,
        key: FragmentKey,
        chunks: u32,
        row: &Bytes,
        record: &Bytes,
    ) -> Result<(), StoreError> {
        let payload = seal_payload(row, record);
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let sum = Crc32c::of(&payload);
        let header = RecordHeader { kind, key, chunk: chunks, length, payload: sum };
        self.push(group, header, payload).map(|_| ())
    }

    /// Writes chunks of a sealed extent once more.
    fn copy(
        &mut self,
        group: &mut Group,
        key: FragmentKey,
        chunks: Vec<(u32, Crc32c, Bytes)>,
        reply: Reply<Vec<Located>>,
    ) {
        let mut places = Vec::with_capacity(chunks.len());
        for (chunk, payload_sum, payload) in chunks {
            let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            let header =
                RecordHeader { kind: Kind::Chunk, key, chunk, length, payload: payload_sum };
            match self.push(group, header, payload) {
                Ok(place) => places.push(Located { place, length }),
                Err(error) => {
                    drop(reply.send(Err(error)));
                    return;
                }
            }
        }
        group.copies.push((places, reply));
    }

    /// Seals copies and replaces the rows of their extents. `group` is empty.
    fn relocate(&mut self, group: &mut Group, moves: Vec<Move>) -> Result<u64, StoreError> {
        let mut sealed = Vec::new();
        for of in moves {
            if !self.ledger.is_current(of.key, &of.expected)? {
                continue;
            }
            let record = self.meta.get(Family::Extents, &extent_key(of.key))?.unwrap_or_default();
            self.push_seal(group, Kind::Moved, of.key, of.chunks, &of.row, &record)?;
            sealed.push(of);
        }
        self.flush(group)?;
        if sealed.is_empty() {
            return Ok(0);
        }
        let end = self.synced_end()?;
        let mut rows = Batch::new();
        rows.put(Family::Local, position_key(self.options.disk), encode_position(end));
        probe::crash_point("copies synced, rows not moved");
        let moved = self.ledger.relocate(&sealed, rows)?;
        self.position = Some(end);
        Ok(moved)
    }

    /// See [`Work::Settle`].
    fn settle(
        &mut self,
        mut segments: BTreeSet<SegmentNumber>,
    ) -> Result<BTreeSet<SegmentNumber>, StoreError> {
        self.stopped.clone().map_or(Ok(()), Err)?;
        if self.active.is_some() {
            // No seal before this position is replayed, whatever it points to.
            let end = self.synced_end()?;
            let mut rows = Batch::new();
            rows.put(Family::Local, position_key(self.options.disk), encode_position(end));
            self.meta.write(&[rows], Durability::Synced)?;
            self.position = Some(end);
        } else {
            self.meta.sync()?;
        }
        let position = self.position;
        segments.retain(|number| position.is_some_and(|position| *number < position.segment));
        for extent in self.open.values() {
            for chunk in extent.chunks.values() {
                segments.remove(&chunk.place.segment);
            }
        }
        Ok(segments)
    }

    /// Adds one record to what will be written next, in another segment if this one is full.
    fn push(
        &mut self,
        group: &mut Group,
        header: RecordHeader,
        payload: Bytes,
    ) -> Result<Place, StoreError> {
        let length = header.record_length();
        let fits = self.active.as_ref().is_some_and(|active| {
            let end = active.end + group.length;
            end == HEADER_LENGTH || end + length <= self.options.segment_size.0
        });
        if !fits {
            self.roll(group)?;
        }
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        let Some(active) = &self.active else { return Err(StoreError::Stopping) };
        let place = Place { segment: active.number, offset: active.end + group.length };
        group.records.push((header.encode(self.options.disk, place), payload));
        group.length += length;
        group.keys.push(header.key);
        Ok(place)
    }

    /// Finishes the segment and begins another. The old one is synced first, so that only the
    /// last segment can have a torn tail.
    fn roll(&mut self, group: &mut Group) -> Result<(), StoreError> {
        // The caller's extent may have chunks in this write, so its failure is the caller's too.
        self.flush(group)?;
        if let Some(active) = &self.active {
            active.file.sync().map_err(|error| stop(&mut self.stopped, error))?;
        }
        let number = self.next;
        let file = match self.create(number) {
            Ok(file) => file,
            Err(error @ StoreError::Full { .. }) => return Err(error),
            Err(error) => return Err(stop(&mut self.stopped, error)),
        };
        self.active = Some(Active { number, file, end: HEADER_LENGTH });
        self.next = number.next();
        self.ledger.begun(number);
        Ok(())
    }

    fn create(&self, number: SegmentNumber) -> Result<Arc<dyn DiskFile>, StoreError> {
        let file = self.files.created(number)?;
        // Creating it may have failed half-way before, on a full disk.
        file.truncate(0)?;
        file.write_at(0, &[&encode_file_header(self.options.disk, number)])?;
        file.sync()?;
        self.files.disk().sync_folder()?;
        Ok(file)
    }

    /// Hands the collected records to the disk. If it has no room, nothing of them stays.
    fn flush(&mut self, group: &mut Group) -> Result<(), StoreError> {
        let records = std::mem::take(&mut group.records);
        let length = std::mem::take(&mut group.length);
        let keys = std::mem::take(&mut group.keys);
        let copies = std::mem::take(&mut group.copies);
        if let Some(stopped) = &self.stopped {
            answer_copies(copies, &Err(stopped.clone()));
            return Err(stopped.clone());
        }
        let Some(active) = self.active.as_mut().filter(|_| !records.is_empty()) else {
            answer_copies(copies, &Ok(()));
            return Ok(());
        };
        let buffers: Vec<&[u8]> =
            records.iter().flat_map(|(header, payload)| [header.as_slice(), payload]).collect();
        let written = active.file.write_at(active.end, &buffers);
        let Err(error) = written else {
            active.end += length;
            self.ledger.grew(active.number, length);
            group.seals_written = group.seals.len();
            BYTES_APPENDED.inc_by(length - HEADER_LENGTH * widened(records.len()));
            answer_copies(copies, &Ok(()));
            return Ok(());
        };
        // Whole records among the written bytes would be taken for acknowledged after a crash.
        let cut = active.file.truncate(active.end);
        let error = match (error, cut) {
            (error @ StoreError::Full { .. }, Ok(())) => error,
            (StoreError::Full { .. }, Err(error)) | (error, _) => stop(&mut self.stopped, error),
        };
        tracing::error!(%error, bytes = length, "chunks could not be written");
        for key in keys {
            if let Some(extent) = self.open.get_mut(&key) {
                extent.failed = Some(error.clone());
            }
        }
        for seal in group.seals.drain(group.seals_written..) {
            self.ledger.closed(seal.runs.iter());
            drop(seal.reply.send(Err(error.clone())));
        }
        answer_copies(copies, &Err(error.clone()));
        Err(error)
    }

    /// Syncs what was written, derives the rows, answers.
    fn commit(&mut self, group: &mut Group) {
        group.seals_written = 0;
        let seals = std::mem::take(&mut group.seals);
        if seals.is_empty() {
            return;
        }
        let committed = self.sync_and_derive(&seals);
        for seal in seals {
            // From here on its bytes are live, or dead.
            self.ledger.closed(seal.runs.iter());
            drop(seal.reply.send(committed.clone()));
        }
    }

    fn sync_and_derive(&mut self, seals: &[Sealing]) -> Result<(), StoreError> {
        let end = self.synced_end()?;
        probe::crash_point("segment synced, rows not derived");
        let disk = self.options.disk;
        let mut rows = Batch::new();
        for seal in seals {
            rows.put(Family::Chunks, chunks_key(seal.key, disk), seal.row.clone());
            rows.put(Family::Extents, extent_key(seal.key), seal.record.clone());
            rows.put(Family::Fresh, extent_key(seal.key), Bytes::new());
        }
        rows.put(Family::Local, position_key(disk), encode_position(end));
        let sealed: Vec<_> = seals.iter().map(|seal| (seal.key, seal.runs.clone())).collect();
        self.ledger.derive(&sealed, || self.meta.write(&[rows], Durability::Derived))?;
        self.position = Some(end);
        SEALS.inc_by(widened(seals.len()));
        self.fresh.notify_one();
        Ok(())
    }

    /// Syncs the active segment and answers its end.
    fn synced_end(&mut self) -> Result<Place, StoreError> {
        self.stopped.clone().map_or(Ok(()), Err)?;
        let Some(active) = &self.active else { return Err(StoreError::Stopping) };
        SEGMENT_SYNCS.inc();
        if is_planted(Mutation::SkipSegmentSync) {
            return Ok(Place { segment: active.number, offset: active.end });
        }
        active.file.sync().map_err(|error| stop(&mut self.stopped, error))?;
        Ok(Place { segment: active.number, offset: active.end })
    }
}

fn answer_copies(
    copies: Vec<(Vec<Located>, Reply<Vec<Located>>)>,
    written: &Result<(), StoreError>,
) {
    for (places, reply) in copies {
        drop(reply.send(written.clone().map(|()| places)));
    }
}

/// Nothing more is written: what the disk holds is not known.
fn stop(stopped: &mut Option<StoreError>, error: StoreError) -> StoreError {
    let error = error.into_stopped();
    tracing::error!(%error, "the segment log stops");
    stopped.get_or_insert(error).clone()
}

fn runs_of(
    key: FragmentKey,
    chunks: &BTreeMap<u32, Located>,
    count: u32,
) -> Result<Runs, StoreError> {
    let mut runs = Runs::default();
    for number in 0..count {
        let Some(located) = chunks.get(&number) else {
            return Err(refused("seal", key, format!("chunk {number} of {count} is missing")));
        };
        runs.push(*located);
    }
    if widened(chunks.len()) > u64::from(count) {
        let reason = format!("{} chunks were appended, {count} are to be sealed", chunks.len());
        return Err(refused("seal", key, reason));
    }
    Ok(runs)
}

fn seal_payload(row: &[u8], record: &[u8]) -> Bytes {
    let mut payload = BytesMut::with_capacity(4 + row.len() + record.len());
    payload.put_u32_le(u32::try_from(row.len()).unwrap_or(u32::MAX));
    payload.put_slice(row);
    payload.put_slice(record);
    payload.freeze()
}
