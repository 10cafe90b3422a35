//! The merges of stored records obey their laws.

use proptest::prelude::*;

use super::{
    BodyPlace, BucketRow, BucketState, CredentialRow, LiveObject, ObjectRow, UploadKind, UploadRow,
    UploadState,
};
use crate::blob::ExtentRef;
use crate::catalog::records::{
    Checksum, ChecksumAlgorithm, ChecksumKind, NewObject, OwnerId, PartFacts,
};
use crate::causality::{Actor, HybridTime, Stamp};
use crate::codec::{Crc32c, encode_format};
use crate::env::UnixMillis;
use crate::replication::{Level, Record, Version};
use crate::types::{BucketId, ExtentId, NodeId, UploadId};

fn version(node: u8, time: u64) -> Version {
    let node = NodeId::from_bytes([node; 16]);
    let actor = Actor { node, boot: 1, stint: time };
    Version::succeed(None, actor, Stamp { time: HybridTime(time), node }, 0)
}

fn tombstone(node: u8, time: u64) -> ObjectRow {
    let bucket = BucketId::from_bytes([9; 16]);
    ObjectRow { version: version(node, time), bucket, bucket_epoch: 1, object: None }
}

fn upload(node: u8, time: u64, state: UploadState) -> UploadRow {
    UploadRow {
        version: version(node, time),
        bucket: BucketId::from_bytes([9; 16]),
        bucket_epoch: 1,
        kind: UploadKind::Upload { initiated: UnixMillis(1), object: NewObject::default(), state },
    }
}

/// One write has one stamp, and one stamp one write: equal stamps carry equal states.
fn uploads() -> impl Strategy<Value = UploadRow> {
    (0u8..3, 0u64..12).prop_map(|(node, time)| {
        let head = || Box::new(LiveObject { size: time, ..live(BodyPlace::Extents(Vec::new())) });
        let state = match time % 4 {
            0 => UploadState::Open,
            1 => UploadState::Aborted,
            2 => UploadState::Completing { head: head(), base: None },
            _ => UploadState::Completed { head: head(), modified: UnixMillis(time) },
        };
        upload(node, time, state)
    })
}

fn objects() -> impl Strategy<Value = ObjectRow> {
    (0u8..3, 0u64..6).prop_map(|(node, time)| tombstone(node, time))
}

fn laws<R: Record + PartialEq + std::fmt::Debug>(a: R, b: R, c: R) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.clone().merge(b.clone()), b.clone().merge(a.clone()));
    prop_assert_eq!(
        a.clone().merge(b.clone()).merge(c.clone()),
        a.clone().merge(b.clone().merge(c))
    );
    prop_assert_eq!(a.clone().merge(a.clone()), a.clone());
    prop_assert_eq!(a.clone().merge(b.clone()).merge(b.clone()), a.merge(b));
    Ok(())
}

proptest! {
    #[test]
    fn object_heads_merge_by_the_laws(a in objects(), b in objects(), c in objects()) {
        laws(a, b, c)?;
    }

    #[test]
    fn uploads_merge_by_the_laws(a in uploads(), b in uploads(), c in uploads()) {
        laws(a, b, c)?;
    }
}

#[test]
fn a_late_part_of_an_open_upload_does_not_reopen_an_aborted_one() {
    let aborted = upload(1, 5, UploadState::Aborted);
    let reopened = upload(2, 9, UploadState::Open);

    let merged = aborted.merge(reopened);

    assert!(matches!(merged.kind, UploadKind::Upload { state: UploadState::Aborted, .. }));
}

fn live(body: BodyPlace) -> LiveObject {
    LiveObject {
        size: 300_000,
        etag: "9e107d9d372bb6826bd81d3542a419d6-2".into(),
        headers: vec![("content-type".into(), "text/plain".into())],
        checksums: vec![Checksum {
            algorithm: ChecksumAlgorithm::Crc64Nvme,
            kind: ChecksumKind::FullObject,
            value: "AAAAAAAAAAA=".into(),
        }],
        parts: vec![PartFacts { number: 1, size: 300_000, checksums: Vec::new() }],
        body,
        upload: Some(UploadId::from_bytes([5; 16])),
    }
}

/// One record of every kind, as this release writes them.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let extent = ExtentRef { id: ExtentId::from_bytes([3; 16]), length: 300_000 };
    let object = |body| ObjectRow { object: Some(live(body)), ..tombstone(1, 77) };
    let upload_of = |state| upload(2, 78, state);
    let part = UploadKind::Part {
        size: 9,
        etag: "9e107d9d372bb6826bd81d3542a419d6".into(),
        checksums: Vec::new(),
        body: BodyPlace::Extents(vec![extent]),
    };
    let completed = UploadState::Completed {
        head: Box::new(live(BodyPlace::Extents(vec![extent]))),
        modified: UnixMillis(80),
    };
    let bucket = BucketRow {
        version: version(1, 5),
        id: BucketId::from_bytes([9; 16]),
        name: "photos".parse().unwrap(),
        owner: OwnerId("ab".repeat(32)),
        created: UnixMillis(4),
        epoch: 2,
        n: 3,
        index_shards: 16,
        level: Level::Strict,
        state: BucketState::Active,
    };
    let credential = CredentialRow {
        version: version(1, 6),
        access_key_id: "QKEXAMPLE".into(),
        sealed_secret: vec![1, 2, 3],
        owner: OwnerId("ab".repeat(32)),
        name: "backup".into(),
        created: UnixMillis(5),
        deleted: false,
    };
    let inline = BodyPlace::Inline { crc: Crc32c(7), length: 12 };
    vec![
        ("object-tombstone", encode_format(&tombstone(1, 77)).unwrap()),
        ("object-inline", encode_format(&object(inline)).unwrap()),
        ("object-attached", encode_format(&object(BodyPlace::Attached(extent))).unwrap()),
        ("object-extents", encode_format(&object(BodyPlace::Extents(vec![extent]))).unwrap()),
        ("object-manifest", encode_format(&object(BodyPlace::Manifest(vec![extent]))).unwrap()),
        ("upload-open", encode_format(&upload_of(UploadState::Open)).unwrap()),
        ("upload-aborted", encode_format(&upload_of(UploadState::Aborted)).unwrap()),
        ("upload-completed", encode_format(&upload_of(completed)).unwrap()),
        (
            "upload-part",
            encode_format(&UploadRow { kind: part, ..upload_of(UploadState::Open) }).unwrap(),
        ),
        ("bucket", encode_format(&bucket).unwrap()),
        ("credential", encode_format(&credential).unwrap()),
    ]
}

macro_rules! kept {
    ($name:literal) => {
        kept!("format-1", $name)
    };
    ($format:literal, $name:literal) => {
        ($name, include_str!(concat!("../../tests/fixtures/", $format, "/", $name, ".hex")))
    };
}

/// What `tests/upgrade.rs` keeps for ever.
const KEPT: [(&str, &str); 11] = [
    kept!("object-tombstone"),
    kept!("object-inline"),
    kept!("object-attached"),
    kept!("object-extents"),
    kept!("object-manifest"),
    kept!("upload-open"),
    kept!("upload-aborted"),
    kept!("upload-completed"),
    kept!("upload-part"),
    kept!("format-2", "bucket"),
    kept!("credential"),
];

/// A failure here is a change of a stored format, which takes a new number and leaves the old
/// fixtures as they are.
#[test]
fn records_are_written_as_their_fixtures_say() {
    let written: Vec<(&str, String)> =
        samples().into_iter().map(|(name, bytes)| (name, hex::encode(bytes))).collect();

    let kept: Vec<(&str, String)> =
        KEPT.iter().map(|(name, text)| (*name, text.trim().to_owned())).collect();

    assert_eq!(written, kept);
}
