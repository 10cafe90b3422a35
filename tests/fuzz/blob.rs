//! What is said and stored about extents.

use bytes::Bytes;

use super::extent::{ExtentRecord, ObjectName, Origin};
use super::extent_row::ExtentRow;
use super::wanted::{FetchReason, FetchRow, Wanted};
use super::wire::{BlobReply, BlobRequest, PieceHeader};
use crate::causality::HybridTime;
use crate::codec::Crc32c;
use crate::fuzz::{Target, messages, stored_values};
use crate::types::{ExtentId, NodeId};

const EXTENT: ExtentId = ExtentId::from_bytes([9; 16]);

fn record() -> ExtentRecord {
    let object =
        ObjectName { routing: Bytes::from_static(b"routing"), sort: Bytes::from_static(b"sort") };
    ExtentRecord {
        length: 600_000,
        routing: vec![1; 18],
        n: 3,
        begun: HybridTime(1 << 56),
        origin: Some(Origin { writer: NodeId::from_bytes([1; 16]), object }),
        hinted_for: Some(NodeId::from_bytes([2; 16])),
    }
}

#[test]
fn requests_and_answers() {
    let (extent, routing) = (EXTENT, Bytes::from_static(b"routing"));
    let (checksums, record) = (vec![Crc32c(1), Crc32c(u32::MAX)], Bytes::from_static(b"record"));
    messages(
        "requests for bytes",
        &[
            BlobRequest::Put { extent },
            BlobRequest::Get { extent, first: 0, last: 255, routing },
            BlobRequest::PutWhole { extent, checksums, record },
            BlobRequest::Holds { extent },
        ],
    );
    messages(
        "answers about bytes",
        &[BlobReply::Sealed, BlobReply::Full { reason: "full".to_owned() }, BlobReply::NotHeld],
    );
}

#[test]
fn headers_of_pieces() {
    let corpus = [
        PieceHeader::Chunk { number: 3, crc: Crc32c(77) },
        PieceHeader::Seal { chunks: 256 },
        PieceHeader::Missing,
    ];
    Target::binary("headers of pieces", corpus.map(|header| header.encode().to_vec())).run(
        |input| match PieceHeader::decode(input) {
            None => "refused".to_owned(),
            Some(header) => {
                assert_eq!(PieceHeader::decode(&header.encode()), Some(header));
                "understood".to_owned()
            }
        },
    );
}

#[test]
fn stored_extents() {
    stored_values("extent records", &[record(), ExtentRecord { origin: None, ..record() }]);
    stored_values("extent rows", &[ExtentRow::live(&record()), ExtentRow::gone(5, 3, None)]);
    stored_values(
        "fetches",
        &[FetchReason::Missing, FetchReason::Damaged].map(|reason| FetchRow { reason }),
    );
    Target::binary("keys of extents", [vec![0; 38]]).run(|input| match Wanted::parse(input) {
        None => "refused".to_owned(),
        Some(wanted) => {
            assert_eq!(wanted.row.stored(wanted.partition), input);
            "understood".to_owned()
        }
    });
}
