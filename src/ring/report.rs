//! What administrators read before they commit a layout, and watch afterwards.

use std::collections::BTreeSet;

use serde::Serialize;

use super::layout::{Layout, LayoutVersion};
use super::member::Capacity;
use super::roster::Roster;
use super::share::Shares;
use crate::types::{NodeId, Zone};

/// How many copies the figures per node are for: the default of new buckets.
const COPIES_DEFAULT: usize = 3;

/// How well a layout serves its members.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayoutReport {
    /// The layout's version.
    pub version: LayoutVersion,
    /// How many partitions it has.
    pub partitions: u32,
    /// Every member, gateways included, in id order, at three copies.
    pub nodes: Vec<NodeReport>,
    /// The whole, for buckets of one, two and three copies (as far as there are nodes).
    pub copies: Vec<CopiesReport>,
}

/// One member's part, at three copies (or as many as there are storage nodes).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeReport {
    /// Its id.
    pub node: NodeId,
    /// Its zone.
    pub zone: Zone,
    /// What it contributes.
    pub capacity: Capacity,
    /// How many partitions it holds a copy of.
    pub partitions: usize,
    /// How many it should hold: its capacity's part of all copies, within what distinct nodes
    /// and zones permit.
    pub fair: f64,
    /// With how many other nodes it shares a partition: who helps to rebuild it.
    pub scatter_width: usize,
}

/// The whole, at some number of copies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CopiesReport {
    /// The number of copies; fewer than asked for if there are fewer storage nodes.
    pub n: usize,
    /// The fullest node's partitions against its fair share: 1.0 is perfect. A share below one
    /// partition counts as one.
    pub balance: f64,
    /// In how many zones the copies of the worst partition lie.
    pub zone_spread: usize,
    /// The least scatter width of any storage node.
    pub scatter_width: usize,
    /// How much client data fits before the first node is full, in units of capacity, if keys
    /// spread evenly.
    pub usable_capacity: f64,
}

impl Layout {
    /// How well this layout serves its members.
    #[must_use]
    pub fn report(&self) -> LayoutReport {
        let n = COPIES_DEFAULT;
        let (roster, loads, scatter) = (Roster::of(self.members()), self.loads(n), self.scatter(n));
        let shares = Shares::new(&roster, self.partitions().get(), n);
        let node = |(index, member): (usize, &super::Member)| NodeReport {
            node: member.node,
            zone: member.zone.clone(),
            capacity: member.capacity,
            partitions: loads[index],
            fair: roster.rank_of(member.node).map_or(0.0, |rank| shares.fair(rank)),
            scatter_width: scatter[index],
        };
        LayoutReport {
            version: self.version(),
            partitions: self.partitions().get(),
            nodes: self.members().iter().enumerate().map(node).collect(),
            copies: (1..=n.min(self.list_length())).map(|n| self.copies_report(n)).collect(),
        }
    }

    /// The figures for buckets (or codes) of `n` copies; at least one.
    #[must_use]
    pub fn copies_report(&self, n: usize) -> CopiesReport {
        let n = n.clamp(1, self.list_length());
        let roster = Roster::of(self.members());
        let shares = Shares::new(&roster, self.partitions().get(), n);
        let (loads, scatter) = (self.loads(n), self.scatter(n));
        let held = |rank| loads[usize::from(roster.member_index(rank))];
        let fullness = |rank| held(rank) as f64 / shares.fair(rank).max(1.0);
        let fits = |rank| {
            let held = held(rank).max(1) as f64;
            f64::from(roster.capacity(rank)) * f64::from(self.partitions().get()) / held
        };
        let width = |rank| scatter[usize::from(roster.member_index(rank))];
        CopiesReport {
            n,
            balance: roster.ranks().map(fullness).fold(0.0, f64::max),
            zone_spread: self.zone_spread(n),
            scatter_width: roster.ranks().map(width).min().unwrap_or(0),
            usable_capacity: roster.ranks().map(fits).fold(f64::INFINITY, f64::min),
        }
    }

    /// In how many zones the copies of the worst partition lie.
    fn zone_spread(&self, n: usize) -> usize {
        let zone = |index: &u16| &self.members()[usize::from(*index)].zone;
        let spread = |row: &[u16]| row.iter().take(n).map(zone).collect::<BTreeSet<_>>().len();
        self.lists().chunks_exact(self.list_length()).map(spread).min().unwrap_or(0)
    }

    /// With how many other members each member shares a partition, in member order.
    fn scatter(&self, n: usize) -> Vec<usize> {
        let mut partners = vec![BTreeSet::<u16>::new(); self.members().len()];
        for row in self.lists().chunks_exact(self.list_length()) {
            let owners = &row[..n.min(row.len())];
            for owner in owners {
                partners[usize::from(*owner)].extend(owners.iter().filter(|other| *other != owner));
            }
        }
        partners.iter().map(BTreeSet::len).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::ring::properties::{cluster_id, member, members};
    use crate::ring::{Capacity, Layout, PartitionCount};

    #[test]
    fn three_equal_nodes_in_three_zones_hold_everything() {
        let layout = Layout::first(cluster_id(), PartitionCount::DEFAULT, members(3, 3)).unwrap();

        let report = layout.report();

        assert!(report.nodes.iter().all(|node| node.partitions == 256));
        let three = report.copies[2];
        assert_eq!((three.n, three.zone_spread, three.scatter_width), (3, 3, 2));
        assert!((three.balance - 1.0).abs() < 1e-6);
        assert!((three.usable_capacity - 100.0).abs() < 1e-6);
    }

    #[test]
    fn a_gateway_is_listed_and_owns_nothing() {
        let mut gateway = member(9, 1);
        gateway.capacity = Capacity::GATEWAY;
        let id = gateway.node;
        let mut members = members(2, 2);
        members.push(gateway);
        let layout = Layout::first(cluster_id(), PartitionCount::DEFAULT, members).unwrap();

        let report = layout.report();

        let gateway = report.nodes.iter().find(|report| report.node == id).unwrap();
        assert_eq!((gateway.partitions, gateway.scatter_width), (0, 0));
        assert_eq!(report.copies.len(), 2);
    }

    #[test]
    fn the_least_capacity_of_a_small_zone_bounds_what_fits() {
        let mut members = members(3, 3);
        members[0].capacity = Capacity(10);
        let layout = Layout::first(cluster_id(), PartitionCount::DEFAULT, members).unwrap();

        assert!((layout.copies_report(3).usable_capacity - 10.0).abs() < 1e-6);
    }
}
