//! What an acceptor accepted before its present value: the evidence by which a write that was cut
//! short can be told from one that took effect (R3 of the strong mode).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::causality::HybridTime;
use crate::types::OperationId;

use super::ballot::Ballot;
use super::cell::Lineage;

/// What a round asks acceptors about its operation's earlier tries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Inquiry {
    /// The operation.
    #[serde(rename = "o")]
    pub operation: OperationId,
    /// The ballots of its own under which a value with its effect was sent out, the first one
    /// first.
    #[serde(rename = "b")]
    pub earlier: Vec<Ballot>,
}

/// What an acceptor knows of an operation's earlier tries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Testimony {
    /// The earlier ballots that it never accepted, and never will: it has promised a later one.
    #[serde(rename = "d")]
    pub denied: BTreeSet<Ballot>,
    /// Whether it accepted the operation's effect in another operation's round.
    #[serde(rename = "a")]
    pub adopted: Adopted,
}

/// Whether an acceptor accepted a value with an operation's effect under another's ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Adopted {
    /// It did not.
    Never,
    /// It did, or it does not remember.
    Perhaps,
}

/// What an acceptor knows of one ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recollection {
    /// It is the ballot of what is accepted now.
    pub present: bool,
    /// It was accepted before.
    pub past: bool,
    /// It is so old that it may have been accepted and forgotten.
    pub dropped: bool,
}

/// The past acceptances of one acceptor, bounded; `forgotten` is the greatest that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Trail {
    #[serde(rename = "p")]
    past: Vec<(Ballot, Lineage)>,
    #[serde(rename = "f")]
    forgotten: Ballot,
}

impl Default for Trail {
    fn default() -> Self {
        Self { past: Vec::new(), forgotten: Ballot::NONE }
    }
}

impl Trail {
    /// Notes that `ballot` is not the present acceptance any more. At most `bound` are kept, and
    /// none whose time is not after `horizon`: no operation goes on that long.
    pub fn note(&mut self, ballot: Ballot, lineage: Lineage, bound: usize, horizon: HybridTime) {
        self.past.push((ballot, lineage));
        let old = self.past.iter().take_while(|(past, _)| past.time <= horizon).count();
        let surplus = self.past.len().saturating_sub(bound).max(old);
        for (dropped, _) in self.past.drain(..surplus) {
            self.forgotten = self.forgotten.max(dropped);
        }
    }

    /// What it knows of `ballot`, if `present` is accepted now and whatever is stamped up to
    /// `purged` may have been erased.
    #[must_use]
    pub fn recollect(
        &self,
        ballot: Ballot,
        present: Option<Ballot>,
        purged: HybridTime,
    ) -> Recollection {
        Recollection {
            present: present == Some(ballot),
            past: self.past.iter().any(|(past, _)| *past == ballot),
            dropped: ballot <= self.forgotten || ballot.time <= purged,
        }
    }

    /// Whether a value with the operation's effect was accepted here under another's ballot.
    #[must_use]
    pub fn adopted(&self, inquiry: &Inquiry, present: Option<(Ballot, &Lineage)>) -> Adopted {
        let Some(&first) = inquiry.earlier.first() else { return Adopted::Never };
        let past = self.past.iter().map(|(ballot, lineage)| (*ballot, lineage));
        let shows = |(ballot, lineage): (Ballot, &Lineage)| {
            let others = !inquiry.earlier.contains(&ballot);
            let known = lineage.is_conclusive_for(first);
            ballot > first && !known || others && lineage.contains(inquiry.operation)
        };
        // An acceptance under another's ballot is later than the first of one's own.
        match self.forgotten > first || past.chain(present).any(shows) {
            true => Adopted::Perhaps,
            false => Adopted::Never,
        }
    }

    /// Every past ballot that is remembered, the earliest first.
    pub fn ballots(&self) -> impl Iterator<Item = (Ballot, &Lineage)> {
        self.past.iter().map(|(ballot, lineage)| (*ballot, lineage))
    }
}

#[cfg(test)]
mod tests {
    use super::{Adopted, Inquiry, Trail};
    use crate::causality::HybridTime;
    use crate::consensus::rules::{Binding, Rules};
    use crate::consensus::{Ballot, Lineage};
    use crate::types::OperationId;

    fn operation(name: u8) -> OperationId {
        OperationId::from_bytes([name; 16])
    }

    fn at(time: u64) -> Ballot {
        Ballot { time: HybridTime(time), ..Ballot::NONE }
    }

    fn mine(earlier: &[u64]) -> Inquiry {
        let earlier = earlier.iter().map(|time| at(*time)).collect();
        Inquiry { operation: operation(1), earlier }
    }

    const NEVER: HybridTime = HybridTime(0);

    fn denies(trail: &Trail, time: u64, present: Option<Ballot>, purged: u64) -> bool {
        Binding.denies(trail.recollect(at(time), present, HybridTime(purged)))
    }

    #[test]
    fn what_was_dropped_is_not_denied() {
        let mut trail = Trail::default();
        for time in 1..=4 {
            trail.note(at(time * 2), Lineage::EMPTY, 2, NEVER);
        }

        assert!(!denies(&trail, 3, None, 0), "it may be among the dropped");
        assert!(denies(&trail, 5, None, 0));
        assert!(!denies(&trail, 6, None, 0), "it is remembered");
        assert!(!denies(&trail, 9, Some(at(9)), 0), "it is the present one");
        assert!(!denies(&trail, 5, None, 5), "it may be erased");
    }

    #[test]
    fn an_effect_under_anothers_ballot_is_adopted_and_one_under_its_own_is_not() {
        let mut trail = Trail::default();
        trail.note(at(5), Lineage::of_blind(operation(1)), 8, NEVER);
        let others = Lineage::of_blind(operation(2));

        let own = trail.adopted(&mine(&[5]), Some((at(7), &others)));
        trail.note(at(6), Lineage::of_blind(operation(1)), 8, NEVER);
        let adopted = trail.adopted(&mine(&[5]), Some((at(7), &others)));

        assert_eq!((own, adopted), (Adopted::Never, Adopted::Perhaps));
    }

    #[test]
    fn a_ring_that_dropped_operations_proves_nothing() {
        let trail = Trail::default();
        let short = Lineage::of_blind(operation(1)).extended(operation(2), at(6), 1);

        assert_eq!(trail.adopted(&mine(&[5]), Some((at(6), &short))), Adopted::Perhaps);
        assert_eq!(trail.adopted(&mine(&[7]), Some((at(6), &short))), Adopted::Never);
    }

    #[test]
    fn what_is_older_than_any_operation_goes_first() {
        let mut trail = Trail::default();

        trail.note(at(3), Lineage::EMPTY, 8, NEVER);
        trail.note(at(9), Lineage::EMPTY, 8, HybridTime(4));

        assert_eq!(trail.ballots().map(|(ballot, _)| ballot).collect::<Vec<_>>(), [at(9)]);
        assert!(!denies(&trail, 3, None, 0) && denies(&trail, 4, None, 0));
    }
}
