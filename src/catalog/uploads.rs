//! Multipart uploads: open, and their parts (DESIGN §8).
//!
//! An upload goes open → completing → completed, or open → aborted; the states merge forward
//! only. Completion writes down what it is about to make before it makes it, so whoever finds it
//! half done can finish it, and a repeated completion gets the same answer.

use bytes::Bytes;

use crate::causality::HybridTime;
use crate::codec::decode_format;
use crate::replication::{RowKey, ScanEntry, ScanQuery, Served, TableId, Version, Want};
use crate::types::{Key, UploadId};

use super::body::BodySource;
use super::completion::Attempt;
use super::error::CatalogError;
use super::keys::{after_part, object_row, part_number, part_row, parts_prefix, upload_row};
use super::objects::new_bytes;
use super::records::{BucketRecord, Checksum, NewObject, ObjectHead, PartSummary, UploadSummary};
use super::rows::{BodyPlace, UploadKind, UploadRow, UploadState};
use super::service::{Catalog, ListParts, PartsPage, PutReceipt};

/// A part that a completion names: its number, its ETag, and checksums if the client sent any.
pub type NamedPart = (u16, String, Vec<Checksum>);

/// A stored part.
pub(super) struct StoredPart {
    pub(super) summary: PartSummary,
    pub(super) body: BodyPlace,
}

impl Catalog {
    /// Starts a multipart upload.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`] with what is known of the outcome.
    pub async fn create_upload(
        &self,
        bucket: &BucketRecord,
        key: Key,
        object: NewObject,
    ) -> Result<(UploadId, Served), CatalogError> {
        let site = self.coordinator.site();
        let initiated = site.clock.wall();
        // Milliseconds first, so that uploads of a key sort by their start.
        let mut id = site.entropy.next_id();
        id[..6].copy_from_slice(&initiated.0.to_be_bytes()[2..]);
        let upload = UploadId::from_bytes(id);
        let kind = UploadKind::Upload { initiated, object, state: UploadState::Open };
        let row = upload_row(bucket, &key, upload);
        let (_, served) = self.write_upload(bucket, &row, kind).await?;
        Ok((upload, served))
    }

    pub(super) async fn write_upload(
        &self,
        bucket: &BucketRecord,
        row: &RowKey,
        kind: UploadKind,
    ) -> Result<(UploadRow, Served), CatalogError> {
        let begun = self.coordinator.site().now();
        self.write_upload_begun(bucket, row, kind, begun).await
    }

    pub(super) async fn write_upload_begun(
        &self,
        bucket: &BucketRecord,
        row: &RowKey,
        kind: UploadKind,
        begun: HybridTime,
    ) -> Result<(UploadRow, Served), CatalogError> {
        let make = |bucket_epoch| {
            let (version, kind) = (Version::unminted(), kind.clone());
            UploadRow { version, bucket: bucket.id, bucket_epoch, kind }
        };
        let receipt = self.write_current(bucket, row, make, (Bytes::new(), begun)).await?;
        Ok((decode_upload(&receipt.record)?, receipt.served))
    }

    pub(super) async fn read_upload(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        upload: UploadId,
    ) -> Result<(UploadRow, Served), CatalogError> {
        let row = upload_row(bucket, key, upload);
        let receipt =
            self.coordinator.read(&row, usize::from(bucket.n), bucket.level, Want::Record).await?;
        let record = receipt.record.ok_or(CatalogError::NoSuchUpload)?;
        Ok((decode_upload(&record)?, receipt.served))
    }

    /// What an open upload was started with.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchUpload`] if it is not open.
    pub async fn upload(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        upload: UploadId,
    ) -> Result<UploadSummary, CatalogError> {
        let (row, _) = self.read_upload(bucket, key, upload).await?;
        row.summary(key, upload).ok_or(CatalogError::NoSuchUpload)
    }

    /// Stores a part, replacing one of the same number.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchUpload`] if the upload is not open; [`CatalogError::Body`] if the
    /// body was refused.
    pub async fn put_part(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        upload: UploadId,
        part: u16,
        body: &mut dyn BodySource,
    ) -> Result<PutReceipt, CatalogError> {
        self.upload(bucket, key, upload).await?;
        let _one_of_many = self.bodies.try_acquire().map_err(|_| CatalogError::SlowDown {
            reason: format!("{} bodies are on their way in", self.limits.bodies_max),
        })?;
        let begun = self.coordinator.site().now();
        // Parts are extents of their own whatever their size: completion only names them.
        let bytes = new_bytes(bucket, &object_row(bucket, key), begun);
        let stored = self.stream_body(bytes, Vec::new(), body).await?;
        let kind = UploadKind::Part {
            size: stored.size,
            etag: hex::encode(stored.verified.md5),
            checksums: stored.verified.checksums,
            body: stored.place,
        };
        let row = part_row(bucket, key, upload, part);
        let (record, served) = self.write_upload_begun(bucket, &row, kind, begun).await?;
        // A part that came after the upload was closed belongs to nothing.
        self.upload(bucket, key, upload).await.map_err(CatalogError::after_a_durable_step)?;
        let summary = record.part(part).ok_or(CatalogError::NoSuchUpload)?;
        let head = ObjectHead {
            key: key.clone(),
            size: summary.size,
            modified: summary.modified,
            etag: summary.etag,
            headers: Vec::new(),
            checksums: summary.checksums,
            parts: Vec::new(),
        };
        Ok(PutReceipt { head, served })
    }

    /// Lists a page of an upload's parts.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchUpload`] if it is not open.
    pub async fn list_parts(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        upload: UploadId,
        request: ListParts,
    ) -> Result<PartsPage, CatalogError> {
        let (row, served) = self.read_upload(bucket, key, upload).await?;
        let summary = row.summary(key, upload).ok_or(CatalogError::NoSuchUpload)?;
        let max = request.max;
        let mut parts =
            self.scan_parts(bucket, key, upload, request.after, max.saturating_add(1)).await?;
        let truncated = parts.len() > max;
        parts.truncate(max);
        let parts = parts.into_iter().map(|part| part.summary).collect();
        Ok(PartsPage { upload: summary, parts, truncated, served })
    }

    /// Up to `max` parts with greater numbers than `after`.
    pub(super) async fn scan_parts(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        upload: UploadId,
        after: u16,
        max: usize,
    ) -> Result<Vec<StoredPart>, CatalogError> {
        let mut parts = Vec::new();
        let mut from = after_part(key, upload, after);
        while parts.len() < max {
            let query = ScanQuery {
                table: TableId::Uploads,
                slices: vec![super::keys::routing_of(bucket, key)],
                prefix: parts_prefix(key, upload),
                delimiter: None,
                from,
                max: (max - parts.len()).min(1000),
                n: usize::from(bucket.n),
                level: bucket.level,
            };
            let page = self.coordinator.scan(&query).await?;
            for entry in page.entries {
                parts.extend(stored_part(&entry)?);
            }
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(parts)
    }

    /// Gives an open upload up.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchUpload`] if it is not open.
    pub async fn abort_upload(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        upload: UploadId,
    ) -> Result<Served, CatalogError> {
        let (row, _) = self.read_upload(bucket, key, upload).await?;
        let UploadKind::Upload { initiated, object, state } = row.kind else {
            return Err(CatalogError::NoSuchUpload);
        };
        if matches!(state, UploadState::Completing { .. }) {
            // It was to be completed first, and somebody may have been told that it is.
            self.go_on(bucket, key, upload, (Attempt::Again, None)).await?;
        }
        if !matches!(state, UploadState::Open) {
            return Err(CatalogError::NoSuchUpload);
        }
        let kind = UploadKind::Upload { initiated, object, state: UploadState::Aborted };
        let row = upload_row(bucket, key, upload);
        let (_, served) = self.write_upload(bucket, &row, kind).await?;
        // A completion may have come first: what stands is what is answered.
        let (row, _) = self
            .read_upload(bucket, key, upload)
            .await
            .map_err(CatalogError::after_a_durable_step)?;
        match row.kind {
            UploadKind::Upload { state: UploadState::Aborted, .. } => Ok(served),
            _ => Err(CatalogError::NoSuchUpload),
        }
    }
}

fn decode_upload(record: &Bytes) -> Result<UploadRow, CatalogError> {
    decode_format::<UploadRow>(record)
        .map_err(|error| CatalogError::Internal { reason: error.to_string() })
}

fn stored_part(entry: &ScanEntry) -> Result<Option<StoredPart>, CatalogError> {
    let ScanEntry::Row { sort, record } = entry else {
        return Ok(None);
    };
    let row = decode_upload(record)?;
    let summary = part_number(sort).and_then(|number| row.part(number));
    let UploadKind::Part { body, .. } = row.kind else {
        return Ok(None);
    };
    Ok(summary.map(|summary| StoredPart { summary, body }))
}
