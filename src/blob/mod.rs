//! Bytes too large to lie beside their record: extents of checked chunks on their owners.
//!
//! # Invariants
//! 1. An extent is written once and never changes; its id is never used again.
//! 2. An extent counts as written when W of its owners have synced its chunks and its seal.
//! 3. A chunk leaves a disk checked and is checked again by the gateway that serves it (I5).
//! 4. Missing or damaged bytes under a live head are an error, never an empty answer.
//!
//! # What can go wrong, and what answers it
//! - *An owner dies in the middle of an extent.* Its lane fails; the writer goes on while W
//!   lanes are left, and the head is committed only after W seals.
//! - *An owner hangs.* Its lane's queue fills; after [`STALL_MAX`] the lane is given up.
//! - *The gateway dies in the middle.* The stream breaks off without a seal; owners forget the
//!   chunks, which no index ever named.
//! - *The client sends a bad digest.* The writer is dropped before the last seal; nothing was
//!   committed.
//! - *A reader's source dies or its chunk is damaged.* The reader goes on at the same chunk with
//!   the next owner.
//! - *Bytes are missing, or rot, at an owner.* Its row of the extent is flagged in the same batch
//!   that queues a fetch; the fetcher brings a good copy from whoever has one.
//! - *Nothing names an extent any more.* Its row is made to say so, and whoever merges that
//!   forgets the bytes in the same batch; compaction gives their room back.
//!
//! Two tables are about extents. `extents` and `chunks` say which bytes this disk *has*, and are
//! derived from its segments. The replicated table of [`ExtentRow`]s says which bytes *should*
//! exist: an owner keeps an extent's bytes if and only if its own live row says so.

mod attached;
mod compaction;
mod extent;
mod extent_row;
mod fetcher;
mod lane;
mod push;
mod reader;
mod registrar;
mod scrubber;
mod service;
mod upkeep;
mod wanted;
mod wire;
mod writer;

pub use extent::{
    CHUNK_BYTES, EXTENT_BYTES_MAX, ExtentRecord, ExtentRef, NewBytes, ObjectName, Origin,
    extent_of, extent_row,
};
pub use extent_row::{ExtentRow, ExtentState};
pub use lane::STALL_MAX;
pub use service::{BLOB_SERVICE, BlobError, Blobs};
pub use upkeep::UpkeepSettings;
pub use wanted::ExtentCompanion;
pub use writer::BlobWriter;

#[cfg(test)]
#[path = "../../tests/fuzz/blob.rs"]
mod fuzz;
