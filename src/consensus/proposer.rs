//! One operation's rounds on one key, without I/O: answers go in, requests and the outcome come
//! out. The driver sends each request once to every member of the electorate (R1), hands in what
//! comes back, waits between tries, and never decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::causality::HybridTime;
use crate::types::{NodeId, OperationId};

use super::ballot::Ballot;
use super::cell::{Cell, Lineage};
use super::electorate::{Electorate, ElectorateNumber};
use super::message::{Answer, Asked, Declined, Past, Refusal, Request, Why};
use super::operation::{Change, Decision, Grant, Intent, Outcome, Seen};
use super::promises::{Promises, Standings, Try};
use super::rules::{Rules, Traces, Verdict};
use super::trail::{Adopted, Inquiry};

/// The ballots of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballots {
    /// The try's own, drawn for it.
    pub own: Ballot,
    /// The one to have promised with its acceptance, if the caller keeps grants.
    pub next: Option<Ballot>,
}

/// How an operation may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opening {
    /// As if it had not been tried: a blind write blindly, if the caller likes.
    AsNew,
    /// With [`Proposer::prepare`].
    Prepared,
}

/// What is known of an operation that another coordinator may have begun, or this one before it
/// was restarted: its ballots, stored before the first message of each was sent (rule 7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Earlier {
    /// The electorate of all of them. Of another electorate's rounds it can only be proven that
    /// they took effect, never that they did not.
    pub electorate: ElectorateNumber,
    /// The ballots, the earliest first.
    pub ballots: Vec<Ballot>,
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step<V> {
    /// Wait for answers.
    Wait,
    /// Send this to every member of the electorate, once to each.
    Send(Asked<V>),
    /// A majority answered the read and does not agree: prepare now, or wait a little for the
    /// rest.
    Mixed,
    /// A majority holds now what the operation builds on (R7): prepare again, at once.
    Settled,
    /// This try is over. Wait (see [`Patience`](super::Patience)), draw a ballot later than
    /// `above`, and try again; or give up.
    Again {
        /// The time that the next ballot must exceed.
        above: HybridTime,
        /// How.
        opening: Opening,
    },
    /// It is over.
    Done {
        /// What is certain.
        outcome: Outcome<V>,
        /// The next round, if the write earned it.
        grant: Option<Grant<V>>,
    },
}

/// Why a value is sent to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Purpose {
    /// It has the operation's effect: new, or found from an earlier try.
    Apply,
    /// It is what the operation read, or what did not meet its condition.
    Confirm,
    /// It is what the operation will build on.
    Settle,
    /// It is what the operation did not replace, and now never will.
    Bury,
}

/// What a round knows of the value that it builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Support {
    /// A majority holds it, as far as telling it goes.
    told: bool,
    /// A majority holds it, as far as keeping it goes.
    kept: bool,
}

/// Where a round is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase<V> {
    Idle,
    Reading { standings: Standings<V>, refused: BTreeSet<NodeId> },
    Preparing { ballots: Ballots, promises: Promises<V>, refused: BTreeSet<NodeId> },
    Accepting(Accepting<V>),
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Accepting<V> {
    ballots: Ballots,
    cell: Cell<V>,
    purpose: Purpose,
    accepted: BTreeSet<NodeId>,
    earned: BTreeSet<NodeId>,
    refused: BTreeSet<NodeId>,
}

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposer<V, C, R> {
    rules: R,
    operation: OperationId,
    intent: Intent<V, C>,
    electorate: Arc<Electorate>,
    phase: Phase<V>,
    /// The Accepts that carried its effect.
    tries: Vec<Try>,
    /// Whether all of them were in this electorate.
    comparable: bool,
    /// The greatest time that refused it.
    above: HybridTime,
    /// Whether its electorate was found to be over.
    stale: bool,
}

impl<V, C, R> Proposer<V, C, R>
where
    V: Clone + Eq,
    C: Change<V>,
    R: Rules,
{
    /// An operation before its first try. `operation` is its own for ever: a client's request
    /// that is repeated as the same operation brings the same id.
    pub fn new(
        rules: R,
        operation: OperationId,
        intent: Intent<V, C>,
        electorate: Arc<Electorate>,
    ) -> Self {
        Self {
            rules,
            operation,
            intent,
            electorate,
            phase: Phase::Idle,
            tries: Vec::new(),
            comparable: true,
            above: HybridTime(0),
            stale: false,
        }
    }

    /// The same operation once more, by whoever finds it unfinished: it takes effect once,
    /// however many see to it. Each of them stores its ballot with the others' before it prepares
    /// ([`Earlier`]), and gives up if somebody else stored a later one.
    #[must_use]
    pub fn repeating(mut self, earlier: Earlier) -> Self {
        self.comparable = self.rules.holds_evidence(self.electorate.number(), earlier.electorate);
        self.tries = earlier.ballots.into_iter().map(Try::new).collect();
        self
    }

    /// Its electorate.
    pub fn electorate(&self) -> &Electorate {
        &self.electorate
    }

    /// Asks what everybody holds: one round if a majority holds the same (rule 5).
    pub fn read(&mut self) -> Step<V> {
        self.phase = Phase::Reading { standings: Standings::default(), refused: BTreeSet::new() };
        self.send(Request::Read)
    }

    /// Sends an unconditional write at once (R1). An operation that cannot be blind, or was sent
    /// before, is prepared instead.
    pub fn write_blind(&mut self, ballots: Ballots) -> Step<V> {
        match &self.intent {
            Intent::Write(content) if self.tries.is_empty() => {
                let lineage = Lineage::of_blind(self.operation);
                let cell = Cell { content: content.clone(), lineage };
                self.send_accept(ballots, cell, Purpose::Apply)
            }
            _ => self.prepare(ballots),
        }
    }

    /// Begins a full round.
    pub fn prepare(&mut self, ballots: Ballots) -> Step<V> {
        self.phase =
            Phase::Preparing { ballots, promises: Promises::none(), refused: BTreeSet::new() };
        let earlier: Vec<Ballot> = self.tries.iter().map(|past| past.ballot).collect();
        let inquiry = Inquiry { operation: self.operation, earlier };
        let inquiry = (!inquiry.earlier.is_empty()).then_some(inquiry);
        self.send(Request::Prepare { ballot: ballots.own, inquiry })
    }

    /// Goes on from a promise that came with an earlier acceptance (rule 8): no prepare. `next`
    /// is a ballot later than the granted one, if the caller keeps grants. A grant of another
    /// electorate is worth nothing, and `None` is returned.
    pub fn resume(&mut self, grant: Grant<V>, next: Option<Ballot>) -> Option<Step<V>> {
        if !self.rules.holds_grant(self.electorate.number(), grant.electorate) {
            return None;
        }
        let ballots = Ballots { own: grant.ballot, next };
        let base = Seen { ballot: None, cell: grant.cell };
        // Those who promised it had accepted this value last.
        let support = Support { told: self.rules.may_tell_mismatch_unasked(), kept: true };
        Some(self.propose(ballots, base, support))
    }

    /// Takes in an answer.
    pub fn handle(&mut self, from: NodeId, answer: Answer<V>) -> Step<V> {
        match (&mut self.phase, answer) {
            (Phase::Reading { standings, .. }, Answer::Standing(standing)) => {
                standings.note(from, standing);
                self.after_standing()
            }
            (
                Phase::Preparing { ballots, promises, .. },
                Answer::Promised { ballot, standing, testimony },
            ) if ballots.own == ballot => {
                promises.standings.note(from, standing);
                for past in &mut self.tries {
                    let denied = |told: &BTreeSet<Ballot>| told.contains(&past.ballot);
                    if testimony.as_ref().is_some_and(|told| denied(&told.denied)) {
                        past.denied.insert(from);
                    }
                }
                // An acceptor that was asked and does not tell proves nothing.
                let adopted = testimony.map_or(Adopted::Perhaps, |told| told.adopted);
                promises.adopted = promises.adopted.max(adopted);
                self.after_promise()
            }
            (Phase::Accepting(round), Answer::Accepted { ballot, next })
                if round.ballots.own == ballot =>
            {
                round.accepted.insert(from);
                let earns = |own: Ballot| self.rules.earns_next(own, next);
                if round.ballots.next.is_some_and(earns) {
                    round.earned.insert(from);
                }
                self.after_acceptance()
            }
            (Phase::Over, _) => Step::Wait,
            (_, Answer::Accepted { ballot, .. }) => self.late_acceptance(from, ballot),
            (_, Answer::Refused(refusal)) => self.refused(from, refusal),
            _ => Step::Wait,
        }
    }

    /// Takes in that the present request certainly did not reach a member and never will.
    pub fn unsent(&mut self, to: NodeId) -> Step<V> {
        if let Phase::Accepting(Accepting { ballots, purpose: Purpose::Apply, .. }) = &self.phase {
            let ballot = ballots.own;
            self.try_of(ballot).map(|past| past.untouched.insert(to));
        }
        self.lose(to)
    }

    /// Takes in that no answer of a member to the present request is waited for any more. It may
    /// have followed it all the same.
    pub fn silent(&mut self, from: NodeId) -> Step<V> {
        self.lose(from)
    }

    /// Ends the present try, whoever has not answered yet.
    pub fn time_out(&mut self) -> Step<V> {
        match self.phase {
            Phase::Over => Step::Wait,
            _ => self.try_ended(),
        }
    }

    /// Ends the operation: what is certain of it now.
    pub fn give_up(&mut self) -> Outcome<V> {
        self.forget_what_never_was();
        self.phase = Phase::Over;
        match self.rules.is_uncertain(self.tries.len()) {
            true => Outcome::Unknown,
            false => Outcome::NotBegun,
        }
    }

    fn after_standing(&mut self) -> Step<V> {
        let Phase::Reading { standings, .. } = &self.phase else { return Step::Wait };
        let agreed =
            |seen: &Seen<V>| self.rules.may_read(&self.electorate, &standings.holders(seen.ballot));
        let read = standings.each().into_iter().find(agreed);
        let heard = self.rules.are_enough(&self.electorate, &standings.nodes());
        match read {
            Some(seen) => self.end(Outcome::Read(seen)),
            None if heard => Step::Mixed,
            None => Step::Wait,
        }
    }

    fn after_promise(&mut self) -> Step<V> {
        let Phase::Preparing { ballots, promises, .. } = &self.phase else { return Step::Wait };
        let standings = &promises.standings;
        if !self.rules.are_enough(&self.electorate, &standings.nodes()) {
            return Step::Wait;
        }
        let (ballots, base) = (*ballots, standings.highest(&self.rules));
        let holders = standings.holders(base.ballot);
        let support = Support {
            told: self.rules.may_tell_mismatch(&self.electorate, &holders),
            kept: self.rules.may_keep(&self.electorate, &holders),
        };
        if self.tries.is_empty() {
            return self.propose(ballots, base, support);
        }
        let traces = Traces {
            in_highest: base.cell.lineage.contains(self.operation),
            denied: self.comparable
                && self
                    .tries
                    .iter()
                    .all(|past| self.rules.are_enough(&self.electorate, &past.denied)),
            adopted: promises.adopted == Adopted::Perhaps,
        };
        match self.rules.judge(traces) {
            // R3 (a): a majority has to hold it before anybody is told.
            Verdict::Applied => self.send_accept(ballots, base.cell, Purpose::Apply),
            Verdict::NotApplied if self.rules.may_try_again(self.intent.kind()) => {
                self.propose(ballots, base, support)
            }
            Verdict::NotApplied if self.rules.may_deny_unburied() => self.end(Outcome::NotBegun),
            // R4: it is not tried again. A minority may hold it still, and the next round could
            // build on that: what was there before goes on top first.
            Verdict::NotApplied => self.send_accept(ballots, base.cell, Purpose::Bury),
            Verdict::Unclear => self.end(Outcome::Unknown),
        }
    }

    /// Chooses the value of a round, all of whose promises are in. Rule 3: it comes from the
    /// greatest of them.
    fn propose(&mut self, ballots: Ballots, base: Seen<V>, support: Support) -> Step<V> {
        let decision = match &self.intent {
            Intent::Read => None,
            Intent::Write(content) => Some(Decision::Write(content.clone())),
            Intent::Change(change) => Some(change.apply(base.cell.content.as_ref())),
        };
        match decision {
            Some(Decision::Write(_)) if self.keeps_base() && !support.kept => {
                self.send_accept(ballots, base.cell, Purpose::Settle)
            }
            Some(Decision::Write(content)) => {
                let bound = self.rules.lineage_bound();
                let lineage = base.cell.lineage.extended(self.operation, ballots.own, bound);
                self.send_accept(ballots, Cell { content, lineage }, Purpose::Apply)
            }
            None | Some(Decision::Mismatch) if support.told => self.end(self.told(base)),
            // An identity round: what was seen is written to a majority before it is told.
            None | Some(Decision::Mismatch) => {
                self.send_accept(ballots, base.cell, Purpose::Confirm)
            }
        }
    }

    fn after_acceptance(&mut self) -> Step<V> {
        let Phase::Accepting(round) = &self.phase else { return Step::Wait };
        if !self.rules.are_enough(&self.electorate, &round.accepted) {
            return Step::Wait;
        }
        let (own, cell) = (round.ballots.own, round.cell.clone());
        match round.purpose {
            Purpose::Confirm => return self.end(self.told(Seen { ballot: Some(own), cell })),
            Purpose::Bury => return self.end(Outcome::NotBegun),
            Purpose::Settle => {
                self.phase = Phase::Idle;
                return Step::Settled;
            }
            Purpose::Apply => {}
        }
        let earned = self.rules.are_enough(&self.electorate, &round.earned);
        let electorate = self.electorate.number();
        let grant = round.ballots.next.filter(|_| earned);
        let grant = grant.map(|ballot| Grant { ballot, cell, electorate });
        self.phase = Phase::Over;
        Step::Done { outcome: Outcome::Applied, grant }
    }

    /// An acceptance of an earlier try: with a majority of them it took effect after all.
    fn late_acceptance(&mut self, from: NodeId, ballot: Ballot) -> Step<V> {
        let Some(past) = self.try_of(ballot) else { return Step::Wait };
        past.accepted.insert(from);
        let accepted = past.accepted.clone();
        match self.rules.are_enough(&self.electorate, &accepted) {
            true => self.end(Outcome::Applied),
            false => Step::Wait,
        }
    }

    fn refused(&mut self, from: NodeId, refusal: Refusal) -> Step<V> {
        let Refusal { of, why } = refusal;
        self.above = self.above.max(why.above());
        if let Declined::Accept { ballot, past: Past::Never } = of
            && let Some(tried) = self.try_of(ballot)
        {
            let evidence = if why.is_final() { &mut tried.denied } else { &mut tried.untouched };
            evidence.insert(from);
        }
        let present = match (&self.phase, of) {
            (Phase::Reading { .. }, Declined::Read) => true,
            (Phase::Preparing { ballots, .. }, Declined::Prepare(ballot)) => ballots.own == ballot,
            (Phase::Accepting(round), Declined::Accept { ballot, .. }) => {
                round.ballots.own == ballot
            }
            _ => false,
        };
        if !present {
            return Step::Wait;
        }
        let own = self.electorate.number();
        self.stale |= matches!(why, Why::OtherElectorate { number } if number > own);
        self.lose(from)
    }

    /// One vote less for the present request.
    fn lose(&mut self, node: NodeId) -> Step<V> {
        let lost = match &mut self.phase {
            Phase::Reading { refused, .. } | Phase::Preparing { refused, .. } => refused,
            Phase::Accepting(round) => &mut round.refused,
            Phase::Idle | Phase::Over => return Step::Wait,
        };
        lost.insert(node);
        let open = self.electorate.can_do_without(lost);
        match open || self.may_prove_never() {
            true => Step::Wait,
            false => self.try_ended(),
        }
    }

    /// Whether a value that a majority refused may turn out to have been refused by everybody:
    /// then it never was (R2), which is worth waiting for.
    fn may_prove_never(&self) -> bool {
        let Phase::Accepting(round) = &self.phase else { return false };
        let Some(past) = self.tries.iter().find(|past| past.ballot == round.ballots.own) else {
            return false;
        };
        let proven: BTreeSet<NodeId> = past.denied.union(&past.untouched).copied().collect();
        round.accepted.is_empty()
            && round.refused.is_subset(&proven)
            && !self.electorate.is_everybody(&proven)
    }

    fn try_ended(&mut self) -> Step<V> {
        if let Phase::Accepting(round) = &self.phase {
            let (ballot, accepted) = (round.ballots.own, round.accepted.clone());
            if let Some(past) = self.try_of(ballot) {
                past.accepted = accepted;
            }
        }
        self.forget_what_never_was();
        // Evidence of one electorate says nothing to another: a new operation, or unknown.
        if self.stale {
            let outcome = self.give_up();
            return self.end(outcome);
        }
        self.phase = Phase::Idle;
        let opening = if self.tries.is_empty() { Opening::AsNew } else { Opening::Prepared };
        Step::Again { above: self.above, opening }
    }

    /// R2.
    fn forget_what_never_was(&mut self) {
        let (rules, electorate) = (&self.rules, &self.electorate);
        self.tries.retain(|past| !rules.never_was(electorate, &past.denied, &past.untouched));
    }

    fn send_accept(&mut self, ballots: Ballots, cell: Cell<V>, purpose: Purpose) -> Step<V> {
        if purpose == Purpose::Apply {
            self.tries.push(Try::new(ballots.own));
        }
        // R6: only a write that takes effect earns the next round.
        let next = ballots.next.filter(|_| purpose == Purpose::Apply);
        let ballots = Ballots { next, ..ballots };
        let (accepted, earned, refused) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let sent = cell.clone();
        self.phase =
            Phase::Accepting(Accepting { ballots, cell, purpose, accepted, earned, refused });
        self.send(Request::Accept { ballot: ballots.own, cell: sent, next })
    }

    fn send(&self, request: Request<V>) -> Step<V> {
        Step::Send(Asked { electorate: self.electorate.number(), request })
    }

    fn keeps_base(&self) -> bool {
        matches!(&self.intent, Intent::Change(change) if change.keeps_base())
    }

    /// What the client hears of a value that a majority holds.
    fn told(&self, seen: Seen<V>) -> Outcome<V> {
        match self.intent {
            Intent::Read => Outcome::Read(seen),
            Intent::Write(_) | Intent::Change(_) => Outcome::Mismatch(seen),
        }
    }

    fn end(&mut self, outcome: Outcome<V>) -> Step<V> {
        self.phase = Phase::Over;
        Step::Done { outcome, grant: None }
    }

    fn try_of(&mut self, ballot: Ballot) -> Option<&mut Try> {
        self.tries.iter_mut().find(|past| past.ballot == ballot)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::{Ballots, Opening, Proposer, Step};
    use crate::causality::HybridTime;
    use crate::consensus::rules::Binding;
    use crate::consensus::{
        Answer, Ballot, Cell, Change, Decision, Declined, Electorate, ElectorateNumber, Intent,
        Lineage, Outcome, Past, Refusal, Request, Seen, Standing, Why,
    };
    use crate::types::{NodeId, OperationId};

    /// Creates what is not there.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Create(u8);

    impl Change<u8> for Create {
        fn apply(&self, current: Option<&u8>) -> Decision<u8> {
            current.map_or(Decision::Write(Some(self.0)), |_| Decision::Mismatch)
        }
    }

    type Round = Proposer<u8, Create, Binding>;

    fn node(name: u8) -> NodeId {
        NodeId::from_bytes([name; 16])
    }

    fn at(time: u64) -> Ballot {
        Ballot { time: HybridTime(time), serial: time, ..Ballot::NONE }
    }

    const fn only(own: Ballot) -> Ballots {
        Ballots { own, next: None }
    }

    fn proposer(intent: Intent<u8, Create>) -> Round {
        let owners: BTreeSet<NodeId> = [1, 2, 3].map(node).into();
        let electorate = Electorate::new(ElectorateNumber(1), owners);
        Proposer::new(Binding, OperationId::from_bytes([1; 16]), intent, Arc::new(electorate))
    }

    fn held(time: u64, content: u8) -> Standing<u8> {
        let lineage = Lineage::of_blind(OperationId::from_bytes([9; 16]));
        Standing::Held { ballot: at(time), cell: Cell { content: Some(content), lineage } }
    }

    const fn promised(ballot: Ballot, standing: Standing<u8>) -> Answer<u8> {
        Answer::Promised { ballot, standing, testimony: None }
    }

    const fn accepted(ballot: Ballot) -> Answer<u8> {
        Answer::Accepted { ballot, next: None }
    }

    fn refused(ballot: Ballot, past: Past, seen: Ballot) -> Answer<u8> {
        let (of, why) = (Declined::Accept { ballot, past }, Why::Overtaken { seen });
        Answer::Refused(Refusal { of, why })
    }

    fn outcome(step: Step<u8>) -> Option<Outcome<u8>> {
        match step {
            Step::Done { outcome, .. } => Some(outcome),
            _ => None,
        }
    }

    #[test]
    fn a_read_that_a_majority_answers_alike_takes_one_round_whatever_the_third_holds() {
        let mut round = proposer(Intent::Read);
        round.read();

        round.handle(node(1), Answer::Standing(held(5, 7)));
        let mixed = round.handle(node(2), Answer::Standing(held(4, 6)));
        let read = round.handle(node(3), Answer::Standing(held(4, 6)));

        assert_eq!(mixed, Step::Mixed);
        let Standing::Held { ballot, cell } = held(4, 6) else { unreachable!() };
        let seen = Seen { ballot: Some(ballot), cell };
        assert_eq!(outcome(read), Some(Outcome::Read(seen)));
    }

    #[test]
    fn absence_takes_one_round_too_and_writes_nothing() {
        let mut round = proposer(Intent::Read);
        round.read();

        round.handle(node(1), Answer::Standing(Standing::Absent));
        let read = round.handle(node(2), Answer::Standing(Standing::Absent));

        assert_eq!(outcome(read), Some(Outcome::Read(Seen { ballot: None, cell: Cell::NOTHING })));
    }

    #[test]
    fn a_condition_that_fails_on_a_minoritys_value_is_told_after_that_value_was_written() {
        let mut round = proposer(Intent::Change(Create(1)));
        round.prepare(only(at(9)));

        round.handle(node(1), promised(at(9), Standing::Absent));
        let sent = round.handle(node(2), promised(at(9), held(4, 6)));
        let Step::Send(asked) = sent else { panic!("{sent:?}") };
        round.handle(node(1), accepted(at(9)));
        let told = outcome(round.handle(node(3), accepted(at(9))));

        let Request::Accept { cell, .. } = asked.request else { panic!("no accept") };
        assert_eq!(cell.content, Some(6));
        assert_eq!(told, Some(Outcome::Mismatch(Seen { ballot: Some(at(9)), cell })));
    }

    #[test]
    fn a_change_that_was_sent_and_refused_is_unknown_unless_nobody_took_it_in() {
        let told = |third: Option<Answer<u8>>| {
            let mut round = proposer(Intent::Change(Create(1)));
            round.prepare(only(at(1)));
            round.handle(node(1), promised(at(1), Standing::Absent));
            round.handle(node(2), promised(at(1), Standing::Absent));
            third.map(|answer| round.handle(node(1), answer));
            round.handle(node(2), refused(at(1), Past::Never, at(8)));
            let step = round.handle(node(3), refused(at(1), Past::Never, at(8)));
            (outcome(step), round.give_up())
        };

        assert_eq!(told(None), (None, Outcome::Unknown), "the third may have taken it in");
        assert_eq!(told(Some(accepted(at(1)))), (None, Outcome::Unknown));
        let nobody = told(Some(refused(at(1), Past::Never, at(8))));
        assert_eq!(nobody, (None, Outcome::NotBegun));
    }

    #[test]
    fn a_blind_write_is_blind_again_only_after_everybody_refused_it() {
        let again = |third: Past| {
            let mut round = proposer(Intent::Write(Some(1)));
            round.write_blind(only(at(1)));
            round.handle(node(1), refused(at(1), third, at(5)));
            round.handle(node(2), refused(at(1), Past::Never, at(8)));
            round.handle(node(3), refused(at(1), Past::Never, at(6)));
            round.time_out()
        };
        let expected = |opening| Step::Again { above: HybridTime(8), opening };

        assert_eq!(again(Past::Never), expected(Opening::AsNew));
        assert_eq!(again(Past::Perhaps), expected(Opening::Prepared));
    }

    /// Found by the model: the refusal of a prepare that came twice was taken for a proof that
    /// the acceptance after it had never been.
    #[test]
    fn the_refusal_of_a_prepare_that_came_twice_denies_nothing() {
        let mut round = proposer(Intent::Write(Some(1)));
        round.prepare(only(at(1)));
        round.handle(node(1), promised(at(1), Standing::Absent));
        round.handle(node(2), promised(at(1), Standing::Absent));

        for name in [1, 2, 3] {
            let (of, why) = (Declined::Prepare(at(1)), Why::Overtaken { seen: at(1) });
            let step = round.handle(node(name), Answer::Refused(Refusal { of, why }));
            assert_eq!(step, Step::Wait);
        }

        assert_eq!(round.give_up(), Outcome::Unknown);
    }

    #[test]
    fn an_acceptance_that_comes_late_still_settles_its_write() {
        let mut round = proposer(Intent::Write(Some(1)));
        round.write_blind(only(at(1)));
        round.handle(node(1), accepted(at(1)));
        round.time_out();
        round.prepare(only(at(3)));

        assert_eq!(outcome(round.handle(node(2), accepted(at(1)))), Some(Outcome::Applied));
    }

    #[test]
    fn a_grant_comes_from_those_who_promised_that_very_round() {
        let grant = |second: Option<Ballot>| {
            let mut round = proposer(Intent::Write(Some(1)));
            round.write_blind(Ballots { own: at(1), next: Some(at(2)) });
            round.handle(node(1), Answer::Accepted { ballot: at(1), next: Some(at(2)) });
            let step = round.handle(node(2), Answer::Accepted { ballot: at(1), next: second });
            match step {
                Step::Done { outcome: Outcome::Applied, grant } => grant.map(|grant| grant.ballot),
                other => panic!("{other:?}"),
            }
        };

        assert_eq!(grant(Some(at(2))), Some(at(2)));
        assert_eq!(grant(None), None);
    }

    #[test]
    fn an_operation_of_an_electorate_that_is_over_ends() {
        let mut round = proposer(Intent::Write(Some(1)));
        round.prepare(only(at(1)));
        let why = Why::OtherElectorate { number: ElectorateNumber(2) };
        let refusal = Answer::Refused(Refusal { of: Declined::Prepare(at(1)), why });

        round.handle(node(1), refusal.clone());

        assert_eq!(outcome(round.handle(node(2), refusal)), Some(Outcome::NotBegun));
    }

    #[test]
    fn what_was_certainly_not_sent_was_not_taken_in() {
        let mut round = proposer(Intent::Write(Some(1)));
        round.write_blind(only(at(1)));

        for name in [1, 2, 3] {
            round.unsent(node(name));
        }

        assert_eq!(round.give_up(), Outcome::NotBegun);
    }
}
