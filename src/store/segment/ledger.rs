//! Which bytes of which segment are needed, and which extents are about to be forgotten.
//!
//! The bytes of a segment are *live* if a row of `Family::Chunks` points to them, *open* if an
//! extent that is being written does, and dead otherwise: chunks that were forgotten, replaced or
//! abandoned, and their seals. The seals of living extents are estimated. The sums choose what to compact; whether a
//! segment may go is decided by its rows, never by a sum.
//!
//! # Invariants
//! 1. From [`Ledger::forget`] until the batch was written or dropped, and every copy of it, the
//!    extent's row is not replaced by a compaction.
//! 2. A row is moved only if it is still the one whose chunks were copied; looking and writing
//!    happen under one lock, which `forget` takes too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::index::{
    IndexRow, Located, Runs, chunks_key, extent_key, parse_chunks_key, sealed_runs,
};
use super::record::HEADER_LENGTH;
use super::{FragmentKey, SegmentFigures, SegmentNumber};
use crate::store::error::StoreError;
use crate::store::meta::{Batch, Durability, Family, KeyRange, MetaStore, Visit};
use crate::types::DiskId;

/// What a seal is taken to need, about: with a long key it is a kilobyte. A copied extent is sealed
/// again, so if seals were dead bytes, a segment of tiny extents would be compacted for ever.
const SEAL_BYTES: u64 = 1024;

/// Rows looked at again with each batch that forgets something.
const SETTLED_PER_FORGET: usize = 2;

/// A row that a compaction wants to replace.
pub(super) struct Move {
    pub(super) key: FragmentKey,
    /// The row whose chunks were copied.
    pub(super) expected: Bytes,
    /// The row that names the copies.
    pub(super) row: Bytes,
    /// How many chunks the extent has.
    pub(super) chunks: u32,
}

pub(super) struct Ledger {
    disk: DiskId,
    meta: Arc<dyn MetaStore>,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    segments: BTreeMap<SegmentNumber, SegmentUse>,
    /// Extents whose row is being changed, or was: what is counted for them.
    touched: BTreeMap<FragmentKey, Touched>,
    /// Extents in `touched` that nobody holds any more.
    released: VecDeque<FragmentKey>,
    open_extents: u64,
}

/// What a segment's bytes are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SegmentUse {
    pub(super) length: u64,
    pub(super) live: u64,
    pub(super) open: u64,
    /// Extents whose seals are here, or near.
    sealed: u64,
}

impl SegmentUse {
    pub(super) fn dead(&self) -> u64 {
        let seals = self.sealed.saturating_mul(SEAL_BYTES);
        let needed = self.live.saturating_add(self.open).saturating_add(seals);
        self.length.saturating_sub(HEADER_LENGTH.saturating_add(needed))
    }
}

struct Touched {
    holds: usize,
    /// The runs whose bytes are counted as live.
    counted: Runs,
}

/// An extent is held until this is dropped.
struct Held {
    ledger: Arc<Ledger>,
    key: FragmentKey,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ledger.books.lock().release(self.key);
    }
}

impl Books {
    fn count(&mut self, runs: &Runs) {
        for (number, bytes) in runs.bytes_by_segment() {
            if let Some(segment) = self.segments.get_mut(&number) {
                segment.live = segment.live.saturating_add(bytes);
            }
        }
        if let Some(segment) = self.last_of(runs) {
            segment.sealed = segment.sealed.saturating_add(1);
        }
    }

    fn last_of(&mut self, runs: &Runs) -> Option<&mut SegmentUse> {
        self.segments.get_mut(&runs.last_segment()?)
    }

    fn uncount(&mut self, runs: &Runs) {
        for (number, bytes) in runs.bytes_by_segment() {
            if let Some(segment) = self.segments.get_mut(&number) {
                segment.live = segment.live.saturating_sub(bytes);
            }
        }
        if let Some(segment) = self.last_of(runs) {
            segment.sealed = segment.sealed.saturating_sub(1);
        }
    }

    /// Counts `after` for an extent instead of what was counted for it: `before`, unless its row
    /// is being changed by others too.
    fn recount(&mut self, key: FragmentKey, before: &Runs, after: Runs) {
        self.count(&after);
        match self.touched.get_mut(&key) {
            None => self.uncount(before),
            Some(touched) => {
                let before = std::mem::replace(&mut touched.counted, after);
                self.uncount(&before);
            }
        }
    }

    fn release(&mut self, key: FragmentKey) {
        let Some(touched) = self.touched.get_mut(&key) else { return };
        touched.holds = touched.holds.saturating_sub(1);
        if touched.holds == 0 {
            self.released.push_back(key);
        }
    }

    fn is_held(&self, key: FragmentKey) -> bool {
        self.touched.get(&key).is_some_and(|touched| touched.holds > 0)
    }
}

impl Ledger {
    /// The use of `segments`, by their lengths, as the rows tell. Blocks.
    pub(super) fn open(
        disk: DiskId,
        meta: Arc<dyn MetaStore>,
        segments: &BTreeMap<SegmentNumber, u64>,
    ) -> Result<Self, StoreError> {
        let mut books = Books::default();
        for (number, length) in segments {
            let segment = SegmentUse { length: *length, ..SegmentUse::default() };
            books.segments.insert(*number, segment);
        }
        let counted = meta.scan(Family::Chunks, &KeyRange::prefix([]), &mut |key, row| {
            // A row that cannot be decoded points nowhere; reads of its extent tell.
            if parse_chunks_key(key, disk).is_some()
                && let Some(runs) = sealed_runs(row)
            {
                books.count(&runs);
            }
            Visit::Next
        });
        match counted {
            // Damage is no reason not to start. Compactions look at every row themselves.
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::error!(%error, "the living bytes of the segments could not be counted");
            }
            other => other?,
        }
        Ok(Self { disk, meta, books: Mutex::new(books) })
    }

    pub(super) fn disk(&self) -> DiskId {
        self.disk
    }

    /// Whether this is still the extent's row, and nobody is about to forget it.
    pub(super) fn is_current(&self, key: FragmentKey, row: &[u8]) -> Result<bool, StoreError> {
        self.check_row(&self.books.lock(), key, row)
    }

    /// A segment was begun.
    pub(super) fn begun(&self, number: SegmentNumber) {
        let segment = SegmentUse { length: HEADER_LENGTH, ..SegmentUse::default() };
        self.books.lock().segments.insert(number, segment);
    }

    /// A segment has `bytes` more.
    pub(super) fn grew(&self, number: SegmentNumber, bytes: u64) {
        if let Some(segment) = self.books.lock().segments.get_mut(&number) {
            segment.length = segment.length.saturating_add(bytes);
        }
    }

    /// An extent that is being written has a chunk there.
    pub(super) fn opened(&self, chunk: Located) {
        if let Some(segment) = self.books.lock().segments.get_mut(&chunk.place.segment) {
            segment.open = segment.open.saturating_add(chunk.bytes());
        }
    }

    /// An extent that is being written no longer needs these.
    pub(super) fn closed(&self, chunks: impl IntoIterator<Item = Located>) {
        let mut books = self.books.lock();
        for chunk in chunks {
            if let Some(segment) = books.segments.get_mut(&chunk.place.segment) {
                segment.open = segment.open.saturating_sub(chunk.bytes());
            }
        }
    }

    pub(super) fn set_open_extents(&self, count: u64) {
        self.books.lock().open_extents = count;
    }

    /// Adds to `batch` what forgets an extent, and keeps compactions from its row until the batch
    /// was written or dropped.
    pub(super) fn forget(self: &Arc<Self>, key: FragmentKey, batch: &mut Batch) {
        self.settle(SETTLED_PER_FORGET);
        self.hold(key);
        batch.hold(Arc::new(Held { ledger: Arc::clone(self), key }));
        batch.delete(Family::Chunks, chunks_key(key, self.disk));
        batch.delete(Family::Fresh, extent_key(key));
    }

    /// Nobody but the caller moves the extent's row until it is released. What is counted for it
    /// is exact from here on, whoever changes it in between.
    fn hold(&self, key: FragmentKey) {
        let mut books = self.books.lock();
        if let Some(touched) = books.touched.get_mut(&key) {
            touched.holds += 1;
            return;
        }
        let counted = self.runs(key).unwrap_or_default();
        books.touched.insert(key, Touched { holds: 1, counted });
    }

    /// The runs that the extent's row names now.
    fn runs(&self, key: FragmentKey) -> Result<Runs, StoreError> {
        let row = self.meta.get(Family::Chunks, &chunks_key(key, self.disk))?;
        Ok(row.and_then(|row| sealed_runs(&row)).unwrap_or_default())
    }

    /// Looks again at the rows of up to `max` extents that are no longer held: whether they were
    /// forgotten is known now.
    pub(super) fn settle(&self, max: usize) {
        for _ in 0..max {
            let mut books = self.books.lock();
            let Some(key) = books.released.pop_front() else { return };
            if books.is_held(key) {
                continue;
            }
            let Some(touched) = books.touched.remove(&key) else { continue };
            // What cannot be read stays counted.
            if let Ok(now) = self.runs(key) {
                books.uncount(&touched.counted);
                books.count(&now);
            }
        }
    }

    /// Writes the rows of sealed extents with `write`, and counts them once they are written.
    pub(super) fn derive(
        &self,
        seals: &[(FragmentKey, Runs)],
        write: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for (key, _) in seals {
            self.hold(*key);
        }
        let written = write();
        let mut books = self.books.lock();
        for (key, runs) in seals {
            if written.is_ok() {
                books.recount(*key, &Runs::default(), runs.clone());
            }
            books.release(*key);
        }
        drop(books);
        self.settle(seals.len());
        written
    }

    fn check_row(&self, books: &Books, key: FragmentKey, row: &[u8]) -> Result<bool, StoreError> {
        if books.is_held(key) {
            return Ok(false);
        }
        let now = self.meta.get(Family::Chunks, &chunks_key(key, self.disk))?;
        Ok(now.as_deref() == Some(row))
    }

    /// Replaces the rows that may be moved, together with the `rows` of the caller; answers how
    /// many.
    pub(super) fn relocate(&self, moves: &[Move], mut rows: Batch) -> Result<u64, StoreError> {
        // The lock is kept until the rows are written: a batch that forgets one of these extents
        // is begun before, and then its row stays, or behind, and then it deletes the new row.
        let mut books = self.books.lock();
        let mut moved = Vec::new();
        for of in moves {
            if self.check_row(&books, of.key, &of.expected)? {
                rows.put(Family::Chunks, chunks_key(of.key, self.disk), of.row.clone());
                moved.push(of);
            }
        }
        self.meta.write(&[rows], Durability::Derived)?;
        for of in &moved {
            let before = sealed_runs(&of.expected).unwrap_or_default();
            let after = sealed_runs(&of.row).unwrap_or_default();
            books.recount(of.key, &before, after);
        }
        Ok(super::widened(moved.len()))
    }

    /// The segments that a compaction may look at, in order: never the last one, nor one that an
    /// open extent needs.
    pub(super) fn closed_segments(&self) -> Vec<(SegmentNumber, SegmentUse)> {
        self.settle(usize::MAX);
        let books = self.books.lock();
        let last = books.segments.keys().next_back().copied();
        let segments = books.segments.iter().map(|(number, segment)| (*number, *segment));
        segments.filter(|(number, segment)| Some(*number) != last && segment.open == 0).collect()
    }

    /// How a segment is used, if it is there.
    pub(super) fn segment(&self, number: SegmentNumber) -> Option<SegmentUse> {
        self.books.lock().segments.get(&number).copied()
    }

    /// Takes a segment off the books, so that it is removed once.
    pub(super) fn retire(&self, number: SegmentNumber) -> Option<SegmentUse> {
        self.books.lock().segments.remove(&number)
    }

    /// Puts a segment back that could not be removed.
    pub(super) fn restore(&self, number: SegmentNumber, segment: SegmentUse) {
        self.books.lock().segments.insert(number, segment);
    }

    /// Those of `segments` that no row points to. Blocks.
    ///
    /// # Errors
    /// If a row cannot be read or decoded: then nobody knows where it points.
    pub(super) fn unneeded(
        &self,
        mut segments: BTreeSet<SegmentNumber>,
    ) -> Result<BTreeSet<SegmentNumber>, StoreError> {
        self.each_row(&[], &mut |_, _, runs| {
            for (number, _) in runs.bytes_by_segment() {
                segments.remove(&number);
            }
            if segments.is_empty() { Visit::Stop } else { Visit::Next }
        })?;
        Ok(segments)
    }

    /// Shows the rows of sealed extents behind the key `after` of `Family::Chunks`. Blocks.
    ///
    /// # Errors
    /// If a row cannot be read or decoded.
    pub(super) fn each_row(
        &self,
        after: &[u8],
        visit: &mut dyn FnMut(FragmentKey, &[u8], Runs) -> Visit,
    ) -> Result<(), StoreError> {
        let mut undecoded = None;
        let range = KeyRange { start: after.to_vec(), end: None };
        self.meta.scan(Family::Chunks, &range, &mut |row_key, row| {
            let Some(key) = parse_chunks_key(row_key, self.disk).filter(|_| row_key != after)
            else {
                return Visit::Next;
            };
            match IndexRow::decode(row) {
                Some((IndexRow::Sealed(runs), [])) => visit(key, row, runs),
                Some((IndexRow::Suspect, [])) => Visit::Next,
                _ => {
                    undecoded = Some(key);
                    Visit::Stop
                }
            }
        })?;
        undecoded.map_or(Ok(()), |key| {
            Err(StoreError::Damaged {
                path: Family::Chunks.name().into(),
                reason: format!(
                    "the row of extent {} cannot be decoded; write the extent again, or forget it",
                    key.extent
                ),
            })
        })
    }

    pub(super) fn figures(&self) -> SegmentFigures {
        self.settle(usize::MAX);
        let books = self.books.lock();
        let mut figures = SegmentFigures {
            segments: super::widened(books.segments.len()),
            open_extents: books.open_extents,
            ..SegmentFigures::default()
        };
        for segment in books.segments.values() {
            figures.bytes = figures.bytes.saturating_add(segment.length);
            figures.live_bytes = figures.live_bytes.saturating_add(segment.live);
            figures.dead_bytes = figures.dead_bytes.saturating_add(segment.dead());
        }
        figures
    }
}
