//! Multipart uploads: open, parts, then one object made of them (DESIGN §8).
//!
//! An upload goes open → completing → completed, or open → aborted; the states merge forward
//! only. Completion writes down what it is about to make before it makes it, so whoever finds it
//! half done can finish it, and a repeated completion gets the same answer.

use bytes::Bytes;

use crate::blob::ExtentRef;
use crate::causality::HybridTime;
use crate::codec::decode_format;
use crate::env::UnixMillis;
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::replication::{
    Order, RowKey, ScanEntry, ScanQuery, Served, Standing, TableId, Version, Want,
};
use crate::types::{Key, UploadId};

use super::body::BodySource;
use super::composite::{CompositeError, PartSum, combined_checksum, multipart_etag};
use super::error::CatalogError;
use super::keys::{after_part, object_row, part_number, part_row, parts_prefix, upload_row};
use super::objects::new_bytes;
use super::records::{
    BucketRecord, Checksum, NewObject, ObjectHead, PartFacts, PartSummary, UploadSummary,
};
use super::rows::{BodyPlace, LiveObject, UploadKind, UploadRow, UploadState};
use super::service::{Catalog, ListParts, PartsPage, PutReceipt};

/// Every part but the last has at least so many bytes (S3 user guide, multipart limits).
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;

/// Objects of more parts keep no checksum of each.
const PARTS_WITH_CHECKSUMS_MAX: usize = 64;

/// A part that a completion names: its number, its ETag, and checksums if the client sent any.
pub type NamedPart = (u16, String, Vec<Checksum>);

/// A stored part.
struct StoredPart {
    summary: PartSummary,
    body: BodyPlace,
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

    async fn write_upload(
        &self,
        bucket: &BucketRecord,
        row: &RowKey,
        kind: UploadKind,
    ) -> Result<(UploadRow, Served), CatalogError> {
        let begun = self.coordinator.site().now();
        self.write_upload_begun(bucket, row, kind, begun).await
    }

    async fn write_upload_begun(
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

    async fn read_upload(
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
    async fn scan_parts(
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

    /// Makes an object of parts; repeated, it returns the same. `checksum` is a checksum of the
    /// whole object that the client demands.
    ///
    /// # Errors
    /// [`CatalogError::InvalidPart`], [`CatalogError::InvalidPartOrder`],
    /// [`CatalogError::PartTooSmall`], [`CatalogError::NoSuchUpload`], or unavailable.
    pub async fn complete_upload(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        upload: UploadId,
        named: Vec<NamedPart>,
        checksum: Option<Checksum>,
    ) -> Result<PutReceipt, CatalogError> {
        let (row, served) = self.read_upload(bucket, key, upload).await?;
        let UploadKind::Upload { initiated, object, state } = row.kind else {
            return Err(CatalogError::NoSuchUpload);
        };
        let (live, base) = match state {
            UploadState::Aborted => return Err(CatalogError::NoSuchUpload),
            UploadState::Completed { head, modified } => {
                same_parts(&head, &named)?;
                return Ok(PutReceipt { head: head_of(key, *head, modified), served });
            }
            UploadState::Completing { head, base } => {
                probe::sometimes("a completion is taken up again");
                same_parts(&head, &named)?;
                (*head, base)
            }
            UploadState::Open => {
                // Before a list of its extents is stored.
                let begun = self.coordinator.site().now();
                let (live, extents) =
                    self.assemble(bucket, key, upload, &object, named, checksum).await?;
                let bytes = new_bytes(bucket, &object_row(bucket, key), begun);
                let live = LiveObject { body: self.place(bytes, extents).await?, ..live };
                let base = self.standing_head(bucket, key).await?.map(|head| head.order);
                let state = UploadState::Completing { head: Box::new(live.clone()), base };
                let kind = UploadKind::Upload { initiated, object: object.clone(), state };
                let row = upload_row(bucket, key, upload);
                self.write_upload_begun(bucket, &row, kind, begun).await?;
                probe::crash_point("completion written down, object not made");
                (live, base)
            }
        };
        self.make_object(bucket, key, (upload, initiated, object), live, base)
            .await
            .map_err(CatalogError::after_a_durable_step)
    }

    /// The second half of a completion: makes the object, unless that was done already, and
    /// marks the upload.
    async fn make_object(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        (upload, initiated, object): (UploadId, UnixMillis, NewObject),
        live: LiveObject,
        base: Option<Order>,
    ) -> Result<PutReceipt, CatalogError> {
        let served = Served { level: bucket.level, degraded: false };
        let receipt = match self.standing_head(bucket, key).await? {
            // A completion that was broken off after its commit point is not done twice. What
            // stands on one owner alone is no proof: it could go with that owner.
            Some(head)
                if Some(head.order) != base
                    && head.standing == Standing::Quorum
                    && !is_planted(Mutation::CompleteAgain) =>
            {
                let modified = if head.upload == Some(upload) {
                    head.modified
                } else {
                    // It was made, and then overwritten or deleted by a later request.
                    self.coordinator.site().clock.wall()
                };
                PutReceipt { head: head_of(key, live.clone(), modified), served }
            }
            _ => {
                let begun = self.coordinator.site().now();
                let bytes = (Bytes::new(), begun);
                self.commit_object(bucket, key, Some(live.clone()), bytes).await?
            }
        };
        probe::crash_point("object made, upload not marked");
        let state =
            UploadState::Completed { head: Box::new(live), modified: receipt.head.modified };
        let kind = UploadKind::Upload { initiated, object, state };
        if let Err(error) = self.write_upload(bucket, &upload_row(bucket, key, upload), kind).await
        {
            // The object is there; a repeated completion will find it by its upload id.
            tracing::warn!(%upload, %error, "a completed upload was not marked so");
        }
        Ok(receipt)
    }

    /// Checks what the client names against what was uploaded and makes the head of it; the
    /// extents of its body are still to be placed.
    async fn assemble(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        upload: UploadId,
        object: &NewObject,
        named: Vec<NamedPart>,
        demanded: Option<Checksum>,
    ) -> Result<(LiveObject, Vec<ExtentRef>), CatalogError> {
        if named.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(CatalogError::InvalidPartOrder);
        }
        let stored = self.scan_parts(bucket, key, upload, 0, usize::from(u16::MAX)).await?;
        let chosen = choose_parts(stored, &named)?;
        let etag = multipart_etag(chosen.iter().map(|part| part.summary.etag.as_str()))
            .map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
        let mut parts: Vec<PartFacts> = chosen.iter().map(|part| facts_of(&part.summary)).collect();
        let mut checksums = Vec::new();
        if let Some((algorithm, kind)) = object.checksum {
            let sums: Vec<PartSum<'_>> = parts
                .iter()
                .map(|part| PartSum { size: part.size, checksums: &part.checksums })
                .collect();
            checksums.push(combined_checksum(algorithm, kind, &sums).map_err(|error| {
                let part = match error {
                    CompositeError::NoChecksum { index, .. } => chosen.get(index),
                    _ => None,
                };
                CatalogError::InvalidPart { part: part.map_or(0, |part| part.summary.number) }
            })?);
        }
        if let Some(demanded) = demanded
            && let Some(found) =
                checksums.iter().find(|found| found.algorithm == demanded.algorithm)
            && found.value != demanded.value
        {
            return Err(CatalogError::ChecksumMismatch { algorithm: demanded.algorithm });
        }
        if parts.len() > PARTS_WITH_CHECKSUMS_MAX {
            parts.iter_mut().for_each(|part| part.checksums.clear());
        }
        let mut extents = Vec::new();
        for part in &chosen {
            extents.extend(self.extents_of(bucket, &part.body).await?);
        }
        let live = LiveObject {
            size: parts.iter().map(|part| part.size).sum(),
            etag,
            headers: object.headers.clone(),
            checksums,
            parts,
            body: BodyPlace::Extents(Vec::new()),
            upload: Some(upload),
        };
        Ok((live, extents))
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
        let UploadKind::Upload { initiated, object, state: UploadState::Open } = row.kind else {
            return Err(CatalogError::NoSuchUpload);
        };
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

/// Whether a repeated completion names the parts that the object was made of.
fn same_parts(live: &LiveObject, named: &[NamedPart]) -> Result<(), CatalogError> {
    if named.len() != live.parts.len() {
        return Err(CatalogError::InvalidPart { part: named.last().map_or(0, |part| part.0) });
    }
    let other = named.iter().zip(&live.parts).find(|(named, part)| named.0 != part.number);
    other.map_or(Ok(()), |(named, _)| Err(CatalogError::InvalidPart { part: named.0 }))
}

fn facts_of(part: &PartSummary) -> PartFacts {
    PartFacts { number: part.number, size: part.size, checksums: part.checksums.clone() }
}

fn head_of(key: &Key, live: LiveObject, modified: crate::env::UnixMillis) -> ObjectHead {
    ObjectHead {
        key: key.clone(),
        size: live.size,
        modified,
        etag: live.etag,
        headers: live.headers,
        checksums: live.checksums,
        parts: live.parts,
    }
}

/// The stored parts that a completion names, in its order.
fn choose_parts(
    stored: Vec<StoredPart>,
    named: &[NamedPart],
) -> Result<Vec<StoredPart>, CatalogError> {
    let mut stored: std::collections::BTreeMap<u16, StoredPart> =
        stored.into_iter().map(|part| (part.summary.number, part)).collect();
    let mut chosen = Vec::with_capacity(named.len());
    for (position, (number, etag, checksums)) in named.iter().enumerate() {
        let part = stored.remove(number).ok_or(CatalogError::InvalidPart { part: *number })?;
        let matches = part.summary.etag == *etag
            && checksums.iter().all(|wanted| {
                let same = |found: &&Checksum| found.algorithm == wanted.algorithm;
                part.summary
                    .checksums
                    .iter()
                    .find(same)
                    .is_none_or(|found| found.value == wanted.value)
            });
        if !matches {
            return Err(CatalogError::InvalidPart { part: *number });
        }
        if position + 1 < named.len() && part.summary.size < PART_BYTES_MIN {
            return Err(CatalogError::PartTooSmall { part: *number, size: part.summary.size });
        }
        chosen.push(part);
    }
    if chosen.is_empty() {
        return Err(CatalogError::InvalidPart { part: 0 });
    }
    Ok(chosen)
}
