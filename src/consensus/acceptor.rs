//! One node's vote on one key: what it promised, accepted and remembers.

use serde::{Deserialize, Serialize};

use crate::causality::HybridTime;

use super::ballot::Ballot;
use super::cell::{Cell, Content};
use super::electorate::ElectorateNumber;
use super::message::{Answer, Asked, Declined, Past, Refusal, Request, Standing, Why};
use super::rules::{Position, Rules};
use super::trail::{Adopted, Inquiry, Testimony, Trail};

/// What holds for all keys of a partition on one node, with or without a record. Durable before
/// anything is answered by it, and it only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ground {
    /// The electorate that this node votes in (rule 12).
    pub electorate: ElectorateNumber,
    /// Whether this node remembers its votes.
    pub memory: Memory,
    /// Rounds up to this time are refused (rule 11). Raised on every owner before anything is
    /// purged.
    pub fence: HybridTime,
    /// Deletes up to this time may have been erased: the owners agreed on all of them after they
    /// had raised their fences this far (R9).
    pub purged: HybridTime,
}

/// Whether a node remembers what it promised and accepted in a partition (rule 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Memory {
    /// All of it.
    Whole,
    /// Its disk was emptied or set back, or a record is damaged: it takes what it is sent, and
    /// has no vote. It gets its vote back in an electorate that is later than all that it voted
    /// in: when as many others as can keep any majority from meeting without them vote in that
    /// one, and it holds what they held then. A fence is not enough: what it forgot may be the
    /// promise of a round that is later than any fence.
    Lost,
}

/// An acceptance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Accepted<V> {
    /// The round.
    #[serde(rename = "b")]
    pub ballot: Ballot,
    /// The value.
    #[serde(rename = "c")]
    pub cell: Cell<V>,
}

/// What is to be done with an answer.
///
/// Rule 4: an answer shows durable state only. What changed is on stable storage, all of it in
/// one batch, before the answer leaves; and a read is answered from what is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<V> {
    /// Nothing changed: answer.
    Answer(Answer<V>),
    /// Store the acceptor's new state, then answer.
    StoreThenAnswer(Answer<V>),
}

impl<V> Effect<V> {
    /// The answer, whatever comes before it.
    #[must_use]
    pub fn into_answer(self) -> Answer<V> {
        match self {
            Self::Answer(answer) | Self::StoreThenAnswer(answer) => answer,
        }
    }
}

/// What a purge made of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erasure {
    /// Nothing in it is old enough.
    Kept,
    /// Its delete is gone; a promise above the purge is still to be kept.
    Shrunk,
    /// All that it said is said by the partition's ground: the record can go.
    Gone,
}

/// The state of one key on one node. A key without a record has the default state.
///
/// # Invariants
/// `promised >= accepted`, and neither ever decreases (P1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Acceptor<V> {
    #[serde(rename = "p")]
    promised: Ballot,
    #[serde(rename = "a")]
    accepted: Option<Accepted<V>>,
    #[serde(rename = "t")]
    trail: Trail,
}

impl<V> Default for Acceptor<V> {
    fn default() -> Self {
        Self { promised: Ballot::NONE, accepted: None, trail: Trail::default() }
    }
}

impl<V: Content> Acceptor<V> {
    /// The state of a key that was written before its bucket was strong (rule 13): the first
    /// round adopts the greatest of these.
    #[must_use]
    pub fn legacy(ballot: Ballot, content: Option<V>) -> Self {
        let cell = Cell { content, ..Cell::NOTHING };
        let accepted = Some(Accepted { ballot, cell });
        Self { promised: ballot, accepted, trail: Trail::default() }
    }

    /// The acceptor that lies on a disk in these parts; see [`Acceptor::into_parts`].
    #[must_use]
    pub fn from_parts(promised: Ballot, accepted: Option<Accepted<V>>, trail: Trail) -> Self {
        let least = accepted.as_ref().map_or(Ballot::NONE, |accepted| accepted.ballot);
        Self { promised: promised.max(least), accepted, trail }
    }

    /// What is to be stored of it: the value goes where the table's other values are, promise and
    /// trail where only rounds look.
    #[must_use]
    pub fn into_parts(self) -> (Ballot, Option<Accepted<V>>, Trail) {
        (self.promised, self.accepted, self.trail)
    }

    /// What it has promised.
    #[must_use]
    pub const fn promised(&self) -> Ballot {
        self.promised
    }

    /// What it has accepted.
    #[must_use]
    pub const fn accepted(&self) -> Option<&Accepted<V>> {
        self.accepted.as_ref()
    }

    /// What it accepted before.
    #[must_use]
    pub const fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Takes in a request.
    pub fn handle(&mut self, rules: &impl Rules, ground: &Ground, asked: Asked<V>) -> Effect<V> {
        if !rules.serves(ground.electorate, asked.electorate) {
            let why = Why::OtherElectorate { number: ground.electorate };
            return self.refuse(rules, ground, &asked.request, why);
        }
        if !rules.votes(ground.memory) {
            return self.take_without_vote(rules, ground, asked.request);
        }
        match asked.request {
            Request::Read => Effect::Answer(Answer::Standing(self.standing(ground))),
            Request::Prepare { ballot, ref inquiry } => {
                if let Some(why) = self.objection(rules, ground, &asked.request) {
                    return self.refuse(rules, ground, &asked.request, why);
                }
                self.promised = ballot;
                let standing = self.standing(ground);
                let testimony = inquiry.as_ref().map(|asked| self.testify(rules, ground, asked));
                Effect::StoreThenAnswer(Answer::Promised { ballot, standing, testimony })
            }
            Request::Accept { ballot, next, .. }
                if rules.acknowledges_again(ballot, self.accepted_ballot()) =>
            {
                self.accept_again(rules, ballot, next)
            }
            Request::Accept { .. } => {
                match (self.objection(rules, ground, &asked.request), asked.request) {
                    (None, Request::Accept { ballot, cell, next }) => {
                        self.accept(rules, Accepted { ballot, cell }, next)
                    }
                    (why, request) => {
                        self.refuse(rules, ground, &request, why.unwrap_or(Why::Abstains))
                    }
                }
            }
        }
    }

    /// What a read of this node sees. A delete that the purge covers is reported as absence also
    /// where its record is not erased yet, so that owners agree at once.
    #[must_use]
    pub fn standing(&self, ground: &Ground) -> Standing<V> {
        match &self.accepted {
            Some(accepted) if !is_purged(accepted, ground) => {
                Standing::Held { ballot: accepted.ballot, cell: accepted.cell.clone() }
            }
            _ => Standing::Absent,
        }
    }

    /// Erases what the purge covers. Only after R9's three steps: all owners raised their fence,
    /// then were proven to agree on everything below it, and `ground.purged` says so.
    pub fn erase(&mut self, ground: &Ground) -> Erasure {
        let purged = self.accepted.as_ref().is_some_and(|accepted| is_purged(accepted, ground));
        if self.accepted.is_some() && !purged {
            return Erasure::Kept;
        }
        // What the trail knew up to the purge is forgotten: the purge itself tells how much.
        *self = Self { promised: self.promised, ..Self::default() };
        match (self.promised.time <= ground.purged, purged) {
            (true, _) => Erasure::Gone,
            (false, true) => Erasure::Shrunk,
            (false, false) => Erasure::Kept,
        }
    }

    /// What keeps it from following a prepare or an accept.
    fn objection(&self, rules: &impl Rules, ground: &Ground, request: &Request<V>) -> Option<Why> {
        let accepted = self.accepted_ballot().unwrap_or(Ballot::NONE);
        let position = Position { promised: self.promised, accepted };
        let (ballot, agrees) = match request {
            Request::Read => return None,
            Request::Prepare { ballot, .. } => (*ballot, rules.may_promise(*ballot, position)),
            Request::Accept { ballot, .. } => (*ballot, rules.may_accept(*ballot, position)),
        };
        if rules.is_fenced(ballot, ground) {
            return Some(Why::Fenced { fence: ground.fence.max(ground.purged) });
        }
        (!agrees).then(|| Why::Overtaken { seen: self.promised.max(accepted) })
    }

    fn accept(&mut self, rules: &impl Rules, new: Accepted<V>, next: Option<Ballot>) -> Effect<V> {
        let ballot = new.ballot;
        if let Some(old) = self.accepted.replace(new) {
            let (bound, horizon) = rules.trail_bounds(ballot);
            self.trail.note(old.ballot, old.cell.lineage, bound, horizon);
        }
        self.promised = self.promised.max(ballot);
        let next = next.filter(|next| rules.promises_next(*next, ballot, self.promised));
        self.promised = next.map_or(self.promised, |next| self.promised.max(next));
        Effect::StoreThenAnswer(Answer::Accepted { ballot, next })
    }

    /// R5, R6: what it accepted before may have come without `next`, from anti-entropy; or
    /// another round was promised since. It says which it promised, and promises it if it can.
    fn accept_again(
        &mut self,
        rules: &impl Rules,
        ballot: Ballot,
        next: Option<Ballot>,
    ) -> Effect<V> {
        let next = next.filter(|next| rules.promises_next(*next, ballot, self.promised));
        let answer = Answer::Accepted { ballot, next };
        match next {
            Some(next) if next > self.promised => {
                self.promised = next;
                Effect::StoreThenAnswer(answer)
            }
            _ => Effect::Answer(answer),
        }
    }

    /// Rule 9: it keeps what others decide, and says that it did nothing that counts.
    fn take_without_vote(
        &mut self,
        rules: &impl Rules,
        ground: &Ground,
        request: Request<V>,
    ) -> Effect<V> {
        let refusal = self.refuse(rules, ground, &request, Why::Abstains).into_answer();
        let passes =
            |ballot: Ballot| !rules.fences_without_vote() || !rules.is_fenced(ballot, ground);
        match request {
            Request::Accept { ballot, cell, .. }
                if Some(ballot) > self.accepted_ballot() && passes(ballot) =>
            {
                self.accept(rules, Accepted { ballot, cell }, None);
                Effect::StoreThenAnswer(refusal)
            }
            _ => Effect::Answer(refusal),
        }
    }

    fn refuse(
        &self,
        rules: &impl Rules,
        ground: &Ground,
        request: &Request<V>,
        why: Why,
    ) -> Effect<V> {
        let of = match *request {
            Request::Read => Declined::Read,
            Request::Prepare { ballot, .. } => Declined::Prepare(ballot),
            Request::Accept { ballot, .. } => {
                let remembers = rules.votes(ground.memory);
                let denied = remembers && self.denies(rules, ground, ballot);
                let past = if denied { Past::Never } else { Past::Perhaps };
                Declined::Accept { ballot, past }
            }
        };
        Effect::Answer(Answer::Refused(Refusal { of, why }))
    }

    /// R3: what it knows of an operation's earlier tries. It has promised a later round by now.
    fn testify(&self, rules: &impl Rules, ground: &Ground, inquiry: &Inquiry) -> Testimony {
        let earlier = inquiry.earlier.iter().copied();
        let denied = earlier.filter(|ballot| self.denies(rules, ground, *ballot)).collect();
        let present =
            self.accepted.as_ref().map(|accepted| (accepted.ballot, &accepted.cell.lineage));
        // What is later than the operation's first try may have been erased with its trail.
        let erased = inquiry.earlier.first().is_some_and(|first| first.time <= ground.purged);
        let adopted = if erased { Adopted::Perhaps } else { self.trail.adopted(inquiry, present) };
        Testimony { denied, adopted }
    }

    fn denies(&self, rules: &impl Rules, ground: &Ground, ballot: Ballot) -> bool {
        rules.denies(self.trail.recollect(ballot, self.accepted_ballot(), ground.purged))
    }

    fn accepted_ballot(&self) -> Option<Ballot> {
        self.accepted.as_ref().map(|accepted| accepted.ballot)
    }
}

fn is_purged<V: Content>(accepted: &Accepted<V>, ground: &Ground) -> bool {
    accepted.cell.is_deleted() && accepted.ballot.time <= ground.purged
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{Acceptor, Erasure, Ground, Memory};
    use crate::causality::HybridTime;
    use crate::consensus::rules::Binding;
    use crate::consensus::{
        Answer, Asked, Ballot, Cell, Content, Declined, ElectorateNumber, Past, Refusal, Request,
        Standing, Why,
    };

    /// Zero is a delete that leaves a record.
    impl Content for u64 {
        fn is_deleted(&self) -> bool {
            *self == 0
        }
    }

    const NOW: ElectorateNumber = ElectorateNumber(1);

    fn ground(fence: u64, purged: u64) -> Ground {
        let (fence, purged) = (HybridTime(fence), HybridTime(purged));
        Ground { electorate: NOW, memory: Memory::Whole, fence, purged }
    }

    fn at(time: u64) -> Ballot {
        Ballot { time: HybridTime(time), serial: time, ..Ballot::NONE }
    }

    fn prepare(time: u64) -> Request<u64> {
        Request::Prepare { ballot: at(time), inquiry: None }
    }

    /// The value of a round is made of its ballot: one value per ballot.
    fn accept(time: u64, next: Option<u64>) -> Request<u64> {
        let cell = Cell { content: (!time.is_multiple_of(4)).then_some(time), ..Cell::NOTHING };
        Request::Accept { ballot: at(time), cell, next: next.map(at) }
    }

    fn ask(acceptor: &mut Acceptor<u64>, ground: &Ground, request: Request<u64>) -> Answer<u64> {
        acceptor.handle(&Binding, ground, Asked { electorate: NOW, request }).into_answer()
    }

    fn requests() -> impl Strategy<Value = Request<u64>> {
        prop_oneof![
            Just(Request::Read),
            (1_u64..12).prop_map(prepare),
            (1_u64..12, prop::option::of(1_u64..12)).prop_map(|(time, next)| accept(time, next)),
        ]
    }

    proptest! {
        /// In any order, with anything lost or repeated: promises and acceptances only grow, what
        /// is promised is kept, and an answer says what is so.
        #[test]
        fn an_acceptor_never_goes_back(
            asked in prop::collection::vec((requests(), 1_u64..3), 1..60),
            fence in 0_u64..6,
        ) {
            let ground = ground(fence, 0);
            let mut acceptor = Acceptor::default();
            let mut accepted = BTreeMap::new();
            for (request, electorate) in asked {
                let before = acceptor.clone();
                let electorate = ElectorateNumber(electorate);
                let asked = Asked { electorate, request: request.clone() };
                let answer = acceptor.handle(&Binding, &ground, asked).into_answer();

                let ballot = |acceptor: &Acceptor<u64>| acceptor.accepted().map(|at| at.ballot);
                prop_assert!(acceptor.promised() >= before.promised());
                prop_assert!(ballot(&acceptor) >= ballot(&before));
                prop_assert!(ballot(&acceptor) <= Some(acceptor.promised()));
                match answer {
                    Answer::Refused(_) | Answer::Standing(_) => {
                        prop_assert_eq!(&acceptor, &before);
                    }
                    Answer::Promised { ballot, .. } => {
                        prop_assert_eq!(acceptor.promised(), ballot);
                        prop_assert!(ballot.time.0 > fence && ballot > before.promised());
                    }
                    Answer::Accepted { ballot: of, next } => {
                        prop_assert!(ballot(&before) == Some(of) || of >= before.promised());
                        prop_assert_eq!(ballot(&acceptor), Some(of));
                        prop_assert!(next.is_none_or(|next| acceptor.promised() == next));
                        accepted.insert(of, acceptor.accepted().cloned());
                    }
                }
                let (promised, held, trail) = acceptor.clone().into_parts();
                prop_assert_eq!(&Acceptor::from_parts(promised, held, trail), &acceptor);
                prop_assert!(electorate == NOW || acceptor == before);
                for ballot in accepted.keys() {
                    let Request::Accept { next: None, .. } = &request else { continue };
                    let again = accept(ballot.time.0, None);
                    let told = ask(&mut acceptor.clone(), &ground, again);
                    let denied = matches!(
                        told,
                        Answer::Refused(Refusal { of: Declined::Accept { past: Past::Never, .. }, .. })
                    );
                    prop_assert!(!denied, "{ballot:?} was accepted and is denied");
                }
            }
        }
    }

    #[test]
    fn an_acceptance_that_came_twice_is_acknowledged_below_a_later_promise() {
        let mut acceptor = Acceptor::default();
        ask(&mut acceptor, &ground(0, 0), accept(1, None));
        ask(&mut acceptor, &ground(0, 0), prepare(5));

        let again = ask(&mut acceptor, &ground(0, 0), accept(1, Some(3)));

        assert_eq!(again, Answer::Accepted { ballot: at(1), next: None }, "without a grant");
        assert_eq!(acceptor.promised(), at(5));
    }

    #[test]
    fn an_acceptance_that_anti_entropy_brought_earns_its_grant_later() {
        let mut acceptor = Acceptor::default();
        ask(&mut acceptor, &ground(0, 0), accept(1, None));

        let again = ask(&mut acceptor, &ground(0, 0), accept(1, Some(3)));

        assert_eq!(again, Answer::Accepted { ballot: at(1), next: Some(at(3)) });
        assert_eq!(acceptor.promised(), at(3));
    }

    #[test]
    fn nothing_of_the_closed_past_is_let_in_where_there_is_no_record() {
        let mut acceptor = Acceptor::default();

        for late in [prepare(4), accept(3, None)] {
            let refused = ask(&mut acceptor, &ground(4, 0), late);
            assert!(matches!(refused, Answer::Refused(_)));
        }
        assert_eq!(acceptor, Acceptor::default());
    }

    #[test]
    fn who_forgot_its_votes_takes_what_comes_and_has_no_say() {
        let lost = Ground { memory: Memory::Lost, ..ground(0, 0) };
        let mut acceptor = Acceptor::default();

        let told = [accept(3, Some(9)), prepare(5), Request::Read, accept(2, None)]
            .map(|request| ask(&mut acceptor, &lost, request));

        let abstains = |of| Answer::Refused(Refusal { of, why: Why::Abstains });
        let of = |time| Declined::Accept { ballot: at(time), past: Past::Perhaps };
        let prepared = Declined::Prepare(at(5));
        assert_eq!(told, [of(3), prepared, Declined::Read, of(2)].map(abstains));
        assert_eq!(acceptor.accepted().map(|held| held.ballot), Some(at(3)), "it keeps the latest");
        assert_eq!(acceptor.promised(), at(3), "it promises nothing");
    }

    #[test]
    fn only_deletes_below_the_purge_are_erased_and_promises_above_it_are_kept() {
        let deleted = |promised: Option<u64>| {
            let mut acceptor = Acceptor::default();
            ask(&mut acceptor, &ground(0, 0), accept(4, promised));
            acceptor
        };
        let mut live = Acceptor::default();
        ask(&mut live, &ground(0, 0), accept(3, None));
        let mut recorded = Acceptor::default();
        let cell = Cell { content: Some(0), ..Cell::NOTHING };
        let delete = Request::Accept { ballot: at(4), cell, next: None };
        ask(&mut recorded, &ground(0, 0), delete);
        let (mut quiet, mut busy, mut later) = (deleted(None), deleted(Some(9)), deleted(None));

        assert_eq!(live.erase(&ground(5, 5)), Erasure::Kept);
        assert_eq!(quiet.erase(&ground(5, 5)), Erasure::Gone);
        assert_eq!(recorded.erase(&ground(5, 5)), Erasure::Gone);
        assert_eq!(busy.erase(&ground(5, 5)), Erasure::Shrunk);
        assert_eq!(later.erase(&ground(3, 3)), Erasure::Kept);
        assert_eq!(busy.promised(), at(9));
        assert_eq!(live.standing(&ground(5, 5)).ballot(), Some(at(3)));
        assert_eq!(later.standing(&ground(5, 5)), Standing::Absent, "as if it were erased");
    }
}
