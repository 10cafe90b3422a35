//! Which buckets, credentials, objects and uploads exist.

mod body;
mod composite;
mod error;
mod records;
mod service;

pub use body::{BodyError, BodySource, ByteStream, VerifiedBody};
pub use composite::{CompositeError, PartSum, combined_checksum, multipart_etag};
pub use error::CatalogError;
pub use records::{
    BucketName, BucketRecord, Checksum, ChecksumAlgorithm, ChecksumKind, Credential,
    InvalidBucketName, NewObject, ObjectHead, OwnerId, PartFacts, PartSummary, UploadSummary,
};
pub use service::{
    Catalog, CreateBucket, ListEntry, ListObjects, ListPage, ListParts, ListUploads, ObjectReader,
    PartsPage, PutReceipt, UploadsPage,
};
