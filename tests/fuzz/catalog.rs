//! Stored rows of the catalogue and what nodes tell each other of it.

use bytes::Bytes;

use super::conflicts::LostWrite;
use super::full_copy::TableRows;
use super::kv_row::KvRow;
use super::objects::decode_manifest;
use super::records::{BucketName, OwnerId};
use super::remote::{CatalogReply, CatalogRequest, RemoteError};
use super::rows::{BucketRow, CredentialRow, ObjectRow, UploadRow};
use super::secret_box::SecretBox;
use super::unref::{Holding, UnrefName, UnrefRow, Unreferenced, names_of_head, names_of_upload};
use crate::blob::{ExtentRef, ObjectName};
use crate::causality::{Actor, CausalContext, Dot, HybridTime, Stamp};
use crate::codec::{decode_format, encode_format, encode_message};
use crate::env::{OsEntropy, UnixMillis};
use crate::fuzz::{Target, fixture, messages, stored, stored_values, told};
use crate::replication::{Level, Outcome, Record, TableId, Version};
use crate::ring::Partition;
use crate::types::{BucketId, ExtentId, Key, NodeId, UploadId};

const TIME: HybridTime = HybridTime(1 << 56);

fn actor() -> Actor {
    Actor { node: NodeId::from_bytes([1; 16]), boot: 2, stint: 3 }
}

fn stamp(time: u64) -> Stamp {
    Stamp { time: HybridTime(time), node: NodeId::from_bytes([1; 16]) }
}

/// Reads rows of one type, merges each with the one before in both orders, and looks at the
/// result as the rest of the node does.
fn rows<R: Record>(name: &'static str, corpus: Vec<Vec<u8>>, look: impl Fn(&R)) {
    let mut last: R = decode_format(&corpus[0]).unwrap();
    Target::binary(name, corpus).run(|bytes| {
        let row = match stored::<R>(bytes) {
            Ok(row) => row,
            Err(error) => return error,
        };
        look(&row);
        let _facts = (row.inline(), row.is_tombstone(), row.names_extents(), row.bucket_epoch());
        let merged = last.clone().merge(row.clone());
        let again = stored::<R>(&encode_format(&merged).unwrap());
        assert!(again.is_ok(), "what was merged can be stored");
        let other = row.clone().merge(last.clone());
        assert_eq!(merged.version().order(), other.version().order());
        look(&merged);
        let minted = row
            .clone()
            .minted(Some(&last), &mut |current| Version::succeed(current, actor(), stamp(7), 0));
        let refused = minted.refusal(Some(&last)).is_some();
        look(&minted);
        last = row;
        format!("understood {refused}")
    });
}

fn fixtures(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| fixture(&format!("format-1/{name}.hex"))).collect()
}

#[test]
fn heads_of_objects() {
    let names = [
        "object-tombstone",
        "object-inline",
        "object-attached",
        "object-extents",
        "object-manifest",
    ];
    let key = Key::new("key").unwrap();
    rows::<ObjectRow>("heads of objects", fixtures(&names), |row| {
        let _seen = (row.head(&key), names_of_head(row));
    });
}

#[test]
fn uploads() {
    let names = ["upload-open", "upload-aborted", "upload-completed", "upload-part"];
    let key = Key::new("key").unwrap();
    rows::<UploadRow>("uploads", fixtures(&names), |row| {
        let upload = UploadId::from_bytes([4; 16]);
        let _seen = (row.summary(&key, upload), row.part(1), names_of_upload(row));
    });
}

#[test]
fn keys_and_values() {
    let context = CausalContext { time: TIME, ..CausalContext::default() };
    let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let asked = |value| KvRow::asked((BucketId::from_bytes([1; 16]), 1), context.clone(), value);
    let mut corpus = fixtures(&["kv"]);
    corpus.extend([value("value"), None].map(|value| {
        let row = asked(value)
            .minted(None, &mut |current| Version::succeed(current, actor(), stamp(8), 0));
        encode_format(&row).unwrap()
    }));
    rows::<KvRow>("keys and values", corpus, |row| {
        let _seen = (row.context(), row.values().count(), row.clone().abridged());
    });
}

#[test]
fn buckets_and_credentials() {
    let buckets = vec![fixture("format-2/bucket.hex"), fixture("format-1/bucket.hex")];
    rows::<BucketRow>("buckets", buckets, |row| drop(row.record()));
    rows::<CredentialRow>("credentials", fixtures(&["credential"]), |_| {});
    let names = ["bucket", "a.b-c", "xn--a", "192.168.1.1"].map(str::to_owned);
    Target::text("names of buckets", names, [".", "-", "xn--", "-s3alias", "A", "é"]).run(
        |input| match std::str::from_utf8(input) {
            Ok(text) => told(text.parse::<BucketName>()),
            Err(_) => "no text".to_owned(),
        },
    );
}

#[test]
fn sealed_secrets() {
    let secrets = SecretBox::new(b"a secret that the cluster knows").unwrap();
    let sealed = secrets.seal("id", "secret", &OsEntropy::new()).unwrap();
    Target::binary("sealed secrets", [sealed.clone()]).run(|input| {
        match secrets.open("id", input) {
            Ok(_) => {
                assert_eq!(input, sealed, "only what was sealed opens");
                "opened".to_owned()
            }
            Err(error) => error.to_string(),
        }
    });
}

fn lost() -> LostWrite {
    LostWrite {
        stamp: stamp(1),
        dot: Dot { actor: actor(), counter: 1 },
        size: Some(3),
        etag: Some("etag".to_owned()),
        lost_to: stamp(2),
        by: None,
        noted: UnixMillis(7),
    }
}

#[test]
fn notes() {
    stored_values("lost writes", &[lost(), LostWrite { size: None, etag: None, ..lost() }]);
    let what = [
        Unreferenced::Extent { length: 5, holding: Holding::Manifest },
        Unreferenced::Parts,
        Unreferenced::Completing,
        Unreferenced::Upload,
    ];
    stored_values("unrefs", &what.map(|what| UnrefRow { what, n: 3, since: TIME }));
    let object =
        ObjectName { routing: Bytes::from_static(b"routing"), sort: Bytes::from_static(b"key") };
    let name = UnrefName { partition: Partition(7), object, id: [9; 16] };
    Target::binary("keys of unrefs", [name.key().to_vec()]).run(|input| {
        match UnrefName::parse(input) {
            None => "refused".to_owned(),
            Some(name) => {
                assert_eq!(name.key(), input);
                "understood".to_owned()
            }
        }
    });
}

#[test]
fn manifests() {
    let list: Vec<ExtentRef> = (1..4)
        .map(|id| ExtentRef { id: ExtentId::from_bytes([id; 16]), length: 1 << 26 })
        .collect();
    Target::binary("manifests", [encode_message(&list).unwrap()])
        .run(|input| told(decode_manifest(input)));
}

#[test]
fn requests_and_answers() {
    let name: BucketName = "bucket".parse().unwrap();
    let bytes = Bytes::from_static;
    let level = Level::Numbers { r: 1, w: 2 };
    messages(
        "requests of the catalogue",
        &[
            CatalogRequest::CreateBucket {
                name: name.clone(),
                owner: OwnerId("o".to_owned()),
                level: Some(level),
                n: Some(3),
            },
            CatalogRequest::SetBucket { name: name.clone(), level },
            CatalogRequest::DeleteBucket { name },
            CatalogRequest::CreateCredential {
                name: "n".to_owned(),
                given: Some(("id".to_owned(), "secret".to_owned())),
            },
            CatalogRequest::Digest { table: TableId::Buckets },
            CatalogRequest::Rows { table: TableId::Credentials, after: bytes(b"after") },
            CatalogRequest::PurgeFloor { partition: 7 },
            CatalogRequest::Lost { routing: bytes(b"routing"), sort: bytes(b"sort") },
            CatalogRequest::TakeLost { key: bytes(b"key"), lost: bytes(b"lost") },
        ],
    );
    let rows = TableRows { rows: vec![(bytes(b"sort"), bytes(b"record"))] };
    let (outcome, reason) = (Outcome::Unknown, "why".to_owned());
    messages(
        "answers of the catalogue",
        &[
            CatalogReply::Done,
            CatalogReply::Digest { digest: vec![1; 16] },
            CatalogReply::Rows { rows },
            CatalogReply::PurgeFloor { floor: TIME },
            CatalogReply::Lost { lost: vec![lost()] },
            CatalogReply::Failed { error: RemoteError::Unavailable { outcome, reason } },
        ],
    );
}
