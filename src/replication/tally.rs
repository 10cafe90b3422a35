//! Counts the answers to one request until its outcome is certain (Dynamo §4.5). Pure.
//!
//! # Invariants
//! 1. A decision is final: once reached or impossible, no later answer changes it.
//! 2. A node counts once, whatever it sends and however often.
//! 3. Only owners count; a tally is made from the plan's owners and ignores anybody else.

use std::collections::BTreeMap;

use crate::env::mutation::{Mutation, is_planted};
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

/// The answers to one write that was sent to all owners, `needed` of which must confirm, or have
/// somebody who stands in for them confirm.
#[derive(Debug)]
pub struct WriteTally {
    slots: BTreeMap<NodeId, Slot>,
    needed: usize,
}

/// One owner's place among the copies, whoever fills it.
#[derive(Clone, Debug, Default)]
struct Slot {
    own: Option<WriteAnswer>,
    stand_ins: BTreeMap<NodeId, Option<WriteAnswer>>,
}

impl Slot {
    fn answers(&self) -> impl Iterator<Item = Option<WriteAnswer>> + '_ {
        std::iter::once(self.own).chain(self.stand_ins.values().copied())
    }

    fn is_durable(&self) -> bool {
        self.answers().any(|answer| answer == Some(WriteAnswer::Durable))
    }

    /// Whether nobody may fill it any more.
    fn has_failed(&self) -> bool {
        self.answers()
            .all(|answer| matches!(answer, Some(WriteAnswer::NotDone | WriteAnswer::Uncertain)))
    }
}

impl WriteTally {
    /// Starts counting.
    ///
    /// # Panics
    /// If `needed` is zero or more than there are owners: a plan never asks that.
    #[must_use]
    pub fn new(owners: &[NodeId], needed: usize) -> Self {
        let slots: BTreeMap<_, _> = owners.iter().map(|&node| (node, Slot::default())).collect();
        assert!(needed > 0, "a write that nobody confirms is no write");
        assert!(needed <= slots.len(), "the plan refuses an unreachable quorum");
        Self { slots, needed }
    }

    /// Notes that `node` was asked to stand in for `owner`: each of them fills that place.
    pub fn stand_in(&mut self, owner: NodeId, node: NodeId) {
        if let Some(slot) = self.slots.get_mut(&owner) {
            slot.stand_ins.entry(node).or_insert(None);
        }
    }

    /// Takes in one answer and tells what is now certain.
    pub fn record(&mut self, node: NodeId, answer: WriteAnswer) -> Decision {
        // The first answer stands: a confirmation after a timeout must not overturn what the
        // client may already have been told.
        for (owner, slot) in &mut self.slots {
            let place =
                if *owner == node { Some(&mut slot.own) } else { slot.stand_ins.get_mut(&node) };
            if let Some(first @ None) = place {
                *first = Some(answer);
            }
        }
        self.decision()
    }

    /// What is certain now.
    #[must_use]
    pub fn decision(&self) -> Decision {
        let failed = self.slots.values().filter(|slot| slot.has_failed()).count();
        let durable = self.slots.values().filter(|slot| slot.is_durable()).count();
        if durable >= self.needed {
            Decision::Reached
        } else if self.slots.len() - failed < self.needed {
            Decision::Impossible
        } else {
            Decision::Pending
        }
    }

    /// Counts the owners themselves only, from now on, and a majority of them.
    pub fn demand_owners(&mut self) {
        for slot in self.slots.values_mut() {
            slot.stand_ins.clear();
        }
        self.needed = self.needed.max(self.slots.len() / 2 + 1);
    }

    /// What may be said of a write that did not reach its quorum: `None` only if nobody who was
    /// asked has it or may still get it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let mut answers = self.slots.values().flat_map(Slot::answers);
        let not_done = answers.all(|answer| answer == Some(WriteAnswer::NotDone));
        let not_done = not_done || is_planted(Mutation::UncertainIsFailed);
        if not_done { Outcome::None } else { Outcome::Unknown }
    }

    /// Whether every owner confirmed so far or may still do so.
    #[must_use]
    pub fn complete_so_far(&self) -> bool {
        self.slots.values().all(|slot| {
            matches!(slot.own, None | Some(WriteAnswer::Durable)) && slot.stand_ins.is_empty()
        })
    }

    /// The owners whose place nobody has filled, and who have not answered or have failed.
    #[must_use]
    pub fn unfilled(&self) -> Vec<NodeId> {
        let unfilled = self.slots.iter().filter(|(_, slot)| !slot.is_durable());
        unfilled.map(|(owner, _)| *owner).collect()
    }

    /// The owners whose place `node` was to fill, as long as nobody has filled it.
    #[must_use]
    pub fn lost_by(&self, node: NodeId) -> Vec<NodeId> {
        let concerned = |owner: &NodeId, slot: &Slot| {
            !slot.is_durable() && (*owner == node || slot.stand_ins.contains_key(&node))
        };
        let lost = self.slots.iter().filter(|(owner, slot)| concerned(owner, slot));
        lost.map(|(owner, _)| *owner).collect()
    }

    /// Whether somebody was asked to stand in for `owner` whose answer is not a failure.
    #[must_use]
    pub fn has_stand_in(&self, owner: NodeId) -> bool {
        self.slots.get(&owner).is_some_and(|slot| {
            slot.stand_ins
                .values()
                .any(|answer| matches!(answer, None | Some(WriteAnswer::Durable)))
        })
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

    #[test]
    fn a_stand_in_fills_the_place_of_its_owner_once() {
        let mut tally = WriteTally::new(&nodes(3), 2);
        tally.stand_in(node(2), node(7));

        assert_eq!(tally.record(node(7), WriteAnswer::Durable), Decision::Pending);
        assert_eq!(tally.record(node(2), WriteAnswer::Durable), Decision::Pending);
        assert_eq!(tally.record(node(0), WriteAnswer::Durable), Decision::Reached);
        assert!(!tally.complete_so_far());
    }

    #[test]
    fn a_place_is_lost_only_when_its_stand_in_fails_too() {
        let mut tally = WriteTally::new(&nodes(2), 2);
        tally.stand_in(node(1), node(7));

        assert_eq!(tally.record(node(1), WriteAnswer::NotDone), Decision::Pending);
        assert_eq!(tally.record(node(7), WriteAnswer::Uncertain), Decision::Impossible);
        assert_eq!(tally.outcome(), Outcome::Unknown);
    }

    #[test]
    fn where_owners_are_demanded_nobody_stands_in() {
        let mut tally = WriteTally::new(&nodes(3), 1);
        tally.stand_in(node(1), node(7));
        tally.demand_owners();

        assert_eq!(tally.record(node(7), WriteAnswer::Durable), Decision::Pending);
        assert_eq!(tally.record(node(0), WriteAnswer::Durable), Decision::Pending);
        assert_eq!(tally.record(node(1), WriteAnswer::Durable), Decision::Reached);
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
