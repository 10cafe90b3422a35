//! Clusters to place copies on.

use quorate::ring::{Capacity, Layout, LayoutError, Member, PartitionCount, Token};
use quorate::types::{ClusterId, NodeId, Zone};

use crate::entropy::Seed;

/// How many partitions there are for each node, before rounding up to a power of two.
const PARTITIONS_PER_NODE: u32 = 64;

/// How much the nodes of a cluster contribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacities {
    /// All alike.
    Equal,
    /// A third each of size 1, 2 and 4, alike in all zones.
    Mixed,
}

/// A cluster that is described and not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelCluster {
    /// What the ids of its nodes follow from.
    pub seed: Seed,
    /// How many nodes it has.
    pub nodes: u32,
    /// How many zones they are dealt out to in turn.
    pub zones: usize,
    /// What they contribute.
    pub capacities: Capacities,
}

/// How many partitions a cluster of this size is best created with: 64 for each node.
///
/// # Errors
/// [`LayoutError`] never: the number is within the limits.
pub fn partitions_for(nodes: u32) -> Result<PartitionCount, LayoutError> {
    let wanted = nodes.saturating_mul(PARTITIONS_PER_NODE).min(65_536).next_power_of_two();
    PartitionCount::new(wanted.max(PartitionCount::DEFAULT.get()))
}

impl ModelCluster {
    /// Its nodes, in the order in which they joined.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        (0..self.nodes).map(|number| self.member(number)).collect()
    }

    fn member(&self, number: u32) -> Member {
        let name = [self.seed.0.to_le_bytes(), u64::from(number).to_le_bytes()].concat();
        let place = number as usize;
        let size = match self.capacities {
            Capacities::Equal => 1,
            // Sizes turn when the zones have, so that each zone has every size.
            Capacities::Mixed => [1, 2, 4][place / self.zones % 3],
        };
        Member {
            node: NodeId::from_bytes(Token::of(&name).0.to_le_bytes()),
            zone: Zone::new(format!("zone {}", place % self.zones)),
            capacity: Capacity(size * 100),
            tags: Vec::new(),
        }
    }

    /// The same cluster with a node more.
    #[must_use]
    pub const fn grown(mut self) -> Self {
        self.nodes += 1;
        self
    }

    /// Its first layout.
    ///
    /// # Errors
    /// [`LayoutError`] if it has no nodes.
    pub fn layout(&self) -> Result<Layout, LayoutError> {
        let cluster = ClusterId::from_bytes([7; 16]);
        Layout::first(cluster, partitions_for(self.nodes)?, self.members())
    }

    /// What part of all data each node should hold, in id order, in copies of everything, by
    /// capacity alone and at most one copy.
    #[must_use]
    pub fn proportional_copies(&self, copies: usize) -> Vec<f64> {
        let mut members = self.members();
        members.sort_by_key(|member| member.node);
        let capacities: Vec<f64> =
            members.iter().map(|member| f64::from(member.capacity.0)).collect();
        let wanted = copies.min(members.len()) as f64;
        let filled = |level: f64| capacities.iter().map(|c| (c * level).min(1.0)).sum::<f64>();
        let (mut low, mut high) = (0.0, wanted);
        for _ in 0..100 {
            let middle = f64::midpoint(low, high);
            if filled(middle) < wanted {
                low = middle;
            } else {
                high = middle;
            }
        }
        capacities.iter().map(|capacity| (capacity * high).min(1.0)).collect()
    }

    /// What part of all data each node should hold in a layout, in id order, in copies of
    /// everything: at three copies what the layout's own report calls fair, which zones bound
    /// too; at other numbers of copies by capacity alone.
    #[must_use]
    pub fn fair_copies(&self, layout: &Layout, copies: usize) -> Vec<f64> {
        if copies != 3 {
            return self.proportional_copies(copies);
        }
        let partitions = f64::from(layout.partitions().get());
        layout.report().nodes.iter().map(|node| node.fair / partitions).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Capacities, ModelCluster, partitions_for};
    use crate::entropy::Seed;

    #[test]
    fn each_zone_has_nodes_of_every_size() {
        let cluster =
            ModelCluster { seed: Seed(1), nodes: 9, zones: 3, capacities: Capacities::Mixed };

        let members = cluster.members();
        let kinds: BTreeSet<_> =
            members.iter().map(|member| (member.zone.to_string(), member.capacity)).collect();

        assert_eq!(kinds.len(), 9);
    }

    #[test]
    fn proportional_shares_add_up_to_all_copies_and_none_is_above_one() {
        let cluster =
            ModelCluster { seed: Seed(1), nodes: 5, zones: 1, capacities: Capacities::Mixed };

        let shares = cluster.proportional_copies(3);

        assert!((shares.iter().sum::<f64>() - 3.0).abs() < 1e-9);
        assert!(shares.iter().all(|share| *share <= 1.0));
    }

    #[test]
    fn there_are_64_partitions_per_node_within_the_limits() {
        for (nodes, partitions) in [(3, 256), (10, 1_024), (100, 8_192), (1_000, 65_536)] {
            assert_eq!(partitions_for(nodes).unwrap().get(), partitions);
        }
    }
}
