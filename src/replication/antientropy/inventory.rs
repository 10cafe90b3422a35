//! The redundancy inventory: of each partition, how many copies were proven, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::causality::HybridTime;
use crate::ring::Partition;
use crate::types::NodeId;

/// One partition, as one node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownPartition(
    /// Its number.
    pub(crate) Partition,
    /// When its last proof was begun.
    pub(crate) HybridTime,
    /// When its last proof of all copies was begun.
    pub(crate) Option<HybridTime>,
    /// Copies proven last, copies wanted.
    pub(crate) (u8, u8),
    /// Rows that lacked bytes when it was proven last.
    pub(crate) u64,
    /// Rows that lack bytes at the answering node now.
    pub(crate) u64,
);

/// What a node knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Known {
    #[serde(rename = "p")]
    pub(crate) partitions: Vec<KnownPartition>,
    #[serde(rename = "r")]
    pub(crate) repair: NodeRepair,
}

/// How repair goes on one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeRepair {
    /// When it was started: what it missed before shows in no older proof.
    #[serde(default)]
    pub awake_since: HybridTime,
    /// Whether it was told to pause.
    pub paused: bool,
    /// Whether its trees are still being built from its rows.
    pub building: bool,
    /// When an operator last asked it to prove everything.
    pub started: Option<HybridTime>,
    /// Rounds under way.
    pub rounds_under_way: u64,
    /// Rows that exchanges brought it, since its start.
    pub rows_pulled: u64,
    /// Rows that it gave to others in exchanges.
    pub rows_pushed: u64,
    /// Tombstones that it purged.
    pub tombstones_purged: u64,
    /// Sums of leaves that were found wrong and corrected.
    pub leaves_corrected: u64,
    /// Bytes of repair messages that it sent.
    pub bytes_sent: u64,
    /// Why tombstones are not purged, if they are not.
    pub purge_blocked: Option<String>,
}

/// One partition, as all nodes together know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRedundancy {
    /// Its number.
    pub partition: Partition,
    /// When its last proof was begun; `None` if there is none.
    pub proven_at: Option<HybridTime>,
    /// When its last proof of all copies was begun, if none of its owners was started since.
    pub fully_proven_at: Option<HybridTime>,
    /// Whether all its copies were ever proven.
    pub ever_proven: bool,
    /// Copies that the last proof is about.
    pub copies: u8,
    /// Copies that there should be.
    pub wanted: u8,
    /// Rows whose bytes are missing at some owner.
    pub rows_missing: u64,
}

/// What all nodes together know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// Every partition of the layout.
    pub partitions: Vec<PartitionRedundancy>,
    /// How repair goes on each node that answered.
    pub nodes: BTreeMap<NodeId, NodeRepair>,
}

/// The inventory in a few numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedundancySummary {
    /// Partitions of the ring.
    pub partitions: u32,
    /// Partitions with a fresh proof that all copies agree and are whole.
    pub proven: u32,
    /// Partitions without any such proof.
    pub never_proven: u32,
    /// Partitions whose last proof is about fewer copies than there should be.
    pub short: u32,
    /// Rows whose bytes are missing at some owner.
    pub rows_missing: u64,
    /// The age of the oldest full proof in seconds; `None` if some partition has none.
    pub oldest_proof_seconds: Option<u64>,
}

impl Inventory {
    /// Puts together what nodes told: of each partition, the latest proof counts. `expected` is
    /// every partition with its owners.
    pub(crate) fn assemble(
        expected: impl Iterator<Item = (Partition, BTreeSet<NodeId>)>,
        told: BTreeMap<NodeId, Known>,
    ) -> Self {
        let mut latest: BTreeMap<Partition, KnownPartition> = BTreeMap::new();
        let mut missing: BTreeMap<Partition, u64> = BTreeMap::new();
        let mut answered = BTreeSet::new();
        let mut nodes = BTreeMap::new();
        for (node, known) in told {
            answered.insert(node);
            nodes.insert(node, known.repair);
            for partition in known.partitions {
                let here = missing.entry(partition.0).or_default();
                *here = here.saturating_add(partition.5);
                let before = latest.get(&partition.0);
                if before.is_none_or(|before| before.1 < partition.1) {
                    latest.insert(partition.0, partition);
                }
            }
        }
        let partitions = expected.map(|(partition, owners)| {
            let wanted = u8::try_from(owners.len()).unwrap_or(u8::MAX);
            let known = latest.get(&partition).filter(|known| known.3.1 == wanted);
            // What owners that are away lack is known from the last proof alone.
            let away = !owners.is_subset(&answered);
            let then = known.map_or(0, |known| if away { known.4 } else { 0 });
            let now = missing.get(&partition).copied().unwrap_or(0);
            let awake = owners.iter().filter_map(|owner| nodes.get(owner));
            let awake_since = awake.map(|repair: &NodeRepair| repair.awake_since).max();
            let full = known.and_then(|known| known.2);
            PartitionRedundancy {
                partition,
                proven_at: known.map(|known| known.1).filter(|at| *at > HybridTime::default()),
                fully_proven_at: full.filter(|at| Some(*at) >= awake_since),
                ever_proven: full.is_some(),
                copies: known.map_or(0, |known| known.3.0),
                wanted,
                rows_missing: now.max(then),
            }
        });
        Self { partitions: partitions.collect(), nodes }
    }

    /// The inventory in a few numbers. A proof is fresh if it is not older than `fresh`.
    #[must_use]
    pub fn summary(&self, now_millis: u64, fresh: Duration) -> RedundancySummary {
        let age = |at: HybridTime| now_millis.saturating_sub(at.millis());
        let fresh = u64::try_from(fresh.as_millis()).unwrap_or(u64::MAX);
        let mut summary = RedundancySummary::default();
        let mut oldest = Some(0);
        for partition in &self.partitions {
            summary.partitions += 1;
            summary.rows_missing += partition.rows_missing;
            let full = partition.fully_proven_at.map(age);
            let proven = full.is_some_and(|age| age <= fresh) && partition.rows_missing == 0;
            summary.proven += u32::from(proven);
            summary.never_proven += u32::from(!partition.ever_proven);
            let short = partition.copies < partition.wanted && partition.proven_at.is_some();
            summary.short += u32::from(short);
            oldest = oldest.and_then(|oldest: u64| Some(oldest.max(full?)));
        }
        summary.oldest_proof_seconds = oldest.map(|millis| millis / 1_000);
        summary
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::{Inventory, Known, KnownPartition, NodeRepair};
    use crate::causality::HybridTime;
    use crate::ring::Partition;
    use crate::types::NodeId;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn owners() -> BTreeSet<NodeId> {
        (1..=3).map(node).collect()
    }

    fn at(seconds: u64) -> HybridTime {
        HybridTime::from_millis(seconds * 1_000)
    }

    fn known(at: HybridTime, full: Option<HybridTime>, copies: u8, missing: u64) -> Known {
        let known = KnownPartition(Partition(0), at, full, (copies, 3), 0, missing);
        Known { partitions: vec![known], ..Known::default() }
    }

    fn assembled(told: &[(u8, Known)]) -> Inventory {
        let told: BTreeMap<_, _> =
            told.iter().map(|(number, known)| (node(*number), known.clone())).collect();
        Inventory::assemble([(Partition(0), owners())].into_iter(), told)
    }

    const FRESH: Duration = Duration::from_secs(30);

    #[test]
    fn the_latest_proof_counts_whoever_tells_it() {
        let inventory = assembled(&[
            (1, known(at(10), Some(at(10)), 3, 0)),
            (2, known(at(20), Some(at(20)), 3, 0)),
            (3, known(at(5), Some(at(5)), 3, 0)),
        ]);

        assert_eq!(inventory.partitions[0].fully_proven_at, Some(at(20)));
        assert_eq!(inventory.summary(45_000, FRESH).proven, 1);
        assert_eq!(inventory.summary(45_000, FRESH).oldest_proof_seconds, Some(25));
    }

    #[test]
    fn a_proof_from_before_an_owner_was_started_does_not_count_any_more() {
        let started = |seconds| {
            let repair = NodeRepair { awake_since: at(seconds), ..NodeRepair::default() };
            Known { repair, ..Known::default() }
        };
        let proven = known(at(10), Some(at(10)), 3, 0);

        let since = |seconds| assembled(&[(1, proven.clone()), (2, started(seconds))]);

        assert_eq!(since(10).summary(15_000, FRESH).proven, 1);
        let summary = since(11).summary(15_000, FRESH);
        assert_eq!((summary.proven, summary.never_proven), (0, 0));
    }

    #[test]
    fn an_old_proof_is_no_proof() {
        let inventory = assembled(&[(1, known(at(10), Some(at(10)), 3, 0))]);

        assert_eq!(inventory.summary(40_000, FRESH).proven, 1);
        assert_eq!(inventory.summary(41_000, FRESH).proven, 0);
    }

    #[test]
    fn nothing_is_proven_that_nobody_proved() {
        let summary = assembled(&[(1, Known::default())]).summary(1_000, FRESH);

        assert_eq!((summary.proven, summary.never_proven), (0, 1));
        assert_eq!(summary.oldest_proof_seconds, None);
    }

    #[test]
    fn a_partition_that_lacks_bytes_anywhere_is_not_proven() {
        let inventory = assembled(&[
            (1, known(at(10), Some(at(10)), 3, 0)),
            (2, known(at(10), Some(at(10)), 3, 2)),
        ]);

        assert_eq!(inventory.partitions[0].rows_missing, 2);
        assert_eq!(inventory.summary(11_000, FRESH).proven, 0);
    }

    #[test]
    fn a_proof_of_fewer_copies_says_so() {
        let summary = assembled(&[(1, known(at(20), Some(at(10)), 2, 0))]).summary(21_000, FRESH);

        assert_eq!((summary.short, summary.proven), (1, 1));
    }

    #[test]
    fn a_proof_for_other_owners_does_not_count() {
        let mut other = known(at(10), Some(at(10)), 2, 0);
        other.partitions[0].3 = (2, 2);

        assert_eq!(assembled(&[(1, other)]).summary(11_000, FRESH).never_proven, 1);
    }
}
