//! The one writer of a log: turns a group of requests into one write and at most one sync.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::files::SegmentFiles;
use super::index::{
    IndexRow, Located, Runs, chunks_key, encode_position, extent_key, position_key,
};
use super::record::{HEADER_BYTES, HEADER_LENGTH, Kind, Place, RecordHeader, encode_file_header};
use super::recovery::Recovered;
use super::{FragmentKey, SegmentFigures, SegmentNumber, SegmentOptions, refused, widened};
use crate::codec::Crc32c;
use crate::store::disk::DiskFile;
use crate::store::error::StoreError;
use crate::store::figures::{BYTES_APPENDED, SEALS, SEGMENT_SYNCS};
use crate::store::meta::{Batch, Durability, Family, MetaStore};

pub(super) type Reply = oneshot::Sender<Result<(), StoreError>>;

/// One thing to do; the room that it takes in the queue is given back once it is written.
pub(super) struct Request {
    pub(super) key: FragmentKey,
    pub(super) action: Action,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

pub(super) enum Action {
    Chunk { number: u32, crc: Crc32c, payload: Bytes },
    Seal { chunks: u32, record: Bytes, reply: Reply },
    Whole { chunks: Vec<(Crc32c, Bytes)>, record: Bytes, reply: Reply },
    Abandon,
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
    open: BTreeMap<FragmentKey, OpenExtent>,
    stopped: Option<StoreError>,
    segments: u64,
    bytes: u64,
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
    room: Vec<OwnedSemaphorePermit>,
}

struct Sealing {
    key: FragmentKey,
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
            open: BTreeMap::new(),
            stopped: None,
            segments: recovered.report.segments,
            bytes: recovered.bytes,
        })
    }

    /// Why nothing is written any more, if so.
    pub(super) fn stopped(&self) -> Option<&StoreError> {
        self.stopped.as_ref()
    }

    pub(super) fn figures(&self) -> SegmentFigures {
        SegmentFigures {
            segments: self.segments,
            bytes: self.bytes,
            open_extents: widened(self.open.len()),
        }
    }

    /// Writes a group and answers its seals. Blocks.
    pub(super) fn write(&mut self, requests: Vec<Request>) {
        let mut group = Group::default();
        for Request { key, action, room } in requests {
            group.room.extend(room);
            match action {
                Action::Chunk { number, crc, payload } => {
                    self.append(&mut group, key, number, crc, payload);
                }
                Action::Seal { chunks, record, reply } => {
                    self.seal(&mut group, key, chunks, record, reply);
                }
                Action::Whole { chunks, record, reply } => {
                    self.open.remove(&key);
                    let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
                    for (number, (crc, payload)) in (0..count).zip(chunks) {
                        self.append(&mut group, key, number, crc, payload);
                    }
                    self.seal(&mut group, key, count, record, reply);
                }
                Action::Abandon => drop(self.open.remove(&key)),
            }
        }
        // A failure has been told to the extents that it hit; the others go on.
        drop(self.flush(&mut group));
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
                let chunks = &mut self.open.entry(key).or_default().chunks;
                chunks.insert(number, Located { place, length });
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
                let row = IndexRow::Sealed(runs).encode();
                let payload = seal_payload(&row, &record);
                let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                let sum = Crc32c::of(&payload);
                let header =
                    RecordHeader { kind: Kind::Seal, key, chunk: chunks, length, payload: sum };
                self.push(group, header, payload)?;
                Ok(row)
            });
        match sealed {
            Ok(row) => group.seals.push(Sealing { key, row, record, reply }),
            // A caller that has gone away wants no answer.
            Err(error) => drop(reply.send(Err(error))),
        }
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
        self.segments += 1;
        self.bytes += HEADER_LENGTH;
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
        self.stopped.clone().map_or(Ok(()), Err)?;
        let Some(active) = self.active.as_mut().filter(|_| !records.is_empty()) else {
            return Ok(());
        };
        let buffers: Vec<&[u8]> =
            records.iter().flat_map(|(header, payload)| [header.as_slice(), payload]).collect();
        let written = active.file.write_at(active.end, &buffers);
        let Err(error) = written else {
            active.end += length;
            self.bytes += length;
            group.seals_written = group.seals.len();
            BYTES_APPENDED.inc_by(length - HEADER_LENGTH * widened(records.len()));
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
            drop(seal.reply.send(Err(error.clone())));
        }
        Err(error)
    }

    /// Syncs what was written, derives the rows, answers.
    fn commit(&mut self, group: Group) {
        if group.seals.is_empty() {
            return;
        }
        let committed = self.sync_and_derive(&group.seals);
        for seal in group.seals {
            drop(seal.reply.send(committed.clone()));
        }
    }

    fn sync_and_derive(&mut self, seals: &[Sealing]) -> Result<(), StoreError> {
        self.stopped.clone().map_or(Ok(()), Err)?;
        let Some(active) = &self.active else { return Err(StoreError::Stopping) };
        SEGMENT_SYNCS.inc();
        active.file.sync().map_err(|error| stop(&mut self.stopped, error))?;
        let disk = self.options.disk;
        let mut rows = Batch::new();
        for seal in seals {
            rows.put(Family::Chunks, chunks_key(seal.key, disk), seal.row.clone());
            rows.put(Family::Extents, extent_key(seal.key), seal.record.clone());
        }
        let end = Place { segment: active.number, offset: active.end };
        rows.put(Family::Local, position_key(disk), encode_position(end));
        self.meta.write(&[rows], Durability::Derived)?;
        SEALS.inc_by(widened(seals.len()));
        Ok(())
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
