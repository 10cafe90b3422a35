//! Opens a log: derives the rows that a crash lost, cuts a torn tail, reports damage.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::files::SegmentFiles;
use super::index::{
    IndexRow, Runs, chunks_key, decode_position, encode_position, extent_key, position_key,
    sealed_runs,
};
use super::reader::read_checked;
use super::record::{FileHeader, HEADER_LENGTH, Kind, Place};
use super::scan::{BadSpan, FoundSeal, Hidden, SegmentScan, scan};
use super::{FragmentKey, SegmentNumber};
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::store::disk::Create;
use crate::store::error::StoreError;
use crate::store::figures::DAMAGED_SPANS;
use crate::store::meta::{Batch, Durability, Family, MetaStore};
use crate::types::{DiskId, ExtentId};

/// Spans and extents that a report lists; more are only counted.
const REPORTED_MAX: usize = 1000;
/// Bytes of rows derived in one write.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segment files.
    pub segments: u64,
    /// Bytes read behind the position that the tables knew.
    pub replayed_bytes: u64,
    /// Extents whose rows were derived again.
    pub replayed_seals: u64,
    /// The tail that a crash tore, and that was cut off.
    pub torn: Option<TornTail>,
    /// Damaged spans, the first thousand.
    pub damage: Vec<DamagedSpan>,
    /// Damaged spans in all.
    pub damage_count: u64,
    /// Extents that may have been sealed in a damaged span, the first thousand. They answer
    /// `Damaged` until they are written again.
    pub suspects: Vec<(ExtentId, u8)>,
}

/// Bytes cut off the last segment: never acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment's number.
    pub segment: u32,
    /// Where it was cut.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
}

/// Bytes that were synced once and do not match their checksums now, or are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedSpan {
    /// The segment's number.
    pub segment: u32,
    /// The first bad byte.
    pub start: u64,
    /// The next byte that is good, or the end.
    pub end: u64,
}

/// Where the writer goes on.
pub(super) struct Recovered {
    pub(super) report: RecoveryReport,
    /// The last segment and its end, unless nothing may be written behind what it holds.
    pub(super) active: Option<Place>,
    /// The number of the next segment.
    pub(super) next: SegmentNumber,
    /// Up to where all rows are derived.
    pub(super) position: Option<Place>,
    /// The length of every segment.
    pub(super) lengths: BTreeMap<SegmentNumber, u64>,
}

/// Recovers the log of `disk`. Blocks.
pub(super) fn recover(
    files: &SegmentFiles,
    meta: &dyn MetaStore,
    disk: DiskId,
) -> Result<Recovered, StoreError> {
    let mut numbers: Vec<SegmentNumber> =
        files.disk().list()?.iter().filter_map(|name| SegmentNumber::parse(name)).collect();
    let known = known_position(meta, disk)?;
    remove_unused(files, disk, &mut numbers, known)?;
    let mut recovery = Recovery {
        files,
        disk,
        last: numbers.last().copied(),
        replay: Replay::default(),
        report: RecoveryReport { segments: super::widened(numbers.len()), ..Default::default() },
        tail_is_clean: true,
    };
    let mut lengths = BTreeMap::new();
    if let Some(known) = known
        && !numbers.contains(&known.segment)
    {
        recovery.damage(known.segment, 0, known.offset);
    }
    for number in numbers {
        let from = known.map_or(0, |known| match known.segment.cmp(&number) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => known.offset,
            std::cmp::Ordering::Greater => u64::MAX,
        });
        lengths.insert(number, recovery.segment(number, from)?);
    }
    recovery.finish(meta, known, lengths)
}

/// A last segment with neither header nor seals was being created when power was cut.
fn remove_unused(
    files: &SegmentFiles,
    disk: DiskId,
    numbers: &mut Vec<SegmentNumber>,
    known: Option<Place>,
) -> Result<(), StoreError> {
    let Some(&last) = numbers.last() else { return Ok(()) };
    if known.is_some_and(|known| known.segment >= last) {
        return Ok(());
    }
    let found = scan(files.disk().open(&last.file_name(), Create::MustExist)?, disk, last, 0)?;
    if found.header == FileHeader::Damaged && found.seals.is_empty() {
        tracing::warn!(segment = last.0, "removed a segment whose creation was cut short");
        files.disk().remove(&last.file_name())?;
        files.disk().sync_folder()?;
        numbers.pop();
    }
    Ok(())
}

fn known_position(meta: &dyn MetaStore, disk: DiskId) -> Result<Option<Place>, StoreError> {
    let Some(row) = meta.get(Family::Local, &position_key(disk))? else { return Ok(None) };
    decode_position(&row).map(Some).ok_or_else(|| StoreError::Damaged {
        path: Family::Local.name().into(),
        reason: format!("the position of the segment log of disk {disk} cannot be decoded"),
    })
}

/// What the segments say, in order.
#[derive(Default)]
struct Replay {
    seals: Vec<(SegmentNumber, FoundSeal)>,
    seen: BTreeMap<FragmentKey, Place>,
    damaged: Vec<(Place, Hidden)>,
    end: Option<Place>,
}

struct Recovery<'a> {
    files: &'a SegmentFiles,
    disk: DiskId,
    last: Option<SegmentNumber>,
    replay: Replay,
    report: RecoveryReport,
    tail_is_clean: bool,
}

impl Recovery<'_> {
    /// Takes in one segment from `from` on and returns its length.
    fn segment(&mut self, number: SegmentNumber, from: u64) -> Result<u64, StoreError> {
        let file = self.files.existing(number)?;
        if from == u64::MAX {
            return file.length();
        }
        let mut found = scan(std::sync::Arc::clone(&file), self.disk, number, from)?;
        if found.header == FileHeader::Foreign {
            return Err(number.damaged(format!(
                "it belongs to another disk than {} or to a newer release; check which folder this is",
                self.disk
            )));
        }
        if found.length < from {
            self.damage(number, found.length, from);
            self.replay
                .damaged
                .push((Place { segment: number, offset: found.length }, Hidden::Anything));
        }
        if found.header == FileHeader::Damaged {
            self.damage(number, 0, HEADER_LENGTH.min(found.length));
        }
        if let Some(cut) = self.torn(number, &found) {
            file.truncate(cut)?;
            probe::sometimes("a torn tail is cut");
            self.report.torn =
                Some(TornTail { segment: number.0, offset: cut, bytes: found.length - cut });
            tracing::warn!(
                segment = number.0,
                offset = cut,
                bytes = found.length - cut,
                "cut the tail that a crash tore off the segment log"
            );
            found.bad.retain(|span| span.start < cut);
            found.seen.retain(|_, offset| *offset < cut);
            found.length = cut;
        }
        // What is replayed becomes readable, so it must be durable first.
        file.sync()?;
        self.report.replayed_bytes += found.length.saturating_sub(from);
        let length = found.length;
        self.take_in(number, from, found);
        Ok(length)
    }

    /// Where to cut: the first bad span behind the last seal of the last segment.
    fn torn(&self, number: SegmentNumber, found: &SegmentScan) -> Option<u64> {
        if Some(number) != self.last {
            return None;
        }
        let sealed = found.seals.last().map_or(0, |seal| seal.offset);
        found.bad.iter().map(|span| span.start).find(|start| *start > sealed)
    }

    fn take_in(&mut self, number: SegmentNumber, from: u64, found: SegmentScan) {
        for BadSpan { start, end, hidden } in found.bad {
            self.damage(number, start, end);
            self.replay.damaged.push((Place { segment: number, offset: start }, hidden));
        }
        for (key, offset) in found.seen {
            self.replay.seen.entry(key).or_insert(Place { segment: number, offset });
        }
        self.replay.seals.extend(found.seals.into_iter().map(|seal| (number, seal)));
        self.replay.end = Some(Place { segment: number, offset: found.length.max(from) });
    }

    fn damage(&mut self, segment: SegmentNumber, start: u64, end: u64) {
        DAMAGED_SPANS.inc();
        tracing::error!(segment = segment.0, start, end, disk = %self.disk,
            "damage in the segment log: other copies are needed for what was there");
        self.report.damage_count += 1;
        if self.report.damage.len() < REPORTED_MAX {
            self.report.damage.push(DamagedSpan { segment: segment.0, start, end });
        }
        if Some(segment) == self.last {
            self.tail_is_clean = false;
        }
    }

    /// Extents whose seal may have been in a damaged span.
    fn suspects(&self) -> BTreeSet<FragmentKey> {
        let seals = self.replay.seals.iter().filter(|(_, seal)| seal.kind == Kind::Seal);
        let sealed: BTreeSet<FragmentKey> = seals.map(|(_, seal)| seal.key).collect();
        let mut suspects = BTreeSet::new();
        for (damage, hidden) in &self.replay.damaged {
            match hidden {
                Hidden::Chunk => {}
                Hidden::Seal(key) => suspects.extend(Some(*key)),
                Hidden::Anything => suspects.extend(
                    self.replay
                        .seen
                        .iter()
                        .filter(|(_, first)| *first < damage)
                        .map(|(key, _)| *key),
                ),
            }
        }
        suspects.retain(|key| !sealed.contains(key));
        suspects
    }

    fn finish(
        mut self,
        meta: &dyn MetaStore,
        known: Option<Place>,
        lengths: BTreeMap<SegmentNumber, u64>,
    ) -> Result<Recovered, StoreError> {
        let mut rows =
            Rows { meta, disk: self.disk, batch: Batch::new(), replayed: BTreeMap::new() };
        if is_planted(Mutation::SkipReplay) {
            self.replay.seals.clear();
        }
        let suspects = self.suspects();
        for (_, seal) in std::mem::take(&mut self.replay.seals) {
            probe::sometimes("a seal is replayed");
            let absence = match known {
                Some(_) if !suspects.contains(&seal.key) => Absence::Forgotten,
                _ => Absence::Lost,
            };
            self.replay_seal(&mut rows, seal, absence)?;
        }
        for key in suspects {
            if rows.current(key)?.is_none() {
                rows.batch.put(
                    Family::Chunks,
                    chunks_key(key, self.disk),
                    IndexRow::Suspect.encode(),
                );
                self.report.suspects.push((key.extent, key.fragment));
                rows.flush_if_large()?;
            }
        }
        self.report.suspects.truncate(REPORTED_MAX);
        if let Some(end) = self.replay.end.filter(|end| Some(*end) != known) {
            rows.batch.put(Family::Local, position_key(self.disk), encode_position(end));
        }
        rows.flush(Durability::Synced)?;
        let newest = self.last.max(known.map(|known| known.segment));
        let next = newest.map_or(SegmentNumber(1), SegmentNumber::next);
        let clean = self.tail_is_clean && newest == self.last;
        let active = self.replay.end.filter(|end| clean && Some(end.segment) == self.last);
        let position = self.replay.end.or(known);
        Ok(Recovered { report: self.report, active, next, position, lengths })
    }

    /// Derives the rows of one seal.
    fn replay_seal(
        &mut self,
        rows: &mut Rows<'_>,
        seal: FoundSeal,
        absence: Absence,
    ) -> Result<(), StoreError> {
        let row = rows.current(seal.key)?;
        let before = row.as_deref().and_then(sealed_runs);
        // A power cut may have kept a seal and lost one of its chunks. The bytes that it was to
        // replace are still there: their segment goes only once such a seal is not replayed.
        if let Some(before) = &before
            && !self.is_intact(&seal, before)
        {
            tracing::warn!(extent = %seal.key.extent, fragment = seal.key.fragment,
                "kept an extent's older bytes: the newer ones did not survive a crash");
            return Ok(());
        }
        let moved = seal.kind == Kind::Moved;
        if moved && row.is_none() && absence == Absence::Forgotten {
            return Ok(());
        }
        rows.batch.put(Family::Chunks, chunks_key(seal.key, self.disk), seal.row.clone());
        if !moved || before.is_none() {
            rows.batch.put(Family::Extents, extent_key(seal.key), seal.record);
            rows.batch.put(Family::Fresh, extent_key(seal.key), Bytes::new());
        }
        rows.replayed.insert(seal.key, seal.row);
        self.report.replayed_seals += 1;
        rows.flush_if_large()
    }

    /// Whether all chunks of a seal that do not lie where they lay `before` can be read.
    fn is_intact(&self, seal: &FoundSeal, before: &Runs) -> bool {
        let Some(runs) = sealed_runs(&seal.row) else { return false };
        let mut old = before.iter();
        (0..).zip(runs.iter()).all(|(chunk, located)| {
            old.next() == Some(located)
                || read_checked(self.files, self.disk, seal.key, chunk, located).is_ok()
        })
    }
}

/// Why an extent that was sealed before has no row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// Its older seal was derived, so somebody forgot it.
    Forgotten,
    /// There may have been one.
    Lost,
}

/// Derived rows on their way.
struct Rows<'a> {
    meta: &'a dyn MetaStore,
    disk: DiskId,
    batch: Batch,
    /// The last row of each extent that was replayed.
    replayed: BTreeMap<FragmentKey, Bytes>,
}

impl Rows<'_> {
    /// The extent's row as far as it was replayed.
    fn current(&self, key: FragmentKey) -> Result<Option<Bytes>, StoreError> {
        match self.replayed.get(&key) {
            Some(row) => Ok(Some(row.clone())),
            None => self.meta.get(Family::Chunks, &chunks_key(key, self.disk)),
        }
    }

    fn flush_if_large(&mut self) -> Result<(), StoreError> {
        // Counting the weight of a batch walks over it, so only every so many rows.
        let due = self.batch.operations().len().is_multiple_of(512);
        if due && self.batch.weight() > BATCH_BYTES_MAX {
            return self.flush(Durability::Derived);
        }
        Ok(())
    }

    fn flush(&mut self, durability: Durability) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.meta.write(&[batch], durability)
    }
}
