//! What loses its name, and where that is noted.

use proptest::prelude::*;

use super::{Claims, Holding, Named, Names, UnrefName, dropped, names_of_upload};
use crate::blob::{ExtentRef, ObjectName};
use crate::catalog::records::NewObject;
use crate::catalog::rows::{BodyPlace, LiveObject, UploadKind, UploadRow, UploadState};
use crate::env::UnixMillis;
use crate::replication::Version;
use crate::ring::Partition;
use crate::types::{BucketId, ExtentId};

fn id(number: u8) -> ExtentId {
    ExtentId::from_bytes([number; 16])
}

fn names(ids: &[u8]) -> Names {
    let named = Named { length: 7, holding: Holding::Own };
    ids.iter().map(|number| (id(*number), named)).collect()
}

fn extents(ids: &[u8]) -> BodyPlace {
    BodyPlace::Extents(ids.iter().map(|number| ExtentRef { id: id(*number), length: 7 }).collect())
}

fn upload(kind: UploadKind) -> UploadRow {
    let bucket = BucketId::from_bytes([1; 16]);
    UploadRow { version: Version::unminted(), bucket, bucket_epoch: 1, kind }
}

fn head(body: BodyPlace) -> Box<LiveObject> {
    Box::new(LiveObject {
        size: 7,
        etag: String::new(),
        headers: Vec::new(),
        checksums: Vec::new(),
        parts: Vec::new(),
        body,
        upload: None,
    })
}

proptest! {
    #[test]
    fn an_unref_is_found_by_its_key(
        partition: u32, routing: Vec<u8>, sort in prop::collection::vec(any::<u8>(), 0..1100),
        id: [u8; 16],
    ) {
        let object = ObjectName { routing: routing.into(), sort: sort.into() };
        let partition = Partition::from_be_bytes(partition.to_be_bytes());
        let name = UnrefName { partition, object, id };

        prop_assert_eq!(UnrefName::parse(&name.key()), Some(name));
    }

    #[test]
    fn foreign_keys_are_no_unrefs_and_no_panic(key: Vec<u8>) {
        let _ = UnrefName::parse(&key);
    }

    #[test]
    fn whatever_was_named_is_still_named_or_is_dropped(
        before in prop::collection::vec(0_u8..9, 0..5),
        incoming in prop::collection::vec(0_u8..9, 0..5),
        after in prop::collection::vec(0_u8..9, 0..5),
    ) {
        let lost = dropped(names(&before), names(&incoming), &names(&after));

        for number in 0..9_u8 {
            let named = before.contains(&number) || incoming.contains(&number);
            let expected = named && !after.contains(&number);
            prop_assert_eq!(lost.contains_key(&id(number)), expected);
        }
    }
}

#[test]
fn a_write_that_lost_drops_what_it_brought() {
    // It was held already, and stays.
    let lost = dropped(names(&[1]), names(&[2]), &names(&[1]));

    assert_eq!(lost, names(&[2]));
}

#[test]
fn a_completing_upload_names_its_object_and_a_completed_one_does_not() {
    let state = |state| UploadKind::Upload {
        initiated: UnixMillis(1),
        object: NewObject::default(),
        state,
    };

    let completing =
        upload(state(UploadState::Completing { head: head(extents(&[1])), base: None }));
    let modified = UnixMillis(2);
    let completed = upload(state(UploadState::Completed { head: head(extents(&[1])), modified }));

    assert_eq!(names_of_upload(&completing), names(&[1]));
    assert_eq!(names_of_upload(&completed), Names::new());
    assert_eq!(names_of_upload(&upload(UploadKind::Gone)), Names::new());
}

#[test]
fn a_list_of_extents_is_named_itself_and_is_to_be_looked_into() {
    let list = vec![ExtentRef { id: id(3), length: 7 }];
    let mut claims = Claims::default();

    claims.add(&extents(&[1, 2]));
    claims.add(&BodyPlace::Manifest(list.clone()));

    assert_eq!(claims.direct, [1, 2, 3].map(id).into());
    assert_eq!(claims.manifests, vec![list]);
}
