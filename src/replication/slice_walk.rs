//! Walks over one slice of this node's rows for a scan.

use bytes::Bytes;

use crate::ring::Partition;
use crate::store::{KeyRange, MetaStore, StoreError, Visit};

use super::message::{ScanRequest, SliceRequest, Want};
use super::replica::digest_of;
use super::scan::{ROWS_PASSED_MAX, ScanItem, SliceRows, Tombstone};
use super::stored::{RowFlags, record_in};
use super::table::{Schema, stored_key};

/// What one answer to a scan may hold, all slices together: well below what a message may.
const SCAN_BYTES_MAX: usize = 2 << 20;

/// What an item takes besides its keys and record.
const ITEM_BYTES: usize = 32;

/// Scans one slice. Blocks.
pub(super) fn scan_slice(
    (meta, schema): (&dyn MetaStore, &dyn Schema),
    scan: &ScanRequest,
    slice: &SliceRequest,
    partition: Partition,
) -> Result<SliceRows, StoreError> {
    let base = stored_key(partition, &slice.routing, b"");
    let from = stored_key(partition, &slice.routing, &slice.from.clone().max(scan.prefix.clone()));
    let whole = stored_key(partition, &slice.routing, &scan.prefix);
    let range = KeyRange { start: from.to_vec(), end: KeyRange::prefix(whole.to_vec()).end };
    let mut walk = SliceWalk {
        scan,
        schema,
        limit: slice.limit as usize,
        passed: 0,
        bytes: 0,
        bytes_max: SCAN_BYTES_MAX / scan.slices.len().max(1),
        items: Vec::new(),
        next: None,
    };
    meta.scan(scan.table.family(), &range, &mut |key, value| {
        walk.visit(&base, key.get(base.len()..).unwrap_or_default(), value)
    })?;
    Ok(SliceRows { items: walk.items, next: walk.next })
}

/// The state of one slice's scan.
struct SliceWalk<'a> {
    scan: &'a ScanRequest,
    schema: &'a dyn Schema,
    limit: usize,
    passed: usize,
    bytes: usize,
    bytes_max: usize,
    items: Vec<ScanItem>,
    next: Option<Bytes>,
}

impl SliceWalk<'_> {
    fn visit(&mut self, base: &[u8], sort: &[u8], value: &[u8]) -> Visit {
        let full = self.items.len() >= self.limit || self.bytes >= self.bytes_max;
        if full || self.passed >= ROWS_PASSED_MAX {
            self.next = Some(Bytes::copy_from_slice(sort));
            return Visit::Stop;
        }
        self.passed += 1;
        let gone = RowFlags::of(value).gone;
        let record = record_in(value);
        if let Some(prefix) = self.common_prefix(sort) {
            if gone {
                return Visit::Next;
            }
            self.bytes += sort.len() + prefix.len() + ITEM_BYTES;
            let mut seek = base.to_vec();
            seek.extend_from_slice(&prefix);
            self.items.push(ScanItem::Prefix {
                witness: Bytes::copy_from_slice(sort),
                digest: digest_of(record),
                prefix,
            });
            return crate::store::next_prefix(&seek).map_or(Visit::Stop, Visit::Seek);
        }
        let shown = (self.scan.want != Want::Digest)
            .then(|| self.schema.listed(record).unwrap_or_else(|| Bytes::copy_from_slice(record)));
        self.bytes += sort.len() + ITEM_BYTES + shown.as_ref().map_or(0, Bytes::len);
        self.items.push(ScanItem::Row {
            sort: Bytes::copy_from_slice(sort),
            digest: digest_of(record),
            tombstone: if gone { Tombstone::Gone } else { Tombstone::Live },
            record: shown,
        });
        Visit::Next
    }

    fn common_prefix(&self, sort: &[u8]) -> Option<Bytes> {
        common_prefix(sort, &self.scan.prefix, self.scan.delimiter.as_deref())
    }
}

/// What `sort` is grouped under: itself up to and with the first delimiter after `prefix`.
#[must_use]
pub(crate) fn common_prefix(sort: &[u8], prefix: &[u8], delimiter: Option<&[u8]>) -> Option<Bytes> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let rest = sort.strip_prefix(prefix)?;
    let at = rest.windows(delimiter.len()).position(|window| window == delimiter)?;
    Some(Bytes::copy_from_slice(&sort[..prefix.len() + at + delimiter.len()]))
}
