//! What is left of an upload that was completed or aborted: its parts are taken back, which lets
//! go of the bytes that no object took over, and at last the upload itself.
//!
//! # What can go wrong, and what answers it
//! - *A part arrives after its upload was closed.* Parts are looked for twice, the second time
//!   before the upload goes; a part that comes after it was taken back loses to that.
//! - *A completion is repeated.* The upload is kept for days, with what was answered.
//! - *The bucket is deleted meanwhile.* It takes no writes any more; its rows name nothing.

use bytes::Bytes;

use crate::blob::ObjectName;
use crate::codec::{decode_format, encode_format};
use crate::replication::{Level, NewWrite, ReplicationError, RowKey, TableId, Version, Want};
use crate::types::{Key, UploadId};

use super::completion::Attempt;
use super::error::CatalogError;
use super::keys::{bucket_of, uploads_of_key};
use super::rows::{UploadKind, UploadRow, UploadState};
use super::service::Catalog;

impl Catalog {
    /// Does what is left of a completion that was broken off; nothing if it is done.
    ///
    /// # Errors
    /// If its owners cannot be asked.
    pub(super) async fn finish_completion(
        &self,
        object: &ObjectName,
        n: usize,
        upload: UploadId,
    ) -> Result<(), CatalogError> {
        let (_, held) = self.closed_upload(object, n, upload).await?;
        let bucket = bucket_of(&object.routing).and_then(|id| self.local.bucket_by_id(id));
        let key = Key::new(object.sort.clone()).ok();
        let state = held.map(|row| row.kind);
        let (
            Some(UploadKind::Upload { state: UploadState::Completing { .. }, .. }),
            Some(bucket),
            Some(key),
        ) = (state, bucket, key)
        else {
            return Ok(());
        };
        self.go_on(&bucket, &key, upload, (Attempt::Again, None)).await?;
        tracing::info!(%upload, %key, "a completion that was broken off is done");
        Ok(())
    }

    /// Takes the parts of a closed upload back.
    ///
    /// # Errors
    /// If it cannot be read, or is not closed as far as its owners know.
    pub(super) async fn take_back_parts(
        &self,
        object: &ObjectName,
        n: usize,
        upload: UploadId,
    ) -> Result<(), CatalogError> {
        if self.is_of_deleted_bucket(object) {
            return Ok(());
        }
        let (row, held) = self.closed_upload(object, n, upload).await?;
        if let Some(UploadRow { kind: UploadKind::Upload { state, .. }, .. }) = &held
            && !matches!(state, UploadState::Aborted | UploadState::Completed { .. })
        {
            let reason = format!("upload {upload} is not closed yet");
            return Err(CatalogError::Internal { reason });
        }
        let [_, parts] = uploads_of_key(&object.sort);
        let prefix: Bytes = [&parts[..], upload.as_bytes()].concat().into();
        let mut rows = Vec::new();
        self.scan_uploads(object, n, prefix, &mut |sort, row| rows.push((sort, row))).await?;
        for (sort, part) in rows {
            if !matches!(part.kind, UploadKind::Gone) {
                let key = RowKey { sort, ..row.clone() };
                self.take_back(&key, n, part).await?;
            }
        }
        Ok(())
    }

    /// Takes back what is left of a closed upload.
    ///
    /// # Errors
    /// As [`Catalog::take_back_parts`].
    pub(super) async fn take_back_upload(
        &self,
        object: &ObjectName,
        n: usize,
        upload: UploadId,
    ) -> Result<(), CatalogError> {
        self.take_back_parts(object, n, upload).await?;
        if self.is_of_deleted_bucket(object) {
            return Ok(());
        }
        match self.closed_upload(object, n, upload).await? {
            (key, Some(row)) if !matches!(row.kind, UploadKind::Gone) => {
                self.take_back(&key, n, row).await
            }
            _ => Ok(()),
        }
    }

    /// Whether nothing of an object is taken in any more, whatever its rows say.
    pub(super) fn is_of_deleted_bucket(&self, object: &ObjectName) -> bool {
        bucket_of(&object.routing).is_some_and(|bucket| self.local.is_deleted(bucket))
    }

    async fn closed_upload(
        &self,
        object: &ObjectName,
        n: usize,
        upload: UploadId,
    ) -> Result<(RowKey, Option<UploadRow>), CatalogError> {
        let [uploads, _] = uploads_of_key(&object.sort);
        let row = RowKey {
            table: TableId::Uploads,
            routing: object.routing.clone(),
            sort: [&uploads[..], upload.as_bytes()].concat().into(),
        };
        let held = self.coordinator.read(&row, n, Level::Strict, Want::Record).await?.record;
        let held = held.map(|record| decode_format::<UploadRow>(&record)).transpose();
        Ok((row, held.map_err(ReplicationError::from)?))
    }

    async fn take_back(&self, key: &RowKey, n: usize, row: UploadRow) -> Result<(), CatalogError> {
        let bucket = self.local.bucket_by_id(row.bucket);
        let gone = UploadRow {
            version: Version::unminted(),
            bucket_epoch: bucket.map_or(row.bucket_epoch, |bucket| bucket.epoch),
            kind: UploadKind::Gone,
            ..row
        };
        let record = encode_format(&gone)
            .map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
        let begun = self.coordinator.site().now();
        let (record, inline) = (record.into(), Bytes::new());
        let write = NewWrite { record, inline, n, level: Level::Strict, begun };
        self.coordinator.write(key, write).await?;
        Ok(())
    }
}
