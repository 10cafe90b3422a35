//! Which buckets, credentials, objects and uploads exist.
//!
//! # Invariants
//! 1. An object exists from the moment its head is durable on a quorum; before it nothing of a
//!    put is visible, after it everything is.
//! 2. A refused body (digest, signature, length) is never committed.
//! 3. "There is no such key" is said by a quorum only.
//! 4. A bucket that is being deleted takes nothing in at any owner; one that is created again
//!    has another id, so no row of the old one belongs to it.
//! 5. A change of a bucket is acknowledged once no owner takes writes that were begun before it.
//! 6. A write that lost to a concurrent one is listed.
//! 7. Secrets are encrypted wherever they are stored.
//! 8. A value of the key-value API that was acknowledged stands until a write supersedes it whose
//!    writer had seen it.

mod body;
mod buckets;
mod closed_uploads;
mod collector;
mod companion;
mod completion;
mod composite;
mod conflicts;
mod epochs;
mod error;
mod freshness;
mod full_copy;
mod history;
mod keys;
mod kv;
mod kv_row;
mod listing;
mod local_copy;
mod location;
mod objects;
mod orphans;
mod reader;
mod records;
mod remote;
mod rows;
mod secret_box;
mod service;
mod unref;
mod uploads;

pub use body::{BodyError, BodySource, ByteStream, VerifiedBody};
pub use collector::CollectionSettings;
pub use conflicts::LostWrite;
pub use error::CatalogError;
pub use history::{ObjectHistory, StandingWrite};
pub use kv::{
    KV_VALUE_MAX, KvEntry, KvPage, KvPlace, KvRead, KvScan, KvValueRead, KvWritten,
    kv_after_prefix, kv_context_scope,
};
pub use location::{KeyLocation, OwnerHolds};
pub use orphans::PurgeFloors;
pub use reader::ObjectReader;
pub use records::{
    BucketName, BucketRecord, COPIES_MAX, Checksum, ChecksumAlgorithm, ChecksumKind, Credential,
    InvalidBucketName, LevelRefused, NewObject, ObjectHead, OwnerId, PartFacts, PartSummary,
    UploadSummary,
};
pub use remote::CATALOG_SERVICE;
pub use secret_box::{CannotOpen, SecretBox};
pub use service::{
    Catalog, CatalogLimits, CreateBucket, ListEntry, ListObjects, ListPage, ListParts, ListUploads,
    PartsPage, PutReceipt, UploadsPage,
};
pub use uploads::NamedPart;

#[cfg(test)]
#[path = "../../tests/fuzz/catalog.rs"]
mod fuzz;
