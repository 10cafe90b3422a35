//! Plain consistent hashing with virtual nodes (Karger et al., 1997; Dynamo §4.2), for
//! comparison: an arc of the ring belongs to the next distinct nodes, zones respected.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};

use hashring::HashRing;
use quorate::ring::{Member, Token};
use quorate::types::{NodeId, Zone};

use super::ownership::{Ownership, Place};

/// One virtual node.
#[derive(Clone, Copy, Debug)]
struct Vnode {
    node: NodeId,
    index: u32,
    place: Place,
}

impl Hash for Vnode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.node.as_bytes());
        state.write(&self.index.to_le_bytes());
    }
}

/// The hash function of routing keys, for the ring.
#[derive(Clone, Copy)]
struct Murmur;

impl BuildHasher for Murmur {
    type Hasher = MurmurHasher;

    fn build_hasher(&self) -> MurmurHasher {
        MurmurHasher { bytes: Vec::with_capacity(20) }
    }
}

struct MurmurHasher {
    bytes: Vec<u8>,
}

impl Hasher for MurmurHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        (Token::of(&self.bytes).0 >> 64) as u64
    }
}

/// The nodes of a cluster on a plain ring.
pub struct HashedCluster {
    /// In id order.
    members: Vec<Member>,
    zones: Vec<usize>,
    /// Ascending.
    positions: Vec<(u64, Place)>,
}

impl HashedCluster {
    /// The ring of these nodes, with `vnodes` for a node of mean capacity and for others as many
    /// as their capacity says.
    #[must_use]
    pub fn new(members: &[Member], vnodes: u32) -> Self {
        let mut members = members.to_vec();
        members.sort_by_key(|member| member.node);
        let total: u64 = members.iter().map(|member| u64::from(member.capacity.0)).sum();
        let wanted = u64::from(vnodes) * members.len() as u64;
        let mut vnodes_of_all = Vec::new();
        let mut numbers: BTreeMap<&Zone, usize> = BTreeMap::new();
        let mut zones = Vec::new();
        for (place, member) in (0..).zip(&members) {
            let fresh = numbers.len();
            zones.push(*numbers.entry(&member.zone).or_insert(fresh));
            let count = (u64::from(member.capacity.0) * wanted + total / 2) / total.max(1);
            let node = member.node;
            let own = (0..count.max(1) as u32).map(|index| Vnode { node, index, place });
            vnodes_of_all.extend(own);
        }
        // All at once: the ring is sorted after each batch.
        let mut ring = HashRing::with_hasher(Murmur);
        ring.batch_add(vnodes_of_all);
        let all = ring.get_with_replicas(&[0_u8; 20], usize::MAX).unwrap_or_default();
        let position = |vnode: Vnode| (Murmur.hash_one(vnode), vnode.place);
        let mut positions: Vec<_> = all.into_iter().map(position).collect();
        positions.sort_unstable();
        Self { members, zones, positions }
    }

    /// The place of a node in id order; that of its successor if it is not there.
    #[must_use]
    pub fn place_of(&self, node: NodeId) -> usize {
        self.members.partition_point(|member| member.node < node)
    }

    /// Who owns what at `copies` copies.
    #[must_use]
    pub fn ownership(&self, copies: usize) -> Ownership {
        let copies = copies.min(self.members.len());
        let limit = self.zone_limit(copies);
        let (mut weights, mut owners) = (Vec::new(), Vec::new());
        for (at, (position, _)) in self.positions.iter().enumerate() {
            weights.push(self.arc_before(at, *position));
            owners.extend(self.owners_from(at, copies, limit));
        }
        Ownership::new(self.members.len(), copies, weights, owners)
    }

    /// The data that this ring's nodes hold and did not hold on `before`, in copies of
    /// everything.
    #[must_use]
    pub fn gained_from(&self, before: &Self, copies: usize) -> f64 {
        let mut borders: Vec<u64> =
            self.positions.iter().chain(&before.positions).map(|(position, _)| *position).collect();
        borders.sort_unstable();
        borders.dedup();
        let last = borders.last().copied().unwrap_or(0);
        let mut previous = last;
        let mut gained = 0.0;
        for border in borders {
            let weight = arc(previous, border);
            let (now, then) = (self.nodes_at(border, copies), before.nodes_at(border, copies));
            gained += weight * now.iter().filter(|node| !then.contains(node)).count() as f64;
            previous = border;
        }
        gained
    }

    fn nodes_at(&self, position: u64, copies: usize) -> Vec<NodeId> {
        let copies = copies.min(self.members.len());
        let at = self.positions.partition_point(|(own, _)| *own < position) % self.positions.len();
        let owners = self.owners_from(at, copies, self.zone_limit(copies));
        owners.into_iter().map(|place| self.members[usize::from(place)].node).collect()
    }

    /// The first `copies` distinct nodes from the virtual node `at` on, at most `limit` of a zone.
    fn owners_from(&self, at: usize, copies: usize, limit: usize) -> Vec<Place> {
        let (before, after) = self.positions.split_at(at);
        let mut met: Vec<Place> = Vec::with_capacity(copies);
        for (_, place) in after.iter().chain(before) {
            let zone = |place: Place| self.zones[usize::from(place)];
            let of_zone = met.iter().filter(|other| zone(**other) == zone(*place)).count();
            if !met.contains(place) && of_zone < limit {
                met.push(*place);
            }
            if met.len() == copies {
                break;
            }
        }
        met
    }

    /// The least number of a zone's nodes at which all zones have room for the copies.
    fn zone_limit(&self, copies: usize) -> usize {
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        self.zones.iter().for_each(|zone| *sizes.entry(*zone).or_default() += 1);
        let room = |limit: usize| sizes.values().map(|size| limit.min(*size)).sum::<usize>();
        (1..copies).find(|limit| room(*limit) >= copies).unwrap_or(copies)
    }

    fn arc_before(&self, at: usize, position: u64) -> f64 {
        let before = (at + self.positions.len() - 1) % self.positions.len();
        arc(self.positions[before].0, position)
    }
}

/// The part of the ring between two positions, clockwise; all of it between equal ones.
fn arc(from: u64, to: u64) -> f64 {
    let length = to.wrapping_sub(from);
    let whole = 2.0_f64.powi(64);
    if length == 0 { 1.0 } else { length as f64 / whole }
}

#[cfg(test)]
mod tests {
    use super::HashedCluster;
    use crate::entropy::Seed;
    use crate::models::balance::{Capacities, ModelCluster};

    fn cluster(zones: usize) -> ModelCluster {
        ModelCluster { seed: Seed(2), nodes: 12, zones, capacities: Capacities::Equal }
    }

    #[test]
    fn all_data_has_all_its_copies() {
        let owned = HashedCluster::new(&cluster(3).members(), 64).ownership(3);

        assert!((owned.held().iter().sum::<f64>() - 3.0).abs() < 1e-9);
    }

    #[test]
    fn more_virtual_nodes_spread_better() {
        let deviation = |vnodes| {
            let cluster = cluster(1);
            let ring = HashedCluster::new(&cluster.members(), vnodes);
            ring.ownership(1).shares(&cluster.proportional_copies(1)).deviation
        };

        // Theory: about 1 / sqrt(vnodes), 0.35 and 0.0625.
        assert!(deviation(8) > 0.15, "{}", deviation(8));
        assert!(deviation(256) < 0.12, "{}", deviation(256));
    }

    #[test]
    fn a_node_that_leaves_gives_what_it_held_and_nothing_else_moves() {
        let members = cluster(1).members();
        let (all, fewer) =
            (HashedCluster::new(&members, 64), HashedCluster::new(&members[1..], 64));

        // Capacities are equal, so the virtual nodes of the others stay where they are.
        let held = all.ownership(3).held()[all.place_of(members[0].node)];
        assert!((fewer.gained_from(&all, 3) - held).abs() < 1e-9);
        assert!(all.gained_from(&all, 3).abs() < 1e-12);
    }
}
