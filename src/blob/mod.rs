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
//!
//! Bytes that no head names any more (overwritten, deleted, or of a put that failed after a
//! seal) stay on disk until the collector of a later release.

mod extent;
mod reader;
mod service;
mod wire;
mod writer;

pub use extent::{CHUNK_BYTES, EXTENT_BYTES_MAX, ExtentRecord, ExtentRef};
pub use service::{BLOB_SERVICE, BlobError, Blobs};
pub use writer::{BlobWriter, STALL_MAX};
