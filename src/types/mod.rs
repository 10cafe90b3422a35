//! The vocabulary that every floor shares: ids, zones, keys, byte counts.
//!
//! # Invariants
//! 1. An id is never reused: ids are random, 128 bits wide, drawn behind the entropy seam.
//! 2. A [`Key`] is 1 to 1,024 bytes of UTF-8, whatever characters they are.

mod bytecount;
mod id;
mod key;
mod zone;

pub use bytecount::{ByteCount, ParseByteCountError};
pub use id::{BucketId, ClusterId, DiskId, ExtentId, NodeId, OperationId, ParseIdError, UploadId};
pub use key::{InvalidKey, KEY_BYTES_MAX, Key};
pub use zone::Zone;
