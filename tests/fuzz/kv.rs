//! Requests of the key-value API.

use super::request;
use super::route::{self, Operation};
use super::scan::{Asked, read_token, token};
use crate::auth::Head;
use crate::catalog::{BucketRecord, OwnerId, kv_context_scope};
use crate::causality::{CausalContext, HybridTime};
use crate::env::UnixMillis;
use crate::fuzz::{Target, request_head};
use crate::replication::Level;
use crate::types::{BucketId, Key};

const HEADS: [&str; 6] = [
    "GET /kv/v1/bucket/a%2Fkey?level=quorum\nhost: h",
    "PUT /kv/v1/bucket/key?r=1&w=2\nhost: h\nx-quorate-context: CONTEXT\ncontent-length: 5",
    "DELETE /kv/v1/bucket/key\nhost: h\nx-quorate-context: CONTEXT",
    "GET /kv/v1/bucket?prefix=a%2F&delimiter=%2F&limit=10&values=true&after=a%2Fb\nhost: h",
    "GET /kv/v1/bucket?token=TOKEN&from=\nhost: h\nauthorization: Bearer id:secret",
    "GET /kv/v1/openapi.json\nhost: h",
];

const WORDS: [&str; 18] = [
    "%2F",
    "%",
    "%00",
    "%ff",
    "&",
    "=",
    "/",
    "?",
    "r=255",
    "w=256",
    "level=r%3D9,w%3D9",
    "limit=0",
    "limit=18446744073709551616",
    "after=%ff",
    "delimiter=",
    "x-quorate-context: x\n",
    "\n",
    "é",
];

fn bucket() -> BucketRecord {
    BucketRecord {
        asked: None,
        id: BucketId::from_bytes([1; 16]),
        name: "bucket".parse().unwrap(),
        owner: OwnerId("o".into()),
        created: UnixMillis(0),
        epoch: 1,
        n: 3,
        index_shards: 16,
        level: Level::Quorum,
    }
}

#[test]
fn requests() {
    let bucket = bucket();
    let key = Key::new("key").unwrap();
    let given = CausalContext { time: HybridTime(7), ..CausalContext::default() };
    let text = given.encode(&kv_context_scope(&bucket, &key)).unwrap();
    let heads = HEADS.map(|head| head.replace("CONTEXT", &text).replace("TOKEN", &token(b"a/b")));
    Target::text("requests of the key-value API", heads, WORDS).run(|input| {
        let Some(parts) = request_head(input) else { return "no request".to_owned() };
        let Ok(head) = Head::parse(parts, |_| None) else { return "undecodable".to_owned() };
        let routed = route::route(&head.method, &head.path).is_ok();
        let taken = [Operation::Get, Operation::Put, Operation::Delete]
            .map(|operation| request::check(operation, &head).is_ok());
        let level = request::level(&head, &bucket).is_ok();
        let context = request::context(&head, &bucket, &key).map(|context| context.is_some());
        let name = request::key(head.path.trim_start_matches('/')).is_ok();
        let asked = Asked::parse(&head).map(|asked| asked.delimiter.is_some());
        format!(
            "{routed} {taken:?} {level} {} {name} {}",
            context.map_or_else(|error| format!("{:?}", error.kind), |some| some.to_string()),
            asked.map_or_else(|error| format!("{:?}", error.kind), |some| some.to_string()),
        )
    });
}

#[test]
fn tokens_of_scans() {
    let corpus = [&b"a/b"[..], b"", &[0xff; 9]].map(token);
    Target::text("tokens of scans", corpus, ["=", "-", "_", "AA", "é"]).run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        match read_token(text) {
            Ok(next) => {
                assert_eq!(read_token(&token(&next)).unwrap(), next);
                "understood".to_owned()
            }
            Err(error) => format!("{:?}", error.kind),
        }
    });
}
