//! The storage nodes of a layout as small numbers, for placement to count with.

use std::collections::BTreeMap;

use super::member::Member;
use super::vnodes::VnodeRing;
use crate::types::{NodeId, Zone};

/// A storage node by its rank among the storage nodes of a layout, in id order.
pub(super) type Rank = u16;

/// The storage nodes of a layout: gateways are left out.
#[derive(Debug)]
pub(super) struct Roster {
    nodes: Vec<NodeId>,
    capacities: Vec<u32>,
    member_indexes: Vec<u16>,
    zones: Vec<u16>,
    zone_sizes: Vec<usize>,
}

impl Roster {
    /// The storage nodes among `members`, which are in id order and at most `MEMBERS_MAX`.
    pub(super) fn of(members: &[Member]) -> Self {
        let mut roster = Self {
            nodes: Vec::new(),
            capacities: Vec::new(),
            member_indexes: Vec::new(),
            zones: Vec::new(),
            zone_sizes: Vec::new(),
        };
        let mut zone_numbers: BTreeMap<&Zone, u16> = BTreeMap::new();
        for (index, member) in (0..).zip(members) {
            if !member.capacity.owns() {
                continue;
            }
            let fresh = zone_numbers.len() as u16;
            let zone = *zone_numbers.entry(&member.zone).or_insert(fresh);
            if zone == fresh {
                roster.zone_sizes.push(0);
            }
            roster.zone_sizes[usize::from(zone)] += 1;
            roster.nodes.push(member.node);
            roster.capacities.push(member.capacity.0);
            roster.member_indexes.push(index);
            roster.zones.push(zone);
        }
        roster
    }

    /// How many storage nodes there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// All ranks.
    pub(super) fn ranks(&self) -> impl Iterator<Item = Rank> + use<> {
        (0..).take(self.nodes.len())
    }

    /// How many zones have storage nodes.
    pub(super) fn zone_count(&self) -> usize {
        self.zone_sizes.len()
    }

    /// How many storage nodes a zone has.
    pub(super) fn zone_size(&self, zone: usize) -> usize {
        self.zone_sizes[zone]
    }

    /// The number of a node's zone, below [`Roster::zone_count`].
    pub(super) fn zone(&self, rank: Rank) -> usize {
        usize::from(self.zones[usize::from(rank)])
    }

    /// A node's capacity.
    pub(super) fn capacity(&self, rank: Rank) -> u32 {
        self.capacities[usize::from(rank)]
    }

    /// A node's place among all members, gateways included.
    pub(super) fn member_index(&self, rank: Rank) -> u16 {
        self.member_indexes[usize::from(rank)]
    }

    /// The rank of a node, if it is a storage node of this roster.
    pub(super) fn rank_of(&self, node: NodeId) -> Option<Rank> {
        self.nodes.binary_search(&node).ok().map(|rank| rank as Rank)
    }

    /// The most nodes of one zone among `copies`: the least number at which all zones together
    /// have room for them.
    pub(super) fn zone_limit(&self, copies: usize) -> usize {
        let room =
            |limit: usize| self.zone_sizes.iter().map(|size| limit.min(*size)).sum::<usize>();
        (1..copies).find(|limit| room(*limit) >= copies).unwrap_or(copies.max(1))
    }

    /// The consistent-hashing ring of these nodes.
    pub(super) fn vnode_ring(&self) -> VnodeRing {
        VnodeRing::new(&self.nodes, &self.capacities)
    }

    /// An order of `partitions` (a power of two) that is this node's own, so that nodes which
    /// take over partitions do not all take the same ones.
    pub(super) fn orbit(&self, rank: Rank, partitions: u32) -> impl Iterator<Item = u32> + use<> {
        let seed = super::token::Token::of(self.nodes[usize::from(rank)].as_bytes()).0;
        // An odd stride visits every residue of a power of two.
        let (start, stride) = (seed as u32, (seed >> 32) as u32 | 1);
        (0..partitions)
            .map(move |step| start.wrapping_add(step.wrapping_mul(stride)) & (partitions - 1))
    }
}
