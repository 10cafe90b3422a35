//! The merges of stored records obey their laws.

use proptest::prelude::*;

use super::{ObjectRow, UploadKind, UploadRow, UploadState};
use crate::catalog::records::NewObject;
use crate::causality::{Actor, HybridTime, Stamp};
use crate::env::UnixMillis;
use crate::replication::{Record, Version};
use crate::types::{BucketId, NodeId};

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
    (0u8..3, 0u64..6).prop_map(|(node, time)| {
        let state = if time % 2 == 0 { UploadState::Open } else { UploadState::Aborted };
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
