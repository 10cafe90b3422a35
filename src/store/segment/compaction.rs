//! Gives the room of dead bytes back, one segment at a time.
//!
//! A segment's living chunks are copied to the end of the log, checked against their checksums on
//! the way; a seal of its own kind makes the copies durable, and the rows are moved to them. Once
//! no row points to the segment any more, and rows and position are durable, its file is removed.
//! All that a step leaves behind is in the rows, so a step that fails, or a crash, costs no more
//! than the copies whose rows were not moved: dead bytes for a later compaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::index::{IndexRow, Located, Runs, chunks_key};
use super::ledger::{Move, SegmentUse};
use super::log::{Inner, SegmentLog};
use super::record::HEADER_BYTES;
use super::writer::Work;
use super::{FragmentKey, SegmentNumber, widened};
use crate::codec::Crc32c;
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::store::error::StoreError;
use crate::store::figures::{BYTES_COMPACTED, BYTES_FREED, SEGMENTS_REMOVED};
use crate::store::meta::Visit;
use crate::types::{ByteCount, ExtentId};

/// Extents of one step.
const EXTENTS_MAX: usize = 4096;
/// Bytes of rows that one step keeps in memory.
const ROW_BYTES_MAX: usize = 4 << 20;
/// Extents, and bytes of copies, that share one sync.
const MOVES_PER_SYNC: usize = 256;
const BYTES_PER_SYNC: u64 = 8 << 20;
/// Room that a compaction leaves on the disk.
const SPARE_BYTES: u64 = 1 << 20;

/// When a segment is compacted, and how much is done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionLimits {
    /// Dead bytes of a segment, in percent, from which on it is compacted. Default 50.
    pub dead_percent_min: u8,
    /// Bytes copied in one step, unless one extent alone has more. Default 32 MiB.
    pub copied_max: ByteCount,
}

impl Default for CompactionLimits {
    fn default() -> Self {
        Self { dead_percent_min: 50, copied_max: ByteCount::mib(32) }
    }
}

/// How far a step of a compaction came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompactionStep {
    /// No segment is worth it now, or there is no room for the copies.
    #[default]
    Idle,
    /// Some extents of a segment were moved; the next step goes on.
    Copied,
    /// A segment was gone through and is still needed: by an extent that is damaged, or one that
    /// is just being forgotten. It is left alone until its use changes.
    Kept,
    /// Segments are gone.
    Removed,
}

/// What one step of a compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// How far it came.
    pub step: CompactionStep,
    /// The segments that it worked on.
    pub segments: Vec<u32>,
    /// Extents whose chunks were moved.
    pub moved_extents: u64,
    /// Bytes written for that.
    pub copied_bytes: u64,
    /// Bytes of the files that were removed.
    pub freed_bytes: u64,
    /// Extents that stay where they are, for a chunk of theirs is damaged. To be repaired.
    pub damaged: Vec<(ExtentId, u8)>,
}

/// What compactions remember from step to step; none of it is needed.
#[derive(Default)]
pub(super) struct Compacting {
    /// The segment being gone through, and the last row that was looked at.
    underway: Option<(SegmentNumber, Bytes)>,
    kept: BTreeMap<SegmentNumber, Kept>,
}

/// A segment that was gone through and could not be removed.
struct Kept {
    live: u64,
    /// Whether it is for damage, which only another use of the segment ends.
    for_damage: bool,
}

/// An extent with chunks in the segment.
struct Candidate {
    key: FragmentKey,
    row: Bytes,
    runs: Runs,
}

/// Extents to move, in the order of their rows.
struct Candidates {
    extents: Vec<Candidate>,
    /// Whether there may be more behind them.
    more: bool,
}

impl SegmentLog {
    /// Does one step of compaction: removes the segments that nothing needs, else moves extents
    /// out of the segment with the most dead bytes. Call it again at once unless it says
    /// [`CompactionStep::Idle`] or [`CompactionStep::Kept`]; pauses are the caller's. Concurrent
    /// calls wait for one another; one that is dropped half-way does no harm.
    ///
    /// # Errors
    /// [`StoreError::Full`] if there was no room for copies; [`StoreError::Damaged`] if a row of
    /// the index cannot be read, for nobody knows which segment it needs;
    /// [`StoreError::Stopped`]. Nothing is lost.
    pub async fn compact(&self, limits: CompactionLimits) -> Result<CompactionReport, StoreError> {
        let mut compacting = self.inner.compacting.lock().await;
        let ledger = Arc::clone(&self.inner.ledger);
        let segments = self.inner.blocking(move || Ok(ledger.closed_segments())).await?;
        compacting.forget_gone(&segments);
        let dead = segments.iter().filter(|(_, segment)| segment.live == 0);
        let dead: BTreeSet<SegmentNumber> = dead
            .map(|(number, _)| *number)
            .filter(|number| !compacting.is_kept(*number, 0))
            .collect();
        if !dead.is_empty() {
            let report = self.inner.remove(dead.clone()).await?;
            if report.step == CompactionStep::Removed {
                return Ok(report);
            }
            compacting.kept.extend(
                dead.into_iter().map(|number| (number, Kept { live: 0, for_damage: false })),
            );
        }
        let free = self.space().await?.free;
        let Some(victim) = compacting.choose(&segments, limits, free) else {
            // What was being forgotten may have failed since.
            compacting.kept.retain(|_, kept| kept.for_damage);
            return Ok(CompactionReport::default());
        };
        self.compact_segment(&mut compacting, victim, limits).await
    }

    async fn compact_segment(
        &self,
        compacting: &mut Compacting,
        victim: SegmentNumber,
        limits: CompactionLimits,
    ) -> Result<CompactionReport, StoreError> {
        let after = compacting.after(victim);
        let inner = &self.inner;
        let found = inner.candidates(victim, after, limits.copied_max).await?;
        let last = found.extents.last().map(|last| chunks_key(last.key, inner.ledger.disk()));
        let mut report =
            CompactionReport { segments: vec![victim.0], ..CompactionReport::default() };
        inner.move_all(victim, found.extents, &mut report).await?;
        if found.more {
            compacting.underway = last.map(|last| (victim, last));
            report.step = CompactionStep::Copied;
            return Ok(report);
        }
        compacting.underway = None;
        let removed = inner.remove(BTreeSet::from([victim])).await?;
        report.freed_bytes = removed.freed_bytes;
        report.step = removed.step;
        if let Some(segment) = inner.ledger.segment(victim) {
            report.step = CompactionStep::Kept;
            let for_damage = !report.damaged.is_empty();
            compacting.kept.insert(victim, Kept { live: segment.live, for_damage });
        }
        Ok(report)
    }
}

impl Compacting {
    fn is_kept(&self, number: SegmentNumber, live: u64) -> bool {
        self.kept.get(&number).is_some_and(|kept| kept.live == live)
    }

    fn after(&self, victim: SegmentNumber) -> Bytes {
        match &self.underway {
            Some((segment, after)) if *segment == victim => after.clone(),
            _ => Bytes::new(),
        }
    }

    fn forget_gone(&mut self, segments: &[(SegmentNumber, SegmentUse)]) {
        let there = |number| segments.iter().any(|(other, _)| *other == number);
        self.underway = self.underway.take().filter(|(number, _)| there(*number));
        self.kept.retain(|number, _| there(*number));
    }

    /// The segment under way, else the one with the most dead bytes of those that are dead enough
    /// and whose living bytes find room.
    fn choose(
        &self,
        segments: &[(SegmentNumber, SegmentUse)],
        limits: CompactionLimits,
        free: u64,
    ) -> Option<SegmentNumber> {
        if let Some((underway, _)) = &self.underway {
            return Some(*underway);
        }
        let percent = u64::from(limits.dead_percent_min.clamp(1, 100));
        let fits = |segment: &SegmentUse| segment.live.saturating_add(SPARE_BYTES) <= free;
        let is_due = |segment: &SegmentUse| {
            segment.dead().saturating_mul(100) >= segment.length.saturating_mul(percent)
        };
        let candidates = segments
            .iter()
            .filter(|(number, segment)| !self.is_kept(*number, segment.live))
            .filter(|(_, segment)| is_due(segment) && fits(segment));
        candidates.max_by_key(|(_, segment)| segment.dead()).map(|(number, _)| *number)
    }
}

impl Inner {
    /// Extents with chunks in `victim`, behind the row `after`.
    async fn candidates(
        &self,
        victim: SegmentNumber,
        after: Bytes,
        copied_max: ByteCount,
    ) -> Result<Candidates, StoreError> {
        let ledger = Arc::clone(&self.ledger);
        let find = move || {
            let (mut copied, mut row_bytes) = (0_u64, 0_usize);
            let mut found = Candidates { extents: Vec::new(), more: false };
            ledger.each_row(&after, &mut |key, row, runs| {
                let Some(bytes) = runs.bytes_in(victim) else { return Visit::Next };
                copied = copied.saturating_add(bytes);
                row_bytes = row_bytes.saturating_add(row.len());
                let full = copied > copied_max.0
                    || row_bytes > ROW_BYTES_MAX
                    || found.extents.len() >= EXTENTS_MAX;
                if full && !found.extents.is_empty() {
                    found.more = true;
                    return Visit::Stop;
                }
                let row = Bytes::copy_from_slice(row);
                found.extents.push(Candidate { key, row, runs });
                Visit::Next
            })?;
            Ok(found)
        };
        self.blocking(find).await
    }

    /// Moves what can be moved out of `victim`.
    async fn move_all(
        &self,
        victim: SegmentNumber,
        extents: Vec<Candidate>,
        report: &mut CompactionReport,
    ) -> Result<(), StoreError> {
        let (mut moves, mut bytes) = (Vec::new(), 0);
        for extent in extents {
            let key = extent.key;
            match self.copy_out(victim, extent).await {
                Ok(Some((copied, of))) => {
                    report.copied_bytes += copied;
                    bytes += copied;
                    moves.push(of);
                }
                Ok(None) => {}
                Err(StoreError::Damaged { .. }) => report.damaged.push((key.extent, key.fragment)),
                Err(error) => {
                    // What was copied already is not to be for nothing.
                    report.moved_extents += self.move_rows(moves).await.unwrap_or_default();
                    return Err(error);
                }
            }
            if moves.len() >= MOVES_PER_SYNC || bytes >= BYTES_PER_SYNC {
                report.moved_extents += self.move_rows(std::mem::take(&mut moves)).await?;
                bytes = 0;
            }
        }
        report.moved_extents += self.move_rows(moves).await?;
        Ok(())
    }

    /// Copies an extent's chunks out of `victim`; `None` if the extent is not to be moved now.
    ///
    /// A chunk that fails its check is not copied, nor is its extent moved: what is damaged stays
    /// so, and the segment with it, until the extent is written again or forgotten.
    async fn copy_out(
        &self,
        victim: SegmentNumber,
        extent: Candidate,
    ) -> Result<Option<(u64, Move)>, StoreError> {
        let Candidate { key, row, runs } = extent;
        let runs = Arc::new(runs);
        let mut copies: BTreeMap<u32, Located> = BTreeMap::new();
        for mut range in runs.chunks_in(victim) {
            while range.start < range.end {
                if !self.ledger.is_current(key, &row)? {
                    return Ok(None);
                }
                let (reader, from, chunks) =
                    (Arc::clone(&self.reader), Arc::clone(&runs), range.clone());
                let read = self.blocking(move || Ok(reader.read_many(key, &from, chunks))).await?;
                let read: Vec<(Crc32c, Bytes)> = read.into_iter().collect::<Result<_, _>>()?;
                if read.is_empty() {
                    return Ok(None);
                }
                let next =
                    range.start.saturating_add(u32::try_from(read.len()).unwrap_or(u32::MAX));
                let numbers = range.start..next;
                let places = self.copy(key, numbers.clone(), read).await?;
                copies.extend(numbers.zip(places));
                range.start = next;
            }
        }
        let mut moved = Runs::default();
        for (number, located) in (0..).zip(runs.iter()) {
            moved.push(copies.get(&number).copied().unwrap_or(located));
        }
        let bytes = copies.values().map(Located::bytes).sum();
        let chunks = moved.chunks();
        let row_after = IndexRow::Sealed(moved).encode();
        Ok(Some((bytes, Move { key, expected: row, row: row_after, chunks })))
    }

    /// Writes chunks to the end of the log.
    async fn copy(
        &self,
        key: FragmentKey,
        numbers: std::ops::Range<u32>,
        read: Vec<(Crc32c, Bytes)>,
    ) -> Result<Vec<Located>, StoreError> {
        let bytes = read.iter().map(|(_, payload)| payload.len() + HEADER_BYTES).sum();
        let chunks: Vec<_> =
            numbers.zip(read).map(|(number, (crc, payload))| (number, crc, payload)).collect();
        BYTES_COMPACTED.inc_by(widened(bytes));
        self.ask(bytes, |reply| Work::Copy { key, chunks, reply }).await
    }

    async fn move_rows(&self, moves: Vec<Move>) -> Result<u64, StoreError> {
        if moves.is_empty() {
            return Ok(0);
        }
        let bytes = moves.iter().map(|of| of.row.len() + HEADER_BYTES).sum();
        self.ask(bytes, |reply| Work::Move { moves, reply }).await
    }

    /// Removes those of `segments` that nothing needs.
    async fn remove(
        self: &Arc<Self>,
        segments: BTreeSet<SegmentNumber>,
    ) -> Result<CompactionReport, StoreError> {
        // In this order: from the answer on, no extent that is being written has chunks there, so
        // no further row can come to point there; and no seal from before is replayed, so the
        // rows that are seen next are those that a restart finds or derives.
        let settled = match is_planted(Mutation::UnlinkUnsettled) {
            true => segments,
            false => self.ask(0, |reply| Work::Settle { segments, reply }).await?,
        };
        probe::crash_point("segments settled, not unlinked");
        let inner = Arc::clone(self);
        self.blocking(move || {
            let unneeded = inner.ledger.unneeded(settled)?;
            inner.unlink(unneeded)
        })
        .await
    }

    /// Removes the files of segments. Blocks.
    fn unlink(&self, segments: BTreeSet<SegmentNumber>) -> Result<CompactionReport, StoreError> {
        let mut report = CompactionReport::default();
        for number in segments {
            // A call that was dropped may be doing the same.
            let Some(segment) = self.ledger.retire(number) else { continue };
            if let Err(error) = self.files.remove(number) {
                self.ledger.restore(number, segment);
                return Err(error);
            }
            tracing::info!(segment = number.0, bytes = segment.length, "removed a dead segment");
            SEGMENTS_REMOVED.inc();
            probe::sometimes("a dead segment is removed");
            BYTES_FREED.inc_by(segment.length);
            report.segments.push(number.0);
            report.freed_bytes += segment.length;
            report.step = CompactionStep::Removed;
        }
        if report.step == CompactionStep::Removed
            && let Err(error) = self.files.disk().sync_folder()
        {
            self.stop(&error);
            return Err(error);
        }
        Ok(report)
    }
}
