//! What owners say to each other when they compare their copies.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_bytes::{ByteArray, ByteBuf};

use super::exchange::{RowDigest, RowPage};
use super::message::{Ask, Command, PairReport, RepairReply, RepairRequest, TreeName, TreeRoot};
use super::proof::{Proof, Proven};
use crate::causality::HybridTime;
use crate::fuzz::{Target, messages, stored_values};
use crate::replication::message::ReplicaStanding;
use crate::replication::table::TableId;
use crate::ring::Partition;
use crate::types::NodeId;

const TIME: HybridTime = HybridTime(1 << 56);
const TREE: TreeName = TreeName { table: TableId::Objects, n: 3 };

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn proof() -> Proof {
    let owners: BTreeSet<NodeId> = (1..=3).map(node).collect();
    Proof { at: TIME, copies: owners.clone(), owners, missing: 2 }
}

#[test]
fn requests() {
    let root = crate::merkle::LeafSums::default().root();
    let asks = [
        Ask::Compare { roots: vec![TreeRoot { tree: TREE, root }] },
        Ask::Leaves { tree: TREE },
        Ask::Keys { tree: TREE, leaves: ByteBuf::from(vec![0xff; 128]), from: Bytes::new() },
        Ask::Records { tree: TREE, keys: vec![Bytes::from_static(b"key")] },
        Ask::Outlived {
            tree: TREE,
            rows: vec![(Bytes::from_static(b"key"), ByteArray::new([1; 16]))],
        },
        Ask::Finish { complete: true },
        Ask::Meet { peer: node(2) },
        Ask::Proven { proof: proof() },
        Ask::Fence { fence: TIME },
        Ask::Purge { purge: TIME },
        Ask::Inventory,
        Ask::Control { command: Command::Start { partition: Some(Partition(1)), since: TIME } },
    ];
    let requests = asks.map(|ask| RepairRequest {
        layout: 1,
        partition: Partition(3),
        floor: TIME,
        standing: ReplicaStanding::Rebuilding,
        ask,
    });
    messages("requests of repair", &requests);
}

#[test]
fn answers() {
    let standing = ReplicaStanding::Counted;
    let report = PairReport { complete: true, pulled: 3, ..PairReport::default() };
    messages(
        "answers of repair",
        &[
            RepairReply::Compared { floor: TIME, missing: 1, differing: vec![TREE], standing },
            RepairReply::Keys { next: Some(Bytes::from_static(b"next")) },
            RepairReply::Records { rows: Vec::new(), looked: 3, damaged: 1 },
            RepairReply::Pushed { durable: vec![true], pause_millis: 5 },
            RepairReply::Met { report },
            RepairReply::Fenced { oldest: Some(TIME) },
            RepairReply::StaleLayout { version: 3 },
        ],
    );
}

#[test]
fn pages_of_rows() {
    let row = |key: &'static [u8], missing| RowDigest {
        key: Bytes::from_static(key),
        digest: [3; 16],
        missing,
    };
    let page = RowPage { rows: vec![row(b"a", false), row(b"b", true)], next: None };
    Target::binary("pages of rows", [page.encode().to_vec()]).run(|input| {
        match RowPage::decode(Bytes::copy_from_slice(input), None) {
            None => "refused".to_owned(),
            Some(page) => {
                assert!(page.rows.is_sorted_by(|a, b| a.key < b.key));
                let again = RowPage::decode(page.encode(), None).unwrap();
                assert_eq!(again.rows.len(), page.rows.len());
                page.rows.len().min(9).to_string()
            }
        }
    });
}

#[test]
fn proofs() {
    stored_values("proofs", &[Proven { last: proof(), full: Some(TIME) }]);
}
