//! One operation's rounds on one key, without I/O: answers go in, requests and the outcome come
//! out. The driver sends each request once to every member of the electorate (R1), hands in what
//! comes back, waits between tries, and never decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::causality::HybridTime;
use crate::types::{NodeId, OperationId};

use super::ballot::Ballot;
use super::cell::{Cell, Lineage};
use super::electorate::Electorate;
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
            above: HybridTime(0),
            stale: false,
        }
    }

    /// Its electorate.
    pub fn electorate(&self) -> &Electorate {
        &self.electorate
    }

    /// Asks what everybody holds: one round if a majority holds the same (rule 5).
    pub fn read(&mut self) -> Step<V> {
        self.phase =
            Phase::Reading { standings: Standings::default(), refused: BTreeSet::new() };
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
        let told = self.rules.may_tell_mismatch_unasked();
        Some(self.propose(ballots, base, told))
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
        let agreed = |seen: &Seen<V>| {
            self.rules.may_read(&self.electorate, &standings.holders(seen.ballot))
        };
        let read = standings.each().find(agreed);
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
        let told = self.rules.may_tell_mismatch(&self.electorate, &holders);
        if self.tries.is_empty() {
            return self.propose(ballots, base, told);
        }
        let traces = Traces {
            in_highest: base.cell.lineage.contains(self.operation),
            denied: self
                .tries
                .iter()
                .all(|past| self.rules.are_enough(&self.electorate, &past.denied)),
            adopted: promises.adopted == Adopted::Perhaps,
        };
        match self.rules.judge(traces) {
            // R3 (a): a majority has to hold it before anybody is told.
            Verdict::Applied => self.send_accept(ballots, base.cell, Purpose::Apply),
            Verdict::NotApplied => self.propose(ballots, base, told),
            Verdict::Unclear => self.end(Outcome::Unknown),
        }
    }

    /// Chooses the value of a round, all of whose promises are in. Rule 3: it comes from the
    /// greatest of them. `agreed`: a majority is known to hold that one.
    fn propose(&mut self, ballots: Ballots, base: Seen<V>, agreed: bool) -> Step<V> {
        let decision = match &self.intent {
            Intent::Read => None,
            Intent::Write(content) => Some(Decision::Write(content.clone())),
            Intent::Change(change) => Some(change.apply(base.cell.content.as_ref())),
        };
        match decision {
            Some(Decision::Write(content)) => {
                let bound = self.rules.lineage_bound();
                let lineage = base.cell.lineage.extended(self.operation, ballots.own, bound);
                self.send_accept(ballots, Cell { content, lineage }, Purpose::Apply)
            }
            None | Some(Decision::Mismatch) if agreed => self.end(self.told(base)),
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
        if round.purpose == Purpose::Confirm {
            return self.end(self.told(Seen { ballot: Some(own), cell }));
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
        match self.electorate.can_do_without(lost) {
            true => Step::Wait,
            false => self.try_ended(),
        }
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
        let over = self.stale
            || !self.tries.is_empty() && !self.rules.may_try_again(self.intent.kind());
        if over {
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
        let next = ballots.next.filter(|_| self.rules.asks_for_next(purpose == Purpose::Apply));
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
