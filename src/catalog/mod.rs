//! Which buckets, credentials, objects and uploads exist.
//!
//! # Invariants
//! 1. An object exists from the moment its head is durable on a quorum; before it nothing of a
//!    put is visible, after it everything is.
//! 2. A refused body (digest, signature, length) is never committed.
//! 3. "There is no such key" is said by a quorum only.
//! 4. A bucket that is being deleted takes nothing in at any owner; one that is created again
//!    has another id, so no row of the old one belongs to it.
//! 5. Secrets are encrypted wherever they are stored.

mod body;
mod buckets;
mod closed_uploads;
mod collector;
mod companion;
mod composite;
mod error;
mod full_copy;
mod keys;
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
pub use error::CatalogError;
pub use location::{KeyLocation, OwnerHolds};
pub use orphans::PurgeFloors;
pub use reader::ObjectReader;
pub use records::{
    BucketName, BucketRecord, Checksum, ChecksumAlgorithm, ChecksumKind, Credential,
    InvalidBucketName, NewObject, ObjectHead, OwnerId, PartFacts, PartSummary, UploadSummary,
};
pub use remote::CATALOG_SERVICE;
pub use secret_box::{CannotOpen, SecretBox};
pub use service::{
    Catalog, CatalogLimits, CreateBucket, ListEntry, ListObjects, ListPage, ListParts, ListUploads,
    PartsPage, PutReceipt, UploadsPage,
};
pub use uploads::NamedPart;
