//! Proofs: which owners of a partition were shown to hold the same, and when.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::causality::HybridTime;
use crate::codec::{Format, decode_format, encode_format};
use crate::replication::error::ReplicationError;
use crate::ring::Partition;
use crate::store::{Batch, Family, KeyRange, Rows, Visit};
use crate::types::NodeId;

const PREFIX: &[u8] = b"proof|";

/// That these owners held all that any of them held at that time, bytes included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// When the first exchange began.
    #[serde(rename = "t")]
    pub at: HybridTime,
    /// The owners that were shown to agree.
    #[serde(rename = "c")]
    pub copies: BTreeSet<NodeId>,
    /// The owners that there are.
    #[serde(rename = "w")]
    pub owners: BTreeSet<NodeId>,
    /// Rows whose bytes were missing at one of the owners.
    #[serde(rename = "m", default)]
    pub missing: u64,
}

impl Proof {
    /// Whether it is about all owners.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.copies == self.owners
    }
}

/// What a node remembers of a partition's proofs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// The last.
    #[serde(rename = "l")]
    pub last: Proof,
    /// When the last one was begun that was about all owners of the last.
    #[serde(rename = "f")]
    pub full: Option<HybridTime>,
}

impl Format for Proven {
    const NAME: &'static str = "partition proof";
    const NUMBER: u16 = 1;
}

impl Proven {
    /// What is known after `proof`, if `before` was known.
    fn after(before: Option<&Self>, proof: Proof) -> Self {
        let same = before.filter(|before| before.last.owners == proof.owners);
        let full = match proof.is_full() {
            true => Some(proof.at),
            false => same.and_then(|before| before.full),
        };
        Self { last: proof, full }
    }
}

/// The owners that agree, of those that were compared: each of them completed an exchange with
/// each other of them, and lacks no bytes.
pub(super) fn agreeing(
    owners: &[NodeId],
    complete: &BTreeSet<(NodeId, NodeId)>,
    missing: &BTreeMap<NodeId, u64>,
) -> BTreeSet<NodeId> {
    let met = |a: NodeId, b: NodeId| complete.contains(&(a, b)) || complete.contains(&(b, a));
    let mut agreeing = BTreeSet::new();
    for &owner in owners {
        let whole = missing.get(&owner) == Some(&0);
        if whole && agreeing.iter().all(|&other| met(owner, other)) {
            agreeing.insert(owner);
        }
    }
    agreeing
}

/// Whether every two of these owners completed an exchange: then each has each row of the others,
/// whatever bytes they lack.
pub(super) fn all_met(owners: &[NodeId], complete: &BTreeSet<(NodeId, NodeId)>) -> bool {
    let met = |a: NodeId, b: NodeId| complete.contains(&(a, b)) || complete.contains(&(b, a));
    let mut places = owners.iter().enumerate();
    places.all(|(place, one)| owners[..place].iter().all(|other| met(*one, *other)))
}

/// The proofs that this node knows, and their durable copies.
pub(super) struct Proofs {
    rows: Rows,
    known: Mutex<BTreeMap<Partition, Proven>>,
}

impl Proofs {
    /// Reads what was proven before.
    pub(super) fn open(rows: Rows) -> Result<Self, ReplicationError> {
        let mut known = BTreeMap::new();
        rows.meta().scan(Family::Local, &KeyRange::prefix(PREFIX), &mut |key, value| {
            let partition = key.last_chunk::<4>().copied().map(Partition::from_be_bytes);
            match (partition, decode_format::<Proven>(value)) {
                (Some(partition), Ok(proven)) => drop(known.insert(partition, proven)),
                // A proof that cannot be read is none: the next round makes another.
                _ => tracing::warn!("a proof cannot be read"),
            }
            Visit::Next
        })?;
        Ok(Self { rows, known: Mutex::new(known) })
    }

    /// Shows `look` what is known of a partition.
    pub(super) fn look<T>(
        &self,
        partition: Partition,
        look: impl FnOnce(Option<&Proven>) -> T,
    ) -> T {
        look(self.known.lock().get(&partition))
    }

    /// What is known of all partitions.
    pub(super) fn all(&self) -> BTreeMap<Partition, Proven> {
        self.known.lock().clone()
    }

    /// Remembers a proof, durably, unless a later one is known.
    pub(super) async fn note(
        &self,
        partition: Partition,
        proof: Proof,
    ) -> Result<(), ReplicationError> {
        let value = {
            let mut known = self.known.lock();
            let before = known.get(&partition);
            if before.is_some_and(|before| before.last.at >= proof.at) {
                return Ok(());
            }
            let proven = Proven::after(before, proof);
            let value = encode_format(&proven)
                .map_err(|error| ReplicationError::Damaged(error.to_string()))?;
            known.insert(partition, proven);
            value
        };
        let mut batch = Batch::new();
        batch.put(Family::Local, [PREFIX, &partition.to_be_bytes()].concat(), value);
        Ok(self.rows.commit(batch).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{Proof, Proven, agreeing, all_met};
    use crate::causality::HybridTime;
    use crate::types::NodeId;
    use proptest::prelude::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn proof(at: u64, copies: &[u8]) -> Proof {
        let set = |nodes: &[u8]| nodes.iter().map(|number| node(*number)).collect();
        Proof { at: HybridTime(at), copies: set(copies), owners: set(&[1, 2, 3]), missing: 0 }
    }

    proptest! {
        #[test]
        fn whoever_agrees_lacks_nothing_and_met_all_others_that_agree(
            met in prop::collection::btree_set((1_u8..6, 1_u8..6), 0..16),
            lacking in prop::collection::btree_map(1_u8..6, 0_u64..3, 0..6),
        ) {
            let owners: Vec<NodeId> = (1..6).map(node).collect();
            let complete: BTreeSet<_> = met.iter().map(|(a, b)| (node(*a), node(*b))).collect();
            let missing: BTreeMap<_, _> = lacking.iter().map(|(a, m)| (node(*a), *m)).collect();

            let agreed = agreeing(&owners, &complete, &missing);

            for a in &agreed {
                prop_assert_eq!(missing[a], 0);
                for b in agreed.iter().filter(|b| *b != a) {
                    prop_assert!(complete.contains(&(*a, *b)) || complete.contains(&(*b, *a)));
                }
            }
        }
    }

    #[test]
    fn owners_that_lack_bytes_have_met_all_the_same() {
        let owners = [node(1), node(2), node(3)];
        let mut complete = BTreeSet::from([(node(2), node(1)), (node(2), node(3))]);

        assert!(!all_met(&owners, &complete));
        complete.insert((node(1), node(3)));
        assert!(all_met(&owners, &complete));
        assert!(all_met(&owners[..1], &BTreeSet::new()));
    }

    #[test]
    fn a_later_proof_of_fewer_copies_does_not_undo_what_was_proven() {
        let first = Proven::after(None, proof(5, &[1, 2, 3]));

        let second = Proven::after(Some(&first), proof(9, &[1, 2]));

        assert_eq!(second.full, Some(HybridTime(5)));
        assert_eq!(second.last.copies.len(), 2);
    }

    #[test]
    fn a_proof_of_other_owners_says_nothing_of_these() {
        let mut others = proof(5, &[1, 2, 3]);
        others.owners.insert(node(4));
        others.copies.insert(node(4));
        let first = Proven::after(None, others);

        assert_eq!(Proven::after(Some(&first), proof(9, &[1])).full, None);
    }
}
