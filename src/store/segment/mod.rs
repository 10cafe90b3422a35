//! The segment log: chunks of extents in append-only files, many writers to one sync.
//!
//! A put appends its chunks, then a *seal*: a record that carries the places of all chunks and the
//! caller's extent record. One `fdatasync` later the extent is durable and acknowledged. Two rows
//! are derived from the seal, unsynced: where the chunks lie (`Family::Chunks`) and the extent
//! record (`Family::Extents`). In the same batch goes the log's *position*, up to which all rows
//! are derived; a crash loses a suffix of RocksDB's log, rows and position together, so recovery
//! replays the seals behind the position that survived, and never undoes a later change of a row.
//!
//! What can go wrong, and what is done about it:
//!
//! - *Power is cut while records are written.* The tail of the last segment is any mix of old and
//!   new bytes. Nothing behind the last sync was acknowledged; what fails its checksum and has no
//!   valid seal behind it is cut off, and chunks without a seal are dead bytes.
//! - *Bytes rot, or a file is cut.* What fails its checksum before the surviving position, before
//!   a valid seal, or in an older segment was synced once: that is damage. It is kept, reported and
//!   counted; the search for the next valid header goes on behind it; extents that may have had
//!   their seal there answer `Damaged`, never absence; and writing goes on in another segment.
//!   Damage before the position is not looked for at start: reads find it.
//! - *A seal survives a crash and one of its chunks does not.* Whether it was acknowledged cannot
//!   be told, so the extent answers `Damaged` for that chunk.
//! - *A record is read from the wrong place*, or a client stores bytes that look like a record, or
//!   a whole segment file. A header's checksum covers the disk's random id, the segment and the
//!   offset, so it holds at one place only.
//! - *The disk is full.* The written part is cut off again, the extents in it fail with `Full`,
//!   and the log goes on from where it was.
//! - *A sync fails.* The kernel may have dropped the pages, and a second sync would report
//!   success: the log stops, and nothing is acknowledged until the node is restarted.
//! - *The index cannot be written after the sync.* The seal is answered with that error: like any
//!   failed write, it may or may not be there after a restart.
//! - *A writer goes away.* Its extent is abandoned; without a seal its chunks are dead bytes.
//! - *An extent is sealed again*, because a chunk of it was damaged, or a compaction moved it. The
//!   new row replaces the old one, whose bytes are dead. If a crash kept the new seal and lost one
//!   of its chunks, recovery keeps the old row, whose bytes are still there.
//! - *A crash between creating a segment and using it.* The old segment is synced before a new one
//!   is created, and the folder before the new one is used; a last segment without a valid header
//!   and without seals is removed.
//!
//! # Compaction
//!
//! Bytes die when an extent is forgotten, sealed again or abandoned. A compaction copies what
//! lives in a segment to the end of the log, makes the copies durable with a seal of another kind
//! (`Moved`), moves the rows, and removes the file. The races, and who wins:
//!
//! - *The extent is being forgotten.* [`SegmentLog::forget`] only adds to a batch that somebody
//!   commits later. The batch holds the extent until it was committed, failed or dropped, and a
//!   row that is held is not moved; looking and moving are under the lock that `forget` takes too.
//!   If the batch failed, the row and its bytes are where they were. A `Moved` seal whose row was
//!   not moved stays in the log: recovery applies it only to a row that is there, so it does not
//!   bring the extent back.
//! - *The extent is sealed again.* Both go through the one writer, and a row is moved only if it
//!   is the one whose chunks were copied.
//! - *The extent is still being written.* Its chunks may lie in a segment without a row that says
//!   so; the writer knows, and such a segment stays.
//! - *A reader has found the old place.* Bytes there do not change. If the file is gone, or
//!   anything else fails, the reader looks at the row again, and says `Damaged` only if the row
//!   still names what it tried.
//! - *A chunk is damaged.* It is not copied, and its extent not moved: it answers `Damaged` as
//!   before, and the segment stays until the extent is written again or forgotten.
//! - *A crash.* Until the file is removed, both copies are there and every row points to one. A
//!   file that a crash brings back is dead: no row points to it.
//!
//! # Invariants
//! 1. A seal is answered only after its segment was synced, all its chunks with it.
//! 2. A row derived from a seal is written only after that sync, so whatever can be found is
//!    durable.
//! 3. Recovery repeated changes nothing more.
//! 4. A segment is removed only when no row points to it and none can come to: the position is
//!    durable behind it, so no seal is replayed that names it; no extent that is being written has
//!    chunks in it; and after both, no row of the whole index names it.
//! 5. A compaction never creates a row: it replaces one, and what it names holds the same bytes.
//! 6. The row of an extent in `Family::Fresh` is written with the rows of a seal, never with those
//!    of a compaction.

mod compaction;
mod files;
mod index;
mod inventory;
mod ledger;
mod log;
mod reader;
mod record;
mod recovery;
mod scan;
mod writer;

use std::path::PathBuf;

pub use compaction::{CompactionLimits, CompactionReport, CompactionStep};
pub use inventory::{FreshExtent, HeldExtent, VerifiedExtent};
pub use log::SegmentLog;
pub use reader::CheckedChunk;
pub use recovery::{DamagedSpan, RecoveryReport, TornTail};

use super::error::StoreError;
use crate::types::{ByteCount, DiskId, ExtentId};
use bytes::Bytes;

/// One fragment of an extent; replicated extents have the fragment 0 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FragmentKey {
    extent: ExtentId,
    fragment: u8,
}

/// Bounds of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    /// The data folder's own id, which is part of every checksum of a header.
    pub disk: DiskId,
    /// Bytes after which another segment is begun. Default 256 MiB.
    pub segment_size: ByteCount,
    /// Bytes of chunks that are queued or being written; more of them wait. Default 32 MiB.
    pub queue_bytes_max: ByteCount,
    /// Extents that are appended to and not sealed; appends to more are refused. Default 16,384.
    pub open_extents_max: usize,
}

impl SegmentOptions {
    /// The defaults for the folder of `disk`.
    #[must_use]
    pub const fn new(disk: DiskId) -> Self {
        Self {
            disk,
            segment_size: ByteCount::mib(256),
            queue_bytes_max: ByteCount::mib(32),
            open_extents_max: 16_384,
        }
    }
}

/// An extent (or fragment) that is durable here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedExtent {
    /// Bytes of all chunks.
    pub length: u64,
    /// How many chunks.
    pub chunks: u32,
    /// The extent's row as it is now: the record given at the seal, or what replaced it since.
    pub record: Bytes,
}

/// Sizes for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentFigures {
    /// Segment files.
    pub segments: u64,
    /// Bytes in them, dead ones included.
    pub bytes: u64,
    /// Bytes of the chunks that sealed extents consist of, with their headers.
    pub live_bytes: u64,
    /// Bytes that nothing needs, about: of forgotten, replaced and abandoned chunks.
    pub dead_bytes: u64,
    /// Extents that are being written.
    pub open_extents: u64,
}

/// The number of a segment: its files sort in the order of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SegmentNumber(u32);

impl SegmentNumber {
    fn file_name(self) -> String {
        format!("{:010}.seg", self.0)
    }

    fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".seg")?;
        let number = digits.parse().ok().map(Self)?;
        (number.file_name() == name).then_some(number)
    }

    fn next(self) -> Self {
        // 2^32 segments of 256 MiB are an exabyte on one disk.
        Self(self.0.saturating_add(1))
    }

    fn damaged(self, reason: impl Into<String>) -> StoreError {
        StoreError::Damaged { path: PathBuf::from(self.file_name()), reason: reason.into() }
    }
}

fn refused(action: &'static str, key: FragmentKey, reason: impl Into<String>) -> StoreError {
    let path = PathBuf::from(format!("extent {}, fragment {}", key.extent, key.fragment));
    StoreError::Io { action, path, reason: reason.into() }
}

fn widened(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "../../../tests/fuzz/store.rs"]
mod fuzz;
