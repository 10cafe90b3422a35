//! Row keys: how buckets, keys, uploads and parts are laid out in order.

use bytes::Bytes;

use crate::replication::{RowKey, TableId};
use crate::types::{BucketId, Key, UploadId};

use super::records::BucketRecord;

/// Sort keys of uploads begin so; those of parts with [`PARTS`].
const UPLOADS: u8 = 0;
const PARTS: u8 = 1;

/// The routing key of one index shard of a bucket: what is hashed to find its partition.
pub(super) fn shard_routing(bucket: BucketId, shard: u16) -> Bytes {
    let mut routing = Vec::with_capacity(18);
    routing.extend_from_slice(bucket.as_bytes());
    routing.extend_from_slice(&shard.to_be_bytes());
    routing.into()
}

/// The bucket that a routing key belongs to.
pub(super) fn bucket_of(routing: &[u8]) -> Option<BucketId> {
    let bytes: [u8; 16] = routing.get(..16)?.try_into().ok()?;
    Some(BucketId::from_bytes(bytes))
}

/// All routing keys of a bucket.
pub(super) fn shards(bucket: &BucketRecord) -> Vec<Bytes> {
    (0..bucket.index_shards.max(1)).map(|shard| shard_routing(bucket.id, shard)).collect()
}

/// The shard that a key belongs to, for ever: part of the stored format.
fn shard_of(bucket: &BucketRecord, key: &[u8]) -> u16 {
    // Reading from a slice cannot fail.
    let hash = murmur3::murmur3_x64_128(&mut &key[..], 0).unwrap_or_default();
    u16::try_from(hash % u128::from(bucket.index_shards.max(1))).unwrap_or(0)
}

pub(super) fn routing_of(bucket: &BucketRecord, key: &Key) -> Bytes {
    shard_routing(bucket.id, shard_of(bucket, key.as_bytes()))
}

/// The row of an object.
pub(super) fn object_row(bucket: &BucketRecord, key: &Key) -> RowKey {
    RowKey { table: TableId::Objects, routing: routing_of(bucket, key), sort: key.to_bytes() }
}

/// The row of a key of the key-value API.
pub(super) fn kv_row(bucket: &BucketRecord, key: &Key) -> RowKey {
    RowKey { table: TableId::Kv, routing: routing_of(bucket, key), sort: key.to_bytes() }
}

/// Appends `key` so that order is kept and nothing that follows can be taken for a part of it.
fn push_escaped(sort: &mut Vec<u8>, key: &[u8]) {
    for &byte in key {
        sort.push(byte);
        if byte == 0 {
            sort.push(0xff);
        }
    }
}

/// What the sort keys of all uploads of keys beginning with `prefix` begin with.
pub(super) fn uploads_prefix(prefix: &[u8]) -> Bytes {
    let mut sort = vec![UPLOADS];
    push_escaped(&mut sort, prefix);
    sort.into()
}

fn upload_sort(kind: u8, key: &[u8], upload: UploadId) -> Vec<u8> {
    let mut sort = vec![kind];
    push_escaped(&mut sort, key);
    sort.extend_from_slice(&[0, 1]);
    sort.extend_from_slice(upload.as_bytes());
    sort
}

/// The row of an upload. It is routed as its object.
pub(super) fn upload_row(bucket: &BucketRecord, key: &Key, upload: UploadId) -> RowKey {
    RowKey {
        table: TableId::Uploads,
        routing: routing_of(bucket, key),
        sort: upload_sort(UPLOADS, key.as_bytes(), upload).into(),
    }
}

/// What the sort keys of an upload's parts begin with.
pub(super) fn parts_prefix(key: &Key, upload: UploadId) -> Bytes {
    upload_sort(PARTS, key.as_bytes(), upload).into()
}

/// The row of a part.
pub(super) fn part_row(bucket: &BucketRecord, key: &Key, upload: UploadId, part: u16) -> RowKey {
    let mut sort = upload_sort(PARTS, key.as_bytes(), upload);
    sort.extend_from_slice(&part.to_be_bytes());
    RowKey { table: TableId::Uploads, routing: routing_of(bucket, key), sort: sort.into() }
}

/// The part number of a part's sort key.
pub(super) fn part_number(sort: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*sort.last_chunk::<2>()?))
}

/// The first sort key after a part's.
pub(super) fn after_part(key: &Key, upload: UploadId, part: u16) -> Bytes {
    let mut sort = upload_sort(PARTS, key.as_bytes(), upload);
    sort.extend_from_slice(&part.to_be_bytes());
    sort.push(0);
    sort.into()
}

/// What the sort keys of all uploads of `key` begin with, and those of all their parts.
pub(super) fn uploads_of_key(key: &[u8]) -> [Bytes; 2] {
    [UPLOADS, PARTS].map(|kind| {
        let mut sort = vec![kind];
        push_escaped(&mut sort, key);
        sort.extend_from_slice(&[0, 1]);
        sort.into()
    })
}

/// The object key and upload that a sort key of an upload or of a part names.
pub(super) fn upload_part_of(sort: &[u8]) -> Option<(Bytes, UploadId)> {
    let whole = match *sort.first()? {
        UPLOADS => sort,
        PARTS => sort.split_last_chunk::<2>()?.0,
        _ => return None,
    };
    let (rest, upload) = whole.split_last_chunk::<16>()?;
    let escaped = rest.get(1..)?.strip_suffix(&[0, 1])?;
    Some((unescaped(escaped).into(), UploadId::from_bytes(*upload)))
}

/// The key and upload of an upload's sort key.
pub(super) fn upload_of(sort: &[u8]) -> Option<(Key, UploadId)> {
    let (rest, upload) = sort.split_last_chunk::<16>()?;
    let escaped = rest.strip_prefix(&[UPLOADS])?.strip_suffix(&[0, 1])?;
    Some((Key::new(unescaped(escaped)).ok()?, UploadId::from_bytes(*upload)))
}

fn unescaped(escaped: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        key.push(byte);
        if byte == 0 {
            bytes.next();
        }
    }
    key
}

/// The first sort key after every upload of `key`, or after one of them.
pub(super) fn after_upload(key: &[u8], upload: Option<UploadId>) -> Bytes {
    let mut sort = match upload {
        Some(upload) => upload_sort(UPLOADS, key, upload),
        None => {
            let mut sort = vec![UPLOADS];
            push_escaped(&mut sort, key);
            sort.extend_from_slice(&[0, 2]);
            return sort.into();
        }
    };
    sort.push(0);
    sort.into()
}

#[cfg(test)]
mod tests {
    use super::{
        after_upload, part_row, upload_of, upload_part_of, upload_row, upload_sort, uploads_of_key,
        uploads_prefix,
    };
    use crate::catalog::records::{BucketRecord, OwnerId};
    use crate::env::UnixMillis;
    use crate::replication::Level;
    use crate::types::{BucketId, Key, UploadId};
    use proptest::prelude::*;

    fn bucket() -> BucketRecord {
        BucketRecord {
            id: BucketId::from_bytes([1; 16]),
            name: "bucket".parse().unwrap(),
            owner: OwnerId("o".into()),
            created: UnixMillis(0),
            epoch: 1,
            n: 3,
            index_shards: 16,
            level: Level::Quorum,
            asked: None,
        }
    }

    fn texts() -> impl Strategy<Value = String> {
        prop::collection::vec(prop_oneof![Just('\0'), Just('a'), Just('b'), Just('/')], 1..5)
            .prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn uploads_sort_by_key_then_by_id(a in texts(), b in texts(), x in 0u8..3, y in 0u8..3) {
            let (first, second) = (UploadId::from_bytes([x; 16]), UploadId::from_bytes([y; 16]));

            let left = upload_sort(0, a.as_bytes(), first);
            let right = upload_sort(0, b.as_bytes(), second);

            prop_assert_eq!(left.cmp(&right), (a.as_bytes(), first).cmp(&(b.as_bytes(), second)));
        }

        #[test]
        fn an_upload_row_tells_its_key_and_id(a in texts(), prefix in 0usize..4) {
            let key = Key::new(a.clone().into_bytes()).unwrap();
            let upload = UploadId::from_bytes([7; 16]);

            let row = upload_row(&bucket(), &key, upload);

            prop_assert_eq!(upload_of(&row.sort), Some((key.clone(), upload)));
            let part = part_row(&bucket(), &key, upload, 256);
            for (row, prefix) in [row.clone(), part].iter().zip(uploads_of_key(key.as_bytes())) {
                prop_assert_eq!(upload_part_of(&row.sort), Some((key.to_bytes(), upload)));
                prop_assert!(row.sort.starts_with(&prefix));
            }
            let prefix = &a.as_bytes()[..prefix.min(a.len())];
            prop_assert!(row.sort.starts_with(&uploads_prefix(prefix)));
            prop_assert!(row.sort < after_upload(a.as_bytes(), None));
            prop_assert!(row.sort < after_upload(a.as_bytes(), Some(upload)));
        }
    }
}
