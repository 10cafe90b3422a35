//! What the fronts ask of the catalogue.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::replication::{Level, Outcome, Served};
use crate::types::{Key, UploadId};

use super::body::{BodySource, ByteStream};
use super::error::CatalogError;
use super::records::{
    BucketName, BucketRecord, Checksum, Credential, NewObject, ObjectHead, OwnerId, PartSummary,
    UploadSummary,
};

/// A bucket to be created.
#[derive(Clone, Debug)]
pub struct CreateBucket {
    /// Its name.
    pub name: BucketName,
    /// Its owner.
    pub owner: OwnerId,
    /// Its level; the cluster's default if not given.
    pub level: Option<Level>,
}

/// What was stored.
#[derive(Clone, Debug)]
pub struct PutReceipt {
    /// The object, or the part as if it were one.
    pub head: ObjectHead,
    /// How the write was served.
    pub served: Served,
}

/// An object whose head was read and whose bytes can be.
pub struct ObjectReader {
    /// The object.
    pub head: ObjectHead,
    /// How the read was served.
    pub served: Served,
}

impl ObjectReader {
    /// The bytes of `range`, which must lie within the object. They stay readable while the
    /// stream is held, whatever happens to the key.
    pub fn read(&self, _range: Range<u64>) -> ByteStream {
        Box::pin(futures_util::stream::empty())
    }
}

/// A page of a bucket's keys to be listed.
#[derive(Clone, Debug, Default)]
pub struct ListObjects {
    /// Only keys that begin so.
    pub prefix: Bytes,
    /// Groups keys that share what comes before this after the prefix; not empty if given.
    pub delimiter: Option<Bytes>,
    /// Only keys, and common prefixes, that come after this; empty: from the start.
    pub after: Bytes,
    /// At most so many entries.
    pub max: usize,
}

/// One line of a listing.
#[derive(Clone, Debug)]
pub enum ListEntry {
    /// An object.
    Object(ObjectHead),
    /// Keys that share this prefix, delimiter included.
    CommonPrefix(Bytes),
}

/// One page of a listing, in key order.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// Objects and common prefixes, in order.
    pub entries: Vec<ListEntry>,
    /// Where the next page starts, as [`ListObjects::after`]; `None` at the end.
    pub next: Option<Bytes>,
    /// How the read was served.
    pub served: Served,
}

/// A page of parts to be listed.
#[derive(Clone, Copy, Debug)]
pub struct ListParts {
    /// Only parts with greater numbers.
    pub after: u16,
    /// At most so many.
    pub max: usize,
}

/// One page of parts.
#[derive(Clone, Debug)]
pub struct PartsPage {
    /// What the upload was started with.
    pub upload: UploadSummary,
    /// Its parts, ascending.
    pub parts: Vec<PartSummary>,
    /// Whether there are more.
    pub truncated: bool,
}

/// A page of open uploads to be listed.
#[derive(Clone, Debug, Default)]
pub struct ListUploads {
    /// Only keys that begin so.
    pub prefix: Bytes,
    /// Groups keys as in [`ListObjects`].
    pub delimiter: Option<Bytes>,
    /// Only keys after this; with `after_upload`, also its uploads after that one.
    pub after_key: Bytes,
    /// See `after_key`.
    pub after_upload: Option<UploadId>,
    /// At most so many.
    pub max: usize,
}

/// One page of open uploads.
#[derive(Clone, Debug)]
pub struct UploadsPage {
    /// Uploads, by key, then by time of initiation.
    pub uploads: Vec<UploadSummary>,
    /// Common prefixes.
    pub prefixes: Vec<Bytes>,
    /// Whether there are more, and after which key and upload.
    pub next: Option<(Bytes, Option<UploadId>)>,
}

/// Buckets, credentials, objects and uploads, over the whole cluster. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {}

fn not_yet<T>() -> Result<T, CatalogError> {
    Err(CatalogError::Unavailable { outcome: Outcome::None, reason: "not wired".into() })
}

impl Catalog {
    /// The bucket of that name, from this node's full copy.
    pub fn bucket(&self, _name: &str) -> Option<Arc<BucketRecord>> {
        None
    }
    /// All buckets, by name.
    pub fn buckets(&self) -> Vec<Arc<BucketRecord>> {
        Vec::new()
    }
    /// Creates a bucket on all members.
    pub async fn create_bucket(
        &self,
        _request: CreateBucket,
    ) -> Result<Arc<BucketRecord>, CatalogError> {
        not_yet()
    }
    /// Deletes an empty bucket.
    pub async fn delete_bucket(&self, _bucket: &BucketRecord) -> Result<(), CatalogError> {
        not_yet()
    }
    /// The credential with that access key id, from this node's full copy.
    pub fn credential(&self, _access_key_id: &str) -> Option<Arc<Credential>> {
        None
    }
    /// All credentials, by name.
    pub fn credentials(&self) -> Vec<Arc<Credential>> {
        Vec::new()
    }
    /// Creates a credential on all members; the ids are drawn unless given.
    pub async fn create_credential(
        &self,
        _name: &str,
        _given: Option<(String, String)>,
    ) -> Result<Arc<Credential>, CatalogError> {
        not_yet()
    }
    /// Deletes a credential on all members.
    pub async fn delete_credential(&self, _access_key_id: &str) -> Result<(), CatalogError> {
        not_yet()
    }
    /// Stores an object; it is durable on a quorum of its owners when this returns.
    pub async fn put_object(
        &self,
        _bucket: &BucketRecord,
        _key: Key,
        _object: NewObject,
        _body: &mut dyn BodySource,
    ) -> Result<PutReceipt, CatalogError> {
        not_yet()
    }
    /// Reads an object's head and prepares reading its bytes.
    pub async fn get_object(
        &self,
        _bucket: &BucketRecord,
        _key: &Key,
    ) -> Result<ObjectReader, CatalogError> {
        not_yet()
    }
    /// Reads an object's head.
    pub async fn head_object(
        &self,
        _bucket: &BucketRecord,
        _key: &Key,
    ) -> Result<(ObjectHead, Served), CatalogError> {
        not_yet()
    }
    /// Replaces an object's headers and keeps its bytes (a copy onto itself).
    pub async fn replace_headers(
        &self,
        _bucket: &BucketRecord,
        _key: &Key,
        _object: NewObject,
    ) -> Result<PutReceipt, CatalogError> {
        not_yet()
    }
    /// Deletes an object; deleting what is not there succeeds.
    pub async fn delete_object(
        &self,
        _bucket: &BucketRecord,
        _key: &Key,
    ) -> Result<Served, CatalogError> {
        not_yet()
    }
    /// Lists a page of keys.
    pub async fn list_objects(
        &self,
        _bucket: &BucketRecord,
        _request: &ListObjects,
    ) -> Result<ListPage, CatalogError> {
        not_yet()
    }
    /// Starts a multipart upload.
    pub async fn create_upload(
        &self,
        _bucket: &BucketRecord,
        _key: Key,
        _object: NewObject,
    ) -> Result<UploadId, CatalogError> {
        not_yet()
    }
    /// What an open upload was started with.
    pub async fn upload(
        &self,
        _bucket: &BucketRecord,
        _key: &Key,
        _upload: UploadId,
    ) -> Result<UploadSummary, CatalogError> {
        not_yet()
    }
    /// Stores a part, replacing one of the same number.
    pub async fn put_part(
        &self,
        _bucket: &BucketRecord,
        _key: &Key,
        _upload: UploadId,
        _part: u16,
        _body: &mut dyn BodySource,
    ) -> Result<PutReceipt, CatalogError> {
        not_yet()
    }
    /// Lists a page of an upload's parts.
    pub async fn list_parts(
        &self,
        _bucket: &BucketRecord,
        _key: &Key,
        _upload: UploadId,
        _request: ListParts,
    ) -> Result<PartsPage, CatalogError> {
        not_yet()
    }
    /// Makes an object of parts, given as (number, ETag without quotes, checksums if the client
    /// sent them); repeated, it returns the same. `checksum` is a full-object checksum that the
    /// client demands.
    pub async fn complete_upload(
        &self,
        _bucket: &BucketRecord,
        _key: &Key,
        _upload: UploadId,
        _parts: Vec<(u16, String, Vec<Checksum>)>,
        _checksum: Option<Checksum>,
    ) -> Result<PutReceipt, CatalogError> {
        not_yet()
    }
    /// Gives an upload up; its parts are gone.
    pub async fn abort_upload(
        &self,
        _bucket: &BucketRecord,
        _key: &Key,
        _upload: UploadId,
    ) -> Result<(), CatalogError> {
        not_yet()
    }
    /// Lists a page of a bucket's open uploads.
    pub async fn list_uploads(
        &self,
        _bucket: &BucketRecord,
        _request: &ListUploads,
    ) -> Result<UploadsPage, CatalogError> {
        not_yet()
    }
}
