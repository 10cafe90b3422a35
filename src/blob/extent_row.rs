//! Which extents should exist: the replicated row of each, and how copies of it merge.
//!
//! Every owner derives the live row from the record in its own seal, so that all of them hold the
//! same row without having heard of each other. From then on the row goes one way: what is gone
//! stays gone, whatever comes later.

use serde::{Deserialize, Serialize};

use crate::causality::{Actor, HybridTime, Stamp};
use crate::codec::Format;
use crate::replication::{Record, TableId, Version};
use crate::types::NodeId;

use super::extent::{ExtentRecord, ObjectName, Origin};

/// Whether an extent should exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ExtentState {
    /// Its owners keep its bytes.
    #[serde(rename = "l")]
    Live,
    /// Nothing names it: its bytes are forgotten. For ever, because ids are not used again.
    #[serde(rename = "g")]
    Gone,
}

/// What should be kept of an extent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentRow {
    /// The row's write.
    #[serde(rename = "v")]
    pub version: Version,
    /// Its bytes.
    #[serde(rename = "l")]
    pub length: u64,
    /// Copies wanted.
    #[serde(rename = "n")]
    pub n: u8,
    /// When its writer began, before the first byte.
    #[serde(rename = "b")]
    pub begun: HybridTime,
    /// The object that it belongs to; unknown of extents of the first release.
    #[serde(rename = "o")]
    pub object: Option<ObjectName>,
    /// Whether it should exist.
    #[serde(rename = "s")]
    pub state: ExtentState,
}

impl Format for ExtentRow {
    const NAME: &'static str = "extent row";
    const NUMBER: u16 = 1;
}

impl ExtentRow {
    /// The row of a sealed extent: the same wherever it is derived.
    #[must_use]
    pub fn live(record: &ExtentRecord) -> Self {
        let unknown = NodeId::from_bytes([0; 16]);
        let node = record.origin.as_ref().map_or(unknown, |origin| origin.writer);
        let actor = Actor { node, boot: 0, stint: 0 };
        let stamp = Stamp { time: record.begun, node };
        Self {
            version: Version::succeed(None, actor, stamp, 0),
            length: record.length,
            n: record.n,
            begun: record.begun,
            object: record.origin.as_ref().map(|origin| origin.object.clone()),
            state: ExtentState::Live,
        }
    }

    /// The row that says that the extent is gone; an owner gives it its version.
    #[must_use]
    pub fn gone(length: u64, n: u8, object: Option<ObjectName>) -> Self {
        Self {
            version: Version::unminted(),
            length,
            n,
            begun: HybridTime::default(),
            object,
            state: ExtentState::Gone,
        }
    }

    /// The record to seal the bytes with that belong to this row.
    #[must_use]
    pub fn record(&self, routing: &[u8]) -> ExtentRecord {
        let writer = self.version.stamp.node;
        ExtentRecord {
            length: self.length,
            routing: routing.to_vec(),
            n: self.n,
            begun: self.begun,
            origin: self.object.clone().map(|object| Origin { writer, object }),
            hinted_for: None,
        }
    }
}

impl Record for ExtentRow {
    const TABLE: TableId = TableId::Extents;

    fn version(&self) -> &Version {
        &self.version
    }

    fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    fn merge(self, other: Self) -> Self {
        let mine = (self.state, self.version.order());
        let (mut winner, loser) = if mine >= (other.state, other.version.order()) {
            (self, other)
        } else {
            (other, self)
        };
        // The winner keeps its own stamp, whatever the loser's: only so is the merge associative.
        winner.version.absorb(&loser.version);
        winner
    }

    fn can_lose(&self) -> bool {
        // What is gone wins without being minted again, and what is live may lose to it.
        false
    }

    fn is_tombstone(&self) -> bool {
        self.state == ExtentState::Gone
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ExtentRow, ExtentState};
    use crate::blob::extent::{ExtentRecord, ObjectName, Origin};
    use crate::causality::{Actor, HybridTime, Stamp};
    use crate::codec::{decode_format, encode_format};
    use crate::replication::{Record, Version};
    use crate::types::NodeId;

    fn record(writer: u8, begun: u64) -> ExtentRecord {
        let object = ObjectName { routing: "bucket+shard".into(), sort: "key".into() };
        ExtentRecord {
            length: 700_000,
            routing: vec![3; 16],
            n: 3,
            begun: HybridTime(begun),
            origin: Some(Origin { writer: NodeId::from_bytes([writer; 16]), object }),
            hinted_for: None,
        }
    }

    /// What owners may hold of one extent: the one live row, or any of several tombstones.
    fn rows() -> impl Strategy<Value = ExtentRow> {
        let live = Just(ExtentRow::live(&record(1, 5)));
        let gone = (0_u8..3, 0_u64..9).prop_map(|(node, time)| {
            let node = NodeId::from_bytes([node; 16]);
            let actor = Actor { node, boot: 1, stint: time };
            let stamp = Stamp { time: HybridTime(time), node };
            let mut row = ExtentRow::gone(700_000, 3, None);
            row.set_version(Version::succeed(None, actor, stamp, 0));
            row
        });
        prop_oneof![live, gone]
    }

    proptest! {
        #[test]
        fn merging_extent_rows_is_commutative_associative_and_idempotent(
            a in rows(), b in rows(), c in rows(),
        ) {
            prop_assert_eq!(a.clone().merge(b.clone()), b.clone().merge(a.clone()));
            prop_assert_eq!(
                a.clone().merge(b.clone()).merge(c.clone()),
                a.clone().merge(b.clone().merge(c.clone()))
            );
            prop_assert_eq!(a.clone().merge(a.clone()), a);
        }

        #[test]
        fn what_is_gone_stays_gone_whatever_comes_later(a in rows(), later in 0_u64..99) {
            let gone = a.clone().merge(ExtentRow::gone(700_000, 3, None));

            let again = gone.merge(ExtentRow::live(&record(1, later)));

            prop_assert_eq!(again.state, ExtentState::Gone);
        }
    }

    #[test]
    fn all_owners_derive_the_same_row() {
        let mut kept_for_another = record(1, 5);
        kept_for_another.hinted_for = Some(NodeId::from_bytes([9; 16]));

        let rows = [ExtentRow::live(&record(1, 5)), ExtentRow::live(&kept_for_another)];

        assert_eq!(encode_format(&rows[0]).unwrap(), encode_format(&rows[1]).unwrap());
    }

    #[test]
    fn bytes_that_are_fetched_are_sealed_with_the_record_of_those_that_were_lost() {
        let lost = record(1, 5);

        let fetched = ExtentRow::live(&lost).record(&lost.routing);

        assert_eq!(fetched, lost);
    }

    #[test]
    fn an_extent_row_is_read_as_it_was_written() {
        let row = ExtentRow::live(&record(2, 7));

        let stored = encode_format(&row).unwrap();

        assert_eq!(decode_format::<ExtentRow>(&stored).unwrap(), row);
    }
}
