//! Ordered listings: the head is the listing entry, so a put that was acknowledged is listed.

use bytes::Bytes;

use crate::codec::decode_format;
use crate::replication::{ScanEntry, ScanPage, ScanQuery, Served, TableId};
use crate::store::next_prefix;
use crate::types::Key;

use super::error::CatalogError;
use super::keys::{after_upload, shards, upload_of, uploads_prefix};
use super::objects::decode_row;
use super::records::{BucketRecord, UploadSummary};
use super::rows::UploadRow;
use super::service::{Catalog, ListEntry, ListObjects, ListPage, ListUploads, UploadsPage};

/// Rows of open uploads that are looked at in one request.
const UPLOADS_PER_SCAN: usize = 1000;

/// The first key that a page may begin with: after `after`, and after everything that begins
/// with it if it is itself a common prefix of the listing.
fn page_start(prefix: &Bytes, delimiter: Option<&Bytes>, after: &Bytes) -> Bytes {
    if after.is_empty() {
        return prefix.clone();
    }
    let is_common_prefix = delimiter.is_some_and(|delimiter| {
        after.strip_prefix(&prefix[..]).is_some_and(|rest| {
            rest.windows(delimiter.len())
                .position(|window| window == &delimiter[..])
                .is_some_and(|at| at + delimiter.len() == rest.len())
        })
    });
    if is_common_prefix {
        // A prefix of nothing but 0xff bytes has no end and nothing after it.
        return next_prefix(after).map_or_else(|| Bytes::from(vec![0xff; 1025]), Bytes::from);
    }
    let mut start = after.to_vec();
    start.push(0);
    start.into()
}

impl Catalog {
    /// Lists a page of keys.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`] if a shard has no quorum.
    pub async fn list_objects(
        &self,
        bucket: &BucketRecord,
        request: &ListObjects,
    ) -> Result<ListPage, CatalogError> {
        let query = ScanQuery {
            table: TableId::Objects,
            slices: shards(bucket),
            prefix: request.prefix.clone(),
            delimiter: request.delimiter.clone(),
            from: page_start(&request.prefix, request.delimiter.as_ref(), &request.after),
            max: request.max,
            n: usize::from(bucket.n),
            level: bucket.level,
        };
        let ScanPage { entries, next, served } = self.scan_to_something(query).await?;
        let mut listed = Vec::with_capacity(entries.len());
        for entry in &entries {
            match entry {
                ScanEntry::Prefix(prefix) => listed.push(ListEntry::CommonPrefix(prefix.clone())),
                ScanEntry::Row { sort, record } => {
                    let key = Key::new(sort.clone())
                        .map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
                    listed.extend(decode_row(record)?.head(&key).map(ListEntry::Object));
                }
            }
        }
        // The next page begins after the last entry shown, which clients can name.
        let last = entries.last().map(|entry| entry.position().clone());
        Ok(ListPage { entries: listed, next: next.and(last), served })
    }

    /// Scans until a page has an entry or the bucket ends: a page of tombstones alone would give
    /// the client nothing to go on from.
    pub(super) async fn scan_to_something(
        &self,
        mut query: ScanQuery,
    ) -> Result<ScanPage, CatalogError> {
        loop {
            let page = self.coordinator.scan(&query).await?;
            match page.next {
                Some(next) if page.entries.is_empty() => query.from = next,
                _ => return Ok(page),
            }
        }
    }

    /// Lists a page of a bucket's open uploads.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`] if a shard has no quorum.
    pub async fn list_uploads(
        &self,
        bucket: &BucketRecord,
        request: &ListUploads,
    ) -> Result<UploadsPage, CatalogError> {
        let prefix = uploads_prefix(&request.prefix);
        let mut from = if request.after_key.is_empty() {
            prefix.clone()
        } else {
            after_upload(&request.after_key, request.after_upload)
        };
        let served = Served { level: bucket.level, degraded: false };
        let mut page =
            UploadsPage { uploads: Vec::new(), prefixes: Vec::new(), next: None, served };
        let mut skipped = after_prefix(request);
        loop {
            let query = ScanQuery {
                table: TableId::Uploads,
                slices: shards(bucket),
                prefix: prefix.clone(),
                delimiter: None,
                from,
                max: UPLOADS_PER_SCAN,
                n: usize::from(bucket.n),
                level: bucket.level,
            };
            let scanned = self.coordinator.scan(&query).await?;
            page.served.degraded |= scanned.served.degraded;
            for entry in scanned.entries {
                let Some(summary) = open_upload(&entry)? else {
                    continue;
                };
                if !take_upload(request, &mut page, &mut skipped, summary) {
                    return Ok(page);
                }
            }
            match scanned.next {
                Some(next) => from = next,
                None => return Ok(page),
            }
        }
    }
}

fn open_upload(entry: &ScanEntry) -> Result<Option<UploadSummary>, CatalogError> {
    let ScanEntry::Row { sort, record } = entry else {
        return Ok(None);
    };
    let row = decode_format::<UploadRow>(record)
        .map_err(|error| CatalogError::Internal { reason: error.to_string() })?;
    Ok(upload_of(sort).and_then(|(key, upload)| row.summary(&key, upload)))
}

/// The common prefix that the last page ended with, if it did.
fn after_prefix(request: &ListUploads) -> Option<Bytes> {
    let after = &request.after_key;
    (request.after_upload.is_none() && common_prefix_of(request, after).as_ref() == Some(after))
        .then(|| after.clone())
}

fn common_prefix_of(request: &ListUploads, key: &[u8]) -> Option<Bytes> {
    let delimiter = request.delimiter.as_ref().filter(|delimiter| !delimiter.is_empty())?;
    let rest = key.strip_prefix(&request.prefix[..])?;
    let at = rest.windows(delimiter.len()).position(|window| window == &delimiter[..])?;
    Some(Bytes::copy_from_slice(&key[..request.prefix.len() + at + delimiter.len()]))
}

/// Adds one upload, or the prefix that it is grouped under; false if the page is full.
fn take_upload(
    request: &ListUploads,
    page: &mut UploadsPage,
    skipped: &mut Option<Bytes>,
    summary: UploadSummary,
) -> bool {
    let group = common_prefix_of(request, summary.key.as_bytes());
    if group.is_some() && (group == *skipped || group.as_ref() == page.prefixes.last()) {
        return true;
    }
    if page.uploads.len() + page.prefixes.len() >= request.max {
        let last_upload = page.uploads.last();
        let after = match (last_upload, page.prefixes.last()) {
            (Some(upload), Some(prefix)) if prefix[..] > *upload.key.as_bytes() => {
                (prefix.clone(), None)
            }
            (Some(upload), _) => (upload.key.to_bytes(), Some(upload.upload)),
            (None, Some(prefix)) => (prefix.clone(), None),
            (None, None) => return false,
        };
        page.next = Some(after);
        return false;
    }
    match group {
        Some(prefix) => page.prefixes.push(prefix),
        None => page.uploads.push(summary),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::page_start;
    use bytes::Bytes;

    fn start(prefix: &str, delimiter: &str, after: &str) -> Bytes {
        let delimiter = Bytes::copy_from_slice(delimiter.as_bytes());
        page_start(
            &Bytes::copy_from_slice(prefix.as_bytes()),
            (!delimiter.is_empty()).then_some(&delimiter),
            &Bytes::copy_from_slice(after.as_bytes()),
        )
    }

    #[test]
    fn a_page_after_a_common_prefix_skips_all_that_it_stands_for() {
        assert_eq!(start("", "/", "a/"), "a0");
        assert_eq!(start("x/", "/", "x/a/"), "x/a0");
    }

    #[test]
    fn a_page_after_a_key_begins_right_after_it() {
        assert_eq!(start("", "/", "a"), Bytes::from_static(b"a\0"));
        assert_eq!(start("", "", "a/"), Bytes::from_static(b"a/\0"));
        assert_eq!(start("x/", "/", ""), "x/");
    }
}
