//! What replicas say to each other, and what they keep of it.

use bytes::Bytes;
use serde_bytes::ByteArray;

use super::companion::Purpose;
use super::floors::Floor;
use super::hints::{HintName, HintRow};
use super::level::{Level, Outcome, Served};
use super::message::{
    CoordinateReply, CoordinateRequest, HandedRow, ReplicaReply, ReplicaRequest, ReplicaStanding,
    RowName, ScanRequest, SliceRequest, Want,
};
use super::scan::{ScanItem, SliceRows, Tombstone, decode_slices, encode_slices};
use super::stored::{RowFlags, parse_sum_key, record_in, stored_value};
use super::table::{RowKey, TableId};
use super::version::Version;
use crate::causality::HybridTime;
use crate::fuzz::{Target, messages, stored_values};
use crate::ring::Partition;
use crate::types::NodeId;

const TIME: HybridTime = HybridTime(1 << 56);

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn row() -> RowName {
    RowName { table: TableId::Objects, routing: bytes("routing"), sort: bytes("sort") }
}

fn handed() -> HandedRow {
    HandedRow { row: row(), n: 3, record: bytes("record"), inline_length: 5 }
}

#[test]
fn requests_to_replicas() {
    let scan = ScanRequest {
        table: TableId::Kv,
        slices: vec![SliceRequest { routing: bytes("r"), from: bytes("f"), limit: 1_000 }],
        prefix: bytes("p"),
        delimiter: Some(bytes("/")),
        want: Want::Record,
    };
    let begun = TIME;
    let purposes = [
        Purpose::Client { begun },
        Purpose::Hinted { owner: node(2), begun },
        Purpose::Repair,
        Purpose::Exchange { floor: TIME },
    ];
    let mut requests = vec![
        ReplicaRequest::Take { layout: 1, rows: vec![handed(), handed()] },
        ReplicaRequest::Read { layout: 1, row: row(), want: Want::RecordAndBytes },
        ReplicaRequest::Kept,
        ReplicaRequest::Scan { layout: 1, scan },
    ];
    requests.extend(purposes.map(|purpose| ReplicaRequest::Write {
        layout: 1,
        row: row(),
        n: 3,
        purpose,
        record: bytes("record"),
    }));
    messages("requests to replicas", &requests);
}

#[test]
fn answers_of_replicas() {
    let standing = ReplicaStanding::Counted;
    let newer = Some(Box::new(Version::unminted()));
    messages(
        "answers of replicas",
        &[
            ReplicaReply::Written { newer, standing },
            ReplicaReply::Taken { durable: vec![true, false], pause_millis: 10 },
            ReplicaReply::Row { record: Some(bytes("record")) },
            ReplicaReply::Digest { digest: Some(ByteArray::new([7; 16])) },
            ReplicaReply::Rows,
            ReplicaReply::Kept { owners: vec![(node(1), super::HintFigures::default())] },
            ReplicaReply::StaleLayout { version: 2 },
            ReplicaReply::Damaged { reason: "rot".to_owned() },
        ],
    );
}

#[test]
fn writes_to_be_coordinated() {
    let request = |level| CoordinateRequest {
        layout: 1,
        row: row(),
        record: bytes("record"),
        n: 3,
        level,
        begun: TIME,
        sent: TIME,
        patience_millis: 1_000,
    };
    let levels = [Level::Eventual, Level::Strict, Level::Numbers { r: 1, w: 2 }];
    messages("writes to be coordinated", &levels.map(request));
    let served = Served { level: Level::Quorum, degraded: true };
    let (outcome, reason) = (Outcome::Unknown, "two of three".to_owned());
    messages(
        "answers of coordinators",
        &[
            CoordinateReply::Written { record: bytes("record"), served },
            CoordinateReply::Unavailable { answered: 1, needed: 2, outcome, reason },
            CoordinateReply::StaleBucket,
        ],
    );
}

#[test]
fn pages_of_scans() {
    let slices = |record| {
        vec![
            SliceRows {
                items: vec![
                    ScanItem::Row {
                        sort: bytes("a"),
                        digest: [1; 16],
                        tombstone: Tombstone::Live,
                        record,
                    },
                    ScanItem::Prefix {
                        prefix: bytes("b/"),
                        witness: bytes("b/c"),
                        digest: [2; 16],
                    },
                ],
                next: Some(bytes("b0")),
            },
            SliceRows { items: Vec::new(), next: None },
        ]
    };
    let corpus = [Some(bytes("record")), None].map(|record| encode_slices(&slices(record)));
    Target::binary("pages of scans", corpus.map(|bytes| bytes.to_vec())).run(|input| {
        match decode_slices(Bytes::copy_from_slice(input), 2) {
            None => "refused".to_owned(),
            Some(slices) => {
                let again = encode_slices(&slices);
                assert_eq!(decode_slices(again, 2), Some(slices));
                "understood".to_owned()
            }
        }
    });
}

#[test]
fn keys_and_values_of_stored_rows() {
    let hint = HintName { owner: node(1), partition: Partition(3), row: row().key() };
    let sum = super::stored::sum_key(
        TableId::Kv,
        3,
        Partition(7),
        super::stored::Sum::Count(super::stored::Count::Missing),
    );
    let flags = RowFlags { gone: true, missing: false, n: 3 };
    let corpus =
        [hint.key(), sum, stored_value(flags, b"record"), row().key().stored(Partition(3))];
    Target::binary("keys and values", corpus.map(|bytes| bytes.to_vec())).run(|input| {
        let all = Bytes::copy_from_slice(input);
        if let Some(name) = HintName::parse(input) {
            assert_eq!(name.key(), all);
        }
        if let Some((table, n, partition, sum)) = parse_sum_key(input) {
            assert_eq!(super::stored::sum_key(table, n, partition, sum), all);
        }
        for table in TableId::ALL {
            let _too_short = RowKey::parse(table, &all);
        }
        if !input.is_empty() {
            let flags = RowFlags::of(input);
            let again = stored_value(flags, record_in(input));
            assert_eq!(RowFlags::of(&again), flags);
        }
        "x".repeat(input.len().min(40))
    });
}

#[test]
fn hints_and_floors() {
    stored_values("hints", &[HintRow { n: 3, since: TIME }]);
    stored_values("floors", &[Floor { fence: TIME, purged: HybridTime(7) }, Floor::default()]);
}

#[test]
fn levels() {
    let levels = [Level::Eventual, Level::All, Level::Numbers { r: 2, w: 3 }];
    let words = ["r=", "w=", ",", "quorum", "strict", "255", "256", "0"];
    Target::text("levels", levels.map(|level| level.to_string()), words).run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        match text.parse::<Level>() {
            Ok(level) => {
                assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
                for owners in 1..=9 {
                    assert!(level.reads(owners) >= 1 && level.writes(owners) >= 1, "{level}");
                }
                "understood".to_owned()
            }
            Err(error) => error.to_string(),
        }
    });
}
