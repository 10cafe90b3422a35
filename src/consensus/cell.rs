//! What a key's rounds agree on: its content, and which operations made it.

use serde::{Deserialize, Serialize};

use crate::types::OperationId;

use super::ballot::Ballot;

/// The operations whose effect a value contains, since the last blind write: that one did not
/// look at what it replaced.
///
/// A ring: at its bound the oldest is dropped, and `forgotten` says so. An operation all of whose
/// ballots are later than that has not been dropped, so its absence means something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lineage {
    #[serde(rename = "o")]
    operations: Vec<OperationId>,
    /// The last round that dropped one.
    #[serde(rename = "f")]
    forgotten: Ballot,
}

impl Lineage {
    /// Of a value that no operation is known to have made: from before the bucket was strong, or
    /// of a key that never was.
    pub const EMPTY: Self = Self { operations: Vec::new(), forgotten: Ballot::NONE };

    /// Of a blind write.
    #[must_use]
    pub fn of_blind(operation: OperationId) -> Self {
        Self { operations: vec![operation], forgotten: Ballot::NONE }
    }

    /// Of what `operation` made of a value of this lineage in the round `ballot`, at most `bound`
    /// operations long.
    #[must_use]
    pub fn extended(&self, operation: OperationId, ballot: Ballot, bound: usize) -> Self {
        let mut longer = self.clone();
        longer.operations.push(operation);
        let surplus = longer.operations.len().saturating_sub(bound.max(1));
        if surplus > 0 {
            longer.operations.drain(..surplus);
            longer.forgotten = ballot;
        }
        longer
    }

    /// Whether the value contains the effect of `operation`, as far as is remembered.
    #[must_use]
    pub fn contains(&self, operation: OperationId) -> bool {
        self.operations.contains(&operation)
    }

    /// Whether an operation whose first ballot was `first`, and which is not contained, certainly
    /// never was.
    #[must_use]
    pub fn is_conclusive_for(&self, first: Ballot) -> bool {
        self.forgotten < first
    }

    /// The operation that made the value.
    #[must_use]
    pub fn writer(&self) -> Option<OperationId> {
        self.operations.last().copied()
    }

    /// The operations, the latest last.
    #[must_use]
    pub fn operations(&self) -> &[OperationId] {
        &self.operations
    }
}

/// What a register can hold.
pub trait Content: Clone + Eq {
    /// Whether it says that its key was deleted: then a purge may take it away (rule 11).
    fn is_deleted(&self) -> bool;
}

/// The register of one key. A deleted key has a cell too: delete is a value (rule 11).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cell<V> {
    /// What a client sees; `None` if the key never was, or was deleted.
    #[serde(rename = "v")]
    pub content: Option<V>,
    /// Which operations made it.
    #[serde(rename = "l")]
    pub lineage: Lineage,
}

impl<V> Cell<V> {
    /// A key that never was.
    pub const NOTHING: Self = Self { content: None, lineage: Lineage::EMPTY };
}

impl<V: Content> Cell<V> {
    /// Whether it says no more than that there is nothing.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.content.as_ref().is_none_or(Content::is_deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::Lineage;
    use crate::causality::HybridTime;
    use crate::consensus::Ballot;
    use crate::types::OperationId;

    fn operation(name: u8) -> OperationId {
        OperationId::from_bytes([name; 16])
    }

    fn at(time: u64) -> Ballot {
        Ballot { time: HybridTime(time), ..Ballot::NONE }
    }

    #[test]
    fn a_full_ring_drops_its_oldest_and_says_so() {
        let blind = Lineage::of_blind(operation(1));

        let full = blind.extended(operation(2), at(2), 2);
        let over = full.extended(operation(3), at(3), 2);

        assert!(full.contains(operation(1)) && full.is_conclusive_for(at(1)));
        assert!(!over.contains(operation(1)));
        assert!(!over.is_conclusive_for(at(1)), "the first may have been dropped");
        assert!(over.is_conclusive_for(at(4)), "a later one would still be there");
        assert_eq!(over.writer(), Some(operation(3)));
    }
}
