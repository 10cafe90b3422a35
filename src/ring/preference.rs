//! The nodes that a partition's records go to, in order (Dynamo §4.6).

use crate::types::NodeId;

/// The longest preference list: enough for the widest erasure code (14) and its fallbacks.
pub const LIST_LENGTH_MAX: usize = 20;

/// A partition's nodes: the first `n` are its owners, the rest its fallbacks, best first.
///
/// Empty only for a partition that the layout does not have.
#[derive(Clone, PartialEq, Eq)]
pub struct PreferenceList {
    nodes: [NodeId; LIST_LENGTH_MAX],
    length: usize,
}

impl PreferenceList {
    /// The list of these nodes; what goes beyond [`LIST_LENGTH_MAX`] is left out.
    pub(super) fn new(ids: impl Iterator<Item = NodeId>) -> Self {
        let mut list = Self { nodes: [NodeId::from_bytes([0; 16]); LIST_LENGTH_MAX], length: 0 };
        for (slot, id) in list.nodes.iter_mut().zip(ids) {
            *slot = id;
            list.length += 1;
        }
        list
    }

    /// The owners of a record with `n` copies: the first `n` nodes, or all if there are fewer.
    #[must_use]
    pub fn owners(&self, n: usize) -> &[NodeId] {
        &self.nodes[..n.min(self.length)]
    }

    /// Who stands in for an owner, nearest first: the nodes after the owners.
    #[must_use]
    pub fn fallbacks(&self, n: usize) -> &[NodeId] {
        &self.nodes[n.min(self.length)..self.length]
    }

    /// Owners and fallbacks together.
    #[must_use]
    pub fn all(&self) -> &[NodeId] {
        &self.nodes[..self.length]
    }

    /// Whether `node` is among the owners of a record with `n` copies.
    #[must_use]
    pub fn is_owner(&self, node: NodeId, n: usize) -> bool {
        self.owners(n).contains(&node)
    }
}

impl std::fmt::Debug for PreferenceList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::PreferenceList;
    use crate::types::NodeId;

    #[test]
    fn owners_and_fallbacks_together_are_the_list() {
        let ids: Vec<NodeId> = (1..=4).map(|byte| NodeId::from_bytes([byte; 16])).collect();

        let list = PreferenceList::new(ids.iter().copied());

        assert_eq!(list.owners(3), &ids[..3]);
        assert_eq!(list.fallbacks(3), &ids[3..]);
        assert_eq!(list.owners(9), list.all());
        assert!(list.fallbacks(9).is_empty());
    }
}
