//! Records and chunks of one node, durable and checked (Dynamo §5).
//!
//! # Invariants
//! 1. A commit that was answered is on stable storage: its batch, or its seal, was synced first.
//! 2. Whatever [`MetaStore::get`] and [`MetaStore::scan`] show of a synced family is durable;
//!    pending rows are seen only by the merge that replaces them.
//! 3. A chunk is served only if its CRC-32C matches; damage is an error of its own and is never
//!    taken for absence.
//! 4. A failed sync stops its disk: nothing more is acknowledged from it.
//!
//! `simulation/tests/store_crash.rs` cuts power at every step and damages every part of a segment;
//! `simulation/tests/store_conformance.rs` holds the twins to what the real seams do.
//!
//! This folder does not interpret a value, resolve a conflict, or know a peer.

mod disk;
mod error;
mod meta;

mod folder;
mod rocks;

mod committer;
mod driver;
mod figures;
mod rows;
mod segment;

pub use committer::CommitLimits;
pub use disk::{Create, Disk, DiskFile, DiskSpace};
pub use error::StoreError;
pub use folder::FolderDisk;
pub use meta::{
    Batch, Cached, Durability, Family, FamilyVisitor, KeyRange, MetaFigures, MetaStore, Operation,
    Visit, decode_sum, encode_sum, next_prefix,
};
pub use rocks::{MetaOptions, RocksMeta};
pub use rows::{Decided, Rows};
pub use segment::{
    CheckedChunk, CompactionLimits, CompactionReport, CompactionStep, DamagedSpan, FreshExtent,
    HeldExtent, RecoveryReport, SealedExtent, SegmentFigures, SegmentLog, SegmentOptions, TornTail,
    VerifiedExtent,
};
