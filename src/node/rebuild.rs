//! The way back of a node that lost its folder: a partition counts again once enough of its other
//! owners have exchanged it with this node since it came back, bytes included (DESIGN §4): all
//! that anybody has. What nobody has keeps no partition from counting, and is told in `status`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::env::blocking;
use crate::replication::{Exchanged, ReplicaStanding, ReplicationError};
use crate::ring::{Layout, Partition};
use crate::store::StoreError;
use crate::types::NodeId;

use super::start::{COPIES, Node};

/// How often it is looked which partitions are back.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How many of the other owners hold, together with any majority, everything that a majority
/// ever acknowledged.
const fn enough(owners: usize) -> usize {
    let majority = owners / 2 + 1;
    owners - majority + 1
}

/// Whether enough other owners were met for rows of every number of copies that `node` owns.
fn met_enough(
    owners: &[NodeId],
    node: NodeId,
    copies: &BTreeSet<usize>,
    met: &BTreeMap<NodeId, Exchanged>,
) -> bool {
    copies.iter().all(|&n| {
        let owners = &owners[..n.min(owners.len())];
        let others = || owners.iter().filter(|owner| **owner != node);
        let counted = others().filter_map(|owner| met.get(owner));
        let counted = counted.filter(|with| with.peer == ReplicaStanding::Counted).count();
        // Once all others were met there is nobody left to be asked, though some of them lost
        // their folders too; and rows that this node alone owned are gone.
        let all_met = others().all(|owner| met.contains_key(owner));
        !owners.contains(&node) || counted >= enough(owners.len()) || all_met
    })
}

impl Node {
    /// Marks partitions that are back, until all are.
    pub(super) async fn rebuild(this: Weak<Self>) {
        loop {
            let Some(node) = this.upgrade() else { return };
            if !node.membership.memory().rebuilding.is_active() {
                return;
            }
            if let Err(error) = node.look_what_is_back().await {
                tracing::warn!(%error, "it cannot be told what is rebuilt");
            }
            let pause = node.seams.clock.sleep(LOOK_EVERY);
            drop(node);
            pause.await;
        }
    }

    async fn look_what_is_back(&self) -> Result<(), ReplicationError> {
        let Some(layout) = self.membership.holder().current() else { return Ok(()) };
        // Before the buckets are known, so is not how many copies their rows have.
        if self.catalog.unready().is_some() {
            return Ok(());
        }
        let copies: BTreeSet<usize> = self
            .catalog
            .buckets()
            .iter()
            .map(|bucket| usize::from(bucket.n))
            .chain([COPIES])
            .collect();
        let owned = self.owned(&layout, &copies);
        let memory = self.membership.memory();
        for &partition in &owned {
            if memory.rebuilding.counts(partition) {
                continue;
            }
            let list = layout.preference_list(partition);
            let met = self.repair.exchanged(partition);
            let node = self.coordinator.site().node;
            if !met_enough(list.all(), node, &copies, &met)
                || self.blobs.lacks_to_be_had(partition).await?
            {
                continue;
            }
            let rebuilding = Arc::clone(&memory.rebuilding);
            let marked = blocking(&self.seams.tasks, move || rebuilding.mark_rebuilt(partition));
            marked.await.unwrap_or(Err(StoreError::Stopping))?;
        }
        Ok(self.membership.follow_rebuilding(&owned).await?)
    }

    /// The partitions that this node owns for some bucket.
    fn owned(&self, layout: &Layout, copies: &BTreeSet<usize>) -> Vec<Partition> {
        let node = self.coordinator.site().node;
        let most = copies.last().copied().unwrap_or(COPIES);
        let owns =
            |partition: &Partition| layout.preference_list(*partition).owners(most).contains(&node);
        layout.partitions().iter().filter(owns).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{enough, met_enough};
    use crate::causality::HybridTime;
    use crate::replication::{Exchanged, ReplicaStanding};
    use crate::types::NodeId;

    fn node(id: u8) -> NodeId {
        NodeId::from_bytes([id; 16])
    }

    fn met(ids: &[u8]) -> BTreeMap<NodeId, Exchanged> {
        met_as(ids, ReplicaStanding::Counted)
    }

    fn met_as(ids: &[u8], peer: ReplicaStanding) -> BTreeMap<NodeId, Exchanged> {
        let exchanged = Exchanged { began: HybridTime(1), missing: 0, peer };
        ids.iter().map(|id| (node(*id), exchanged)).collect()
    }

    #[test]
    fn enough_others_meet_every_majority_that_acknowledged_without_this_node() {
        for owners in 1..16 {
            let majority = owners / 2 + 1;
            // The lost node may have been one of the majority: the rest of it must be met.
            assert!(enough(owners) + majority > owners, "{owners}");
        }
        assert_eq!((enough(3), enough(4), enough(5)), (2, 2, 3));
    }

    #[test]
    fn who_lost_its_folder_too_does_not_count_unless_all_others_were_met() {
        let owners: Vec<NodeId> = (1..=5).map(node).collect();
        let five = BTreeSet::from([5]);
        let mut met = met(&[3, 4]);
        met.extend(met_as(&[2], ReplicaStanding::Rebuilding));

        assert!(!met_enough(&owners, node(1), &five, &met));
        met.extend(self::met(&[5]));
        assert!(met_enough(&owners, node(1), &five, &met));
        let emptied = met_as(&[2, 3], ReplicaStanding::Rebuilding);
        assert!(met_enough(&owners[..3], node(1), &BTreeSet::from([3]), &emptied));
    }

    #[test]
    fn each_number_of_copies_needs_its_own_owners() {
        let owners: Vec<NodeId> = (1..=5).map(node).collect();
        let (three, both) = (BTreeSet::from([3]), BTreeSet::from([3, 5]));

        assert!(met_enough(&owners, node(1), &three, &met(&[2, 3])));
        assert!(!met_enough(&owners, node(1), &three, &met(&[2])));
        assert!(!met_enough(&owners, node(1), &both, &met(&[2, 3])));
        assert!(!met_enough(&owners, node(1), &both, &met(&[3, 4, 5])));
        assert!(met_enough(&owners, node(1), &both, &met(&[2, 3, 4])));
        // What it owns only as one of five asks for no owner of three copies.
        assert!(met_enough(&owners, node(4), &both, &met(&[1, 2, 5])));
    }
}
