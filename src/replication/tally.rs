//! Counts the answers to one request until its outcome is certain (Dynamo §4.5). Pure.
//!
//! # Invariants
//! 1. A decision is final: once reached or impossible, no later answer changes it.
//! 2. A node counts once, whatever it sends and however often.
//! 3. Only owners count; a tally is made from the plan's owners and ignores anybody else.

use std::collections::BTreeMap;

use crate::types::NodeId;

use super::level::Outcome;

/// What one owner made of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAnswer {
    /// It is on stable storage there.
    Durable,
    /// It certainly did not happen there.
    NotDone,
    /// It may have happened there.
    Uncertain,
}

/// What is certain of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// More answers are needed.
    Pending,
    /// Enough owners confirmed.
    Reached,
    /// Enough confirmations can no longer come.
    Impossible,
}

/// The answers to one write that was sent to all owners, `needed` of which must confirm.
#[derive(Debug)]
pub struct WriteTally {
    answers: BTreeMap<NodeId, Option<WriteAnswer>>,
    needed: usize,
}

impl WriteTally {
    /// Starts counting.
    ///
    /// # Panics
    /// If `needed` is zero or more than there are owners: a plan never asks that.
    #[must_use]
    pub fn new(owners: &[NodeId], needed: usize) -> Self {
        let answers: BTreeMap<_, _> = owners.iter().map(|&node| (node, None)).collect();
        assert!(needed > 0, "a write that nobody confirms is no write");
        assert!(needed <= answers.len(), "the plan refuses an unreachable quorum");
        Self { answers, needed }
    }

    /// Takes in one answer and tells what is now certain.
    pub fn record(&mut self, node: NodeId, answer: WriteAnswer) -> Decision {
        // The first answer stands: a confirmation after a timeout must not overturn what the
        // client may already have been told.
        if let Some(first @ None) = self.answers.get_mut(&node) {
            *first = Some(answer);
        }
        self.decision()
    }

    /// What is certain now.
    #[must_use]
    pub fn decision(&self) -> Decision {
        let failed = self.count(WriteAnswer::NotDone) + self.count(WriteAnswer::Uncertain);
        if self.count(WriteAnswer::Durable) >= self.needed {
            Decision::Reached
        } else if self.answers.len() - failed < self.needed {
            Decision::Impossible
        } else {
            Decision::Pending
        }
    }

    /// What may be said of a write that did not reach its quorum: `None` only if no owner has
    /// it and none that was asked may still get it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let not_done = self.answers.values().all(|answer| *answer == Some(WriteAnswer::NotDone));
        if not_done { Outcome::None } else { Outcome::Unknown }
    }

    /// Whether every owner confirmed so far or may still do so.
    #[must_use]
    pub fn complete_so_far(&self) -> bool {
        self.answers.values().all(|answer| matches!(answer, None | Some(WriteAnswer::Durable)))
    }

    fn count(&self, wanted: WriteAnswer) -> usize {
        self.answers.values().filter(|answer| **answer == Some(wanted)).count()
    }
}

/// A short name for a record's whole contents; `None` stands for no record.
pub type Digest = Option<[u8; 16]>;

/// What a read knows so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadDecision {
    /// More answers are needed.
    Pending,
    /// Enough owners hold the same record, and one of them sent it whole.
    Agreed,
    /// Enough owners answered and they differ, or nobody sent the record whole: these must.
    Fetch(Vec<NodeId>),
    /// Enough owners answered, and all that differ sent their record whole: merge them.
    Merge,
    /// Enough answers can no longer come.
    Impossible,
}

/// The answers to one read. `needed` owners must answer.
#[derive(Debug)]
pub struct ReadTally {
    answers: BTreeMap<NodeId, ReadState>,
    needed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadState {
    Unknown,
    Failed,
    Digest(Digest),
    Whole(Digest),
}

impl ReadTally {
    /// Starts counting over all owners that might be asked.
    #[must_use]
    pub fn new(owners: &[NodeId], needed: usize) -> Self {
        let answers: BTreeMap<_, _> =
            owners.iter().map(|&node| (node, ReadState::Unknown)).collect();
        assert!(0 < needed && needed <= answers.len(), "the plan refuses an unreachable quorum");
        Self { answers, needed }
    }

    /// An owner sent its record, or said that it has none.
    pub fn whole(&mut self, node: NodeId, digest: Digest) -> ReadDecision {
        if let Some(state) = self.answers.get_mut(&node) {
            *state = ReadState::Whole(digest);
        }
        self.decision()
    }

    /// An owner sent a digest only.
    pub fn digest(&mut self, node: NodeId, digest: Digest) -> ReadDecision {
        match self.answers.get_mut(&node) {
            Some(state @ (ReadState::Unknown | ReadState::Failed)) => {
                // An owner without the record has told everything.
                *state = match digest {
                    None => ReadState::Whole(None),
                    Some(_) => ReadState::Digest(digest),
                };
            }
            Some(ReadState::Digest(_) | ReadState::Whole(_)) | None => {}
        }
        self.decision()
    }

    /// An owner did not answer, or not in time.
    pub fn failed(&mut self, node: NodeId) -> ReadDecision {
        if let Some(state @ (ReadState::Unknown | ReadState::Digest(_))) =
            self.answers.get_mut(&node)
        {
            *state = ReadState::Failed;
        }
        self.decision()
    }

    /// What is certain now.
    #[must_use]
    pub fn decision(&self) -> ReadDecision {
        let told: Vec<(NodeId, Digest, bool)> = self
            .answers
            .iter()
            .filter_map(|(&node, state)| match state {
                ReadState::Digest(digest) => Some((node, *digest, false)),
                ReadState::Whole(digest) => Some((node, *digest, true)),
                ReadState::Unknown | ReadState::Failed => None,
            })
            .collect();
        let failed = self.answers.values().filter(|state| **state == ReadState::Failed).count();
        if self.answers.len() - failed < self.needed {
            return ReadDecision::Impossible;
        }
        if told.len() < self.needed {
            return ReadDecision::Pending;
        }
        let whole: Vec<Digest> = told.iter().filter(|t| t.2).map(|t| t.1).collect();
        let mut fetch = Vec::new();
        for (node, digest, is_whole) in &told {
            // Equal digests are equal records: one of them is enough.
            if !is_whole && !whole.contains(digest) {
                let same_asked = told.iter().any(|t| fetch.contains(&t.0) && t.1 == *digest);
                if !same_asked {
                    fetch.push(*node);
                }
            }
        }
        if !fetch.is_empty() {
            return ReadDecision::Fetch(fetch);
        }
        if told.iter().all(|t| t.1 == told[0].1) {
            ReadDecision::Agreed
        } else {
            ReadDecision::Merge
        }
    }

    /// The owners that answered with something else than `merged`: read repair brings it to them.
    #[must_use]
    pub fn stale(&self, merged: Digest) -> Vec<NodeId> {
        self.answers
            .iter()
            .filter(|(_, state)| match state {
                ReadState::Digest(digest) | ReadState::Whole(digest) => *digest != merged,
                ReadState::Unknown | ReadState::Failed => false,
            })
            .map(|(&node, _)| node)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Decision, ReadDecision, ReadTally, WriteAnswer, WriteTally};
    use crate::replication::Outcome;
    use crate::types::NodeId;
    use proptest::prelude::*;

    fn node(id: u8) -> NodeId {
        NodeId::from_bytes([id; 16])
    }

    fn nodes(count: u8) -> Vec<NodeId> {
        (0..count).map(node).collect()
    }

    #[test]
    fn a_repeated_confirmation_counts_once() {
        let mut tally = WriteTally::new(&nodes(3), 2);

        tally.record(node(0), WriteAnswer::Durable);

        assert_eq!(tally.record(node(0), WriteAnswer::Durable), Decision::Pending);
        assert_eq!(tally.record(node(9), WriteAnswer::Durable), Decision::Pending);
        assert_eq!(tally.record(node(1), WriteAnswer::Durable), Decision::Reached);
    }

    #[test]
    fn a_write_that_may_be_somewhere_is_never_said_not_to_have_happened() {
        let mut tally = WriteTally::new(&nodes(3), 2);

        tally.record(node(0), WriteAnswer::NotDone);
        tally.record(node(1), WriteAnswer::Uncertain);

        assert_eq!(tally.decision(), Decision::Impossible);
        assert_eq!(tally.outcome(), Outcome::Unknown);
    }

    #[test]
    fn a_write_that_no_owner_took_did_not_happen() {
        let mut tally = WriteTally::new(&nodes(3), 2);

        for id in 0..3 {
            tally.record(node(id), WriteAnswer::NotDone);
        }

        assert_eq!(tally.outcome(), Outcome::None);
    }

    #[test]
    fn an_owner_that_was_not_heard_yet_may_still_get_the_write() {
        let mut tally = WriteTally::new(&nodes(3), 2);

        tally.record(node(0), WriteAnswer::NotDone);
        tally.record(node(1), WriteAnswer::NotDone);

        assert_eq!(tally.decision(), Decision::Impossible);
        assert_eq!(tally.outcome(), Outcome::Unknown);
    }

    proptest! {
        #[test]
        fn a_decision_is_final(answers in prop::collection::vec((0u8..5, 0u8..3), 0..20)) {
            let mut tally = WriteTally::new(&nodes(5), 3);
            let mut last = Decision::Pending;
            for (id, kind) in answers {
                let answer = match kind {
                    0 => WriteAnswer::Durable,
                    1 => WriteAnswer::NotDone,
                    _ => WriteAnswer::Uncertain,
                };
                let now = tally.record(node(id), answer);
                if last != Decision::Pending {
                    prop_assert_eq!(now, last);
                }
                last = now;
            }
        }
    }

    #[test]
    fn owners_that_agree_need_one_whole_record() {
        let mut tally = ReadTally::new(&nodes(3), 2);

        assert_eq!(tally.whole(node(0), Some([1; 16])), ReadDecision::Pending);
        assert_eq!(tally.digest(node(1), Some([1; 16])), ReadDecision::Agreed);
    }

    #[test]
    fn an_owner_that_differs_is_asked_for_its_record() {
        let mut tally = ReadTally::new(&nodes(3), 2);

        tally.whole(node(0), Some([1; 16]));

        assert_eq!(tally.digest(node(1), Some([2; 16])), ReadDecision::Fetch(vec![node(1)]));
        assert_eq!(tally.whole(node(1), Some([2; 16])), ReadDecision::Merge);
        assert_eq!(tally.stale(Some([2; 16])), vec![node(0)]);
    }

    #[test]
    fn absence_needs_a_quorum_too() {
        let mut tally = ReadTally::new(&nodes(3), 2);

        assert_eq!(tally.whole(node(0), None), ReadDecision::Pending);
        assert_eq!(tally.failed(node(1)), ReadDecision::Pending);
        assert_eq!(tally.failed(node(2)), ReadDecision::Impossible);
    }
}
