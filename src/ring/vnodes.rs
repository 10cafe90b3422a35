//! Virtual nodes on a consistent-hashing ring (Dynamo §4.2; Karger et al., STOC 1997).

use std::hash::{BuildHasher, Hash, Hasher};

use hashring::HashRing;

use super::roster::Rank;
use super::token::Token;
use crate::types::NodeId;

/// Virtual nodes of a node of mean capacity; others have as many as their capacity says.
const VNODES_MEAN: u64 = 256;
/// How many virtual nodes a walk passes at most. Beyond that the nodes not yet met are too
/// small to matter, and placement looks at loads instead.
const WALK_STEPS_MAX: usize = 4096;

/// One virtual node.
#[derive(Clone, Copy, Debug)]
struct Vnode {
    node: NodeId,
    index: u32,
    rank: Rank,
}

impl Hash for Vnode {
    // Explicit bytes: what `derive` writes may change with the compiler or the machine.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.node.as_bytes());
        state.write(&self.index.to_le_bytes());
    }
}

/// Murmur3 as the ring's hash function.
#[derive(Clone, Copy)]
struct Murmur;

impl BuildHasher for Murmur {
    type Hasher = MurmurHasher;

    fn build_hasher(&self) -> MurmurHasher {
        MurmurHasher { bytes: Vec::with_capacity(20) }
    }
}

/// Collects the bytes of one virtual node.
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

/// The ring: positions of all virtual nodes, ascending.
#[derive(Debug)]
pub(super) struct VnodeRing {
    positions: Vec<(u64, Rank)>,
}

impl VnodeRing {
    /// The ring of these nodes (in id order) with these capacities, all above zero.
    pub(super) fn new(nodes: &[NodeId], capacities: &[u32]) -> Self {
        let total: u64 = capacities.iter().map(|capacity| u64::from(*capacity)).sum();
        let wanted = VNODES_MEAN * nodes.len() as u64;
        let mut vnodes = Vec::new();
        for ((rank, node), capacity) in (0..).zip(nodes).zip(capacities) {
            let count = (u64::from(*capacity) * wanted + total / 2) / total.max(1);
            let node = *node;
            vnodes.extend((0..count.max(1) as u32).map(|index| Vnode { node, index, rank }));
        }
        let mut ring = HashRing::with_hasher(Murmur);
        ring.batch_add(vnodes);
        // The crate's own walk repeats nodes and copies the ring for each call. So the ring is
        // taken out once, as one walk all around it, and walked here.
        let everything = ring.get_with_replicas(&[0_u8; 20], usize::MAX).unwrap_or_default();
        let position = |vnode: Vnode| (Murmur.hash_one(vnode), vnode.rank);
        let mut positions: Vec<_> = everything.into_iter().map(position).collect();
        positions.sort_unstable();
        Self { positions }
    }

    /// The first `limit` distinct nodes met clockwise from `token`.
    pub(super) fn walk(&self, token: Token, limit: usize) -> Vec<Rank> {
        let position = (token.0 >> 64) as u64;
        let start = self.positions.partition_point(|(at, _)| *at < position);
        let (before, after) = self.positions.split_at(start);
        let mut met = Vec::with_capacity(limit);
        for (_, rank) in after.iter().chain(before).take(WALK_STEPS_MAX) {
            if met.len() == limit {
                break;
            }
            if !met.contains(rank) {
                met.push(*rank);
            }
        }
        met
    }
}

#[cfg(test)]
mod tests {
    use super::VnodeRing;
    use crate::ring::token::Token;
    use crate::types::NodeId;

    #[test]
    fn a_node_has_as_many_virtual_nodes_as_its_capacity_says() {
        let nodes = [NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16])];

        let ring = VnodeRing::new(&nodes, &[10, 30]);

        let count = |rank| ring.positions.iter().filter(|(_, owner)| *owner == rank).count();
        assert_eq!((count(0), count(1)), (128, 384));
    }

    #[test]
    fn a_walk_meets_each_node_once_and_wraps_around() {
        let nodes: Vec<NodeId> = (1..=5).map(|byte| NodeId::from_bytes([byte; 16])).collect();
        let ring = VnodeRing::new(&nodes, &[1; 5]);

        let mut met = ring.walk(Token(u128::MAX), 5);

        met.sort_unstable();
        assert_eq!(met, [0, 1, 2, 3, 4]);
    }
}
