//! Completing a multipart upload: one object made of its parts (DESIGN §8).
//!
//! # What can go wrong, and what answers it
//! - *The gateway dies between the two steps.* What is to be made was written down first: a
//!   repeated completion, an abort, or the collector makes it.
//! - *A completion is repeated after a later write of the key.* The head that stands tells: it was
//!   not there when the completion began, or is stamped above its beginning. The object counts as
//!   made and overwritten, and the later write stays.
//! - *The bucket is sloppy, and one owner has not heard.* Whether a completion found half done went
//!   further is asked of the owners themselves, a majority of them.
//! - *Another completion, or an abort, closes the upload while the parts are put together.* Their
//!   bytes are kept for the read grace; whoever takes longer reads them again, and what stands
//!   after the first step is what is made.

use std::borrow::Cow;

use bytes::Bytes;

use crate::blob::ExtentRef;
use crate::causality::Stamp;
use crate::env::UnixMillis;
use crate::env::mutation::{Mutation, is_planted};
use crate::env::probe;
use crate::replication::{Level, Order, Record, Served, Standing};
use crate::types::{Key, UploadId};

use super::composite::{CompositeError, PartSum, combined_checksum, multipart_etag};
use super::error::CatalogError;
use super::keys::{object_row, upload_row};
use super::objects::{StandingHead, new_bytes};
use super::records::{BucketRecord, Checksum, NewObject, ObjectHead, PartFacts, PartSummary};
use super::rows::{BodyPlace, LiveObject, UploadKind, UploadRow, UploadState};
use super::service::{Catalog, PutReceipt};
use super::uploads::{NamedPart, StoredPart};

/// Every part but the last has at least so many bytes (S3 user guide, multipart limits).
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;

/// Objects of more parts keep no checksum of each.
const PARTS_WITH_CHECKSUMS_MAX: usize = 64;

/// Attempts to put parts together before their bytes could be taken back.
const ASSEMBLIES_MAX: usize = 3;

/// Whether a completion was begun by this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It was.
    First,
    /// It was found begun.
    Again,
}

/// A completion whose first step is durable.
struct Begun {
    upload: UploadId,
    initiated: UnixMillis,
    object: NewObject,
    /// What is to be made.
    live: LiveObject,
    /// What stood under the key before.
    base: Option<Order>,
    /// When the first step was taken.
    stamp: Stamp,
}

impl Catalog {
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
        match state {
            UploadState::Aborted => Err(CatalogError::NoSuchUpload),
            UploadState::Completed { head, modified } => {
                same_parts(&head, &named)?;
                Ok(PutReceipt { head: head_of(key, *head, modified), served })
            }
            UploadState::Completing { head, .. } => {
                probe::sometimes("a completion is taken up again");
                same_parts(&head, &named)?;
                self.go_on(bucket, key, upload, (Attempt::Again, None)).await
            }
            UploadState::Open => {
                let begun = (initiated, object);
                let row =
                    self.begin_completion(bucket, key, upload, begun, (named, checksum)).await?;
                self.go_on(bucket, key, upload, (Attempt::First, Some(row)))
                    .await
                    .map_err(CatalogError::after_a_durable_step)
            }
        }
    }

    /// The first step: writes down what is to be made.
    async fn begin_completion(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        upload: UploadId,
        (initiated, object): (UnixMillis, NewObject),
        (named, checksum): (Vec<NamedPart>, Option<Checksum>),
    ) -> Result<UploadRow, CatalogError> {
        let clock = &self.coordinator.site().clock;
        // The shortest read grace is several times that.
        let in_time = self.coordinator.patience().answer;
        for _ in 0..ASSEMBLIES_MAX {
            let read = clock.monotonic();
            // Before a list of its extents is stored.
            let begun = self.coordinator.site().now();
            let demanded = (&named[..], checksum.as_ref());
            let (live, extents) = self.assemble(bucket, key, upload, &object, demanded).await?;
            let bytes = new_bytes(bucket, &object_row(bucket, key), begun);
            let live = LiveObject { body: self.place(bytes, extents).await?, ..live };
            let base = self.standing_head(bucket, key).await?.map(|head| head.order);
            if clock.monotonic().since(read) > in_time {
                continue;
            }
            let state = UploadState::Completing { head: Box::new(live), base };
            let kind = UploadKind::Upload { initiated, object, state };
            let row = upload_row(bucket, key, upload);
            let (written, _) = self.write_upload_begun(bucket, &row, kind, begun).await?;
            probe::crash_point("completion written down, object not made");
            return Ok(written);
        }
        let reason = "the parts could not be put together in time".to_owned();
        Err(CatalogError::SlowDown { reason })
    }

    /// Goes on with a completion that was begun: by this request, which then hands over the row
    /// that it wrote, or by another.
    pub(super) async fn go_on(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        upload: UploadId,
        (attempt, written): (Attempt, Option<UploadRow>),
    ) -> Result<PutReceipt, CatalogError> {
        let asked = match attempt {
            Attempt::First => Cow::Borrowed(bucket),
            Attempt::Again => by_its_owners(bucket),
        };
        let (found, served) = self.read_upload(&asked, key, upload).await?;
        // Others may have gone on, or begun too: all make what the rows merge to.
        let row = match written {
            Some(written) => written.merge(found),
            None => found,
        };
        let stamp = row.version.stamp;
        let UploadKind::Upload { initiated, object, state } = row.kind else {
            return Err(CatalogError::NoSuchUpload);
        };
        match state {
            UploadState::Completing { head: live, base } => {
                let live = *live;
                let begun = Begun { upload, initiated, object, live, base, stamp };
                self.make_object(bucket, key, &asked, begun).await
            }
            UploadState::Completed { head, modified } => {
                Ok(PutReceipt { head: head_of(key, *head, modified), served })
            }
            UploadState::Open | UploadState::Aborted => Err(CatalogError::NoSuchUpload),
        }
    }

    /// The second step: makes the object, unless that was done already, and marks the upload.
    /// What stands is asked for as of the bucket `asked`.
    async fn make_object(
        &self,
        bucket: &BucketRecord,
        key: &Key,
        asked: &BucketRecord,
        begun: Begun,
    ) -> Result<PutReceipt, CatalogError> {
        let served = Served { level: bucket.level, degraded: false };
        let receipt = match self.standing_head(asked, key).await? {
            Some(head)
                if is_made(bucket, &head, &begun) && !is_planted(Mutation::CompleteAgain) =>
            {
                let modified = if head.upload == Some(begun.upload) {
                    head.modified
                } else {
                    // It was made, and then overwritten or deleted by a later request.
                    self.coordinator.site().clock.wall()
                };
                PutReceipt { head: head_of(key, begun.live.clone(), modified), served }
            }
            _ => {
                let bytes = (Bytes::new(), self.coordinator.site().now());
                self.commit_object(bucket, key, Some(begun.live.clone()), bytes).await?
            }
        };
        probe::crash_point("object made, upload not marked");
        let Begun { upload, initiated, object, live, .. } = begun;
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
        (named, demanded): (&[NamedPart], Option<&Checksum>),
    ) -> Result<(LiveObject, Vec<ExtentRef>), CatalogError> {
        if named.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(CatalogError::InvalidPartOrder);
        }
        let stored = self.scan_parts(bucket, key, upload, 0, usize::from(u16::MAX)).await?;
        let chosen = choose_parts(stored, named)?;
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
}

/// The bucket as it is asked what stands: of a majority of the owners themselves.
fn by_its_owners(bucket: &BucketRecord) -> Cow<'_, BucketRecord> {
    match bucket.level.is_sloppy() {
        true => Cow::Owned(BucketRecord { level: Level::Strict, ..bucket.clone() }),
        false => Cow::Borrowed(bucket),
    }
}

/// Whether an object was made by a completion already, going by what stands under its key.
fn is_made(bucket: &BucketRecord, head: &StandingHead, begun: &Begun) -> bool {
    if bucket.level.is_sloppy() {
        // What stood before may have been read from an owner that had not heard of it.
        return head.upload == Some(begun.upload) || head.stamp > begun.stamp;
    }
    // What stands on one owner alone is no proof: it could go with that owner.
    Some(head.order) != begun.base && head.standing == Standing::Quorum
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
