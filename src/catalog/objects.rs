//! Objects: bytes first, then the head, which is the commit point of a put.

use bytes::{Bytes, BytesMut};

use crate::blob::{BlobWriter, ExtentRef, NewBytes, ObjectName};
use crate::causality::{HybridTime, Stamp};
use crate::codec::{Crc32c, decode_format, decode_message, encode_message};
use crate::env::UnixMillis;
use crate::env::probe;
use crate::replication::{Order, ReadReceipt, RowKey, Served, Standing, Version, Want};
use crate::types::{Key, UploadId};

use super::body::{BodySource, VerifiedBody};
use super::error::CatalogError;
use super::keys::object_row;
use super::reader::ObjectReader;
use super::records::{BucketRecord, NewObject, ObjectHead};
use super::rows::{BodyPlace, LiveObject, ObjectRow};
use super::service::{Catalog, PutReceipt};

/// Extents that a head names itself; a longer list is stored as an extent of its own.
const EXTENTS_IN_HEAD_MAX: usize = 64;

/// A body that is stored, though nothing names it yet.
pub(super) struct StoredBody {
    pub(super) place: BodyPlace,
    pub(super) inline: Bytes,
    pub(super) size: u64,
    pub(super) verified: VerifiedBody,
}

/// What stands under a key.
pub(super) struct StandingHead {
    pub(super) order: Order,
    pub(super) stamp: Stamp,
    pub(super) modified: UnixMillis,
    /// The upload that it was completed from, if it was.
    pub(super) upload: Option<UploadId>,
    pub(super) standing: Standing,
}

impl Catalog {
    /// Stores an object; it is durable on a quorum of its owners when this returns.
    ///
    /// # Errors
    /// [`CatalogError::Body`] if the body was refused; nothing was committed then.
    pub async fn put_object(
        &self,
        bucket: &BucketRecord,
        key: Key,
        object: NewObject,
        body: &mut dyn BodySource,
    ) -> Result<PutReceipt, CatalogError> {
        let row = object_row(bucket, &key);
        // Before the first byte is stored: owners refuse heads of bytes that may be collected.
        let begun = self.coordinator.site().now();
        let stored = self.store_body(new_bytes(bucket, &row, begun), body).await?;
        let live = LiveObject {
            size: stored.size,
            etag: hex::encode(stored.verified.md5),
            headers: object.headers,
            checksums: stored.verified.checksums,
            parts: Vec::new(),
            body: stored.place,
            upload: None,
        };
        probe::crash_point("body stored, head not written");
        self.commit_object(bucket, &key, Some(live), (stored.inline, begun)).await
    }

    /// Writes a head, or a tombstone.
    pub(super) async fn commit_object(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        object: Option<LiveObject>,
        (inline, begun): (Bytes, HybridTime),
    ) -> Result<PutReceipt, CatalogError> {
        let row = object_row(bucket, key);
        let make = |bucket_epoch| {
            let (version, object) = (Version::unminted(), object.clone());
            ObjectRow { version, bucket: bucket.id, bucket_epoch, object }
        };
        let receipt = self.write_current(bucket, &row, make, (inline, begun)).await?;
        let minted = decode_row(&receipt.record)?;
        let head = minted.head(key).unwrap_or_else(|| ObjectHead {
            key: key.clone(),
            size: 0,
            modified: UnixMillis(minted.version.stamp.time.millis()),
            etag: String::new(),
            headers: Vec::new(),
            checksums: Vec::new(),
            parts: Vec::new(),
        });
        Ok(PutReceipt { head, served: receipt.served })
    }

    /// Reads a body to its end and stores it where its size belongs.
    pub(super) async fn store_body(
        &self,
        bytes: NewBytes,
        body: &mut dyn BodySource,
    ) -> Result<StoredBody, CatalogError> {
        let _one_of_many = self.bodies.try_acquire().map_err(|_| CatalogError::SlowDown {
            reason: format!("{} bodies are on their way in", self.limits.bodies_max),
        })?;
        let attached_max = self.limits.attached_max.as_usize();
        let mut pieces: Vec<Bytes> = Vec::new();
        let mut size = 0usize;
        while let Some(piece) = body.next().await? {
            size += piece.len();
            pieces.push(piece);
            if size > attached_max {
                return self.stream_body(bytes, pieces, body).await;
            }
        }
        let verified = body.verify()?;
        let whole = joined(pieces, size);
        if size <= self.limits.inline_max.as_usize() {
            let length = u32::try_from(size)
                .map_err(|_| CatalogError::Internal { reason: "inline body too long".into() })?;
            let place = BodyPlace::Inline { crc: Crc32c::of(&whole), length };
            return Ok(StoredBody { place, inline: whole, size: size as u64, verified });
        }
        let extent = self.blobs.put_attached(bytes, whole).await?;
        Ok(StoredBody {
            place: BodyPlace::Attached(extent),
            inline: Bytes::new(),
            size: size as u64,
            verified,
        })
    }

    /// A body too long to gather: its chunks go to their owners as they come.
    pub(super) async fn stream_body(
        &self,
        bytes: NewBytes,
        pieces: Vec<Bytes>,
        body: &mut dyn BodySource,
    ) -> Result<StoredBody, CatalogError> {
        let mut writer: BlobWriter = self.blobs.writer(bytes.clone());
        let mut size = 0u64;
        for piece in pieces {
            size += piece.len() as u64;
            writer.push(piece).await?;
        }
        while let Some(piece) = body.next().await? {
            size += piece.len() as u64;
            writer.push(piece).await?;
        }
        // The verdict comes before the last seal: a refused body leaves nothing that is whole.
        let verified = body.verify()?;
        let extents = writer.finish().await?;
        let place = self.place(bytes, extents).await?;
        Ok(StoredBody { place, inline: Bytes::new(), size, verified })
    }

    /// Names a body's extents in its head, or in a manifest if they are many.
    pub(super) async fn place(
        &self,
        bytes: NewBytes,
        extents: Vec<ExtentRef>,
    ) -> Result<BodyPlace, CatalogError> {
        if extents.len() <= EXTENTS_IN_HEAD_MAX {
            return Ok(BodyPlace::Extents(extents));
        }
        let list = encode_message(&extents)
            .map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
        let mut writer = self.blobs.writer(bytes);
        writer.push(list.into()).await?;
        Ok(BodyPlace::Manifest(writer.finish().await?))
    }

    /// The extents of a body that consists of them.
    pub(super) async fn extents_of(
        &self,
        bucket: &BucketRecord,
        place: &BodyPlace,
    ) -> Result<Vec<ExtentRef>, CatalogError> {
        match place {
            BodyPlace::Extents(extents) => Ok(extents.clone()),
            BodyPlace::Attached(extent) => Ok(vec![*extent]),
            BodyPlace::Inline { .. } => Ok(Vec::new()),
            BodyPlace::Manifest(list) => {
                super::reader::load_manifest(&self.blobs, list, usize::from(bucket.n)).await
            }
        }
    }

    async fn read_row(
        &self,
        bucket: &BucketRecord,
        row: &RowKey,
        want: Want,
    ) -> Result<(Option<ObjectRow>, ReadReceipt), CatalogError> {
        let receipt = self.coordinator.read(row, usize::from(bucket.n), bucket.level, want).await?;
        let record = receipt.record.as_ref().map(decode_row).transpose()?;
        Ok((record, receipt))
    }

    /// Reads an object's head and prepares reading its bytes.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchKey`] only if a quorum says so.
    pub async fn get_object(
        &self,
        bucket: &BucketRecord,
        key: &Key,
    ) -> Result<ObjectReader, CatalogError> {
        let row = object_row(bucket, key);
        let (record, receipt) = self.read_row(bucket, &row, Want::RecordAndBytes).await?;
        let record = record.ok_or(CatalogError::NoSuchKey)?;
        let head = record.head(key).ok_or(CatalogError::NoSuchKey)?;
        let place = record.object.map(|object| object.body).ok_or(CatalogError::NoSuchKey)?;
        if let BodyPlace::Inline { crc, .. } = place
            && !crc.matches(&receipt.inline)
        {
            return Err(CatalogError::BytesUnavailable {
                reason: "the inline bytes that were read do not match their head".into(),
            });
        }
        Ok(ObjectReader {
            head,
            served: receipt.served,
            blobs: self.blobs.clone(),
            n: usize::from(bucket.n),
            routing: row.routing,
            place,
            inline: receipt.inline,
        })
    }

    /// Reads an object's head.
    ///
    /// # Errors
    /// As [`Catalog::get_object`].
    pub async fn head_object(
        &self,
        bucket: &BucketRecord,
        key: &Key,
    ) -> Result<(ObjectHead, Served), CatalogError> {
        let row = object_row(bucket, key);
        let (record, receipt) = self.read_row(bucket, &row, Want::Record).await?;
        let head = record.and_then(|record| record.head(key)).ok_or(CatalogError::NoSuchKey)?;
        Ok((head, receipt.served))
    }

    /// Whether two writes of one key may name the same bytes. Not in sloppy buckets, whatever
    /// level a request asks for.
    #[must_use]
    pub fn may_share_bytes(&self, bucket: &BucketRecord) -> bool {
        let usual = self.local.level_of(bucket.id).unwrap_or(bucket.level);
        !usual.is_sloppy() && !bucket.level.is_sloppy()
    }

    /// Replaces an object's headers and keeps its bytes (a copy onto itself). Not in sloppy
    /// buckets, where two writes that name the same bytes could both be lost and found again.
    ///
    /// # Errors
    /// As [`Catalog::get_object`] and [`Catalog::put_object`].
    pub async fn replace_headers(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        object: NewObject,
    ) -> Result<PutReceipt, CatalogError> {
        let row = object_row(bucket, key);
        let begun = self.coordinator.site().now();
        let (record, receipt) = self.read_row(bucket, &row, Want::RecordAndBytes).await?;
        let live = record.and_then(|record| record.object).ok_or(CatalogError::NoSuchKey)?;
        let live = LiveObject { headers: object.headers, ..live };
        self.commit_object(bucket, key, Some(live), (receipt.inline, begun)).await
    }

    /// Deletes an object; deleting what is not there succeeds.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`] with what is known of the outcome.
    pub async fn delete_object(
        &self,
        bucket: &BucketRecord,
        key: &Key,
    ) -> Result<Served, CatalogError> {
        let begun = self.coordinator.site().now();
        self.commit_object(bucket, key, None, (Bytes::new(), begun))
            .await
            .map(|receipt| receipt.served)
    }

    /// What stands under a key, tombstones included.
    pub(super) async fn standing_head(
        &self,
        bucket: &BucketRecord,
        key: &Key,
    ) -> Result<Option<StandingHead>, CatalogError> {
        let row = object_row(bucket, key);
        let (record, receipt) = self.read_row(bucket, &row, Want::Record).await?;
        Ok(record.map(|record| StandingHead {
            order: record.version.order(),
            stamp: record.version.stamp,
            modified: UnixMillis(record.version.stamp.time.millis()),
            upload: record.object.as_ref().and_then(|object| object.upload),
            standing: receipt.standing,
        }))
    }
}

/// What bytes are written for that the object of `row` is to name.
pub(super) fn new_bytes(bucket: &BucketRecord, row: &RowKey, begun: HybridTime) -> NewBytes {
    let object = ObjectName { routing: row.routing.clone(), sort: row.sort.clone() };
    NewBytes { object, begun, n: usize::from(bucket.n), level: bucket.level }
}

/// Decodes a stored head.
pub(super) fn decode_row(record: &Bytes) -> Result<ObjectRow, CatalogError> {
    decode_format::<ObjectRow>(record)
        .map_err(|error| CatalogError::Internal { reason: error.to_string() })
}

/// Decodes a manifest.
pub(super) fn decode_manifest(bytes: &[u8]) -> Result<Vec<ExtentRef>, CatalogError> {
    decode_message(bytes).map_err(|error| CatalogError::Internal { reason: error.to_string() })
}

/// One piece stays as it is; several are copied together once.
fn joined(mut pieces: Vec<Bytes>, size: usize) -> Bytes {
    if pieces.len() == 1 {
        return pieces.pop().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(size);
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    whole.freeze()
}
